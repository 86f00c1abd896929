"""Results as ORU^R01: the same answers that the DICOM SR holds, as coded observations with UCUM units.

Source:
    HL7 v2.5.1, 7.3.1 (ORU), 7.4.2 (OBX; 7.4.2.4 sub-identifiers, 7.4.2.17 method), 2.7 (escapes), tables 0085 (status),
    0125 (value type), 0396 (coding systems).
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal

from isocenter.clinic.subject import Subject, sided
from isocenter.core.errors import ConfigError, DataError
from isocenter.core.units import Code, Measurement
from isocenter.data.images.sr.content import Answer, SrContent

__all__ = ["escaped", "oru_r01"]

Charset = Literal["UNICODE UTF-8", "8859/1", "ASCII"]
Status = Literal["P", "F", "C"]
_CODECS: Final = {"UNICODE UTF-8": "utf-8", "8859/1": "iso8859-1", "ASCII": "ascii"}
_SYSTEMS: Final = {"SCT": "SCT", "DCM": "DCM", "LN": "LN", "UCUM": "UCUM", "UMLS": "UML"}
_ESCAPES: Final = {"\\": "\\E\\", "|": "\\F\\", "^": "\\S\\", "&": "\\T\\", "~": "\\R\\"}
_PRESENCE: Final = {
    "present": ("52101004", "Present", "SCT"),
    "absent": ("2667000", "Absent", "SCT"),
    "uncertain": ("82334004", "Indeterminate", "SCT"),
}
_REPORT: Final = ("18748-4", "Diagnostic imaging study", "LN")
_COMMENT: Final = ("121106", "Comment", "DCM")
_LATERALITY: Final = ("272741003", "Laterality", "SCT")


def escaped(text: str) -> str:
    r"""Return a text as a field may hold it: delimiters and ends of line escaped, other control characters gone.

    Example:
        >>> escaped("5^2 | a\\b & c~\nd")
        '5\\S\\2 \\F\\ a\\E\\b \\T\\ c\\R\\\\.br\\d'
    """
    text = re.sub(r"\r\n?", "\n", text)
    out = "".join(_ESCAPES.get(letter, letter) for letter in text)
    return re.sub(r"[\x00-\x09\x0b-\x1f\x7f\x85\u2028\u2029]", " ", out).replace("\n", "\\.br\\")


def oru_r01(
    content: SrContent,
    subject: Subject,
    *,
    at: datetime,
    status: Status = "P",
    charset: Charset = "UNICODE UTF-8",
    receiver: tuple[str, str] = ("", ""),
    mark: str = "",
) -> bytes:
    """Return a message of results; the same input gives the same message, control id and all.

    Args:
        content: Answers and abstentions.
        subject: Whose.
        at: When they were made.
        status: P preliminary, F final, C a correction of what was sent before.
        charset: As MSH-18 names it; what it can't hold is written as "?" (and never is with UTF-8).
        receiver: Receiving application and facility.
        mark: What every reader must know of all of it; the first observation says it.

    Raises:
        ConfigError: A time without a zone.
        DataError: No patient identifier, or a value that is no number.
    """
    if at.tzinfo is None:
        raise ConfigError("the time of a message needs a time zone")
    if not subject.patient_id:
        raise DataError("a result without a patient's identifier can't be sent; the receiver could not file it")
    when = at.strftime("%Y%m%d%H%M%S%z")
    body = [*_order(subject, when, status), *_observations(content, status, when, mark)]
    identity = "\r".join((*body, *receiver, subject.patient_id, subject.study_uid))
    control = hashlib.sha256(identity.encode()).hexdigest()[:20].upper()
    to = "|".join(escaped(part) for part in receiver)
    head = f"MSH|^~\\&|ISOCENTER||{to}|{when}||ORU^R01^ORU_R01|{control}|P|2.5.1||||||{charset}"
    lines = [head, _patient(subject), *body]
    return ("\r".join(lines) + "\r").encode(_CODECS[charset], "replace")


def _patient(subject: Subject) -> str:
    family, given, middle, prefix, suffix = (*subject.name.split("^"), "", "", "", "", "")[:5]
    # Suffix and prefix stand the other way round in XPN (2.A.88) and in PN (PS3.5 6.2).
    name = "^".join(escaped(part) for part in (family, given, middle, suffix, prefix)).rstrip("^")
    identifier = f"{escaped(subject.patient_id)}^^^{escaped(subject.issuer)}^PI"
    sex = subject.sex if subject.sex in ("M", "F", "O") else ""
    return f"PID|1||{identifier}||{name}||{escaped(subject.birth_date)}|{sex}"


def _order(subject: Subject, when: str, status: str) -> Iterator[str]:
    placer, filler = escaped(subject.placer), escaped(subject.filler or subject.accession)
    service = "^".join(_REPORT)
    date = (
        escaped(subject.study_date + subject.study_time) if subject.study_date else ""
    )  # a time alone reads as a year
    yield f"ORC|RE|{placer}|{filler}"
    fields = {1: "1", 2: placer, 3: filler, 4: service, 7: date, 18: escaped(subject.accession), 22: when,
              24: escaped(subject.modality), 25: status}  # fmt: skip
    yield "OBR|" + "|".join(fields.get(number, "") for number in range(1, 26))


def _observations(content: SrContent, status: str, when: str, mark: str) -> Iterator[str]:
    number = 0
    told_of: Counter[tuple[str, str]] = Counter()

    def line(
        kind: str, name: str, value: str, unit: str = "", *, part: str = "", told: str = status, how: str = ""
    ) -> str:
        nonlocal number
        number += 1
        # Receivers file by the code and OBX-4: of two lines with the same, the last would stand for both.
        key = (name.partition("^")[0], part)
        told_of[key] += 1
        sub = part if told_of[key] == 1 else f"{_whole(part)}.{told_of[key]}"
        fields = {1: str(number), 2: kind, 3: name, 4: sub, 5: value, 6: unit, 11: told, 14: when, 17: how}
        return "OBX|" + "|".join(fields.get(place, "") for place in range(1, 18 if how else 15))

    comment = "^".join(_COMMENT)
    if mark:
        yield line("TX", comment, escaped(mark))
    for group, answer in enumerate(content.answers, start=1):
        yield from _answered(answer, group, line)
    for abstention in content.abstentions:
        text = f"Task {abstention.task} abstained: {abstention.reason}"
        # X: no result can be had (table 0085). An abstention is sent as such, never left out.
        yield line("TX", comment, escaped(text), told="X")


def _whole(part: str) -> str:
    """Return a sub-identifier with both of its numbers, answer and segment: what follows counts, and is no segment."""
    return part if "." in part else f"{part or 0}.0"


def _answered(answer: Answer, group: int, line: Callable[..., str]) -> Iterator[str]:
    comment = "^".join(_COMMENT)
    model = f"{answer.model.name} {answer.model.version}"
    yield line("TX", comment, escaped(f"Task {answer.task} answered with {model}."), part=str(group))
    names = {segment.number: segment for segment in answer.segments}
    for found in answer.measurements:
        part = str(group) if found.segment is None else f"{group}.{found.segment}"
        segment = None if found.segment is None else names.pop(found.segment, None)  # named once, before its values
        if segment is not None:
            yield line("TX", comment, escaped(f"Segment {found.segment}: {sided(segment)}"), part=part)
            if segment.laterality is not None:
                yield line("CWE", "^".join(_LATERALITY), _concept(segment.laterality), part=part)
        name, how = _concept(found.name), ""
        if found.derivation is not None:  # which of the mean, the median, the maximum it is
            name, how = _concept(found.name, f", {found.derivation.meaning}"), _concept(found.derivation)
        yield line("NM", name, _number(found), _unit(found.unit), part=part, how=how)
    for finding in answer.report.findings:
        yield line("CWE", _concept(finding.code), "^".join(_PRESENCE[finding.presence]), part=str(group))
    for name, text in answer.report.sections.items():
        yield line("TX", comment, escaped(f"{name}: {text}"), part=str(group))
    for note in answer.notes:
        yield line("TX", comment, escaped(note), part=str(group))


def _concept(code: Code, more: str = "") -> str:
    return f"{escaped(code.value)}^{escaped(code.meaning + more)}^{_SYSTEMS.get(code.scheme, escaped(code.scheme))}"


def _unit(code: Code) -> str:
    return f"{escaped(code.value)}^{escaped(code.meaning)}^UCUM"


def _number(found: Measurement) -> str:
    value = float(found.value)
    if not math.isfinite(value):
        raise DataError("a measurement that is no number can't be sent")
    if value == int(value) or abs(value) >= 1e15:
        return f"{value + 0.0:.0f}"  # never "-0"
    # NM has no exponent. What is small keeps its ten digits: it must not be told as nothing.
    text = f"{value:.10f}" if abs(value) >= 1e-3 else f"{Decimal(f'{value:.10g}'):f}"
    return re.sub(r"\.?0+$", "", text)
