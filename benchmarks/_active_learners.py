"""Two learners for the benchmark of orders: the one of a session (answers from confirmed cases), and a small U-Net."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional

from benchmarks.interactive_sets import Case
from isocenter.models.interactive.confirmed import heights_around
from isocenter.models.interactive.describe import describe_volume
from isocenter.models.interactive.plane import Context, PlaneModel
from isocenter.models.unet import UNet, UNetSettings

HEIGHTS = tuple((k + 0.5) / 8 for k in range(8))
"""Planes that are answered and measured: eight of each volume, evenly spread; what is encoded of them is kept."""

STEPS = 160
"""Lessons of the small U-Net."""


@dataclass(frozen=True, eq=False)
class Answered:
    """What the session's learner says of a case.

    Args:
        dice: On the eight planes as one.
        expected: Dice that it expects.
        entropy: Of its probabilities, summed, for each voxel that it takes for inside.
    """

    dice: float
    expected: float
    entropy: float


class InContext:
    """Answers each case from labelled cases without a click, as a session does.

    Args:
        model: For planes.
        cases: All that may be labelled or asked.
    """

    name = "session"

    def __init__(self, model: PlaneModel, cases: Sequence[Case]) -> None:
        self._model, self._cases = model, cases
        self._seen: dict[tuple[int, int], Context] = {}
        self._open = [[model.open(case.image[int(h * len(case.image))]) for h in HEIGHTS] for case in cases]
        self.embeddings = np.stack([describe_volume(model, case.image) for case in cases])

    def answer(self, labelled: Sequence[int], asked: Sequence[int], *, every: int = 1) -> list[Answered]:
        """Answer cases from labelled ones, on every so many of the planes."""
        found, heights = [], HEIGHTS[::every]
        contexts = [self._context(labelled, height) for height in heights]
        for number in asked:
            case, planes, qualities, areas = self._cases[number], [], [], []
            for plane, context in zip(self._open[number][::every], contexts, strict=True):
                one = plane.answer([], context=context)
                planes.append(one.probability)
                areas.append(float((one.probability >= 0.5).sum()))
                qualities.append(one.quality)
            p = np.clip(np.stack(planes).astype(np.float64), 1e-6, 1 - 1e-6)
            truth = case.target[[int(h * len(case.image)) for h in heights]]
            iou = float(np.average(qualities, weights=areas)) if any(areas) else 0.0
            entropy = float(-(p * np.log(p) + (1 - p) * np.log(1 - p)).sum()) / max(1.0, float((p >= 0.5).sum()))
            found.append(Answered(overlap(truth, p >= 0.5), 2 * iou / (1 + iou), entropy))
        return found

    def _context(self, labelled: Sequence[int], height: float) -> Context:
        """Return the planes of labelled cases that a plane is answered from, as `Confirmed` does, encoded once."""
        whole = Context(self._model, [])
        for number in labelled:
            case = self._cases[number]
            for index in heights_around(height, len(case.image), len(labelled)):
                if (number, index) not in self._seen:
                    self._seen[number, index] = Context(self._model, [(case.image[index], case.target[index])])
                whole.extend(self._seen[number, index])
        return whole

    def dice(self, labelled: Sequence[int], asked: Sequence[int], _seed: int) -> list[float]:
        """Return the Dice of cases answered from labelled ones."""
        return [one.dice for one in self.answer(labelled, asked)]


class SmallUNet:
    """A U-Net for planes with 25 thousand parameters, taught from nothing by the labelled cases alone.

    Args:
        cases: All that may be labelled or asked.
        steps: Lessons, however many cases there are.
    """

    name = "small U-Net"
    batch, rate = 8, 4e-3

    def __init__(self, cases: Sequence[Case], *, steps: int = STEPS) -> None:
        side = np.array([case.image.shape[1:] for case in cases]).max(axis=0)
        self._side = tuple(int(-(-n // 4) * 4) for n in side)
        self._images = [self._padded(_scaled(case.image)) for case in cases]
        self._masks = [self._padded(case.target.astype(np.float32)) for case in cases]
        self._sizes = [case.image.shape for case in cases]
        self._truth = [case.target for case in cases]
        self.steps = steps

    def _padded(self, volume: np.ndarray) -> torch.Tensor:
        rest = [
            (a, b - a) for a, b in [((n - m) // 2, n - m) for n, m in zip(self._side, volume.shape[1:], strict=True)]
        ]
        return torch.from_numpy(np.pad(volume, [(0, 0), *rest]).astype(np.float32))

    def dice(self, labelled: Sequence[int], asked: Sequence[int], seed: int) -> list[float]:
        """Teach a network from labelled cases, and return the Dice of others."""
        net = self._taught(labelled, seed)
        found = []
        with torch.inference_mode():
            for number in asked:
                size = self._sizes[number]
                indices = [int(h * size[0]) for h in HEIGHTS]
                logits = net(self._images[number][indices][:, None])
                top, left = ((n - m) // 2 for n, m in zip(self._side, size[1:], strict=True))
                drawn = (logits[:, 1] > logits[:, 0]).numpy()[:, top : top + size[1], left : left + size[2]]
                found.append(overlap(self._truth[number][indices], drawn))
        return found

    def _taught(self, labelled: Sequence[int], seed: int) -> UNet:
        torch.manual_seed(seed)
        rng = np.random.default_rng([seed, len(labelled)])
        net = UNet(UNetSettings(rank=2, channels_in=1, classes=2, widths=(8, 16, 32)))
        optimiser = torch.optim.AdamW(net.parameters(), lr=self.rate, weight_decay=1e-3)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.rate, total_steps=self.steps)
        images, masks = (torch.cat([part[i] for i in labelled]) for part in (self._images, self._masks))
        for _ in range(self.steps):
            rows = torch.from_numpy(rng.integers(0, len(images), self.batch))
            x, y = _altered(images[rows], masks[rows], rng)
            logits = net(x[:, None])
            inside = torch.softmax(logits, dim=1)[:, 1]
            soft = 1 - (2 * (inside * y).sum() + 1) / (inside.sum() + y.sum() + 1)
            loss = functional.cross_entropy(logits, y.long()) + soft
            optimiser.zero_grad(set_to_none=True)
            torch.autograd.backward(loss)
            optimiser.step()
            schedule.step()
        return net.eval()


def _altered(images: torch.Tensor, masks: torch.Tensor, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Turn, stretch and shift planes a little, and change their contrast and noise."""
    count = len(images)
    turn, grow = rng.uniform(-0.25, 0.25, count), np.exp(rng.uniform(-0.18, 0.18, (count, 2)))
    matrix = np.zeros((count, 2, 3), dtype=np.float32)
    matrix[:, 0, 0], matrix[:, 0, 1] = np.cos(turn) * grow[:, 0], -np.sin(turn) * grow[:, 0]
    matrix[:, 1, 0], matrix[:, 1, 1] = np.sin(turn) * grow[:, 1], np.cos(turn) * grow[:, 1]
    matrix[:, :, 2] = rng.uniform(-0.15, 0.15, (count, 2))
    both = torch.stack([images, masks], dim=1)
    grid = functional.affine_grid(torch.from_numpy(matrix), list(both.shape), align_corners=False)
    moved = functional.grid_sample(both, grid, align_corners=False)
    gain = torch.from_numpy(np.exp(rng.uniform(-0.25, 0.25, (count, 1, 1))).astype(np.float32))
    noise = torch.from_numpy(rng.normal(0, 0.08, tuple(moved[:, 0].shape)).astype(np.float32))
    return moved[:, 0] * gain + noise, (moved[:, 1] > 0.5).float()


def _scaled(volume: np.ndarray) -> np.ndarray:
    low, high = np.percentile(volume, (1, 99))
    return np.asarray(np.clip((volume - low) / max(float(high - low), 1e-9), -0.3, 1.3) - 0.5)


def overlap(truth: np.ndarray, drawn: np.ndarray) -> float:
    """Return the Dice of two masks; 1 where both are empty."""
    total = int(truth.sum()) + int(drawn.sum())
    return 2 * int((truth & drawn).sum()) / total if total else 1.0
