"""The door for Hugging Face folders: a causal language model to go behind our projector, or a whole LLaVA or Gemma 3.

A folder is opened as `models.passport` opens it: config as data, weights read by ourselves from safetensors, no code,
no pickle, no download; files are hashed, and an adapter holds to the hash of what it changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.hugging_face import read_json
from isocenter.models.multimodal.folder_language import FOLDER_MODELS, FolderLanguage
from isocenter.models.multimodal.inputs import ImageInput, folder_scaling
from isocenter.models.multimodal.network import MultimodalNet, MultimodalSettings
from isocenter.models.multimodal.whole import WHOLE_MODELS, WholeNet
from isocenter.models.multimodal.words import FORMS, FolderWords
from isocenter.models.passport.document import Passport
from isocenter.models.passport.door import open_weights
from isocenter.models.text.folder import tokenizer_of, tokenizer_text

__all__ = ["Base", "open_base", "open_language"]


@dataclass(frozen=True, eq=False)
class Base:
    """What a folder gives.

    Args:
        name: Of the folder.
        sha256: Hash of the hashes of its files.
        part: The network: a whole one, or a language model that has no eyes yet.
        words: Its words.
        image: How its images go in; None for a language model.
    """

    name: str
    sha256: str
    part: nn.Module
    words: FolderWords
    image: ImageInput | None

    @property
    def net(self) -> WholeNet:
        """The whole network.

        Raises:
            ConfigError: The folder holds a language model alone.
        """
        if not isinstance(self.part, WholeNet):
            raise ConfigError(
                f"{self.name} is a language model, which sees nothing: adapt it with a vision tower first "
                "(isocenter adapt --pairs, setting language: {folder: ...})"
            )
        return self.part

    @property
    def image_input(self) -> ImageInput:
        """How its images go in.

        Raises:
            ConfigError: The folder holds a language model alone.
        """
        if self.image is None:
            raise ConfigError(f"{self.name} is a language model, which sees nothing")
        return self.image

    def as_card(self) -> dict[str, object]:
        """Return what an adapter says of it."""
        return {"name": self.name, "sha256": self.sha256}

    def under(self, card: Mapping[str, Any]) -> Any:
        """Return the network that an adapter's card describes, with this folder's weights in it.

        Raises:
            ConfigError: The card is not of this folder.
        """
        if isinstance(self.part, WholeNet):
            return self.part
        return MultimodalNet(MultimodalSettings.from_card(card), language=self.part)


def open_base(folder: Path, length: int) -> Base:
    """Open a folder: LLaVA or Gemma 3 as a whole, or a causal language model (Llama, Mistral, Qwen, Gemma).

    Args:
        folder: Holds config.json, safetensors, and a tokenizer.
        length: Tokens of a dialogue at most; the model's own limit where that is less.

    Raises:
        WeightsError: The folder is not what it must be; the message says what to do.
        CapabilityError: transformers is not installed.
    """
    kind = str(read_json(folder / "config.json").get("model_type"))
    if kind not in WHOLE_MODELS and kind not in FOLDER_MODELS:
        known = ", ".join((*WHOLE_MODELS, *FOLDER_MODELS))
        raise WeightsError(f"{folder / 'config.json'}: model_type is {kind!r}; what can read images is {known}")
    opened = open_weights(folder)
    sha256 = _sha256(opened.passport)
    if kind in FOLDER_MODELS:
        language = FolderLanguage(opened.network, kind, length)
        return Base(folder.name, sha256, language, _words(folder, "plain", None, opened.network, language), None)
    whole = WholeNet(opened.network, kind, length)
    mean, std = folder_scaling(opened.passport.inputs.scaling)
    words = _words(folder, kind, whole.image_token, opened.network, whole)
    return Base(folder.name, sha256, whole.eval(), words, ImageInput((whole.side, whole.side), 3, mean, std))


def open_language(folder: Path, length: int) -> Base:
    """Open a causal language model to go behind our projector.

    Raises:
        WeightsError: The folder is not what it must be, or holds a whole multimodal model.
        CapabilityError: transformers is not installed.
    """
    found = open_base(folder, length)
    if isinstance(found.part, WholeNet):
        raise WeightsError(f"{folder} holds a whole multimodal model: adapt it as one (setting whole: FOLDER)")
    return found


def _sha256(passport: Passport) -> str:
    """Return one hash for all files that the network is made from."""
    listed = "\n".join(f"{file.sha256} {file.name}" for file in sorted(passport.files, key=lambda f: f.name))
    return hashlib.sha256(listed.encode()).hexdigest()


def _words(folder: Path, form: str, image: int | None, network: Any, part: Any) -> FolderWords:
    """Return a folder's words, once its tokenizer fits its model."""
    text = tokenizer_text(folder)
    config = getattr(network.config, "text_config", None) or network.config
    own, vocabulary = tokenizer_of(text), int(part.vocabulary)
    highest = max(own.get_vocab(with_added_tokens=True).values(), default=0)
    marker = vocabulary if image is None else image
    if highest >= vocabulary and highest != image:
        raise WeightsError(
            f"{folder}: the tokenizer has tokens up to {highest}, the model knows {vocabulary}; take both from one "
            "source"
        )
    named = FORMS[form].end
    end = own.token_to_id(named) if named else _first(config.eos_token_id)
    if end is None:
        end = _first(config.eos_token_id)
    if end is None:
        raise WeightsError(f"{folder}: config.json names no token that ends a text (eos_token_id); add it")
    begin = _first(config.bos_token_id)
    return FolderWords(text, form, marker, begin, end)


def _first(value: object) -> int | None:
    if isinstance(value, list | tuple):
        value = value[0] if value else None
    return value if isinstance(value, int) else None
