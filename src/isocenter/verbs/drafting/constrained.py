"""Tokens that keep an answer valid JSON of a schema, until it is whole: what a small model on this machine needs most.

The schema becomes a grammar over the tokenizer's vocabulary (package llguidance); at each step only tokens that the
grammar allows may follow. Lists and texts without a limit get one, and when few tokens are left, those that close what
is open are preferred: so even a model that was never trained ends with valid JSON.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import CapabilityError, ModelError

__all__ = ["Constraint", "Vocabulary", "bounded"]

_ITEMS, _CHARACTERS = 12, 240
_CLOSING, _QUOTE, _ESCAPE = ("}", "]"), '"', "\\"


def bounded(schema: Mapping[str, Any], items: int = _ITEMS, characters: int = _CHARACTERS) -> dict[str, Any]:
    """Return a schema whose lists and texts all have a limit.

    Args:
        schema: JSON schema.
        items: Limit of a list that has none.
        characters: Limit of a text that has none.

    Example:
        >>> bounded({"type": "array", "items": {"type": "string"}}, 3, 9)
        {'type': 'array', 'items': {'type': 'string', 'maxLength': 9}, 'maxItems': 3}
    """
    made: dict[str, Any] = {}
    for key, value in schema.items():
        if isinstance(value, Mapping):
            made[key] = bounded(value, items, characters)
        elif isinstance(value, list):
            made[key] = [bounded(v, items, characters) if isinstance(v, Mapping) else v for v in value]
        else:
            made[key] = value
    if made.get("type") == "array":
        made.setdefault("maxItems", items)
    if made.get("type") == "string" and not {"enum", "const"} & set(made):
        made.setdefault("maxLength", characters)
    return made


class Vocabulary:
    """A tokenizer's vocabulary as grammars need it; made once for a model.

    Args:
        tokenizer: A fast tokenizer of transformers.
        size: How many tokens the model knows.
        ends: Tokens that end an answer.

    Raises:
        CapabilityError: The package llguidance is not installed.
        ModelError: The tokenizer can't be taken.
    """

    def __init__(self, tokenizer: Any, size: int, ends: list[int]) -> None:
        try:
            self._package = import_module("llguidance")
            own = import_module("llguidance.hf")
        except ImportError as error:
            raise CapabilityError(
                "a language model from a folder needs llguidance: pip install 'isocenter[local]'"
            ) from error
        try:
            # A model may know more tokens than its tokenizer, or fewer; those of one alone are never chosen.
            self.tokens = own.from_tokenizer(tokenizer, n_vocab=max(size, len(tokenizer)), eos_token=ends)
        except (ValueError, RuntimeError, AttributeError) as error:
            raise ModelError(
                "the folder's tokenizer can't be held to a grammar; give one with tokenizer.json"
            ) from error
        self.size = size
        self.closing = tuple(t for text in _CLOSING for t in self._alone(text) if t < size)
        self.quote = tuple(t for t in self._alone(_QUOTE) if t < size)

    def _alone(self, text: str) -> list[int]:
        """Return the token that is this text, where there is one."""
        return [t for t in self.tokens.tokenize_str(text) if self.tokens.decode_bytes([t]) == text.encode()][:1]

    def constrain(self, schema: Mapping[str, Any]) -> Constraint:
        """Return a constraint to a JSON schema.

        Raises:
            ModelError: The schema holds what no grammar can be made of.
        """
        grammar = self._package.LLMatcher.grammar_from_json_schema(
            json.dumps(bounded(schema)), overrides={"whitespace_flexible": False}
        )
        matcher = self._package.LLMatcher(self.tokens, grammar, log_level=0)
        if matcher.is_error():
            raise ModelError("the form of the answer can't be made a grammar")
        return Constraint(self, matcher)


class Constraint:
    """One answer on its way: which tokens may follow, and whether it is whole.

    Args:
        vocabulary: Of the tokenizer.
        matcher: Of the grammar.
    """

    def __init__(self, vocabulary: Vocabulary, matcher: Any) -> None:
        self._vocabulary, self._matcher = vocabulary, matcher
        self._in_text = self._escaped = False

    @property
    def whole(self) -> bool:
        """Whether what was taken so far is a whole answer."""
        return bool(self._matcher.is_stopped() or self._matcher.is_accepting())

    def allowed(self) -> Bool[np.ndarray, "tokens"]:
        """Return which tokens may follow."""
        mask = np.frombuffer(self._matcher.compute_bitmask(), np.uint8)
        return np.unpackbits(mask, bitorder="little")[: self._vocabulary.size].astype(bool)

    def choose(self, scores: Float[np.ndarray, "tokens"], *, closing: bool) -> int:
        """Return the token of the highest score among those that may follow, and take it.

        Args:
            scores: Of the model, one a token.
            closing: Whether tokens that close what is open are preferred.

        Raises:
            ModelError: None may follow.
        """
        allowed = self.allowed()
        if not allowed.any():
            raise ModelError("no token of the folder's tokenizer may follow; its vocabulary can't write the answer")
        # Within a text a bracket closes nothing; outside of one a quote opens what must be closed again.
        ends = self._vocabulary.quote if self._in_text else self._vocabulary.closing
        chosen = next((t for t in ends if closing and allowed[t]), None)
        if chosen is None:
            chosen = int(np.where(allowed, scores, -np.inf).argmax())
        if not self._matcher.consume_token(chosen):
            raise ModelError("the grammar of the answer refused a token that it had allowed")
        self._follow([chosen])
        return chosen

    def forced(self) -> list[int]:
        """Return the tokens that must follow anyway, and take them."""
        tokens = [int(t) for t in self._matcher.compute_ff_tokens()]
        taken = tokens[: self._matcher.try_consume_tokens(tokens)]
        self._follow(taken)
        return taken

    def _follow(self, tokens: list[int]) -> None:
        """Keep in mind whether a text is open."""
        for byte in self._vocabulary.tokens.decode_bytes(tokens):
            if self._escaped:
                self._escaped = False
            elif self._in_text and byte == ord(_ESCAPE):
                self._escaped = True
            elif byte == ord(_QUOTE):
                self._in_text = not self._in_text
