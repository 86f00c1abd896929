"""The answer to a study as a document: `result.json`, versioned, without a patient's value.

Everything that a person or a program needs to use, check and repeat an answer, and nothing that names the patient: the
study carries a pseudonym, times stand only in `created`, and free text from headers is left out. Files and folders are
often named after patients, so input files are numbered; `inputs.json` beside this document says which is which, and is
not to be shared. The schema is
published in ``docs/reference/result.schema.json``. A reader of version 1.x accepts every 1.y document with y <= x; a
field is added with a new minor version, and removed or changed only with a new major one.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from isocenter.core.errors import DataError

__all__ = [
    "SCHEMA_VERSION",
    "CodeEntry",
    "ComparisonEntry",
    "EvidenceEntry",
    "FileEntry",
    "GeometryEntry",
    "ImageEntry",
    "InputFile",
    "LeftOut",
    "LikenessEntry",
    "MeasurementEntry",
    "ModelEntry",
    "NotDone",
    "PredictionEntry",
    "PromptEntry",
    "ProofEntry",
    "ProvenanceEntry",
    "QualityEntry",
    "ResultDocument",
    "SegmentEntry",
    "SegmentProofEntry",
    "StepEntry",
    "StudyEntry",
    "UncertaintyEntry",
    "read_result",
    "result_schema",
]

SCHEMA_VERSION: Final = "1.3"

Triple = tuple[float, float, float]
Status = Literal["ok", "warning", "fail", "unknown"]


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class CodeEntry(_Entry):
    """A coded concept: value, coding scheme as in DICOM PS3.16 (SCT, DCM, UCUM, ...), meaning in English."""

    value: str
    scheme: str
    meaning: str


class GeometryEntry(_Entry):
    """The grid of an image.

    Attributes:
        shape_zyx: Voxels along z, y, x.
        spacing_mm: Distance of voxel centres along z, y, x; null where unknown.
        pixel_spacing_mm: Spacing (row, column) of a picture at its detector; null where unknown.
        orientation: Towards which side the index grows along z, y, x (e.g. "SPL"); null where unknown.
        affine_zyx_to_lps_mm: 4x4, maps the index (z, y, x, 1) to LPS mm; null where unknown.
        stack: What the z axis is: "space" or "time".
    """

    shape_zyx: tuple[int, int, int]
    spacing_mm: Triple | None
    pixel_spacing_mm: tuple[float, float] | None
    orientation: str | None
    affine_zyx_to_lps_mm: tuple[tuple[float, float, float, float], ...] | None
    stack: Literal["space", "time"]


class QualityEntry(_Entry):
    """One check of an image.

    Attributes:
        check: What was looked at, e.g. "slices", "spacing", "saturation", "text".
        status: "ok"; "warning": read with care; "fail": not fit; "unknown": not tested, and `detail` says why.
        detail: What was found, in one sentence with numbers and the threshold.
    """

    check: str
    status: Status
    detail: str


class ImageEntry(_Entry):
    """One image of the study.

    Attributes:
        index: Zero-based number; how predictions and prompts name it.
        modality: DICOM modality, "" where unknown.
        body_part: DICOM body part, "" where unknown.
        stated: Which of modality and body part the user stated, because the file has none.
        description: Kind of series in the header's controlled words.
        quantity: What the numbers mean.
        channels: Number of channels (3 for colour; time points; echoes).
        geometry: The grid.
        series_uid: Series Instance UID, "" where there is none.
        instances: Number of DICOM instances behind it, 0 where there are none.
        sha256: Hash that names the image as an input.
        quality: Checks, in a fixed order.
        notes: What the reader noticed or did.
    """

    index: int = Field(ge=0)
    modality: str
    body_part: str
    stated: tuple[Literal["modality", "body_part"], ...] = ()
    description: str = ""
    quantity: str
    channels: int = Field(ge=1)
    geometry: GeometryEntry
    series_uid: str = ""
    instances: int = Field(default=0, ge=0)
    sha256: str
    quality: tuple[QualityEntry, ...] = ()
    notes: tuple[str, ...] = ()


class SegmentEntry(_Entry):
    """One segment of a mask, with its codes; `colour` is sRGB 0-255."""

    number: int = Field(ge=1)
    label: str
    category: CodeEntry
    type: CodeEntry
    laterality: CodeEntry | None
    algorithm_type: Literal["AUTOMATIC", "SEMIAUTOMATIC", "MANUAL"]
    algorithm_name: str
    colour: tuple[int, int, int]


class MeasurementEntry(_Entry):
    """One value with its coded name and UCUM unit; `segment` null for the whole image."""

    name: CodeEntry
    derivation: CodeEntry | None
    value: float
    unit: CodeEntry
    segment: int | None


class UncertaintyEntry(_Entry):
    """How sure an answer is, and what that promises (`description`).

    Attributes:
        kind: "set", "interval", "margin" or "quality".
        description: What the numbers promise, and on what data this was established.
        low: Lower end.
        high: Upper end.
        level: Coverage promised; null where nothing is promised.
        members: Codes of a prediction set.
        per_segment: Numbers by segment number.
        segment: Number of the segment that low and high speak of; null for the whole answer.
        unit: Of low and high where they are a measured value.
        about: The finding that a set speaks of, whose members are then "Present" and "Absent"; null for the answer.
    """

    kind: str
    description: str
    low: float | None = None
    high: float | None = None
    level: float | None = None
    members: tuple[CodeEntry, ...] = ()
    per_segment: dict[int, float] = Field(default_factory=dict)
    segment: int | None = None
    unit: CodeEntry | None = None
    about: CodeEntry | None = None


class LikenessEntry(_Entry):
    """How like the images that a task learnt from an image is.

    Attributes:
        score: How strange it is; higher is stranger.
        p_value: Chance that an image like those is as strange.
        refused_share: At this p-value or below the task abstains.
        description: What is strangest of it, and on how many images the limit was set.
    """

    score: float
    p_value: float = Field(ge=0, le=1)
    refused_share: float = Field(ge=0, le=1)
    description: str


class ModelEntry(_Entry):
    """Which model answered; `weights_sha256` is "" for an algorithm without weights."""

    name: str
    version: str
    weights_sha256: str
    licence: str


class StepEntry(_Entry):
    """One step of preprocessing with its parameters."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class PromptEntry(_Entry):
    """One prompt as it was used; coordinates are LPS mm or indices (z, y, x), as `frame` says."""

    kind: str
    label: str
    positive: bool
    frame: Literal["lps_mm", "index_zyx"]
    coordinates: tuple[Triple, ...]
    text: str = ""


class SegmentProofEntry(_Entry):
    """What reading the file back proved of one segment; nulls where the place or spacing is not known.

    Attributes:
        number: Segment number.
        voxels: Voxels in the mask that was written.
        centroid_lps_mm: Centroid in patient millimetres.
        volume_mm3: Volume.
        centroid_error_mm: Distance between the centroids written and read back.
        volume_error: Relative difference of the volumes.
        side: "L", "R" or "M" of the grid's sagittal mid-plane, "" where not known.
    """

    number: int
    voxels: int
    centroid_lps_mm: Triple | None
    volume_mm3: float | None
    centroid_error_mm: float | None
    volume_error: float
    side: str


class ProofEntry(_Entry):
    """The geometry proof of a file.

    Attributes:
        grid: How the grid read back lies on the original: "identical", "reordered", "cropped" or "index".
        grid_error_mm: Largest distance between corresponding corners; null without a place in the patient.
        exact: Whether every voxel is equal (true), or within the tolerance of a lossy format (false).
        segments: One entry per segment.
    """

    grid: str
    grid_error_mm: float | None
    exact: bool
    segments: tuple[SegmentProofEntry, ...] = ()


class FileEntry(_Entry):
    """A file that was written.

    Attributes:
        path: Relative to `result.json`, with forward slashes.
        format: "NIfTI", "NRRD", "DICOM SEG", "DICOM SR TID 1500", "DICOM RTSTRUCT", "DICOM PR" (presentation state),
            "DICOM KOS" (key object selection), "DICOM PM" (parametric map), "NIfTI map" (where networks looked, 0 to
            255 on the image's grid), "PNG" or "JSON".
        sha256: Its hash.
        size_bytes: Its size.
        proof: Geometry proof; null for a file that holds no voxels.
    """

    path: str
    format: str
    sha256: str
    size_bytes: int
    proof: ProofEntry | None = None


class EvidenceEntry(_Entry):
    """Something that an answer rests on, or that was looked at beside it; it never moved the answer.

    Attributes:
        kind: "map": where the networks looked, drawn in `file`; "region": where its strongest part is; "neighbour": a
            confirmed case that the task learnt from; "feature": what drove the answer; "missing": what there is not,
            and `text` says why.
        about: The finding, class or number that it speaks of; "" for the whole answer.
        text: In one sentence.
        file: Picture, relative to `result.json`; it stands among the answer's files too, with its hash. "" for none.
        numbers: By name.
    """

    kind: Literal["map", "region", "neighbour", "feature", "missing"]
    about: str
    text: str
    file: str = ""
    numbers: dict[str, float] = Field(default_factory=dict)


class ComparisonEntry(_Entry):
    """A value of this result beside the same value of an earlier one of the same patient.

    Attributes:
        task: Which task gave both.
        about: What is compared, in words.
        unit: UCUM unit; "1" for a probability.
        before: The earlier value.
        now: The present one.
        verdict: "higher" or "lower" where the promised intervals do not overlap; "changed" where the promised sets have
            no class in common; "no sure change" else; "not comparable" with the reason in `text`.
        text: In one sentence.
    """

    task: str
    about: str
    unit: str = ""
    before: float | None = None
    now: float | None = None
    verdict: Literal["higher", "lower", "changed", "no sure change", "not comparable"]
    text: str


class PredictionEntry(_Entry):
    """What one task answered for one image, or why it did not.

    Attributes:
        task: Name of the task.
        title: Its name for people.
        image: Index of the image.
        abstained: Why there is no answer; null when there is one.
        intended_use: What the task is for.
        not_for: What it must not be used for.
        uncertainty: How sure it is; null only when it abstained.
        model: Which weights; null only when it abstained.
        inputs: sha256 or UIDs of what it saw.
        prompts: What it was pointed at.
        steps: Preprocessing in order.
        segments: Segments of the mask.
        measurements: Values with units.
        files: Files written for it.
        notes: What a reader of the answer should know.
        seconds: How long it took.
        further: What else is promised: intervals of measured values, what a larger mask would hold.
        likeness: How like the images that the task learnt from the image is; null where nothing checks it.
        evidence: Why, where it was asked for.
    """

    task: str
    title: str
    image: int
    abstained: str | None
    intended_use: str = ""
    not_for: str = ""
    uncertainty: UncertaintyEntry | None = None
    model: ModelEntry | None = None
    inputs: tuple[str, ...] = ()
    prompts: tuple[PromptEntry, ...] = ()
    steps: tuple[StepEntry, ...] = ()
    segments: tuple[SegmentEntry, ...] = ()
    measurements: tuple[MeasurementEntry, ...] = ()
    files: tuple[FileEntry, ...] = ()
    notes: tuple[str, ...] = ()
    seconds: float = Field(default=0.0, ge=0)
    further: tuple[UncertaintyEntry, ...] = ()
    likeness: LikenessEntry | None = None
    evidence: tuple[EvidenceEntry, ...] = ()


class LeftOut(_Entry):
    """An input that is not in the study, and why: "refused" should have been readable, "ignored" is not ours.

    `where` is the number of the input ("input 3"), or "series" and its UID.
    """

    where: str
    reason: str
    kind: Literal["refused", "ignored"]


class NotDone(_Entry):
    """Something that a reader might expect and that was not done, and why."""

    what: str
    why: str


class InputFile(_Entry):
    """A file that went in: the number that stands for its name ("input 1"), and sha256 of its bytes."""

    name: str
    sha256: str


class StudyEntry(_Entry):
    """The study: a pseudonym (keyed hash), never an identifier from a header; the UID as the archive knows it."""

    patient_key: str
    study_uid: str
    notes: tuple[str, ...] = ()


class ProvenanceEntry(_Entry):
    """What is needed to repeat the answer.

    Attributes:
        isocenter: Version of the package.
        python: Version of Python.
        packages: Versions of the packages that touch pixels or geometry.
        seed: Seed of everything random.
        config: The resolved configuration, without paths.
        prompts_sha256: Hash of the prompt file; null where there was none.
        input_files: What went in, numbered in the order of their names.
        seconds: Time for the whole, and by stage.
    """

    isocenter: str
    python: str
    packages: dict[str, str]
    seed: int
    config: dict[str, Any]
    prompts_sha256: str | None = None
    input_files: tuple[InputFile, ...] = ()
    seconds: dict[str, float] = Field(default_factory=dict)


class ResultDocument(_Entry):
    """The whole answer.

    Attributes:
        schema_version: Version of this schema. From 1.1 on, input files are numbered instead of named; 1.2 adds
            `further` and `likeness` to predictions, `segment` and `unit` to uncertainties; 1.3 adds `evidence` to
            predictions, `about` to uncertainties, and `comparison`.
        created: When it was made, UTC, ISO 8601: the only time in the document.
        study: The study.
        images: Its images.
        predictions: One entry per image and task: an answer or a reason for none.
        left_out: Inputs that are not in the study.
        not_done: What was not done, and why.
        files: Files that belong to the whole (SR, preview, configuration). Not among them: this document; the page
            `report.html`, which is made from it; and `inputs.json`, which is not to be shared.
        comparison: With an earlier result of the same patient, where one was given.
        provenance: What is needed to repeat it.
        disclaimer: What it must not be used for.
    """

    schema_version: Literal["1.0", "1.1", "1.2", "1.3"] = SCHEMA_VERSION
    created: str
    study: StudyEntry
    images: tuple[ImageEntry, ...]
    predictions: tuple[PredictionEntry, ...]
    left_out: tuple[LeftOut, ...] = ()
    not_done: tuple[NotDone, ...] = ()
    files: tuple[FileEntry, ...] = ()
    comparison: tuple[ComparisonEntry, ...] = ()
    provenance: ProvenanceEntry
    disclaimer: str = "For research. Not a medical device; every answer needs review by a qualified person."

    @model_validator(mode="after")
    def _check(self) -> ResultDocument:
        known = {image.index for image in self.images}
        for prediction in self.predictions:
            if prediction.image not in known:
                raise ValueError(f"an answer is of image {prediction.image}, which is not among the images")
            for m in prediction.measurements:
                if m.name.meaning.startswith("Probability of ") and not 0 <= m.value <= 1:
                    raise ValueError(f"a probability is {m.value:g}, outside 0 to 1")
        return self

    @property
    def answered(self) -> tuple[PredictionEntry, ...]:
        """The predictions that hold an answer."""
        return tuple(p for p in self.predictions if p.abstained is None)

    def to_json(self) -> str:
        """Return the document as it stands in `result.json`: indented, keys in schema order, one final newline."""
        return self.model_dump_json(indent=2) + "\n"


def read_result(path: Path) -> ResultDocument:
    """Read a `result.json`, or the one in a folder that `isocenter read` wrote.

    Raises:
        DataError: There is none, or it is not a result of this schema version.
    """
    file = path / "result.json" if path.is_dir() else path
    try:
        text = file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(
            "no result can be read here; give the folder that `isocenter read` wrote", source=path
        ) from error
    try:
        return ResultDocument.model_validate_json(text)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "document"
        raise DataError(f"not a result of schema {SCHEMA_VERSION}: {where}: {first['msg']}", source=path) from error


def result_schema() -> str:
    """Return the JSON schema that is published in ``docs/reference/result.schema.json``."""
    schema = ResultDocument.model_json_schema(mode="serialization")
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = f"Isocenter result {SCHEMA_VERSION}"
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"
