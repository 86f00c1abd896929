"""The loop that trains every self-supervised method.

Randomness is drawn anew from (seed, step, place), never from a running state, and nothing in a learner draws any: a
training killed at any step and resumed draws the same curve to the last digit, on one process and one kind of machine.
Under `torchrun` the batch is shared out, and with `parallel: fsdp` the weights too: the curve is that of one process
but for rounding.
"""

from __future__ import annotations

import contextlib
import copy
import csv
import json
import logging
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from isocenter.core.errors import ConfigError, TrainingError
from isocenter.learn.checkpoint import CsvLog
from isocenter.learn.memory import in_memory
from isocenter.learn.method import StepReport, Stop, Tell
from isocenter.learn.pretraining.args import PretrainingArgs
from isocenter.learn.pretraining.collapse import Watch, spread_of
from isocenter.learn.pretraining.events import Events
from isocenter.learn.pretraining.images import Images
from isocenter.learn.pretraining.learner import Learner, Recipe
from isocenter.learn.pretraining.loader import Loader
from isocenter.learn.pretraining.parallel import World, mean_over, world
from isocenter.learn.pretraining.sharding import Layout, clipped, layout_of, shard
from isocenter.learn.pretraining.speed import Choices, choose, compiled, device_of
from isocenter.learn.pretraining.states import CHECKPOINT, State, into, named, plain_of, save

__all__ = ["CHECKPOINT", "Trainer", "begun", "decayed"]

_LOG = logging.getLogger(__name__)
CHOICES, UNREADABLE = "choices.json", "unreadable.csv"
_EXAMPLES = 2
_NOT_DECAYED = ("registers", "positions", "token")


def begun(recipe: Recipe, args: PretrainingArgs) -> Learner:
    """Return a learner with the first weights that the seed gives."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(args.seed)
        learner: Learner = recipe.learner(args)
    return learner


def decayed(learner: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Return groups of parameters: matrices, which decay, and scales, offsets and tokens, which don't."""
    yes: list[nn.Parameter] = []
    no: list[nn.Parameter] = []
    for name, parameter in learner.named_parameters():
        if parameter.requires_grad:
            still = parameter.ndim < 2 or any(part in name for part in _NOT_DECAYED)
            (no if still else yes).append(parameter)
    return [{"params": yes, "weight_decay": decay}, {"params": no, "weight_decay": 0.0}]


class Trainer:
    """A training: its learner, its averaged twin and its optimiser.

    Args:
        recipe: The method.
        args: Its configuration.
        images: What it learns from.
        out: Folder for checkpoints and tables.

    Raises:
        ConfigError: The processes can't share a batch equally.
    """

    def __init__(self, recipe: Recipe, args: PretrainingArgs, images: Images, out: Path) -> None:
        self.recipe, self.args, self.images, self.out = recipe, args, images, out
        self.world: World = world()
        if (args.batch // args.accumulate) % self.world.size:
            raise ConfigError(
                f"{self.world.size} processes can't share a batch of {args.batch} in {args.accumulate} parts equally; "
                "choose a batch that they can"
            )
        self.layout: Layout = layout_of(args, self.world)
        self.device = device_of(args, self.world)
        self.learner = begun(recipe, args)
        keeps_own = self.learner.averaged() is not None
        self.average: Learner | None = None if keeps_own else copy.deepcopy(self.learner).eval()
        self.loader = Loader(recipe, args, images, self.world)
        self.watch = Watch(args.collapse)
        self.step, self.seconds = 0, 0.0
        self.notes = _left_out(images)
        self.validation: dict[str, float] = {}
        self._choices: Choices | None = None
        self._call: nn.Module = self.learner
        self._held: list[dict[str, torch.Tensor]] = []
        self._probe = torch.empty(0)

    @property
    def judged(self) -> Learner:
        """The learner whose weights ship."""
        return self.average if self.average is not None else self.learner

    def run(self, stop: Stop, tell: Tell) -> None:
        """Train to the end, or to a step; see `Stop`.

        Raises:
            TrainingError: The loss is no number, or the embeddings have collapsed.
            DataError: Too many images can't be read.
            OutputError: The disk is full; the checkpoint before is whole.
        """
        threads = torch.get_num_threads()
        torch.set_num_threads(self.args.threads)
        try:
            self._begin(stop.resume)
            with self._logs(stop.resume) as (steps, checks, events):
                self._train(stop, tell, steps, checks, events)
            self.world.wait()  # the last checkpoint is the first process's to write; who reads it next finds it whole
        finally:
            self.loader.close()
            torch.set_num_threads(threads)

    def _train(self, stop: Stop, tell: Tell, steps: _Log, checks: _Log, events: Events) -> None:
        args, last = self.args, min(self.args.steps, stop.until or self.args.steps)
        if self.step == 0:
            self._validate(checks, events)
        before = time.monotonic() - self.seconds
        saved = time.monotonic()
        while self.step < last:
            row = self.train_step()
            steps.add(row)
            events.add("step", self.step, row)
            if self.step % args.validate_every == 0 or self.step == args.steps:
                self._validate(checks, events)
            self.seconds = time.monotonic() - before
            by_clock = time.monotonic() - saved > stop.checkpoint_minutes * 60
            if self.step % args.checkpoint_every == 0 or self.step == last or by_clock:
                self.save()
                saved = time.monotonic()
            self._note_unreadable()
            tell(
                StepReport(
                    *(self.step, args.steps, float(row["loss"]), args.batch),
                    validation=self.validation,
                    shown=("held_out_loss", "rank"),
                    notes=tuple(self.notes),
                )
            )

    def _begin(self, resume: bool) -> None:
        known = self._known(plain_of(self.out)) if resume else None
        first = self._moved(self.loader.batches(self.step)[0]) if self.step < self.args.steps else {}
        if self._choices is None:
            self._choices = choose(self.args, self.learner, first, self.device)
        self._place(self._choices.bfloat16)
        if known is not None:
            into(self.out, known, self._state())
        if self.world.first:
            self.out.mkdir(parents=True, exist_ok=True)
            chosen = {"threads": self.args.threads, "device": self.device.type}
            chosen |= {"processes": self.world.size, "parallel": self.layout}
            (self.out / CHOICES).write_text(json.dumps({**self._choices.as_dict(), **chosen}, indent=1))
        call: nn.Module = self.learner
        if self.args.compile and first:
            call, told = compiled(self.learner, first, half=self._choices.bfloat16)
            self.notes += [told] if told else []
        if self.layout == "ddp":
            ids = [self.device] if self.device.type == "cuda" else None
            call = DistributedDataParallel(call, device_ids=ids, broadcast_buffers=False)
        self._call = call
        self._held = [self._moved(b) for b in self.loader.held_out(max(_EXAMPLES, min(64, len(self.images.held) * 2)))]
        self._probe = self.loader.probe(self.args.collapse.probe).to(self.device)

    def _place(self, bfloat16: bool) -> None:
        """Bring the weights to the device, or this process's part of them; only then can there be an optimiser."""
        for learner in (self.learner, self.average):
            if learner is None:
                continue
            if self.layout == "fsdp":
                shard(learner, self.device, self.world, bfloat16=bfloat16)
            learner.to(self.device)
        args = self.args
        self.optimiser = torch.optim.AdamW(
            decayed(self.learner, args.weight_decay), lr=args.learning_rate, betas=args.betas, fused=True
        )

    def _state(self) -> State:
        return State(self.learner, self.average, self.optimiser)

    def _moved(self, batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        return {k: v.to(self.device, non_blocking=True) for k, v in batch.items()}

    def _autocast(self) -> torch.autocast:
        half = self._choices is not None and self._choices.bfloat16
        return torch.autocast(self.device.type, torch.bfloat16, enabled=half)

    def train_step(self) -> dict[str, float]:
        """Learn from one batch; return its row of the table.

        Raises:
            TrainingError: The loss or a gradient is no number.
        """
        args, step, learner = self.args, self.step, self.learner
        rate = args.rate(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        learner.begin_step(step, args.steps)
        learner.train()
        self.optimiser.zero_grad(set_to_none=True)
        parts = [self._moved(b) for b in self.loader.batches(step)]
        total: torch.Tensor | None = None
        for number, batch in enumerate(parts, 1):
            alone = self._call.no_sync() if number < len(parts) and self.layout == "ddp" else contextlib.nullcontext()  # type: ignore[operator]
            with alone, in_memory(batch=args.batch // args.accumulate, further="; so do `accumulate` and `recompute`"):
                with self._autocast():
                    loss, figures = self._call(batch)
                (loss / len(parts)).backward()
            values = torch.stack([loss.detach(), *(figures[k].detach().float() for k in learner.figures)]) / len(parts)
            total = values if total is None else total + values
        numbers = [float(v) for v in mean_over(total if total is not None else torch.zeros(0))]
        if not math.isfinite(numbers[0]):
            raise TrainingError(_not_finite("loss", step + 1))
        learner.before_update(step)
        norm = clipped(learner, args.clip_norm)
        if not math.isfinite(norm):
            raise TrainingError(_not_finite("gradient", step + 1))
        self.optimiser.step()
        learner.end_step(step, args.steps)
        self._keep_average()
        self.step += 1
        named = dict(zip(learner.figures, numbers[1:], strict=True))
        return {"step": self.step, "loss": numbers[0], **named, "rate": rate, "gradient": norm}

    def _keep_average(self) -> None:
        if self.average is None:
            return
        decay = min(self.args.average, (self.step + 1) / (self.step + 10))
        ours, mean = dict(named(self.learner)), dict(named(self.average))
        floats = [k for k, v in mean.items() if v.is_floating_point()]
        with torch.no_grad():
            torch._foreach_lerp_([mean[k] for k in floats], [ours[k] for k in floats], 1 - decay)

    def _validate(self, checks: _Log, events: Events) -> None:
        found = self.validate()
        checks.add(found)
        events.add("validation", self.step, found)
        _LOG.info("step %d: %s", self.step, found)

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Return the loss on held-out images, and how different embeddings are.

        Raises:
            TrainingError: The embeddings have collapsed.
        """
        judged = self.judged.eval()
        total, count = 0.0, 0
        parts = max(1, len(self._probe) * self.args.accumulate // self.args.batch)
        spaces: dict[str, list[torch.Tensor]] = {}
        with self._autocast():
            for batch in self._held:
                rows = len(next(iter(batch.values())))
                total, count = total + rows * float(judged(batch)[0]), count + rows
            for crops in self._probe.tensor_split(parts):
                for place, found in judged.watched(crops).items():
                    spaces.setdefault(place, []).append(found.float().cpu())
        self.learner.train()
        spreads = {place: spread_of(torch.cat(found)) for place, found in spaces.items()}
        figures = {"step": float(self.step), "held_out_loss": total / count}
        for number, (place, now) in enumerate(spreads.items()):
            ending = "" if number == 0 else f"_{place}"
            figures |= {f"rank{ending}": now.rank, f"std{ending}": now.std, f"spread{ending}": now.spread}
        self.validation = figures
        self.watch.look(self.step, spreads)
        return {**figures, "step": self.step}

    def _note_unreadable(self) -> None:
        unreadable = self.images.refused()
        count = len(unreadable)
        note = (
            f"{count} of {len(self.images.index.entries)} images can't be learnt from and were left out: {UNREADABLE}"
        )
        if not count or note in self.notes:
            return
        self.notes = [*(n for n in self.notes if UNREADABLE not in n), note]
        if self.world.first:
            with (self.out / UNREADABLE).open("w", newline="", encoding="utf-8") as stream:
                csv.writer(stream).writerows([("image", "why"), *sorted(unreadable.items())])

    def save(self) -> None:
        """Write the checkpoint.

        Raises:
            OutputError: The disk is full, or the folder can't be written; the one before is whole.
        """
        plain = {
            "method": self.recipe.name,
            "config": self.args.model_dump_json(),
            "step": self.step,
            "seconds": self.seconds,
            "choices": self._choices.as_dict() if self._choices is not None else {},
            "watch": self.watch.state(),
            "validation": self.validation,
            "unreadable": self.images.refused(),
        }
        save(self.out, self._state(), plain, parts=self.args.parallel == "fsdp", first=self.world.first)

    def _known(self, plain: dict[str, Any]) -> dict[str, Any]:
        """Take up the values of a checkpoint; its tensors follow once the weights have their place."""
        self.step, self.seconds = plain["step"], plain["seconds"]
        self._choices = Choices(**plain["choices"])
        self.watch.load(plain["watch"])
        self.validation = plain["validation"]
        self.images.unreadable.update(plain["unreadable"])
        return plain

    @contextlib.contextmanager
    def _logs(self, resumed: bool) -> Iterator[tuple[_Log, _Log, Events]]:
        """Open the tables of this run; only the first process has any."""
        with torch.no_grad(), self._autocast():  # by all processes: weights may be shared out
            places = list(self.judged.eval().watched(self._probe[:_EXAMPLES]))
        if not self.world.first:
            yield _Log(), _Log(), Events(self.out, wanted=False)
            return
        keep = self.step if resumed else None
        columns = ("step", "loss", *self.learner.figures, "rate", "gradient")
        names = [""] + [f"_{place}" for place in places[1:]]
        checked = ("step", "held_out_loss", *(f"{k}{e}" for e in names for k in ("rank", "std", "spread")))
        steps = CsvLog(self.out / "steps.csv", columns, keep_until=keep)
        checks = CsvLog(self.out / "validation.csv", checked, keep_until=keep)
        events = Events(self.out / "events", wanted=self.args.tensorboard, step=self.step)
        self.notes += [events.note] if events.note else []
        try:
            yield _Log(steps), _Log(checks), events
        finally:
            steps.close()
            checks.close()
            events.close()


class _Log:
    """A table, or none."""

    def __init__(self, table: CsvLog | None = None) -> None:
        self._table = table

    def add(self, row: dict[str, float]) -> None:
        if self._table is not None:
            self._table.add(row)


def _left_out(images: Images) -> list[str]:
    """Say which files were found and are not learnt from."""
    left = images.index.left_out
    if not left:
        return []
    return [f"{len(left)} files of {images.index.name} are not learnt from; the first, {left[0][0]}: {left[0][1]}"]


def _not_finite(what: str, step: int) -> str:
    return (
        f"step {step}: the {what} is no finite number, so the run stops before it spoils the weights; its last "
        "checkpoint is whole. Start anew with a lower learning rate, a longer warm-up, or `bfloat16: false`"
    )
