"""The one face of a method of pretraining: what the plug-in group `isocenter.methods` offers to `isocenter pretrain`.

A method brings its strict configuration, trains into a folder, says after every step how it goes, and at the end turns
the folder into weights with their card. The verb knows no more of it than this.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from pydantic import BaseModel

__all__ = ["Method", "StepReport", "Stop", "Tell"]


@dataclass(frozen=True)
class StepReport:
    """How a training stands after a step.

    Args:
        step: Steps done.
        steps: Steps of the whole training.
        loss: Of this step.
        samples: Samples that this step learnt from.
        validation: The latest held-out figures by name; empty before the first.
        shown: Those of them that a person wants to follow; empty for all but the step.
        notes: What the person must be told once: a wish that could not be met, images that can't be read.
    """

    step: int
    steps: int
    loss: float
    samples: int
    validation: Mapping[str, float] = field(default_factory=dict)
    shown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


Tell = Callable[[StepReport], None]


@dataclass(frozen=True)
class Stop:
    """How far to train, and from where.

    Args:
        until: Stop at this step; None for the end.
        resume: Begin from the checkpoint in the folder, if there is one.
        checkpoint_minutes: Longest time between two checkpoints.
    """

    until: int | None = None
    resume: bool = False
    checkpoint_minutes: float = 3.0


@runtime_checkable
class Method(Protocol):
    """A way of pretraining. Every function takes the configuration that `configure` returned.

    Where the person gives images (`--data`), their path is the setting `data`; a method that learns from none refuses
    it in `configure`. A method with an attribute `parallel` that is true trains under `torchrun`: `train` is called in
    every process and joins them, everything else in the first alone.
    """

    @property
    def name(self) -> str:
        """Name in configurations (`method: NAME`) and as a plug-in."""
        ...

    def configure(self, settings: Mapping[str, Any]) -> BaseModel:
        """Check settings strictly; raise `ConfigError` on one that is unknown, missing or out of range."""
        ...

    def data_identity(self, config: BaseModel) -> dict[str, Any]:
        """Say what is learnt from, so exactly that another person gets the same: JSON-ready."""
        ...

    def train(self, config: BaseModel, out: Path, stop: Stop, tell: Tell) -> None:
        """Train into a folder, with checkpoints, `steps.csv` and `validation.csv`; killed at any step, it resumes."""
        ...

    def export(self, config: BaseModel, out: Path, *, command: str, machine: str) -> Path:
        """Write weights with their card into the folder `weights` of a training's folder; return the weights' path."""
        ...

    def draw(self, out: Path, picture: Path) -> None:
        """Draw the curves of a training's folder as a PNG."""
        ...
