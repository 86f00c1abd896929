"""The page of an archive: what is there is counted, what is held back is named, nothing of a person is shown."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from typer.testing import CliRunner

from image_servers import encoded, instance
from isocenter.cli import app
from isocenter.core.errors import DataError
from isocenter.verbs.describe import describe, write_page
from isocenter.verbs.description.outliers import robust_z
from isocenter.verbs.ingest import ingest

HOSTILE = "<img src=x onerror=alert(1)>"


def pictures(folder: Path, count: int, size: tuple[int, int], seed: int = 0) -> Path:
    """Write pictures of people with labels; the last one is eight times as large."""
    (folder / "images").mkdir(parents=True)
    rows = []
    rng = np.random.default_rng(seed)
    for n in range(count):
        shape = (size[0] * 8, size[1] * 8) if n == count - 1 else (size[0] + n % 3, size[1] + n % 4)
        PIL.Image.fromarray(rng.integers(0, 255, shape, dtype=np.uint8)).save(folder / "images" / f"Zyxwvut{n}.png")
        rows.append({"image": f"images/Zyxwvut{n}.png", "patient": f"Zyxwvut{n}", "sex": "F", "age": 40 + n,
                     "modality": "us", "label": HOSTILE if n == 0 else "benign"})  # fmt: skip
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    (folder / "Zyxwvut-broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    return folder


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return two archives: small pictures, and larger ones."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ISOCENTER_PSEUDONYM_KEY", "a key for tests alone")
    root = tmp_path_factory.mktemp("described")
    ingest([str(pictures(root / "one_set", 30, (16, 20)))], root / "one", workers=1)
    ingest([str(pictures(root / "two_set", 30, (32, 40), seed=1))], root / "two", workers=1)
    patch.undo()
    return root / "one", root / "two"


def test_the_counts_are_those_of_the_archive(archives: tuple[Path, Path]) -> None:
    found = describe(archives[0])
    assert found.tables["series"] == 30
    assert [(e.name, e.count, e.patients) for e in found.modalities] == [("US", 30, 30)]
    assert {m.column: m.missing for m in found.missing if m.table == "studies"}["age_years"] == 0
    assert {m.column: m.missing for m in found.missing if m.table == "series"}["manufacturer"] == 30
    assert found.duplicates == {"across splits": 0, "across patients": 0, "within a patient": 0}
    assert sum(t.count for t in found.troubles if t.kind == "refused") == 1
    assert found.anonymity is not None and found.anonymity.smallest == 1
    assert not found.drift and "shifted" in found.drift_of
    rows = next(h for h in found.histograms if h.name == "rows")
    assert sum(rows.counts) + rows.beyond == 30 and rows.missing == 0


def test_what_stands_out_has_a_picture_too_coarse_for_text(archives: tuple[Path, Path]) -> None:
    found = describe(archives[0])
    assert found.outlier_count == 1 and found.outliers[0].why[0].startswith("rows 128, median 17")
    import base64
    import io

    picture = PIL.Image.open(io.BytesIO(base64.b64decode(found.outliers[0].picture.split(",")[1])))
    assert max(picture.size) == 64


def test_drift_between_two_archives(archives: tuple[Path, Path]) -> None:
    found = describe(archives[1], against=archives[0])
    told = {e.column: e for e in found.drift}
    assert told["rows"].beyond_chance and told["rows"].value > 0.9
    assert not told["modality"].beyond_chance
    assert not any(e.beyond_chance for e in describe(archives[0], against=archives[0]).drift)


def dated(folder: Path, *, newer: str, gap: int = 0) -> Path:
    """Write an image of each of 24 people, a day apart; the later half, and a second one of a person, are newer."""
    folder.mkdir()
    for n in range(24):
        for study in (0, 1) if n == 3 else (0,):
            made = instance(10 * n + study, 1, 1)
            made.PatientID, made.PatientName = f"P{n}", f"Zyxwvut^{n}"
            made.StudyDate = f"202401{n + 1:02d}" if study == 0 else "20240131"
            made.Manufacturer = newer if n >= 12 or study else "OLDER"
            made.PatientAge = f"{40 + n % 5:03d}Y"
            if n >= 24 - gap:
                made.PatientSex = "F"
            (folder / f"{n}-{study}.dcm").write_bytes(encoded(made))
    return folder


@pytest.mark.parametrize("kept", [{"dates": "full"}, {"identified": True}])
def test_drift_between_the_halves_of_an_archive_with_its_dates(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: dict[str, Any]
) -> None:
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", "a key for tests alone")
    ingest([str(dated(tmp_path / "s", newer="NEWER", gap=6))], tmp_path / "a", workers=1, **kept)
    found = describe(tmp_path / "a")
    assert found.drift_of.startswith("The earlier half of patients, by their first study")
    told = {e.column: e for e in found.drift}
    make = told["manufacturer"]
    # Twelve images of the older make and one of the newer against twelve of the newer, half an image added to each
    # share: a person counts with the first study, so the late one of an early person is of the earlier half.
    old, new = (np.array(n) / sum(n) for n in ((12.5, 1.5), (0.5, 12.5)))
    assert make.value == pytest.approx(float(((new - old) * np.log(new / old)).sum()), abs=1e-3)
    assert make.beyond_chance and make.measure == "PSI"
    assert not told["modality"].beyond_chance and told["modality"].value == 0
    assert not told["age_years"].beyond_chance and told["age_years"].measure == "KS"
    assert (told["rows"].missing_old, told["rows"].missing_new) == (0, 0)
    assert "sex" not in told, "nobody of the earlier half has one: nothing to compare"
    assert found.drift[0].column == "manufacturer", "what is beyond chance comes first"


def test_halves_that_are_alike_do_not_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", "a key for tests alone")
    source = dated(tmp_path / "s", newer="OLDER")
    ingest([str(source)], tmp_path / "a", workers=1, dates="full")
    found = describe(tmp_path / "a")
    assert found.drift and not any(e.beyond_chance for e in found.drift)
    for file in sorted(source.iterdir())[:8]:
        file.unlink()
    ingest([str(source)], tmp_path / "few", workers=1, dates="full")
    assert describe(tmp_path / "few").drift_of == "too few patients on a side, or no column that both state"
    ingest([str(source)], tmp_path / "none", workers=1, dates="none")
    none = describe(tmp_path / "none")
    assert not none.drift and "left out" in none.drift_of


def test_the_page_stands_alone_and_tells_no_name(archives: tuple[Path, Path], tmp_path: Path) -> None:
    write_page(describe(archives[0]), tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text("utf-8")
    assert HOSTILE not in page and "&lt;img src=x" in page
    assert "Zyxwvut" not in page and "<script" not in page
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "no years of the calendar" in page and "prefers-color-scheme: dark" in page


def test_the_commands(archives: tuple[Path, Path], tmp_path: Path) -> None:
    run = CliRunner()
    page = tmp_path / "p.html"
    done = run.invoke(app, ["describe", str(archives[0]), "--out", str(page), "--json"])
    assert done.exit_code == 0 and json.loads(done.stdout)["outlier_count"] == 1 and page.is_file()
    at = ["--archive", str(archives[0])]
    made = run.invoke(app, ["cohort", "us", "rows < 100", *at, "--split", "train=0.5,test=0.5", "--json"])
    assert made.exit_code == 0 and json.loads(made.stdout)["series"] == 29
    assert run.invoke(app, ["cohort", *at]).stdout == "us-v1\n"
    assert "patients_moved: 0" in run.invoke(app, ["cohort", "us", *at, "--diff", "us-v1"]).stdout
    count = run.invoke(app, ["find", "", *at, "--cohort", "us", "--count"])
    assert count.stdout == "29\n"
    none = run.invoke(app, ["duplicates", *at])
    assert none.exit_code == 4 and "across splits: 0 groups" in none.stdout


def test_no_archive(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no archive"):
        describe(tmp_path)


def test_equal_numbers_have_no_outliers() -> None:
    assert robust_z(np.array([3.0] * 30)).tolist() == [0.0] * 30
