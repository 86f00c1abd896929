"""The work list: items found in the library, turns of readers, orders, agreement and export.

    plan -> items (image x label) -> turns of readers -> confirmed masks and classes -> agreement, export

Masks are not kept here: a turn that is done names the mask that its reader confirmed. What goes on in the background
(looking for items, putting them into an order) is done by one thread, and begun again by whoever asks after a restart.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from isocenter.core import Mask
from isocenter.core.errors import ConfigError, Conflict, DataError, IsocenterError, NotFound, Stopped
from isocenter.verbs.serving.confirmed_masks import ConfirmedMasks
from isocenter.verbs.serving.identifiers import identifier
from isocenter.verbs.serving.work_agreement import agreement_of
from isocenter.verbs.serving.work_export import WorkExporter
from isocenter.verbs.serving.work_order import Eye, active_order, random_order
from isocenter.verbs.serving.work_store import FINISHED, NewItem, WorkStore, now
from isocenter.viewer.ports import Library, MaskItem, StudyQuery
from isocenter.viewer.work import (
    ExportOrder,
    Filling,
    Order,
    TurnChange,
    WorkExport,
    WorkItem,
    WorkPage,
    WorkPlan,
    WorkQuery,
    WorkTurn,
)

__all__ = ["LabelWork"]

FOLDER = "worklist"
_STUDIES_AT_ONCE = 200
_LONGEST = 64
_MOST_LABELS = 50


class LabelWork:
    """The port `WorkList`; see the module.

    Args:
        work: Folder of what people make.
        library: Of the images.
        masks: That people confirmed.
        eye: The model that looks at images, for the active order; None where there is none.
        exports: Whether exports may be written.
    """

    def __init__(
        self,
        work: Path,
        library: Library,
        masks: ConfirmedMasks,
        *,
        eye: Eye | None = None,
        exports: bool = True,
    ) -> None:
        self.folder = work / FOLDER
        self.store = WorkStore(self.folder / "list.sqlite")
        self.library, self.masks, self._eye = library, masks, eye
        self._exporter = WorkExporter(work, library, masks, self.wanted_again) if exports else None
        self._lock = threading.Lock()
        self._filling = Filling()
        self._thread: threading.Thread | None = None
        self._again: Callable[[], None] | None = None
        self._stopping = threading.Event()

    # --- plan and items -----------------------------------------------------------------------------------------

    def plan(self) -> WorkPlan:
        """Return the plan."""
        return self.store.plan()

    def set_plan(self, plan: WorkPlan) -> WorkPlan:
        """Change the plan, and begin to look for items."""
        _check_plan(plan)
        before = self.store.plan()
        new = self.store.set_plan(plan)
        reorder = (before.order, before.seed) != (new.order, new.seed)
        self._begin(lambda: self._fill(new, reorder=reorder))
        return new

    def refresh(self) -> None:
        """Look for items that came since, in the background; nothing happens without a plan."""
        plan = self.store.plan()
        if plan.version:
            self._begin(lambda: self._fill(plan, reorder=False))

    def items(self, query: WorkQuery) -> WorkPage:
        """List items by rank."""
        plan = self.store.plan()
        total, found = self.store.page(query, plan)
        counts, by_reader = self.store.counts()
        return WorkPage(total, found, counts, by_reader, plan, self._filling)

    def item(self, item: str) -> WorkItem:
        """Return an item."""
        return self.store.item(item, self.store.plan())

    # --- turns --------------------------------------------------------------------------------------------------

    def next(self, reader: str, label: str) -> WorkItem | None:
        """Return what a reader does next."""
        _check_reader(reader)
        plan = self.store.plan()
        self._settle(reader, plan)
        return self.store.take(reader, label, plan)

    def change(self, item: str, change: TurnChange) -> WorkItem:
        """Change a reader's turn."""
        _check_reader(change.reader)
        plan = self.store.plan()

        def turns(found: WorkItem) -> Iterable[WorkTurn]:
            mine = next((t for t in found.turns if t.reader == change.reader), None)
            if mine is None:
                raise NotFound(f"{change.reader} has no turn of this item; assign it first")
            others = [t for t in found.turns if t.reader != change.reader]
            return [*others, self._turn(found, mine, change)]

        return self.store.change(item, change.version, turns, plan)

    def assign(self, item: str, *, version: int, readers: tuple[str, ...]) -> WorkItem:
        """Say who has an item."""
        for reader in readers:
            _check_reader(reader)

        def turns(found: WorkItem) -> Iterable[WorkTurn]:
            kept = [t for t in found.turns if t.state in FINISHED or t.reader in readers]
            new = [r for r in dict.fromkeys(readers) if r not in {t.reader for t in kept}]
            return [*kept, *(WorkTurn(r, "open", "", "", now()) for r in new)]

        return self.store.change(item, version, turns, self.store.plan())

    def _settle(self, reader: str, plan: WorkPlan) -> None:
        """Count as done what a reader was at and has confirmed since, wherever they did so."""
        doing = self.store.page(WorkQuery(reader=reader, state="doing", limit=-1), plan)[1]
        latest = {(m.image, m.label): m for m in self.masks.items() if m.reader == reader} if doing else {}
        for item in doing:
            mine, mask = next(t for t in item.turns if t.reader == reader), latest.get((item.image, item.label))
            if item.kind == "mask" and mask is not None and mask.created >= mine.updated:
                # Somebody who changed it in this moment knows better.
                with suppress(Conflict):
                    self.change(item.id, TurnChange(item.version, reader, "done", answer=mask.id))

    def _turn(self, item: WorkItem, mine: WorkTurn, change: TurnChange) -> WorkTurn:
        reason = " ".join(change.reason.split())[:200]
        if change.state in ("skipped", "again") and not reason:
            raise ConfigError(f"say why it is {'skipped' if change.state == 'skipped' else 'wanted again'}")
        if change.state == "again" and mine.state not in FINISHED:
            raise ConfigError("another look is asked of what is done or skipped")
        answer = mine.answer
        if change.state == "done":
            answer = self._answer(item, change)
        return WorkTurn(mine.reader, change.state, reason, answer, now())

    def _answer(self, item: WorkItem, change: TurnChange) -> str:
        if item.kind == "class":
            if change.answer not in item.classes:
                raise ConfigError(f"the answer must be one of {', '.join(item.classes)}")
            return change.answer
        mine = [
            m
            for m in self.masks.items()
            if m.image == item.image and m.label == item.label and m.reader == change.reader
        ]
        fitting = [m for m in mine if change.answer in ("", m.id)]
        if not fitting:
            raise ConfigError(f"{change.reader} has confirmed no such mask of {item.label!r} in this image")
        return fitting[-1].id

    # --- order --------------------------------------------------------------------------------------------------

    def reorder(self, order: Order, seed: int) -> Filling:
        """Put what nobody has begun into an order, in the background."""
        if order == "active" and self._eye is None:
            raise ConfigError("this server has no model that looks at images: the orders are given and random")
        plan = self.store.plan()
        new = self.store.set_plan(replace(plan, order=order, seed=seed))
        self._begin(lambda: self._order(new))
        return self._filling

    def _order(self, plan: WorkPlan) -> None:
        items = self.store.all(plan)
        waiting = {i.id for i in items if not any(t.state in ("doing", *FINISHED) for t in i.turns)}
        if plan.order == "random":
            ids = random_order(items, plan.seed)
        elif plan.order == "active" and self._eye is not None:
            ordered = active_order(
                items, self._confirmed(), self.library.image, self._eye, self.folder / "looks", self._tell
            )
            self._filling = replace(self._filling, left_out=self._filling.left_out + ordered.left_out)
            ids = ordered.items
        else:
            ids = tuple(i.id for i in sorted(items, key=lambda i: (i.study, i.image, i.label)))
        self.store.put_in_order([i for i in ids if i in waiting])

    def wanted_again(self) -> frozenset[tuple[str, str]]:
        """Return image and label of what somebody asked another look at."""
        items = self.store.page(WorkQuery(state="again", limit=-1), WorkPlan())[1]
        return frozenset((i.image, i.label) for i in items)

    def _confirmed(self) -> dict[str, list[tuple[str, Callable[[], np.ndarray]]]]:
        """Return, of each label, the images that have a mask, and how to read the latest."""
        latest: dict[tuple[str, str], MaskItem] = {(m.label, m.image): m for m in self.masks.items()}
        found: dict[str, list[tuple[str, Callable[[], np.ndarray]]]] = {}
        for (label, image), item in latest.items():
            found.setdefault(label, []).append((image, lambda m=item.id: _inside(self.masks.mask(m))))  # type: ignore[misc]
        return found

    # --- agreement and export -----------------------------------------------------------------------------------

    def agreement(self, *, label: str, tolerance_mm: float) -> dict[str, Any]:
        """Say how far readers agree on a label."""
        plan = self.store.plan()
        what = next((one for one in plan.labels if one.name == label), None)
        if what is None:
            raise NotFound("the plan has no such label")
        items = [i for i in self.store.all(plan) if i.label == label]
        return agreement_of(what, items, self.masks, self.library, tolerance_mm=tolerance_mm)

    def export(self, order: ExportOrder) -> WorkExport:
        """Write the confirmed masks for a training."""
        if self._exporter is None:
            raise ConfigError("this server writes no exports")
        return self._exporter.export(order, self.store.plan())

    def exported(self, export: str) -> tuple[str, str]:
        """Return the packed file of an export."""
        if self._exporter is None:
            raise NotFound("there is no such export")
        return self._exporter.exported(export)

    def status(self, study: str) -> tuple[Literal["new", "open", "read", "signed"], str | None]:
        """Return how far a study is and who has it."""
        _, items = self.store.page(WorkQuery(study=study, limit=-1), WorkPlan())
        turns = [t for i in items for t in i.turns]
        waiting = [t.reader for t in turns if t.state not in FINISHED]
        short = any(len(i.turns) < i.wanted for i in items)
        if not turns:
            return "new", None
        if not waiting and not short:
            return "read", None
        begun = any(t.state in ("doing", *FINISHED) for t in turns)
        return "open" if begun else "new", waiting[0] if waiting else None

    def assigned(self, study: str) -> str | None:
        """Return who has a study, None for nobody."""
        return self.status(study)[1]

    # --- in the background --------------------------------------------------------------------------------------

    def wait(self, seconds: float = 60.0) -> Filling:
        """Wait until nothing goes on in the background."""
        thread = self._thread
        if thread is not None:
            thread.join(seconds)
        return self._filling

    def close(self) -> None:
        """Stop what goes on in the background."""
        self._stopping.set()
        self.wait(10.0)

    def _begin(self, act: Callable[[], None]) -> None:
        with self._lock:
            if self._thread is not None and self._thread.is_alive():
                self._again = act  # the latest wish is done when this one is
                return
            self._filling = Filling("beginning")
            self._thread = threading.Thread(target=self._run, args=(act,), name="worklist", daemon=True)
            self._thread.start()

    def _run(self, act: Callable[[], None] | None) -> None:
        while act is not None and not self._stopping.is_set():
            problem = ""
            try:
                act()
            except Stopped:
                return
            except IsocenterError as error:
                problem = str(error)
            with self._lock:
                self._filling = Filling(problem=problem, left_out=self._filling.left_out)
                act, self._again = self._again, None
                if act is None:
                    self._thread = None

    def _tell(self, what: str, done: float) -> None:
        if self._stopping.is_set():
            raise Stopped("the server stops")
        self._filling = replace(self._filling, what=what, done=round(done, 3))

    def _fill(self, plan: WorkPlan, *, reorder: bool) -> None:
        """Look through the library for items that are not there yet."""
        offset, lost, added = 0, 0, 0
        while self.library.studies(StudyQuery(limit=1)).scanning:
            self._tell("waiting until all studies are found", 0.0)
            self._stopping.wait(0.2)
        while True:
            page = self.library.studies(
                StudyQuery(q=plan.q, modality=plan.modality, offset=offset, limit=_STUDIES_AT_ONCE)
            )
            for number, study in enumerate(page.items, start=offset):
                self._tell("looking for images", number / max(1, page.total))
                try:
                    detail = self.library.study(study.id)
                except (DataError, NotFound):
                    lost += 1
                    continue
                fitting = [i for i in detail.images if not plan.modality or i.modality == plan.modality]
                new = [_new(plan, study.id, study.patient_key, i.id) for i in fitting]
                added += self.store.add([item for items in new for item in items], plan.readers)
            offset += len(page.items)
            if not page.items:
                break
        self._filling = replace(self._filling, left_out=lost)
        if (added or reorder) and plan.order != "given":
            self._order(plan)


def _new(plan: WorkPlan, study: str, patient: str, image: str) -> list[NewItem]:
    draw = int.from_bytes(hashlib.sha256(f"{plan.seed} {patient}".encode()).digest()[:8], "big") / 2**64
    wanted = plan.shared_readers if draw < plan.shared else 1
    return [(identifier("work", image, label.name), study, image, label.name, patient, wanted) for label in plan.labels]


def _inside(mask: Mask) -> np.ndarray:
    return mask.segment_array(mask.segments[0].number)


def _check_reader(reader: str) -> None:
    if not 1 <= len(reader) <= _LONGEST or not reader.isprintable() or reader != reader.strip():
        raise ConfigError("a reader is named by 1 to 64 letters, initials for instance")


def _check_plan(plan: WorkPlan) -> None:
    names = [label.name for label in plan.labels]
    if not 1 <= len(names) <= _MOST_LABELS or len(set(names)) != len(names):
        raise ConfigError(f"a plan has 1 to {_MOST_LABELS} labels with names that differ")
    for label in plan.labels:
        if not 1 <= len(label.name) <= _LONGEST or not label.name.isprintable():
            raise ConfigError("a label is named by 1 to 64 letters")
        if label.kind == "class" and (len(label.classes) < 2 or len(set(label.classes)) != len(label.classes)):
            raise ConfigError(f"{label.name}: two or more classes that differ are needed")
    if len(set(plan.readers)) != len(plan.readers):
        raise ConfigError("a reader is named twice")
    for reader in plan.readers:
        _check_reader(reader)
    if not 0 <= plan.shared <= 1 or not 1 <= plan.shared_readers <= 10:
        raise ConfigError("the share lies between 0 and 1, and 1 to 10 readers share")
    if plan.readers and plan.shared > 0 and plan.shared_readers > len(plan.readers):
        raise ConfigError(f"{plan.shared_readers} readers shall share images, and the plan names {len(plan.readers)}")
