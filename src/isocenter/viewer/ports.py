"""What the verb `serve` hands to the viewer: nouns as frozen dataclasses, and Protocols that act on them.

Everything here is core types, numbers and text. A port raises the errors of `core.errors`: `NotFound` for a name that
is not known, `Conflict` for what somebody has changed meanwhile, `TooLarge` for what does not fit, `AtCapacity` for a
limit; `problems` turns them into answers. Ports are called from several threads at once.

Identifiers (study, image, mask, session, job, reading, draft) are opaque: 16 hexadecimal digits, never a path, never a
patient's value. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from isocenter.viewer.report_ports import Asking, Drafts, Outlooks
from isocenter.viewer.session_ports import (
    Act,
    Change,
    Confirmed,
    ForeignFiles,
    Interaction,
    Interactions,
    MaskItem,
    OutlineFile,
    OutlineRequest,
)
from isocenter.viewer.study_ports import (
    ImageItem,
    Json,
    LeftOut,
    Library,
    Picture,
    PixelForm,
    Planes,
    ReportItem,
    Served,
    Status,
    StudyDetail,
    StudyItem,
    StudyPage,
    StudyQuery,
    Tell,
    Window,
)
from isocenter.viewer.work import WorkList

__all__ = [
    "Act",
    "Asking",
    "Change",
    "Confirmed",
    "Drafts",
    "ForeignFiles",
    "ImageItem",
    "Interaction",
    "Interactions",
    "Job",
    "Jobs",
    "Json",
    "LeftOut",
    "Library",
    "MaskItem",
    "OutlineFile",
    "OutlineRequest",
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


# --- work list (drafts, questions and outlooks: `viewer.report_ports`) ---------------------------------------------


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
    foreign: ForeignFiles | None = None
    drafts: Drafts | None = None
    asking: Asking | None = None
    outlook: Outlooks | None = None
    work: WorkList | None = None
