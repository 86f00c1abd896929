"""A DICOM Structured Report of any template, from any maker, to measurements, sections and a tree.

The tree is kept whole, so nothing is lost where a template is not known. On top of it, TID 1500 measurement groups (and
the many that look like them) become `MeasurementGroup`s with UCUM values, and text becomes the sections of a `Report`.
Persons' names are not kept: who observed is an identity, and identities stay in the file.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pydicom
from pydicom import Dataset

from isocenter.core.errors import DataError, UnitsError
from isocenter.core.report import Report
from isocenter.core.units import Code, Measurement
from isocenter.data.images.instance import open_instance

__all__ = ["MeasurementGroup", "SrDocument", "SrItem", "read_sr"]

_SR_CLASSES = "1.2.840.10008.5.1.4.1.1.88."
_DEEPEST = 64
_GROUP = "125007"
_IMAGING_MEASUREMENTS = "126010"
_SEGMENT_NAMES = ("121191", "121214")  # Referenced Segment, Referenced Segmentation Frame
_SITES = ("363698007", "G-C0E3")
_LATERALITIES = ("272741003", "G-C171")
_CATEGORIES = ("276214006", "123037004", "G-C0E4")
_DERIVATION = "121401"
_QUALITATIVE = "C0034375"
_LANGUAGE = "121049"
_TRACKING_ID, _TRACKING_UID, _FINDING = "112039", "112040", "121071"
_CONTEXT = ("HAS OBS CONTEXT", "HAS ACQ CONTEXT", "HAS CONCEPT MOD")


@dataclass(frozen=True)
class SrItem:
    """One content item.

    Args:
        value_type: "CONTAINER", "TEXT", "NUM", "CODE", "IMAGE", "UIDREF", "SCOORD", ...
        relationship: To its parent, e.g. "CONTAINS"; "" for the root.
        name: Coded concept name; None where it has none or one that a `Code` cannot hold.
        label: The concept name's meaning in words, "" where it has none.
        value: Text, number or code, as the value type has it; None for containers and references, and for persons.
        unit: Unit of a number.
        instance: SOP Instance UID of an image or composite referred to, "" otherwise.
        segments: Segment numbers referred to.
        frames: Frame numbers referred to.
        points: Coordinates of SCOORD and SCOORD3D, one tuple of 2 (column, row) or 3 (LPS mm) numbers per point.
        children: Items below.
    """

    value_type: str
    relationship: str
    name: Code | None
    label: str
    value: str | float | Code | None = None
    unit: Code | None = None
    instance: str = ""
    segments: tuple[int, ...] = ()
    frames: tuple[int, ...] = ()
    points: tuple[tuple[float, ...], ...] = ()
    children: tuple[SrItem, ...] = ()

    def is_named(self, *values: str) -> bool:
        """Tell whether the concept name's code value is one of these."""
        return self.name is not None and self.name.value in values

    def walk(self) -> Iterator[SrItem]:
        """Yield this item and all below, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()


@dataclass(frozen=True)
class MeasurementGroup:
    """One measurement group (TID 1410, 1411, 1501).

    Args:
        tracking_id: Text that follows the same thing over time, "" for none.
        tracking_uid: UID of the same.
        finding: What was measured.
        category: Its category.
        site: Where.
        laterality: Which side.
        seg_uid: SOP Instance UID of the SEG that holds the region, "" for none.
        segment: Segment number in it, None for none.
        image_uids: Other images referred to.
        measurements: Values with UCUM units.
        evaluations: Coded name and coded value.
    """

    tracking_id: str
    tracking_uid: str
    finding: Code | None
    category: Code | None
    site: Code | None
    laterality: Code | None
    seg_uid: str
    segment: int | None
    image_uids: tuple[str, ...]
    measurements: tuple[Measurement, ...]
    evaluations: tuple[tuple[Code, Code], ...]


@dataclass(frozen=True)
class SrDocument:
    """A report as read.

    Args:
        sop_class_uid: Kind of SR.
        sop_instance_uid: Its UID.
        template: Template identifier of the root, "" where not stated.
        title: Coded document title.
        groups: Measurement groups.
        loose: Measurements outside of any group.
        report: Text by section, and the language.
        root: The whole tree.
        notes: What could not be held in these types.
    """

    sop_class_uid: str
    sop_instance_uid: str
    template: str
    title: Code | None
    groups: tuple[MeasurementGroup, ...]
    loose: tuple[Measurement, ...]
    report: Report
    root: SrItem
    notes: tuple[str, ...] = ()

    @property
    def measurements(self) -> tuple[Measurement, ...]:
        """All measurements, grouped ones first."""
        return (*(m for g in self.groups for m in g.measurements), *self.loose)

    @property
    def texts(self) -> tuple[str, ...]:
        """All text values, in order."""
        return tuple(i.value for i in self.root.walk() if i.value_type == "TEXT" and isinstance(i.value, str))


def read_sr(file: Path | Dataset) -> SrDocument:
    """Read a Structured Report.

    Args:
        file: Path or dataset; any SR SOP Class and template.

    Raises:
        DataError: Not readable, not a Structured Report, or without a content tree.
    """
    dataset, name = (file, "SR") if isinstance(file, Dataset) else (open_instance(file), file.name)
    kind = str(dataset.get("SOPClassUID") or "")
    if not kind.startswith(_SR_CLASSES):
        raise DataError("not a Structured Report; pass a file whose modality is SR", source=name)
    if "ContentSequence" not in dataset and "ConceptNameCodeSequence" not in dataset:
        raise DataError("the report has no content tree; it is damaged", source=name)
    notes: list[str] = []
    root = _item(dataset, notes, 0, root=True)
    templates = dataset.get("ContentTemplateSequence") or [Dataset()]
    groups = [_group(i, notes) for i in root.walk() if i.value_type == "CONTAINER" and _is_group(i)]
    loose = [] if _is_group(root) else _measurements(root, None, notes)
    return SrDocument(
        kind,
        str(dataset.get("SOPInstanceUID") or ""),
        str(templates[0].get("TemplateIdentifier") or ""),
        root.name,
        tuple(groups),
        tuple(loose),
        Report(sections=_sections(root), language=_language(root)),
        root,
        tuple(dict.fromkeys(notes)),
    )


def _item(dataset: Dataset, notes: list[str], depth: int, *, root: bool = False) -> SrItem:
    kind = str(dataset.get("ValueType") or ("CONTAINER" if root else ""))
    name, label = _code(dataset.get("ConceptNameCodeSequence"), notes)
    value, unit = _value(dataset, kind, notes)
    references = dataset.get("ReferencedSOPSequence") or [Dataset()]
    children: tuple[SrItem, ...] = ()
    if depth < _DEEPEST:
        children = tuple(_item(child, notes, depth + 1) for child in dataset.get("ContentSequence") or ())
    elif dataset.get("ContentSequence"):
        notes.append(f"content deeper than {_DEEPEST} levels was left out")
    return SrItem(
        kind,
        "" if root else str(dataset.get("RelationshipType") or ""),
        name,
        label,
        value,
        unit,
        str(references[0].get("ReferencedSOPInstanceUID") or ""),
        _numbers(references[0].get("ReferencedSegmentNumber")),
        _numbers(references[0].get("ReferencedFrameNumber")),
        _points(dataset, kind),
        children,
    )


_PLAIN = {
    "TEXT": "TextValue",
    "DATE": "Date",
    "TIME": "Time",
    "DATETIME": "DateTime",
    "UIDREF": "UID",
}


def _value(dataset: Dataset, kind: str, notes: list[str]) -> tuple[str | float | Code | None, Code | None]:
    if kind in _PLAIN:
        return str(dataset.get(_PLAIN[kind]) or ""), None
    if kind == "CODE":
        code, label = _code(dataset.get("ConceptCodeSequence"), notes)
        return code if code is not None else label, None
    if kind == "NUM":
        measured = (dataset.get("MeasuredValueSequence") or [Dataset()])[0]
        number = measured.get("FloatingPointValue")
        if number is None:
            number = measured.get("NumericValue")
        if isinstance(number, pydicom.multival.MultiValue):
            number = number[0] if number else None
        unit, _ = _code(measured.get("MeasurementUnitsCodeSequence"), notes)
        return (None if number in (None, "") else float(number)), unit
    return None, None


def _code(items: object, notes: list[str]) -> tuple[Code | None, str]:
    """Return a code and its meaning in words; the code is None where it is absent or does not fit."""
    item = items[0] if isinstance(items, (list, pydicom.Sequence)) and len(items) else Dataset()
    meaning = str(item.get("CodeMeaning") or "").strip()
    value = str(item.get("CodeValue") or item.get("LongCodeValue") or item.get("URNCodeValue") or "").strip()
    scheme = str(item.get("CodingSchemeDesignator") or ("URN" if "URNCodeValue" in item else "")).strip()
    if not value or not scheme:
        return None, meaning
    try:
        return Code(value, scheme, (meaning or value)[:64]), meaning or value
    except UnitsError:
        notes.append("a code longer than 16 characters is kept as words only")
        return None, meaning or value


def _numbers(value: object) -> tuple[int, ...]:
    if value in (None, ""):
        return ()
    return tuple(int(v) for v in value) if isinstance(value, pydicom.multival.MultiValue) else (int(str(value)),)


def _points(dataset: Dataset, kind: str) -> tuple[tuple[float, ...], ...]:
    if kind not in ("SCOORD", "SCOORD3D"):
        return ()
    data = dataset.get("GraphicData")
    values = [] if data is None else [float(v) for v in data]
    size = 2 if kind == "SCOORD" else 3
    return tuple(tuple(values[i : i + size]) for i in range(0, len(values) - size + 1, size))


def _is_group(item: SrItem) -> bool:
    """A measurement group by name; older makers name it otherwise but track something and hold values."""
    if item.is_named(_GROUP):
        return True
    tracked = any(c.is_named(_TRACKING_ID, _TRACKING_UID) for c in item.children)
    return tracked and not item.is_named(_IMAGING_MEASUREMENTS) and any(c.value_type == "NUM" for c in item.children)


def _group(item: SrItem, notes: list[str]) -> MeasurementGroup:
    regions = [i for i in item.walk() if i.value_type == "IMAGE" and i.is_named(*_SEGMENT_NAMES)]
    images = [i for i in item.walk() if i.value_type == "IMAGE" and i not in regions]
    segment = regions[0].segments[0] if regions and regions[0].segments else None
    sites = [c for c in item.children if c.is_named(*_SITES)]
    sides = [c for site in sites for c in site.children if c.is_named(*_LATERALITIES)]
    special = (*_SITES, *_CATEGORIES, _FINDING)
    return MeasurementGroup(
        tracking_id=_text_of(item, _TRACKING_ID),
        tracking_uid=_text_of(item, _TRACKING_UID),
        finding=_code_of(item.children, _FINDING),
        category=_code_of(item.children, *_CATEGORIES),
        site=_code_of(sites, *_SITES),
        laterality=_code_of(sides, *_LATERALITIES),
        seg_uid=regions[0].instance if regions else "",
        segment=segment,
        image_uids=tuple(dict.fromkeys(i.instance for i in images if i.instance)),
        measurements=tuple(_measurements(item, segment, notes)),
        evaluations=tuple(
            (c.name, c.value)
            for c in item.children
            if c.value_type == "CODE"
            and c.relationship == "CONTAINS"
            and c.name is not None
            and isinstance(c.value, Code)
            and not c.is_named(*special)
        ),
    )


def _measurements(item: SrItem, segment: int | None, notes: list[str]) -> list[Measurement]:
    """Collect the values below an item; not those of a group within it, of a value's own properties, or of context."""
    out = []
    for child in item.children:
        if child.relationship in _CONTEXT or (child.value_type == "CONTAINER" and _is_group(child)):
            continue
        if child.value_type == "NUM":
            measurement = _measurement(child, segment, notes)
            out.extend([] if measurement is None else [measurement])
        else:
            out.extend(_measurements(child, segment, notes))
    return out


def _code_of(items: tuple[SrItem, ...] | list[SrItem], *names: str) -> Code | None:
    return next((c.value for c in items if c.is_named(*names) and isinstance(c.value, Code)), None)


def _text_of(item: SrItem, name: str) -> str:
    return next((c.value for c in item.children if c.is_named(name) and isinstance(c.value, str)), "")


def _measurement(item: SrItem, segment: int | None, notes: list[str]) -> Measurement | None:
    if item.name is None or not isinstance(item.value, float) or item.unit is None:
        notes.append("a value without number, name or unit is kept in the tree only")
        return None
    try:
        return Measurement(item.name, item.value, item.unit, segment, _code_of(item.children, _DERIVATION))
    except UnitsError:
        notes.append("a value that is not finite, or whose unit is not of UCUM, is kept in the tree only")
        return None


def _language(root: SrItem) -> str:
    code = _code_of(root.children, _LANGUAGE)
    return code.value if code is not None else "en"


def _sections(root: SrItem) -> dict[str, str]:
    """Text by the name of its container; text right under the root or "Qualitative Evaluations" by its own name."""
    lines: dict[str, list[str]] = {}
    stack = [] if _is_group(root) else [(root, child) for child in reversed(root.children)]
    while stack:
        parent, item = stack.pop()
        if item.value_type == "TEXT" and item.relationship not in _CONTEXT and isinstance(item.value, str):
            own = parent is root or parent.is_named(_QUALITATIVE)
            name = (item if own else parent).label or "text"
            lines.setdefault(name.lower(), []).append(item.value)
        if not (item.value_type == "CONTAINER" and _is_group(item)):
            owner = item if item.value_type == "CONTAINER" else parent
            stack.extend((owner, child) for child in reversed(item.children))
    return {name: "\n".join(texts) for name, texts in lines.items()}
