"""Maps drawn on images: warm at the right place of the patient, whatever the order and direction of axes."""

from __future__ import annotations

import io
import itertools

import numpy as np
import pytest
from PIL import Image as Picture

from isocenter.core import Code, EvidenceMap, Geometry, Image
from isocenter.core.errors import GeometryError
from isocenter.verbs.report import heat_png

CODE = Code("x", "99TEST", "mass")
AXIAL = Geometry.axial((12, 40, 40), spacing_mm=(2.5, 1.0, 1.0), origin_mm=(0, 0, 0))
AT = (9, 8, 33)
"""Towards the head, in front, on the patient's left."""


def volume() -> tuple[Image, EvidenceMap]:
    gap = sum((a - c) ** 2 / s for a, c, s in zip(np.indices(AXIAL.shape), AT, (2, 12, 12), strict=True))
    heat = np.exp(-gap).astype(np.float32)
    image = np.random.default_rng(0).normal(100, 10, (1, *AXIAL.shape)).astype(np.float32)
    return Image(image, AXIAL), EvidenceMap(CODE, heat, AXIAL, "by hand")


def turned(image: Image, found: EvidenceMap, order, flips) -> tuple[Image, EvidenceMap]:
    geometry = image.geometry.reoriented(order, flips)
    cut = tuple(slice(None, None, -1 if f else 1) for f in flips)
    array = np.ascontiguousarray(np.transpose(image.array[0], order)[cut])[None]
    heat = np.ascontiguousarray(np.transpose(found.array, order)[cut])
    return Image(array, geometry), EvidenceMap(CODE, heat, geometry, "by hand")


def drawn(content: bytes) -> np.ndarray:
    return np.asarray(Picture.open(io.BytesIO(content)).convert("RGB")).astype(int)


def warmth(pixels: np.ndarray) -> tuple[float, float]:
    """Where a panel is warm, as shares of its height and width; the scale at the bottom is left out."""
    warm = np.argwhere((pixels[..., 0] - pixels[..., 2] > 60)[: int(0.85 * len(pixels))])
    row, column = warm.mean(0) / pixels.shape[:2]
    return float(row), float(column)


def test_three_planes_are_warm_where_the_patient_is() -> None:
    pixels = drawn(heat_png(*volume(), size=200))
    width = (pixels.shape[1] - 12) // 3
    axial, coronal, sagittal = (pixels[:, i * (width + 6) : i * (width + 6) + width] for i in range(3))
    row, column = warmth(axial)
    assert row < 0.35 and column > 0.7, "in front is at the top, the patient's left on the right"
    row, column = warmth(coronal[:150])
    assert row < 0.4 and column > 0.7, "the head is at the top"
    row, column = warmth(sagittal[:150])
    assert row < 0.4 and column < 0.35, "in front is on the left"


@pytest.mark.parametrize("number", range(0, 48, 5))
def test_the_picture_is_of_the_patient_not_of_the_file(number: int) -> None:
    order = list(itertools.permutations(range(3)))[number % 6]
    flips = list(itertools.product((False, True), repeat=3))[number // 6]
    one, other = volume(), turned(*volume(), order, flips)
    assert np.abs(drawn(heat_png(*one, size=160)) - drawn(heat_png(*other, size=160))).max() <= 1


def test_a_plane_bears_its_letters_or_says_that_they_are_not_known() -> None:
    heat = np.zeros((1, 50, 60), np.float32)
    heat[0, 10, 50] = 1
    pictures = []
    for letters in (("L", "F"), ("R", "F"), ("", "")):
        geometry = Geometry((1, 50, 60), patient_orientation=letters)
        image = Image(np.full((1, 1, 50, 60), 90, np.uint8), geometry)
        pictures.append(drawn(heat_png(image, EvidenceMap(CODE, heat, geometry, "by hand"), size=240)))
    assert not np.array_equal(pictures[0][:, :30], pictures[1][:, :30]), "the letters differ"
    assert not np.array_equal(pictures[0], pictures[2])


def test_another_grid_is_refused() -> None:
    image, found = volume()
    with pytest.raises(GeometryError, match="another grid"):
        heat_png(Image(image.array[:, :6], image.geometry.cropped((0, 0, 0), (6, 40, 40))), found)
