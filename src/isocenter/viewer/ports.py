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
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from isocenter.core import Mask, Prompt
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


@dataclass(frozen=True)
class Served:
    """A file that may be sent: where it is, its media type, and the name under which it is saved."""

    path: Path
    media_type: str
    name: str


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


@dataclass(frozen=True, eq=False)
class Act:
    """One act on an image, as it was done before.

    Args:
        kind: Which.
        prompt: Of "prompt".
        number: Of "choose".
        axis: Of "propagate": 0 z, 1 y, 2 x.
        first: Of "propagate".
        last: Of "propagate".
    """

    kind: Literal["prompt", "choose", "undo", "redo", "clear", "propagate"]
    prompt: Prompt | None = None
    number: int = 0
    axis: int = 0
    first: int = 0
    last: int = 0


@runtime_checkable
class Interaction(Protocol):
    """Work on one structure in one session; called from one thread at a time."""

    label: str

    @property
    def cases(self) -> tuple[Json, ...]:
        """The confirmed cases: clicks, seconds, first_dice."""
        ...

    @property
    def bytes(self) -> int:
        """Memory that `rest` would free, roughly."""
        ...

    def open(self, image: str, tell: Tell, *, propose: bool = True) -> Change:
        """Open an image; with confirmed cases it holds an outline, unless `propose` is False or it was stopped."""
        ...

    def replay(self, image: str, acts: Sequence[Act], tell: Tell, *, propose: bool = True) -> Change:
        """Open an image and do acts again: what a lost connection or a restart took comes back."""
        ...

    def act(self, act: Act, tell: Tell) -> Change:
        """Do one act.

        Raises:
            Stopped: `tell` said so; nothing changed.
            ConfigError: It can't be followed; nothing changed.
        """
        ...

    def alternatives(self) -> tuple[Change, ...]:
        """Return the alternatives of the last prompt, best first, each as the whole outline in its box."""
        ...

    def whole(self) -> Change:
        """Return the whole outline as it stands, in its box."""
        ...

    def confirm(self, *, version: int, seconds: float) -> Confirmed:
        """Say that the mask is right: it is written, proven, and becomes an example.

        Raises:
            Conflict: Somebody confirmed another version meanwhile.
            OutputError: It could not be written; the image stays open.
        """
        ...

    def rest(self) -> None:
        """Let go of what can be made again; the next act makes it."""
        ...

    def close(self) -> None:
        """Let go of everything."""
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

    def forget(self, session: str) -> None:
        """Remove a session from the work folder; its masks stay."""
        ...

    def version(self, image: str, label: str) -> int:
        """Return how many versions of a structure's mask were confirmed on an image."""
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

    def add_mask(self, image: str, mask: Mask, *, label: str, reader: str) -> MaskItem:
        """Take a mask that was drawn elsewhere, as a new version.

        Raises:
            NotFound: There is no such image.
            GeometryError: It lies on another grid than the image.
        """
        ...


@dataclass(frozen=True, eq=False)
class OutlineRequest:
    """What another program asks to have outlined.

    Args:
        image: An image's name, or that of one that it sent (`ForeignFiles.take`).
        prompts: In voxel indices of that image.
        label: Name of the structure.
        who: Whose request it is: further clicks of one person go on from those before.
        suffix: Form of the file that is wanted: ".nii.gz", ".nii", ".nrrd" or ".seg.nrrd".
        packed: Whether it may be packed.
    """

    image: str
    prompts: tuple[Prompt, ...]
    label: str
    who: str
    suffix: str = ".nii.gz"
    packed: bool = True


@dataclass(frozen=True)
class OutlineFile:
    """An outline as a file: 1 inside, 0 outside, one byte a voxel."""

    content: bytes
    name: str
    expected_dice: float | None


@runtime_checkable
class ForeignFiles(Protocol):
    """Images and masks as files of other programs."""

    def outline(self, request: OutlineRequest) -> OutlineFile:
        """Outline what is pointed at.

        Raises:
            NotFound: There is no such image.
            ConfigError: The prompts can't be followed, or the form is unknown.
        """
        ...

    def image_of_series(self, series_uid: str) -> str | None:
        """Return the image of a DICOM series, None where there is none."""
        ...

    def image_file(self, image: str) -> Path:
        """Return an image as NIfTI, also one whose place in the patient is not known.

        Raises:
            NotFound: There is none.
            TooLarge: It is too large.
        """
        ...

    def take(self, content: bytes, name: str) -> str:
        """Keep an image that another program sent, for a while, in memory; return its name.

        Raises:
            DataError: It can't be read.
            TooLarge: It is larger than images may be here.
        """
        ...

    def drop(self, image: str) -> None:
        """Let go of an image that was sent."""
        ...

    def add_label(
        self, image: str, content: bytes, name: str, *, labels: Mapping[int, str], reader: str
    ) -> tuple[MaskItem, ...]:
        """Take masks that were drawn elsewhere, one version for each structure that is not empty.

        Args:
            image: Which they were drawn on.
            content: Of the file.
            name: Its name, whose suffix says its form; ".bin" is raw bytes, x fastest.
            labels: Names of values; empty for what the file says.
            reader: Who drew them.

        Raises:
            NotFound: There is no such image.
            DataError: The file can't be read.
            GeometryError: They lie on another grid than the image.
        """
        ...

    def label_file(self, image: str) -> tuple[Path, Mapping[str, int]]:
        """Return the latest version of every structure of an image in one file, and which value is which.

        Raises:
            NotFound: Nothing was confirmed on it.
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
    foreign: ForeignFiles | None = None
    drafts: Drafts | None = None
    asking: Asking | None = None
    outlook: Outlook | None = None
    work: WorkList | None = None
