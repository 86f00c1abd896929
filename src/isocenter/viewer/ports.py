"""What the verb `serve` hands to the viewer: nouns as frozen dataclasses, and Protocols that act on them.

Everything here is core types, numbers and text. A port raises the errors of `core.errors`: `NotFound` for a name that
is not known, `Conflict` for what somebody has changed meanwhile, `TooLarge` for what does not fit, `AtCapacity` for a
limit; `problems` turns them into answers. Ports are called from several threads at once.

Identifiers (study, image, mask, session, job, reading, draft) are opaque: 16 hexadecimal digits, never a path, never a
patient's value. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from isocenter.core import Prompt
from isocenter.viewer.report_ports import Asking, Drafts, Outlooks, Served
from isocenter.viewer.study_ports import (
    ImageItem,
    Json,
    LeftOut,
    Library,
    Picture,
    PixelForm,
    Planes,
    ReportItem,
    Status,
    StudyDetail,
    StudyItem,
    StudyPage,
    StudyQuery,
    Tell,
    Window,
)

__all__ = [
    "Asking",
    "Change",
    "Confirmed",
    "Drafts",
    "ImageItem",
    "Interaction",
    "Interactions",
    "Job",
    "Jobs",
    "Json",
    "LeftOut",
    "Library",
    "MaskItem",
    "Outlooks",
    "Picture",
    "PixelForm",
    "Planes",
    "Ports",
    "Problem",
    "Readings",
    "ReportItem",
    "Served",
    "Status",
    "StudyDetail",
    "StudyItem",
    "StudyPage",
    "StudyQuery",
    "TaskItem",
    "Tell",
    "Window",
    "WorkList",
]

# --- jobs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Why something failed: a short code for programs, and words for people."""

    code: str
    detail: str


@dataclass(frozen=True)
class Job:
    """Work that goes on while nobody waits.

    Args:
        id: Of the job.
        kind: What it does ("reading", ...).
        state: How far it is.
        stage: What it is doing, in words.
        done: How much of it is done, 0 to 1.
        result: What it made: names of things to ask for; None before it is done.
        problem: Why it failed; None where it did not.
        about: What it is about (a study).
    """

    id: str
    kind: str
    state: Literal["queued", "running", "done", "failed", "stopped"]
    stage: str = ""
    done: float = 0.0
    result: Json | None = None
    problem: Problem | None = None
    about: str = ""


@runtime_checkable
class Jobs(Protocol):
    """Jobs that were started."""

    def job(self, job: str) -> Job:
        """Return how far a job is.

        Raises:
            NotFound: There is none, or it was long ago.
        """
        ...

    def stop(self, job: str) -> Job:
        """Ask a job to stop; one that is done stays done.

        Raises:
            NotFound: There is none.
        """
        ...

    def watch(self, job: str) -> AsyncIterator[Job]:
        """Yield the job whenever it changes, and end when it has ended.

        Raises:
            NotFound: There is none.
        """
        ...


# --- readings -----------------------------------------------------------------------------------------------------


@runtime_checkable
class Readings(Protocol):
    """What tasks answer of a study."""

    def start(
        self,
        study: str,
        *,
        tasks: Sequence[str] | None,
        evidence: bool,
        prior: str | None,
        reader: str,
        stated: Mapping[str, str] | None = None,
    ) -> str:
        """Start a reading and return its job.

        Args:
            study: Which.
            tasks: Names; None for every one that fits.
            evidence: Whether they are asked why.
            prior: A study of the same patient whose latest reading is compared with.
            reader: Who asked.
            stated: "modality" and "body_part" of images whose file says none.

        Raises:
            NotFound: There is no such study.
            ConfigError: There is no such task, or no reading of the prior.
            AtCapacity: Too many are waiting.
        """
        ...

    def latest(self, study: str) -> Json:
        """Return the latest result document of a study, with `links` to its files.

        Raises:
            NotFound: There is no study, or no reading of it.
        """
        ...

    def mask(self, reading: str, prediction: int, segment: int | None) -> Change:
        """Return a segment of an answer's mask (all of them together for None), as levels 0 and 3 in its box.

        Raises:
            NotFound: There is no such reading, answer or segment.
        """
        ...

    def evidence_map(self, reading: str, name: str) -> Change:
        """Return where networks looked, by the name of the map's file: 0 to 255 in the box that holds all above 0.

        Raises:
            NotFound: There is no such reading or map.
        """
        ...

    def file(self, reading: str, name: str) -> Served:
        """Return a file of a reading, by the closed list of its names.

        Raises:
            NotFound: There is none.
        """
        ...


# --- interaction --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Change:
    """What an act changed: levels (0 out, 1 maybe, 2 probably, 3 in) inside the box that changed.

    Args:
        box_zyx: (z0, z1, y0, y1, x0, x1) on the image's grid; all zero where nothing changed.
        levels: Inside the box.
        expected_dice: Of the whole outline; None without one.
        prompts: How many prompts it answers.
        can_undo: Whether there is something to take back.
        can_redo: Whether there is something to do again.
        alternatives: How many other meanings of the click are offered.
        milliseconds: By stage.
    """

    box_zyx: tuple[int, int, int, int, int, int]
    levels: UInt8[np.ndarray, "z y x"]
    expected_dice: float | None = None
    prompts: int = 0
    can_undo: bool = False
    can_redo: bool = False
    alternatives: int = 0
    milliseconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskItem:
    """A mask that somebody confirmed."""

    id: str
    image: str
    label: str
    reader: str
    version: int
    created: str
    segments: int
    expected_dice: float | None
    clicks: int


@dataclass(frozen=True)
class Confirmed:
    """What `confirm` gave: the mask, and how the cases of the session went."""

    mask: str
    case: int
    clicks: int
    cases: tuple[Json, ...] = ()


@runtime_checkable
class Interaction(Protocol):
    """Work on one structure in one session; called from one thread at a time."""

    label: str

    def open(self, image: str) -> Change:
        """Open an image; with confirmed cases it already holds an outline."""
        ...

    def prompt(self, prompt: Prompt) -> Change:
        """Point at something."""
        ...

    def choose(self, number: int) -> Change:
        """Take one of the alternatives of the last prompt, counted from 0."""
        ...

    def alternatives(self) -> tuple[Change, ...]:
        """Return the alternatives of the last prompt, best first, each as the whole outline in its box."""
        ...

    def undo(self) -> Change:
        """Take the last act back."""
        ...

    def redo(self) -> Change:
        """Do again what was taken back last."""
        ...

    def clear(self) -> Change:
        """Take everything back."""
        ...

    def propagate(self, axis: Literal["z", "y", "x"], first: int, last: int, tell: Tell) -> Change:
        """Carry the outline through planes."""
        ...

    def confirm(self, *, version: int, seconds: float) -> Confirmed:
        """Say that the mask is right.

        Raises:
            Conflict: Somebody confirmed another version meanwhile.
        """
        ...

    def close(self) -> None:
        """Let go of what is held in memory."""
        ...


@runtime_checkable
class Interactions(Protocol):
    """Interactive work, and the masks that came of it."""

    def begin(self, session: str, label: str, reader: str) -> Interaction:
        """Start a session's work, or take up the one that stands in the work folder (after a restart)."""
        ...

    def known(self) -> tuple[tuple[str, str, str], ...]:
        """Return the sessions that stand in the work folder: session, label, reader."""
        ...

    def masks(self, image: str) -> tuple[MaskItem, ...]:
        """List the confirmed masks of an image."""
        ...

    def mask(self, mask: str) -> tuple[MaskItem, Change]:
        """Return a confirmed mask, whole, as levels.

        Raises:
            NotFound: There is none.
        """
        ...

    def mask_file(self, mask: str, form: Literal["nifti", "seg", "rtstruct"]) -> Served:
        """Return a mask as a file, written with its geometry proof when first asked for.

        Raises:
            NotFound: There is none.
            DataError: It can't be written in this form.
        """
        ...


# --- work list (drafts, questions and outlooks: `viewer.report_ports`) ---------------------------------------------


@runtime_checkable
class WorkList(Protocol):
    """Labelling by several people."""

    def items(self, *, reader: str, order: str, limit: int) -> Json:
        """List what is to be done, in an order ("given", "random", "active")."""
        ...

    def assign(self, study: str, *, reader: str | None) -> Json:
        """Give a study to a reader, or to nobody."""
        ...

    def agreement(self, *, label: str) -> Json:
        """Say how far readers agree."""
        ...

    def export(self, *, form: str, label: str) -> Served:
        """Write the confirmed masks for training."""
        ...

    def status(self, study: str) -> tuple[Status, str | None]:
        """Return how far a study is and whom it is assigned to; the study list shows it."""
        ...


@dataclass(frozen=True)
class TaskItem:
    """A task that readings may name."""

    name: str
    title: str
    modalities: tuple[str, ...]
    body_parts: tuple[str, ...]
    prompts: tuple[str, ...]
    needs_prompt: bool
    intended_use: str
    not_for: str


@dataclass(frozen=True)
class Ports:
    """All that the viewer acts on; a port that is None is answered by "not offered" (501)."""

    library: Library
    tasks: tuple[TaskItem, ...] = ()
    jobs: Jobs | None = None
    readings: Readings | None = None
    interactions: Interactions | None = None
    drafts: Drafts | None = None
    asking: Asking | None = None
    outlook: Outlooks | None = None
    work: WorkList | None = None
