"""A policy made ready for walking: what to do, by the very bytes with which an element begins."""

from __future__ import annotations

import struct
from functools import cache
from typing import NamedTuple

from isocenter.data.deidentify.dicom.profile import CHECK, KEEP, actions
from isocenter.data.deidentify.policy import Policy

__all__ = ["LONG_VRS", "SHORT_VRS", "TEXT_VRS", "Entry", "explicit_plan", "implicit_plan"]

LONG_VRS = frozenset(["OB", "OW", "OF", "OD", "OL", "OV", "SQ", "UC", "UR", "UT", "UN", "SV", "UV"])
SHORT_VRS = frozenset(
    [
        "AE",
        "AS",
        "AT",
        "CS",
        "DA",
        "DS",
        "DT",
        "FL",
        "FD",
        "IS",
        "LO",
        "LT",
        "PN",
        "SH",
        "SL",
        "SS",
        "ST",
        "TM",
        "UI",
        "UL",
        "US",
    ]
)  # PS3.5 table 7.1-2
TEXT_VRS = frozenset(["AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"])
_CHECKED = TEXT_VRS | {"OB", "OW", "UN"}
_PIXELS = (0x7FE00008, 0x7FE00009, 0x7FE00010)


class Entry(NamedTuple):
    """What to do with an element.

    Args:
        tag: Group and element.
        action: Of `dicom.profile`.
        long: Whether its explicit header has 12 bytes.
        vr: Value representation.
        fallback: What to do where the action is not possible.
    """

    tag: int
    action: int
    long: bool
    vr: str
    fallback: int


@cache
def explicit_plan(policy: Policy, *, big: bool = False, check: bool = False) -> dict[bytes, Entry]:
    """Return entries by the six bytes of tag and VR.

    Args:
        policy: The options taken.
        big: Big endian.
        check: Look for known words in everything that is kept.
    """
    pack = struct.Struct(">HH" if big else "<HH").pack
    return {
        pack(tag >> 16, tag & 0xFFFF) + vr.encode(): _entry(tag, vr, action, fallback, check=check)
        for tag, (action, fallback, vrs) in actions(policy).items()
        for vr in vrs
        if tag not in _PIXELS
    }


@cache
def implicit_plan(policy: Policy, *, check: bool = False) -> dict[bytes, Entry]:
    """Return entries by the four bytes of a little-endian tag; the VR is the dictionary's."""
    return {
        struct.pack("<HH", tag >> 16, tag & 0xFFFF): _entry(tag, vrs[0], action, fallback, check=check)
        for tag, (action, fallback, vrs) in actions(policy).items()
        if tag not in _PIXELS
    }


def _entry(tag: int, vr: str, action: int, fallback: int, *, check: bool) -> Entry:
    if check and action == KEEP and vr in _CHECKED:
        action = CHECK
    return Entry(tag, action, vr in LONG_VRS, vr, fallback)
