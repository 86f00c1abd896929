r"""MLLP: HL7 v2 messages over TCP, in and out; a message is answered only when it is on the disk.

    <VT> message <FS> <CR>

Source:
    HL7 MLLP release 1; HL7 v2.5.1, 2.9.2 (original acknowledgement), 2.10.5 (ERR), tables 0008 and 0357.
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from isocenter.clinic.dimse.entities import TlsFiles
from isocenter.core.errors import ConfigError, DataError, TransportError
from isocenter.data.records.hl7 import Message, parse_message

__all__ = [
    "Frames",
    "Framing",
    "MllpLimits",
    "MllpPeer",
    "MllpServer",
    "Refusal",
    "Reply",
    "acknowledge",
    "framed",
    "send",
]

_BEGIN, _END = b"\x0b", b"\x1c\r"
_NOISE = 1024
_BLOCK = 1 << 16
REQUIRED_FIELD: Final = ("101", "Required field missing")
TABLE_VALUE: Final = ("103", "Table value not found")
SEGMENT_ORDER: Final = ("100", "Segment sequence error")
MESSAGE_TYPE: Final = ("200", "Unsupported message type")
PROCESSING_ID: Final = ("202", "Unsupported processing id")
VERSION: Final = ("203", "Unsupported version id")
INTERNAL: Final = ("207", "Application internal error")


class Framing(TransportError):
    """Bytes that are no frame."""


class Refusal(Exception):
    """A message that is not taken.

    Args:
        code: AE (it is wrong: do not send it again) or AR (not now, or not here).
        condition: Code and text of HL7 table 0357.
        place: Where, as ERR-2 has it: "PID^1^3".
    """

    def __init__(self, code: str, condition: tuple[str, str], place: str = "") -> None:
        super().__init__(condition[1])
        self.code, self.condition, self.place = code, condition, place


@dataclass(frozen=True)
class MllpLimits:
    """Bounds of the server.

    Args:
        message_bytes: Longest message.
        connections: Most at once; further ones are closed.
        idle_s: A connection without a byte for so long is closed.
    """

    message_bytes: int = 4 << 20
    connections: int = 32
    idle_s: float = 600.0


class Frames:
    r"""Takes messages out of a stream, whatever its pieces are.

    Args:
        most: Longest message.

    Example:
        >>> frames = Frames()
        >>> [m for piece in (b"\x0bMSH|", b"a\r\x1c", b"\r\x0b") for m in frames.feed(piece)]
        [b'MSH|a\r']
    """

    def __init__(self, most: int = 4 << 20) -> None:
        self._most, self._held, self._inside, self._noise = most, bytearray(), False, 0
        self._looked = 0  # up to here no end was found: what comes byte by byte is not looked through each time

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Take bytes; yield the messages that are whole.

        Raises:
            Framing: A message is too long, or what stands between messages is.
        """
        self._held += data
        while True:
            if not self._inside:
                place = self._held.find(_BEGIN)
                gap = bytes(self._held if place < 0 else self._held[:place])
                # Ends of line between messages are a habit of many senders, and harmless.
                self._noise += len(gap.strip(b"\r\n"))
                if self._noise > _NOISE:
                    raise Framing("bytes outside of a frame")
                del self._held[: len(gap) + (place >= 0)]
                if place < 0:
                    return
                self._inside = True
            end = self._held.find(_END, self._looked)
            if (end if end >= 0 else len(self._held)) > self._most:
                raise Framing("a message that is too long")
            self._looked = max(len(self._held) - 1, 0) if end < 0 else 0
            if end < 0:
                return
            message = bytes(self._held[:end])
            del self._held[: end + 2]
            self._inside, self._noise = False, 0
            yield message

    @property
    def unfinished(self) -> bool:
        """Whether a message has begun and not ended."""
        return self._inside


def framed(message: bytes) -> bytes:
    """Return a message in its frame."""
    return _BEGIN + message + _END


def acknowledge(message: Message | None, control: str, refusal: Refusal | None, *, name: str = "ISOCENTER") -> bytes:
    """Return the answer to a message.

    Args:
        message: It; None where it can't be read.
        control: Message control id of the answer.
        refusal: Why it is not taken; None: it is.
        name: Our application.
    """
    now = datetime.now(UTC).strftime("%Y%m%d%H%M%S") + "+0000"
    header = None if message is None else message.header

    def kept(number: int) -> str:
        # Back as it stands, whatever it is, but for what would end a field of ours.
        raw = "" if header is None else header.raw(number)
        if header is not None and header.marks.field != "|" and not re.fullmatch(r"[A-Za-z0-9 ._:-]*", raw):
            return ""  # the sender's other delimiters would be text to ours
        return re.sub(r"[|\r\n\x00-\x1f]", "", raw)[:227]

    event = "" if header is None else re.sub(r"[^A-Z0-9]", "", header.text(9, 2))[:3]
    lines = [
        f"MSH|^~\\&|{name}||{kept(3)}|{kept(4)}|{now}||ACK{f'^{event}^ACK' if event else ''}|{control}|"
        f"{kept(11)[:3] or 'P'}|{kept(12)[:16] or '2.5.1'}||||||UNICODE UTF-8",
        f"MSA|{'AA' if refusal is None else refusal.code}|{kept(10)}",
    ]
    if refusal is not None:
        code, text = refusal.condition
        lines.append(f"ERR||{refusal.place}|{code}^{text}^HL70357|E")
    return "".join(line + "\r" for line in lines).encode()


class MllpServer:
    """Takes messages in, one at a time on each connection.

    Args:
        take: Given a message and its bytes; returns when it is on the disk. Called in threads.
        limits: Bounds.
        tls: Certificates; None: in the clear.
        told: Called with what was wrong with a connection or a message; never a patient's value.
        allowed: Tells whether an address may connect; None: any may.
    """

    def __init__(
        self,
        take: Callable[[Message, bytes], None],
        *,
        limits: MllpLimits | None = None,
        tls: TlsFiles | None = None,
        told: Callable[[str], None] | None = None,
        allowed: Callable[[str], bool] | None = None,
    ) -> None:
        self._allowed = allowed or (lambda _host: True)
        self._take, self._limits, self._tls = take, limits or MllpLimits(), tls
        self._told = told or (lambda _text: None)
        self._open: set[asyncio.Task[None]] = set()
        self._count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._stop: asyncio.Event | None = None

    def start(self, host: str, port: int) -> int:
        """Listen, in a thread of its own; return the port.

        Raises:
            ConfigError: The address is taken, or a certificate can't be read.
        """
        context = None if self._tls is None else self._tls.context()
        ready: list[int | Exception] = []
        there = threading.Event()

        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            try:
                server = await asyncio.start_server(self._connected, host, port, ssl=context, limit=_BLOCK)
            except (OSError, OverflowError, UnicodeError) as error:  # the last: a host that is no name of one
                ready.append(error)
                there.set()
                return
            ready.append(server.sockets[0].getsockname()[1])
            there.set()
            await self._stop.wait()
            server.close()
            for task in list(self._open):
                task.cancel()
            await asyncio.gather(*self._open, return_exceptions=True)
            await server.wait_closed()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="mllp", daemon=True)
        self._thread.start()
        there.wait()
        found = ready[0]
        if isinstance(found, Exception):
            self._thread.join()
            raise ConfigError(
                f"MLLP can't listen on port {port}: is it taken, or the host none of this machine?"
            ) from found
        return found

    def stop(self) -> None:
        """Close all connections; a message that is being written is written."""
        if self._loop is not None and self._stop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
            self._thread.join(30)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._open.add(task)
        try:
            if not self._allowed(str(writer.get_extra_info("peername", ("",))[0])):
                self._told("a connection was refused: its address is not among those that may connect")
                return
            if len(self._open) > self._limits.connections:
                self._told("a connection was refused: as many as allowed are open")
                return
            await self._talk(reader, writer)
        except Framing as error:
            self._told(f"a connection was closed: {error}")
        except (OSError, asyncio.IncompleteReadError, ssl.SSLError) as error:
            self._told(f"a connection was lost ({type(error).__name__})")
        except asyncio.CancelledError:
            pass
        finally:
            if task is not None:
                self._open.discard(task)
            writer.close()
            try:
                await asyncio.wait_for(writer.wait_closed(), 5)
            except (OSError, TimeoutError, asyncio.CancelledError):
                writer.transport.abort()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames = Frames(self._limits.message_bytes)
        while True:
            try:
                data = await asyncio.wait_for(reader.read(_BLOCK), self._limits.idle_s)
            except TimeoutError:
                self._told("a connection was closed: it was idle")
                return
            if not data:
                if frames.unfinished:
                    self._told("a connection ended inside a message; it was not taken")
                return
            try:
                for message in frames.feed(data):
                    writer.write(framed(await asyncio.to_thread(self._answer, message)))
                    await writer.drain()
            except Framing:
                # Whoever sent it is told once, so that it does not send the same for ever; then the line is closed.
                writer.write(framed(acknowledge(None, self._next(), Refusal("AR", SEGMENT_ORDER))))
                await writer.drain()
                raise

    def _answer(self, data: bytes) -> bytes:
        message = None
        refusal = None
        try:
            message = parse_message(data)
            self._take(message, data)
        except Refusal as refused:
            refusal = refused
        except DataError:
            refusal = Refusal("AR", SEGMENT_ORDER, "MSH^1")
        except Exception as error:  # noqa: BLE001  # the boundary: a failure of ours is answered, never silence
            self._told(f"a message was not taken for a defect of Isocenter ({type(error).__name__})")
            refusal = Refusal("AR", INTERNAL)
        if refusal is not None:
            self._told(f"a message was refused: {refusal.code} {refusal.condition[1]} {refusal.place}".strip())
        return acknowledge(message, self._next(), refusal)

    def _next(self) -> str:
        self._count += 1
        return f"{time.time_ns():x}-{self._count}"[:20]


@dataclass(frozen=True)
class MllpPeer:
    """A system that takes messages.

    Args:
        host: Its name.
        port: Its port.
        tls: Whether it is spoken to by TLS.
        ca: Certificates to trust; None: those of this machine.
        certificate: Files of our own certificate and its key, None for none.
        timeout_s: Without an answer for so long is none.
    """

    host: str
    port: int
    tls: bool = False
    ca: Path | None = None
    certificate: tuple[Path, Path] | None = None
    timeout_s: float = 30.0

    def connect(self) -> socket.socket:
        """Open a connection.

        Raises:
            ConfigError: A certificate can't be read.
            OSError: The peer does not answer, or is not who it says.
        """
        context = None
        if self.tls:
            try:
                context = ssl.create_default_context(cafile=None if self.ca is None else str(self.ca))
                if self.certificate is not None:
                    context.load_cert_chain(*map(str, self.certificate))
            except OSError as error:
                raise ConfigError("a file of certificates can't be read; check its path and form") from error
        plain = socket.create_connection((self.host, self.port), self.timeout_s)
        plain.settimeout(self.timeout_s)
        if context is None:
            return plain
        try:
            return context.wrap_socket(plain, server_hostname=self.host)
        except OSError:
            plain.close()
            raise


@dataclass(frozen=True)
class Reply:
    """What a peer said of a message.

    Args:
        code: AA, AE or AR.
        condition: ERR-3 code of HL7 table 0357; "" for none.
        again: Whether the same message may be taken later.
    """

    code: str
    condition: str = ""
    again: bool = field(default=False)

    @property
    def taken(self) -> bool:
        """Whether the peer has it."""
        return self.code == "AA"


def send(peer: MllpPeer, message: bytes) -> Reply:
    """Send a message, and wait for its answer.

    AA: taken. AE: the message is wrong, and stays so. AR: not taken, perhaps later, unless the peer says that it does
    not know this kind of message (200, 201), processing id (202) or version (203).

    Args:
        peer: To whom.
        message: Without its frame.

    Raises:
        TransportError: No answer, or none to this message; it may have been taken, so it is sent again with the same
            control id.
    """
    control = parse_message(message).header.raw(10)
    try:
        with peer.connect() as line:
            line.sendall(framed(message))
            frames = Frames(1 << 20)
            while data := line.recv(_BLOCK):
                for answer in frames.feed(data):
                    return _reply(answer, control)
    except OSError as error:
        raise TransportError(f"the peer does not answer, or was cut off ({type(error).__name__})") from error
    raise TransportError("the peer closed the line without an answer")


def _reply(answer: bytes, control: str) -> Reply:
    try:
        message = parse_message(answer)
    except DataError as error:
        raise TransportError("the answer is no HL7 message") from error
    told = next((s for s in message.segments if s.name == "MSA"), None)
    # CA, CE and CR of enhanced mode say the same of the message as a whole.
    code = "" if told is None else {"CA": "AA", "CE": "AE", "CR": "AR"}.get(told.text(1), told.text(1))
    if told is None or code not in ("AA", "AE", "AR"):
        raise TransportError("the answer does not say whether the message was taken (MSA-1)")
    if told.raw(2) != control:
        raise TransportError("the answer is to another message (MSA-2)")
    wrong = next((s for s in message.segments if s.name == "ERR"), None)
    condition = "" if wrong is None else re.sub(r"[^0-9A-Za-z]", "", wrong.text(3))[:8]
    return Reply(code, condition, again=code == "AR" and condition not in ("200", "201", "202", "203"))
