"""Rules with a name, and what they find in a set of objects; those that hold for every object."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

from pydicom import Dataset
from pydicom.uid import UID

from isocenter.core.errors import DataError
from isocenter.data.images.instance import open_instance
from isocenter.data.images.quiet import quiet

__all__ = [
    "RULES",
    "Kind",
    "Named",
    "Objects",
    "Rule",
    "Verdict",
    "check_objects",
    "every_item",
    "load_objects",
    "rule",
]

Kind = Literal["SR", "SEG", "PR", "KO", "PM", "image", "other"]
State = Literal["pass", "fail", "not applicable"]
_KINDS: Final[dict[str, Kind]] = {
    "1.2.840.10008.5.1.4.1.1.88.22": "SR",
    "1.2.840.10008.5.1.4.1.1.88.33": "SR",
    "1.2.840.10008.5.1.4.1.1.88.34": "SR",
    "1.2.840.10008.5.1.4.1.1.88.59": "KO",
    "1.2.840.10008.5.1.4.1.1.66.4": "SEG",
    "1.2.840.10008.5.1.4.1.1.66.7": "SEG",
    "1.2.840.10008.5.1.4.1.1.11.1": "PR",
    "1.2.840.10008.5.1.4.1.1.11.2": "PR",
    "1.2.840.10008.5.1.4.1.1.30": "PM",
}
_QUALIFICATIONS = ("PRODUCT", "RESEARCH", "SERVICE")
_PATIENT = ("PatientID", "IssuerOfPatientID", "PatientName", "PatientBirthDate", "PatientSex")
_STUDY = ("StudyInstanceUID", "StudyDate", "StudyTime", "StudyID", "AccessionNumber")
_UID = re.compile(r"(0|[1-9]\d*)(\.(0|[1-9]\d*))+")


@dataclass(frozen=True, eq=False)
class Named:
    """An object, under the name of its file, which is all that verdicts say of it."""

    name: str
    dataset: Dataset
    kind: Kind
    path: Path | None = None


@dataclass(frozen=True, eq=False)
class Objects:
    """Objects that belong together: results of algorithms, and the images that they were made from, if these are there.

    Args:
        every: All of them.
    """

    every: tuple[Named, ...]

    def of(self, *kinds: Kind) -> list[Named]:
        """Return the objects of some kinds."""
        return [one for one in self.every if one.kind in kinds]

    @property
    def results(self) -> list[Named]:
        """What algorithms made."""
        return self.of("SR", "SEG", "PR", "KO", "PM")

    @cached_property
    def by_uid(self) -> dict[str, Named]:
        """Objects by SOP Instance UID."""
        return {str(one.dataset.get("SOPInstanceUID") or ""): one for one in self.every}

    def images_of(self, uids: Iterable[str]) -> list[Dataset]:
        """Return the headers of images by UID, as far as they are there."""
        return [self.by_uid[uid].dataset for uid in uids if uid in self.by_uid and self.by_uid[uid].kind == "image"]


@dataclass(frozen=True)
class Rule:
    """A rule.

    Args:
        name: Of it.
        title: What it asks, in one sentence.
        source: Where it comes from.
        profile: Whether the AI Results profile asks it beyond DICOM itself.
        look: Returns faults found in a set of objects; None where the rule has nothing to be applied to.
    """

    name: str
    title: str
    source: str
    profile: bool
    look: Callable[[Objects], list[str] | None] = field(repr=False)


@dataclass(frozen=True)
class Verdict:
    """What a rule found.

    Args:
        name: Of the rule.
        title: What it asks.
        source: Where it comes from.
        state: "pass", "fail" or "not applicable".
        faults: What is wrong where, without a patient's value.
    """

    name: str
    title: str
    source: str
    state: State
    faults: tuple[str, ...] = ()


RULES: Final[dict[str, Rule]] = {}
"""All rules, by name."""
Look = Callable[[Objects], list[str] | None]
LookAtOne = Callable[[Dataset, Objects], Iterator[str] | None]


def rule(
    name: str, title: str, source: str, *, on: tuple[Kind, ...], profile: bool = False
) -> Callable[[LookAtOne], LookAtOne]:
    """Register a rule that is applied to each object of some kinds."""

    def register(look: LookAtOne) -> LookAtOne:
        def every(objects: Objects) -> list[str] | None:
            found: list[str] = []
            applied = False
            for one in objects.of(*on):
                faults = look(one.dataset, objects)
                if faults is not None:
                    applied = True
                    found += [f"{one.name}: {fault}" for fault in faults]
            return found if applied else None

        if name in RULES:
            raise DataError(f"two rules are named {name}")
        RULES[name] = Rule(name, title, source, profile, every)
        return look

    return register


@quiet()
def load_objects(folder: Path) -> Objects:
    """Read the headers of every DICOM file below a folder; other files are passed over.

    Raises:
        DataError: There is no result of an algorithm among them.
    """
    found = []
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                continue
        dataset = open_instance(path, pixels=False)
        kind = _KINDS.get(str(dataset.get("SOPClassUID") or ""))
        name = path.relative_to(folder).as_posix()
        found.append(Named(name, dataset, kind or ("image" if "Rows" in dataset else "other"), path))
    objects = Objects(tuple(found))
    if not objects.results:
        raise DataError(
            "no report, segmentation, presentation state, key object selection or map is here", source=folder
        )
    return objects


@quiet()
def check_objects(objects: Objects | Path) -> list[Verdict]:
    """Apply every rule to a set of objects.

    Args:
        objects: The objects, or a folder of them.

    Returns:
        A verdict for each rule, in the order of their names.

    Raises:
        DataError: A folder holds no result of an algorithm.
    """
    found = load_objects(objects) if isinstance(objects, Path) else objects
    verdicts = []
    for one in sorted(RULES.values(), key=lambda r: r.name):
        faults = one.look(found)
        state: State = "not applicable" if faults is None else "fail" if faults else "pass"
        verdicts.append(Verdict(one.name, one.title, one.source, state, tuple(dict.fromkeys(faults or ()))))
    return verdicts


def every_item(dataset: Dataset) -> Iterator[Dataset]:
    """Yield a data set and every item below it; pixels and per-frame groups are passed over."""
    yield dataset
    for element in dataset:
        if element.VR == "SQ" and element.keyword != "PerFrameFunctionalGroupsSequence":
            for item in element.value or ():
                yield from every_item(item)


_ALL: Final[tuple[Kind, ...]] = ("SR", "SEG", "PR", "KO", "PM")


@rule(
    "common.qualification",
    "Every result says whether it is a product or research",
    "DICOM PS3.3 C.12.1 (Content Qualification, type 3)",
    on=_ALL,
    profile=True,
)
def _qualification(dataset: Dataset, _: Objects) -> Iterator[str]:
    if dataset.get("ContentQualification") not in _QUALIFICATIONS:
        yield "Content Qualification is not PRODUCT, RESEARCH or SERVICE"


@rule(
    "common.equipment",
    "Every result names maker, model and software versions of what made it",
    "DICOM PS3.3 C.7.5.1, C.7.5.2",
    on=_ALL,
    profile=True,
)
def _equipment(dataset: Dataset, _: Objects) -> Iterator[str]:
    for keyword in ("Manufacturer", "ManufacturerModelName", "SoftwareVersions"):
        if not dataset.get(keyword):
            yield f"{keyword} is missing or empty"


@rule(
    "common.device-uid",
    "Every result names the device that made it by a UID",
    "DICOM PS3.3 C.7.5.1 (Device UID)",
    on=_ALL,
    profile=True,
)
def _device(dataset: Dataset, _: Objects) -> Iterator[str]:
    if not _is_uid(str(dataset.get("DeviceUID") or "")):
        yield "Device UID is missing or no UID"


@rule(
    "common.contribution",
    "Contributing equipment has a coded purpose and a maker",
    "DICOM PS3.3 C.12.1 (Contributing Equipment Sequence)",
    on=_ALL,
)
def _contribution(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    items = dataset.get("ContributingEquipmentSequence")
    if not items:
        return None
    return (
        "contributing equipment without purpose or maker"
        for item in items
        if not item.get("PurposeOfReferenceCodeSequence") or not item.get("Manufacturer")
    )


@rule("common.uids", "Identifiers are well-formed UIDs of at most 64 characters", "DICOM PS3.5 9.1", on=_ALL)
def _uids(dataset: Dataset, _: Objects) -> Iterator[str]:
    for item in every_item(dataset):
        for element in item:
            if element.VR == "UI" and element.value:
                many = [element.value] if isinstance(element.value, str) else element.value
                if not all(_is_uid(str(one)) for one in many):
                    yield f"{element.keyword} is no UID"


@rule(
    "common.codes",
    "Every coded entry has a value, a scheme and a meaning",
    "DICOM PS3.3 8.8 (Code Sequence Macro)",
    on=_ALL,
)
def _codes(dataset: Dataset, _: Objects) -> Iterator[str]:
    for item in every_item(dataset):
        if "CodingSchemeDesignator" in item and "CodingSchemeName" not in item and "CodingSchemeUID" not in item:
            value = item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue")
            if not (value and item.CodingSchemeDesignator and item.get("CodeMeaning")):
                yield "a code lacks value, scheme or meaning"


@rule(
    "common.private-schemes",
    "Private coding schemes say who is responsible for them",
    "DICOM PS3.3 C.12.1 (Coding Scheme Identification Sequence)",
    on=_ALL,
)
def _private(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    known = {str(i.get("CodingSchemeDesignator")) for i in dataset.get("CodingSchemeIdentificationSequence") or ()}
    used = {
        str(item.CodingSchemeDesignator)
        for item in every_item(dataset)
        if "CodeValue" in item and str(item.get("CodingSchemeDesignator") or "").startswith("99")
    }
    return (f"the private scheme {scheme} is not identified" for scheme in sorted(used - known)) if used else None


@rule("common.meta", "The file's meta information names the object that is in it", "DICOM PS3.10 7.1", on=_ALL)
def _meta(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    meta = getattr(dataset, "file_meta", None)
    if not meta:
        return None
    pairs = (("MediaStorageSOPClassUID", "SOPClassUID"), ("MediaStorageSOPInstanceUID", "SOPInstanceUID"))
    return (f"{there} differs from {here}" for there, here in pairs if meta.get(there) != dataset.get(here))


@rule("common.character-set", "Text beyond ASCII has a character set", "DICOM PS3.3 C.12.1.1.2", on=_ALL)
def _characters(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    texts = (
        str(element.value)
        for item in every_item(dataset)
        for element in item
        if element.VR in ("LO", "LT", "PN", "SH", "ST", "UC", "UT")
    )
    if all(text.isascii() for text in texts):
        return None
    return iter([] if dataset.get("SpecificCharacterSet") else ["no Specific Character Set"])


def _is_uid(text: str) -> bool:
    return len(text) <= 64 and bool(_UID.fullmatch(text)) and UID(text).is_valid


def _same(objects: Objects, keywords: tuple[str, ...]) -> list[str]:
    """Return the attributes in which results differ from each other, or from their images; never their values."""
    faults = []
    for keyword in keywords:
        values = {str(one.dataset.get(keyword) or "") for one in objects.of(*_ALL, "image")}
        if len(values) > 1:
            faults.append(f"{keyword} is not the same in all objects")
    return faults


def _group(name: str, title: str, source: str, look: Look, *, profile: bool = False) -> None:
    RULES[name] = Rule(name, title, source, profile, look)


_group(
    "set.patient",
    "All objects are of one patient, their images too",
    "DICOM PS3.3 C.7.1.1",
    lambda objects: _same(objects, _PATIENT),
)
_group(
    "set.study",
    "Results are in the study of their images",
    "DICOM PS3.3 C.7.2.1",
    lambda objects: _same(objects, _STUDY),
    profile=True,
)


def _unique(objects: Objects) -> list[str]:
    uids = [str(one.dataset.get("SOPInstanceUID") or "") for one in objects.every]
    return (
        [] if len(set(uids)) == len(uids) and all(uids) else ["two objects have one SOP Instance UID, or one has none"]
    )


def _series(objects: Objects) -> list[str]:
    by_series: dict[str, set[str]] = {}
    for one in objects.every:
        dataset = one.dataset
        key = str(dataset.get("SeriesInstanceUID") or "")
        by_series.setdefault(key, set()).add(f"{dataset.get('Modality')} {dataset.get('Manufacturer')}")
    return ["a series holds objects of two modalities or makers" for found in by_series.values() if len(found) > 1]


_group("set.unique", "Every object has an identifier of its own", "DICOM PS3.5 9", _unique)
_group(
    "set.series", "A series holds objects of one modality, made by one device", "DICOM PS3.3 A.1.2.3, C.7.3.1", _series
)
