"""What a fuzz run of the node taught: input without end, without form, or that reaches a defect of ours."""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
import tracemalloc
import zlib
from pathlib import Path

import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian

from isocenter.clinic.dimse import Commitments, LocalEntity, Reception, place_of
from isocenter.clinic.dimse import holding as holding_module
from isocenter.clinic.dimse.acceptor import listen, serve
from isocenter.clinic.dimse.association import Counters, Peer
from isocenter.clinic.dimse.holding import Holding, Limits, Refused
from isocenter.clinic.dimse.messages import C_STORE, N_ACTION, Command
from isocenter.clinic.dimse.steps import decoded
from isocenter.data.images.instance import open_instance

from .test_acceptor import CT, _associate, _command, _encoded, _pdu, _send, _status, calling, instance, node

pytestmark = pytest.mark.enable_socket
COMMITMENT = "1.2.840.10008.1.20.1"
STORE = Command(C_STORE, 1, CT, "1.2.3.1.1.1", has_data=True)


def nested(depth: int) -> bytes:
    """Sequences of undefined length within each other, that end."""
    begin = struct.pack("<HH", 0x0040, 0x0275) + b"SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    return begin * depth + b"\xfe\xff\x0d\xe0\0\0\0\0\xfe\xff\xdd\xe0\0\0\0\0" * depth


def deflated(data: bytes) -> bytes:
    made = zlib.compressobj(wbits=-15)
    return made.compress(data) + made.flush()


def test_pieces_without_end_and_without_data_take_no_memory(tmp_path: Path) -> None:
    data = _encoded(instance(1))
    arrival = Holding(tmp_path, ("1.2.3.4", "TEST")).arrival(STORE, ExplicitVRLittleEndian, "A", "B")
    tracemalloc.start()
    for _ in range(100_000):
        arrival.write(memoryview(b""))
    for at in range(len(data)):
        arrival.write(memoryview(data)[at : at + 1])
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 100_000
    assert arrival.finish().sop_uid == "1.2.3.1.1.1"


def test_an_instance_that_is_too_long_is_refused_while_it_comes(tmp_path: Path) -> None:
    """A 2 GB instance is refused alike: nothing of it is kept once the limit is passed."""
    piece = struct.pack(">BxIIBB", 4, (1 << 14) + 6, (1 << 14) + 2, 1, 0) + bytes(1 << 14)
    with node(tmp_path, limits=Limits(instance_bytes=1 << 20)) as here, here.raw() as line:
        _associate(line)
        command = _command(instance(1))
        line.sendall(struct.pack(">BxIIBB", 4, len(command) + 6, len(command) + 2, 1, 3) + command)
        for _ in range(256):
            line.sendall(piece)
        assert not list((tmp_path / "spool").iterdir()), "dropped before its end"
        line.sendall(struct.pack(">BxIIBB", 4, 6, 2, 1, 2))
        assert _status(line) == 0xA700
        _send(line, command, _encoded(instance(1)))
        assert _status(line) == 0


def test_deflated_data_are_unpacked_only_so_far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    holding, data = Holding(tmp_path, ("1.2.3.4", "TEST")), _encoded(instance(1))

    def send(packed: bytes) -> int:
        arrival = holding.arrival(STORE, DeflatedExplicitVRLittleEndian, "A", "B")
        arrival.write(memoryview(packed))
        try:
            arrival.finish()
        except Refused as refused:
            return refused.status
        return 0

    assert send(deflated(data)[:-9]) == 0xC000
    assert send(b"\xff" * 50) == 0xC000
    monkeypatch.setattr(holding_module, "_MOST_UNPACKED", len(data) - 1)
    assert send(deflated(data)) == 0xC000
    monkeypatch.setattr(holding_module, "_MOST_UNPACKED", len(data))
    assert send(deflated(data)) == 0
    assert open_instance(place_of(tmp_path, "1.2.3.1", "1.2.3.1.1.1")).PixelData == instance(1).PixelData


def test_sequences_in_sequences_without_end_are_refused(tmp_path: Path) -> None:
    data = _encoded(instance(1))
    at = data.find(b"\x28\x00\x02\x00")
    with node(tmp_path) as here, here.raw() as line:
        _associate(line)
        _send(line, _command(instance(1)), data[:at] + nested(600) + data[at:])
        assert _status(line) == 0xC000
        _send(line, _command(instance(1)), data[:at] + nested(10) + data[at:])
        assert _status(line) == 0


def test_a_request_that_drips_is_let_go(tmp_path: Path) -> None:
    with node(tmp_path, silence_s=0.3) as here, here.raw() as line:
        line.sendall(b"\x01\x00\x00\x00\x00\x60")
        until = time.monotonic() + 5
        while not here.counted("cut") and time.monotonic() < until:
            line.sendall(b"\0")
            time.sleep(0.05)
        assert here.counted("cut") == 1
        assert here.counted("associations") == 0


@pytest.mark.parametrize("syntax", [b"1." * 30_000, b"\xff" * 60_000])
def test_a_refused_context_of_any_length_is_answered(tmp_path: Path, syntax: bytes) -> None:
    def item(kind: int, value: bytes) -> bytes:
        return struct.pack(">BxH", kind, len(value)) + value

    contexts = item(0x20, bytes((1, 0, 0, 0)) + item(0x30, CT.encode()) + item(0x40, syntax))
    contexts += item(0x20, bytes((3, 0, 0, 0)) + item(0x30, CT.encode()) + item(0x40, ExplicitVRLittleEndian.encode()))
    body = struct.pack(">HH16s16s32x", 1, 0, b"NODE".ljust(16), b"RAW".ljust(16)) + contexts
    with node(tmp_path) as here, here.raw() as line:
        line.sendall(struct.pack(">BxI", 1, len(body)) + body)
        kind, answer = _pdu(line)
        assert kind == 2
        assert b"\x21\0" + struct.pack(">H", 4 + 4 + 17) + bytes((1, 0, 4, 0)) in answer
        assert b"\x21\0" + struct.pack(">H", 4 + 4 + 19) + bytes((3, 0, 0, 0)) in answer


class Broken:
    """A service with a defect."""

    def handle(self, *_: object) -> None:
        raise RuntimeError("Muster^Max")


def test_a_defect_of_a_service_is_answered_and_its_words_are_not_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    contexts = ((COMMITMENT, ExplicitVRLittleEndian),)
    with (
        node(tmp_path, services=lambda: {N_ACTION: Broken()}) as here,
        calling(here.port, contexts=contexts) as line,
    ):
        given = Dataset()
        given.TransactionUID = "1.2.77"
        status, _ = line.send_n_action(given, 1, COMMITMENT, f"{COMMITMENT}.1")
        assert status.Status == 0x0110
        assert line.send_c_echo().Status == 0
        assert here.counted("defects", "RuntimeError") == 1
    assert "RuntimeError" in caplog.text
    assert "Muster" not in caplog.text


def test_a_defect_in_receiving_ends_the_association_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object, **__: object) -> None:
        raise RuntimeError("Muster^Max")

    with node(tmp_path) as here:
        with here.raw() as line, monkeypatch.context() as patch:
            _associate(line)
            patch.setattr(holding_module, "scan_head", fails)
            _send(line, _command(instance(1)), _encoded(instance(1)))
            assert _pdu(line)[0] == 7
        assert here.counted("defects") == 1
        assert not list((tmp_path / "spool").iterdir())
        with calling(here.port) as again:
            assert again.send_c_store(instance(1)).Status == 0


def asked() -> bytes:
    made, inner = Dataset(), Dataset()
    inner.ReferencedSOPClassUID, inner.ReferencedSOPInstanceUID = CT, "1.2.3"
    made.TransactionUID, made.ReferencedSOPSequence = "1.2.77", [inner]
    return _encoded(made)


@pytest.mark.parametrize(
    "data",
    [
        asked().replace(b"SQ\0\0", b"LO\0\0"), asked()[:30], asked() + nested(600), bytes(40), b"\xff" * 60,
        asked().replace(b"\x08\x00\x50\x11UI", b"\x08\x00\x50\x11FD"),
    ],
)  # fmt: skip
def test_a_commitment_that_can_not_be_read_is_a_failure(tmp_path: Path, data: bytes) -> None:
    command = Command(N_ACTION, 1, COMMITMENT, f"{COMMITMENT}.1", has_data=True, action=1)
    answer = Commitments(tmp_path / "c").handle(command, data, ExplicitVRLittleEndian, Peer("A", "B", "127.0.0.1"))
    assert answer.status in (0x0110, 0x0120)
    assert not (tmp_path / "c").exists()


def test_a_message_that_unpacks_without_end_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    from isocenter.clinic.dimse import steps

    assert decoded(deflated(asked()), DeflatedExplicitVRLittleEndian).TransactionUID == "1.2.77"
    monkeypatch.setattr(steps, "_MOST_UNPACKED", 10)
    assert decoded(deflated(asked()), DeflatedExplicitVRLittleEndian) is None


class NoFiles(socket.socket):
    """A socket whose process has no file left, once."""

    refused = 0

    def accept(self) -> tuple[socket.socket, object]:
        if not NoFiles.refused:
            NoFiles.refused += 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_no_file_that_is_left_ends_no_acceptor(tmp_path: Path) -> None:
    entity, stop = LocalEntity("NODE", port=0), threading.Event()
    made = NoFiles(fileno=listen(entity).detach())
    made.setblocking(False)
    reception = Reception((entity,), tmp_path, ("1.2.3.4", "TEST"))
    thread = threading.Thread(target=serve, args=(reception, [made], stop.is_set, Counters()))
    thread.start()
    try:
        with calling(made.getsockname()[1]) as line:
            assert line.send_c_echo().Status == 0
        assert NoFiles.refused == 1
    finally:
        stop.set()
        thread.join()
        made.close()


def test_of_a_flood_most_are_let_go(tmp_path: Path) -> None:
    with node(tmp_path, associations=1, silence_s=5.0) as here:
        lines = [socket.create_connection(("127.0.0.1", here.port), timeout=5) for _ in range(6)]
        here.wait("rejected", "far too many associations")
        assert lines[-1].recv(1) == b""
        for line in lines:
            line.close()
        until = time.monotonic() + 5
        while here.counted("looked at") < 1 and time.monotonic() < until:
            time.sleep(0.01)
        with calling(here.port) as line:
            assert line.send_c_echo().Status == 0
