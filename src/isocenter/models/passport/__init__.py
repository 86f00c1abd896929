"""The weight passport: weights that users bring come in through one door, without pickle and without remote code.

`open_weights` takes a name or a path, says what it found (`Passport`) and returns the network, once hashes, shapes and
numbers are right. Four forms are known: Isocenter's own, Hugging Face folders, MONAI bundles, and nnU-Net v2 folders.
This page imports no torch; `open_weights` does, when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from isocenter.models.passport.document import Expectation, Passport, Scaling, WeightFile, render_passport

if TYPE_CHECKING:
    from isocenter.models.passport.door import Opened, describe, open_weights

__all__ = [
    "Expectation",
    "Opened",
    "Passport",
    "Scaling",
    "WeightFile",
    "describe",
    "open_weights",
    "render_passport",
]


def __getattr__(name: str) -> Any:
    if name not in ("Opened", "describe", "open_weights"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from isocenter.models.passport import door

    return getattr(door, name)
