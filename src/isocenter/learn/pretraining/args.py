"""Settings that all self-supervised methods have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from isocenter.models.backbones import ResidualSettings, ViTSettings, named_backbone

__all__ = ["CollapseArgs", "CropArgs", "ImageArgs", "PretrainingArgs"]

_NOT_IMAGES = ("*_mask.*", "*_mask_*.*", "*_seg.*", "labels*/*", "*/labels*/*", "masks*/*", "*/masks*/*")


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageArgs(_Strict):
    """How images are found and prepared.

    Attributes:
        leave_out: Patterns of names, relative to the folder, that are not images to learn from: labels, for one.
        low_percent: Lower end of the window of intensities, a percentile of each image.
        high_percent: Upper end.
        spacing_mm: Resample images of known spacing to this one, along each axis; None keeps their own.
        held_out: Share of the images that is never learnt from.
        most_unreadable: Largest share of images that may turn out unreadable before the run stops.
        cache_mb: Memory for prepared images.
        workers: Threads that prepare the next batches; 0 prepares them in line.
    """

    leave_out: tuple[str, ...] = _NOT_IMAGES
    low_percent: float = Field(default=0.5, ge=0, lt=50)
    high_percent: float = Field(default=99.5, gt=50, le=100)
    spacing_mm: float | None = Field(default=None, gt=0)
    held_out: float = Field(default=0.05, gt=0, le=0.5)
    most_unreadable: float = Field(default=0.05, ge=0, le=1)
    cache_mb: int = Field(default=2048, ge=1)
    workers: int = Field(default=1, ge=0, le=64)


class CropArgs(_Strict):
    """Which part of an image is shown.

    Attributes:
        share: Smallest and largest share of the area that a crop covers; None crops without changing the size of
            pixels (where an image is smaller, it is padded).
        zoom: With `share` None, how much larger or smaller than one pixel of the image one of the crop may be.
        aspect: Largest ratio of the crop's sides in the image.
        flip: Whether it may be mirrored along its last axis.
    """

    share: tuple[float, float] | None = None
    zoom: tuple[float, float] = (0.8, 1.25)
    aspect: float = Field(default=1.2, ge=1, le=4)
    flip: bool = True

    @field_validator("share", "zoom")
    @classmethod
    def _ordered(cls, value: tuple[float, float] | None) -> tuple[float, float] | None:
        if value is not None and not 0 < value[0] <= value[1]:
            raise ValueError("needs two positive numbers, the smaller first")
        return value


class CollapseArgs(_Strict):
    """When a run counts as dead; see `collapse.Watch`.

    Attributes:
        stop: Whether a dead run stops.
        least_rank: Effective rank below which embeddings have collapsed onto a line.
        least_spread: Share of the embeddings' length that differs between images, below which they are one point.
        shrunk_to: Standard deviation before the loss (of a head, an expander), as a share of the highest so far, below
            which they are one point.
        patience: Validations in a row that must say so.
        probe: Crops whose embeddings are looked at.
    """

    stop: bool = True
    least_rank: float = Field(default=1.5, ge=1)
    least_spread: float = Field(default=0.003, ge=0, lt=1)
    shrunk_to: float = Field(default=0.05, ge=0, lt=1)
    patience: int = Field(default=3, ge=1)
    probe: int = Field(default=128, ge=8)


class PretrainingArgs(_Strict):
    """Everything a training depends on, but for what its method adds.

    Attributes:
        name: Name of the weights.
        seed: Decides every crop, mask and first weight.
        data: Folder, list of paths (.txt) or .npz; `--data` of the command line. It is no part of the configuration
            that is kept: what is learnt from is named by the hash of its files.
        licence: Of the weights, for their card.
        backbone: Name (see `named_backbone`), or all settings as a card writes them.
        pixels: Size of the input along each axis; two for planes, three for volumes.
        channels: Of the input: 1 for grey, 3 for colour.
        images: How images are found and prepared.
        crop: Which part of one is shown.
        collapse: When a run counts as dead.
        steps: Of the whole training.
        batch: Samples of a step, of all processes together.
        accumulate: Parts that a batch is worked through in, to save memory.
        learning_rate: Peak; up along a line, down along a half cosine to a hundredth.
        warmup_steps: Of the way up.
        weight_decay: Of AdamW, on matrices alone.
        betas: Of AdamW.
        clip_norm: Longest gradient.
        average: Decay of the averaged weights, which are the ones that ship.
        bfloat16: Whether the forward pass runs in bfloat16; "auto" times both at the start and keeps the faster.
        recompute: Whether activations are computed again on the way back, to save memory.
        compile: Whether torch.compile is tried.
        parallel: How several processes hold the learner: each a whole copy ("ddp"), or each a part of every weight
            ("fsdp"), which also writes its own part of the checkpoint. "auto" is "ddp" where there are several. It is
            no part of the configuration that is kept: a run may go on in another way, with other processes.
        device: Of torch; "auto" takes a GPU where there is one.
        threads: Of torch.
        tensorboard: Whether event files are written, where the package is installed.
        checkpoint_every: Steps.
        validate_every: Steps.
    """

    name: str = Field(default="", pattern=r"^([a-z0-9][a-z0-9.-]{0,57})?$")
    method: str
    seed: int = Field(ge=0)
    data: Path | None = Field(default=None, exclude=True)
    licence: str = Field(default="LicenseRef-as-the-images", min_length=1)
    backbone: str | dict[str, Any]
    pixels: tuple[int, ...] = Field(min_length=2, max_length=3)
    channels: Literal[1, 3] = 1
    images: ImageArgs = ImageArgs()
    crop: CropArgs = CropArgs()
    collapse: CollapseArgs = CollapseArgs()
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    accumulate: int = Field(default=1, ge=1)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(default=0, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    betas: tuple[float, float] = (0.9, 0.95)
    clip_norm: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.996, ge=0, lt=1)
    bfloat16: bool | Literal["auto"] = "auto"
    recompute: bool = False
    compile: bool = False
    parallel: Literal["auto", "ddp", "fsdp"] = Field(default="auto", exclude=True)
    device: str = "auto"
    threads: int = Field(default=1, ge=1)
    tensorboard: bool = False
    checkpoint_every: int = Field(ge=1)
    validate_every: int = Field(ge=1)

    @model_validator(mode="after")
    def _fits(self) -> PretrainingArgs:
        shape = self.shape
        if shape.dims != len(self.pixels) or shape.channels_in != self.channels:
            raise ValueError(
                f"the backbone sees {shape.dims} axes and {shape.channels_in} channels, `pixels` and `channels` say "
                f"{len(self.pixels)} and {self.channels}"
            )
        if any(n < 1 or n % m for n, m in zip(self.pixels, shape.multiple, strict=True)):
            raise ValueError(f"pixels: every side must be a multiple of {shape.multiple}, got {self.pixels}")
        if self.batch % self.accumulate:
            raise ValueError(f"accumulate: a batch of {self.batch} has no {self.accumulate} equal parts")
        return self

    @property
    def shape(self) -> ViTSettings | ResidualSettings:
        """The backbone's settings.

        Raises:
            ConfigError: There is no such backbone.
        """
        given = self.backbone
        if isinstance(given, str):
            return named_backbone(given, self.pixels, channels_in=self.channels)
        kind: type[ViTSettings | ResidualSettings] = (
            ResidualSettings if given.get("kind") == ResidualSettings.kind else ViTSettings
        )
        return kind.from_card(given)

    @property
    def weights_name(self) -> str:
        """Name of the weights: the configured one, or method and axes."""
        return self.name or f"{self.method}-{len(self.pixels)}d"

    def rate(self, step: int) -> float:
        """Return the learning rate of a step (counted from 0)."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        done = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * min(1.0, done))))

    def preparation(self) -> Mapping[str, object]:
        """Say how pixels become input, for the card."""
        return {
            "kind": "percentile-window",
            "low_percent": self.images.low_percent,
            "high_percent": self.images.high_percent,
            "then": "zero mean and unit standard deviation of the whole image",
            "pixels": list(self.pixels),
            "channels": self.channels,
            "spacing_mm": self.images.spacing_mm,
        }
