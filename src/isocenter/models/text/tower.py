"""The embedded text tower: a small transformer that is trained from scratch, together with the images.

Source:
    Vaswani et al., NeurIPS 2017 (transformer); Xiong et al., ICML 2020 (normalisation first).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import ClassVar

import torch
from jaxtyping import Bool, Float, Int64
from torch import nn
from torch.nn import functional

from isocenter.core.errors import ConfigError

__all__ = ["TextSettings", "TextTower"]


@dataclass(frozen=True)
class TextSettings:
    """The shape of the embedded text tower.

    Args:
        vocabulary: How many tokens there are.
        length: Tokens of a text at most, begin and end among them.
        width: Length of a token's vector.
        depth: Blocks.
        heads: Of attention.

    Raises:
        ConfigError: A number is out of range.
    """

    kind: ClassVar[str] = "transformer"
    vocabulary: int
    length: int = 64
    width: int = 128
    depth: int = 3
    heads: int = 4

    def __post_init__(self) -> None:
        numbers = (self.vocabulary, self.width, self.depth, self.heads)
        if not all(isinstance(n, int) and n > 0 for n in numbers) or self.length < 3 or self.width % self.heads:
            raise ConfigError(
                "a text tower needs positive numbers, a length of 3 or more and a width that its heads divide, got "
                f"{asdict(self)}"
            )

    def as_card(self) -> dict[str, object]:
        """Return the settings as JSON-ready values."""
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> TextSettings:
        """Return the settings that `as_card` wrote.

        Raises:
            ConfigError: They are not of this tower.
        """
        given = {k: v for k, v in values.items() if k != "kind"}
        if values.get("kind") != cls.kind or set(given) != {f.name for f in fields(cls)}:
            raise ConfigError(f"these are not the settings of a text tower of kind {cls.kind!r}: {sorted(values)}")
        return cls(**given)  # type: ignore[arg-type]


class _Block(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.perceptron = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
        n, count, width = x.shape
        parts = self.qkv(self.norm1(x)).view(n, count, 3, self.heads, width // self.heads)
        q, k, v = parts.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = functional.scaled_dot_product_attention(q, k, v, attn_mask=seen)
        x = x + self.out(mixed.transpose(1, 2).reshape(n, count, width))
        return x + self.perceptron(self.norm2(x))  # type: ignore[no-any-return]


class TextTower(nn.Module):
    """The tower.

    Args:
        settings: Its shape.

    Example:
        >>> tower = TextTower(TextSettings(vocabulary=300, length=8, width=16, depth=1, heads=2))
        >>> ids = torch.tensor([[1, 5, 6, 2], [1, 7, 2, 0]])
        >>> tower(ids, ids != 0).shape
        torch.Size([2, 16])
    """

    def __init__(self, settings: TextSettings) -> None:
        super().__init__()
        self.settings = settings
        self.tokens = nn.Embedding(settings.vocabulary, settings.width)
        self.places = nn.Parameter(torch.randn(settings.length, settings.width) * 0.02)
        self.blocks = nn.ModuleList([_Block(settings.width, settings.heads) for _ in range(settings.depth)])
        self.norm = nn.LayerNorm(settings.width)
        nn.init.normal_(self.tokens.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return self.settings.width

    @property
    def length(self) -> int:
        """Tokens of a text at most."""
        return self.settings.length

    def forward(
        self, ids: Int64[torch.Tensor, "n length"], known: Bool[torch.Tensor, "n length"]
    ) -> Float[torch.Tensor, "n width"]:
        """Return one vector for each text: what its first token has become."""
        x = self.tokens(ids) + self.places[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, known[:, None, None, :])
        return self.norm(x[:, 0])  # type: ignore[no-any-return]

    def as_card(self) -> dict[str, object]:
        """Return what `build_text_tower` needs to build it again."""
        return self.settings.as_card()
