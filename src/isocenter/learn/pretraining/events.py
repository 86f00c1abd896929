"""TensorBoard event files, where the package is installed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

__all__ = ["Events"]


class Events:
    """Writes figures as TensorBoard events; nothing where it is not wanted or not installed.

    Args:
        folder: For the event files.
        wanted: Whether to write.
        step: Steps done before; events of later ones are of a run that was cut off.
    """

    def __init__(self, folder: Path, *, wanted: bool, step: int = 0) -> None:
        self._writer: Any = None
        self.note = ""
        if not wanted:
            return
        if find_spec("tensorboard") is None:
            self.note = (
                "tensorboard is not installed, so no event files are written (pip install tensorboard); steps.csv and "
                "validation.csv hold the same figures"
            )
            return
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=step + 1)

    def add(self, group: str, step: int, figures: Mapping[str, object]) -> None:
        """Write the figures of a step."""
        if self._writer is None:
            return
        for name, value in figures.items():
            if name != "step" and isinstance(value, int | float) and not math.isnan(value):
                self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Close the files."""
        if self._writer is not None:
            self._writer.close()
