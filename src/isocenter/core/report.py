"""A report: sections of text and the findings in them, each bound to what it rests on."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from isocenter.core.errors import DataError
from isocenter.core.units import Code, Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Evidence", "Finding", "Report"]


@dataclass(frozen=True)
class Evidence:
    """What a finding rests on: exactly one of its fields is given.

    Args:
        text_span: (section name, first character, one past the last) in the report's text.
        segment: Number of a segment in the mask beside the report.
        measurement: A measured value.
        probability: A calibrated probability in [0, 1].

    Raises:
        DataError: None or several are given, or the probability is outside [0, 1].
    """

    text_span: tuple[str, int, int] | None = None
    segment: int | None = None
    measurement: Measurement | None = None
    probability: float | None = None

    def __post_init__(self) -> None:
        given = [v for v in (self.text_span, self.segment, self.measurement, self.probability) if v is not None]
        if len(given) != 1:
            raise DataError(f"evidence is one of text span, segment, measurement, probability; got {len(given)}")
        if self.probability is not None and not 0 <= self.probability <= 1:
            raise DataError("an evidence probability must lie in [0, 1]")


@dataclass(frozen=True)
class Finding:
    """One coded statement about the patient.

    Args:
        code: What is spoken of.
        presence: "present", "absent" or "uncertain".
        evidence: What it rests on.
        site: Coded anatomic site, or None.
        laterality: Coded side, or None.
    """

    code: Code
    presence: Literal["present", "absent", "uncertain"]
    evidence: tuple[Evidence, ...] = ()
    site: Code | None = None
    laterality: Code | None = None

    def __post_init__(self) -> None:
        if self.presence not in ("present", "absent", "uncertain"):
            raise DataError(f"presence must be present, absent or uncertain, got {self.presence!r}")


@dataclass(frozen=True)
class Report:
    """Text of a report by section, and its findings.

    Args:
        sections: Text by section name ("findings", "impression", ...), in order.
        language: BCP 47 tag, e.g. "en".
        findings: Coded findings.
    """

    sections: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    language: str = "en"
    findings: tuple[Finding, ...] = ()
