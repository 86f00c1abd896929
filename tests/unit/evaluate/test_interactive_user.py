from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from isocenter.core.errors import ConfigError
from isocenter.evaluate.interactive_user import (
    Act,
    BoxUser,
    CentreClicks,
    RandomClicks,
    Scribbler,
    centre_of_largest_error,
    strokes,
    thin,
)

USERS = [CentreClicks(), RandomClicks(3), Scribbler(), BoxUser(), BoxUser(0.2, 5, CentreClicks())]


def _blobs(seed, shape, sigma):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).standard_normal(shape), sigma)
    return field > np.quantile(field, 0.7)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    height=st.integers(2, 24),
    width=st.integers(2, 24),
    sigma=st.sampled_from([0.0, 0.7, 2.0]),
)
def test_the_click_is_deepest_in_the_largest_error(seed, height, width, sigma):
    target, answer = _blobs(seed, (height, width), sigma), _blobs(seed + 1, (height, width), sigma)
    found = centre_of_largest_error(target[None], answer[None])
    if (target == answer).all():
        assert found is None
        return
    _, row, column = (int(v) for v in found.index_zyx[0])
    missed, extra = target & ~answer, answer & ~target
    assert (missed if found.positive else extra)[row, column]
    largest = max(np.bincount(ndimage.label(wrong)[0].ravel())[1:].max(initial=0) for wrong in (missed, extra))
    pieces = ndimage.label(missed if found.positive else extra)[0]
    piece = pieces == pieces[row, column]
    assert piece.sum() == largest
    depth = ndimage.distance_transform_edt(np.pad(piece, 1))[1:-1, 1:-1]
    assert depth[row, column] == depth.max()


def test_in_a_volume_the_click_is_at_the_middle_of_the_larger_error():
    target, answer = np.zeros((2, 12, 13, 14), dtype=bool)
    target[2:7, 3:8, 4:9] = True
    answer[8:11, 8:11, 8:11] = True
    act = centre_of_largest_error(target, answer)
    assert act.index_zyx.tolist() == [[4, 5, 6]]
    assert act.positive
    act = centre_of_largest_error(target, answer | target)
    assert act.index_zyx.tolist() == [[9, 9, 9]]
    assert not act.positive


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 1, 9), (5, 1, 7), (6, 8, 1), (1, 2, 2)])
@pytest.mark.parametrize("user", USERS, ids=lambda u: u.name)
def test_thin_volumes_and_all_true_targets(user, shape):
    target = np.ones(shape, dtype=bool)
    act = user.act(target, np.zeros(shape, dtype=bool), 0)
    assert act.positive
    assert ((act.index_zyx >= 0) & (act.index_zyx < np.array(shape))).all()


def test_the_middle_of_a_thin_volume_is_its_middle():
    act = centre_of_largest_error(np.ones((5, 1, 7), dtype=bool), np.zeros((5, 1, 7), dtype=bool))
    assert act.index_zyx[0, 0] == 2
    assert act.index_zyx[0, 2] in (2, 3, 4)


@pytest.mark.parametrize("user", USERS[:3], ids=lambda u: u.name)
def test_nothing_to_say_where_nothing_is_wrong(user):
    target = _blobs(0, (4, 9, 9), 1)
    assert user.act(target, target, 1) is None
    empty = np.zeros_like(target)
    assert user.act(empty, empty, 0) is None
    assert BoxUser().act(empty, empty, 0) is None


@pytest.mark.parametrize("user", USERS, ids=lambda u: u.name)
@pytest.mark.parametrize("number", [0, 1])
def test_a_user_says_the_same_again_and_points_at_what_is_wrong(user, number):
    target, answer = _blobs(1, (5, 20, 20), 1.5), _blobs(2, (5, 20, 20), 1.5)
    first, again = user.act(target, answer, number), user.act(target, answer, number)
    if first is None:
        assert number
        assert user.name == "exact box"
        return
    assert np.array_equal(first.index_zyx, again.index_zyx)
    if first.kind != "box":
        at = tuple(first.index_zyx.astype(int).T)
        assert (target ^ answer)[at].all()
        assert (target[at] == first.positive).all()


def test_random_clicks_differ_by_seed_and_by_number():
    target = np.ones((1, 40, 40), dtype=bool)
    nothing = np.zeros_like(target)
    places = {tuple(RandomClicks(s).act(target, nothing, n).index_zyx[0]) for s in range(3) for n in range(3)}
    assert len(places) >= 8


def test_boxes():
    target = np.zeros((6, 20, 30), dtype=bool)
    target[2:4, 5:15, 7:27] = True
    nothing = np.zeros_like(target)
    assert BoxUser().act(target, nothing, 0).index_zyx.tolist() == [[2, 5, 7], [3, 14, 26]]
    slips = np.array([BoxUser(0.1, s).act(target, nothing, 0).index_zyx for s in range(60)])
    assert (slips[:, 0] <= slips[:, 1]).all()
    assert (slips >= 0).all()
    assert (slips <= np.array(target.shape) - 1).all()
    assert slips[:, 1, 1].std() == pytest.approx(1.0, abs=0.5)
    with pytest.raises(ConfigError, match="jitter"):
        BoxUser(-1.0)


def test_a_scribble_runs_along_a_bar_and_leaves_its_thin_tail_out():
    target = np.zeros((3, 40, 60), dtype=bool)
    target[1, 10:21, 5:40] = True
    target[1, 15, 40:58] = True
    line = Scribbler().act(target, np.zeros_like(target), 0).index_zyx
    assert (line[:, 0] == 1).all()
    assert line[:, 2].max() <= 41
    assert np.ptp(line[:, 2]) >= 20
    assert abs(line[:, 1].mean() - 15) <= 1


def test_a_scribble_is_drawn_in_the_slice_where_the_error_is_largest():
    target = np.zeros((4, 20, 20), dtype=bool)
    target[1:4, 9:12, 9:12] = True
    target[2, 4:16, 4:16] = True
    assert (Scribbler().act(target, np.zeros_like(target), 0).index_zyx[:, 0] == 2).all()


def test_thinning_keeps_each_piece_and_leaves_lines():
    mask = np.zeros((30, 30), dtype=bool)
    mask[2:8, 2:28] = True
    mask[15:28, 10:15] = True
    line = thin(mask)
    assert not (line & ~mask).any()
    assert ndimage.label(line, np.ones((3, 3)))[1] == 2
    assert not ndimage.binary_erosion(line, np.ones((2, 2))).any()


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_strokes_are_unbroken_lie_on_the_drawing_and_reach_every_piece(seed):
    drawn = _blobs(seed, (2, 20, 20), (0, 1, 1))
    acts = strokes(drawn, positive=False)
    assert len(acts) == sum(ndimage.label(plane, np.ones((3, 3)))[1] for plane in drawn)
    for act in acts:
        at = act.index_zyx
        assert not act.positive
        assert drawn[tuple(at.astype(int).T)].all()
        assert len(at) == 1 or np.abs(np.diff(at[:, 1:], axis=0)).max() == 1


def test_a_branched_stroke_touches_every_pixel_of_its_lines():
    drawn = np.zeros((1, 21, 21), dtype=bool)
    drawn[0, 10, 1:20] = True
    drawn[0, 1:20, 10] = True
    (act,) = strokes(drawn, positive=True)
    assert {(r, c) for r, c in act.index_zyx[:, 1:].astype(int)} == {
        (int(r), int(c)) for r, c in np.argwhere(thin(drawn[0]))
    }


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("circle", [[0, 0, 0]]),
        ("point", [[0, 0, 0], [1, 1, 1]]),
        ("box", [[0, 0, 0]]),
        ("lasso", [[0, 0, 0], [0, 1, 1]]),
        ("lasso", [[0, 0, 0], [0, 1, 1], [1, 1, 0]]),
        ("point", [[0, np.nan, 0]]),
    ],
)
def test_acts_that_say_nothing_are_refused(kind, points):
    with pytest.raises((ConfigError, TypeError) if kind == "circle" else ConfigError):
        Act(kind, np.array(points, dtype=float))
