"""HL7 v2: structure, escapes, batches, who it is about, what it says, and what is refused."""

from __future__ import annotations

import base64
import io

import pytest

from isocenter.core.errors import DataError
from isocenter.data.records.hl7 import parse_message, read_hl7, split_stream, stream_hl7

HEAD = "MSH|^~\\&|RIS|HOSP|ARCH|HERE|20240131160500+0100||ORU^R01^ORU_R01|M1|P|2.5.1"
PID = (
    "PID|1||4711^^^HOSP&1.2.3&ISO^MR~999^^^NAT^SS~88^^^OLD^PI||MUSTER^MAX^M^JR^DR~ALIAS^A||19500203|M|||"
    "STREET 1^^TOWN^^12345||030-555"
)
REPORT = [
    HEAD, PID, "PV1|1|I|||||123^DOC^ATT^^^DR", "ORC|RE|P1|F1",
    "OBR|1|P1^RIS|F1^RIS|71020^Chest X-ray^C4|||202401311500|||||||||1^ORDERER^OTTO||A77||||202401311555||RAD|F"
    "|||||||9&READER&RITA",
    "OBX|1|TX|71020&GDT^Chest X-ray^C4|1|Line one.~Line two.||||||F",
    "OBX|2|FT|71020&IMP^Chest X-ray^C4|1|No \\T\\ normal\\.br\\5\\S\\2 \\X41\\||||||F",
    "OBX|3|NM|29463-7^Weight^LN||72.5|kg|||||F|||202401310800", "NTE|1||A comment.",
    "ZDS|1.2.840.99.1^RIS^Application^DICOM",
]  # fmt: skip


def message(*lines: str, end: str = "\r", encoding: str = "utf-8") -> bytes:
    return (end.join(lines) + end).encode(encoding)


@pytest.mark.parametrize("end", ["\r", "\n", "\r\n"])
def test_a_report_and_a_value_of_one_order(end):
    found = read_hl7(message(*REPORT, end=end))
    (report,), (record,), (patient,) = found.reports, found.records, found.patients
    assert report.sections == (
        ("findings", "Line one.\nLine two."), ("impression", "No & normal\n5^2 A"), ("comments", "A comment."),
    )  # fmt: skip
    assert (report.accession, report.identifier, report.order) == ("A77", "F1", "P1")
    assert (report.study_uid, report.title, report.status) == ("1.2.840.99.1", "Chest X-ray", "final")
    assert (report.time, report.study_time) == ("2024-01-31T15:55", "2024-01-31T15:00")
    assert set(report.people) == {"DOC^ATT^^DR", "ORDERER^OTTO", "READER^RITA"}
    assert (patient.issuer, patient.identifier) == ("HOSP", "4711")
    assert patient.other_identifiers == (("OLD", "88"), ("NAT", "999"))
    assert (patient.name, patient.birth_date, patient.sex) == ("MUSTER^MAX^M^DR^JR", "1950-02-03", "M")
    assert {"ALIAS^A", "STREET 1", "12345", "030-555"} <= set(patient.words)
    assert (record.code, record.system, record.number, record.unit) == ("29463-7", "LN", 72.5, "kg")
    assert (record.time, record.accession, record.study_uid) == ("2024-01-31T08:00", "A77", "1.2.840.99.1")
    assert not found.refused


def test_other_delimiters_than_the_usual():
    text = "\r".join(REPORT).translate(str.maketrans("|^~\\&", "#*+!%"))
    found = read_hl7((text + "\r").encode())
    # An escaped delimiter means the message's own.
    assert found.reports[0].sections[1] == ("impression", "No % normal\n5*2 A")
    assert found.patients == read_hl7(message(*REPORT)).patients


@pytest.mark.parametrize(
    ("charset", "encoding"),
    [("8859/1", "latin-1"), ("8859/15", "iso8859-15"), ("UNICODE UTF-8", "utf-8"), ("8859/2", "iso8859-2"),
     ("GB 18030-2000", "gb18030")],
)  # fmt: skip
def test_the_stated_character_set(charset, encoding):
    word = {"gb18030": "影像", "iso8859-2": "Łódź"}.get(encoding, "Größe")
    head = f"{HEAD}||||||{charset}"
    found = read_hl7(message(head, PID, "OBR|1||F1|1^CT", f"OBX|1|TX|1^CT||{word}||||||F", encoding=encoding))
    assert found.reports[0].text == word
    assert not found.notes


def test_bytes_of_another_character_set_are_guessed_and_that_is_said():
    found = read_hl7(message(f"{HEAD}||||||ASCII", PID, "OBR|1||F1|1", "OBX|1|TX|1||Größe||||||F", encoding="cp1252"))
    assert found.reports[0].text == "Größe"
    assert "guess" in found.notes[0]
    lost = read_hl7(message(f"{HEAD}||||||KLINGON", PID))
    assert "character set" in lost.refused[0].reason


def test_batch_counts_its_messages():
    whole = b"FHS|^~\\&|a\rBHS|^~\\&|a\r" + message(*REPORT) * 2 + b"BTS|3\rFTS|1\r"
    found = read_hl7(whole, "b.hl7")
    assert len(found.reports) == 2
    (complaint,) = found.refused
    assert complaint.where == "b.hl7"
    assert "3 messages, and has 2" in complaint.reason


def test_mllp_frames_and_block_borders(monkeypatch):
    whole = b"".join(b"\x0b" + message(*REPORT) + b"\x1c\r" for _ in range(5))
    monkeypatch.setattr("isocenter.data.records.hl7.message._BLOCK", 97)
    assert [piece[:3] for piece in split_stream(io.BytesIO(whole))] == [b"MSH"] * 5
    assert sum(len(part.reports) for part in stream_hl7(io.BytesIO(whole))) == 5


def test_corrected_preliminary_and_deleted():
    def read(state, obr="F"):
        order = f"OBR|1||F1|1^CT|||2024|||||||||||||||||||{obr}"
        return read_hl7(message(HEAD, PID, order, f"OBX|1|TX|1^CT||Text.||||||{state}"))

    assert read("C").reports[0].status == "corrected"
    assert read("C").reports[0].amends == "F1"
    assert read("P", "P").reports[0].status == "preliminary"
    gone = read("D")
    assert not gone.reports
    assert any("deleted" in r.reason for r in gone.refused)


def test_values_of_every_type():
    rows = [
        "SN|1^A||>^100|mg/dL", "SN|2^B||^1^:^128", "SN|3^C||^10|mg/dL", "CE|4^D||R^Red^L~B^Blue^L", "DT|5^E||20240131",
        "TM|6^F||1605", "NM|7^G||<5|mg/L", "NM|8^H||abc", "XCN|9^I||1^NAME", "CWE|10^J||L1^Local^L^10828004^Pos^SCT",
        "NM|11^K||3|mm(hgb)", "ST|12^L||negative",
    ]  # fmt: skip
    obx = [f"OBX|{n}|{row}|||||F" for n, row in enumerate(rows, start=1)]
    found = read_hl7(message(HEAD, PID, "OBR|1||F1|100^LAB", *obx))
    got = {r.display: r for r in found.records}
    assert (got["A"].number, got["A"].text, got["A"].unit) == (None, ">100", "mg/dL")
    assert (got["B"].text, got["C"].number) == ("1:128", 10.0)
    assert [r.value_code for r in found.records if r.code == "4"] == [("L", "R"), ("L", "B")]
    assert (got["E"].value_time, got["E"].text, got["F"].text) == ("2024-01-31", "", "16:05")
    assert (got["G"].number, got["G"].text) == (None, "<5")
    assert got["J"].value_code == ("SCT", "10828004")
    assert (got["K"].unit, got["L"].text) == ("mm(hgb)", "negative")
    assert not got.keys() & {"H", "I"}
    assert len([r for r in found.refused if r.kind == "refused"]) == 2
    assert not found.reports


def test_encapsulated_text_and_pdf():
    text = base64.b64encode("Größer.".encode()).decode()
    html = base64.b64encode(b"<p>One.</p><p>Two.</p>").decode()
    lines = [f"OBX|1|ED|1^CT||^TEXT^plain^Base64^{text}", f"OBX|2|ED|1^CT||^TEXT^HTML^Base64^{html}",
             "OBX|3|ED|1^CT||^application^pdf^Base64^AAAA"]  # fmt: skip
    found = read_hl7(message(HEAD, PID, "OBR|1||F1|1^CT", *lines))
    assert found.reports[0].text == "Größer.\nOne.\nTwo."
    assert [r.reason for r in found.refused] == [
        "an encapsulated document (pdf) is not read; send its text as TX or FT"
    ]


def test_two_patients_in_one_message_and_a_study_uid_in_an_obx():
    other = PID.replace("4711", "4712")
    uid = "OBX|1|HD|113014^DICOM Study^DCM||1.2.3||||||O"
    found = read_hl7(
        message(HEAD, PID, "OBR|1||F1|1", uid, "OBX|2|TX|1||One.", other, "OBR|1||F2|1", "OBX|1|TX|1||Two.")
    )
    assert [(r.patient, r.text, r.study_uid) for r in found.reports] == [
        ("4711", "One.", "1.2.3"),
        ("4712", "Two.", ""),
    ]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["no message"], "before the first MSH"),
        (["MSH|aaaa|x", PID], "delimiters"),
        (["MSH", PID], "delimiters"),
        ([HEAD, "OBR|1||F1|1", "OBX|1|TX|1||x"], "before any PID"),
        ([HEAD, "PID|1||", "OBR|1||F1|1", "OBX|1|TX|1||x"], "holds no identifier"),
        ([HEAD, PID, "OBX|1|TX|1||x"], "no OBR"),
        ([HEAD, PID], "without OBR"),
        ([HEAD, PID.replace("19500203", "19501399"), "OBR|1||F1|1", "OBX|1|TX|1||x"], "PID-7"),
        ([HEAD.replace("ORU^R01^ORU_R01", "ADT^A01"), PID], "not ORU"),
        ([HEAD, PID, "ZZZ|1", "OBR|1||F1|1", "OBX|1|TX|1||x"], "segments ZZZ"),
    ],
)
def test_what_is_refused_is_said_without_a_value(lines, reason):
    found = read_hl7(message(*lines), "x.hl7")
    assert any(reason in r.reason for r in found.refused), found.refused
    said = " ".join(f"{r.where} {r.reason}" for r in found.refused)
    assert not any(value in said for value in ("4711", "MUSTER", "19501399"))


def test_a_text_broken_by_an_end_of_line_is_joined():
    found = read_hl7(message(HEAD, PID, "OBR|1||F1|1", "OBX|1|TX|1||First line\nand second.||||||F", end="\r"))
    assert found.reports[0].text == "First line\nand second."
    found = read_hl7(message(HEAD, PID, "OBR|1||F1|1", "OBX|1|TX|1||First", "and second.", end="\n"))
    assert found.reports[0].text == "First\nand second."


def test_a_message_without_end_is_refused(monkeypatch):
    monkeypatch.setattr("isocenter.data.records.hl7.message.MAX_MESSAGE", 1000)
    with pytest.raises(DataError, match="longer than"):
        list(split_stream(io.BytesIO(message(HEAD, PID) + b"OBX|" + b"x" * 2000)))


def test_agrees_with_the_hl7_package():
    hl7 = pytest.importorskip("hl7")
    data = message(*REPORT)
    theirs = hl7.parse(data.decode())
    mine = parse_message(data)
    assert [s.name for s in mine.segments] == [str(s[0]) for s in theirs]
    for ours, other in zip(mine.segments, theirs, strict=True):
        for number in range(1, len(ours.fields)):
            if ours.name == "MSH" and number < 3:
                continue
            assert ours.raw(number) == str(other(number) if ours.name != "MSH" else other[number])
    assert mine.segments[6].unescape(mine.segments[6].raw(5)) == "No & normal\n5^2 A"
