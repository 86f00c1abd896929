"""Noise as each kind of scanner makes it."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from scipy import ndimage

from isocenter.evaluate.corruption.kind import Corruption, Scene, Volume

__all__ = ["NOISE"]

_X_RAY = ("CR", "DX", "MG", "RF", "XA", "RG")


def _normal(volume: Volume, scene: Scene) -> Float[np.ndarray, "z y x"]:
    return scene.rng.standard_normal(volume.shape)


def _textured(volume: Volume, scene: Scene, inner: float, outer: float) -> Float[np.ndarray, "z y x"]:
    """Return noise of deviation 1 with the grain of a reconstruction: neighbours in a slice are alike."""
    field = _normal(volume, scene)
    grain = ndimage.gaussian_filter(field, (0, inner, inner)) - ndimage.gaussian_filter(field, (0, outer, outer))
    made: Float[np.ndarray, "z y x"] = grain / max(float(grain.std()), 1e-12)
    return made


def _rician(volume: Volume, scene: Scene) -> Volume:
    """Magnitude of a signal with normal noise in its two channels (Gudbjartsson and Patz, MRM 1995)."""
    sigma = scene.span * scene.of((0.02, 0.05, 0.09, 0.14, 0.2))
    floor = min(0.0, float(np.nanmin(volume)))
    real, imaginary = _normal(volume, scene), _normal(volume, scene)
    return np.hypot(volume - floor + sigma * real, sigma * imaginary) + floor


def _photon(volume: Volume, scene: Scene) -> Volume:
    """Few photons: the noise of a logarithm grows where the picture is bright, that is, dense."""
    dense = np.clip((volume - scene.low) / scene.span, 0, 1)
    sigma = scene.span * scene.of((0.008, 0.018, 0.035, 0.06, 0.1))
    made: Volume = volume + sigma * np.exp(1.2 * dense) * _normal(volume, scene)
    return made


def _low_dose(volume: Volume, scene: Scene) -> Volume:
    """Grain of a CT with less dose, added to the reconstruction: not a simulation of its raw data."""
    steps = (12.0, 25.0, 45.0, 75.0, 120.0)
    sigma = scene.of(steps) if scene.hounsfield else scene.span * scene.of(steps) / 1000
    made: Volume = volume + sigma * _textured(volume, scene, 0.6, 3.0)
    return made


def _low_count(volume: Volume, scene: Scene) -> Volume:
    """Fewer counts: a variance that grows with uptake, smoothed as a reconstruction does."""
    scale = scene.span * scene.of((0.004, 0.012, 0.03, 0.07, 0.15))
    made: Volume = volume + np.sqrt(np.clip(volume, 0, None) * scale) * _textured(volume, scene, 0.8, 6.0)
    return made


def _speckle(volume: Volume, scene: Scene) -> Volume:
    """Noise that multiplies, with the grain of a beam."""
    made: Volume = volume + (volume - min(0.0, scene.low)) * scene.of((0.08, 0.16, 0.28, 0.42, 0.6)) * _textured(
        volume, scene, 0.7, 8.0
    )
    return made


NOISE = (
    Corruption("rician-noise", "Rician noise, deviation 2 to 20 % of the range", ("MR",), _rician),
    Corruption("photon-noise", "few photons, deviation 0.8 to 10 % of the range where it is dark", _X_RAY, _photon),
    Corruption("low-dose", "grain of 12 to 120 HU", ("CT",), _low_dose),
    Corruption("low-count", "fewer counts", ("PT", "NM"), _low_count),
    Corruption("speckle", "speckle, 8 to 60 % of the value", ("US",), _speckle),
)
"""All kinds of noise."""
