"""Who an HL7 message is about: PID, and the words of NK1, PV1 and ORC that name persons."""

from __future__ import annotations

from collections.abc import Iterable

from isocenter.data.records.hl7.message import Segment
from isocenter.data.records.moments import hl7_moment
from isocenter.data.records.people import as_sex, person_name, words_of
from isocenter.data.records.rows import RawPatient

__all__ = ["clinician_names", "patient_of"]

_OWN = ("MR", "PI", "PT", "MRN", "")
"""Types of identifiers (HL7 table 0203) that number patients of a hospital, and the untyped."""
_CLINICIANS = {"PV1": (7, 8, 9, 17), "ORC": (10, 11, 12, 19), "OBR": (10, 16, 28), "OBX": (16, 25)}
_INTERPRETERS = (32, 33, 34, 35)


def patient_of(pid: Segment, others: Iterable[Segment]) -> tuple[RawPatient | None, list[str]]:
    """Return the patient of a PID, None where it has no identifier, and what is wrong with the rest of it.

    Args:
        pid: The segment.
        others: NK1 and PV1 that belong to it.

    Source:
        HL7 v2.5.1, 3.4.2 (PID), 2.A.14 (CX), 2.A.88 (XPN).
    """
    known = []
    for repetition in pid.repetitions(3):
        number, kind = pid.component(repetition, 1), pid.component(repetition, 5).upper()
        issuer = pid.component(repetition, 4) or pid.component(repetition, 4, 2)
        if number:
            known.append((kind not in _OWN, issuer, number))
    ordered = [pair[1:] for pair in sorted(known, key=lambda k: k[0])]
    for field in (2, 4):  # before version 2.3.1
        ordered += [
            (pid.component(r, 4) or pid.component(r, 4, 2), pid.component(r, 1)) for r in pid.repetitions(field)
        ]
    ordered = [pair for pair in dict.fromkeys(ordered) if pair[1]]
    if not ordered:
        return None, ["PID-3 holds no identifier"]
    wrong = []
    born, died = hl7_moment(pid.text(7)), hl7_moment(pid.text(29))
    sex = as_sex(pid.text(8))
    if pid.text(7) and born is None:
        wrong.append("PID-7 is no date")
    if pid.text(29) and died is None:
        wrong.append("PID-29 is no date")
    if sex is None:
        wrong.append("PID-8 is no sex of HL7 table 0001")
    names = [_name(pid, r) for r in pid.repetitions(5)]
    words = [*names[1:], *(_name(pid, r) for field in (6, 9) for r in pid.repetitions(field))]
    words += [pid.component(r, 1) for field in (18, 19, 20) for r in pid.repetitions(field)]
    for field in (11, 13, 14, 23):
        words += [pid.component(r, n) for r in pid.repetitions(field) for n in (1, 2, 3, 4, 5, 7, 12)]
    for segment in others:
        if segment.name == "NK1":
            words += [_name(segment, r) for r in segment.repetitions(2)]
            words += [segment.component(r, n) for f in (4, 5) for r in segment.repetitions(f) for n in (1, 3, 12)]
        elif segment.name == "PV1":
            words.append(segment.text(19))
    dead = {"Y": True, "N": False}.get(pid.text(30).upper(), True if died else None)
    return (
        RawPatient(
            *ordered[0],
            tuple(ordered[1:]),
            names[0] if names else "",
            (born or "")[:10],
            sex or "",
            dead,
            died or "",
            words_of(words),
            "hl7",
        ),
        wrong,
    )


def _name(segment: Segment, repetition: str) -> str:
    family, given, middle, suffix, prefix = (segment.component(repetition, n) for n in range(1, 6))
    return person_name(family, given, middle, prefix, suffix)


def clinician_names(segments: Iterable[Segment]) -> tuple[str, ...]:
    """Return the names of those who ordered, attended, interpreted and typed (XCN, and NDL in OBR-32 to 35)."""
    names = []
    for segment in segments:
        for field in _CLINICIANS.get(segment.name, ()):
            for repetition in segment.repetitions(field):
                family, given, middle, suffix, prefix = (segment.component(repetition, n) for n in range(2, 7))
                names.append(person_name(family, given, middle, prefix, suffix))
        if segment.name != "OBR":
            continue
        for field in _INTERPRETERS:
            for repetition in segment.repetitions(field):
                parts = [segment.component(repetition, 1, n) for n in range(2, 7)]
                if not any(parts):  # senders that write an XCN where a NDL belongs
                    parts = [segment.component(repetition, n) for n in range(2, 7)]
                names.append(person_name(parts[0], parts[1], parts[2], parts[4], parts[3]))
    return words_of(names)
