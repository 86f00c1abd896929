"""From what `isocenter read` answered to a claim ledger: findings, measures, and what was not examined.

A finding is called present from a calibrated probability of 90 % on, where what the task promises says the same: a set
of classes holds it alone, or its own set does not hold "Absent". It is absent below 10 %, where the set of classes
leaves it out or its own does not hold "Present". It is possible between. Where no set is promised, the probability
alone decides, and the limits say so. That nothing is normal is no sentence.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from isocenter.core.knowledge import FINDINGS, Exam
from isocenter.core.task import is_for_others
from isocenter.safety.claims import Ledger, LedgerClaim, LedgerEvidence, Quantity
from isocenter.verbs.result import ImageEntry, MeasurementEntry, PredictionEntry, ResultDocument, SegmentEntry

__all__ = ["exam_of", "finding_of", "ledgers_of"]

PRESENT, ABSENT = 0.9, 0.1
"""Probabilities from which a finding without a promised set is called present, and below which absent."""
_PREFIX = "Probability of "
_SIDES: Mapping[str, Literal["left", "right", "both"]] = {"7771000": "left", "24028007": "right", "51440002": "both"}
_NAMES = {
    "Volume": "volume", "Area": "area", "Area at the detector plane": "area at the detector", "Long axis": "long axis",
    "Short axis": "short axis", "Long axis at the detector plane": "long axis at the detector",
    "Short axis at the detector plane": "short axis at the detector",
    "Maximum 3D Diameter of a Mesh": "maximum diameter",
}  # fmt: skip
_MODALITIES = frozenset({
    "CR", "CT", "DX", "MG", "MR", "NM", "OP", "OPT", "PT", "RF", "RG", "RTDOSE", "SEG", "US", "XA", "XC",
})  # fmt: skip
"""Modalities that may stand on a page; what a header says instead is no word for it."""
_SIDE_WORDS = ("left", "right")
_TISSUE = "85756007"
"""Code of an outline that says no more than that it is of the body."""
_LESIONS = frozenset({"lesion", "mass", "tumor", "tumour", "nodule", "neoplasm", "sarcoma", "metastasis"})
_UNITS = {"mL": "mL", "mm": "mm", "mm2": "mm2", "cm2": "cm2"}
_CLASSES: Mapping[Exam, Mapping[str, str]] = {
    "breast ultrasound": {
        "benign": "benign breast lesion", "malignant": "malignant breast lesion", "normal": "normal breast"
    },
    "abdomen CT": {"normal": "normal adrenal gland", "mass": "adrenal mass", "hyperplasia": "adrenal hyperplasia"},
    "chest radiograph": {"normal": "normal chest", "effusion": "pleural effusion"},
}  # fmt: skip
_EXAMS: tuple[tuple[frozenset[str], frozenset[str], Exam], ...] = (
    (frozenset({"CR", "DX", "RG"}), frozenset({"CHEST", "THORAX", "LUNG", "LUNGS"}), "chest radiograph"),
    (frozenset({"US"}), frozenset({"BREAST"}), "breast ultrasound"),
    (frozenset({"OP", "OPT", "XC"}), frozenset({"EYE", "RETINA", "FUNDUS"}), "fundus photograph"),
    (frozenset({"MR"}), frozenset({"BRAIN", "HEAD", "HIPPOCAMPUS"}), "brain MR"),
    (frozenset({"CT", "SEG"}), frozenset({"ABDOMEN", "ADRENAL", "ADRENALGLAND"}), "abdomen CT"),
)


def exam_of(image: ImageEntry) -> Exam:
    """Return which kind of examination an image is of; "other" where the table of findings has none."""
    for modalities, parts, exam in _EXAMS:
        if image.modality in modalities and image.body_part.replace(" ", "") in parts:
            return exam
    return "other"


@dataclass
class _Gathered:
    """What is gathered for one kind of examination."""

    exam: Exam
    of: str = ""
    claims: list[LedgerClaim] = field(default_factory=list)
    evidence: list[LedgerEvidence] = field(default_factory=list)
    limits: dict[str, None] = field(default_factory=dict)
    looked: set[str] = field(default_factory=set)
    elsewhere: dict[str, None] = field(default_factory=dict)


def ledgers_of(result: ResultDocument) -> tuple[Ledger, ...]:
    """Return a ledger for each kind of examination in a result, in order of its images.

    Images of no kind that the table of findings knows have one each where they were answered: a CT and a PET measure
    one lesion differently, and it must be known which of them a sentence is about.
    """
    answered = {p.image for p in result.predictions if p.abstained is None}
    exams = {image.index: exam_of(image) for image in result.images}
    alone = {index for index, exam in exams.items() if exam == "other" and index in answered}
    gathered: dict[tuple[Exam, str], _Gathered] = {}
    place = {}
    for image in result.images:
        of = ""
        if image.index in alone:
            twin = sum(o.modality == image.modality for o in result.images if o.index in alone) > 1
            named = image.modality if image.modality in _MODALITIES else "image"
            of = f"{named} (image {image.index})" if twin or named == "image" else named
        place[image.index] = (exams[image.index], of)
        gathered.setdefault(place[image.index], _Gathered(exams[image.index], of))
    for number, prediction in enumerate(result.predictions):
        _take(gathered[place[prediction.image]], prediction, number)
    return tuple(_closed(one) for one in gathered.values())


def _take(into: _Gathered, prediction: PredictionEntry, number: int) -> None:
    title = prediction.title or prediction.task
    if prediction.abstained is not None and is_for_others(prediction.abstained):
        into.elsewhere[title] = None
        return
    into.looked.add(title)
    if prediction.abstained is not None:
        into.limits[f"{title}: no answer, because {prediction.abstained.rstrip('.')}."] = None
        return
    for note in prediction.notes:
        into.limits[note] = None
    said: dict[tuple[str, object, object], int] = {}
    for segment in prediction.segments:
        about = _site_of(segment)
        if about is None:
            into.limits[f"{title}: the outline {segment.label!r} has no name in the table of findings."] = None
            continue
        key = (about, _side_of(segment)[0], _place_of(segment))
        said[key] = said.get(key, 0) + 1
    for segment in prediction.segments:
        about = _site_of(segment)
        key = (about or "", _side_of(segment)[0], _place_of(segment))
        if about is None:
            continue
        if said[key] > 1:
            into.limits[
                f"{title}: {said[key]} outlines of the same part can't be told apart in a sentence; they are in the "
                "table of measurements."
            ] = None
            continue
        _measures(into, prediction, segment, about, number)
    _findings(into, prediction, number)


def _site_of(segment: SegmentEntry) -> str | None:
    """Return the part of the body that an outline is of: by its code, or by the name that whoever pointed gave it."""
    coded = next((s.name for s in FINDINGS.sites if s.code.value == segment.type.value), None)
    if coded is not None or segment.type.value != _TISSUE:
        return coded
    return _named(segment.label)


def _named(label: str) -> str | None:
    """Return the part of the body that a label names, and nothing else beside a side."""
    words = [word for word in label.lower().split() if word not in _SIDE_WORDS]
    if words and set(words) <= _LESIONS:
        return "lesion"
    # Its own name alone: a synonym may be wider than the site ("lymph node" is one of the thorax in the table).
    return next((s.name for s in FINDINGS.sites if " ".join(words) == s.name), None)


def _side_of(segment: SegmentEntry) -> tuple[Literal["left", "right", "both"] | None, bool]:
    """Return the side of an outline, and whether its code and its name contradict each other."""
    coded = None if segment.laterality is None else _SIDES.get(segment.laterality.value)
    said = [word for word in segment.label.lower().split() if word in _SIDE_WORDS]
    if not said or _named(segment.label) is None:  # other text of a header decides nothing
        return coded, False
    named: Literal["left", "right"] = "left" if said[0] == "left" else "right"
    return named, len(set(said)) > 1 or (coded is not None and coded != named)


def _place_of(segment: SegmentEntry) -> Literal["anterior", "posterior"] | None:
    words = segment.label.lower()
    return "anterior" if "anterior" in words else "posterior" if "posterior" in words else None


def _measures(
    into: _Gathered, prediction: PredictionEntry, segment: SegmentEntry, about: str, number: int
) -> None:  # fmt: skip
    quantities = [q for m in prediction.measurements if m.segment == segment.number for q in _quantity(m, prediction)]
    if not quantities:
        into.limits[f"{segment.label}: outlined; no size is told, as the spacing of the image is not known."] = None
        return
    side, contradicted = _side_of(segment)
    if contradicted:
        into.limits[f"{segment.label}: outlined; nothing is said of it, as its name and its code are of two sides."] = (
            None
        )
        return
    shown = ", ".join(f"{q.name} {q.value:g} {q.unit}" for q in quantities)
    evidence = _evidence(
        into,
        prediction,
        "segment",
        f"outline {segment.label!r}{into.of and ' on ' + into.of}: {shown}",
        number,
        segment.number,
    )
    into.claims.append(
        LedgerClaim(
            f"c{len(into.claims) + 1}", about, (evidence,), side=side, quantities=tuple(quantities),
            place=_place_of(segment),
        )
    )  # fmt: skip


def _quantity(measurement: MeasurementEntry, prediction: PredictionEntry) -> Iterator[Quantity]:
    name, unit = _NAMES.get(measurement.name.meaning), _UNITS.get(measurement.unit.value)
    if name is None or unit is None or measurement.derivation is not None:
        return
    value, scale = measurement.value, 1.0
    if unit == "mm2" and value >= 1000:  # an area of an organ is read in cm²
        unit, scale = "cm2", 0.01
    low = high = level = None
    for further in prediction.further:
        if further.kind == "interval" and further.segment == measurement.segment and further.level is not None:
            same = further.unit is not None and further.unit.value == measurement.unit.value
            if name == "volume" and same and further.low is not None and further.high is not None:
                low, high, level = further.low, further.high, 100 * further.level
    yield Quantity(name, value * scale, unit, low, high, level)


def _findings(into: _Gathered, prediction: PredictionEntry, number: int) -> None:
    chances = [
        (m.name.meaning.removeprefix(_PREFIX), m.value)
        for m in prediction.measurements
        if m.segment is None and m.name.meaning.startswith(_PREFIX)
    ]
    if not chances:
        return
    sure = prediction.uncertainty
    members = None
    if sure is not None and sure.kind == "set" and sure.members:
        members = {code.meaning for code in sure.members}
    own = {s.about.meaning: s for s in prediction.further if s.kind == "set" and s.about is not None}
    lone = [name for name, _ in chances if members is None and name not in own]
    if lone:
        which = "" if len(lone) == len(chances) else f" for {', '.join(lone)}"
        into.limits[
            f"{prediction.title or prediction.task}: no set is promised{which}; present stands for a probability of "
            f"{PRESENT:.0%} or more, absent for less than {ABSENT:.0%}."
        ] = None
    taken = {c.about for c in into.claims}
    for name, chance in chances:
        about = finding_of(name, into.exam)
        if about is None or about in taken:
            into.limits[f"{prediction.title or prediction.task}: {name!r} can't be put into a sentence."] = None
            continue
        status, text = _status(name, chance, members), f"{_PREFIX.lower()}{name} {chance:.1%}"
        if members is not None:
            text += _in_words(members, None if sure is None else sure.level)
        elif name in own:
            states = {code.meaning for code in own[name].members}
            status = _status(name, chance, {name if state == "Present" else f"no {name}" for state in states})
            text += _in_words(states or {"neither"}, own[name].level)
        concept = FINDINGS.called(about)
        if status == "absent" and concept is not None and concept.normal:
            continue  # the findings say it
        evidence = _evidence(into, prediction, "probability", text + _place(prediction, name), number, None)
        into.evidence[-1] = replace(into.evidence[-1], picture=_picture(prediction, name))
        into.claims.append(
            LedgerClaim(
                f"c{len(into.claims) + 1}", about, (evidence,), status,
                quantities=(Quantity("probability", 100 * chance, "%"),),
            )
        )  # fmt: skip


def _place(prediction: PredictionEntry, name: str) -> str:
    """Return where the networks looked, where the result says so."""
    found = [e.text for e in prediction.evidence if e.kind == "region" and e.about == name]
    return f"; {found[0][:1].lower()}{found[0][1:].rstrip('.')}" if found else ""


def _picture(prediction: PredictionEntry, name: str) -> str:
    return next((e.file for e in prediction.evidence if e.kind == "map" and e.about == name), "")


def _in_words(members: set[str], level: float | None) -> str:
    promised = "" if level is None else f" of {level:.0%}"
    return f"; set{promised}: {', '.join(sorted(members))}"


def _status(name: str, chance: float, members: set[str] | None) -> Literal["present", "absent", "uncertain"]:
    """Return what probability and promised set together allow to say.

    A set promises how often the truth is in it, not how often it is right: so the probability must say the same.
    """
    if chance >= PRESENT and (members is None or members == {name}):
        return "present"
    return "absent" if chance < ABSENT and (members is None or name not in members) else "uncertain"


def finding_of(name: str, exam: Exam) -> str | None:
    """Return the finding of the table that a task's class or finding is; None where there is none."""
    alias = _CLASSES.get(exam, {}).get(name.lower())
    found = FINDINGS.called(alias or name)
    return found.name if found is not None and found.exam == exam else None


def _evidence(
    into: _Gathered,
    prediction: PredictionEntry,
    kind: Literal["segment", "probability"],
    text: str,
    number: int,
    segment: int | None,
) -> str:
    name = f"e{len(into.evidence) + 1}"
    model = "" if prediction.model is None else f"{prediction.model.name} version {prediction.model.version}"
    into.evidence.append(
        LedgerEvidence(
            name, kind, f"{text} ({prediction.title or prediction.task}; {model})", prediction.task,
            prediction.inputs[0] if prediction.inputs else f"answer {number}", segment,
        )
    )  # fmt: skip
    return name


def _closed(one: _Gathered) -> Ledger:
    """Return the ledger; where present findings contradict each other, all of them are called possible."""
    there = [c.about for c in one.claims if c.about in FINDINGS and c.status == "present"]
    clash = {name for pair in FINDINGS.conflicts(there) for name in pair}
    claims: Sequence[LedgerClaim] = one.claims
    if clash:
        one.limits["Tasks contradict each other: findings that exclude each other are called possible."] = None
        claims = [
            _doubted(c) if c.about in FINDINGS and c.status == "present" and _touches(c, clash) else c for c in claims
        ]
    others = [title for title in one.elsewhere if title not in one.looked]
    if others:
        one.limits[f"No answer, as they are for images of another kind: {'; '.join(others)}."] = None
    return Ledger(one.exam, tuple(claims), tuple(one.evidence), tuple(one.limits), one.of)


def _touches(claim: LedgerClaim, clash: set[str]) -> bool:
    return bool({claim.about, *FINDINGS.implied(claim.about)} & clash)


def _doubted(claim: LedgerClaim) -> LedgerClaim:
    return LedgerClaim(**{**vars(claim), "status": "uncertain"})
