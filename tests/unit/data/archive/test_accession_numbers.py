"""An accession number finds its study: by images, by what records say of studies, and never by a guess."""

from __future__ import annotations

import json
from pathlib import Path

import pydicom

from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.deidentify import Pseudonyms
from isocenter.verbs.archive_folder import problems_of
from isocenter.verbs.ingest import ingest

from .conftest import KEY, series, table

NAMES = Pseudonyms(KEY.encode())


def study_uid(paths: list[Path]) -> str:
    return str(pydicom.dcmread(paths[0]).StudyInstanceUID)


def bundle(file: Path, *studies: tuple[str, str, str], system: str = "") -> None:
    """Write FHIR ImagingStudy resources: (patient, accession, UID)."""
    entries = []
    for number, (patient, accession, uid) in enumerate(studies):
        identifier = {"value": patient, **({"system": system} if system else {})}
        entries.append({"resourceType": "Patient", "id": f"p{number}", "identifier": [identifier]})
        stated = [{"type": {"coding": [{"code": "ACSN"}]}, "value": accession}] if accession else []
        if uid:
            stated.append({"system": "urn:dicom:uid", "value": f"urn:oid:{uid}"})
        entries.append(
            {
                "resourceType": "ImagingStudy", "id": f"i{number}", "status": "available", "identifier": stated,
                "subject": {"reference": f"Patient/p{number}"},
            }
        )  # fmt: skip
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(
        json.dumps({"resourceType": "Bundle", "type": "collection", "entry": [{"resource": e} for e in entries]})
    )


def report(root: Path, *rows: tuple[str, str]) -> None:
    texts = [f"FINDINGS: A nodule of 8 mm, {number}." for number in range(len(rows))]
    cells = [{"patient_id": p, "accession": a, "report": t} for (p, a), t in zip(rows, texts, strict=True)]
    table(root / "reports.csv", cells)


def joined(archive: Path) -> list[tuple[str | None, str | None]]:
    rows = open_catalog(archive).sql("SELECT study_uid, study_from FROM reports ORDER BY text").to_pylist()
    return [(row["study_uid"], row["study_from"]) for row in rows]


def conflicts(archive: Path) -> list[str]:
    return sorted(reason for kind, reason, _, _ in problems_of(archive) if kind == "conflict")


def test_a_record_says_which_study_a_number_is_of(tmp_path: Path) -> None:
    uid = study_uid(series(tmp_path / "s" / "pacs", "one", patient="P1", person="Ann"))
    bundle(tmp_path / "s" / "pacs" / "studies.json", ("P1", "A1", uid), ("P2", "A2", "1.2.3.99"))
    report(tmp_path / "s" / "pacs", ("P1", "A1"), ("P2", "A2"), ("P1", "A3"))
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert made.clean
    # The second study has no image here; the third number is of no study that anybody speaks of.
    assert joined(tmp_path / "a") == [(NAMES.uid(uid), "record"), (NAMES.uid("1.2.3.99"), "record"), (None, None)]
    found = open_catalog(tmp_path / "a").find("report ilike '%nodule%'")
    assert found.column("study_uid").to_pylist() == [NAMES.uid(uid)]
    text = str(open_catalog(tmp_path / "a").sql("SELECT * FROM reports").to_pylist())
    assert not any(word in text for word in (uid, "1.2.3.99", "A1", "A2"))


def test_a_uid_is_of_its_patient_whoever_names_it(tmp_path: Path) -> None:
    uid = study_uid(series(tmp_path / "s" / "pacs", "one", patient="P1", person="Ann"))
    bundle(tmp_path / "s" / "fhir" / "studies.json", ("F77", "A1", uid), system="urn:other-hospital")
    report(tmp_path / "s" / "pacs", ("P1", "A1"))
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert joined(tmp_path / "a") == [(NAMES.uid(uid), "record")]


def test_messages_share_the_identifiers_of_images_and_tables_do_not(tmp_path: Path) -> None:
    uid = study_uid(series(tmp_path / "s" / "pacs", "one", patient="P1", person="Ann"))
    bundle(tmp_path / "s" / "fhir" / "studies.json", ("P1", "A1", uid), ("P3", "A3", "1.2.3"))
    report(tmp_path / "s" / "elsewhere", ("P1", "A1"), ("P3", "A3"))
    message = (
        "MSH|^~\\&|RIS|X|Y|Z|20240518||ORU^R01|1|P|2.5\rPID|1||P3||Muster^Max\rOBR|1||A3|24627-2^CT^LN|||20240517\r"
        "OBX|1|TX|24627-2^Report||FINDINGS: clear, 0.||||||F\r"
    )
    (tmp_path / "s" / "hl7").mkdir()
    (tmp_path / "s" / "hl7" / "one.hl7").write_text(message)
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    rows = (
        open_catalog(tmp_path / "a").sql("SELECT patient_key, study_from, form FROM reports ORDER BY ALL").to_pylist()
    )
    told = {(row["patient_key"], row["form"]): row["study_from"] for row in rows}
    assert told == {
        (NAMES.patient("", "P3"), "hl7"): "record",
        (NAMES.patient("elsewhere", "P1"), "csv"): None,
        (NAMES.patient("elsewhere", "P3"), "csv"): None,
    }


def test_images_and_records_that_agree_join_and_those_that_do_not_are_listed(tmp_path: Path) -> None:
    one = study_uid(series(tmp_path / "s" / "one", "one", patient="P1", person="Ann", accession="A1"))
    two = study_uid(series(tmp_path / "s" / "two", "two", patient="P1", person="Ann", accession="A2", seed=1))
    bundle(
        tmp_path / "s" / "pacs" / "studies.json",
        ("P1", "A1", one),
        ("P1", "A2", one),
        ("P1", "A4", two),
        ("P1", "A4", "1.2"),
    )
    report(tmp_path / "s" / "one", ("P1", "A1"), ("P1", "A2"), ("P1", "A4"))
    made = ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert joined(tmp_path / "a") == [(NAMES.uid(one), "accession"), (None, None), (None, None)]
    assert conflicts(tmp_path / "a") == ["its accession number is of 2 studies: joined to none of them"]
    assert (made.conflicts, made.clean) == (2, False)


def test_two_studies_of_one_number_by_their_images(tmp_path: Path) -> None:
    for number in (1, 2):
        series(tmp_path / "s" / str(number), f"n{number}", patient="P1", person="Ann", accession="A1", seed=number)
    report(tmp_path / "s" / "1", ("P1", "A1"))
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert joined(tmp_path / "a") == [(None, None)]
    assert conflicts(tmp_path / "a") == ["its accession number is of 2 studies: joined to none of them"]


def test_each_number_of_a_study_finds_it(tmp_path: Path) -> None:
    paths = series(tmp_path / "s" / "pacs", "one", patient="P1", person="Ann", accession="A1")
    other = pydicom.dcmread(paths[1])
    other.AccessionNumber = "A2"
    other.save_as(paths[1])
    report(tmp_path / "s" / "pacs", ("P1", "A1"), ("P1", "A2"))
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert joined(tmp_path / "a") == [(NAMES.uid(study_uid(paths)), "accession")] * 2


def test_a_number_of_another_patient_joins_nothing(tmp_path: Path) -> None:
    uid = study_uid(series(tmp_path / "s" / "pacs", "one", patient="P1", person="Ann", accession="A1"))
    bundle(tmp_path / "s" / "pacs" / "studies.json", ("P1", "A9", uid))
    report(tmp_path / "s" / "pacs", ("P2", "A1"), ("P2", "A9"))
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    assert joined(tmp_path / "a") == [(None, None)] * 2
    assert conflicts(tmp_path / "a") == ["its accession number is of a study of another patient"]


def test_studies_that_say_too_little_are_listed(tmp_path: Path) -> None:
    bundle(tmp_path / "s" / "studies.json", ("P1", "", "1.2.3"), ("P1", "A1", ""), ("P1", "A2", "1.2.4"))
    ingest([str(tmp_path / "s")], tmp_path / "a", workers=1)
    told = [reason for kind, reason, _, _ in problems_of(tmp_path / "a") if kind == "ignored"]
    assert [reason.split(" without")[0] for reason in told] == ["2 imaging studies"]


def test_the_order_in_which_they_come_makes_no_difference(tmp_path: Path) -> None:
    uid = study_uid(series(tmp_path / "pacs", "one", patient="P1", person="Ann"))
    bundle(tmp_path / "fhir" / "studies.json", ("P1", "A1", uid))
    report(tmp_path / "reports", ("P1", "A1"))
    parts = [f"x={tmp_path / name}" for name in ("reports", "fhir", "pacs")]
    for part in parts:
        last = ingest([part], tmp_path / "one_by_one", workers=1)
    assert joined(tmp_path / "one_by_one")[0][1] == "record"
    assert last.catalog_hash == ingest(parts[::-1], tmp_path / "at_once", workers=1).catalog_hash
