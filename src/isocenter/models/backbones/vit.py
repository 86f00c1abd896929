"""A vision transformer for planes and volumes, with rotary or decomposed positions.

Tokens are patches, in the order of the grid (last axis fastest), after the registers. Only what is asked for is
computed: `encode` takes the places of the tokens to keep, so that a masked autoencoder pays for what it sees. With
rotary positions nothing is bound to a size; decomposed positions are learnt per axis and interpolated to another grid.

Source:
    Dosovitskiy et al., ICLR 2021 (ViT); Su et al., RoFormer, 2021, along each axis as in Heo et al., ECCV 2024
    (rotary); Feichtenhofer et al., NeurIPS 2022 (positions decomposed by axis); Darcet et al., ICLR 2024 (registers).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from jaxtyping import Float, Int64
from torch import nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from isocenter.core.errors import ConfigError
from isocenter.models.backbones.settings import BackboneSettings

__all__ = ["Attention", "Block", "Rotary", "ViT", "ViTSettings", "grid_places"]


@dataclass(frozen=True)
class ViTSettings(BackboneSettings):
    """The shape of a vision transformer.

    Args:
        patch: Pixels of a patch along each axis.
        grid: Patches along each axis that decomposed positions are learnt for; with rotary ones only a hint.
        width: Length of a token.
        depth: Blocks.
        heads: Of attention.
        ratio: Hidden width of a block's perceptron, in widths.
        positions: "rotary" or "decomposed".
        registers: Tokens that belong to no patch; the first is what `embed` returns beside the mean of the patches.

    Raises:
        ConfigError: A number is out of range, or lengths don't fit `dims`.
    """

    kind: ClassVar[str] = "vit"
    patch: tuple[int, ...] = (16, 16)
    grid: tuple[int, ...] = (14, 14)
    width: int = 192
    depth: int = 12
    heads: int = 3
    ratio: float = 4.0
    positions: str = "rotary"
    registers: int = 1

    def __post_init__(self) -> None:
        self.check_common()
        if len(self.patch) != self.dims or len(self.grid) != self.dims or min(*self.patch, *self.grid) < 1:
            raise ConfigError(f"patch and grid need {self.dims} positive numbers, got {self.patch} and {self.grid}")
        if min(self.width, self.depth, self.heads) < 1 or self.ratio <= 0 or self.registers < 0:
            raise ConfigError("width, depth, heads and ratio of a vit must be positive")
        if self.width % self.heads or self.width // self.heads < 2 * self.dims:
            raise ConfigError(
                f"{self.heads} heads don't divide a width of {self.width} into at least {2 * self.dims} channels each"
            )
        if self.positions not in ("rotary", "decomposed"):
            raise ConfigError(f"positions are 'rotary' or 'decomposed', not {self.positions!r}")

    @property
    def multiple(self) -> tuple[int, ...]:
        """Every side of the input must be a multiple of these."""
        return self.patch


def grid_places(grid: Sequence[int], device: torch.device | None = None) -> Float[torch.Tensor, "tokens dims"]:
    """Return the place of every patch of a grid, in patches, in the order of tokens."""
    axes = torch.meshgrid(*[torch.arange(n, device=device, dtype=torch.float32) for n in grid], indexing="ij")
    return torch.stack([axis.flatten() for axis in axes], dim=1)


class Rotary(nn.Module):
    """Turns queries and keys by where they are, so that attention sees differences of places.

    Args:
        dims: Axes.
        head: Channels of a head; each axis turns the largest even share of them.
        longest: Longest wavelength in patches.
    """

    def __init__(self, dims: int, head: int, longest: float = 100.0) -> None:
        super().__init__()
        pairs = head // (2 * dims)
        speeds = 2 * math.pi / (2.0 * (longest / 2.0) ** (torch.arange(pairs, dtype=torch.float32) / max(1, pairs - 1)))
        self.register_buffer("speeds", speeds, persistent=False)
        self.turned = 2 * dims * pairs

    def angles(
        self, places: Float[torch.Tensor, "*n tokens dims"]
    ) -> tuple[Float[torch.Tensor, "*n 1 tokens half"], Float[torch.Tensor, "*n 1 tokens half"]]:
        """Return cosine and sine for places."""
        speeds: torch.Tensor = self.speeds  # type: ignore[assignment]
        angle = (places[..., None] * speeds).flatten(-2).unsqueeze(-3)
        return angle.cos(), angle.sin()

    def turn(
        self, x: Float[torch.Tensor, "n heads tokens head"], cos: torch.Tensor, sin: torch.Tensor
    ) -> Float[torch.Tensor, "n heads tokens head"]:
        """Turn queries or keys."""
        half = self.turned // 2
        a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
        cos, sin = cos.to(x.dtype), sin.to(x.dtype)
        return torch.cat([a * cos - b * sin, b * cos + a * sin, rest], dim=-1)


class Attention(nn.Module):
    """Attention of tokens to each other.

    Args:
        width: Length of a token.
        heads: Number of heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(
        self,
        x: Float[torch.Tensor, "n tokens width"],
        rotary: Rotary | None = None,
        turn: tuple[torch.Tensor, torch.Tensor] | None = None,
        free: int = 0,
    ) -> Float[torch.Tensor, "n tokens width"]:
        """Attend; the first `free` tokens have no place and are not turned."""
        n, count, width = x.shape
        q, k, v = self.qkv(x).view(n, count, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4).unbind(0)
        if rotary is not None and turn is not None:
            q, k = (torch.cat([t[:, :, :free], rotary.turn(t[:, :, free:], *turn)], dim=2) for t in (q, k))
        seen = functional.scaled_dot_product_attention(q, k, v)
        return self.out(seen.transpose(1, 2).reshape(n, count, width))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and a perceptron, each with a way around it.

    Args:
        width: Length of a token.
        heads: Of attention.
        ratio: Hidden width of the perceptron, in widths.
    """

    def __init__(self, width: int, heads: int, ratio: float) -> None:
        super().__init__()
        hidden = round(width * ratio)
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads)
        self.perceptron = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(
        self,
        x: Float[torch.Tensor, "n tokens width"],
        rotary: Rotary | None = None,
        turn: tuple[torch.Tensor, torch.Tensor] | None = None,
        free: int = 0,
    ) -> Float[torch.Tensor, "n tokens width"]:
        """Return what the tokens become."""
        x = x + self.attention(self.norm1(x), rotary, turn, free)
        return x + self.perceptron(self.norm2(x))  # type: ignore[no-any-return]


class ViT(nn.Module):
    """The transformer.

    Args:
        settings: Its shape.
        recompute: Whether activations are computed again on the way back, to save memory (gradient checkpointing).

    Example:
        >>> vit = ViT(ViTSettings(dims=3, patch=(4, 8, 8), grid=(2, 2, 3), width=24, depth=1, heads=2))
        >>> vit.maps(torch.zeros(1, 1, 8, 16, 24))[0].shape, vit.embed(torch.zeros(1, 1, 8, 16, 24)).shape
        (torch.Size([1, 24, 2, 2, 3]), torch.Size([1, 24]))
    """

    def __init__(self, settings: ViTSettings, *, recompute: bool = False) -> None:
        super().__init__()
        self.settings, self.recompute = settings, recompute
        width, block = settings.width, settings.channels_in * math.prod(settings.patch)
        self.patch = nn.Linear(block, width)
        self.registers = nn.Parameter(torch.randn(settings.registers, width) * 0.02)
        self.rotary: Rotary | None = None
        self.positions = nn.ParameterList()
        if settings.positions == "rotary":
            self.rotary = Rotary(settings.dims, width // settings.heads)
        else:
            self.positions.extend(nn.Parameter(torch.randn(n, width) * 0.02) for n in settings.grid)
        self.blocks = nn.ModuleList([Block(width, settings.heads, settings.ratio) for _ in range(settings.depth)])
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.apply(_begin)

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return self.settings.width

    @property
    def stride(self) -> tuple[int, ...]:
        """Voxels of the image per place of the finest map."""
        return self.settings.patch

    def grid_of(self, space: Sequence[int]) -> tuple[int, ...]:
        """Return the patches along each axis of an input.

        Raises:
            ConfigError: A side is not a multiple of the patch.
        """
        patch = self.settings.patch
        if len(space) != len(patch) or any(n % p for n, p in zip(space, patch, strict=True)):
            raise ConfigError(f"an input of {tuple(space)} pixels is not made of patches of {patch}")
        return tuple(n // p for n, p in zip(space, patch, strict=True))

    def patches(self, x: Float[torch.Tensor, "n channel *space"]) -> Float[torch.Tensor, "n tokens block"]:
        """Cut an input into patches, each a row: channel first, then its pixels, last axis fastest."""
        grid, patch = self.grid_of(x.shape[2:]), self.settings.patch
        n, channels, dims = x.shape[0], x.shape[1], len(grid)
        x = x.reshape(n, channels, *(part for g, p in zip(grid, patch, strict=True) for part in (g, p)))
        order = [0, *range(2, 2 + 2 * dims, 2), 1, *range(3, 3 + 2 * dims, 2)]
        return x.permute(order).reshape(n, math.prod(grid), channels * math.prod(patch))

    def image(
        self, patches: Float[torch.Tensor, "n tokens block"], grid: Sequence[int]
    ) -> Float[torch.Tensor, "n channel *space"]:
        """Undo `patches`."""
        patch, dims = self.settings.patch, len(grid)
        n, channels = patches.shape[0], patches.shape[2] // math.prod(patch)
        x = patches.reshape(n, *grid, channels, *patch)
        order = [0, 1 + dims, *(axis for d in range(dims) for axis in (1 + d, 2 + dims + d))]
        return x.permute(order).reshape(n, channels, *(g * p for g, p in zip(grid, patch, strict=True)))

    def _positions(self, grid: Sequence[int]) -> Float[torch.Tensor, "tokens width"]:
        total: torch.Tensor | None = None
        for axis, (learnt, count) in enumerate(zip(self.positions, grid, strict=True)):
            along = learnt
            if count != len(learnt):
                along = functional.interpolate(learnt.T[None], count, mode="linear", align_corners=False)[0].T
            along = along.reshape(*(count if a == axis else 1 for a in range(len(grid))), -1)
            total = along if total is None else total + along
        return total.flatten(0, -2)  # type: ignore[union-attr]

    def encode(
        self,
        patches: Float[torch.Tensor, "n kept block"],
        grid: Sequence[int],
        kept: Int64[torch.Tensor, "n kept"] | None = None,
    ) -> Float[torch.Tensor, "n registers_and_kept width"]:
        """Return the tokens of patches: registers first.

        Args:
            patches: Rows of `patches`, those that are kept.
            grid: Of the whole input.
            kept: Index of each in the whole; None where they are the whole.
        """
        x = self.patch(patches)
        turn = None
        if self.rotary is None:
            where = self._positions(grid)
            x = x + (where[None] if kept is None else where[kept])
        else:
            places = grid_places(grid, x.device)
            turn = self.rotary.angles(places[None] if kept is None else places[kept])
        free = self.settings.registers
        x = torch.cat([self.registers.to(x.dtype).expand(len(x), -1, -1), x], dim=1)
        for block in self.blocks:
            if self.recompute and torch.is_grad_enabled():
                x = checkpoint(block, x, self.rotary, turn, free, use_reentrant=False)
            else:
                x = block(x, self.rotary, turn, free)
        return self.norm(x)  # type: ignore[no-any-return]

    def maps(self, x: Float[torch.Tensor, "n channel *space"]) -> list[torch.Tensor]:
        """Return the features as one map, (n, width, *grid)."""
        grid = self.grid_of(x.shape[2:])
        tokens = self.encode(self.patches(x), grid)[:, self.settings.registers :]
        return [tokens.transpose(1, 2).reshape(len(x), -1, *grid)]

    def embed(self, x: Float[torch.Tensor, "n channel *space"]) -> Float[torch.Tensor, "n width"]:
        """Return one vector for each input: the mean of its patches, and of the first register where there is one."""
        tokens = self.encode(self.patches(x), self.grid_of(x.shape[2:]))
        mean = tokens[:, self.settings.registers :].mean(1)
        return (mean + tokens[:, 0]) / 2 if self.settings.registers else mean


def _begin(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        nn.init.zeros_(module.bias)
