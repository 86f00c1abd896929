"""Turn the confirmed cases of a session into an adapter: LoRA on the interactive network, cross-validated by case.

The network for planes answers every slice without a prompt, from the confirmed cases at its height, as a session does;
LoRA teaches it this one structure. The network for volumes was tried on the hippocampus: a lesson costs it four times
as much, and within minutes on two cores it stays far behind (docs/results/adapt-from-session.md).

All folds and the final network learn alike and are looked at at the same steps, step 0 (no adaptation) among them. The
step that counts for a fold is the one that was best for the *other* folds, so the held-out Dice that is reported was
never used to choose anything about it. The final network takes the step that was best over all folds.

Every job has its own chance, from (seed, job, step): on one thread each, the same settings give the same adapter. What
depends on the machine is how many steps fit into the minutes; it is settled before the work begins, and recorded.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import DataError
from isocenter.evaluate.overlap import dice
from isocenter.learn.from_session_lessons import LearnCase, Lessons
from isocenter.models.interactive.adapted import adapted_model, count_parts, tidy
from isocenter.models.interactive.build import build_network
from isocenter.models.interactive.confirmed import Confirmed, answer_from_cases
from isocenter.models.interactive.plane import PlaneModel
from isocenter.models.lora import add_lora, lora_arrays
from isocenter.models.weights import Weights

__all__ = ["MOST_SHOWN", "AdaptSettings", "Adapted", "adapt_from_cases", "shown_cases"]

MOST_SHOWN = 4
"""Confirmed cases that the task keeps to look things up in; more brought nothing (docs/results/interactive.md)."""

_LEAST_STEPS, _MOST_STEPS = 12, 400
_PLANES_CHECKED = 9
_WARMUP = 8

Volume = np.ndarray
Tell = Callable[[str, float], None]


class AdaptSettings(BaseModel):
    """How to adapt.

    Attributes:
        seed: Of everything random.
        minutes: What all of it may take, cross-validation too; decides `steps` where that is not given.
        steps: Lessons of each network; None to settle it from `minutes` and the speed of this machine.
        rank: Of LoRA.
        scale: What its change is multiplied by.
        learning_rate: Peak; up over the first steps, down to nothing along a cosine.
        batch: Planes of a lesson.
        examples: Most confirmed cases that a plane of a lesson is answered from.
        folds: Most folds of the cross-validation; with as few cases or fewer, one is left out at a time.
        checks: How often on the way the held-out cases are looked at.
        average: Decay of the moving average of what is learnt, which is what counts.
        flip: Whether half of the lessons are mirrored left to right.
        workers: Networks that learn at the same time, each on one thread.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, ge=0)
    minutes: float = Field(default=5.0, gt=0)
    steps: int | None = Field(default=None, ge=1)
    rank: int = Field(default=8, ge=1)
    scale: float = Field(default=1.0, gt=0)
    learning_rate: float = Field(default=0.005, gt=0)
    batch: int = Field(default=4, ge=1)
    examples: int = Field(default=3, ge=1)
    folds: int = Field(default=4, ge=2)
    checks: int = Field(default=3, ge=1)
    average: float = Field(default=0.95, ge=0, lt=1)
    flip: bool = False
    workers: int = Field(default=2, ge=1)


@dataclass(frozen=True, eq=False)
class Adapted:
    """What was learnt.

    Args:
        arrays: The adapter.
        step: Lessons that it took; 0 where adaptation did not help, and the adapter changes nothing.
        settings: As asked, with `steps` settled.
        dice: Held-out Dice of each case, NaN where the structure is not in it; where `step` is 0, `dice_before`.
        dice_before: The same without adaptation, from the examples alone.
        checks: Steps at which the held-out cases were looked at.
        curve: Mean held-out Dice at these steps, over all folds, on a few planes of each case.
        losses: Of the final network.
        seconds: All of it.
    """

    arrays: dict[str, np.ndarray]
    step: int
    settings: AdaptSettings
    dice: tuple[float, ...]
    dice_before: tuple[float, ...]
    checks: tuple[int, ...]
    curve: tuple[float, ...]
    losses: tuple[float, ...]
    seconds: float


@dataclass(eq=False)
class _Job:
    """One network: which cases it learns from, which it is held to, and what came of it."""

    number: int
    learnt: list[int]
    held_out: list[int]
    arrays: list[dict[str, np.ndarray]] = field(default_factory=list)
    scores: list[dict[int, float]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)


def shown_cases(count: int) -> list[int]:
    """Return which of so many cases are kept to look things up in: at most four, spread over the order.

    Example:
        >>> shown_cases(3), shown_cases(16)
        ([0, 1, 2], [0, 5, 10, 15])
    """
    return sorted({round(float(i)) for i in np.linspace(0, count - 1, min(count, MOST_SHOWN))})


def adapt_from_cases(
    base: Weights, cases: Sequence[LearnCase], settings: AdaptSettings, tell: Tell | None = None
) -> Adapted:
    """Learn one structure from confirmed cases.

    Args:
        base: Weights of the interactive network for planes.
        cases: Confirmed cases; at least two hold the structure.
        settings: How.
        tell: Called with what is done and the share of it, 0 to 1.

    Raises:
        DataError: Fewer than two cases hold the structure.
        WeightsError: The weights are not of a network for planes.
    """
    present = [i for i, case in enumerate(cases) if case.mask.any()]
    if len(present) < 2:
        raise DataError(f"{len(present)} of the confirmed cases hold the structure; at least 2 are needed")
    started, threads = time.monotonic(), torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work = _Work(base, cases, settings, tell or (lambda _what, _done: None))
        work.settle()
        jobs = [*_folds(cases, settings), _Job(-1, list(range(len(cases))), [])]
        final, folds = jobs[-1], jobs[:-1]
        with ThreadPoolExecutor(settings.workers) as pool:
            try:
                list(pool.map(work.learn, jobs))
                chosen = [_best([f for f in folds if f is not fold]) for fold in folds]
                after = list(pool.map(work.measure, folds, chosen))
                before = list(pool.map(work.measure, folds, [0] * len(folds)))
            except BaseException:
                # The pool waits for its threads: an interrupt, or the failure of one, ends them at their next lesson.
                work.stopped = True
                raise
        best = _best(folds)
        # A final network that nothing was taken from answers as the examples alone do, so it is worth what they are.
        kept = after if work.checks[best] > 0 else before
        found = [{k: v for part in parts for k, v in part.items()} for parts in (kept, before)]
        curve = [_mean([fold.scores[c] for fold in folds]) for c in range(len(work.checks))]
        return Adapted(
            arrays=final.arrays[best],
            step=work.checks[best],
            settings=work.settings,
            dice=tuple(found[0].get(i, math.nan) for i in range(len(cases))),
            dice_before=tuple(found[1].get(i, math.nan) for i in range(len(cases))),
            checks=tuple(work.checks),
            curve=tuple(curve),
            losses=tuple(final.losses),
            seconds=time.monotonic() - started,
        )
    finally:
        torch.set_num_threads(threads)


def _folds(cases: Sequence[LearnCase], settings: AdaptSettings) -> list[_Job]:
    """Split cases into folds; those without the structure are learnt from in every fold and held out in none."""
    present = np.array([i for i, case in enumerate(cases) if case.mask.any()])
    order = np.random.default_rng((settings.seed, 1)).permutation(present)
    parts = np.array_split(order, min(len(order), settings.folds))
    return [
        _Job(number, [i for i in range(len(cases)) if i not in part], sorted(int(i) for i in part))
        for number, part in enumerate(parts)
    ]


def _mean(scores: Sequence[dict[int, float]]) -> float:
    return float(np.mean([value for one in scores for value in one.values()]))


def _best(folds: Sequence[_Job]) -> int:
    """Return the check at which the held-out cases of these folds were answered best; the earliest of equals."""
    means = [_mean([fold.scores[check] for fold in folds]) for check in range(len(folds[0].scores))]
    return int(np.argmax(np.round(means, 4)))


class _Work:
    """What all jobs share."""

    def __init__(self, base: Weights, cases: Sequence[LearnCase], settings: AdaptSettings, tell: Tell) -> None:
        self.base, self.cases, self.settings = base, cases, settings
        self.plain: PlaneModel = self.model(None)
        self.parts = [count_parts(case.mask) for case in cases]
        self.checks: list[int] = []
        self.stopped = False
        self._tell, self._done = tell, 0

    def model(self, arrays: dict[str, np.ndarray] | None) -> PlaneModel:
        return adapted_model(self.base, arrays, rank=self.settings.rank, scale=self.settings.scale)

    def settle(self) -> None:
        """Settle how many steps fit into the minutes, from a few lessons that are then forgotten."""
        settings = self.settings
        steps = settings.steps
        if steps is None:
            self._tell("measuring the speed of this machine", 0.0)
            trial = _Job(-2, list(range(len(self.cases))), [])
            times = [time.monotonic()]
            self._learn(trial, 4, lambda _job, _step: times.append(time.monotonic()))
            # Two networks at a time take turns at what is not released to other threads.
            lesson = float(np.median(np.diff(times)[1:])) * (1.0 if settings.workers == 1 else 1.2)
            asked = time.monotonic()
            self._answer(self.plain, self._shown(trial.learnt), self.cases[0].volume, _few(self.cases[0].volume))
            plane = (time.monotonic() - asked) / len(_few(self.cases[0].volume))
            held = sum(case.mask.any() for case in self.cases)
            whole = sum(len(case.volume) for case in self.cases if case.mask.any()) / held
            few = min(whole, _PLANES_CHECKED)
            # Looking costs a plane each, twice where examples of its height are encoded first.
            looking = held * plane * (few * (settings.checks + 1) + 2 * whole)
            networks = min(held, settings.folds) + 1
            rounds = math.ceil(networks / settings.workers)
            left = settings.minutes * 60 - looking / settings.workers
            steps = int(np.clip(left / (rounds * lesson), _LEAST_STEPS, _MOST_STEPS))
        self.settings = settings.model_copy(update={"steps": steps})
        marks = np.linspace(0, steps, settings.checks + 1).round().astype(int)
        self.checks = sorted({int(m) for m in marks})

    def learn(self, job: _Job) -> None:
        """Learn, keeping at every check what was learnt and how the held-out cases are answered with it."""
        self._check(job, 0, None)
        self._learn(job, self.checks[-1], self._after_step)

    def _after_step(self, job: _Job, step: int) -> None:
        self._done += 1
        whole = self.checks[-1] * (min(sum(c.mask.any() for c in self.cases), self.settings.folds) + 1)
        what = "final network" if job.number < 0 else f"fold {job.number + 1}"
        self._tell(f"{what}: lesson {step} of {self.checks[-1]}, loss {job.losses[-1]:.3f}", 0.95 * self._done / whole)

    def _check(self, job: _Job, step: int, arrays: dict[str, np.ndarray] | None) -> None:
        if step not in self.checks:
            return
        if arrays is None:
            net = build_network(self.base)
            add_lora(net, rank=self.settings.rank, scale=self.settings.scale, seed=self.settings.seed)
            arrays = lora_arrays(net)
        job.arrays.append(arrays)
        if job.held_out:
            few = {i: _few(self.cases[i].volume) for i in job.held_out}
            job.scores.append(self._score(job, self.model(arrays), few))

    def _learn(self, job: _Job, steps: int, after: Callable[[_Job, int], None]) -> None:
        settings = self.settings
        net = build_network(self.base)
        parameters = add_lora(net, rank=settings.rank, scale=settings.scale, seed=settings.seed)
        optimiser = torch.optim.AdamW(parameters, settings.learning_rate, weight_decay=1e-3)
        slow = [p.detach().clone() for p in parameters]
        learnt = [self.cases[i] for i in job.learnt]
        chance = (settings.seed, 2, job.number + 2)
        lessons = Lessons(self.plain, learnt, chance, flip=settings.flip, examples=settings.examples)
        for step in range(steps):
            if self.stopped:
                return
            rate = min(1.0, (step + 1) / _WARMUP) * (0.5 + 0.5 * math.cos(math.pi * step / steps))
            for group in optimiser.param_groups:
                group["lr"] = settings.learning_rate * rate
            # Normalisation stays as it was learnt on a million pictures: the network is not set to train().
            loss = lessons.teach(net, lessons.draw(step, settings.batch))
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(parameters, 2.0)
            optimiser.step()
            decay = min(settings.average, (step + 1) / (step + 10))
            with torch.no_grad():
                for mean, now in zip(slow, parameters, strict=True):
                    mean.lerp_(now, 1 - decay)
            job.losses.append(float(loss.detach()))
            if step + 1 in self.checks:
                names = lora_arrays(net)
                self._check(job, step + 1, {k: v.numpy().copy() for k, v in zip(names, slow, strict=True)})
            after(job, step + 1)

    def _shown(self, learnt: Sequence[int]) -> list[LearnCase]:
        present = [self.cases[i] for i in learnt if self.cases[i].mask.any()]
        return [present[i] for i in shown_cases(len(present))]

    def measure(self, job: _Job, check: int) -> dict[int, float]:
        """Return the Dice of the held-out cases of a fold, whole volumes, with what it had learnt at a check."""
        self._tell("measuring held-out cases", 0.97)
        every = {i: list(range(len(self.cases[i].volume))) for i in job.held_out}
        return self._score(job, self.model(job.arrays[check]), every)

    def _score(self, job: _Job, model: PlaneModel, planes: dict[int, list[int]]) -> dict[int, float]:
        shown, found = self._shown(job.learnt), {}
        confirmed = _confirmed(model, shown)
        for number, indices in planes.items():
            if self.stopped:
                break
            case = self.cases[number]
            answer = self._answer(model, confirmed, case.volume, indices)
            if len(indices) == len(case.volume):
                answer = tidy(answer, max(self.parts[i] for i in job.learnt))
            found[number] = dice(case.mask[indices], answer)
        return found

    def _answer(
        self, model: PlaneModel, shown: Confirmed | list[LearnCase], volume: Volume, indices: list[int]
    ) -> Bool[np.ndarray, "n h w"]:
        confirmed = shown if isinstance(shown, Confirmed) else _confirmed(model, shown)
        answers = answer_from_cases([model.open(plane) for plane in volume], confirmed, only=indices)
        return np.asarray(answers.probability[indices] >= 0.5)


def _confirmed(model: PlaneModel, shown: Sequence[LearnCase]) -> Confirmed:
    confirmed = Confirmed(model)
    for case in shown:
        confirmed.add(case.volume, case.mask)
    return confirmed


def _few(volume: Volume) -> list[int]:
    """Return a few planes, evenly spread."""
    evenly = np.linspace(0, len(volume) - 1, min(len(volume), _PLANES_CHECKED))
    return sorted({round(float(index)) for index in evenly})
