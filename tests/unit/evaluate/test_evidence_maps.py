"""Measures of maps: by hand, and where a map says nothing."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, GeometryError, PixelError
from isocenter.evaluate.evidence_maps import (
    box_mask,
    deletion_curve,
    energy_inside,
    insertion_curve,
    pointing_game,
)

TRUTH = np.zeros((8, 10), dtype=bool)
TRUTH[2:5, 6:9] = True


def peak(y: int, x: int) -> np.ndarray:
    found = np.full((8, 10), 0.2)
    found[y, x] = 1.0
    return found


def test_the_strongest_voxel_points() -> None:
    assert pointing_game(peak(2, 6), TRUTH) == 1 and pointing_game(peak(2, 5), TRUTH) == 0
    assert pointing_game(peak(2, 5), TRUTH, tolerance_voxels=1) == 1
    assert pointing_game(peak(1, 5), TRUTH, tolerance_voxels=1) == 0, "the diagonal is 1.41 away"
    assert pointing_game(peak(1, 5), TRUTH, tolerance_voxels=1.5) == 1


def test_equal_peaks_share_and_a_map_that_says_nothing_scores_chance() -> None:
    both = np.maximum(peak(3, 7), peak(7, 0))
    assert pointing_game(both, TRUTH) == 0.5
    for flat in (np.zeros((8, 10)), np.full((8, 10), 0.7)):
        assert pointing_game(flat, TRUTH) == pytest.approx(9 / 80)
        assert energy_inside(flat, TRUTH) == pytest.approx(9 / 80)


def test_energy_by_hand() -> None:
    found = np.zeros((8, 10))
    found[3, 7], found[0, 0] = 3.0, 1.0
    assert energy_inside(found, TRUTH) == 0.75
    assert energy_inside(found * 7, TRUTH) == 0.75, "the scale of a map means nothing"


@pytest.mark.parametrize("measure", [pointing_game, energy_inside])
def test_measures_follow_the_image_round(measure) -> None:
    rng = np.random.default_rng(0)
    found = rng.random((8, 10))
    for turned in (np.fliplr, np.flipud, np.rot90, np.transpose):
        assert measure(turned(found), turned(TRUTH)) == pytest.approx(measure(found, TRUTH))


def test_a_box_is_a_mask() -> None:
    assert np.array_equal(box_mask((8, 10), (2, 6), (5, 9)), TRUTH)
    tiny = box_mask((8, 10), (2.6, 3.6), (2.9, 3.9))
    assert tiny.sum() == 1 and tiny[2, 3], "smaller than a voxel: the one that it lies in"
    assert box_mask((4,), (4,), (4,)).tolist() == [False, False, False, True]
    with pytest.raises(GeometryError, match="from 2 to 12"):
        box_mask((8, 10), (2, 2), (5, 12))
    with pytest.raises(GeometryError, match="axes"):
        box_mask((8, 10), (2,), (5,))


def share_of_two(images: np.ndarray) -> np.ndarray:
    """A model that needs voxels (0, 0) and (1, 1), in equal parts."""
    return (images[:, 0, 0, 0] + images[:, 0, 1, 1]) / 2


def test_curves_by_hand() -> None:
    image, nothing = np.ones((1, 2, 2)), np.zeros((1, 2, 2))
    right = np.array([[4.0, 1.0], [2.0, 3.0]])
    gone = deletion_curve(share_of_two, image, nothing, right, steps=4)
    assert gone.share.tolist() == [0, 0.25, 0.5, 0.75, 1] and gone.score.tolist() == [1, 0.5, 0, 0, 0]
    assert gone.area == pytest.approx(0.25)
    given = insertion_curve(share_of_two, image, nothing, right, steps=4)
    assert given.score.tolist() == [0, 0.5, 1, 1, 1] and given.area == pytest.approx(0.75)
    wrong = deletion_curve(share_of_two, image, nothing, 5 - right, steps=4)
    assert wrong.score.tolist() == [1, 1, 1, 0.5, 0] and wrong.area > gone.area
    assert np.array_equal(image, np.ones((1, 2, 2))), "nothing is altered"


def test_equal_voxels_go_in_no_order_of_the_grid() -> None:
    """A map that is flat takes voxels away at random: neither the first rows first, nor another way each time."""
    image, nothing = np.ones((1, 40, 40)), np.zeros((1, 40, 40))
    upper = deletion_curve(lambda x: x[:, 0, :20].mean((1, 2)), image, nothing, np.ones((40, 40)))
    assert np.abs(upper.score - (1 - upper.share)).max() < 0.05
    again = deletion_curve(lambda x: x[:, 0, :20].mean((1, 2)), image, nothing, np.ones((40, 40)))
    assert np.array_equal(upper.score, again.score)


def test_bad_maps_are_refused() -> None:
    image = np.ones((1, 8, 10))
    for bad in (np.full((8, 10), np.nan), np.full((8, 10), -1.0)):
        with pytest.raises(PixelError, match="not negative"):
            pointing_game(bad, TRUTH)
        with pytest.raises(PixelError, match="not negative"):
            deletion_curve(lambda x: x[:, 0, 0, 0], image, image, bad)
    with pytest.raises(PixelError, match="empty"):
        pointing_game(peak(0, 0), np.zeros((8, 10), dtype=bool))
    with pytest.raises(PixelError, match="bool"):
        energy_inside(peak(0, 0), TRUTH.astype(int))
    with pytest.raises(GeometryError, match="shape"):
        energy_inside(np.ones((10, 8)), TRUTH)
    with pytest.raises(ConfigError, match="tolerance"):
        pointing_game(peak(0, 0), TRUTH, tolerance_voxels=-1)
    with pytest.raises(ConfigError, match="steps"):
        deletion_curve(lambda x: x[:, 0, 0, 0], image, image, peak(0, 0), steps=0)
    with pytest.raises(GeometryError, match="a map of"):
        deletion_curve(lambda x: x[:, 0, 0, 0], image, image, np.ones((10, 8)))
    with pytest.raises(PixelError, match="one finite number"):
        deletion_curve(lambda x: np.full(len(x), np.nan), image, image, peak(0, 0))
