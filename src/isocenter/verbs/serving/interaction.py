"""Interactive work behind the viewer: one engine for all, a session per person and structure, masks on disk.

    work/sessions/ID/state.json     label, reader; of each case its mask, clicks, seconds, what the first answer said
    work/sessions/ID/cases/         the confirmed cases in the form of `verbs.session_folder`
    work/masks/                     the confirmed masks (`verbs.serving.masks`)

A confirmed mask is written and proven before anybody is told, and a session is found again by its name after a restart.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from isocenter.core import Mask
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.verbs.serving.identifiers import is_identifier
from isocenter.verbs.serving.masks import MaskFolder, NewMask, levels_of_mask
from isocenter.verbs.session_folder import MANIFEST, append_case, read_cases, read_manifest
from isocenter.viewer.ports import Act, Change, Confirmed, Json, Library, MaskItem, Served, Tell

if TYPE_CHECKING:
    from isocenter.tasks.interact import session as interact
    from isocenter.tasks.interact.engine import Engine
    from isocenter.tasks.interact.session import Session

__all__ = ["SessionInteraction", "SessionInteractions"]

KEPT_CASES, KEPT_BYTES = 8, 256 << 20
"""Confirmed cases that answer the next image: the latest, at most so many and so large together, but always one. All of
them stand in the work folder."""
_STATE = "state.json"


@dataclass(frozen=True)
class _CaseNote:
    """How a case went."""

    mask: str
    image: str
    clicks: int
    seconds: float
    first_dice: float | None


class SessionInteractions:
    """The port `Interactions`; see the module.

    Args:
        library: Of images.
        work: Folder of what people make.
        make_engine: Makes the models when they are first needed; None for the built-in ones.
    """

    def __init__(self, library: Library, work: Path, *, make_engine: Callable[[], Engine] | None = None) -> None:
        self.library, self.work = library, work
        self.mask_folder = MaskFolder(work / "masks", library)
        self._make_engine = make_engine
        self._engine: Engine | None = None
        self._lock = threading.Lock()

    @property
    def engine(self) -> Engine:
        """The models, loaded once for everybody.

        Raises:
            WeightsError: Weights are missing or altered.
            CapabilityError: torch is not installed.
        """
        with self._lock:
            if self._engine is None:
                self._engine = self._make_engine() if self._make_engine is not None else _built_in_engine()
            return self._engine

    def begin(self, session: str, label: str, reader: str) -> SessionInteraction:
        """Start a session's work, or take up the one that stands in the work folder."""
        folder = self._folder(session)
        state = _read_state(folder) if (folder / _STATE).is_file() else None
        if state is None:
            _write_state(folder, label, reader, ())
            return SessionInteraction(self, folder, label, reader, ())
        return SessionInteraction(self, folder, *state)

    def known(self) -> tuple[tuple[str, str, str], ...]:
        """Return the sessions that stand in the work folder."""
        found = []
        for state in sorted((self.work / "sessions").glob(f"*/{_STATE}")):
            if is_identifier(state.parent.name):
                # One that was damaged says so when it is asked for, and does not keep the others from being found.
                with suppress(DataError):
                    label, reader, _ = _read_state(state.parent)
                    found.append((state.parent.name, label, reader))
        return tuple(found)

    def forget(self, session: str) -> None:
        """Remove a session without a confirmed case from the work folder; one with cases stays, for training."""
        folder = self._folder(session)
        if (folder / _STATE).is_file() and not (folder / "cases").exists():
            (folder / _STATE).unlink()
            folder.rmdir()

    def version(self, image: str, label: str) -> int:
        """Return how many versions of a structure's mask were confirmed on an image."""
        return self.mask_folder.version(image, label)

    def masks(self, image: str) -> tuple[MaskItem, ...]:
        """List the confirmed masks of an image."""
        return self.mask_folder.of_image(image)

    def mask(self, mask: str) -> tuple[MaskItem, Change]:
        """Return a confirmed mask, whole, as levels."""
        return self.mask_folder.levels(mask)

    def mask_file(self, mask: str, form: str) -> Served:
        """Return a mask as a file."""
        return self.mask_folder.file(mask, form)

    def add_mask(self, image: str, mask: Mask, *, label: str, reader: str) -> MaskItem:
        """Take a mask that was drawn elsewhere, as a new version."""
        whole = self.library.image(image)
        new = NewMask(image, label, reader, mask, levels_of_mask(mask), None, 0, ())
        return self.mask_folder.add(new, whole, version=None)

    def _folder(self, session: str) -> Path:
        if not is_identifier(session):
            raise ConfigError("a session's name is 16 hexadecimal digits")
        return self.work / "sessions" / session


class SessionInteraction:
    """The port `Interaction`; see the module. Models and cases are loaded when the first image is opened."""

    def __init__(
        self, all_: SessionInteractions, folder: Path, label: str, reader: str, cases: tuple[_CaseNote, ...]
    ) -> None:
        self.label, self.reader = label, reader
        self._all, self._folder, self._cases = all_, folder, cases
        self._session: Session | None = None
        self._image = ""
        self._resting = False
        self._offered: tuple[Change, ...] = ()
        self._first_dice: float | None = None

    @property
    def cases(self) -> tuple[Json, ...]:
        """The confirmed cases: mask, image, clicks, seconds, first_dice."""
        return tuple(asdict(case) for case in self._cases)

    @property
    def bytes(self) -> int:
        """Memory that `rest` would free, roughly."""
        if self._session is None:
            return 0
        image = self._session.image
        return self._session.bytes + (0 if image is None else image.array.nbytes)

    def open(self, image: str, tell: Tell, *, propose: bool = True) -> Change:
        """Open an image; with confirmed cases it already holds an outline."""
        return self.replay(image, (), tell, propose=propose)

    def replay(self, image: str, acts: Sequence[Act], tell: Tell, *, propose: bool = True) -> Change:
        """Open an image and do acts again."""
        from isocenter.tasks.interact.session import Act as Done

        clock = _Clock()
        _settle_threads()
        self._image, self._offered, self._resting = "", (), False
        whole = self._all.library.image(image)
        clock.lap("read")
        work = self._work()
        clock.lap("load")
        done = [Done(act.kind, act.prompt, act.number, act.axis, act.first, act.last) for act in acts]
        # One act after the other, so that what the first answer promised is known.
        change = work.begin(whole, propose=propose, progress=_progress(tell, "the confirmed cases"))
        first = change.expected_dice
        for act in done:
            change = work.act(act, _progress(tell, "acts"))
            first = change.expected_dice if first is None else first
        self._image, self._first_dice = image, first
        clock.lap("answer")
        return self._told(work, work.whole if done else change, clock)

    def act(self, act: Act, tell: Tell) -> Change:
        """Do one act."""
        from isocenter.tasks.interact.session import Act as Done

        clock = _Clock()
        _settle_threads()
        work = self._awake(clock)
        done = Done(act.kind, act.prompt, act.number, act.axis, act.first, act.last)
        change = work.act(done, _progress(tell, "planes"))
        if self._first_dice is None:
            self._first_dice = change.expected_dice
        clock.lap("answer")
        return self._told(work, change, clock)

    def alternatives(self) -> tuple[Change, ...]:
        """Return the alternatives of the last prompt, best first."""
        return self._offered

    def whole(self) -> Change:
        """Return the whole outline as it stands, in its box."""
        clock = _Clock()
        work = self._awake(clock)
        return self._told(work, work.whole, clock)

    def confirm(self, *, version: int, seconds: float) -> Confirmed:
        """Say that the mask is right: it is written, proven, and becomes an example."""
        work = self._awake(_Clock())
        case, whole = work.case(), work.whole
        prompts = tuple(
            {
                "kind": p.kind,
                "positive": p.positive,
                "frame": p.frame,
                "points": np.round(p.coordinates, 3).tolist(),
            }
            for p in work.prompts
        )
        change = Change(_box(whole.box), whole.levels)
        new = NewMask(
            self._image, self.label, self.reader, case.mask, change, whole.expected_dice, case.prompts, prompts
        )
        item = self._all.mask_folder.add(new, case.image, version=version)
        note = _CaseNote(item.id, self._image, case.prompts, round(max(0.0, seconds), 1), self._first_dice)
        append_case(work, case, self._folder / "cases")
        _write_state(self._folder, self.label, self.reader, (*self._cases, note))
        work.keep = _fitting((*work.cases, case))
        work.take(case)
        self._cases = (*self._cases, note)
        return Confirmed(item.id, len(self._cases), case.prompts, self.cases)

    def rest(self) -> None:
        """Let go of what can be made again."""
        if self._session is not None:
            self._session.rest()
            self._resting = bool(self._image)

    def close(self) -> None:
        """Let go of everything."""
        self._session, self._image, self._offered = None, "", ()

    def _work(self) -> Session:
        """Return the session, with the confirmed cases of the work folder."""
        from isocenter.tasks.interact.session import Session

        if self._session is None:
            session = Session(self._all.engine, self.label, keep=KEPT_CASES)
            folder = self._folder / "cases"
            held: list[interact.ConfirmedCase] = []
            entries = read_manifest(folder).cases[-KEPT_CASES:] if (folder / MANIFEST).is_file() else ()
            for entry in reversed(entries):
                held.insert(0, *read_cases(folder, [entry]))
                if _fitting(held) < len(held):
                    held.pop(0)
                    break
            for case in held:
                session.take(case)
            self._session = session
        return self._session

    def _awake(self, clock: _Clock) -> Session:
        if self._session is None or not self._image:
            raise ConfigError("no image is open; open one first")
        if self._resting:
            self._session.wake(self._all.library.image(self._image))
            self._resting = False
            clock.lap("wake")
        return self._session

    def _told(self, work: Session, change: interact.Change, clock: _Clock) -> Change:
        self._offered = tuple(Change(_box(a.box), a.levels, a.expected_dice) for a in change.alternatives)
        return Change(
            box_zyx=_box(change.box),
            levels=change.levels,
            expected_dice=change.expected_dice,
            prompts=len(work.prompts),
            can_undo=work.can_undo,
            can_redo=work.can_redo,
            alternatives=len(self._offered),
            milliseconds=clock.laps,
        )


def _fitting(cases: Sequence[interact.ConfirmedCase]) -> int:
    """Return how many of some cases, the latest, are held in memory."""
    total = 0
    for number, case in enumerate(reversed(cases)):
        total += case.image.array.nbytes
        if number and (number == KEPT_CASES or total > KEPT_BYTES):
            return number
    return max(1, len(cases))


class _Clock:
    """Milliseconds by stage."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._since = time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self.laps[name] = round((now - self._since) * 1000, 1)
        self._since = now


def _progress(tell: Tell, what: str) -> Callable[[int, int], None]:
    return lambda done, of: tell(what, done / max(1, of))


def _box(box: tuple[slice, slice, slice]) -> tuple[int, int, int, int, int, int]:
    z, y, x = box
    return z.start, z.stop, y.start, y.stop, x.start, x.stop


def _built_in_engine() -> Engine:
    from isocenter.tasks.interact.engine import Engine

    return Engine()


def _settle_threads() -> None:
    """Let an act use half of the cores.

    As many acts as there are cores run at once, and more threads would get in each other's way. The number never
    changes, so that a replay adds up in the same order.
    """
    import torch

    wanted = max(1, (os.cpu_count() or 1) // 2)
    if torch.get_num_threads() != wanted:
        torch.set_num_threads(wanted)


def _read_state(folder: Path) -> tuple[str, str, tuple[_CaseNote, ...]]:
    file = folder / _STATE
    try:
        state = json.loads(file.read_text("utf-8"))
        return str(state["label"]), str(state["reader"]), tuple(_CaseNote(**case) for case in state["cases"])
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error
    except (ValueError, KeyError, TypeError) as error:
        raise DataError("is not a session's state; move it away to begin anew", source=file) from error


def _write_state(folder: Path, label: str, reader: str, cases: tuple[_CaseNote, ...]) -> None:
    state = {"format": 1, "label": label, "reader": reader, "cases": [asdict(case) for case in cases]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, folder, doing="write") from error
    with atomic_path(folder / _STATE) as place:
        place.write_text(json.dumps(state, indent=1) + "\n", "utf-8")
