"""Reports of storage commitment: one that can't be made or sent holds up none behind it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from isocenter.clinic.workflow import Ledger, commitments, open_ledger
from isocenter.clinic.workflow.commitments import CommitmentReports
from isocenter.core.errors import TransportError
from unit.clinic.workflow.test_engine import CT, dataset, hold

PEERS = {title: (title, "127.0.0.1", 104) for title in ("GOOD", "AWAY", "ODD")}


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    hold(tmp_path, dataset("1.2.1", 1))
    made = open_ledger(f"sqlite:///{tmp_path}/ledger.db")
    made.take_in(tmp_path / "journal")
    yield made
    made.engine.dispose()


def ask(folder: Path, number: int, calling: str, *, text: str = "", wanted: object = None) -> None:
    held = [[CT, str(dataset("1.2.1", 1).SOPInstanceUID)]]
    request = {"transaction": f"1.9.{number}", "calling": calling, "called": "NODE", "at": "2026-01-01T00:00:00+00:00",
               "wanted": held if wanted is None else wanted}  # fmt: skip
    folder.mkdir(exist_ok=True)
    file = folder / f"1.9.{number}.json"
    file.write_text(text or json.dumps(request))
    os.utime(file, (number, number))  # the oldest are first


def test_a_bad_request_and_a_peer_that_is_away_hold_up_no_other(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, tried, events = tmp_path / "commitments", [], {}

    def send(there: Path, request: dict[str, Any], report: Any, peer: tuple[str, str, int]) -> None:
        tried.append((peer[0], request["transaction"]))
        events[request["transaction"]] = report[1]
        if peer[0] == "AWAY":
            raise TransportError("no association")
        if peer[0] == "ODD":
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
