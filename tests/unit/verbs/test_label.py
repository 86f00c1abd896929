"""The verb `label`: what is written, what is printed, how it ends."""

from __future__ import annotations

import csv
import io
import json

import pytest

import isocenter
from isocenter import cli
from isocenter.core.errors import ConfigError, OutputError

REPORTS = {
    "a": "HISTORY: rule out pneumonia. FINDINGS: Stable mild cardiomegaly. New small left effusion. No new nodule.",
    "b": "Kein Pneumothorax.",
    "c": "Two views of the chest are obtained.",
}


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "reports"
    place.mkdir()
    for name, text in REPORTS.items():
        (place / f"{name}.txt").write_text(text, "utf-8")
    return place


def test_what_is_written(folder, tmp_path):
    out = tmp_path / "deep" / "labels"
    done = isocenter.label_reports(folder, out, chexpert=True)
    assert (done.labelled, done.outcomes) == (2, {"labelled": 2, "not English": 1})
    assert sorted(p.name for p in out.iterdir()) == ["chexpert.csv", "labels.csv", "labels.json"]
    rows = list(csv.DictReader(io.StringIO((out / "labels.csv").read_text("utf-8"))))
    assert [(r["report"], r["finding"], r["presence"], r["laterality"], r["severity"], r["change"]) for r in rows] == [
        ("a", "cardiomegaly", "present", "", "mild", "unchanged"),
        ("a", "nodule", "absent", "", "", "new"),
        ("a", "pleural effusion", "present", "left", "mild", "new"),
        ("b", "", "", "", "", ""),
        ("c", "", "", "", "", ""),
    ]
    effusion = rows[2]
    assert (effusion["code"], effusion["scheme"], effusion["words"]) == ("60046008", "SCT", "effusion")
    section, place = effusion["spans"].split(":")
    start, end = map(int, place.split("-"))
    assert (section, REPORTS["a"][start:end]) == ("findings", "effusion")
    wide = list(csv.DictReader(io.StringIO((out / "chexpert.csv").read_text("utf-8"))))
    assert (wide[0]["Cardiomegaly"], wide[0]["Lung Lesion"], wide[0]["Pleural Effusion"]) == ("1", "-1", "1")
    assert wide[1]["outcome"] == "not English" and wide[1]["No Finding"] == ""
    document = json.loads((out / "labels.json").read_text("utf-8"))
    assert document["reports"][0]["left_out"] == ["history"]
    assert document["reports"][0]["findings"][2]["laterality_code"]["value"] == "7771000"


def test_the_same_every_time(folder, tmp_path):
    for name in ("one", "two"):
        isocenter.label_reports(folder, tmp_path / name, chexpert=True)
    for file in ("labels.csv", "labels.json", "chexpert.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_older_labels_stay_unless_replaced(folder, tmp_path):
    out = tmp_path / "labels"
    isocenter.label_reports(folder, out)
    with pytest.raises(OutputError):
        isocenter.label_reports(folder, out)
    isocenter.label_reports(folder, out, chexpert=True, overwrite=True)
    assert (out / "chexpert.csv").is_file()


def test_the_wide_table_must_be_asked_for(folder):
    done = isocenter.label_reports(folder)
    with pytest.raises(ConfigError, match="chexpert=True"):
        done.chexpert_table()


def test_progress_is_told(tmp_path):
    file = tmp_path / "t.csv"
    file.write_text("id,text\n" + "".join(f"{n},No effusion.\n" for n in range(200)), "utf-8")
    told = []
    isocenter.label_reports(file, progress=lambda what, share: told.append((what, share)))
    assert told == [("labelling", 0.5), ("labelling", 1.0)]


def test_words_of_sections_that_come_apart(tmp_path):
    file = tmp_path / "t.jsonl"
    lines = [
        {"id": 1, "section": "Findings", "text": "Note: impression: left nodules."},
        {"id": 1, "section": "impression", "text": "A mass."},
        {"id": 1, "section": "indication", "text": "Pneumonia?"},
    ]
    file.write_text("\n".join(map(json.dumps, lines)), "utf-8")
    (entry,) = isocenter.label_reports(file).reports
    spans = {f.finding: [(s.section, s.words) for s in f.spans] for f in entry.findings if f.implied_by is None}
    assert spans == {"nodule": [("findings", "nodules")], "mass": [("impression", "mass")]}


def test_the_command(folder, tmp_path, capsys, monkeypatch):
    assert cli.run(["label", str(folder)]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("report,outcome,finding") and "not labelled: 1 not English" in printed.err
    assert cli.run(["label", str(folder), "--chexpert"]) == 0
    assert capsys.readouterr().out.startswith("report,outcome,No Finding,Enlarged Cardiomediastinum")
    assert cli.run(["label", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["labelled"] == 2
    assert cli.run(["label", str(folder), "--out", str(tmp_path / "out")]) == 0
    assert "2 of 3 reports labelled, 3 findings" in capsys.readouterr().out
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"No effusion is seen.")))
    assert cli.run(["label", "-"]) == 0
    assert "stdin,labelled,pleural effusion,absent" in capsys.readouterr().out


def test_nothing_labelled_is_an_exit_code(tmp_path, capsys):
    file = tmp_path / "one.txt"
    file.write_text("Kein Pneumothorax.", "utf-8")
    assert cli.run(["label", str(file)]) == 4
    assert "1 not English" in capsys.readouterr().err
    assert cli.run(["label", str(tmp_path / "nowhere")]) == 3
