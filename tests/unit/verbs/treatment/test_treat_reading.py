"""From the table to people: who is left out and why, and which columns tell the outcome."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import DataError
from isocenter.verbs.evaluation.tables import Table, read_table
from isocenter.verbs.treatment.reading import Asked, PeopleRead, read_people

COUNT = 120


def _table(tmp_path: Path) -> Table:
    """People whose `died` and `score` are told by `seen` and `copy`; of the first ten no option is stated."""
    rng = np.random.default_rng(0)
    age, score = rng.normal(60, 9, COUNT), rng.normal(0, 1, COUNT)
    died = rng.random(COUNT) < 0.5
    drug = np.where(np.arange(COUNT) % 2 == 0, "new", "usual").astype(object)
    drug[:10], drug[10:15] = "", "third"
    rows = [
        f"{d},{a:.2f},{int(e)},{s:.3f},{e + 0.1 * x:.3f},{-3 * s + 0.01 * x:.3f}"
        for d, a, e, s, x in zip(drug, age, died, score, rng.normal(size=COUNT), strict=True)
    ]
    file = tmp_path / "t.csv"
    file.write_text("drug,age [a],died,score,seen,copy\n" + "\n".join(rows) + "\n", "utf-8")
    return read_table(file)


def _read(table: Table, outcome: str, leave_out: tuple[str, ...], features: tuple[str, ...] = ()) -> PeopleRead:
    return read_people(table, Asked(
        "drug", "new", "usual", outcome, None, None, "event", None, "survival", (), features, leave_out, True, False,
        True, 0.9,
    ))  # fmt: skip


def test_a_good_event_turns_what_is_better_round(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    rows = [f"{n % 2},{rng.integers(1, 200)},{int(rng.random() < 0.8)},{rng.normal():.3f}" for n in range(COUNT)]
    file = tmp_path / "t.csv"
    file.write_text("drug,days,healed,age\n" + "\n".join(rows) + "\n", "utf-8")
    for good, direction in ((False, "healing is bad"), (True, "healing is good")):
        wording = read_people(read_table(file), Asked(
            "drug", None, None, None, "days", "healed", "healing", 100.0, "survival", (), (), (), False, good, True,
            0.9,
        )).outcome.wording  # fmt: skip
        assert wording.bad is good and wording.direction == direction


def test_a_treatment_that_is_not_stated_is_no_other_option(tmp_path: Path) -> None:
    read = _read(_table(tmp_path), "died", ("seen",))
    assert len(read.treated) == COUNT - 15
    assert "of 10 people drug is not stated: they were left out" in read.notes
    assert "5 people got another option and were left out" in read.notes


def test_without_named_options_empty_cells_are_no_option(tmp_path: Path) -> None:
    file = tmp_path / "z.csv"
    rows = [f"{'' if n < 4 else n % 2},{n * 7 % 13},{n % 3}" for n in range(90)]
    file.write_text("drug,age,score\n" + "\n".join(rows) + "\n", "utf-8")
    read = read_people(read_table(file), Asked(
        "drug", None, None, "score", None, None, "event", None, "survival", (), (), (), False, False, True, 0.9,
    ))  # fmt: skip
    assert len(read.treated) == 86 and "of 4 people drug is not stated: they were left out" in read.notes
    file.write_text("drug,age\n,1\n,2\n", "utf-8")
    with pytest.raises(DataError, match="'drug' is empty for everyone"):
        _read(read_table(file), "died", ())


def test_a_column_that_tells_the_outcome_is_no_feature(tmp_path: Path) -> None:
    table = _table(tmp_path)
    read = _read(table, "died", ("score", "copy"))
    assert read.plan.names == ("age [a]",)
    assert "'seen' is no feature: leakage: by itself it tells 'died' almost perfectly" in read.notes
    read = _read(table, "score", ("died", "seen"))
    assert read.plan.names == ("age [a]",) and any("'copy' is no feature: leakage" in note for note in read.notes)
    with pytest.raises(DataError, match="'seen' can't be a feature: leakage"):
        _read(table, "died", (), ("age", "seen"))
