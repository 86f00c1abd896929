"""What fills in the hidden patches of a transformer, and is thrown away at the end.

Order means nothing to attention once places are added, so nothing is sorted back: registers first, then what was seen,
then what is hidden. Of the last block, only the hidden patches are computed.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int64
from torch import nn
from torch.nn import functional

from isocenter.learn.methods.masked.args import DecoderArgs
from isocenter.models.backbones.vit import Block, grid_places

__all__ = ["Decoder", "Reader", "sines"]


def sines(grid: Sequence[int], width: int) -> Float[torch.Tensor, "tokens width"]:
    """Return fixed places: sines and cosines of each axis, side by side; channels that are left over are 0.

    Source:
        Vaswani et al., NeurIPS 2017, along each axis as in He et al., CVPR 2022.
    """
    places = grid_places(grid)
    pairs = width // (2 * len(grid))
    speeds = 10000.0 ** (-torch.arange(pairs, dtype=torch.float32) / max(1, pairs))
    angle = (places[:, :, None] * speeds).flatten(1)
    known = torch.cat([angle.sin(), angle.cos()], dim=1)
    return functional.pad(known, (0, width - known.shape[1]))


class Reader(nn.Module):
    """Tokens that look at others, not at each other, and a perceptron; as many weights as a `Block`.

    Args:
        width: Length of a token.
        heads: Of attention.
        ratio: Hidden width of the perceptron, in widths.
    """

    def __init__(self, width: int, heads: int, ratio: float = 4.0) -> None:
        super().__init__()
        hidden = round(width * ratio)
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps=1e-6), nn.LayerNorm(width, eps=1e-6)
        self.q, self.kv, self.out = nn.Linear(width, width), nn.Linear(width, 2 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(
        self, x: Float[torch.Tensor, "n some width"], others: Float[torch.Tensor, "n all width"], *, raw: bool = False
    ) -> Float[torch.Tensor, "n some width"]:
        """Return what the tokens become; `others` are normalised already, or here where they are `raw`."""
        if raw:
            others = self.norm1(others)
        n, count, width = x.shape
        split = width // self.heads
        q = self.q(self.norm1(x)).view(n, count, self.heads, split).transpose(1, 2)
        k, v = self.kv(others).view(n, -1, 2, self.heads, split).permute(2, 0, 3, 1, 4).unbind(0)
        seen = functional.scaled_dot_product_attention(q, k, v)
        x = x + self.out(seen.transpose(1, 2).reshape(n, count, width))
        return x + self.perceptron(self.norm2(x))  # type: ignore[no-any-return]


class Decoder(nn.Module):
    """The decoder.

    Args:
        args: Its shape.
        seen: Length of the encoder's tokens.
        grid: Patches along each axis.
        block: Numbers of a patch.
    """

    def __init__(self, args: DecoderArgs, seen: int, grid: Sequence[int], block: int) -> None:
        super().__init__()
        width = args.width
        self.full = args.kind == "full"
        self.enter = nn.Linear(seen, width)
        self.token = nn.Parameter(torch.randn(width) * 0.02)
        self.register_buffer("places", sines(grid, width), persistent=False)
        whole = args.depth - 1 if self.full else 0
        self.blocks = nn.ModuleList([Block(width, args.heads, 4.0) for _ in range(whole)])
        self.readers = nn.ModuleList([Reader(width, args.heads) for _ in range(args.depth - whole)])
        self.norm, self.leave = nn.LayerNorm(width, eps=1e-6), nn.Linear(width, block)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self,
        tokens: Float[torch.Tensor, "n registers_and_kept seen"],
        kept: Int64[torch.Tensor, "n kept"],
        missing: Int64[torch.Tensor, "n missing"],
    ) -> Float[torch.Tensor, "n missing block"]:
        """Return the hidden patches, normalised as `loss.normalised` does."""
        places: torch.Tensor = self.places  # type: ignore[assignment]
        known = self.enter(tokens)
        free = known.shape[1] - kept.shape[1]
        seen = known[:, free:] + places[kept].to(known.dtype)
        wanted = (self.token + places[missing]).to(known.dtype)
        others = torch.cat([known[:, :free], seen], dim=1)
        if self.full:
            x = torch.cat([others, wanted], dim=1)
            for block in self.blocks:
                x = block(x)
            wanted = x[:, -missing.shape[1] :]
            others = x
        for reader in self.readers:
            wanted = reader(wanted, others, raw=self.full)
        return self.leave(self.norm(wanted))  # type: ignore[no-any-return]
