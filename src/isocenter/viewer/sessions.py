"""Interaction sessions: who works, for how long, on what, and in which order.

A session is one person's work on one structure. It has a lease, which every message renews; a session whose lease ran
out gives its place and its memory back, and what was confirmed stays. Models run in a few threads: acts of one session
are done one after the other, in the order they came; sessions take turns. Where the memory of all sessions together
passes its limit, those that were idle longest let go of what can be made again.

Two people on one image and structure are told of each other: the second may look, and may take over, which tells the
first. Nothing is overwritten either way: masks have versions (see `ports.Interactions.version`).
"""

from __future__ import annotations

import asyncio
import os
import secrets
import threading
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TypeVar

from isocenter.core.errors import AtCapacity, Conflict, NotFound, SessionExpired, Stopped
from isocenter.viewer.ports import Interaction, Interactions, Json, Tell
from isocenter.viewer.settings import Limits

__all__ = ["Live", "SessionDesk"]

T = TypeVar("T")
Listener = Callable[[Json], None]

_MOST_REMEMBERED = 1000
"""Sessions whose end is remembered, so that a late message is told "expired" and not "unknown"."""


@dataclass(eq=False)
class Live:
    """A session that holds a place.

    Args:
        id: Of the session.
        label: Name of the structure.
        reader: Who works.
        work: What it does.
        until: When the lease runs out, on the desk's clock.
        image: Which is open; "" for none.
        version: How many versions of the mask there were when the session was last told.
        began: When the image was opened, on the desk's clock.
        used: When it last did something.
        acts: How many acts it did.
    """

    id: str
    label: str
    reader: str
    work: Interaction
    until: float
    image: str = ""
    version: int = 0
    began: float = 0.0
    used: float = 0.0
    acts: int = 0
    listener: Listener | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)
    stopping: threading.Event = field(default_factory=threading.Event)

    def tell(self, message: Json) -> None:
        """Say something to whoever is connected; nobody may be."""
        if self.listener is not None:
            self.listener(message)


class SessionDesk:
    """All sessions; every method is called on the event loop.

    Args:
        interactions: The work.
        limits: Places, lease and memory.
        clock: Seconds, monotonic.
        workers: Threads that run models; None for one a core, at most 8.
    """

    def __init__(
        self,
        interactions: Interactions,
        limits: Limits,
        *,
        clock: Callable[[], float] = time.monotonic,
        workers: int | None = None,
    ) -> None:
        self.interactions, self.limits, self.clock = interactions, limits, clock
        self._live: dict[str, Live] = {}
        self._ended: dict[str, None] = {}
        self._holders: dict[tuple[str, str], Live] = {}
        self._pool = ThreadPoolExecutor(workers or min(8, os.cpu_count() or 1), thread_name_prefix="interaction")
        # What takes long (opening, going through a volume) never stands in the way of a click.
        self._long = ThreadPoolExecutor(2, thread_name_prefix="interaction-long")

    @property
    def live(self) -> tuple[Live, ...]:
        """Sessions that hold a place, oldest first."""
        return tuple(self._live.values())

    @asynccontextmanager
    async def running(self, *, every_seconds: float = 5.0) -> AsyncIterator[None]:
        """Sweep now and then; at the end, end all sessions."""

        async def sweep() -> None:
            while True:
                await asyncio.sleep(every_seconds)
                await self.sweep()

        task = asyncio.create_task(sweep())
        try:
            yield
        finally:
            task.cancel()
            for live in self.live:
                live.stopping.set()
                await self._end(live, "the server stops; the page connects again when it is back", "stopping")
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._long.shutdown(wait=True, cancel_futures=True)

    async def create(self, label: str, reader: str) -> Live:
        """Give a place to a new session.

        Raises:
            AtCapacity: All places are taken.
        """
        return await self._seat(secrets.token_hex(8), label, reader)

    async def get(self, session: str, *, asking: str | None = None) -> Live:
        """Return a session; one that stands in the work folder gets a place again.

        Args:
            session: Which.
            asking: Who asks, where that is known for certain (accounts); a mask is confirmed in its session's name.

        Raises:
            SessionExpired: Its lease ran out, or it was ended.
            NotFound: There is none.
            Conflict: "another_reader": it is not of who asks.
            AtCapacity: It had a place before a restart, and all places are taken now.
        """
        live = self._live.get(session)
        if live is not None:
            _only_their_own(live.reader, asking)
            return live
        known = await asyncio.to_thread(self.interactions.known)
        # One that is just being ended may stand in the work folder still: it does not come back.
        if session in self._ended:
            raise SessionExpired("this session has ended; begin a new one, what was confirmed is kept")
        for name, label, reader in known:
            if name == session:
                _only_their_own(reader, asking)
                return self._live.get(session) or await self._seat(session, label, reader)
        raise NotFound("there is no such session")

    def renew(self, live: Live) -> None:
        """Renew a lease."""
        live.until = self.clock() + self.limits.lease_seconds

    async def end(self, session: str, *, asking: str | None = None) -> None:
        """End a session; what was confirmed stays.

        Raises:
            NotFound: There is none.
            Conflict: "another_reader": it is not of who asks (see `get`).
        """
        live = self._live.get(session)
        if live is None:
            raise NotFound("there is no such session")
        _only_their_own(live.reader, asking)
        live.stopping.set()
        await self._end(live, "this session was ended", "ended")

    async def sweep(self) -> None:
        """End sessions whose lease ran out; let idle ones rest where memory is short."""
        now = self.clock()
        for live in self.live:
            if live.until < now and not live.turn.locked():
                await self._end(live, "nothing was heard for too long; what was confirmed is kept", "session_expired")
        await self.free_memory()

    async def free_memory(self, *, spare: Live | None = None) -> None:
        """Let sessions rest, those that were idle longest first, until all together are within the limit."""
        total = sum(live.work.bytes for live in self.live)
        for live in sorted(self.live, key=lambda one: one.used):
            if total <= self.limits.session_bytes:
                return
            if live is spare or live.turn.locked():
                continue
            async with live.turn:
                held = live.work.bytes
                await asyncio.to_thread(live.work.rest)
                total -= held - live.work.bytes

    def holder(self, image: str, label: str) -> Live | None:
        """Return who works on an image and structure."""
        return self._holders.get((image, label))

    def claim(self, live: Live, image: str, *, take_over: bool = False) -> Live | None:
        """Say that a session works on an image from now on.

        Args:
            live: The session; what it worked on before is free for others.
            image: The image.
            take_over: Whether to take the place of somebody who works on it; they are told.

        Returns:
            Who works on it where it is somebody else; None where it is this session.
        """
        if live.image and live.image != image:
            self.leave(live)
        key = (image, live.label)
        live.image = image
        other = self._holders.get(key)
        if other is not None and other is not live and not take_over:
            return other
        self._holders[key] = live
        if other is not None and other is not live:
            other.tell({"type": "taken", "by": live.reader or "somebody", "image": image})
        return None

    def leave(self, live: Live) -> None:
        """Say that a session does not work on its image any more; whoever waits for it is next."""
        key = (live.image, live.label)
        live.image = ""
        if self._holders.get(key) is not live:
            return
        del self._holders[key]
        for other in self.live:
            if other is not live and (other.image, other.label) == key:
                self._holders[key] = other
                other.version = self.interactions.version(*key)  # whoever leaves may have confirmed one
                other.tell({"type": "opened", "image": key[0], "taken_by": None, "version": other.version})
                return

    def may_change(self, live: Live) -> None:
        """Refuse where somebody else works on the session's image.

        Raises:
            Conflict: "taken".
        """
        holder = self.holder(live.image, live.label)
        if live.image and holder is not None and holder is not live:
            raise Conflict(f"{holder.reader or 'somebody'} works on this; take over to change it", code="taken")

    async def run(
        self,
        live: Live,
        work: Callable[[Tell], T],
        told: Callable[[str, float], None] | None = None,
        *,
        long: bool = False,
    ) -> T:
        """Run work of a session in a thread, after what the session asked for before.

        Args:
            live: The session.
            work: Called with what it shall tell of its progress.
            told: Called, on the event loop, with what is done; many calls become few.
            long: Whether it may take long.

        Raises:
            Stopped: Somebody said to stop.
        """
        loop = asyncio.get_running_loop()

        async with live.turn:
            if live.id not in self._live:
                raise SessionExpired("this session has ended; begin a new one")
            live.stopping.clear()
            tell = _teller(live, loop, told)
            try:
                return await _finished((self._long if long else self._pool).submit(work, tell), live.stopping)
            finally:
                live.used, live.acts = self.clock(), live.acts + 1
                self.renew(live)

    async def _seat(self, session: str, label: str, reader: str) -> Live:
        await self.sweep()
        if len(self._live) >= self.limits.sessions:
            raise AtCapacity(
                f"all {self.limits.sessions} places are taken; wait until somebody ends, or start with more --sessions"
            )
        work = self.interactions.begin(session, label, reader)
        live = Live(session, label, reader, work, self.clock() + self.limits.lease_seconds, used=self.clock())
        self._live[session] = live
        self._ended.pop(session, None)
        return live

    async def _end(self, live: Live, why: str, code: str) -> None:
        if self._live.pop(live.id, None) is None:
            return
        self._ended[live.id] = None
        while len(self._ended) > _MOST_REMEMBERED:
            del self._ended[next(iter(self._ended))]
        self.leave(live)
        live.tell({"type": "problem", "code": code, "detail": why, "seq": None})
        async with live.turn:
            await asyncio.to_thread(live.work.close)
            if code in ("session_expired", "ended"):
                await asyncio.to_thread(self.interactions.forget, live.id)


def _only_their_own(reader: str, asking: str | None) -> None:
    if asking is not None and asking != reader:
        raise Conflict("this session is another reader's; begin one of your own", code="another_reader")


async def _finished(job: Future[T], stopping: threading.Event) -> T:
    """Wait for a thread; whoever stops waiting leaves it only when it has ended, so that nothing else begins before."""
    waiting = asyncio.wrap_future(job)
    try:
        return await asyncio.shield(waiting)
    except asyncio.CancelledError:
        job.cancel()
        stopping.set()  # what can be done again is stopped; a mask that is being written is written
        while not waiting.done():
            with suppress(asyncio.CancelledError):
                await asyncio.wait([waiting])
        if not waiting.cancelled():
            waiting.exception()
        raise


def _teller(live: Live, loop: asyncio.AbstractEventLoop, told: Callable[[str, float], None] | None) -> Tell:
    last = [-1.0, 0.0]

    def tell(what: str, done: float) -> None:
        if live.stopping.is_set():
            raise Stopped("stopped; nothing was changed")
        now = time.monotonic()
        if told is None or (now - last[1] < _EVERY_SECONDS and done < 1) or done == last[0]:
            return
        last[0], last[1] = done, now
        loop.call_soon_threadsafe(told, what, done)

    return tell


_EVERY_SECONDS = 0.1
