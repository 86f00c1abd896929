"""Tiny random multimodal networks: ours, and folders of language models, LLaVA and Gemma 3 made on the spot."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from isocenter.models.multimodal import (
    EmbeddedWords,
    ImageInput,
    LanguageSettings,
    Multimodal,
    MultimodalNet,
    MultimodalSettings,
    ProjectorSettings,
)
from isocenter.models.text import train_byte_pairs

SIDE = 16
WORDS = [
    "<pad>", "<s>", "</s>", "<unk>", "<image>", "<start_of_turn>", "<end_of_turn>", "<start_of_image>",
    "<end_of_image>", "USER", ":", "ASSISTANT", "Question", "Answer", "user", "model", "which", "side", "is", "the",
    "mass", "?", "left", "right", "both", "neither",
]  # fmt: skip
SPECIAL = WORDS[:9]
_TEXT = {
    "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1,
    "intermediate_size": 32, "vocab_size": 32, "head_dim": 12, "max_position_embeddings": 96,
    "tie_word_embeddings": False, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
}  # fmt: skip
_EYES = {
    "hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24, "image_size": 32,
    "patch_size": 8,
}  # fmt: skip
LANGUAGES = {
    "llama": ("LlamaForCausalLM", "LlamaConfig"),
    "mistral": ("MistralForCausalLM", "MistralConfig"),
    "qwen2": ("Qwen2ForCausalLM", "Qwen2Config"),
    "qwen3": ("Qwen3ForCausalLM", "Qwen3Config"),
    "gemma": ("GemmaForCausalLM", "GemmaConfig"),
    "gemma2": ("Gemma2ForCausalLM", "Gemma2Config"),
    "gemma3_text": ("Gemma3ForCausalLM", "Gemma3TextConfig"),
}


def tokenizer_json() -> str:
    from tokenizers import AddedToken, Tokenizer, decoders, pre_tokenizers
    from tokenizers.models import WordLevel

    own = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    own.pre_tokenizer = pre_tokenizers.Whitespace()
    own.decoder = decoders.Fuse()
    own.add_special_tokens([AddedToken(word, special=True) for word in SPECIAL])
    return own.to_str()


def _saved(folder: Path, model: torch.nn.Module, *, further: dict[str, object] | None = None) -> Path:
    from transformers.utils import logging

    with torch.no_grad():  # initial values are so small that answers would hardly differ
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.15)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    if further is not None:
        (folder / "preprocessor_config.json").write_text(json.dumps(further), "utf-8")
    return folder


def make_language(folder: Path, kind: str = "llama", *, seed: int = 1, **changes: object) -> Path:
    """Save a tiny random language model as transformers saves it."""
    import transformers

    torch.manual_seed(seed)
    model, config = (getattr(transformers, name) for name in LANGUAGES[kind])
    return _saved(folder, model(config(**{**_TEXT, **changes})))


PICTURES = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "rescale_factor": 1 / 255}


def make_llava(folder: Path, *, seed: int = 2) -> Path:
    """Save a tiny random LLaVA: CLIP's eyes, a Llama."""
    import transformers as t

    torch.manual_seed(seed)
    config = t.LlavaConfig(
        vision_config=t.CLIPVisionConfig(**_EYES, projection_dim=16), text_config=t.LlamaConfig(**_TEXT),
        image_token_id=WORDS.index("<image>"), image_seq_length=16, vision_feature_layer=-2,
    )  # fmt: skip
    return _saved(folder, t.LlavaForConditionalGeneration(config), further=PICTURES)


def make_gemma3(folder: Path, *, seed: int = 3) -> Path:
    """Save a tiny random Gemma 3: SigLIP's eyes, four tokens an image, a window of attention."""
    import transformers as t

    torch.manual_seed(seed)
    text = {**_TEXT, "sliding_window": 64, "tie_word_embeddings": True}
    config = t.Gemma3Config(
        vision_config=t.SiglipVisionConfig(**_EYES), text_config=t.Gemma3TextConfig(**text), mm_tokens_per_image=4,
        boi_token_index=WORDS.index("<start_of_image>"), eoi_token_index=WORDS.index("<end_of_image>"),
        image_token_index=WORDS.index("<image>"), bos_token_id=1, eos_token_id=[2, 6],
    )  # fmt: skip
    half = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3, "rescale_factor": 1 / 255}
    return _saved(folder, t.Gemma3ForConditionalGeneration(config), further=half)


BACKBONE = {
    "kind": "residual-unet", "dims": 2, "channels_in": 1, "widths": [4, 8], "blocks": [1, 1],
    "strides": [[2, 2], [2, 2]],
}  # fmt: skip
VOLUMES = {**BACKBONE, "dims": 3, "strides": [[1, 2, 2], [2, 2, 2]]}


def make_own(*, dims: int = 2, seed: int = 4, length: int = 96, **projector: object) -> Multimodal:
    """Return a tiny random network of ours."""
    torch.manual_seed(seed)
    words = EmbeddedWords(train_byte_pairs(["which side is the mass? left right both"] * 2, size=270))
    size = (SIDE, SIDE) if dims == 2 else (4, SIDE, SIDE)
    language = LanguageSettings(words.size, length=length, width=24, depth=2, heads=4, groups=2, hidden=32)
    settings = MultimodalSettings(
        BACKBONE if dims == 2 else VOLUMES, ImageInput(size).as_card(),
        ProjectorSettings(**projector).as_card(),  # type: ignore[arg-type]
        language.as_card(),
    )  # fmt: skip
    return Multimodal(MultimodalNet(settings).eval(), words, ImageInput(size))
