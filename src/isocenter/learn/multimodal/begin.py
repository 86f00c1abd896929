"""What a training begins with: parts made anew, weights of ours, or folders of Hugging Face."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from isocenter.core.errors import ConfigError
from isocenter.learn.alignment.trainer import fill_backbone
from isocenter.learn.multimodal.config import MultimodalTraining
from isocenter.models.backbones import build_backbone, named_backbone
from isocenter.models.multimodal import (
    Base,
    EmbeddedWords,
    ImageInput,
    LanguageSettings,
    Multimodal,
    MultimodalNet,
    MultimodalSettings,
    SmallLanguageModel,
    load_multimodal,
    open_base,
    open_language,
)
from isocenter.models.multimodal.vision import open_vision
from isocenter.models.text import train_byte_pairs

__all__ = ["Beginning", "begin", "image_input_of"]


@dataclass(frozen=True, eq=False)
class Beginning:
    """What a training begins with.

    Args:
        model: Network, words, image input.
        base: The folder that low-rank changes are of; None where there is none.
        began_from: Name and hash of what it began from, JSON-ready; empty for nothing.
    """

    model: Multimodal
    base: Base | None
    began_from: dict[str, object]


def image_input_of(config: MultimodalTraining) -> ImageInput:
    """Return how images will go in, before anything is built.

    Raises:
        WeightsError: What is begun with can't be read.
        CapabilityError: It needs transformers, which is not installed.
    """
    if config.start_from is not None:
        return load_multimodal(config.start_from).image_input
    if config.whole is not None:
        return open_base(Path(config.whole), config.language.length).image_input
    if config.vision.folder is not None:
        return open_vision(Path(config.vision.folder))[1]
    return ImageInput(config.vision.sides)


def begin(config: MultimodalTraining, texts: Sequence[str]) -> Beginning:
    """Make or open the network and its words; the same seed gives the same weights.

    Args:
        config: The configuration.
        texts: Questions and answers to train on, from which words are learnt where none are brought.

    Raises:
        ConfigError: Parts don't fit together.
        WeightsError: What is begun with can't be read.
        CapabilityError: It needs transformers, which is not installed.
    """
    if config.start_from is not None:
        model = load_multimodal(config.start_from)
        card = model.card
        known = {} if card is None else {"name": card.name, "sha256": card.sha256}
        return Beginning(model, None, dict(known))
    if config.whole is not None:
        base = open_base(Path(config.whole), config.language.length)
        return Beginning(Multimodal(base.net, base.words, base.image_input), base, base.as_card())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        return _anew(config, texts)


def _anew(config: MultimodalTraining, texts: Sequence[str]) -> Beginning:
    choice = config.language
    tower, image_input = _tower(config)
    base: Base | None = None
    if choice.folder is not None:
        base = open_language(Path(choice.folder), choice.length)
        words, language = base.words, base.part
    else:
        own = EmbeddedWords(train_byte_pairs(texts, size=choice.vocabulary))
        shape = LanguageSettings(
            own.size, choice.length, choice.width, choice.depth, choice.heads, choice.groups, choice.hidden
        )
        words, language = own, SmallLanguageModel(shape)  # type: ignore[assignment]
    settings = MultimodalSettings(
        _card_of(tower), image_input.as_card(), config.projector.card, language.as_card()  # type: ignore[operator]
    )  # fmt: skip
    net = MultimodalNet(settings, tower, language)
    return Beginning(Multimodal(net, words, image_input), base, {} if base is None else base.as_card())


def _tower(config: MultimodalTraining) -> tuple[nn.Module, ImageInput]:
    choice = config.vision
    if choice.folder is not None:
        return open_vision(Path(choice.folder))
    sides = choice.sides
    if isinstance(choice.backbone, dict):
        tower = build_backbone(choice.backbone)
    else:
        tower = build_backbone(named_backbone(choice.backbone, sides))
    settings = tower.settings
    if settings.dims != len(sides) or settings.channels_in != 1:
        raise ConfigError(
            f"setting vision: the backbone sees {settings.dims} axes and {settings.channels_in} channel(s); images "
            f"have {len(sides)} axes and one channel"
        )
    if any(n % m for n, m in zip(sides, settings.multiple, strict=True)):
        raise ConfigError(f"setting vision.size: {sides} is not a multiple of {settings.multiple}")
    if choice.start_from is not None:
        fill_backbone(tower, choice.start_from)
    return tower, ImageInput(sides)


def _card_of(tower: nn.Module) -> dict[str, object]:
    settings = getattr(tower, "settings", None)
    card: dict[str, object] = tower.as_card() if settings is None else settings.as_card()  # type: ignore[operator]
    return card
