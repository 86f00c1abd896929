"""Cubes, marks and answers in a volume."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isocenter.core.errors import ConfigError
from isocenter.models.interactive.network import InteractiveNet, InteractiveSettings
from isocenter.models.interactive.volume import Cube, VolumeMark, VolumeModel, draw

SETTINGS = InteractiveSettings(dims=3, widths=(4, 4, 8), prompt_widths=(4, 4, 4), fine=2, blocks=1, memory=4)


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return VolumeModel(InteractiveNet(SETTINGS).eval(), pixels=16)


def point(z, y, x, positive=True):
    return VolumeMark("point", np.array([[z, y, x]], dtype=float), positive)


def test_cube_identity_is_exact():
    volume = np.random.default_rng(0).random((16, 16, 16)).astype(np.float32)
    cube = Cube((7.5, 7.5, 7.5), 16.0, (1.0, 1.0, 1.0), 16)
    np.testing.assert_allclose(cube.cut(volume, outside=0.0), volume, atol=1e-6)
    np.testing.assert_allclose(cube.paste(volume, (16, 16, 16)), volume, atol=1e-6)
    np.testing.assert_allclose(cube.to_cube(np.array([[3.0, 5.0, 1.0]])), [[3.0, 5.0, 1.0]])


def test_cube_and_back_keeps_places_on_thick_slices():
    """Slices 3 mm thick, pixels of 1 mm and 1.5 mm: centroid and volume survive, in voxels of the volume."""
    volume = np.zeros((20, 60, 48), dtype=np.float32)
    volume[6:13, 20:41, 16:30] = 1
    cube = Cube((9.0, 30.0, 22.0), 48.0, (3.0, 1.0, 1.5), 48)
    back = cube.paste(cube.cut(volume, outside=0.0), volume.shape) >= 0.5
    np.testing.assert_allclose(np.argwhere(back).mean(axis=0), np.argwhere(volume > 0).mean(axis=0), atol=0.2)
    assert back.sum() == pytest.approx(volume.sum(), rel=0.03)


def test_what_lies_outside_takes_the_outside_value():
    volume = np.ones((4, 4, 4), dtype=np.float32)
    cut = Cube((0.0, 0.0, 0.0), 8.0, (1.0, 1.0, 1.0), 8).cut(volume, outside=-5.0)
    assert cut[0, 0, 0] == -5 and cut[7, 7, 7] == 1 and set(np.unique(cut)) == {-5.0, 1.0}


def test_known_slice_is_written_on_its_own_layer_and_axis():
    mask = np.zeros((16, 16), dtype=bool)
    mask[2:5, 9:14] = True
    cube = Cube((7.5, 7.5, 7.5), 16.0, (1.0, 1.0, 1.0), 16)
    for axis in range(3):
        at = np.zeros((1, 3))
        at[0, axis] = 6
        hint = np.moveaxis(draw([VolumeMark("slice", at, mask=mask, axis=axis)], cube).hint, axis, 0)
        np.testing.assert_array_equal(hint[6] > 0, mask)
        assert (hint[6][~mask] == -1).all() and not hint[5].any() and not hint[7].any()


def test_box_is_filled_as_given():
    cube = Cube((7.5, 7.5, 7.5), 16.0, (1.0, 1.0, 1.0), 16)
    region = draw([VolumeMark("box", np.array([[2.0, 3, 4], [5, 8, 9]]))], cube).region
    expected = np.zeros_like(region)
    expected[2:6, 3:9, 4:10] = True
    np.testing.assert_array_equal(region, expected)


def test_later_mark_wins_where_signs_meet():
    canvas = draw([point(8, 8, 8), point(8, 8, 8, positive=False)], Cube((7.5,) * 3, 16.0, (1.0,) * 3, 16))
    assert canvas.negative[8, 8, 8] and not (canvas.positive & canvas.negative).any()


def test_a_point_is_looked_at_in_a_wide_cube_an_answer_closely(model):
    opened = model.open(np.random.default_rng(0).normal(size=(10, 64, 64)).astype(np.float32), (4.0, 1.0, 1.0))
    assert [round(c.side) for c in model.cubes(opened, [point(5, 30, 30)], None)] == [32]
    previous = np.zeros((10, 64, 64), dtype=np.float32)
    previous[4:7, 28:40, 28:40] = 1
    (near,) = model.cubes(opened, [point(5, 30, 30)], previous)
    assert 12 * 1.7 <= near.side <= 12 * 1.7 * 2**0.25 + 1e-6


def test_a_cube_is_kept_while_answer_and_marks_fill_it(model):
    cube = Cube((15.5, 15.5, 15.5), 16.0, (1.0, 1.0, 1.0), 16)  # voxels 8 to 23
    previous = np.zeros((32, 32, 32), dtype=np.float32)
    previous[10:20, 10:20, 10:20] = 1
    assert model.kept(cube, [point(12, 12, 12)], previous) is cube
    assert model.kept(cube, [point(12, 12, 25)], previous) is None, "a mark outside"
    assert model.kept(cube, [point(12, 12, 12)], np.zeros_like(previous)) is None, "no answer"
    small = np.zeros_like(previous)
    small[12:14, 12:14, 12:14] = 1
    assert model.kept(cube, [point(12, 12, 12)], small) is None, "an answer that wants a closer look"
    previous[10:20, 10:20, 10:27] = 1
    assert model.kept(cube, [point(12, 12, 12)], previous) is None, "an answer outside"


def test_a_correction_counts_where_it_is_made_and_half_far_away(model):
    volume = np.random.default_rng(5).normal(size=(32, 32, 32)).astype(np.float32)
    opened = model.open(volume, None)
    cube = Cube((15.5, 15.5, 15.5), 32.0, (1.0, 1.0, 1.0), 16)
    previous = np.zeros(volume.shape, dtype=np.float32)
    previous[8:24, 8:24, 8:24] = 0.9
    marks = [point(16, 16, 16), point(9, 9, 9, positive=False)]
    answer = opened.answer(marks, previous=previous, seen_in=cube)
    assert answer.cube is cube
    alone = cube.paste(opened.look(marks, cube, previous=previous)[0], opened.shape)
    assert answer.probability[9, 9, 9] == pytest.approx(alone[9, 9, 9], abs=1e-6)
    far = (alone[23, 23, 23] + previous[23, 23, 23]) / 2
    assert answer.probability[23, 23, 23] == pytest.approx(far, abs=1e-3)


def test_a_correction_of_many_marks_counts_at_all_of_them(model):
    """A "not this" outline is many points: each of them is where the correction is made, not the last alone."""
    opened = model.open(np.random.default_rng(7).normal(size=(32, 32, 32)).astype(np.float32), None)
    cube = Cube((15.5, 15.5, 15.5), 32.0, (1.0, 1.0, 1.0), 16)
    previous = np.zeros(opened.shape, dtype=np.float32)
    previous[8:24, 8:24, 8:24] = 0.9
    outline = [point(16, y, x, positive=False) for y in range(9, 23, 3) for x in range(9, 23, 3)]
    marks = [point(12, 12, 12), *outline]
    answer = opened.answer(marks, previous=previous, seen_in=cube, latest=len(outline))
    alone = cube.paste(opened.look(marks, cube, previous=previous)[0], opened.shape)
    np.testing.assert_allclose(answer.probability[16, 9:22, 9:22], alone[16, 9:22, 9:22], atol=1e-6)


def test_a_slice_without_anything_inside_is_no_trouble(model):
    opened = model.open(np.random.default_rng(6).normal(size=(9, 20, 14)).astype(np.float32), None)
    first = opened.answer([point(4, 8, 8)])
    at = np.array([[3.0, 0.0, 0.0]])
    marks = [point(4, 8, 8), VolumeMark("slice", at, mask=np.zeros((20, 14), dtype=bool), axis=0)]
    again = opened.answer(marks, previous=first.probability, seen_in=first.cube)
    assert np.isfinite(again.probability).all()


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 12, 9), (7, 2, 30)])
@pytest.mark.parametrize("fill", [0.0, np.nan, "noise"])
def test_never_nan_whatever_the_volume(model, shape, fill):
    volume = np.random.default_rng(1).normal(size=shape) if fill == "noise" else np.full(shape, fill)
    opened = model.open(volume.astype(np.float32), None)
    answer = opened.answer([point(*(n // 2 for n in shape))])
    assert answer.probability.shape == shape
    assert np.isfinite(answer.probability).all()
    assert answer.probability.min() >= 0 and answer.probability.max() <= 1 and 0 <= answer.quality <= 1


def test_same_question_same_answer_and_features_are_kept(model):
    volume = np.random.default_rng(3).normal(size=(9, 20, 14)).astype(np.float32)
    opened = model.open(volume, (2.0, 1.0, 1.0))
    first = opened.answer([point(4, 8, 8)])
    cubes = len(opened._kept)
    again = opened.answer([point(4, 8, 8)])
    assert first.probability.tobytes() == again.probability.tobytes()
    assert len(opened._kept) == cubes
    fresh = model.open(volume, (2.0, 1.0, 1.0)).answer([point(4, 8, 8)])
    assert fresh.probability.tobytes() == first.probability.tobytes()


def test_marks_and_networks_are_checked():
    with pytest.raises(ConfigError, match="2 points"):
        VolumeMark("box", np.zeros((1, 3)))
    with pytest.raises(ConfigError, match="only a slice has a mask"):
        VolumeMark("slice", np.zeros((1, 3)))
    with pytest.raises(ConfigError, match="for planes"):
        VolumeModel(InteractiveNet(InteractiveSettings(widths=(4, 4, 4), prompt_widths=(4, 4, 4))))
