"""Agreement of readers, against scikit-learn's kappa and by hand."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import DataError, UnitsError
from isocenter.evaluate.agreement import agree_on_classes, agree_on_masks, cohen_kappa, compare_masks
from peers import peer


@pytest.mark.parametrize("weights", ["none", "linear", "quadratic"])
def test_kappa_equals_scikit_learn(weights):
    metrics = peer("sklearn.metrics")
    rng = np.random.default_rng(3)
    for _ in range(20):
        first, second = rng.integers(0, 4, 40), rng.integers(0, 4, 40)
        second = np.where(rng.random(40) < 0.5, first, second)
        theirs = metrics.cohen_kappa_score(
            first, second, labels=range(4), weights=None if weights == "none" else weights
        )
        assert cohen_kappa(first, second, 4, weights=weights) == pytest.approx(theirs)
        assert cohen_kappa(second, first, 4, weights=weights) == pytest.approx(theirs)


def test_one_class_alone_gives_no_kappa():
    same = np.zeros(12, dtype=np.int64)
    assert np.isnan(cohen_kappa(same, same, 2))
    found = agree_on_classes(list("abcdefghijkl"), list("abcdefghijkl"), (["n"] * 12, ["n"] * 12), ("n", "y"))
    assert found.kappa is None and found.interval is None and found.agreed == 1.0


@pytest.mark.parametrize(("first", "second", "classes"), [([0], [0, 1], 2), ([], [], 2), ([0], [2], 2), ([-1], [0], 2)])
def test_kappa_refuses(first, second, classes):
    with pytest.raises(DataError):
        cohen_kappa(np.array(first, dtype=np.int64), np.array(second, dtype=np.int64), classes)


def test_classes_with_interval_and_what_differs():
    names, grades = [f"i{k:02d}" for k in range(24)], ("none", "mild", "severe")
    first = [grades[k % 3] for k in range(24)]
    second = list(first)
    second[3], second[7] = "severe", "severe"  # none -> severe; mild -> severe
    found = agree_on_classes(names, names, (first, second), grades, weights="linear")
    assert found.differing == ("i03", "i07")  # the one farther apart first
    assert found.agreed == pytest.approx(22 / 24)
    assert found.interval is not None and found.interval.low <= found.kappa <= found.interval.high
    assert sum(map(sum, found.table)) == 24 and found.table[0][2] == 1
    with pytest.raises(DataError, match="none of the 3 classes"):
        agree_on_classes(names, names, (first, ["what"] * 24), grades)


def test_masks_are_compared_in_millimetres_and_the_worst_comes_first():
    cases = []
    for number in range(12):
        a = np.zeros((4, 10, 12), bool)
        b = np.zeros((4, 10, 12), bool)
        a[1:3, 2:6, 3:8] = True
        b[1:3, 2:6, 3 + number % 4 : 8 + number % 4] = True
        cases.append(
            compare_masks(f"c{number:02d}", f"p{number}", (a, b), spacing_mm=(2.5, 0.8, 0.7), tolerance_mm=1.0)
        )
        swapped = compare_masks("x", "p", (b, a), spacing_mm=(2.5, 0.8, 0.7), tolerance_mm=1.0)
        assert (swapped.dice, swapped.nsd) == pytest.approx((cases[-1].dice, cases[-1].nsd))
    assert cases[0].volumes_ml == pytest.approx((40 * 2.5 * 0.8 * 0.7 / 1000,) * 2)
    assert cases[1].nsd == 1.0 and cases[3].nsd < 1.0  # 0.7 mm lies within the tolerance, 2.1 mm does not
    found = agree_on_masks(cases, tolerance_mm=1.0)
    assert [c.dice for c in found.cases] == sorted(c.dice for c in cases)
    assert found.dice.low <= found.mean_dice <= found.dice.high and found.nsd.patients == 12


def test_few_patients_and_unknown_spacing_are_said():
    empty = np.zeros((1, 4, 4), bool)
    one = compare_masks("a", "p", (empty, empty), spacing_mm=None, tolerance_mm=2.0)
    assert one.dice == 1.0 and one.nsd is None and one.volumes_ml is None and one.both_empty
    found = agree_on_masks([one], tolerance_mm=2.0)
    assert found.dice is None and found.mean_nsd is None and found.nsd is None
    with pytest.raises(DataError):
        agree_on_masks([], tolerance_mm=2.0)
    with pytest.raises(UnitsError):
        compare_masks("a", "p", (empty, empty), spacing_mm=(1.0, 1.0, 1.0), tolerance_mm=-1.0)
    plane = compare_masks("a", "p", (~empty, ~empty), spacing_mm=(0.5, 0.5), tolerance_mm=0.0)
    assert plane.nsd == 1.0 and plane.volumes_ml is None
