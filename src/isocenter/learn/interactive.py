"""Train the interactive network from synthesis alone: `python -m isocenter.learn.interactive --config ... --out ...`.

Every step draws fresh samples and encodes each picture once. The network answers the first prompts, a simulated person
(`interactive_user`) corrects what is wrong, the network answers again, and so on until a sample leaves after a random
number of corrections; the step learns from all the answers together. Some samples come with examples of the same
structure in other patients, and some of those with no prompt at all. Randomness is drawn anew from (seed, step, place),
never from a running state, so a training killed at any step and resumed draws the same curve.
"""

from __future__ import annotations

import argparse
import copy
import logging
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch
import yaml
from jaxtyping import Bool, Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import nn
from torch.nn import functional

from isocenter.core.errors import ConfigError
from isocenter.learn.checkpoint import CsvLog, load_checkpoint, save_checkpoint
from isocenter.learn.interactive_samples import Place, SampleSettings, StageSettings, draw_sample, rng_of
from isocenter.learn.interactive_user import correct
from isocenter.learn.interactive_validation import COLUMNS, validate
from isocenter.models.interactive.build import build_network
from isocenter.models.interactive.inputs import encode_prompts
from isocenter.models.interactive.network import Answer, Examples, Features, InteractiveNet, InteractiveSettings
from isocenter.models.weights import WeightsCard, load_weights

__all__ = ["ANCESTOR", "InteractiveTraining", "Trainer", "batch_inputs", "load_config", "main"]

_LOG = logging.getLogger(__name__)
ANCESTOR = "began_from.json"
_COLUMNS = ("step", "pixels", "loss", "dice", "alternatives", "quality_error", "rate", "lessons")


class NetworkSettings(BaseModel):
    """Shape of the network; see `InteractiveSettings`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    widths: tuple[int, ...] = (32, 64, 128, 192)
    prompt_widths: tuple[int, ...] = (32, 48, 64, 96)
    fine: int = 8
    blocks: int = 2
    memory: int = 48


class InteractiveTraining(BaseModel):
    """Everything a training depends on.

    Attributes:
        seed: Decides every sample, prompt and first weight.
        start_from: Weights to begin with (a built-in name, or a path); None begins anew.
        freeze_norm: Whether normalisation keeps the statistics it begins with, as a network that has learnt can: a
            round of a few samples is then as good as a large one.
        network: Shape of the network.
        samples: What samples are made of.
        stages: Sizes of pictures, one after the other.
        learning_rate: Peak; up over `warmup_steps`, down to nothing over the last `decay_steps`.
        weight_decay: Of AdamW.
        clip_norm: Longest gradient.
        average: Decay of the averaged weights, which are the ones that ship.
        stay: Chance that a sample is corrected once more.
        most_rounds: Most answers to one sample.
        bfloat16: Whether convolutions run in bfloat16.
        threads: Of torch.
        checkpoint_every: Steps.
        validate_every: Steps.
        validation_samples: Synthetic samples of another stream.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: Literal["interactive"] = "interactive"
    seed: int = Field(ge=0)
    start_from: str | None = None
    freeze_norm: bool = False
    network: NetworkSettings = NetworkSettings()
    samples: SampleSettings = SampleSettings()
    stages: tuple[StageSettings, ...] = Field(min_length=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(ge=0)
    decay_steps: int = Field(ge=1)
    weight_decay: float = Field(ge=0)
    clip_norm: float = Field(gt=0)
    average: float = Field(ge=0, lt=1)
    stay: float = Field(ge=0, lt=1)
    most_rounds: int = Field(ge=1)
    bfloat16: bool = False
    threads: int = Field(default=1, ge=1)
    checkpoint_every: int = Field(ge=1)
    validate_every: int = Field(ge=1)
    validation_samples: int = Field(ge=2)

    @property
    def steps(self) -> int:
        """Steps of the whole training."""
        return self.stages[-1].until

    @property
    def shape(self) -> InteractiveSettings:
        """The network's shape."""
        return InteractiveSettings(dims=self.samples.dims, **self.network.model_dump())

    def stage(self, step: int) -> StageSettings:
        """Return the stage a step (counted from 0) belongs to."""
        return next(s for s in self.stages if step < s.until)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: up, level, and down along a cosine to nothing."""
        up = min(1.0, (step + 1) / max(1, self.warmup_steps))
        left = min(1.0, (self.steps - step) / self.decay_steps)
        return self.learning_rate * up * (0.5 - 0.5 * math.cos(math.pi * left))


def load_config(path: Path) -> InteractiveTraining:
    """Read and check a configuration.

    Raises:
        ConfigError: A key is unknown, missing or out of range.
    """
    try:
        return InteractiveTraining.model_validate(yaml.safe_load(path.read_text()))
    except (OSError, yaml.YAMLError, ValidationError) as error:
        raise ConfigError(f"{path.name}: {error}") from error


def batch_inputs(places: list[Place]) -> torch.Tensor:
    """Return the network's input for samples in play: picture channels, then prompt channels."""
    pictures = np.stack([p.picture.channels() for p in places])
    prompts = encode_prompts([p.picture for p in places], [p.canvas for p in places])
    return torch.from_numpy(np.concatenate([pictures, prompts], axis=1))


def encode(net: InteractiveNet, places: list[Place]) -> tuple[Features, Examples | None]:
    """Encode the pictures of samples, and the examples that come with them."""
    shown = torch.from_numpy(np.stack([p.picture.channels() for p in places]))
    pairs = [(owner, *pair) for owner, place in enumerate(places) for pair in place.examples]
    if not pairs:
        return net.encode(shown), None
    others = torch.from_numpy(np.stack([picture.channels() for _, picture, _ in pairs]))
    masks = torch.from_numpy(np.stack([mask for _, _, mask in pairs]).astype(np.float32))
    features, count = net.encode(torch.cat([shown, others])), len(places)
    owner = torch.tensor([o for o, _, _ in pairs])
    memory = net.remember(features.of(torch.arange(count, len(others) + count)), masks, owner, count)
    return features.of(torch.arange(count)), memory


def _of(encoded: tuple[Features, Examples | None], active: list[int], count: int) -> tuple[Features, Examples | None]:
    """Return what was encoded of some of the samples."""
    if len(active) == count:
        return encoded
    features, memory = encoded
    rows = torch.tensor(active)
    return features.of(rows), None if memory is None else Examples(*(part[rows] for part in memory))


def _overlaps(
    probability: Float[torch.Tensor, "n k *space"], target: Float[torch.Tensor, "n 1 *space"]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return IoU and Dice of every answer at 0.5, each (n, k); 1 where both are empty."""
    hard = (probability >= 0.5).float()
    both = (hard * target).flatten(2).sum(2)
    sizes = hard.flatten(2).sum(2) + target.flatten(2).sum(2)
    dice = torch.where(sizes > 0, 2 * both / sizes.clamp(min=1), torch.ones_like(sizes))
    iou = torch.where(sizes > 0, both / (sizes - both).clamp(min=1), torch.ones_like(sizes))
    return iou, dice


def _weighted(found: list[tuple[int, float]]) -> float:
    """Return the mean of what is a number, weighted; NaN where nothing is."""
    known = [(n, value) for n, value in found if not math.isnan(value)]
    return sum(n * value for n, value in known) / sum(n for n, _ in known) if known else float("nan")


def _recall_loss(recalled: Float[torch.Tensor, "n 1 *half"], target: Float[torch.Tensor, "n *space"]) -> torch.Tensor:
    """Return how wrong the memory's own drawing is: it learns to look up long before the rest learns to ask it."""
    pool = functional.avg_pool2d if target.ndim == 3 else functional.avg_pool3d
    wanted = pool(target[:, None], 2)
    drawn = recalled.clamp(1e-3, 1 - 1e-3)
    cross = functional.binary_cross_entropy(drawn, wanted, reduction="none").flatten(1).mean(1)
    both = (drawn * wanted).flatten(1).sum(1)
    return cross + 1 - (2 * both + 1) / (drawn.flatten(1).sum(1) + wanted.flatten(1).sum(1) + 1)


def loss_of(
    answer: Answer,
    target: Float[torch.Tensor, "n *space"],
    ambiguous: Bool[torch.Tensor, " n"],
    shown: Bool[torch.Tensor, " n"],
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the loss (cross-entropy + Dice + quality; of the alternatives the best counts) and what it was made of.

    Args:
        answer: To the samples in play.
        target: What is right.
        ambiguous: Which had one click only.
        shown: Which had examples.
    """
    wanted = target[:, None]
    probability = torch.sigmoid(answer.logits)
    cross = functional.binary_cross_entropy_with_logits(
        answer.logits, wanted.expand_as(answer.logits), reduction="none"
    )
    both = (probability * wanted).flatten(2).sum(2)
    soft = 1 - (2 * both + 1) / (probability.flatten(2).sum(2) + wanted.flatten(2).sum(2) + 1)
    each = cross.flatten(2).mean(2) + soft
    loss = each[:, 0].mean()
    with torch.no_grad():
        iou, dice = _overlaps(probability, wanted)
    judged = functional.binary_cross_entropy_with_logits(answer.quality, iou, reduction="none")
    loss = loss + 0.1 * judged[:, 0].mean()
    if bool(shown.any()):
        recall = _recall_loss(answer.recalled[shown].float(), target[shown])
        loss = loss + 0.5 * shown.float().mean() * recall.mean()
    best = float("nan")
    if bool(ambiguous.any()):
        # Whatever was meant, one of the alternatives should have said it; the rest get a little, so that none dies.
        others = each[ambiguous, 1:]
        share = ambiguous.float().mean()
        loss = loss + share * (others.min(dim=1).values.mean() + 0.03 * others.mean())
        loss = loss + 0.1 * share * judged[ambiguous, 1:].mean()
        best = float(dice[ambiguous, 1:].max(dim=1).values.mean())
    error = float((torch.sigmoid(answer.quality[:, 0]) - iou[:, 0]).abs().mean().detach())
    return loss, {"dice": float(dice[:, 0].mean()), "alternatives": best, "quality_error": error}


class Trainer:
    """A training: its network, its averaged twin and its optimiser.

    Args:
        config: What it depends on.
        out: Folder for checkpoints and logs.
    """

    def __init__(self, config: InteractiveTraining, out: Path) -> None:
        self.config, self.out = config, out
        torch.manual_seed(config.seed)
        self.ancestor: WeightsCard | None = None
        self.net = self._begun()
        self.average = copy.deepcopy(self.net).eval()
        self.optimiser = torch.optim.AdamW(
            self.net.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self.step, self.next_index, self.seconds = 0, 0, 0.0
        self.drawing_seconds = 0.0  # of `seconds`, those that synthesis took

    def _begun(self) -> InteractiveNet:
        """Return the network to begin with: new, or filled with the weights that the configuration names."""
        config = self.config
        net = InteractiveNet(config.shape)
        if config.start_from is not None:
            weights = load_weights(config.start_from)
            known, self.ancestor = build_network(weights), weights.card
            if known.settings != net.settings:
                raise ConfigError(f"start_from: {config.start_from} is a network of another shape than `network` says")
            net.load_state_dict(known.state_dict())
        layout = torch.channels_last if config.samples.dims == 2 else torch.channels_last_3d
        return net.to(memory_format=layout)  # type: ignore[call-overload,no-any-return]

    def _draw(self, stage: StageSettings) -> list[Place]:
        """Draw the samples of a step."""
        config, before = self.config, time.monotonic()
        places = [
            draw_sample(config.seed, index, stage, config.samples)
            for index in range(self.next_index, self.next_index + stage.batch)
        ]
        self.next_index += stage.batch
        self.drawing_seconds += time.monotonic() - before
        return places

    def _learning(self) -> None:
        """Set the network to learn; its normalisation keeps what it knows of the pictures, if so configured."""
        self.net.train()
        if self.config.freeze_norm:
            for module in self.net.modules():
                if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                    module.eval()

    def train_step(self) -> dict[str, float]:
        """Answer, correct, answer again, learn from all the answers; return the numbers of this step."""
        config, stage = self.config, self.config.stage(self.step)
        places = self._draw(stage)
        rate = config.rate(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self._learning()
        with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
            encoded = encode(self.net, places)
        active, losses, found = list(range(len(places))), [], []
        while active:
            asked = [places[i] for i in active]
            target = torch.from_numpy(np.stack([p.target for p in asked]).astype(np.float32))
            features, memory = _of(encoded, active, len(places))
            with torch.autocast("cpu", torch.bfloat16, enabled=config.bfloat16):
                answer = self.net.answer(features, batch_inputs(asked), memory)
            answer = Answer(answer.logits.float(), answer.quality.float(), answer.recalled)
            ambiguous = torch.tensor([p.ambiguous for p in asked])
            shown = torch.tensor([bool(p.examples) for p in asked])
            loss, numbers = loss_of(answer, target, ambiguous, shown)
            losses.append(loss * len(active))
            found.append((len(active), numbers))
            active = self._correct(places, active, torch.sigmoid(answer.logits[:, 0].detach()).numpy())
        lessons = sum(count for count, _ in found)
        total = torch.stack(losses).sum() / lessons
        self.optimiser.zero_grad(set_to_none=True)
        total.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.net.parameters(), config.clip_norm)
        self.optimiser.step()
        self._average()
        self.step += 1
        means = {k: _weighted([(n, numbers[k]) for n, numbers in found]) for k in found[0][1]}
        head = {"step": self.step, "pixels": stage.pixels, "loss": float(total.detach())}
        return {**head, **means, "rate": rate, "lessons": lessons}

    def _average(self) -> None:
        decay = min(self.config.average, (self.step + 1) / (self.step + 10))
        ours, mean = self.net.state_dict(), self.average.state_dict()
        floats = [k for k, v in mean.items() if v.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([mean[k] for k in floats], [ours[k] for k in floats], 1 - decay)
            for name, value in mean.items():
                if not value.is_floating_point():
                    value.copy_(ours[name])

    def _correct(
        self, places: list[Place], active: list[int], probabilities: Float[np.ndarray, "n *space"]
    ) -> list[int]:
        """Correct the answers to some of the samples; return those that go on."""
        going = []
        for number, probability in zip(active, probabilities, strict=True):
            place = places[number]
            rng = rng_of(self.config.seed, 2, self.step, number, place.round)
            place.round += 1
            if place.round >= self.config.most_rounds or rng.random() >= self.config.stay:
                continue
            canvas = correct(rng, place.canvas, probability, place.target)
            if canvas is not None:
                place.canvas = canvas
                going.append(number)
        return going

    def save(self) -> None:
        """Write the checkpoint."""
        save_checkpoint(
            self.out / "checkpoint.pt",
            {
                "config": self.config.model_dump_json(),
                "step": self.step,
                "next_index": self.next_index,
                "seconds": self.seconds,
                "drawing_seconds": self.drawing_seconds,
                "net": self.net.state_dict(),
                "average": self.average.state_dict(),
                "optimiser": self.optimiser.state_dict(),
            },
        )

    def resume(self) -> None:
        """Take up where the checkpoint left off.

        Raises:
            WeightsError: There is no readable checkpoint.
        """
        state = load_checkpoint(self.out / "checkpoint.pt")
        self.step, self.next_index = state["step"], state["next_index"]
        self.seconds, self.drawing_seconds = state["seconds"], state["drawing_seconds"]
        self.net.load_state_dict(state["net"])
        self.average.load_state_dict(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])

    def run(
        self,
        *,
        until: int | None = None,
        resume: bool = False,
        tell: Callable[[Mapping[str, object]], None] | None = None,
    ) -> None:
        """Train to the end, or to a step.

        Args:
            until: Stop there, as if killed after its checkpoint; None for the end.
            resume: Begin from the checkpoint in the folder.
            tell: Called after every step with its row of steps.csv.
        """
        config = self.config
        torch.set_num_threads(config.threads)
        if resume:
            self.resume()
        elif self.ancestor is not None:
            self.out.mkdir(parents=True, exist_ok=True)
            (self.out / ANCESTOR).write_text(self.ancestor.model_dump_json(indent=1), encoding="utf-8")
        keep = self.step if resume else None
        log = CsvLog(self.out / "steps.csv", _COLUMNS, keep_until=keep)
        checks = CsvLog(self.out / "validation.csv", COLUMNS, keep_until=keep)
        before = time.monotonic() - self.seconds
        try:
            while self.step < min(config.steps, until or config.steps):
                row = self.train_step()
                log.add(row)
                self.seconds = time.monotonic() - before
                if tell is not None:
                    tell(row)
                if self.step % config.validate_every == 0 or self.step == config.steps:
                    found = validate(self.average, config.seed, config.samples, config.validation_samples)
                    checks.add({"step": self.step, **found})
                    _LOG.info("step %d: %s", self.step, found)
                if self.step % config.checkpoint_every == 0 or self.step in (config.steps, until):
                    self.save()
                    drawn, learnt = (
                        self.next_index / max(s, 1e-9)
                        for s in (self.drawing_seconds, self.seconds - self.drawing_seconds)
                    )
                    _LOG.info(
                        "step %d, %.0f s, %d samples; synthesis alone %.1f samples/s, learning alone %.1f",
                        *(self.step, self.seconds, self.next_index, drawn, learnt),
                    )
        finally:
            log.close()
            checks.close()


def main(arguments: list[str] | None = None) -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--config", type=Path, required=True, help="YAML file with every setting")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints and logs")
    parser.add_argument("--until", type=int, help="stop at this step, as if killed")
    parser.add_argument("--resume", action="store_true", help="go on from the checkpoint in --out")
    args = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Trainer(load_config(args.config), args.out).run(until=args.until, resume=args.resume)


if __name__ == "__main__":
    main()
