"""Language models of local Hugging Face folders (Llama, Mistral, Qwen, Gemma) behind the face of the embedded one."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from isocenter.core.errors import WeightsError
from isocenter.models.hugging_face import refusals, transformers_package

__all__ = ["FOLDER_MODELS", "FolderLanguage", "copied_cache"]

FOLDER_MODELS = MappingProxyType(
    {
        "gemma": ("GemmaForCausalLM", "GemmaConfig"),
        "gemma2": ("Gemma2ForCausalLM", "Gemma2Config"),
        "gemma3_text": ("Gemma3ForCausalLM", "Gemma3TextConfig"),
        "llama": ("LlamaForCausalLM", "LlamaConfig"),
        "mistral": ("MistralForCausalLM", "MistralConfig"),
        "qwen2": ("Qwen2ForCausalLM", "Qwen2Config"),
        "qwen3": ("Qwen3ForCausalLM", "Qwen3Config"),
    }
)
"""`model_type` -> names of the class and of its config in transformers."""


def copied_cache(cache: Any, times: int) -> Any:
    """Return a cache of transformers as that of several texts with the same beginning; the given one stays."""
    copied = copy.deepcopy(cache)
    if times > 1:
        copied.batch_repeat_interleave(times)
    return copied


class FolderLanguage(nn.Module):
    """A causal language model of transformers.

    Args:
        model: The network.
        model_type: One of `FOLDER_MODELS`.
        length: Tokens at most; the model's own limit where that is less.
    """

    def __init__(self, model: nn.Module, model_type: str, length: int) -> None:
        super().__init__()
        self.model, self.model_type = model, model_type
        self._length = min(length, int(self._config.max_position_embeddings))

    @property
    def _config(self) -> Any:
        return self.model.config

    @property
    def width(self) -> int:
        """Length of a token's vector."""
        return int(self._config.hidden_size)

    @property
    def length(self) -> int:
        """Tokens at most."""
        return self._length

    @property
    def vocabulary(self) -> int:
        """How many tokens it knows."""
        return int(self._config.vocab_size)

    @property
    def adaptable(self) -> nn.Module:
        """The part that low-rank changes go into: the layers, not the embedding and not the head."""
        return self.model.model.layers  # type: ignore[union-attr,return-value]

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
            pictures: Where vectors are of an image; read as words are.
        """
        past = 0 if cache is None else int(cache.get_seq_length())
        before = torch.ones(len(vectors), past, dtype=torch.bool, device=vectors.device)
        said = self.model(
            inputs_embeds=vectors,
            attention_mask=torch.cat([before, known], dim=1).long(),
            past_key_values=cache,
            use_cache=not torch.is_grad_enabled(),
        )
        return said.logits, said.past_key_values

    @staticmethod
    def repeated(cache: Any, times: int) -> Any:
        """Return a cache of one text as that of several with the same beginning; the given one stays as it is."""
        return copied_cache(cache, times)

    def as_card(self) -> dict[str, object]:
        """Return what `from_card` needs: the architecture, without weights."""
        return {
            "kind": "folder",
            "model_type": self.model_type,
            "length": self.length,
            "config": self._config.to_diff_dict(),
        }

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> FolderLanguage:
        """Build the model that a card describes, with random weights.

        Raises:
            WeightsError: The card does not describe one.
            CapabilityError: transformers is not installed.
        """
        names = FOLDER_MODELS.get(str(card.get("model_type")))
        if names is None or not isinstance(card.get("config"), dict) or type(card.get("length")) is not int:
            raise WeightsError(f"the card names no language model that can be built: {card.get('model_type')!r}")
        package = transformers_package("a language model from a folder", "huggingface")
        try:
            model = getattr(package, names[0])(getattr(package, names[1]).from_dict(card["config"]))
        except refusals() as error:
            raise WeightsError(f"the card does not describe a {names[0]}") from error
        return cls(model, str(card["model_type"]), card["length"])
