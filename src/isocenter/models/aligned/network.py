"""Two towers, image and text, that meet in one space.

The mean of an image's features over space is joined by what a few queries find among them, each feature being told its
place in the image: where the features themselves do not know their place, the mean alone could not tell the sides.

Source:
    Radford et al., CLIP, ICML 2021; Zhai et al., SigLIP, ICCV 2023 (bias, attention pooling).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import nn
from torch.nn import functional

from isocenter.core.errors import ConfigError
from isocenter.models.backbones import Backbone, build_backbone
from isocenter.models.text import TextEncoder, build_text_tower

__all__ = ["AlignedNet", "AlignedSettings", "Pooling", "places_of"]

_LOUDEST = math.log(100.0)
_BEGIN = {"sigmoid": (math.log(10.0), -10.0), "softmax": (math.log(1 / 0.07), 0.0)}


@dataclass(frozen=True)
class AlignedSettings:
    """What is needed to build the network.

    Args:
        image: The card of a backbone.
        text: The card of a text tower.
        width: Length of the vectors that are compared.
        pooling: "attention" (with the mean), or "mean": the backbone's own embedding.
        loss: What it learns with: decides where temperature and bias begin, and what a similarity means.
    """

    image: Mapping[str, Any]
    text: Mapping[str, Any]
    width: int = 128
    pooling: str = "attention"
    loss: str = "sigmoid"

    def __post_init__(self) -> None:
        if self.width < 2 or self.pooling not in ("attention", "mean") or self.loss not in _BEGIN:
            raise ConfigError(
                "an aligned network has a width of 2 or more, pooling 'attention' or 'mean' and loss 'sigmoid' or "
                f"'softmax', got {self.width}, {self.pooling!r}, {self.loss!r}"
            )

    def as_card(self) -> dict[str, object]:
        """Return the settings as JSON-ready values."""
        return {
            "kind": "aligned",
            "image": dict(self.image),
            "text": dict(self.text),
            "width": self.width,
            "pooling": self.pooling,
            "loss": self.loss,
        }

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> AlignedSettings:
        """Return the settings that `as_card` wrote.

        Raises:
            ConfigError: A value is missing, unknown or out of range.
        """
        given = {k: v for k, v in card.items() if k not in ("kind", "vocabulary_sha256")}
        if card.get("kind") != "aligned":
            raise ConfigError(f"these are not the settings of an aligned network: kind {card.get('kind')!r}")
        try:
            return cls(**given)
        except TypeError as error:
            raise ConfigError(f"these are not the settings of an aligned network: {error}") from error


def places_of(
    grid: Sequence[int], pairs: int = 4, device: torch.device | None = None
) -> Float[torch.Tensor, "places code"]:
    """Return the code of every place of a grid: sines and cosines of where it lies along each axis.

    Args:
        grid: Places along each axis.
        pairs: Sines and cosines along each axis.
        device: As torch names it.

    Example:
        >>> places_of((2, 3)).shape
        torch.Size([6, 16])
    """
    axes = [(torch.arange(n, device=device, dtype=torch.float32) + 0.5) / n * 2 - 1 for n in grid]
    at = torch.stack([axis.flatten() for axis in torch.meshgrid(*axes, indexing="ij")], dim=1)
    speeds = math.pi / 2 * 2.0 ** torch.arange(pairs, device=device, dtype=torch.float32)
    angle = (at[..., None] * speeds).flatten(1)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


class Pooling(nn.Module):
    """Adds to the mean of a map what a few queries find in it, each place with its code.

    Args:
        width: Channels of the map.
        dims: Axes of the map.
        queries: How many looks.
        heads: Of attention.
    """

    def __init__(self, width: int, dims: int, queries: int = 4, heads: int = 4) -> None:
        super().__init__()
        self.heads = heads if width % heads == 0 else 1
        self.place = nn.Linear(8 * dims, width)
        self.norm, self.key, self.value = nn.LayerNorm(width), nn.Linear(width, width), nn.Linear(width, width)
        self.queries = nn.Parameter(torch.randn(queries, width) * 0.02)
        self.out = nn.Sequential(
            nn.LayerNorm(queries * width), nn.Linear(queries * width, 2 * width), nn.GELU(), nn.Linear(2 * width, width)
        )

    def forward(self, features: Float[torch.Tensor, "n width *grid"]) -> Float[torch.Tensor, "n width"]:
        """Return one vector for each map."""
        n = len(features)
        tokens = features.flatten(2).transpose(1, 2)
        tokens = self.norm(tokens + self.place(places_of(features.shape[2:], device=features.device)))

        def split(x: torch.Tensor) -> torch.Tensor:
            return x.view(x.shape[0], x.shape[1], self.heads, -1).transpose(1, 2)

        queries = split(self.queries.to(tokens.dtype).expand(n, -1, -1))
        seen = functional.scaled_dot_product_attention(queries, split(self.key(tokens)), split(self.value(tokens)))
        mean = features.flatten(2).mean(dim=2)
        return mean + self.out(seen.transpose(1, 2).reshape(n, -1))  # type: ignore[no-any-return]


class AlignedNet(nn.Module):
    """The network.

    Args:
        settings: What to build.
        text_tower: A tower to use, not to copy, instead of a new one as `settings.text` says.

    Attributes:
        log_scale: Logarithm of the inverse temperature.
        bias: Added to every similarity; stays 0 under the softmax loss.
    """

    def __init__(self, settings: AlignedSettings, text_tower: nn.Module | None = None) -> None:
        super().__init__()
        self.settings = settings
        backbone = build_backbone(settings.image)
        self.image: nn.Module = backbone
        self.text: nn.Module = text_tower if text_tower is not None else build_text_tower(settings.text)
        self.pooling = (
            Pooling(backbone.width, backbone.settings.dims) if settings.pooling == "attention" else nn.Identity()
        )
        self.image_out = nn.Linear(backbone.width, settings.width, bias=False)
        self.text_out = nn.Linear(self.text_tower.width, settings.width, bias=False)
        scale, bias = _BEGIN[settings.loss]
        self.log_scale = nn.Parameter(torch.tensor(scale))
        self.bias = nn.Parameter(torch.tensor(bias), requires_grad=settings.loss == "sigmoid")

    @property
    def image_tower(self) -> Backbone:
        """The image tower by its face."""
        return self.image  # type: ignore[return-value]

    @property
    def text_tower(self) -> TextEncoder:
        """The text tower by its face."""
        return self.text  # type: ignore[return-value]

    def embed_images(self, x: Float[torch.Tensor, "n channel *space"]) -> Float[torch.Tensor, "n width"]:
        """Return a vector of length 1 for each image."""
        tower = self.image_tower
        pooled = self.pooling(tower.maps(x)[-1]) if self.settings.pooling == "attention" else tower.embed(x)
        return functional.normalize(self.image_out(pooled).float(), dim=1)

    def embed_texts(
        self, ids: Int64[torch.Tensor, "n length"], known: Bool[torch.Tensor, "n length"]
    ) -> Float[torch.Tensor, "n width"]:
        """Return a vector of length 1 for each text."""
        return functional.normalize(self.text_out(self.text_tower(ids, known)).float(), dim=1)

    def scaled(self, cosine: Float[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n"]:
        """Return the logits of cosines: times the inverse temperature, at most 100, plus the bias."""
        return cosine * self.log_scale.clamp(max=_LOUDEST).exp() + self.bias
