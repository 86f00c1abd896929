"""The image encoder of the interactive network as a backbone for other tasks: it learnt from synthesis alone.

It sees a prepared image (mean 0, deviation 1) and makes of it the two channels that it learnt on: the image between its
1st and 99th percentile, and the deviation round each voxel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from isocenter.core.errors import ConfigError
from isocenter.models.backbones.settings import BackboneSettings
from isocenter.models.interactive.network import InteractiveNet, InteractiveSettings, fold, laid_out

__all__ = ["InteractiveEncoder", "InteractiveEncoderSettings"]


@dataclass(frozen=True)
class InteractiveEncoderSettings(BackboneSettings):
    """The shape of the encoder: that of the interactive network it is part of.

    Args:
        widths: Channels at each level, finest (half the grid of the image) first.
        blocks: Convolutions at each level.

    Raises:
        ConfigError: It sees one channel only.
    """

    kind: ClassVar[str] = "interactive-encoder"
    widths: tuple[int, ...] = (24, 48, 96, 128)
    blocks: int = 2

    def __post_init__(self) -> None:
        self.check_common()
        if self.channels_in != 1:
            raise ConfigError(f"the interactive encoder sees one channel, not {self.channels_in}")

    @property
    def multiple(self) -> tuple[int, ...]:
        """Every side of the input must be a multiple of these."""
        return (2 ** len(self.widths),) * self.dims


class InteractiveEncoder(nn.Module):
    """The encoder.

    Args:
        settings: Its shape.

    Example:
        >>> net = InteractiveEncoder(InteractiveEncoderSettings(widths=(4, 8, 8), blocks=1)).eval()
        >>> net.maps(torch.zeros(1, 1, 16, 8))[0].shape, net.embed(torch.zeros(1, 1, 16, 8)).shape
        (torch.Size([1, 4, 8, 4]), torch.Size([1, 8]))
    """

    def __init__(self, settings: InteractiveEncoderSettings) -> None:
        super().__init__()
        self.settings = settings
        whole = InteractiveNet(
            InteractiveSettings(
                dims=settings.dims,
                widths=settings.widths,
                prompt_widths=(4,) * len(settings.widths),
                blocks=settings.blocks,
                memory=4,
            )
        )
        self.image_stem, self.image = whole.image_stem, whole.image

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return self.settings.widths[-1]

    @property
    def stride(self) -> tuple[int, ...]:
        """Voxels of the image per place of the finest map."""
        return (2,) * self.settings.dims

    def picture(self, x: Float[torch.Tensor, "n 1 *space"]) -> Float[torch.Tensor, "n 2 *space"]:
        """Return what it learnt on: see `isocenter.models.interactive.inputs`."""
        flat = x.detach().float().flatten(1)
        few = flat[:, :: max(1, flat.shape[1] // 20_000)]
        low, high = torch.quantile(few, torch.tensor([0.01, 0.99], dtype=few.dtype, device=few.device), dim=1)
        shape = (-1,) + (1,) * (x.ndim - 1)
        span = (high - low).clamp(min=1e-6).view(shape)
        values = ((x.float() - low.view(shape)) / span).clamp(-0.3, 1.3)
        pool, size = (functional.avg_pool2d, 5) if x.ndim == 4 else (functional.avg_pool3d, 3)
        mean, square = (
            pool(v, size, stride=1, padding=size // 2, count_include_pad=False) for v in (values, values**2)
        )
        deviation = (square - mean**2).clamp(min=0).sqrt()
        return torch.cat([values * 2 - 1, deviation * 4], dim=1)

    def maps(self, x: Float[torch.Tensor, "n 1 *space"]) -> list[torch.Tensor]:
        """Return the features, finest first; the finest have half the grid of the image."""
        return list(self.image(self.image_stem(laid_out(fold(self.picture(x), 2)))))

    def train(self, mode: bool = True) -> InteractiveEncoder:
        """Set to learn; normalisation keeps what it knows of a million synthetic pictures."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.BatchNorm3d):
                module.eval()
        return self

    def embed(self, x: Float[torch.Tensor, "n 1 *space"]) -> Float[torch.Tensor, "n width"]:
        """Return the mean of the coarsest level over space."""
        return self.maps(x)[-1].flatten(2).mean(2)
