"""From the table to people: who is left out and why, and which columns tell the outcome."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.verbs.prognosis.blocks import ReadBlock, read_blocks
from isocenter.verbs.treatment.reading import Asked, PeopleRead, read_others, read_people

COUNT = 120


def _table(tmp_path: Path) -> Path:
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
    return file


def _read(table: Path, outcome: str, leave_out: tuple[str, ...], features: tuple[str, ...] = ()) -> PeopleRead:
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
        wording = read_people(file, Asked(
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
    read = read_people(file, Asked(
        "drug", None, None, "score", None, None, "event", None, "survival", (), (), (), False, False, True, 0.9,
    ))  # fmt: skip
    assert len(read.treated) == 86 and "of 4 people drug is not stated: they were left out" in read.notes
    file.write_text("drug,age,died,seen\n,1,1,1\n,2,0,0\n", "utf-8")
    with pytest.raises(DataError, match="'drug' is empty for everyone"):
        _read(file, "died", ())


def test_a_column_that_tells_the_outcome_is_no_feature(tmp_path: Path) -> None:
    table = _table(tmp_path)
    read = _read(table, "died", ("score", "copy"))
    assert read.plan.names == ("age [a]",)
    assert any("'seen' is no feature: leakage: tells who had the event by itself" in note for note in read.notes)
    read = _read(table, "score", ("died", "seen"))
    assert read.plan.names == ("age [a]",) and any("'copy' is no feature: leakage" in note for note in read.notes)
    with pytest.raises(DataError, match="'seen' can't be a feature: leakage"):
        _read(table, "died", (), ("age", "seen"))


def test_people_without_an_outcome_are_counted_by_option(tmp_path: Path) -> None:
    file = tmp_path / "lost.csv"
    rows = [f"{n % 2},{n * 7 % 13},{'' if n in (3, 5, 8) else n % 3}" for n in range(90)]
    file.write_text("drug,age,score\n" + "\n".join(rows) + "\n", "utf-8")
    read = _read_plain(file)
    assert len(read.treated) == 87
    assert any("of 3 people the outcome is not stated (1 with no drug, 2 with drug)" in note for note in read.notes)


def _read_plain(file: Path, leave_out: tuple[str, ...] = (), **more: object) -> PeopleRead:
    return read_people(file, Asked(
        "drug", None, None, "score", None, None, "event", None, "survival", (), (), leave_out, False, False, True, 0.9,
        **more,  # type: ignore[arg-type]
    ))  # fmt: skip


def _block(*texts: str) -> tuple[ReadBlock, ...]:
    return read_blocks(texts, table=None, patient="patient", batch=None)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("who,x\na,1\n", "names no patient"),
        ("patient,x\nz,1\ny,2\n", "none of its 2 patients is in the table; keys must be written alike"),
        ("patient,x\np1,1\nz,2\n", "1 of its patients are not in the table, the first on line 3, while 89"),
        ("patient,x\np1,1\np1,2\n", "line 3 is of the patient of line 2"),
        ("patient,region,x\np1,a,1\np1,a,2\n", "line 3 is of the patient"),
        ("patient,x\np1,word\np2,other\n", "holds no column of numbers"),
        ("patient,x,taken\np1,1,2020-01-01\n", "has dates (taken): name the column of the index time"),
        ("patient,x\np1,1,2\n", "line 2 has 3 cells"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(tmp_path: Path, text: str, words: str) -> None:
    file, ct = tmp_path / "t.csv", tmp_path / "ct.csv"
    file.write_text("patient,drug,age,score\n" + "".join(f"p{n},{n % 2},{n},{n % 3}\n" for n in range(90)), "utf-8")
    ct.write_text(text, "utf-8")
    with pytest.raises(DataError) as caught:
        _read_plain(file, blocks=_block(f"ct={ct}"))
    assert words in str(caught.value)
    with pytest.raises(ConfigError, match="needs a column of the patient"):
        plain = tmp_path / "plain.csv"
        plain.write_text("drug,age,score\n" + "".join(f"{n % 2},{n},{n % 3}\n" for n in range(90)), "utf-8")
        ct.write_text("patient,x\np1,1\n", "utf-8")
        _read_plain(plain, blocks=_block(f"ct={ct}"))


def test_a_block_after_the_index_time_is_leakage(tmp_path: Path) -> None:
    file, ct = tmp_path / "t.csv", tmp_path / "ct.csv"
    rows = "".join(f"p{n},2020-02-01,{n % 2},{n},{n % 3}\n" for n in range(90))
    file.write_text("patient,seen,drug,age,score\n" + rows, "utf-8")
    for day, late in (("2020-02-01", False), ("2020-02-02", True), ("", True)):
        ct.write_text(
            "patient,taken,x\n" + "".join(f"p{n},{day if n == 3 else '2020-01-01'},{n}\n" for n in range(90)), "utf-8"
        )
        if not late:
            assert "ct: x" in _read_plain(file, blocks=_block(f"ct={ct}"), index_time="seen").plan.names
            continue
        with pytest.raises(DataError, match=r"leakage: block 'ct' is dated later than the index time 'seen'.* 1 rows"):
            _read_plain(file, blocks=_block(f"ct={ct}"), index_time="seen")


def test_a_text_is_a_block_too(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    words = ("mass in the left lung", "no mass", "large mass with necrosis")
    rows = "".join(f"p{n},{n % 2},{n},{n % 5},{words[n % 3]}\n" for n in range(90))
    file.write_text("patient,drug,age,score,report\n" + rows, "utf-8")
    blocks = read_blocks(["report=:report"], table=file, patient="patient", batch=None)
    read = _read_plain(file, blocks=blocks, leave_out=("report",))
    assert read.plan.names[0] == "age" and all(n.startswith("report: hashed") for n in read.plan.names[1:])
    assert len(read.plan.names) > 5


def test_blocks_are_joined_by_patient_and_counted(tmp_path: Path) -> None:
    file, ct = tmp_path / "t.csv", tmp_path / "ct.csv"
    rows = [f"p{n},{n % 2},{n * 7 % 13},{n % 3}" for n in range(90)]
    file.write_text("patient,drug,age,score\n" + "\n".join(rows) + "\n", "utf-8")
    features = [f"p{n},lesion,{n * 5 % 17},synthetic" for n in range(90) if n % 3]
    ct.write_text("patient,region,size [mm],made\n" + "\n".join(features) + "\n", "utf-8")
    read = _read_plain(file, blocks=_block(f"ct={ct}"))
    assert read.plan.names == ("age", "ct: lesion: size [mm]") and read.plan.places == (("ct", (1,)),)
    assert np.isnan(read.raw[::3, 1]).all() and read.raw[1, 1] == 5 and read.synthetic
    (entry,) = read.blocks
    assert (entry.people, entry.untreated, entry.treated, entry.features) == (60, 30, 30, 1)
    assert "block ct: 60 of 90 people have it" in read.notes
    people = tmp_path / "people.csv"
    people.write_text("patient,age\np1,50\nnew,60\n", "utf-8")
    others = read_others(people, read)
    assert others.raw[0].tolist() == [50, 5] and np.isnan(others.raw[1, 1])
    assert read.plan.not_known(others.raw[1]) == ("ct (all of it)",)
    people.write_text("age\n50\n", "utf-8")
    with pytest.raises(ConfigError, match=r"people\.csv needs a column of the patient"):
        read_others(people, read)


def test_what_is_dated_later_is_refused_of_people_too(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    rows = [f"2020-01-05,{n * 7 % 13},2020-01-0{1 + n % 5},{n % 2},{n % 3}" for n in range(90)]
    file.write_text("seen,psa,psa date,drug,score\n" + "\n".join(rows) + "\n", "utf-8")
    read = _read_plain(file, index_time="seen")
    people = tmp_path / "people.csv"
    people.write_text("seen,psa,psa date\n2020-02-01,3,2020-02-01\n", "utf-8")
    assert read_others(people, read).raw.tolist() == [[3]]
    people.write_text("seen,psa,psa date\n2020-02-01,3,2020-02-02\n", "utf-8")
    with pytest.raises(DataError, match="dated later than the index time 'seen'"):
        read_others(people, read)
