"""Isocenter's own interactive model behind the harness's door (`isocenter.evaluate.interactive.Segmenter`)."""

from __future__ import annotations

import numpy as np

from isocenter.core import Geometry, Prompt
from isocenter.evaluate.interactive_user import Act
from isocenter.tasks.interact.engine import Engine, OpenImage, Outline
from isocenter.tasks.interact.placing import Placed, place


class Ours:
    """The engine of the task `interact`, one act at a time.

    Args:
        engine: Its models.
        name: For tables.
    """

    def __init__(self, engine: Engine, name: str = "Isocenter") -> None:
        self.engine, self.name = engine, name

    def begin(self, image: np.ndarray, spacing_mm: tuple[float, float, float] | None) -> Work:
        """Take an image."""
        shape = (image.shape[0], image.shape[1], image.shape[2])
        geometry = Geometry(shape) if spacing_mm is None else Geometry.axial(shape, spacing_mm=spacing_mm)
        return Work(self.engine.open(image.astype(np.float32), geometry))


class Work:
    """One image, and what was said about it so far."""

    def __init__(self, opened: OpenImage) -> None:
        self.opened = opened
        self.prompts: list[Prompt] = []
        self.outline: Outline | None = None

    def act(self, act: Act) -> np.ndarray:
        """Answer; a prompt that contradicts an earlier one on the same voxel is left out, as a person is told to."""
        prompts = [*self.prompts, Prompt(act.kind, act.index_zyx, act.positive, "index_zyx")]
        placed = place(prompts, self.opened.geometry, begun=self.outline is not None)
        if isinstance(placed, Placed):
            self.prompts = prompts
            self.outline = self.opened.step(placed, len(prompts), self.outline)
        if self.outline is None:
            return np.zeros(self.opened.volume.shape, dtype=np.float32)
        return self.outline.probability
