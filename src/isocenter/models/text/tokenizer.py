"""A byte-pair tokenizer that is learnt from the reports at hand, and loses no character.

Every word becomes bytes, and the pairs that are most frequent in the reports are joined, one after the other; ties go
by the bytes themselves, so the same reports give the same vocabulary on every machine. A word that was never seen falls
apart into known parts, at worst into its bytes: there is no "unknown". It is our own, in plain Python, because the
embedded model must run with torch alone; its vocabulary is JSON, and nothing in it is run.

Source:
    Sennrich et al., ACL 2016 (byte-pair encoding of words).
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from jaxtyping import Bool, Int64

from isocenter.core.errors import ConfigError, WeightsError

__all__ = ["BEGIN", "END", "PAD", "BytePairs", "Tokens", "normalise_text", "train_byte_pairs"]

PAD, BEGIN, END = 0, 1, 2
"""The numbers of the three tokens that are no text."""

_BYTES = 3
"""The number of byte 0; the other bytes follow."""
_FIRST_PAIR = _BYTES + 256
# A word with the blank before it, a digit with the blank before it, anything else one by one.
_WORDS = re.compile(r" ?[^\W\d_]+| ?\d| ?[^\w\s]|_|\s")


def normalise_text(text: str) -> str:
    r"""Return text in lower case, composed (NFC), with single blanks.

    Example:
        >>> normalise_text("  No  Pleural\nEffusion. ")
        'no pleural effusion.'
    """
    return " ".join(unicodedata.normalize("NFC", text).lower().split())


@dataclass(frozen=True, eq=False)
class Tokens:
    """Texts as numbers.

    Args:
        ids: Numbers of tokens, rows filled up with the padding.
        known: Where there is a token, not padding.
    """

    ids: Int64[np.ndarray, "n length"]
    known: Bool[np.ndarray, "n length"]


@dataclass(frozen=True, eq=False)
class BytePairs:
    """The tokenizer.

    Args:
        pairs: Which two tokens make the next one, in the order in which they are joined.

    Raises:
        WeightsError: A pair joins a token that does not exist yet.

    Example:
        >>> tokens = train_byte_pairs(["no effusion", "left effusion"], size=264)
        >>> tokens.decode(tokens.pieces("Left effusion, 3 cm"))
        'left effusion, 3 cm'
    """

    pairs: tuple[tuple[int, int], ...]
    _ranks: Mapping[tuple[int, int], int] = field(init=False, repr=False)
    _bytes: tuple[bytes, ...] = field(init=False, repr=False)
    _seen: dict[str, tuple[int, ...]] = field(init=False, repr=False, default_factory=dict)

    kind = "byte-pairs"

    def __post_init__(self) -> None:
        spelt = [b""] * _BYTES + [bytes([b]) for b in range(256)]
        for number, (a, b) in enumerate(self.pairs, start=_FIRST_PAIR):
            if not (_BYTES <= a < number and _BYTES <= b < number):
                raise WeightsError(f"the vocabulary is damaged: token {number} is made of {a} and {b}")
            spelt.append(spelt[a] + spelt[b])
        object.__setattr__(self, "_bytes", tuple(spelt))
        object.__setattr__(self, "_ranks", {pair: n for n, pair in enumerate(self.pairs, start=_FIRST_PAIR)})

    @property
    def size(self) -> int:
        """How many tokens there are."""
        return len(self._bytes)

    def pieces(self, text: str) -> list[int]:
        """Return the tokens of a text, without begin and end."""
        found: list[int] = []
        for word in _WORDS.findall(normalise_text(text)):
            known = self._seen.get(word)
            if known is None:
                known = self._seen[word] = tuple(self._join([_BYTES + b for b in word.encode()]))
            found += known
        return found

    def _join(self, parts: list[int]) -> list[int]:
        while len(parts) > 1:
            rank, at = min((self._ranks.get(pair, self.size), i) for i, pair in enumerate(pairwise(parts)))
            if rank == self.size:
                break
            parts = [*parts[:at], rank, *parts[at + 2 :]]
        return parts

    def decode(self, ids: Sequence[int]) -> str:
        """Return the text of tokens; the inverse of `pieces` on normalised text."""
        return b"".join(self._bytes[i] for i in ids).decode(errors="replace")

    def encode(self, texts: Sequence[str], length: int) -> Tokens:
        """Return texts as numbers, cut to `length` with begin and end.

        Raises:
            ConfigError: There is no text, or the length leaves no room for one.
        """
        if not texts or length < 3:
            raise ConfigError(f"tokens need a text and a length of 3 or more, got {len(texts)} texts, length {length}")
        rows = [[BEGIN, *self.pieces(text)[: length - 2], END] for text in texts]
        longest = max(map(len, rows))
        ids = np.full((len(rows), longest), PAD, dtype=np.int64)
        for row, numbers in zip(ids, rows, strict=True):
            row[: len(numbers)] = numbers
        return Tokens(ids, ids != PAD)

    def as_document(self) -> dict[str, object]:
        """Return what `from_document` reads."""
        return {"kind": self.kind, "pairs": [list(pair) for pair in self.pairs]}

    @classmethod
    def from_document(cls, document: Mapping[str, object]) -> BytePairs:
        """Return the tokenizer of a document.

        Raises:
            WeightsError: It is damaged.
        """
        pairs = document.get("pairs")
        if not isinstance(pairs, list) or not all(
            isinstance(p, list) and len(p) == 2 and all(type(n) is int for n in p) for p in pairs
        ):
            raise WeightsError("the vocabulary is damaged: it needs a list of pairs of numbers")
        return cls(tuple((p[0], p[1]) for p in pairs))


def train_byte_pairs(texts: Iterable[str], *, size: int, least: int = 2) -> BytePairs:
    """Learn a tokenizer from texts.

    Args:
        texts: Reports or sentences, in any order.
        size: Tokens at most, those of the single bytes (259) among them.
        least: How often a pair must occur to be joined.

    Raises:
        ConfigError: The size leaves no room for the bytes, or there is no text.
    """
    words = Counter(word for text in texts for word in _WORDS.findall(normalise_text(text)))
    if size < _FIRST_PAIR or not words:
        raise ConfigError(f"a vocabulary needs text and {_FIRST_PAIR} tokens or more, got {len(words)} words, {size}")
    split = [([_BYTES + b for b in word.encode()], count) for word, count in sorted(words.items())]
    spelt = [b""] * _BYTES + [bytes([b]) for b in range(256)]
    pairs: list[tuple[int, int]] = []
    while _FIRST_PAIR + len(pairs) < size:
        counts: Counter[tuple[int, int]] = Counter()
        for parts, count in split:
            for pair in pairwise(parts):
                counts[pair] += count
        if not counts:
            break
        best = min(counts, key=lambda pair: (-counts[pair], spelt[pair[0]], spelt[pair[1]]))
        if counts[best] < least:
            break
        number = len(spelt)
        spelt.append(spelt[best[0]] + spelt[best[1]])
        pairs.append(best)
        split = [(_replaced(parts, best, number), count) for parts, count in split]
    return BytePairs(tuple(pairs))


def _replaced(parts: list[int], pair: tuple[int, int], number: int) -> list[int]:
    out: list[int] = []
    at = 0
    while at < len(parts):
        if at + 1 < len(parts) and (parts[at], parts[at + 1]) == pair:
            out.append(number)
            at += 2
        else:
            out.append(parts[at])
            at += 1
    return out
