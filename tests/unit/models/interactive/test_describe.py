"""What images look like to the interactive network, and how unsure it is of them."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")

from isocenter.core import Geometry, Image
from isocenter.models.interactive.confirmed import Confirmed
from isocenter.models.interactive.describe import BANDS, describe_volume, doubt_of_volume
from isocenter.tasks.interact.engine import Engine
from isocenter.verbs.serving.work_order import EngineEye, Eye


@pytest.fixture(scope="module")
def engine() -> Engine:
    return Engine(volume=None)


def ball(shift: float = 0.0, noise: int = 0) -> tuple[np.ndarray, np.ndarray]:
    z, y, x = np.indices((6, 48, 56)).astype(np.float32)
    mask = (((z - 2.5) / 3) ** 2 + ((y - 24) / 9) ** 2 + ((x - 28 - shift) / 9) ** 2) < 1
    texture = np.random.default_rng(noise).normal(0, 0.05, mask.shape)
    return (mask + texture).astype(np.float32), mask


def test_looks_are_the_same_again_and_nearer_for_what_is_alike(engine):
    one, again, near, far = (
        describe_volume(engine.planes, v)
        for v in (ball()[0], ball()[0], ball(noise=1)[0], np.random.default_rng(3).normal(size=(6, 48, 56)))
    )
    assert np.array_equal(one, again) and np.isfinite(one).all() and one.ndim == 1
    assert np.linalg.norm(one - near) < np.linalg.norm(one - far)
    plane = describe_volume(engine.planes, ball()[0][3:4])
    assert len(one) == BANDS * len(plane)


def test_scale_of_intensities_and_lost_voxels_do_not_matter_much(engine):
    volume = ball()[0]
    one = describe_volume(engine.planes, volume)
    np.testing.assert_allclose(describe_volume(engine.planes, volume * 100 - 7), one, atol=2e-3)
    holed = volume.copy()
    holed[0, 0, 0] = np.nan
    assert np.linalg.norm(describe_volume(engine.planes, holed) - one) < 0.05 * np.linalg.norm(one)
    assert np.isfinite(describe_volume(engine.planes, np.full((3, 20, 20), np.nan, np.float32))).all()


@pytest.mark.slow
def test_doubt_is_less_where_the_answer_is_like_a_confirmed_case(engine):
    confirmed = Confirmed(engine.planes)
    confirmed.add(*ball())
    sure = doubt_of_volume(engine.planes, ball(1.0, noise=5)[0], confirmed)
    unsure = doubt_of_volume(engine.planes, np.random.default_rng(3).normal(size=(6, 48, 56)), confirmed)
    assert 0 <= sure < unsure <= 1


@pytest.mark.slow
def test_the_eye_sees_the_same(engine):
    eye = EngineEye(lambda: engine)
    assert isinstance(eye, Eye) and eye.name == engine.plane_card.sha256[:16]
    volume, mask = ball()
    image = Image(volume[None], Geometry(volume.shape))
    assert np.array_equal(eye.look(image), describe_volume(engine.planes, volume))
    learnt = eye.learn([(image, mask)])
    assert 0 <= eye.doubt(image, learnt) <= 1
    with pytest.raises(TypeError):
        eye.doubt(image, None)
