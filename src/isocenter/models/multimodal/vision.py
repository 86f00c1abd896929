"""Eyes of a multimodal model: any backbone of ours, for planes or volumes, or a vision tower of a Hugging Face folder.

Whatever the tower is, it turns an image into a map of features on a grid.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from jaxtyping import Float
from torch import nn

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.backbones import build_backbone
from isocenter.models.hugging_face import refusals, transformers_package
from isocenter.models.multimodal.inputs import ImageInput, folder_scaling
from isocenter.models.passport.door import open_weights

__all__ = ["FOLDER_TOWERS", "FolderVision", "build_vision", "grid_of", "open_vision"]

FOLDER_TOWERS = MappingProxyType(
    {
        "clip_vision_model": ("CLIPVisionModel", "CLIPVisionConfig"),
        "dinov2": ("Dinov2Model", "Dinov2Config"),
        "siglip_vision_model": ("SiglipVisionModel", "SiglipVisionConfig"),
        "vit": ("ViTModel", "ViTConfig"),
    }
)
"""`model_type` -> names of the class and of its config in transformers."""


class FolderVision(nn.Module):
    """A vision tower of transformers behind the face of our backbones.

    Args:
        model: The network.
        model_type: One of `FOLDER_TOWERS`.
    """

    def __init__(self, model: nn.Module, model_type: str) -> None:
        super().__init__()
        self.model, self.model_type = model, model_type

    @property
    def width(self) -> int:
        """Channels of the map."""
        return int(self.model.config.hidden_size)  # type: ignore[union-attr,arg-type]

    @property
    def side(self) -> int:
        """Pixels of the square that it sees."""
        return int(self.model.config.image_size)  # type: ignore[union-attr,arg-type]

    def maps(self, x: Float[torch.Tensor, "n channel rows columns"]) -> list[torch.Tensor]:
        """Return the features of patches as one map; tokens that belong to no patch are left out."""
        patch = int(self.model.config.patch_size)  # type: ignore[union-attr,arg-type]
        grid = (x.shape[2] // patch, x.shape[3] // patch)
        tokens = self.model(pixel_values=x).last_hidden_state
        tokens = tokens[:, tokens.shape[1] - math.prod(grid) :]
        return [tokens.transpose(1, 2).reshape(len(x), -1, *grid)]

    def as_card(self) -> dict[str, object]:
        """Return what `build_vision` needs: the architecture, without weights."""
        config: Any = self.model.config
        return {"kind": "folder", "model_type": self.model_type, "config": config.to_diff_dict()}

    @classmethod
    def from_card(cls, card: Mapping[str, Any]) -> FolderVision:
        """Build the tower that a card describes, with random weights.

        Raises:
            WeightsError: The card does not describe one.
            CapabilityError: transformers is not installed.
        """
        names = FOLDER_TOWERS.get(str(card.get("model_type")))
        if names is None or not isinstance(card.get("config"), dict):
            raise WeightsError(f"the card names no vision tower that can be built: {card.get('model_type')!r}")
        package = transformers_package("a vision tower from a folder", "huggingface")
        try:
            model = getattr(package, names[0])(getattr(package, names[1]).from_dict(card["config"]))
        except refusals() as error:
            raise WeightsError(f"the card does not describe a tower of {names[0]}") from error
        return cls(model, str(card["model_type"]))


def open_vision(folder: Path) -> tuple[FolderVision, ImageInput]:
    """Open a vision tower of a Hugging Face folder, with how its pictures are prepared.

    Raises:
        WeightsError: The folder is not what it must be, or of another network.
        CapabilityError: transformers is not installed.
    """
    opened = open_weights(folder)
    kind = opened.passport.architecture.split(" ")[0]
    if opened.passport.kind != "huggingface" or kind not in FOLDER_TOWERS:
        raise WeightsError(
            f"{folder}: a {kind} is not a vision tower that a multimodal model sees through; those are "
            f"{', '.join(FOLDER_TOWERS)}, or a backbone of ours"
        )
    tower = FolderVision(opened.network, kind)
    mean, std = folder_scaling(opened.passport.inputs.scaling)
    return tower, ImageInput((tower.side, tower.side), 3, mean, std)


def build_vision(card: Mapping[str, Any]) -> nn.Module:
    """Build the tower that a card describes, with random weights.

    Raises:
        ConfigError: The card is not of a tower.
        WeightsError: A tower of a folder can't be built.
        CapabilityError: It needs transformers, which is not installed.
    """
    return FolderVision.from_card(card) if card.get("kind") == "folder" else build_backbone(card)


def grid_of(tower: nn.Module, channels: int, size: Sequence[int]) -> tuple[int, ...]:
    """Return the grid of a tower's map for an input.

    Raises:
        ConfigError: The tower does not take such an input.
    """
    training = tower.training
    try:
        with torch.no_grad():
            found = tower.eval().maps(torch.zeros(1, channels, *size))[-1]  # type: ignore[operator]
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"the vision tower does not take {channels} channel(s) of {' x '.join(map(str, size))} pixels"
        ) from error
    finally:
        tower.train(training)
    return tuple(int(n) for n in found.shape[2:])
