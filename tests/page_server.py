"""The viewer's server for tests of the page: real studies, and outlines that are balls around what was pointed at.

`python page_server.py FOLDER WORK PAGE PORT` prints its address once it listens. An answer is a ball of 9 mm in the
patient around every positive point: where it must lie is known without any model. Every act is written to
WORK/acts.jsonl. While there is a file WORK/hold-prompt (or hold-confirm), acts of pointing (or confirming) wait.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from isocenter.core import Geometry, Mask
from isocenter.core.errors import CapabilityError, Conflict, NotFound
from isocenter.verbs.serving.library import StudyLibrary
from isocenter.verbs.serving.masks import MaskFolder
from isocenter.verbs.serving.running import listen, run_server
from isocenter.verbs.serving.sources import FolderSource
from isocenter.verbs.serving.worklist import LabelWork
from isocenter.viewer.app import create_app
from isocenter.viewer.ports import Act, Change, Confirmed, Json, MaskItem, Ports, Served, Tell
from isocenter.viewer.settings import Limits, Settings
from page_cases import BAND_MM, RADIUS_MM, REPLAY_BYTES, SMALL_MM, TOKEN


def ball(geometry: Geometry, centres_lps_mm: Sequence[Sequence[float]], radius_mm: float) -> np.ndarray:
    """Levels of balls in the patient, on an image's grid."""
    if geometry.affine is None or not len(centres_lps_mm):
        return np.zeros(geometry.shape, dtype=np.uint8)
    index = np.indices(geometry.shape).reshape(3, -1).T
    points = geometry.to_world(index)
    distance = np.min([np.linalg.norm(points - np.asarray(c), axis=1) for c in centres_lps_mm], axis=0)
    edges = [radius_mm - BAND_MM, radius_mm, radius_mm + BAND_MM]
    return (3 - np.digitize(distance, edges)).astype(np.uint8).reshape(geometry.shape)


def _within(levels: np.ndarray, changed: np.ndarray) -> tuple[tuple[int, int, int, int, int, int], np.ndarray]:
    """The smallest box around what changed, as the server's answers are."""
    where = np.argwhere(changed)
    if not len(where):
        return (0, 0, 0, 0, 0, 0), np.zeros((0, 0, 0), dtype=np.uint8)
    (z0, y0, x0), (z1, y1, x1) = where.min(0).tolist(), (where.max(0) + 1).tolist()
    return (z0, z1, y0, y1, x0, x1), np.ascontiguousarray(levels[z0:z1, y0:y1, x0:x1])


class BallWork:
    """An interaction whose answers are balls."""

    def __init__(self, whole: BallInteractions, label: str, reader: str) -> None:
        self.label, self.reader, self.all = label, reader, whole
        self.library, self.log = whole.library, whole.log
        self.image, self.done, self.undone = "", [], []  # type: ignore[var-annotated]
        self.closed: list[Json] = []
        self.shown: np.ndarray | None = None
        self.radius_mm = RADIUS_MM
        self.masks: dict[str, tuple[MaskItem, Change]] = {}

    @property
    def cases(self) -> tuple[Json, ...]:
        return tuple(self.closed)

    @property
    def bytes(self) -> int:
        return 0

    def open(self, image: str, tell: Tell, *, propose: bool = True) -> Change:
        self.image, self.done, self.undone = image, [], []
        return self.whole()

    def replay(self, image: str, acts: Sequence[Act], tell: Tell, *, propose: bool = True) -> Change:
        self.open(image, tell)
        if acts:
            self._write({"kind": "replay", "acts": len(acts)})
        for act in acts:
            self._do(act)
        return self.whole()

    def act(self, act: Act, tell: Tell) -> Change:
        prompt = act.prompt
        points = [] if prompt is None else prompt.coordinates.tolist()
        about = {} if prompt is None else {"prompt": prompt.kind, "positive": prompt.positive, "frame": prompt.frame}
        self._write({"kind": act.kind, "image": self.image, "points": points, **about})
        if act.kind == "prompt":
            self._wait("prompt", tell)
        if act.kind == "propagate":
            for step in range(200):
                tell("slices", step / 200)
                time.sleep(0.02)
        self._do(act)
        return self._change(self.shown)

    def _do(self, act: Act) -> None:
        if act.kind == "choose":
            self.radius_mm = (RADIUS_MM, SMALL_MM)[act.number]
        elif act.kind == "prompt":
            self.radius_mm = RADIUS_MM
            self.done.append(act)
            self.undone.clear()
        elif act.kind == "undo" and self.done:
            self.undone.append(self.done.pop())
        elif act.kind == "redo" and self.undone:
            self.done.append(self.undone.pop())
        elif act.kind == "clear":
            self.done.clear()

    def _wait(self, kind: str, tell: Tell) -> None:
        hold = self.log.with_name(f"hold-{kind}")
        end = time.monotonic() + 20
        while hold.exists() and time.monotonic() < end:
            tell("held", -1.0)  # says nothing, and ends where the server does
            time.sleep(0.01)

    def _write(self, what: Json) -> None:
        with self.log.open("a") as file:
            file.write(json.dumps(what) + "\n")

    def whole(self) -> Change:
        return self._change(None)

    def _change(self, since: np.ndarray | None) -> Change:
        levels = self._levels(self.radius_mm)
        self.shown = levels
        return self._as_change(levels, levels != (0 if since is None else since))

    def _levels(self, radius_mm: float) -> np.ndarray:
        prompts = [act.prompt for act in self.done if act.prompt is not None]
        centres = [point for p in prompts if p.positive and p.frame == "lps_mm" for point in p.coordinates.tolist()]
        return ball(self.library.image(self.image).geometry, centres, radius_mm)

    def _as_change(self, levels: np.ndarray, changed: np.ndarray) -> Change:
        box, part = _within(levels, changed)
        dice = 0.9 if self.done else None
        return Change(box, part, dice, len(self.done), bool(self.done), bool(self.undone))

    def alternatives(self) -> tuple[Change, ...]:
        """After one lone point: the usual ball, and a small one. Called while acts may run: it changes nothing."""
        if len(self.done) != 1 or self.undone:
            return ()
        both = [self._levels(radius_mm) for radius_mm in (RADIUS_MM, SMALL_MM)]
        return tuple(self._as_change(levels, levels != 0) for levels in both)

    def confirm(self, *, version: int, seconds: float) -> Confirmed:
        self._wait("confirm", lambda _what, _done: None)
        there = self.all.version(self.image, self.label)
        if version != there:
            raise Conflict("confirm again to add another", code="stale")
        name, created = f"{self.all.count + 1:016x}", f"2026-01-01T00:00:{self.all.count:02}Z"
        item = MaskItem(name, self.image, self.label, self.reader, there + 1, created, 1, 0.9, len(self.done))
        self.masks[name] = (item, self.whole())
        self.closed.append({"image": self.image, "clicks": len(self.done), "seconds": seconds, "first_dice": 0.9})
        return Confirmed(name, len(self.closed), len(self.done), self.cases)

    def rest(self) -> None:
        pass

    def close(self) -> None:
        pass


class BallInteractions:
    """The port whose work is `BallWork`."""

    def __init__(self, library: StudyLibrary, work: Path) -> None:
        self.library, self.log = library, work / "acts.jsonl"
        self.sessions: dict[str, BallWork] = {}

    def begin(self, session: str, label: str, reader: str) -> BallWork:
        self.sessions[session] = BallWork(self, label, reader)
        with (self.log.parent / "sessions.jsonl").open("a") as file:
            file.write(json.dumps([session, label, reader]) + "\n")
        return self.sessions[session]

    def known(self) -> tuple[tuple[str, str, str], ...]:
        file = self.log.parent / "sessions.jsonl"
        return tuple(tuple(json.loads(line)) for line in file.read_text().splitlines()) if file.exists() else ()

    def forget(self, session: str) -> None:
        pass

    def version(self, image: str, label: str) -> int:
        return sum(item.label == label for item in self.masks(image))

    @property
    def count(self) -> int:
        """How many masks there are."""
        return len(self._all())

    def _all(self) -> dict[str, tuple[MaskItem, Change]]:
        return {name: both for work in self.sessions.values() for name, both in work.masks.items()}

    def masks(self, image: str) -> tuple[MaskItem, ...]:
        found = (item for item, _ in self._all().values() if item.image == image)
        return tuple(sorted(found, key=lambda item: item.created))

    def mask(self, mask: str) -> tuple[MaskItem, Change]:
        if mask not in self._all():
            raise NotFound("there is no such mask")
        return self._all()[mask]

    def mask_file(self, mask: str, form: str) -> Served:
        raise CapabilityError("this server of tests writes no files")

    def add_mask(self, image: str, mask: Mask, *, label: str, reader: str) -> MaskItem:
        raise CapabilityError("this server of tests takes no masks")


def main(folder: Path, work: Path, page: Path, port: int) -> None:
    """Serve until the process is ended."""
    source = FolderSource(folder, work)
    library = StudyLibrary(source, work, limits=Limits(), memory_bytes=256 << 20)
    source.start()
    labelling = LabelWork(work, library, MaskFolder(work / "masks", library))
    labelling.refresh()
    settings = Settings(TOKEN, page=page, limits=Limits(replay_bytes=REPLAY_BYTES))
    ports = Ports(library=library, interactions=BallInteractions(library, work), work=labelling)
    app = create_app(ports, settings, on_close=(library.close, labelling.close))
    run_server(app, listen("127.0.0.1", port), _say)


def _say(port: int) -> None:
    sys.stdout.write(f"http://127.0.0.1:{port}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
