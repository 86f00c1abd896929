"""The data engine: same bytes from the same (seed, index), finite, and worth learning from."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest

from isocenter.core.errors import ConfigError
from isocenter.synth import synthesise
from isocenter.synth.anatomy import Camera, random_scene
from isocenter.synth.fields import random_field
from isocenter.synth.radiograph import synthesise_radiograph


def test_same_key_same_bytes_whatever_was_made_before():
    first = synthesise(3, 11, pixels=40)
    for index in range(3):
        synthesise(3, index, pixels=40)
    again = synthesise(3, 11, pixels=40)
    assert first.image.tobytes() == again.image.tobytes()
    assert first.labels.tobytes() == again.labels.tobytes()
    assert first.target.tobytes() == again.target.tobytes()


def test_same_bytes_in_another_process():
    code = (
        "from isocenter.synth import synthesise as s; import hashlib; "
        "print(hashlib.sha256(s(3, 11, pixels=40).image.tobytes()).hexdigest())"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert there == hashlib.sha256(synthesise(3, 11, pixels=40).image.tobytes()).hexdigest()


def test_samples_differ():
    images = {synthesise(3, index, pixels=32).image.tobytes() for index in range(12)}
    assert len(images) == 12
    assert synthesise(3, 0, pixels=32).image.tobytes() != synthesise(4, 0, pixels=32).image.tobytes()


def test_samples_are_finite_and_hold_their_target():
    for index in range(25):
        sample = synthesise(5, index, pixels=48)
        assert sample.image.shape == sample.labels.shape == sample.target.shape == (1, 48, 48)
        assert sample.image.dtype == np.float32
        assert np.isfinite(sample.image).all()
        assert np.ptp(sample.image) > 0
        assert 8 <= sample.target.sum() <= 0.85 * 48 * 48
        assert sample.neighbour is None


def test_neighbour_is_near_the_target_or_the_target_is_gone():
    samples = [synthesise(5, index, pixels=48, neighbour=True) for index in range(40)]
    gone = [s for s in samples if not s.target.any()]
    assert 1 <= len(gone) <= 18
    assert all(s.neighbour is not None and s.neighbour.sum() >= 8 for s in samples)
    overlap = [
        2 * (s.target & s.neighbour).sum() / (s.target.sum() + s.neighbour.sum())
        for s in samples
        if s.target.any() and s.neighbour is not None
    ]
    assert 0.5 < np.mean(overlap) < 0.95, "a neighbouring slice is alike, and never a copy"


def test_families_and_sizes_vary():
    samples = [synthesise(6, index, pixels=32) for index in range(40)]
    assert len({s.family for s in samples}) >= 5
    shares = np.array([s.target.mean() for s in samples])
    assert (shares < 0.05).any() and (shares > 0.3).any()


def test_anatomy_does_not_depend_on_the_camera():
    scene = random_scene(np.random.default_rng(1))
    far = scene.distances(Camera(0.0, 0.0, 1.0, 65))
    near = scene.distances(Camera(0.0, 0.0, 0.2, 13))  # same pixel pitch, a fifth of the side
    np.testing.assert_allclose(near, far[:, 26:39, 26:39], atol=1e-4)


def test_field_is_smooth_and_agrees_between_windows():
    field = random_field(np.random.default_rng(0), 8)
    rows = np.linspace(-1, 1, 201, dtype=np.float32)
    whole = field.evaluate(rows, rows)
    np.testing.assert_allclose(field.evaluate(rows[50:60], rows[20:30]), whole[50:60, 20:30], atol=1e-5)
    assert np.abs(np.diff(whole, axis=0)).max() < 0.2 * np.ptp(whole)


@pytest.mark.parametrize(("seed", "index", "pixels"), [(-1, 0, 32), (0, -1, 32), (0, 0, 8)])
def test_refuses_what_it_cannot_make(seed, index, pixels):
    with pytest.raises(ConfigError, match="16 pixels"):
        synthesise(seed, index, pixels=pixels)


def test_a_radiograph_is_pure_and_its_target_can_be_pointed_at():
    films = [synthesise_radiograph(3, index, pixels=48) for index in range(12)]
    again = synthesise_radiograph(3, 7, pixels=48)
    assert again.image.tobytes() == films[7].image.tobytes() and again.target.tobytes() == films[7].target.tobytes()
    assert len({film.image.tobytes() for film in films}) == 12
    for film in films:
        assert film.image.shape == film.target.shape == (1, 48, 48)
        assert np.isfinite(film.image).all() and float(np.ptp(film.image)) > 0
        assert 0.002 <= film.target.mean() <= 0.6
    with pytest.raises(ConfigError, match="16 pixels"):
        synthesise_radiograph(3, 0, pixels=8)
