"""Blocks as components: those who are held out are never looked at, and components agree with scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest

import isocenter.tasks.treat.nuisance as nuisance_module
from isocenter.tasks.treat import Cases, cross_fit, fit_effects, fit_preparation, fit_reduction, folds_of

BLOCKS = (("ct", tuple(range(2, 22))), ("mr", (0, 1)))


def _features(count: int = 120) -> np.ndarray:
    rng = np.random.default_rng(1)
    few = rng.normal(size=(count, 4))
    return np.hstack([few[:, :2], few @ rng.normal(size=(4, 20)) + 0.05 * rng.normal(size=(count, 20))])


def test_components_are_those_of_scikit_learn() -> None:
    decomposition = pytest.importorskip("sklearn.decomposition")
    features = _features()
    found = fit_reduction(features, BLOCKS)
    theirs = decomposition.PCA(n_components=0.95, whiten=True, svd_solver="full").fit(features[:, 2:])
    own = found(features)
    assert found.rest == (0, 1) and own.shape[1] == 2 + theirs.n_components_, "a block of few stays as it is"
    scale = np.sqrt((len(features) - 1) / len(features))
    expected = theirs.transform(features[:, 2:]) / scale
    assert np.abs(own[:, 2:]) == pytest.approx(np.abs(expected), abs=1e-8)
    assert found.names([f"f{n}" for n in range(22)])[:3] == ("f0", "f1", "ct, component 1")
    assert own[:, 2:].std(axis=0) == pytest.approx(np.ones(own.shape[1] - 2))


def test_at_most_eight_components_and_a_constant_block_has_none() -> None:
    rng = np.random.default_rng(2)
    assert fit_reduction(rng.normal(size=(80, 40)), (("ct", tuple(range(40))),))(np.zeros((1, 40))).shape == (1, 8)
    assert fit_reduction(np.ones((80, 12)), (("ct", tuple(range(12))),)).parts == ()


def test_who_is_held_out_changes_no_component(monkeypatch: pytest.MonkeyPatch) -> None:
    features, rng = _features(), np.random.default_rng(3)
    treated = rng.random(120) < 0.5
    cases = Cases(features, treated, rng.normal(size=120), blocks=BLOCKS)
    seen: list[np.ndarray] = []

    def spy(own: np.ndarray, blocks: object) -> object:
        seen.append(own)
        return fit_reduction(own, blocks)  # type: ignore[arg-type]

    monkeypatch.setattr(nuisance_module, "fit_reduction", spy)
    cross_fit(cases, randomised=False, folds=4, seed=0, learners=("line", "line"))
    parts = [learn for learn, _ in folds_of(treated, 4, 0)]
    assert len(seen) == 8, "of each fold for treatment and for outcome"
    for n, own in enumerate(seen):
        assert np.array_equal(own, features[parts[n % 4]])


def test_learners_take_whole_blocks_and_know_their_own_components() -> None:
    pytest.importorskip("econml")
    features, rng = _features(300), np.random.default_rng(4)
    treated = rng.random(300) < 0.5
    outcome = features[:, 5] * treated + 0.1 * rng.normal(size=300)
    model = fit_effects(Cases(features, treated, outcome, blocks=BLOCKS), "t-learner", resamples=0)
    assert np.corrcoef(model.effects(features).effect, features[:, 5])[0, 1] > 0.95
    assert model.name == "t-learner"


def test_a_missing_block_is_said_once() -> None:
    raw = _features()
    raw[::5, 2:] = np.nan
    raw[1, 7] = np.nan
    made = fit_preparation(raw, [f"f{n}" for n in range(22)], BLOCKS)
    assert [n for n in made.names if "not stated" in n] == ["ct, not stated"]
    assert made.blocks == (("ct", tuple(range(2, 22))), ("mr", (0, 1)))
    assert not made.outside(raw * 100)[:, 2:].any() and made.outside(raw * 100)[:, :2].any()
