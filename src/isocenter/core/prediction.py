"""A prediction: an answer with its uncertainty, or a reason for none, and everything needed to trace it."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING

from isocenter.core.errors import DataError
from isocenter.core.mask import Mask
from isocenter.core.report import Report
from isocenter.core.units import Code, Measurement

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Effect", "Estimate", "Likeness", "ModelRef", "Prediction", "Risk", "Scores", "Step", "Uncertainty"]


@dataclass(frozen=True)
class Scores:
    """Probabilities by coded class.

    Raises:
        DataError: A probability lies outside [0, 1].
    """

    probabilities: tuple[tuple[Code, float], ...]

    def __post_init__(self) -> None:
        if any(not 0 <= p <= 1 for _, p in self.probabilities):
            raise DataError("scores must be probabilities in [0, 1]")


@dataclass(frozen=True)
class Risk:
    """Probability of an event up to a horizon in days."""

    event: Code
    probability: float
    horizon_days: float


@dataclass(frozen=True)
class Effect:
    """Difference in an outcome between two treatments, in the outcome's unit."""

    treatment: Code
    comparator: Code
    difference: float
    unit: Code
    horizon_days: float | None = None


@dataclass(frozen=True)
class Estimate:
    """A number estimated from an image: a learnt measurement that no ruler takes (an age, a score).

    Raises:
        DataError: The number is not finite.
    """

    name: Code
    value: float
    unit: Code

    def __post_init__(self) -> None:
        if not math.isfinite(self.value):
            raise DataError("an estimate must be a finite number")


@dataclass(frozen=True)
class Uncertainty:
    """How sure an answer is, and in what sense.

    Args:
        kind: "set", "interval", "margin" or "quality".
        description: What the numbers promise, in one sentence, with the data it was established on.
        low: Lower end of an interval, or the predicted quality.
        high: Upper end.
        level: Coverage promised, e.g. 0.9; None where nothing is promised.
        members: Codes of a prediction set.
        per_segment: Numbers by segment, e.g. expected Dice.
        segment: The segment that the numbers speak of; None for the whole answer.
        unit: Of `low` and `high`, where they are a measured value; None for a chance, a Dice or an answer without unit.
        about: The finding that a set speaks of, whose members are then "Present" and "Absent"; None for the answer.
    """

    kind: str
    description: str
    low: float | None = None
    high: float | None = None
    level: float | None = None
    members: tuple[Code, ...] = ()
    per_segment: Mapping[int, float] = field(default_factory=lambda: MappingProxyType({}))
    segment: int | None = None
    unit: Code | None = None
    about: Code | None = None


@dataclass(frozen=True)
class Likeness:
    """How like the images that a task learnt from an image is.

    Args:
        score: How strange it is, in deviations of what is strangest of it; higher is stranger.
        p_value: Chance that an image like those is as strange.
        refused_share: At this p-value or below the task abstains; the share of images like those that this costs.
        description: What is strangest of it, and on how many images the limit was set, in one sentence.

    Raises:
        DataError: The score is not finite, or a chance lies outside [0, 1].
    """

    score: float
    p_value: float
    refused_share: float
    description: str

    def __post_init__(self) -> None:
        if not math.isfinite(self.score) or not (0 <= self.p_value <= 1 and 0 <= self.refused_share <= 1):
            raise DataError("likeness needs a finite score and chances in [0, 1]")


@dataclass(frozen=True)
class ModelRef:
    """Which model answered: its name, version, the sha256 of its weights ("" for an algorithm without) and licence."""

    name: str
    version: str
    weights_sha256: str = ""
    licence: str = ""


@dataclass(frozen=True)
class Step:
    """One step of preprocessing, with what is needed to undo it."""

    name: str
    parameters: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Prediction:
    """What a task returns.

    Args:
        value: The answer, or None when the task abstained.
        task: Name of the task.
        uncertainty: How sure it is; None only when it abstained.
        abstained: Why there is no answer, in words a person can act on; None when there is one.
        model: Which weights.
        inputs: sha256 or UIDs of the images used.
        steps: Preprocessing, in order.
        measurements: Values measured in the answer.
        notes: What the reader of the answer should know.
        further: What else is promised: intervals of measured values, what a larger mask would hold.
        likeness: How like the images that the task learnt from the image is; None where nothing checks it.

    Raises:
        DataError: Both an answer and an abstention, or neither.
    """

    value: Mask | Report | Scores | Risk | Effect | Estimate | None
    task: str
    uncertainty: Uncertainty | None = None
    abstained: str | None = None
    model: ModelRef | None = None
    inputs: tuple[str, ...] = ()
    steps: tuple[Step, ...] = ()
    measurements: tuple[Measurement, ...] = ()
    notes: tuple[str, ...] = ()
    further: tuple[Uncertainty, ...] = ()
    likeness: Likeness | None = None

    def __post_init__(self) -> None:
        if (self.value is None) == (self.abstained is None):
            raise DataError("a prediction has either a value or a reason for abstaining")
        if self.value is not None and (self.uncertainty is None or self.model is None or not self.inputs):
            raise DataError("an answer needs its uncertainty, its model and its inputs")

    @classmethod
    def abstain(
        cls, task: str, reason: str, *, inputs: tuple[str, ...] = (), likeness: Likeness | None = None
    ) -> Prediction:
        """Return a prediction without an answer."""
        return cls(value=None, task=task, abstained=reason, inputs=inputs, likeness=likeness)
