"""Answer an image from confirmed cases, without a prompt: plane by plane, each from the planes at the same height."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Real

from isocenter.core.errors import GeometryError
from isocenter.models.interactive.plane import Context, OpenPlane, PlaneModel

__all__ = ["ENOUGH_CASES", "Confirmed", "Unprompted", "answer_from_cases", "heights_around"]

ENOUGH_CASES = 4
"""With fewer cases, the neighbours of a plane are looked up too."""

Volume = Float[np.ndarray, "z y x"]
Stored = Real[np.ndarray, "z y x"]


def heights_around(height: float, planes: int, cases: int) -> tuple[int, ...]:
    """Return which planes of a confirmed case a plane at a relative height is answered from.

    Args:
        height: 0 the first slice's near side, 1 the last one's far.
        planes: Of the confirmed case.
        cases: How many confirmed cases there are.

    Example:
        >>> heights_around(0.5, 9, 4), heights_around(0.5, 9, 1)
        ((4,), (3, 4, 5))
    """
    around = (0,) if cases >= ENOUGH_CASES else (-1, 0, 1)
    middle = int(height * planes)
    return tuple(dict.fromkeys(int(np.clip(middle + a, 0, planes - 1)) for a in around))


class Confirmed:
    """Cases that the next image is answered from. Every plane is encoded once, when it is first needed.

    Args:
        model: Of planes.
    """

    def __init__(self, model: PlaneModel) -> None:
        self._model = model
        self._cases: list[tuple[Stored, Bool[np.ndarray, "z y x"]]] = []
        self._planes: dict[tuple[int, int], Context] = {}

    def __len__(self) -> int:
        return len(self._cases)

    def add(self, volume: Stored, mask: Bool[np.ndarray, "mask_z mask_y mask_x"]) -> None:
        """Take a confirmed case.

        Raises:
            GeometryError: The mask is on another grid than the image.
        """
        if volume.shape != mask.shape:
            raise GeometryError(
                f"an example's mask is {mask.shape} and its image {volume.shape}; they must be one grid"
            )
        self._cases.append((volume, mask))

    def keep_latest(self, most: int) -> None:
        """Forget all but the latest cases."""
        gone = max(0, len(self._cases) - most)
        self._cases = self._cases[gone:]
        self._planes = {(case - gone, plane): seen for (case, plane), seen in self._planes.items() if case >= gone}

    def forget_seen(self) -> None:
        """Let go of what was seen of the cases; it is seen anew when it is needed."""
        self._planes = {}

    @property
    def bytes(self) -> int:
        """Memory of what was seen of the cases."""
        return sum(seen.bytes for seen in self._planes.values())

    def at(self, height: float) -> Context:
        """Return the context for a plane at a relative height, 0 the first slice's near side, 1 the last one's far."""
        context = Context(self._model, [])
        for number, (volume, _) in enumerate(self._cases):
            for index in heights_around(height, len(volume), len(self._cases)):
                context.extend(self._plane(number, index))
        return context

    def _plane(self, number: int, index: int) -> Context:
        key = (number, index)
        if key not in self._planes:
            volume, mask = self._cases[number]
            self._planes[key] = Context(self._model, [(volume[index], mask[index])])
        return self._planes[key]


@dataclass(frozen=True, eq=False)
class Unprompted:
    """An answer without a prompt.

    Args:
        probability: Of belonging to the thing.
        expected_iou: Overlap that the model expects, mean over planes weighted by area.
    """

    probability: Volume
    expected_iou: float


def answer_from_cases(
    planes: Iterable[OpenPlane], cases: Confirmed, *, count: int | None = None, only: Sequence[int] | None = None
) -> Unprompted:
    """Answer the planes of an image, each from the confirmed planes at its height.

    Args:
        planes: Of the image, along its first axis; each is looked at once, in order.
        cases: Confirmed cases, at least one.
        count: How many planes there are; None where `planes` has a length.
        only: Answer these planes alone; the others stay empty.
    """
    found, areas, qualities = [], [], []
    if count is None:
        planes = list(planes)
        count = len(planes)
    for index, plane in enumerate(planes):
        if only is not None and index not in only:
            found.append(np.zeros(plane.shape, dtype=np.float32))
            continue
        answer = plane.answer([], context=cases.at((index + 0.5) / count))
        found.append(answer.probability)
        areas.append(float((answer.probability >= 0.5).sum()))
        qualities.append(answer.quality)
    expected = float(np.average(qualities, weights=areas)) if any(areas) else 0.0
    return Unprompted(np.stack(found).astype(np.float32), expected)
