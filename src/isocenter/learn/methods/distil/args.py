"""Settings of self-distillation."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from isocenter.learn.pretraining.args import CropArgs, PretrainingArgs

__all__ = ["DistilArgs", "HeadArgs"]


class HeadArgs(BaseModel):
    """What stands between the backbone and the loss, thrown away at the end.

    Attributes:
        hidden: Width of its hidden layers.
        layers: Of the perceptron.
        bottleneck: Width before the prototypes, where vectors have length 1.
        prototypes: How many.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    hidden: int = Field(default=512, ge=2)
    layers: int = Field(default=3, ge=1)
    bottleneck: int = Field(default=128, ge=2)
    prototypes: int = Field(default=1024, ge=2)


class DistilArgs(PretrainingArgs):
    """Everything a training depends on.

    Attributes:
        crop: Of the two large crops, of `pixels`.
        small: How many small crops there are; the student alone sees them.
        small_pixels: Their size; None takes half of `pixels`.
        small_crop: Which part of the image they show.
        appearance: How much contrast, noise and sharpness differ between crops.
        head: Its shape.
        centring: "centre": the teacher's running mean is taken off (DINO). "sinkhorn": prototypes get equal shares of
            the batch (SwAV, DINOv2).
        centre_momentum: Of the running mean.
        student_temperature: Of the student's softmax.
        teacher_temperature: Of the teacher's, at the start and after `temperature_steps`.
        temperature_steps: Steps in which it rises.
        teacher_momentum: Decay of the average that the teacher is; rises to 1 along a half cosine.
        freeze_steps: Steps in which prototypes stay as they are.
        koleo: Weight of pushing nearest neighbours in a batch apart; 0 leaves it out.
    """

    method: Literal["distil"] = "distil"
    crop: CropArgs = CropArgs(share=(0.4, 1.0))
    small: int = Field(default=4, ge=0)
    small_pixels: tuple[int, ...] | None = None
    small_crop: CropArgs = CropArgs(share=(0.08, 0.4))
    appearance: float = Field(default=1.0, ge=0, le=3)
    head: HeadArgs = HeadArgs()
    centring: Literal["centre", "sinkhorn"] = "centre"
    centre_momentum: float = Field(default=0.9, ge=0, lt=1)
    student_temperature: float = Field(default=0.1, gt=0)
    teacher_temperature: tuple[float, float] = (0.04, 0.07)
    temperature_steps: int = Field(default=0, ge=0)
    teacher_momentum: float = Field(default=0.992, ge=0, lt=1)
    freeze_steps: int = Field(default=0, ge=0)
    koleo: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _crops(self) -> DistilArgs:
        multiple, size = self.shape.multiple, self.small_size
        if len(size) != len(self.pixels) or any(n < 1 or n % m for n, m in zip(size, multiple, strict=True)):
            raise ValueError(f"small_pixels: {len(self.pixels)} sides, each a multiple of {multiple}, got {size}")
        if min(self.teacher_temperature) <= 0:
            raise ValueError(f"teacher_temperature: must be positive, got {self.teacher_temperature}")
        if self.koleo > 0 and self.batch // self.accumulate < 2:
            raise ValueError("batch: koleo needs two images or more in each part of it")
        return self

    @property
    def small_size(self) -> tuple[int, ...]:
        """Size of the small crops."""
        if self.small_pixels is not None:
            return self.small_pixels
        multiple = self.shape.multiple
        return tuple(max(m, n // 2 // m * m) for n, m in zip(self.pixels, multiple, strict=True))

    def temperature(self, step: int) -> float:
        """Return the teacher's temperature at a step (counted from 0)."""
        first, last = self.teacher_temperature
        return first + (last - first) * min(1.0, step / self.temperature_steps) if self.temperature_steps else last

    def momentum(self, step: int) -> float:
        """Return the teacher's momentum after a step (counted from 0)."""
        done = min(1.0, step / max(1, self.steps))
        return 1 - (1 - self.teacher_momentum) * (0.5 + 0.5 * math.cos(math.pi * done))
