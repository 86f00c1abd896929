"""Centreline Dice of structures that hang together and of some that do not."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import GeometryError, PixelError
from isocenter.evaluate.centreline import centreline_dice
from isocenter.evaluate.overlap import dice


def _vessel(shape=(12, 12, 40)):
    mask = np.zeros(shape, bool)
    mask[4:7, 4:7, 2:38] = True
    return mask


@pytest.fixture(autouse=True)
def _thinning():
    pytest.importorskip("skimage")


def test_a_lost_thin_branch_costs_more_here_than_in_dice():
    vessel = _vessel()
    tree = vessel.copy()
    tree[5, 5:12, 20] = True
    lost = centreline_dice(tree, vessel)
    assert lost < dice(tree, vessel) < 1
    assert centreline_dice(tree, tree) == 1.0


def test_a_thicker_vessel_has_the_same_centreline():
    vessel = _vessel()
    thick = np.zeros_like(vessel)
    thick[3:8, 3:8, 1:39] = True
    assert dice(vessel, thick) < 0.6
    assert centreline_dice(vessel, thick) > 0.95


def test_planes_empty_masks_and_bad_input():
    plane = _vessel()[5]
    empty = np.zeros_like(plane)
    assert centreline_dice(plane, plane) == centreline_dice(empty, empty) == 1.0
    assert centreline_dice(plane, empty) == centreline_dice(empty, plane) == 0.0
    assert centreline_dice(plane, np.roll(plane, 6, axis=0)) == 0.0
    with pytest.raises(GeometryError):
        centreline_dice(plane, plane[1:])
    with pytest.raises(PixelError):
        centreline_dice(plane, plane.astype(float))
