"""Two folders of masks: matched, put on one grid or refused, and measured structure by structure."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, Shaped

from isocenter.core import Geometry
from isocenter.core.errors import ConfigError, DataError, GeometryError
from isocenter.data.images.seg.read import read_seg
from isocenter.data.labelled.files import ENDINGS, label_image, same_grid, stem
from isocenter.evaluate.lesions import lesion_scores
from isocenter.evaluate.segmentation import SegmentationScores, segmentation_scores
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluation.system import Measure, System, mean_measure
from isocenter.verbs.evaluation.tables import Table, patients_for

__all__ = ["CaseScores", "MaskSettings", "mask_system", "masks_of_scores", "mean_dice", "named", "pairs_of_folders"]

_ENDINGS = tuple(e for e in ENDINGS if e not in (".jpg", ".jpeg"))
_MEAN = "mean of structures"


@dataclass(frozen=True)
class MaskSettings:
    """How masks are measured.

    Args:
        missing: What a reference without a prediction does.
        tolerance_mm: Of the NSD.
        surface: "border" voxels, or surface "elements".
        lesions: Whether connected pieces are matched and counted too.
    """

    missing: Literal["fail", "count-as-zero"] = "fail"
    tolerance_mm: float = 2.0
    surface: Literal["border", "elements"] = "border"
    lesions: bool = False


@dataclass(frozen=True)
class Pair:
    """One case: its name and files; no prediction where it is missing and counts as empty."""

    case: str
    prediction: Path | None
    reference: Path


@dataclass(frozen=True, eq=False)
class CaseScores:
    """What was measured on one case.

    Args:
        scores: By label.
        lesions: F1 and panoptic quality by label; empty where not asked for.
        note: What happened to it.
        voxels: Of the reference, by label: whether a structure is tiny.
    """

    scores: Mapping[int, SegmentationScores]
    lesions: Mapping[int, tuple[float, float]]
    note: str = ""


def mask_files(folder: Path) -> dict[str, Path]:
    """Return the masks of a folder by name.

    Raises:
        DataError: There is none, or two have one name.
    """
    if not folder.is_dir():
        raise DataError("there is no such folder", source=folder)
    files = sorted(p for p in folder.iterdir() if p.is_file() and p.name.lower().endswith(_ENDINGS))
    found: dict[str, Path] = {}
    for file in files:
        if file.name.startswith("."):
            continue
        if stem(file) in found:
            raise DataError(
                f"{file.name} and {found[stem(file)].name} have one name: a case is counted once", source=folder
            )
        found[stem(file)] = file
    if not found:
        raise DataError("holds no mask (NIfTI, NRRD, MetaImage, picture or DICOM SEG)", source=folder)
    return found


def pairs_of_folders(
    predictions: Path, references: Path, match: Table | None, missing: Literal["fail", "count-as-zero"]
) -> tuple[list[Pair], tuple[str, ...]]:
    """Match two folders of masks, by name or by a table of case, prediction and reference.

    Returns:
        The pairs, sorted by case, and notes on what was missing.

    Raises:
        DataError: One side lacks a case and that was not allowed, or a file of the table is not there.
    """
    if match is not None:
        return _matched(predictions, references, match), ()
    found, wanted = mask_files(predictions), mask_files(references)
    lost, extra = sorted(set(wanted) - set(found)), sorted(set(found) - set(wanted))
    if (lost or extra) and missing == "fail":
        raise DataError(
            f"{named(lost, 'no prediction', predictions)}{' and ' if lost and extra else ''}"
            f"{named(extra, 'no reference', references)}; give --missing count-as-zero to count a reference "
            "without a prediction as a miss, or --match TABLE where names differ"
        )
    if not set(found) & set(wanted):
        raise DataError("no name of a prediction is that of a reference; give --match TABLE", source=predictions)
    notes = []
    if lost:
        notes.append(f"{len(lost)} references have no prediction: each counts as an empty one")
    if extra:
        notes.append(f"{len(extra)} predictions have no reference: they can't be measured, and were left out")
    return [Pair(name, found.get(name), wanted[name]) for name in sorted(wanted)], tuple(notes)


def named(names: Sequence[str], what: str, folder: Path) -> str:
    """Name what is missing on one side, five cases at most; "" where nothing is."""
    if not names:
        return ""
    shown = ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
    return f"{len(names)} {'case has' if len(names) == 1 else 'cases have'} {what} in {folder} ({shown})"


def _matched(predictions: Path, references: Path, match: Table) -> list[Pair]:
    cases, pairs = match.cases(), []
    for row, case in enumerate(cases):
        files = []
        for column, folder in (("prediction", predictions), ("reference", references)):
            file = folder / match.names(column)[row]
            if not file.resolve().is_relative_to(folder.resolve()) or not file.is_file():
                raise DataError(f"line {match.line(row)}: the {column} is not a file in {folder}", source=match.file)
            files.append(file)
        pairs.append(Pair(case, files[0], files[1]))
    return sorted(pairs, key=lambda pair: pair.case)


def _read(file: Path, like: Geometry | None) -> tuple[Shaped[np.ndarray, "z y x"], Geometry, dict[int, str]]:
    """Read labels, their grid, and the names that the file gives them."""
    if file.suffix.lower() == ".dcm":
        mask = read_seg(file, geometry=like)
        if not mask.is_labelmap:
            inside = np.stack([mask.segment_array(s.number) for s in mask.segments])
            if int(inside.sum(axis=0).max()) > 1:
                raise DataError("its segments overlap; they can't be told as one label map", source=file)
            numbers = np.array([s.number for s in mask.segments], dtype=np.uint16)[:, None, None, None]
            return (inside * numbers).sum(axis=0).astype(np.uint16), mask.geometry, {}
        return mask.array, mask.geometry, {s.number: s.label for s in mask.segments}
    image = label_image(file)
    if float(image.array.max()) > 65535:
        raise DataError("holds labels above 65535", source=file)
    return image.array[0].astype(np.uint16), image.geometry, {}


def read_pair(
    pair: Pair,
) -> tuple[Shaped[np.ndarray, "z y x"], Shaped[np.ndarray, "z y x"], Geometry, dict[int, str]]:
    """Read reference and prediction of a case, on one grid.

    Raises:
        GeometryError: They lie on different grids; names both.
        DataError: A file can't be read, or holds no labels.
    """
    reference, geometry, names = _read(pair.reference, None)
    if pair.prediction is None:
        return reference, np.zeros_like(reference), geometry, names
    segs = [file.suffix.lower() == ".dcm" for file in (pair.reference, pair.prediction)]
    try:
        found, grid, more = _read(pair.prediction, geometry if segs == [False, True] else None)
        if segs == [True, False]:
            reference, geometry, names = _read(pair.reference, grid)
    except GeometryError as error:
        raise GeometryError(
            f"{pair.prediction.name} and {pair.reference.name} lie on different grids: {error}"
        ) from error
    if all(segs) and not geometry.same_grid(grid):
        # A SEG keeps the planes that hold something: two of one image span different parts of it.
        reference, found, geometry = _together((reference, geometry), (found, grid), pair)
    elif not same_grid(geometry, grid):
        raise GeometryError(
            f"the prediction {pair.prediction.name} {grid.shape} and the reference {pair.reference.name} "
            f"{geometry.shape} of case {pair.case!r} lie on different grids; resample the prediction to that of the "
            "reference"
        )
    return reference, found, geometry, {**more, **names}


def _together(
    one: tuple[np.ndarray, Geometry], other: tuple[np.ndarray, Geometry], pair: Pair
) -> tuple[np.ndarray, np.ndarray, Geometry]:
    """Put two parts of one grid into the box that holds both."""
    grid = one[1]
    start = grid.to_index(other[1].to_world([[0, 0, 0]]))[0]
    steps = grid.to_index(other[1].to_world(np.eye(3))) - start
    if not np.allclose(steps, np.eye(3), atol=1e-3) or not np.allclose(start, np.rint(start), atol=1e-2):
        raise GeometryError(f"{pair.prediction} and {pair.reference} lie on different grids")
    at = np.rint(start).astype(int)
    low = np.minimum(0, at)
    high = np.maximum(grid.shape, at + np.array(other[1].shape))
    size = high - low
    made = []
    for array, begin in ((one[0], -low), (other[0], at - low)):
        whole = np.zeros(tuple(size), dtype=np.uint16)
        whole[tuple(slice(b, b + n) for b, n in zip(begin, array.shape, strict=True))] = array
        made.append(whole)
    shape = (int(size[0]), int(size[1]), int(size[2]))
    return made[0], made[1], grid.cropped((int(low[0]), int(low[1]), int(low[2])), shape)


def measure_case(
    reference: Shaped[np.ndarray, "z y x"],
    found: Shaped[np.ndarray, "z y x"],
    geometry: Geometry,
    settings: MaskSettings,
    labels: Sequence[int] | None = None,
) -> CaseScores:
    """Measure one case; a plane is measured in its plane."""
    spacing: tuple[float, ...] | None = geometry.spacing_mm
    if geometry.shape[0] == 1:
        reference, found, spacing = reference[0], found[0], geometry.pixel_spacing_mm
    scores = segmentation_scores(
        reference,
        found,
        spacing_mm=spacing,
        labels=labels,
        tolerance_mm=settings.tolerance_mm if spacing is not None else None,
        surface=settings.surface,
    )
    lesions = {}
    if settings.lesions:
        for score in scores:
            pieces = lesion_scores(reference == score.label, found == score.label)
            lesions[score.label] = (pieces.f1, pieces.panoptic_quality)
    return CaseScores({score.label: score for score in scores}, lesions)


def mask_system(
    predictions: Path,
    references: Path,
    settings: MaskSettings,
    *,
    match: Table | None,
    patients: Table | None,
    tell: Callable[[str, float], None],
) -> System:
    """Measure a folder of masks against another.

    Raises:
        DataError: A side lacks a case, a file can't be read, or two lie on different grids.
    """
    pairs, notes = pairs_of_folders(predictions, references, match, settings.missing)
    labels, names, more_labels = _labels(pairs, references, tell)
    found = []
    for number, (pair, reference, prediction, geometry) in enumerate(_each(pairs)):
        tell("measuring masks", 0.4 + 0.4 * number / len(pairs))
        one = measure_case(reference, prediction, geometry, settings, labels)
        note = "" if pair.prediction is not None else "no prediction: counted as empty"
        found.append(CaseScores(one.scores, one.lesions, note))
    cases = [pair.case for pair in pairs]
    who, known, more = patients_for(cases, patients)
    digest = {
        "predictions": _digest([p.prediction for p in pairs if p.prediction is not None]),
        "references": _digest([p.reference for p in pairs]),
    }
    return masks_of_scores(
        cases, who, known, found, {n: names.get(n, f"label {n}") for n in labels}, (*notes, *more_labels, *more), digest
    )  # fmt: skip


def _each(pairs: Sequence[Pair]) -> Iterator[tuple[Pair, np.ndarray, np.ndarray, Geometry]]:
    for pair in pairs:
        reference, prediction, geometry, _ = read_pair(pair)
        yield pair, reference, prediction, geometry


def _labels(
    pairs: Sequence[Pair], references: Path, tell: Callable[[str, float], None]
) -> tuple[list[int], dict[int, str], tuple[str, ...]]:
    """Return the labels of the references, their names, and a note on what predictions hold besides.

    Every file is read once for it. A label that no reference holds and `classes.txt` doesn't name is not measured: in
    the mean over structures it would count as found rightly wherever it is absent.
    """
    known: set[int] = set()
    names: dict[int, str] = {}
    invented: dict[int, int] = {}
    for number, pair in enumerate(pairs):
        tell("looking at masks", 0.4 * number / len(pairs))
        reference, prediction, _, given = read_pair(pair)
        known |= set(np.unique(reference).tolist())
        for label in np.unique(prediction).tolist():
            invented[label] = invented.get(label, 0) + 1
        names |= {n: label for n, label in given.items() if names.get(n, label) == label}
    file = references / "classes.txt"
    if file.is_file():
        lines = [line.strip() for line in file.read_text("utf-8").splitlines() if line.strip()]
        names = dict(enumerate(lines, start=1))
        known |= set(names)
    labels = sorted(int(n) for n in known if n)
    if not labels:
        raise DataError("every reference is empty: there is nothing to measure", source=references)
    if len(labels) > 256:
        raise DataError(f"the masks hold {len(labels)} labels: are they images?", source=references)
    further = {label: count for label, count in sorted(invented.items()) if label and label not in known}
    if not further:
        return labels, names, ()
    shown = ", ".join(f"{label} in {count}" for label, count in list(further.items())[:5])
    note = (
        f"predictions hold {len(further)} label{'s' * (len(further) > 1)} that no reference holds (label and number of "
        f"cases: {shown}); they were not measured. If they are structures of the set, name them in classes.txt"
    )
    return labels, names, (note,)


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256("\n".join(sorted(file_sha256(file) for file in files)).encode()).hexdigest()


_COLUMNS: tuple[tuple[str, str, str, bool | None], ...] = (
    ("Dice", "dice", "1", True),
    ("IoU", "iou", "1", True),
    ("NSD", "nsd", "1", True),
    ("HD95", "hd95_mm", "mm", False),
    ("HD", "hd_mm", "mm", False),
    ("ASSD", "assd_mm", "mm", False),
    ("absolute relative volume error", "relative_error", "1", False),
    ("volume error", "volume_error_ml", "mL", None),
)


def masks_of_scores(
    cases: Sequence[str],
    patients: Sequence[str],
    patients_known: bool,
    found: Sequence[CaseScores],
    names: Mapping[int, str],
    notes: Sequence[str],
    inputs: Mapping[str, str],
) -> System:
    """Return the system of cases whose masks were measured.

    Args:
        cases: Names.
        patients: Of each.
        patients_known: Whether the input says so.
        found: What was measured on each.
        names: Of the labels.
        notes: What was noticed.
        inputs: sha256 of what went in.

    Raises:
        ConfigError: There is no label.
    """
    if not names:
        raise ConfigError("there is no structure to measure")
    table = {
        (name, label): np.array([_value(one.scores[label], field) for one in found])
        for name, field, _, _ in _COLUMNS
        for label in names
    }
    measures: list[Measure] = []
    for name, field, unit, better in _COLUMNS:
        shown = name
        if field == "nsd":
            tolerance = next((s.tolerance_mm for one in found for s in one.scores.values() if s.tolerance_mm), None)
            shown = name if tolerance is None else f"NSD at {tolerance:g} mm"
        known = {label: table[name, label] for label in names if not np.isnan(table[name, label]).all()}
        if not known:
            continue
        if len(known) > 1 and better is not None:
            mean = _mean_of_present(known, found)
            measures.append(mean_measure(shown, _MEAN, mean, unit=unit, higher_is_better=better))
        measures += [
            mean_measure(shown, names[label], values, unit=unit, higher_is_better=better)
            for label, values in known.items()
        ]
    if any(one.lesions for one in found):
        for at, name in ((0, "lesion F1"), (1, "panoptic quality")):
            measures += [
                mean_measure(name, names[label], [one.lesions[label][at] for one in found]) for label in names
            ]  # fmt: skip
    badness = 1 - np.nan_to_num(_mean_of_present({n: table["Dice", n] for n in names}, found), nan=1.0)
    return System(
        "masks",
        tuple(cases),
        tuple(patients),
        patients_known,
        tuple(measures),
        tuple(_rows(cases, patients, found, names)),
        badness,
        notes=(*notes, _empty_words(found)),
        inputs=dict(inputs),
        columns={"size in voxels": tuple(_size(one) for one in found)},
    )


def _mean_of_present(
    values: Mapping[int, Float[np.ndarray, " n"]], found: Sequence[CaseScores]
) -> Float[np.ndarray, " n"]:
    """Return each case's mean over the structures that are in the reference or the prediction; NaN where none is.

    A structure that is in neither would count as found rightly, and lift the mean of those that there are.
    """
    out = np.full(len(found), np.nan)
    for number, one in enumerate(found):
        there = [values[label][number] for label in values if _present(one.scores[label])]
        if there:
            out[number] = np.mean(there)
    return out


def _present(scores: SegmentationScores) -> bool:
    return bool(scores.reference_voxels or scores.prediction_voxels)


def mean_dice(one: CaseScores) -> float:
    """Return the mean Dice of the structures that are in the reference or the prediction; NaN where none is."""
    there = [scores.dice for scores in one.scores.values() if _present(scores)]
    return float(np.mean(there)) if there else float("nan")


def _value(scores: SegmentationScores, field: str) -> float:
    value = getattr(scores, field)
    if value is None:
        return float("nan")
    return abs(float(value)) if field == "relative_error" else float(value)


def _size(one: CaseScores) -> str:
    return str(sum(s.reference_voxels for s in one.scores.values()))


def _empty_words(found: Sequence[CaseScores]) -> str:
    scores = [s for one in found for s in one.scores.values()]
    both = sum(not s.reference_voxels and not s.prediction_voxels for s in scores)
    missed = sum(bool(s.reference_voxels) and not s.prediction_voxels for s in scores)
    invented = sum(not s.reference_voxels and bool(s.prediction_voxels) for s in scores)
    return (
        f"of {len(scores)} structures in all cases, {both} are empty in both masks (Dice, IoU and NSD 1, distances 0; "
        "in the mean of structures a case's structures count that are in one of both), "
        f"{missed} were missed wholly and {invented} found where there are none (Dice, IoU and NSD 0, distances "
        "infinite: left out of their means, and counted)"
    )


def _rows(
    cases: Sequence[str], patients: Sequence[str], found: Sequence[CaseScores], names: Mapping[int, str]
) -> Iterator[dict[str, object]]:
    for number, (case, patient, one) in enumerate(zip(cases, patients, found, strict=True), start=1):
        for label, name in names.items():
            scores = one.scores[label]
            row: dict[str, object] = {"number": number, "case": case, "patient": patient, "structure": name}
            row |= {title: getattr(scores, field) for title, field, _, _ in _COLUMNS}
            row |= {"reference voxels": scores.reference_voxels, "predicted voxels": scores.prediction_voxels}
            if one.lesions:
                row |= {"lesion F1": one.lesions[label][0], "panoptic quality": one.lesions[label][1]}
            yield {**row, "note": one.note}
