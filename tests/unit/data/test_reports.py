"""Reports from folders, tables, JSON lines, files and bytes."""

from __future__ import annotations

import csv

import pytest

from isocenter.core.errors import DataError
from isocenter.data.reports import decode_report, read_reports


def test_a_folder(tmp_path):
    (tmp_path / "b.txt").write_text("No effusion.", "utf-8")
    (tmp_path / "a.TXT").write_bytes("\ufeffClear lungs.".encode())
    (tmp_path / "c.txt").write_bytes(b"\xff\xfeN\x00o\x00")
    (tmp_path / ".hidden.txt").write_text("x", "utf-8")
    (tmp_path / "notes.md").write_text("x", "utf-8")
    found = read_reports(tmp_path)
    assert [(r.name, r.sections, r.problem) for r in found] == [
        ("a", (("", "Clear lungs."),), None),
        ("b", (("", "No effusion."),), None),
        ("c", (), "not UTF-8"),
    ]


def test_one_file_and_bytes(tmp_path):
    file = tmp_path / "one.report"
    file.write_text("No effusion.", "utf-8")
    assert read_reports(file)[0].sections == (("", "No effusion."),)
    assert decode_report(b"No effusion.", "stdin").sections == (("", "No effusion."),)
    assert decode_report(b"\xe9t\xe9", "stdin").problem == "not UTF-8"
    assert decode_report(b"a" * 16_000_001, "stdin").problem == "too long"


def test_a_table_keeps_texts_as_they_stand(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text('study_id,text\ns1,"  No effusion,\nclear lungs. "\ns2,x\n', "utf-8")
    found = read_reports(file)
    assert [(r.name, r.sections) for r in found] == [
        ("s1", (("", "  No effusion,\nclear lungs. "),)),
        ("s2", (("", "x"),)),
    ]
    (tmp_path / "t.tsv").write_text("n\tnote\n1\tx\n", "utf-8")
    assert read_reports(tmp_path / "t.tsv", id_column="n", text_column="note")[0].name == "1"
    assert csv.field_size_limit() == 131_072


def test_sections_of_one_report(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("id,section,text\n1,findings,a\n2,findings,b\n1,impression,c\n", "utf-8")
    assert [r.sections for r in read_reports(file)] == [
        (("findings", "a"), ("impression", "c")),
        (("findings", "b"),),
    ]


def test_json_lines(tmp_path):
    file = tmp_path / "t.jsonl"
    file.write_text('{"id": 7, "report": "No effusion."}\n\n{"id": "x", "report": "y"}\n', "utf-8")
    assert [(r.name, r.sections[0][1]) for r in read_reports(file)] == [("7", "No effusion."), ("x", "y")]


@pytest.mark.parametrize(
    ("name", "content", "what"),
    [
        ("t.csv", "id,text\n", "needs a heading and a row"),
        ("t.csv", "", "needs a heading and a row"),
        ("t.csv", "id,text\n1,a\n1,b\n", "line 3 names a report"),
        ("t.csv", "id,section,text\n1,findings,a\n1,Findings,b\n", "line 3 names a section"),
        ("t.csv", "id,text\n,a\n", "line 2: 'id' is empty"),
        ("t.csv", "id,text\n1,a,b\n", "line 2 has 3 cells"),
        ("t.csv", "id,id,text\n1,1,a\n", "stands twice"),
        ("t.csv", "who,what\n1,a\n", "no column of texts .*it has who, what; give --text-column"),
        ("t.csv", "who,text\n1,a\n", "no column of names of reports .*give --id-column"),
        ("t.csv", 'id,text\n1,"a', "not a table in UTF-8"),
        ("t.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("t.jsonl", '{"id": "1", "text": \n', "line 1 is no JSON object in UTF-8"),
        ("t.jsonl", '{"id": "1", "text": 5}\n', "line 1: 'text' or 'section' is no text"),
        ("t.jsonl", '{"id": true, "text": "a"}\n', "line 1: 'id' is empty or no text"),
        ("t.jsonl", '{"id": "1", "text": "a"}\n{"id": "2"}\n', "line 2: 'text'"),
        ("t.jsonl", "[" * 100_000 + "\n", "line 1 is no JSON object"),
        ("t.jsonl", " " * 4_000_010, "line 1 is longer"),
    ],
)
def test_what_is_no_table_of_reports_is_refused(tmp_path, name, content, what):
    file = tmp_path / name
    file.write_text(content, "utf-8")
    with pytest.raises(DataError, match=what):
        read_reports(file)


def test_a_named_column_must_be_there(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("id,text\n1,a\n", "utf-8")
    with pytest.raises(DataError, match="no column 'note'"):
        read_reports(file, text_column="note")


def test_folders_without_reports_and_paths_that_lead_nowhere(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.txt file"):
        read_reports(tmp_path)
    with pytest.raises(DataError):
        read_reports(tmp_path / "nowhere.csv")
    (tmp_path / "a.txt").write_text("x", "utf-8")
    (tmp_path / "a.TXT").write_text("x", "utf-8")
    with pytest.raises(DataError, match="the same name"):
        read_reports(tmp_path)
