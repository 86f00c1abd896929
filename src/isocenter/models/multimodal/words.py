"""Words of a multimodal model: how a question with its images, and an answer, become tokens.

Ours are the byte pairs of the embedded tokenizer with two tokens more; those of a folder are its own, in the form of
words that its family learnt with.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.text.folder import tokenizer_of
from isocenter.models.text.tokenizer import BEGIN, END, BytePairs

__all__ = ["FORMS", "EmbeddedWords", "FolderWords", "Form", "Words", "read_words", "words_document"]

_FORMAT = "isocenter-multimodal-words/1"
_TOLD = 80


@runtime_checkable
class Words(Protocol):
    """The face of both."""

    @property
    def image(self) -> int:
        """The token in whose place the tokens of an image stand."""
        ...

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        ...

    @property
    def size(self) -> int:
        """How many tokens the language model must know; that of images may lie beyond."""
        ...

    def question(self, text: str, images: int) -> list[int]:
        """Return the tokens of a question: each image as one token, up to where the answer begins."""
        ...

    def answer(self, text: str) -> list[int]:
        """Return the tokens of an answer, with the one that ends it."""
        ...

    def decode(self, ids: list[int]) -> str:
        """Return the text of an answer's tokens."""
        ...

    def as_document(self) -> dict[str, object]:
        """Return what is needed to make it again, JSON-ready."""
        ...


@dataclass(frozen=True, eq=False)
class EmbeddedWords:
    """The embedded tokenizer, with a token for images and one between question and answer.

    Args:
        pairs: The tokenizer.

    Example:
        >>> words = EmbeddedWords(BytePairs(()))
        >>> words.question("a?", 2) == [1, words.image, words.image, *words.pairs.pieces("a?"), words.image + 1]
        True
    """

    pairs: BytePairs

    @property
    def image(self) -> int:
        """The token of images: the first after those of the tokenizer."""
        return self.pairs.size

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return frozenset({END})

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return self.pairs.size + 2

    def question(self, text: str, images: int) -> list[int]:
        """Return the tokens of a question."""
        return [BEGIN, *[self.image] * images, *self.pairs.pieces(text), self.image + 1]

    def answer(self, text: str) -> list[int]:
        """Return the tokens of an answer, with the one that ends it."""
        return [*self.pairs.pieces(text), END]

    def decode(self, ids: list[int]) -> str:
        """Return the text of an answer's tokens."""
        return self.pairs.decode([i for i in ids if 2 < i < self.pairs.size])

    def as_document(self) -> dict[str, object]:
        """Return what `read_words` reads."""
        return {"kind": "embedded", "pairs": self.pairs.as_document()}


@dataclass(frozen=True)
class Form:
    """How a family of models writes a dialogue.

    Args:
        before: What stands before the images.
        image: What stands for one image; "{}" is its place.
        question: What stands around the question, "{}".
        answer: What stands around the answer, "{}".
        end: Token that ends an answer.
        begin: Token that begins the text; "" where there is none.
    """

    before: str
    image: str
    question: str
    answer: str
    end: str
    begin: str = ""


FORMS = MappingProxyType(
    {
        "plain": Form("", "{}\n", "Question: {}\nAnswer:", " {}", ""),
        "llava": Form("USER: ", "{}\n", "{} ASSISTANT:", " {}", ""),
        "gemma3": Form(
            "<start_of_turn>user\n", "\n\n<start_of_image>{}<end_of_image>\n\n",
            "{}<end_of_turn>\n<start_of_turn>model\n", "{}", "<end_of_turn>",
        ),
    }
)  # fmt: skip
"""By name: a causal model that learnt no images, LLaVA 1.5, Gemma 3."""


@dataclass(frozen=True, eq=False)
class FolderWords:
    """The tokenizer of a folder.

    Args:
        text: Content of a `tokenizer.json`.
        form: One of `FORMS`.
        image: The token of images; it may lie beyond the vocabulary.
        begin: The token that begins a text; None for none.
        end: The token that ends an answer.

    Raises:
        WeightsError: The text is no tokenizer.
        ConfigError: There is no such form.
        CapabilityError: The package tokenizers is not installed.
    """

    text: str
    form: str
    image: int
    begin: int | None
    end: int
    _own: Any = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise ConfigError(f"no form of dialogue {self.form!r}; there are {', '.join(FORMS)}")
        object.__setattr__(self, "_own", tokenizer_of(self.text))

    @property
    def ends(self) -> frozenset[int]:
        """The tokens that end an answer."""
        return frozenset({self.end})

    @property
    def size(self) -> int:
        """How many tokens the tokenizer knows."""
        return int(self._own.get_vocab_size())

    def _ids(self, text: str) -> list[int]:
        return list(self._own.encode(text, add_special_tokens=False).ids) if text else []

    def question(self, text: str, images: int) -> list[int]:
        """Return the tokens of a question; the form's own marks are taken out of what was asked."""
        form = FORMS[self.form]
        before, after = form.image.split("{}")
        found = [] if self.begin is None else [self.begin]
        found += self._ids(form.before)
        for _ in range(images):
            found += [*self._ids(before), self.image, *self._ids(after)]
        return [*found, *self._ids(form.question.format(self._plain(text)))]

    def _plain(self, text: str) -> str:
        """Return a text without what the tokenizer takes for a mark, whether it is called special there or not.

        Folders leave marks of an image or of a turn unspecial. Line breaks and runs of blanks, which some tokenizers
        add as tokens too, are text.
        """
        added = (token.content for token in self._own.get_added_tokens_decoder().values())
        marks = sorted((mark for mark in added if mark.strip()), key=len, reverse=True)
        before = None
        while before != text:  # what is taken out may have parted another mark
            before = text
            for mark in marks:
                text = text.replace(mark, " ")
        return text

    def answer(self, text: str) -> list[int]:
        """Return the tokens of an answer, with the one that ends it."""
        return [*self._ids(FORMS[self.form].answer.format(self._plain(text))), self.end]

    def decode(self, ids: list[int]) -> str:
        """Return the text of an answer's tokens."""
        known = self.size
        return str(self._own.decode([i for i in ids if i < known and i != self.end])).strip()

    def as_document(self) -> dict[str, object]:
        """Return what `read_words` reads."""
        return {
            "kind": "folder", "tokenizer": self.text, "form": self.form, "image": self.image, "begin": self.begin,
            "end": self.end,
        }  # fmt: skip


def words_document(words: Words) -> bytes:
    """Return words as the bytes of a JSON file: the same words, the same bytes."""
    document = {"format": _FORMAT, **words.as_document()}
    return (json.dumps(document, ensure_ascii=False, sort_keys=True) + "\n").encode()


def read_words(data: bytes) -> Words:
    """Return the words of a JSON file.

    Raises:
        WeightsError: They are damaged, or of an unknown kind.
        CapabilityError: A package is not installed.
    """
    try:
        document = json.loads(data)
        if document["format"] == _FORMAT and document["kind"] == "embedded":
            return EmbeddedWords(BytePairs.from_document(document["pairs"]))
        if document["format"] == _FORMAT and document["kind"] == "folder":
            return _folder_words(document)
        kind = str(document["kind"])
    except (ValueError, KeyError, TypeError) as error:
        raise WeightsError("the vocabulary is damaged: get all files of the model again") from error
    raise WeightsError(f"the vocabulary is of kind {kind[:_TOLD]!r}, which is not known here")


def _folder_words(document: Mapping[str, Any]) -> FolderWords:
    try:
        begin = document["begin"]
        return FolderWords(
            str(document["tokenizer"]), str(document["form"]), int(document["image"]),
            None if begin is None else int(begin), int(document["end"]),
        )  # fmt: skip
    except ConfigError as error:
        raise WeightsError(f"the vocabulary is damaged: {error}") from error
