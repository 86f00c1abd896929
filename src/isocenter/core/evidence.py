"""Why a task answered as it did: where it looked, which confirmed cases are nearest, what each network said.

Evidence is made after the answer, from the same weights and the same image, and never moves it. An abstention has none.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import DataError, GeometryError
from isocenter.core.geometry import Geometry
from isocenter.core.prediction import Prediction
from isocenter.core.study import Study
from isocenter.core.units import Code

__all__ = ["Combines", "EvidenceMap", "Explains", "Explanation", "Feature", "Neighbour", "NoSuchEvidence"]


@dataclass(frozen=True, eq=False)
class EvidenceMap:
    """How much each voxel of the image speaks for a finding.

    Args:
        about: The finding, class or number.
        array: On the image's own voxels, 0 (nothing) to 1 (strongest).
        geometry: The image's grid.
        method: How it was made, in words.

    Raises:
        GeometryError: Array and geometry disagree.
        DataError: Values are not finite, lie outside 0 to 1, or none is 1.
    """

    about: Code
    array: Float[np.ndarray, "z y x"]
    geometry: Geometry
    method: str

    def __post_init__(self) -> None:
        if self.array.shape != self.geometry.shape:
            raise GeometryError(f"map (z, y, x) {self.array.shape} and geometry {self.geometry.shape} disagree")
        if not np.isfinite(self.array).all() or self.array.min() < 0 or abs(float(self.array.max()) - 1) > 1e-6:
            raise DataError("an evidence map holds finite values from 0 to 1, its strongest voxel 1")

    @property
    def peak(self) -> tuple[int, int, int]:
        """Index (z, y, x) of the strongest voxel; of equals the first."""
        z, y, x = np.unravel_index(int(self.array.argmax()), self.array.shape)
        return int(z), int(y), int(x)


@dataclass(frozen=True)
class Neighbour:
    """A confirmed case that the task learnt from.

    Args:
        case: Opaque name: the first digits of the image's sha256.
        label: What was confirmed of it, in words.
        distance: In the networks' eyes: 0 the same, 2 the opposite.
    """

    case: str
    label: str
    distance: float


@dataclass(frozen=True)
class Feature:
    """A number that says what drove an answer.

    Args:
        about: Which finding, class or number it speaks of.
        text: In one sentence.
        numbers: By name.

    Raises:
        DataError: A number is not finite.
    """

    about: Code
    text: str
    numbers: Mapping[str, float] = field(default_factory=lambda: MappingProxyType({}))

    def __post_init__(self) -> None:
        if not all(np.isfinite(v) for v in self.numbers.values()):
            raise DataError("the numbers of a feature must be finite")


@dataclass(frozen=True)
class NoSuchEvidence:
    """A kind of evidence that there is not, and why."""

    what: str
    why: str


@dataclass(frozen=True, eq=False)
class Explanation:
    """All evidence of one answer.

    Args:
        maps: Where it looked.
        neighbours: Nearest confirmed cases, nearest first.
        features: What drove it.
        missing: What there is not, and why.
        retrieval: What the neighbours are worth, in one sentence; "" where there are none.
    """

    maps: tuple[EvidenceMap, ...] = ()
    neighbours: tuple[Neighbour, ...] = ()
    features: tuple[Feature, ...] = ()
    missing: tuple[NoSuchEvidence, ...] = ()
    retrieval: str = ""


@runtime_checkable
class Explains(Protocol):
    """A task that can say why; others simply have no such method."""

    def explain(self, study: Study, prediction: Prediction) -> Explanation:
        """Return the evidence of an answer that this task gave for this study; nothing for an abstention."""
        ...


@runtime_checkable
class Combines(Protocol):
    """A task that can join its answer with a row of a clinical table."""

    def combine(self, prediction: Prediction, row: Mapping[str, str]) -> tuple[Feature, ...]:
        """Return what the answer becomes, and what did how much; nothing where no table was learnt with."""
        ...
