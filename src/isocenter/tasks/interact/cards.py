"""The card of `interact`: no network is loaded to read it."""

from __future__ import annotations

from isocenter.core import TaskCard, TaskEntry

__all__ = ["CARD", "ENTRY", "VOLUME_WEIGHTS"]

CARD = TaskCard(
    name="interact",
    title="Outline what is pointed at",
    modalities=(),
    body_parts=(),
    needs_volume=None,
    needs_spacing=False,
    prompts=("point", "box", "scribble", "lasso"),
    needs_prompt=True,
    intended_use=(
        "Outlines a structure that a person points at with points, boxes, scribbles or lassos, in a picture of any "
        "modality or in a volume, for measuring and for research; the person looks at the outline and corrects it."
    ),
    not_for="Finding or naming anything by itself; any use without a person who checks the outline.",
    licence="Apache-2.0",
    weights="interactive-2d",
    requires=("torch", "safetensors"),
)

VOLUME_WEIGHTS = "interactive-3d"

ENTRY = TaskEntry(CARD, "isocenter.tasks.interact.task:Interact")
