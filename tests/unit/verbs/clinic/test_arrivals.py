"""The part of the node that looks at arrivals: provisional, critical, confirmed or not, superseded, cleaned up."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from benchmarks._streaming_task import write_unskilled
from pydicom import Dataset, dcmread

from arrival_cases import body, files_of, land
from isocenter.clinic.arrival import arrival_folder
from isocenter.clinic.arrival.notify import WebHook
from isocenter.clinic.ports import Work, Worked
from isocenter.clinic.vigilance import Record
from isocenter.clinic.workflow import Completeness, Ledger, open_ledger
from isocenter.clinic.workflow.engine import result_folder
from isocenter.core.errors import Stopped
from isocenter.verbs.clinic import ahead, arrival
from isocenter.verbs.clinic.ahead import answer_ahead, answer_warm, provisional_folder
from isocenter.verbs.clinic.arrival import Arrivals, memos_of
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.operate import clinic_status
from isocenter.verbs.clinic.vigilance.canary import SHADOW
from isocenter.verbs.clinic.wiring import parts_of, rules_of, task_settings

VOLUME = "118565006"
SMALL = (14, 32, 32)


class Inline:
    """Asks tasks in this process."""

    def __init__(self, memos: ahead.Memos, settings: dict) -> None:
        self.memos, self.settings, self.closed, self.stop = memos, settings, False, False

    def run(self, work: Work, cancelled: Callable[[], bool]) -> Worked:
        while self.stop:
            if cancelled():
                raise Stopped("not wanted")
            time.sleep(0.01)
        return answer_ahead(self.memos, work, self.settings[work.route.name])

    def close(self) -> None:
        self.closed = True


class Node:
    """A node without processes."""

    def __init__(self, folder: Path, task: Path, **more: object) -> None:
        self.config = ClinicConfig.model_validate(
            {
                "store": str(folder / "store"), "limits": {"reserve_mb": 1}, "audit": None,
                "entities": [{"title": "NODE", "port": 0, "callers": [{"title": "SCANNER"}]}],
                "destinations": {"pacs": {"kind": "dimse", "title": "PACS", "host": "127.0.0.1", "port": 104}},
                "rules": [{"name": "ct", "modalities": ["CT"], "tasks": [str(task)], "to": ["pacs"]}],
                "arrival": {"lull_s": 0.01, "every_s": 0.01, "grace_s": 60.0, "notify": None, **more},
            }
        )  # fmt: skip
        self.store = self.config.store
        self.store.mkdir()
        made = open_ledger(self.config.database_url("ledger.db"))
        self.ledger = Ledger(made.engine)
        self.settings = task_settings(self.config)
        self.begin()

    def begin(self) -> None:
        section = self.config.arrival
        assert section is not None
        self.arrivals = Arrivals(self.config, section, self.ledger, rules_of(self.config), self.settings)

    def turn(self) -> None:
        self.ledger.take_in(self.store / "journal")
        time.sleep(0.02)
        self.arrivals.turn()
        working = self.arrivals._ahead._working if self.arrivals._ahead is not None else None
        if working is not None:
            working.join(60)

    def events(self, kind: str) -> list[str]:
        return [e["detail"] for e in reversed(self.ledger.events()) if e["kind"] == kind]

    def finish(self, study: str) -> Path:
        """Do what the workflow does."""
        assert next(s.study for s in self.ledger.complete(Completeness(quiet_s=0.0))) == study
        assert self.ledger.mark(study, 1, "working")
        received = self.store / "received"
        received.mkdir()
        for file in sorted((self.store / "held").rglob("*.dcm")):
            os.link(file, received / file.name)
        out = result_folder(self.store, study, 1, "ct")
        out.parent.mkdir(parents=True)
        memos = memos_of(self.config)
        assert memos is not None
        route = rules_of(self.config).rules[0].route
        answer_warm(memos, Work(study, 1, route, received, "x", out), self.settings["ct"])
        assert self.ledger.mark(study, 1, "answered")
        return out


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_unskilled(tmp_path_factory.mktemp("task") / "t", body(SMALL), widths=(2, 4), window=(4, 32, 32))


@pytest.fixture(autouse=True)
def _inline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrival, "ahead_runner", lambda memos, settings, _longest: Inline(memos, settings))
    monkeypatch.setattr(os, "nice", lambda _by: 0)


def as_mr(_index: int, one: Dataset) -> Dataset:
    one.Modality = "MR"
    return one


def study_of(files: list[Path]) -> str:
    return str(dcmread(files[0], stop_before_pixels=True).StudyInstanceUID)


def test_provisional_then_critical_then_superseded(tmp_path: Path, task: Path) -> None:
    critical = {"task": "unskilled", "finding": VOLUME, "at_least": 0.0, "unit": "cm3"}
    node = Node(tmp_path, task, critical=[critical], deliver_provisional=True)
    other = files_of(tmp_path / "other", body((4, 8, 8)), as_mr, name="earlier")  # no rule takes it
    land(node.store, *other)
    files = files_of(tmp_path / "in", body(SMALL))
    study = study_of(files)
    land(node.store, *files[:8])
    for _ in range(3):
        node.turn()
    told = node.events("provisional")
    assert "1 of 1 tasks of ct answered for 8 instances so far" in told
    assert "provisional: unskilled: Volume" in node.events("critical")
    (file,) = provisional_folder(node.store, study).glob("*/provisional.json")
    content = json.loads(file.read_text())
    assert (content["provisional"], content["final"], content["superseded"]) == (True, False, False)
    assert (content["instances"], content["study"]) == (8, study)
    assert (file.parent / content["result"]).is_file()
    waiting = node.ledger.due(limit=10)
    assert len([row for row in waiting if row["study"] == study]) == 2
    assert all(row["file"].startswith("provisional/") for row in waiting)
    land(node.store, *files[8:])
    node.turn()
    assert clinic_status(node.config).alerts[-1]["kind"] == "critical"
    out = node.finish(study)
    assert not node.ledger.answers(study), "what was provisional is no answer"
    node.turn()
    content = json.loads(file.read_text())
    assert (content["superseded"], content["superseded_by_version"], content["result"]) == (True, 1, None)
    assert [p.name for p in file.parent.iterdir()] == ["provisional.json"]
    assert not [row for row in node.ledger.due(limit=10) if row["study"] == study], "nothing provisional is sent now"
    assert (out / "result.json").is_file()
    node.arrivals._tidied = -100.0
    node.turn()
    assert not arrival_folder(node.store, study).exists()
    node.arrivals.close()


def test_what_the_final_answer_does_not_confirm_is_taken_back_after_a_restart_too(tmp_path: Path, task: Path) -> None:
    # The part that came first is smaller than the whole.
    limit = {"task": "unskilled", "finding": VOLUME, "at_most": 1e9, "unit": "mm3"}
    node = Node(tmp_path, task, critical=[limit])
    files = files_of(tmp_path / "in", body(SMALL))
    study = study_of(files)
    land(node.store, *files[:8])
    node.turn()
    node.turn()
    assert node.events("critical")
    node.arrivals.close()
    assert node.config.arrival is not None
    never = node.config.arrival.critical[0].model_copy(update={"at_most": -1.0})
    node.config = node.config.model_copy(
        update={"arrival": node.config.arrival.model_copy(update={"critical": (never,), "provisional": False})}
    )
    land(node.store, *files[8:])
    node.ledger.take_in(node.store / "journal")
    node.finish(study)
    node.begin()
    node.turn()
    assert node.events("not critical") == ["the final answer does not confirm it"]


def test_work_ahead_stops_when_the_study_is_complete(tmp_path: Path, task: Path) -> None:
    node = Node(tmp_path, task)
    files = files_of(tmp_path / "in", body(SMALL))
    land(node.store, *files)
    node.ledger.take_in(node.store / "journal")
    ahead_ = node.arrivals._ahead
    assert ahead_ is not None
    ahead_._runner.stop = True
    time.sleep(0.02)
    node.arrivals.turn()
    working = ahead_._working
    assert working is not None
    assert working.is_alive()
    assert node.ledger.complete(Completeness(quiet_s=0.0))
    node.arrivals.turn()
    working.join(10)
    assert not working.is_alive()
    assert node.events("provisional") == []


def test_what_comes_ahead_too_late_is_superseded_all_the_same(tmp_path: Path, task: Path) -> None:
    node = Node(tmp_path, task, deliver_provisional=True)
    files = files_of(tmp_path / "in", body(SMALL))
    study = study_of(files)
    land(node.store, *files)
    node.ledger.take_in(node.store / "journal")
    ahead_ = node.arrivals._ahead
    assert ahead_ is not None
    go, run = threading.Event(), ahead_._runner.run

    def late(work: Work, _cancelled: Callable[[], bool]) -> Worked:
        assert go.wait(60)
        return run(work, lambda: False)

    ahead_._runner.run = late  # type: ignore[method-assign]
    time.sleep(0.02)
    node.arrivals.turn()
    assert ahead_._working is not None
    node.finish(study)
    node.arrivals._tidied = float("inf")  # its folder is not cleared away while it works, however slow the machine is
    node.arrivals.turn()
    go.set()
    ahead_._working.join(60)
    node.arrivals.turn()
    (file,) = provisional_folder(node.store, study).glob("*/provisional.json")
    assert json.loads(file.read_text())["superseded"]
    assert node.ledger.due(limit=10) == []


def test_a_rule_that_an_alarm_put_in_shadow_sends_and_flags_nothing_ahead(tmp_path: Path, task: Path) -> None:
    critical = {"task": "unskilled", "finding": VOLUME, "at_least": 0.0, "unit": "cm3"}
    node = Node(tmp_path, task, critical=[critical], deliver_provisional=True)
    Record(node.ledger.engine).choose("ct", SHADOW, "shadow", "alarm of noise", "vigilance")
    files = files_of(tmp_path / "in", body(SMALL))
    land(node.store, *files)
    node.turn()
    node.turn()
    assert node.events("provisional")
    assert node.ledger.due(limit=10) == []
    node.finish(study_of(files))
    node.turn()
    assert node.events("critical") == []


def test_what_was_answered_while_nobody_looked_is_flagged_at_the_next_start(tmp_path: Path, task: Path) -> None:
    critical = {"task": "unskilled", "finding": VOLUME, "at_least": 0.0, "unit": "cm3"}
    node = Node(tmp_path, task, critical=[critical], provisional=False)
    node.arrivals.close()
    files = files_of(tmp_path / "in", body(SMALL), lambda _n, one: one)
    land(node.store, *files)
    node.ledger.take_in(node.store / "journal")
    node.finish(study_of(files))
    for _ in range(2):
        node.begin()
        node.turn()
    assert node.events("critical") == ["unskilled: Volume"]


def test_nothing_provisional_goes_where_only_messages_are_taken(tmp_path: Path, task: Path) -> None:
    node = Node(tmp_path, task, deliver_provisional=True)
    told = node.config.model_dump(mode="json")
    told["destinations"]["ris"] = {"kind": "hl7", "host": "127.0.0.1", "port": 2575}
    told["rules"][0]["to"] = ["pacs", "ris"]
    node.config = ClinicConfig.model_validate(told)
    node.begin()
    land(node.store, *files_of(tmp_path / "in", body(SMALL)))
    node.turn()
    node.turn()
    assert {row["destination"] for row in node.ledger.due(limit=10)} == {"pacs"}


def test_what_waits_of_an_older_provisional_answer_is_withdrawn(tmp_path: Path, task: Path) -> None:
    node = Node(tmp_path, task, deliver_provisional=True)
    files = files_of(tmp_path / "in", body(SMALL))
    land(node.store, *files[:8])
    node.turn()
    node.turn()
    land(node.store, *files[8:])
    node.turn()
    node.turn()
    waiting = node.ledger.due(limit=10)
    assert waiting
    assert all((node.store / row["file"]).is_file() for row in waiting)


@pytest.mark.parametrize("refused", [True, False])
def test_what_was_said_ahead_of_a_study_that_may_not_be_answered_is_taken_back(
    refused: bool, tmp_path: Path, task: Path
) -> None:
    critical = {"task": "unskilled", "finding": VOLUME, "at_least": 0.0, "unit": "cm3"}
    node = Node(tmp_path, task, deliver_provisional=True, critical=[critical])
    files = files_of(tmp_path / "in", body(SMALL))
    study = study_of(files)
    land(node.store, *files)
    for _ in range(2):
        node.turn()
    assert node.ledger.due(limit=10)
    node.ledger.complete(Completeness(quiet_s=0.0))
    assert node.ledger.mark(study, 1, "working")
    if refused:  # as the workflow does where a gate refuses, for whose it is is not sure
        row = {"answer": "a", "study": study, "version": 1, "rule": "ct", "task": "t", "state": "abstained",
               "reason": "two patients", "seconds": 0.0}  # fmt: skip
        node.ledger.answered(row)
    assert node.ledger.mark(study, 1, "failed", "two patients" if refused else "the process died")
    node.turn()
    (file,) = provisional_folder(node.store, study).glob("*/provisional.json")
    assert json.loads(file.read_text())["superseded"] is refused
    assert bool(node.ledger.due(limit=10)) is not refused
    assert node.events("critical") and not node.events("not critical")
    node.arrivals.close()


def test_nothing_is_said_ahead_of_a_study_with_holes(tmp_path: Path, task: Path) -> None:
    node = Node(tmp_path, task)
    files = files_of(tmp_path / "in", body(SMALL))
    land(node.store, *files)
    node.ledger.take_in(node.store / "journal")
    for file in files:  # a copy under the same UIDs, but for one slice
        copy = dcmread(file)
        copy.StudyInstanceUID = "1.2.3"
        if file == files[0]:
            copy.SOPInstanceUID = copy.file_meta.MediaStorageSOPInstanceUID = "1.2.3.1"
        copy.save_as(tmp_path / "in" / f"copy-{file.name}")
        land(node.store, tmp_path / "in" / f"copy-{file.name}")
    for _ in range(4):
        node.turn()
    studies = {e["study"] for e in node.ledger.events(limit=500) if e["kind"] == "provisional"}
    assert studies == {study_of(files)}
    node.arrivals.close()


def test_a_node_without_the_section_has_no_such_part(tmp_path: Path, task: Path) -> None:
    node = Node(tmp_path, task)
    assert [part.name for part in parts_of(node.config)] == ["workflow", "arrival"]
    plain = node.config.model_copy(update={"arrival": None})
    assert [part.name for part in parts_of(plain)] == ["workflow"]
    assert memos_of(plain) is None


@pytest.fixture
def hook() -> Iterator[tuple[str, list[dict]]]:
    got: list[dict] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            got.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            got[-1]["token"] = self.headers["Authorization"]
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/hook", got
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.enable_socket
def test_alerts_are_posted(hook: tuple[str, list[dict]]) -> None:
    url, got = hook
    posted = WebHook(url, "secret")
    posted("alert", "1.2.3", "missing-slices: 1 missing slice")
    posted.close()
    (told,) = got
    assert told.pop("at")
    assert told == {
        "kind": "alert", "study": "1.2.3", "detail": "missing-slices: 1 missing slice", "token": "Bearer secret",
    }  # fmt: skip


def test_nothing_provisional_goes_to_a_record_of_messages(tmp_path: Path, task: Path) -> None:
    node = Node(tmp_path, task, deliver_provisional=True)
    ris = {"kind": "hl7", "host": "127.0.0.1", "port": 9}
    content = node.config.model_dump(mode="json")
    content["destinations"]["ris"], content["rules"][0]["to"] = ris, ["pacs", "ris"]
    node.arrivals.close()
    node.config = ClinicConfig.model_validate(content)
    files = files_of(tmp_path / "in", body(SMALL))
    node.begin()
    land(node.store, *files[:8])
    for _ in range(3):
        node.turn()
    assert {row["destination"] for row in node.ledger.due(limit=10)} == {"pacs"}
    node.arrivals.close()


def test_a_rule_that_is_kept_back_says_nothing_ahead(
    tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    critical = {"task": "unskilled", "finding": VOLUME, "at_least": 0.0, "unit": "cm3"}
    node = Node(tmp_path, task, critical=[critical], deliver_provisional=True)
    node.arrivals.close()
    Record(node.ledger.engine).choose("ct", SHADOW, "shadow", "drift", "vigilance")
    files = files_of(tmp_path / "in", body(SMALL))
    land(node.store, *files[:8])
    made: list[Arrivals] = []
    turn = Arrivals.turn

    def watched(self: Arrivals) -> bool:
        made.append(self)
        return turn(self)

    def stopped() -> bool:
        if made:
            node.arrivals = made[0]
            node.turn()
        return len(made) > 3

    monkeypatch.setattr(Arrivals, "turn", watched)
    arrival.run_arrival(node.config, rules_of(node.config), node.settings, stopped)
    assert node.events("provisional"), "it is answered, and kept"
    assert node.ledger.due(limit=10) == []
    assert node.events("critical") == []
    node.finish(study_of(files))
    node.begin()
    section = node.config.arrival
    assert section is not None
    again = Arrivals(node.config, section, node.ledger, rules_of(node.config), node.settings)
    again._confirm(study_of(files), 1)
    assert node.events("critical") == []
    Record(node.ledger.engine).choose("ct", SHADOW, "live", "resumed", "vigilance")
    again._confirm(study_of(files), 1)
    assert node.events("critical"), "the finding is there"
    again.close()
    node.arrivals.close()
