"""From a training's folder to weights that ship: the averaged backbone with its card, and the curves."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isocenter.core.errors import WeightsError
from isocenter.learn.pretraining.args import PretrainingArgs
from isocenter.learn.pretraining.learner import Learner, Recipe
from isocenter.learn.pretraining.states import fill_module, named, plain_of
from isocenter.learn.pretraining.trainer import begun
from isocenter.learn.sharded_checkpoint import load_shards
from isocenter.models.weights import Weights, save_weights

__all__ = ["Told", "export", "plot_curves", "restore"]

_INTENDED = "A first encoder to adapt to a task on images like those it learnt from; research, not answers."
_NOT_FOR = "Any use on patients; any use without adapting it and measuring the result."
_LIMITATIONS = (
    "Learnt without labels: what its features tell apart was not measured here, but for the figures under `held_out`.",
    "Held-out images are other files than those learnt from, not necessarily of other patients.",
)


class Told:
    """What the verb says of a training, for its card.

    Args:
        command: What trained it.
        machine: Where.
        data: Name of the folder, without its path.
        images: How many images were learnt from, and how many held out.
        index_sha256: Hash of the list of their hashes.
    """

    def __init__(self, *, command: str, machine: str, data: str, images: tuple[int, int], index_sha256: str) -> None:
        self.command, self.machine = command, machine
        self.data, self.images, self.index_sha256 = data, images, index_sha256


def export(recipe: Recipe, args: PretrainingArgs, run: Path, told: Told) -> Path:
    """Write the averaged backbone, and the whole learner where the recipe ships it, into `weights`.

    Returns:
        The backbone's file.

    Raises:
        WeightsError: There is no checkpoint, or it is of another method.
    """
    state = plain_of(run)
    if state["method"] != recipe.name:
        raise WeightsError(f"{run.name}: its checkpoint is of the method {state['method']!r}, not {recipe.name!r}")
    learner = _averaged(recipe, args, run, state)
    common = _common(recipe, args, run, state, told)
    out, name = run / "weights", args.weights_name
    backbone = learner.averaged() or learner.backbone
    save_weights(
        out,
        _arrays(backbone),
        {**common, "name": name, "title": f"Encoder from {recipe.title}", "network": args.shape.as_card()},
    )
    if recipe.whole:
        whole = {"name": f"{name}-whole", "title": f"All of {recipe.title}", "network": recipe.card_network(args)}
        save_weights(out, _arrays(learner), {**common, **whole})
    return out / f"{name}.safetensors"


def restore(recipe: Recipe, weights: Weights) -> Learner:
    """Build the whole learner again from weights that `export` wrote (`NAME-whole`).

    Raises:
        WeightsError: They are of something else.
    """
    network = weights.card.network
    if not recipe.whole or network.get("kind") != recipe.whole:
        raise WeightsError(f"{weights.card.name}: {network.get('kind')!r}, not the whole of a {recipe.name} training")
    learner = begun(recipe, recipe.args.model_validate(network["args"]))
    learner.load_state_dict({k: torch.from_numpy(v) for k, v in weights.arrays.items()}, strict=True)
    return learner.eval()


def _averaged(recipe: Recipe, args: PretrainingArgs, run: Path, state: Mapping[str, Any]) -> Learner:
    learner = begun(recipe, args)
    which = "average" if learner.averaged() is None else "learner"
    if state["in_parts"]:
        load_shards(run, {f"{which}.{k}": v.detach() for k, v in named(learner)}, alone=True)
    else:
        fill_module(learner, state["tensors"][which])
    return learner


def _arrays(module: torch.nn.Module) -> dict[str, np.ndarray]:
    return {k: v.float().numpy() for k, v in module.state_dict().items() if v.is_floating_point()}


def _common(
    recipe: Recipe, args: PretrainingArgs, run: Path, state: Mapping[str, Any], told: Told
) -> dict[str, object]:
    """Return the fields of the card that do not depend on which part ships."""
    checks = [row for row in _rows(run / "validation.csv") if row["step"] <= state["step"]]
    step = int(state["step"])
    training: dict[str, Any] = {
        "command": told.command if step == args.steps else f"{told.command} --until {step}",
        "method": recipe.name,
        "config": json.loads(state["config"]),
        "steps": step,
        "steps_planned": args.steps,
        "samples": step * args.batch,
        "hours": round(state["seconds"] / 3600, 2),
        "machine": told.machine,
        "precision": "bfloat16" if state["choices"]["bfloat16"] else "float32",
        "held_out": {k: v for k, v in checks[-1].items() if not math.isnan(v)} if checks else {},
        "unreadable_images": len(state["unreadable"]),
    }
    learnt = {
        "name": told.data,
        "licence": args.licence,
        "source": "images of whoever trained it",
        "cases": told.images[0],
        "note": f"{told.images[1]} more were held out; no label was read; sha256 of the list of all hashes: "
        f"{told.index_sha256}",
    }
    return {
        "version": "1",
        "licence": args.licence,
        "preparation": dict(args.preparation()),
        "intended_use": _INTENDED,
        "not_for": _NOT_FOR,
        "training_data": [learnt],
        "training": training,
        "metrics": [],
        "limitations": _LIMITATIONS,
    }


def _rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def plot_curves(run: Path, picture: Path) -> None:
    """Draw the loss, that of held-out images, and the effective rank over steps.

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
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(9, 3.2), layout="constrained")
    if len(loss):
        smooth = np.convolve(loss, np.ones(width) / width, mode="valid")
        left.plot([row["step"] for row in steps][width - 1 :], smooth, lw=1, color="#1f4e79", label="learnt from")
    at = [row["step"] for row in checks]
    left.plot(at, [row["held_out_loss"] for row in checks], "o-", ms=3, lw=1, color="#c0392b", label="held out")
    left.set(xlabel="step", ylabel=f"loss (mean of {width} steps)", title="loss")
    left.legend(frameon=False, fontsize=7)
    for name in [k for k in (checks[0] if checks else {}) if k.startswith("rank")]:
        label = name.removeprefix("rank_") if name != "rank" else "backbone"
        right.plot(at, [row[name] for row in checks], "o-", ms=3, lw=1, label=label)
    right.set(xlabel="step", ylabel="effective rank", title="how different embeddings are")
    if checks:
        right.legend(frameon=False, fontsize=7)
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=90)
    pyplot.close(figure)
