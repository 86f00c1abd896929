"""The card of `lungs-cxr`: no network is loaded to read it."""

from __future__ import annotations

from isocenter.core import TaskCard, TaskEntry

__all__ = ["CARD", "ENTRY"]

CARD = TaskCard(
    name="lungs-cxr",
    title="Lungs in a frontal chest X-ray",
    modalities=("CR", "DX", "RG"),
    body_parts=("CHEST", "THORAX", "LUNG", "LUNGS"),
    needs_volume=False,
    needs_spacing=False,
    prompts=(),
    needs_prompt=False,
    intended_use=(
        "Outlines both lung fields, the part behind the heart included, in an upright frontal chest X-ray (PA or AP) "
        "of an adult, for measuring and for research."
    ),
    not_for="Diagnosis on its own; lateral views; children; images whose lungs are cut off or absent.",
    licence="CC-BY-4.0",
    weights="lungs-cxr",
    requires=("torch", "safetensors"),
)

ENTRY = TaskEntry(CARD, "isocenter.tasks.segment.lungs_cxr.task:LungsCxr")
