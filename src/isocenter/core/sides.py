"""Which names say a side of the body."""

from __future__ import annotations

import re

__all__ = ["names_a_side"]

_SIDES = re.compile(
    r"\b(left\w*|right\w*|l|r|lt|rt|r[uml]l|l[ul]l|[lr]v|o[ds]|sinist\w*|dext\w*|destr\w*|link\w*|recht\w*|gauche|droite?|izq\w*|derech\w*|esquerd\w*|"
    r"direit\w*)\b",
    re.IGNORECASE,
)


def names_a_side(label: str) -> bool:
    """Tell whether a structure's name says which side it is on.

    Example:
        >>> [names_a_side(name) for name in ("Left kidney", "kidney_right", "LKidney", "RUL", "Lungs", "Lesion")]
        [True, True, True, True, False, False]
    """
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=\b[LR])(?=[A-Z][a-z])", " ", re.sub(r"[^\w]|[\d_]", " ", label))
    return _SIDES.search(words) is not None
