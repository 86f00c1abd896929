"""Clinical tables: typed, with units; leakage, missing values and impossible outcomes."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError, UnitsError
from isocenter.data.tables import (
    BooleanColumn,
    CategoryColumn,
    ClinicalTable,
    Codes,
    DateColumn,
    NumberColumn,
    features_in_time,
    missingness,
    read_clinical,
    read_outcome,
    telling_gaps,
)

PLAIN = """id,age [a],creatinine [mg/dL],sex,smoker,grade,seen,time,event
a,61,1.1,F,yes,2,2020-01-05,100,1
b,48,,M,no,1,2020-02-01,250.5,0
c,70,0.8,F,NA,2,2020-03-01,30,1
"""


def table(tmp_path: Path, text: str, name: str = "t.csv", **settings: object) -> ClinicalTable:
    file = tmp_path / name
    file.write_text(text, "utf-8")
    return read_clinical(file, **settings)  # type: ignore[arg-type]


def test_columns_are_typed(tmp_path: Path) -> None:
    found = table(tmp_path, PLAIN, patient="id", kinds={"grade": "category"}, units={"creatinine": "g/L"})
    assert found.patients == ("a", "b", "c") and found.patients_known and len(found) == 3
    age, creatinine = found.number("age"), found.number("creatinine")
    assert age.unit == "a" and age.values.tolist() == [61, 48, 70]
    assert creatinine.unit == "g/L"
    np.testing.assert_allclose(creatinine.values, [0.011, np.nan, 0.008])
    sex, smoker, grade, seen = (found.column(n) for n in ("sex", "smoker", "grade", "seen"))
    assert isinstance(sex, CategoryColumn) and sex.levels == ("F", "M") and sex.codes.tolist() == [0, 1, 0]
    assert isinstance(smoker, BooleanColumn) and smoker.missing.tolist() == [False, False, True]
    assert isinstance(grade, CategoryColumn) and grade.levels == ("1", "2")
    assert isinstance(seen, DateColumn) and str(seen.values[1]) == "2020-02-01"


def test_arff_declares_its_columns(tmp_path: Path) -> None:
    text = "% c\n@relation x\n@attribute 'tumour size [mm]' numeric\n@attribute g {'I','II'}\n@data\n12,'II'\n?,'I'\n"
    found = table(tmp_path, text, "t.arff")
    assert found.number("tumour size", "cm").values[0] == pytest.approx(1.2)
    assert found.column("tumour size").missing.tolist() == [False, True]
    assert found.column("g").codes.tolist() == [1, 0]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "settings", "error", "words"),
    [
        ("a [mg/dl/],b\n1,2\n", {}, UnitsError, "heading 'a \\[mg/dl/\\]'"),
        ("a [mg],b\nlots,2\n", {}, DataError, "line 2: 'a' holds what is no finite number"),
        ("a [mg],b\ninf,2\n", {}, DataError, "no finite number"),
        ("a [mg],b\n1,2\n", {"units": {"a": "mL"}}, UnitsError, "does not convert"),
        ("a,b\n1,2\n", {"units": {"a": "mg"}}, UnitsError, "'1' does not convert"),
        ("a [mg],b\n1,2\n", {"kinds": {"a": "category"}}, UnitsError, "only numbers have units"),
        ("a,b\n1,2\n", {"kinds": {"c": "number"}}, ConfigError, "no column 'c'"),
        ("a,b\n1,2\n", {"kinds": {"a": "colour"}}, ConfigError, "none of number"),
        ("a,a\n1,2\n", {}, DataError, "stands twice"),
        ("a,b\n1\n", {}, DataError, "line 2 has 1 cells"),
        ("a,b\n", {}, DataError, "needs a heading and a row"),
        ("p,b\n,1\n", {"patient": "p"}, DataError, "line 2 has no patient"),
        ("a\n2020-13-01\n", {"kinds": {"a": "date"}}, DataError, "no date"),
    ],
)  # fmt: skip
def test_what_can_not_be_read_is_said(
    tmp_path: Path, text: str, settings: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        table(tmp_path, text, **settings)


def test_free_text_is_no_feature_and_named(tmp_path: Path) -> None:
    found = table(tmp_path, "note,b\n" + "".join(f"word{n},{n}\n" for n in range(60)))
    assert found.text == ("note",) and list(found.columns) == ["b"]


def test_a_message_holds_no_value(tmp_path: Path) -> None:
    with pytest.raises(DataError) as raised:
        table(tmp_path, "a [mg]\nSmith\n")
    assert "Smith" not in str(raised.value)


DATED = """index,psa [ng/mL],psa date,born,grade
2020-06-01,4.0,2020-05-01,1950-01-01,1
2020-06-01,5.0,2020-07-01,1960-01-01,2
"""


def test_what_is_dated_later_is_refused_by_name(tmp_path: Path) -> None:
    read = table(tmp_path, DATED)
    with pytest.raises(DataError, match=r"psa \(1 rows\)"):
        features_in_time(read, "index")
    left = features_in_time(read, "index", refuse=False)
    assert left.refused == {"psa": 1} and list(left.table.columns) == ["born before index", "grade"]
    assert left.table.number("born before index").unit == "d"
    assert left.table.number("born before index", "a").values[0] == pytest.approx(70.4, abs=0.05)


def test_a_column_dated_by_another_as_stated(tmp_path: Path) -> None:
    text = "index,ct,when\n2020-06-01,4,2020-06-02\n"
    with pytest.raises(DataError, match=r"ct \(1 rows\)"):
        features_in_time(table(tmp_path, text), "index", dated_by={"ct": "when"})


def test_a_date_that_is_itself_later_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"progression \(1 rows\)"):
        features_in_time(table(tmp_path, "index,progression\n2020-06-01,2021-01-01\n"), "index")


def test_dates_without_an_index_time_and_in_the_future(tmp_path: Path) -> None:
    read = table(tmp_path, DATED)
    with pytest.raises(DataError, match="need the column of the index time"):
        features_in_time(read, None)
    with pytest.raises(DataError, match="1 dates of 'psa date' lie in the future, the first on line 3"):
        features_in_time(read, "index", today=date(2020, 6, 15))


def test_missing_by_group(tmp_path: Path) -> None:
    read = table(tmp_path, PLAIN, patient="id")
    shown = {m.column: m for m in missingness(read, ["x", "x", "y"])}
    assert shown["creatinine"].count == 1 and shown["creatinine"].by_group == {"x": 0.5, "y": 0.0}
    with pytest.raises(DataError):
        missingness(read, ["x"])


def test_gaps_that_tell_the_outcome(tmp_path: Path) -> None:
    text = "cause,age,event\n" + "heart,1,1\n" * 5 + ",2,0\n" * 5
    read = table(tmp_path, text)
    assert telling_gaps(read, np.array([True] * 5 + [False] * 5)) == ("cause",)


def test_times_are_in_days(tmp_path: Path) -> None:
    read = table(tmp_path, "t [wk],e\n1,dead\n2,alive\n,dead\n3,other\n")
    found = read_outcome(read, "t", "e", Codes("dead", "alive", ("other",)))
    assert found.days.tolist() == [7, 14, 21] and found.codes.tolist() == [1, 0, 2]
    assert found.known.tolist() == [True, True, False, True] and found.happened.tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("text", "codes", "words"),
    [
        ("t,e\n-1,1\n5,1\n", Codes(), "1 times of 't' are negative, the first on line 2"),
        ("t,e\n1,0\n5,0\n", Codes(), "nobody had the event"),
        ("t,e\n1,1\n5,2\n", Codes(), "not explained"),
        ("t,e\n0,1\n0,0\n", Codes(), "all times of 't' are 0"),
        ("t [mg],e\n1,1\n", Codes(), "does not convert"),
        ("t,e\nyes,1\n", Codes(), "must hold numbers"),
        ("t,e\n1,1\n", Codes("1", "1"), "must differ"),
        ("t,x\n1,1\n", Codes(), "needs a column 'e'"),
    ],
)
def test_impossible_outcomes(tmp_path: Path, text: str, codes: Codes, words: str) -> None:
    with pytest.raises(DataError, match=words):
        read_outcome(table(tmp_path, text), "t", "e", codes)


def test_rows_are_chosen_in_every_kind_of_column(tmp_path: Path) -> None:
    read = table(tmp_path, PLAIN, patient="id")
    part = read.rows(np.array([2, 0], dtype=np.int64))
    assert part.patients == ("c", "a") and part.number("age").values.tolist() == [70, 61]
    assert isinstance(part.column("seen"), DateColumn) and isinstance(part.column("age"), NumberColumn)


def test_a_date_column_is_found_in_any_case_of_letters(tmp_path: Path) -> None:
    text = "index,crp,crp Date\n2020-06-01,4,2020-07-01\n"
    assert features_in_time(table(tmp_path, text), "index", refuse=False).refused == {"crp": 1}


def test_a_later_date_that_dates_no_column_is_an_error(tmp_path: Path) -> None:
    read = table(tmp_path, "index,crp,taken\n2020-06-01,4,2020-07-01\n2020-06-01,4,2020-05-01\n")
    with pytest.raises(DataError, match=r"date no column: taken \(1 rows\)"):
        features_in_time(read, "index", refuse=False)
    assert features_in_time(read, "index", dated_by={"crp": "taken"}, refuse=False).refused == {"crp": 1}


@pytest.mark.parametrize(
    ("index", "taken", "late"),
    [
        ("2020-06-01T08:00", "2020-06-01T16:00", True),
        ("2020-06-01 16:00:00", "2020-06-01T08:00", False),
        ("2020-06-01", "2020-06-01T08:00", True),
        ("2020-06-01T08:00", "2020-06-01", True),
        ("2020-06-01", "2020-05-31T23:59", False),
        ("2020-06-01", "2020-06-01", False),
        ("2020-06-01", "2020-06-01 00:00:00", False),
    ],
)
def test_times_of_the_day_of_the_index(tmp_path: Path, index: str, taken: str, late: bool) -> None:
    read = table(tmp_path, f"index,crp,crp date\n{index},4,{taken}\n")
    assert features_in_time(read, "index", refuse=False, today=date(2020, 6, 1)).refused == ({"crp": 1} if late else {})


def test_days_before_the_index_have_parts_where_both_have_times(tmp_path: Path) -> None:
    text = "index,born\n2020-06-01T18:00,2020-05-31T06:00\n2020-06-01T12:00,2020-05-31\n"
    found = features_in_time(table(tmp_path, text).rows(np.array([1, 0], dtype=np.int64)), "index")
    assert found.table.number("born before index").values.tolist() == [1.0, 1.5]


@pytest.mark.parametrize("cell", ["2020-06-01T08:00Z", "2020-06-01x", "2020-06-01T25:00"])
def test_moments_that_are_none(tmp_path: Path, cell: str) -> None:
    with pytest.raises(DataError, match="no date"):
        table(tmp_path, f"a,b\n{cell},1\n")


def test_long_codes_stay_apart(tmp_path: Path) -> None:
    text = "t,e,site,big\n1,1234561,1234560,12345678901234567\n2,1234560,1234561,12345678901234568\n"
    read = table(tmp_path, text, kinds={"site": "category", "big": "category"})
    site, big = read.column("site"), read.column("big")
    assert isinstance(site, CategoryColumn) and site.levels == ("1234560", "1234561")
    assert isinstance(big, CategoryColumn) and len(big.levels) == 2
    found = read_outcome(read, "t", "e", Codes("1234561", "1234560"))
    assert found.codes.tolist() == [1, 0]
    same = table(tmp_path, "a,b\n1,1\n1.0,2\n0.5,3\n", kinds={"a": "category"}).column("a")
    assert isinstance(same, CategoryColumn) and same.levels == ("0.5", "1")


def test_a_first_column_without_a_heading(tmp_path: Path) -> None:
    assert list(table(tmp_path, ",a\n1,5\n2,6\n").columns) == ["a"]
    assert list(table(tmp_path, ",a\n1,5\n1,6\n").columns) == ["row", "a"]
    assert table(tmp_path, ",a\nx,5\ny,6\n", patient="row").patients == ("x", "y")
