"""A report is held back by a later version of itself alone, and never in silence."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

from isocenter.data.catalog.catalog import open_catalog
from isocenter.verbs.archive_folder import problems_of
from isocenter.verbs.ingest import ingest

from .conftest import table

CLEAR = "FINDINGS: Lungs clear in the first examination of this person today."
MASS = "FINDINGS: A new mass of 3 cm in the left upper lobe, suspicious."


def held(archive: Path) -> dict[str, str | None]:
    """Return why reports are held back, by the word that tells them apart."""
    rows = open_catalog(archive).sql("SELECT text, held FROM reports").to_pylist()
    return {"mass" if "mass" in r["text"] else "clear": r["held"] for r in rows}


def test_lines_of_two_tables_are_two_reports(tmp_path: Path) -> None:
    table(tmp_path / "s" / "rep_2023.csv", [{"patient": "P1", "report": CLEAR, "edema": "0"}])
    table(tmp_path / "s" / "rep_2024.csv", [{"patient": "P1", "report": MASS, "edema": "1"}])
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert held(tmp_path / "a") == {"clear": None, "mass": None}
    labels = (
        open_catalog(tmp_path / "a")
        .sql("SELECT r.text, l.value FROM labels l JOIN reports r USING (report_key)")
        .to_pylist()
    )
    assert {("mass" in r["text"], r["value"]) for r in labels} == {(True, "1"), (False, "0")}


def test_rows_that_a_table_numbers_for_itself_are_reports_of_that_table(tmp_path: Path) -> None:
    table(tmp_path / "s" / "one.csv", [{"id": "1", "patient": "P1", "report": CLEAR}])
    table(tmp_path / "s" / "two.csv", [{"row_id": "1", "patient": "P1", "report": MASS}])
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert held(tmp_path / "a") == {"clear": None, "mass": None}


def test_texts_of_one_name_in_two_folders_are_two_reports(tmp_path: Path) -> None:
    for year, text in (("2023", CLEAR), ("2024", MASS)):
        (tmp_path / "s" / year).mkdir(parents=True)
        (tmp_path / "s" / year / "report.txt").write_text(f"MRN: 4711\nExam date: {year}-03-01\n\n{text}\n")
    assert ingest([str(tmp_path / "s")], tmp_path / "a", workers=1).clean
    assert held(tmp_path / "a") == {"clear": None, "mass": None}


def test_what_stands_in_one_packed_file_is_told_apart_too(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    said = {
        "2023/r.txt": f"{CLEAR}\n", "2024/r.txt": f"{MASS}\n",
        "a/t.csv": f'patient,report\nP1,"{CLEAR}"\n', "b/t.csv": f'patient,report\nP1,"{MASS}"\n',
        "a/lab.csv": "hb,crp\n1,2\n", "b/lab.csv": "hb,crp\n3,4\n",
    }  # fmt: skip
    with tarfile.open(tmp_path / "s" / "all.tar", "w") as packed:
        for name, text in said.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            packed.addfile(member, io.BytesIO(text.encode()))
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    catalog = open_catalog(tmp_path / "a")
    reports = catalog.sql("SELECT report_key, patient_key, held FROM reports").to_pylist()
    assert [r["held"] for r in reports] == [None] * 4
    assert len({r["report_key"] for r in reports}) == 4
    assert len({r["patient_key"] for r in reports}) == 3, "the two texts that name nobody are of two"
    assert len(set(catalog.sql("SELECT patient_key FROM records").column(0).to_pylist())) == 2


def test_a_corrected_report_takes_the_place_of_the_first_and_that_is_told(tmp_path: Path) -> None:
    rows = [
        {"report_id": "R7", "patient": "P1", "report": CLEAR, "status": "final"},
        {"report_id": "R7", "patient": "P1", "report": MASS, "status": "corrected"},
    ]
    for name, row in zip(("one", "two"), rows, strict=True):
        table(tmp_path / "s" / f"{name}.csv", [row])
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert made.clean, "that a report was corrected is no fault of the source"
    assert held(tmp_path / "a") == {"clear": "a later version of this report is there", "mass": None}
    notes = [(reason, first) for kind, reason, _, first in problems_of(tmp_path / "a") if kind == "note"]
    assert notes == [("a report: a later version of this report is there: held back", "one.csv")]


def test_a_corrected_file_is_one_report(tmp_path: Path) -> None:
    (tmp_path / "s").mkdir()
    for text in (CLEAR, MASS):
        (tmp_path / "s" / "report.txt").write_text(f"MRN: 4711\n\n{text}\n")
        ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert held(tmp_path / "a") == {"mass": None}
