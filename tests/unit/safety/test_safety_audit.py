"""The audit record: a line that was altered, removed, added, moved or cut off is found; no patient's value gets in."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import isocenter
from isocenter import cli
from isocenter.core import Geometry, Mask, Segment
from isocenter.core.errors import DataError, GeometryError, OutputError
from isocenter.safety.audit import (
    START,
    AuditedAnswer,
    AuditedChange,
    AuditEvent,
    append_event,
    check_record,
    read_lines,
    verify,
)
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import PHANTOM_PATIENT_ID, write_ct_series

WHO, SHA = "ab" * 16, "cd" * 32


def event(number: int = 0) -> AuditEvent:
    answer = AuditedAnswer("lungs-cxr", SHA, "answered", SHA, (SHA,))
    return AuditEvent("read", WHO, "answered", (SHA,), (answer,), (), (SHA,), "0.1", float(number))


@pytest.fixture
def record(tmp_path: Path) -> Path:
    for number in range(1, 7):
        append_event(tmp_path / "audit.jsonl", event(number))
    return tmp_path / "audit.jsonl"


def test_a_whole_record_is_whole_and_says_what_was_written(record: Path) -> None:
    chain = verify(record)
    assert chain.lines == 6 and verify(record, head=chain.head) == chain == check_record(record)
    assert [e for _, _, _, e in read_lines(record)] == [event(n) for n in range(1, 7)]
    assert verify(record, head=START).lines == 6
    lines = record.read_bytes().splitlines()
    assert json.loads(lines[0])["before"] == START and json.loads(lines[-1])["hash"] == chain.head


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_byte_that_is_altered_is_found_at_its_line(record: Path, data: st.DataObject) -> None:
    whole = record.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda b: b != whole[place]))
    other = record.with_name("altered.jsonl")
    other.write_bytes(whole[:place] + bytes([byte]) + whole[place + 1 :])
    number = whole[:place].count(b"\n") + 1
    # A line end that is altered joins two lines; one that is put in halves a line: both are told where they lie.
    with pytest.raises(DataError, match=rf"line {number} "):
        verify(other)


def test_lines_that_were_removed_moved_or_added_are_found_with_the_number(record: Path) -> None:
    lines = record.read_bytes().splitlines(keepends=True)
    for changed, number in (
        (lines[1:], 1),
        (lines[:2] + lines[3:], 3),
        ([*lines[:2], lines[3], lines[2], *lines[4:]], 3),
        ([*lines[:4], lines[3], *lines[4:]], 5),
        ([*lines[:4], lines[0], *lines[4:]], 5),
    ):
        record.write_bytes(b"".join(changed))
        with pytest.raises(DataError, match=rf"line {number} does not follow"):
            verify(record)


def test_lines_that_were_cut_off_are_found_with_the_head(record: Path) -> None:
    head = verify(record).head
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(b"".join(lines[:4]))
    assert verify(record).lines == 4, "the chain alone can't tell"
    with pytest.raises(DataError, match=r"whole to its line 4, but does not hold the head.*cut off"):
        verify(record, head=head)
    with pytest.raises(DataError, match="64 hexadecimal digits"):
        verify(record, head="abc")
    record.write_bytes(b"".join(lines[:4]) + lines[4][:40])
    with pytest.raises(DataError, match="line 5 is cut off"):
        verify(record)
    with pytest.raises(DataError, match="last line of the audit record is cut off"):
        append_event(record, event())


def test_a_record_written_anew_is_found_with_the_head(record: Path) -> None:
    head = verify(record).head
    record.unlink()
    for number in range(1, 7):
        append_event(record, event(10 + number))
    with pytest.raises(DataError, match="written anew"):
        verify(record, head=head)


def _many(path: Path, first: int) -> None:
    for number in range(first, first + 15):
        append_event(path, event(number + 1))


def test_several_processes_share_a_record(tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_many, args=(path, 100 * n)) for n in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert verify(path).lines == 60
    assert sorted(e.seconds for _, _, _, e in read_lines(path)) == sorted(
        float(100 * n + i + 1) for n in range(4) for i in range(15)
    )


@pytest.mark.parametrize(
    "values",
    [
        {"patient": "Doe^Jane"},
        {"verb": "read Doe^Jane"},
        {"who": "jane"},
        {"inputs": ["Doe-1970.dcm"]},
        {"inputs": "Doe"},
        {"answers": [{"task": "lungs-cxr", "image": SHA, "outcome": "answered", "name": "Doe"}]},
        {"answers": [{"task": "Jane Doe", "image": SHA, "outcome": "answered"}]},
        {"answers": [{"task": "lungs-cxr", "image": SHA, "outcome": "Doe"}]},
        {"answers": ["Doe"]},
        {"changes": [{"segment": 1, "added": 1, "removed": "Doe", "before": SHA, "after": SHA}]},
        {"changes": [{"segment": 1, "added": -1, "removed": 0, "before": SHA, "after": SHA}]},
        {"changes": [{"segment": 1}]},
        {"outcome": "Doe"},
        {"isocenter": "Doe, Jane"},
        {"seconds": float("nan")},
        {"seconds": True},
    ],
)
def test_what_could_be_a_patients_value_is_refused_and_not_repeated(values: dict) -> None:
    good = {"verb": "read", "who": WHO, "outcome": "answered"}
    assert AuditEvent.from_fields(good) == AuditEvent("read", WHO, "answered")
    with pytest.raises(DataError, match="the audit record takes") as refused:
        AuditEvent.from_fields({**good, **values})
    assert "Doe" not in str(refused.value) and "jane" not in str(refused.value).lower()


def test_a_line_with_a_key_of_its_own_is_refused_though_its_hash_is_right(record: Path) -> None:
    """Whoever knows the rule can make a true line; it still can't hold what a record does not take."""
    import hashlib

    from isocenter.safety.chain import canonical as _canonical

    head = verify(record).head
    content = {**json.loads(record.read_bytes().splitlines()[-1]), "line": 7, "before": head, "note": "Doe^Jane"}
    del content["hash"]
    own = hashlib.sha256(head.encode() + _canonical(content)).hexdigest()
    with record.open("ab") as stream:
        stream.write(_canonical({**content, "hash": own}) + b"\n")
    with pytest.raises(DataError, match="line 7 holds what a record does not take") as refused:
        verify(record)
    assert "Doe" not in str(refused.value)


def test_a_record_that_cannot_be_written_or_read(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="cannot write the audit record"):
        append_event(tmp_path / "missing" / "audit.jsonl", event())
    with pytest.raises(DataError, match="no audit record can be read"):
        verify(tmp_path / "missing.jsonl")
    (tmp_path / "other.jsonl").write_text('{"a": 1}\n')
    with pytest.raises(DataError, match="line 1 is not what was written"):
        verify(tmp_path / "other.jsonl")
    with pytest.raises(DataError, match="the last line is not what was written"):
        append_event(tmp_path / "other.jsonl", event())


def test_a_full_disk_leaves_no_half_line(record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = record.read_bytes()

    def full(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OutputError, match="No space left"):
        append_event(record, event())
    assert record.read_bytes() == whole


def test_read_writes_a_line_and_the_commands_show_and_check_it(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "study").mkdir()
    write_ct_series(tmp_path / "study", phantom())
    record = tmp_path / "audit.jsonl"
    arguments = ["read", str(tmp_path / "study"), "--task", "lungs-cxr", "--out"]
    assert cli.run([*arguments, str(tmp_path / "one"), "--audit", str(record)]) == cli.Exit.NOTHING_ANSWERED
    monkeypatch.setenv("ISOCENTER_AUDIT", str(record))
    assert cli.run([*arguments, str(tmp_path / "two")]) == cli.Exit.NOTHING_ANSWERED
    assert cli.run(["read", str(tmp_path / "absent"), "--out", str(tmp_path / "three")]) == cli.Exit.INPUT
    monkeypatch.delenv("ISOCENTER_AUDIT")
    capsys.readouterr()
    assert cli.run(["audit", "verify", str(record)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("3 lines, each as it was written")
    head = said.split()[-1]
    assert cli.run(["audit", "show", str(record)]) == 0
    shown = capsys.readouterr().out
    assert "read: abstained" in shown and "lungs-cxr: abstained, image " in shown and "read: failed" in shown
    first = isocenter.audit_show(record).lines[0].said
    result = isocenter.read_result(tmp_path / "one")
    assert set(first["inputs"]) == {f.sha256 for f in result.provenance.input_files} and len(first["inputs"]) > 1
    assert first["answers"][0]["image"] == result.images[0].sha256
    text = record.read_text()
    assert PHANTOM_PATIENT_ID not in text and str(tmp_path) not in text and "study" not in text
    import getpass

    assert getpass.getuser() not in {v for line in text.splitlines() for v in json.loads(line).values() if str(v) == v}
    lines = record.read_bytes().splitlines(keepends=True)
    record.write_bytes(lines[0].replace(b"abstained", b"answered", 1) + lines[1] + lines[2])
    assert cli.run(["audit", "verify", str(record)]) == cli.Exit.INPUT
    assert "line 1 is not what was written" in capsys.readouterr().err
    record.write_bytes(lines[0])
    assert cli.run(["audit", "verify", str(record), "--head", head]) == cli.Exit.INPUT
    assert "cut off" in capsys.readouterr().err
    assert cli.run(["audit", "verify", str(record), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["lines"] == 1


def test_no_result_stands_without_its_line(tmp_path: Path) -> None:
    (tmp_path / "study").mkdir()
    write_ct_series(tmp_path / "study", phantom())
    with pytest.raises(OutputError, match="audit record"):
        isocenter.read(tmp_path / "study", tmp_path / "out", audit=tmp_path / "missing" / "audit.jsonl")
    assert not (tmp_path / "out").exists()


def test_what_a_person_changed(tmp_path: Path) -> None:
    geometry = Geometry.axial((2, 3, 5), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10, 20, 30))
    offered = np.zeros(geometry.shape, np.uint16)
    offered[0, 1, 1:4] = 1
    offered[1, 0, :2] = 2
    kept = offered.copy()
    kept[0, 1, 3], kept[0, 2, 0:2], kept[1, 0] = 0, 1, 0
    segments = (Segment(1, "One"), Segment(2, "Two"))
    masks = Mask(offered, geometry, segments), Mask(kept, geometry, segments[:1])
    record = tmp_path / "audit.jsonl"
    isocenter.audit_change(record, "lungs-cxr", SHA, *masks)
    isocenter.audit_change(record, "A Task/1", SHA, masks[0], masks[0])
    first, second = (e for _, _, _, e in read_lines(record))
    assert [(c.segment, c.added, c.removed) for c in first.changes] == [(1, 2, 1), (2, 0, 2)]
    assert (first.outcome, second.outcome) == ("changed", "accepted") and not second.changes
    assert first.changes[0].before != first.changes[0].after and second.answers[0].task.startswith("task-")
    other = Mask(np.zeros((1, 1, 1), np.uint16), Geometry((1, 1, 1)), segments)
    with pytest.raises(GeometryError, match="another grid"):
        isocenter.audit_change(record, "t", SHA, masks[0], other)
    with pytest.raises(DataError, match="takes a sha256"):
        AuditedChange(1, 0, 0, "x", SHA)
