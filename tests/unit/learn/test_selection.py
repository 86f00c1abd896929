"""Orders of labelling: what each method takes, the same every time, never what is labelled."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.learn.selection import METHODS, Pool, choose

DRAWLESS = [m for m in METHODS if m != "random"]


def clusters(sizes=(12, 6, 3), spread: float = 0.1, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    return np.concatenate([c + spread * rng.normal(size=(n, 2)) for c, n in zip(centres, sizes, strict=True)])


@pytest.mark.parametrize("method", METHODS)
def test_every_order_holds_each_free_image_once_and_is_the_same_again(method):
    points = clusters()
    doubt = np.linspace(0.1, 0.9, len(points))
    pool = Pool(points, doubt, labelled=(3, 15))
    found = choose(pool, 100, method=method, seed=4)
    assert sorted(found) == [i for i in range(len(points)) if i not in (3, 15)]
    assert choose(pool, 100, method=method, seed=4) == found
    assert choose(pool, 5, method=method, seed=4) == found[:5]
    assert choose(pool, 0, method=method) == ()


@pytest.mark.parametrize(
    "method", ["core-set", "typical", "representative", "doubtful-representative", "doubtful-core-set"]
)
def test_the_first_three_are_of_three_clusters(method):
    points = clusters()
    owner = np.repeat([0, 1, 2], (12, 6, 3))
    assert {int(owner[i]) for i in choose(Pool(points), 3, method=method)} == {0, 1, 2}
    # With one cluster labelled, the next two are of the others.
    assert {int(owner[i]) for i in choose(Pool(points, labelled=(0,)), 2, method=method)} == {1, 2}


def test_core_set_is_the_greedy_k_centre():
    points = np.random.default_rng(1).normal(size=(30, 4))
    scaled = (points - points.mean(0)) / points.std(0)
    chosen = [5]
    for _ in range(6):
        far = np.linalg.norm(scaled[:, None] - scaled[chosen][None], axis=2).min(axis=1)
        chosen.append(int(far.argmax()))
    assert list(choose(Pool(points, labelled=(5,)), 6, method="core-set")) == chosen[1:]


def test_representative_is_the_greedy_facility_location():
    points = np.random.default_rng(2).normal(size=(25, 3))
    scaled = (points - points.mean(0)) / points.std(0)
    squares = ((scaled[:, None] - scaled[None]) ** 2).sum(2)
    alike = np.exp(-squares / np.median(squares))
    chosen: list[int] = []
    for _ in range(5):
        worth = [alike[[*chosen, i]].max(axis=0).sum() if i not in chosen else -1 for i in range(25)]
        chosen.append(int(np.argmax(worth)))
    assert list(choose(Pool(points), 5, method="representative")) == chosen


def test_typical_takes_the_largest_cluster_first():
    points = clusters(sizes=(4, 12, 6))
    first = choose(Pool(points), 1, method="typical")[0]
    # One cluster of all: the image nearest to its neighbours, one of the dense twelve.
    assert 4 <= first < 16


def test_doubt_moves_the_order():
    points = np.repeat(clusters(), 1, axis=0)
    doubt = np.full(len(points), 0.05)
    doubt[12:18] = 0.9  # the second cluster
    assert 12 <= choose(Pool(points, doubt), 1, method="doubtful-representative")[0] < 18
    assert choose(Pool(points, doubt), 1, method="representative")[0] < 12
    assert 12 <= choose(Pool(points, doubt), 1, method="uncertain")[0] < 18
    nothing = Pool(points, np.zeros(len(points)))
    assert choose(nothing, 4, method="doubtful-representative") == choose(
        Pool(points), 4, method="doubtful-representative"
    )


@pytest.mark.parametrize("method", METHODS)
def test_other_patients_come_first(method):
    points = clusters()
    patients = np.arange(len(points), dtype=np.int64) // 3  # seven patients
    found = choose(Pool(points, strata=patients, labelled=(0,)), 6, method=method)
    assert len({int(patients[i]) for i in found} | {0}) == 7


@pytest.mark.parametrize("method", METHODS)
def test_odd_pools(method):
    assert choose(Pool(np.zeros((0, 3))), 3, method=method) == ()
    assert choose(Pool(np.ones((1, 3))), 3, method=method) == (0,)
    same = Pool(np.ones((4, 2)))
    assert sorted(choose(same, 4, method=method)) == [0, 1, 2, 3]
    if method in DRAWLESS:
        assert choose(same, 4, method=method)[0] == 0  # ties go to the lower index


def test_scale_does_not_matter():
    points = clusters(spread=1.0)
    doubt = np.linspace(0.2, 0.8, len(points))
    for method in DRAWLESS:
        one = choose(Pool(points, doubt), 8, method=method)
        assert choose(Pool(points * np.array([1000.0, 0.001]) + 5, doubt), 8, method=method) == one


def test_large_pools_stay_small_in_memory():
    points = np.random.default_rng(0).normal(size=(9000, 8))
    found = choose(Pool(points, np.full(9000, 0.5)), 3, method="doubtful-representative")
    assert len(set(found)) == 3


def test_what_is_refused():
    points = clusters()
    for bad in (
        {"uncertainty": np.zeros(3)},
        {"uncertainty": np.full(len(points), -1.0)},
        {"uncertainty": np.full(len(points), np.nan)},
        {"labelled": (99,)},
        {"strata": np.zeros(2, dtype=np.int64)},
    ):
        with pytest.raises(DataError):
            Pool(points, **bad)
    with pytest.raises(DataError):
        Pool(np.full((2, 2), np.nan))
    with pytest.raises(ConfigError):
        choose(Pool(points), -1)
