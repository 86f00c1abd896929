"""The table of PS3.15 E.1-1, and what a policy makes of it: one action for every attribute of the dictionary."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from pydicom._dicom_dict import DicomDictionary

from isocenter.data.deidentify.policy import Policy

__all__ = [
    "AGE",
    "CHARSET",
    "CHECK",
    "CLASS",
    "CODE",
    "DATE",
    "DUMMY",
    "EMPTY",
    "FLAG",
    "KEEP",
    "NAMES",
    "REMOVE",
    "STATED",
    "STATED_TAGS",
    "TEXT",
    "UID",
    "WALK",
    "Row",
    "action_of",
    "actions",
    "profile",
]

KEEP, REMOVE, EMPTY, DUMMY, UID, DATE, TEXT, WALK, AGE, CHECK, STATED, CODE, CHARSET, CLASS, FLAG = range(15)
NAMES = (
    "keep",
    "remove",
    "empty",
    "dummy",
    "new uid",
    "shift",
    "clean",
    "walk",
    "cap age",
    "check",
    "state",
    "dummy code",
    "character set",
    "class",
    "flag",
)

# UIDs that name a class, a coding scheme or an encoding, and not one thing that was made (PS3.6 and PS3.16).
_CLASS_UIDS = re.compile(
    r".*(Class|Classes)UID.*|SOPClasses.*|.*TransferSyntaxUID.*|CodingSchemeUID|ContextUID|MappingResourceUID"
    r"|ContextGroupExtensionCreatorUID|SegmentationTemplateUID|ImplementationClassUID|PertinentSOPClasses.*"
    r"|ReferencedColorPaletteInstanceUID"
)
# Long strings that describe something in free words; names of devices, codes and methods are left alone.
_DESCRIBING = re.compile(r".*(Comments?|Description|Label|Explanation|Text|Title|Notes?|Name)$")
_NOT_DESCRIBING = re.compile(r".*(Manufacturer|Model|Coil|Sequence|Pulse|Nucleus|Scheme|Resource|Algorithm|Font).*")
# Not in the table, and still of a person, a place or an address.
_REMOVED_WORDS = """
PatientBirthDateInAlternativeCalendar PatientDeathDateInAlternativeCalendar BreedRegistrationNumber ComponentWelderIDs
NTPSourceAddress HangingProtocolCreator ContactDisplayName OwnerID BoardingPassID ItineraryID
ItineraryIDAssigningAuthority RouteID RouteIDAssigningAuthority CarrierID StorageMediaFileSetID AssignedLocation
RouteSegmentID RouteSegmentStartLocationID RouteSegmentEndLocationID CodingSchemeResponsibleOrganization
HL7InstanceIdentifier DeviceID SecondaryCaptureDeviceID ErrorComment OffendingElement
CodingSchemeURL PTOLocationDescription EncryptedAttributesSequence
PlacerOrderNumberProcedure FillerOrderNumberProcedure PlacerOrderNumberImagingServiceRequestRetired
FillerOrderNumberImagingServiceRequestRetired HardcopyCreationDeviceID SubstanceAdministrationDeviceID PrintJobID
PrintQueueID
"""
_REMOVED = frozenset(_REMOVED_WORDS.split())
# Coded meanings: words of a terminology, many of them eponyms that look like names of persons.
_CODED = frozenset(
    [
        "CodeValue",
        "CodeMeaning",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "ExtendedCodeValue",
        "ExtendedCodeMeaning",
        "LongCodeValue",
        "URNCodeValue",
        "CodingSchemeName",
        "CodingSchemeRegistry",
        "CodingSchemeExternalID",
        "ImageDisplayFormat",
        "DetectorMode",
        "ExposureControlModeDescription",
        "EXIFVersion",
        "TrackingID",
    ]
)
_FREE_TEXT = frozenset(["ST", "LT", "UT", "UC"])


STATED_TAGS = (0x00100010, 0x00100020, 0x00120062, 0x00120063, 0x00120064, 0x00280303)
"""What every object says of itself afterwards: the pseudonym twice, that it is de-identified, how, and its dates."""


@dataclass(frozen=True)
class Row:
    """One row of the table.

    Args:
        basic: Action of the profile: X, Z, D, U, or several by the attribute's type.
        options: For each option's letter "k" (keep) or "c" (clean).
    """

    basic: str
    options: dict[str, str]


@cache
def profile() -> dict[str, Row]:
    """Return the rows by tag (eight hexadecimal digits, upper case) or pattern.

    Source:
        DICOM PS3.15 table E.1-1; the file says how it was compared.
    """
    text = files("isocenter.data.deidentify.dicom").joinpath("profile.txt").read_text("utf-8")
    rows = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            tag, basic, options = line.split()
            pairs = "" if options == "-" else options
            rows[tag] = Row(basic, dict(zip(pairs[::2], pairs[1::2], strict=True)))
    return rows


def action_of(tag: int, vr: str, keyword: str, policy: Policy) -> tuple[int, int]:
    """Return what happens to an attribute, and what happens to it where that is not possible (a broken date).

    Args:
        tag: Group and element.
        vr: Its value representation in the dictionary.
        keyword: Its keyword in the dictionary.
        policy: The options taken.
    """
    row = profile().get(f"{tag:08X}")
    if row is None:
        return _unlisted(vr, keyword, policy)
    basic = _basic(row.basic, vr)
    options, dated = row.options, "F" in row.options and vr in ("DA", "DT", "TM")
    if dated and policy.retain_dates == "shifted":
        return DATE, basic
    if "F" in options and policy.retain_dates == "full":
        return KEEP, basic
    if "P" in options and policy.retain_patient_characteristics:
        kept = AGE if vr == "AS" else KEEP
        return (kept if options["P"] == "k" else TEXT), basic
    if _retained(options, policy):
        return (WALK if vr == "SQ" else KEEP), basic
    if ("C" in options and policy.clean_structured_content) or ("G" in options and policy.clean_graphics):
        return WALK, basic
    if "T" in options and policy.clean_descriptors and vr not in ("OB", "CS"):
        return (WALK if vr == "SQ" else TEXT), basic
    return basic, basic


def _retained(options: dict[str, str], policy: Policy) -> bool:
    taken = (("D", policy.retain_device), ("I", policy.retain_institution), ("U", policy.retain_uids))
    return any(on and options.get(letter) == "k" for letter, on in taken)


def _basic(stated: str, vr: str) -> int:
    """Return the action of the profile; where the type decides, the one that leaves an object valid under every type.

    A dummy is valid for types 1, 2 and 3, an empty value for 2 and 3. The verifying observer of a verified report is
    required, so its sequence is walked: what is in it has dummies of its own.
    """
    if vr == "SQ":
        by_type = {"X": REMOVE, "Z": EMPTY, "D": WALK, "X/Z": REMOVE, "X/D": REMOVE, "X/Z/D": REMOVE, "X/Z/U*": WALK}
    else:
        by_type = {"X": REMOVE, "Z": EMPTY, "D": DUMMY, "U": UID, "X/Z": EMPTY}
    return by_type.get(stated, DUMMY)


# Sequences with the action D that are more than their parts: content, graphics, codes of persons, flows.
# Burned In Annotation and Recognizable Visual Features: kept, and a person is told where they say YES.
_SAYS_OF_PIXELS = (0x00280301, 0x00280302)
_DUMMIES = frozenset(["LocalNamespaceEntityID", "UniversalEntityID"])
# Its dummy: the same references with other UIDs, for report series require it.
_PERFORMED_STEP = 0x00081111
_WHOLE = {0x0040A730: REMOVE, 0x00700001: REMOVE, 0x00401101: CODE, 0x00340001: REMOVE}


def _unlisted(vr: str, keyword: str, policy: Policy) -> tuple[int, int]:
    if keyword in _DUMMIES:
        return DUMMY, DUMMY
    if keyword in _REMOVED or (vr == "UR" and keyword not in _CODED):
        return REMOVE, REMOVE
    if vr == "UI":
        if _CLASS_UIDS.fullmatch(keyword):
            return CLASS, EMPTY
        return (KEEP if policy.retain_uids else UID), EMPTY
    if vr in ("DA", "DT", "TM"):
        return {"shifted": DATE, "full": KEEP, "none": EMPTY}[policy.retain_dates], EMPTY
    if vr == "SQ":
        return WALK, WALK
    if vr in ("PN", "AE"):
        return EMPTY, EMPTY
    described = vr in ("LO", "SH") and _DESCRIBING.fullmatch(keyword) and not _NOT_DESCRIBING.fullmatch(keyword)
    if (vr in _FREE_TEXT or described) and keyword not in _CODED:
        return TEXT, TEXT
    return KEEP, KEEP


@cache
def actions(policy: Policy) -> dict[int, tuple[int, int, tuple[str, ...]]]:
    """Return for every attribute of the dictionary its action, the one to fall back on, and its VRs."""
    out = {}
    for tag, (vrs, _, _, _, keyword) in DicomDictionary.items():
        if tag >> 16 in (0x0000, 0x0002, 0xFFFE):
            continue
        known = tuple(vrs.replace(" or ", " ").split())
        action, fallback = action_of(tag, known[0], keyword, policy)
        if tag in _WHOLE and action == WALK and not _cleaned(tag, policy):
            action = _WHOLE[tag]
        action = WALK if tag == _PERFORMED_STEP else action
        action = FLAG if tag in _SAYS_OF_PIXELS else action
        action = CHARSET if tag == 0x00080005 else STATED if tag in STATED_TAGS else action
        out[tag] = (action, fallback, known)
    return out


def _cleaned(tag: int, policy: Policy) -> bool:
    if tag == 0x0040A730:
        return policy.clean_structured_content
    return tag == 0x00700001 and policy.clean_graphics
