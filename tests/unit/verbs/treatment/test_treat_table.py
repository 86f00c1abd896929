"""Tables of `isocenter treat`: what is a feature, units, and what is refused with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import DataError, UnitsError
from isocenter.verbs.evaluation.tables import Table, read_table
from isocenter.verbs.treatment.document import AmountEntry
from isocenter.verbs.treatment.icons import icons_svg
from isocenter.verbs.treatment.table import convert, feature_plan, patients_of, yes_no


def _table(tmp_path: Path, text: str, name: str = "t.csv") -> Table:
    file = tmp_path / name
    file.write_text(text, "utf-8")
    return read_table(file)


LEARNT = (
    "patient,haemoglobin [g/dL],sex,seen,same,drug\na,12,male,2001-01-01,x,1\nb,10,female,2001-02-01,x,0\n"
    "c,,male,2002-01-01,x,1\n"
)


def test_features_are_typed_and_the_rest_is_named(tmp_path: Path) -> None:
    table = _table(tmp_path, LEARNT)
    plan = feature_plan(table, ["drug"])
    assert plan.names == ("haemoglobin [g/dL]", "sex: male")
    assert dict(plan.left_out) == {"seen": "dates are no features", "same": "it is the same for everyone"}
    values, unseen = plan.values(table)
    assert values[:2].tolist() == [[12, 1], [10, 0]] and np.isnan(values[2, 0]) and unseen == [None] * 3


def test_another_unit_is_converted_or_refused(tmp_path: Path) -> None:
    plan = feature_plan(_table(tmp_path, LEARNT), ["drug"])
    other = _table(tmp_path, "sex,haemoglobin [g/L]\nfemale,125\nunknown,110\n", "o.csv")
    values, unseen = plan.values(other)
    assert values[:, 0] == pytest.approx([12.5, 11.0])
    assert unseen[0] is None and unseen[1] == "nobody among those learnt from has this value of sex"
    with pytest.raises(UnitsError, match=r"'haemoglobin': mmol/L does not convert to g/dL"):
        plan.values(_table(tmp_path, "sex,haemoglobin [mmol/L]\nmale,7\n", "m.csv"))
    with pytest.raises(UnitsError, match="no unit does not convert"):
        plan.values(_table(tmp_path, "sex,haemoglobin\nmale,7\n", "n.csv"))
    with pytest.raises(DataError, match=r"needs a column 'haemoglobin \[g/dL\]'"):
        plan.values(_table(tmp_path, "sex\nmale\n", "p.csv"))
    assert convert("x", "%", "1") == 0.01 and convert("x", "a", "d") == 365.25


def test_wrong_cells_are_told_by_line_and_not_by_value(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"line 3: haemoglobin \[g/dL\] is no number") as caught:
        table = _table(tmp_path, LEARNT.replace("10,female", "zebra,female"))
        feature_plan(table, ["drug"]).values(table)
    assert "zebra" not in str(caught.value)
    with pytest.raises(DataError, match="line 4 is of the person of line 2"):
        patients_of(_table(tmp_path, LEARNT.replace("c,,", "a,,")))
    with pytest.raises(DataError, match="line 2: drug is neither 1 nor 0"):
        yes_no(_table(tmp_path, LEARNT.replace("x,1", "x,7")), "drug")
    assert patients_of(_table(tmp_path, "age\n1\n2\n")) == ("row 1", "row 2")


def test_wanted_features_must_be_possible(tmp_path: Path) -> None:
    table = _table(tmp_path, LEARNT)
    assert feature_plan(table, ["drug"], ["haemoglobin"]).names == ("haemoglobin [g/dL]",)
    for wanted, why in (("drug", "treatment or an outcome"), ("seen", "dates"), ("height", "needs a column 'height'")):
        with pytest.raises(DataError, match=why):
            feature_plan(table, ["drug"], [wanted])
    with pytest.raises(DataError, match="no column that can be a feature"):
        feature_plan(_table(tmp_path, "drug,same\n1,x\n0,x\n", "q.csv"), ["drug"])


def test_a_hundred_people_are_drawn_and_told() -> None:
    drawn = icons_svg("new <b>", "are alive", AmountEntry(value=0.574, low=0.4, high=0.7, level=0.9))
    assert drawn.count("<use") == 100 and drawn.count("person-yes") == 57
    assert "of 100 people like this, about 57 (40 to 70) are alive" in drawn
    assert "<b>" not in drawn, "names are escaped"
