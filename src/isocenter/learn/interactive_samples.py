"""Samples in play while the interactive network trains: what each shows, what is asked, what was answered so far.

A sample is pure in (seed, index) and its stage, so a checkpoint stores no sample.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from pydantic import BaseModel, ConfigDict, Field

from isocenter.learn.interactive_user import beside_prompt, first_prompt, is_ambiguous
from isocenter.models.interactive.inputs import Canvas, Picture, normalise_window
from isocenter.synth import SynthSettings, synthesise, synthesise_set
from isocenter.synth.radiograph import synthesise_radiograph
from isocenter.synth.volume import synthesise_volume, synthesise_volumes

__all__ = ["Place", "SampleSettings", "StageSettings", "draw_sample", "rng_of"]


class StageSettings(BaseModel):
    """One size of picture, and what the data engine varies meanwhile."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    pixels: int = Field(ge=16)
    batch: int = Field(ge=1)
    until: int = Field(ge=1)
    synthesis: SynthSettings = SynthSettings()


class SampleSettings(BaseModel):
    """What samples are made of.

    Attributes:
        dims: 2 for planes, 3 for volumes.
        beside: Share of planes that begin with the neighbouring slice's mask.
        radiographs: Share of planes that are projections through a volume.
        examples: Share of samples that come with examples of the same structure in other patients.
        most_examples: The most of them.
        unprompted: Share of samples with examples that begin without any prompt.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    dims: int = Field(default=2, ge=2, le=3)
    beside: float = Field(default=0.0, ge=0, le=1)
    radiographs: float = Field(default=0.0, ge=0, le=1)
    examples: float = Field(default=0.0, ge=0, le=1)
    most_examples: int = Field(default=4, ge=1)
    unprompted: float = Field(default=0.6, ge=0, le=1)


@dataclass(eq=False)
class Place:
    """A sample in play."""

    index: int
    round: int
    stage: StageSettings
    picture: Picture
    target: Bool[np.ndarray, "*space"]
    canvas: Canvas
    examples: tuple[tuple[Picture, Bool[np.ndarray, "*space"]], ...] = ()

    @property
    def ambiguous(self) -> bool:
        """Whether one click is all that is known."""
        return self.round == 0 and not self.examples and is_ambiguous(self.canvas)


def rng_of(*key: int) -> np.random.Generator:
    """Return the generator of a key."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(list(key))))


def draw_sample(seed: int, index: int, stage: StageSettings, settings: SampleSettings) -> Place:
    """Make a sample and its first prompt.

    Args:
        seed: Of the stream.
        index: Of the sample.
        stage: Size, and what is varied.
        settings: What samples are made of.
    """
    rng = rng_of(seed, 1, index)
    flat = settings.dims == 2
    roll = rng.random()
    if roll < settings.examples:
        count = 1 + int(rng.integers(1, settings.most_examples + 1))
        members = (
            synthesise_set(seed, index, count, pixels=stage.pixels, settings=stage.synthesis)
            if flat
            else synthesise_volumes(seed, index, count, voxels=stage.pixels)
        )
        shown = [
            (
                Picture.of(normalise_window(m.image[0] if flat else m.image)),
                np.asarray(m.target[0] if flat else m.target),
            )
            for m in members
        ]
        target = shown[0][1]
        canvas = Canvas.empty(*target.shape) if rng.random() < settings.unprompted else first_prompt(rng, target)
        return Place(index, 0, stage, shown[0][0], target, canvas, tuple(shown[1:]))
    if flat:
        beside = roll < settings.examples + settings.beside
        if roll >= 1 - settings.radiographs and not beside:
            sample = synthesise_radiograph(seed, index, pixels=stage.pixels, amorphous=stage.synthesis.amorphous)
        else:
            sample = synthesise(seed, index, pixels=stage.pixels, neighbour=beside, settings=stage.synthesis)
        target = sample.target[0]
        canvas = (
            first_prompt(rng, target) if sample.neighbour is None else beside_prompt(rng, target, sample.neighbour[0])
        )
        return Place(index, 0, stage, Picture.of(normalise_window(sample.image[0])), target, canvas)
    volume = synthesise_volume(seed, index, voxels=stage.pixels)
    picture = Picture.of(normalise_window(volume.image))
    return Place(index, 0, stage, picture, volume.target, first_prompt(rng, volume.target))
