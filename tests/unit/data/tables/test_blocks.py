"""Blocks of features: joined by patient, and whatever does not fit is refused with its line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.tables import (
    Block,
    CategoryColumn,
    DateColumn,
    NumberColumn,
    block_files,
    block_table,
    join_block,
    says_synthetic,
)

PATIENTS = ("a", "b", "c")
ONE = "patient,region,volume [mL],texture\nc,lesion,3.5,0.1\na,lesion,1.5,0.2\n"


def _join(tmp_path: Path, text: str, **settings: object) -> Block:
    file = tmp_path / "ct.csv"
    file.write_text(text, "utf-8")
    return join_block("ct", block_table("ct", file), PATIENTS, **settings)  # type: ignore[arg-type]


def _numbers(block: Block, name: str) -> list[float]:
    column = block.columns[name]
    assert isinstance(column, NumberColumn)
    return column.values.tolist()


def test_a_block_is_joined_by_patient_whatever_the_order(tmp_path: Path) -> None:
    found = _join(tmp_path, ONE)
    assert list(found.columns) == ["ct: volume", "ct: texture"] and found.regions == ()
    assert _numbers(found, "ct: volume") == pytest.approx([1.5, np.nan, 3.5], nan_ok=True)
    assert found.columns["ct: volume"].unit == "mL"  # type: ignore[union-attr]
    assert found.present.tolist() == [True, False, True] and found.counted == "ct: 2 of 3 people have it"
    assert not found.synthetic


def test_several_regions_have_columns_of_their_own(tmp_path: Path) -> None:
    found = _join(tmp_path, ONE + "a,liver,900,0.3\n")
    assert found.regions == ("lesion", "liver")
    assert _numbers(found, "ct: liver: volume") == pytest.approx([900, np.nan, np.nan], nan_ok=True)
    assert _numbers(found, "ct: lesion: texture") == pytest.approx([0.2, np.nan, 0.1], nan_ok=True)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("who,x\na,1\n", "needs a column of the patient: patient, case"),
        (ONE + "z,lesion,2,0.4\n", "1 of 3 rows are of patients that the table does not know, the first on line 4"),
        ("patient,x\nz,1\ny,2\n", "has no patient in common with the table"),
        (ONE + "a,lesion,2,0.4\n", "line 4 is of the patient and region of line 3"),
        ("patient,x\na,1\na,2\n", "line 3 is of the patient of line 2"),
        ("patient,region,x\na,,1\nb,lesion,2\n", "line 2 has no region"),
        (
            "patient,region,x\n" + "".join(f"a,r{n},1\n" for n in range(21)),
            "21 different regions; with more than 20",
        ),
        ("patient,made\na,synthetic\n", "has no column of features"),
        ("patient,acquired,x\na,2020-01-01,1\n", "has dates (acquired); they need --index-time"),
        ("patient,x\na,1,2\n", "line 2 has 3 cells, the heading has 2"),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(DataError) as caught:
        _join(tmp_path, text)
    assert words in str(caught.value)


def test_patients_that_are_asked_about_may_stand_in_it(tmp_path: Path) -> None:
    assert _join(tmp_path, ONE + "z,lesion,2,0.4\n", others=("z",)).present.sum() == 2


def test_a_row_after_the_index_time_is_leakage(tmp_path: Path) -> None:
    moment = DateColumn("seen", np.array(["2020-02-01"] * 3, dtype="datetime64[D]"))
    text = "patient,acquired,x\na,2020-01-31,1\nb,{},2\n"
    found = _join(tmp_path, text.format("2020-02-01"), index_time=moment)
    assert list(found.columns) == ["ct: x"] and found.left_out == ("ct: acquired: a date",)
    for late in ("2020-02-02", ""):
        with pytest.raises(DataError, match=r"leakage: block 'ct': 1 rows are dated \(acquired\) later .* line 3"):
            _join(tmp_path, text.format(late), index_time=moment)


def test_a_folder_of_phenotypes_is_one_block(tmp_path: Path) -> None:
    for name, text in (("p1", "patient,region,volume [mL],made\na,lesion,2,synthetic\n"),
                       ("p2", "patient,region,volume [cL],kind\nb,lesion,0.3,x\n")):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "features.csv").write_text(text, "utf-8")
    found = join_block("ct", block_table("ct", tmp_path), PATIENTS)
    assert _numbers(found, "ct: volume") == pytest.approx([2, 3, np.nan], nan_ok=True) and found.synthetic
    kind = found.columns["ct: kind"]
    assert isinstance(kind, CategoryColumn) and kind.codes.tolist() == [-1, 0, -1]
    (tmp_path / "p2" / "features.csv").write_text("patient,region,volume\nb,lesion,big\n", "utf-8")
    with pytest.raises(DataError, match="'volume' is of another kind than in the files before"):
        block_table("ct", tmp_path)
    with pytest.raises(DataError, match=r"no folder in it holds a features\.csv"):
        (tmp_path / "empty").mkdir()
        block_table("ct", tmp_path / "empty")


def test_names_of_blocks() -> None:
    assert block_files(["ct=a.csv"]) == {"ct": Path("a.csv")}
    for texts in (["ct"], ["=a"], ["ct="], ["ct=a", "ct=b"]):
        with pytest.raises(ConfigError):
            block_files(texts)


def test_invented_people_are_known_by_their_names_or_a_column(tmp_path: Path) -> None:
    for text, says in (
        ("patient,x,made\na,1,\nb,2,SYNTHETIC\n", True), ("patient,x\nsynthetic-000001,1\n", True), (ONE, False)
    ):  # fmt: skip
        file = tmp_path / "t.csv"
        file.write_text(text, "utf-8")
        assert says_synthetic(block_table("t", file)) is says
