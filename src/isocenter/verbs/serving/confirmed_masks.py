"""What agreement, orders and exports ask of the masks that people confirmed."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from isocenter.core import Mask
from isocenter.viewer.ports import MaskItem

__all__ = ["ConfirmedMasks"]


@runtime_checkable
class ConfirmedMasks(Protocol):
    """The masks that people confirmed, every version of them."""

    def items(self) -> tuple[MaskItem, ...]:
        """List them, oldest first."""
        ...

    def mask(self, mask: str) -> Mask:
        """Return one, with one segment."""
        ...
