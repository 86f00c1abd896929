"""The networks that are learnt: a backbone with a head for the kind of answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from isocenter.core.errors import ConfigError
from isocenter.models.backbones import (
    AnySettings,
    ResidualEncoder,
    ResidualUNet,
    ViT,
    build_backbone,
    settings_from_card,
)
from isocenter.models.backbones.residual_unet import UNetDecoder
from isocenter.models.interactive.backbone import InteractiveEncoder
from isocenter.models.learnt.descriptor import DescriptorEncoder, DescriptorSettings

__all__ = ["CoarseUNet", "LearntSettings", "PyramidUNet", "VectorNet", "backbone_settings", "build_learnt"]

Pool = Literal["mean", "mean-max", "grid"]
_CELLS = 4
"""Along each axis of the grid."""


@dataclass(frozen=True)
class LearntSettings:
    """What a learnt network is made of.

    Args:
        backbone: Card of the backbone (`BackboneSettings.as_card`).
        outputs: Channels of the answer: classes with background for a mask; classes, findings, or one number else.
        mask: Whether it answers voxel by voxel.
        dropout: Of the embedding before the head, while it learns.
        pool: What of the backbone an answer about the whole image is made from. "mean": its embedding, each image's on
            one scale. "mean-max": mean and maximum over space of its coarsest map, each number on the scale of the set,
            so that how much there is and how thick it is at its thickest are not lost; needs a backbone of maps.
            "grid": the mean of each of 4 cells along each axis of that map, so that where something is is not lost
            either.

    Raises:
        ConfigError: A number is out of range, or the backbone can't answer voxel by voxel.
    """

    backbone: Mapping[str, object]
    outputs: int
    mask: bool
    dropout: float = 0.0
    pool: Pool = "mean"

    def __post_init__(self) -> None:
        if self.pool not in get_args(Pool):
            raise ConfigError(f"pool must be one of {', '.join(get_args(Pool))}, got {self.pool!r}")
        if self.outputs < (2 if self.mask else 1) or not 0 <= self.dropout < 1:
            raise ConfigError(f"outputs and dropout are out of range: {self.outputs}, {self.dropout}")

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "backbone": dict(self.backbone), "outputs": self.outputs, "mask": self.mask, "dropout": self.dropout,
            "pool": self.pool,
        }  # fmt: skip

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> LearntSettings:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing, unknown or out of range.
        """
        try:
            return cls(**values)  # type: ignore[arg-type]
        except TypeError as error:
            raise ConfigError(f"this is not a learnt network: {error}") from error


class VectorNet(nn.Module):
    """A backbone whose embedding becomes a few numbers.

    Args:
        backbone: The backbone; used, not copied.
        outputs: How many numbers.
        dropout: Of the embedding.
        pool: See `LearntSettings`.

    Raises:
        ConfigError: The backbone has no maps, and the pool needs them.
    """

    def __init__(
        self,
        backbone: ViT | ResidualEncoder | InteractiveEncoder | DescriptorEncoder,
        outputs: int,
        dropout: float,
        pool: Pool = "mean",
    ) -> None:
        super().__init__()
        self.encoder, width = backbone, backbone.width
        self._pool = pool
        norm: nn.Module = nn.LayerNorm(width)
        if pool != "mean":
            if isinstance(backbone, ViT):
                raise ConfigError(f"pool {pool!r} needs a backbone of maps, this one is a vision transformer")
            if not isinstance(backbone, DescriptorEncoder):  # whose embedding is already its cells, laid out
                width *= 2 if pool == "mean-max" else _CELLS**backbone.settings.dims
            norm = nn.BatchNorm1d(width, affine=False)
        self.head = nn.Sequential(norm, nn.Dropout(dropout), nn.Linear(width, outputs))

    def embed(self, x: Float[torch.Tensor, "n channel *space"]) -> Float[torch.Tensor, "n features"]:
        """Return what the head sees of an image."""
        if self._pool == "mean":
            return self.encoder.embed(x).float()
        return self.pooled(self.encoder.maps(x)[-1])

    def pooled(self, coarsest: Float[torch.Tensor, "n width *grid"]) -> Float[torch.Tensor, "n features"]:
        """Return what the head sees of the coarsest map of a backbone of maps."""
        maps = coarsest.float()
        if isinstance(self.encoder, DescriptorEncoder):
            return maps.flatten(1)
        if self._pool == "grid":
            return _cells(maps).flatten(1)
        found = maps.flatten(2)
        return found.mean(2) if self._pool == "mean" else torch.cat([found.mean(2), found.amax(2)], dim=1)

    def forward(self, x: Float[torch.Tensor, "n channel *space"]) -> Float[torch.Tensor, "n outputs"]:
        """Return logits, or numbers."""
        return self.head(self.embed(x))  # type: ignore[no-any-return]


def _cells(maps: Float[torch.Tensor, "n c *space"]) -> Float[torch.Tensor, "n c *cells"]:
    pool = functional.adaptive_avg_pool2d if maps.ndim == 4 else functional.adaptive_avg_pool3d
    return pool(maps, _CELLS)


class PyramidUNet(UNetDecoder):
    """A backbone of several maps whose finest is coarser than the image, with a level of the image's own voxels on top.

    Args:
        backbone: The backbone; used, not copied.
        classes: Channels of the output, background included.
    """

    def __init__(self, backbone: InteractiveEncoder, classes: int) -> None:
        settings = backbone.settings
        dims, stride, width = settings.dims, backbone.stride, max(16, settings.widths[0] // 2)
        widths = (width, *settings.widths)
        strides = ((1,) * dims, stride, *((2,) * dims for _ in settings.widths[1:]))
        super().__init__(backbone, widths=widths, strides=strides, classes=classes)
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        norm = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        self.fine = nn.Sequential(
            conv(settings.channels_in, width, 3, padding=1, bias=False),
            norm(width, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
            conv(width, width, 3, padding=1, bias=False),
            norm(width, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
        )

    def maps(self, x: Float[torch.Tensor, "n channel *space"]) -> list[torch.Tensor]:
        """Return the backbone's features, and above them those of the voxels themselves."""
        return [self.fine(x), *super().maps(x)]


class CoarseUNet(nn.Module):
    """A backbone of one map coarser than the image, brought back to its voxels by one transposed convolution.

    Source:
        Hatamizadeh et al., WACV 2022 (UNETR), without its side ways: a plain decoder over the last tokens.
    """

    def __init__(self, backbone: ViT, classes: int) -> None:
        super().__init__()
        self.encoder = backbone
        settings = backbone.settings
        dims = settings.dims
        finest = backbone.width
        width = min(64, max(16, finest))
        up = nn.ConvTranspose2d if dims == 2 else nn.ConvTranspose3d
        conv = nn.Conv2d if dims == 2 else nn.Conv3d
        norm = nn.InstanceNorm2d if dims == 2 else nn.InstanceNorm3d
        stride = backbone.stride
        self.up = up(finest, width, stride, stride)  # type: ignore[arg-type]
        self.join = nn.Sequential(
            conv(width + settings.channels_in, width, 3, padding=1, bias=False),
            norm(width, affine=True),
            nn.LeakyReLU(0.01, inplace=True),
            conv(width, classes, 1),
        )

    def levels(self, x: torch.Tensor, count: int) -> list[torch.Tensor]:
        """Return the one level there is, whatever `count`."""
        del count
        return [self(x)]

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits on the grid of the input."""
        return self.join(torch.cat([self.up(self.encoder.maps(x)[0]), x], dim=1))  # type: ignore[no-any-return]


def backbone_settings(card: Mapping[str, object]) -> AnySettings | DescriptorSettings:
    """Return the settings of what a learnt network is built on.

    Raises:
        ConfigError: The card is of none.
    """
    if card.get("kind") == DescriptorSettings.kind:
        return DescriptorSettings.from_card(card)
    return settings_from_card(card)


def build_learnt(settings: LearntSettings, *, recompute: bool = False) -> nn.Module:
    """Build a network, with random weights.

    Args:
        settings: What it is made of.
        recompute: Whether activations are computed again on the way back, to save memory.

    Raises:
        ConfigError: The backbone's card is not of a backbone.
    """
    shape = backbone_settings(settings.backbone)
    if isinstance(shape, DescriptorSettings):
        if settings.mask:
            raise ConfigError("a descriptor answers for the whole image, not voxel by voxel")
        return VectorNet(DescriptorEncoder(shape), settings.outputs, settings.dropout, settings.pool)
    backbone = build_backbone(shape, recompute=recompute)
    if not settings.mask:
        return VectorNet(backbone, settings.outputs, settings.dropout, settings.pool)
    if isinstance(backbone, ResidualEncoder):
        return ResidualUNet(backbone, classes=settings.outputs)
    if isinstance(backbone, InteractiveEncoder):
        return PyramidUNet(backbone, settings.outputs)
    return CoarseUNet(backbone, settings.outputs)
