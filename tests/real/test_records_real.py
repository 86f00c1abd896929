"""Reports and tables of real collections: counts equal to their sources, and everything left out is named."""

from __future__ import annotations

import tarfile
from collections import Counter

import pytest

from isocenter.data.records import ReadOptions, read_records

pytestmark = pytest.mark.real


def test_indiana_reports(shared_data):
    path = shared_data / "reports_iu_xray" / "ecgen-radiology_subset.tgz"
    found = read_records(path)
    with tarfile.open(path) as archive:
        members = [m.name for m in archive if m.isreg()]
    assert len(members) == 1500
    textless = [r.where for r in found.refused if "without a text" in r.reason]
    assert len(found.reports) + len(textless) == 1500, "each is read or named"
    assert len({r.identifier for r in found.reports}) == len(found.reports) == 1486
    one = next(r for r in found.reports if r.identifier == "CXR1")
    assert dict(one.sections)["impression"] == "Normal chest x-XXXX."
    assert (one.images, one.language) == (("CXR1_1_IM-0001-3001", "CXR1_1_IM-0001-4001"), "en")
    labels = read_records(shared_data / "reports_iu_xray" / "findings_labels_14.csv").manifests[0]
    assert len(labels.rows) == 1463
    named = {r.identifier for r in found.reports} | {label.file for label in found.labels}
    assert {row.file for row in labels.rows} <= named


def test_clinical_tables(shared_data):
    folder = shared_data / "clinical"
    actg = read_records(folder / "ACTG175.txt")
    assert len({p.identifier for p in actg.patients}) == 2139
    tcga = [
        read_records(folder / f"tcga_lgg_{name}.csv") for name in ("clinical_INFO", "shape_outcomes", "vasari_INFO")
    ]
    known = [{p.identifier for p in found.patients} for found in tcga]
    assert [len(k) for k in known] == [188, 188, 188]
    assert known[1] == known[2], "two tables of the same people"
    assert len(known[0] & known[1]) == 146, "the third has some of them"
    stated = read_records(folder / "tcga_lgg_clinical_INFO.csv", ReadOptions(roles={"Tumor": "patient"}))
    assert stated.records == tcga[0].records
    rows = {name: len({r.identifier for r in read_records(folder / name).records})
            for name in ("GBSG2.arff", "veteran.arff", "whas500.arff", "ncctg_lung.csv")}  # fmt: skip
    assert rows == {"GBSG2.arff": 686, "veteran.arff": 137, "whas500.arff": 500, "ncctg_lung.csv": 228}


def test_tables_of_images(shared_data):
    nih = read_records(shared_data / "cxr_nih" / "labels.csv").manifests[0]
    files = {p.name for p in (shared_data / "cxr_nih" / "images_256").iterdir()}
    assert {row.file for row in nih.rows} == files
    assert (nih.file_column, nih.patient_column) == ("Image Index", "Patient ID")
    covid = read_records(shared_data / "cxr_covid_lungmask" / "metadata.csv").manifests[0]
    assert all((shared_data / "cxr_covid_lungmask" / row.file).is_file() for row in covid.rows)
    assert len(covid.rows) == 101
    busi = read_records(shared_data / "us_breast_busi" / "labels.csv").manifests[0]
    classes = Counter(row.values["label"] for row in busi.rows)
    assert sum(classes.values()) == len(busi.rows) == 623
    assert set(classes) == {"benign", "malignant", "normal"}


def test_structured_reports(shared_data):
    found = read_records(shared_data / "dicom" / "dcmqi" / "sr-example" / "sr.dcm")
    first = next(r for r in found.records if r.number is not None)
    assert (first.display, first.number, first.unit) == ("SUVbw", 6.01529, "{SUVbw}g/ml")
    assert len([r for r in found.records if r.number is not None]) == 22


def test_nothing_of_the_shared_folder_vanishes(shared_data):
    for name in ("reports_labelers", "dicom"):
        found = read_records(shared_data / name)
        files = {p.relative_to(shared_data / name).as_posix() for p in (shared_data / name).rglob("*") if p.is_file()}
        told = " ".join(r.where for r in found.refused)
        rows = len(found.reports) + len(found.records) + len(found.patients) + len(found.labels)
        silent = [f for f in files if f not in told]
        assert rows
        for file in silent:  # what is not named was read
            one = read_records(shared_data / name / file)
            assert one.reports or one.records or one.patients or one.manifests, file
