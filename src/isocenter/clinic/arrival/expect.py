"""What was ordered against what arrives: modality, body part, contrast and phase, by patterns that the site wrote.

Nothing is guessed: only what a header states can contradict what is expected. The texts that patterns are sought in
(descriptions, protocol, requested procedure) are read, and never repeated: they may name the patient.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pydicom import Dataset

from isocenter.clinic.arrival.series import Alert
from isocenter.core.errors import ConfigError
from isocenter.data.images.dicom.facts import body_part

__all__ = ["Expectation", "Expected", "Stated", "stated_of"]

_STUDY_TEXTS: Final = (
    "StudyDescription", "RequestedProcedureDescription", "ReasonForTheRequestedProcedure",
    "PerformedProcedureStepDescription",
)  # fmt: skip
_SERIES_TEXTS: Final = ("SeriesDescription", "ProtocolName", "SequenceName")


@dataclass(frozen=True)
class Stated:
    """What the header of one instance states.

    Args:
        modality: DICOM Modality.
        body_part: DICOM defined term, "" where the header says none of them.
        order: Texts about the study, and what was ordered.
        series: Texts about the series.
        contrast: Whether contrast was given, as far as the header says.
        delay_s: From the beginning of the bolus to the image; None where the header does not say.
        localizer: Whether it is a localizer, of which little is expected.
    """

    modality: str
    body_part: str
    order: tuple[str, ...] = field(default=(), repr=False)
    series: tuple[str, ...] = field(default=(), repr=False)
    contrast: bool = False
    delay_s: float | None = None
    localizer: bool = False


def stated_of(dataset: Dataset) -> Stated:
    """Read what the header of an instance states."""
    requests = dataset.get("RequestAttributesSequence") or ()
    order = [str(item.get(name) or "") for item in (dataset, *requests) for name in _STUDY_TEXTS]
    order += [str(item.get("ScheduledProcedureStepDescription") or "") for item in requests]
    kind = dataset.get("ImageType") or ()
    return Stated(
        str(dataset.get("Modality") or ""),
        body_part(dataset)[0],
        tuple(text for text in order if text),
        tuple(text for name in _SERIES_TEXTS if (text := str(dataset.get(name) or ""))),
        bool(dataset.get("ContrastBolusAgent") or dataset.get("ContrastBolusAgentSequence")),
        _delay_s(dataset),
        len(kind) > 2 and str(list(kind)[2]) == "LOCALIZER",
    )


def _delay_s(dataset: Dataset) -> float | None:
    begun = _seconds(dataset.get("ContrastBolusStartTime"))
    taken = _seconds(dataset.get("AcquisitionTime") or str(dataset.get("AcquisitionDateTime") or "")[8:])
    if begun is None or taken is None:
        return None
    return (taken - begun) % 86400


def _seconds(value: object) -> float | None:
    found = re.match(r"(\d{2})(\d{2})(\d{2}(?:\.\d+)?)", str(value or ""))
    return None if found is None else 3600 * int(found[1]) + 60 * int(found[2]) + float(found[3])


@dataclass(frozen=True)
class Expectation:
    """What studies of one kind are expected to be.

    Args:
        name: For the alert.
        order: Regular expression that tells the kind by what was ordered; "" takes every study.
        modalities: That images may be of; empty for any.
        body_parts: That headers may state; a header that states none contradicts nothing.
        phase: Regular expression that the texts of a series must match, each that is no localizer.
        never: Regular expression that they must not match.
        contrast: Whether contrast must have been given (True), or must not (False); None for either.
        delay_s: Least and longest time from the bolus to the image.

    Raises:
        ConfigError: A regular expression is none.
    """

    name: str
    order: str = ""
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    phase: str = ""
    never: str = ""
    contrast: bool | None = None
    delay_s: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        for pattern in (self.order, self.phase, self.never):
            try:
                re.compile(pattern)
            except re.error as error:
                raise ConfigError(f"expectation {self.name!r}: a pattern is no regular expression: {error}") from error

    def contradicted(self, series: str, stated: Stated) -> list[Alert]:
        """Return how an instance contradicts it; nothing for a study of another kind."""
        if stated.localizer or not _found(self.order, stated.order):
            return []
        alerts = []
        if self.modalities and stated.modality not in self.modalities:
            what = f"modality {stated.modality or 'unknown'} where {' or '.join(self.modalities)} is expected"
            alerts.append(("wrong-modality", what))
        if self.body_parts and stated.body_part and stated.body_part not in self.body_parts:
            alerts.append(
                ("wrong-body-part", f"body part {stated.body_part} where {' or '.join(self.body_parts)} is expected")
            )
        if self.phase and stated.series and not _found(self.phase, stated.series):
            alerts.append(("wrong-phase", "the series is not named as the phase that is expected"))
        if self.never and stated.series and _found(self.never, stated.series):
            alerts.append(("wrong-phase", "the series is named as a phase that is not to be taken"))
        if self.contrast is not None and stated.contrast != self.contrast:
            said = "no contrast is stated, and some" if self.contrast else "contrast is stated, and none"
            alerts.append(("contrast", f"{said} is expected"))
        if self.delay_s is not None and stated.delay_s is not None:
            least, longest = self.delay_s
            if not least <= stated.delay_s <= longest:
                what = (
                    f"taken {stated.delay_s:.0f} s after the bolus began, where {least:g} to {longest:g} s are expected"
                )
                alerts.append(("wrong-phase", what))
        return [Alert(code, series, f"{what} ({self.name})") for code, what in alerts]


def _found(pattern: str, texts: Sequence[str]) -> bool:
    return not pattern or any(re.search(pattern, text, re.IGNORECASE) for text in texts)


@dataclass(frozen=True)
class Expected:
    """All expectations of a node."""

    expectations: tuple[Expectation, ...] = ()

    def contradicted(self, series: str, stated: Stated) -> list[Alert]:
        """Return how an instance contradicts what is expected of its study."""
        return [alert for one in self.expectations for alert in one.contradicted(series, stated)]
