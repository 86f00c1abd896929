"""The data engine: random anatomy in random contrast, each sample a pure function of (seed, index)."""

from __future__ import annotations

from isocenter.synth.anatomy import SynthSettings
from isocenter.synth.sample import Sample, synthesise
from isocenter.synth.sets import synthesise_set
from isocenter.synth.volume import VolumeSample, VolumeSettings, synthesise_volume, synthesise_volumes

__all__ = [
    "Sample",
    "SynthSettings",
    "VolumeSample",
    "VolumeSettings",
    "synthesise",
    "synthesise_set",
    "synthesise_volume",
    "synthesise_volumes",
]
