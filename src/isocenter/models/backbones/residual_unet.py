"""A residual encoder for planes and volumes, and the U-Net made of it.

The encoder is a backbone of its own: pretraining fills it, adaptation puts a decoder or a head on it. Strides are given
per level and axis, so that thick slices are not halved before their pixels are.

Source:
    Ronneberger et al., MICCAI 2015 (U-Net); Isensee et al., nnU-Net Revisited, MICCAI 2024 (residual encoder).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import nn
from torch.utils.checkpoint import checkpoint

from isocenter.core.errors import ConfigError
from isocenter.models.backbones.settings import BackboneSettings

__all__ = ["Level", "ResidualEncoder", "ResidualSettings", "ResidualUNet", "UNetDecoder", "strides_for"]

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


@dataclass(frozen=True)
class ResidualSettings(BackboneSettings):
    """The shape of a residual encoder.

    Args:
        widths: Channels at each level, finest first.
        blocks: Residual blocks at each level.
        strides: How much the grid shrinks into each level, along each axis; the first is that of the input (ones).
        norm: "instance" forgets how bright and how large things are in an image, which outlining is better off without;
            "batch" keeps it, for answers about whole images.

    Raises:
        ConfigError: A number is out of range, or lengths differ.
    """

    kind: ClassVar[str] = "residual-unet"
    widths: tuple[int, ...] = (32, 64, 128, 256)
    blocks: tuple[int, ...] = (1, 2, 2, 2)
    strides: tuple[tuple[int, ...], ...] = ((1, 1), (2, 2), (2, 2), (2, 2))
    norm: str = "instance"

    def __post_init__(self) -> None:
        self.check_common()
        if self.norm not in ("instance", "batch"):
            raise ConfigError(f"norm is 'instance' or 'batch', got {self.norm!r}")
        if not 2 <= len(self.widths) == len(self.blocks) == len(self.strides):
            raise ConfigError("a residual encoder needs widths, blocks and strides of two levels or more, equally many")
        if min(*self.widths, *self.blocks) < 1:
            raise ConfigError(f"widths and blocks must be positive, got {self.widths} and {self.blocks}")
        if any(len(s) != self.dims or min(s) < 1 for s in self.strides):
            raise ConfigError(f"every stride needs {self.dims} positive numbers, got {self.strides}")

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values; "instance" goes without saying, as in cards from before there was another."""
        values = super().as_card()
        return {k: v for k, v in values.items() if (k, v) != ("norm", "instance")}

    def normalisation(self, width: int) -> nn.Module:
        """Return a layer that normalises a map of some channels."""
        known = _NORM if self.norm == "instance" else _BATCH_NORM
        return known[self.dims](width, affine=True)

    @property
    def multiple(self) -> tuple[int, ...]:
        """Every side of the input must be a multiple of these."""
        return tuple(math.prod(s[axis] for s in self.strides) for axis in range(self.dims))


class _Residual(nn.Module):
    def __init__(self, settings: ResidualSettings, width_in: int, width: int, stride: tuple[int, ...]) -> None:
        super().__init__()
        dims, norm = settings.dims, settings.normalisation
        conv = _CONV[dims]
        self.body = nn.Sequential(
            conv(width_in, width, 3, stride, 1, bias=False),  # type: ignore[arg-type]
            norm(width),
            nn.LeakyReLU(0.01, inplace=True),
            conv(width, width, 3, 1, 1, bias=False),
            norm(width),
        )
        around: list[nn.Module] = []
        if max(stride) > 1:
            around.append((nn.AvgPool2d if dims == 2 else nn.AvgPool3d)(stride, stride))  # type: ignore[arg-type]
        if width_in != width:
            around += [conv(width_in, width, 1, bias=False), norm(width)]
        self.around = nn.Sequential(*around)
        self.act = nn.LeakyReLU(0.01, inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.body(x) + self.around(x))  # type: ignore[no-any-return]


class Level(nn.Sequential):
    """The residual blocks of a level; what is computed, computed again and shared out among processes as one."""

    def forward(self, x: torch.Tensor, through: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None = None) -> Any:
        """Return the features of the level.

        Args:
            x: Features of the level before.
            through: Runs one block in another way (with parts of the image hidden); None runs it as it is.
        """
        for block in self:
            x = block(x) if through is None else through(block, x)
        return x


class ResidualEncoder(nn.Module):
    """The encoder.

    Args:
        settings: Its shape.
        recompute: Whether activations are computed again on the way back, to save memory (gradient checkpointing).

    Example:
        >>> net = ResidualEncoder(ResidualSettings(widths=(4, 8), blocks=(1, 1), strides=((1, 1), (2, 2))))
        >>> [m.shape for m in net.maps(torch.zeros(2, 1, 6, 8))], net.embed(torch.zeros(2, 1, 6, 8)).shape
        ([torch.Size([2, 4, 6, 8]), torch.Size([2, 8, 3, 4])], torch.Size([2, 8]))
    """

    def __init__(self, settings: ResidualSettings, *, recompute: bool = False) -> None:
        super().__init__()
        self.settings, self.recompute = settings, recompute
        dims, widths = settings.dims, settings.widths
        conv = _CONV[dims]
        self.stem = nn.Sequential(
            conv(settings.channels_in, widths[0], 3, settings.strides[0], 1, bias=False),  # type: ignore[arg-type]
            settings.normalisation(widths[0]),
            nn.LeakyReLU(0.01, inplace=True),
        )
        ones = (1,) * dims
        self.levels = nn.ModuleList()
        for level, (width, blocks, stride) in enumerate(zip(widths, settings.blocks, settings.strides, strict=True)):
            before, step = (widths[0], ones) if level == 0 else (widths[level - 1], stride)
            parts = [_Residual(settings, before, width, step)]
            parts += [_Residual(settings, width, width, ones) for _ in range(blocks - 1)]
            self.levels.append(Level(*parts))

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return self.settings.widths[-1]

    def maps(self, x: Float[torch.Tensor, "n channel *space"]) -> list[torch.Tensor]:
        """Return the features of every level, finest first; sides of `x` a multiple of `ResidualSettings.multiple`."""
        return self.climb(self.stem(x))

    def climb(
        self,
        h: Float[torch.Tensor, "n channel *space"],
        through: Callable[[nn.Module, torch.Tensor], torch.Tensor] | None = None,
    ) -> list[torch.Tensor]:
        """Return the features of every level, from those of the stem; `through` as in `Level.forward`."""
        found = []
        for level in self.levels:
            again = self.recompute and torch.is_grad_enabled()
            h = checkpoint(level, h, through, use_reentrant=False) if again else level(h, through)
            found.append(h)
        return found

    def embed(self, x: Float[torch.Tensor, "n channel *space"]) -> Float[torch.Tensor, "n width"]:
        """Return the mean of the coarsest level over space."""
        return self.maps(x)[-1].flatten(2).mean(2)


class UNetDecoder(nn.Module):
    """An encoder with a slim decoder over its maps.

    Args:
        encoder: Whose maps; it is used, not copied.
        widths: Channels of the maps, finest first.
        strides: How much the grid shrinks into each level, along each axis; the first is not looked at.
        classes: Channels of the output, background included.
    """

    def __init__(
        self, encoder: nn.Module, *, widths: Sequence[int], strides: Sequence[tuple[int, ...]], classes: int
    ) -> None:
        super().__init__()
        dims = len(strides[0])
        self.encoder, self.classes = encoder, classes
        self.up, self.join, self.heads = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        for level in range(len(widths) - 2, -1, -1):
            coarse, fine, stride = widths[level + 1], widths[level], strides[level + 1]
            self.up.append(_UP[dims](coarse, fine, stride, stride))  # type: ignore[arg-type]
            self.join.append(
                nn.Sequential(
                    _CONV[dims](2 * fine, fine, 3, 1, 1, bias=False),
                    _NORM[dims](fine, affine=True),
                    nn.LeakyReLU(0.01, inplace=True),
                )
            )
            self.heads.append(_CONV[dims](fine, classes, 1))

    def maps(self, x: Float[torch.Tensor, "n channel *space"]) -> list[torch.Tensor]:
        """Return the features that are decoded, finest first."""
        return self.encoder.maps(x)  # type: ignore[operator,no-any-return]

    def levels(self, x: Float[torch.Tensor, "n channel *space"], count: int) -> list[torch.Tensor]:
        """Return the logits of the `count` finest levels, finest first."""
        maps = self.maps(x)
        h, found = maps[-1], []
        for step, (up, join, head, skip) in enumerate(
            zip(self.up, self.join, self.heads, maps[-2::-1], strict=True), start=1
        ):
            h = join(torch.cat([up(h), skip], dim=1))
            if len(self.heads) - step < count:
                found.append(head(h))
        return found[::-1]

    def forward(self, x: Float[torch.Tensor, "n channel *space"]) -> Float[torch.Tensor, "n classes *space"]:
        """Return logits on the grid of the finest level."""
        return self.levels(x, 1)[0]


class ResidualUNet(UNetDecoder):
    """A residual encoder with a slim decoder: logits on the grid of the input, and of coarser levels on request.

    Args:
        encoder: The encoder; it is used, not copied.
        classes: Channels of the output, background included.

    Example:
        >>> net = ResidualUNet(ResidualEncoder(ResidualSettings(widths=(4, 8), blocks=(1, 1),
        ...     strides=((1, 1), (2, 2)))), classes=3)
        >>> net(torch.zeros(2, 1, 6, 8)).shape
        torch.Size([2, 3, 6, 8])
    """

    def __init__(self, encoder: ResidualEncoder, *, classes: int) -> None:
        settings = encoder.settings
        super().__init__(encoder, widths=settings.widths, strides=settings.strides, classes=classes)


def strides_for(spacing: Sequence[float], size: Sequence[int], levels: int) -> tuple[tuple[int, ...], ...]:
    """Return strides that halve the finest axes first and leave at least four places along each.

    Args:
        spacing: Of the input, in any unit.
        size: Of the input.
        levels: How many at most.

    Example:
        >>> strides_for((3.0, 1.0, 1.0), (16, 64, 64), 4)
        ((1, 1, 1), (1, 2, 2), (2, 2, 2), (2, 2, 2))
    """
    here, left = list(map(float, spacing)), list(map(int, size))
    strides = [tuple(1 for _ in here)]
    while len(strides) < levels:
        can = [n // 2 >= 4 for n in left]
        finest = min((s for s, c in zip(here, can, strict=True) if c), default=None)
        if finest is None:
            break
        stride = tuple(2 if c and s < 2 * finest else 1 for s, c in zip(here, can, strict=True))
        here = [s * k for s, k in zip(here, stride, strict=True)]
        left = [n // k for n, k in zip(left, stride, strict=True)]
        strides.append(stride)
    return tuple(strides)
