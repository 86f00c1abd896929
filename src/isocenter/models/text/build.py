"""One face for all text towers and tokenizers, and how they come back from cards and files."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import nn

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.text.folder import FolderTokenizer, FolderTower
from isocenter.models.text.tokenizer import BytePairs, Tokens
from isocenter.models.text.tower import TextSettings, TextTower

__all__ = ["TextEncoder", "Tokenizer", "build_text_tower", "read_tokenizer", "tokenizer_document"]

_FORMAT = "isocenter-vocabulary/1"


@runtime_checkable
class Tokenizer(Protocol):
    """The face of every tokenizer."""

    @property
    def size(self) -> int:
        """How many tokens there are."""
        ...

    def encode(self, texts: Sequence[str], length: int) -> Tokens:
        """Return texts as numbers, at most `length` of them each."""
        ...

    def as_document(self) -> dict[str, object]:
        """Return what is needed to make it again, JSON-ready."""
        ...


@runtime_checkable
class TextEncoder(Protocol):
    """The face of every text tower; also a `torch.nn.Module`."""

    @property
    def width(self) -> int:
        """Length of an embedding."""
        ...

    length: int
    """Tokens of a text at most."""

    def __call__(self, ids: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        """Return one vector for each text, (n, width)."""
        ...

    def as_card(self) -> dict[str, object]:
        """Return what is needed to build it again, JSON-ready."""
        ...


def build_text_tower(card: Mapping[str, Any]) -> nn.Module:
    """Build the text tower that a card describes, with random weights.

    Raises:
        ConfigError: The card is not of a text tower.
        WeightsError: The card's tower can't be built.
        CapabilityError: It needs transformers, which is not installed.
    """
    if card.get("kind") == TextSettings.kind:
        return TextTower(TextSettings.from_card(card))
    if card.get("kind") == "folder":
        return FolderTower.from_card(card)
    raise ConfigError(f"no text tower of kind {card.get('kind')!r}; there are {TextSettings.kind}, folder")


def tokenizer_document(tokenizer: Tokenizer) -> bytes:
    """Return a tokenizer as the bytes of a JSON file: the same tokenizer, the same bytes."""
    document = {"format": _FORMAT, **tokenizer.as_document()}
    return json.dumps(document, ensure_ascii=False, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def read_tokenizer(data: bytes) -> Tokenizer:
    """Return the tokenizer of a file's bytes.

    Raises:
        WeightsError: It is not a vocabulary of ours, or damaged.
        CapabilityError: It needs the package tokenizers, which is not installed.
    """
    try:
        document = json.loads(data)
    except (ValueError, UnicodeDecodeError) as error:
        raise WeightsError("the vocabulary is damaged: it is not JSON") from error
    if not isinstance(document, dict) or document.get("format") != _FORMAT:
        raise WeightsError(f"this is not a vocabulary of Isocenter ({_FORMAT})")
    if document.get("kind") == BytePairs.kind:
        return BytePairs.from_document(document)
    if document.get("kind") == FolderTokenizer.kind:
        return FolderTokenizer.from_document(document)
    raise WeightsError(f"the vocabulary is of kind {document.get('kind')!r}, which is not known here")
