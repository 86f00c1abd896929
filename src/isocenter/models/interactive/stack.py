"""Answer prompts on a stack of planes: where somebody pointed, then from slice to slice.

Planes with a positive mark are answered first, by their own marks. From each of them the mask is handed to the next
plane as a hint ("it was here a slice ago"), up and down, until it fades, the model no longer trusts it, or the next
answered plane is reached; between two answered planes both waves are mixed, the nearer one counting more. A plane that
holds only "not this" is answered when the wave arrives.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, Real

from isocenter.models.interactive.plane import Mark, OpenPlane, PlaneAnswer, PlaneModel

__all__ = ["Progress", "Propagation", "StackAnswer", "answer_marks", "answer_stack", "spread"]

Plane = Float[np.ndarray, "h w"]
Progress = Callable[[int, int], None]
"""Told how many planes are done, of how many; raises `Stopped` to end the work."""
MOST_REPLAYED = 8


@dataclass(frozen=True)
class Propagation:
    """When to stop going from slice to slice.

    Args:
        least_quality: Predicted IoU under which the wave ends.
        least_share: Area, relative to the plane it started from, under which it ends.
        least_pixels: Area in pixels under which it ends.
        least_overlap: Dice with the slice before under which it ends: it jumped to something else.
        most_slices: How far it may go from a marked plane; None for no limit.
        first: First plane it may reach.
        last: Last plane it may reach; None for the end of the stack.
    """

    least_quality: float = 0.3
    least_share: float = 0.01
    least_pixels: int = 3
    least_overlap: float = 0.25
    most_slices: int | None = None
    first: int = 0
    last: int | None = None


@dataclass(frozen=True, eq=False)
class StackAnswer:
    """What the model says about a stack.

    Args:
        probability: (n, h, w).
        quality: Predicted IoU of each plane that has a mask.
        marked: Planes that were answered by their own marks.
    """

    probability: Float[np.ndarray, "n h w"]
    quality: Mapping[int, float]
    marked: tuple[int, ...]


def answer_marks(opened: OpenPlane, marks: Sequence[Mark], *, hint: Plane | None = None) -> PlaneAnswer:
    """Answer marks one after the other, each correcting the answer to those before, as when they were made.

    Args:
        opened: The plane.
        marks: In the order they were made, at least one; of many, all but the last few are taken together.
        hint: Mask of the neighbouring slice.
    """
    first = max(1, len(marks) - MOST_REPLAYED + 1)
    answer = opened.answer(marks[:first], hint=hint)
    for count in range(first + 1, len(marks) + 1):
        answer = opened.answer(marks[:count], previous=answer.probability, hint=hint)
    return answer


def answer_stack(
    model: PlaneModel,
    stack: Real[np.ndarray, "n h w"],
    marks: Mapping[int, Sequence[Mark]],
    settings: Propagation | None = None,
) -> StackAnswer:
    """Answer marks on a stack.

    Args:
        model: The model.
        stack: Intensities, planes along the first axis.
        marks: For each marked plane, its marks in order; at least one is positive.
        settings: When to stop.
    """
    keys = sorted(index for index, each in marks.items() if any(m.positive for m in each))
    answers = {index: answer_marks(model.open(stack[index]), marks[index]) for index in keys}
    return spread(model, stack, answers, marks, settings)


def spread(
    model: PlaneModel,
    stack: Real[np.ndarray, "n h w"],
    answers: Mapping[int, PlaneAnswer],
    marks: Mapping[int, Sequence[Mark]],
    settings: Propagation | None = None,
    progress: Progress | None = None,
) -> StackAnswer:
    """Go from planes that are answered to the others, slice to slice.

    Args:
        model: The model.
        stack: Intensities, planes along the first axis.
        answers: Of the planes to start from, at least one.
        marks: What was said on planes, "not this" too.
        settings: When to stop.
        progress: Told after each plane.

    Raises:
        Stopped: `progress` raised it.
    """
    settings = settings or Propagation()
    keys = sorted(answers)
    probability = np.zeros(stack.shape, dtype=np.float32)
    quality = {index: answer.quality for index, answer in answers.items()}
    for index in keys:
        probability[index] = answers[index].probability
    least, most = settings.first - 1, len(stack) if settings.last is None else settings.last + 1
    waves: dict[int, list[tuple[float, PlaneAnswer | None]]] = {}
    walk = _Walk(progress)
    for place, index in enumerate(keys):
        for step in (1, -1):
            beyond = place + step
            end = (
                keys[beyond]
                if 0 <= beyond < len(keys)
                else (max(most, index + 1) if step > 0 else min(least, index - 1))
            )
            span = abs(end - index)
            between = 0 <= beyond < len(keys)
            walk.ways.append((index, range(index + step, end, step), span if between else 0))
    for index, way, span in walk.ways:
        for distance, (at, answer) in enumerate(
            _wave(model, stack, marks, answers[index], way, settings, walk), start=1
        ):
            waves.setdefault(at, []).append((1 - distance / span if span else 1.0, answer))
    for at, parts in waves.items():
        present = [(w, a) for w, a in parts if a is not None]
        if not present:
            continue
        # A wave that has ended says "nothing here" with its full weight.
        total = sum(w for w, _ in parts)
        probability[at] = sum(w * a.probability for w, a in present) / total
        if (probability[at] >= 0.5).any():
            quality[at] = sum(w * a.quality for w, a in present) / total
    return StackAnswer(np.clip(probability, 0, 1), quality, tuple(keys))


@dataclass
class _Walk:
    """The ways to go, and who is told of it."""

    progress: Progress | None
    ways: list[tuple[int, range, int]] = field(default_factory=list)
    done: int = 0

    def step(self) -> None:
        self.done += 1
        if self.progress is not None:
            self.progress(self.done, sum(len(way) for _, way, _ in self.ways))


def _wave(
    model: PlaneModel,
    stack: Real[np.ndarray, "n h w"],
    marks: Mapping[int, Sequence[Mark]],
    start: PlaneAnswer,
    way: range,
    settings: Propagation,
    walk: _Walk,
) -> list[tuple[int, PlaneAnswer | None]]:
    """Go along planes from an answered one; after the end of the wave, planes carry None."""
    found: list[tuple[int, PlaneAnswer | None]] = []
    before = start.probability >= 0.5
    least = max(settings.least_pixels, settings.least_share * before.sum())
    alive = bool(before.any())
    for distance, index in enumerate(way, start=1):
        if alive and settings.most_slices is not None and distance > settings.most_slices:
            alive = False
        walk.step()
        if not alive:
            found.append((index, None))
            continue
        hint, own = before.astype(np.float32), marks.get(index, ())
        opened = model.open(stack[index])
        answer = answer_marks(opened, own, hint=hint) if own else opened.follow(before)
        mask = answer.probability >= 0.5
        overlap = 2 * (mask & before).sum() / max(1, mask.sum() + before.sum())
        alive = bool(
            mask.sum() >= least and answer.quality >= settings.least_quality and overlap >= settings.least_overlap
        )
        found.append((index, answer if alive else None))
        before = mask
    return found
