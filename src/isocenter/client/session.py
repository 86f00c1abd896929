"""Outlining over the socket: point, correct, confirm. A lost connection is taken up again, and the acts with it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Real, UInt8
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidURI
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Subprotocol

from isocenter.client.grid import geometry_of
from isocenter.client.transport import Transport, error_of
from isocenter.core import Mask, Segment
from isocenter.core.errors import ConfigError, Conflict, NotFound, SessionExpired, TransportError
from isocenter.viewer.ports import ImageItem
from isocenter.viewer.wire import Message, decode_levels, pack, unpack

__all__ = ["Outline", "Session"]

Points = Real[np.ndarray, "... 3"] | Sequence[float] | Sequence[Sequence[float]]
Frame = Literal["lps_mm", "index_zyx"]

_LARGEST_MESSAGE = 256 << 20
_TRIES = 6
_ANSWERS = ("delta", "confirmed")
_NOT_TAKEN = (1007, 1009)
"""Close codes after which the same message would be refused again."""


@dataclass(frozen=True, eq=False)
class Outline:
    """What is outlined now.

    Args:
        levels: 0 out, 1 maybe, 2 probably, 3 in, on the image's grid.
        expected_dice: That the model expects of it; None without an outline.
        prompts: How many prompts it answers.
        alternatives: Expected Dice of the other things that the click may have meant; `choose` takes one.
        milliseconds: What it cost the server, by stage.
    """

    levels: UInt8[np.ndarray, "z y x"]
    expected_dice: float | None
    prompts: int
    alternatives: tuple[float | None, ...]
    milliseconds: Mapping[str, float]

    @property
    def mask(self) -> np.ndarray:
        """The mask: levels 2 and 3."""
        return np.asarray(self.levels >= 2)


class Session:
    """One person's work on one structure; made by `Client.session`, used in a `with`.

    Args:
        transport: The server.
        session: Name of the session.
        label: Name of the structure.
        describe: Describes an image by its name.
    """

    def __init__(self, transport: Transport, session: str, label: str, describe: Callable[[str], ImageItem]) -> None:
        self.id, self.label = session, label
        self.cases: tuple[Mapping[str, Any], ...] = ()
        self.taken_by: str | None = None
        self._transport, self._describe = transport, describe
        self._socket: ClientConnection | None = None
        self._open = ExitStack()
        self._item: ImageItem | None = None
        self._levels = np.zeros((0, 0, 0), dtype=np.uint8)
        self._acts: list[dict[str, Any]] = []
        self._propose = True
        self._offered: dict[int, float | None] = {}
        self._seq, self._version = 0, 0

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the session's place back; what was confirmed stays on the server."""
        self.disconnect()
        # Gone already, or out of reach: then the lease ends it.
        with suppress(TransportError, SessionExpired, NotFound):
            self._transport.ask("DELETE", "sessions", self.id)

    def disconnect(self) -> None:
        """Close the connection; the session keeps its place as long as its lease runs."""
        self._socket = None
        with suppress(ConnectionClosed, OSError, TimeoutError):
            self._open.close()

    # --- acts

    def open(self, image: str | ImageItem, *, take_over: bool = False, propose: bool = True) -> Outline:
        """Open an image; with confirmed cases it already holds an outline.

        Args:
            image: Which.
            take_over: Whether to take the place of somebody who works on it; they are told.
            propose: Whether to answer from the confirmed cases.

        Raises:
            Conflict: "taken": somebody else works on this image and structure.
            NotFound: There is no such image.
        """
        item = image if isinstance(image, ImageItem) else self._describe(image)
        self._item, self._acts, self._offered, self._propose = item, [], {}, propose
        self._levels = np.zeros(item.shape_zyx, dtype=np.uint8)
        outline = self._ask({"type": "open", "image": item.id, "take_over": take_over, "propose": propose})
        if self.taken_by is not None:
            raise error_of(
                "taken", f"{self.taken_by} works on this image; open it with take_over to go on all the same"
            )
        return outline

    def point(self, point: Points, *, positive: bool = True, frame: Frame = "lps_mm") -> Outline:
        """Point at it, or at what it is not; (x, y, z) in mm, or (z, y, x) in frame "index_zyx"."""
        return self._prompt("point", point, positive, frame)

    def box(self, corners: Points, *, positive: bool = True, frame: Frame = "lps_mm") -> Outline:
        """Give two opposite corners of a box round it."""
        return self._prompt("box", corners, positive, frame)

    def scribble(self, points: Points, *, positive: bool = True, frame: Frame = "lps_mm") -> Outline:
        """Draw a line through it, or through what it is not."""
        return self._prompt("scribble", points, positive, frame)

    def lasso(self, points: Points, *, positive: bool = True, frame: Frame = "lps_mm") -> Outline:
        """Draw a closed line round it, in one plane."""
        return self._prompt("lasso", points, positive, frame)

    def choose(self, number: int) -> Outline:
        """Take one of the alternatives of the last prompt, counted from 0."""
        return self._act({"type": "choose", "number": number})

    def undo(self) -> Outline:
        """Take the last act back."""
        return self._act({"type": "undo"})

    def redo(self) -> Outline:
        """Do again what was taken back last."""
        return self._act({"type": "redo"})

    def clear(self) -> Outline:
        """Begin the image anew."""
        return self._act({"type": "clear"})

    def propagate(self, axis: Literal["z", "y", "x"], first: int, last: int) -> Outline:
        """Carry the outline through planes, slice to slice."""
        return self._act({"type": "propagate", "axis": "zyx".index(axis), "first": first, "last": last})

    def confirm(self) -> str:
        """Say that the outline is right.

        Returns:
            Name of the mask, for `Client.mask`.

        Raises:
            Conflict: "stale": somebody confirmed another version meanwhile; confirm again to add yours.
        """
        item, before = self._opened(), len(self.cases)
        try:
            mask = str(self._answer({"type": "confirm", "version": self._version}, remember=False).head["mask"])
        except Conflict as refusal:
            # The connection may have been lost after the server had written it: then it is the session's latest case.
            mine = len(self.cases) > before and self.cases[-1].get("image") == item.id
            if refusal.code != "stale" or not mine:
                raise
            mask = str(self.cases[-1]["mask"])
        self._item, self._acts = None, []
        return mask

    @property
    def mask(self) -> Mask:
        """The mask as it stands, on the image's grid.

        Raises:
            ConfigError: No image is open.
        """
        geometry = geometry_of(self._opened())
        segment = Segment(1, self.label[:64], algorithm_type="SEMIAUTOMATIC", algorithm_name="Isocenter")
        return Mask((self._levels >= 2).astype(np.uint16), geometry, (segment,))

    # --- how it is said

    def _opened(self) -> ImageItem:
        if self._item is None:
            raise ConfigError("no image is open; open one first")
        return self._item

    def _prompt(self, kind: str, points: Points, positive: bool, frame: Frame) -> Outline:
        self._opened()
        where = np.atleast_2d(np.asarray(points, dtype=np.float64))
        if where.ndim != 2 or where.shape[1] != 3 or not np.isfinite(where).all():
            raise ConfigError("points have three numbers each")
        return self._act({"type": "prompt", "kind": kind, "positive": positive, f"points_{frame}": where.tolist()})

    def _act(self, act: dict[str, Any]) -> Outline:
        self._opened()
        return self._ask(act, remember=True)

    def _ask(self, head: dict[str, Any], *, remember: bool = False) -> Outline:
        message = self._answer(head, remember=remember)
        head_, offers = message.head, int(message.head.get("alternatives") or 0)  # type: ignore[call-overload]
        self._offered = {}
        while len(self._offered) < offers:
            other = self._receive()
            if other.kind == "alternative":
                self._offered[int(other.head["number"])] = other.head["expected_dice"]  # type: ignore[call-overload,assignment]
        return Outline(
            self._levels.copy(),
            head_["expected_dice"],  # type: ignore[arg-type]
            int(head_["prompts"]),  # type: ignore[call-overload]
            tuple(self._offered[number] for number in sorted(self._offered)),
            dict(head_["milliseconds"]),  # type: ignore[call-overload]
        )

    def _answer(self, head: dict[str, Any], *, remember: bool) -> Message:
        """Send a message and wait for its answer; where the connection is lost, replay what was done and send again."""
        self._seq += 1
        seq = self._seq
        for attempt in range(_TRIES):
            try:
                self._connected(reopen=head["type"] != "open")
                self._send({**head, "seq": seq})
                answer = self._until(seq)
            except (ConnectionClosed, OSError, TimeoutError) as error:
                self.disconnect()
                if isinstance(error, ConnectionClosed) and error.rcvd is not None and error.rcvd.code in _NOT_TAKEN:
                    raise TransportError(
                        "the server does not take a message as long as this; give fewer points at once, or confirm "
                        "and open the image anew"
                    ) from error
                if attempt == _TRIES - 1:
                    raise TransportError("the connection was lost and could not be taken up again") from error
                time.sleep(min(5.0, 0.1 * 2**attempt))
                continue
            if remember:
                self._acts.append(head)
            return answer
        raise TransportError("the connection was lost")

    def _connected(self, *, reopen: bool) -> None:
        if self._socket is not None:
            return
        protocols = [Subprotocol("isocenter.v1"), Subprotocol(f"bearer.{self._transport.token}")]
        try:
            self._socket = self._open.enter_context(
                connect(
                    f"{self._transport.socket_base}/sessions/{self.id}/socket",
                    subprotocols=protocols,
                    max_size=_LARGEST_MESSAGE,
                    open_timeout=self._transport.timeout_seconds,
                    proxy=None,
                )
            )
        except (InvalidHandshake, InvalidURI) as error:
            raise TransportError("the server refused the connection; is the token right?") from error
        if reopen and self._item is not None:
            self._seq += 1
            self._levels = np.zeros(self._item.shape_zyx, dtype=np.uint8)
            replay = {"type": "replay", "image": self._item.id, "acts": self._acts, "propose": self._propose}
            self._send({**replay, "seq": self._seq})
            self._until(self._seq)

    def _send(self, head: Mapping[str, Any]) -> None:
        if self._socket is None:
            raise TransportError("not connected")
        self._socket.send(pack(head))

    def _until(self, seq: int) -> Message:
        while True:
            message = self._receive()
            if message.head.get("seq") == seq and message.kind in _ANSWERS:
                return message
            if message.kind == "problem" and message.head.get("seq") in (seq, None):
                raise error_of(str(message.head.get("code")), str(message.head.get("detail")))

    def _receive(self) -> Message:
        if self._socket is None:
            raise TransportError("not connected")
        data = self._socket.recv(timeout=self._transport.timeout_seconds)
        if isinstance(data, str):
            raise TransportError("the server sent text; is this a server of isocenter serve?")
        message = unpack(data)
        head = message.head
        if isinstance(head.get("version"), int):
            self._version = int(head["version"])  # type: ignore[call-overload]
        if message.kind in ("opened", "confirmed"):
            self.cases = tuple(head.get("cases") or self.cases)  # type: ignore[arg-type]
        if message.kind == "opened":
            self.taken_by = None if head.get("taken_by") is None else str(head["taken_by"])
        elif message.kind == "taken":
            self.taken_by = str(head.get("by"))
        elif message.kind == "delta":
            z0, z1, y0, y1, x0, x1 = (int(v) for v in head["box_zyx"])  # type: ignore[attr-defined]
            shape = self._levels.shape
            if not (0 <= z0 <= z1 <= shape[0] and 0 <= y0 <= y1 <= shape[1] and 0 <= x0 <= x1 <= shape[2]):
                raise TransportError("an answer lies outside the image")
            self._levels[z0:z1, y0:y1, x0:x1] = decode_levels(message.payload, (z1 - z0, y1 - y0, x1 - x0))
        return message
