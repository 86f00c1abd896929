"""The networks of transformers that are built, each by its own class: nothing is looked up by what a folder says.

A folder names its network (`model_type` in config.json); this table says which class that is, what it does, and which
parts of published checkpoints are heads that aren't needed. What isn't in the table is refused.
"""

from __future__ import annotations

from dataclasses import dataclass

from isocenter.models.passport.document import Role

__all__ = ["ARCHITECTURES", "Architecture"]


@dataclass(frozen=True)
class Architecture:
    """How a network of transformers is built.

    Args:
        model: Name of its class in transformers; the class knows its config's.
        role: What it does.
        unused: Starts of names in checkpoints that this class doesn't hold: heads for other tasks.
    """

    model: str
    role: Role
    unused: tuple[str, ...] = ()


ARCHITECTURES = {
    "clip": Architecture("CLIPModel", "image-text"),
    "clip_vision_model": Architecture("CLIPVisionModel", "encoder", ("visual_projection.",)),
    "dinov2": Architecture("Dinov2Model", "encoder", ("classifier.",)),
    "dinov2_with_registers": Architecture("Dinov2WithRegistersModel", "encoder", ("classifier.",)),
    "dinov3_vit": Architecture("DINOv3ViTModel", "encoder"),
    "gemma": Architecture("GemmaForCausalLM", "language"),
    "gemma2": Architecture("Gemma2ForCausalLM", "language"),
    "gemma3_text": Architecture("Gemma3ForCausalLM", "language"),
    "gemma3": Architecture("Gemma3ForConditionalGeneration", "multimodal"),
    "llama": Architecture("LlamaForCausalLM", "language"),
    "llava": Architecture("LlavaForConditionalGeneration", "multimodal"),
    "mistral": Architecture("MistralForCausalLM", "language"),
    "qwen2": Architecture("Qwen2ForCausalLM", "language"),
    "qwen3": Architecture("Qwen3ForCausalLM", "language"),
    "sam": Architecture("SamModel", "promptable"),
    "sam2": Architecture("Sam2Model", "promptable"),
    # Meta's folders hold the memory for videos beside the network for images; the class itself leaves it out.
    "sam2_video": Architecture("Sam2Model", "promptable"),
    "siglip": Architecture("SiglipModel", "image-text"),
    "siglip_vision_model": Architecture("SiglipVisionModel", "encoder"),
    "vit": Architecture("ViTModel", "encoder", ("classifier.", "decoder.", "embeddings.mask_token")),
    "vit_mae": Architecture("ViTMAEModel", "encoder", ("decoder.", "classifier.")),
}
"""`model_type` -> how it is built."""
