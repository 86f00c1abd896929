"""Private elements that may be kept: numbers of the acquisition that have no standard attribute in older objects.

Each is listed in PS3.15 table E.3.10-1. Ours is the part of that list which SUV, diffusion and CT geometry need; an
element is kept only under its creator and with its own value representation.
"""

from __future__ import annotations

__all__ = ["SAFE_PRIVATE", "safe_elements"]

_TABLE = """
Philips PET Private Group | 7053 | 00:DS 09:DS
Philips MR Imaging DD 001 | 2005 | 0D:FL 0E:FL
Philips Imaging DD 001 | 2001 | 03:FL 04:CS
SIEMENS MR HEADER | 0019 | 0C:IS 0D:CS 0E:FD 27:FD
ELSCINT1 | 00E1 | 21:DS
ELSCINT1 | 01E1 | 50:DS
ELSCINT1 | 01F1 | 01:CS 07:DS 26:DS 27:DS
GEMS_ACQU_01 | 0019 | 23:DS 24:DS 27:DS 9E:LO
GEMS_SERS_01 | 0025 | 07:SL
GEMS_PARM_01 | 0043 | 27:SH 39:IS 6F:DS
GEMS_HELIOS_01 | 0045 | 01:SS 02:FL
"""


def _read() -> dict[tuple[str, int], dict[int, str]]:
    out: dict[tuple[str, int], dict[int, str]] = {}
    for line in _TABLE.strip().splitlines():
        creator, group, elements = (part.strip() for part in line.split("|"))
        pairs = (pair.split(":") for pair in elements.split())
        out[creator, int(group, 16)] = {int(element, 16): vr for element, vr in pairs}
    return out


SAFE_PRIVATE = _read()
"""By creator and group: the last byte of the element and its value representation."""


def safe_elements(creator: str, group: int) -> dict[int, str]:
    """Return what may be kept of a private block.

    Example:
        >>> safe_elements("Philips PET Private Group", 0x7053)
        {0: 'DS', 9: 'DS'}
    """
    return SAFE_PRIVATE.get((creator, group), {})
