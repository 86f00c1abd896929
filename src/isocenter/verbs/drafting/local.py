"""A language model from a local Hugging Face folder, on the processor of this machine, held to valid JSON.

Families of Llama, Mistral, Qwen and Gemma. Nothing is downloaded, no pickle is opened, no code of the folder is run,
its chat template neither: a conversation is written in a fixed form.
Weights are used as 32-bit floats, or as 8-bit integers (dynamic quantisation) where those are measured to be faster.
"""

from __future__ import annotations

import json
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from isocenter.core.errors import CapabilityError, ModelError, WeightsError
from isocenter.models.hugging_face import (
    left_over,
    read_folder_config,
    read_json,
    refusals,
    silence,
    transformers_package,
)
from isocenter.verbs.drafting.constrained import Vocabulary
from isocenter.verbs.drafting.turns import ModelTurn, RequestedCall

__all__ = ["MODEL_TYPES", "LocalModel"]

MODEL_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text")
"""The config's `model_type` of what can be run."""
_TOKENS, _RESERVE = 768, 160
"""Longest answer in tokens; and how many are left when an answer begins to be closed."""
_FASTER = 1.2
"""From which gain on 8-bit integers are taken."""
_MOST_CALLS = 3
Numbers = Literal["auto", "float32", "int8"]


@dataclass(frozen=True)
class _Form:
    """How a family of models writes a conversation.

    Args:
        marks: Tokens of control that it needs.
        text: The form; {system} and {user} are the places of the texts.
    """

    marks: tuple[str, ...]
    text: str


_FORMS = (
    _Form(
        ("<|im_start|>", "<|im_end|>"),
        "<|im_start|>system\n{system}<|im_end|>\n<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n",
    ),
    _Form(
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
        "<|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        "{user}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
    _Form(
        ("<start_of_turn>", "<end_of_turn>"),
        "<start_of_turn>user\n{system}\n\n{user}<end_of_turn>\n<start_of_turn>model\n",
    ),
    _Form(("[INST]", "[/INST]"), "[INST] {system}\n\n{user}[/INST]"),
    _Form(
        ("<|system|>", "<|user|>", "<|assistant|>", "<|end|>"),
        "<|system|>\n{system}<|end|>\n<|user|>\n{user}<|end|>\n<|assistant|>\n",
    ),
)
"""By the marks of Qwen (ChatML), Llama 3, Gemma, Mistral, and of small models in the manner of Phi."""
_PLAIN = _Form((), "{system}\n\n{user}\n\n")
"""For a tokenizer that knows none of these marks, as of models that learnt no conversation."""


class LocalModel:
    """A causal language model of a folder, behind the faces of `LanguageModel` and `CallingModel`.

    Args:
        folder: Holds config.json, model.safetensors and a tokenizer.
        seconds: Longest time for an answer.
        numbers: What the weights are used as; "auto" takes 8-bit integers where a trial shows them to be faster.

    Raises:
        WeightsError: The folder is not what it must be.
        CapabilityError: transformers or llguidance is not installed.
        ModelError: The tokenizer can't be held to a grammar.
    """

    def __init__(self, folder: Path, seconds: float = 60.0, numbers: Numbers = "auto") -> None:
        config = read_folder_config(folder, MODEL_TYPES, "a language model")
        if (folder / "tokenizer_config.json").is_file() and "auto_map" in read_json(folder / "tokenizer_config.json"):
            raise WeightsError(f"{folder / 'tokenizer_config.json'} asks for code of its own (auto_map); it is not run")
        package = transformers_package("a language model from a folder", "local")
        self._kind, self.seconds, self._folder = str(config["model_type"]), seconds, folder
        network, self._tokenizer = _opened(package, folder)
        self.numbers, self._network = _as_numbers(network, numbers)
        ends = network.generation_config.eos_token_id if network.generation_config is not None else None
        ends = ends if isinstance(ends, list) else [ends] if ends is not None else []
        ends += [e for e in (self._tokenizer.eos_token_id,) if e is not None and e not in ends]
        if not ends:
            raise WeightsError(f"{folder}: the tokenizer names no token that ends a text")
        self._size, self._length = int(network.config.vocab_size), int(network.config.max_position_embeddings)
        self._vocabulary = Vocabulary(self._tokenizer, self._size, ends)

    @property
    def name(self) -> str:
        """Its name, for the page: the family, as names of folders may be anything."""
        return f"a local {self._kind} model"

    def complete(self, system: str, user: str, *, schema: dict[str, object]) -> str:
        """Return valid JSON of the schema.

        Raises:
            ModelError: The text is longer than the model reads, or time ran out.
        """
        until = time.monotonic() + self.seconds
        return self._written(self._prompt(system, user), schema, until, self.seconds)

    def choose(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]], *, seconds: float
    ) -> ModelTurn:
        """Return which tools the model would call, or its words once tools have answered; see `CallingModel`.

        Raises:
            ModelError: The text is longer than the model reads, or time ran out.
        """
        functions = [tool["function"] for tool in tools]
        answered = [str(m["content"]) for m in messages if m["role"] == "tool"]
        system = next((str(m["content"]) for m in messages if m["role"] == "system"), "")
        question = next((str(m["content"]) for m in messages if m["role"] == "user"), "")
        left = min(seconds, self.seconds)
        until = time.monotonic() + left
        if answered:
            asked = f"{question}\nThe tools answered:\n" + "\n".join(answered)
            asked += '\nAnswer with JSON: {"sentences": [one to four short sentences]}.'
            sentences: dict[str, object] = {"type": "array", "items": {"type": "string"}, "maxItems": 4}
            made = json.loads(self._written(self._prompt(system, asked), _object(sentences=sentences), until, left))
            return ModelTurn(" ".join(str(s) for s in made["sentences"]))
        listed = "\n".join(f"- {f['name']}: {f['description']}" for f in functions)
        asked = f"Tools:\n{listed}\n\n{question}\n"
        asked += 'Answer with JSON: {"calls": [{"tool": name, "arguments": {...}}]}, without calls where none fits.'
        made = json.loads(self._written(self._prompt(system, asked), _calls(functions), until, left))
        calls = [RequestedCall(f"call_{n}", c["tool"], json.dumps(c["arguments"])) for n, c in enumerate(made["calls"])]
        return ModelTurn("" if calls else "NO TOOL", tuple(calls))

    def _prompt(self, system: str, user: str) -> list[int]:
        """Return a conversation as tokens; what would be a token of control is taken out of both texts.

        It is written in the form of the family, by the marks that the tokenizer knows. A folder's chat template is a
        program, which may never end; it is not run.
        """
        system, user = self._without_control(system), self._without_control(user)
        known = self._tokenizer.get_added_vocab()
        form = next((f for f in _FORMS if all(mark in known for mark in f.marks)), _PLAIN)
        told = self._tokenizer(form.text.format(system=system, user=user), add_special_tokens=False)["input_ids"]
        begin = self._tokenizer.bos_token_id
        return [*([] if begin is None else [int(begin)]), *(int(t) for t in told)]

    def _without_control(self, text: str) -> str:
        for token in sorted(self._tokenizer.get_added_vocab(), key=len, reverse=True):
            text = text.replace(token, " ")
        return text

    def _written(self, prompt: list[int], schema: Mapping[str, Any], until: float, seconds: float) -> str:
        if len(prompt) + _TOKENS > self._length:
            raise ModelError("the text is longer than the model reads")
        constraint = self._vocabulary.constrain(schema)
        written: list[int] = []
        past, waiting = None, prompt
        with torch.inference_mode():
            while not constraint.whole:
                if time.monotonic() > until:
                    raise ModelError(f"it did not end within {round(seconds, 1):g} s")
                if len(written) >= _TOKENS:
                    raise ModelError("its answer is longer than any draft")
                told = self._network(input_ids=torch.tensor([waiting]), past_key_values=past, use_cache=True)
                past = told.past_key_values
                scores = np.asarray(told.logits[0, -1, : self._size].float().numpy())
                waiting = [constraint.choose(scores, closing=len(written) > _TOKENS - _RESERVE)]
                waiting += [] if constraint.whole else constraint.forced()
                written += waiting
        return _text(self._vocabulary.tokens.decode_bytes(written))


def _text(written: bytes) -> str:
    """Return what was written; what does not parse is refused, though the grammar should not have let it pass."""
    try:
        text = written.decode("utf-8")
        json.loads(text)
    except ValueError as error:
        raise ModelError("its answer is no JSON") from error
    return text


def _object(**properties: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties), "additionalProperties": False}


def _calls(functions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    kinds = [
        _object(tool={"const": f["name"]}, arguments=_without_notes(f["parameters"])) for f in functions
    ]  # fmt: skip
    return _object(calls={"type": "array", "items": {"anyOf": kinds}, "maxItems": _MOST_CALLS})


def _without_notes(schema: Any) -> Any:
    """Return a schema without titles, descriptions and defaults, which say nothing of its form."""
    if isinstance(schema, list):
        return [_without_notes(one) for one in schema]
    if not isinstance(schema, Mapping):
        return schema
    notes = ("title", "description", "default")
    return {
        key: {k: _without_notes(v) for k, v in value.items()} if key == "properties" else _without_notes(value)
        for key, value in schema.items()
        if key not in notes
    }


def _opened(package: Any, folder: Path) -> tuple[Any, Any]:
    try:
        with silence():
            network, told = package.AutoModelForCausalLM.from_pretrained(
                folder, local_files_only=True, use_safetensors=True, trust_remote_code=False, dtype=torch.float32,
                output_loading_info=True,
            )  # fmt: skip
            tokenizer = package.AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_fast=True
            )
    except refusals() as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise WeightsError(f"{folder}: the language model can't be opened: {first}") from error
    lost = left_over(told)
    if lost:
        raise WeightsError(f"{folder}: {len(lost)} parameters are not in its weights, e.g. {lost[0]}")
    return network.eval(), tokenizer


def _as_numbers(network: Any, numbers: Numbers) -> tuple[Literal["float32", "int8"], Any]:
    """Return the network as it is used, and as what numbers."""
    if numbers == "float32":
        return "float32", network
    quantise = getattr(getattr(torch.ao, "quantization", None), "quantize_dynamic", None)
    if quantise is None:  # announced to go from torch; what follows it there needs a package of its own
        if numbers == "int8":
            raise CapabilityError("this torch has no dynamic quantisation; take float32")
        return "float32", network
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        small = quantise(network, {torch.nn.Linear}, dtype=torch.qint8)
    if numbers == "int8" or _seconds(network) > _FASTER * _seconds(small):
        return "int8", small
    return "float32", network


def _seconds(network: Any) -> float:
    """Time what most of an answer takes: one token behind another."""
    taken = []
    with torch.inference_mode():
        past = network(input_ids=torch.zeros((1, 8), dtype=torch.long), use_cache=True).past_key_values
        for _ in range(5):
            begin = time.perf_counter()
            past = network(
                input_ids=torch.zeros((1, 1), dtype=torch.long), past_key_values=past, use_cache=True
            ).past_key_values
            taken.append(time.perf_counter() - begin)
    return float(np.median(taken))
