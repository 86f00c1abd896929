r"""HL7 v2 as bytes to segments, fields and components: strict about structure, tolerant of how lines end.

A file may be one message, many in a row, a batch (FHS, BHS), or what a socket carried (MLLP). It is read a message at a
time. Escapes are undone last, so that a stroke or a hat inside a text never divides it.

Source:
    HL7 v2.5.1, chapter 2: 2.5 (structure), 2.7 (escape sequences), 2.10.3 (batch), 2.15.9 (MSH); MLLP release 1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BufferedIOBase

from isocenter.core.errors import DataError
from isocenter.data.records.decoding import decode

__all__ = ["MAX_MESSAGE", "Delimiters", "Message", "Segment", "parse_message", "split_stream"]

MAX_MESSAGE = 64 << 20
"""Bytes of one message above which it is refused."""
_BLOCK = 1 << 20
_START = re.compile(rb"(?:\A|[\r\n\x0b\x1c])[\r\n\x0b\x1c]*(?=(?:MSH|FHS|BHS|BTS|FTS)[^A-Za-z0-9\r\n ])")
_NAME = re.compile(r"[A-Z][A-Z0-9]{2}")
_CHARSETS = {
    "": "", "ASCII": "ascii", "ISO IR6": "ascii", "UNICODE UTF-8": "utf-8",
    "UNICODE": "utf-8", "UTF-8": "utf-8", "UTF8": "utf-8",
    **{f"8859/{n}": f"iso8859-{n}" for n in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 13, 14, 15, 16)},
    "ISO IR87": "iso2022_jp", "ISO IR14": "shift_jis", "ISO IR159": "iso2022_jp_1", "GB 18030-2000": "gb18030",
    "KS X 1001": "euc_kr", "BIG-5": "big5",
}  # fmt: skip
"""HL7 table 0211."""


@dataclass(frozen=True)
class Delimiters:
    """What divides a message.

    Args:
        field: MSH-1, usually a stroke.
        component: First of MSH-2.
        repetition: Second.
        escape: Third; "" where the message has none.
        subcomponent: Fourth; "" where the message has none.
    """

    field: str
    component: str
    repetition: str
    escape: str
    subcomponent: str


@dataclass(frozen=True)
class Segment:
    """One segment.

    Args:
        name: Three letters.
        fields: As they stand, not unescaped; the first is the name, so that fields[3] is NAME-3 (MSH counts its
            delimiter as MSH-1 and is shifted to fit).
        marks: The delimiters.
        charset: By which bytes in escapes are read.
    """

    name: str
    fields: tuple[str, ...]
    marks: Delimiters
    charset: str = "utf-8"

    def raw(self, number: int) -> str:
        """Return a field as it stands, "" where the segment ends before."""
        return self.fields[number] if number < len(self.fields) else ""

    def repetitions(self, number: int) -> list[str]:
        """Return the repetitions of a field as they stand; none for an empty field."""
        raw = self.raw(number)
        return raw.split(self.marks.repetition) if raw and raw != '""' else []

    def text(self, number: int, component: int = 1) -> str:
        """Return a component of a field's first repetition, unescaped; of subcomponents the first."""
        repetitions = self.repetitions(number)
        return self.component(repetitions[0], component) if repetitions else ""

    def component(self, repetition: str, number: int, part: int = 1) -> str:
        """Return a component's part of a repetition, unescaped; "" where there is none, or HL7's explicit null."""
        components = repetition.split(self.marks.component)
        if number > len(components):
            return ""
        parts = [components[number - 1]]
        if self.marks.subcomponent:
            parts = components[number - 1].split(self.marks.subcomponent)
        if part > len(parts) or parts[part - 1] == '""':
            return ""
        return self.unescape(parts[part - 1]).strip()

    def unescape(self, text: str) -> str:
        r"""Undo the escapes of a text.

        Example:
            >>> marks = Delimiters("|", "^", "~", "\\", "&")
            >>> Segment("OBX", (), marks).unescape(r"5\S\2 \T\ more\.br\next \XC3BC\ \H\bold\N\ \Zx\ ")
            '5^2 & more\nnext ü bold \\Zx\\ '
        """
        escape = self.marks.escape
        if not escape or escape not in text:
            return text
        mark = re.escape(escape)
        return re.sub(f"{mark}([^{mark}\r\n]{{0,4096}}){mark}", self._escaped, text)

    def _escaped(self, found: re.Match[str]) -> str:
        code = found[1]
        marks = self.marks
        plain = {
            "F": marks.field, "S": marks.component, "R": marks.repetition, "E": marks.escape, "T": marks.subcomponent,
            "H": "", "N": "", ".nf": "", ".fi": "", ".br": "\n", ".ce": "\n", ".sk": " ", ".sp": "\n",
        }  # fmt: skip
        if code in plain:
            return plain[code]
        counted = re.fullmatch(r"\.(sp|sk|in|ti) ?[+-]?(\d{1,3})", code)
        if counted:
            return {"sp": "\n", "sk": " ", "in": "", "ti": ""}[counted[1]] * int(counted[2])
        if re.fullmatch(r"X(?:[0-9A-Fa-f]{2})+", code):
            try:
                return bytes.fromhex(code[1:]).decode(self.charset).replace("\r\n", "\n").replace("\r", "\n")
            except UnicodeDecodeError:
                return found[0]
        return found[0]  # a local escape or one of another character set: kept, not understood


@dataclass(frozen=True)
class Message:
    """One message.

    Args:
        segments: In order; MSH first.
        notes: What was decided in reading it.
        strange: Numbers of lines that are no segments.
    """

    segments: tuple[Segment, ...]
    notes: tuple[str, ...] = ()
    strange: tuple[int, ...] = field(default=())

    @property
    def header(self) -> Segment:
        """The MSH."""
        return self.segments[0]


def split_stream(stream: BufferedIOBase) -> Iterator[bytes]:
    r"""Yield the messages, batch headers and batch trailers of a stream, each as bytes.

    What stands before the first of them is yielded as it is, so that nothing is lost.

    Raises:
        DataError: A message is longer than `MAX_MESSAGE`.

    Example:
        >>> import io
        >>> [m[:3] for m in split_stream(io.BytesIO(b"\x0bMSH|^~\\&|a\rPID|1\r\x1c\rMSH|^~\\&|b\r"))]
        [b'MSH', b'MSH']
    """
    held = b""
    last = False
    while not last:
        block = stream.read(_BLOCK)
        last = not block
        held += block
        starts = [found.end() for found in _START.finditer(held)]
        if starts and starts[0] > 0 and held[: starts[0]].strip(b"\r\n\x0b\x1c"):
            starts.insert(0, 0)
        ends = starts[1:]
        for start, end in zip(starts, ends, strict=False):
            yield held[start:end].strip(b"\r\n\x0b\x1c")
        held = held[starts[-1] :] if starts else held
        if len(held) > MAX_MESSAGE:
            raise DataError(f"a message is longer than {MAX_MESSAGE:,} bytes; it is no HL7 message")
    rest = held.strip(b"\r\n\x0b\x1c")
    if rest:
        yield rest


def parse_message(data: bytes) -> Message:
    r"""Parse one message.

    Raises:
        DataError: No MSH, delimiters that are none, or a character set that is not known.

    Example:
        >>> message = parse_message(b"MSH|^~\\&|RIS|||||| ORU^R01\rPID|1||4711^^^A&1.2&ISO~12^^^B\r")
        >>> pid = message.segments[1]
        >>> [(pid.component(r, 1), pid.component(r, 4), pid.component(r, 4, 2)) for r in pid.repetitions(3)]
        [('4711', 'A', '1.2'), ('12', 'B', '')]
    """
    if data[:3] != b"MSH":
        raise DataError("no message: it does not begin with MSH")
    text, charset, notes = _decoded(data)
    marks = _delimiters(text)
    lines = re.split("\r\n?", text) if "\r" in text else text.split("\n")
    segments: list[Segment] = []
    strange = []
    for number, raw in enumerate(lines, start=1):
        line = raw.lstrip("\n")
        if not line.strip():
            continue
        if not (_NAME.match(line) and (len(line) == 3 or line[3] == marks.field)):
            if segments and not _NAME.match(line):
                # A text with a bare end of line in it: most senders forget to escape it.
                earlier = segments[-1]
                kept = (*earlier.fields[:-1], f"{earlier.fields[-1]}\n{line}")
                segments[-1] = Segment(earlier.name, kept, marks, charset)
                notes.append("a text broken by an end of line was joined")
            else:
                strange.append(number)
            continue
        fields = line.split(marks.field)
        if fields[0] == "MSH":
            fields.insert(1, marks.field)
        segments.append(Segment(fields[0], tuple(fields), marks, charset))
    return Message(tuple(segments), tuple(dict.fromkeys(notes)), tuple(strange))


def _delimiters(text: str) -> Delimiters:
    head = text.splitlines()[0]
    mark = head[3:4]
    encoding = head[4:].split(mark)[0] if mark else ""
    used = mark + encoding[:4]
    if not 2 <= len(encoding) <= 5 or len(set(used)) < len(used) or any(c.isalnum() or c.isspace() for c in used):
        raise DataError("MSH-1 and MSH-2 are no delimiters (usually |^~\\&)")
    padded = encoding.ljust(4)
    return Delimiters(mark, padded[0], padded[1], padded[2].strip(), padded[3].strip())


def _decoded(data: bytes) -> tuple[str, str, list[str]]:
    """Decode by MSH-18; bytes that are not of it are guessed, and that is noted."""
    first = re.split(rb"[\r\n]", data, maxsplit=1)[0]
    fields = first.split(first[3:4]) if len(first) > 3 else [first]
    stated = fields[17].split(fields[1][1:2] or b"~")[0].decode("ascii", "replace").strip() if len(fields) > 17 else ""
    codec = _CHARSETS.get(stated.upper())
    if codec is None:
        raise DataError("MSH-18 names a character set that is not known here; convert to UTF-8")
    if codec:
        try:
            return data.decode(codec), codec, []
        except UnicodeDecodeError:
            guessed = decode(data)
            told = f"MSH-18 says {stated}, which the bytes are not: {guessed.note or 'read as UTF-8'}"
            return guessed.text, "utf-8", [told]
    guessed = decode(data)
    notes = [f"no character set in MSH-18; {guessed.note}"] if guessed.note else []
    return guessed.text, "cp1252" if guessed.note else "utf-8", notes
