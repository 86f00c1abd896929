"""What a fuzz run of the web server taught: files and JSON that are read once and then stand in every answer's way."""

from __future__ import annotations

import json
import re
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom import DataElement
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, RLELossless

from isocenter.clinic.dicomweb.multipart import accepted
from isocenter.clinic.dicomweb.qido import BadRequest, matches
from isocenter.core.errors import TransportError

from .test_server import STOW, bodies, encoded, instance, multipart, node  # noqa: F401  # a fixture
from .test_ups import body, http, worklist  # noqa: F401  # fixtures

pytestmark = pytest.mark.enable_socket
PATIENT_ID = "00100020"


def strict(answer):
    """Read JSON as the standard has it: no NaN."""

    def refuse(word):
        raise AssertionError(f"{word} is not JSON")

    return json.loads(answer.content, parse_constant=refuse)


def test_a_deflated_instance_is_stored(node) -> None:  # noqa: F811
    content = encoded(instance(syntax=DeflatedExplicitVRLittleEndian))
    assert node.http.post("/studies", content=multipart(content), headers=STOW).status_code == 200
    node.take_in()
    (told,) = strict(node.http.get("/studies/1.2.3.1/metadata"))
    assert told["00080018"]["Value"] == ["1.2.3.1.1.1"]


@pytest.mark.parametrize(("syntax", "status"), [("1.2.840.10008.1.1", 409), ("1.2.840.99999.1.1", 200)])
def test_a_transfer_syntax_that_is_none_is_no_defect(node, syntax: str, status: int) -> None:  # noqa: F811
    content = encoded(instance())
    known = b"1.2.840.10008.1.2.1\0"
    assert content.count(known) == 1
    # Verification's UID, and one that nobody knows: of the latter nothing but its length is known.
    raw = syntax.encode().ljust(len(known), b"\0")
    answer = node.http.post("/studies", content=multipart(content.replace(known, raw)), headers=STOW)
    assert answer.status_code == status, answer.text


def test_elements_that_are_no_value_of_theirs_stand_in_nobodys_way(node) -> None:  # noqa: F811
    content = encoded(instance(number=1))
    at = content.find(b"\x28\x00\x10\x00US")
    rows = content[: at + 6] + struct.pack("<H", 7) + b"\1" * 7 + content[at + 10 :]
    nan = encoded(instance(number=2))
    at = nan.find(b"\x20\x00\x0d\x00UI")
    odd = struct.pack("<HH2sHd", 0x0018, 0x9087, b"FD", 8, float("nan"))
    answer = node.http.post(
        "/studies", content=multipart(rows, nan[:at] + odd + nan[at:], encoded(instance(number=3))), headers=STOW
    )
    assert answer.status_code == 200
    assert node.take_in() == 3
    assert node.take_in() == 0
    found = strict(node.http.get("/studies/1.2.3.1/instances", params={"includefield": "all"}))
    assert [one["00080018"]["Value"][0] for one in found] == ["1.2.3.1.1.1", "1.2.3.1.1.2", "1.2.3.1.1.3"]
    assert ["00280010" in one for one in found] == [False, True, True]
    told = strict(node.http.get("/studies/1.2.3.1/metadata"))
    assert ["00280010" in one for one in told] == [False, True, True]
    assert not any("00189087" in one for one in told)


def test_one_that_can_not_be_read_takes_nobody_the_metadata_of_the_others(node) -> None:  # noqa: F811
    content = multipart(*(encoded(instance(number=number)) for number in range(1, 6)))
    assert node.http.post("/studies", content=content, headers=STOW).status_code == 200
    node.take_in()
    file = node.catalog.instances("1.2.3.1")[3].file
    file.chmod(0o600)
    file.write_bytes(b"x" * 300)
    told = strict(node.http.get("/studies/1.2.3.1/metadata"))
    assert [one["00080018"]["Value"][0] for one in told] == [f"1.2.3.1.1.{number}" for number in range(1, 6)]
    assert ["00100020" in one for one in told] == [True, True, True, False, True]
    assert told[3]["0020000E"]["Value"] == ["1.2.3.1.1"]
    assert node.http.get("/studies/1.2.3.1/series/1.2.3.1.1/instances/1.2.3.1.1.4/metadata").status_code == 404


def test_what_is_no_picture_is_left_out_of_pictures(node) -> None:  # noqa: F811
    report = instance(number=2)
    del report.PixelData, report.Rows, report.Columns
    parts = [encoded(instance(number=1)), encoded(report), encoded(instance(number=3))]
    assert node.http.post("/studies", content=multipart(*parts), headers=STOW).status_code == 200
    alone = instance(study=2)
    del alone.PixelData, alone.Rows, alone.Columns
    assert node.http.post("/studies", content=multipart(encoded(alone)), headers=STOW).status_code == 200
    node.take_in()
    shown = node.http.get("/studies/1.2.3.1/rendered")
    assert (shown.status_code, len(bodies(shown))) == (200, 2)
    assert node.http.get("/studies/1.2.3.2/rendered").status_code == 406


@pytest.mark.parametrize(
    ("word", "value"),
    [("NumberOfFrames", "2147483647"), ("NumberOfFrames", "1\\2"), ("Rows", 65535), ("BitsAllocated", 0)],
)
def test_a_header_may_claim_what_no_memory_holds(node, word: str, value: object) -> None:  # noqa: F811
    claims = instance(syntax=RLELossless)
    claims.PixelData = encapsulate([bytes(64)])
    claims.Columns = 65535 if word == "Rows" else claims.Columns
    claims.BitsAllocated = 32 if word == "Rows" else claims.BitsAllocated
    claims[word] = DataElement(word, claims[word].VR if word in claims else "IS", value)
    assert node.http.post("/studies", content=multipart(encoded(claims)), headers=STOW).status_code == 200
    node.take_in()
    path = "/studies/1.2.3.1/series/1.2.3.1.1/instances/1.2.3.1.1.1"
    native = {"accept": 'multipart/related; type="application/octet-stream"'}
    explicit = {"accept": 'multipart/related; type="application/dicom"; transfer-syntax=1.2.840.10008.1.2.1'}
    for end, headers in ((path + "/frames/1", native), (path + "/rendered", {}), (path, explicit)):
        assert node.http.get(end, headers=headers).status_code == 406, end
    assert node.http.get(path, headers={"accept": "application/dicom; transfer-syntax=*"}).status_code == 200


TEXT = st.text("ab", max_size=12)


@given(TEXT, st.text("ab*?", max_size=8).filter(lambda p: p not in ("", "*")))
def test_patterns_mean_what_they_say(text: str, pattern: str) -> None:
    meant = "".join(".*" if c == "*" else "." if c == "?" else c for c in pattern)
    assert matches({"vr": "LO", "Value": [text]}, PATIENT_ID, pattern) == bool(re.fullmatch(meant, text))


def test_a_pattern_of_many_stars_takes_no_time() -> None:
    found = {"vr": "LO", "Value": ["a" * 1000]}
    assert not matches(found, PATIENT_ID, "*a" * 8 + "b")
    assert matches(found, PATIENT_ID, "*a" * 8)
    with pytest.raises(BadRequest, match="more than 8 stars"):
        matches(found, PATIENT_ID, "*a" * 9)


def test_quotes_that_never_end_are_no_list_of_media_types() -> None:
    with pytest.raises(TransportError, match="too long"):
        accepted('"' + '\\"' * 30_000)
    assert [one.name for one in accepted("a/b," * 64)] == ["a/b"] * 64


@pytest.mark.parametrize("value", ["NaN", "1e999", '"\\ud800"', "[" * 100 + "]" * 100, "[" * 5000 + "]" * 5000])
def test_what_could_not_be_told_again_is_not_taken(http, value: str) -> None:  # noqa: F811
    text = json.dumps({**body(), "00404010": {"vr": "DT", "Value": ["HERE"]}}).replace('"HERE"', value)
    assert http.post("/workitems?workitem=1.2.3.4", content=text).status_code == 400
    assert http.get("/workitems").status_code == 204


@pytest.mark.parametrize("query", ["FFFFFFFF=1", "00000001.00080050=2", "00080050.00080050=x"])
def test_a_search_by_what_is_no_attribute(http, query: str) -> None:  # noqa: F811
    odd = {**body(), "00080050": {"vr": "SH", "Value": [{"00080050": 5}]}}
    assert http.post("/workitems", content=json.dumps(odd)).status_code == 201
    assert http.get(f"/workitems?{query}").status_code in (204, 400)
