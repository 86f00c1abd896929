"""Settings of masked autoencoding."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from isocenter.learn.pretraining.args import PretrainingArgs
from isocenter.models.backbones import ViTSettings

__all__ = ["DecoderArgs", "MaskedArgs"]


class DecoderArgs(BaseModel):
    """What fills in, and is thrown away at the end; of a residual encoder it has the encoder's own widths.

    Attributes:
        kind: "cross": hidden patches look at what the encoder saw, not at each other (CrossMAE). "full": all patches
            look at all (MAE), at several times the price.
        width: Length of a token.
        depth: Blocks.
        heads: Of attention.
        predict: Share of the hidden patches that are filled in; the rest costs nothing ("cross" alone).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: Literal["cross", "full"] = "cross"
    width: int = Field(default=192, ge=8)
    depth: int = Field(default=4, ge=1)
    heads: int = Field(default=6, ge=1)
    predict: float = Field(default=1.0, gt=0, le=1)

    @model_validator(mode="after")
    def _fits(self) -> DecoderArgs:
        if self.width % self.heads:
            raise ValueError(f"decoder: {self.heads} heads don't divide a width of {self.width}")
        if self.kind == "full" and self.predict < 1:
            raise ValueError("decoder: with kind 'full' every hidden patch is filled in; leave `predict` out")
        return self


class MaskedArgs(PretrainingArgs):
    """Everything a training depends on.

    Attributes:
        ratio: Share of the patches that is hidden.
        block: Sides of a patch for a residual encoder, in pixels; None takes one place of its coarsest level. A
            transformer's patches are its own.
        decoder: What fills in.
    """

    method: Literal["masked"] = "masked"
    ratio: float = Field(default=0.75, gt=0, lt=1)
    block: tuple[int, ...] | None = None
    decoder: DecoderArgs = DecoderArgs()

    @model_validator(mode="after")
    def _blocks(self) -> MaskedArgs:
        shape = self.shape
        if self.block is not None and isinstance(shape, ViTSettings):
            raise ValueError("block: a transformer hides its own patches; leave it out")
        fits = len(self.patch) == len(self.pixels) and not any(
            p % m or n % p for p, m, n in zip(self.patch, shape.multiple, self.pixels, strict=True)
        )
        if not fits:
            raise ValueError(
                f"block: must be multiples of {shape.multiple} that divide `pixels` {self.pixels}, got {self.patch}"
            )
        if math.prod(self.grid) < 2:
            raise ValueError(f"pixels: {self.pixels} is a single patch of {self.patch}; nothing is left to see")
        return self

    @property
    def patch(self) -> tuple[int, ...]:
        """Pixels of what is hidden or shown as one."""
        return self.block or self.shape.multiple

    @property
    def grid(self) -> tuple[int, ...]:
        """Patches along each axis."""
        return tuple(n // p for n, p in zip(self.pixels, self.patch, strict=True))

    @property
    def kept(self) -> int:
        """Patches that are shown."""
        count = math.prod(self.grid)
        return min(count - 1, max(1, round(count * (1 - self.ratio))))

    @property
    def predicted(self) -> int:
        """Patches that are filled in."""
        return max(1, round((math.prod(self.grid) - self.kept) * self.decoder.predict))
