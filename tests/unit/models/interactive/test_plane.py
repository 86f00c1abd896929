"""Windows, marks and answers on one plane."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isocenter.core.errors import ConfigError
from isocenter.models.interactive.network import InteractiveNet, InteractiveSettings
from isocenter.models.interactive.plane import Context, Mark, PlaneModel, Window, draw, fill_polygon
from isocenter.models.interactive.stack import Propagation, answer_marks, answer_stack


@pytest.fixture(scope="module")
def small_model():
    torch.manual_seed(0)
    settings = InteractiveSettings(widths=(4, 8, 8), prompt_widths=(4, 4, 4), fine=2, memory=4)
    return PlaneModel(InteractiveNet(settings).eval(), pixels=32)


def point(row, column, positive=True):
    return Mark("point", np.array([[row, column]], dtype=float), positive)


def test_a_point_is_looked_at_in_several_windows_a_box_closely(small_model):
    alone = small_model.windows((100, 80), [point(50, 40)], None, None)
    assert [round(w.side) for w in alone] == [100, 68, 40]
    box = Mark("region", np.array([[10.0, 10], [10, 30], [30, 30], [30, 10]]))
    assert [round(w.side) for w in small_model.windows((100, 80), [box], None, None)] == [40, 68]


def test_window_and_back_keeps_places():
    plane = np.zeros((40, 60), dtype=np.float32)
    plane[10:20, 30:44] = 1
    window = Window(15.0, 36.0, 24.0, 48)
    back = window.paste(window.cut(plane, outside=0.0), (40, 60)) >= 0.5
    assert (back == (plane > 0)).mean() > 0.995
    inside = np.argwhere(back)
    np.testing.assert_allclose(inside.mean(axis=0), np.argwhere(plane > 0).mean(axis=0), atol=0.3)


def test_window_identity_is_exact():
    plane = np.random.default_rng(0).random((16, 16)).astype(np.float32)
    window = Window(7.5, 7.5, 16.0, 16)
    np.testing.assert_allclose(window.cut(plane, outside=0.0), plane, atol=1e-6)
    np.testing.assert_allclose(window.paste(plane, (16, 16)), plane, atol=1e-6)
    np.testing.assert_allclose(window.to_window(np.array([[3.0, 5.0]])), [[3.0, 5.0]])


def test_polygon_literal():
    filled = fill_polygon(np.array([[0.5, 0.5], [0.5, 2.5], [2.5, 2.5], [2.5, 0.5]]), (4, 4))
    assert filled[1:3, 1:3].all()
    assert not filled[0, 0] and not filled[3, 3]


def test_later_mark_wins_where_signs_meet():
    window = Window(7.5, 7.5, 16.0, 16)
    canvas = draw([point(8, 8), point(8, 8, positive=False)], window)
    assert canvas.negative[8, 8] and not canvas.positive[8, 8]
    assert not (canvas.positive & canvas.negative).any()


def test_marks_outside_the_window_leave_no_trace():
    canvas = draw([point(500, 500)], Window(7.5, 7.5, 16.0, 16))
    assert not canvas.positive.any()


def test_mark_refuses_too_few_points():
    with pytest.raises(ConfigError, match="3 points"):
        Mark("region", np.zeros((2, 2)))


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (33, 2), (70, 45)])
@pytest.mark.parametrize("fill", [0.0, np.nan, "noise"])
def test_never_nan_whatever_the_picture(small_model, shape, fill):
    plane = (np.random.default_rng(1).normal(size=shape) if fill == "noise" else np.full(shape, fill)).astype(
        np.float32
    )
    answer = small_model.answer(plane, [point(shape[0] // 2, shape[1] // 2)])
    assert answer.probability.shape == shape
    assert np.isfinite(answer.probability).all()
    assert answer.probability.min() >= 0 and answer.probability.max() <= 1
    assert 0 <= answer.quality <= 1


def test_a_thousand_clicks(small_model):
    rng = np.random.default_rng(0)
    plane = rng.normal(size=(40, 40)).astype(np.float32)
    marks = [point(*rng.uniform(0, 39, 2), positive=bool(i % 2)) for i in range(1000)]
    assert np.isfinite(answer_marks(small_model.open(plane), marks).probability).all()


def test_same_question_same_answer(small_model):
    plane = np.random.default_rng(3).normal(size=(50, 31)).astype(np.float32)
    first = small_model.answer(plane, [point(20, 10), point(5, 5, positive=False)])
    again = small_model.answer(plane, [point(20, 10), point(5, 5, positive=False)])
    assert first.probability.tobytes() == again.probability.tobytes()


def test_stack_stays_within_its_bounds(small_model):
    stack = np.random.default_rng(0).normal(size=(7, 20, 20)).astype(np.float32)
    settings = Propagation(least_quality=0, least_share=0, least_pixels=0, least_overlap=0, first=2, last=4)
    found = answer_stack(small_model, stack, {3: [point(10, 10)]}, settings)
    assert not found.probability[:2].any() and not found.probability[5:].any()
    alone = answer_stack(small_model, stack, {3: [point(10, 10)]}, Propagation(most_slices=0))
    assert np.flatnonzero(alone.probability.any(axis=(1, 2))).tolist() == [3]


def test_windows_come_again():
    """Marks a little apart lead to the same windows, so that nothing is encoded twice."""
    shape = (200, 240)
    window = Window(60.0, 70.0, 50.0, 32)
    assert window.snapped(shape) == Window(57.5, 69.0, 49.0, 32).snapped(shape)
    assert window.snapped(shape).side >= 50
    whole = Window(99.5, 119.5, 240.0, 32)
    assert whole.snapped(shape) == whole


def test_features_are_kept_between_clicks(small_model):
    opened = small_model.open(np.random.default_rng(0).normal(size=(60, 60)).astype(np.float32))
    first = opened.answer([point(30, 30)])
    count = len(opened._kept)
    assert opened.answer([point(30, 30)]).probability.tobytes() == first.probability.tobytes()
    assert len(opened._kept) == count


def test_first_click_offers_what_else_may_be_meant_and_later_ones_do_not(small_model):
    opened = small_model.open(np.random.default_rng(0).normal(size=(60, 60)).astype(np.float32))
    first = opened.answer([point(30, 30)])
    assert len(first.alternatives) <= 3
    masks = [first.probability >= 0.5, *(p >= 0.5 for p, _ in first.alternatives)]
    for i, one in enumerate(masks):
        for other in masks[:i]:
            assert (one & other).sum() <= 0.8 * (one | other).sum()
    later = opened.answer([point(30, 30), point(5, 5, positive=False)], previous=first.probability)
    assert later.alternatives == ()


def test_examples_answer_without_a_click_and_must_fit(small_model):
    rng = np.random.default_rng(0)
    plane, mask = rng.normal(size=(40, 30)).astype(np.float32), np.zeros((40, 30), dtype=bool)
    mask[10:20, 8:15] = True
    context = Context(small_model, [(plane, mask), (plane[::-1].copy(), mask[::-1].copy())])
    assert len(context) == 2
    answer = small_model.open(rng.normal(size=(25, 50)).astype(np.float32)).answer([], context=context)
    assert answer.probability.shape == (25, 50) and np.isfinite(answer.probability).all()
    with pytest.raises(ConfigError, match="one grid"):
        context.add(plane, mask[:, :-1])
    empty = Context(small_model, [(plane, np.zeros_like(mask))])
    assert np.isfinite(small_model.open(plane).answer([], context=empty).probability).all()


def test_volume_network_is_refused():
    net = InteractiveNet(InteractiveSettings(dims=3, widths=(4, 4, 4), prompt_widths=(4, 4, 4)))
    with pytest.raises(ConfigError, match="for volumes"):
        PlaneModel(net)
