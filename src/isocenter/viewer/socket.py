"""One conversation over the interaction socket; `wire` says what messages look like, `sessions` who may do what.

Acts wait in a queue of their own and are answered in the order they came. What must not wait ("stop", "ping") is done
at once. A message that can't be followed is answered by a problem and changes nothing.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import numpy as np
from starlette.websockets import WebSocket, WebSocketDisconnect, WebSocketState

from isocenter.core import Prompt
from isocenter.core.errors import ConfigError, IsocenterError
from isocenter.viewer.ports import Act, Change, Json, Tell
from isocenter.viewer.problems import defect, problem_of
from isocenter.viewer.security import SUBPROTOCOL
from isocenter.viewer.sessions import Live, SessionDesk
from isocenter.viewer.settings import IDENTITY, Settings
from isocenter.viewer.wire import Message, WireError, encode_levels, pack, unpack

__all__ = ["MOST_ACTS", "MOST_POINTS", "converse", "parse_act"]

MOST_POINTS = 20_000
"""Points of one prompt."""
_FARTHEST = 1e9
MOST_ACTS = 2_000
"""Acts that one replay may hold."""
_ACTS = ("prompt", "choose", "undo", "redo", "clear", "propagate")
_QUEUED = (*_ACTS, "open", "replay", "confirm", "alternatives")
_LONG = ("open", "replay", "propagate", "confirm")
_MOST_UNSENT, _PAUSE_SECONDS = 256, 0.05
_BAD_FRAME, _TOO_LARGE, _POLICY, _AGAIN, _REPLACED = 1007, 1009, 1008, 1013, 4001
_CLOSES = {"session_expired": _POLICY, "ended": 1000, "stopping": 1012, "replaced": _REPLACED}


async def converse(websocket: WebSocket, session: str, desk: SessionDesk, settings: Settings) -> None:
    """Talk with one person until either side ends it.

    Args:
        websocket: Not accepted yet.
        session: Which session.
        desk: All sessions.
        settings: Limits.
    """
    offered = websocket.scope.get("subprotocols", [])
    await websocket.accept(SUBPROTOCOL if SUBPROTOCOL in offered else None)
    known = websocket.scope.get(IDENTITY)
    try:
        live = await desk.get(session, asking=None if known is None else known.name)
    except IsocenterError as error:
        problem = problem_of(error)
        await websocket.send_bytes(
            pack({"type": "problem", "code": problem.code, "detail": problem.detail, "seq": None})
        )
        await websocket.close(_AGAIN if problem.code == "at_capacity" else _POLICY, problem.code)
        return
    await _Conversation(websocket, live, desk, settings).run()


class _Conversation:
    def __init__(self, websocket: WebSocket, live: Live, desk: SessionDesk, settings: Settings) -> None:
        self.websocket, self.live, self.desk, self.settings = websocket, live, desk, settings
        self.waiting: asyncio.Queue[Message] = asyncio.Queue(settings.limits.waiting_acts)
        self.outgoing: asyncio.Queue[bytes | tuple[int, str]] = asyncio.Queue()

    async def run(self) -> None:
        """Read, work and write, each in a task of its own, until one of them ends."""
        if self.live.listener is not None:
            self.live.tell({"type": "problem", "code": "replaced", "detail": "connected again elsewhere", "seq": None})
        self.live.listener = listener = self._hear
        self.desk.renew(self.live)
        self._say({"type": "lease", "seconds": self.settings.limits.lease_seconds})
        tasks = [asyncio.create_task(task) for task in (self._read(), self._work(), self._write())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
        except (WebSocketDisconnect, RuntimeError):
            pass  # the other side is gone; the session waits for it as long as its lease runs
        finally:
            for task in tasks:
                task.cancel()
            if self.live.listener is listener:
                self.live.listener = None
            if self.websocket.application_state is WebSocketState.CONNECTED:
                with suppress(RuntimeError, WebSocketDisconnect):
                    await self.websocket.close(1000)
            await asyncio.wait(tasks)

    def _hear(self, message: Json) -> None:
        """Pass on what the desk says; some of it ends the conversation."""
        self._say(message)
        code = str(message.get("code", ""))
        if code in _CLOSES:
            self.outgoing.put_nowait((_CLOSES[code], code))

    def _say(self, head: Mapping[str, object], payload: bytes = b"") -> None:
        self.outgoing.put_nowait(pack(head, payload))

    async def _write(self) -> None:
        while True:
            message = await self.outgoing.get()
            if isinstance(message, bytes):
                await self.websocket.send_bytes(message)
                continue
            await self.websocket.close(*message)
            return

    async def _read(self) -> None:
        while True:
            while self.outgoing.qsize() > _MOST_UNSENT:
                await asyncio.sleep(_PAUSE_SECONDS)  # who does not listen is not listened to either
            received = await self.websocket.receive()
            if received["type"] == "websocket.disconnect":
                return
            data = received.get("bytes")
            if data is None:
                self.outgoing.put_nowait((_BAD_FRAME, "messages are binary"))
                continue
            limits = self.settings.limits
            large = len(data) > limits.message_bytes
            if len(data) > limits.replay_bytes:
                self.outgoing.put_nowait((_TOO_LARGE, "the message is too long"))
                continue
            try:
                message = unpack(data)
            except WireError as error:
                self._problem("malformed", str(error), None)
                if not error.framed:
                    self.outgoing.put_nowait((_BAD_FRAME, "not a message"))
                continue
            if large and message.kind != "replay":
                self.outgoing.put_nowait((_TOO_LARGE, "the message is too long"))
                continue
            while large and not self.waiting.empty():
                await asyncio.sleep(_PAUSE_SECONDS)  # long replays do not pile up in memory
            self._take(message)

    def _take(self, message: Message) -> None:
        self.desk.renew(self.live)
        if message.kind == "ping":
            self._say({"type": "pong"})
            self._say({"type": "lease", "seconds": self.settings.limits.lease_seconds})
        elif message.kind == "stop":
            self.live.stopping.set()
        elif message.kind in _QUEUED:
            try:
                self.waiting.put_nowait(message)
            except asyncio.QueueFull:
                self._problem("too_many_waiting", "wait for the answers to what you did before", _seq(message.head))
        else:
            self._problem("unknown", f"there is no message {message.kind[:32]!r}", _seq(message.head))

    async def _work(self) -> None:
        while True:
            message = await self.waiting.get()
            started = time.perf_counter()
            try:
                await self._do(message, started)
            except IsocenterError as error:
                problem = problem_of(error)
                self._problem(problem.code, problem.detail, _seq(message.head), **await self._more(problem.code))
            except Exception as error:  # noqa: BLE001  # the boundary of the server: the conversation goes on
                defect(error)
                self._problem("defect", f"a defect of Isocenter: {type(error).__name__}", _seq(message.head))
            await self.desk.free_memory(spare=self.live)

    async def _do(self, message: Message, started: float) -> None:
        head, live, seq = message.head, self.live, _seq(message.head)
        if message.kind in ("open", "replay"):
            await self._open(head, started)
            return
        self.desk.may_change(live)
        if message.kind == "confirm":
            version = head.get("version", live.version)
            if not isinstance(version, int) or isinstance(version, bool):
                raise ConfigError("a version is a whole number")
            await self._confirm(version, seq)
            return
        if message.kind == "alternatives":
            self._alternatives(seq)
            return
        act = parse_act(head)
        change = await self.desk.run(
            live, lambda tell: live.work.act(act, tell), self._progress(seq), long=message.kind in _LONG
        )
        self._changed(change, seq, started, chosen=act.number if act.kind == "choose" else None)

    async def _open(self, head: Mapping[str, object], started: float) -> None:
        live, seq, image = self.live, _seq(head), head.get("image")
        if not isinstance(image, str) or not image:
            raise ConfigError("say which image to open")
        listed = head.get("acts", [])
        if not isinstance(listed, list) or len(listed) > MOST_ACTS:
            raise ConfigError(f"acts are a list of at most {MOST_ACTS}")
        acts = await asyncio.to_thread(lambda: [parse_act(act) for act in listed])
        propose = head.get("propose", True) is not False
        version = await asyncio.to_thread(self.desk.interactions.version, image, live.label)
        other = self.desk.claim(live, image, take_over=head.get("take_over") is True)
        live.version, live.began = version, self.desk.clock()
        told = {
            "type": "opened",
            "image": image,
            "seq": seq,
            "version": version,
            "taken_by": None if other is None else other.reader or "somebody",
            "cases": list(live.work.cases),
        }

        def work(tell: Tell) -> Change:
            return live.work.replay(image, acts, tell, propose=propose)

        self._say(told)
        try:
            change = await self.desk.run(live, work, self._progress(seq), long=True)
        except IsocenterError:
            self.desk.leave(live)
            raise
        holder = self.desk.holder(image, live.label)  # whoever had the place may have left meanwhile
        if holder is not None and holder is not live:
            self._say({"type": "taken", "by": holder.reader or "somebody", "image": image})
        self._changed(change, seq, started)

    async def _confirm(self, version: int, seq: int | None) -> None:
        live = self.live
        seconds, image = self.desk.clock() - live.began, live.image

        def work(_tell: Tell) -> Any:
            return live.work.confirm(version=version, seconds=seconds)

        confirmed = await self.desk.run(live, work, long=True)
        live.version, live.began = version + 1, self.desk.clock()
        self._say(
            {
                "type": "confirmed",
                "seq": seq,
                "image": image,
                "mask": confirmed.mask,
                "case": confirmed.case,
                "clicks": confirmed.clicks,
                "version": version + 1,
                "cases": list(confirmed.cases),
            }
        )

    def _changed(self, change: Change, seq: int | None, started: float, *, chosen: int | None = None) -> None:
        packed = time.perf_counter()
        payload = encode_levels(change.levels)
        now = time.perf_counter()
        laps = {**change.milliseconds, "pack": round((now - packed) * 1000, 1)}
        laps["total"] = round((now - started) * 1000, 1)
        self._say(
            {
                "type": "delta",
                "seq": seq,
                "box_zyx": list(change.box_zyx),
                "encoding": "rle-levels",
                "expected_dice": change.expected_dice,
                "prompts": change.prompts,
                "can_undo": change.can_undo,
                "can_redo": change.can_redo,
                "alternatives": change.alternatives,
                "chosen": chosen,
                "milliseconds": laps,
            },
            payload,
        )
        self._alternatives(seq)

    def _alternatives(self, seq: int | None) -> None:
        for number, other in enumerate(self.live.work.alternatives()):
            head = {
                "type": "alternative",
                "seq": seq,
                "number": number,
                "expected_dice": other.expected_dice,
                "box_zyx": list(other.box_zyx),
                "encoding": "rle-levels",
            }
            self._say(head, encode_levels(other.levels))

    def _progress(self, seq: int | None) -> Callable[[str, float], None]:
        def told(what: str, done: float) -> None:
            self._say({"type": "progress", "seq": seq, "what": what, "done": round(done * 100), "of": 100})

        return told

    def _problem(self, code: str, detail: str, seq: int | None, **more: object) -> None:
        self._say({"type": "problem", "code": code, "detail": detail, "seq": seq, **more})

    async def _more(self, code: str) -> dict[str, object]:
        """Say how many versions there are where a mask was refused for it: with that, it can be confirmed again."""
        live = self.live
        if code != "stale" or not live.image:
            return {}
        live.version = await asyncio.to_thread(self.desk.interactions.version, live.image, live.label)
        return {"image": live.image, "version": live.version}


def parse_act(head: object) -> Act:
    """Read an act as it comes from outside.

    Raises:
        ConfigError: It is none.
    """
    if not isinstance(head, Mapping) or head.get("type") not in _ACTS:
        raise ConfigError(f"an act is one of {', '.join(_ACTS)}")
    kind = head["type"]
    if kind == "prompt":
        return Act("prompt", _prompt(head))
    if kind == "choose":
        return Act("choose", number=_whole(head, "number"))
    if kind == "propagate":
        axis = head.get("axis", 0)
        if isinstance(axis, str) and axis in ("z", "y", "x"):
            axis = "zyx".index(axis)
        if isinstance(axis, bool) or axis not in (0, 1, 2):
            raise ConfigError("an axis is 0 (z), 1 (y) or 2 (x)")
        first, last = sorted((_whole(head, "first"), _whole(head, "last")))
        return Act("propagate", axis=int(cast(int, axis)), first=first, last=last)
    return Act(cast(Any, kind))


def _prompt(head: Mapping[str, object]) -> Prompt:
    kind, positive = head.get("kind"), head.get("positive", True)
    if kind not in ("point", "box", "scribble", "lasso") or not isinstance(positive, bool):
        raise ConfigError("a prompt is a point, box, scribble or lasso, positive or not")
    in_mm = "points_lps_mm" in head
    points = head.get("points_lps_mm" if in_mm else "points_index_zyx")
    if not isinstance(points, Sequence) or isinstance(points, str) or not 1 <= len(points) <= MOST_POINTS:
        raise ConfigError(f"a prompt has 1 to {MOST_POINTS} points, as points_lps_mm or points_index_zyx")
    for point in points:
        if not isinstance(point, Sequence) or isinstance(point, str) or len(point) != 3:
            raise ConfigError("a point has three numbers")
        if not all(isinstance(v, int | float) and not isinstance(v, bool) and abs(v) < _FARTHEST for v in point):
            raise ConfigError("a point has three numbers, none of them beyond all images")
    place = np.array(points, dtype=np.float64)
    return Prompt(cast(Any, kind), place, positive, "lps_mm" if in_mm else "index_zyx")


def _whole(head: Mapping[str, object], name: str) -> int:
    value = head.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 1 << 31:
        raise ConfigError(f"{name} is a whole number")
    return value


def _seq(head: Mapping[str, object]) -> int | None:
    value = head.get("seq")
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 53 else None
