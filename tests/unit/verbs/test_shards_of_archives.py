"""What is asked of an archive is of the patient that it is true of, and nothing that is held back comes with it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pydicom
import pytest

from isocenter.core import Geometry, Image
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.catalog.catalog import Catalog, open_catalog
from isocenter.data.deidentify import Pseudonyms
from isocenter.data.images import read_study
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.archive_folder import problems_of
from isocenter.verbs.ingest import IngestDocument, ingest

KEY = "a key for tests alone"
NAMES = Pseudonyms(KEY.encode())
CHEST, HAND = NAMES.patient("", "PA"), NAMES.patient("", "PB")


def series(folder: Path, name: str, seed: int, **values: str) -> list[Path]:
    geometry = Geometry.axial((3, 4, 5), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10.0, 20.0, 30.0))
    image = Image(np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5) + 100 * seed, geometry)

    def change(_: int, ds: pydicom.Dataset) -> pydicom.Dataset:
        for keyword, value in values.items():
            setattr(ds, keyword, value)
        return ds

    return write_ct_series(folder, image, seed=seed, name=name, change=change)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one Study and one Series UID of two patients, and a study with an image that has two pictures."""
    source = tmp_path_factory.mktemp("source")
    one = {"StudyInstanceUID": "1.2.5", "SeriesInstanceUID": "1.2.5.1"}
    series(source / "a", "a", 1, PatientID="PA", BodyPartExamined="CHEST", **one)
    series(source / "b", "b", 2, PatientID="PB", BodyPartExamined="HAND", **one)
    study = {"PatientID": "PH", "StudyInstanceUID": "1.2.6", "BodyPartExamined": "HEAD"}
    series(source / "good", "good", 3, **study)
    for n in (4, 5):
        series(source / f"held{n}", "held", n, **study)
    for path in (*(source / "held4").iterdir(), *(source / "held5").iterdir()):
        ds = pydicom.dcmread(path)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.6.{ds.InstanceNumber}"
        ds.SeriesInstanceUID = "1.2.6.9"
        ds.save_as(path)
    return source


@pytest.fixture(scope="module")
def made(source: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[IngestDocument, Path]:
    place = tmp_path_factory.mktemp("archive") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOCENTER_PSEUDONYM_KEY", KEY)
        return ingest([str(source)], place, workers=1), place


@pytest.fixture
def catalog(made: tuple[IngestDocument, Path]) -> Catalog:
    return open_catalog(made[1])


def test_a_uid_of_two_patients_is_told(made: tuple[IngestDocument, Path]) -> None:
    told = {
        reason: count
        for kind, reason, count, _ in problems_of(made[1])
        if kind == "conflict" and "of another patient" in reason
    }
    assert sorted(told.values()) == [2, 2]  # for each of the two patients
    assert {reason.split(" Instance")[0] for reason in told} == {"Study", "Series"}
    assert not made[0].clean


@pytest.mark.parametrize(("part", "patient", "folder"), [("CHEST", CHEST, "a"), ("HAND", HAND, "b")])
def test_a_shard_is_of_the_patient_that_the_expression_is_true_of(
    made: tuple[IngestDocument, Path], source: Path, tmp_path: Path, part: str, patient: str, folder: str
) -> None:
    pytest.importorskip("blosc2")
    from isocenter.data.shards import open_shard
    from isocenter.verbs.shards import make_shards

    done = make_shards(made[1], tmp_path, expression=f"body_part = '{part}'")
    ((name, told),) = done.shards.items()
    assert (told["patient_key"], done.written, done.refused) == (patient, (name,), ())
    shard = open_shard(tmp_path / f"{name}.b2nd").read(as_source=True)
    assert np.array_equal(shard.array, read_study(source / folder).study.images[0].array)


def test_shards_of_all_are_of_every_patient_and_of_nothing_that_is_held_back(
    made: tuple[IngestDocument, Path], tmp_path: Path
) -> None:
    pytest.importorskip("blosc2")
    from isocenter.verbs.shards import make_shards

    done = make_shards(made[1], tmp_path)
    assert len(done.written) == len(done.shards) == 3
    assert {told["patient_key"] for told in done.shards.values()} == {CHEST, HAND, NAMES.patient("", "PH")}


def test_studies_and_patients_are_those_that_it_is_true_of(catalog: Catalog) -> None:
    for level in ("studies", "patients"):
        assert catalog.find("body_part = 'CHEST'", level=level).column("patient_key").to_pylist() == [CHEST]
    ((study),) = catalog.studies("body_part = 'HAND'")
    assert study.patient_key == HAND
    assert study.read().patient_key == HAND


def test_a_study_of_which_something_is_held_back_is_held_back(catalog: Catalog) -> None:
    assert set(catalog.find(level="studies").column("held").to_pylist()) == {None}
    assert catalog.find(level="studies").num_rows == 2
    assert catalog.find(level="studies", held=True).num_rows == 3
    assert {study.patient_key for study in catalog.studies()} == {CHEST, HAND}
    assert catalog.find("body_part = 'HEAD'").num_rows == 1, "its good series is found as a series"


@pytest.mark.parametrize(
    "expression",
    [
        "modality = 'XX') OR (modality = 'CT'",
        "false) OR (modality = 'CT'",
        "true) --",
        "true)/*",
        "true) OR ($$ $$ = ' '",
        "true ORDER BY 1",
        "true LIMIT 1",
        "true; SELECT 1",
        "SELECT true",
    ],
)
@pytest.mark.parametrize("level", ["series", "studies", "instances"])
def test_no_expression_leaves_its_brackets(catalog: Catalog, expression: str, level: str) -> None:
    cohort = pa.table({"series_uid": ["x"], "patient_key": ["y"]})
    with pytest.raises(ConfigError):
        catalog.find(expression, level=level, cohort=cohort)


@pytest.mark.parametrize(
    "expression",
    [
        "series_description <> 'a) OR (b' OR true",
        "(modality = 'CT') OR (modality = 'MR') -- both",
        "modality /* ) */ = 'CT'",
        "modality <> ';' AND modality <> $$)$$",
        'modality IN (SELECT "modality" FROM series)',
    ],
)
def test_brackets_in_texts_and_comments_are_none(catalog: Catalog, expression: str) -> None:
    assert catalog.find(expression).num_rows == 3
    assert catalog.find(expression, level="studies").num_rows == 2


def test_a_study_is_read_from_its_own_files_alone(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", KEY)
    ingest([str(source / "a")], tmp_path / "a", workers=1)
    (study,) = open_catalog(tmp_path / "a").studies()
    # What a run that was killed has left, or what is held back, lies in the same folder.
    left = pydicom.dcmread(study.files[0])
    left.SOPInstanceUID = left.file_meta.MediaStorageSOPInstanceUID = "2.25.7"
    left.ImagePositionPatient[2] += 400
    left.save_as(study.files[0].with_name("left.dcm"))
    read = study.read()
    assert [image.array.shape for image in read.images] == [(1, 3, 4, 5)]
    study.files[0].unlink()
    with pytest.raises(DataError, match="1 of 3 files of this study are gone"):
        study.read()
