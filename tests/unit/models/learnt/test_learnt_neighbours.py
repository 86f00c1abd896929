"""The index of confirmed cases: distances by a named reference, order, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.distance import cdist

from isocenter.core.errors import WeightsError
from isocenter.models.learnt.neighbours import CaseIndex, distances

RNG = np.random.default_rng(0)
GALLERY = RNG.normal(3, [0.1, 10, 2, 1], (30, 4))


def test_distances_are_cosine_distances_of_standard_numbers() -> None:
    query = GALLERY[7] + 0.01
    mean, spread = GALLERY.mean(0), GALLERY.std(0)
    theirs = cdist((GALLERY - mean) / spread, ((query - mean) / spread)[None], "cosine")[:, 0]
    np.testing.assert_allclose(distances(GALLERY, query), theirs, atol=1e-12)
    scaled = GALLERY * [1000, 1, 0.1, 7] + 5
    np.testing.assert_allclose(distances(scaled, query * [1000, 1, 0.1, 7] + 5), theirs, atol=1e-9)


def test_a_number_that_never_varies_counts_nothing() -> None:
    flat = np.hstack([GALLERY, np.full((30, 1), 4.0)])
    np.testing.assert_allclose(distances(flat, np.append(GALLERY[3], 4.0)), distances(GALLERY, GALLERY[3]), atol=1e-12)


def test_the_nearest_come_first_and_are_the_mean_of_the_networks() -> None:
    names = tuple(f"case {i:02d}" for i in range(30))
    index = CaseIndex(names, tuple("ab"[i % 2] for i in range(30)), (GALLERY, GALLERY[:, :2]))
    found = index.nearest([GALLERY[7], GALLERY[7, :2]], 4)
    assert found[0].case == "case 07" and found[0].label == "b" and found[0].distance == 0
    assert [n.distance for n in found] == sorted(n.distance for n in found) and len(found) == 4
    both = (distances(GALLERY, GALLERY[7]) + distances(GALLERY[:, :2], GALLERY[7, :2])) / 2
    assert found[1].distance == pytest.approx(np.sort(both)[1], abs=1e-6)
    assert len(index.nearest([GALLERY[7], GALLERY[7, :2]], 99)) == 30


def test_equally_near_cases_come_by_name() -> None:
    twice = np.vstack([GALLERY[:5], GALLERY[:5]])
    index = CaseIndex(tuple(f"case {i}" for i in (9, 8, 7, 6, 5, 4, 3, 2, 1, 0)), ("x",) * 10, (twice,))
    assert [n.case for n in index.nearest([GALLERY[0]], 2)] == ["case 4", "case 9"]


def test_it_comes_back_from_its_arrays_and_refuses_others() -> None:
    index = CaseIndex(("case a", "case b"), ("x", "y"), (GALLERY[:2],))
    again = CaseIndex.from_arrays(index.arrays())
    assert (again.names, again.labels) == (index.names, index.labels)
    np.testing.assert_allclose(again.embeddings[0], GALLERY[:2], rtol=1e-6)
    with pytest.raises(WeightsError, match="of other networks"):
        index.nearest([GALLERY[0, :3]], 1)
    with pytest.raises(WeightsError, match="equally many"):
        CaseIndex(("a",), ("x", "y"), (GALLERY[:2],))
    with pytest.raises(WeightsError, match="equally many"):
        CaseIndex((), (), (GALLERY[:0],))
    with pytest.raises(WeightsError, match="not finite"):
        CaseIndex(("a", "b"), ("x", "y"), (GALLERY[:2] * np.nan,))
    with pytest.raises(WeightsError, match="lacks 'names'"):
        CaseIndex.from_arrays({"network-0": GALLERY[:2]})
