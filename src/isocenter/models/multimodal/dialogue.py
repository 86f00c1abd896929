"""Questions with images, and answers, as rows of tokens: what a training learns from and what an answer begins with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from isocenter.core.errors import ConfigError
from isocenter.models.multimodal.words import Words

__all__ = ["Laid", "lay_out", "spread"]


@dataclass(frozen=True, eq=False)
class Laid:
    """Dialogues as tokens, filled up at the end.

    Args:
        ids: Tokens; that of images as often as an image has tokens.
        known: Where there is a token.
        answer: Where a token is of the answer.
    """

    ids: Int64[np.ndarray, "n length"]
    known: Bool[np.ndarray, "n length"]
    answer: Bool[np.ndarray, "n length"]


def spread(ids: Sequence[int], image: int, tokens: int) -> list[int]:
    """Return tokens with that of images as often as an image has tokens.

    Example:
        >>> spread([1, 9, 4], 9, 3)
        [1, 9, 9, 9, 4]
    """
    return [i for one in ids for i in ([one] * tokens if one == image else [one])]


def lay_out(
    words: Words,
    questions: Sequence[tuple[str, int]],
    answers: Sequence[str],
    *,
    tokens: int,
    length: int,
) -> Laid:
    """Return questions with their answers as rows of tokens.

    Args:
        words: Turn text into tokens.
        questions: Each with its number of images.
        answers: One for each; an empty one leaves the row open for an answer.
        tokens: How many an image becomes.
        length: Tokens of a row at most.

    Raises:
        ConfigError: A row is longer; the message says which, and by how much.
    """
    rows, firsts = [], []
    for number, ((text, images), answer) in enumerate(zip(questions, answers, strict=True)):
        asked = spread(words.question(text, images), words.image, tokens)
        row = [*asked, *(words.answer(answer) if answer else ())]
        if len(row) > length:
            raise ConfigError(
                f"question {number} with its {images} image(s) and answer has {len(row)} tokens, and the model reads "
                f"{length}: shorten it, or give the language model a greater length"
            )
        rows.append(row)
        firsts.append(len(asked))
    longest = max(map(len, rows))
    ids = np.zeros((len(rows), longest), dtype=np.int64)
    known, answered = np.zeros(ids.shape, dtype=bool), np.zeros(ids.shape, dtype=bool)
    for at, (row, first) in enumerate(zip(rows, firsts, strict=True)):
        ids[at, : len(row)] = row
        known[at, : len(row)] = True
        answered[at, first : len(row)] = True
    return Laid(ids, known, answered)
