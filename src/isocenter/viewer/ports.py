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
    "Draft",
    "DraftPart",
    "DraftSection",
    "DraftSentence",
    "Drafts",
    "EditedSentence",
    "Evidence",
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
    "Outlook",
    "Picture",
    "PixelForm",
    "Planes",
    "Ports",
    "Problem",
    "Readings",
    "ReportItem",
    "Served",
    "Signature",
    "SignedFile",
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

    def file(self, reading: str, name: str) -> Served:
        """Return a file of a reading, by the closed list of its names.

        Raises:
            NotFound: There is none.
        """
        ...


# --- drafts, questions, outlook, work list -------------------------------------------------------------------------


@dataclass(frozen=True)
class Evidence:
    """What a sentence rests on, and where to look."""

    kind: str
    label: str
    image: str | None = None
    point_lps_mm: tuple[float, float, float] | None = None
    index_zyx: tuple[float, float, float] | None = None
    box_zyx: tuple[int, int, int, int, int, int] | None = None
    mask: str | None = None


@dataclass(frozen=True)
class DraftSentence:
    """A sentence of a draft, with what the ledger says of it."""

    id: str
    text: str
    evidence: tuple[Evidence, ...] = ()
    verdict: Literal["held", "withheld", "edited"] = "held"
    reason: str = ""


@dataclass(frozen=True)
class DraftSection:
    """A section of a draft."""

    name: str
    sentences: tuple[DraftSentence, ...]


@dataclass(frozen=True)
class DraftPart:
    """The part of a draft that speaks of one examination."""

    exam: str
    sections: tuple[DraftSection, ...]


@dataclass(frozen=True)
class SignedFile:
    """A file that signing wrote."""

    form: str
    url: str
    sha256: str


@dataclass(frozen=True)
class Signature:
    """Who signed, when, and what was written."""

    by: str
    at: str
    files: tuple[SignedFile, ...] = ()


@dataclass(frozen=True)
class Draft:
    """A draft of a report; `version` grows with every change."""

    id: str
    study: str
    version: int
    parts: tuple[DraftPart, ...]
    limits: tuple[str, ...] = ()
    signed: Signature | None = None


@dataclass(frozen=True)
class EditedSentence:
    """A sentence as a person left it; `id` is None for a new one."""

    id: str | None
    section: str
    text: str


@runtime_checkable
class Drafts(Protocol):
    """Drafts of reports: made from a reading, edited under the ledger's eye, signed."""

    def draft(self, study: str, *, language: str, indication: str) -> Draft:
        """Make a draft from the latest reading, or return the one that there is.

        Raises:
            NotFound: There is no study, or no reading of it.
        """
        ...

    def get(self, draft: str) -> Draft:
        """Return a draft.

        Raises:
            NotFound: There is none.
        """
        ...

    def edit(self, draft: str, *, version: int, sentences: Sequence[EditedSentence]) -> Draft:
        """Replace the sentences; every one that was edited is judged.

        Raises:
            Conflict: "stale": the version is not the latest; "signed": it was signed.
        """
        ...

    def sign(self, draft: str, *, version: int, by: str) -> Signature:
        """Sign: write SR, FHIR and PDF into the work folder.

        Raises:
            Conflict: "withheld_sentences", "stale" or "signed".
        """
        ...

    def file(self, draft: str, form: str) -> Served:
        """Return a file that signing wrote.

        Raises:
            NotFound: There is none.
        """
        ...


@runtime_checkable
class Asking(Protocol):
    """Questions about a study."""

    def ask(self, study: str, *, question: str, conversation: str | None) -> Json:
        """Answer: sentences with evidence, the calls behind them, or why it is refused.

        Raises:
            NotFound: There is no study, or no reading of it.
        """
        ...


@runtime_checkable
class Outlook(Protocol):
    """What models of time say of a patient."""

    def prognosis(self, study: str) -> Json:
        """Return a curve with its band, or why there is none.

        Raises:
            NotFound: No model is configured, or there is no study.
        """
        ...

    def treatment(self, study: str) -> Json:
        """Return effects with their intervals and what drives them, or why there are none.

        Raises:
            NotFound: No model is configured, or there is no study.
        """
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
    foreign: ForeignFiles | None = None
    drafts: Drafts | None = None
    asking: Asking | None = None
    outlook: Outlook | None = None
    work: WorkList | None = None
