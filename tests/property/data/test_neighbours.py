"""Files read and de-identified by what their neighbours have taught come out as they do alone, byte for byte."""

from __future__ import annotations

import random
import warnings
from dataclasses import astuple, replace
from pathlib import Path

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    RLELossless,
)

from deidentify_cases import SYNTAXES, canary_object, element, items
from isocenter.core.errors import DataError
from isocenter.data.archive.dicom_rows import ARCHIVE_WANTED, instance_row, person_of
from isocenter.data.deidentify import KnownIdentity, Policy, Pseudonyms, deidentify_bytes
from isocenter.data.deidentify.dicom.neighbours import Neighbours
from isocenter.data.images.dicom.header import scan_bytes, scan_head
from isocenter.data.images.dicom.neighbours import HeaderNeighbours
from isocenter.data.images.quiet import quiet

NAMES = Pseudonyms(b"a key for tests")
POLICIES = (
    Policy(),
    Policy(retain_safe_private=True, clean_descriptors=False),
    Policy(retain_dates="none", retain_device=True),
    Policy(retain_dates="full", retain_uids=True, retain_institution=True, clean_graphics=True),
)
BARE = Policy(
    retain_dates="none",
    retain_patient_characteristics=False,
    clean_descriptors=False,
    clean_structured_content=False,
)
WRITTEN = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, RLELossless)
UNDEFINED = b"\xff\xff\xff\xff"

BASE: dict[int, tuple[str, bytes]] = {
    0x00080005: ("CS", b"ISO_IR 100"),
    0x00080008: ("CS", b"ORIGINAL\\PRIMARY\\AXIAL"),
    0x00080016: ("UI", b"1.2.840.10008.5.1.4.1.1.2"),
    0x00080018: ("UI", b"1.9.77.1.1"),
    0x00080020: ("DA", b"20240229"),
    0x00080033: ("TM", b"101112.5"),
    0x00080050: ("SH", b"ACC99887"),
    0x00080060: ("CS", b"CT"),
    0x00080070: ("LO", b"Maker"),
    0x00080090: ("PN", b"Okonkwo^Ada"),
    0x0008103E: ("LO", b"Lung 1.0 B60f"),
    0x00090010: ("LO", b"SOMEBODY"),
    0x00091001: ("LO", b"private"),
    0x00100010: ("PN", b"Zebrowski^Quillon"),
    0x00100020: ("LO", b"MRN7731904"),
    0x00100030: ("DA", b"19470813"),
    0x00101010: ("AS", b"076Y"),
    0x00104000: ("LT", b"seen on 01.02.2024"),
    0x00180050: ("DS", b"2.5"),
    0x00181030: ("LO", b"CHEST ROUTINE"),
    0x0020000D: ("UI", b"1.9.77.2"),
    0x0020000E: ("UI", b"1.9.77.3"),
    0x00200013: ("IS", b"3"),
    0x00200032: ("DS", b"-180\\-180\\12.5"),
    0x00280010: ("US", b"\2\0"),
    0x00280030: ("DS", b"0.8\\0.7"),
    0x00290010: ("LO", b"SIEMENS MR HEADER"),
    0x0029100C: ("IS", b"12"),
    0x00400275: ("SQ", b""),
    0x00540022: ("SQ", b""),
}
VALUES = st.sampled_from(
    [b"", b"7", b"-12.25", b"2024", b"20240301", b"20231332", b"101112", b"1.9.77.8.1234", b"MRN7731904", b"Maker",
     b"of ZEBROWSKI today", b"ISO_IR 192", b"\\ISO 2022 IR 87", b"Z\xfcrich", b"YES", b"090Y", b"000103D", b"x" * 40,
     b"Zebrowski^Quillon", b"Other^Person", b"MRN1", b"SIEMENS MR HEADER", b"a\\b\\c", b"19470813"]
)  # fmt: skip
TAGS = st.sampled_from([*BASE, 0x00080080, 0x00081030, 0x00091002, 0x00102160, 0x00181000, 0x0020000F, 0x00204000,
                        0x00280301, 0x60000102, 0x60003000, 0x00185555, 0x00204001, 0x0040A043, 0x7FE00009,
                        0x00081140])  # fmt: skip
VRS = st.sampled_from(["LO", "SH", "UI", "DS", "UN", "OB", "CS", "SQ", "DA", "zz"])
INNER = st.tuples(st.sampled_from([0x00080100, 0x00080104, 0x0040A043, 0x0040A160, 0x00080050, 0x00281001]), VALUES)
CHANGE = st.one_of(
    st.tuples(st.just("value"), TAGS, VALUES),
    st.tuples(st.just("value"), st.sampled_from([0x00080018, 0x00080033, 0x00200013, 0x00200032]), VALUES),
    st.tuples(st.just("remove"), TAGS),
    st.tuples(st.just("vr"), TAGS, VRS),
    st.tuples(st.just("sequence"), st.sampled_from([0x00400275, 0x00540022, 0x00081140]), st.lists(INNER, max_size=3),
              st.integers(0, 3)),
    st.tuples(st.just("twice"), TAGS),
    st.tuples(st.just("cut"), st.integers(1, 400)),
    st.tuples(st.just("behind"), VALUES),
    st.tuples(st.just("meta"), VALUES),
)  # fmt: skip
FILES = st.lists(st.lists(CHANGE, max_size=3), min_size=2, max_size=6)


def build(changes: list[tuple], syntax: UID) -> bytes:
    """Write a file with changes, also such as no software should write."""
    implicit, big = syntax == ImplicitVRLittleEndian, syntax == ExplicitVRBigEndian
    order = "big" if big else "little"
    told = {tag: [pair] for tag, pair in BASE.items()}
    version, tail, cut = b"SOMETHING", b"", 0
    for kind, *what in changes:
        if kind == "value":
            vr = told[what[0]][0][0] if what[0] in told else "LO"
            told[what[0]] = [(vr if vr != "SQ" else "LO", what[1])]
        elif kind == "remove":
            told.pop(what[0], None)
        elif kind == "vr" and what[0] in told:
            told[what[0]] = [(what[1], told[what[0]][0][1])]
        elif kind == "sequence":
            told[what[0]] = [("SQ", sequence(what[1], what[2], implicit=implicit, big=big))]
        elif kind == "twice" and what[0] in told:
            told[what[0]] *= 2
        elif kind == "cut":
            cut = what[0]
        elif kind == "behind":
            tail = what[0]
        elif kind == "meta":
            version = what[0]
    body = b""
    for tag in sorted(told):
        for vr, value in told[tag]:
            open_end = vr == "SQ" and value.endswith(b"OPEN")
            one = element(tag, vr, value.removesuffix(b"OPEN"), implicit=implicit, big=big)
            if open_end:
                size = len(value) - 4
                head = len(one) - size - 4
                end = (0xFFFE).to_bytes(2, order) + (0xE0DD).to_bytes(2, order) + bytes(4)
                one = one[:head] + UNDEFINED + one[head + 4 :] + end
            body += one
    pixels = (0x7FE0).to_bytes(2, order) + (0x0010).to_bytes(2, order)
    if syntax == RLELossless:
        fragments = items(b"", b"ABCDEFGHCREATED FOR Zebrowski ", big=False)
        body += pixels + b"OB\0\0" + UNDEFINED + fragments + b"\xfe\xff\xdd\xe0" + bytes(4)
    else:
        body += pixels + (b"" if implicit else b"OW\0\0") + (8).to_bytes(4, order) + bytes(range(8))
    meta = b"".join(
        element(tag, vr, value + b"\0" * (len(value) % 2), implicit=False, big=False)
        for tag, vr, value in (
            (0x00020001, "OB", b"\0\1"),
            (0x00020010, "UI", str(syntax).encode()),
            (0x00020013, "SH", version),
        )
    )
    out = bytes(128) + b"DICM" + meta + body + tail
    return out[: len(out) - cut]


def sequence(inner: list[tuple[int, bytes]], form: int, *, implicit: bool, big: bool) -> bytes:
    """Write the value of a sequence of two items; form says whether it and they have a length (OPEN marks it)."""
    order = "big" if big else "little"
    told = [(tag, "SQ", b"") if tag == 0x0040A043 else (tag, "LO", value) for tag, value in sorted(inner)]
    content = b"".join(element(*one, implicit=implicit, big=big) for one in told)
    if form & 1:
        begin = (0xFFFE).to_bytes(2, order) + (0xE000).to_bytes(2, order) + UNDEFINED
        end = (0xFFFE).to_bytes(2, order) + (0xE00D).to_bytes(2, order) + bytes(4)
        content = (begin + content + end) * 2
    else:
        content = items(content, content, big=big)
    return content + (b"OPEN" if form & 2 else b"")


def cleaned(data: bytes, policy: Policy, known: KnownIdentity | None = None, like: Neighbours | None = None) -> object:
    """Return everything that comes of a file, or why it was refused."""
    try:
        done = deidentify_bytes(data, NAMES, policy, known=known, source="a.dcm", neighbours=like)
    except DataError as error:
        return str(error)
    return done.data, list(done.removed.items()), done.suspicious, done.pixel_boxes, done.patient_key, done.shift_days


def headers(data: bytes, like: HeaderNeighbours | None = None) -> object:
    """Return everything that a header says, and the row that it becomes, or why it was refused."""
    with quiet():
        try:
            found = like.scan_bytes(data, "a.dcm") if like else scan_bytes(data, "a.dcm", wanted=ARCHIVE_WANTED)
        except DataError as error:
            return str(error)
        person = person_of(found, NAMES, "here")
        row = instance_row(found, person, NAMES, Policy(), like.kin if like else None)
        return astuple(replace(found, path=Path())), person, row


@settings(max_examples=60, deadline=None)
@given(FILES, st.sampled_from(WRITTEN), st.sampled_from(POLICIES), st.booleans())
def test_neighbours_change_nothing(files, syntax, policy, told):
    near, originals, copies = Neighbours(), HeaderNeighbours(ARCHIVE_WANTED), HeaderNeighbours(ARCHIVE_WANTED)
    for number, changes in enumerate(files):
        data = build(changes, syntax)
        known = KnownIdentity(names=("Routine",), patient_key="k") if told and number % 3 else None
        alone = cleaned(data, policy, known)
        assert cleaned(data, policy, known, near) == alone
        assert headers(data, originals) == headers(data)
        if isinstance(alone, tuple):
            assert headers(alone[0], copies) == headers(alone[0])


@settings(max_examples=15, deadline=None)
@given(st.lists(st.sampled_from(WRITTEN), min_size=2, max_size=6), FILES, st.randoms(use_true_random=False))
def test_transfer_syntaxes_and_policies_may_take_turns(syntaxes, files, chance):
    near, originals = Neighbours(), HeaderNeighbours(ARCHIVE_WANTED)
    for _ in range(8):
        data, policy = build(chance.choice(files), chance.choice(syntaxes)), chance.choice(POLICIES)
        assert cleaned(data, policy, None, near) == cleaned(data, policy)
        assert headers(data, originals) == headers(data)


@pytest.mark.parametrize("syntax", WRITTEN, ids=lambda s: UID(s).name)
def test_a_series_is_walked_once_and_follows(syntax, monkeypatch):
    import isocenter.data.deidentify.dicom.instance as instance

    walked = []
    skim = instance.skim
    monkeypatch.setattr(instance, "skim", lambda *a, **k: walked.append(1) or skim(*a, **k))
    near = Neighbours()
    series = [
        build(
            [
                ("value", 0x00080018, b"1.9.77.1.%d" % number),
                ("value", 0x00200013, b"%d" % number),
                ("value", 0x00200032, b"-180\\-180\\%d.5" % (3 * number)),
                ("sequence", 0x00400275, [(0x00080100, b"%d" % number)], 3),
            ],
            syntax,
        )
        for number in range(5, 15)
    ]
    made = [cleaned(data, Policy(), None, near) for data in series]
    assert len(walked) == 1
    assert made == [cleaned(data, Policy()) for data in series]


def test_a_series_of_a_name_beyond_ascii_is_walked_once_and_follows(monkeypatch):
    """What bytes can't tell, the case of ИВАНОВ, is looked for in every text: in the first file and in those after."""
    import isocenter.data.deidentify.dicom.instance as instance

    walked = []
    skim = instance.skim
    monkeypatch.setattr(instance, "skim", lambda *a, **k: walked.append(1) or skim(*a, **k))
    near = Neighbours()
    series = [
        build(
            [
                ("value", 0x00080005, b"ISO_IR 144"),
                ("value", 0x00100010, "Иванов^Пётр".encode("iso8859_5")),
                ("value", 0x00080070, "ACME ИВАНОВ".encode("iso8859_5")),
                ("value", 0x00080018, b"1.9.77.1.%d" % number),
                ("value", 0x00185555 + 2 * number, b"MRN7731904"),
                ("value", 0x00200032, b"-180\\-180\\%d.5" % (3 * number)),
                ("sequence", 0x00400275, [(0x00080104, "Петр иванов".encode("iso8859_5") * (number % 2))], 3),
            ],
            ExplicitVRLittleEndian,
        )
        for number in [5] * 3 + [6] * 7
    ]
    made = [cleaned(data, Policy(), None, near) for data in series]
    assert len(walked) == 2
    assert made == [cleaned(data, Policy()) for data in series]
    for data, *_ in made:
        assert b"ACME [NAME]" in data
        assert "иванов".encode("iso8859_5") not in data


def test_headers_of_a_series_are_scanned_once(monkeypatch):
    import isocenter.data.images.dicom.neighbours as neighbours

    scanned = []
    scan = neighbours.scan_bytes
    monkeypatch.setattr(neighbours, "scan_bytes", lambda *a, **k: scanned.append(1) or scan(*a, **k))
    near = HeaderNeighbours(ARCHIVE_WANTED)
    series = [build([("value", 0x00200032, b"0\\0\\%d" % number)], ExplicitVRLittleEndian) for number in range(7, 14)]
    assert [headers(data, near) for data in series] == [headers(data) for data in series]
    assert len(scanned) == 1


@pytest.mark.parametrize("syntax", WRITTEN[:2], ids=lambda s: UID(s).name)
def test_a_head_may_end_anywhere(syntax, tmp_path):
    near = HeaderNeighbours(ARCHIVE_WANTED)
    size = len(build([], syntax))
    for number, end in enumerate([size, *range(140, size, 7), size]):
        data = build([("value", 0x00200032, b"0\\0\\%d" % (number % 11))], syntax)
        path = tmp_path / "a.dcm"
        path.write_bytes(data)
        alone = scan_head(path, "a.dcm", data[:end], len(data), wanted=ARCHIVE_WANTED)
        found = near.scan_head(str(path), "a.dcm", data[:end], len(data))
        assert astuple(found) == astuple(replace(alone, path=Path()))


@pytest.mark.parametrize("syntax", WRITTEN, ids=lambda s: UID(s).name)
def test_a_file_that_ends_anywhere_is_refused_or_read(syntax):
    """A file in pieces is an error of that file; in big endian, half a tag once was one of the whole run."""
    whole = build([("sequence", 0x00400275, [(0x00080100, b"A")], 3), ("value", 0x00204000, b"B")], syntax)
    for end in range(len(whole) - 120, len(whole)):
        assert cleaned(whole[:end], Policy())
        assert headers(whole[:end])


def test_nobody_is_taken_for_their_neighbour():
    near = Neighbours()
    other = [("value", 0x00100010, b"Quagmire^Otto"), ("value", 0x00100020, b"MRN5550123")]
    told = ("value", 0x00104000, b"Otto Quagmire was seen on 01.02.2024, Zebrowski was not.")
    ours = ("value", 0x00080018, b"1.9.77.1.2")
    for changes in ([], [ours], other, [*other, ours], [*other, told], [told], [ours, told], [*other, ours, told]):
        data = build(changes, ExplicitVRLittleEndian)
        assert cleaned(data, Policy(), None, near) == cleaned(data, Policy())
    made = deidentify_bytes(build([*other, ours, told], ExplicitVRLittleEndian), NAMES, Policy(), neighbours=near)
    assert made.patient_key == NAMES.patient("", "MRN5550123")
    assert b"Quagmire" not in made.data


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda s: UID(s).name)
def test_no_canary_survives_by_a_neighbour(syntax):
    near = Neighbours()
    for number in range(4):
        data = canary_object(syntax, values={0x00080018: b"1.9.77.5.%d" % number, 0x00200013: b"%d" % (98 + number)})
        done = cleaned(data, BARE, None, near)
        assert done == cleaned(data, BARE)
        plain = done[0] if syntax != DeflatedExplicitVRLittleEndian else b""
        for word in (b"CANARY", b"19470813", b"112233", b"097Y", b"7391", b"1.9.77."):
            assert word not in plain


@pytest.mark.parametrize("order", ["sorted", "shuffled", "twice"])
def test_files_of_pydicom_change_nothing(order):
    files = sorted(p for p in (Path(pydicom.__file__).parent / "data").rglob("*") if _small(p))
    if order == "shuffled":
        random.Random(8).shuffle(files)
    elif order == "twice":
        files = [file for file in files for _ in range(2)]
    near, originals = Neighbours(), HeaderNeighbours(ARCHIVE_WANTED)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for file in files:
            data = file.read_bytes()
            assert cleaned(data, POLICIES[1], None, near) == cleaned(data, POLICIES[1]), file.name
            assert headers(data, originals) == headers(data), file.name


def _small(path: Path) -> bool:
    return path.is_file() and path.suffix not in (".py", ".json", ".zip", ".gz") and path.stat().st_size < 100_000
