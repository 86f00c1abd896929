"""Learning masks: windows round voxels of every class, cross-entropy and Dice on several levels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int64, UInt16
from torch import nn
from torch.nn import functional

from isocenter.learn.adaptation.alter import alter_values, cut
from isocenter.learn.adaptation.plan import Plan
from isocenter.models.learnt import device_of, slide

__all__ = ["MaskCase", "MaskJob", "mask_loss", "probabilities"]

_ROUND_CLASS = 0.67
"""Share of windows that are laid round a voxel of a class, each class as often."""
_SPOTS = 500
_LEVELS = 3


@dataclass(frozen=True, eq=False)
class MaskCase:
    """A prepared case.

    Args:
        name: Of the case.
        image: Prepared.
        label: Class numbers on its grid.
        spots: For each class in it, some of its voxels.
    """

    name: str
    image: Float[np.ndarray, "channel *space"]
    label: UInt16[np.ndarray, "*space"]
    spots: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, name: str, image: Float[np.ndarray, "channel *space"], label: np.ndarray, classes: int) -> MaskCase:
        """Return a case, with voxels of each class picked at random."""
        rng = np.random.default_rng(0)
        spots = []
        for number in range(1, classes + 1):
            where = np.argwhere(label == number)
            spots.append(where[rng.permutation(len(where))[:_SPOTS]].astype(np.int32))
        return cls(name, image, label.astype(np.uint16), tuple(spots))


def mask_loss(levels: Sequence[torch.Tensor], target: Int64[torch.Tensor, "n *fine"]) -> torch.Tensor:
    """Return cross-entropy plus one minus the soft Dice of the classes over the batch, coarser levels counting less.

    Args:
        levels: Logits (n, classes, *space), finest first.
        target: Class numbers on the finest grid.

    Source:
        Isensee et al., Nature Methods 2021 (deep supervision with halved weights).
    """
    total, weights = levels[0].new_zeros((), dtype=torch.float32), 0.0
    for number, logits in enumerate(levels):
        at = target
        if logits.shape[2:] != target.shape[1:]:
            at = functional.interpolate(target[:, None].float(), logits.shape[2:], mode="nearest")[:, 0].long()
        logits = logits.float()
        probability = logits.softmax(1)
        truth = functional.one_hot(at, logits.shape[1]).movedim(-1, 1).float()
        axes = (0, *range(2, logits.ndim))
        both = (probability * truth).sum(axes)[1:]
        sizes = (probability.sum(axes) + truth.sum(axes))[1:]
        loss = functional.cross_entropy(logits, at) + 1 - ((2 * both + 1) / (sizes + 1)).mean()
        total, weights = total + loss * 0.5**number, weights + 0.5**number
    return total / weights


def probabilities(
    net: nn.Module,
    image: Float[np.ndarray, "channel *space"],
    window: Sequence[int],
    classes: int,
    mirror: Sequence[bool] = (),
) -> Float[np.ndarray, "classes *space"]:
    """Return what a network says about a prepared image, window by window.

    Args:
        net: From windows to logits.
        image: Prepared.
        window: What it looks at.
        classes: Background included.
        mirror: Axes along which it also looks at the mirror image; the answers are averaged.
    """
    device = device_of(net)

    def look(x: torch.Tensor) -> torch.Tensor:
        x = x.to(device)
        dims = x.ndim - 2
        views = [()] + [(axis - dims,) for axis in range(dims) if mirror and mirror[axis - dims]]
        total = sum(net(x.flip(v) if v else x).float().softmax(1).flip(v if v else ()) for v in views)
        return torch.as_tensor(total) / len(views)

    return slide(look, image, window, classes)


class MaskJob:
    """What the engine learns: masks.

    Args:
        plan: What was settled.
        learnt: Cases to learn from.
        validation: Cases that decide when it is best; may be empty.
        most_checked: Most validation cases that are looked at.
    """

    def __init__(
        self, plan: Plan, learnt: Sequence[MaskCase], validation: Sequence[MaskCase], *, most_checked: int = 16
    ) -> None:
        self.plan, self.learnt = plan, learnt
        self.validation = validation[:most_checked]

    @property
    def batch(self) -> int:
        """Images or windows of a step."""
        return self.plan.batch

    def loss(self, net: nn.Module, rng: np.random.Generator) -> torch.Tensor:
        """Draw windows and return their loss."""
        plan, images, labels = self.plan, [], []
        for _ in range(plan.batch):
            case = self.learnt[int(rng.integers(len(self.learnt)))]
            centre = self._centre(case, rng)
            image, target = cut(case.image, case.label, centre, plan.window, plan.alteration, rng, thick=plan.thick)
            images.append(alter_values(image, plan.alteration, rng))
            labels.append(target)
        device = device_of(net)
        x = torch.from_numpy(np.stack(images)).to(device)
        y = torch.from_numpy(np.stack([label.astype(np.int64) for label in labels if label is not None])).to(device)
        return mask_loss(net.levels(x, _LEVELS), y)  # type: ignore[operator]

    def _centre(self, case: MaskCase, rng: np.random.Generator) -> tuple[float, ...] | None:
        """Return where a window is laid: round a voxel of a class, or anywhere; None for the middle."""
        space, window = case.image.shape[1:], self.plan.window
        free = [max(0, n - w) / 2 for n, w in zip(space, window, strict=True)]
        if not any(free):
            return None
        there = [spots for spots in case.spots if len(spots)]
        if there and rng.random() < _ROUND_CLASS:
            spots = there[int(rng.integers(len(there)))]
            at = spots[int(rng.integers(len(spots)))].astype(float) + rng.uniform(-0.25, 0.25, len(window)) * window
        else:
            at = rng.uniform(0, 1, len(space)) * space
        middles = [(n - 1) / 2 for n in space]
        return tuple(float(np.clip(a, m - f, m + f)) for a, m, f in zip(at, middles, free, strict=True))

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """Return the mean Dice of the classes on the validation cases."""
        classes = self.plan.network.outputs
        found: list[list[float]] = [[] for _ in range(classes - 1)]
        for case in self.validation:
            answer = probabilities(net, case.image, self.plan.window, classes).argmax(0)
            for number in range(1, classes):
                ours, theirs = answer == number, case.label == number
                size = int(ours.sum()) + int(theirs.sum())
                if size:
                    found[number - 1].append(2 * float((ours & theirs).sum()) / size)
        means = [float(np.mean(values)) for values in found if values]
        return {"score": float(np.mean(means))} if means else {}
