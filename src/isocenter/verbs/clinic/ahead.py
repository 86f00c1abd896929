"""Answers ahead: what the tasks say of a study as far as it has come, marked as provisional, never the final word.

A provisional answer is `isocenter read` on the instances that are there, by the very function that will answer the
whole study, at low priority. What it leaves behind for the final answer is a memo (`core.memo`): decoded frames and
looks of networks, each under the hash of what it was made from. The final answer may be sooner for it; it can't be
another.

    STORE/provisional/STUDY/ROUTE/provisional.json   what was said, of how much, and that it is provisional
    STORE/provisional/STUDY/ROUTE/N/                 the result as `isocenter read` writes it; gone once superseded
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from pydicom import Dataset, dcmread
from pydicom.uid import UID

from isocenter.clinic.arrival import ArrivingStudy, FolderMemo, arrival_folder
from isocenter.clinic.dimse.holding import place_of
from isocenter.clinic.ports import Route, Router, Work, Worked
from isocenter.clinic.workflow import Ledger, delivery_key
from isocenter.clinic.workflow.engine import facts_of
from isocenter.core import LooksAhead
from isocenter.core.errors import IsocenterError, Stopped
from isocenter.core.memo import remembering
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.identity import derive_uid
from isocenter.plugins import load_task
from isocenter.verbs.clinic.critical import CriticalRule, critical_findings
from isocenter.verbs.clinic.tasks import TaskRunner, answer
from isocenter.verbs.read import ReadConfig, read_study, state
from isocenter.verbs.result import read_result
from isocenter.verbs.running import choose_tasks

__all__ = [
    "Ahead",
    "AheadSettings",
    "Memos",
    "answer_ahead",
    "answer_warm",
    "marked_provisional",
    "provisional_folder",
    "supersede",
]

_LOG = logging.getLogger(__name__)
_NICE: Final = 10
_DESCRIPTION: Final = "PROVISIONAL: "
FILE: Final = "provisional.json"


@dataclass(frozen=True)
class Memos:
    """Where the memos of arriving studies are.

    Args:
        store: The node's folder.
        limit_bytes: Of each.
        reserve_bytes: Room on the disk that is left to what is received.
    """

    store: Path
    limit_bytes: int
    reserve_bytes: int

    def of(self, study: str, *, read_only: bool = False) -> FolderMemo:
        """Return the memo of a study."""
        return FolderMemo(arrival_folder(self.store, study) / "memo", self.limit_bytes, self.reserve_bytes, read_only)


def answer_warm(memos: Memos, work: Work, settings: Mapping[str, Any]) -> Worked:
    """Answer a study for good, with what was remembered while it arrived."""
    memo = memos.of(work.study, read_only=True)
    with remembering(memo if memo.folder.is_dir() else None):
        return answer(work, settings)


def answer_ahead(memos: Memos, work: Work, settings: Mapping[str, Any]) -> Worked:
    """Answer as much of a study as there is, without haste, and remember."""
    os.nice(max(0, _NICE - os.nice(0)))
    with remembering(memos.of(work.study)):
        _look_ahead(work, settings)
        return answer(work, settings)


def _look_ahead(work: Work, settings: Mapping[str, Any]) -> None:
    """Have tasks look at what the whole study will show them too: a part of an image they may abstain from."""
    entries = choose_tasks(work.route.tasks).entries.values()
    tasks = [task for entry in entries if isinstance(task := load_task(entry), LooksAhead)]
    if not tasks:
        return
    config = ReadConfig(path=work.folder, out=work.out, tasks=work.route.tasks, **settings)
    study, _ = state(read_study(config, lambda _what, _done: None).study, config)
    for task, image in product(tasks, study.images):
        task.look_ahead(replace(study, images=(image,), masks=()))


def provisional_folder(store: Path, study: str) -> Path:
    """Return where the provisional answers about a study are."""
    return store / "provisional" / arrival_folder(store, study).name


@dataclass(frozen=True)
class AheadSettings:
    """When to answer ahead.

    Args:
        store: The node's folder.
        every_s: Between two answers about one study.
        lull_s: When nothing came for so long, what has come is answered at once.
        settled_s: An answer about what came so long ago is not merely about a part of it, as far as one can tell.
        deliver: Whether provisional answers are sent.
        critical: What is critical.
        records: Names of destinations that take messages and no DICOM objects: nothing provisional is sent there.
    """

    store: Path
    every_s: float = 10.0
    lull_s: float = 1.0
    settled_s: float = 5.0
    deliver: bool = False
    critical: tuple[CriticalRule, ...] = ()
    records: frozenset[str] = frozenset()


@runtime_checkable
class Asker(Protocol):
    """Asks tasks ahead: a `TaskRunner`, or what stands in for one."""

    def run(self, work: Work, cancelled: Callable[[], bool]) -> Worked:
        """Answer a study, unless it is not wanted any more."""
        ...

    def close(self) -> None:
        """End its processes."""
        ...


@dataclass(eq=False)
class _Progress:
    """How far a study was answered ahead."""

    instances: int = 0
    began: float = 0.0
    settled: bool = False


class Ahead:
    """Answers ahead, one study at a time.

    Args:
        settings: When.
        ledger: Of the node.
        router: Which tasks are asked.
        runner: Asks them, with `answer_ahead`.
        tell: Told of each event: kind, study, detail.
    """

    def __init__(
        self,
        settings: AheadSettings,
        ledger: Ledger,
        router: Router,
        runner: Asker,
        tell: Callable[[str, str, str], None],
    ) -> None:
        self._settings, self._ledger, self._router, self._runner = settings, ledger, router, runner
        self._tell = tell
        self._progress: dict[tuple[str, int], _Progress] = {}
        self._working: threading.Thread | None = None
        self._study = ""
        self._cancelled = threading.Event()

    def turn(self, arriving: Mapping[str, ArrivingStudy], now: float) -> None:
        """Begin what is due, and end what is not wanted any more."""
        if self._working is not None and self._working.is_alive():
            if self._study not in arriving:
                self._cancelled.set()  # the study is complete: its final answer needs the processor
            return
        self._progress = {k: v for k, v in self._progress.items() if k[0] in arriving}
        due = [one for one in arriving.values() if self._is_due(one, now)]
        if not due:
            return
        one = min(due, key=lambda study: self._of(study).began)
        progress = self._of(one)
        progress.instances, progress.began = len(one.sops), now
        progress.settled = now - one.since >= self._settings.settled_s
        self._study = one.study
        self._cancelled.clear()
        self._working = threading.Thread(
            target=self._guarded, args=(one.study, one.version, sorted(one.sops), progress.settled), daemon=True
        )
        self._working.start()

    def is_at(self, study: str) -> bool:
        """Tell whether a study is being answered ahead: what comes of that may still be written."""
        return self._study == study and self._working is not None and self._working.is_alive()

    def close(self) -> None:
        """End what is under way."""
        self._cancelled.set()
        if self._working is not None:
            self._working.join(10.0)
        self._runner.close()

    def _of(self, one: ArrivingStudy) -> _Progress:
        return self._progress.setdefault((one.study, one.version), _Progress())

    def _is_due(self, one: ArrivingStudy, now: float) -> bool:
        progress, quiet = self._of(one), now - one.since
        if not one.series or one.patients_mixed:
            return False
        if len(one.sops) > progress.instances:
            return quiet >= self._settings.lull_s or now - max(progress.began, one.began) >= self._settings.every_s
        # What was answered in the middle of arriving is looked at once more when nothing came for long.
        return not progress.settled and quiet >= self._settings.settled_s

    def _guarded(self, study: str, version: int, sops: Sequence[str], settled: bool) -> None:
        try:
            self._answer(study, version, sops, settled)
        except Stopped:
            return
        except (IsocenterError, OSError) as error:
            _LOG.warning("no provisional answer about a study: %s", type(error).__name__)

    def _answer(self, study: str, version: int, sops: Sequence[str], settled: bool) -> None:
        state = self._ledger.study(study)
        if state is None or state.version != version or self._ledger.displaced(study):
            return
        rows = [row for row in self._ledger.instances(study) if row["sop"] in set(sops)]
        routes = [r for r in self._router.routes(facts_of(self._settings.store, state, rows)) if r.identity == "keep"]
        if not routes:
            return
        folder = arrival_folder(self._settings.store, study) / "landed"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700, parents=True)
        digest = hashlib.sha256()
        for row in rows:
            held = place_of(self._settings.store, study, row["sop"])
            os.link(held, folder / held.name)
            digest.update(f"{row['sop']} {row['sha256']}\n".encode())
        for route in routes:
            self._answer_route(Work(study, version, route, folder, digest.hexdigest(), Path()), len(rows), settled)

    def _answer_route(self, asked: Work, count: int, settled: bool) -> None:
        here = provisional_folder(self._settings.store, asked.study) / _name(asked.route)
        out = here / f"{count}-{asked.inputs[:12]}"
        out.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        work = Work(asked.study, asked.version, asked.route, asked.folder, asked.inputs, out)
        worked = self._runner.run(work, self._cancelled.is_set)
        critical = critical_findings(read_result(out), self._settings.critical)
        self._note(work, worked, count, critical)
        for older in here.iterdir():
            if older.is_dir() and older.name != out.name:
                self._ledger.withdraw(asked.study, str(older.relative_to(self._settings.store)))
                shutil.rmtree(older, ignore_errors=True)
        answered = sum(one.state == "answered" for one in worked.said)
        what = f"{answered} of {len(worked.said)} tasks of {work.route.name} answered for {count} instances so far"
        self._tell("provisional", work.study, what)
        if critical and not work.route.shadow:
            reason = f"provisional: {'; '.join(critical)}"[:500]
            if self._ledger.mark_critical(work.study, reason):
                self._tell("critical", work.study, reason)
        if settled:
            for one in worked.said:
                if one.state == "abstained":
                    self._tell("alert", work.study, f"task: {one.task} does not answer: {one.reason}"[:500])
        if self._settings.deliver and not work.route.shadow and answered:
            self._deliver(work, worked)

    def _note(self, work: Work, worked: Worked, count: int, critical: Sequence[str]) -> None:
        content = {
            "provisional": True, "preliminary": True, "final": False, "superseded": False, "study": work.study,
            "version": work.version, "rule": work.route.name, "instances": count, "inputs": work.inputs,
            "at": datetime.now(UTC).isoformat(timespec="seconds"), "result": f"{work.out.name}/result.json",
            "said": [{"task": one.task, "state": one.state, "reason": one.reason} for one in worked.said],
            "critical": list(critical),
        }  # fmt: skip
        _write(work.out.parent / FILE, content)

    def _deliver(self, work: Work, worked: Worked) -> None:
        store = self._settings.store
        files = marked_provisional([f.path for f in worked.files if f.form == "dicom"], work.out / "provisional")
        self._ledger.made(work.study, [uid for _, uid in files])
        self._ledger.queue(
            [
                {
                    "delivery": delivery_key(work.study, "provisional", work.inputs, work.route.name, file.name, to),
                    "study": work.study, "version": work.version, "destination": to, "form": "dicom",
                    "file": str(file.relative_to(store)),
                }
                for to in work.route.destinations
                if to not in self._settings.records
                for file, _ in files
            ]
        )  # fmt: skip


def supersede(store: Path, ledger: Ledger, study: str, version: int) -> None:
    """Mark the provisional answers about a study as superseded, and remove what could be taken for a result.

    Args:
        store: The node's folder.
        ledger: Of the node; provisional results that still wait to be sent are withdrawn.
        study: Study Instance UID.
        version: Of the final answer.
    """
    top = provisional_folder(store, study)
    ledger.withdraw(study, str(top.relative_to(store)))
    for file in sorted(top.glob(f"*/{FILE}")):
        try:
            content = json.loads(file.read_text("utf-8"))
        except (OSError, ValueError):
            content = {"provisional": True}
        if not content.get("superseded"):
            _write(file, {**content, "superseded": True, "superseded_by_version": version, "result": None})
    for folder in top.glob("*/*"):
        if folder.is_dir():
            shutil.rmtree(folder, ignore_errors=True)


def _name(route: Route) -> str:
    return hashlib.blake2b(route.name.encode(), digest_size=16).hexdigest()


def _write(file: Path, content: Mapping[str, Any]) -> None:
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def marked_provisional(files: Sequence[Path], out: Path) -> list[tuple[Path, str]]:
    """Write copies of DICOM results that nobody can take for the final ones; return them with their UIDs.

    Their UIDs are others (a provisional answer about all instances would else have the final one's), they refer to each
    other, reports are partial, and their description says what they are.

    Source:
        DICOM PS3.3 C.17.2 (Completion Flag, Preliminary Flag).
    """
    sets = [dcmread(file) for file in files]
    others: dict[str, UID] = {}
    for dataset in sets:
        for uid in (str(dataset.SOPInstanceUID), str(dataset.SeriesInstanceUID)):
            others[uid] = derive_uid(uid, "provisional")

    def change(_: Dataset, element: Any) -> None:
        if element.VR == "UI" and isinstance(element.value, str) and str(element.value) in others:
            element.value = others[str(element.value)]

    written = []
    out.mkdir(mode=0o700, parents=True, exist_ok=True)
    for file, dataset in zip(files, sets, strict=True):
        dataset.walk(change)
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        dataset.SeriesDescription = (_DESCRIPTION + str(dataset.get("SeriesDescription") or ""))[:64]
        if "CompletionFlag" in dataset:
            dataset.CompletionFlag = "PARTIAL"
            dataset.CompletionFlagDescription = "provisional: made while the study was arriving"
            dataset.PreliminaryFlag = "PRELIMINARY"
        with atomic_path(out / file.name) as temporary:
            dataset.save_as(temporary, enforce_file_format=True)
        written.append((out / file.name, str(dataset.SOPInstanceUID)))
    return written


def ahead_runner(memos: Memos, settings: Mapping[str, Mapping[str, Any]], longest_s: float) -> TaskRunner:
    """Return what asks tasks ahead: one process at low priority."""
    return TaskRunner(settings, 1, longest_s, answering=partial(answer_ahead, memos))
