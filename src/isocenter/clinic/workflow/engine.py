"""The workflow: from instances on the disk to results on their way, exactly once whatever happens in between.

    journals -> ledger -> complete? -> claim -> gather -> route -> for each route: identity, gate, tasks
    -> answers and deliveries into the ledger -> answered

Each step is checkpointed (DBOS), and each may be run twice without harm, for a node may be killed between a step's end
and its checkpoint. A workflow's id is study and version, so that a study is worked on once however often it is found.
What fails for a passing reason is tried again; for one that stays, the study is marked as failed, with the reason.
"""

from __future__ import annotations

import hashlib
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import BrokenExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from sqlalchemy.exc import OperationalError

from isocenter.clinic.dimse.holding import QUEUE_FULL, place_of
from isocenter.clinic.node import receiving_since
from isocenter.clinic.ports import Deliverer, Facts, Gate, Notifier, Preparer, Route, Router, Runner, Said, Work
from isocenter.clinic.workflow.deliver import Deliveries, Insistence
from isocenter.clinic.workflow.ledger import (
    ANSWERED,
    COMPLETE,
    FAILED,
    WORKING,
    Completeness,
    Ledger,
    StudyState,
    delivery_key,
)
from isocenter.clinic.workflow.noted import forget_events, take_in_notes
from isocenter.clinic.workflow.turning import OwnClock, touch
from isocenter.core.errors import CapabilityError, DataError, IsocenterError, OutputError, TransportError
from isocenter.data.images.atomic import explain_os_error
from isocenter.data.images.dicom.header import Wanted, scan

__all__ = ["TURNED", "Engine", "EngineSettings", "Ports", "derived_uid", "facts_of", "result_folder"]

_LOG = logging.getLogger(__name__)
_WORKFLOW: Final = "answer-study"
_QUEUE: Final = "studies"
_SWEEP_S = 5.0
_TOUCH_S = 1.0
_FORGET_S = 3600.0
TURNED: Final = "turned"
"""A file whose time says when the workflow last turned."""
_ALIVE = ("PENDING", "ENQUEUED", "DELAYED")
_WANTED: Wanted = {
    0x00080005: ("SpecificCharacterSet", "text"),
    0x00081030: ("StudyDescription", "text"),
    0x0008103E: ("SeriesDescription", "text"),
    0x00180015: ("BodyPartExamined", "text"),
}
_OWN: Wanted = {0x00080018: ("SOPInstanceUID", "text")}


@dataclass(frozen=True)
class Ports:
    """Who does what; see `isocenter.clinic.ports`."""

    preparer: Preparer
    router: Router
    gate: Gate
    runner: Runner
    notifier: Notifier
    destinations: Mapping[str, Deliverer]


@dataclass(frozen=True)
class EngineSettings:
    """How the workflow runs.

    Args:
        store: The node's folder.
        database: Of DBOS's checkpoints, as SQLAlchemy has it.
        completeness: When a study has all its instances.
        insistence: How often deliveries are tried.
        at_once: Studies that are worked on at one time.
        poll_s: Between looks at journals and ledger.
        reserve_bytes: With less room than that on the disk instances are refused, so silence does not make complete.
        tries: Of a step that fails for a passing reason.
        queue_studies: With more studies than that waiting to be answered, instances are refused; None for no limit.
        events_s: How long events are kept; None for ever.
    """

    store: Path
    database: str
    completeness: Completeness = field(default_factory=Completeness)
    insistence: Insistence = field(default_factory=Insistence)
    at_once: int = 1
    poll_s: float = 0.25
    reserve_bytes: int = 256 << 20
    tries: int = 12
    queue_studies: int | None = None
    events_s: float | None = None


def derived_uid(inputs: str, *parts: str) -> str:
    """Return the UID of an object that is made from inputs: the same whenever it is made again.

    Args:
        inputs: Hash over what went in.
        *parts: What tells it from other objects of the same inputs: task, version, number.

    Source:
        DICOM PS3.5 B.2 (UUID as UID), RFC 9562 (version 8: by hash).

    Example:
        >>> derived_uid("abc", "lungs", "1") == derived_uid("abc", "lungs", "1") != derived_uid("abc", "lungs", "2")
        True
    """
    digest = bytearray(hashlib.sha256("\0".join((inputs, *parts)).encode()).digest()[:16])
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    return f"2.25.{int.from_bytes(digest, 'big')}"


def result_folder(store: Path, study: str, version: int, route: str) -> Path:
    """Return where the results of a route are."""
    return store / "results" / _name(study) / f"v{version}" / _name(route)


def _name(text: str) -> str:
    """Return a name of a folder for a text that came from outside."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def facts_of(store: Path, state: StudyState, rows: Sequence[Mapping[str, Any]]) -> Facts:
    """Return what routes are chosen by: of a study in the ledger, and one header of each of its series.

    Args:
        store: The node's folder.
        state: Of the study.
        rows: Its instances, as the ledger has them.
    """
    body_parts, descriptions = set(), set()
    for row in {row["series"]: row for row in rows}.values():
        header = scan(place_of(store, state.study, row["sop"]), "an instance", wanted=_WANTED)
        body_parts.add(header.text("BodyPartExamined"))
        descriptions |= {header.text("StudyDescription"), header.text("SeriesDescription")}
    return Facts(
        state.study, state.calling, state.called, state.modalities, tuple(sorted(body_parts - {""})),
        tuple(sorted(descriptions - {""})), len(rows),
    )  # fmt: skip


class Engine:
    """The workflow of one node, in one process: DBOS has one instance a process.

    Args:
        settings: How it runs.
        ledger: What was received, answered and sent.
        ports: Who does what.

    Raises:
        CapabilityError: dbos is not installed.
    """

    def __init__(self, settings: EngineSettings, ledger: Ledger, ports: Ports) -> None:
        try:
            self._dbos: Any = import_module("dbos")
        except ImportError as error:
            raise CapabilityError("the clinic's workflow needs dbos: pip install 'isocenter[clinic]'") from error
        self._settings, self._ledger, self._ports = settings, ledger, ports
        self._deliveries = Deliveries(ledger, ports.destinations, settings.insistence, settings.store)
        self._lock = threading.Lock()
        self._running: set[str] = set()
        self._asked: set[str] = set()
        self._missing: set[str] = set()
        self._began = self._swept = time.time()
        self._short = self._touched = self._forgot = 0.0
        self._clock = OwnClock()
        (settings.store / QUEUE_FULL).unlink(missing_ok=True)
        self._launch()

    def _launch(self) -> None:
        dbos = self._dbos
        dbos.DBOS(
            config={
                "name": "isocenter-clinic",
                "system_database_url": self._settings.database,
                # A node that was updated goes on with what the older one began: steps keep names, order and results.
                "application_version": "isocenter-clinic-1",
                "executor_id": "node",
                "log_level": "WARNING",
                "notification_listener_polling_interval_sec": 0.25,
            }
        )

        def answer(study: str, version: int) -> str:
            return self._answer(study, version)

        self._workflow = dbos.DBOS.workflow(name=_WORKFLOW, max_recovery_attempts=1000)(answer)
        dbos.DBOS.launch()
        dbos.DBOS.register_queue(
            _QUEUE,
            worker_concurrency=self._settings.at_once,
            polling_interval_sec=min(0.1, self._settings.poll_s),
            on_conflict="always_update",
        )

    def serve(self, stopped: Callable[[], bool]) -> None:
        """Work until told to stop. What is under way then goes on at the next start."""
        self._ledger.withdraw_amended()
        for state in self._ledger.in_state(WORKING):
            self._ask(state.study, state.version)
        while not stopped():
            self.turn()
            time.sleep(self._settings.poll_s)

    def turn(self) -> None:
        """Take in, begin, deliver and look after what went astray: one turn of the loop.

        Raises:
            TransportError: A workflow was lost (the disk of its checkpoints was full, say): this process is to end
                and to be started again, which takes it up.
        """
        settings, ledger = self._settings, self._ledger
        if self._short_of_room():
            self._short = time.time()
        # Silence tells that a sender has finished only where it could have been heard.
        since = max(self._short, receiving_since(settings.store, self._began))
        ledger.take_in(settings.store / "journal")
        ledger.take_in_steps(settings.store / "steps" / "steps.jsonl")
        take_in_notes(ledger, settings.store)
        # The order of work is the ledger's, which may change: only as many are handed over as are worked on.
        with self._lock:
            room = 2 * settings.at_once - len(self._asked)
        for state in ledger.complete(settings.completeness, since=since):
            if room <= 0:
                break
            room -= self._ask(state.study, state.version)
        self._deliveries.pump()
        if time.time() - self._swept > _SWEEP_S:
            self._swept = time.time()
            self._sweep()
        self._look_after()

    def _look_after(self) -> None:
        """Say that the workflow turns, whether its queue is full, and whether our own clock was set."""
        settings, ledger, now = self._settings, self._ledger, time.time()
        set_by = self._clock.set_by()
        if set_by:
            ledger.tell("clock", "", f"this machine's clock was set by {set_by:+.0f} s; silence is judged by it")
        if 0 <= now - self._touched < _TOUCH_S:
            return
        self._touched = now
        touch(settings.store / TURNED)
        if settings.queue_studies is not None:
            waiting = sum(ledger.counts().get(state, 0) for state in (COMPLETE, WORKING))
            was = (settings.store / QUEUE_FULL).exists()
            if waiting >= settings.queue_studies:
                touch(settings.store / QUEUE_FULL)
                if not was:
                    ledger.tell("queue full", "", f"{waiting} studies wait; instances are refused until fewer do")
            elif was:
                (settings.store / QUEUE_FULL).unlink(missing_ok=True)
                ledger.tell("queue open", "", "instances are taken again")
        if settings.events_s is not None and now - self._forgot > _FORGET_S:
            self._forgot = now
            forget_events(ledger, now - settings.events_s)

    def close(self, patience_s: float = 10.0) -> None:
        """Let what is under way come to its next checkpoint, then end."""
        until = time.monotonic() + patience_s
        self._deliveries.close()
        while self._running and time.monotonic() < until:
            time.sleep(0.05)
        self._dbos.DBOS.destroy(destroy_registry=True)

    def _short_of_room(self) -> bool:
        disk = os.statvfs(self._settings.store)
        return disk.f_bavail * disk.f_frsize < self._settings.reserve_bytes

    def _ask(self, study: str, version: int) -> bool:
        """Hand a study over to be worked on; return whether it was not before."""
        key = f"{study}:{version}"
        with self._lock:
            if key in self._asked:
                return False
            self._asked.add(key)
        with self._dbos.SetWorkflowID(key):
            self._dbos.DBOS.enqueue_workflow(_QUEUE, self._workflow, study, version)
        return True

    def _sweep(self) -> None:
        """Look for studies that are said to be worked on, and are not."""
        self._forget_ended()
        missing: set[str] = set()
        for state in self._ledger.in_state(WORKING):
            key = f"{state.study}:{state.version}"
            with self._lock:
                if key in self._running:
                    continue
            found = self._dbos.DBOS.retrieve_workflow(key, existing_workflow=False).get_status()
            if found is None or found.status == "ENQUEUED":
                self._ask(state.study, state.version)
            elif found.status not in _ALIVE:
                self._ledger.mark(state.study, state.version, FAILED, f"the workflow ended as {found.status}")
            else:
                missing.add(key)
        if missing & self._missing:
            raise TransportError("a workflow was lost; the process of the workflow starts again to take it up")
        self._missing = missing

    def _forget_ended(self) -> None:
        """Give back the places of workflows that ended before they were asked for (taken up again at a start, say).

        As few are handed over at a time as are worked on: places that nobody gives back would stop the node.
        """
        with self._lock:
            idle = self._asked - self._running
        for key in idle:
            found = self._dbos.DBOS.retrieve_workflow(key, existing_workflow=False).get_status()
            if found is not None and found.status not in _ALIVE:
                with self._lock:
                    self._asked.discard(key)

    def _answer(self, study: str, version: int) -> str:
        """The workflow of one study; all it knows of the world it has from steps."""
        key = f"{study}:{version}"
        with self._lock:
            self._running.add(key)
        try:
            return self._steps(study, version)
        finally:
            with self._lock:
                self._running.discard(key)
                self._asked.discard(key)

    def _steps(self, study: str, version: int) -> str:
        try:
            gathered = self._step("gather", self._gather, study, version)
            if not gathered:
                return "superseded"
            said, refused = 0, ""
            for route in gathered["routes"]:
                told = self._route(gathered, route)
                if isinstance(told, int):
                    said += told
                elif not route["shadow"]:
                    refused = told
        except (IsocenterError, self._dbos.error.DBOSMaxStepRetriesExceeded) as error:
            self._step("fail", self._fail, study, version, _reason(error))
            return FAILED
        if refused:  # nothing of it was sent, so it must not look like one that is done
            self._step("fail", self._fail, study, version, refused)
            return FAILED
        self._step("close", self._close_study, study, version, said)
        return ANSWERED

    def _route(self, gathered: dict[str, Any], route: dict[str, Any]) -> int | str:
        """Answer by one route. What stops a rule in shadow is told, and takes nobody's answer away."""
        try:
            said: int | str = self._step(f"answer {route['name']}", self._answer_route, gathered, route)
        except (IsocenterError, self._dbos.error.DBOSMaxStepRetriesExceeded) as error:
            if not route["shadow"]:
                raise
            why = f"rule {route['name']}, in shadow, did not answer: {_reason(error)}"
            self._step(f"tell {route['name']}", self._ledger.tell, "shadow failed", gathered["study"], why)
            return 0
        return said

    def _step(self, name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        options = {
            "name": name, "retries_allowed": True, "max_attempts": self._settings.tries, "interval_seconds": 0.5,
            "backoff_rate": 2.0, "should_retry": _passing,
        }  # fmt: skip
        return self._dbos.DBOS.run_step(options, function, *arguments)

    def _gather(self, study: str, version: int) -> dict[str, Any]:
        """Claim a study, and link its instances into a folder; return {} where more has arrived meanwhile."""
        ledger, store = self._ledger, self._settings.store
        if not ledger.mark(study, version, WORKING):
            return {}
        rows = ledger.instances(study)
        state = ledger.study(study)
        if state is None or state.version != version:
            return {}
        displaced = ledger.displaced(study)
        if displaced:
            raise DataError(
                f"{displaced} of this study's instances have UIDs that are held in another study; read without them it "
                "would have holes. Send it again with UIDs of its own, or ask for this study by name to leave them out"
            )
        _, inputs = self._link(study, version, rows)
        facts = facts_of(store, state, rows)
        routes = self._ports.router.routes(facts)
        if not routes:
            ledger.tell("no rule", study, "no rule matches this study; it is held, and nothing is answered")
        return {
            "study": study, "version": version, "inputs": inputs,
            "routes": [_route_line(route) for route in routes],
        }  # fmt: skip

    def _link(self, study: str, version: int, rows: Sequence[Mapping[str, Any]]) -> tuple[Path, str]:
        """Link a study's instances into a folder; return it, and a hash of what they are."""
        store = self._settings.store
        folder = store / "work" / _name(study) / f"v{version}" / "received"
        digest = hashlib.sha256()
        try:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700, parents=True)
            for row in rows:
                held = place_of(store, study, row["sop"])
                os.link(held, folder / held.name)
                digest.update(f"{row['sop']} {row['sha256']}\n".encode())
        except FileNotFoundError as error:
            raise DataError(
                "an instance of this study is not held here any more; send it again, then replay"
            ) from error
        except OSError as error:
            raise explain_os_error(error, folder, doing="write") from error
        return folder, digest.hexdigest()

    def _answer_route(self, gathered: dict[str, Any], line: dict[str, Any]) -> int | str:
        """Answer by one route: identity, gate, tasks, ledger. Return how many answers there are, or why none may be."""
        study, version = gathered["study"], gathered["version"]
        route = Route(
            line["name"], tuple(line["tasks"]), tuple(line["destinations"]), line["identity"], line["shadow"],
            line.get("on_trial", True),  # begun by a version that did not tell: all candidates were marked
        )  # fmt: skip
        store = self._settings.store
        folder = store / "work" / _name(study) / f"v{version}" / "received"
        if not folder.is_dir():
            # It was done, and a database that crashed has forgotten that; the disk has not.
            folder, inputs = self._link(study, version, self._ledger.instances(study))
            if inputs != gathered["inputs"]:
                raise DataError("this study's instances are others than when it was begun; ask for it again")
        if route.identity == "remove":
            folder = self._ports.preparer.prepare(folder, folder.parent / f"prepared-{_name(route.name)}")
        out = result_folder(store, study, version, route.name)
        out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        work = Work(study, version, route, folder, gathered["inputs"], out)
        verdict = self._ports.gate.check(work)
        if not verdict.passed:
            said: tuple[Said, ...] = tuple(Said(task, "abstained", verdict.reason) for task in route.tasks)
            self._write_answers(work, said)
            self._ledger.tell("gate", study, verdict.reason)
            return verdict.reason
        worked = self._ports.runner.run(work)
        self._write_answers(work, worked.said)
        for told in worked.told:
            self._ledger.tell("result", study, told)
        own = [scan(file.path, "a result", wanted=_OWN) for file in worked.files if file.form == "dicom"]
        self._ledger.made(study, [header.text("SOPInstanceUID") for header in own])
        if not route.shadow:
            self._ledger.queue(
                [
                    {
                        "delivery": delivery_key(study, str(version), route.name, file.path.name, destination),
                        "study": study, "version": version, "destination": destination, "form": file.form,
                        "file": str(file.path.relative_to(store)),
                    }
                    for destination in route.destinations
                    for file in worked.files
                    if file.to is None or destination in file.to
                ]
            )  # fmt: skip
        return len(worked.said)

    def _write_answers(self, work: Work, said: tuple[Said, ...]) -> None:
        for one in said:
            self._ledger.answered(
                {
                    "answer": delivery_key(work.study, str(work.version), work.route.name, one.task),
                    "study": work.study, "version": work.version, "rule": work.route.name[:64],
                    "task": one.task[:64], "state": one.state, "reason": one.reason, "seconds": one.seconds,
                }
            )  # fmt: skip

    def _close_study(self, study: str, version: int, said: int) -> None:
        amended = ", amended" if version > 1 else ""
        self._ledger.mark(study, version, ANSWERED, f"{said} answers, version {version}{amended}")
        self._ports.notifier.notify(ANSWERED, study, f"version {version}{amended}")
        shutil.rmtree(self._settings.store / "work" / _name(study) / f"v{version}", ignore_errors=True)

    def _fail(self, study: str, version: int, reason: str) -> None:
        self._ledger.mark(study, version, FAILED, reason)
        self._ports.notifier.notify(FAILED, study, reason)
        shutil.rmtree(self._settings.store / "work" / _name(study) / f"v{version}", ignore_errors=True)


def _route_line(route: Route) -> dict[str, Any]:
    return {
        "name": route.name, "tasks": list(route.tasks), "destinations": list(route.destinations),
        "identity": route.identity, "shadow": route.shadow, "on_trial": route.on_trial,
    }  # fmt: skip


def _passing(error: BaseException) -> bool:
    """Tell whether a further try may do: the disk was full, the database busy, a process of the tasks died."""
    return isinstance(error, OutputError | TransportError | OSError | OperationalError | BrokenExecutor)


def _reason(error: Exception) -> str:
    """Return what stopped a study. Only our own messages are free of patients' values; of others the kind is told."""
    inner = (getattr(error, "errors", None) or [error])[-1]
    return str(inner) if isinstance(inner, IsocenterError) else f"{type(inner).__name__}, after several tries"
