"""The leak report: what was removed is counted, what is still there stops an export, and nobody else reads it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset
from typer.testing import CliRunner

from isocenter.cli import app
from isocenter.core import Geometry, Image
from isocenter.core.errors import DataError, IdentityLeak
from isocenter.data.deidentify import k_anonymity
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.ingest import ingest
from isocenter.verbs.leaks import leaks, require_safe
from isocenter.verbs.shards import make_shards

from .conftest import CANARY, KEY, series


@pytest.fixture(scope="module")
def archive(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("leaks") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOCENTER_PSEUDONYM_KEY", KEY)
        ingest([str(hospital)], place, workers=1)
    return place


def burnt_in(folder: Path) -> None:
    """Write a series that says itself that text is burnt in."""
    import numpy as np

    geometry = Geometry.axial((3, 4, 5), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10.0, 20.0, 30.0))

    def change(_: int, ds: Dataset) -> Dataset:
        ds.BurnedInAnnotation = "YES"
        return ds

    write_ct_series(folder, Image(np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5), geometry), change=change)


def test_the_report_counts_what_was_removed(archive: Path) -> None:
    found = leaks(archive)
    assert found.safe
    assert found.copies == 9 + 6 + 2 + 4
    changed = {(c.keyword, c.action): c.count for c in found.changed}
    # Nine DICOM files bear an institution and a birth date; two volumes had comments.
    assert sum(n for (keyword, _), n in changed.items() if keyword == "PatientBirthDate") == 9
    assert sum(n for (keyword, _), n in changed.items() if keyword == "InstitutionName") == 9
    assert {c.where: c.count for c in found.changed}["nifti header"] == 2
    # "Read by Dr. Zyxwvut." of one report.
    assert found.replaced == {"name": 1}
    assert any("faces" in line.lower() for line in found.not_done)
    assert any("6 pictures" not in line and "3 pictures" in line for line in found.not_done)  # masks don't count
    assert any(".npz" in line for line in found.not_done)
    assert found.anonymity is not None
    assert sum(c.patients for c in found.classes) == found.anonymity.patients
    assert min(c.patients for c in found.classes) == found.anonymity.smallest
    # Measured patient by patient, it is the same.
    people = [
        {"sex": c.sex, "age": c.age, "modalities": c.modalities} for c in found.classes for _ in range(c.patients)
    ]
    again = k_anonymity(people, found.anonymity.columns)
    assert (again.smallest, again.classes) == (found.anonymity.smallest, len(found.classes))
    assert found.anonymity.unique_share == round(again.unique_share, 4)
    assert found.anonymity.small_share == round(again.small_share, 4)


def test_it_lies_in_the_private_folder_and_only_its_owner_reads_it(archive: Path) -> None:
    for name in ("leaks.html", "leaks.json"):
        assert oct((archive / "private" / name).stat().st_mode & 0o777) == "0o600"
    assert not list((archive / "private").glob(".partial-*"))
    assert json.loads((archive / "private" / "leaks.json").read_text()) == leaks(archive).model_dump(mode="json")


def test_it_is_the_same_however_the_archive_came_about(hospital: Path, archive: Path, tmp_path: Path) -> None:
    for part in ("us_set", "bids", "disc.zip", "pacs", "."):
        ingest([str(hospital / part)] if part != "." else [str(hospital)], tmp_path / "a", workers=1)
    ingest([str(hospital)], tmp_path / "b" / "a", workers=2)
    one, other = (json.loads((a / "private" / "leaks.json").read_text()) for a in (archive, tmp_path / "b" / "a"))
    assert one == other


def test_the_page_stands_alone_and_is_escaped(tmp_path: Path) -> None:
    burnt_in(tmp_path / "s")
    file = next((tmp_path / "s").rglob("*.dcm"))
    shutil.move(file, file.with_name("!<img src=x>.dcm"))
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    page = (tmp_path / "a" / "private" / "leaks.html").read_text()
    assert "<img" not in page
    assert "!&lt;img src=x&gt;.dcm" in page
    assert not re.findall(r'(?:src|href)="(?!data:|#)', page)
    assert "<script" not in page
    assert "prefers-color-scheme" in page
    assert "still there" in page
    assert "113100 Basic Application Confidentiality Profile" in page


def test_what_is_still_there_stops_an_export(tmp_path: Path) -> None:
    burnt_in(tmp_path / "s")
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert not made.leaks.safe
    assert made.leaks.suspicious == 3
    (reason,) = made.leaks.why_not
    assert "text is burnt in" in reason
    with pytest.raises(IdentityLeak, match=r"text is burnt in.*--despite-leaks"):
        make_shards(tmp_path / "a", tmp_path / "shards")
    assert not (tmp_path / "shards").exists()
    done = make_shards(tmp_path / "a", tmp_path / "shards", despite_leaks=True)
    assert len(done.written) == 1
    run = CliRunner().invoke(app, ["find", "", "--archive", str(tmp_path / "a"), "--out", str(tmp_path / "rows.csv")])
    assert isinstance(run.exception, IdentityLeak)
    assert not (tmp_path / "rows.csv").exists()
    run = CliRunner().invoke(app, ["leaks", str(tmp_path / "a")])
    assert run.exit_code == 3
    assert "suspicious, still there: 3 x the object says that text is burnt in" in run.stdout
    assert "00280301" in run.stdout


def test_identified_data_need_their_own_word(tmp_path: Path) -> None:
    series(tmp_path / "s", "one", patient="P1", person="Ann")
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1, identified=True)
    assert (made.leaks.safe, made.leaks.why_not) == (False, ("nothing was de-identified",))
    with pytest.raises(IdentityLeak, match="--identified"):
        require_safe(tmp_path / "a", despite_leaks=True)
    require_safe(tmp_path / "a", identified=True)


def test_without_the_private_folder_nobody_can_tell(archive: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shutil.copytree(archive, shared, ignore=shutil.ignore_patterns("private"))
    with pytest.raises(IdentityLeak, match="nobody can tell"):
        require_safe(shared)
    require_safe(shared, despite_leaks=True)
    with pytest.raises(DataError, match="private folder"):
        leaks(shared)


def test_what_was_found_and_replaced_stops_nothing(tmp_path: Path) -> None:
    """The patient's name in an element that is kept: replaced, told, and settled."""
    paths = series(tmp_path / "s", "one", patient="P1", person="Ann")
    for path in paths:
        ds = pydicom.dcmread(path)
        ds.ManufacturerModelName = f"Model of {CANARY}"
        ds.save_as(path)
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    found = leaks(tmp_path / "a")
    assert made.leaks.safe
    assert [(s.keyword, s.count, s.settled) for s in found.suspicious] == [("ManufacturerModelName", 3, True)]


def test_the_command_tells_it_as_json(archive: Path) -> None:
    run = CliRunner().invoke(app, ["leaks", str(archive), "--json"])
    assert run.exit_code == 0
    assert json.loads(run.stdout)["safe"] is True
