"""What goes wrong between the scanner and the reader: grey values, compression, letters burnt in."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float
from scipy import fft, ndimage

from isocenter.evaluate.corruption.kind import Corruption, Scene, Volume

__all__ = ["PICTURE"]

_PICTURES = ("CR", "DX", "MG", "RF", "XA", "RG", "US", "OP", "XC", "ES", "GM", "SM", "OT")
_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61], [12, 12, 14, 19, 26, 58, 60, 55], [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62], [18, 22, 37, 56, 68, 109, 103, 77], [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101], [72, 92, 95, 98, 112, 100, 103, 99],
    ]
)  # fmt: skip
"""Quantisation of brightness, ITU-T T.81 annex K.1."""
_FONT = {
    "A": "01110100011000111111100011000110001",
    "L": "10000100001000010000100001000011111",
    "P": "11110100011000111110100001000010000",
    "R": "11110100011000111110101001001010001",
    "S": "01111100001000001110000010000111110",
}
_WORDS = ("R", "L", "AP", "PA", "RL")
_CORNERS = ((0.04, 0.04), (0.04, 0.74), (0.78, 0.04), (0.78, 0.74), (0.42, 0.02))
"""Of each marker's upper left, as shares of the sides."""


def _gamma(volume: Volume, scene: Scene) -> Volume:
    """Another curve between the same black and white; brighter or darker by the seed."""
    power = scene.of((1.15, 1.4, 1.8, 2.4, 3.2)) ** scene.rng.choice((-1, 1))
    inside = (volume > scene.low) & (volume < scene.high)
    share = np.clip((volume - scene.low) / scene.span, 0, 1)
    return np.where(inside, scene.low + scene.span * share**power, volume)


def _blur(volume: Volume, scene: Scene) -> Volume:
    """Out of focus, in the plane; wider in a bigger picture."""
    sigma = scene.of((0.5, 0.8, 1.2, 1.8, 2.6)) * max(1.0, min(volume.shape[1:]) / 160)
    filled = np.nan_to_num(volume, nan=scene.low)
    return np.where(np.isfinite(volume), ndimage.gaussian_filter(filled, (0, sigma, sigma)), volume)


def _jpeg(volume: Volume, scene: Scene) -> Volume:
    """Baseline JPEG of 8 bits at quality 50 to 4: blocks of 8 by 8, each frequency rounded to its step."""
    quality = scene.of((50, 30, 16, 8, 4))
    steps = np.clip((_LUMINANCE * int(5000 / quality) + 50) // 100, 1, 255).astype(np.float64)  # as libjpeg does
    return np.stack([_compressed(plane, steps, scene) for plane in np.nan_to_num(volume, nan=scene.low)])


def _compressed(
    plane: Float[np.ndarray, "y x"], steps: Float[np.ndarray, "8 8"], scene: Scene
) -> Float[np.ndarray, "y x"]:
    y, x = plane.shape
    grey = np.rint(np.clip((plane - scene.low) / scene.span, 0, 1) * 255) - 128
    padded = np.pad(grey, ((0, -y % 8), (0, -x % 8)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 8, 8, padded.shape[1] // 8, 8).transpose(0, 2, 1, 3)
    rounded = np.rint(fft.dctn(blocks, axes=(2, 3), norm="ortho") / steps) * steps
    back = fft.idctn(rounded, axes=(2, 3), norm="ortho").transpose(0, 2, 1, 3).reshape(padded.shape)[:y, :x]
    made: Float[np.ndarray, "y x"] = scene.low + np.clip(np.rint(back) + 128, 0, 255) / 255 * scene.span
    return made


def _letters(word: str, height: int) -> Bool[np.ndarray, "y x"]:
    """Return a word in capitals of a height in pixels."""
    drawn = [np.array(list(_FONT[letter]), dtype=int).reshape(7, 5) for letter in word]
    small = np.hstack([np.pad(one, ((0, 0), (0, 1))) for one in drawn])
    rows = np.arange(height) * 7 // height
    columns = np.arange(max(1, round(small.shape[1] * height / 7))) * 7 // height
    return small[rows][:, np.minimum(columns, small.shape[1] - 1)] > 0


def _marker(volume: Volume, scene: Scene) -> Volume:
    """Letters burnt in at the edges, white, one more and bigger with each grade."""
    made = volume.copy()
    height = max(5, round(scene.of((0.06, 0.08, 0.1, 0.13, 0.16)) * min(volume.shape[1:])))
    order, words = scene.rng.permutation(len(_CORNERS)), scene.rng.permutation(len(_WORDS))
    for at, word in list(zip(order, words, strict=True))[: scene.grade]:
        top, left = (int(share * n) for share, n in zip(_CORNERS[at], volume.shape[1:], strict=True))
        drawn = _letters(_WORDS[word], height)
        drawn = drawn[: volume.shape[1] - top, : volume.shape[2] - left]
        window = made[:, top : top + drawn.shape[0], left : left + drawn.shape[1]]
        window[:, drawn] = scene.high
    return made


def _inverted(volume: Volume, scene: Scene) -> Volume:
    """Black for white, as where the photometric interpretation was lost."""
    return scene.low + scene.high - volume


PICTURE = (
    Corruption("gamma", "grey values by a power of 1.15 to 3.2, or its inverse", (), _gamma),
    Corruption("blur", "out of focus by 0.5 to 2.6 pixels of a picture of 160", (), _blur),
    Corruption("jpeg", "JPEG at quality 50 to 4", _PICTURES, _jpeg),
    Corruption("marker-text", "1 to 5 burnt-in words, 6 to 16 % high", _PICTURES, _marker),
    Corruption("inversion", "black for white; has one grade", (), _inverted, grades=(5,)),
)
"""All that happens to pictures."""
