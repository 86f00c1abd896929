"""Where in the patient a voxel lies, in words: whatever the order and direction of axes, and silent where unknown."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from isocenter.core import Geometry
from isocenter.core.place import place_in_words

AXIAL = Geometry.axial((30, 60, 90), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10, 20, 30))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("flips", list(itertools.product((False, True), repeat=3)))
def test_the_words_are_the_patients(order, flips) -> None:
    """Axial: z to the head, y to the back, x to the left."""
    geometry = AXIAL.reoriented(order, flips)
    for index, words in (
        ((28, 5, 80), "patient's left, anterior third, upper third"),
        ((3, 55, 10), "patient's right, posterior third, lower third"),
        (
            (15, 30, 45),
            "near the middle between left and right, middle third from front to back, middle third in height",
        ),
    ):  # fmt: skip
        place = [index[axis] for axis in order]
        there = [geometry.shape[i] - 1 - v if f else v for i, (v, f) in enumerate(zip(place, flips, strict=True))]
        assert place_in_words(geometry, tuple(map(float, there))) == words


@pytest.mark.parametrize(
    ("letters", "index", "words"),
    [
        (("L", "F"), (0, 5, 90), "patient's left, upper third"),
        (("R", "F"), (0, 5, 90), "patient's right, upper third"),
        (("L", "H"), (0, 5, 5), "patient's right, lower third"),
        (("P", "F"), (0, 30, 90), "posterior third, middle third in height"),
        (("AL", "F"), (0, 5, 5), "posterior third, upper third"),
        (("", ""), (0, 5, 5), ""),
        (("L", ""), (0, 5, 5), "patient's right"),
    ],
)
def test_a_radiograph_says_what_its_header_says(letters, index, words) -> None:
    geometry = Geometry((1, 60, 100), patient_orientation=letters)
    assert place_in_words(geometry, tuple(map(float, index))) == words


def test_an_oblique_axis_is_not_named() -> None:
    turn = np.deg2rad(40)
    oblique = np.array([[0, np.sin(turn), np.cos(turn)], [0, np.cos(turn), -np.sin(turn)], [1, 0, 0]], dtype=float)
    geometry = Geometry.from_directions((30, 60, 90), oblique, spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    assert place_in_words(geometry, (28.0, 5.0, 80.0)) == "upper third"
