"""Training and cross-validation of the automatic segmentation tasks.

A stage in the house's sense: configuration and data go in, weights with their card come out. One command trains every
fold and the final network, resumes after an interruption, and is deterministic on one thread: the chance of iteration
``i`` of a fold comes from (seed, fold, i) alone.

    python -m isocenter.learn.automatic configs/lungs-cxr.yaml --data FOLDER --run .runs/lungs-cxr
"""

from __future__ import annotations

import argparse
import logging
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml
from jaxtyping import Float, Int64
from pydantic import BaseModel, ConfigDict, ValidationError
from safetensors.torch import save_file
from torch import nn

from isocenter.core.errors import ConfigError
from isocenter.learn.automatic_augment import Augmentation, augment
from isocenter.learn.automatic_data import Case, folds_by_group, load_hippocampus, load_lungs
from isocenter.models.preparation import Letterbox, normalise
from isocenter.models.unet import UNet, UNetSettings

__all__ = ["AutomaticConfig", "Schedule", "load_cases", "main", "prepare_case", "read_config", "train"]

_CHECKPOINT_EVERY = 50
_log = logging.getLogger(__name__)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Schedule(_Strict):
    """How long and how fast to learn.

    Attributes:
        iterations_fold: Steps for each fold of the cross-validation.
        iterations_final: Steps for the network that ships, trained on every case.
        batch: Windows per step.
        learning_rate: Peak of the one-cycle schedule.
        averaging: Decay of the moving average of the weights, which is what is kept.
    """

    iterations_fold: int
    iterations_final: int
    batch: int
    learning_rate: float
    averaging: float


class AutomaticConfig(_Strict):
    """One automatic task: its data, network and schedule.

    Attributes:
        name: Name of the weights.
        data: Which set is read.
        seed: Decides folds, first weights and augmentation.
        network: Shape of the network.
        window: Shape of a training window.
        augmentation: Ranges of random change.
        schedule: Steps and rates.
        folds: Folds of the cross-validation, grouped by patient.
    """

    name: str
    data: Literal["lungs", "hippocampus"]
    seed: int
    network: UNetSettings
    window: tuple[int, ...]
    augmentation: Augmentation
    schedule: Schedule
    folds: int


def read_config(file: Path) -> AutomaticConfig:
    """Read and check a configuration.

    Raises:
        ConfigError: A setting is missing, unknown or out of range.
    """
    try:
        return AutomaticConfig.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigError(f"{file.name}: {error}") from error


def load_cases(config: AutomaticConfig, folder: Path) -> list[Case]:
    """Read the configured set from a folder."""
    return {"lungs": load_lungs, "hippocampus": load_hippocampus}[config.data](folder)


def prepare_case(
    case: Case, config: AutomaticConfig
) -> tuple[Float[np.ndarray, "*space"], Int64[np.ndarray, "*space"]]:
    """Return what the network trains on: normalised intensities, and class numbers on their grid."""
    image, label = normalise(case.image), case.label.astype(np.int64)
    if config.network.rank == 3:
        return image, label
    box = Letterbox(case.image.shape[0], case.image.shape[1], config.window[0])
    places = [_grid(length, box) for length in case.image.shape]
    nearest = [np.clip(np.rint(p), 0, n - 1).astype(int) for p, n in zip(places, case.image.shape, strict=True)]
    inside = [(p > -0.5) & (p < n - 0.5) for p, n in zip(places, case.image.shape, strict=True)]
    square = np.where(inside[0][:, None] & inside[1][None, :], label[np.ix_(*nearest)], 0)
    return box.forward(image), square


def _grid(length: int, box: Letterbox) -> Float[np.ndarray, "side"]:
    """Picture index along one axis of every pixel of the square."""
    return (np.arange(box.side) - (box.side - 1) / 2) / box.scale + (length - 1) / 2


def _loss(
    logits: Float[torch.Tensor, "batch classes *space"], target: Int64[torch.Tensor, "batch *space"]
) -> Float[torch.Tensor, ""]:
    """Cross-entropy plus one minus the soft Dice of each foreground class over the batch."""
    probability = logits.softmax(1)
    truth = nn.functional.one_hot(target, logits.shape[1]).movedim(-1, 1).to(probability.dtype)
    axes = (0, *range(2, logits.ndim))
    overlap = (probability * truth).sum(axes)[1:]
    total = (probability.sum(axes) + truth.sum(axes))[1:]
    return nn.functional.cross_entropy(logits, target) + 1 - ((2 * overlap + 1) / (total + 1)).mean()


def train(
    cases: Sequence[tuple[Float[np.ndarray, "*space"], Int64[np.ndarray, "*space"]]],
    config: AutomaticConfig,
    *,
    stream: int,
    iterations: int,
    folder: Path,
) -> UNet:
    """Train a network, or resume where an earlier call was interrupted.

    Args:
        cases: Prepared images and labels.
        config: Network, augmentation and schedule.
        stream: Fold number (the number of folds stands for the final network): part of the random seed.
        iterations: Steps.
        folder: Where checkpoint and weights go.

    Returns:
        The network with its averaged weights, in evaluation mode.
    """
    torch.manual_seed(config.seed + stream)
    net, average = UNet(config.network), UNet(config.network)
    average.load_state_dict(net.state_dict())
    optimiser = torch.optim.AdamW(net.parameters(), config.schedule.learning_rate, weight_decay=1e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, config.schedule.learning_rate, total_steps=iterations, pct_start=0.15
    )
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint, first = folder / "checkpoint.pt", 0
    if checkpoint.is_file():
        state = torch.load(checkpoint, weights_only=True)
        net_state, average_state, optimiser_state, cycle_state = state["parts"]
        net.load_state_dict(net_state)
        average.load_state_dict(average_state)
        optimiser.load_state_dict(optimiser_state)
        cycle.load_state_dict(cycle_state)
        first = state["iteration"]
    started = time.monotonic()
    for iteration in range(first, iterations):
        x, y = _batch(cases, config, np.random.default_rng((config.seed, stream, iteration)))
        loss = _loss(net(x), y)
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimiser.step()
        cycle.step()
        # A short memory at first, or the random start would stay in the average.
        decay = min(config.schedule.averaging, (1 + iteration) / (10 + iteration))
        with torch.no_grad():
            for slow, fast in zip(average.parameters(), net.parameters(), strict=True):
                slow.lerp_(fast, 1 - decay)
        if (iteration + 1) % _CHECKPOINT_EVERY == 0:
            parts = [net.state_dict(), average.state_dict(), optimiser.state_dict(), cycle.state_dict()]
            torch.save({"parts": parts, "iteration": iteration + 1}, checkpoint)
            seconds = time.monotonic() - started
            _log.info("%s step %d loss %.3f after %.0f s", folder.name, iteration + 1, loss.item(), seconds)
    save_file({k: v.contiguous() for k, v in average.state_dict().items()}, folder / "weights.safetensors")
    return average.eval()


def _batch(
    cases: Sequence[tuple[Float[np.ndarray, "*space"], Int64[np.ndarray, "*space"]]],
    config: AutomaticConfig,
    rng: np.random.Generator,
) -> tuple[Float[torch.Tensor, "batch 1 *window"], Int64[torch.Tensor, "batch *window"]]:
    chosen = rng.integers(0, len(cases), config.schedule.batch)
    pairs = [augment(cases[i][0], cases[i][1], config.window, config.augmentation, rng) for i in chosen]
    images, labels = (torch.from_numpy(np.stack(part)) for part in zip(*pairs, strict=True))
    return images[:, None], labels


def main(arguments: Sequence[str] | None = None) -> None:
    """Train the folds and the final network that a configuration asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, required=True, help="folder of the labelled set")
    parser.add_argument("--run", type=Path, required=True, help="folder for checkpoints and results")
    parser.add_argument("--only", help="one part: a fold number, or 'final'")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    config = read_config(given.config)
    cases = load_cases(config, given.data)
    fold_of = folds_by_group([case.group for case in cases], config.folds, config.seed)
    prepared = [prepare_case(case, config) for case in cases]
    streams = {"final": config.folds, **{str(fold): fold for fold in range(config.folds)}}
    for name, stream in streams.items():
        folder = given.run / (name if name == "final" else f"fold-{name}")
        if (given.only and name != given.only) or (folder / "weights.safetensors").is_file():
            continue
        chosen = [pair for pair, fold in zip(prepared, fold_of, strict=True) if fold != stream]
        steps = config.schedule.iterations_final if name == "final" else config.schedule.iterations_fold
        train(chosen, config, stream=stream, iterations=steps, folder=folder)


if __name__ == "__main__":
    main()
