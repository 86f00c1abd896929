"""Tiny language models of random weights, made on the spot, in folders as Hugging Face's are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["FAMILIES", "make_language_model"]

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
_TEXT = ['{"findings": ["Pleural effusion.", "No pneumothorax."], "impression": []}', '{"calls": [{"tool": "find"}]}',
         "The right lung has an area of 240 cm²."] * 3  # fmt: skip
_TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m['content'] }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def _tokenizer(template: str | None) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    own = Tokenizer(models.BPE())
    own.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    own.decoder = decoders.ByteLevel()
    special = ["<pad>", "<s>", "</s>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    own.train_from_iterator(
        _TEXT,
        trainers.BpeTrainer(vocab_size=340, special_tokens=special, initial_alphabet=alphabet, show_progress=False),
    )
    made = PreTrainedTokenizerFast(tokenizer_object=own, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    if template is not None:
        made.chat_template = template
    return made


def make_language_model(folder: Path, family: str = "llama", *, seed: int = 0, template: str | None = _TEMPLATE,
                        length: int = 4096) -> Path:  # fmt: skip
    """Write a folder with a tiny model of random weights, and return it."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    from isocenter.models.hugging_face import silence

    tokenizer = _tokenizer(template)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
             "num_key_value_heads": 2, "head_dim": 8, "vocab_size": 352, "max_position_embeddings": length,
             "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}  # fmt: skip
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(family, **sizes))
    with silence():
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    return folder
