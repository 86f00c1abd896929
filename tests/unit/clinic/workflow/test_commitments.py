"""Reports of storage commitment: one that can't be made or sent holds up none behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from pydicom.dataset import Dataset
from sqlalchemy import delete

from isocenter.clinic.dimse.holding import Refused, place_of
from isocenter.clinic.retrieve import DimseNode
from isocenter.clinic.workflow import Ledger, commitments, open_ledger
from isocenter.clinic.workflow.commitments import CommitmentReports
from isocenter.clinic.workflow.tables import REFUSALS
from isocenter.core.errors import TransportError
from postgres_peer import Databases
from unit.clinic.workflow.test_engine import CT, dataset, hold

PEERS = {("NODE", title): DimseNode("127.0.0.1", 104, title, "NODE") for title in ("GOOD", "AWAY", "ODD")}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    hold(tmp_path, dataset("1.2.1", 1))
    made = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    made.take_in(tmp_path / "journal")
    yield made
    made.engine.dispose()


def ask(folder: Path, number: int, calling: str, *, text: str = "", wanted: object = None, **more: str) -> None:
    held = [[CT, str(dataset("1.2.1", 1).SOPInstanceUID)]]
    request = {"transaction": f"1.9.{number}", "calling": calling, "called": "NODE", "at": "2026-01-01T00:00:00+00:00",
               "wanted": held if wanted is None else wanted, **more}  # fmt: skip
    folder.mkdir(exist_ok=True)
    file = folder / f"1.9.{number}.json"
    file.write_text(text or json.dumps(request))
    os.utime(file, (number, number))  # the oldest are first


def test_a_bad_request_and_a_peer_that_is_away_hold_up_no_other(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tried, events = tmp_path / "commitments", [], {}

    def send(there: Path, request: dict[str, Any], report: Any, peer: DimseNode) -> None:
        tried.append((peer.ae_title, request["transaction"]))
        events[request["transaction"]] = report[1]
        if peer.ae_title == "AWAY":
            raise TransportError("no association")
        if peer.ae_title == "ODD":
            raise ValueError("no presentation context")
        (there / f"{request['transaction']}.json").unlink()

    monkeypatch.setattr(commitments, "send_commitment_report", send)
    monkeypatch.setattr(commitments, "_FIRST_WAIT_S", 600.0)
    ask(folder, 1, "GOOD", text='{"transaction": "1.9.1", "call')
    ask(folder, 2, "GOOD", text="[]")
    ask(folder, 3, "GOOD", wanted=[["one"]])
    ask(folder, 4, "AWAY")
    ask(folder, 5, "AWAY")
    ask(folder, 6, "ODD")
    ask(folder, 7, "ODD")
    ask(folder, 8, "GOOD", wanted=[[CT, "1.2.\x00"], *([CT, f"1.3.{n}"] for n in range(1500))])
    ask(folder, 9, "GOOD")
    half = folder / ".partial-x-1.9.11.json"
    half.write_text("{")  # being written at this moment
    reports = CommitmentReports(folder, ledger, PEERS)
    assert reports.send() == 2
    assert tried == [("AWAY", "1.9.4"), ("ODD", "1.9.6"), ("ODD", "1.9.7"), ("GOOD", "1.9.8"), ("GOOD", "1.9.9")]
    assert (events["1.9.8"], events["1.9.9"]) == (2, 1)
    assert sorted(file.name for file in folder.glob("*.bad")) == ["1.9.1.bad", "1.9.2.bad", "1.9.3.bad"]
    assert half.is_file()
    ask(folder, 10, "GOOD")
    assert reports.send() == 1, "and those are not tried at every look"
    assert tried[5:] == [("GOOD", "1.9.10")]
    assert sorted(file.name for file in folder.glob("1*.json")) == [f"1.9.{n}.json" for n in (4, 5, 6, 7)]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> dict[str, tuple[str, tuple[tuple[str, int], ...], DimseNode]]:
    """What was reported, by transaction: the event, what failed and why, and to whom."""
    found: dict[str, tuple[str, tuple[tuple[str, int], ...], DimseNode]] = {}

    def send(there: Path, request: dict[str, Any], report: tuple[Dataset, int], peer: DimseNode) -> None:
        items = report[0].get("FailedSOPSequence", ())
        failed = tuple((str(item.ReferencedSOPInstanceUID), int(item.FailureReason)) for item in items)
        found[request["transaction"]] = ("whole" if report[1] == 1 else "not whole", failed, peer)
        (there / f"{request['transaction']}.json").unlink()

    monkeypatch.setattr(commitments, "send_commitment_report", send)
    return found


def sent_by(store: Path, calling: str, one: Dataset) -> int:
    """Send an instance as an application entity; return the status."""
    try:
        hold(store, one, calling=calling)
    except Refused as refused:
        return refused.status
    return 0


def test_what_is_not_on_the_disk_is_not_said_to_be_held(ledger: Ledger, tmp_path: Path, told: Any) -> None:
    """A ledger that was restored without the instances knows what its node does not have."""
    folder, sop = tmp_path / "commitments", str(dataset("1.2.1", 1).SOPInstanceUID)
    reports = CommitmentReports(folder, ledger, PEERS)
    ask(folder, 1, "GOOD")
    reports.send()
    place_of(tmp_path, "1.2.1", sop).unlink()
    ask(folder, 2, "GOOD")
    reports.send()
    assert [told[f"1.9.{n}"][:2] for n in (1, 2)] == [("whole", ()), ("not whole", ((sop, 0x0112),))]
    hold(tmp_path, dataset("1.2.1", 1))
    ask(folder, 3, "GOOD")
    reports.send()
    assert told["1.9.3"][0] == "whole", "it was sent again"


def test_who_was_refused_is_not_told_that_its_own_is_held(databases: Databases, tmp_path: Path, told: Any) -> None:
    folder, sop = tmp_path / "commitments", str(dataset("1.2.1", 1).SOPInstanceUID)
    other = dataset("1.2.1", 1)
    other.SeriesDescription = "another object of this UID"
    assert [sent_by(tmp_path, *one) for one in (("GOOD", dataset("1.2.1", 1)), ("AWAY", other), ("ODD", other))] == [
        0, 0xC111, 0xC111,
    ]  # fmt: skip
    moved = dataset("1.2.1", 1)
    moved.StudyInstanceUID = "1.2.2"
    assert sent_by(tmp_path, "MOVED", moved) == 0
    ledger = open_ledger(databases.url(tmp_path))
    ledger.take_in(tmp_path / "journal")
    peers = {**PEERS, ("NODE", "MOVED"): DimseNode("127.0.0.1", 104, "MOVED", "NODE")}
    for number, calling in enumerate(("GOOD", "AWAY", "ODD", "MOVED")):
        ask(folder, number, calling)
    assert CommitmentReports(folder, ledger, peers).send() == 4
    lost = ("not whole", ((sop, 0x0112),))
    assert [told[f"1.9.{n}"][:2] for n in range(4)] == [("whole", ()), lost, lost, lost]
    with ledger.engine.begin() as connection:  # as an older version left it: conflicts know the first sender alone
        connection.execute(delete(REFUSALS))
    ask(folder, 5, "AWAY")
    CommitmentReports(folder, ledger, peers).send()
    assert told["1.9.5"][:2] == lost
    ledger.engine.dispose()


def test_a_refusal_that_the_ledger_has_not_heard_of_yet_is_waited_for(
    ledger: Ledger, tmp_path: Path, told: Any
) -> None:
    folder, other = tmp_path / "commitments", dataset("1.2.1", 1)
    other.SeriesDescription = "another object of this UID"
    assert sent_by(tmp_path, "ODD", other) == 0xC111
    ask(folder, 1, "ODD", at=datetime.now(UTC).isoformat())
    reports = CommitmentReports(folder, ledger, PEERS)
    assert reports.send() == 0 and not told
    hold(tmp_path, dataset("1.2.1", 2))
    ledger.take_in(tmp_path / "journal")
    ask(folder, 2, "GOOD", at=datetime.now(UTC).isoformat())
    assert reports.send() == 1
    assert {number: one[0] for number, one in told.items()} == {"1.9.2": "whole"}, "the other waits for its minute"


def test_a_report_goes_to_who_asked_of_which_entity(ledger: Ledger, tmp_path: Path, told: Any) -> None:
    folder = tmp_path / "commitments"
    peers = {(called, "CT1"): DimseNode(host, 104, "CT1", called) for called, host in (("A", "10.1.0.5"), ("B", "::1"))}
    for number, called in enumerate(("A", "B", "C")):
        ask(folder, number, "CT1", called=called)
    assert CommitmentReports(folder, ledger, peers).send() == 2
    assert {number: one[2].host for number, one in told.items()} == {"1.9.0": "10.1.0.5", "1.9.1": "::1"}
    assert (folder / "1.9.2.json").is_file()
