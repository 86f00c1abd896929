"""The baselines do what their names say on an easy picture."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.evaluate.interactive import Case, run_session
from isocenter.evaluate.interactive_baselines import GeodesicDistance, OtsuInBox, RandomWalker
from isocenter.evaluate.interactive_user import BoxUser, CentreClicks


def disc(shape=(1, 60, 200), noise=0.02):
    z, y, x = np.ogrid[tuple(slice(n) for n in shape)]
    target = np.broadcast_to((y - 30) ** 2 + (x - 90) ** 2 < 15**2, shape) & (z >= 0)
    image = target + np.random.default_rng(0).normal(0, noise, shape)
    return Case("disc", "discs", "OT", "p", image.astype(np.float32), target)


@pytest.mark.parametrize("method", [RandomWalker(), GeodesicDistance()])
def test_a_click_finds_a_plain_disc(method):
    result = run_session(method, disc(), CentreClicks(), 3)
    assert result.dice[0] > 0.85 and result.dice[-1] > 0.9


@pytest.mark.parametrize("shape", [(1, 60, 200), (4, 60, 120)])
def test_otsu_answers_a_box_and_nothing_else(shape):
    case = disc(shape)
    assert run_session(OtsuInBox(), case, BoxUser(), 1).dice[0] > 0.95
    assert run_session(OtsuInBox(), case, CentreClicks(), 1).dice[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", [RandomWalker(), GeodesicDistance(), OtsuInBox()])
def test_flat_pictures_do_no_harm(method):
    case = disc()
    flat = Case("flat", "discs", "OT", "p", np.zeros_like(case.image), case.target)
    user = BoxUser() if method.name == "Otsu in a box" else CentreClicks()
    assert all(0 <= d <= 1 for d in run_session(method, flat, user, 3).dice)
