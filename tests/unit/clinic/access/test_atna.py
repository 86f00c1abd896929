"""The record as DICOM audit messages by syslog over TLS."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from isocenter.clinic.access import Event, study_digest
from isocenter.clinic.access.atna import SyslogTls, audit_message, syslog_frame
from isocenter.core.errors import DataError, TransportError

TIME = "2026-01-02T03:04:05+00:00"


def message(**changes: object) -> ElementTree.Element:
    content = {
        "kind": "access", "act": "R", "outcome": 0, "who": "ada", "role": "reader", "address": "10.0.0.7",
        "what": "GET /dicomweb/studies/{study}", "study": study_digest("1.2.3"), "status": 200, **changes,
    }  # fmt: skip
    return ElementTree.fromstring(audit_message(content, TIME, "isocenter", "site"))


def test_a_read_of_a_study() -> None:
    found = message()
    event = found.find("EventIdentification")
    assert event is not None
    assert event.attrib == {"EventActionCode": "R", "EventDateTime": TIME, "EventOutcomeIndicator": "0"}
    kind = event.find("EventID")
    assert kind is not None
    assert kind.attrib == {"csd-code": "110103", "codeSystemName": "DCM", "originalText": "DICOM Instances Accessed"}
    who = found.findall("ActiveParticipant")[0].attrib
    assert who == {
        "UserID": "ada", "UserIsRequestor": "true", "NetworkAccessPointID": "10.0.0.7",
        "NetworkAccessPointTypeCode": "2",
    }  # fmt: skip
    study = found.findall("ParticipantObjectIdentification")[0]
    assert study.get("ParticipantObjectTypeCodeRole") == "3"
    assert study.get("ParticipantObjectID") == study_digest("1.2.3")
    code = study.find("ParticipantObjectIDTypeCode")
    assert code is not None and code.get("csd-code") == "study-sha256"
    # The order that the schema of PS3.15 A.5.1 asks for.
    order = ["EventIdentification", "ActiveParticipant", "ActiveParticipant", "AuditSourceIdentification"]
    assert [part.tag for part in found] == [*order, *["ParticipantObjectIdentification"] * 2]


@pytest.mark.parametrize(
    ("changes", "code", "more"),
    [
        ({"kind": "login"}, "110114", "110122"),
        ({"kind": "logout"}, "110114", "110123"),
        ({"study": ""}, "110112", None),
        ({"kind": "user-role"}, "110113", "110136"),
        ({"kind": "record-read"}, "110101", None),
    ],
)
def test_kinds(changes: dict[str, str], code: str, more: str | None) -> None:
    event = message(**changes).find("EventIdentification")
    assert event is not None
    found, kind = event.find("EventID"), event.find("EventTypeCode")
    assert found is not None and found.get("csd-code") == code
    assert (None if kind is None else kind.get("csd-code")) == more


def test_a_plain_study_is_one() -> None:
    code = message(study="1.2.3").findall("ParticipantObjectIdentification")[0].find("ParticipantObjectIDTypeCode")
    assert code is not None and code.get("csd-code") == "110180"


def test_a_frame_says_how_long_it_is() -> None:
    frame = syslog_frame("<ä/>".encode(), TIME, "a host", 7, 4)
    length, _, rest = frame.partition(b" ")
    assert int(length) == len(rest)
    assert rest.startswith(b"<84>1 2026-01-02T03:04:05+00:00 ahost isocenter 7 IHE+RFC-3881 - \xef\xbb\xbf<")


class Repository(SyslogTls):
    """Stands for the connection; keeps what is sent, and fails where it is told to."""

    def __init__(self) -> None:
        self.frames, self.fails = b"", False

    def send(self, frames: bytes) -> None:
        if self.fails:
            raise TransportError("away")
        self.frames += frames


def test_the_record_is_sent_on_once(tmp_path: Path) -> None:
    pytest.importorskip("pydantic")
    from isocenter.verbs.clinic import access_export
    from isocenter.verbs.clinic.access import ChainSink

    send = access_export.send_on
    record = tmp_path / "access.jsonl"
    sink, repository = ChainSink(record), Repository()
    sink.append([Event("login", "E", 0, "ada"), Event("access", "R", 4, "ada")])
    assert oct(record.stat().st_mode & 0o777) == "0o600"
    repository.fails = True
    with pytest.raises(TransportError):
        send(record, repository)
    repository.fails = False
    assert send(record, repository) == 2
    assert repository.frames.count(b"<AuditMessage>") == 2
    assert send(record, repository) == 0
    sink.append([Event("logout", "E", 0, "ada")])
    assert send(record, repository) == 1
    text = record.read_text().replace('"ada"', '"eve"', 1)
    record.write_text(text)
    with pytest.raises(DataError, match="line 1"):
        send(record, repository)
