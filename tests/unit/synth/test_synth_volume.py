"""The volume engine: same bytes from the same key, patients of one task who differ, targets that can be found."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from isocenter.core.errors import ConfigError
from isocenter.synth import volume
from isocenter.synth.volume import VolumeSettings, synthesise_volume, synthesise_volumes
from isocenter.synth.volume_anatomy import FAMILIES, random_plan, turn_of, vary
from isocenter.synth.volume_appearance import labels_of, look, visible
from isocenter.synth.volume_grid import Grid, View, gaussian, separable, smooth_field
from isocenter.synth.volume_shapes import Blob, Segment, Waves

STILL = Waves(np.zeros((0, 3)), np.zeros(0), np.zeros(0))


def straight(half: float = 1.0) -> View:
    return View(np.zeros(3), half, np.eye(3), np.zeros((3, 5, 5, 5), dtype=np.float32))


def digest(samples) -> str:
    parts = [array.tobytes() for s in samples for array in (s.image, s.labels, s.target)]
    return hashlib.sha256(b"".join(parts)).hexdigest()


@pytest.fixture(scope="module")
def many():
    return [synthesise_volume(5, index, voxels=28) for index in range(16)]


def test_same_key_same_bytes_whatever_was_made_before():
    first = digest(synthesise_volumes(3, 11, 2, voxels=32))
    for index in (2, 0):
        synthesise_volume(3, index, voxels=24)
    assert digest(synthesise_volumes(3, 11, 2, voxels=32)) == first


def test_same_bytes_in_another_process_with_one_thread():
    code = (
        "from isocenter.synth.volume import synthesise_volumes as s; import hashlib; "
        "v = s(3, 11, 2, voxels=32); "
        "b = b''.join(a.tobytes() for x in v for a in (x.image, x.labels, x.target)); "
        "print(hashlib.sha256(b).hexdigest())"
    )
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=alone)
    assert done.stdout.strip() == digest(synthesise_volumes(3, 11, 2, voxels=32))


def test_asking_for_more_patients_leaves_the_first_ones_as_they_were():
    two, three = synthesise_volumes(1, 4, 2, voxels=24), synthesise_volumes(1, 4, 3, voxels=24)
    assert digest(two) == digest(three[:2])
    assert digest([synthesise_volume(1, 4, voxels=24)]) == digest(two[:1])
    assert len({digest([s]) for s in three}) == 3


def test_keys_differ():
    assert len({digest([synthesise_volume(s, i, voxels=24)]) for s in (0, 1) for i in range(2)}) == 4


def test_samples_are_finite_and_hold_their_target(many):
    for sample in many:
        assert sample.image.shape == sample.labels.shape == sample.target.shape == (28, 28, 28)
        assert (sample.image.dtype, sample.labels.dtype, sample.target.dtype) == (np.float32, np.int16, bool)
        assert np.isfinite(sample.image).all()
        assert np.ptp(sample.image) > 0
        assert 0.0005 <= sample.target.mean() <= 0.6
        assert (sample.labels[sample.target] > 0).all()


def test_families_and_sizes_vary(many):
    assert len({sample.family for sample in many}) >= 4
    plans = {random_plan(np.random.Generator(np.random.PCG64(k))).family for k in range(80)}
    assert plans == set(FAMILIES)
    shares = np.array([sample.target.mean() for sample in many])
    assert (shares < 0.02).any()
    assert (shares > 0.08).any()


def test_most_targets_can_be_seen(many):
    assert np.mean([visible(s.image, s.target) for s in many]) >= 0.6


def test_patients_of_a_task_share_anatomy_but_not_shape():
    overlaps = []
    for index in range(6):
        one, other = synthesise_volumes(7, index, 2, voxels=28)
        assert one.family == other.family
        wanted, again = (set(np.unique(s.labels[s.target]).tolist()) for s in (one, other))
        assert wanted & again
        overlaps.append(2 * (one.target & other.target).sum() / (one.target.sum() + other.target.sum()))
    assert max(overlaps) < 0.99
    assert 0.2 < np.median(overlaps) < 0.95


def test_without_variation_the_anatomy_is_the_same():
    one, other = synthesise_volumes(7, 3, 2, voxels=28, settings=VolumeSettings(variation=0.0))
    np.testing.assert_array_equal(one.target, other.target)
    assert one.image.tobytes() != other.image.tobytes()


def test_lattice_of_a_smooth_thing_agrees_with_every_voxel():
    rng = np.random.default_rng(0)
    warp = rng.standard_normal((3, 6, 6, 6)).astype(np.float32) * 0.05
    grid = Grid(View(np.array([0.1, -0.2, 0.0]), 0.7, turn_of(rng, 0.3), warp), 48)
    points = grid.lattice(1)
    blob = Blob(np.array([0.1, 0.0, -0.1]), np.eye(3), np.array([0.4, 0.35, 0.3]), 2.0, STILL)
    exact = blob.distance(points.reshape(3, -1)).reshape(points.shape[1:])
    box = grid.box(grid.locate(blob.centre[None])[0], blob.reach, 2)
    assert box is not None
    (z0, z1), (y0, y1), (x0, x1) = box
    coarse = grid.lattice(2)[:, z0:z1, y0:y1, x0:x1]
    values = blob.distance(np.ascontiguousarray(coarse).reshape(3, -1)).reshape(coarse.shape[1:])
    fine, place = grid.refine(values, box, 2)
    inside = exact < 0
    assert inside.sum() == inside[place].sum(), "the box holds the whole thing"
    near = np.abs(exact[place]) < 0.1
    assert np.abs(fine - exact[place])[near].max() < 0.2 * grid.voxel


def test_locate_undoes_the_camera():
    rng = np.random.default_rng(1)
    warp = rng.standard_normal((3, 5, 5, 5)).astype(np.float32) * 0.05
    grid = Grid(View(np.array([0.1, -0.2, 0.3]), 0.5, turn_of(rng, 0.5), warp), 33)
    at = grid.locate(grid.lattice(1)[:, 8, 20, 16][None].astype(np.float64))[0]
    np.testing.assert_allclose((at + 1) * 33 / 2 - 0.5, [8, 20, 16], atol=0.2)


def test_shapes_know_their_size():
    at = np.array([[0.0, 0.0], [0.0, 0.5], [0.0, 0.0]], dtype=np.float32)
    ball = Blob(np.zeros(3), np.eye(3), np.full(3, 0.2), 2.0, STILL)
    np.testing.assert_allclose(ball.distance(at)[1], 0.3, atol=0.005)
    tube = Segment(np.array([-1.0, 0, 0]), np.array([1.0, 0, 0]), (0.1, 0.1), STILL)
    np.testing.assert_allclose(tube.distance(at), [-0.1, 0.4], atol=1e-5)


def test_volume_of_a_ball_is_right():
    plan = random_plan(np.random.default_rng(0))
    ball = Blob(np.zeros(3), np.eye(3), np.full(3, 0.5), 2.0, STILL)
    plan = type(plan)((type(plan.things[0])(ball),), "organs")
    labels = labels_of(look(Grid(straight(), 48), plan), 48)
    assert labels.mean() == pytest.approx(4 / 3 * np.pi * 0.125 / 8, rel=0.02)
    larger = vary(np.random.default_rng(1), plan, 1.0)
    share = labels_of(look(Grid(straight(), 48), larger), 48).mean() / labels.mean()
    assert share != pytest.approx(1, abs=0.01)
    assert np.exp(-0.46) < share < np.exp(0.46)


def test_a_target_without_contrast_is_not_visible():
    target = np.zeros((24, 24, 24), dtype=bool)
    target[8:16, 8:16, 8:16] = True
    noise = np.random.default_rng(0).standard_normal(target.shape).astype(np.float32)
    assert not visible(noise, target)
    assert visible(noise + 3 * target.astype(np.float32), target)


def test_smoothing_keeps_the_mean_and_fields_have_their_amplitude():
    flat = np.full((12, 12, 12), 3.0, dtype=np.float32)
    blur = gaussian(12, 2.0)
    np.testing.assert_allclose(separable(flat, (blur, blur, blur)), flat, rtol=1e-5)
    deviation = np.mean([smooth_field(np.random.default_rng(k), 24, 6, 0.5).std() for k in range(10)])
    assert 0.3 < deviation < 0.7


@pytest.mark.parametrize(
    ("seed", "index", "count", "voxels"), [(-1, 0, 1, 32), (0, -1, 1, 32), (0, 0, 0, 32), (0, 0, 1, 16)]
)
def test_refuses_what_it_cannot_make(seed, index, count, voxels):
    with pytest.raises(ConfigError, match="at least 24 voxels"):
        synthesise_volumes(seed, index, count, voxels=voxels)


@pytest.mark.parametrize("wrong", [{"variation": -0.1}, {"amorphous": 11.0}, {"restyled": 2.0}])
def test_refuses_settings_out_of_range(wrong):
    with pytest.raises(ConfigError, match="must lie in"):
        VolumeSettings(**wrong)


def test_exports():
    assert set(volume.__all__) == {
        "VolumeSample",
        "VolumeSettings",
        "synthesise_volume",
        "synthesise_volumes",
        "wanted_labels",
    }
