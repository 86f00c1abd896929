"""Masked autoencoding with convolutions: what is hidden stays empty at every level, so that nothing of it leaks.

The encoder is run as it is, but for two things: after every convolution the hidden places are emptied again, or borders
would creep in and empty places fill up; and normalisation counts visible places alone. On whole images it is then the
encoder that everybody knows.

Source:
    Tian et al., Designing BERT for Convolutional Networks (SparK), ICLR 2023.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int64
from torch import nn

from isocenter.models.backbones import ResidualEncoder

__all__ = ["SparseDecoder", "sparse_maps", "visible_map"]

_CONV = {2: nn.Conv2d, 3: nn.Conv3d}
_NORM = {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}
_UP = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


def visible_map(kept: Int64[torch.Tensor, "n kept"], grid: Sequence[int]) -> Float[torch.Tensor, "n 1 *grid"]:
    """Return 1 at the patches that are shown, 0 at the others."""
    total = 1
    for n in grid:
        total *= n
    flat = torch.zeros(len(kept), total, device=kept.device)
    return flat.scatter_(1, kept, 1.0).reshape(len(kept), 1, *grid)


def _spread(visible: torch.Tensor, space: Sequence[int]) -> torch.Tensor:
    """Return the map on a finer grid."""
    for axis, side in enumerate(space, 2):
        visible = visible.repeat_interleave(side // visible.shape[axis], dim=axis)
    return visible


class _Levels:
    """The map of what is visible, on the grid of every level."""

    def __init__(self, visible: torch.Tensor) -> None:
        self._coarse, self._known = visible, dict[tuple[int, ...], torch.Tensor]()

    def of(self, x: torch.Tensor) -> torch.Tensor:
        space = tuple(x.shape[2:])
        if space not in self._known:
            self._known[space] = _spread(self._coarse, space)
        return self._known[space]


def _norm(norm: nn.Module, x: torch.Tensor, visible: torch.Tensor) -> torch.Tensor:
    """Normalise over visible places alone; hidden ones stay empty. Statistics in float32.

    Hidden places hold 0, so sums over all places are sums over visible ones, and one scale and offset do the rest.
    """
    axes = tuple(range(2, x.ndim))
    count = visible.sum(axes, keepdim=True)
    mean = x.sum(axes, keepdim=True, dtype=torch.float32) / count
    square = torch.linalg.vector_norm(x, dim=axes, keepdim=True, dtype=torch.float32).square() / count
    var = (square - mean.square()).clamp(min=0)
    shape = (1, -1, *(1 for _ in axes))
    weight, bias = norm.weight.reshape(shape), norm.bias.reshape(shape)  # type: ignore[operator]
    scale = weight * (var + norm.eps).rsqrt()
    return torch.addcmul((bias - mean * scale).to(x.dtype), x, scale.to(x.dtype)) * visible.to(x.dtype)


def _through(modules: Iterable[nn.Module], x: torch.Tensor, levels: _Levels) -> torch.Tensor:
    for module in modules:
        if isinstance(module, nn.Conv2d | nn.Conv3d):
            x = module(x)
            x = x * levels.of(x).to(x.dtype)
        elif isinstance(module, nn.InstanceNorm2d | nn.InstanceNorm3d):
            x = _norm(module, x, levels.of(x))
        else:
            x = module(x)  # pooling within a patch, an activation that keeps 0
    return x


def sparse_maps(
    encoder: ResidualEncoder,
    x: Float[torch.Tensor, "n channel *space"],
    visible: Float[torch.Tensor, "n 1 *grid"],
) -> list[torch.Tensor]:
    """Return the features of every level, finest first: those of `ResidualEncoder.maps`, empty where nothing is seen.

    Args:
        encoder: The encoder.
        x: Images; what they hold at hidden places is not looked at.
        visible: 1 at the patches that are shown.
    """
    levels = _Levels(visible)

    def through(block: Any, h: torch.Tensor) -> torch.Tensor:
        shown: torch.Tensor = block.act(_through(block.body, h, levels) + _through(block.around, h, levels))
        return shown

    return encoder.climb(_through(encoder.stem, x * levels.of(x).to(x.dtype), levels), through)


class SparseDecoder(nn.Module):
    """Fills in the images from the features of all levels, with a learnt token where nothing was seen.

    Its levels are those of `ResidualUNet`, so that a segmentation can begin with them too.

    Args:
        encoder: Whose features.
        channels: Of the image.
    """

    def __init__(self, encoder: ResidualEncoder, channels: int) -> None:
        super().__init__()
        settings = encoder.settings
        dims, widths = settings.dims, settings.widths
        self.tokens = nn.ParameterList([nn.Parameter(torch.randn(w, *(1,) * dims) * 0.02) for w in widths])
        self.up, self.join = nn.ModuleList(), nn.ModuleList()
        for level in range(len(widths) - 2, -1, -1):
            coarse, fine, stride = widths[level + 1], widths[level], settings.strides[level + 1]
            self.up.append(_UP[dims](coarse, fine, stride, stride))  # type: ignore[arg-type]
            self.join.append(
                nn.Sequential(
                    _CONV[dims](2 * fine, fine, 3, 1, 1, bias=False),
                    _NORM[dims](fine, affine=True),
                    nn.LeakyReLU(0.01, inplace=True),
                )
            )
        self.leave = _CONV[dims](widths[0], channels, 1)

    def forward(
        self, maps: Sequence[torch.Tensor], visible: Float[torch.Tensor, "n 1 *grid"]
    ) -> Float[torch.Tensor, "n channel *finest"]:
        """Return the whole images, hidden and seen, on the grid of the finest level."""
        levels = _Levels(visible)
        dense = [
            torch.where(levels.of(m) > 0, m, token.to(m.dtype)) for m, token in zip(maps, self.tokens, strict=True)
        ]
        h = dense[-1]
        for up, join, skip in zip(self.up, self.join, dense[-2::-1], strict=True):
            h = join(torch.cat([up(h), skip], dim=1))
        return self.leave(h)  # type: ignore[no-any-return]
