"""Real sets in one archive: counts by modality, patient and label are those of the SOURCES tables."""

from __future__ import annotations

from pathlib import Path

import pytest

from isocenter.data.catalog.catalog import Catalog, open_catalog
from isocenter.verbs.ingest import ingest

pytestmark = pytest.mark.real
SETS = ("ct_mr_pet_sts", "cxr_covid_lungmask", "fundus_chasedb1", "interactive_medscribble", "us_breast_busi")


@pytest.fixture(scope="module")
def catalog(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    place = tmp_path_factory.mktemp("archive") / "a"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ISOCENTER_PSEUDONYM_KEY", "a key for tests alone")
        made = ingest([str(shared_data / name) for name in SETS], place, workers=1)
    assert made.refused == 0
    assert made.conflicts == 0
    return open_catalog(place)


def test_modalities_and_roles(catalog: Catalog) -> None:
    rows = catalog.sql(
        "SELECT modality, form, role, count(*) AS n, count(DISTINCT patient_key) AS patients FROM instances "
        "GROUP BY ALL"
    ).to_pylist()
    told = {(r["modality"], r["form"], r["role"]): (r["n"], r["patients"]) for r in rows}
    for modality in ("CT", "MR", "PT"):
        assert told[modality, "nifti", "image"] == (12, 12)
        assert told[modality, "nifti", "mask"] == (12, 12)
    assert [told[m, "dicom", "image"] for m in ("CT", "MR", "PT")] == [(48, 1), (35, 1), (48, 1)]
    assert told["RTSTRUCT", "dicom", "mask"] == (3, 1)
    assert told["DX", "picture", "image"] == (101, 54)
    assert told["DX", "picture", "mask"][0] == 90
    assert told["OP", "picture", "image"] == (28, 14)
    assert told["OP", "picture", "mask"] == (56, 14)
    assert told["US", "picture", "image"] == (623, 623)


def test_the_patient_of_dicom_is_the_one_of_nifti_and_table(catalog: Catalog) -> None:
    assert catalog.sql(
        "SELECT count(DISTINCT form) FROM instances WHERE patient_key = (SELECT min(patient_key) FROM instances "
        "WHERE form = 'dicom' AND modality = 'CT')"
    ).column(0).to_pylist() == [2]
    joined = catalog.sql(
        "SELECT count(*) FROM records WHERE code = 'lung_metastasis' AND patient_key IN "
        "(SELECT patient_key FROM instances WHERE form = 'nifti' AND modality = 'PT')"
    )
    assert joined.column(0).to_pylist() == [12]


def test_labels_of_tables(catalog: Catalog) -> None:
    rows = catalog.sql("SELECT value, count(*) AS n FROM labels WHERE name = 'label' GROUP BY 1").to_pylist()
    assert {r["value"]: r["n"] for r in rows} == {"benign": 371, "malignant": 165, "normal": 87}


def test_nothing_is_named_by_its_file(catalog: Catalog) -> None:
    for table in catalog.tables:
        left_out = "text" if table in ("records", "reports") else "patient_key"
        text = str(catalog.sql(f"SELECT * EXCLUDE ({left_out}) FROM {table}").to_pylist())
        for word in ("STS_0", "Image_0", "benign_0", "ARDSSevere"):
            assert word not in text, (table, word)
