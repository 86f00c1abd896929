"""From features of an image to vectors that a language model reads beside its words.

Features are told their place (a map of convolutions hardly knows it), neighbours are put side by side or a few queries
look at all of them, and a perceptron brings what is left to the width of the language model.

Source:
    Liu et al., LLaVA-1.5, CVPR 2024 (a perceptron); Chen et al., InternVL 1.5, 2024 (neighbours side by side); Alayrac
    et al., Flamingo, NeurIPS 2022 (queries that look).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from isocenter.core.errors import ConfigError
from isocenter.models.aligned.network import places_of

__all__ = ["Projector", "ProjectorSettings"]


@dataclass(frozen=True)
class ProjectorSettings:
    """The shape of a projector.

    Args:
        pool: Places along each axis that become one token, side by side; 1 keeps every place.
        queries: How many looks make the tokens instead; 0 for none, the tokens are then the places.
        hidden: Width inside the perceptron, in widths of the language model.
        heads: Of the looks.

    Raises:
        ConfigError: A number is out of range, or places are both pooled and looked at.
    """

    pool: int = 1
    queries: int = 0
    hidden: float = 2.0
    heads: int = 4

    def __post_init__(self) -> None:
        if self.pool < 1 or self.queries < 0 or self.hidden <= 0 or self.heads < 1:
            raise ConfigError(f"pool and heads are 1 or more, queries 0 or more, hidden positive; got {asdict(self)}")
        if self.queries and self.pool > 1:
            raise ConfigError("a projector pools places or looks at them with queries, not both")

    def as_card(self) -> dict[str, object]:
        """Return the settings as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_card(cls, values: Mapping[str, Any]) -> ProjectorSettings:
        """Return the settings that `as_card` wrote.

        Raises:
            ConfigError: A value is missing, unknown or out of range.
        """
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"these are not the settings of a projector: {error}") from error

    def tokens(self, grid: Sequence[int]) -> int:
        """Return how many tokens an image becomes.

        Raises:
            ConfigError: The grid can't be pooled.
        """
        if self.queries:
            return self.queries
        if any(n % self.pool for n in grid):
            raise ConfigError(f"a grid of {tuple(grid)} places can't be pooled by {self.pool}")
        return math.prod(n // self.pool for n in grid)


class Projector(nn.Module):
    """The projector.

    Args:
        settings: Its shape.
        features: Channels of the features.
        dims: Axes of their grid.
        width: Of the language model.

    Example:
        >>> net = Projector(ProjectorSettings(pool=2), features=8, dims=2, width=16)
        >>> net(torch.zeros(3, 8, 4, 6)).shape
        torch.Size([3, 6, 16])
    """

    def __init__(self, settings: ProjectorSettings, features: int, dims: int, width: int) -> None:
        super().__init__()
        self.settings, self.dims = settings, dims
        self.place = nn.Linear(8 * dims, features)
        self.norm = nn.LayerNorm(features)
        given = features * settings.pool**dims
        self.heads = settings.heads if features % settings.heads == 0 else 1
        if settings.queries:
            self.queries = nn.Parameter(torch.randn(settings.queries, features) * 0.02)
            self.key, self.value = nn.Linear(features, features), nn.Linear(features, features)
        hidden = round(settings.hidden * width)
        self.perceptron = nn.Sequential(nn.Linear(given, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, features: Float[torch.Tensor, "n channels *grid"]) -> Float[torch.Tensor, "n tokens width"]:
        """Return the tokens of each image, in the order of places (last axis fastest), or of queries."""
        grid = features.shape[2:]
        x = features.flatten(2).transpose(1, 2)
        x = self.norm(x + self.place(places_of(grid, device=features.device)).to(x.dtype))
        if self.settings.queries:
            x = self._looked(x)
        elif self.settings.pool > 1:
            x = self._side_by_side(x, grid)
        return self.perceptron(x)  # type: ignore[no-any-return]

    def _looked(self, x: torch.Tensor) -> torch.Tensor:
        def split(y: torch.Tensor) -> torch.Tensor:
            return y.view(y.shape[0], y.shape[1], self.heads, -1).transpose(1, 2)

        queries = split(self.queries.to(x.dtype).expand(len(x), -1, -1))
        seen = functional.scaled_dot_product_attention(queries, split(self.key(x)), split(self.value(x)))
        return seen.transpose(1, 2).flatten(2)

    def _side_by_side(self, x: torch.Tensor, grid: Sequence[int]) -> torch.Tensor:
        pool, n, channels = self.settings.pool, x.shape[0], x.shape[2]
        self.settings.tokens(grid)
        parts = [m for count in grid for m in (count // pool, pool)]
        x = x.reshape(n, *parts, channels)
        dims = len(grid)
        order = [0, *(1 + 2 * d for d in range(dims)), *(2 + 2 * d for d in range(dims)), 1 + 2 * dims]
        return x.permute(order).reshape(n, -1, channels * pool**dims)
