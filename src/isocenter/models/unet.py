"""A small UNet in 2D or 3D: the network of the automatic segmentation tasks.

One class serves both ranks: an encoder that halves the grid by strided convolution, a decoder that doubles it by
nearest-neighbour repetition (exact, so the result is the same on every machine) and joins the encoder's features, and
instance normalisation, which makes the network indifferent to the gain of the scanner. About one million parameters:
it trains in minutes and runs in a fraction of a second on one core.

Source:
    Ronneberger et al., MICCAI 2015 (UNet); Isensee et al., Nature Methods 2021 (strided encoder, instance norm).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import nn

from isocenter.core.errors import ConfigError

__all__ = ["UNet", "UNetSettings"]


@dataclass(frozen=True)
class UNetSettings:
    """The shape of a UNet; written into the weights' card, so that the network can be built from it.

    Args:
        rank: 2 for pictures, 3 for volumes.
        channels_in: Channels of the input.
        classes: Channels of the output, background included.
        widths: Channels at each level, finest first; the grid halves between two levels.

    Raises:
        ConfigError: A number is out of range.
    """

    rank: int
    channels_in: int
    classes: int
    widths: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "widths", tuple(int(w) for w in self.widths))
        if self.rank not in (2, 3):
            raise ConfigError(f"a UNet has rank 2 or 3, not {self.rank}")
        if len(self.widths) < 2 or min(self.widths) < 1:
            raise ConfigError(f"a UNet needs at least two levels of at least one channel, got widths {self.widths}")
        if self.channels_in < 1 or self.classes < 2:
            raise ConfigError(f"a UNet needs an input channel and two classes, got {self.channels_in}, {self.classes}")

    @property
    def multiple(self) -> int:
        """Every side of the input must be a multiple of this."""
        return int(2 ** (len(self.widths) - 1))

    def as_card(self) -> dict[str, object]:
        """Return the settings as JSON-ready values."""
        return {**asdict(self), "widths": list(self.widths)}

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> UNetSettings:
        """Return the settings that `as_card` wrote.

        Raises:
            ConfigError: A value is missing, unknown or not a number.
        """
        try:
            numbers = {key: int(str(value)) for key, value in values.items() if key != "widths"}
            widths = values["widths"]
            if not isinstance(widths, (list, tuple)):
                raise TypeError("widths must be a list")
            return cls(**numbers, widths=tuple(int(w) for w in widths))
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"these are not the settings of a UNet: {error}") from error


def _conv_norm_act(settings: UNetSettings, width_in: int, width_out: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d if settings.rank == 2 else nn.Conv3d
    norm = nn.InstanceNorm2d if settings.rank == 2 else nn.InstanceNorm3d
    return nn.Sequential(
        conv(width_in, width_out, 3, stride, 1, bias=False),
        norm(width_out, affine=True),
        nn.LeakyReLU(0.01, inplace=True),
    )


class UNet(nn.Module):
    """Encoder, decoder and skips between them.

    Args:
        settings: Rank, channels and widths.

    Example:
        >>> net = UNet(UNetSettings(rank=2, channels_in=1, classes=2, widths=(4, 8)))
        >>> net(torch.zeros(1, 1, 6, 8)).shape
        torch.Size([1, 2, 6, 8])
    """

    def __init__(self, settings: UNetSettings) -> None:
        super().__init__()
        self.settings = settings
        conv = nn.Conv2d if settings.rank == 2 else nn.Conv3d
        widths = settings.widths
        self.encoder = nn.ModuleList([_stage(settings, settings.channels_in, widths[0], 1)])
        self.encoder.extend(_stage(settings, fine, coarse, 2) for fine, coarse in pairwise(widths))
        steps = list(pairwise(widths))[::-1]
        self.reduce = nn.ModuleList([conv(coarse, fine, 1) for fine, coarse in steps])
        self.decoder = nn.ModuleList([_conv_norm_act(settings, 2 * fine, fine) for fine, _ in steps])
        self.head = conv(widths[0], settings.classes, 1)

    def forward(self, x: Float[torch.Tensor, "batch channel *space"]) -> Float[torch.Tensor, "batch classes *space"]:
        """Return logits on the grid of the input.

        Args:
            x: Prepared input; every side a multiple of `UNetSettings.multiple`.
        """
        skips: list[torch.Tensor] = []
        for stage in self.encoder:
            x = stage(x)
            skips.append(x)
        for reduce, join, skip in zip(self.reduce, self.decoder, skips[-2::-1], strict=True):
            x = nn.functional.interpolate(reduce(x), scale_factor=2, mode="nearest")
            x = join(torch.cat([x, skip], dim=1))
        logits: torch.Tensor = self.head(x)
        return logits


def _stage(settings: UNetSettings, width_in: int, width_out: int, stride: int) -> nn.Sequential:
    return nn.Sequential(
        _conv_norm_act(settings, width_in, width_out, stride), _conv_norm_act(settings, width_out, width_out)
    )
