"""Text of DICOM elements in the object's own character set, whatever is wrong with it."""

from __future__ import annotations

from functools import lru_cache

from pydicom.charset import convert_encodings, decode_bytes, encode_string

from isocenter.data.images.quiet import quiet

__all__ = ["codecs_of", "decoded", "encoded"]

# Where a code extension falls back to the first character set (PS3.5 6.1.2.5.3).
_DELIMITERS = set(b"\r\n\t\f\\^=")


@lru_cache(maxsize=256)
def codecs_of(character_set: bytes) -> tuple[str, ...]:
    """Return codecs for a raw Specific Character Set; Latin-1, which every byte has, where it names none."""
    names = character_set.decode("latin-1").strip("\0 ").split("\\")
    try:
        with quiet():
            return tuple(convert_encodings(names))
    except (LookupError, ValueError):
        return ("latin-1",)


def decoded(raw: bytes, character_set: bytes) -> str:
    """Return a text; bytes that its character set does not have become replacement characters."""
    if raw.isascii() and b"\x1b" not in raw:
        return raw.decode("ascii")
    with quiet():
        return str(decode_bytes(raw, list(codecs_of(character_set)), _DELIMITERS))


def encoded(text: str, character_set: bytes) -> bytes:
    """Return a text in a character set; what it does not have becomes a question mark."""
    if text.isascii():
        return text.encode("ascii")
    with quiet():
        return bytes(encode_string(text, list(codecs_of(character_set))))
