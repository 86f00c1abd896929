"""Free text: what identifies goes, what is clinical stays, dates move within their own spelling."""

from __future__ import annotations

import pytest

from isocenter.core.errors import CapabilityError
from isocenter.data.deidentify import KnownIdentity, PresidioEngine, TextEngine, clean_text
from isocenter.data.deidentify.text import engines
from isocenter.synth.notes import notes


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("on 2024-03-01", "on 2024-02-20"),
        ("on 20240301", "on 20240220"),
        ("03/13/2024", "03/03/2024"),
        ("13/03/2024", "03/03/2024"),
        ("13/03/24", "03/03/24"),
        ("3.1.2024", "24.12.2023"),
        ("1 March 2024", "20 February 2024"),
        ("March 1, 2024", "February 20, 2024"),
        ("Mar 1st, 2024", "Feb 20th, 2024"),
        ("01-MAR-24", "20-FEB-24"),
        ("12 de marzo de 2024", "2 de marzo de 2024"),
        ("1. März 2024", "20. Februar 2024"),
        ("2024年3月1日", "2024年2月20日"),
        ("Friday, March 1, 2024", "February 20, 2024"),
        ("March 2024", "February 2024"),
        ("surgery in 2019", "surgery in 2019"),
        ("03/04/2024", "[DATE]"),
        ("03/04/2024, then 14/04/2024", "24/03/2024, then 04/04/2024"),
        ("DOB: 03/13/1950", "DOB: [DATE]"),
        ("seen on 3/14", "seen on [DATE]"),
        ("2024-13-45", "2024-13-45"),
    ],
)
def test_dates_move_by_ten_days(before, after):
    assert clean_text(before, shift_days=10).text == after


def test_dates_are_removed_or_kept():
    assert clean_text("CT of 1 March 2024").text == "CT of [DATE]"
    assert clean_text("CT of 1 March 2024", shift_days=0).text == "CT of 1 March 2024"
    assert clean_text("03/04/2024", shift_days=10, day_first=True).text == "24/03/2024"
    assert clean_text("03/04/2024", shift_days=10, day_first=False).text == "02/23/2024"


@pytest.mark.parametrize(
    "text",
    [
        "Hodgkin lymphoma, Baker cyst, Kerley B lines, Paget disease.",
        "Disc bulge at L4/5; pain 3/10; power 4/5; murmur 2/6.",
        "T2 lesion 2.5 cm, TR/TE 4500/102, 1.5 T, SUVmax 12.41, BI-RADS 4, 12 x 9 x 8 mm.",
        "Gadobutrol 7.5 ml, creatinine 1.12 mg/dL, blood pressure 128/76, HbA1c 6.8 %.",
        "CT Chest With Contrast",
        "Ax T2 FLAIR Propeller",
        "Lung 1.0 B60f",
        "HEAD^ROUTINE",
        "abdomen^liver",
        "11 ml Omniscan",
        "ISOVUE300/100",
        "Gleason 3+4=7 in 4/12 cores, ICD-10 C34.90, CPT 71260.",
        "May be related to prior surgery. Follow up in 6 to 12 months.",
        "[NAME] was seen on [DATE].",
        "",
        " ",
    ],
)
def test_what_is_clinical_stays(text):
    assert clean_text(text, shift_days=10).text == text


@pytest.mark.parametrize(
    ("text", "gone"),
    [
        ("Seen by Dr. Tolmerson.", "Tolmerson"),
        ("Electronically signed by: Ada N. Quorumby, MD", "Quorumby"),
        ("PATIENT: QUORUMBY, ADA J  MRN: 00482-113", "QUORUMBY"),
        ("MRN: 00482-113", "482"),
        ("Call (555) 123-4567 ext. 22.", "4567"),
        ("NHS 943 476 5919.", "5919"),
        ("mail a.quorumby@example.org now", "quorumby"),
        ("see https://pacs.example/abc?id=1.", "pacs"),
        ("Lives at 22 Acacia Avenue, Springfield, IL 62704.", "Acacia"),
        ("from St Brigid's Medical Center today", "Brigid"),
        ("Paciente: Ada Quorumby, DNI 12345678Z", "12345678"),
        ("Herr Quorumby, Hauptstraße 12, 10115 Berlin", "Hauptstra"),
        ("患者：王小明，电话：13800138000，北京协和医院", "王小明"),
        ("A 93-year-old woman", "93"),
        ("1.2.826.0.1.3680043.8.498.1", "3680043"),
        ("host 192.168.12.7", "168"),
    ],
)
def test_what_identifies_goes(text, gone):
    assert gone in text
    assert gone not in clean_text(text, shift_days=10).text


def test_spans_say_where():
    text = "Dr Tolmerson called 555-123-4567."
    done = clean_text(text, shift_days=10)
    assert [(text[s.start : s.end], s.kind) for s in done.spans] == [("Tolmerson", "name"), ("555-123-4567", "phone")]


def test_what_is_known_is_found_without_any_sign():
    double = KnownIdentity(names=("Müller-Halcyon^Eve", "O'Wrenn^Jo"))
    done = clean_text("frau müller, then halcyon; owrenn and o’wrenn", known=double, shift_days=10)
    assert done.text == "frau [NAME], then [NAME]; [NAME] and o’[NAME]"
    known = KnownIdentity(names=("Halcyon^Wren",), identifiers=("K77",), dates=("19500102",))
    done = clean_text("Nodule in halcyon, WREN. K77 is too short. Born 19500102.", known=known, shift_days=10)
    assert done.text == "Nodule in [NAME]. K77 is too short. Born [ID]." or "alcyon" not in done.text.lower()
    assert "wren" not in done.text.lower()
    assert "19500102" not in done.text
    assert "K77" in done.text


@pytest.mark.parametrize("part", ["first", "second", "third"])
def test_planted_identifiers_are_found(part):
    planted = found = claimed = wrong = 0
    for note in notes(60, seed=23, half=part):
        done = clean_text(note.text, shift_days=300)
        gone = {i for s in done.spans for i in range(s.start, s.end)}
        true = {i for p in note.planted for i in range(p.start, p.end)}
        planted += len(note.planted)
        found += sum(all(i in gone for i in range(p.start, p.end) if note.text[i].isalnum()) for p in note.planted)
        claimed += len(done.spans)
        wrong += sum(not any(i in true for i in range(s.start, s.end)) for s in done.spans)
    assert planted > 500
    assert found / planted >= 0.98
    assert wrong / claimed <= 0.02


class _Engine:
    def find(self, text):
        at = text.find("zebra")
        return [(at, at + 5, "name")] if at >= 0 else []


def test_an_engine_adds_to_the_rules():
    assert isinstance(_Engine(), TextEngine)
    done = clean_text("a zebra and Dr Tolmerson", engines=(_Engine(),))
    assert done.text == "a [NAME] and Dr [NAME]"


def test_presidio_is_named_when_it_is_missing(monkeypatch):
    def missing(name):
        raise ImportError(name)

    monkeypatch.setattr(engines, "import_module", missing)
    with pytest.raises(CapabilityError, match="pip install presidio-analyzer"):
        PresidioEngine()


def test_presidio():
    pytest.importorskip("presidio_analyzer")
    found = PresidioEngine().find("SSN 536-22-1234")
    assert (4, 15, "id") in found
