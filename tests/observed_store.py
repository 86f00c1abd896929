"""A store with a little of everything in its ledger, as a node in a hospital has it after a hard morning."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from sqlalchemy import update

from isocenter.clinic.dimse.notes import Note, Notes
from isocenter.clinic.node import STATE_FILE
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.clinic.workflow.engine import TURNED
from isocenter.clinic.workflow.noted import take_in_notes
from isocenter.clinic.workflow.tables import STUDIES
from isocenter.clinic.workflow.turning import touch

STUDY = "1.2.840.113619.2.55.3.604688119.971.1732693001.{}"


def line(study: int, number: int, **more: Any) -> dict[str, Any]:
    uid = STUDY.format(study)
    at = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime(time.time() - 60 + number))
    return {
        "study": uid, "series": f"{uid}.1", "sop": f"{uid}.1.{number}", "class": "1.2.840.10008.5.1.4.1.1.2",
        "syntax": "1.2.840.10008.1.2.1", "modality": "CT", "sha256": f"{study:032}{number:032}", "bytes": 525_000,
        "calling": "SCANNER", "called": "ISOCENTER", "at": at, **more,
    }  # fmt: skip


def busy_store(store: Path, url: str = "") -> Ledger:
    """Fill a store; return its ledger, of the database of a URL, or in the store."""
    (store / "journal").mkdir(parents=True, mode=0o700)
    journal = store / "journal" / "1-1.jsonl"
    lines = [line(study, number) for study in range(6) for number in range(1, 4 + study)]
    lines += [line(0, 1, again=True), line(0, 2, sha256="f" * 64, conflict=True)]
    journal.write_text("".join(json.dumps(one) + "\n" for one in lines))
    ledger = open_ledger(url or f"sqlite:///{store / 'ledger.db'}")
    ledger.take_in(store / "journal")
    for study, state in ((0, "answered"), (1, "failed"), (2, "working"), (3, "complete")):
        with ledger.engine.begin() as connection:
            connection.execute(update(STUDIES).where(STUDIES.c.study == STUDY.format(study)).values(state="complete"))
        if state != "complete":
            ledger.mark(STUDY.format(study), 1, state, "a series is incomplete: 3 gaps" if state == "failed" else "")
    for number, (state, seconds) in enumerate((("answered", 4.25), ("answered", 61.0), ("abstained", 0.4))):
        row = {"answer": str(number), "study": STUDY.format(0), "version": 1, "rule": "chest", "task": "lungs-cxr"}
        ledger.answered({**row, "state": state, "reason": "", "seconds": seconds})
        ledger.answered({**row, "state": state, "reason": "", "seconds": seconds})  # a killed node says it again
    rows = [("a", "pacs"), ("b", "pacs"), ("c", "pacs"), ("d", "research")]
    ledger.queue(
        [
            {"delivery": key * 64, "study": STUDY.format(0), "version": 1, "destination": to, "form": "dicom",
             "file": f"results/{key}.dcm"}
            for key, to in rows
        ]
    )  # fmt: skip
    ledger.delivered("a" * 64)
    ledger.failed("b" * 64, "refused with status C000", wait_s=None)
    ledger.failed("d" * 64, "the server can't be reached", wait_s=40.0)
    notes = Notes(store)
    notes.tell(Note("association", "ISOCENTER", calling="SCANNER"), 4)
    notes.tell(Note("association refused", "ISOCENTER", "this caller is not known", "PRINTER9", "", "10.1.7.30"), 12)
    notes.tell(Note("association refused", "ISOCENTER", "another title was called", "SCANNER", "ISOCENTRE", "10.1.7.4"))
    notes.tell(Note("instance refused", "ISOCENTER", "A700", "SCANNER", detail="no room; send again later"), 3)
    notes.tell(Note("clock", "ISOCENTER", calling="SCANNER", detail="an instance was made 120 minutes after now"))
    notes.tell(Note("process ended", "workflow", detail="with -9; started again"))
    notes.flush(all_of_it=True)
    take_in_notes(ledger, store)
    ledger.tell("alarm", "", "coverage of lungs-cxr fell below 0.85 in the last 200 studies")
    notes.turned({"ISOCENTER": 2})
    notes._beat()
    touch(store / TURNED)
    told = {"pids": {"node": [os.getpid()], "acceptors": [os.getpid()], "workflow": [os.getpid()]},
            "ports": {"ISOCENTER": 11112}, "receiving_since": time.time() - 100}  # fmt: skip
    (store / STATE_FILE).write_text(json.dumps(told))
    return ledger


def close_socket_of(association: Any) -> None:
    """Close what pynetdicom leaves open where an association ends badly."""
    left = association.dul.socket
    if left is not None and left.socket is not None:
        left.socket.close()
