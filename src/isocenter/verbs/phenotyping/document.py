"""The document of a phenotype: what `phenotype.json` holds."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core.errors import DataError
from isocenter.verbs.result import FileEntry, ImageEntry, InputFile, MeasurementEntry, SegmentEntry, StudyEntry

__all__ = [
    "DOCUMENT",
    "FeatureEntry",
    "LearnedEntry",
    "PhenotypeDocument",
    "PhenotypeProvenance",
    "RegionEntry",
    "ResponseEntry",
    "RobustnessEntry",
    "VolumeEntry",
    "read_phenotype",
]

DOCUMENT = "phenotype.json"


class _Entry(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FeatureEntry(_Entry):
    """One radiomic feature.

    Attributes:
        tag: As in the IBSI reference tables, with the filter before it where there was one.
        code: IBSI code of the feature.
        name: In words.
        family: In words.
        aggregation: How matrices were brought together, in words; "" where there are none.
        value: None where there is none.
        unit: UCUM.
        reason: Why there is no value.
        deviation: Standard deviation over perturbations; null where there were none, or one gave no value.
    """

    tag: str
    code: str
    name: str
    family: str
    aggregation: str = ""
    value: float | None
    unit: str
    reason: str = ""
    deviation: float | None = None


class LearnedEntry(_Entry):
    """What an encoder sees of a region.

    Attributes:
        encoder: Its name.
        weights_sha256: Hash of its weights.
        licence: Of its weights.
        vector: Its numbers.
        reason: Why there are none.
    """

    encoder: str
    weights_sha256: str
    licence: str
    vector: tuple[float, ...] = ()
    reason: str = ""


class RegionEntry(_Entry):
    """One segment.

    Attributes:
        segment: Its number and codes.
        voxels: How many it has, on the grid that features were computed on.
        counted: How many count for intensity.
        touches_border: Whether it reaches the image's edge.
        measurements: Sizes and values that people use, on the image's own grid.
        features: Radiomic features.
        learned: What an encoder sees of it; null where none was asked for.
        steps: How voxels were chosen and discretised.
        notes: What the reader should know.
    """

    segment: SegmentEntry
    voxels: int = Field(ge=0)
    counted: int = Field(ge=0)
    touches_border: bool
    measurements: tuple[MeasurementEntry, ...]
    features: tuple[FeatureEntry, ...]
    learned: LearnedEntry | None = None
    steps: dict[str, Any] = Field(default_factory=dict)
    notes: tuple[str, ...] = ()


class VolumeEntry(_Entry):
    """How a segment's volume changed since the earlier phenotype."""

    segment: str
    earlier_ml: float
    later_ml: float
    share: float
    doubling_days: float | None


class ResponseEntry(_Entry):
    """What changed since an earlier phenotype, and the response category of RECIST 1.1.

    Attributes:
        category: Overall; None where no category can be given.
        reasons: Which rule decided, or why there is none.
        target: Of the target lesions alone.
        baseline_mm: Sum of diameters then.
        current_mm: Sum now.
        nadir_mm: Smallest sum so far.
        from_baseline: Change as a share of the baseline.
        from_nadir: Change as a share of the nadir.
        volumes: Of every segment of both.
        notes: What the reader should know.
    """

    category: Literal["CR", "PR", "SD", "PD", "NE"] | None
    reasons: tuple[str, ...]
    target: Literal["CR", "PR", "SD", "PD", "NE"] | None = None
    baseline_mm: float | None = None
    current_mm: float | None = None
    nadir_mm: float | None = None
    from_baseline: float | None = None
    from_nadir: float | None = None
    volumes: tuple[VolumeEntry, ...] = ()
    notes: tuple[str, ...] = ()


class RobustnessEntry(_Entry):
    """Intraclass correlation (1,1) of a feature over perturbations of the image and its mask.

    Attributes:
        tag: Of the feature.
        icc: The correlation; null where it is not defined.
        low: Lower end of its 95 % interval.
        high: Upper end.
        regions: Over how many segments.
        perturbations: How many of each.
    """

    tag: str
    icc: float | None
    low: float | None
    high: float | None
    regions: int
    perturbations: int


class PhenotypeProvenance(_Entry):
    """What is needed to repeat it."""

    isocenter: str
    python: str
    packages: dict[str, str]
    config: dict[str, Any]
    seed: int
    image_files: tuple[InputFile, ...]
    mask_sha256: str
    seconds: float


class PhenotypeDocument(_Entry):
    """Numbers of the segments of a mask.

    Attributes:
        kind: What this is.
        format: Version of this form.
        created: When, UTC.
        study: Whose: a pseudonym; of files that carry no identity, a hash of them, with an empty study UID.
        image: The image.
        regions: Its segments, in the mask's order.
        steps: What was done to image and mask.
        response: What changed since an earlier phenotype; null where none was given.
        robustness: How features stand perturbations, over the segments; empty where not asked for.
        not_done: What was not measured, and why.
        notes: What the reader should know.
        files: Written beside this document.
        synthetic: Whether the image says that it is invented.
        provenance: What is needed to repeat it.
    """

    kind: Literal["phenotype"] = "phenotype"
    format: Literal["isocenter-phenotype/1"] = "isocenter-phenotype/1"
    created: str
    study: StudyEntry
    image: ImageEntry
    regions: tuple[RegionEntry, ...]
    steps: dict[str, Any] = Field(default_factory=dict)
    response: ResponseEntry | None = None
    robustness: tuple[RobustnessEntry, ...] = ()
    not_done: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    files: tuple[FileEntry, ...] = ()
    synthetic: bool = False
    provenance: PhenotypeProvenance

    @property
    def answered(self) -> bool:
        """Whether any feature or measurement has a value."""
        return any(r.measurements or any(f.value is not None for f in r.features) for r in self.regions)

    def table(self) -> str:
        """Return one line for each region and feature as CSV: segment, label, tag, code, value, unit, reason."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("segment", "label", "tag", "code", "value", "unit", "reason"))
        for region in self.regions:
            head = (region.segment.number, region.segment.label)
            for f in region.features:
                writer.writerow((*head, f.tag, f.code, "" if f.value is None else repr(f.value), f.unit, f.reason))
            for m in region.measurements:
                derived = f":{m.derivation.value}" if m.derivation else ""
                writer.writerow((*head, f"{m.name.value}{derived}", m.name.value, repr(m.value), m.unit.value, ""))
            if region.learned is not None:
                for place, number in enumerate(region.learned.vector):
                    writer.writerow((*head, f"{region.learned.encoder}_{place}", "", repr(number), "1", ""))
        return stream.getvalue()


def read_phenotype(path: Path) -> PhenotypeDocument:
    """Read an earlier phenotype.

    Args:
        path: Its folder, or its `phenotype.json`.

    Raises:
        DataError: There is none, or it is damaged or of another version.
    """
    file = path / DOCUMENT if path.is_dir() else path
    try:
        return PhenotypeDocument.model_validate_json(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, ValidationError) as error:
        raise DataError(
            "this holds no phenotype of this version; give a folder that isocenter phenotype wrote", source=file.name
        ) from error
