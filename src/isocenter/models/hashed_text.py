"""Reports as vectors without a trained model: words and pairs of words counted in hashed places.

Nothing is learnt and nothing is stored: the same text gives the same vector anywhere. Digits are dropped to their
number (12.5 is "00.0"), so that dates and identifiers tell nobody apart; a size in the text is then not told either.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError

__all__ = ["LENGTH", "hashed_text"]

LENGTH = 1024
"""Places of a vector."""
_WORD = re.compile(r"\w+")
_DIGIT = re.compile(r"\d")


def hashed_text(texts: Sequence[str], length: int = LENGTH) -> Float[np.ndarray, "n k"]:
    """Return a vector of length 1 for each text; a row of NaN for an empty one.

    Args:
        texts: Of any language that is written in words.
        length: Places of a vector.

    Raises:
        ConfigError: No place.

    Source:
        Weinberger et al., ICML 2009 (feature hashing with signs).

    Example:
        >>> one, same, other = hashed_text(["Mass in the left lung.", "mass in the LEFT lung", "No effusion."])
        >>> float(one @ same).__round__(6), bool(one @ other < 0.5)
        (1.0, True)
    """
    if length < 1:
        raise ConfigError(f"a vector needs a place, got {length}")
    found = np.full((len(texts), length), np.nan)
    for row, text in enumerate(texts):
        words = _WORD.findall(_DIGIT.sub("0", text.casefold()))
        if not words:
            continue
        counts = Counter([*words, *(f"{a} {b}" for a, b in pairwise(words))])
        vector = np.zeros(length)
        for gram, count in counts.items():
            number = int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "big")
            # The sign makes grams that share a place cancel on average.
            vector[number % length] += (1.0 if number >> 63 else -1.0) * np.log1p(count)
        size = float(np.linalg.norm(vector))
        found[row] = vector / size if size else vector
    return found
