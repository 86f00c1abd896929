"""Addresses of servers, what lets one in, and when to give up."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from image_servers import web_server
from isocenter.clinic.retrieve import (
    CREDENTIALS_VARIABLE,
    TOKEN_VARIABLE,
    DicomWebServer,
    Patience,
    Query,
    access_to,
    fetch,
    is_server_address,
    read_address,
    retrieve_dicomweb,
)
from isocenter.clinic.retrieve.plan import GONE
from isocenter.core.errors import ConfigError

SECRET = "hunter2hunter2"


def test_addresses_are_read() -> None:
    made = read_address(
        "DICOMweb+HTTPS://Pacs.Example.org:8443/dicom-web/?PatientID=12%233&StudyDate=20240101-20240131"
    )
    assert (made.way, made.url, made.where) == (
        "dicomweb",
        "https://pacs.example.org:8443/dicom-web",
        "pacs.example.org:8443",
    )
    assert made.query.filters == {"PatientID": "12#3", "StudyDate": "20240101-20240131"}
    assert "12" not in made.name + repr(made)
    made = read_address("dicom://PACS@10.0.0.5:104?AccessionNumber=A&retries=1&timeout_s=2.5")
    assert (made.way, made.titles, made.where) == ("get", ("ISOCENTER", "PACS"), "10.0.0.5:104")
    assert made.patience == Patience(retries=1, timeout_s=2.5)
    made = read_address("dicom://US:PACS@[::1]:104?method=move&listen=11112&everything=yes&tls=yes")
    assert (made.titles, made.where, made.listen, made.tls) == (("US", "PACS"), "[::1]:104", ("0.0.0.0", 11112), True)
    assert read_address("dicom://P@h:1?method=move&listen=[::1]:9&everything=yes").listen == ("::1", 9)
    one, other = (read_address(f"dicom://P@h:104?{q}&PatientID=1") for q in ("retries=1", "method=move&listen=9"))
    assert one.identity == other.identity, "the way does not change what is fetched"
    assert one.identity != read_address("dicom://P@h:104?PatientID=2").identity
    for text in ("s3://b/x", "/data/dicom", "dicomweb.zip", "north=/data"):
        assert not is_server_address(text)


@pytest.mark.parametrize(
    "text",
    [
        "dicomweb+https://host/dicom-web",
        "dicomweb+https://?PatientID=1",
        f"dicomweb+https://user:{SECRET}@host/x?PatientID=1",
        f"dicomweb+https://host/x?PatientID=1&token={SECRET}",
        f"dicomweb+https://host/x?PatientID=1#{SECRET}",
        f"dicomweb+https://host:{SECRET}/x?PatientID=1",
        f"dicomweb+https://host/x?PatientID={SECRET}&PatientID=2",
        f"dicomweb+https://host/x?PatientID=1&retries={SECRET}",
        f"dicomweb+https://host/x?everything={SECRET}",
        f"dicomweb+https://host/x?PatientName={SECRET}&Nonsense=1",
        "dicomweb+https://host/x?PatientID=1&method=get",
        "dicom://PACS@host?PatientID=1",
        "dicom://host:104?PatientID=1",
        f"dicom://a:b:{SECRET}@host:104?PatientID=1",
        f"dicom://A:{SECRET * 2}@host:104?PatientID=1",
        "dicom://PACS@host:104/path?PatientID=1",
        "dicom://PACS@host:104?PatientID=1&method=push",
        "dicom://PACS@host:104?PatientID=1&method=move",
        "dicom://PACS@host:104?PatientID=1&method=move&listen=x:y",
        "dicom://PACS@host:104?PatientID=1&listen=11112",
    ],
)
def test_wrong_addresses_are_refused_without_being_repeated(text: str) -> None:
    with pytest.raises(ConfigError) as told:
        read_address(text)
    assert SECRET not in str(told.value)


def _file(path: Path, content: object, mode: int = 0o600) -> dict[str, str]:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    path.chmod(mode)
    return {CREDENTIALS_VARIABLE: str(path)}


def test_what_lets_one_in_goes_to_its_own_server_alone(tmp_path: Path) -> None:
    one, other = (read_address(f"dicomweb+https://{host}/x?PatientID=1") for host in ("a.org", "b.org:8443"))
    known = _file(tmp_path / "c", {"A.org": {"token": SECRET}, "b.org:8443": {"user": "me", "password": SECRET}})
    first, second = access_to([one, other], known)
    assert (first.token, dict(first.headers)) == (SECRET, {})
    assert (second.token, second.headers["Authorization"][:6]) == ("", "Basic ")
    assert SECRET not in repr((first, second))
    assert "Basic" not in repr(second)
    assert access_to([one], {TOKEN_VARIABLE: SECRET})[0].token == SECRET
    assert access_to([one], {})[0].token == ""
    with pytest.raises(ConfigError, match="several servers"):
        access_to([one, other], {TOKEN_VARIABLE: SECRET})
    dimse = read_address("dicom://PACS@c.org:104?PatientID=1")
    assert [a.token for a in access_to([one, dimse], {TOKEN_VARIABLE: SECRET})] == [SECRET, ""]
    clear = read_address("dicomweb+http://a.org/x?PatientID=1")
    for environ in ({TOKEN_VARIABLE: SECRET}, _file(tmp_path / "d", {"a.org": {"user": "me", "password": SECRET}})):
        with pytest.raises(ConfigError, match="could be read by anybody"):
            access_to([clear], environ)


@pytest.mark.parametrize(
    ("content", "mode", "told"),
    [
        ({"a.org": {"token": SECRET}}, 0o644, "chmod 600"),
        (SECRET, 0o600, "no JSON"),
        ([SECRET], 0o600, "is an object"),
        ({"a.org": {"pin": SECRET}}, 0o600, "is an object"),
        ({"a.org": {"token": 12}}, 0o600, "is an object"),
        ({"a.org": {"certificate": SECRET}}, 0o600, "is an object"),
    ],
)
def test_a_wrong_file_of_credentials_is_refused(tmp_path: Path, content: object, mode: int, told: str) -> None:
    address = read_address("dicomweb+https://a.org/x?PatientID=1")
    with pytest.raises(ConfigError, match=told) as raised:
        access_to([address], _file(tmp_path / "c", content, mode))
    assert SECRET not in str(raised.value)
    with pytest.raises(ConfigError, match="can't be read"):
        access_to([address], {CREDENTIALS_VARIABLE: str(tmp_path / "none")})


@pytest.mark.enable_socket
def test_a_token_reaches_its_server(tmp_path: Path) -> None:
    with web_server() as web:
        web.token = SECRET
        address = read_address(f"dicomweb+{web.url}?AccessionNumber=A1")
        (access,) = access_to([address], {TOKEN_VARIABLE: SECRET})
        assert fetch(address, access, tmp_path).fetched == 6


@pytest.mark.enable_socket
def test_a_server_that_is_gone_is_not_asked_for_ever(tmp_path: Path) -> None:
    with web_server() as web:
        real, asked = web.answer, []

        def answer(request):
            asked.append(request.path)
            if "/series/" in request.path or request.path.endswith(("1.2.3.1", "1.2.3.2")):
                request.connection.close()
            else:
                real(request)

        web.answer = answer
        found = retrieve_dicomweb(
            DicomWebServer(web.url),
            Query(everything=True),
            tmp_path,
            patience=Patience(retries=1, backoff_s=0, timeout_s=5, give_up=2),
        )
    assert len(found.failures) == 6 + 1
    assert [f.reason for f in found.failures[2:]] == [GONE] * 5
    assert len([path for path in asked if "/series/" in path]) == 2 * 2, "two instances, each tried twice"
