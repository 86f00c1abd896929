"""Phenotype: what the segments of a mask look like in numbers that mean the same everywhere.

image + mask -> measurements on their own grid -> resampled where asked -> radiomic features as IBSI defines them ->
what an encoder sees -> phenotype.json, phenotype.csv, phenotype.html. A number that can't be is left empty with its
reason.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field
from pydicom.dataset import Dataset

from isocenter.core import Image, Mask, Quantity
from isocenter.core.errors import CapabilityError, ConfigError, DataError, PixelError
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.images.quality import inspect
from isocenter.safety.audit import AuditedAnswer
from isocenter.tasks.phenotype import Discretisation, FeatureSettings, measure, radiomic_features
from isocenter.tasks.phenotype.clinical import clinical_measurements
from isocenter.tasks.phenotype.features import RegionFeatures, unit_of
from isocenter.tasks.phenotype.filters import Filter
from isocenter.tasks.phenotype.filters.apply import filtered_image
from isocenter.tasks.phenotype.names import AGGREGATIONS, FAMILIES, feature_name
from isocenter.verbs.audit import audited, record_run
from isocenter.verbs.entries import file_entry, file_sha256, image_entry, measurement_entry, segment_entry
from isocenter.verbs.phenotyping.change import ResponseOptions, changed, check_same_patient
from isocenter.verbs.phenotyping.dates import INPUTS, acquired_on, days_since, earlier_date
from isocenter.verbs.phenotyping.document import (
    DOCUMENT,
    FeatureEntry,
    LearnedEntry,
    PhenotypeDocument,
    PhenotypeProvenance,
    RegionEntry,
    RobustnessEntry,
    read_phenotype,
)
from isocenter.verbs.phenotyping.inputs import Interpolation, read_mask, resampled
from isocenter.verbs.phenotyping.page import render_phenotype
from isocenter.verbs.phenotyping.robustness import robust, with_spread
from isocenter.verbs.phenotyping.rows import feature_rows
from isocenter.verbs.provenance import InputNames, created_now, input_files, package_versions, python_version
from isocenter.verbs.read import Coded, ReadConfig, read_study, state
from isocenter.verbs.report.overlay import overlay_png
from isocenter.verbs.result import StudyEntry
from isocenter.verbs.settings import configured
from isocenter.version import __version__

__all__ = ["PhenotypeConfig", "phenotype", "run"]

TABLE, ROWS, PAGE = "phenotype.csv", "features.csv", "phenotype.html"

Progress = Callable[[str, float], None]


class PhenotypeConfig(BaseModel):
    """Configuration of `isocenter phenotype`.

    Attributes:
        image: File, folder, zip or DICOMDIR of one study.
        mask: NIfTI, NRRD, MetaImage, SEG or RTSTRUCT, drawn on one of its images.
        out: Folder to write; must not exist or be empty unless `overwrite`.
        image_number: Number of the image; may be left out when the study has one.
        discretisation: "fixed bin number", "fixed bin size" or "none" (whole numbers from 1 already).
        bins: Of a fixed number.
        bin_width: Of a fixed size, in the image's unit.
        lowest: Lowest intensity that counts.
        highest: Highest intensity that counts.
        outlier_deviations: Voxels farther from the mean than this many standard deviations are left out.
        spacing_mm: Spacing (z, y, x) that features are computed at; None leaves voxels as they are.
        interpolation: Of the image, when it is resampled.
        families: Starts of tags: morph, loc, stat, ih, ivh, cm, rlm, szm, dzm, ngt, ngl.
        aggregations: Ends of tags: 2D_avg, 2D_comb, 2_5D_avg, 2_5D_comb, 3D_avg, 3D_comb, 2D, 2_5D, 3D.
        filters: Filters of IBSI-2; each adds features of its response map, whose tags begin with its name.
        perturb: How many perturbations (shift, turn, noise, outline, volume) features are computed under too; 0 for
            none, else 2 or more.
        encoder: Name or folder of weights whose features are pooled over each segment.
        diffusion_unit: Unit of a map of diffusion; None for an image that is none.
        prior: An earlier phenotype of the same patient, to compare with.
        targets: Target lesions for RECIST, as LABEL or LABEL=ORGAN; at most 5, and 2 of one organ. None takes all.
        nodal: Labels of segments that are lymph nodes, for RECIST.
        new_lesions: Whether a lesion has appeared since.
        non_target: What became of lesions that are not measured.
        nadir_mm: Smallest sum of diameters so far; None for the earlier phenotype's.
        days: Days since the earlier image, where not both say when they were made.
        acquired: When the image was made, stated by you; for an image whose file says nothing.
        patient: What the patient is called in features.csv, stated by you; None: the study's pseudonym.
        modality: Modality of an image whose file says none, stated by you.
        quantity: What the numbers mean in an image whose file doesn't say (a NIfTI), stated by you.
        reader: Name of the `isocenter.readers` plug-in that reads the image.
        on_irregular: What to do with irregular, tilted or incomplete series.
        overwrite: Whether an older result under `out` is replaced.
        audit: Record that a line is appended to; without it the environment's ISOCENTER_AUDIT names one, or none is.
        seed: Seed of everything random.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    image: Path
    mask: Path
    out: Path
    image_number: int | None = Field(default=None, ge=0)
    discretisation: Literal["fixed bin number", "fixed bin size", "none"] = "fixed bin number"
    bins: int = 32
    bin_width: float | None = None
    lowest: float | None = None
    highest: float | None = None
    outlier_deviations: float | None = None
    spacing_mm: tuple[float, float, float] | None = None
    interpolation: Interpolation = "linear"
    families: tuple[str, ...] = tuple(FAMILIES)
    aggregations: tuple[str, ...] = tuple(AGGREGATIONS)
    filters: tuple[Filter, ...] = ()
    perturb: int = Field(default=0, ge=0, le=200)
    encoder: str | None = None
    diffusion_unit: Literal["um2/s", "10-6.mm2/s", "10-3.mm2/s", "mm2/s"] | None = None
    prior: Path | None = None
    targets: tuple[str, ...] = ()
    nodal: tuple[str, ...] = ()
    new_lesions: bool = False
    non_target: Literal["none", "CR", "non-CR/non-PD", "PD", "NE"] = "none"
    nadir_mm: float | None = Field(default=None, ge=0)
    days: float | None = Field(default=None, gt=0)
    acquired: date | None = None
    patient: str | None = Field(default=None, min_length=1)
    modality: Coded | None = None
    quantity: Literal["HU", "SUVbw", "Bq/mL", "Gy"] | None = None
    reader: str = "images"
    on_irregular: Literal["raise", "resample"] = "raise"
    overwrite: bool = False
    audit: Path | None = None
    seed: int = Field(default=0, ge=0)

    def settings(self) -> FeatureSettings:
        """Return how features are computed.

        Raises:
            ConfigError: A setting is not valid.
        """
        if self.perturb == 1:
            raise ConfigError("one perturbation has no spread; give 2 or more, or 0 for none")
        return FeatureSettings(
            discretisation=Discretisation(self.discretisation, self.bins, self.bin_width),
            intensity_range=(self.lowest, self.highest),
            outlier_deviations=self.outlier_deviations,
            families=self.families,
            aggregations=self.aggregations,
        )


def phenotype(
    image: Path | str,
    mask: Path | str,
    out: Path | str,
    *,
    config: Path | None = None,
    progress: Progress | None = None,
    **settings: Any,
) -> PhenotypeDocument:
    """Measure the segments of a mask, and compute their features.

    Args:
        image: File, folder, zip or DICOMDIR of one study.
        mask: NIfTI, NRRD, MetaImage, SEG or RTSTRUCT.
        out: Folder to write.
        config: YAML file of settings; those given beside it come first.
        progress: Called with the stage and how much is done.
        **settings: Any further field of `PhenotypeConfig`.

    Returns:
        The document that stands in ``out/phenotype.json``.

    Raises:
        ConfigError: A setting is wrong.
        DataError: Image, mask or the earlier phenotype can't be read, or don't fit; or the output can't be written.
        UnitsError: A bin size or unit does not fit the image.
        ModelError: The encoder can't be opened, or is none.
    """
    given = {**({} if config is None else _settings_of(config)), **settings}
    made = configured(PhenotypeConfig, **{**given, "image": Path(image), "mask": Path(mask), "out": Path(out)})
    return run(made, progress)


def _settings_of(file: Path) -> dict[str, Any]:
    try:
        read = yaml.safe_load(file.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"{file.name} is no YAML file that can be read") from error
    if read is None:
        return {}
    if not isinstance(read, dict):
        raise ConfigError(f"{file.name} must hold settings by name")
    return {str(k): v for k, v in read.items()}


def run(config: PhenotypeConfig, progress: Progress | None = None) -> PhenotypeDocument:
    """Do what a `PhenotypeConfig` says; see `phenotype`."""
    with audited(config.audit, "phenotype") as audit:
        return _run(config, progress or (lambda _stage, _done: None), audit)


@dataclass(frozen=True)
class _Inputs:
    """What is measured, and what it came from."""

    image: Image
    mask: Mask
    notes: tuple[str, ...]
    stated: tuple[Literal["modality", "body_part"], ...]
    files: Any
    names: InputNames
    index: int
    headers: Sequence[Dataset]
    acquired: date | None


def _run(config: PhenotypeConfig, tell: Progress, audit: Path | None) -> PhenotypeDocument:
    started = time.monotonic()
    config.settings()  # refused before anything is read
    _keep_what_stands(config)
    earlier = None if config.prior is None else read_phenotype(config.prior)
    given = _read(config, tell)
    image, mask = given.image, given.mask
    study = StudyEntry(
        patient_key=given.files.study.patient_key, study_uid=given.files.study.study_uid, notes=given.files.study.notes
    )
    notes = given.notes
    if earlier is not None:
        notes = (*notes, *check_same_patient(earlier, study, image.sha256))
    tell("measuring", 0.4)
    sizes = measure(image, mask)
    values, not_done = clinical_measurements(image, mask, diffusion_unit=config.diffusion_unit)
    learned = _learned(config, image, mask, tell)
    computed = _computed(config, image, mask, tell)
    if config.perturb and not computed.robustness:
        not_done = (*not_done, "intraclass correlations: they need two segments or more")
    known = {(m.segment, m.name, m.derivation) for m in sizes}
    measured = (*sizes, *(m for m in values if (m.segment, m.name, m.derivation) not in known))
    regions = tuple(
        RegionEntry(
            segment=segment_entry(segment),
            voxels=found.voxels,
            counted=found.counted,
            touches_border=found.touches_border,
            measurements=tuple(measurement_entry(m) for m in measured if m.segment == segment.number),
            features=tuple(own),
            learned=learned.get(segment.number),
            steps=found.steps,
            notes=found.notes,
        )
        for segment, found, own in zip(mask.segments, computed.features, computed.entries, strict=True)
    )
    response = None
    if earlier is not None and config.prior is not None:
        days, dated = days_since(earlier_date(config.prior), given.acquired, config.days)
        options = ResponseOptions(
            config.nodal, config.new_lesions, config.non_target, config.nadir_mm, days, config.targets, dated
        )
        response = changed(earlier, regions, options)
    of_image = given.headers or None
    document = PhenotypeDocument(
        created=created_now(),
        study=study,
        image=image_entry(given.index, image, inspect(image, of_image), given.stated),
        regions=regions,
        steps=computed.steps,
        response=response,
        robustness=computed.robustness,
        not_done=not_done,
        notes=notes,
        synthetic=bool(image.meta.get("synthetic")),
        provenance=PhenotypeProvenance(
            isocenter=__version__,
            python=python_version(),
            packages=package_versions(),
            config=_resolved(config),
            seed=config.seed,
            image_files=input_files(config.image, given.files.study, given.names),
            mask_sha256=file_sha256(config.mask),
            seconds=round(time.monotonic() - started, 3),
        ),
    )
    tell("writing", 0.95)
    return _write(config, document, given, audit)


@dataclass(frozen=True)
class _Computed:
    """Features of every segment, and how they came about."""

    features: tuple[RegionFeatures, ...]
    entries: list[list[FeatureEntry]]
    robustness: tuple[RobustnessEntry, ...]
    steps: dict[str, Any]


def _computed(config: PhenotypeConfig, image: Image, mask: Mask, tell: Progress) -> _Computed:
    """Resample where asked, and compute features, under perturbations and of response maps where asked."""
    settings = config.settings()
    steps: dict[str, Any] = {}
    if config.spacing_mm is not None:
        tell("resampling", 0.5)
        image, mask, steps["resampled"] = resampled(image, mask, config.spacing_mm, config.interpolation)
    tell("features", 0.6)
    features = radiomic_features(image, mask, settings)
    entries = [_features(found, image.quantity) for found in features]
    robustness: tuple[RobustnessEntry, ...] = ()
    if config.perturb:
        tell("perturbations", 0.65)
        spread, robustness = robust(image, mask, settings, count=config.perturb, seed=config.seed)
        entries = [with_spread(own, one) for own, one in zip(entries, spread, strict=True)]
    for how in config.filters:
        tell(f"filter {how.name}", 0.7)
        for own, found in zip(entries, _filtered(image, mask, settings, how), strict=True):
            own += _features(found, Quantity.ARBITRARY, f"{how.name}.")
    return _Computed(features, entries, robustness, steps)


def _keep_what_stands(config: PhenotypeConfig) -> None:
    out = config.out
    if config.image.is_dir() and out.absolute().resolve().is_relative_to(config.image.resolve()):
        raise ConfigError(f"{out} lies inside {config.image}; write the result outside the study's folder")
    if out.is_dir() and any(out.iterdir()):
        if not config.overwrite:
            raise ConfigError(f"{out} is not empty; choose another folder, or give --overwrite")
        if not (out / DOCUMENT).is_file():
            raise ConfigError(f"{out} does not hold a phenotype; it is not overwritten. Choose another")
        for given in (config.image, config.mask):
            if given.resolve().is_relative_to(out.resolve()):
                raise ConfigError(f"what is read lies inside {out}, which would be overwritten; choose another folder")


def _read(config: PhenotypeConfig, tell: Progress) -> _Inputs:
    reading = ReadConfig(
        path=config.image, out=config.out, reader=config.reader, on_irregular=config.on_irregular,
        modality=config.modality,
    )  # fmt: skip
    files = read_study(reading, tell)
    study, stated = state(files.study, reading)
    if config.image_number is None and len(study.images) > 1:
        raise ConfigError(
            f"there are {len(study.images)} images here; say which the mask was drawn on, by number from 0"
        )
    index = config.image_number or 0
    if index >= len(study.images):
        raise ConfigError(f"there is no image {index}; there are {len(study.images)}, counted from 0")
    image = study.images[index]
    if config.quantity is not None and image.quantity is not Quantity(config.quantity):
        if image.quantity is not Quantity.ARBITRARY or image.array.shape[0] != 1:
            raise ConfigError(f"the image's file says {image.quantity.value}; {config.quantity} can't be stated")
        note = f"{config.quantity}: stated by whoever asked, the file does not say"
        image = replace(image, quantity=Quantity(config.quantity), notes=(*image.notes, note))
    placed = read_mask(config.mask, image)
    if not placed.mask.segments:
        raise DataError("the mask holds no segment", source=config.mask.name)
    names = InputNames(config.image, files.study, files.refused)
    known = files.headers is not None and image.source.instance_uids
    headers = files.headers.image(image) if files.headers is not None and known else []
    acquired = acquired_on(headers, config.acquired)
    if acquired is not None and acquired > datetime.now(UTC).date():
        raise DataError("the image is dated in the future; correct its date", source=config.image.name)
    return _Inputs(
        image, placed.mask, placed.notes, stated[index], replace(files, study=study), names, index, headers, acquired
    )


def _learned(config: PhenotypeConfig, image: Image, mask: Mask, tell: Progress) -> dict[int, LearnedEntry]:
    if config.encoder is None:
        return {}
    try:
        from isocenter.models.passport.door import open_weights
        from isocenter.models.region_vectors import region_vector
    except ModuleNotFoundError as error:
        raise CapabilityError('an encoder needs torch; pip install "isocenter[torch]"') from error
    tell("opening the encoder", 0.45)
    opened = open_weights(config.encoder)
    found = {}
    for segment in mask.segments:
        entry = LearnedEntry(
            encoder=opened.passport.name,
            weights_sha256=opened.passport.files[0].sha256,
            licence=opened.passport.licence,
        )
        try:
            vector = region_vector(opened, image.array[0].astype(np.float64), mask.segment_array(segment.number))
        except PixelError as error:
            found[segment.number] = entry.model_copy(update={"reason": str(error)})
        else:
            found[segment.number] = entry.model_copy(update={"vector": tuple(vector.tolist())})
    return found


def _filtered(image: Image, mask: Mask, settings: FeatureSettings, how: Filter) -> tuple[RegionFeatures, ...]:
    """Return the features of a response map: all but those of shape and of spheres in the image's own unit."""
    families = tuple(f for f in settings.families if f not in ("morph", "loc"))
    if not families:
        return tuple(RegionFeatures(s.number, 0, 0, False, ()) for s in mask.segments)
    # A map has no lowest value to begin bins of a fixed size at.
    fixed = Discretisation("fixed bin number", settings.discretisation.bins)
    own = replace(settings, families=families, discretisation=fixed)
    return radiomic_features(image, mask, own, response=filtered_image(image, how))


def _features(found: RegionFeatures, quantity: Quantity, prefix: str = "") -> list[FeatureEntry]:
    entries = []
    for f in found.features:
        name = feature_name(f.tag)
        entries.append(
            FeatureEntry(
                tag=f"{prefix}{f.tag}",
                code=name.code,
                name=name.title,
                family=FAMILIES[name.family][1],
                aggregation=AGGREGATIONS[name.aggregation][1] if name.aggregation else "",
                value=f.value,
                unit=unit_of(f.tag, quantity),
                reason=f.reason,
            )
        )
    return entries


def _resolved(config: PhenotypeConfig) -> dict[str, Any]:
    """Return the configuration without paths: they may name the patient."""
    kept = config.model_dump(mode="json", exclude={"image", "mask", "out", "audit", "prior", "patient", "acquired"})
    return {**kept, "prior": config.prior is not None}


def _write(
    config: PhenotypeConfig, document: PhenotypeDocument, given: _Inputs, audit: Path | None
) -> PhenotypeDocument:
    make_parent(config.out)
    with atomic_folder(config.out.absolute(), replace=config.overwrite) as folder:
        table = folder / TABLE
        table.write_text(document.table(), "utf-8")
        rows = folder / ROWS
        rows.write_text(feature_rows(document, patient=config.patient, acquired=given.acquired), "utf-8")
        plane: Literal["axial", "native"] = "axial" if given.image.is_volume else "native"
        preview = overlay_png(given.image, given.mask, plane=plane)
        page = folder / PAGE
        page.write_text(render_phenotype(document, preview), "utf-8")
        files = tuple(
            file_entry(file, folder, kind, None) for file, kind in ((table, "CSV"), (rows, "CSV"), (page, "HTML"))
        )
        document = document.model_copy(update={"files": files})
        (folder / DOCUMENT).write_text(document.model_dump_json(indent=1) + "\n", "utf-8")
        local = given.names.local(image=config.image, mask=config.mask, out=config.out, prior=config.prior)
        local["acquired"] = None if given.acquired is None else given.acquired.isoformat()
        (folder / INPUTS).write_text(json.dumps(local, indent=2, ensure_ascii=False) + "\n", "utf-8")
        outcome = "answered" if document.answered else "abstained"
        answer = AuditedAnswer("phenotype", given.image.sha256, outcome)
        record_run(
            audit, "phenotype", (answer,), inputs=(document.provenance.mask_sha256,),
            outputs=(file_sha256(folder / DOCUMENT),), seconds=document.provenance.seconds,
        )  # fmt: skip
    return document
