"""What is done to both masks alike, turning or mirroring, changes no figure; swapping them swaps what it should."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.evaluate.lesions import lesion_scores
from isocenter.evaluate.segmentation import segmentation_scores
from isocenter.evaluate.surfaces import surface_distances

SPACING_MM = (2.5, 0.8, 0.7)


@st.composite
def pairs(draw):
    shape = draw(st.tuples(*[st.integers(1, 6)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    fills = draw(st.tuples(st.floats(0, 1), st.floats(0, 1)))
    return [rng.random(shape) < fill for fill in fills]


turns = st.tuples(st.permutations(range(3)), st.tuples(*[st.booleans()] * 3))


@given(pairs(), turns, st.sampled_from(["border", "elements"]))
@settings(max_examples=150, deadline=None)
def test_a_joint_turn_changes_nothing(pair, turn, surface):
    axes, flips = turn
    turned = [np.flip(m.transpose(axes), [i for i in range(3) if flips[i]]) for m in pair]
    spacing = tuple(SPACING_MM[a] for a in axes)
    before = segmentation_scores(*pair, labels=(1,), spacing_mm=SPACING_MM, tolerance_mm=0.75, surface=surface)[0]
    after = segmentation_scores(*turned, labels=(1,), spacing_mm=spacing, tolerance_mm=0.75, surface=surface)[0]
    for name in ("dice", "iou", "nsd", "hd_mm", "assd_mm", "masd_mm", "volume_error_ml", "relative_error"):
        assert getattr(after, name) == pytest.approx(getattr(before, name), abs=1e-9), name
    if surface == "border":
        assert after.hd95_mm == pytest.approx(before.hd95_mm, abs=1e-9)
    one, two = lesion_scores(*pair), lesion_scores(*turned)
    assert (one.found, one.false, one.f1) == (two.found, two.false, two.f1)
    assert one.panoptic_quality == pytest.approx(two.panoptic_quality)


@given(pairs(), st.sampled_from(["border", "elements"]))
@settings(max_examples=100, deadline=None)
def test_swapping_the_masks(pair, surface):
    one = surface_distances(*pair, spacing_mm=SPACING_MM, surface=surface)
    two = surface_distances(*pair[::-1], spacing_mm=SPACING_MM, surface=surface)
    assert one.hausdorff_mm() == two.hausdorff_mm()
    assert one.nsd(0.75) == pytest.approx(two.nsd(0.75))
    assert one.assd_mm() == pytest.approx(two.assd_mm())
    assert np.array_equal(one.to_prediction_mm, two.to_reference_mm)


@given(pairs())
@settings(max_examples=60, deadline=None)
def test_a_mask_agrees_with_itself(pair):
    row = segmentation_scores(pair[0], pair[0], labels=(1,), spacing_mm=SPACING_MM, tolerance_mm=0.0)[0]
    assert (row.dice, row.iou, row.nsd, row.hd_mm, row.assd_mm, row.relative_error) == (1, 1, 1, 0, 0, 0)
    assert lesion_scores(pair[0], pair[0]).f1 == 1.0
