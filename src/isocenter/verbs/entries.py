"""From the core types to the entries of the result document: one function per type, nothing computed here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np

from isocenter.core import (
    Code,
    Geometry,
    Image,
    Likeness,
    Mask,
    Measurement,
    ModelRef,
    Prediction,
    Prompt,
    Segment,
    Step,
    TaskCard,
    Uncertainty,
)
from isocenter.data.images.proof import Proof
from isocenter.data.images.quality import Quality
from isocenter.verbs.result import (
    CodeEntry,
    FileEntry,
    GeometryEntry,
    ImageEntry,
    LikenessEntry,
    MeasurementEntry,
    ModelEntry,
    PredictionEntry,
    PromptEntry,
    ProofEntry,
    QualityEntry,
    SegmentEntry,
    SegmentProofEntry,
    StepEntry,
    UncertaintyEntry,
)

__all__ = ["file_entry", "file_sha256", "image_entry", "measurement_entry", "prediction_entry", "segment_entry"]


def file_sha256(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def image_entry(
    index: int, image: Image, quality: Quality, stated: Sequence[Literal["modality", "body_part"]]
) -> ImageEntry:
    """Describe an image; `stated` says what the user told because the file did not."""
    return ImageEntry(
        index=index,
        modality=image.modality,
        body_part=image.body_part,
        stated=tuple(stated),
        description=image.description,
        quantity=str(image.quantity),
        channels=image.array.shape[0],
        geometry=_geometry(image.geometry),
        series_uid=image.source.series_uid,
        instances=len(set(image.source.instance_uids)),
        sha256=image.sha256,
        quality=tuple(QualityEntry(check=c.name, status=c.status, detail=c.detail) for c in quality.checks),
        notes=image.notes,
    )


def file_entry(path: Path, folder: Path, kind: str, proof: Proof | None) -> FileEntry:
    """Describe a file that was written into the result's folder."""
    return FileEntry(
        path=path.relative_to(folder).as_posix(),
        format=kind,
        sha256=file_sha256(path),
        size_bytes=path.stat().st_size,
        proof=None if proof is None else _proof(proof),
    )


def prediction_entry(
    card: TaskCard,
    index: int,
    prediction: Prediction,
    *,
    prompts: Sequence[Prompt],
    files: Sequence[FileEntry],
    seconds: float,
) -> PredictionEntry:
    """Describe what a task answered for an image, or why it did not."""
    mask = prediction.value
    return PredictionEntry(
        task=card.name,
        title=card.title,
        image=index,
        abstained=prediction.abstained,
        intended_use=card.intended_use,
        not_for=card.not_for,
        uncertainty=_uncertainty(prediction.uncertainty),
        model=_model(prediction.model),
        inputs=prediction.inputs,
        prompts=tuple(_prompt(p) for p in prompts),
        steps=tuple(_step(s) for s in prediction.steps),
        segments=tuple(segment_entry(s) for s in mask.segments) if isinstance(mask, Mask) else (),
        measurements=tuple(measurement_entry(m) for m in prediction.measurements),
        files=tuple(files),
        notes=prediction.notes,
        seconds=round(seconds, 3),
        further=tuple(_promised(u) for u in prediction.further),
        likeness=_likeness(prediction.likeness),
    )


def _code(code: Code) -> CodeEntry:
    return CodeEntry(value=code.value, scheme=code.scheme, meaning=code.meaning)


def _geometry(geometry: Geometry) -> GeometryEntry:
    affine = None
    if geometry.affine is not None:
        rows = geometry.affine.tolist()
        affine = tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in rows)
    return GeometryEntry(
        shape_zyx=geometry.shape,
        spacing_mm=geometry.spacing_mm,
        pixel_spacing_mm=geometry.pixel_spacing_mm,
        orientation=geometry.orientation,
        affine_zyx_to_lps_mm=affine,
        stack=cast('Literal["space", "time"]', geometry.stack),
    )


def segment_entry(segment: Segment) -> SegmentEntry:
    """Describe a segment of a mask."""
    return SegmentEntry(
        number=segment.number,
        label=segment.label,
        category=_code(segment.category),
        type=_code(segment.type),
        laterality=None if segment.laterality is None else _code(segment.laterality),
        algorithm_type=cast('Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]', segment.algorithm_type),
        algorithm_name=segment.algorithm_name,
        colour=segment.colour,
    )


def measurement_entry(measurement: Measurement) -> MeasurementEntry:
    """Describe a measured value."""
    return MeasurementEntry(
        name=_code(measurement.name),
        derivation=None if measurement.derivation is None else _code(measurement.derivation),
        value=measurement.value,
        unit=_code(measurement.unit),
        segment=measurement.segment,
    )


def _uncertainty(uncertainty: Uncertainty | None) -> UncertaintyEntry | None:
    return None if uncertainty is None else _promised(uncertainty)


def _promised(uncertainty: Uncertainty) -> UncertaintyEntry:
    return UncertaintyEntry(
        kind=uncertainty.kind,
        description=uncertainty.description,
        low=uncertainty.low,
        high=uncertainty.high,
        level=uncertainty.level,
        members=tuple(_code(c) for c in uncertainty.members),
        per_segment={int(k): float(v) for k, v in uncertainty.per_segment.items()},
        segment=uncertainty.segment,
        unit=None if uncertainty.unit is None else _code(uncertainty.unit),
        about=None if uncertainty.about is None else _code(uncertainty.about),
    )


def _likeness(likeness: Likeness | None) -> LikenessEntry | None:
    return None if likeness is None else LikenessEntry(**vars(likeness))


def _model(model: ModelRef | None) -> ModelEntry | None:
    if model is None:
        return None
    return ModelEntry(
        name=model.name, version=model.version, weights_sha256=model.weights_sha256, licence=model.licence
    )


def _prompt(prompt: Prompt) -> PromptEntry:
    return PromptEntry(
        kind=prompt.kind,
        label=prompt.label,
        positive=prompt.positive,
        frame=prompt.frame,
        coordinates=tuple((float(a), float(b), float(c)) for a, b, c in prompt.coordinates.tolist()),
        text=prompt.text,
    )


def _step(step: Step) -> StepEntry:
    return StepEntry(name=step.name, parameters={str(k): _plain(v) for k, v in step.parameters.items()})


def _proof(proof: Proof) -> ProofEntry:
    return ProofEntry(
        grid=proof.grid,
        grid_error_mm=proof.grid_error_mm,
        exact=proof.exact,
        segments=tuple(
            SegmentProofEntry(
                number=s.number,
                voxels=s.voxels,
                centroid_lps_mm=s.centroid_lps_mm,
                volume_mm3=s.volume_mm3,
                centroid_error_mm=s.centroid_error_mm,
                volume_error=s.volume_error,
                side=s.side,
            )
            for s in proof.segments
        ),
    )


def _plain(value: object) -> Any:
    """Turn a step's parameter into JSON: numpy to numbers and lists, anything unknown to its text."""
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray):
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v) for v in value]
    return str(value)
