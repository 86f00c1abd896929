"""What is turned away is told: each bad caller leaves an event in the ledger and a count, and holds nobody up."""

from __future__ import annotations

import json
import os
import struct
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pydicom.uid import ExplicitVRLittleEndian, JPEG2000Lossless

from isocenter.clinic.dimse import Allowed
from isocenter.clinic.dimse.clock import minutes_from_now
from isocenter.clinic.dimse.holding import QUEUE_FULL, Limits
from isocenter.clinic.dimse.messages import command_bytes
from isocenter.clinic.dimse.notes import NOTES, Note, Notes, read_pulse
from isocenter.clinic.observe import Needs, metrics_text
from isocenter.clinic.observe.overview import TURNED_AWAY
from isocenter.clinic.retrieve.dimse import was_rejected
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.clinic.workflow.noted import forget_events, take_in_notes
from isocenter.clinic.workflow.turning import OwnClock, touch
from postgres_peer import Databases
from unit.clinic.dimse.test_acceptor import CT, calling, instance, node

pytestmark = pytest.mark.enable_socket


def taken_in(store: Path) -> tuple[Ledger, dict[str, list[str]]]:
    """Take in what was noted; return the ledger, and details of events by kind."""
    ledger = open_ledger(f"sqlite:///{store / 'ledger.db'}")
    take_in_notes(ledger, store)
    found: dict[str, list[str]] = {}
    for one in ledger.events():
        assert one["study"] == ""
        found.setdefault(one["kind"], []).append(one["detail"])
    ledger.engine.dispose()
    return ledger, found


def test_every_kind_of_bad_caller_is_seen(tmp_path: Path) -> None:
    allowed = (Allowed("FRIEND", ("127.0.0.0/8",)),)
    with node(tmp_path, allowed=allowed, storage=(CT,), transfer_syntaxes=(ExplicitVRLittleEndian,)) as here:
        with calling(here.port, ours="STRANGER") as line:
            assert was_rejected(line)
        with calling(here.port, title="ELSEWHERE", ours="FRIEND") as line:
            assert was_rejected(line)
        contexts = ((CT, JPEG2000Lossless), ("1.2.840.10008.5.1.4.1.1.4", ExplicitVRLittleEndian))
        with calling(here.port, ours="FRIEND", contexts=contexts) as line:
            assert line.send_c_echo().Status == 0
        with calling(here.port, ours="FRIEND") as line:
            ahead = instance(1)
            made = datetime.now(UTC) + timedelta(hours=2)
            ahead.InstanceCreationDate, ahead.InstanceCreationTime = made.strftime("%Y%m%d"), made.strftime("%H%M%S")
            ahead.TimezoneOffsetFromUTC = "+0000"
            assert line.send_c_store(ahead).Status == 0
            touch(tmp_path / QUEUE_FULL)
            time.sleep(1.1)  # room is looked at once a second
            assert line.send_c_store(instance(2)).Status == 0xA700
            (tmp_path / QUEUE_FULL).unlink()
            assert line.send_c_store(instance(2)).Status == 0
            line.abort()
        with here.raw() as raw:
            raw.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert raw.recv(100)[:1] in (b"\x07", b"")
        with here.raw() as raw:
            raw.sendall(struct.pack(">BxI", 1, 500) + b"half")
        with here.raw():
            pass  # a monitor that looks whether the port is open
        here.wait("looked at")
        here.wait("cut")
        pulse = read_pulse(tmp_path, os.getpid())
        assert pulse is None or pulse.at <= time.time()
    ledger, found = taken_in(tmp_path)
    assert found["association refused"][::-1] == [
        "STRANGER called NODE from 127.0.0.1: this caller is not known",
        "FRIEND called ELSEWHERE from 127.0.0.1: another title was called",
    ]
    assert sorted(found["syntax refused"]) == [
        "FRIEND called NODE from 127.0.0.1: no such service or object is taken; 1.2.840.10008.5.1.4.1.1.4",
        "FRIEND called NODE from 127.0.0.1: none of its transfer syntaxes is taken; 1.2.840.10008.5.1.4.1.1.2",
    ]
    assert found["clock"] == [
        "FRIEND called NODE from 127.0.0.1: an instance was made 120 minutes after now; a clock or a time zone is wrong"
    ]
    assert found["instance refused"] == [
        "FRIEND called NODE from 127.0.0.1: A700; too many studies wait; send again later"
    ]
    broken = " ".join(found["association broken"])
    assert "aborted by the caller" in broken and "aborted by us" in broken and "cut off" in broken
    assert set(found) - {"clock"} <= set(TURNED_AWAY)
    assert ledger.tally()["noted", "association refused", "NODE", "this caller is not known"] == 1
    assert ledger.tally()["noted", "association", "NODE"] == 2
    text = metrics_text(tmp_path, ledger, Needs(), ())
    assert 'isocenter_instances_refused_total{called="NODE",status="A700"} 1' in text
    assert "STRANGER" not in text and "127.0.0.1" not in text, "who calls is no label: there may be any number"


def test_half_an_instance_is_seen(tmp_path: Path) -> None:
    with node(tmp_path, silence_s=0.3) as here, calling(here.port) as line:
        raw = line.dul.socket.socket
        values = {0x0002: CT.encode(), 0x0100: 1, 0x0110: 1, 0x0700: 0, 0x0800: 1, 0x1000: b"1.2.3"}
        body = command_bytes(values)
        context = next(c.context_id for c in line.accepted_contexts if c.abstract_syntax == CT)
        piece = struct.pack(">IBB", len(body) + 2, context, 3) + body
        raw.sendall(struct.pack(">BxI", 4, len(piece)) + piece)
        half = struct.pack(">IBB", 12, context, 0) + b"0123456789"
        raw.sendall(struct.pack(">BxI", 4, len(half)) + half)
        here.wait("unfinished")
    _, found = taken_in(tmp_path)
    assert found["half an instance"][0].startswith("CALLER called NODE from 127.0.0.1: what had come of it was dropped")
    assert "silence" in found["association broken"][0]


def test_too_many_associations_are_seen(tmp_path: Path) -> None:
    with node(tmp_path, associations=0) as here, calling(here.port) as line:
        assert was_rejected(line)
    _, found = taken_in(tmp_path)
    assert found["association refused"] == ["NODE from 127.0.0.1: too many associations"]


def test_nobody_waits_for_a_note_and_a_flood_fills_no_disk(tmp_path: Path) -> None:
    clock = [0.0]
    notes = Notes(tmp_path, clock=lambda: clock[0])
    for number in range(1000):
        notes.tell(Note("association refused", "NODE", "this caller is not known", f"CALLER{number}\x1b[31m\n"))
    assert notes.flush() == 101, "a hundred different ones, and one for the rest"
    for _ in range(50):
        notes.tell(Note("association refused", "NODE", "this caller is not known", "CALLER1\x1b[31m\n"))
    assert notes.flush() == 0, "what repeats waits for ten seconds"
    clock[0] = 10.5
    assert notes.flush() == 1
    notes.close()
    (file,) = (tmp_path / NOTES).glob("*.jsonl")
    assert file.stat().st_mode & 0o777 == 0o600
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert sum(line["count"] for line in lines) == 1050
    assert all(line.get("calling", "").isprintable() for line in lines)
    ledger, found = taken_in(tmp_path)
    assert ledger.tally()["noted", "association refused", "NODE", "this caller is not known"] == 1050
    assert len(found["association refused"]) == 102
    assert any("900 times" in detail and "not listed" in detail for detail in found["association refused"])


def test_notes_are_taken_in_once_and_their_files_go(databases: Databases, tmp_path: Path) -> None:
    folder = tmp_path / NOTES
    folder.mkdir()
    dead = folder / "00000000000000000001-999999999.jsonl"
    told = {"kind": "process ended", "entity": "workflow", "count": 2, "at": "2026-01-02T03:04:05+00:00"}
    dead.write_text(json.dumps(told) + "\n" + '{"kind": "cut o')
    ledger = open_ledger(databases.url(tmp_path))
    assert [take_in_notes(ledger, tmp_path) for _ in range(3)] == [1, 0, 0]
    assert dead.exists(), "half a line may still become a whole one"
    dead.write_text(json.dumps(told) + "\n")
    assert take_in_notes(ledger, tmp_path) == 0
    assert not dead.exists()
    assert ledger.tally()["noted", "process ended", "workflow"] == 2
    assert len(ledger.events()) == 1
    assert forget_events(ledger, time.time()) == 1 and not ledger.events()
    ledger.engine.dispose()


def test_a_full_disk_loses_no_note(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    (tmp_path / NOTES).write_text("a file where the folder should be")
    notes.tell(Note("node started"))
    assert notes.flush() == 0
    (tmp_path / NOTES).unlink()
    assert notes.flush(all_of_it=True) == 1
    notes.close()


def test_telling_is_safe_for_threads(tmp_path: Path) -> None:
    notes = Notes(tmp_path)
    notes.start()
    threads = [
        threading.Thread(target=lambda: [notes.tell(Note("association", "NODE")) for _ in range(500)]) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    notes.close()
    ledger, found = taken_in(tmp_path)
    assert ledger.tally()["noted", "association", "NODE"] == 2000
    assert not found, "an association that went well is counted, and is no event"


def test_clocks() -> None:
    now = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    assert minutes_from_now("20260301", "1331", "+0100", now=now) == 30
    assert minutes_from_now("20260301", "120000.000000", "+0000", now=now) == 0
    assert minutes_from_now("20260301", "0200", "-0500", now=now) == -300
    for date, at in (("", ""), ("20261399", "1200"), ("20260301", "9999"), ("2026", "12"), ("10000101", "0000")):
        assert isinstance(minutes_from_now(date, at, "+9999", now=now), int)
    wall, steady = [100.0], [5.0]
    clock = OwnClock(lambda: wall[0], lambda: steady[0])
    wall[0], steady[0] = 110.0, 15.0
    assert clock.set_by() == 0
    wall[0] += 3600
    assert clock.set_by() == 3600 and clock.set_by() == 0


def test_a_limit_of_room_is_seen(tmp_path: Path) -> None:
    with node(tmp_path, limits=Limits(quota_bytes=10)) as here, calling(here.port) as line:
        assert line.send_c_store(instance(1)).Status == 0xA700
    _, found = taken_in(tmp_path)
    assert found["instance refused"] == ["CALLER called NODE from 127.0.0.1: A700; no room; send again later"]
