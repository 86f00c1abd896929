"""Sources become one archive: the same however it came about, joined, without identity, and nothing lost in silence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import numpy as np
import pydicom
import pytest

from isocenter.core.errors import ConfigError, DataError, OutputError
from isocenter.data.archive import engine
from isocenter.data.archive.layout import open_archive
from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.deidentify import Pseudonyms
from isocenter.data.deidentify.policy import Dates
from isocenter.data.images import read_nifti, read_picture, read_study
from isocenter.verbs.archive_folder import problems_of
from isocenter.verbs.ingest import IngestDocument, ingest

from .conftest import CANARY, KEY, build, picture, series, table

NAMES = Pseudonyms(KEY.encode())


@pytest.fixture(scope="module")
def archive(hospital: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("archive") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOCENTER_PSEUDONYM_KEY", KEY)
        ingest([str(hospital)], place, workers=1)
    return place


def test_everything_is_counted_once(archive: Path) -> None:
    catalog = open_catalog(archive)
    count = lambda name: catalog.sql(f"SELECT count(*) FROM {name}").column(0)[0].as_py()  # noqa: E731
    # 2 + 1 series of three slices, 3 + 3 pictures, 2 volumes, 4 images of one file
    assert count("instances") == 9 + 6 + 2 + 4
    assert count("series") == 3 + 6 + 2 + 4
    assert count("patients") == 2 + 2 + 2 + 4
    assert count("reports") == 2
    by_form = dict(
        zip(*catalog.sql("SELECT form, count(*) FROM instances GROUP BY 1").to_pydict().values(), strict=True)
    )
    assert by_form == {"dicom": 9, "picture": 6, "nifti": 2, "npz": 4}


def test_patients_are_joined_across_forms(archive: Path) -> None:
    catalog = open_catalog(archive)
    ann = NAMES.patient("", "P100")
    told = catalog.sql("SELECT studies, reports, records FROM patients WHERE patient_key = ?", [ann]).to_pylist()
    # Two studies (one in the zip), her report, her one laboratory value.
    assert told == [{"studies": 2, "reports": 1, "records": 1}]
    record = catalog.sql("SELECT number, unit FROM records WHERE patient_key = ?", [ann]).to_pylist()
    assert record == [{"number": 12.5, "unit": "mg/L"}]
    joined = catalog.find("report ilike '%nodule%'")
    assert joined.column("patient_key").to_pylist() == [ann]
    assert catalog.sql("SELECT study_from FROM reports").column(0).to_pylist() == ["accession"] * 2


def test_a_table_says_whose_pictures_are(archive: Path) -> None:
    catalog = open_catalog(archive)
    told = catalog.sql(
        "SELECT i.patient_key, role, l.value FROM instances i LEFT JOIN labels l ON l.sop_uid = i.sop_uid AND "
        "l.name = 'label' WHERE i.form = 'picture' ORDER BY ALL"
    ).to_pylist()
    w0, w1 = (NAMES.patient("us_set", f"W{n}") for n in (0, 1))
    images = sorted((r["patient_key"], r["value"]) for r in told if r["role"] == "image")
    assert images == sorted([(w0, "benign"), (w0, "malignant"), (w1, "benign")])
    # Masks are found by their names, and are of the same people.
    assert sorted(r["patient_key"] for r in told if r["role"] == "mask") == sorted([w0, w0, w1])
    assert set(catalog.sql("SELECT modality FROM instances WHERE form = 'picture'").column(0).to_pylist()) == {"US"}


def test_splits_of_the_makers_are_kept(archive: Path) -> None:
    counts = open_catalog(archive).sql("SELECT split, count(*) n FROM splits GROUP BY 1 ORDER BY 1").to_pylist()
    assert counts == [{"split": "test", "n": 1}, {"split": "train", "n": 2 + 3}]


def test_no_name_is_left_outside_of_the_private_folder(archive: Path) -> None:
    checked = 0
    for file in archive.rglob("*"):
        if file.is_file() and archive / "private" not in file.parents:
            content = file.read_bytes()
            for word in (CANARY, "P100", "P200", "ACC1", "19500102"):
                assert word.encode() not in content, (file.name, word)
            assert CANARY not in str(file)
            checked += 1
    assert checked > 20
    # Parquet is compressed: look into the tables too.
    catalog = open_catalog(archive)
    for name in catalog.tables:
        text = str(catalog.sql(f"SELECT * FROM {name}").to_pylist())
        for word in (CANARY, "P100", "P200", "ACC1", "19500102", "1950-01-02", "2024-05-17", "case0", "W0"):
            assert word not in text, (name, word)
    assert oct((archive / "private").stat().st_mode & 0o777) == "0o700"


def test_copies_read_as_the_originals(hospital: Path, archive: Path) -> None:
    catalog = open_catalog(archive)
    (study,) = catalog.studies("modality = 'CT' AND report ilike '%nodule%'")
    read = study.read()
    original = read_study(hospital / "pacs" / "a").study.images[0]
    assert np.array_equal(read.images[0].array, original.array)
    assert np.array_equal(read.images[0].geometry.affine, original.geometry.affine)
    assert read.patient_key == NAMES.patient("", "P100")
    assert "8 mm" in read.reports[0].sections["text"]
    nifti = catalog.sql("SELECT path FROM instances WHERE form = 'nifti' ORDER BY path").column(0).to_pylist()
    originals = [read_nifti(p) for p in sorted((hospital / "bids").rglob("*.nii.gz"))]
    found = [read_nifti(archive / p) for p in nifti]
    for image in originals:
        assert any(
            np.array_equal(image.array, f.array) and np.array_equal(image.geometry.affine, f.geometry.affine)
            for f in found
        )
    pictures = catalog.sql("SELECT path FROM instances WHERE form = 'picture'").column(0).to_pylist()
    assert {read_picture(archive / p).array.tobytes() for p in pictures} == {
        read_picture(p).array.tobytes() for p in (hospital / "us_set").rglob("*.png")
    }


def test_dates_of_a_patient_move_together(archive: Path) -> None:
    catalog = open_catalog(archive)
    ann = NAMES.patient("", "P100")
    dates = catalog.sql("SELECT study_date FROM studies WHERE patient_key = ? ORDER BY 1", [ann]).column(0).to_pylist()
    assert (dates[1] - dates[0]).days == 15
    assert dates[0].year < 2024 or dates[0].month != 5
    path = catalog.sql("SELECT path FROM instances WHERE patient_key = ? LIMIT 1", [ann]).column(0)[0].as_py()
    header = pydicom.dcmread(archive / path)
    assert header.StudyDate in {d.strftime("%Y%m%d") for d in dates}
    assert header.PatientID == ann


def test_the_same_again_changes_nothing(hospital: Path, archive: Path) -> None:
    before = {p: p.stat().st_mtime_ns for p in archive.rglob("*.parquet")}
    again = ingest([str(hospital)], archive, workers=1)
    assert again.taken == 0
    assert {p: p.stat().st_mtime_ns for p in archive.rglob("*.parquet")} == before


def test_the_order_of_arrival_is_not_in_the_catalog(hospital: Path, tmp_path: Path) -> None:
    parts = [str(hospital / n) for n in ("us_set", "bids", "disc.zip", "pacs")]
    for part in parts:
        last = ingest([part], tmp_path / "one_by_one", workers=1)
    assert last.catalog_hash == ingest(parts[::-1], tmp_path / "at_once", workers=1).catalog_hash
    assert last.tables["reports"].rows == 2
    assert last.tables["instances"].rows == 9 + 6 + 2


def test_two_processes_give_the_same_archive(hospital: Path, archive: Path, tmp_path: Path) -> None:
    made = ingest([str(hospital)], tmp_path / "b", workers=2)
    assert made.catalog_hash == open_catalog(archive).hash


def test_a_run_that_ends_early_is_taken_up(
    hospital: Path, archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "_BATCH", 3)
    process, calls = engine.process, []

    def failing(batch: engine.Batch, setup: engine.Setup) -> engine.Part:
        calls.append(batch)
        if len(calls) in (3, 5):
            raise KeyboardInterrupt
        return process(batch, setup)

    monkeypatch.setattr(engine, "process", failing)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            ingest([str(hospital)], tmp_path / "b", workers=1)
    made = ingest([str(hospital)], tmp_path / "b", workers=1)
    assert made.catalog_hash == open_catalog(archive).hash
    assert 0 < made.known < made.listed


def test_workers_end_with_a_run_that_is_killed() -> None:
    program = (
        "import multiprocessing, os, time\n"
        "from isocenter.data.archive.engine import _pool\n"
        "if __name__ == '__main__':\n"
        "    pool = _pool(1)\n"
        "    print(pool.submit(os.getpid).result(), flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as run:
        assert run.stdout is not None
        worker = int(run.stdout.readline())
        assert _lives(worker)
        run.kill()
    for _ in range(400):
        if not _lives(worker):
            return
        time.sleep(0.05)
    os.kill(worker, 9)
    pytest.fail("the worker went on")


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
        state = Path(f"/proc/{process}/stat")
        return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_headers_alone_copy_nothing(hospital: Path, tmp_path: Path) -> None:
    made = ingest([str(hospital)], tmp_path / "b", workers=1, pixels=False)
    assert made.tables["instances"].rows == 21
    assert not list((tmp_path / "b" / "images").rglob("*.*"))
    with pytest.raises(DataError, match="no copies"):
        list(open_catalog(tmp_path / "b").studies())


def _kinds(made: IngestDocument) -> dict[str, int]:
    return {t.kind: sum(o.count for o in made.troubles if o.kind == t.kind) for t in made.troubles}


def test_what_could_not_be_read_is_listed(archive: Path) -> None:
    told = {reason: (kind, first) for kind, reason, _, first in problems_of(archive)}
    assert told["the file is empty; fetch it again"] == ("refused", "empty.dcm")
    assert told["the link points to nothing; correct it"] == ("refused", "gone.dcm")
    assert told["a link to a folder that is read already; left out"] == ("ignored", "loop")


def test_two_people_of_one_identifier_are_held_back(tmp_path: Path) -> None:
    series(tmp_path / "s" / "a", "one", patient="P1", person="Ann", birth="19500102")
    series(tmp_path / "s" / "b", "two", patient="P1", person="Bob", birth="19700102", seed=3)
    series(tmp_path / "s" / "c", "three", patient="P2", person="Eve", seed=4)
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert not made.clean
    assert made.conflicts == 6
    catalog = open_catalog(tmp_path / "a")
    assert set(catalog.find().column("patient_key").to_pylist()) == {NAMES.patient("", "P2")}
    assert catalog.find(held=True).num_rows == 3


def test_an_identifier_that_everybody_gets_joins_nobody(tmp_path: Path) -> None:
    series(tmp_path / "s" / "a", "one", patient="ANONYMOUS", person="Ann", birth="19500102", accession="A1")
    series(tmp_path / "s" / "b", "two", patient="Anonymous", person="Bob", birth="19700102", accession="A2", seed=3)
    table(
        tmp_path / "s" / "reports.csv",
        [
            {"patient_id": "ANONYMOUS", "accession": "", "report": "FINDINGS: A nodule."},
            {"patient_id": "ANONYMOUS", "accession": "", "report": "FINDINGS: Clear lungs."},
        ],
    )
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert made.conflicts == 0
    catalog = open_catalog(tmp_path / "a")
    rows = catalog.find().to_pylist()
    assert len({row["patient_key"] for row in rows}) == len(rows) == 2
    for file in (tmp_path / "a" / "images").rglob("*.dcm"):
        assert pydicom.dcmread(file).PatientID in {row["patient_key"] for row in rows}
    keys = catalog.sql("SELECT patient_key FROM reports").column("patient_key").to_pylist()
    assert len({*keys, *(row["patient_key"] for row in rows)}) == 4


def test_one_person_of_two_identifiers_is_told(tmp_path: Path) -> None:
    series(tmp_path / "s" / "a", "one", patient="P1", person="Ann")
    series(tmp_path / "s" / "b", "two", patient="P2", person="Ann", seed=3)
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    notes = [r for k, r, _, _ in problems_of(tmp_path / "a") if k == "note"]
    assert len(notes) == 1
    assert "one person with two identifiers?" in notes[0]
    assert open_catalog(tmp_path / "a").find().num_rows == 2  # told, not merged and not held back


def test_one_uid_with_other_pixels_is_held_back_and_kept(tmp_path: Path) -> None:
    series(tmp_path / "s" / "a", "one", patient="P1", person="Ann")
    series(tmp_path / "s" / "b", "one", patient="P1", person="Ann", flip=True)
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert made.conflicts == 6
    assert made.tables["instances"].rows == 6
    assert len(list((tmp_path / "a" / "images").rglob("*.dcm"))) == 6
    assert open_catalog(tmp_path / "a").find().num_rows == 0


def test_a_second_copy_is_not_counted(tmp_path: Path) -> None:
    series(tmp_path / "s" / "a", "one", patient="P1", person="Ann")
    shutil.copytree(tmp_path / "s" / "a", tmp_path / "s" / "b")
    made = ingest([str(tmp_path / "s"), str(tmp_path / "s" / "a")], tmp_path / "a", workers=1)
    assert made.tables["instances"].rows == 3
    assert made.clean


def test_a_folder_that_is_used_again_keeps_what_was_there(tmp_path: Path) -> None:
    first = series(tmp_path / "s", "one", patient="P1", person="Ann")
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    for path in first:
        path.unlink()
    second = series(tmp_path / "new", "two", patient="P2", person="Bob", seed=1)
    for old, new in zip(first, second, strict=True):
        shutil.copy(new, old)
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert made.tables["instances"].rows == 6


def test_a_corrected_table_takes_the_place_of_the_old(tmp_path: Path) -> None:
    for number in range(2):
        picture(tmp_path / "set" / f"c{number}.png", number)
    rows = [{"image": f"c{n}.png", "patient": f"W{n}", "label": "a"} for n in range(2)]
    table(tmp_path / "set" / "labels.csv", rows)
    ingest([str(tmp_path / "set")], tmp_path / "a", workers=1)
    table(tmp_path / "set" / "labels.csv", [{**row, "patient": "W0", "label": "bb"} for row in rows])
    ingest([str(tmp_path / "set")], tmp_path / "a", workers=1)
    catalog = open_catalog(tmp_path / "a")
    assert set(catalog.sql("SELECT value FROM labels").column(0).to_pylist()) == {"bb"}
    assert catalog.sql("SELECT count(*) FROM instances").column(0)[0].as_py() == 2
    assert len(set(catalog.sql("SELECT patient_key FROM instances").column(0).to_pylist())) == 1
    # The copy of the second picture lay with another patient: it is gone, and so is the empty folder.
    paths = {tmp_path / "a" / p for p in catalog.sql("SELECT path FROM instances").column(0).to_pylist()}
    assert {p for p in (tmp_path / "a" / "images").rglob("*") if p.is_file()} == paths
    assert all(any(p.iterdir()) for p in (tmp_path / "a" / "images").rglob("*") if p.is_dir())


def test_a_run_that_ends_before_its_catalog_is_taken_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All parts are in the journal, and the catalog is still that of the run before."""
    series(tmp_path / "s" / "a", "one", patient="P1", person="Ann")
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    series(tmp_path / "s" / "b", "two", patient="P2", person="Bob", seed=1)

    def killed(*_: object, **__: object) -> object:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(engine, "consolidate", killed)
        ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert (made.taken, made.tables["instances"].rows) == (0, 6)


def test_a_file_that_vanishes_is_lost_and_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = series(tmp_path / "s", "one", patient="P1", person="Ann")
    process = engine.process

    def vanish(batch: engine.Batch, setup: engine.Setup) -> engine.Part:
        paths[1].rename(tmp_path / "aside")
        return process(batch, setup)

    monkeypatch.setattr(engine, "process", vanish)
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert (made.lost, made.clean, made.tables["instances"].rows) == (1, False, 2)
    monkeypatch.setattr(engine, "process", process)
    (tmp_path / "aside").rename(paths[1])
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert (made.lost, made.clean, made.tables["instances"].rows) == (0, True, 3)


def test_a_full_disk_ends_the_run_and_the_next_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from isocenter.data.archive import work

    series(tmp_path / "s", "one", patient="P1", person="Ann")
    write, calls = work._write_all, []

    def full(descriptor: int, content: bytes) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise OSError(28, "No space left on device")
        write(descriptor, content)

    monkeypatch.setattr(work, "_write_all", full)
    with pytest.raises(OutputError, match="the disk is full"):
        ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert not list((tmp_path / "a").rglob("*.partial-*"))
    monkeypatch.setattr(work, "_write_all", write)
    assert ingest([str(tmp_path / "s")], tmp_path / "a", workers=1).tables["instances"].rows == 3


def test_an_archive_keeps_its_policy_and_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    series(tmp_path / "s", "one", patient="P1", person="Ann")
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    with pytest.raises(ConfigError, match="another policy"):
        ingest([str(tmp_path / "s")], tmp_path / "a", workers=1, dates="none")
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", "another key")
    with pytest.raises(ConfigError, match="another key"):
        ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert KEY not in (tmp_path / "a" / "archive.json").read_text()


def test_an_archive_does_not_take_itself_in(tmp_path: Path) -> None:
    series(tmp_path / "s", "one", patient="P1", person="Ann")
    with pytest.raises(ConfigError, match="take itself in"):
        ingest([str(tmp_path / "s")], tmp_path / "s" / "a", workers=1)


def test_a_second_writer_is_refused(tmp_path: Path) -> None:
    series(tmp_path / "s", "one", patient="P1", person="Ann")
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    with open_archive(tmp_path / "a").locked(), pytest.raises(OutputError, match="another run"):
        ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)


def test_a_folder_of_other_things_is_no_archive(tmp_path: Path) -> None:
    series(tmp_path / "s", "one", patient="P1", person="Ann")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty and no archive"):
        ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)


def test_a_name_says_whose_identifiers_are_in_a_source(tmp_path: Path) -> None:
    series(tmp_path / "x", "one", patient="P1", person="Ann")
    series(tmp_path / "y", "two", patient="P1", person="Bob", birth="19700102", seed=3)
    made = ingest([f"north={tmp_path / 'x'}", f"south={tmp_path / 'y'}"], tmp_path / "a", workers=1)
    assert made.clean
    keys = set(open_catalog(tmp_path / "a").sql("SELECT patient_key FROM patients").column(0).to_pylist())
    assert keys == {NAMES.patient("north", "P1"), NAMES.patient("south", "P1")}


def test_identified_data_say_so(tmp_path: Path) -> None:
    series(tmp_path / "s", "one", patient="P1", person="Ann")
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1, identified=True)
    assert made.identified
    assert any("identified data" in note for note in made.notes)
    assert '"off": true' in (tmp_path / "a" / "archive.json").read_text()


def test_latin_1_tables_are_read(tmp_path: Path) -> None:
    table(
        tmp_path / "s" / "reports.csv",
        [{"patient_id": "P1", "report": "Befund: Rundherd im Oberlappen, Größe 8 mm, keine Ergüsse."}],
        encoding="latin-1",
    )
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert "Größe 8 mm" in open_catalog(tmp_path / "a").sql("SELECT text FROM reports").column(0)[0].as_py()


def test_building_twice_is_the_same(tmp_path: Path, archive: Path) -> None:
    """Another copy of the same hospital, at another place, gives the same catalog."""
    again = build(tmp_path / "elsewhere" / "hospital")
    renamed = tmp_path / archive.parent.name
    made = ingest([str(again)], renamed, workers=1)
    assert made.tables["instances"].rows == open_catalog(archive).tables["instances"]["rows"]


def test_tables_neither_number_people_nor_tell_who_is_very_old(tmp_path: Path) -> None:
    row = {"MRN": "88123411", "mobile": "4915112345678", "age": "93", "hb": "12.5"}
    table(tmp_path / "s" / "clinic" / "lab.csv", [{"patient_id": "P1", **row}])
    picture(tmp_path / "s" / "pictures" / "one.png", 1)
    table(tmp_path / "s" / "pictures" / "list.csv", [{"image": "one.png", "patient": "P1", **row}])
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    catalog = open_catalog(tmp_path / "a")
    kept = {"age": 90.0, "hb": 12.5}
    for what in ("code, number FROM records", "name, number FROM labels", "name, value FROM labels"):
        rows = [tuple(row.values()) for row in catalog.sql(f"SELECT {what}").to_pylist()]
        assert {name: float(value) for name, value in rows} == kept


def test_numbers_of_a_table_are_neither_dates_nor_people(tmp_path: Path) -> None:
    rows = [
        {"patient": f"P{n}", "surgery_date": f"2019030{n}", "national_id": f"{n}23456789", "age_at_diagnosis": 95 + n,
         "hadm_id": 22334454 + n, "exam_year": 2018 + n, "hb": n + 0.5, "site_id": n, "extern": 70033455 + 1011 * n}
        for n in (1, 2, 3)
    ]  # fmt: skip
    table(tmp_path / "s" / "outcomes.csv", rows)
    for dates in get_args(Dates):
        done = ingest([str(tmp_path / "s")], tmp_path / dates, workers=1, dates=dates)
        catalog = open_catalog(tmp_path / dates)
        found = catalog.sql("SELECT code, number, value_time FROM records ORDER BY ALL").to_pylist()
        numbers = {(row["code"], row["number"]) for row in found if row["number"] is not None}
        assert numbers == {
            ("age_at_diagnosis", 90.0), *((k, float(row[k])) for row in rows for k in ("hb", "site_id", "extern")),
        }  # fmt: skip
        times = sorted(str(row["value_time"]) for row in found if row["value_time"])
        assert (times == ["2019", "2019-03-01", "2019-03-02", "2019-03-03", "2020", "2021"]) == (dates == "full")
        assert len(times) == (0 if dates == "none" else 6)
        assert {t.reason.split(" holds")[0] for t in done.troubles if t.kind == "suspicious"} == {"column 'extern'"}
        ignored = {t.reason.split(" numbers")[0] for t in done.troubles if t.kind == "ignored"}
        assert ignored == {"column 'hadm_id'", "column 'national_id'"}


def test_labels_publish_no_name_of_a_folder_or_file_and_no_free_text(tmp_path: Path) -> None:
    told = f"Seen by Dr Jane Roe on 2024-03-01, MRN 123456, tel 555-123-4567; {CANARY}"
    source = tmp_path / "s"
    bids = "sub-19670412-MRN889912"
    for number, name in enumerate((
        f"{bids}/anat/{bids}_dseg.png", f"{CANARY}_Hans/liver.png", f"{CANARY}_Hans/img7.png", f"{CANARY}_masks/a.png",
        "liver_masks/b.png", "sub-3/sub-3_desc-lung_mask.png",
    )):  # fmt: skip
        picture(source / name, number)
    np.savez(source / "case1.npz", image=np.arange(64, dtype=np.uint8).reshape(8, 8))
    rows = [
        {"file": f"{CANARY}_Hans/img7.png", "mask": f"{CANARY}_Hans/liver.png"},
        {"file": "case1.npz", "mask": ""}, {"file": "other.txt", "mask": ""},
    ]  # fmt: skip
    shared = {"patient": "P7", "Patient Name": f"{CANARY}^Hans", "comment": told, "age_at_scan": "95"}
    table(source / "table.csv", [{**row, **shared} for row in rows])
    (source / "other.txt").write_text("MRN: P7\n\nFindings: the lungs are clear in this examination.\n")
    for pixels in (True, False):
        place = tmp_path / f"a{pixels}"
        ingest([str(source)], place, workers=1, pixels=pixels)
        found = open_catalog(place).sql("SELECT name, value, number, kind FROM labels ORDER BY ALL").to_pylist()
        masks = sorted(row["name"] for row in found if row["kind"] == "mask")
        assert masks == ["desc-lung", "dseg", "liver_masks", "mask", "mask"]
        comments = [row["value"] for row in found if row["name"] == "comment"]
        assert len(comments) == 3
        for text in comments:
            assert text.startswith("Seen by Dr [NAME] on 20")
            assert text.endswith("MRN [ID], tel [PHONE]; [NAME]")
            assert "2024-03-01" not in text
        assert {row["number"] for row in found if row["name"] == "age_at_scan"} == {90.0}
        assert CANARY not in str(found)


def test_what_a_copy_does_not_show_depends_on_no_order(tmp_path: Path) -> None:
    # De-identified, the two copies are the same: nothing of an accession number is left in them.
    series(tmp_path / "early", "s", patient="P1", person="Ann")
    series(tmp_path / "late", "s", patient="P1", person="Ann", accession="ACC9")
    said = {"patient_id": "P1", "accession": "ACC9", "report": "FINDINGS: A nodule of 8 mm."}
    table(tmp_path / "reports.csv", [said])
    told = []
    for order in (("early", "late"), ("late", "early")):
        archive = tmp_path / "-".join(order)
        for name in (*order, "reports.csv"):
            found = ingest([str(tmp_path / name)], archive, workers=1)
        told.append(found.catalog_hash)
        assert open_catalog(archive).sql("SELECT study_from FROM reports").column(0).to_pylist() == ["accession"]
    assert told[0] == told[1]


def test_a_file_that_was_repaired_is_refused_no_more(tmp_path: Path) -> None:
    first = series(tmp_path / "s", "s", patient="P1", person="Ann")[0]
    whole = first.read_bytes()
    first.write_bytes(whole[:-20])
    assert ingest([str(tmp_path / "s")], tmp_path / "a", workers=1).refused == 1
    first.write_bytes(whole)
    again = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert (again.refused, again.tables["instances"].rows, again.troubles) == (0, 3, ())
    # Cut off anew, it is told; what was taken in stays.
    first.write_bytes(whole[:-30])
    last = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert (last.refused, last.catalog_hash) == (1, again.catalog_hash)
