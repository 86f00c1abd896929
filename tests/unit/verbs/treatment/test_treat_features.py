"""Features of `isocenter treat`: what is a feature, units, leakage, and what of a person is not known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError, UnitsError
from isocenter.data.tables import ClinicalTable, read_clinical
from isocenter.verbs.treatment.document import AmountEntry
from isocenter.verbs.treatment.features import FeaturePlan, Known, Wanted, feature_plan
from isocenter.verbs.treatment.icons import icons_svg


def _table(tmp_path: Path, text: str, name: str = "t.csv", **settings: object) -> ClinicalTable:
    file = tmp_path / name
    file.write_text(text, "utf-8")
    return read_clinical(file, **settings)  # type: ignore[arg-type]


LEARNT = (
    "patient,haemoglobin [g/dL],sex,seen,same,drug\na,12,male,2001-01-01,x,1\nb,10,female,2001-02-01,x,0\n"
    "c,,male,2002-01-01,x,1\n"
)
DRUG = Wanted(frozenset({"drug", "seen"}))


def _learnt(tmp_path: Path, wanted: Wanted = DRUG) -> FeaturePlan:
    return feature_plan(_table(tmp_path, LEARNT, patient="patient"), wanted)


def test_features_are_typed_and_the_rest_is_named(tmp_path: Path) -> None:
    table = _table(tmp_path, LEARNT, patient="patient")
    plan = feature_plan(table, DRUG)
    assert plan.names == ("haemoglobin [g/dL]", "sex: male")
    assert dict(plan.left_out) == {"same": "it is the same for everyone"}
    values, unseen = plan.values(table)
    assert values[:2].tolist() == [[12, 1], [10, 0]] and np.isnan(values[2, 0]) and unseen == [None] * 3
    assert [plan.not_known(row) for row in values] == [(), (), ("haemoglobin",)]


def test_another_unit_is_converted_or_refused(tmp_path: Path) -> None:
    plan = _learnt(tmp_path)
    other = _table(tmp_path, "sex,haemoglobin [g/L]\nfemale,125\nunknown,110\n", "o.csv")
    values, unseen = plan.values(other)
    assert values[:, 0] == pytest.approx([12.5, 11.0])
    assert unseen[0] is None and unseen[1] == "nobody among those learnt from has this value of sex"
    with pytest.raises(UnitsError, match=r"'haemoglobin': 'mmol/L' does not convert to 'g/dL'"):
        plan.values(_table(tmp_path, "sex,haemoglobin [mmol/L]\nmale,7\n", "m.csv"))
    with pytest.raises(UnitsError, match="'1' does not convert to 'g/dL'"):
        plan.values(_table(tmp_path, "sex,haemoglobin\nmale,7\n", "n.csv"))
    values, _ = plan.values(_table(tmp_path, "sex\nmale\n", "p.csv"))
    assert np.isnan(values[0, 0]) and plan.not_known(values[0]) == ("haemoglobin",)
    with pytest.raises(DataError, match="no column that the model learnt with is there"):
        plan.values(_table(tmp_path, "height\n1\n", "q.csv"))


def test_wanted_features_must_be_possible(tmp_path: Path) -> None:
    table = _table(tmp_path, LEARNT, patient="patient")
    taken = frozenset({"drug"})
    assert feature_plan(table, Wanted(taken, ("haemoglobin",), index_time="seen")).names == ("haemoglobin [g/dL]",)
    for wanted, error, why in (
        ("drug", DataError, "treatment or an outcome"),
        ("same", DataError, "the same for everyone"),
        ("height", ConfigError, "no column 'height'"),
    ):
        with pytest.raises(error, match=why):
            feature_plan(table, Wanted(taken, (wanted,), index_time="seen"))
    with pytest.raises(DataError, match=r"columns of dates \(seen\) need the column of the index time"):
        feature_plan(table, Wanted(taken))
    with pytest.raises(DataError, match="no column that can be a feature"):
        feature_plan(_table(tmp_path, "drug,same\n1,x\n0,x\n", "q.csv"), Wanted(taken))


DATED = (
    "seen,psa [ng/mL],psa date,born,drug\n2020-01-05,4,2020-01-01,1960-01-05,1\n2020-02-05,5,{},1961-02-05,0\n"
    "2020-02-05,7,2020-01-01,1962-02-05,0\n"
)


def test_what_is_dated_later_than_the_index_time_is_no_feature(tmp_path: Path) -> None:
    wanted = Wanted(frozenset({"drug"}), index_time="seen")
    plan = feature_plan(_table(tmp_path, DATED.format("2020-02-05")), wanted)
    assert plan.names == ("psa [ng/mL]", "born before seen [d]")
    late = _table(tmp_path, DATED.format("2020-02-06"), "late.csv")
    plan = feature_plan(late, wanted)
    assert plan.names == ("born before seen [d]",)
    assert dict(plan.left_out)["psa"].startswith("leakage: dated later than the index time")
    with pytest.raises(DataError, match="'psa' can't be a feature: leakage: dated later than the index time"):
        feature_plan(late, Wanted(frozenset({"drug"}), ("psa",), index_time="seen"))
    with pytest.raises(DataError, match=r"dates of 'psa date' lie in the future, the first on line 3"):
        feature_plan(_table(tmp_path, DATED.format("2199-01-01"), "f.csv"), wanted)


def test_columns_that_were_filled_in_afterwards_are_no_features(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    drug, died = rng.random(200) < 0.5, rng.random(200) < 0.4
    rows = [
        f"{a:.1f},{'' if not d else 'x' if n % 2 else 'y'},{'3' if e else ''},{500 * (1 - e) + 5 * a:.1f}"
        for n, (a, d, e) in enumerate(zip(rng.normal(60, 9, 200), drug, died, strict=True))
    ]
    table = _table(tmp_path, "age [a],course,cause,last\n" + "\n".join(rows) + "\n")
    days = 300.0 - 200 * died + rng.random(200)
    outcome = Known("death", drug, None, False, days, died)
    plan = feature_plan(table, Wanted(frozenset()), [outcome])
    assert plan.names == ("age [a]",)
    why = dict(plan.left_out)
    assert "filled in because of the treatment" in why["course"] and "filled in because of" in why["cause"]
    assert why["last"].startswith("leakage: tells who had the event by itself")
    for name in ("course", "cause", "last"):
        with pytest.raises(DataError, match=f"'{name}' can't be a feature: leakage"):
            feature_plan(table, Wanted(frozenset(), (name,)), [outcome])


def test_a_column_in_the_order_of_the_events_is_follow_up(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    days, happened = rng.exponential(300, 200), rng.random(200) < 0.6
    rows = [f"{a:.1f},{d + e:.1f}" for a, d, e in zip(rng.normal(60, 9, 200), days, rng.random(200), strict=True)]
    table = _table(tmp_path, "age [a],visits\n" + "\n".join(rows) + "\n")
    plan = feature_plan(
        table, Wanted(frozenset()), [Known("death", happened, None, False, days, rng.random(200) < 0.6)]
    )
    assert plan.names == ("age [a]",) and "in the order of their events by itself" in dict(plan.left_out)["visits"]


def test_columns_of_a_block_are_counted_and_found(tmp_path: Path) -> None:
    table = _table(tmp_path, "ct: a,age,ct: b,ct: c\n1,50,2,1\n2,60,3,1\n3,70,,1\n")
    plan = feature_plan(table, Wanted(frozenset(), (), {"ct": ("ct: a", "ct: b", "ct: c")}))
    assert plan.names == ("ct: a", "age", "ct: b") and plan.places == (("ct", (0, 2)),)
    assert plan.left_out == (("ct: c", "it is the same for everyone"),)
    with pytest.raises(DataError, match="no column of block 'mr' can be a feature: it is the same for everyone"):
        feature_plan(table, Wanted(frozenset(), (), {"mr": ("ct: c",)}))
    gap = np.nan
    assert plan.not_known(np.array([gap, gap, gap])) == ("age", "ct (all of it)")
    assert plan.not_known(np.array([1.0, 50.0, gap])) == ("ct (1 of 2 columns)",)


def test_a_hundred_people_are_drawn_and_told() -> None:
    drawn = icons_svg("new <b>", "are alive", AmountEntry(value=0.574, low=0.4, high=0.7, level=0.9))
    assert drawn.count("<use") == 100 and drawn.count("person-yes") == 57
    assert "of 100 people like this, about 57 (40 to 70) are alive" in drawn
    assert "<b>" not in drawn, "names are escaped"
