"""The network: a vision tower, a projector, and a causal language model that reads images beside words.

Every network here, ours or a whole checkpoint's, has one face (`MultimodalNetwork`): it sees images, embeds words and
reads both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from isocenter.core.errors import ConfigError
from isocenter.models.multimodal.folder_language import FolderLanguage
from isocenter.models.multimodal.inputs import ImageInput
from isocenter.models.multimodal.language import LanguageSettings, SmallLanguageModel
from isocenter.models.multimodal.projector import Projector, ProjectorSettings
from isocenter.models.multimodal.vision import build_vision, grid_of
from isocenter.models.multimodal.whole import WholeNet

__all__ = ["MultimodalNet", "MultimodalNetwork", "MultimodalSettings", "build_language", "build_multimodal", "joined"]


@runtime_checkable
class MultimodalNetwork(Protocol):
    """The face of every multimodal network; also a `torch.nn.Module`."""

    tokens: int
    """How many tokens an image becomes."""

    @property
    def length(self) -> int:
        """Tokens of a dialogue at most, those of images among them."""
        ...

    @property
    def adaptable(self) -> nn.Module:
        """The part of the language model that low-rank changes go into."""
        ...

    def see(self, images: torch.Tensor) -> torch.Tensor:
        """Return the tokens of images, (m, tokens, width)."""
        ...

    def embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Return the vectors of tokens, (n, tokens, width)."""
        ...

    def read(
        self, vectors: torch.Tensor, known: torch.Tensor, cache: Any = None, *, pictures: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, Any]:
        """Return what each token makes likely to come next, (n, tokens, vocabulary), and the cache."""
        ...

    def repeated(self, cache: Any, times: int) -> Any:
        """Return a cache of one text as that of several with the same beginning; the given one stays as it is."""
        ...

    def as_card(self) -> dict[str, object]:
        """Return what is needed to build it again, JSON-ready."""
        ...


@dataclass(frozen=True)
class MultimodalSettings:
    """What is needed to build the network.

    Args:
        vision: The card of a tower.
        image: The card of how images go in.
        projector: The card of a projector.
        language: The card of a language model.
    """

    vision: Mapping[str, Any]
    image: Mapping[str, Any]
    projector: Mapping[str, Any]
    language: Mapping[str, Any]

    def as_card(self) -> dict[str, object]:
        """Return the settings as JSON-ready values."""
        return {
            "kind": "multimodal",
            "vision": dict(self.vision),
            "image": dict(self.image),
            "projector": dict(self.projector),
            "language": dict(self.language),
        }

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> MultimodalSettings:
        """Return the settings that `as_card` wrote.

        Raises:
            ConfigError: They are not of a multimodal network.
        """
        names = ("vision", "image", "projector", "language")
        if card.get("kind") != "multimodal" or not all(isinstance(card.get(name), Mapping) for name in names):
            raise ConfigError(f"these are not the settings of a multimodal network: kind {card.get('kind')!r}")
        return cls(**{name: card[name] for name in names})


def build_language(card: Mapping[str, Any]) -> nn.Module:
    """Build the language model that a card describes, with random weights.

    Raises:
        ConfigError: The card is not of a language model.
        WeightsError: A model of a folder can't be built.
        CapabilityError: It needs transformers, which is not installed.
    """
    if card.get("kind") == "folder":
        return FolderLanguage.from_card(card)
    return SmallLanguageModel(LanguageSettings.from_card(card))


class MultimodalNet(nn.Module):
    """The network.

    Args:
        settings: What to build.
        vision: A tower to use, not to copy, instead of a new one as `settings.vision` says.
        language: The same of the language model.

    Raises:
        ConfigError: The parts don't fit together.
    """

    def __init__(
        self, settings: MultimodalSettings, vision: nn.Module | None = None, language: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.settings = settings
        image = ImageInput.from_card(settings.image)
        tower: Any = vision if vision is not None else build_vision(settings.vision)
        model: Any = language if language is not None else build_language(settings.language)
        self.vision, self.language = tower, model
        grid = grid_of(tower, image.channels, image.size)
        shape = ProjectorSettings.from_card(settings.projector)
        self.tokens = shape.tokens(grid)
        self.projector = Projector(shape, int(tower.width), len(grid), int(model.width))

    @property
    def _tower(self) -> Any:
        return self.vision

    @property
    def _model(self) -> Any:
        return self.language

    @property
    def length(self) -> int:
        """Tokens of a dialogue at most."""
        return int(self._model.length)

    @property
    def adaptable(self) -> nn.Module:
        """The part of the language model that low-rank changes go into."""
        return self._model.adaptable  # type: ignore[no-any-return]

    def see(self, images: Float[torch.Tensor, "m channel *space"]) -> Float[torch.Tensor, "m tokens width"]:
        """Return the tokens of images."""
        return self.projector(self._tower.maps(images)[-1])  # type: ignore[no-any-return]

    def embed(self, ids: Int64[torch.Tensor, "n tokens"]) -> Float[torch.Tensor, "n tokens width"]:
        """Return the vectors of tokens."""
        return self._model.embed(ids)  # type: ignore[no-any-return]

    def read(
        self,
        vectors: Float[torch.Tensor, "n tokens width"],
        known: Bool[torch.Tensor, "n tokens"],
        cache: Any = None,
        *,
        pictures: Bool[torch.Tensor, "n tokens"] | None = None,
    ) -> tuple[Float[torch.Tensor, "n tokens vocabulary"], Any]:
        """Return what each token makes likely to come next, and the cache."""
        return self._model.read(vectors, known, cache, pictures=pictures)  # type: ignore[no-any-return]

    def repeated(self, cache: Any, times: int) -> Any:
        """Return a cache of one text as that of several with the same beginning; the given one stays as it is."""
        return self._model.repeated(cache, times)

    def as_card(self) -> dict[str, object]:
        """Return what `build_multimodal` needs."""
        return self.settings.as_card()


def build_multimodal(card: Mapping[str, Any]) -> MultimodalNet | WholeNet:
    """Build the network that a card describes, with random weights.

    Raises:
        ConfigError: The card is not of a multimodal network.
        WeightsError: A part of a folder can't be built.
        CapabilityError: It needs transformers, which is not installed.
    """
    if card.get("kind") == "multimodal-folder":
        return WholeNet.from_card(card)
    return MultimodalNet(MultimodalSettings.from_card(card))


def joined(
    net: MultimodalNetwork,
    ids: Int64[torch.Tensor, "n tokens"],
    image: int,
    seen: Float[torch.Tensor, "m image_tokens width"],
) -> tuple[Float[torch.Tensor, "n tokens width"], Bool[torch.Tensor, "n tokens"]]:
    """Return the vectors of a dialogue, with the tokens of images in their places, and where these are.

    Args:
        net: The network.
        ids: Tokens; that of images as often as an image has tokens.
        image: The token of images.
        seen: Tokens of all images, in the order of rows and of images within them.

    Raises:
        ConfigError: There are places for more or fewer images than were given.
    """
    places = ids == image
    if int(places.sum()) != seen.shape[0] * seen.shape[1]:
        raise ConfigError(f"{len(seen)} images of {seen.shape[1]} tokens, and {int(places.sum())} places for them")
    vectors = net.embed(ids.masked_fill(places, 0))
    filled: torch.Tensor = vectors.masked_scatter(places[..., None], seen.to(vectors.dtype).reshape(-1, seen.shape[-1]))
    return filled, places
