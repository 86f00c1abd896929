"""Reports of real studies find them by accession number: by the images, and by what a FHIR server says of them."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom
import pytest

from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.deidentify import Pseudonyms
from isocenter.verbs.ingest import ingest

pytestmark = pytest.mark.real
KEY = "a key for tests alone"
FOLDER = "dicom/pydicom_test_files/test_files/dicomdirtests"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_reports_of_real_studies(shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", KEY)
    sources = [shared_data / FOLDER / name for name in ("77654033", "98892001", "98892003")]
    if not all(source.is_dir() for source in sources):
        pytest.skip("the DICOMDIR test sets are not in the shared folder")
    studies = set()
    for path in (p for source in sources for p in source.rglob("*") if p.is_file()):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        studies.add((header.PatientID, header.AccessionNumber, header.StudyInstanceUID))
    numbers = {n: {u for _, m, u in studies if m == n} for _, n, _ in studies if n}
    assert len(studies) >= 4
    lines, entries, expected = [["patient_id", "accession", "report"]], [], {}
    for count, (patient, number, uid) in enumerate(sorted(studies)):
        text = f"FINDINGS: nothing new, {count}."
        # Those whose images have a number are found by it; of each, a record says another one as well.
        for accession, by in ((number, "accession"), (f"ORDER{count}", "record")):
            if accession:
                lines.append([patient, accession, f"{text} {by}"])
                one = by == "record" or len(numbers[number]) == 1
                expected[f"{text} {by}"] = (Pseudonyms(KEY.encode()).uid(uid), by) if one else (None, None)
        entries.append({"resourceType": "Patient", "id": f"p{count}", "identifier": [{"value": patient}]})
        stated = [{"type": {"coding": [{"code": "ACSN"}]}, "value": f"ORDER{count}"}]
        stated.append({"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"})
        entries.append({"resourceType": "ImagingStudy", "id": f"i{count}", "status": "available", "identifier": stated,
                        "subject": {"reference": f"Patient/p{count}"}})  # fmt: skip
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "reports.csv").write_text("\n".join(",".join(f'"{c}"' for c in line) for line in lines) + "\n")
    bundle = {"resourceType": "Bundle", "type": "collection", "entry": [{"resource": entry} for entry in entries]}
    (tmp_path / "s" / "studies.json").write_text(json.dumps(bundle))
    given = [f"one={place}" for place in (*sources, tmp_path / "s")]
    made = ingest(given, tmp_path / "a", workers=1)
    assert made.refused == 0
    rows = open_catalog(tmp_path / "a").sql("SELECT text, study_uid, study_from FROM reports").to_pylist()
    assert {row["text"]: (row["study_uid"], row["study_from"]) for row in rows} == expected
