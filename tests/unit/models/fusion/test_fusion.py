"""Fusion: sources that are missing, weights that are told, and what is too few."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.ranking import auroc, concordance
from isocenter.models.fusion.fit import Sources, fit_classes, fit_times
from isocenter.models.fusion.network import FusionNet, FusionSettings


def drawn(n: int = 300, *, seed: int = 0) -> tuple[Sources, np.ndarray]:
    """Three sources; the first tells most of the score, the second some, the third nothing. A quarter is missing."""
    rng = np.random.default_rng(seed)
    signal = rng.normal(size=(n, 2))
    mixing = np.random.default_rng(99).normal(size=(2, 6))
    vectors = {
        "ct": signal[:, :1] * mixing[0] + 0.3 * rng.normal(size=(n, 6)),
        "report": signal[:, 1:] * mixing[1] + 0.3 * rng.normal(size=(n, 6)),
        "noise": rng.normal(size=(n, 4)),
    }
    for rows in vectors.values():
        rows[rng.random(n) < 0.25] = np.nan
    return Sources(vectors), 1.5 * signal[:, 0] + 0.7 * signal[:, 1]


@pytest.mark.slow
def test_classes_are_learnt_and_weights_are_told() -> None:
    patients, score = drawn()
    new, truth = drawn(400, seed=1)
    model = fit_classes(patients, (score > 0).astype(np.int64), steps=50)
    found = model.answer(new)
    seen = found.answered
    assert auroc(truth[seen] > 0, found.outputs[seen, 1]) > 0.8
    np.testing.assert_allclose(found.weights[seen].sum(axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(found.outputs[seen].sum(axis=1), 1, atol=1e-6)
    assert (~seen == ~new.present.any(axis=1)).all() and np.isnan(found.outputs[~seen]).all()


@pytest.mark.parametrize("head", [pytest.param("cox", marks=pytest.mark.slow), "discrete"])
def test_times_are_learnt(head: str) -> None:
    if head == "cox":
        pytest.importorskip("torchsurv")
    patients, score = drawn()
    new, truth = drawn(300, seed=2)
    rng = np.random.default_rng(5)
    event, lost = rng.exponential(100 * np.exp(-score)), rng.uniform(50, 400, 300)
    settings = FusionSettings((("any", 1),), head, 1)  # type: ignore[arg-type]
    model = fit_times(patients, np.minimum(event, lost), event <= lost, settings=settings, steps=50)
    seen = new.present.any(axis=1)
    later = rng.exponential(100 * np.exp(-truth))
    if head == "cox":
        risk = model.answer(new).outputs[:, 0]
        with pytest.raises(DataError, match="Cox needs a baseline"):
            model.survival(new, np.array([10.0]))
    else:
        curves = model.survival(new.rows(seen), np.array([10.0, 50.0, 200.0]))
        assert (np.diff(curves, axis=1) <= 0).all() and ((curves >= 0) & (curves <= 1)).all()
        risk = np.full(300, np.nan)
        risk[seen] = 1 - curves[:, 1]
    assert concordance(later[seen], np.ones(int(seen.sum()), dtype=bool), risk[seen]) > 0.68


def test_what_stands_where_a_source_is_missing_is_not_looked_at() -> None:
    net = FusionNet(FusionSettings((("a", 3), ("b", 2)), "classify", 2)).eval()
    present = torch.tensor([[True, False]])
    one, other = torch.full((1, 2), 7.0), torch.full((1, 2), -3.0)
    a = torch.tensor([[1.0, 2.0, 3.0]])
    assert torch.equal(net({"a": a, "b": one}, present)[0], net({"a": a, "b": other}, present)[0])
    assert not torch.equal(
        net({"a": a, "b": one}, torch.tensor([[True, True]]))[0], net({"a": a, "b": one}, present)[0]
    )


def test_missing_parts_leave_every_gradient_a_number() -> None:
    net = FusionNet(FusionSettings((("a", 3), ("b", 2)), "classify", 2, drop_source=0.0))
    b = torch.full((4, 2), float("nan"))
    out, _ = net({"a": torch.randn(4, 3), "b": b}, torch.tensor([[True, False]] * 4))
    out.sum().backward()
    assert all(bool(torch.isfinite(p.grad).all()) for p in net.parameters() if p.grad is not None)
    assert net.missing.grad is not None and bool(net.missing.grad[1].abs().sum() > 0)


def test_dropping_while_learning_keeps_a_source() -> None:
    net = FusionNet(FusionSettings((("a", 1), ("b", 1), ("c", 1)), "cox", 1, drop_source=0.9))
    present = torch.rand(500, 3) > 0.3
    present[~present.any(dim=1)] = torch.tensor([True, False, False])
    kept = net._dropped(present)
    assert bool(kept.any(dim=1).all()) and not bool((kept & ~present).any()) and int(kept.sum()) < int(present.sum())


def test_few_patients_are_too_few() -> None:
    """As of the 12 patients of a small public set with CT, MR, PET and a table."""
    rng = np.random.default_rng(0)
    twelve = Sources({"ct": rng.normal(size=(12, 4)), "pet": rng.normal(size=(12, 4))})
    with pytest.raises(DataError, match="5 patients of class 1 and 7 others are too few"):
        fit_classes(twelve, np.repeat([0, 1], [7, 5]))
    with pytest.raises(DataError, match="6 patients with the event"):
        fit_times(twelve, np.arange(1.0, 13), np.repeat([True, False], 6))


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(DataError, match="a part is missing"):
        Sources({"a": np.array([[1.0, np.nan]])})
    with pytest.raises(DataError, match="a row for each patient"):
        Sources({"a": np.zeros((2, 1)), "b": np.zeros((3, 1))})
    with pytest.raises(ConfigError, match="multiple of the heads"):
        FusionSettings((("a", 1),), "cox", 1, width=5)
    with pytest.raises(ConfigError, match="each name once"):
        FusionSettings((("a", 1), ("a", 1)), "cox", 1)
    net = FusionNet(FusionSettings((("a", 1),), "cox", 1))
    with pytest.raises(DataError, match="no source at all"):
        net({"a": torch.zeros(1, 1)}, torch.tensor([[False]]))
    with pytest.raises(DataError, match="needs the sources a"):
        net({}, torch.tensor([[True]]))
    patients, score = drawn(60)
    model = fit_classes(patients, (score > 0).astype(np.int64), steps=3)
    with pytest.raises(DataError, match="needs 6 numbers of the source 'report'"):
        model.answer(patients.only(["ct", "noise"]))
