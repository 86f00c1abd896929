"""What a report says, before it becomes a DICOM content tree."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from pydicom import Dataset
from pydicom.uid import SegmentationStorage

from isocenter.core.errors import DataError
from isocenter.core.mask import Mask, Segment
from isocenter.core.prediction import Likeness, ModelRef, Prediction, Uncertainty
from isocenter.core.report import Report
from isocenter.core.units import Code, Measurement
from isocenter.data.images.instance import open_instance
from isocenter.data.images.references import ObjectReference
from isocenter.data.images.sr.attested import Attestation
from isocenter.data.images.sr.result_set import ResultSet

__all__ = ["Abstention", "Answer", "SegReference", "SrContent"]

LABELMAP_SEGMENTATION_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"


@dataclass(frozen=True)
class SegReference:
    """The DICOM Segmentation that an answer's segments are stored in.

    Args:
        sop_class_uid: Segmentation or Label Map Segmentation Storage.
        sop_instance_uid: Of the instance.
        series_uid: Of its series.
        study_uid: Of its study.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_uid: str
    study_uid: str

    @classmethod
    def from_file(cls, file: Path | Dataset) -> SegReference:
        """Read the reference from a SEG file or its header.

        Raises:
            DataError: Not a DICOM Segmentation.
        """
        dataset = file if isinstance(file, Dataset) else open_instance(file, pixels=False)
        name = "SEG" if isinstance(file, Dataset) else file.name
        if str(dataset.get("SOPClassUID")) not in (SegmentationStorage, LABELMAP_SEGMENTATION_STORAGE):
            raise DataError("not a DICOM Segmentation; pass the SEG that the measurements were made in", source=name)
        return cls(
            str(dataset.SOPClassUID),
            str(dataset.SOPInstanceUID),
            str(dataset.SeriesInstanceUID),
            str(dataset.StudyInstanceUID),
        )


@dataclass(frozen=True)
class Answer:
    """What one task found.

    Args:
        task: Name of the task.
        model: Which weights.
        measurements: Values, each of a segment or of the whole image.
        segments: The segments that measurements and the SEG speak of.
        seg: Where the segments are stored, None where they are not.
        report: Coded findings become qualitative evaluations; text sections become text.
        notes: Sentences for the reader (uncertainty, limits), written as comments.
        series_uid: Series that was read, where a report speaks of several; "" for that of the first header.
        shown_on: Images or frames that what was found is on.
    """

    task: str
    model: ModelRef
    measurements: tuple[Measurement, ...] = ()
    segments: tuple[Segment, ...] = ()
    seg: SegReference | None = None
    report: Report = field(default_factory=Report)
    notes: tuple[str, ...] = ()
    series_uid: str = ""
    shown_on: tuple[ObjectReference, ...] = field(default=(), repr=False)

    @classmethod
    def from_prediction(cls, prediction: Prediction, seg: SegReference | None = None) -> Answer:
        """Make an answer of a prediction that did not abstain.

        Raises:
            DataError: The prediction abstained.
        """
        if prediction.abstained is not None or prediction.model is None:
            raise DataError(f"task {prediction.task} abstained; make an Abstention of it")
        segments = prediction.value.segments if isinstance(prediction.value, Mask) else ()
        report = prediction.value if isinstance(prediction.value, Report) else Report()
        promised = (*((prediction.uncertainty,) if prediction.uncertainty else ()), *prediction.further)
        notes = (
            *(_promised(one) for one in promised),
            *((_alike(prediction.likeness),) if prediction.likeness else ()),
            *prediction.notes,
        )
        return cls(prediction.task, prediction.model, prediction.measurements, segments, seg, report, notes)


def _promised(found: Uncertainty) -> str:
    """Say what an uncertainty promises, with its numbers, in one comment."""
    said = [found.description]
    unit = "" if found.unit is None or found.unit.value == "1" else f" {found.unit.value}"
    if found.low is not None and found.high is not None:
        said.append(f"{found.kind.capitalize()}: {found.low:.4g} to {found.high:.4g}{unit}.")
    elif found.low is not None:
        said.append(f"{found.kind.capitalize()}: {found.low:.4g}{unit}.")
    if found.per_segment:
        each = ", ".join(f"segment {number} {value:.3g}" for number, value in found.per_segment.items())
        said.append(f"By segment: {each}.")
    if found.members:
        said.append(f"Set: {', '.join(code.meaning for code in found.members)}.")
    if found.level is not None:
        said.append(f"Level: {found.level:g}.")
    return " ".join(said)


def _alike(found: Likeness) -> str:
    return (
        f"{found.description} Gate score {found.score:.3g}, p {found.p_value:.3g}, refused at {found.refused_share:g} "
        "or below."
    )


@dataclass(frozen=True)
class Abstention:
    """A task that gave no answer, and why.

    Args:
        task: Name of the task.
        reason: In words.
        unexamined: Findings that it would have spoken of.
    """

    task: str
    reason: str
    unexamined: tuple[Code, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class SrContent:
    """Everything one report says.

    Args:
        answers: Of the tasks that answered.
        abstentions: Of those that did not.
        language: BCP 47 tag of the texts, e.g. "en" or "en-US".
        procedure: Coded imaging procedure; None takes the plain one of the modality.
        signed: Who signed what; None leaves the report unverified and preliminary.
        mark: Stands first among the outcomes and in the series description ("AI result, not for diagnosis"); "" for
            none. At most 44 characters of ASCII.
        results: What the report is the root of; None for a report that stands alone.
    """

    answers: tuple[Answer, ...] = ()
    abstentions: tuple[Abstention, ...] = ()
    language: str = "en"
    procedure: Code | None = None
    signed: Attestation | None = None
    mark: str = ""
    results: ResultSet | None = field(default=None, repr=False)

    @classmethod
    def from_predictions(
        cls,
        predictions: Sequence[Prediction],
        segs: Sequence[SegReference | None] = (),
        *,
        language: str = "en",
        mark: str = "",
    ) -> SrContent:
        """Sort predictions into answers and abstentions.

        Args:
            predictions: In the order of the report.
            segs: For each prediction the SEG its mask is stored in, or None; empty for none at all.
            language: BCP 47 tag.
            mark: Stands first among the outcomes and in the series description.

        Raises:
            DataError: Another number of SEGs than of predictions.
        """
        if segs and len(segs) != len(predictions):
            raise DataError(f"{len(segs)} SEG references for {len(predictions)} predictions; give one (or None) each")
        pairs = list(zip(predictions, segs or [None] * len(predictions), strict=True))
        return cls(
            tuple(Answer.from_prediction(p, seg) for p, seg in pairs if p.abstained is None),
            tuple(Abstention(p.task, p.abstained) for p, _ in pairs if p.abstained is not None),
            language,
            mark=mark,
        )
