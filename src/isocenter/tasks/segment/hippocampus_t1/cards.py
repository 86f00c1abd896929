"""The card of `hippocampus-t1`: no network is loaded to read it."""

from __future__ import annotations

from isocenter.core import TaskCard, TaskEntry

__all__ = ["CARD", "ENTRY"]

CARD = TaskCard(
    name="hippocampus-t1",
    title="Anterior and posterior hippocampus in T1-weighted MR",
    modalities=("MR",),
    body_parts=("BRAIN", "HEAD", "SKULL", "HIPPOCAMPUS"),
    needs_volume=True,
    needs_spacing=True,
    prompts=("point", "box"),
    needs_prompt=False,
    intended_use=(
        "Outlines the anterior and the posterior part of one hippocampus in T1-weighted MR of an adult: in a crop "
        "around it, or at points or boxes given in patient millimetres within a larger volume, one hippocampus for "
        "each label. For research."
    ),
    not_for="Diagnosis on its own; other contrasts than T1; children; brains with surgery or a mass at this place.",
    licence="CC-BY-SA-4.0",
    weights="hippocampus-t1",
    requires=("torch", "safetensors"),
)

ENTRY = TaskEntry(CARD, "isocenter.tasks.segment.hippocampus_t1.task:HippocampusT1")
