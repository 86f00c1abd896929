"""Cross-validated quality of an automatic task, its calibration, and the weights that ship with both on their card.

Every case is judged by the network of the fold that never saw its patient. The figures, and the tie between a network's
agreement with itself and its true Dice, come from these held-out cases; the network that ships was trained on all of
them and can't be judged by them.

    python -m isocenter.learn.automatic_evaluate configs/lungs-cxr.yaml --data FOLDER --run .runs/lungs-cxr
    (and --publish src/isocenter/weights)
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Integer
from safetensors.numpy import load_file

from isocenter.core.errors import ConfigError
from isocenter.evaluate.bootstrap import bootstrap_mean
from isocenter.evaluate.overlap import dice, iou, surface_distances, volume_error
from isocenter.learn.automatic import AutomaticConfig, load_cases, prepare_case, read_config
from isocenter.learn.automatic_augment import Augmentation, augment
from isocenter.learn.automatic_card import STRUCTURES, card_fields
from isocenter.learn.automatic_data import Case, folds_by_group
from isocenter.models.preparation import keep_largest, normalise
from isocenter.models.segmentation import (
    Probabilities,
    calibrate,
    expected_dice,
    predict,
    segment_picture,
    self_agreement,
)
from isocenter.models.unet import UNet
from isocenter.models.weights import save_weights

__all__ = [
    "CHANGED_COPIES",
    "HARSH",
    "CaseResult",
    "cross_validate",
    "judge_changed",
    "main",
    "milder",
    "segment_case",
    "summarise",
]

TOLERANCE_MM = 1.0
CHANGED_COPIES = 3
LEVEL = 0.9
REFUSED_SHARE = 0.02
"""Share of good held-out images that the agreement gate may turn away."""

_log = logging.getLogger(__name__)

HARSH = {
    "lungs": Augmentation(45, (0.5, 2.0), 0.3, 0.3, 0.5, 0.3, 1.5, 1.5, 6.0, 6),
    "hippocampus": Augmentation(45, (0.6, 1.6), 0.2, 0.3, 0.5, 0.3, 1.2, 1.5, 2.5, 0),
}
"""Changes far beyond those of the training, so that the calibration has seen failures; copies go from mild to these."""


@dataclass(frozen=True)
class CaseResult:
    """One held-out image, or one strongly changed copy of it.

    Args:
        name: Case.
        group: Patient.
        fold: Fold whose network judged it.
        changed: Whether it is a strongly changed copy.
        agreement: Self-agreement per foreground class.
        metrics: Values by metric name, one per foreground class.
    """

    name: str
    group: str
    fold: int
    changed: bool
    agreement: tuple[float, ...]
    metrics: Mapping[str, tuple[float, ...]]


def cross_validate(cases: Sequence[Case], config: AutomaticConfig, run: Path) -> list[CaseResult]:
    """Judge every case, and changed copies of it, by the network of its fold.

    Cases of a fold that has not been trained are left out; the card says how many folds there were.

    Raises:
        ConfigError: No fold has been trained.
    """
    fold_of = folds_by_group([case.group for case in cases], config.folds, config.seed)
    trained = [fold for fold in range(config.folds) if (run / f"fold-{fold}" / "weights.safetensors").is_file()]
    if not trained:
        raise ConfigError(f"no fold has been trained in {run.name}; run isocenter.learn.automatic first")
    results = []
    for fold in trained:
        net = _trained(config, run / f"fold-{fold}")
        for number, (case, its_fold) in enumerate(zip(cases, fold_of, strict=True)):
            if its_fold != fold:
                continue
            looked, labels = segment_case(net, case, config)
            results.append(_judge(case, fold, looked, labels, config))
            rng = np.random.default_rng((config.seed, 999, number))
            for copy in range(1, CHANGED_COPIES + 1):
                how = milder(HARSH[config.data], copy / CHANGED_COPIES)
                results.append(judge_changed(net, case, fold, config, how, rng))
        _log.info("fold %d: mean Dice %.4f", fold, _mean_dice([r for r in results if r.fold == fold]))
    return results


def _trained(config: AutomaticConfig, folder: Path) -> UNet:
    arrays = load_file(folder / "weights.safetensors")
    net = UNet(config.network)
    net.load_state_dict({key: torch.from_numpy(array) for key, array in arrays.items()})
    return net.eval()


def segment_case(net: UNet, case: Case, config: AutomaticConfig) -> tuple[Probabilities, Integer[np.ndarray, "*space"]]:
    """What the task does, on the image's own grid (1 mm along the body's axes for the volumes)."""
    if config.network.rank == 2:
        return segment_picture(net, case.image, config.window[0])
    looked = predict(net, normalise(case.image))
    return looked, keep_largest(looked.mean.argmax(0), 1)


def _judge(
    case: Case, fold: int, looked: Probabilities, labels: Integer[np.ndarray, "*space"], config: AutomaticConfig
) -> CaseResult:
    rows: dict[str, list[float]] = {}
    for number in range(1, config.network.classes):
        reference, found = case.label == number, labels == number
        row = {"Dice": dice(reference, found), "IoU": iou(reference, found)}
        if config.network.rank == 3:
            spacing_mm = (1.0, 1.0, 1.0)
            surfaces = surface_distances(reference, found, spacing_mm=spacing_mm)
            row["NSD at 1 mm"] = surfaces.nsd(TOLERANCE_MM)
            row["HD95"] = surfaces.hausdorff_mm()
            row["ASSD"] = surfaces.assd_mm()
            row["relative volume error"] = volume_error(reference, found, spacing_mm=spacing_mm).relative
        for name, value in row.items():
            rows.setdefault(name, []).append(value)
    metrics = {name: tuple(values) for name, values in rows.items()}
    return CaseResult(case.name, case.group, fold, False, tuple(self_agreement(looked).tolist()), metrics)


def milder(how: Augmentation, share: float) -> Augmentation:
    """Scale every range to a share of itself."""
    low, high = how.scale
    return Augmentation(
        rotation_degree=how.rotation_degree * share,
        scale=(low**share, high**share),
        stretch=how.stretch * share,
        shift=how.shift * share,
        flip=how.flip,
        invert=how.invert,
        gamma=how.gamma * share,
        noise=how.noise * share,
        blur_voxel=how.blur_voxel * share,
        markers=round(how.markers * share),
    )


def judge_changed(
    net: UNet, case: Case, fold: int, config: AutomaticConfig, how: Augmentation, rng: np.random.Generator
) -> CaseResult:
    """Judge a randomly changed copy of a case by a network."""
    prepared, label = prepare_case(case, config)
    image, target = augment(prepared, label, config.window, how, rng)
    looked = predict(net, (image - image.mean()) / max(float(image.std()), 1e-6))
    labels = keep_largest(looked.mean.argmax(0), 2 if config.network.rank == 2 else 1)
    values = tuple(dice(target == n, labels == n) for n in range(1, config.network.classes))
    return CaseResult(case.name, case.group, fold, True, tuple(self_agreement(looked).tolist()), {"Dice": values})


def _mean_dice(results: Sequence[CaseResult]) -> float:
    return float(np.mean([r.metrics["Dice"] for r in results if not r.changed]))


def summarise(results: Sequence[CaseResult], config: AutomaticConfig) -> dict[str, object]:
    """Return metrics with their intervals, the calibration, and how the calibration did on folds it was not made on."""
    clean, folds = [r for r in results if not r.changed], sorted({r.fold for r in results})
    patients = [r.group for r in clean]
    metrics = []
    for name in clean[0].metrics:
        table = np.array([r.metrics[name] for r in clean])
        if name == "relative volume error":
            name, table = "absolute relative volume error", np.abs(table)
        unit = "mm" if name in ("HD95", "ASSD") else "1"
        columns = {STRUCTURES[config.data][i]: table[:, i] for i in range(table.shape[1])}
        if table.shape[1] > 1:
            columns["mean of structures"] = table.mean(1)
        for structure, values in columns.items():
            finite = np.isfinite(values)
            interval = bootstrap_mean(values[finite], [p for p, f in zip(patients, finite, strict=True) if f])
            metrics.append(
                {"name": name, "structure": structure, "value": interval.value, "unit": unit, "low": interval.low,
                 "high": interval.high, "level": interval.level, "count": interval.patients,
                 "not_finite": int((~finite).sum()), "lowest": float(values.min()), "median": float(np.median(values)),
                 "highest": float(values.max())}
            )  # fmt: skip
    return {
        "metrics": metrics,
        "folds": {str(fold): _mean_dice([r for r in results if r.fold == fold]) for fold in folds},
        "images": len(clean),
        "patients": len(set(patients)),
        "calibration": _calibration(results),
        "calibration_check": _check(results, folds),
    }


def _columns(results: Sequence[CaseResult]) -> dict[str, tuple[Float[np.ndarray, "n"], Float[np.ndarray, "n"]]]:
    """Agreement and Dice of every image, for the mean of the classes and for each class."""
    agreement = np.array([r.agreement for r in results])
    truth = np.array([r.metrics["Dice"] for r in results])
    columns = {"mean": (agreement.mean(1), truth.mean(1))}
    for i in range(agreement.shape[1]):
        columns[str(i + 1)] = (agreement[:, i], truth[:, i])
    return columns


def _calibration(results: Sequence[CaseResult]) -> dict[str, object]:
    changed = np.array([r.changed for r in results])
    table: dict[str, object] = {}
    for key, (agreements, truths) in _columns(results).items():
        found = calibrate(agreements, truths, level=LEVEL)
        edges = np.asarray(found["edges"], dtype=np.float64)
        bins = np.searchsorted(edges, agreements)
        counts, copies = (
            np.bincount(found_in, minlength=len(edges) + 1).tolist() for found_in in (bins, bins[changed])
        )
        table[key] = {**found, "bin_counts": counts, "bin_changed": copies}
    table["images"], table["changed_copies"] = int((~changed).sum()), int(changed.sum())
    agreement, _ = _columns([r for r in results if not r.changed])["mean"]
    table["least_agreement"] = round(float(np.quantile(agreement, REFUSED_SHARE)), 4)
    table["refused_share"] = REFUSED_SHARE
    return table


def _check(results: Sequence[CaseResult], folds: Sequence[int]) -> dict[str, float]:
    """Calibrate on all folds but one, look up the one left out: coverage, correlation, absolute error."""
    truth, median, inside, changed = [], [], [], []
    for fold in folds:
        table = calibrate(*_columns([r for r in results if r.fold != fold])["mean"], level=LEVEL)
        rest = [r for r in results if r.fold == fold]
        for result, agreement, value in zip(rest, *_columns(rest)["mean"], strict=True):
            expected = expected_dice(table, float(agreement))
            truth.append(float(value))
            median.append(expected.median)
            inside.append(expected.low <= value <= expected.high)
            changed.append(result.changed)
    agreement, value = _columns(results)["mean"]
    kept = np.array(changed)
    return {
        "level": LEVEL,
        "images": len(truth),
        "coverage": float(np.mean(inside)),
        "coverage_unchanged": float(np.mean(np.array(inside)[~kept])),
        "coverage_changed": float(np.mean(np.array(inside)[kept])),
        "pearson_expected_true": float(np.corrcoef(median, truth)[0, 1]),
        "pearson_agreement_true": float(np.corrcoef(agreement, value)[0, 1]),
        "mean_absolute_error": float(np.mean(np.abs(np.array(median) - truth))),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Cross-validate, write ``results.json`` and ``cases.json`` into the run, publish the final weights if asked."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled set")
    parser.add_argument("--run", type=Path, required=True, help="folder of the trained folds")
    parser.add_argument("--publish", type=Path, help="write the final weights and their card into this folder")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    config = read_config(given.config)
    cases = load_cases(config, given.data)
    results = cross_validate(cases, config, given.run)
    summary = summarise(results, config)
    rows = [{**vars(r), "metrics": dict(r.metrics)} for r in results]
    (given.run / "cases.json").write_text(json.dumps(rows, indent=0) + "\n", encoding="utf-8")
    (given.run / "results.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    if given.publish is not None:
        arrays = load_file(given.run / "final" / "weights.safetensors")
        card = save_weights(given.publish, arrays, card_fields(config, cases, summary))
        _log.info("%s: %d bytes, sha256 %s", card.name, card.size_bytes, card.sha256)


if __name__ == "__main__":
    main()
