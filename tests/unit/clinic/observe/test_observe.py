"""Checks, metrics and logs: from the store and the ledger, the same after a restart, and without a patient's value."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from isocenter.clinic.dimse.holding import QUEUE_FULL
from isocenter.clinic.observe import LogSettings, Needs, checks, metrics_text, ready, rotate, setup_logs, study_key
from isocenter.clinic.observe.exposition import Exposition
from isocenter.clinic.workflow import open_ledger
from isocenter.clinic.workflow.engine import TURNED
from isocenter.core.errors import DataError
from observed_store import STUDY, busy_store
from postgres_peer import Databases

NEEDS = Needs(acceptors=1, reserve_bytes=1, quota_bytes=10**9)
SAMPLE = re.compile(r'([a-z_]+)(?:\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)*)\})? ([-+0-9.e]+|NaN)')


def samples(text: str) -> dict[tuple[str, str], float]:
    """Read metrics by the grammar of the text format; each family is told once, before its samples."""
    found: dict[tuple[str, str], float] = {}
    family, kinds = "", {}
    for line in text.splitlines():
        if line.startswith("# TYPE "):
            _, _, family, kind = line.split(" ")
            assert family not in kinds
            kinds[family] = kind
        elif not line.startswith("# HELP "):
            match = SAMPLE.fullmatch(line)
            assert match, line
            name = re.sub("_(bucket|sum|count)$", "", match[1]) if kinds[family] == "histogram" else match[1]
            assert name == family and (match[1], match[2] or "") not in found
            found[match[1], match[2] or ""] = float(match[3])
    assert all(name.endswith("_total") == (kind == "counter") for name, kind in kinds.items())
    return found


def test_metrics_say_what_happened_and_outlast_a_restart(databases: Databases, tmp_path: Path) -> None:
    ledger = busy_store(tmp_path, databases.url(tmp_path))
    found = samples(metrics_text(tmp_path, ledger, NEEDS, checks(tmp_path, ledger, NEEDS)))
    expected = {
        ("isocenter_instances_total", 'called="ISOCENTER",outcome="received"'): 33,
        ("isocenter_instances_total", 'called="ISOCENTER",outcome="duplicate"'): 1,
        ("isocenter_instances_total", 'called="ISOCENTER",outcome="conflict"'): 1,
        ("isocenter_instances_refused_total", 'called="ISOCENTER",status="A700"'): 3,
        ("isocenter_received_bytes_total", 'called="ISOCENTER"'): 33 * 525_000,
        ("isocenter_associations_total", 'called="ISOCENTER"'): 4,
        ("isocenter_associations_open", 'called="ISOCENTER"'): 2,
        ("isocenter_associations_refused_total", 'called="ISOCENTER",reason="this caller is not known"'): 12,
        ("isocenter_process_restarts_total", 'component="workflow"'): 1,
        ("isocenter_studies", 'state="arriving"'): 2,
        ("isocenter_studies", 'state="failed"'): 1,
        ("isocenter_queue_studies", ""): 2,
        ("isocenter_answers_total", 'task="lungs-cxr",state="answered"'): 2,
        ("isocenter_answers_total", 'task="lungs-cxr",state="abstained"'): 1,
        ("isocenter_task_seconds_bucket", 'task="lungs-cxr",le="5"'): 2,
        ("isocenter_task_seconds_bucket", 'task="lungs-cxr",le="+Inf"'): 3,
        ("isocenter_task_seconds_sum", 'task="lungs-cxr"'): 65.65,
        ("isocenter_deliveries", 'destination="pacs",state="dead"'): 1,
        ("isocenter_delivery_tries_total", 'destination="pacs",outcome="delivered"'): 1,
        ("isocenter_held_bytes", ""): 33 * 525_000,
        ("isocenter_quota_bytes", ""): 10**9,
        ("isocenter_check", 'check="workflow"'): 1,
    }
    assert {key: found[key] for key in expected} == expected
    assert 59 < found["isocenter_queue_oldest_seconds", ""] < 300
    ledger.engine.dispose()
    again = open_ledger(databases.url(tmp_path))
    again.take_in(tmp_path / "journal")  # a node that starts reads its journals: nothing is counted twice
    after = samples(metrics_text(tmp_path, again, NEEDS, ()))
    assert all(after[key] == value for key, value in found.items() if key[0].endswith("_total"))
    text = metrics_text(tmp_path, again, NEEDS, ())
    assert STUDY.format(0) not in text and "PRINTER9" not in text and "10.1.7" not in text
    again.engine.dispose()


def test_metrics_escape_what_they_hold() -> None:
    made = Exposition()
    made.family("one_total", "counter", "a\\b\nc")
    made.sample({"x": 'a"b\\c\nd'}, float("inf"))
    made.sample({"x": "n"}, float("nan"))
    assert made.text() == (
        "# HELP one_total a\\\\b\\nc\n# TYPE one_total counter\n"
        'one_total{x="a\\"b\\\\c\\nd"} +Inf\none_total{x="n"} NaN\n'
    )
    for name, kind in (("one_total", "counter"), ("1x", "gauge"), ("count", "counter")):
        with pytest.raises(DataError):
            made.family(name, kind, "")
    with pytest.raises(DataError):
        made.sample({"a-b": ""}, 1)


def not_well(store: Path, ledger, needs: Needs = NEEDS) -> set[str]:
    found = checks(store, ledger, needs)
    assert ready(found) == all(check.ok for check in found)
    return {check.name for check in found if not check.ok}


def test_each_check_says_what_is_not_well(tmp_path: Path) -> None:
    ledger = busy_store(tmp_path)
    assert not_well(tmp_path, ledger) == set()
    os.utime(tmp_path / TURNED, (1, 1))
    assert not_well(tmp_path, ledger) == {"workflow"}
    (tmp_path / TURNED).unlink()
    assert not_well(tmp_path, ledger) == {"workflow"}
    (tmp_path / TURNED).touch()
    (tmp_path / QUEUE_FULL).touch()
    assert not_well(tmp_path, ledger) == {"queue"}
    (tmp_path / QUEUE_FULL).unlink()
    full = Needs(acceptors=2, reserve_bytes=1 << 60, quota_bytes=1000)
    assert not_well(tmp_path, ledger, full) == {"acceptors", "disk", "quota"}
    pulse = next((tmp_path / "notes").glob("*.pulse"))
    pulse.write_text(json.dumps({"at": 5, "open": {}}))
    os.utime(pulse, (5, 5))
    assert not_well(tmp_path, ledger) == {"acceptors"}
    (tmp_path / "node.json").unlink()
    assert not_well(tmp_path, ledger) == {"node", "acceptors"}
    ledger.engine.dispose()


def test_a_database_that_hangs_or_is_gone_is_told(tmp_path: Path) -> None:
    ledger = busy_store(tmp_path)
    needs = Needs(acceptors=1, reserve_bytes=1, quota_bytes=10**9, ledger_s=0.2)
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as other:
        other.exec_driver_sql("BEGIN IMMEDIATE")
        found = {check.name: check for check in checks(tmp_path, ledger, needs)}
        assert (found["database"].ok, found["ledger"].ok) == (True, False)
        assert found["ledger"].detail == "no answer in 0.2 s"
        other.exec_driver_sql("ROLLBACK")
    until = time.monotonic() + 10
    while any(thread.name == "check" for thread in threading.enumerate()) and time.monotonic() < until:
        time.sleep(0.02)
    with ledger.engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE counters")
        connection.exec_driver_sql("ALTER TABLE studies RENAME TO gone")
    found = {check.name: check for check in checks(tmp_path, ledger, needs)}
    assert not (found["database"].ok or found["ledger"].ok or found["quota"].ok)
    assert found["database"].detail == "can't be used (OperationalError)"
    ledger.engine.dispose()


@pytest.fixture
def logs() -> Iterator[None]:
    """The log of this process, as it was afterwards."""
    root = logging.getLogger()
    before = root.handlers[:], root.level, sys.excepthook, threading.excepthook
    yield
    for handler in root.handlers:
        if handler not in before[0]:
            handler.close()
    root.handlers[:], sys.excepthook, threading.excepthook = before[0], before[2], before[3]
    root.setLevel(before[1])
    logging.getLogger("pynetdicom").setLevel(logging.NOTSET)
    logging.getLogger("dbos").handlers.clear()
    logging.captureWarnings(False)


def lines(file: Path) -> list[dict]:
    return [json.loads(line) for line in file.read_text().splitlines()]


def test_logs_are_lines_of_json_without_a_patients_value(tmp_path: Path, logs: None) -> None:
    settings = LogSettings("json", tmp_path / "log" / "node.log", "info")
    setup_logs(settings)
    ours, theirs = logging.getLogger("isocenter.clinic.node"), logging.getLogger("pydicom")
    uid = STUDY.format(7)
    ours.info("%s: %s (%s)", uid, "answered", "2 answers")
    ours.debug("not written")
    theirs.warning("Invalid value for VR PN: 'Zebra^Name'")
    logging.getLogger("py.warnings").warning("header.py:7: UserWarning: Zebra^Name is no date")
    try:
        raise ValueError("Zebra^Name")
    except ValueError:
        ours.exception("a step failed")
    try:
        raise DataError("a series is incomplete", source=f"study {uid}")
    except DataError:
        ours.exception("a study failed")

    def fails() -> None:
        raise KeyError("Zebra^Name")

    thread = threading.Thread(target=fails)
    thread.start()
    thread.join()
    sys.excepthook(ValueError, ValueError("Zebra^Name"), None)
    text = settings.file.read_text()
    assert "Zebra" not in text and uid not in text
    assert settings.file.stat().st_mode & 0o777 == 0o600
    told = lines(settings.file)
    assert {"time", "level", "component", "pid", "logger", "event", "message"} <= set(told[0])
    assert (told[0]["study"], told[0]["message"]) == (study_key(uid), f"{study_key(uid)}: answered (2 answers)")
    assert [one["event"] for one in told[1:3]] == ["library", "library"]
    assert (told[3]["error"], "reason" in told[3]) == ("ValueError", False)
    assert told[3]["at"].startswith("test_observe.py:")
    assert "a series is incomplete" in told[4]["reason"]
    assert [one["error"] for one in told[5:]] == ["KeyError", "ValueError"]


def test_traces_of_dbos_are_lines_without_their_words(tmp_path: Path, logs: None, capfd: pytest.CaptureFixture) -> None:
    own = pytest.importorskip("dbos._logger")
    setup_logs(LogSettings("json", tmp_path / "node.log", "info"))
    own.init_logger()  # as DBOS does at its start
    try:
        raise ValueError("Zebra^Name")
    except ValueError:
        own.dbos_logger.error("Exception encountered in background workflow:", exc_info=True)
    (told,) = lines(tmp_path / "node.log")
    assert (told["error"], told["logger"]) == ("ValueError", "dbos")
    assert "Zebra" not in (tmp_path / "node.log").read_text() + "".join(capfd.readouterr())


@pytest.mark.parametrize(("level", "told"), [("info", []), ("debug", ["pynetdicom.transport"])])
def test_what_pynetdicom_says_of_each_association_is_for_debugging(
    tmp_path: Path, logs: None, level: str, told: list[str]
) -> None:
    setup_logs(LogSettings("json", tmp_path / "node.log", level))
    logging.getLogger("pynetdicom.transport").error("Connection refused")
    assert [one["logger"] for one in lines(tmp_path / "node.log")] == told


def test_logs_are_rotated_by_one_and_followed_by_all(tmp_path: Path, logs: None) -> None:
    settings = LogSettings("text", tmp_path / "node.log", "warning", most_bytes=200, files=2)
    setup_logs(settings)
    log = logging.getLogger("isocenter.x")
    assert not rotate(settings)
    for number in range(4):
        log.warning("line %d of a hundred letters and more, so that two of them are longer than a file may be", number)
        log.warning("and one more line of a hundred letters and more, so that the file is longer than it may be")
        assert rotate(settings)
    log.warning("the last")
    found = sorted(file.name for file in tmp_path.iterdir())
    assert found == ["node.log", "node.log.1", "node.log.2"]
    assert settings.file.read_text().endswith("isocenter.x the last\n")
    assert "line 3" in (tmp_path / "node.log.1").read_text()
    assert not rotate(LogSettings())
