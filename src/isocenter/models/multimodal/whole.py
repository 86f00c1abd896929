"""Whole multimodal checkpoints of Hugging Face folders, LLaVA and Gemma 3, behind the face of our own network.

The tower, the projector and the language model are theirs; what is ours is the door, the preparation of pictures, the
form of the dialogue, the answers and the adaptation.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from isocenter.core.errors import WeightsError
from isocenter.models.hugging_face import refusals, transformers_package
from isocenter.models.multimodal.folder_language import copied_cache

__all__ = ["WHOLE_MODELS", "WholeNet"]

WHOLE_MODELS = MappingProxyType(
    {
        "gemma3": ("Gemma3ForConditionalGeneration", "Gemma3Config"),
        "llava": ("LlavaForConditionalGeneration", "LlavaConfig"),
    }
)
"""`model_type` -> names of the class and of its config in transformers."""


class WholeNet(nn.Module):
    """A whole checkpoint.

    Args:
        model: The network.
        model_type: One of `WHOLE_MODELS`.
        length: Tokens at most; the model's own limit where that is less.
    """

    def __init__(self, model: nn.Module, model_type: str, length: int) -> None:
        super().__init__()
        self.model, self.model_type = model, model_type
        self._length = min(length, int(self._text.max_position_embeddings))
        self.tokens = self._count()

    @property
    def _config(self) -> Any:
        return self.model.config

    @property
    def _text(self) -> Any:
        return self._config.text_config

    def _count(self) -> int:
        """Return how many tokens an image becomes."""
        if self.model_type == "gemma3":
            return int(self._config.mm_tokens_per_image)
        eyes = self._config.vision_config
        places = (int(eyes.image_size) // int(eyes.patch_size)) ** 2
        return places + int(self._config.vision_feature_select_strategy == "full")

    @property
    def side(self) -> int:
        """Pixels of the square that it sees."""
        return int(self._config.vision_config.image_size)

    @property
    def image_token(self) -> int:
        """The token in whose place the tokens of an image stand."""
        return int(self._config.image_token_id)

    @property
    def width(self) -> int:
        """Length of a token's vector."""
        return int(self._text.hidden_size)

    @property
    def length(self) -> int:
        """Tokens at most."""
        return self._length

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        return int(self._text.vocab_size)

    @property
    def language(self) -> nn.Module:
        """The language model."""
        return self.model.model.language_model  # type: ignore[union-attr,return-value]

    @property
    def head(self) -> nn.Module:
        """What makes words of vectors; it may be the embedding, turned round."""
        return self.model.get_output_embeddings()  # type: ignore[operator,no-any-return]

    @property
    def vision(self) -> nn.Module:
        """The vision tower."""
        return self.model.model.vision_tower  # type: ignore[union-attr,return-value]

    @property
    def projector(self) -> nn.Module:
        """What lies between them."""
        return self.model.model.multi_modal_projector  # type: ignore[union-attr,return-value]

    @property
    def adaptable(self) -> nn.Module:
        """The part of the language model that low-rank changes go into."""
        return self.language.layers  # type: ignore[return-value]

    def see(self, images: Float[torch.Tensor, "m channel *space"]) -> Float[torch.Tensor, "m tokens width"]:
        """Return the tokens of images."""
        found = self.model.model.get_image_features(pixel_values=images, return_dict=True)  # type: ignore[union-attr,operator]
        tokens = found.pooler_output
        seen: torch.Tensor = torch.stack(list(tokens)) if isinstance(tokens, list | tuple) else tokens
        return seen

    def embed(self, ids: Int64[torch.Tensor, "n tokens"]) -> Float[torch.Tensor, "n tokens width"]:
        """Return the vectors of tokens."""
        found: torch.Tensor = self.model.get_input_embeddings()(ids)  # type: ignore[operator]
        return found

    def read(
        self,
        vectors: Float[torch.Tensor, "n tokens width"],
        known: Bool[torch.Tensor, "n tokens"],
        cache: Any = None,
        *,
        pictures: Bool[torch.Tensor, "n tokens"] | None = None,
    ) -> tuple[Float[torch.Tensor, "n tokens vocabulary"], Any]:
        """Return what each token makes likely to come next, and the cache; a cache that is given grows.

        Args:
            vectors: Of tokens and of images.
            known: Where there is a token; padding stands at the end.
            cache: Of what was read before.
            pictures: Where vectors are of an image: in Gemma 3 the tokens of one image see each other.
        """
        past = 0 if cache is None else int(cache.get_seq_length())
        before = torch.ones(len(vectors), past, dtype=torch.bool, device=vectors.device)
        further: dict[str, Any] = {}
        if self.model_type == "gemma3" and pictures is not None:
            further["token_type_ids"] = pictures.long()
        said = self.model(
            inputs_embeds=vectors,
            attention_mask=torch.cat([before, known], dim=1).long(),
            past_key_values=cache,
            use_cache=not torch.is_grad_enabled(),
            **further,
        )
        return said.logits, said.past_key_values

    @staticmethod
    def repeated(cache: Any, times: int) -> Any:
        """Return a cache of one text as that of several with the same beginning; the given one stays as it is."""
        return copied_cache(cache, times)

    def as_card(self) -> dict[str, object]:
        """Return what `from_card` needs: the architecture, without weights."""
        return {
            "kind": "multimodal-folder",
            "model_type": self.model_type,
            "length": self.length,
            "config": self._config.to_diff_dict(),
        }

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> WholeNet:
        """Build the network that a card describes, with random weights.

        Raises:
            WeightsError: The card does not describe one.
            CapabilityError: transformers is not installed.
        """
        names = WHOLE_MODELS.get(str(card.get("model_type")))
        if names is None or not isinstance(card.get("config"), dict) or type(card.get("length")) is not int:
            raise WeightsError(f"the card names no multimodal network that can be built: {card.get('model_type')!r}")
        package = transformers_package("a multimodal checkpoint", "huggingface")
        try:
            model = getattr(package, names[0])(getattr(package, names[1]).from_dict(card["config"]))
        except refusals() as error:
            raise WeightsError(f"the card does not describe a {names[0]}") from error
        return cls(model, str(card["model_type"]), card["length"])
