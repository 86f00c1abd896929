"""Text towers from local Hugging Face folders: BERT, RoBERTa, CLIP and SigLIP.

A folder holds `config.json`, `model.safetensors` and `tokenizer.json` (or what transformers makes one of, such as
`vocab.txt`). Once read, the tower and its vocabulary live in our own weights and need the folder no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from torch import nn

from isocenter.core.errors import CapabilityError, ConfigError, WeightsError
from isocenter.models.hugging_face import (
    left_over,
    read_folder_config,
    refusals,
    silence,
    transformers_package,
)
from isocenter.models.text.tokenizer import Tokens

__all__ = ["MODEL_TYPES", "FolderTokenizer", "FolderTower", "load_folder", "tokenizer_of", "tokenizer_text"]

_WHAT, _EXTRA = "a text tower from a folder", "text"


@dataclass(frozen=True)
class _Kind:
    """How a family of text towers is built and asked."""

    model: str
    config: str
    pooled: bool  # whether the tower says itself what stands for the text; else it is the first token
    masked: bool = True  # whether padding is hidden from it; SigLIP learnt with the padding in sight
    reserved: int = 0  # positions that are no tokens
    options: Mapping[str, Any] = field(default_factory=dict)


_BERT = MappingProxyType({"add_pooling_layer": False})
MODEL_TYPES = MappingProxyType(
    {
        "bert": _Kind("BertModel", "BertConfig", pooled=False, options=_BERT),
        "roberta": _Kind("RobertaModel", "RobertaConfig", pooled=False, reserved=2, options=_BERT),
        "clip": _Kind("CLIPTextModel", "CLIPTextConfig", pooled=True),
        "clip_text_model": _Kind("CLIPTextModel", "CLIPTextConfig", pooled=True),
        "siglip": _Kind("SiglipTextModel", "SiglipTextConfig", pooled=True, masked=False),
        "siglip_text_model": _Kind("SiglipTextModel", "SiglipTextConfig", pooled=True, masked=False),
    }
)
"""The config's `model_type` -> how it is read. Whole CLIP and SigLIP folders give their text half."""


class FolderTower(nn.Module):
    """A text tower of transformers behind the face of ours.

    Args:
        model: The network.
        model_type: One of `MODEL_TYPES`.
        length: Tokens of a text at most.
    """

    def __init__(self, model: nn.Module, model_type: str, length: int) -> None:
        super().__init__()
        self.model, self.model_type, self.length = model, model_type, length

    @property
    def width(self) -> int:
        """Length of an embedding."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr,arg-type]

    def forward(
        self, ids: Int64[torch.Tensor, "n length"], known: Bool[torch.Tensor, "n length"]
    ) -> Float[torch.Tensor, "n width"]:
        """Return one vector for each text."""
        kind = MODEL_TYPES[self.model_type]
        said = self.model(input_ids=ids, attention_mask=known.long() if kind.masked else None)
        vector: torch.Tensor = said.pooler_output if kind.pooled else said.last_hidden_state[:, 0]
        return vector

    def as_card(self) -> dict[str, object]:
        """Return what `from_card` needs: the architecture, without weights."""
        config: Any = self.model.config
        return {
            "kind": "folder",
            "model_type": self.model_type,
            "length": self.length,
            "config": config.to_diff_dict(),
        }

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> FolderTower:
        """Build the tower that a card describes, with random weights.

        Raises:
            WeightsError: The card does not describe one.
            CapabilityError: transformers is not installed.
        """
        kind = MODEL_TYPES.get(str(card.get("model_type")))
        if kind is None or not isinstance(card.get("config"), dict):
            raise WeightsError(f"the card names no text tower that can be built: {card.get('model_type')!r}")
        package = transformers_package(_WHAT, _EXTRA)
        try:
            with silence():
                config = getattr(package, kind.config).from_dict(dict(card["config"]))
                return cls(getattr(package, kind.model)(config, **kind.options), card["model_type"], card["length"])
        except refusals() as error:
            raise WeightsError(f"the card's text tower can't be built: {_first_line(error)}") from error


@dataclass(frozen=True, eq=False)
class FolderTokenizer:
    """The tokenizer of a folder, run by the package tokenizers; begin and end are added as the folder says.

    Args:
        text: The folder's `tokenizer.json`.
        pad: Number of the padding.
        full: Whether every text is filled up to the whole length.
    """

    text: str
    pad: int
    full: bool
    _own: Any = field(init=False, repr=False)

    kind = "tokenizers"

    def __post_init__(self) -> None:
        object.__setattr__(self, "_own", tokenizer_of(self.text))

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return int(self._own.get_vocab_size())

    def encode(self, texts: Sequence[str], length: int) -> Tokens:
        """Return texts as numbers, cut to `length`.

        Raises:
            ConfigError: There is no text, or the length leaves no room for one.
        """
        if not texts or length < 3:
            raise ConfigError(f"tokens need a text and a length of 3 or more, got {len(texts)} texts, length {length}")
        self._own.enable_truncation(length)
        rows = [encoding.ids for encoding in self._own.encode_batch([str(text) for text in texts])]
        longest = length if self.full else max(1, *map(len, rows))
        ids = np.full((len(rows), longest), self.pad, dtype=np.int64)
        known = np.zeros((len(rows), longest), dtype=bool)
        for at, numbers in enumerate(rows):
            ids[at, : len(numbers)], known[at, : max(1, len(numbers))] = numbers, True
        return Tokens(ids, known)

    def as_document(self) -> dict[str, object]:
        """Return what `from_document` reads."""
        return {"kind": self.kind, "tokenizer": self.text, "pad": self.pad, "full": self.full}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> FolderTokenizer:
        """Return the tokenizer of a document.

        Raises:
            WeightsError: It is damaged.
            CapabilityError: The package tokenizers is not installed.
        """
        if not isinstance(document.get("tokenizer"), str) or type(document.get("pad")) is not int:
            raise WeightsError("the vocabulary is damaged: it needs the text of a tokenizer and the number of padding")
        return cls(document["tokenizer"], document["pad"], bool(document.get("full")))


def tokenizer_of(text: str) -> Any:
    """Return the tokenizer of a `tokenizer.json`, as the package tokenizers runs it; nothing is padded.

    Raises:
        WeightsError: The text is no tokenizer.
        CapabilityError: The package tokenizers is not installed.
    """
    try:
        package = import_module("tokenizers")
    except ModuleNotFoundError as error:
        raise CapabilityError(f"a tokenizer of a folder needs tokenizers: pip install 'isocenter[{_EXTRA}]'") from error
    try:
        own = package.Tokenizer.from_str(text)
    except Exception as error:  # the package raises plain Exception for a damaged file
        raise WeightsError(f"the vocabulary is damaged: {_first_line(error)}") from error
    own.no_padding()
    return own


def _first_line(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def tokenizer_text(folder: Path) -> str:
    """Return the folder's `tokenizer.json`, or the one that transformers makes of its vocabulary.

    Raises:
        WeightsError: There is neither, or what is there can't be read.
        CapabilityError: transformers is needed, and not installed.
    """
    file = folder / "tokenizer.json"
    if file.is_file():
        try:
            return file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise WeightsError(f"{file}: can't be read; take the folder from its source again") from error
    package = transformers_package(_WHAT, _EXTRA)
    try:
        with silence():
            made = package.AutoTokenizer.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
        return str(made.backend_tokenizer.to_str())
    except refusals() as error:
        raise WeightsError(
            f"{folder} holds no tokenizer.json, and none can be made of what it holds ({_first_line(error)}); take it "
            "from the same source as config.json"
        ) from error


def load_folder(folder: Path, length: int) -> tuple[FolderTower, FolderTokenizer]:
    """Load the text tower and the tokenizer of a folder, in float32.

    Args:
        folder: A folder on this machine.
        length: Tokens of a text at most; the tower's own limit where that is less.

    Raises:
        WeightsError: The folder is not what it must be; its weights don't fill the tower; there is no tokenizer, or it
            has more tokens than the tower.
        CapabilityError: transformers is not installed.
    """
    model_type = str(read_folder_config(folder, MODEL_TYPES, "BERT, RoBERTa, CLIP or SigLIP")["model_type"])
    kind, package = MODEL_TYPES[model_type], transformers_package(_WHAT, _EXTRA)
    try:
        with silence():
            model, told = getattr(package, kind.model).from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
                **kind.options,
            )
    except refusals() as error:
        raise WeightsError(
            f"{folder}: weights and config don't fit together, or are damaged: {_first_line(error)}"
        ) from error
    missing = left_over(told)
    if missing:
        raise WeightsError(f"{folder}: the weights don't fill {missing[0]!r} and {len(missing) - 1} more parameters")
    pad = model.config.pad_token_id
    tokenizer = FolderTokenizer(tokenizer_text(folder), 0 if pad is None else int(pad), not kind.masked)
    if tokenizer.size > model.config.vocab_size:
        raise WeightsError(
            f"{folder}: the tokenizer has {tokenizer.size} tokens, the tower {model.config.vocab_size}; take both from "
            "one source"
        )
    length = min(length, int(model.config.max_position_embeddings) - kind.reserved)
    return FolderTower(model, model_type, length), tokenizer
