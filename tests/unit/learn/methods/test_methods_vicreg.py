"""VICReg: its three terms by hand, and it learns."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from isocenter.learn.methods.vicreg import METHOD, RECIPE
from isocenter.learn.methods.vicreg.loss import covariance, invariance, variance
from isocenter.learn.methods.vicreg.model import BatchNorm
from isocenter.learn.methods.vicreg.transform import views
from isocenter.learn.pretraining.crops import generator
from isocenter.learn.pretraining.trainer import begun
from method_cases import linear_probe, trained
from pretraining_cases import settings_of, toy


def test_the_terms_by_hand() -> None:
    """Channels (0, 1, 2), (0, 3, 0) and (5, 5, 5): variances 1, 3, 0; the covariance of the first two is 0."""
    z = torch.tensor([[0.0, 0.0, 5.0], [1.0, 3.0, 5.0], [2.0, 0.0, 5.0]])
    short = [max(0.0, 1 - math.sqrt(v + 1e-4)) for v in (1.0, 3.0, 0.0)]
    assert float(variance(z)) == pytest.approx(sum(short) / 3, rel=1e-5)
    assert float(covariance(z)) == pytest.approx(0.0, abs=1e-6)
    doubled = torch.stack([z[:, 0], 2 * z[:, 0]], dim=1)  # covariance 2, twice off the diagonal, over 2 channels
    assert float(covariance(doubled)) == pytest.approx((2.0**2 + 2.0**2) / 2)
    assert float(invariance(z, z + torch.tensor([1.0, 0.0, 2.0]))) == pytest.approx((1 + 4) / 3)


def test_the_loss_is_the_weighted_sum_as_in_algorithm_1() -> None:
    args = METHOD.configure(settings_of("vicreg", invariance=2.0, variance=3.0, covariance=5.0))
    learner = begun(RECIPE, args)
    rng = np.random.default_rng(0)
    looks = torch.stack([views(args, rng.normal(size=(1, 40, 40)), generator(k))["looks"] for k in range(5)])
    assert tuple(looks.shape) == (5, 2, 1, 32, 32)
    loss, terms = learner({"looks": looks})
    a, b = (learner.expander(learner.backbone.embed(looks[:, k])) for k in range(2))
    assert (terms["invariance"]).item() == pytest.approx((((a - b) ** 2).mean()).item(), rel=1e-4)
    assert (terms["variance"]).item() == pytest.approx((variance(a) + variance(b)).item(), rel=1e-4)
    total = 2 * terms["invariance"] + 3 * terms["variance"] + 5 * terms["covariance"]
    assert (loss).item() == pytest.approx((total).item(), rel=1e-6)
    assert set(terms) == set(learner.figures)


def test_the_expander_normalises_as_torch_does() -> None:
    ours, theirs = BatchNorm(6), torch.nn.BatchNorm1d(6)
    x = torch.randn(9, 6) * 3 + 2
    assert torch.allclose(ours(x), theirs(x), atol=1e-5)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy(tmp_path_factory.mktemp("images") / "toy", 48)


@pytest.mark.parametrize("name", ["vicreg", "vicreg-residual"])
def test_it_learns(name: str, images: Path, tmp_path: Path) -> None:
    steps, checks, (before, after) = trained(name, images, tmp_path, steps=60, validate_every=30)
    assert np.mean([r["loss"] for r in steps[-5:]]) < 0.9 * np.mean([r["loss"] for r in steps[:5]])
    assert checks[-1]["std_expander"] > 1.3 * checks[0]["std_expander"], "channels come to life"
    assert linear_probe(after, images) >= linear_probe(before, images) + 0.15
