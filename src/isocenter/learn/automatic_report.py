"""The page of results of the automatic tasks, written from the runs and from nothing else.

python -m isocenter.learn.automatic_report .runs/lungs-cxr .runs/hippocampus-t1 --out docs/results/automatic-tasks.md
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from isocenter.core.errors import ConfigError

__all__ = ["main", "render"]

_HEAD = """# Automatic tasks: cross-validated quality

Written by `python -m isocenter.learn.automatic_report` from the `results.json` of each run; don't edit by hand. Every
image was judged by the network of the fold that never saw its patient. Intervals: 95 %, bootstrap over patients (BCa).
Surfaces are border voxels (`isocenter.evaluate.overlap`). The weights that ship were trained on all images, longer than
the folds' networks, and have no figure of their own.
"""


def render(runs: Mapping[str, Mapping[str, object]]) -> str:
    """Return the page.

    Args:
        runs: What `automatic_evaluate` wrote, by the run's name.

    Raises:
        ConfigError: A run's results are not whole.
    """
    parts = [_HEAD]
    for name, results in runs.items():
        metrics, folds, check = results["metrics"], results["folds"], results["calibration_check"]
        if not isinstance(metrics, list) or not isinstance(folds, dict) or not isinstance(check, dict):
            raise ConfigError(f"{name}: results.json is not what automatic_evaluate writes")
        parts.append(f"\n## {name}\n")
        parts.append(f"{results['images']} held-out images of {results['patients']} patients, {len(folds)} folds.\n")
        parts.append("| metric | structure | mean | 95 % interval | lowest | median | highest | not finite |")
        parts.append("| - | - | - | - | - | - | - | - |")
        parts += [_row(m) for m in metrics]
        by_fold = ", ".join(f"{value:.3f}" for value in folds.values())
        parts.append(f"\nMean Dice by fold: {by_fold}.\n")
        parts.append(_calibration(check))
    return "\n".join(parts).rstrip() + "\n"


def _row(metric: Mapping[str, object]) -> str:
    unit = "" if metric["unit"] == "1" else f" {metric['unit']}"
    cells = [f"{metric['name']}", f"{metric['structure']}", f"{metric['value']:.3f}{unit}"]
    cells += [f"{metric['low']:.3f} to {metric['high']:.3f}"]
    cells += [f"{metric[key]:.3f}" for key in ("lowest", "median", "highest")]
    return f"| {' | '.join(cells)} | {metric['not_finite']} |"


def _calibration(check: Mapping[str, float]) -> str:
    level, coverage = f"{check['level']:.0%}", f"{check['coverage']:.1%}"
    unchanged, changed = f"{check['coverage_unchanged']:.1%}", f"{check['coverage_changed']:.1%}"
    return (
        "Expected Dice, tied to self-agreement on all folds but one and looked up in the one left out, on "
        f"{check['images']} images (the held-out images and three changed copies of each, from mild to severe): the "
        f"{level} interval held the true Dice of {coverage} of them ({unchanged} of the unchanged, {changed} of the "
        f"changed). Correlation of expected with true Dice {check['pearson_expected_true']:.2f}, mean absolute error "
        f"{check['mean_absolute_error']:.3f}."
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Read the runs' results and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", help="run folders with results.json")
    parser.add_argument("--out", type=Path, required=True, help="the Markdown page")
    given = parser.parse_args(arguments)
    runs = {run.name: json.loads((run / "results.json").read_text(encoding="utf-8")) for run in given.runs}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(render(runs), encoding="utf-8")


if __name__ == "__main__":
    main()
