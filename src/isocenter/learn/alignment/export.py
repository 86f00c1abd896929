"""From a training's folder to weights that can be asked: arrays, vocabulary, held-out figures, card, curves."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from isocenter.learn.alignment.config import AlignmentTraining
from isocenter.learn.alignment.measure import Figure, as_rows, measure
from isocenter.learn.alignment.pairs import LabelData, SyntheticData, phrases_of
from isocenter.learn.alignment.trainer import Trainer
from isocenter.models.aligned import save_aligned

__all__ = ["HELD_OUT", "draw_curves", "export"]

HELD_OUT = "held_out.json"
VERSION = "1"
INTENDED = (
    "Comparing an image with sentences about it: retrieval, and ranking images by a finding that is told in words; "
    "research only."
)
NOT_FOR = (
    "Diagnosis or any decision about a patient; images that lie otherwise than those it learnt from (mirrored, turned, "
    "another view)."
)
LIMITATIONS = (
    "A similarity is no probability. What it makes of negations and sides is measured above: where the probe is near "
    "one half it can't tell them apart.",
    "It takes images as they are hung: the patient's left at the right edge. A mirrored image is read with sides "
    "exchanged, without a warning.",
)


def export(trainer: Trainer, out: Path, *, command: str, machine: str) -> tuple[Path, list[Figure]]:
    """Measure the averaged network on patients that it never saw, and write it with its card.

    Args:
        trainer: At the step that is to be written.
        out: Folder of the run; the weights go into its folder `weights`, the figures into `held_out.json`.
        command: What trained it, for the card.
        machine: What it was trained on, for the card.

    Returns:
        The file of the weights, and the figures.
    """
    config, pairs, aligned = trainer.config, trainer.pairs, trainer.model()
    kinds, phrases = config.texts.contradictions, phrases_of(config.data)
    figures = measure(aligned, pairs, pairs.of("test"), kinds=kinds, phrases=phrases)
    rows = as_rows(figures)
    (out / HELD_OUT).write_text(json.dumps({"step": trainer.step, "figures": rows}, indent=1) + "\n", "utf-8")
    arrays = {k: v.detach().to("cpu").float().numpy() for k, v in aligned.net.state_dict().items()}
    synthetic = isinstance(config.data, SyntheticData)
    training: dict[str, Any] = {
        "command": command,
        "config": config.model_dump(mode="json"),
        "data": pairs.identity,
        "steps": trainer.step,
        "steps_planned": config.steps,
        "pairs": len(trainer.train_places),
        "hours": round(trainer.seconds / 3600, 3),
        "machine": machine,
    }
    limits = LIMITATIONS if pairs.known_patients else (*LIMITATIONS, _NO_PATIENTS)
    weights = save_aligned(
        out / "weights",
        arrays,
        trainer.tokenizer,
        aligned.net.settings,
        {
            "name": config.name,
            "version": VERSION,
            "title": "Image and language in one space" + (", from synthetic patients alone" if synthetic else ""),
            "licence": config.licence,
            "preparation": {"side": config.image.side, "columns_grow_to": "patient's left"},
            "intended_use": INTENDED,
            "not_for": NOT_FOR,
            "training_data": _training_data(trainer),
            "training": training,
            "metrics": [_metric(figure) for figure in figures],
            "limitations": limits,
        },
    )
    return weights, figures


_NO_PATIENTS = (
    "The set does not say which images are of one patient: some may be in training and test, and the figures too good."
)


def _training_data(trainer: Trainer) -> list[dict[str, object]]:
    data, pairs = trainer.config.data, trainer.pairs
    if isinstance(data, SyntheticData):
        return []
    patients = len({pairs.pairs[at].patient for at in trainer.train_places})
    return [
        {
            "name": data.table,
            "licence": data.licence,
            "source": data.source,
            "cases": len(trainer.train_places),
            "patients": patients if pairs.known_patients else None,
            "note": "labels as sentences" if isinstance(data, LabelData) else "reports",
        }
    ]


def _metric(figure: Figure) -> dict[str, object]:
    unseen = "" if figure.unseen is None else f"; without looking {figure.unseen:.3f}"
    return {
        "name": figure.name,
        "structure": "held-out patients",
        "value": figure.value,
        "low": figure.low,
        "high": figure.high,
        "level": None if figure.low is None else 0.95,
        "count": figure.patients,
        "how": f"{figure.count} questions, bootstrap by patient; chance {figure.chance:.3f}{unseen}",
    }


def _rows(path: Path) -> list[dict[str, float]]:
    if not path.is_file():
        return []
    with path.open(newline="") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def draw_curves(out: Path, picture: Path, config: AlignmentTraining) -> None:
    """Draw the loss, and what is held out, over steps.

    Args:
        out: The training's folder.
        picture: PNG file to write.
        config: The training's configuration.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    steps, checks = _rows(out / "steps.csv"), _rows(out / "validation.csv")
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    if steps:
        loss = np.array([row["loss"] for row in steps])
        width = max(1, min(50, len(loss) // 20))
        smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
        left.plot([row["step"] for row in steps][width - 1 :], smooth, lw=1, color="#1f4e79")
    left.set(xlabel="step", ylabel=f"{config.loss} loss", title="training")
    shown = {
        "image_to_text_5": ("image to text, 5", "#1e8449"),
        "text_to_image_5": ("text to image, 5", "#82a67d"),
        "negation": ("negation (chance 0.5)", "#c0392b"),
        "laterality": ("side (chance 0.5)", "#d68910"),
    }
    for name, (label, colour) in shown.items():
        known = [row for row in checks if not math.isnan(row[name])]
        if known:
            at, values = [row["step"] for row in known], [row[name] for row in known]
            right.plot(at, values, "o-", ms=3, color=colour, label=label)
    right.set(xlabel="step", ylabel="share right", title="held-out patients", ylim=(0, 1))
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False, loc="lower right", fontsize=7)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=90)
    pyplot.close(figure)
