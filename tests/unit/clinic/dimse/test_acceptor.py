"""Receiving: pynetdicom and raw bytes as callers, the disk as witness."""

from __future__ import annotations

import json
import os
import shutil
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pynetdicom
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEG2000Lossless

from isocenter.clinic.dimse import (
    Acceptors,
    Allowed,
    Limits,
    LocalEntity,
    Reception,
    TlsFiles,
    dataset_of,
    place_of,
    read_lines,
)
from isocenter.clinic.dimse.acceptor import listen, serve
from isocenter.clinic.dimse.association import Counters
from isocenter.clinic.dimse.holding import Recovered, recover
from isocenter.clinic.retrieve.dimse import DimseNode, was_rejected
from isocenter.clinic.worklist import ask_worklist
from isocenter.core.errors import ConfigError, TransportError

pytestmark = pytest.mark.enable_socket
CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"


def instance(number: int, study: int = 1, value: int = 0, syntax: str = ExplicitVRLittleEndian) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = CT
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{study}.1.{number}"
    ds.StudyInstanceUID, ds.SeriesInstanceUID = f"1.2.3.{study}", f"1.2.3.{study}.1"
    ds.PatientID, ds.PatientName, ds.Modality = f"P{study}", "Muster^Max", "CT"
    ds.Rows, ds.Columns, ds.BitsAllocated, ds.BitsStored, ds.HighBit = 4, 6, 16, 16, 15
    ds.PixelRepresentation, ds.SamplesPerPixel, ds.PhotometricInterpretation = 0, 1, "MONOCHROME2"
    ds.PixelData = (np.arange(24, dtype=np.uint16) + value).tobytes()
    return ds


class Node:
    """A node in this process, with what it saw."""

    def __init__(self, folder: Path, port: int, counters: Counters) -> None:
        self.folder, self.port, self.counters = folder, port, counters

    def lines(self) -> list[dict[str, object]]:
        return [entry for file in sorted((self.folder / "journal").iterdir()) for _, entry in read_lines(file)]

    def counted(self, *kind: str) -> int:
        return sum(count for key, count in self.counters.values.items() if key[: len(kind)] == kind)

    def wait(self, *kind: str) -> None:
        until = time.monotonic() + 5
        while not self.counted(*kind) and time.monotonic() < until:
            time.sleep(0.01)
        assert self.counted(*kind), self.counters.values

    @contextmanager
    def raw(self) -> Iterator[socket.socket]:
        with socket.create_connection(("127.0.0.1", self.port), timeout=5) as line:
            yield line


@contextmanager
def node(folder: Path, *, limits: Limits | None = None, services=None, **settings: object) -> Iterator[Node]:
    entity = LocalEntity("NODE", port=0, **settings)  # type: ignore[arg-type]
    made, counters, stop = listen(entity), Counters(), threading.Event()
    reception = Reception((entity,), folder, ("1.2.3.4", "TEST"), limits or Limits(), services)
    thread = threading.Thread(target=serve, args=(reception, [made], stop.is_set, counters))
    thread.start()
    try:
        yield Node(folder, made.getsockname()[1], counters)
    finally:
        stop.set()
        thread.join()
        made.close()


@contextmanager
def calling(port: int, title: str = "NODE", ours: str = "CALLER", contexts=((CT, ExplicitVRLittleEndian),), **more):
    ae = pynetdicom.AE(ae_title=ours)
    ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = 10
    ae.add_requested_context(VERIFICATION)
    for abstract, syntax in contexts:
        ae.add_requested_context(abstract, syntax)
    association = ae.associate("127.0.0.1", port, ae_title=title, **more)
    try:
        yield association
    finally:
        if association.is_established:
            association.release()
        left = association.dul.socket
        if left is not None and left.socket is not None:  # pynetdicom leaves it open where TLS fails late
            left.socket.close()


def test_what_is_sent_is_held_byte_for_byte_and_in_the_journal(tmp_path: Path) -> None:
    with node(tmp_path) as here, calling(here.port) as line:
        assert line.send_c_echo().Status == 0
        for number in range(3):
            assert line.send_c_store(instance(number)).Status == 0
    for number in range(3):
        place = place_of(tmp_path, "1.2.3.1", f"1.2.3.1.1.{number}")
        assert dataset_of(place) == _encoded(instance(number))
        held = dcmread(place)
        assert held.PixelData == instance(number).PixelData
        assert held.file_meta.TransferSyntaxUID == ExplicitVRLittleEndian
        assert held.file_meta.SourceApplicationEntityTitle == "CALLER"
        assert held.file_meta.ReceivingApplicationEntityTitle == "NODE"
    assert [(e["sop"], e["calling"], e["bytes"]) for e in here.lines()] == [
        (f"1.2.3.1.1.{n}", "CALLER", len(dataset_of(place_of(tmp_path, "1.2.3.1", f"1.2.3.1.1.{n}")))) for n in range(3)
    ]
    assert not list((tmp_path / "spool").iterdir())
    assert tmp_path.stat().st_mode & 0o077 == 0
    assert place_of(tmp_path, "1.2.3.1", "1.2.3.1.1.0").stat().st_mode & 0o077 == 0


def test_the_same_again_is_answered_alike_and_other_content_is_refused(tmp_path: Path) -> None:
    with node(tmp_path) as here, calling(here.port) as line:
        assert line.send_c_store(instance(1)).Status == 0
        assert line.send_c_store(instance(1)).Status == 0
        answer = line.send_c_store(instance(1, value=9))
        assert answer.Status == 0xC111
        assert "another object" in answer.ErrorComment
    first, again, conflict = here.lines()
    assert ("again" in first, again["again"], conflict["conflict"]) == (False, True, True)
    assert dataset_of(place_of(tmp_path, "1.2.3.1", "1.2.3.1.1.1")) == _encoded(instance(1))


def test_who_is_not_known_is_refused(tmp_path: Path) -> None:
    with node(tmp_path, allowed=(Allowed("FRIEND", ("127.0.0.0/8",)), Allowed("FAR", ("10.0.0.0/8",)))) as here:
        for title, ours, expected in (
            ("OTHER", "FRIEND", 7), ("NODE", "STRANGER", 3), ("NODE", "FAR", 3), ("NODE", "FRIEND", None),
        ):  # fmt: skip
            with calling(here.port, title, ours) as line:
                assert line.is_established == (expected is None)
                if expected is not None:
                    assert was_rejected(line)
                    assert (line.acceptor.primitive or line.dul.peek_next_pdu()).diagnostic == expected
        assert here.counted("rejected") == 3


def test_a_refusal_that_comes_at_once_is_not_taken_for_silence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = pynetdicom.transport.AssociationSocket.__init__

    def late(self: pynetdicom.transport.AssociationSocket, *args: object, **more: object) -> None:
        """Wake the thread that asks when the answer has come and the line is closed, as a busy machine does."""
        made(self, *args, **more)
        ready = self._ready.wait
        self._ready.wait = lambda *waited: ready(*waited) and time.sleep(0.3) is None

    monkeypatch.setattr(pynetdicom.transport.AssociationSocket, "__init__", late)
    with node(tmp_path, allowed=(Allowed("FRIEND", ("127.0.0.0/8",)),)) as here:
        with calling(here.port, ours="STRANGER") as line:
            assert not line.is_rejected, "pynetdicom tells it now: was_rejected has no reason any more"
            assert was_rejected(line)
        with pytest.raises(TransportError, match="refuses us"):
            ask_worklist(DimseNode("127.0.0.1", here.port, "NODE", "STRANGER"))
        with calling(here.port, ours="FRIEND") as line:
            assert not was_rejected(line)
            assert line.send_c_echo().Status == 0
    with socket.create_server(("127.0.0.1", 0)) as mute:
        hangs_up = threading.Thread(target=lambda: mute.accept()[0].close())
        hangs_up.start()
        with pytest.raises(TransportError, match="does not answer"):
            ask_worklist(DimseNode("127.0.0.1", mute.getsockname()[1], "NODE", "STRANGER"))
        hangs_up.join()


def test_what_is_not_taken_is_said_in_the_negotiation(tmp_path: Path) -> None:
    contexts = ((CT, "1.2.840.10008.1.2.4.142"), ("1.2.3.4.5", ImplicitVRLittleEndian), (CT, JPEG2000Lossless))
    with node(tmp_path) as here, calling(here.port, contexts=contexts) as line:
        assert sorted(c.abstract_syntax for c in line.rejected_contexts) == ["1.2.3.4.5", CT]
        assert {c.result for c in line.rejected_contexts} == {3, 4}
        assert {c.transfer_syntax[0] for c in line.accepted_contexts if c.abstract_syntax == CT} == {JPEG2000Lossless}


def test_a_message_in_pieces_and_a_long_instance(tmp_path: Path) -> None:
    ds = instance(1)
    ds.Rows, ds.Columns = 2000, 1500
    ds.PixelData = np.arange(3_000_000, dtype=np.uint32).astype(np.uint16).tobytes()
    with node(tmp_path, max_length=4096) as here, calling(here.port) as line:
        assert line.send_c_store(ds).Status == 0
    assert dataset_of(place_of(tmp_path, "1.2.3.1", "1.2.3.1.1.1")) == _encoded(ds)


def test_no_room_is_refused_and_nothing_is_left(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    for limits in (Limits(quota_bytes=100), Limits(reserve_bytes=free * 2), Limits(instance_bytes=50)):
        with node(tmp_path, limits=limits) as here, calling(here.port) as line:
            assert line.send_c_store(instance(1)).Status == 0xA700
            assert line.send_c_echo().Status == 0
        assert here.counted("refused", "A700") == 1
        assert not here.lines()
        assert not list((tmp_path / "spool").iterdir())
        assert not list((tmp_path / "held").rglob("*.dcm"))


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (lambda ds: setattr(ds, "SOPInstanceUID", "1.2.9"), 0xA900),
        (lambda ds: delattr(ds, "StudyInstanceUID"), 0xC000),
        (lambda ds: setattr(ds, "SeriesInstanceUID", ""), 0xC000),
    ],
)
def test_what_is_not_what_was_announced_is_refused(tmp_path: Path, change, status: int) -> None:
    command, data = _command(instance(1)), instance(1)
    change(data)
    with node(tmp_path) as here, here.raw() as line:
        _associate(line)
        _send(line, command, _encoded(data))
        assert _status(line) == status
        _send(line, command, _encoded(instance(1)))  # and the association goes on
        assert _status(line) == 0
    assert len(here.lines()) == 1


def test_half_an_association_leaves_nothing(tmp_path: Path) -> None:
    with node(tmp_path) as here:
        with here.raw() as line:
            _associate(line)
            whole = _pdus(_command(instance(1)), _encoded(instance(1)))
            line.sendall(whole[:-20])
        here.wait("unfinished")
        assert not here.lines()
        assert not list((tmp_path / "spool").iterdir())


def test_a_silent_caller_is_let_go(tmp_path: Path) -> None:
    with node(tmp_path, silence_s=0.2) as here, here.raw() as line:
        here.wait("cut", "silent for too long")
        assert line.recv(10) == b""


@pytest.mark.parametrize(
    "junk",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x01\x00\xff\xff\xff\xff",
        b"\x04\x00\x00\x00\x00\x06" + bytes(6),
        b"\x01\x00\x00\x00\x00\x04" + bytes(4),
        struct.pack(">BxI", 1, 72) + b"\0\1" + bytes(66) + b"\x20\0\xff\xff",
        struct.pack(">BxI", 1, 80) + b"\0\1" + bytes(66) + b"\x20\0\0\x08\x02\0\0\0\x30\0\0\0",
    ],
)
def test_what_is_no_request_is_aborted(tmp_path: Path, junk: bytes) -> None:
    with node(tmp_path) as here:
        with here.raw() as line:
            line.sendall(junk)
            assert line.recv(100)[:1] in (b"\x07", b"")
        here.wait("aborted")
        with calling(here.port) as again:
            assert again.send_c_echo().Status == 0


@pytest.mark.parametrize(
    "junk",
    [
        b"",  # a data unit without anything in it
        struct.pack(">IBB", 2, 3, 9) + b"",  # a control byte without data: an empty piece of a context not accepted
        struct.pack(">IBB", 900, 1, 3) + b"abc",  # longer than what holds it
        struct.pack(">IBB", 5, 1, 3) + b"abc",  # a command set that is cut off
        struct.pack(">IBB", 5, 1, 2) + b"abc",  # a data set without a command
        struct.pack(">IBB", 10, 1, 3) + b"\x08\x00\x00\x00\x00\x00\x00\x00",  # not of group 0000
    ],
)
def test_messages_that_do_not_add_up_are_aborted(tmp_path: Path, junk: bytes) -> None:
    with node(tmp_path) as here:
        with here.raw() as line:
            _associate(line)
            line.sendall(struct.pack(">BxI", 4, len(junk)) + junk)
            assert line.recv(100)[:1] == b"\x07"
        here.wait("aborted")


def test_a_line_of_the_journal_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    file = tmp_path / "j.jsonl"
    file.write_bytes(b'{"sop":"1"}\n{"sop":"2"\n{"sop":"3"}\n{"sop":"4"')
    assert [(end, entry["sop"]) for end, entry in read_lines(file)] == [(12, "1"), (35, "3")]
    assert [entry["sop"] for _, entry in read_lines(file, 12)] == ["3"]


def test_what_a_crash_left_is_put_in_order(tmp_path: Path) -> None:
    with node(tmp_path) as here, calling(here.port) as line:
        for number in range(4):
            assert line.send_c_store(instance(number)).Status == 0
    places = [place_of(tmp_path, "1.2.3.1", f"1.2.3.1.1.{n}") for n in range(4)]
    lines = here.lines()
    (journal,) = (tmp_path / "journal").iterdir()
    # Of 0 and 1 the lines are lost; 1 is cut off, 2 has lost its end although a line speaks of it; one is half in.
    journal.write_text("".join(f"{json.dumps(line)}\n" for line in lines[2:]))
    places[1].write_bytes(places[1].read_bytes()[:-7])
    places[2].write_bytes(places[2].read_bytes()[:60])
    (tmp_path / "spool" / "half").write_bytes(b"half")
    assert recover(tmp_path) == Recovered(unfinished=1, broken=2, noted=1)
    assert [place.exists() for place in places] == [True, False, False, True]
    (found,) = (line for line in here.lines() if line.get("recovered"))
    for key in ("study", "series", "sop", "class", "syntax", "modality", "sha256", "bytes", "calling", "called"):
        assert found[key] == lines[0][key]
    assert recover(tmp_path) == Recovered(0, 0, 0)
    with node(tmp_path) as here, calling(here.port) as line:
        assert line.send_c_store(instance(1)).Status == 0


def test_processes_share_a_port_and_one_that_ends_is_started_again(tmp_path: Path) -> None:
    reception = Reception((LocalEntity("NODE", port=0),), tmp_path, ("1.2.3.4", "TEST"))
    with Acceptors(reception, 2) as acceptors:
        with calling(acceptors.ports["NODE"]) as line:
            assert line.send_c_store(instance(1)).Status == 0
        os.kill(acceptors.pids[0], 9)
        until = time.monotonic() + 10
        while not acceptors.watch() and time.monotonic() < until:
            time.sleep(0.05)
        with calling(acceptors.ports["NODE"]) as line:
            assert line.send_c_store(instance(2)).Status == 0
    assert len(list((tmp_path / "held").rglob("*.dcm"))) == 2
    with pytest.raises(TransportError, match="can't listen on port"), socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listen(LocalEntity("NODE", port=taken.getsockname()[1]))


def test_tls_lets_in_whom_our_authority_signed(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    certificates(tmp_path)
    files = TlsFiles(tmp_path / "node.pem", tmp_path / "node.key", tmp_path / "ca.pem")
    with node(tmp_path / "store", tls=files) as here:
        context = ssl.create_default_context(cafile=tmp_path / "ca.pem")
        context.check_hostname = False
        with calling(here.port, tls_args=(context, "localhost")) as line:
            # A caller without a certificate: TLS 1.3 tells it only after the handshake.
            assert not line.is_established
        context.load_cert_chain(tmp_path / "caller.pem", tmp_path / "caller.key")
        with calling(here.port, tls_args=(context, "localhost")) as line:
            assert line.send_c_store(instance(1)).Status == 0
        with calling(here.port) as line:
            assert not line.is_established
        here.wait("rejected", "TLS")
    with pytest.raises(ConfigError, match="do they fit"):
        TlsFiles(tmp_path / "node.pem", tmp_path / "caller.key").context()


def certificates(folder: Path) -> None:
    def run(*words: str) -> None:
        subprocess.run(["openssl", *words], check=True, capture_output=True, cwd=folder)

    run("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", "ca.key", "-out", "ca.pem", "-subj", "/CN=ca")
    for name in ("node", "caller"):
        run(
            "req",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-keyout",
            f"{name}.key",
            "-out",
            f"{name}.csr",
            "-subj",
            f"/CN={name}",
        )
        run("x509", "-req", "-in", f"{name}.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-out",
            f"{name}.pem")  # fmt: skip


def _encoded(ds: Dataset) -> bytes:
    return pynetdicom.dsutils.encode(ds, is_implicit_vr=False, is_little_endian=True) or b""


def _command(ds: Dataset) -> bytes:
    command = Dataset()
    command.AffectedSOPClassUID, command.CommandField, command.MessageID = ds.SOPClassUID, 1, 7
    command.Priority, command.CommandDataSetType, command.AffectedSOPInstanceUID = 0, 1, ds.SOPInstanceUID
    body = pynetdicom.dsutils.encode(command, is_implicit_vr=True, is_little_endian=True) or b""
    return struct.pack("<HHII", 0, 0, 4, len(body)) + body


def _pdus(command: bytes, data: bytes) -> bytes:
    return b"".join(
        struct.pack(">BxIIBB", 4, len(piece) + 6, len(piece) + 2, 1, control) + piece
        for piece, control in ((command, 3), (data, 2))
    )


def _send(line: socket.socket, command: bytes, data: bytes) -> None:
    line.sendall(_pdus(command, data))


def _associate(line: socket.socket) -> None:
    def item(kind: int, value: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(value)) + value

    context = bytes((1, 0, 0, 0)) + item(0x30, CT.encode()) + item(0x40, ExplicitVRLittleEndian.encode())
    body = struct.pack(">HH16s16s32x", 1, 0, b"NODE".ljust(16), b"RAW".ljust(16))
    body += (
        item(0x10, b"1.2.840.10008.3.1.1.1") + item(0x20, context) + item(0x50, item(0x51, struct.pack(">I", 16384)))
    )
    line.sendall(struct.pack(">BxI", 1, len(body)) + body)
    assert _pdu(line)[0] == 2


def _pdu(line: socket.socket) -> tuple[int, bytes]:
    head = line.recv(6, socket.MSG_WAITALL)
    kind, length = struct.unpack(">BxI", head)
    return kind, line.recv(length, socket.MSG_WAITALL)


def _status(line: socket.socket) -> int:
    kind, body = _pdu(line)
    assert kind == 4
    at = body.index(b"\x00\x00\x00\x09\x02\x00\x00\x00") + 8
    return int.from_bytes(body[at : at + 2], "little")
