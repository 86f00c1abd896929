"""Everything that a training of image and language depends on."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core.errors import ConfigError
from isocenter.learn.alignment.pairs import DataSettings, SyntheticData
from isocenter.learn.alignment.texts import TextChoice
from isocenter.learn.jitter import Jitter
from isocenter.models.backbones import ViTSettings, build_backbone, named_backbone

__all__ = ["AlignmentTraining", "ImageTower", "Jitter", "TextTowerChoice", "check_config", "load_config"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ImageTower(_Strict):
    """The image tower.

    Attributes:
        backbone: A name ("vit-tiny/8", "residual-tiny"), or the settings of a backbone as its card writes them. A
            transformer that is named gets positions of its own along each axis: it shall know left from right.
        side: Pixels of the square that an image is fitted into.
        pooling: "attention", or "mean".
        start_from: Weights of a backbone to begin with, a built-in name or a path; None begins anew.
        locked: Whether it keeps what it knows, and only the rest learns.
    """

    backbone: str | dict[str, Any] = "vit-tiny/8"
    side: int = Field(default=64, ge=16)
    pooling: Literal["attention", "mean"] = "attention"
    start_from: str | None = None
    locked: bool = False

    @property
    def card(self) -> dict[str, object]:
        """The card of the backbone.

        Raises:
            ConfigError: There is no such backbone, or it does not take images of this size.
        """
        if isinstance(self.backbone, dict):
            settings = build_backbone(self.backbone).settings
        else:
            settings = named_backbone(self.backbone, (self.side, self.side))
            if isinstance(settings, ViTSettings):
                settings = replace(settings, positions="decomposed")
        if settings.dims != 2 or settings.channels_in != 1:
            raise ConfigError("the image tower sees planes of one channel; set dims to 2 and channels_in to 1")
        if any(self.side % n for n in settings.multiple):
            raise ConfigError(f"a side of {self.side} pixels is not a multiple of {settings.multiple}")
        return settings.as_card()


class TextTowerChoice(_Strict):
    """The text tower.

    Attributes:
        folder: A Hugging Face folder on this machine (BERT, RoBERTa, CLIP, SigLIP); None for the embedded tower.
        vocabulary: Tokens that are learnt from the reports, at most; with a folder, its own are taken.
        length: Tokens of a text at most.
        width: Of the embedded tower.
        depth: Of the embedded tower.
        heads: Of the embedded tower.
        locked: Whether it keeps what it knows, and only the rest learns.
    """

    folder: str | None = None
    vocabulary: int = Field(default=600, ge=259)
    length: int = Field(default=64, ge=3)
    width: int = Field(default=96, ge=2)
    depth: int = Field(default=2, ge=1)
    heads: int = Field(default=4, ge=1)
    locked: bool = False


class AlignmentTraining(_Strict):
    """Everything that a training depends on.

    Attributes:
        verb: "align".
        name: Of the weights.
        seed: Decides every weight, batch and text.
        data: What is learnt from.
        image: The image tower.
        text: The text tower.
        texts: How the text of a step is put together, contradictions too.
        jitter: How images are altered.
        width: Length of the vectors that are compared.
        loss: "sigmoid" (SigLIP) or "softmax" (CLIP).
        steps: How many.
        batch: Pairs of a step.
        learning_rate: Peak; up over `warmup_steps`, then down along a cosine to nothing.
        warmup_steps: How many.
        weight_decay: Of AdamW, on matrices.
        clip_norm: Longest gradient.
        average: Decay of the averaged weights, which are the ones that are written.
        bfloat16: Whether the towers run in bfloat16 (autocast).
        device: "cpu" or "cuda".
        threads: Of torch.
        checkpoint_every: Steps.
        validate_every: Steps.
        licence: Licence of the weights, for their card.
    """

    verb: Literal["align"] = "align"
    name: str = Field(default="aligned-2d", pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")
    seed: int = Field(ge=0)
    data: DataSettings = SyntheticData()
    image: ImageTower = ImageTower()
    text: TextTowerChoice = TextTowerChoice()
    texts: TextChoice = TextChoice()
    jitter: Jitter = Jitter()
    width: int = Field(default=96, ge=2)
    loss: Literal["sigmoid", "softmax"] = "sigmoid"
    steps: int = Field(ge=1)
    batch: int = Field(ge=2)
    learning_rate: float = Field(gt=0)
    warmup_steps: int = Field(default=50, ge=0)
    weight_decay: float = Field(default=0.05, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    average: float = Field(default=0.99, ge=0, lt=1)
    bfloat16: bool = False
    device: Literal["cpu", "cuda"] = "cpu"
    threads: int = Field(default=1, ge=1)
    checkpoint_every: int = Field(default=100, ge=1)
    validate_every: int = Field(default=100, ge=1)
    licence: str = Field(default="LicenseRef-as-the-pairs", min_length=1)

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        up = min(1.0, (step + 1) / max(1, self.warmup_steps))
        gone = max(0, step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        return self.learning_rate * up * (0.5 + 0.5 * math.cos(math.pi * gone))


def check_config(settings: Mapping[str, Any]) -> AlignmentTraining:
    """Check settings.

    Raises:
        ConfigError: One is unknown, missing or out of range.
    """
    try:
        checked = AlignmentTraining.model_validate(settings)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise ConfigError(f"setting {'.'.join(str(p) for p in first['loc'])}: {first['msg']}") from error
    try:
        _ = checked.image.card
    except ConfigError as error:
        raise ConfigError(f"setting image: {error}") from error
    return checked


def load_config(path: Path) -> AlignmentTraining:
    """Read and check a configuration.

    Raises:
        ConfigError: It can't be read, or a setting is unknown, missing or out of range.
    """
    try:
        settings = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: can't be read; give a YAML file such as configs/align-2d.yaml") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark is not None else ""
        raise ConfigError(f"{path.name}: not a YAML file that can be read{place}") from error
    if not isinstance(settings, dict):
        raise ConfigError(f"{path.name}: holds no settings; see configs/align-2d.yaml")
    try:
        return check_config({str(key): value for key, value in settings.items()})
    except ConfigError as error:
        raise ConfigError(f"{path.name}: {error}") from error
