"""No canary survives: in any tag of the table, at any depth, in any transfer syntax."""

from __future__ import annotations

import random
import struct
import zlib

import numpy as np
import pytest
from pydicom.datadict import DicomDictionary
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from dciodvfy import dciodvfy_errors
from deidentify_cases import (
    SYNTAXES,
    canary,
    canary_object,
    element,
    plain_ct,
    read,
    table_tags,
    with_item,
    written,
)
from isocenter.core.errors import IdentityLeak, PixelError
from isocenter.data.deidentify import KnownIdentity, LeakReport, Policy, Pseudonyms, clean_text, deidentify_bytes

NAMES = Pseudonyms(b"a key for tests")
BARE = Policy(
    retain_dates="none",
    retain_patient_characteristics=False,
    clean_descriptors=False,
    clean_structured_content=False,
)


def _bytes_of(data: bytes, syntax: str) -> bytes:
    """Return file and, where it is deflated, what is in it."""
    if syntax != DeflatedExplicitVRLittleEndian:
        return data
    start = 132 + 12 + struct.unpack_from("<I", data, 140)[0]
    return data + zlib.decompress(data[start:], -15)


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_no_canary_survives_the_basic_profile(syntax):
    before = canary_object(syntax)
    plain = _bytes_of(before, syntax)
    done = deidentify_bytes(before, NAMES, BARE)
    after = _bytes_of(done.data, syntax)
    for tag in table_tags():
        vr = DicomDictionary[tag][0].split(" ")[0]
        if vr in ("SQ", "US", "SS"):
            continue
        assert canary(tag, vr) in plain, f"{tag:08X} is not in the input"
        assert canary(tag, vr) not in after, f"{tag:08X} {vr} survives"
    for word in (b"CANARY", b"19470813", b"112233", b"097Y", b"7391", b"1.9.77."):
        assert word in plain
        assert word not in after
    assert not done.data[:128].strip(b"\0")
    again = read(done.data)
    assert again.Rows == 2
    assert again.PixelData == bytes(range(8))
    assert again.PatientIdentityRemoved == "YES"
    assert again.LongitudinalTemporalInformationModified == "REMOVED"
    assert again.file_meta.MediaStorageSOPInstanceUID == NAMES.uid("1.9.77.3.5")


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: s.name)
def test_what_is_known_of_the_patient_survives_nowhere(syntax):
    """Every text attribute of the dictionary holds the patient's name and number; the default policy keeps texts."""
    words = {0x00100010: b"Zebrowski^Quillon", 0x00100020: b"MRN7731904", 0x00080005: b"ISO_IR 100"}
    texts = {
        tag: words.get(tag, b"MRN7731904" if vr in ("CS", "AE", "SH") else b"of Zebrowski, MRN7731904")
        for tag, (vr, *_) in DicomDictionary.items()
        if vr in ("LO", "SH", "ST", "LT", "UT", "UC", "UR", "PN", "AE", "CS") and tag >> 16 not in (0, 2, 4)
    }
    implicit, big = syntax.is_implicit_VR, not syntax.is_little_endian
    body = b"".join(
        element(tag, DicomDictionary[tag][0], value, implicit=implicit, big=big) for tag, value in sorted(texts.items())
    )
    start = canary_object(syntax)
    head = start[: 132 + 12 + struct.unpack_from("<I", start, 140)[0]]
    if syntax == DeflatedExplicitVRLittleEndian:
        squeeze = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = squeeze.compress(body) + squeeze.flush()
    done = deidentify_bytes(head + body, NAMES, Policy())
    after = _bytes_of(done.data, syntax).lower()
    assert b"zebrowski" not in after
    assert b"quillon" not in after
    assert b"7731904" not in after
    assert done.suspicious
    assert "Zebrowski" not in repr(done)


def test_a_plain_image_keeps_what_it_needs_and_is_as_valid(tmp_path):
    before = plain_ct()
    path = tmp_path / "in.dcm"
    path.write_bytes(written(before))
    done = deidentify_bytes(path.read_bytes(), NAMES, Policy())
    out = tmp_path / "out.dcm"
    out.write_bytes(done.data)
    after = read(done.data)
    key = NAMES.patient("", "MRN7731904")
    assert (after.PatientID, str(after.PatientName), done.patient_key) == (key, key, key)
    days = NAMES.shift_days(key)
    assert done.shift_days == days
    assert after.StudyDate == NAMES.shift_date("20240229", days)
    assert after.AcquisitionDate == NAMES.shift_date("20240301", days)
    assert after.StudyTime == "101112"
    assert after.StudyInstanceUID == NAMES.uid("1.9.77.2")
    assert after.AccessionNumber == ""
    assert after.PatientBirthDate == ""
    assert (after.PatientSex, after.PatientAge, float(after.PatientWeight)) == ("F", "076Y", 61.5)
    assert after.SeriesDescription == "Lung 1.0 B60f"
    assert "Zebrowski" not in after.StudyDescription
    assert after.StudyDescription.startswith("CT chest")
    assert after.ImagePositionPatient == [0, 0, 5]
    assert np.array_equal(after.pixel_array, np.arange(8).reshape(2, 4))
    assert after.LongitudinalTemporalInformationModified == "MODIFIED"
    codes = [item.CodeValue for item in after.DeidentificationMethodCodeSequence]
    assert codes == [code for code, _ in Policy().codes()]
    assert not dciodvfy_errors(path)
    assert not dciodvfy_errors(out)


def test_twice_the_same_and_the_same_patient_everywhere():
    one, other = plain_ct(), plain_ct()
    other.SOPInstanceUID, other.StudyInstanceUID = "1.9.77.1.2", "1.9.77.9"
    first, second = (deidentify_bytes(written(ds), NAMES, Policy()) for ds in (one, other))
    assert deidentify_bytes(written(one), NAMES, Policy()).data == first.data
    assert first.patient_key == second.patient_key
    assert first.shift_days == second.shift_days
    assert read(first.data).FrameOfReferenceUID == read(second.data).FrameOfReferenceUID
    assert deidentify_bytes(written(one), Pseudonyms(b"another"), Policy()).patient_key != first.patient_key


def test_the_caller_may_say_whose_it_is():
    known = KnownIdentity(names=("Maker",), patient_key="f" * 32)
    done = deidentify_bytes(written(plain_ct()), NAMES, Policy(), known=known)
    after = read(done.data)
    assert after.PatientID == "f" * 32
    assert after.Manufacturer == "[NAME]"
    assert any(s.tag == "00080070" for s in done.suspicious)


def _report(*pairs: tuple[str, str, str, str]) -> Dataset:
    """Return a report whose items are (value type, code, meaning, value)."""
    ds = plain_ct()
    ds.SOPClassUID = "1.2.840.10008.5.1.4.1.1.88.11"
    items = []
    for kind, code, meaning, value in pairs:
        item = Dataset()
        item.RelationshipType, item.ValueType = "CONTAINS", kind
        concept = Dataset()
        concept.CodeValue, concept.CodingSchemeDesignator, concept.CodeMeaning = code, "DCM", meaning
        with_item(item, 0x0040A043, concept)
        keyword = {"TEXT": "TextValue", "PNAME": "PersonName", "DATE": "Date", "UIDREF": "UID", "DATETIME": "DateTime"}
        setattr(item, keyword[kind], value)
        items.append(item)
    ds.ContentSequence = items
    return ds


def test_reports_are_walked():
    ds = _report(
        ("TEXT", "121071", "Finding", "Nodule of 4 mm in the patient Zebrowski."),
        ("TEXT", "121029", "Subject Name", "Quentin Unheard"),
        ("TEXT", "111111", "Patient ID at the site", "XQ-1"),
        ("PNAME", "121008", "Person Observer Name", "Unheard^Of"),
        ("DATE", "121031", "Subject Birth Date", "19470813"),
        ("DATETIME", "111526", "DateTime Started", "20240229101112"),
        ("UIDREF", "121018", "Procedure Study Instance UID", "1.9.77.2"),
    )
    done = deidentify_bytes(written(ds), NAMES, Policy())
    after = read(done.data)
    finding, name, number, person, born, started, uid = after.ContentSequence
    assert finding.TextValue == "Nodule of 4 mm in the patient [NAME]."
    assert name.TextValue == number.TextValue == "REMOVED"
    assert str(person.PersonName) == "REMOVED"
    assert born.Date != "19470813"
    assert started.DateTime == NAMES.shift_date("20240229", done.shift_days) + "101112"
    assert after.StudyInstanceUID == uid.UID
    assert "ContentSequence" not in read(deidentify_bytes(written(ds), NAMES, BARE).data)


def test_compressed_pixels_stay_bit_by_bit():
    ds = read(written(plain_ct()))
    ds.compress(RLELossless, generate_instance_uid=False)
    done = deidentify_bytes(written(ds, RLELossless), NAMES, Policy())
    after = read(done.data)
    assert after.PixelData == ds.PixelData
    assert np.array_equal(after.pixel_array, np.arange(8).reshape(2, 4))


def test_undefined_lengths_and_unknown_sequences():
    ds = plain_ct()
    inner = Dataset()
    inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = ds.SOPClassUID, "1.9.77.1.9"
    with_item(ds, 0x00082112, inner)
    ds[0x00082112].is_undefined_length = True
    ds[0x00082112].value[0].is_undefined_length_sequence_item = True
    data = written(ds)
    done = deidentify_bytes(data, NAMES, Policy())
    assert read(done.data).SourceImageSequence[0].ReferencedSOPInstanceUID == NAMES.uid("1.9.77.1.9")
    # The same as UN of undefined length, which is implicit little endian inside (PS3.5 6.2.2).
    implicit = element(0x00081155, "UI", b"1.9.77.1.9", implicit=True, big=False)
    undefined = struct.pack("<I", 0xFFFFFFFF)
    value = b"\xfe\xff\x00\xe0" + undefined + implicit + b"\xfe\xff\x0d\xe0\0\0\0\0" + b"\xfe\xff\xdd\xe0\0\0\0\0"
    unknown = b"\x08\x00\x12\x21UN\0\0" + undefined + value
    private = b"\x09\x00\x01\x10UN\0\0" + undefined + value.replace(b"1.9.77.1.9", b"CANARYCANA")
    at = data.index(b"\x08\x00\x12\x21SQ")
    stop = data.index(b"\x10\x00\x10\x00PN")
    done = deidentify_bytes(data[:at] + unknown + private + data[stop:], NAMES, Policy())
    assert b"CANARY" not in done.data
    assert b"1.9.77." not in done.data
    assert NAMES.uid("1.9.77.1.9").encode() in done.data
    assert read(done.data).Rows == 2


@pytest.mark.parametrize(
    "break_it",
    [
        lambda data: data[:-3],
        lambda data: data[:703],
        lambda data: data.replace(b"\x10\x00\x20\x00LO\x0a\x00", b"\x10\x00\x20\x00LO\x09\x00"),
        lambda data: data.replace(b"\x10\x00\x20\x00LO\x0a\x00", b"\x10\x00\x20\x00LO\xff\xff"),
        lambda data: data.replace(b"\x18\x00\x50\x00DS", b"\x18\x00\x50\x00Q?"),
        lambda data: b"no DICOM at all, but text of some length",
        lambda data: b"",
    ],
    ids=["pixels cut", "header cut", "length short", "length long", "no VR", "text", "empty"],
)
def test_what_does_not_add_up_is_refused(break_it):
    data = break_it(written(plain_ct()))
    with pytest.raises(PixelError) as failed:
        deidentify_bytes(data, NAMES, Policy(), source="a.dcm")
    assert "Zebrowski" not in str(failed.value)
    assert "a.dcm" in str(failed.value)


def test_without_preamble_without_meta_and_out_of_order():
    data = written(plain_ct())
    key = NAMES.patient("", "MRN7731904")
    start = 132 + 12 + struct.unpack_from("<I", data, 140)[0]
    for other in (data[132:], data[start:]):
        after = read(deidentify_bytes(other, NAMES, Policy()).data)
        assert after.PatientID == key
        assert after.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
    moved = element(0x00080080, "LO", b"CANARY PLACE", implicit=False, big=False)
    pixels = data.index(b"\xe0\x7f\x10\x00")
    after = deidentify_bytes(data[:pixels] + moved + data[pixels:], NAMES, Policy())
    assert b"CANARY" not in after.data
    tags = [int(e.tag) for e in read(after.data)]
    assert tags == sorted(tags)


def test_bytes_after_the_pixels_are_dropped():
    done = deidentify_bytes(written(plain_ct()) + b"CANARY, and more of it", NAMES, Policy())
    assert b"CANARY" not in done.data
    assert ("FFFCFFFC", "remove") in done.removed


def test_safe_private_elements():
    ds = plain_ct()
    block = ds.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.000276")
    block.add_new(0x09, "LO", "CANARY of the wrong kind")
    block.add_new(0x0A, "DS", "1.5")
    assert not any(e.tag.is_private for e in read(deidentify_bytes(written(ds), NAMES, Policy()).data))
    done = deidentify_bytes(written(ds), NAMES, Policy(retain_safe_private=True))
    kept = [e.tag for e in read(done.data) if e.tag.is_private]
    assert kept == [0x70530010, 0x70531000]
    assert b"CANARY" not in done.data


def test_old_people_and_broken_dates():
    ds = plain_ct()
    ds.PatientAge = "093Y"
    data = written(ds).replace(b"20240301", b"2024MAR1")
    done = deidentify_bytes(data, NAMES, Policy())
    after = read(done.data)
    assert after.PatientAge == "090Y"
    assert after.AcquisitionDate == ""  # X/Z in the table
    assert after.ContentDate == "19000101"  # Z/D, type 1 in some objects
    assert b"2024MAR1" not in done.data
    assert {s.tag for s in done.suspicious} >= {"00080022", "00080023"}


def test_options():
    data = written(plain_ct())
    full = read(deidentify_bytes(data, NAMES, Policy(retain_dates="full", retain_uids=True, retain_device=True)).data)
    assert (full.StudyDate, full.StudyInstanceUID, full.StationName) == ("20240229", "1.9.77.2", "CTROOM3")
    assert full.file_meta.MediaStorageSOPInstanceUID == full.SOPInstanceUID == "1.9.77.1.1"
    kept = read(deidentify_bytes(data, NAMES, Policy(retain_institution=True)).data)
    assert kept.InstitutionName == "St Quorum Hospital"
    assert deidentify_bytes(data, NAMES, Policy(off=True)).data == data


def test_character_sets():
    ds = plain_ct(name="Yamada^Tarou=山田^太郎=やまだ^たろう")
    ds.SeriesDescription = "胸部 山田太郎 様 CT"
    after = read(deidentify_bytes(written(ds), NAMES, Policy()).data)
    assert "山田" not in after.SeriesDescription
    assert after.SeriesDescription.startswith("胸部")
    ds = plain_ct(name="Müller^Jörg")
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.SeriesDescription = "Schädel für Müller"
    after = read(deidentify_bytes(written(ds), NAMES, Policy()).data)
    assert after.SeriesDescription == "Schädel für [NAME]"


def test_another_vr_does_not_hide_a_text():
    data = written(plain_ct())
    hidden = data.replace(
        element(0x00280010, "US", b"\2\0", implicit=False, big=False),
        element(0x00280010, "PN", b"CANARY^NAME", implicit=False, big=False),
    )
    assert hidden != data
    assert b"CANARY" not in deidentify_bytes(hidden, NAMES, Policy()).data


def test_a_directory_is_no_object():
    ds = plain_ct()
    ds.SOPClassUID = "1.2.840.10008.1.3.10"
    with pytest.raises(PixelError, match="DICOMDIR"):
        deidentify_bytes(written(ds), NAMES, Policy())


def test_damaged_files_are_refused_or_cleaned_never_half():
    """Bytes of the header are changed at random, or the file is cut: an honest refusal, or nothing of the patient."""
    whole = written(plain_ct())
    refused = cleaned = 0
    for seed in range(600):
        source = random.Random(seed)
        data = bytearray(whole)
        for _ in range(source.randrange(1, 4)):
            data[source.randrange(132, len(data) - 20)] = source.randrange(256)
        cut = len(data) if source.random() < 0.7 else source.randrange(140, len(data))
        try:
            done = deidentify_bytes(bytes(data[:cut]), NAMES, Policy())
        except PixelError:
            refused += 1
            continue
        cleaned += 1
        for word in (b"zebrowski", b"quillon", b"7731904"):
            assert word not in done.data.lower(), seed
    assert refused > 50
    assert cleaned > 50


def test_a_comment_in_a_compressed_stream_is_reported():
    ds = read(written(plain_ct()))
    ds.compress(RLELossless, generate_instance_uid=False)
    data = written(ds, RLELossless)
    at = data.rindex(b"\xfe\xff\x00\xe0")
    length = struct.unpack_from("<I", data, at + 4)[0]
    comment = b"Zebrowski "
    data = data[: at + 4] + struct.pack("<I", length + len(comment)) + comment + data[at + 8 :]
    done = deidentify_bytes(data, NAMES, Policy())
    assert [s.tag for s in done.suspicious if "stream" in s.reason] == ["7FE00010"]
    report = LeakReport(Policy())
    report.add(done)
    with pytest.raises(IdentityLeak, match="stream"):
        report.require_safe()


def test_what_the_object_says_of_its_pixels_is_told():
    ds = plain_ct()
    ds.BurnedInAnnotation, ds.RecognizableVisualFeatures = "YES", "YES"
    ds.add_new(0x60000102, "US", 12)
    done = deidentify_bytes(written(ds), NAMES, Policy())
    assert {s.tag for s in done.suspicious} == {"00280301", "00280302", "60000102"}
    report = LeakReport(Policy())
    report.add(done)
    with pytest.raises(IdentityLeak, match="burnt in"):
        report.require_safe()
    ds.BurnedInAnnotation, ds.RecognizableVisualFeatures = "NO", "NO"
    del ds[0x60000102]
    assert not deidentify_bytes(written(ds), NAMES, Policy()).suspicious


def test_graphics_and_overlays():
    ds = plain_ct()
    ds.add_new(0x60003000, "OW", b"\1\2")
    text, layer = Dataset(), Dataset()
    text.UnformattedTextValue = "Nodule of Zebrowski, seen by Dr Tolmerson"
    layer.GraphicLayer = "LAYER1"
    with_item(with_item(ds, 0x00700001, with_item(layer, 0x00700008, text)), 0x00700060, layer)
    bare = read(deidentify_bytes(written(ds), NAMES, Policy()).data)
    assert 0x00700001 not in bare
    assert 0x60003000 not in bare
    kept = read(deidentify_bytes(written(ds), NAMES, Policy(clean_graphics=True)).data)
    (item,) = kept[0x00700001].value[0][0x00700008].value
    assert item.UnformattedTextValue == "Nodule of [NAME], seen by Dr [NAME]"
    assert 0x60003000 not in kept


def test_full_dates_keep_the_time_zone():
    ds = plain_ct()
    ds.TimezoneOffsetFromUTC = "+0200"
    assert "TimezoneOffsetFromUTC" not in read(deidentify_bytes(written(ds), NAMES, Policy()).data)
    assert read(deidentify_bytes(written(ds), NAMES, Policy(retain_dates="full")).data).TimezoneOffsetFromUTC == "+0200"


def test_a_patient_who_is_called_like_a_term():
    ds = plain_ct(name="Chest^Marta", identifier="CHEST")
    ds.SeriesDescription = "Chest 1.0"
    after = read(deidentify_bytes(written(ds), NAMES, Policy()).data)
    assert after.BodyPartExamined == "CHEST"
    assert after.SeriesDescription == "[NAME] 1.0"
    assert "Marta" not in str(after)


CASES = [
    ("ISO_IR 100", "Müller^Jörg", "Müller"),
    ("ISO_IR 100", "Weiß^Jörg", "Weiß"),
    ("ISO_IR 101", "Kovářová^Anežka", "Kovářová"),
    ("ISO_IR 144", "Иванов^Пётр", "Иванов"),
    ("ISO_IR 126", "Παπαδόπουλος^Νίκος", "Παπαδόπουλος"),
    ("ISO_IR 148", "Yıldırım^Çağla", "Yıldırım"),
    ("ISO_IR 192", "Иванов^Пётр", "Иванов"),
    ("ISO_IR 192", "Þórðarson^Ævar", "Þórðarson"),
    ("ISO_IR 192", "Wang^XiaoDong=王^小东", "王小东"),
    ("GB18030", "Wang^XiaoDong=王^小东", "王小东"),
    ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう", "山田"),
    ("\\ISO 2022 IR 87", "Yamada^Tarou=山田^太郎=やまだ^たろう", "やまだ"),
    ("ISO_IR 13\\ISO 2022 IR 87", "ﾔﾏﾀﾞ^ﾀﾛｳ=山田^太郎=やまだ^たろう", "山田"),
    ("\\ISO 2022 IR 149", "Hong^Gildong=洪^吉洞=홍^길동", "길동"),
]


@pytest.mark.parametrize("change", [str, str.upper, str.lower, str.title, str.swapcase], ids=lambda f: f.__name__)
@pytest.mark.parametrize(("charset", "name", "word"), CASES, ids=lambda text: str(text)[:20])
def test_a_name_is_found_in_every_character_set_and_case(charset, name, word, change):
    """In elements that are kept as they are, and under UN; the name itself may be written in any case too."""
    said = change(word)
    if charset == "ISO_IR 148" and change is str.upper:
        said = "YILDIRIM"  # İ and ı are other letters in Turkish; Latin-5 has both, Python's upper() knows one
    for given in (name, change(name)):
        ds = plain_ct(name=given)
        ds.SpecificCharacterSet = charset.split("\\")
        ds.Manufacturer, ds.ConvolutionKernel = f"ACME {said}", "B30f"
        ds.SoftwareVersions = ["VB20", said]
        plain = element_value(written(ds), b"\x08\x00\x70\x00LO")
        if change is not str.swapcase:  # no text, so that no case can be told: lower, upper and title are looked for
            ds.ICCProfile = b"\0\1" + plain + b"\2" * (len(plain) % 2)
        data = written(ds)
        raw = element(0x00181160, "UN", plain, implicit=False, big=False)
        at = data.index(b"\x18\x00\x10\x12SH")
        done = deidentify_bytes(data[:at] + raw + data[at:], NAMES, Policy())
        after = read(done.data)
        assert after.Manufacturer == "ACME [NAME]"
        assert list(after.SoftwareVersions) == ["VB20", "[NAME]"]
        assert after.ConvolutionKernel == "B30f"
        assert after.FilterType == "ACME [NAME]"
        assert "ICCProfile" not in after
        assert {s.tag for s in done.suspicious} >= {"00080070", "00181020", "00181160"}


def element_value(data: bytes, head: bytes) -> bytes:
    """Return the value of the first element of a short VR that begins so."""
    at = data.index(head) + len(head)
    return data[at + 2 : at + 2 + struct.unpack_from("<H", data, at)[0]]


def test_other_spellings_of_a_name_are_found():
    """Without accents, with ss, with accents of their own, in bytes of UTF-8 where no character set is stated."""
    known = KnownIdentity(names=("Straße^Zoë", "Παπαδόπουλος^Νίκος"))
    text = "STRASSE or ZOE or Zoe\u0308 and ΠΑΠΑΔΟΠΟΥΛΟΣ; Zoetrope"
    assert clean_text(text, known=known).text == "[NAME] or [NAME] or [NAME] and [NAME]; Zoetrope"
    ds = plain_ct(name="MÜLLER^JÖRG")
    ds.Manufacturer = "ACME Müller"
    ds.SpecificCharacterSet = "ISO_IR 192"
    data = written(ds).replace(b"ISO_IR 192", b"ISO_IR 100")
    assert "MÜLLER".encode() in data
    after = read(deidentify_bytes(data, NAMES, Policy()).data)
    assert after.Manufacturer == "ACME [NAME]"


def test_order_numbers_and_uids_that_the_standard_does_not_know_go():
    """The table names no retired attributes; UIDs of studies have been made under the standard's root."""
    ds = plain_ct()
    for tag in (0x00401006, 0x00401007, 0x00402006, 0x00402007, 0x00402016, 0x00402017):
        ds.add_new(tag, "LO" if tag & 0xFFFF > 0x2010 else "SH", "ORD7788123")
    ds.StudyInstanceUID = "1.2.840.10008.113619.77123.20240301"
    ds.FrameOfReferenceUID = "1.2.840.10008.1.4.1.1"
    done = deidentify_bytes(written(ds), NAMES, Policy())
    assert b"7788123" not in done.data
    assert b"77123" not in done.data
    after = read(done.data)
    assert after.StudyInstanceUID == NAMES.uid("1.2.840.10008.113619.77123.20240301")
    assert after.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"  # Talairach Brain Atlas, a well-known frame
