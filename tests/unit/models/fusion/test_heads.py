"""Heads: losses by hand, and intervals of time."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isocenter.core.errors import DataError
from isocenter.models.fusion.heads import cox_loss, hazard_loss
from isocenter.models.fusion.intervals import Intervals, cut_time
from isocenter.tasks.prognose.cox import partial_likelihood


def test_the_loss_of_cox_is_the_partial_likelihood() -> None:
    pytest.importorskip("torchsurv")
    rng = np.random.default_rng(0)
    risk, days, happened = rng.normal(size=40), rng.integers(1, 12, 40).astype(float), rng.random(40) < 0.7
    loss = cox_loss(torch.tensor(risk), torch.tensor(days), torch.tensor(happened))
    expected = -partial_likelihood(risk[:, None], days, happened, np.ones(1)) / happened.sum()
    assert float(loss) == pytest.approx(expected, rel=1e-6)


def test_the_loss_of_hazards_by_hand() -> None:
    logits = torch.tensor([[0.2, -1.0, 0.5], [0.2, -1.0, 0.5]])
    h = torch.sigmoid(logits[0]).numpy().astype(float)
    loss = hazard_loss(logits, torch.tensor([1, 3]), torch.tensor([True, False]))
    first = -np.log(1 - h[0]) - np.log(h[1])
    second = -np.log(1 - h).sum()
    assert float(loss) == pytest.approx((first + second) / 2, rel=1e-6)


def test_intervals_hold_equally_many_events_and_curves_interpolate() -> None:
    days = np.arange(1.0, 101)
    cut = cut_time(days, np.ones(100, dtype=bool), most=4)
    assert len(cut) == 4 and cut.ends[-1] == 100
    passed, event = cut.place(np.array([3.0, 60.0, 100.0, 200.0]), np.array([True, False, True, True]))
    assert passed.tolist()[0] == 0 and event.tolist() == [True, False, True, False]
    curve = Intervals(np.array([10.0, 20.0])).survival(np.array([[0.19, 0.5]]), np.array([0.0, 5.0, 10.0, 20.0, 99.0]))
    np.testing.assert_allclose(curve[0], [1.0, 0.9, 0.81, 0.405, 0.405])
    with pytest.raises(DataError):
        cut_time(np.array([1.0]), np.array([False]))
