"""MLLP: framing, acknowledgement, durability, TLS; results that our own reader and a peer's eyes read back."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.clinic.dimse import TlsFiles
from isocenter.clinic.hl7 import Inbox, MllpLimits, MllpPeer, MllpServer, oru_r01, read_kept, read_orders, send
from isocenter.clinic.hl7.mllp import Frames, Framing, framed
from isocenter.clinic.hl7.results import escaped
from isocenter.clinic.subject import Subject
from isocenter.core import Code, Finding, Measurement, ModelRef, Report, Segment
from isocenter.core.errors import ConfigError, DataError, TransportError
from isocenter.core.units import UCUM
from isocenter.data.images.sr import Abstention, Answer, SrContent
from isocenter.data.records import read_records
from isocenter.data.records.hl7 import parse_message

pytestmark = pytest.mark.enable_socket
AT = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
ORDER = (
    "MSH|^~\\&|RIS|HOSP|NODE||20260101120000||OMI^O23^OMI_O23|{control}|P|2.5.1||||||UNICODE UTF-8\r"
    "PID|1||4711^^^A&1.2.3&ISO||Müller^Max||19500101|M\r"
    "ORC|NW|PL1|FI1\r"
    "TQ1|1||||||20260102080000||S\r"
    "OBR|1|PL1|FI1|CTCH^CT chest^LOCAL\r"
    "IPC|ACC1|RP1|1.2.3.4|SPS1|CT\r"
)
VOLUME = Code("118565006", "SCT", "Volume")
LUNG = Code("39607008", "SCT", "Lung")
LEFT = Code("7771000", "SCT", "Left")
EFFUSION = Code("60046008", "SCT", "Pleural effusion")
SUBJECT = Subject("4711", "HOSP", "Müller^Max", "19500101", "M", "1.2.3.4", "ACC1", "20260101", "120000", "CT")


@pytest.fixture
def inbox(tmp_path):
    made = Inbox(tmp_path / "hl7")
    yield made
    made.close()


@pytest.fixture
def server(inbox):
    told: list[str] = []
    made = MllpServer(inbox.take, told=told.append, limits=MllpLimits(message_bytes=5000, connections=3, idle_s=5))
    made.told, made.inbox = told, inbox
    made.port = made.start("127.0.0.1", 0)
    yield made
    made.stop()


def peer(server, **more):
    return MllpPeer("127.0.0.1", server.port, timeout_s=10, **more)


def order(control="C1", **changed):
    text = ORDER.format(control=control)
    for old, new in changed.items():
        text = text.replace(old, new)
    return text.encode()


def kept(server):
    return [one for _, one in read_kept(server.inbox.file)]


def until(true):
    for _ in range(500):
        if true():
            return
        time.sleep(0.01)
    pytest.fail("it did not happen")


def test_an_order_is_on_the_disk_before_it_is_acknowledged(server, monkeypatch):
    synced = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.fstat(fd).st_size), real(fd))[1])
    assert send(peer(server), order()).taken
    (one,) = kept(server)
    assert (one.kind, one.control, one.message) == ("OMI^O23", "C1", order())
    assert synced[-1] == server.inbox.file.stat().st_size
    assert server.inbox.file.stat().st_mode & 0o777 == 0o600
    (found,) = read_orders(one.message)
    assert (found.control, found.placer, found.filler, found.accession) == ("NW", "PL1", "FI1", "ACC1")
    assert (found.study_uid, found.modality, found.priority) == ("1.2.3.4", "CT", "stat")
    assert (found.patient_id, found.issuer, found.procedure) == ("4711", "1.2.3", ("CTCH", "CT chest", "LOCAL"))
    assert "4711" not in repr(found) + repr(one)


def test_an_order_is_of_the_patient_that_stands_before_it():
    two = order() + order("C2", **{"4711": "4712", "PL1": "PL2"}).partition(b"\r")[2]
    assert [(one.placer, one.patient_id) for one in read_orders(two)] == [("PL1", "4711"), ("PL2", "4712")]


def test_a_sender_with_other_delimiters_is_told_which_message_was_taken(server):
    assert send(peer(server), order().replace(b"|", b"#")).taken
    assert [one.control for one in kept(server)] == ["C1"]


@pytest.mark.parametrize("host", ["a..b", "x" * 80])
def test_a_host_that_is_no_name_of_one_is_refused_at_the_start(inbox, host):
    with pytest.raises(ConfigError, match="can't listen"):
        MllpServer(inbox.take).start(host, 0)


def test_the_same_again_is_acknowledged_and_kept_once(server, tmp_path):
    for _ in range(3):
        assert send(peer(server), order()).taken
    assert send(peer(server), order("C2")).taken
    assert [one.control for one in kept(server)] == ["C1", "C2"]
    again = Inbox(tmp_path / "hl7")
    again.take(parse_message(order()), order())
    again.close()
    assert len(kept(server)) == 2


def test_half_a_message_of_a_process_that_was_killed_swallows_none(tmp_path):
    first = Inbox(tmp_path / "hl7")
    first.take(parse_message(order()), order())
    first.close()
    whole = first.file.read_bytes()
    for number, cut in ((2, whole[:-1]), (3, whole[:40])):
        with first.file.open("ab") as stream:
            stream.write(cut)
        again = Inbox(tmp_path / "hl7")
        again.take(parse_message(order(f"C{number}")), order(f"C{number}"))
        again.close()
    assert [one.control for _, one in read_kept(first.file)] == ["C1", "C2", "C3"]


@pytest.mark.parametrize(
    ("change", "code", "condition", "again"),
    [
        ({"OMI^O23^OMI_O23": "ADT^A01"}, "AR", "200", False),
        ({"|P|2.5.1": "|T|2.5.1"}, "AR", "202", False),
        ({"|P|2.5.1": "|P|3.0"}, "AR", "203", False),
        ({"4711": ""}, "AE", "101", False),
        ({"ORC|NW": "ORC|??"}, "AE", "103", False),
        ({"ORC|NW|PL1|FI1": "ORC|NW||", "OBR|1|PL1|FI1": "OBR|1||"}, "AE", "101", False),
        ({"ORC|NW|PL1|FI1\r": ""}, "AE", "100", False),
        # Of two patients it can't be told whose the first order is.
        ({"IPC|ACC1": "PID|1||4712^^^A\rORC|NW|PL2\rOBR|1|PL2||CTCH\rIPC|ACC2"}, "AE", "100", False),
    ],
)
def test_what_is_wrong_is_refused_and_where_is_told(server, change, code, condition, again):
    reply = send(peer(server), order(**change))
    assert (reply.code, reply.condition, reply.again) == (code, condition, again)
    assert not kept(server)
    assert server.told
    assert "4711" not in "".join(server.told)
    assert "Müller" not in "".join(server.told)


def test_a_full_disk_is_a_refusal_that_may_be_tried_again(server, monkeypatch):
    assert send(peer(server), order()).taken

    def full(_descriptor, content):
        os.write(_descriptor, bytes(content[:10]))
        raise OSError(28, "full")

    monkeypatch.setattr("isocenter.clinic.hl7.orders.write_all", full)
    reply = send(peer(server), order("C2"))
    assert (reply.code, reply.condition, reply.again) == ("AR", "207", True)
    monkeypatch.undo()
    assert send(peer(server), order("C3")).taken
    assert [one.control for one in kept(server)] == ["C1", "C3"]


def test_framing_errors_are_told_and_close_the_line(server):
    def talk(data):
        with socket.create_connection(("127.0.0.1", server.port), 10) as line:
            line.sendall(data)
            line.shutdown(socket.SHUT_WR)
            answer = b""
            while piece := line.recv(4096):
                answer += piece
        return answer

    assert b"MSA|AR|" in talk(b"GET / HTTP/1.1\r\n" + b"x" * 2000)
    until(lambda: any("outside of a frame" in text for text in server.told))
    assert b"MSA|AR|" in talk(b"\x0bMSH|" + b"x" * 6000)
    until(lambda: any("too long" in text for text in server.told))
    assert talk(b"\x0bMSH|^~\\&|half") == b""
    until(lambda: any("inside a message" in text for text in server.told))
    assert b"MSA|AR|" in talk(framed(b"no message"))
    assert talk(b"\r\n" + framed(order()) + b"\r\n" + framed(order("C2"))).count(b"MSA|AA|C") == 2


def test_connections_are_bounded(server):
    lines = [socket.create_connection(("127.0.0.1", server.port), 10) for _ in range(3)]
    try:
        for number, line in enumerate(lines):
            line.sendall(framed(order(f"D{number}")))
            assert b"MSA|AA" in line.recv(4096)
        with socket.create_connection(("127.0.0.1", server.port), 10) as over:
            assert over.recv(10) == b""
        assert any("as many as allowed" in text for text in server.told)
    finally:
        for line in lines:
            line.close()


def test_tls_and_who_is_not_who_it_says(inbox, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    files = tmp_path / "node.pem", tmp_path / "node.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=node", "-addext",
         "subjectAltName=IP:127.0.0.1", "-out", files[0], "-keyout", files[1]], check=True, capture_output=True,
    )  # fmt: skip
    server = MllpServer(inbox.take, tls=TlsFiles(*files))
    server.port = server.start("127.0.0.1", 0)
    try:
        assert send(MllpPeer("127.0.0.1", server.port, tls=True, ca=files[0]), order()).taken
        with pytest.raises(TransportError, match="SSLCertVerificationError"):
            send(MllpPeer("127.0.0.1", server.port, tls=True), order("C2"))
        with pytest.raises(TransportError):
            send(MllpPeer("127.0.0.1", server.port, timeout_s=2), order("C3"))
    finally:
        server.stop()


def answering(answer):
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener:
            line, _ = listener.accept()
            with line:
                line.recv(65536)
                line.sendall(answer)

    threading.Thread(target=serve, daemon=True).start()
    return MllpPeer("127.0.0.1", listener.getsockname()[1], timeout_s=5)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"junk",
        framed(b"junk"),
        framed(b"MSH|^~\\&|X\r"),
        framed(b"MSH|^~\\&|X\rMSA|AA|other\r"),
        framed(b"MSH|^~\\&|X\rMSA|ZZ|C1\r"),
        b"x" * 5000,
    ],
)
def test_an_answer_that_is_none_is_no_success(answer):
    with pytest.raises(TransportError):
        send(answering(answer), order())


def test_codes_of_enhanced_mode_are_understood():
    assert send(answering(framed(b"MSH|^~\\&|X\rMSA|CA|C1\r")), order()).taken
    reply = send(answering(framed(b"MSH|^~\\&|X\rMSA|AR|C1\r")), order())
    assert reply.again
    assert not reply.taken


def content():
    answer = Answer(
        "lungs",
        ModelRef("unet", "1.2", "0" * 64, "Apache-2.0"),
        (Measurement(VOLUME, 1234.5678, UCUM["mL"], 2), Measurement(VOLUME, 0.000001, UCUM["mL"])),
        (Segment(2, "Lung | right", type=LUNG),),
        None,
        Report({"Impression": "5^2 & a|b\\c~d\nzweite Zeile: ü"}, findings=(Finding(EFFUSION, "absent"),)),
    )
    return SrContent((answer,), (Abstention("hippocampus", "needs MR, this is CT"),))


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (4e-11, "0.00000000004"), (-1.25e-13, "-0.000000000000125"), (0.00012345678901234, "0.000123456789"),
        (0.1 + 0.2, "0.3"), (1234.5678, "1234.5678"), (-0.0, "0"), (-1e-300, "-0." + "0" * 299 + "1"),
        (1e20, "1" + "0" * 20),
    ],
)  # fmt: skip
def test_no_number_has_an_exponent_and_none_is_told_as_nothing(value, text):
    answer = Answer("t", ModelRef("m", "1", "0" * 64, "MIT"), (Measurement(VOLUME, value, UCUM["mL"]),))
    message = parse_message(oru_r01(SrContent((answer,)), SUBJECT, at=AT))
    assert [s.text(5) for s in message.segments if s.text(2) == "NM" and s.name == "OBX"] == [text]


@given(st.floats(-1e14, 1e14, allow_subnormal=False))
def test_a_number_that_is_sent_is_the_number(value):
    answer = Answer("t", ModelRef("m", "1", "0" * 64, "MIT"), (Measurement(VOLUME, value, UCUM["mL"]),))
    message = parse_message(oru_r01(SrContent((answer,)), SUBJECT, at=AT))
    (sent,) = [float(s.text(5)) for s in message.segments if s.text(2) == "NM" and s.name == "OBX"]
    assert sent == pytest.approx(value, rel=1e-7, abs=0.0)


def test_results_are_read_back_by_our_reader(tmp_path, server):
    message = oru_r01(content(), SUBJECT, at=AT)
    assert message == oru_r01(content(), SUBJECT, at=AT)
    parsed = parse_message(message)
    observed = [s for s in parsed.segments if s.name == "OBX"]
    assert [s.text(1) for s in observed] == [str(n + 1) for n in range(len(observed))]
    numbers = [(s.text(3), s.text(3, 3), s.text(5), s.text(6), s.text(6, 3)) for s in observed if s.text(2) == "NM"]
    assert numbers == [("118565006", "SCT", "1234.5678", "mL", "UCUM"), ("118565006", "SCT", "0.000001", "mL", "UCUM")]
    assert [s.text(5) for s in observed if s.text(2) == "CWE"] == ["2667000"]
    texts = [s.text(5) for s in observed if s.text(2) == "TX"]
    assert "Impression: 5^2 & a|b\\c~d\nzweite Zeile: ü" in texts
    assert "Segment 2: Lung | right" in texts
    (refused,) = [s for s in observed if s.text(11) == "X"]
    assert "abstained" in refused.text(5)
    assert {s.text(11) for s in observed} == {"P", "X"}
    file = tmp_path / "result.hl7"
    file.write_bytes(message)
    read = read_records(file)
    volumes = [(r.number, r.unit) for r in read.records if r.code == "118565006"]
    assert sorted(volumes) == [(0.000001, "mL"), (1234.5678, "mL")]
    assert send(peer(server), message).taken
    assert kept(server)[0].kind == "ORU^R01"


def test_no_two_lines_go_by_one_name(tmp_path):
    hu = Code("112031", "DCM", "Attenuation Coefficient")
    how = [Code("373098007", "SCT", "Mean"), Code("386136009", "SCT", "Standard Deviation"), None]
    values = [(segment, derived) for segment in (None, 1, 2) for derived in how]
    found = tuple(Measurement(hu, float(n), UCUM["HU"], *of) for n, of in enumerate(values))
    segments = tuple(Segment(n, "Lung", LUNG, LUNG, side) for n, side in ((1, LEFT), (2, None)))
    answer = Answer("t", ModelRef("m", "1", "0" * 64, "MIT"), found, segments, notes=("One.", "Two."))
    message = oru_r01(SrContent((answer, answer), (Abstention("a", "no"), Abstention("b", "no"))), SUBJECT, at=AT,
                      mark="Not for diagnosis.")  # fmt: skip
    observed = [s for s in parse_message(message).segments if s.name == "OBX"]
    keys = [(s.text(3), s.text(4)) for s in observed]
    assert len(set(keys)) == len(keys), "a receiver that files by OBX-3 and OBX-4 would keep the last alone"
    assert all(len(s.text(4)) <= 20 for s in observed)
    numbers = [s for s in observed if s.text(2) == "NM"][: len(found)]
    assert [(s.text(5), s.text(3, 2), s.text(17), s.text(17, 3)) for s in numbers] == [
        (str(n), *((f"{hu.meaning}, {d.meaning}", d.value, "SCT") if d else (hu.meaning, "", "")))
        for n, (_, d) in enumerate(values)
    ]
    assert [s.text(4) for s in numbers] == ["1", "1.0.2", "1.0.3", "1.1", "1.1.2", "1.1.3", "1.2", "1.2.2", "1.2.3"]
    sides = [(s.text(4), s.text(5)) for s in observed if s.text(3) == "272741003"]
    assert sides == [("1.1", LEFT.value), ("2.1", LEFT.value)], "a side is told once of a segment"
    file = tmp_path / "result.hl7"
    file.write_bytes(message)
    named = {(r.display, r.number) for r in read_records(file).records if r.code == hu.value}
    assert (f"{hu.meaning}, Mean", 0.0) in named and (f"{hu.meaning}, Standard Deviation", 1.0) in named


def test_character_sets_and_what_cannot_be_sent():
    latin = oru_r01(content(), SUBJECT, at=AT, charset="8859/1", status="F")
    assert b"M\xfcller" in latin
    assert parse_message(latin).segments[1].text(5) == "Müller"
    with pytest.raises(ConfigError, match="time zone"):
        oru_r01(content(), SUBJECT, at=datetime(2026, 1, 1))
    with pytest.raises(DataError, match="identifier"):
        oru_r01(content(), Subject(), at=AT)
    assert "4711" not in repr(SUBJECT)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.binary(max_size=60).filter(lambda b: b"\x1c\r" not in b and not b.endswith(b"\x1c")), max_size=5),
    st.data(),
)
def test_frames_do_not_depend_on_pieces(messages, data):
    stream = b"\r\n".join(framed(m) for m in messages)
    frames, found, at = Frames(), [], 0
    while at < len(stream):
        step = data.draw(st.integers(1, len(stream) - at))
        found += frames.feed(stream[at : at + step])
        at += step
    assert found == messages
    assert not frames.unfinished


@settings(max_examples=100, deadline=None)
@given(st.lists(st.binary(max_size=300), max_size=30))
def test_frames_never_grow(pieces):
    frames = Frames(most=500)
    try:
        for piece in pieces:
            list(frames.feed(piece))
            assert len(frames._held) <= 502 + 300
    except Framing:
        pass


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=80))
def test_escapes_come_back(text):
    wanted = " ".join(text.split())
    field = parse_message(
        f"MSH|^~\\&|X|||||||||||||||UNICODE UTF-8\rNTE|1|L|x{escaped(wanted)}x\r".encode("utf-8", "replace")
    )
    got = field.segments[1].text(3)
    clean = "".join(" " if ord(c) < 32 or c in "\x7f\x85\u2028\u2029" else c for c in wanted)
    assert got == f"x{clean.encode('utf-8', 'replace').decode()}x"


def test_a_time_without_a_date_is_no_date_of_a_study():
    obr = parse_message(oru_r01(content(), replace(SUBJECT, study_date=""), at=AT)).segments[3]
    assert (obr.name, obr.text(4), obr.text(7)) == ("OBR", "18748-4", "")


def test_prefix_and_suffix_stand_where_each_standard_has_them():
    subject = replace(SUBJECT, name="Zebra^Anna^Maria^Dr^Jr")
    pid = parse_message(oru_r01(content(), subject, at=AT)).segments[1]
    assert [pid.text(5, n) for n in range(1, 6)] == ["Zebra", "Anna", "Maria", "Jr", "Dr"]


def test_a_defect_is_answered_and_its_words_are_not_told(server, monkeypatch):
    def fails(*_):
        raise RuntimeError("Müller^Max")

    monkeypatch.setattr("isocenter.clinic.hl7.orders._checked", fails)
    reply = send(peer(server), order())
    assert (reply.code, reply.condition, reply.again) == ("AR", "207", True)
    monkeypatch.undo()
    assert send(peer(server), order()).taken
    assert [told for told in server.told if "RuntimeError" in told]
    assert not any("Müller" in told for told in server.told)
