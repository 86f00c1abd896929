"""What near cases are worth: by hand, beside chance, and what stands in an index."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.data.labelled import Event
from isocenter.learn.adaptation.nearest import (
    NEAREST,
    gallery_of,
    index_of,
    label_in_words,
    retrieval_of,
    retrieve_held_out,
)


def worlds(n: int, *, apart: float, seed: int = 0):
    """Cases of two classes whose embeddings lie so far apart."""
    rng = np.random.default_rng(seed)
    classes = [i % 2 for i in range(n)]
    return classes, rng.normal(0, 1, (n, 6)) + apart * np.array(classes)[:, None]


def test_classes_that_lie_apart_are_found_and_others_are_chance() -> None:
    classes, seen = worlds(60, apart=6)
    queries = [(f"p{i}", c) for i, c in enumerate(worlds(20, apart=6, seed=1)[0])]
    rows = retrieve_held_out("classify", classes, seen, queries, worlds(20, apart=6, seed=1)[1])
    found = retrieval_of("classify", rows)
    assert found is not None and found["value"] == 1.0 and found["chance"] == 0.5 and found["cases"] == 20
    assert found["low"] == found["high"] == 1.0
    mixed = retrieve_held_out("classify", classes, worlds(60, apart=0)[1], queries, worlds(20, apart=0, seed=1)[1])
    unsure = retrieval_of("classify", mixed)
    assert unsure is not None and unsure["low"] <= unsure["value"] <= unsure["high"]
    assert abs(float(unsure["value"]) - 0.5) < 0.2


def test_findings_share_what_either_has() -> None:
    gallery = [(1, 0, -1)] * 3 + [(1, 1, 0)] * 3
    rows = retrieve_held_out("multilabel", gallery, np.eye(6), [("p", (1, 1, 1))], np.array([[0, 0, 0, 1, 1, 1.0]]))
    assert rows[0].chance == pytest.approx((3 * 0.5 + 3 * 2 / 3) / 6), "what is not known of one counts for nothing"
    none = retrieve_held_out("multilabel", [(0, 0)] * 6, np.eye(6), [("p", (0, 0))], np.ones((1, 6)))
    assert none[0].near == 1


def test_numbers_are_told_by_their_difference() -> None:
    rows = retrieve_held_out("regress", [1.0, 2, 3, 4, 5, 6, 7], np.eye(7) * 9, [("p", 4.0)], np.ones((1, 7)))
    assert rows[0].chance == pytest.approx(12 / 7)
    assert "lower is better" in str(retrieval_of("regress", rows)["measure"])  # type: ignore[index]


def test_few_cases_and_events_are_not_measured() -> None:
    assert retrieve_held_out("classify", [0] * NEAREST, np.eye(NEAREST), [("p", 0)], np.ones((1, NEAREST))) == []
    assert (
        retrieve_held_out("survive", [Event(3, True)] * 9, np.eye(9), [("p", Event(4, False))], np.ones((1, 9))) == []
    )
    assert retrieval_of("survive", []) is None
    few = retrieve_held_out("classify", [0, 1] * 5, np.eye(10), [("p", 0)], np.ones((1, 10)))
    found = retrieval_of("classify", few)
    assert found is not None and found["low"] is None, "one patient bears no interval"


def test_an_index_names_no_case() -> None:
    index = index_of("classify", ("cat", "dog"), [("ab" * 32, 1), ("cd" * 32, 0)], [np.eye(2)])
    assert index.names == ("case abababababab", "case cdcdcdcdcdcd") and index.labels == ("dog", "cat")


def test_labels_in_words() -> None:
    assert label_in_words("survive", ("event",), Event(120, True)) == "event after 120 days"
    assert label_in_words("survive", ("event",), Event(300.5, False)) == "no event within 300.5 days"
    assert label_in_words("multilabel", ("a", "b"), (0, 0)) == "none of 2 findings"
    assert label_in_words("multilabel", ("a", "b"), (0, -1)) == "no a; b not known"
    assert label_in_words("regress", ("value",), 61.25) == "61.25"


def test_a_large_set_is_spread_over_all_of_it() -> None:
    assert gallery_of([3, 1, 3, 2]) == (1, 2, 3)
    found = gallery_of(range(5000))
    assert len(found) == 2000 and found[0] == 0 and found[-1] == 4999 and len(set(found)) == 2000
