"""A first look at an object: whose it is, in which letters it is written."""

from __future__ import annotations

import struct
from dataclasses import dataclass

from isocenter.core.errors import PixelError
from isocenter.data.deidentify.dicom.charset import decoded
from isocenter.data.deidentify.dicom.elements import UNDEFINED, Broken, Elements
from isocenter.data.deidentify.dicom.plan import explicit_plan, implicit_plan
from isocenter.data.deidentify.identity import KnownIdentity
from isocenter.data.deidentify.policy import Policy
from isocenter.data.deidentify.pseudonyms import Pseudonyms
from isocenter.data.images.patient import identifies

__all__ = ["WANTED", "Facts", "identity_of", "skim", "somebodys"]

_NAMES = (0x00100010, 0x00101001, 0x00101005, 0x00101060, 0x00080090, 0x00081048, 0x00081050, 0x00081060, 0x00081070)
_NUMBERS = (0x00100020, 0x00101000, 0x00080050, 0x00101090, 0x00102154, 0x00101040)
_BIRTH = 0x00100030
_STUDY_UID = 0x0020000D
WANTED = frozenset([*_NAMES, *_NUMBERS, _BIRTH, 0x00080005, 0x00080016, 0x00080018, 0x00100021, _STUDY_UID, 0x00280301])
"""Elements on which it hangs whose an object is, and what must not stay of them."""
_LAST = 0x0020000D
# Words that stand where a name should; looking for them would hit what is meant otherwise.
_NOBODY = frozenset(
    [
        "anon",
        "anonymous",
        "anonymized",
        "anonymised",
        "unknown",
        "none",
        "patient",
        "test",
        "phantom",
        "name",
        "removed",
        "deidentified",
        "head",
        "brain",
        "chest",
        "knee",
        "spine",
        "abdomen",
        "pelvis",
        "liver",
        "lung",
        "heart",
        "neck",
    ]
)


@dataclass(frozen=True)
class Facts:
    """Raw values of the first elements, by tag; an absent one is empty."""

    values: dict[int, bytes]

    def raw(self, tag: int) -> bytes:
        """Return the bytes of a value."""
        return self.values.get(tag, b"")

    def text(self, tag: int) -> str:
        """Return the text of a value."""
        return decoded(self.raw(tag), self.raw(0x00080005)).strip("\0 ")

    def patient_key(self, names: Pseudonyms) -> str:
        """Return the patient's pseudonym; an object without Patient ID, or with everybody's, belongs to its study."""
        identifier = self.text(0x00100020)
        if identifies(identifier):
            return names.patient(self.text(0x00100021), identifier)
        return names.patient("study", self.text(_STUDY_UID) or self.text(0x00080018))


def identity_of(facts: Facts) -> KnownIdentity:
    """Return the words of the patient that an object itself says."""
    listed, numbers = somebodys(*map(facts.text, _NAMES)), somebodys(*map(facts.text, _NUMBERS))
    born = facts.text(_BIRTH)
    return KnownIdentity(listed, numbers, (born,) if born else ())


def somebodys(*texts: str) -> tuple[str, ...]:
    r"""Return the values of elements of names or numbers that name somebody.

    Example:
        >>> somebodys("", "Okonkwo^Ada\\HEAD")
        ('Okonkwo^Ada',)
    """
    return tuple(part for text in texts if text for part in text.split("\\") if part.strip(" ^").lower() not in _NOBODY)


def skim(data: bytes, position: int, policy: Policy, *, implicit: bool, big: bool, source: str = "") -> Facts:
    """Read the wanted elements of the groups before the image's own.

    Raises:
        PixelError: The data set is cut off before them.
    """
    elements = Elements(data, big=big)
    plan = implicit_plan(policy) if implicit else explicit_plan(policy, big=big)
    size = 4 if implicit else 6
    u16, u32 = elements.u16.unpack_from, elements.u32.unpack_from
    values: dict[int, bytes] = {}
    end = len(data)
    get = plan.get
    try:
        while position < end:
            entry = get(data[position : position + size])
            if implicit:
                tag = entry[0] if entry is not None else u16(data, position)[0] << 16 | u16(data, position + 2)[0]
                body, length = position + 8, u32(data, position + 4)[0]
            elif entry is not None:
                tag = entry[0]
                if entry[2]:
                    body, length = position + 12, u32(data, position + 8)[0]
                else:
                    body, length = position + 8, u16(data, position + 6)[0]
            else:
                tag = u16(data, position)[0] << 16 | u16(data, position + 2)[0]
                _, _, body, length = elements.at(position, implicit=False)
            if tag > _LAST:
                break
            if length == UNDEFINED:
                position = elements.value_end(elements.at(position, implicit=implicit), end, implicit=implicit)
                continue
            if tag in WANTED:
                values[tag] = data[body : body + length]
            position = body + length
    except Broken as error:
        raise PixelError(f"{error}; nothing of it was kept", source=source) from None
    except struct.error as error:
        raise PixelError("is cut off in its header; copy it again", source=source) from error
    return Facts(values)
