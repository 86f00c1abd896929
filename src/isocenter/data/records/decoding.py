"""Bytes to text: UTF-8, UTF-16, or Windows-1252 where nothing else fits, and then that is said.

A file that is mostly UTF-8 with some bytes of Windows-1252 (two exports pasted together) is read byte by byte where
UTF-8 fails, so the good part stays good.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

__all__ = ["Decoded", "Encoding", "decode", "opened_text", "tell_encoding", "without_mark"]

_FALLBACK = "isocenter-windows-1252"
_BLOCK = 1 << 20
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def _as_windows(error: UnicodeError) -> tuple[str, int]:
    """Read what is no UTF-8 as Windows-1252; its five free places as Latin-1 has them."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    bad = error.object[error.start : error.end]
    text = "".join(bytes([b]).decode("latin-1" if b in (0x81, 0x8D, 0x8F, 0x90, 0x9D) else "cp1252") for b in bad)
    return text, error.end


codecs.register_error(_FALLBACK, _as_windows)


@dataclass(frozen=True)
class Encoding:
    """How bytes are to be read.

    Args:
        codec: Python's name.
        errors: How its decoder treats what does not fit.
        note: What was guessed, in words; "" where nothing was.
    """

    codec: str
    errors: str = "strict"
    note: str = ""


@dataclass(frozen=True)
class Decoded:
    """Text, and what was guessed about it.

    Args:
        text: Without a byte order mark; ends of lines as they stood.
        note: "" where nothing was guessed.
    """

    text: str
    note: str


def tell_encoding(stream: io.BufferedIOBase) -> Encoding:
    """Tell the encoding of a stream by reading it to its end, a block at a time; it is left at its beginning.

    Example:
        >>> tell_encoding(io.BytesIO("Müller".encode())), tell_encoding(io.BytesIO("Müller".encode("latin-1"))).note
        (Encoding(codec='utf-8', errors='strict', note=''), 'not UTF-8: read as Windows-1252, a guess')
    """
    head = stream.read(_BLOCK)
    stream.seek(0)
    for mark, codec in _BOMS:
        if head.startswith(mark):
            return Encoding(codec)
    if wide := without_mark(head):
        return Encoding(wide, note=f"{wide.upper()} without a byte order mark, a guess")
    decoder = codecs.getincrementaldecoder("utf-8")()
    wide_letters = False
    try:
        while block := stream.read(_BLOCK):
            wide_letters |= not decoder.decode(block).isascii()
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        wide_letters |= not error.object[: error.start].isascii()
        mixed = "partly " if wide_letters else ""
        return Encoding("utf-8", _FALLBACK, f"not UTF-8: {mixed}read as Windows-1252, a guess")
    finally:
        stream.seek(0)
    return Encoding("utf-8")


def decode(data: bytes) -> Decoded:
    """Decode bytes whose encoding nobody states.

    Example:
        >>> decode("größer".encode("utf-16")).text, decode("größer".encode("cp1252")).text
        ('größer', 'größer')
    """
    told = tell_encoding(io.BytesIO(data))
    try:
        return Decoded(data.decode(told.codec, told.errors), told.note)
    except UnicodeDecodeError:  # a byte order mark that lies
        return Decoded(data.decode("utf-8", _FALLBACK), "not what its byte order mark says: read byte by byte, a guess")


@contextmanager
def opened_text(stream: io.BufferedIOBase) -> Iterator[tuple[io.TextIOBase, str]]:
    """Give a stream of bytes as text, ends of lines as they stand, and what was guessed about it."""
    told = tell_encoding(stream)
    text = io.TextIOWrapper(cast("IO[bytes]", stream), encoding=told.codec, errors=told.errors, newline="")
    try:
        yield text, told.note
    finally:
        text.detach()


def without_mark(head: bytes) -> str:
    """Tell UTF-16 by the zero in every second byte of western letters; "" for none: no other text has zeros."""
    sample = head[:4096]
    if len(sample) < 4 or b"\0" not in sample:
        return ""
    even, odd = sample[0::2].count(0), sample[1::2].count(0)
    half = len(sample) // 2
    if odd > 0.4 * half and even < 0.05 * half:
        return "utf-16-le"
    if even > 0.4 * half and odd < 0.05 * half:
        return "utf-16-be"
    return ""
