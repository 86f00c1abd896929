"""Command sets of DIMSE messages: read and written, always implicit little endian (PS3.7 section 6.3)."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from isocenter.clinic.dimse.upper_layer import Malformed

__all__ = [
    "C_ECHO",
    "C_STORE",
    "NO_DATA",
    "N_ACTION",
    "N_CREATE",
    "N_EVENT_REPORT",
    "N_SET",
    "Command",
    "command_bytes",
    "parse_command",
    "response_bytes",
]

C_STORE: Final = 0x0001
C_ECHO: Final = 0x0030
N_EVENT_REPORT: Final = 0x0100
N_SET: Final = 0x0120
N_ACTION: Final = 0x0130
N_CREATE: Final = 0x0140
NO_DATA: Final = 0x0101

_SOP_CLASS, _REQUESTED_CLASS = 0x0002, 0x0003
_FIELD, _MESSAGE, _ANSWERED, _DATA_SET, _STATUS, _COMMENT = 0x0100, 0x0110, 0x0120, 0x0800, 0x0900, 0x0902
_SOP_INSTANCE, _REQUESTED_INSTANCE, _EVENT, _ACTION = 0x1000, 0x1001, 0x1002, 0x1008
_ELEMENT = struct.Struct("<HHI")
_UID_CHARACTERS = frozenset("0123456789.")
_LONGEST = 1 << 16


@dataclass(frozen=True)
class Command:
    """A request.

    Args:
        kind: Command field, e.g. 0x0001 for C-STORE-RQ.
        message_id: Its number.
        sop_class: Affected or requested SOP class.
        sop_instance: Affected or requested SOP instance; "" for none.
        has_data: Whether a data set follows.
        action: Action or event type; 0 for none.
        answered: Number of the message that it answers; 0 for a request.
        status: Of an answer.
    """

    kind: int
    message_id: int
    sop_class: str
    sop_instance: str
    has_data: bool
    action: int = 0
    answered: int = 0
    status: int = 0


def parse_command(data: bytes) -> Command:
    """Read a command set.

    Raises:
        Malformed: It does not add up, or lacks what every command has.
    """
    values: dict[int, bytes] = {}
    position, end = 0, len(data)
    if end > _LONGEST:
        raise Malformed("a command set that is too long")
    while position < end:
        if position + 8 > end:
            raise Malformed("a command set that is cut off")
        group, element, length = _ELEMENT.unpack_from(data, position)
        position += 8
        if group or position + length > end:
            raise Malformed("a command set that does not add up")
        values[element] = data[position : position + length]
        position += length
    kind = _number(values, _FIELD)
    if kind is None:
        raise Malformed("a command set without a command")
    answer = bool(kind & 0x8000)
    number = _number(values, _ANSWERED if answer else _MESSAGE)
    data_set = _number(values, _DATA_SET)
    if number is None or data_set is None:
        raise Malformed("a command set without a number, or that does not say whether data follow")
    return Command(
        kind,
        number,
        _uid(values, _SOP_CLASS) or _uid(values, _REQUESTED_CLASS),
        _uid(values, _SOP_INSTANCE) or _uid(values, _REQUESTED_INSTANCE),
        data_set != NO_DATA,
        _number(values, _ACTION) or _number(values, _EVENT) or 0,
        number if answer else 0,
        _number(values, _STATUS) or 0,
    )


def _number(values: Mapping[int, bytes], element: int) -> int | None:
    value = values.get(element)
    if value is None:
        return None
    if len(value) != 2:
        raise Malformed("a number in a command set that is none")
    return int.from_bytes(value, "little")


def _uid(values: Mapping[int, bytes], element: int) -> str:
    text = values.get(element, b"").rstrip(b"\0 ").decode("ascii", "replace")
    if len(text) > 64 or not _UID_CHARACTERS.issuperset(text):
        raise Malformed("a UID in a command set that is none")
    return text


def response_bytes(request: Command, status: int, *, comment: str = "", has_data: bool = False) -> bytes:
    """Write the answer to a request.

    Args:
        request: The request.
        status: As PS3.7 annex C has it.
        comment: Error Comment, at most 64 characters; "" for none.
        has_data: Whether a data set follows.
    """
    values: dict[int, bytes | int] = {}
    if request.sop_class:
        values[_SOP_CLASS] = request.sop_class.encode()
    values[_FIELD] = request.kind | 0x8000
    values[_ANSWERED] = request.message_id
    values[_DATA_SET] = 0x0001 if has_data else NO_DATA
    values[_STATUS] = status
    if comment:
        values[_COMMENT] = comment.encode("ascii", "replace")[:64]
    if request.sop_instance:
        values[_SOP_INSTANCE] = request.sop_instance.encode()
    if request.kind == N_ACTION and request.action:
        values[_ACTION] = request.action
    return command_bytes(values)


def command_bytes(values: Mapping[int, bytes | int]) -> bytes:
    """Write a command set from its elements (group 0000), with its group length."""
    parts = []
    for element, value in sorted(values.items()):
        content = value.to_bytes(2, "little") if isinstance(value, int) else value
        if len(content) % 2:
            content += b" " if element == _COMMENT else b"\0"
        parts.append(_ELEMENT.pack(0, element, len(content)) + content)
    body = b"".join(parts)
    return _ELEMENT.pack(0, 0, 4) + len(body).to_bytes(4, "little") + body
