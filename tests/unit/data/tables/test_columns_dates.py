"""Dates that are written otherwise are no words and no numbers: what they date would then not be checked."""

from __future__ import annotations

import pytest

from isocenter.core.errors import DataError
from isocenter.data.tables.columns import CategoryColumn, DateColumn, NumberColumn, typed_column


@pytest.mark.parametrize(
    "cells", [["01.12.2015", "2.1.16"], ["20151201", "20160102"], ["2015/12/01", ""], ["2015-12-01", "unclear"]]
)
def test_dates_in_another_form_are_refused_unless_they_are_said_to_be_something_else(cells: list[str]) -> None:
    with pytest.raises(DataError, match="'lab date' looks like dates; write them as 2024-01-31"):
        typed_column("lab date", None, cells, [2, 3], None)
    assert isinstance(typed_column("lab date", None, cells, [2, 3], "category"), CategoryColumn)


def test_what_is_no_date_stays_what_it_is() -> None:
    assert isinstance(typed_column("seen", None, ["2015-12-01", "NA"], [2, 3], None), DateColumn)
    assert isinstance(typed_column("cells", None, ["20159999", "3"], [2, 3], None), NumberColumn)
    assert isinstance(typed_column("cells", "/mL", ["20151201", "20160102"], [2, 3], None), NumberColumn)
