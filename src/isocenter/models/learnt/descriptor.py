"""A backbone with nothing to learn: how bright, how rough and how unlike its mirror image each cell of an image is.

With a few hundred images that lie alike in their frames, a linear answer over these numbers can be worth more than a
network that has to find its features first (docs/results/diagnosis.md: on the mean of findings, not for each).
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

__all__ = ["DescriptorEncoder", "DescriptorSettings"]

_BLUR = 5
"""Side of the mean that a pixel's fine part is told from."""


@dataclass(frozen=True)
class DescriptorSettings(BackboneSettings):
    """The shape of the backbone.

    Args:
        cells: Along each axis.

    Raises:
        ConfigError: `cells` is out of range.
    """

    kind: ClassVar[str] = "descriptor"
    cells: int = 16

    def __post_init__(self) -> None:
        self.check_common()
        if not 1 <= self.cells <= 64:
            raise ConfigError(f"a descriptor has 1 to 64 cells along each axis, not {self.cells}")

    @property
    def multiple(self) -> tuple[int, ...]:
        """Every side of the input must be a multiple of these."""
        return (self.cells,) * self.dims


class DescriptorEncoder(nn.Module):
    """The backbone.

    Args:
        settings: Its shape.

    Example:
        >>> net = DescriptorEncoder(DescriptorSettings(cells=4))
        >>> net.maps(torch.rand(2, 1, 16, 8))[0].shape, net.embed(torch.rand(2, 1, 16, 8)).shape
        (torch.Size([2, 3, 4, 4]), torch.Size([2, 48]))
    """

    def __init__(self, settings: DescriptorSettings) -> None:
        super().__init__()
        self.settings = settings

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return 3 * self.settings.channels_in * int(self.settings.cells**self.settings.dims)

    def maps(self, x: Float[torch.Tensor, "n channel *space"]) -> list[Float[torch.Tensor, "n c *cells"]]:
        """Return for each cell: the mean, the logarithm of the fine part's deviation, and the gap to its mirror image.

        The mirror image is the one along the last axis.
        """
        planes, cells = x.ndim == 4, self.settings.cells
        blur = functional.avg_pool2d if planes else functional.avg_pool3d
        pool = functional.adaptive_avg_pool2d if planes else functional.adaptive_avg_pool3d
        fine = x - blur(x, _BLUR, 1, _BLUR // 2, count_include_pad=False)
        mean = pool(x, cells)
        rough = torch.log(torch.sqrt(pool(fine**2, cells) + 1e-8) + 1e-2)
        return [torch.cat([mean, rough, (mean - mean.flip(-1)).abs()], dim=1)]

    def embed(self, x: Float[torch.Tensor, "n channel *space"]) -> Float[torch.Tensor, "n features"]:
        """Return all of it as one vector."""
        return self.maps(x)[0].flatten(1)
