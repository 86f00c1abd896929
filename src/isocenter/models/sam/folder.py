"""From a Hugging Face folder on this machine to a network that encodes a picture once and answers prompts.

What is read: `config.json`, weights as safetensors (one file, or shards with their index), and how pictures are
prepared, where the folder says so (`preprocessor_config.json`, or `processor_config.json`). Nothing is downloaded, no
pickle is opened, and no code that comes with the weights is run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from isocenter.core.errors import CapabilityError, WeightsError
from isocenter.models.hugging_face import (
    left_over,
    read_folder_config,
    read_json,
    refusals,
    silence,
    transformers_package,
)

__all__ = ["MODEL_TYPES", "SamNetwork", "load_network", "picture_settings", "read_config"]

MODEL_TYPES = {"sam": "sam", "sam2": "sam2", "sam2_video": "sam2"}
"""The config's `model_type` -> which network reads it. Meta's own SAM 2 folders say `sam2_video`: they hold the network
for images and, beside it, the memory for videos, which is not read."""

_CLASSES = {"sam": "SamModel", "sam2": "Sam2Model"}
_LIMIT = 32.0
"""SAM 2 clamps the logits that it hands to the next round to -32..32 (its `SAM2ImagePredictor`)."""


def read_config(folder: Path) -> dict[str, Any]:
    """Return the folder's config, once everything in the folder is what it must be.

    Raises:
        WeightsError: No such folder; no config; another `model_type` than those of `MODEL_TYPES`; weights that are
            missing, are pickles or lie elsewhere; a folder that asks for code or for other weights than its own.
    """
    return read_folder_config(folder, MODEL_TYPES, "SAM, MedSAM or SAM 2")


def picture_settings(folder: Path) -> dict[str, Any] | None:
    """Return what the folder says about preparing pictures, or None where it says nothing.

    Raises:
        WeightsError: A file that is not JSON.
    """
    if (folder / "preprocessor_config.json").is_file():
        return read_json(folder / "preprocessor_config.json")
    if (folder / "processor_config.json").is_file():
        inner = read_json(folder / "processor_config.json").get("image_processor")
        return inner if isinstance(inner, dict) else None
    return None


def _side(said: object) -> int:
    """Return the side of a square that is written as one number, or as two that are equal."""
    sides = set(said) if isinstance(said, list | tuple) else {said}
    side = sides.pop() if len(sides) == 1 else None
    if not isinstance(side, int) or side < 1:
        raise WeightsError(f"the config's image_size must be one side of a square, not {said!r}")
    return side


class SamNetwork:
    """A SAM of either generation.

    Args:
        model: `SamModel` or `Sam2Model` of transformers, in evaluation mode.
        kind: "sam" or "sam2".
        device: Where it runs.

    Attributes:
        size: Side of the square picture that it takes, pixels.
    """

    def __init__(self, model: Any, kind: str, device: str) -> None:
        self.model, self.kind, self.device = model, kind, device
        vision = model.config.vision_config
        self.size = _side((vision if kind == "sam" else vision.backbone_config).image_size)
        if _side(model.config.prompt_encoder_config.image_size) != self.size:
            raise WeightsError(
                "the config's image_size of pictures is not that of prompts; take it from its source again"
            )

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> Any:
        """Return the embedding of a picture (1, 3, size, size), in whatever form `decode` takes it back."""
        return self.model.get_image_embeddings(pixels.to(self.device))

    @torch.inference_mode()
    def decode(
        self,
        embedding: Any,
        points: tuple[torch.Tensor, torch.Tensor] | None,
        box: torch.Tensor | None,
        mask: torch.Tensor | None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Answer prompts with logits, and logits to hand in with the next prompts.

        One point alone may mean a part or the whole: of the three answers to it, the one is taken whose IoU the network
        expects to be greatest. Everything else has one answer.

        Args:
            embedding: From `encode`.
            points: (n, 2) positions x, y in pixels of the square picture, the middle of the first pixel being 0; and
                (n,) labels, 1 for "this" and 0 for "not this".
            box: (4,) x, y of the first and x, y of the last pixel that still belong to it.
            mask: What the last call returned second; None at first.

        Returns:
            Logits (1, 1, h, w) of the square picture at the decoder's resolution, and the same for the next call.
        """
        alone = box is None and mask is None and points is not None and len(points[1]) == 1
        said = self.model(
            image_embeddings=embedding,
            input_points=None if points is None else points[0][None, None].to(self.device),
            input_labels=None if points is None else points[1][None, None].to(self.device),
            input_boxes=None if box is None else box[None, None].to(self.device),
            input_masks=mask,
            multimask_output=alone,
        )
        best = int(said.iou_scores[0, 0].argmax())
        logits = said.pred_masks[:, :, best].float()
        return logits, logits.clamp(-_LIMIT, _LIMIT) if self.kind == "sam2" else logits


def load_network(folder: Path, device: str = "cpu") -> SamNetwork:
    """Load the folder's network in float32.

    Args:
        folder: A folder on this machine.
        device: As torch names it.

    Raises:
        WeightsError: As `read_config`; or the weights are not those that the config describes.
        CapabilityError: transformers is not installed, or there is no such device.
    """
    kind = MODEL_TYPES[read_config(folder)["model_type"]]
    build = getattr(transformers_package("SAM", "sam"), _CLASSES[kind], None)
    if build is None:
        raise CapabilityError(f"this transformers has no {_CLASSES[kind]}: pip install --upgrade 'isocenter[sam]'")
    try:
        with silence():
            model, told = build.from_pretrained(
                str(folder),
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                dtype=torch.float32,
                output_loading_info=True,
            )
    except refusals() as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        raise WeightsError(f"{folder}: weights and config don't fit together, or are damaged: {why}") from error
    missing = left_over(told)
    if missing:
        raise WeightsError(f"{folder}: the weights don't fill {missing[0]!r} and {len(missing) - 1} more parameters")
    try:
        return SamNetwork(model.eval().to(device), kind, device)
    except (AssertionError, RuntimeError) as error:
        raise CapabilityError(f"torch can't use the device {device!r} here; take 'cpu'") from error
