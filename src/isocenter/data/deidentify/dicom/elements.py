"""Elements of a DICOM data set as places in its bytes: tag, value representation, where its value begins and ends."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from isocenter.core.errors import PixelError
from isocenter.data.deidentify.dicom.plan import LONG_VRS, SHORT_VRS

__all__ = ["ITEM", "ITEM_END", "SEQUENCE_END", "UNDEFINED", "Broken", "Elements", "Place", "adding_up"]

UNDEFINED = 0xFFFFFFFF
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
CUT_OFF = "is cut off, or an element in it is longer than what it is part of"


class Broken(Exception):
    """Something does not add up; the reason is for the message."""


@contextmanager
def adding_up(source: str) -> Iterator[None]:
    """Turn what does not add up into one error.

    Args:
        source: Name of the file for the message.

    Raises:
        PixelError: Something in the block did not add up; never with a value of it.
    """
    try:
        yield
    except (struct.error, IndexError) as error:
        raise PixelError("is cut off inside an element; nothing of it was kept", source=source) from error
    except Broken as error:
        raise PixelError(f"{error}; nothing of it was kept", source=source) from None


class Place(NamedTuple):
    """Where one element is.

    Args:
        tag: Group and element.
        vr: As written; "" in implicit VR and for items.
        body: Where its value begins.
        length: Of its value; `UNDEFINED`.
    """

    tag: int
    vr: str
    body: int
    length: int


class Elements:
    """Reads headers of elements from bytes.

    Args:
        data: The bytes.
        big: Big endian.
    """

    def __init__(self, data: bytes, *, big: bool = False) -> None:
        self.data = data
        order = ">" if big else "<"
        self.u16 = struct.Struct(order + "H")
        self.u32 = struct.Struct(order + "I")
        self.pair = struct.Struct(order + "HH")

    def at(self, position: int, *, implicit: bool) -> Place:
        """Return the element at a position.

        Raises:
            Broken: Its value representation is none.
            struct.error: The bytes end inside its header.
        """
        data = self.data
        group, element = self.pair.unpack_from(data, position)
        tag = group << 16 | element
        if implicit or group == 0xFFFE:
            return Place(tag, "", position + 8, self.u32.unpack_from(data, position + 4)[0])
        vr = data[position + 4 : position + 6].decode("latin-1")
        if vr in SHORT_VRS:
            return Place(tag, vr, position + 8, self.u16.unpack_from(data, position + 6)[0])
        if vr in LONG_VRS:
            return Place(tag, vr, position + 12, self.u32.unpack_from(data, position + 8)[0])
        raise Broken("has an element whose value representation is none (or a length before it is wrong)")

    def value_end(self, place: Place, end: int, *, implicit: bool) -> int:
        """Return where a value ends, also one of undefined length.

        Raises:
            Broken: Beyond the end of what it is part of, or without an end of its own.
        """
        if place.length != UNDEFINED:
            stop = place.body + place.length
            if stop > end:
                raise Broken(CUT_OFF)
            return stop
        return self._sequence_end(place, end, implicit=implicit)

    def _sequence_end(self, place: Place, end: int, *, implicit: bool) -> int:
        """Walk over items until the end of the sequence; `stack` holds how each open sequence is written."""
        position = place.body
        # For each open level: whether its items' elements are implicit, and whether an item is open at the moment.
        stack = [(implicit or place.vr == "UN", False)]
        fragments = place.vr in ("OB", "OW")
        while stack:
            inner_implicit, inside = stack[-1]
            if position >= end:
                raise Broken("is cut off inside a value of undefined length")
            found = self.at(position, implicit=inner_implicit)
            if inside and found.tag == ITEM_END:
                stack[-1] = (inner_implicit, False)
                position = found.body
            elif inside:
                if found.length == UNDEFINED:
                    stack.append((inner_implicit or found.vr == "UN", False))
                    position = found.body
                else:
                    position = found.body + found.length
            elif found.tag == SEQUENCE_END:
                stack.pop()
                position = found.body
            elif found.tag != ITEM or (fragments and found.length == UNDEFINED):
                raise Broken("has a value of undefined length that is not made of items")
            elif found.length == UNDEFINED:
                stack[-1] = (inner_implicit, True)
                position = found.body
            else:
                position = found.body + found.length
        if position > end:
            raise Broken(CUT_OFF)
        return position

    def in_order(self, position: int, *, implicit: bool) -> bytes:
        """Return the elements of the whole data set in ascending order; of one that is there twice, the last."""
        places: dict[int, tuple[int, int]] = {}
        end = len(self.data)
        while position < end:
            place = self.at(position, implicit=implicit)
            stop = self.value_end(place, end, implicit=implicit)
            places[place.tag] = (position, stop)
            position = stop
        return b"".join(self.data[start:stop] for _, (start, stop) in sorted(places.items()))
