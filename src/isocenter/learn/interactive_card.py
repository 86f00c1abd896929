"""From a training's folder to weights that ship: averaged arrays, their card, and the curve.

    python -m isocenter.learn.interactive_card --run .runs/interactive-2d --metrics docs/results/interactive.json \
        --out src/isocenter/weights --curve docs/results/interactive-2d.png

The measured quality comes from the benchmark's own JSON; without it the card says that nothing was measured.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from isocenter.core.errors import WeightsError
from isocenter.learn.checkpoint import load_checkpoint
from isocenter.learn.interactive import ANCESTOR, InteractiveTraining
from isocenter.learn.interactive_calibration import fit_calibration
from isocenter.models.interactive.network import InteractiveNet
from isocenter.models.weights import WeightsCard, save_weights

__all__ = ["export", "main", "plot_curve"]

VERSION = "2"
CALIBRATION = "calibration.json"
INTENDED = (
    "Outlining a structure that a person points at (points, boxes, scribbles, lassos, examples) in a medical picture "
    "or volume of any modality, with the person looking at every outline; research and measuring."
)
NOT_FOR = (
    "Any use without a person who checks the outline; finding, naming or diagnosing anything; thin branching "
    "structures such as vessels by clicks alone."
)
LIMITATIONS = {
    2: (
        "Learnt from synthetic pictures only; no real image was used in training.",
        "A first click is ambiguous (a part, an organ, a pair): alternatives are offered; a second click or a box says "
        "which is meant.",
        "Vessels and other structures a pixel or two wide are outlined poorly; scribble along them.",
        "Probabilities and the expected quality were calibrated on synthesis; on real images they are roughly right.",
    ),
    3: (
        "Learnt from synthetic volumes only; no real image was used in training.",
        "The network sees 64 voxels along each side of a cube round the structure: details finer than 1/40 of the "
        "structure's extent are lost.",
        "Thin or branching structures are outlined poorly.",
        "Probabilities and the expected quality were calibrated on synthesis; on real images they are roughly right.",
    ),
}


def _rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def plot_curve(run: Path, picture: Path) -> None:
    """Draw loss and held-out Dice over steps.

    Args:
        run: The training's folder.
        picture: PNG file to write.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps, checks = _rows(run / "steps.csv"), _rows(run / "validation.csv")
    loss = np.array([row["loss"] for row in steps])
    width = max(1, min(100, len(loss) // 20))
    smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    left.plot([row["step"] for row in steps][width - 1 :], smooth, lw=1, color="#1f4e79")
    left.set(xlabel="step", ylabel=f"loss (mean of {width} steps)", title="training, synthesis")
    shown = {
        "dice_1": ("1 click", "#c0392b"),
        "dice_3": ("3 clicks", "#d68910"),
        "dice_5": ("5 clicks", "#1e8449"),
        "best_1": ("1 click, best of what is offered", "#8e44ad"),
        "examples_4": ("no click, 4 examples", "#566573"),
    }
    for name, (label, colour) in shown.items():
        if checks and not np.isnan(checks[-1][name]):
            at, values = [row["step"] for row in checks], [row[name] for row in checks]
            right.plot(at, values, "o-", ms=3, color=colour, label=label)
    right.set(xlabel="step", ylabel="mean Dice", title="held-out synthesis", ylim=(0, 1))
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False, loc="lower right", fontsize=7)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=90)
    pyplot.close(figure)


def _ancestor(run: Path) -> dict[str, Any]:
    """Return what is told of the weights that a training began from, and of theirs."""
    try:
        card = WeightsCard.model_validate_json((run / ANCESTOR).read_text(encoding="utf-8"))
    except (OSError, ValidationError) as error:
        raise WeightsError(f"{run.name}: {ANCESTOR}, the card of the weights it began from, can't be read") from error
    return {"name": card.name, "version": card.version, "sha256": card.sha256, "training": card.training}


def _calibration(run: Path, config: InteractiveTraining, state: dict[str, Any]) -> dict[str, float]:
    """Fit the corrections of the averaged network of a step once, and keep them in the run's folder."""
    kept = run / CALIBRATION
    if kept.is_file():
        found: dict[str, Any] = json.loads(kept.read_text())
        if found.get("step") == state["step"]:
            return dict(found["calibration"])
    net = InteractiveNet(config.shape)
    net.load_state_dict(state["average"])
    fitted = fit_calibration(net.eval(), config.seed, samples=config.validation_samples)
    kept.write_text(json.dumps({"step": state["step"], "calibration": fitted}))
    return fitted


def export(
    run: Path, out: Path, *, metrics: Path | None = None, machine: str = "", command: str | None = None
) -> WeightsCard:
    """Write the averaged weights of a training with their card, as `interactive-2d` or `interactive-3d`.

    Args:
        run: The training's folder.
        out: Folder for the weights, `.json` and `.md`.
        metrics: The benchmark's JSON, None where nothing was measured.
        machine: What it was trained on, for the card.
        command: What trained it, for the card; None for the module's own command on the configuration of this name.

    Raises:
        WeightsError: There is no checkpoint, or a field breaks the card's schema.
    """
    state = load_checkpoint(run / "checkpoint.pt")
    config = InteractiveTraining.model_validate_json(state["config"])
    dims = config.samples.dims
    name = f"interactive-{dims}d"
    arrays = {k: v.numpy().astype(np.float16) for k, v in state["average"].items() if v.is_floating_point()}
    steps = [row for row in _rows(run / "steps.csv") if row["step"] <= state["step"]]
    checks = [row for row in _rows(run / "validation.csv") if row["step"] <= state["step"]]
    command = command or f"python -m isocenter.learn.interactive --config configs/{name}.yaml --out .runs/{name}"
    training: dict[str, Any] = {
        "command": command if state["step"] == config.steps else f"{command} --until {state['step']}",
        "config": json.loads(state["config"]),
        "steps": state["step"],
        "steps_planned": config.steps,
        "synthetic_samples": state["next_index"],
        "lessons": round(sum(row["lessons"] for row in steps)),
        "hours": round(state["seconds"] / 3600, 2),
        "machine": machine,
        "held_out_synthesis": {k: v for k, v in checks[-1].items() if not np.isnan(v)} if checks else {},
    }
    if config.start_from is not None:
        training["began_from"] = _ancestor(run)
    measured = json.loads(metrics.read_text()) if metrics is not None else {}
    return save_weights(
        out,
        arrays,
        {
            "name": name,
            "version": VERSION,
            "title": f"Interactive segmentation of {'planes' if dims == 2 else 'volumes'}, from synthesis alone",
            "licence": "Apache-2.0",
            "network": config.shape.as_card(),
            "preparation": {"pixels": config.stages[-1].pixels},
            "intended_use": INTENDED,
            "not_for": NOT_FOR,
            "training_data": [],
            "training": training,
            "metrics": measured.get(name, []),
            "calibration": _calibration(run, config, state),
            "limitations": LIMITATIONS[dims],
            "scorecard": "docs/results/scorecard-interact.md",
        },
    )


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="folder of the training")
    parser.add_argument("--out", type=Path, required=True, help="folder for the weights and their card")
    parser.add_argument("--metrics", type=Path, help="JSON that the benchmark wrote")
    parser.add_argument("--curve", type=Path, help="PNG file for the curves")
    parser.add_argument("--machine", default="", help="what it was trained on")
    options = parser.parse_args(arguments)
    export(options.run, options.out, metrics=options.metrics, machine=options.machine)
    if options.curve is not None:
        plot_curve(options.run, options.curve)


if __name__ == "__main__":
    main()
