"""One way in: the form is told by content, archives are read inside, and nothing vanishes."""

from __future__ import annotations

import gzip
import io
import tarfile
import zipfile

import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from isocenter.core.errors import DataError
from isocenter.data.records import ReadOptions, read_records, stream_records, tell_form
from isocenter.data.records.openi import read_xml
from isocenter.data.records.text import read_text

XML = b'<?xml version="1.0"?><eCitation><uId id="CXR1"/><AbstractText Label="FINDINGS">Clear.</AbstractText><MeSH><major>normal</major></MeSH><parentImage id="i1"/></eCitation>'  # fmt: skip # noqa: E501
FILES = {
    "a.xml": XML, "b.txt": b"Findings: no effusion seen.\n", "c.csv": b"patient,hb\n1,2\n",
    "d.hl7": b"MSH|^~\\&|||||||ORU^R01|1|P|2.5\rPID|||1\rOBR|1||A\rOBX|1|TX|x||Text.\r",
    "e.json": b'{"resourceType": "Patient", "id": "1"}', "README.txt": b"This explains how the files were made.\n",
    "f.bin": bytes(range(256)) * 8, "empty.csv": b"",
}  # fmt: skip


@pytest.mark.parametrize("kind", ["folder", "zip", "tgz"])
def test_everything_is_read_or_named(tmp_path, kind):
    path = tmp_path / "in"
    if kind == "folder":
        path.mkdir()
        for name, data in FILES.items():
            (path / name).write_bytes(data)
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in FILES.items():
                archive.writestr(name, data)
    else:
        with tarfile.open(path, "w:gz") as archive:
            for name, data in FILES.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
            link = tarfile.TarInfo("link")
            link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
            archive.addfile(link)
    found = read_records(path)
    assert sorted(r.form for r in found.reports) == ["hl7", "openi", "text"]
    assert [r.form for r in found.records] == ["csv"]
    assert len(found.patients) == 3
    left = {r.where.removeprefix("in/"): r.kind for r in found.refused}
    expected = {"README.txt": "ignored", "f.bin": "ignored", "empty.csv": "refused"}
    assert left == {**expected, **({"link": "refused"} if kind == "tgz" else {})}


def test_gzip_of_one_file_and_a_damaged_one(tmp_path):
    data = gzip.compress(b"patient,hb\n" + b"1,2\n" * 50)
    (tmp_path / "a.csv.gz").write_bytes(data)
    assert len(read_records(tmp_path / "a.csv.gz").records) == 50
    (tmp_path / "a.csv.gz").write_bytes(data[:-12])
    assert "cut short" in read_records(tmp_path / "a.csv.gz").refused[0].reason


def test_links_are_not_followed_and_a_missing_path_is_an_error(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path)
    assert [r.reason for r in read_records(tmp_path).refused] == ["a symbolic link, which is not followed"]
    with pytest.raises(DataError, match="does not exist"):
        list(stream_records(tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("data", "name", "form"),
    [
        (b"", "x", "empty"), (b"\x0bMSH|^~\\&|", "x", "hl7"), (b"PAR1", "x", "parquet"),
        (b'{"resourceType":"Patient"}\n{"resourceType":"Patient"}\n', "x", "ndjson"),
        (b'{"a":1}\n{"a":2}\n', "x", "jsonl"),
        (b'{\n "resourceType": "Bundle"}', "x", "fhir"), (b'[{"resourceType":"Patient"}]', "x", "fhir"),
        (b"<a/>", "x", "xml"), (b"% c\n@RELATION x\n", "x", "arff"), (b"\0" * 128 + b"DICM", "x", "dicom"),
        (b"a b\n1 2\n3 4\n5 6\n", "x.txt", "table"), (b"Clear, no effusion.\nNormal, stable.\n", "x.txt", "text"),
        ("patient;x\n1;2\n".encode("utf-16"), "x.csv", "table"), (b"def f(): pass\n", "x.py", "other"),
        (b"\x89PNG\r\n\x1a\n" + b"\0" * 64, "x.png", "other"),
    ],
)  # fmt: skip
def test_forms(data, name, form):
    assert tell_form(data, name) == form


def test_json_lines(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b'{"patient":"1","hb":2}\n{"patient":"2","hb":[1]}\nnone\n')
    found = read_records(tmp_path / "a.jsonl")
    assert [(r.patient, r.number) for r in found.records] == [("1", 2)]
    assert len(found.refused) == 2


def test_text_names():
    data = b"MRN: 4711\nAccession Number: A7\nStudy date: 31.1.2024\nFindings: all clear here"
    report = read_text(data, "f/77.txt").reports[0]
    assert (report.identifier, report.patient, report.accession, report.time) == ("77", "4711", "A7", "2024-01-31")
    plain = b"No acute disease is seen.\n"
    assert read_text(plain, "77.txt", ReadOptions(text_name="accession")).reports[0].accession == "77"
    assert read_text(plain, "77.txt", ReadOptions(text_name="patient", issuer="H")).reports[0].patient == "77"
    assert "guess" in read_text("Größe der Läsion: unverändert geblieben.".encode("cp1252"), "1.txt").notes[0]


@pytest.mark.parametrize("data", [b"effusion\nedema\n", b"{a: <b>} = |c|\nx = {y} | {z}\n", b"", b"\0\0\0\0\0"])
def test_what_is_no_report(data):
    found = read_text(data, "x.txt")
    assert not found.reports
    assert found.refused


def test_open_i_and_entities():
    found = read_xml(XML, "1.xml")
    assert (found.reports[0].identifier, found.reports[0].images) == ("CXR1", ("i1",))
    assert [(label.name, label.value) for label in found.labels] == [("MeSH", "normal")]
    bomb = b'<!DOCTYPE a [<!ENTITY x "y">]><eCitation>&x;</eCitation>'
    with pytest.raises(DataError, match="entities"):
        read_xml(bomb, "x")
    assert "CDA" in read_xml(b'<ClinicalDocument xmlns="urn:hl7-org:v3"/>', "x").refused[0].reason


def coded(value, scheme, meaning):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, scheme, meaning
    return [item]


def item(kind, name, relationship="CONTAINS", **fields):
    made = Dataset()
    made.ValueType, made.RelationshipType, made.ConceptNameCodeSequence = kind, relationship, name
    for key, value in fields.items():
        setattr(made, key, value)
    return made


@pytest.fixture
def sr(tmp_path):
    """A diagnostic report as TID 2000 has it: sections with texts, a code, a number and a date."""
    document = Dataset()
    document.file_meta = FileMetaDataset()
    document.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    document.SOPClassUID, document.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.88.22", "1.2.3.4"
    document.PatientID, document.IssuerOfPatientID, document.PatientName = "4711", "HOSP", "Muster^Max"
    document.PatientBirthDate, document.PatientSex = "19500203", "M"
    document.StudyInstanceUID, document.AccessionNumber = "1.2.3", "A77"
    document.StudyDate, document.StudyTime, document.ContentDate, document.ContentTime = (
        "20240131", "1500", "20240131", "160512",
    )  # fmt: skip
    document.CompletionFlag, document.VerificationFlag = "COMPLETE", "VERIFIED"
    document.ValueType, document.ConceptNameCodeSequence = "CONTAINER", coded("18748-4", "LN", "Imaging Report")
    number = Dataset()
    number.NumericValue, number.MeasurementUnitsCodeSequence = "12.5", coded("mm", "UCUM", "mm")
    findings = item("CONTAINER", coded("121070", "DCM", "Findings"), ContentSequence=[
        item("TEXT", coded("121071", "DCM", "Finding"), TextValue="A nodule."),
        item("CODE", coded("121071", "DCM", "Finding"), ConceptCodeSequence=coded("27925004", "SCT", "Nodule")),
        item("NUM", coded("81827009", "SCT", "Diameter"), MeasuredValueSequence=[number]),
        item("DATE", coded("X1", "99T", "Last seen"), Date="20230105"),
    ])  # fmt: skip
    person = item("PNAME", coded("121008", "DCM", "Observer"), "HAS OBS CONTEXT", PersonName="Reader^Rita")
    impression = item("CONTAINER", coded("121076", "DCM", "Conclusions"), ContentSequence=[
        item("TEXT", coded("121077", "DCM", "Conclusion"), TextValue="Follow up.")])  # fmt: skip
    document.ContentSequence = [person, findings, impression]
    path = tmp_path / "sr.dcm"
    document.save_as(path, enforce_file_format=True)
    return path


def test_a_structured_report(sr):
    found = read_records(sr)
    (report,), (patient,) = found.reports, found.patients
    assert report.sections == (("findings", "A nodule."), ("conclusions", "Follow up."))
    assert (report.issuer, report.patient, report.accession, report.study_uid) == ("HOSP", "4711", "A77", "1.2.3")
    assert (report.time, report.study_time) == ("2024-01-31T16:05:12", "2024-01-31T15:00")
    assert (report.status, report.identifier, report.people, report.title) == (
        "final", "1.2.3.4", ("Reader^Rita",), "Imaging Report",
    )  # fmt: skip
    assert (patient.name, patient.birth_date, patient.sex) == ("Muster^Max", "1950-02-03", "M")
    got = {r.display: r for r in found.records}
    assert (got["Diameter"].number, got["Diameter"].unit) == (12.5, "mm")
    assert got["Finding"].value_code == ("SCT", "27925004")
    assert got["Last seen"].value_time == "2023-01-05"
