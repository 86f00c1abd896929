"""How to adapt to a labelled set; no torch is needed to read it, so that a verb can be configured without."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["DataSettings", "GateBlock", "SetsChoice"]

GateBlock = Literal["embedding", "energy", "layout", "values", "texture"]
"""Numbers of an image that a gate looks at: the first two are what the network sees."""

SetsChoice = Literal["auto", "lac", "class", "aps", "raps"]
"""How a set of classes is made; "auto": LAC, within each class where each has 20 held-out cases."""


class DataSettings(BaseModel):
    """How to adapt to a labelled set; what is None is settled from the set and this machine, and recorded.

    Attributes:
        seed: Of everything random.
        minutes: What all of it may take; decides `steps` where that is not given.
        folds: Networks: folds of the cross-validation, or repeats where the set has its own test part.
        steps: Of each network.
        learning_rate: Peak.
        batch: Images or windows of a step.
        widths: Of the network's levels, finest first.
        side: Longest side of the image that a network sees which answers for the whole of it; of masks, that planes
            without spacing are brought to (photographs of cameras that differ in pixels).
        region: Organ whose box alone is looked at ("lungs": upright frontal chest X-rays), of answers about whole
            pictures.
        pool: What of a network's coarsest map such an answer is made from: "mean", "mean-max", or the means of a "grid"
            of 4 by 4 cells, which keeps where something is; "auto" decides by batch and backbone.
        method: "full" changes all weights; "probe" the head alone; "lora" and "dora" add low-rank changes; "linear"
            finds the head alone, exactly and without a step (of answers about whole images; without weights to begin
            with, over plain numbers of the image's cells: for some hundred images that lie alike in their frames).
        rank: Of LoRA and DoRA.
        labelled: Most cases that a network learns from.
        mirror: Whether images are mirrored along the patient's left-right axis; "auto": unless a class names a side.
        most_unreadable: Largest share of cases that may be left out because they can't be read.
        gate_copies: Changed copies of each image that the gate counts as of its kind (turned, zoomed, of other contrast
            and grain, as networks learn them): for a set of one device, whose limit would else refuse all others.
        gate_blocks: Which numbers of an image the gate looks at; None for all. "values" tells devices apart best.
        precision: "auto" takes bfloat16 where it is quicker here.
        threads: Of torch.
        device: Where networks learn: "auto" takes a GPU where there is one. Held-out cases are answered there too; a
            training may go on elsewhere.
        memory_gb: Of images and labels that are kept in memory; those beyond lie on disk beside the checkpoints while
            it learns. None for half of what is free. Nothing that is learnt depends on it.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    seed: int = Field(default=0, ge=0)
    minutes: float = Field(default=30.0, gt=0)
    folds: int = Field(default=5, ge=1)
    steps: int | None = Field(default=None, ge=1)
    learning_rate: float | None = Field(default=None, gt=0)
    batch: int | None = Field(default=None, ge=1)
    widths: tuple[int, ...] | None = None
    side: int | None = Field(default=None, ge=8)
    region: Literal["lungs"] | None = None
    pool: Literal["auto", "mean", "mean-max", "grid"] = "auto"
    method: Literal["full", "probe", "lora", "dora", "linear"] = "full"
    rank: int = Field(default=8, ge=1)
    labelled: int | None = Field(default=None, ge=1)
    mirror: Literal["auto", "on", "off"] = "auto"
    most_unreadable: float = Field(default=0.05, ge=0, lt=1)
    gate_copies: int = Field(default=0, ge=0, le=16)
    gate_blocks: tuple[GateBlock, ...] | None = Field(default=None, min_length=1)
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    threads: int = Field(default=1, ge=1)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    memory_gb: float | None = Field(default=None, ge=0)
