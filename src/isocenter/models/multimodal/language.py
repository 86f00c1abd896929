"""The embedded causal language model: a small transformer in the manner of Llama, trained from scratch.

Normalisation first and by the root of the mean square, positions by rotation, a gated perceptron, fewer keys than
queries where asked for, and a cache of keys and values, so that an answer costs one token at a time.

Source:
    Touvron et al., LLaMA, 2023; Zhang and Sennrich, NeurIPS 2019 (RMSNorm); Su et al., RoFormer, 2021 (rotary
    positions); Shazeer, 2020 (SwiGLU); Ainslie et al., EMNLP 2023 (grouped queries).
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

__all__ = ["Cache", "LanguageSettings", "SmallLanguageModel"]

Cache = list[tuple[torch.Tensor, torch.Tensor]]
"""Keys and values of what was read, of every block: (n, heads of keys, tokens, channels)."""


@dataclass(frozen=True)
class LanguageSettings:
    """The shape of the embedded language model.

    Args:
        vocabulary: How many tokens there are.
        length: Tokens at most, those of images among them.
        width: Length of a token's vector.
        depth: Blocks.
        heads: Of queries.
        groups: Heads of keys and values; divides `heads`.
        hidden: Width inside a block's perceptron.

    Raises:
        ConfigError: A number is out of range.
    """

    kind: ClassVar[str] = "small-llama"
    vocabulary: int
    length: int = 128
    width: int = 192
    depth: int = 4
    heads: int = 6
    groups: int = 3
    hidden: int = 512

    def __post_init__(self) -> None:
        numbers = asdict(self)
        if not all(isinstance(n, int) and n > 0 for n in numbers.values()):
            raise ConfigError(f"a language model needs positive numbers, got {numbers}")
        if self.width % self.heads or (self.width // self.heads) % 2 or self.heads % self.groups:
            raise ConfigError(
                f"{self.heads} heads must divide a width of {self.width} into even parts, and {self.groups} groups "
                "must divide the heads"
            )

    def as_card(self) -> dict[str, object]:
        """Return the settings as JSON-ready values."""
        return {"kind": self.kind, **asdict(self)}

    @classmethod
    def from_card(cls, values: Mapping[str, object]) -> LanguageSettings:
        """Return the settings that `as_card` wrote.

        Raises:
            ConfigError: They are not of this model.
        """
        given = {k: v for k, v in values.items() if k != "kind"}
        if values.get("kind") != cls.kind or set(given) != {f.name for f in fields(cls)}:
            raise ConfigError(f"these are not the settings of a language model of kind {cls.kind!r}: {sorted(values)}")
        return cls(**given)  # type: ignore[arg-type]


def _turned(
    x: Float[torch.Tensor, "n heads tokens head"], places: Int64[torch.Tensor, " tokens"]
) -> Float[torch.Tensor, "n heads tokens head"]:
    """Turn the two halves of each channel pair by the token's place."""
    half = x.shape[-1] // 2
    speeds = 10000.0 ** (-torch.arange(half, dtype=torch.float32, device=x.device) / half)
    angle = places[:, None].to(torch.float32) * speeds
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class _Block(nn.Module):
    def __init__(self, settings: LanguageSettings) -> None:
        super().__init__()
        width, head = settings.width, settings.width // settings.heads
        self.heads, self.groups, self.head = settings.heads, settings.groups, head
        self.norm1, self.norm2 = nn.RMSNorm(width, eps=1e-6), nn.RMSNorm(width, eps=1e-6)
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, settings.groups * head, bias=False)
        self.value = nn.Linear(width, settings.groups * head, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.gate = nn.Linear(width, settings.hidden, bias=False)
        self.up = nn.Linear(width, settings.hidden, bias=False)
        self.down = nn.Linear(settings.hidden, width, bias=False)

    def forward(
        self,
        x: torch.Tensor,
        places: torch.Tensor,
        seen: torch.Tensor,
        before: tuple[torch.Tensor, torch.Tensor] | None,
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        n, count, width = x.shape
        inner = self.norm1(x)

        def split(y: torch.Tensor, heads: int) -> torch.Tensor:
            return y.view(n, count, heads, self.head).transpose(1, 2)

        query = _turned(split(self.query(inner), self.heads), places)
        key = _turned(split(self.key(inner), self.groups), places)
        value = split(self.value(inner), self.groups)
        if before is not None:
            key, value = torch.cat([before[0], key], dim=2), torch.cat([before[1], value], dim=2)
        each = self.heads // self.groups
        mixed = functional.scaled_dot_product_attention(
            query, key.repeat_interleave(each, 1), value.repeat_interleave(each, 1), attn_mask=seen
        )
        x = x + self.out(mixed.transpose(1, 2).reshape(n, count, width))
        inner = self.norm2(x)
        return x + self.down(functional.silu(self.gate(inner)) * self.up(inner)), (key, value)


class SmallLanguageModel(nn.Module):
    """The model.

    Args:
        settings: Its shape.

    Example:
        >>> model = SmallLanguageModel(LanguageSettings(vocabulary=300, width=16, depth=1, heads=2, groups=1))
        >>> vectors = model.embed(torch.tensor([[5, 6, 7]]))
        >>> logits, cache = model.read(vectors, torch.ones(1, 3, dtype=torch.bool))
        >>> logits.shape, cache[0][0].shape
        (torch.Size([1, 3, 300]), torch.Size([1, 1, 3, 8]))
    """

    def __init__(self, settings: LanguageSettings) -> None:
        super().__init__()
        self.settings = settings
        self.tokens = nn.Embedding(settings.vocabulary, settings.width)
        self.blocks = nn.ModuleList([_Block(settings) for _ in range(settings.depth)])
        self.norm = nn.RMSNorm(settings.width, eps=1e-6)
        self.head = nn.Linear(settings.width, settings.vocabulary, bias=False)
        nn.init.normal_(self.tokens.weight, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=settings.width**-0.5)
        for block in self.blocks:  # what is added on the way starts small, the deeper the smaller
            for layer in (block.out, block.down):
                nn.init.normal_(layer.weight, std=(2 * settings.depth * settings.width) ** -0.5)  # type: ignore[union-attr,arg-type]

    @property
    def width(self) -> int:
        """Length of a token's vector."""
        return self.settings.width

    @property
    def length(self) -> int:
        """Tokens at most."""
        return self.settings.length

    @property
    def adaptable(self) -> nn.Module:
        """The part that low-rank changes go into: the blocks, not the embedding and not the head."""
        return self.blocks

    def embed(self, ids: Int64[torch.Tensor, "n tokens"]) -> Float[torch.Tensor, "n tokens width"]:
        """Return the vectors of tokens."""
        found: torch.Tensor = self.tokens(ids)
        return found

    def read(
        self,
        vectors: Float[torch.Tensor, "n tokens width"],
        known: Bool[torch.Tensor, "n tokens"],
        cache: Cache | None = None,
        *,
        pictures: Bool[torch.Tensor, "n tokens"] | None = None,
    ) -> tuple[Float[torch.Tensor, "n tokens vocabulary"], Cache]:
        """Return what each token makes likely to come next, and the cache with these tokens in it.

        Args:
            vectors: Of tokens and of images.
            known: Where there is a token; padding stands at the end, and only where no cache will be read on from.
            cache: Of what was read before, all of it tokens.
            pictures: Where vectors are of an image; this model reads them as it reads words.
        """
        past = 0 if cache is None else cache[0][0].shape[2]
        count = vectors.shape[1]
        places = torch.arange(past, past + count, device=vectors.device)
        causal = places[:, None] >= torch.arange(past + count, device=vectors.device)
        before = torch.ones(len(vectors), past, dtype=torch.bool, device=vectors.device)
        # A padded token sees itself, or its softmax would be of nothing.
        own = torch.eye(count, past + count, dtype=torch.bool, device=vectors.device).roll(past, 1)
        seen = (causal & torch.cat([before, known], dim=1)[:, None, :]) | own
        x, grown = vectors, []
        for number, block in enumerate(self.blocks):
            x, kept = block(x, places, seen[:, None], None if cache is None else cache[number])
            grown.append(kept)
        return self.head(self.norm(x)), grown

    @staticmethod
    def repeated(cache: Cache, times: int) -> Cache:
        """Return a cache of one text as that of several with the same beginning; the given one stays as it is."""
        return [(key.repeat(times, 1, 1, 1), value.repeat(times, 1, 1, 1)) for key, value in cache]

    def as_card(self) -> dict[str, object]:
        """Return what is needed to build it again."""
        return self.settings.as_card()
