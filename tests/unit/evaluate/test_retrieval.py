"""Retrieval and discrimination by hand: ranks, ties, chance, areas and their intervals."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.discrimination import bootstrap_roc_auc, roc_auc
from isocenter.evaluate.retrieval import (
    average_precisions,
    chance_at_k,
    chance_precision,
    chance_reciprocal_rank,
    choices,
    hits_at_k,
    mean_reciprocal_rank,
    ndcg_at_k,
    recall_at_k,
    reciprocal_ranks,
)

SIMILAR = np.array([[0.9, 0.1, 0.5, 0.3], [0.4, 0.3, 0.2, 0.1], [0.1, 0.2, 0.8, 0.9]])
RIGHT = np.array([[1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 1, 0]], dtype=bool)


def test_hits_by_hand():
    assert hits_at_k(SIMILAR, RIGHT, 1).tolist() == [1, 0, 0]
    assert hits_at_k(SIMILAR, RIGHT, 2).tolist() == [1, 0, 1]
    assert hits_at_k(SIMILAR, RIGHT, 3).tolist() == [1, 1, 1]
    two = RIGHT.copy()
    two[1, 0] = True  # a second right candidate, ranked first
    assert hits_at_k(SIMILAR, two, 1).tolist() == [1, 1, 0]


def test_finding_all_alike_is_finding_nothing():
    assert hits_at_k(np.ones((3, 4)), RIGHT, 3).sum() == 0


def test_chance_is_what_random_orders_reach():
    right = np.array([[1, 1, 0, 0, 0], [0, 0, 0, 0, 1]], dtype=bool)
    for k in (1, 2, 3, 5, 9):
        mean = np.mean(
            [
                hits_at_k(np.tile(-np.array(order, float), (2, 1)), right, k).mean()
                for order in itertools.permutations(range(5))
            ]
        )
        assert chance_at_k(right, k) == pytest.approx(mean)


def test_retrieval_refuses():
    with pytest.raises(ConfigError, match="k must be 1"):
        hits_at_k(SIMILAR, RIGHT, 0)
    with pytest.raises(DataError, match="query number 1 has no right"):
        hits_at_k(SIMILAR, RIGHT & np.array([[1], [0], [1]], dtype=bool), 1)
    with pytest.raises(DataError, match="not finite"):
        hits_at_k(SIMILAR * np.nan, RIGHT, 1)
    with pytest.raises(DataError, match="2 true and 1 false"):
        choices(np.zeros(2), np.zeros(1))


def test_area_by_hand_and_by_counting_pairs():
    rng = np.random.default_rng(0)
    scores, present = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4
    pairs = [(a > b) + 0.5 * (a == b) for a in scores[present] for b in scores[~present]]
    assert roc_auc(scores, present) == pytest.approx(np.mean(pairs))
    assert roc_auc(-scores, present) == pytest.approx(1 - np.mean(pairs))


def test_interval_of_an_area():
    rng = np.random.default_rng(1)
    present = np.arange(60) % 2 == 0
    scores = rng.normal(present * 1.0, 1.0)
    patients = [str(i // 2) for i in range(60)]
    found = bootstrap_roc_auc(scores, present, patients, resamples=300)
    assert found.low < found.value == roc_auc(scores, present) < found.high and found.patients == 30
    assert bootstrap_roc_auc(scores, present, patients, resamples=300) == found


def test_areas_refuse():
    scores, present = np.arange(4.0), np.array([True, True, True, True])
    with pytest.raises(DataError, match="4 of 4 have it"):
        roc_auc(scores, present)
    with pytest.raises(DataError, match="one finite score"):
        roc_auc(scores * np.nan, present)
    mixed = np.array([True, False, False, False])
    with pytest.raises(DataError, match="4 patients are too few"):
        bootstrap_roc_auc(scores, mixed, list("abcd"))
    with pytest.raises(DataError, match="one patient alone"):
        bootstrap_roc_auc(np.arange(12.0), np.arange(12) == 0, list("abcdefghijkl"))


@pytest.mark.parametrize("seed", range(4))
def test_ranks_and_gains_equal_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    similarity = np.round(rng.random((20, 9)), 1 if seed % 2 else 9)
    gains = rng.integers(0, 4, (20, 9)).astype(float)
    gains[:, 0] += 1
    for k in (1, 3, 9):
        assert ndcg_at_k(gains, similarity, k=k) == pytest.approx(metrics.ndcg_score(gains, similarity, k=k))
    one = np.zeros((20, 9), bool)
    one[np.arange(20), rng.integers(0, 9, 20)] = True
    if not seed % 2:  # with one right candidate and no ties the reciprocal rank is the label ranking precision
        expected = metrics.label_ranking_average_precision_score(one, similarity)
        assert mean_reciprocal_rank(one, similarity) == pytest.approx(expected)
    assert recall_at_k(one, similarity, k=3) == hits_at_k(similarity, one, 3).mean()


def test_bad_rankings_are_refused():
    right = np.eye(2, dtype=bool)
    with pytest.raises(DataError, match="no right candidate"):
        mean_reciprocal_rank(np.array([[True, False], [False, False]]), np.ones((2, 2)))
    with pytest.raises(DataError, match="not finite"):
        mean_reciprocal_rank(right, np.full((2, 2), np.nan))
    with pytest.raises(DataError, match="below 0"):
        ndcg_at_k(np.array([[1.0, -1.0]]), np.ones((1, 2)), k=1)
    with pytest.raises(ConfigError):
        ndcg_at_k(np.ones((1, 2)), np.ones((1, 2)), k=0)


@pytest.mark.parametrize("seed", range(4))
def test_average_precision_equals_scikit_learn(seed):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(seed)
    similarity, right = rng.random((15, 12)), rng.random((15, 12)) < 0.3
    right[:, 3] = True
    expected = [metrics.average_precision_score(r, s) for r, s in zip(right, similarity, strict=True)]
    assert average_precisions(similarity, right).tolist() == pytest.approx(expected)
    assert mean_reciprocal_rank(right, similarity) == reciprocal_ranks(similarity, right).mean()


def test_ties_count_against_in_average_precision():
    right = np.array([[True, False, True]])
    assert average_precisions(np.ones((1, 3)), right).tolist() == pytest.approx([(1 / 2 + 2 / 3) / 2])
    assert reciprocal_ranks(np.ones((1, 3)), right).tolist() == [0.5]


def test_chance_of_ranks_and_precision_is_what_random_orders_reach():
    right = np.array([[1, 1, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 1, 1, 1]], dtype=bool)
    orders = [np.tile(-np.array(order, float), (3, 1)) for order in itertools.permutations(range(5))]
    assert chance_reciprocal_rank(right) == pytest.approx(np.mean([reciprocal_ranks(o, right) for o in orders]))
    assert chance_precision(right) == pytest.approx(np.mean([average_precisions(o, right) for o in orders]))
    assert chance_precision(np.ones((1, 1), bool)) == 1.0
