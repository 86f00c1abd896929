"""Settings of VICReg."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from isocenter.learn.pretraining.args import CropArgs, PretrainingArgs

__all__ = ["VicregArgs"]


class VicregArgs(PretrainingArgs):
    """Everything a training depends on.

    Attributes:
        invariance: Weight of the two looks being alike.
        variance: Weight of every channel varying over images.
        covariance: Weight of channels not repeating each other.
        expander: Widths of the layers between the backbone and the loss, thrown away at the end.
        appearance: How much contrast, noise and sharpness differ between the looks.
    """

    method: Literal["vicreg"] = "vicreg"
    crop: CropArgs = CropArgs(share=(0.3, 1.0))
    invariance: float = Field(default=25.0, ge=0)
    variance: float = Field(default=25.0, ge=0)
    covariance: float = Field(default=1.0, ge=0)
    expander: tuple[int, ...] = Field(default=(512, 512, 512), min_length=1)
    appearance: float = Field(default=1.0, ge=0, le=3)

    @model_validator(mode="after")
    def _enough(self) -> VicregArgs:
        if self.batch // self.accumulate < 2:
            raise ValueError("batch: variance over a batch needs two images or more in each part of it")
        return self
