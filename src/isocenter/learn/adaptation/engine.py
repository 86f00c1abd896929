"""The loop that every adaptation shares: steps, averaged weights, checkpoints, early stop, exact resume.

The chance of step i of a job comes from (seed, job, i) alone, so a training that is killed and resumed draws the same
curve. What counts is the averaged network; of those that were looked at, the best by the validation cases is kept. They
are never among the cases that a figure is given for.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import nn

from isocenter.core.errors import TrainingError
from isocenter.learn.checkpoint import CsvLog, load_checkpoint, save_checkpoint
from isocenter.learn.memory import in_memory
from isocenter.models.learnt import device_of

__all__ = ["Course", "Job", "Learnt", "find_rate", "fit", "keep", "keep_first", "measure_step", "quickest_precision"]

Tell = Callable[[str, float], None]
_RATES, _ALLOWED = (1e-4, 3e-2), (3e-4, 5e-3)
"""Range of the search for a learning rate, and what it may find."""


@runtime_checkable
class Job(Protocol):
    """What is learnt."""

    @property
    def batch(self) -> int:
        """Images or windows of a step."""
        ...

    def loss(self, net: nn.Module, rng: np.random.Generator) -> torch.Tensor:
        """Draw a batch and return its loss."""
        ...

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """Return figures on the validation cases; "score" is what is to be high. Empty where there are none."""
        ...


@dataclass(frozen=True)
class Course:
    """How to learn.

    Args:
        seed: Of everything random.
        number: Of the job: folds count from 0.
        steps: How many.
        learning_rate: Peak.
        weight_decay: Of AdamW, for weights of two axes or more.
        average: Decay of the averaged weights.
        checks: How often on the way the validation cases are looked at.
        patience: Checks without a better one after which it stops; 0 never.
        bfloat16: Whether convolutions and products run in bfloat16.
        checkpoint_seconds: Longest time between two checkpoints.
    """

    seed: int
    number: int
    steps: int
    learning_rate: float = 3e-3
    weight_decay: float = 1e-3
    average: float = 0.99
    checks: int = 8
    patience: int = 0
    bfloat16: bool = False
    checkpoint_seconds: float = 120.0

    def marks(self) -> list[int]:
        """Return the steps after which the validation cases are looked at; the last step is one."""
        return sorted({max(1, round(self.steps * (i + 1) / self.checks)) for i in range(self.checks)})

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: up over a tenth, down along a cosine."""
        warm = max(1, min(100, self.steps // 10))
        up = min(1.0, (step + 1) / warm)
        return self.learning_rate * up * (0.5 + 0.5 * math.cos(math.pi * step / self.steps))


@dataclass
class Learnt:
    """What a training came to.

    Args:
        net: The averaged network that is kept, in evaluation mode, where it learnt.
        step: At which it stood so.
        steps: Steps that were done.
        validation: Figures of the one that is kept.
        seconds: Of all calls, by the clock on the wall.
        cpu_seconds: Of all calls, of this process's processors.
        where: On which devices, with which torch and in which precision: several where it was gone on with elsewhere.
    """

    net: nn.Module
    step: int
    steps: int
    validation: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    where: tuple[str, ...] = ()


@dataclass
class _Standing:
    """Where a training stands."""

    step: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    best_step: int = 0
    best_score: float = -math.inf
    waited: int = 0
    figures: dict[str, float] = field(default_factory=dict)
    where: list[str] = field(default_factory=list)


def _optimiser(net: nn.Module, course: Course) -> torch.optim.AdamW:
    free = [p for p in net.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in free if p.ndim > 1], "weight_decay": course.weight_decay},
        {"params": [p for p in free if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=course.learning_rate, fused=True)


def _step(net: nn.Module, job: Job, course: Course, step: int) -> torch.Tensor:
    rng = np.random.default_rng((course.seed, 11, course.number, step))
    torch.manual_seed(int(rng.integers(2**31)))  # dropout
    with (
        in_memory(batch=job.batch, further=", and so do narrower `widths`"),
        torch.autocast(device_of(net).type, torch.bfloat16, enabled=course.bfloat16),
    ):
        loss = job.loss(net, rng)
    if not bool(torch.isfinite(loss)):
        raise TrainingError(
            f"the loss of step {step + 1} is not finite; lower learning_rate (now {course.learning_rate:g})"
        )
    return loss


def measure_step(net: nn.Module, job: Job, course: Course, *, steps: int = 3) -> float:
    """Return the seconds of a step on this machine, on a copy of the network."""
    return _timed_steps(net, job, course, steps, time.monotonic)


def _timed_steps(net: nn.Module, job: Job, course: Course, steps: int, clock: Callable[[], float]) -> float:
    trial = copy.deepcopy(net).train()
    optimiser = _optimiser(trial, course)
    times, device = [], device_of(net)
    if device.type == "cuda":
        clock = partial(_once_done, device)
    for step in range(steps + 1):
        started = clock()
        loss = _step(trial, job, course, step)
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        optimiser.step()
        times.append(clock() - started)
    return float(np.median(times[1:]))


def _once_done(device: torch.device) -> float:
    """Return the time once a GPU has done what it was given."""
    torch.cuda.synchronize(device)
    return time.monotonic()


def quickest_precision(net: nn.Module, job: Job, course: Course) -> bool:
    """Return whether bfloat16 is quicker by a tenth or more on this machine, in processor time: others may be busy."""
    half, single = (
        _timed_steps(net, job, replace(course, bfloat16=way), 3, time.process_time) for way in (True, False)
    )
    return half < 0.9 * single


def fit(net: nn.Module, job: Job, course: Course, folder: Path, tell: Tell) -> Learnt:
    """Learn, or go on where an earlier call was interrupted.

    Args:
        net: To begin with, on the device where it learns; it is changed.
        job: What is learnt.
        course: How.
        folder: For the checkpoint and the table of steps.
        tell: Called after every step with how it goes and how much is done.

    Raises:
        TrainingError: The loss is not finite.
        WeightsError: The checkpoint can't be read.
    """
    average = copy.deepcopy(net).eval()
    best = copy.deepcopy(average.state_dict())
    optimiser, now = _optimiser(net, course), _Standing()
    file = folder / "checkpoint.pt"
    if file.is_file():
        kept = load_checkpoint(file)
        net.load_state_dict(kept["net"])
        average.load_state_dict(kept["average"])
        optimiser.load_state_dict(kept["optimiser"])
        best, now = kept["best"], _Standing(**kept["standing"])
    here = _here(net, course)
    if now.step < course.steps and here not in now.where:
        now.where.append(here)
    log = CsvLog(folder / "steps.csv", ("step", "loss", "rate"), keep_until=now.step)

    def save() -> float:
        parts = {"net": net.state_dict(), "average": average.state_dict(), "best": best}
        save_checkpoint(file, {**parts, "optimiser": optimiser.state_dict(), "standing": asdict(now)})
        return time.monotonic()

    marks, saved = set(course.marks()), time.monotonic()
    before, cpu_before = time.monotonic() - now.seconds, time.process_time() - now.cpu_seconds
    try:
        while now.step < course.steps and not (course.patience and now.waited >= course.patience):
            rate = course.rate(now.step)
            for group in optimiser.param_groups:
                group["lr"] = rate
            net.train()
            loss = _step(net, job, course, now.step)
            optimiser.zero_grad(set_to_none=True)
            with in_memory(batch=job.batch, further=", and so do narrower `widths`"):
                torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_([p for p in net.parameters() if p.requires_grad], 5.0)
            optimiser.step()
            _follow(average, net, min(course.average, (now.step + 1) / (now.step + 10)))
            now.step += 1
            log.add({"step": now.step, "loss": float(loss.detach()), "rate": rate})
            now.seconds, now.cpu_seconds = time.monotonic() - before, time.process_time() - cpu_before
            tell(f"step {now.step} of {course.steps}, loss {float(loss.detach()):.3f}", now.step / course.steps)
            if now.step in marks:
                figures = {k: float(v) for k, v in job.validate(average).items()}
                score = figures.get("score", float(now.step))
                now.waited += 1
                if score > now.best_score:
                    now.best_score, now.best_step, now.figures, now.waited = score, now.step, figures, 0
                    best = {k: v.clone() for k, v in average.state_dict().items()}
                saved = save()
            elif time.monotonic() - saved > course.checkpoint_seconds:
                saved = save()
    finally:
        log.close()
    average.load_state_dict(best)
    return Learnt(
        average.eval(), now.best_step, now.step, dict(now.figures), now.seconds, now.cpu_seconds, tuple(now.where)
    )


def _follow(average: nn.Module, net: nn.Module, decay: float) -> None:
    with torch.no_grad():
        for mean, fast in zip(average.parameters(), net.parameters(), strict=True):
            mean.lerp_(fast, 1 - decay)
        for kept, found in zip(average.buffers(), net.buffers(), strict=True):
            if kept.is_floating_point():  # the statistics of batch normalisation belong to the averaged weights
                kept.lerp_(found, 1 - decay)
            else:
                kept.copy_(found)


def _here(net: nn.Module, course: Course) -> str:
    device = device_of(net)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "processor"
    return f"{name}, torch {torch.__version__}, {'bfloat16' if course.bfloat16 else 'float32'}"


def keep(file: Path, document: Mapping[str, object]) -> None:
    """Write a small document whole, or not at all."""
    temporary = _written(file, document)
    temporary.replace(file)


def keep_first(file: Path, document: Mapping[str, object]) -> dict[str, object]:
    """Write a document unless there is one: processes beside each other agree on the first. Return the one that stands.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as place:
        ...     [keep_first(Path(place) / "settled.json", {"steps": n})["steps"] for n in (3, 4)]
        [3, 3]
    """
    temporary = _written(file, document)
    try:
        os.link(temporary, file)  # fails where there is one already
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        if not file.is_file():
            temporary.replace(file)
    temporary.unlink(missing_ok=True)
    found: dict[str, object] = json.loads(file.read_text("utf-8"))
    return found


def _written(file: Path, document: Mapping[str, object]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    temporary = file.with_name(f"{file.name}.{os.getpid()}.part")  # others may write beside it
    temporary.write_text(json.dumps(document, indent=1), "utf-8")
    return temporary


def find_rate(net: nn.Module, job: Job, course: Course, folder: Path, *, steps: int = 40) -> float:
    """Find a learning rate: it rises from step to step on a copy; a third of the rate of the least loss is taken.

    Args:
        net: To begin with; it is not changed.
        job: What is learnt.
        course: How; its own rate is not used.
        folder: Where the rate is kept, so that a training that is resumed has the same.
        steps: Of the search.

    Source:
        Smith, WACV 2017 (learning-rate range test).
    """
    kept = folder / "rate.json"
    if kept.is_file():
        return float(json.loads(kept.read_text("utf-8"))["rate"])
    trial = copy.deepcopy(net).train()
    optimiser = _optimiser(trial, course)
    smooth, found, rates = None, [], np.geomspace(_RATES[0], _RATES[1], steps)
    for step, rate in enumerate(rates):
        for group in optimiser.param_groups:
            group["lr"] = float(rate)
        try:
            loss = _step(trial, job, course, step)
        except TrainingError:
            break
        value = float(loss.detach())
        smooth = value if smooth is None else 0.8 * smooth + 0.2 * value
        found.append(smooth)
        if smooth > 2 * min(found):
            break
        optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_([p for p in trial.parameters() if p.requires_grad], 5.0)
        optimiser.step()
    if not found:
        raise TrainingError("the loss is not finite before anything is learnt; check the images' values")
    best = float(np.clip(rates[int(np.argmin(found))] / 3, *_ALLOWED))
    folder.mkdir(parents=True, exist_ok=True)
    keep(kept, {"rate": best, "losses": [round(f, 4) for f in found]})
    return best
