"""A planted gap is found, one that isn't there is not, and no group is lost."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from isocenter.core.errors import DataError
from isocenter.evaluate.ranking import auroc
from isocenter.evaluate.robustness import domain_shift, drop_curve
from isocenter.evaluate.statistics import compare_groups, share_by_patient
from isocenter.evaluate.subgroups import (
    NOT_STATED,
    SubgroupSettings,
    age_bands,
    as_groups,
    by_subgroup,
    names_patients,
    thirds,
)

QUICK = SubgroupSettings(resamples=250)


def _patients(count: int) -> list[str]:
    return [f"p{i}" for i in range(count)]


def test_a_planted_gap_is_found_and_named() -> None:
    rng = np.random.default_rng(0)
    sex, site = rng.choice(["F", "M"], 120), rng.choice(["A", "B", "C"], 120)
    values = rng.normal(0.85, 0.03, 120) - 0.08 * ((sex == "F") & (site == "B"))
    found = by_subgroup(
        lambda i: float(values[i].mean()), _patients(120), {"sex": sex.tolist(), "site": site.tolist()}, QUICK
    )
    assert found.worst is not None and found.worst.name == "sex F, site B"
    assert found.worst.p_corrected is not None and found.worst.p_corrected < 0.06
    assert found.worst.gap is not None and found.worst.gap.high < 0
    assert len(found.rows) == 2 + 3 + 6 and found.tested == 11 and not found.too_small
    inside = values[(sex == "F") & (site == "B")]
    assert found.worst.value == pytest.approx(inside.mean())


def test_a_bad_site_is_found_however_many_groups_are_tested() -> None:
    """Of 100 deals p can't go below 1/101: with 16 sites no gap at all could have been significant after correction."""
    rng = np.random.default_rng(0)
    sites, scanner = np.repeat([f"s{n}" for n in range(16)], 12), np.tile(list("abcd"), 48)
    values = rng.normal(0.9, 0.02, 192) - 0.5 * (sites == "s3")
    groups = {"site": sites.tolist(), "scanner": scanner.tolist()}
    found = by_subgroup(
        lambda i: float(values[i].mean()), _patients(192), groups, SubgroupSettings(resamples=100)
    )  # fmt: skip
    assert found.worst is not None and found.worst.name == "site s3" and found.tested == 20
    assert found.worst.p is not None and found.worst.p < 1 / 101
    assert found.worst.p_corrected is not None and found.worst.p_corrected < 0.01
    assert all(row.p_least is not None and row.p_least < 0.05 for row in found.rows if row.p is not None)
    assert found.notes == ("64 pairs of groups with fewer than 5 patients are not listed",)


def test_columns_are_a_family_of_their_own() -> None:
    rng = np.random.default_rng(3)
    values = rng.normal(0, 1, 160)
    groups = {name: rng.choice(["a", "b"], 160).tolist() for name in ("one", "two", "three")}
    statistic = lambda i: float(values[i].mean())  # noqa: E731
    alone = by_subgroup(statistic, _patients(160), groups, SubgroupSettings(resamples=99, intersections=False))
    both = by_subgroup(statistic, _patients(160), groups, SubgroupSettings(resamples=99))
    assert both.tested > alone.tested
    assert [row.p_corrected for row in both.rows[:6]] == [row.p_corrected for row in alone.rows]


def test_a_test_that_could_find_nothing_says_so() -> None:
    """Patients on both sides: p comes from resamples, and deals further than asked for."""
    values, member = np.tile([0.0, 1.0], 20), np.tile([False, True], 20)
    whose = np.repeat(_patients(20), 2).tolist()
    short = compare_groups(lambda i: float(values[i].mean()), whose, member, resamples=100)
    assert short.p == pytest.approx(2 / 101) == short.least_p
    long = compare_groups(lambda i: float(values[i].mean()), whose, member, resamples=100, most=2000)
    assert long.p == pytest.approx(2 / 2001) == long.least_p and long.difference == short.difference


@pytest.mark.parametrize(
    "name",
    ["PatientName", "patient_name", "Patient's Name", "patient name", "PatientID", "patient_id", "PatientBirthDate",
     "birth_date", "date of birth", "DOB", "AccessionNumber", "accession_number", "StudyInstanceUID",
     "sop_instance_uid",
     "StudyDate", "study date", "acquisitiondate", "AcquisitionDateTime", "ReferringPhysicianName", "mrn"],
)  # fmt: skip
def test_columns_that_name_patients_make_no_groups(name: str) -> None:
    assert names_patients(name)
    groups, notes = as_groups({name: ["1961-02-03"] * 20, "sex": ["F", "M"] * 10})
    assert set(groups) == {"sex"} and "1961" not in "".join(notes) and name in notes[0]


def test_other_columns_do() -> None:
    for name in ("sex", "age", "PatientAge", "site", "site_id", "StationName", "candidate", "pleural fluid", "kVp"):
        assert not names_patients(name), name


def test_values_that_few_share_are_pooled() -> None:
    """Whatever the column is called: 24 names of two patients each reach neither a row nor a note."""
    who = [f"Doe{n // 2}" for n in range(48)]
    groups, _ = as_groups({"reader": who, "sex": ["F", "M"] * 24})
    found = by_subgroup(lambda i: float(i.mean()), _patients(48), groups, QUICK)
    assert "Doe" not in repr(found) and [r.name for r in found.rows if r.columns == ("reader",)] == [
        "reader other (24 levels)"
    ]


def test_shares_by_patient() -> None:
    """One case each: scipy's exact interval. All cases of a patient alike: that of the patients."""
    kept = np.arange(60) % 10 != 0
    one = share_by_patient(kept, _patients(60), level=0.99)
    theirs = stats.binomtest(54, 60).proportion_ci(0.99, method="exact")
    assert (one.low, one.high) == pytest.approx((theirs.low, theirs.high))
    many = share_by_patient(np.repeat(kept, 5), np.repeat(_patients(60), 5).tolist(), level=0.99)
    assert (many.low, many.high) == pytest.approx((theirs.low, theirs.high), abs=0.02)
    assert many.value == one.value and (many.patients, many.images) == (60, 300)
    all_kept = share_by_patient([True] * 100, np.repeat(_patients(20), 5).tolist(), level=0.99)
    alone = stats.binomtest(20, 20).proportion_ci(0.99, method="exact")
    assert (all_kept.low, all_kept.high) == pytest.approx((alone.low, 1.0))
    with pytest.raises(DataError, match="needs cases"):
        share_by_patient([], [])


def test_small_groups_and_silence_are_listed() -> None:
    sex = ["F"] * 20 + ["M"] * 20 + ["X"] * 3 + [""] * 2
    values = np.linspace(0, 1, 45)
    found = by_subgroup(lambda i: float(values[i].mean()), _patients(45), {"sex": sex}, QUICK)
    names = {row.levels[0]: row for row in found.rows}
    assert set(names) == {"F", "M", "other (1 level)", NOT_STATED}, "a level of three patients is not named"
    assert sum(row.cases for row in found.rows) == 45
    assert names["other (1 level)"].value is None and "3, and 10 are needed" in names["other (1 level)"].reason
    assert [row.levels[0] for row in found.too_small] == ["other (1 level)", NOT_STATED]
    one = by_subgroup(lambda i: float(values[i].mean()), _patients(45), {"site": ["A"] * 45}, QUICK)
    assert one.worst is None and "nothing to compare" in one.rows[0].reason


def test_two_columns_tell_nothing_twice() -> None:
    values = np.linspace(0, 1, 40)
    sex = ["F", "M"] * 20
    groups = {"sex": sex, "copy": [s.lower() for s in sex], "site": ["A"] * 10 + [""] * 30}
    found = by_subgroup(lambda i: float(values[i].mean()), _patients(40), groups, QUICK)
    names = [row.name for row in found.rows]
    assert "sex F, copy f" not in names, "the very cases of sex F"
    assert not [n for n in names if NOT_STATED in n and "," in n] and f"site {NOT_STATED}" in names
    assert {"sex F, site A", "sex M, site A"} <= set(names)


def test_levels_are_in_the_order_of_their_numbers() -> None:
    size = thirds([str(1000 * n) for n in range(1, 31)])
    age = age_bands([str(5 + 3 * n) for n in range(30)])
    values = np.linspace(0, 1, 30)
    found = by_subgroup(lambda i: float(values[i].mean()), _patients(30), {"size": size, "age": age}, QUICK)
    single = [row.levels[0] for row in found.rows if len(row.levels) == 1]
    assert single == [
        "1,000 to 10,000", "11,000 to 20,000", "21,000 to 30,000",
        "under 18", "18 to 39", "40 to 64", "65 to 79", "80 and over",
    ]  # fmt: skip


def test_lower_can_be_better() -> None:
    values = np.repeat([1.0, 3.0], 12)
    groups = {"site": ["A"] * 12 + ["B"] * 12}
    found = by_subgroup(
        lambda i: float(values[i].mean()), _patients(24), groups, SubgroupSettings(higher_is_better=False, resamples=99)
    )
    assert found.worst is not None and found.worst.name == "site B"


def test_a_figure_that_is_not_defined_in_a_group_says_so() -> None:
    truth = np.array([True, False] * 10 + [False] * 12)
    scores = np.random.default_rng(0).random(32)
    groups = {"site": ["A"] * 20 + ["B"] * 12}
    found = by_subgroup(lambda i: auroc(truth[i], scores[i]), _patients(32), groups, QUICK)
    rows = {row.levels[0]: row for row in found.rows}
    assert "not defined in this group" in rows["B"].reason and rows["B"].value is None
    assert rows["A"].value is not None and rows["A"].gap is None and rows["A"].reason


def test_no_gap_is_rarely_found() -> None:
    rng = np.random.default_rng(5)
    found = 0
    for seed in range(20):
        values, groups = rng.normal(0, 1, 60), {"g": rng.choice(["a", "b", "c"], 60).tolist()}
        report = by_subgroup(
            lambda i, v=values: float(v[i].mean()), _patients(60), groups, SubgroupSettings(resamples=99, seed=seed)
        )
        found += any(row.p_corrected is not None and row.p_corrected <= 0.05 for row in report.rows)
    assert found <= 4


def test_the_permutation_agrees_with_scipy() -> None:
    rng = np.random.default_rng(1)
    values, member = np.concatenate([rng.normal(0, 1, 20), rng.normal(0.6, 1, 15)]), np.arange(35) >= 20
    ours = compare_groups(lambda i: float(values[i].mean()), _patients(35), member, resamples=1000)
    theirs = stats.permutation_test(
        (values[member], values[~member]), lambda x, y, axis: np.mean(x, axis=axis) - np.mean(y, axis=axis),
        vectorized=True, n_resamples=5000, rng=np.random.default_rng(0),
    ).pvalue  # fmt: skip
    assert ours.test == "permutation by patient" and ours.p == pytest.approx(theirs, abs=0.03)
    assert ours.difference.value == pytest.approx(values[member].mean() - values[~member].mean())


def test_patients_on_both_sides_are_drawn_with_both() -> None:
    rng = np.random.default_rng(2)
    level = np.repeat(rng.normal(0, 5, 20), 2)
    values, member = level + np.tile([0.0, 1.0], 20), np.tile([False, True], 20)
    found = compare_groups(
        lambda i: float(values[i].mean()), np.repeat(_patients(20), 2).tolist(), member, resamples=200
    )
    assert found.test == "bootstrap by patient"
    assert (found.difference.low, found.difference.high) == pytest.approx((1.0, 1.0)), "each patient is its own control"


def test_bands() -> None:
    assert age_bands(["0", "18", "39.9", "64", "65", "079Y"]) == [
        "under 18", "18 to 39", "18 to 39", "40 to 64", "65 to 79", "65 to 79",
    ]  # fmt: skip
    with pytest.raises(DataError, match="age of case 2"):
        age_bands(["3", "old"])
    with pytest.raises(DataError, match="age of case 1"):
        age_bands(["-1"])
    with pytest.raises(DataError, match="case 1 is not a number"):
        thirds(["big"])
    groups, notes = as_groups(
        {"size_ml": [str(v) for v in range(9)], "grade": list("112211221"), "kind": ["a"] * 9, "empty": [""] * 9}
    )
    assert sorted(set(groups["size_ml"])) == ["0 to 2", "3 to 5", "6 to 8"] and set(groups["grade"]) == {"1", "2"}
    assert "empty" not in groups and "'empty'" in notes[0]
    assert as_groups({"name": [f"n{i}" for i in range(40)]})[0] == {}


@pytest.mark.parametrize("make", [lambda: by_subgroup(lambda i: 1.0, ["a"], {"x": ["1", "2"]}),
                                  lambda: by_subgroup(lambda i: float("nan"), ["a"], {"x": ["1"]}),
                                  lambda: SubgroupSettings(least_patients=3)])  # fmt: skip
def test_bad_input(make) -> None:
    with pytest.raises(DataError):
        make()


def test_a_drop_counts_who_was_answered() -> None:
    rng = np.random.default_rng(0)
    clean = rng.normal(0.9, 0.02, 20)
    values = {0: clean, 1: clean - 0.1, 5: clean - 0.5}
    answered = {0: np.ones(20, bool), 1: np.arange(20) < 15, 5: np.zeros(20, bool)}
    curve = drop_curve("noise", lambda g, i: float(values[g][i].mean()), answered, _patients(20), resamples=200)
    assert [p.answered for p in curve.points] == [20, 15, 0]
    assert curve.points[1].drop is not None and curve.points[1].drop.value == pytest.approx(-0.1)
    assert curve.points[1].drop.low == pytest.approx(-0.1), "paired: patients' own levels cancel"
    assert curve.points[2].value is None and curve.points[2].reason == "no case was answered"
    few = drop_curve(
        "noise", lambda g, i: float(values[g][i].mean()), {g: np.arange(20) < 8 for g in values}, _patients(20)
    )
    assert few.points[0].value is not None and "8 patients are too few" in few.points[0].reason
    with pytest.raises(DataError, match="grade 0"):
        drop_curve("noise", lambda g, i: 0.0, {1: answered[1]}, _patients(20))


def test_a_shift_between_two_sites_leaves_the_third_out() -> None:
    values = np.repeat([0.9, 0.7, 0.1], 12)
    sites = ["A"] * 12 + ["B"] * 12 + ["C"] * 12
    found = domain_shift(lambda i: float(values[i].mean()), _patients(36), sites, ("A", "B"), resamples=200)
    assert (found.outside, found.inside) == pytest.approx((0.9, 0.7)) and found.p < 0.01
    with pytest.raises(DataError, match="twice"):
        domain_shift(lambda i: 0.0, _patients(36), sites, ("A", "A"))
    with pytest.raises(DataError, match="10"):
        domain_shift(lambda i: 0.0, _patients(36), sites, ("A", "nowhere"))
