"""Lessons from confirmed cases: an altered plane of one, answered without a prompt from the same height of others.

Each lesson looks as the task will look (`models.interactive.confirmed`): at the whole plane, and where the structure is
much smaller, once more near it with the first answer in mind. Chance comes from (seed, job, step) alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch.nn import functional

from isocenter.models.interactive.confirmed import heights_around
from isocenter.models.interactive.inputs import PICTURE_CHANNELS, Canvas, Picture, encode_prompts, normalise_window
from isocenter.models.interactive.network import Answer, Examples, Features
from isocenter.models.interactive.plane import PlaneModel, Window

__all__ = ["LearnCase", "Lesson", "Lessons", "loss_of"]

_TURN_DEGREES, _ZOOM, _STRETCH, _SHIFT = 12.0, 0.15, 0.06, 0.06
"""Largest turn; largest logarithm of the zoom, and of its difference between the axes; largest shift, of the side."""
_GAMMA, _SHADING, _BLUR, _NOISE = 0.35, 0.25, 1.0, 0.08
"""Largest logarithm of the contrast's exponent, slope of the shading, blur in pixels of the network, noise."""
_WITH_MASK = 0.75
"""Share of lessons on planes where the structure is."""

Plane = Float[np.ndarray, "h w"]
Binary = Bool[np.ndarray, "h w"]


@dataclass(frozen=True, eq=False)
class LearnCase:
    """A confirmed case as it is learnt from.

    Args:
        volume: Finite intensities (z, y, x), slices along the first axis.
        mask: The structure.
    """

    volume: Float[np.ndarray, "z y x"]
    mask: Bool[np.ndarray, "z y x"]


@dataclass(frozen=True, eq=False)
class Lesson:
    """Planes to be answered, and the examples of each.

    Args:
        planes: Altered planes.
        masks: What is right.
        shown: For each, the (case, plane) pairs that it is answered from.
        flipped: Whether all of it is mirrored along the rows.
    """

    planes: tuple[Plane, ...]
    masks: tuple[Binary, ...]
    shown: tuple[tuple[tuple[int, int], ...], ...]
    flipped: bool


def _altered(plane: Plane, mask: Binary, pixels: int, rng: np.random.Generator) -> tuple[Plane, Binary]:
    """Turn, stretch, shift and shade a plane a little, on its own pixels; what comes in from outside is dark.

    Milder than what teaches a network from nothing (`automatic_augment`): this one knows contrast and noise already,
    and with stronger changes four chest X-rays taught it hardly anything (docs/results/adapt-from-session.md).
    """
    sides = np.array(plane.shape)
    angle = np.deg2rad(rng.uniform(-_TURN_DEGREES, _TURN_DEGREES))
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = turn @ np.diag(np.exp(rng.uniform(-_ZOOM, _ZOOM) + rng.uniform(-_STRETCH, _STRETCH, 2)))
    middle = (sides - 1) / 2
    offset = middle + rng.uniform(-_SHIFT, _SHIFT, 2) * sides.max() - matrix @ middle
    shape = (plane.shape[0], plane.shape[1])
    outside = float(np.percentile(plane, 0.5))
    moved = ndimage.affine_transform(plane.astype(np.float32), matrix, offset, shape, order=1, cval=outside)
    target = ndimage.affine_transform(mask.astype(np.uint8), matrix, offset, shape, order=0) > 0
    # The window's values lie in [-0.3, 1.3]: a power needs them between 0 and 1.
    unit = (normalise_window(moved) + 0.3) / 1.6
    image = np.clip(unit, 0, 1) ** np.exp(rng.uniform(-_GAMMA, _GAMMA)) * 1.6 - 0.3
    if rng.random() < 0.5:  # coil sensitivity, heel effect
        rows, columns = (np.linspace(-1, 1, n) for n in shape)
        slopes = rng.uniform(-_SHADING, _SHADING, 2)
        image = image * np.exp(slopes[0] * rows[:, None] + slopes[1] * columns[None, :])
    step = float(sides.max()) / pixels  # pixels of the plane per pixel of the network
    if rng.random() < 0.3:
        image = ndimage.gaussian_filter(image, rng.uniform(0, _BLUR) * step)
    if rng.random() < 0.5:
        image = image + rng.normal(0, rng.uniform(0, _NOISE) * step, shape)
    return np.asarray(image, dtype=np.float32), np.asarray(target)


class Lessons:
    """Draws lessons from cases, and puts them before a network.

    Args:
        model: Says how planes are looked at; its network is not used.
        cases: To learn from.
        seed: Of the job.
        flip: Whether half of the lessons are mirrored along the rows.
        examples: Most examples of a lesson.
    """

    def __init__(
        self, model: PlaneModel, cases: Sequence[LearnCase], seed: tuple[int, ...], *, flip: bool, examples: int
    ) -> None:
        self._model, self._cases, self._seed = model, cases, seed
        self._flip, self._examples = flip, examples
        self._views: dict[tuple[int, int, bool, int], tuple[np.ndarray, np.ndarray]] = {}
        self._shown_from = [i for i, case in enumerate(cases) if case.mask.any()]

    def draw(self, step: int, batch: int) -> Lesson:
        """Return the lesson of a step."""
        rng = np.random.default_rng((*self._seed, step))
        flipped = self._flip and bool(rng.random() < 0.5)
        planes, masks, shown = [], [], []
        for _ in range(batch):
            number = int(rng.integers(len(self._cases)))
            case = self._cases[number]
            present = np.flatnonzero(case.mask.any(axis=(1, 2)))
            anywhere = not len(present) or rng.random() > _WITH_MASK
            index = int(rng.integers(len(case.volume))) if anywhere else int(rng.choice(present))
            plane, mask = case.volume[index], case.mask[index]
            if flipped:
                plane, mask = plane[:, ::-1], mask[:, ::-1]
            altered, target = _altered(plane, mask, self._model.pixels, rng)
            others = [i for i in self._shown_from if i != number] or self._shown_from
            count = int(rng.integers(1, min(self._examples, len(others)) + 1))
            height = (index + 0.5) / len(case.volume)
            pairs = []
            for other in rng.permutation(others)[:count]:
                near = heights_around(height, len(self._cases[int(other)].volume), 1)
                pairs.append((int(other), int(rng.choice(near))))
            planes.append(altered)
            masks.append(target)
            shown.append(tuple(pairs))
        return Lesson(tuple(planes), tuple(masks), tuple(shown), flipped)

    def teach(self, net: torch.nn.Module, lesson: Lesson) -> torch.Tensor:
        """Return the loss of a network on a lesson: of the whole planes, and of the closer looks."""
        model, count = self._model, len(lesson.planes)
        wholes = [model.whole((p.shape[0], p.shape[1])) for p in lesson.planes]
        first, answer = self._look(net, lesson, list(range(count)), wholes, [None] * count, view=0)
        losses = [first]
        closer = []
        with torch.no_grad():
            drawn = torch.sigmoid(answer.logits[:, 0]).numpy()
        for number in range(count):
            target = wholes[number].cut(lesson.masks[number].astype(np.float32), outside=0.0)
            if (target > 0.5).any():
                shape = (lesson.planes[number].shape[0], lesson.planes[number].shape[1])
                window = model.closer(shape, wholes[number], target)
                if window is not None:
                    closer.append((number, window, wholes[number].paste(drawn[number], shape)))
        for view in (0, 1):
            some = [c for c in closer if self._view_of(c[1], lesson.planes[c[0]]) == view]
            if some:
                numbers, windows, before = [c[0] for c in some], [c[1] for c in some], [c[2] for c in some]
                losses.append(self._look(net, lesson, numbers, windows, before, view=view)[0])
        return torch.cat(losses).mean()

    def _view_of(self, window: Window, plane: Plane) -> int:
        return 0 if self._model.is_whole(window, (plane.shape[0], plane.shape[1])) else 1

    def _look(
        self,
        net: torch.nn.Module,
        lesson: Lesson,
        numbers: list[int],
        windows: list[Window],
        before: Sequence[Plane | None],
        *,
        view: int,
    ) -> tuple[torch.Tensor, Answer]:
        """Return the loss of each look, and the answers."""
        pictures, canvases, targets = [], [], []
        for number, window, previous in zip(numbers, windows, before, strict=True):
            plane = lesson.planes[number]
            cut = window.cut(plane, outside=float(np.percentile(plane, 0.5)))
            pictures.append(Picture.of(normalise_window(cut)))
            canvas = Canvas.empty(window.pixels, window.pixels)
            if previous is not None:
                canvas = replace(canvas, previous=window.cut(previous, outside=0.0))
            canvases.append(canvas)
            targets.append(window.cut(lesson.masks[number].astype(np.float32), outside=0.0) > 0.5)
        prompts = encode_prompts(pictures, canvases)
        inputs = torch.from_numpy(np.concatenate([np.stack([p.channels() for p in pictures]), prompts], axis=1))
        memory = self._memory(net, [lesson.shown[n] for n in numbers], lesson.flipped, view)
        answer: Answer = net.answer(net.encode(inputs[:, :PICTURE_CHANNELS]), inputs, memory)  # type: ignore[operator]
        return loss_of(answer, torch.from_numpy(np.stack(targets).astype(np.float32))), answer

    def _memory(
        self, net: torch.nn.Module, shown: Sequence[tuple[tuple[int, int], ...]], flipped: bool, view: int
    ) -> Examples:
        flat = [(owner, *pair) for owner, pairs in enumerate(shown) for pair in pairs]
        seen = [self._view(case, index, flipped, view) for _, case, index in flat]
        # The encoder learns from the planes that are asked about; going back through the examples too would cost
        # three times as much.
        with torch.no_grad():
            features: Features = net.encode(torch.from_numpy(np.stack([c for c, _ in seen])))  # type: ignore[operator]
        masks = torch.from_numpy(np.stack([m for _, m in seen]))
        owner = torch.tensor([o for o, _, _ in flat])
        return net.remember(features, masks, owner, len(shown))  # type: ignore[operator,no-any-return]

    def _view(self, case: int, index: int, flipped: bool, view: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the channels and the mask of an example, prepared once."""
        key = (case, index, flipped, view)
        if key not in self._views:
            plane, mask = self._cases[case].volume[index], self._cases[case].mask[index]
            if flipped:
                plane, mask = plane[:, ::-1], mask[:, ::-1]
            window = self._model.views(mask)[view]
            cut = window.cut(plane, outside=float(np.percentile(plane, 0.5)))
            square = window.cut(mask.astype(np.float32), outside=0.0)
            self._views[key] = (Picture.of(normalise_window(cut)).channels(), square)
        return self._views[key]


def loss_of(answer: Answer, target: Float[torch.Tensor, "n h w"]) -> Float[torch.Tensor, " n"]:
    """Return cross-entropy plus one minus the soft Dice, and a tenth of the error of the predicted overlap."""
    logits = answer.logits[:, 0]
    probability = torch.sigmoid(logits)
    cross = functional.binary_cross_entropy_with_logits(logits, target, reduction="none").flatten(1).mean(1)
    both = (probability * target).flatten(1).sum(1)
    sizes = probability.flatten(1).sum(1) + target.flatten(1).sum(1)
    with torch.no_grad():
        hard = (probability >= 0.5).float()
        shared = (hard * target).flatten(1).sum(1)
        either = hard.flatten(1).sum(1) + target.flatten(1).sum(1) - shared
        iou = torch.where(either > 0, shared / either.clamp(min=1), torch.ones_like(either))
    judged = functional.binary_cross_entropy_with_logits(answer.quality[:, 0], iou, reduction="none")
    return cross + 1 - (2 * both + 1) / (sizes + 1) + 0.1 * judged
