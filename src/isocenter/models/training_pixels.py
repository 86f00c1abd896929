"""What built-in weights learnt from, so that figures on those very images are not taken for figures on new ones.

Beside a card may lie ``NAME.learnt-from.txt``: for each image behind the weights the first 16 hexadecimal digits of
its `core.fingerprint.values_fingerprint`, one a line, written by ``python -m benchmarks.training_pixels`` from the sets
that the card names. With 64 bits, the chance that even one of a million new images is taken for one of a thousand
learnt ones is below 1 in 10,000.
"""

from __future__ import annotations

from isocenter.models.weights import built_in_folder

__all__ = ["DIGITS", "training_pixels"]

DIGITS = 16
"""Of each hash that are kept."""


def training_pixels(name: str) -> frozenset[str] | None:
    """Return the shortened hashes of the images that built-in weights learnt from; None where no list lies beside them.

    Example:
        >>> training_pixels("no-such-weights") is None
        True
    """
    file = built_in_folder() / f"{name}.learnt-from.txt"
    if not file.is_file():
        return None
    return frozenset(line for line in file.read_text("ascii").splitlines() if line and not line.startswith("#"))
