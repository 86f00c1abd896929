"""What the verb `serve` hands to the viewer: nouns as frozen dataclasses, and Protocols that act on them.

Everything here is core types, numbers and text. A port raises the errors of `core.errors`: `NotFound` for a name that
is not known, `Conflict` for what somebody has changed meanwhile, `TooLarge` for what does not fit, `AtCapacity` for a
limit; `problems` turns them into answers. Ports are called from several threads at once.

Identifiers (study, image, mask, session, job, reading, draft) are opaque: 16 hexadecimal digits, never a path, never a
patient's value. Times are ISO 8601 in UTC.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped, UInt8

from isocenter.core import Image, Prompt
from isocenter.viewer.report_ports import Asking, Drafts, Outlooks, Served

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
    "StudyDetail",
    "StudyItem",
    "StudyPage",
    "StudyQuery",
    "TaskItem",
    "Tell",
    "Window",
    "WorkList",
]

Tell = Callable[[str, float], None]
"""Called with what is being done and how much of it, 0 to 1. It raises `Stopped` where somebody stopped the work."""

Status = Literal["new", "open", "read", "signed"]
Json = Mapping[str, Any]


# --- studies and images -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StudyQuery:
    """Which studies are listed; "" or None for any.

    Args:
        q: Words that the description, modalities or pseudonym must hold.
        modality: DICOM modality that a series has.
        patient: Pseudonym of the patient.
        date_from: First study date, YYYY-MM-DD.
        date_to: Last study date.
        status: Of the work on it.
        offset: How many are passed over.
        limit: At most so many.
        order: "date" (newest first), "patient", "description" or "status"; with "-" before it, reversed.
    """

    q: str = ""
    modality: str = ""
    patient: str = ""
    date_from: str = ""
    date_to: str = ""
    status: str = ""
    offset: int = 0
    limit: int = 50
    order: str = "date"


@dataclass(frozen=True)
class StudyItem:
    """A study in the list.

    Args:
        id: Of the study.
        patient_key: Pseudonym.
        study_date: YYYY-MM-DD, None where not known.
        description: Of the study, "" where there is none.
        modalities: Of its series, sorted.
        series: Number of series.
        instances: Number of files or DICOM instances.
        accession: Accession number or its pseudonym, None where there is none.
        status: Of the work on it.
        assigned_to: Reader that it is assigned to, None for nobody.
        prior: Number of earlier studies of this patient.
    """

    id: str
    patient_key: str
    study_date: str | None
    description: str
    modalities: tuple[str, ...]
    series: int
    instances: int
    accession: str | None = None
    status: Status = "new"
    assigned_to: str | None = None
    prior: int = 0


@dataclass(frozen=True)
class StudyPage:
    """A part of the list.

    Args:
        total: How many there are in all.
        items: The part that was asked for.
        scanning: Whether a folder is still being looked through, so that more may come.
    """

    total: int
    items: tuple[StudyItem, ...]
    scanning: bool = False


@dataclass(frozen=True)
class Window:
    """A grey window: name for people, centre and width in the image's quantity."""

    name: str
    centre: float
    width: float


@dataclass(frozen=True)
class PixelForm:
    """How voxels are sent: value = slope * stored + intercept; little-endian."""

    dtype: Literal["int16", "uint8", "uint16", "float32"]
    slope: float = 1.0
    intercept: float = 0.0


@dataclass(frozen=True)
class ImageItem:
    """An image of a study.

    Args:
        id: Of the image.
        index: Zero-based number in the study, as results name it.
        modality: DICOM modality, "" where not known.
        description: Kind of series in words.
        quantity: What the numbers mean ("HU", "SUVbw", "arbitrary", ...).
        unit: UCUM unit of the numbers, "" where they have none.
        shape_zyx: Voxels along z, y, x.
        channels: Values at a voxel (3 for colour; time points; echoes).
        spacing_mm: Along z, y, x; None where not known.
        pixel_spacing_mm: Along y, x, also where the place in the patient is not known; None where not known.
        affine_zyx_to_lps_mm: 4 rows of 4; None where the place is not known.
        orientation: Three letters: towards what the index grows along z, y, x; None where not known.
        patient_orientation: Where rows and columns point to where there is no affine (a radiograph); ("", "") unknown.
        frame: Short name of the frame of reference: images of one frame lie in one space; "" where there is none.
        stack: Whether z is space or time.
        dark_is_high: Whether larger values are drawn darker.
        windows: Presets, the first of which is drawn first.
        low: Lowest value that is worth showing.
        high: Highest value that is worth showing.
        pixel: How voxels are sent.
        bytes: Of all voxels as they are sent.
        notes: What the reader noticed or did.
        too_large: Whether it is too large for what needs the whole of it (outlining, readings, NIfTI); its planes can
            be looked at.
    """

    id: str
    index: int
    modality: str
    description: str
    quantity: str
    unit: str
    shape_zyx: tuple[int, int, int]
    channels: int
    spacing_mm: tuple[float, float, float] | None
    pixel_spacing_mm: tuple[float, float] | None
    affine_zyx_to_lps_mm: tuple[tuple[float, ...], ...] | None
    orientation: str | None
    patient_orientation: tuple[str, str]
    frame: str
    stack: Literal["space", "time"]
    dark_is_high: bool
    windows: tuple[Window, ...]
    low: float
    high: float
    pixel: PixelForm
    bytes: int
    notes: tuple[str, ...] = ()
    too_large: bool = False


@dataclass(frozen=True)
class ReportItem:
    """A report that came with the study."""

    date: str | None
    title: str
    text: str


@dataclass(frozen=True)
class LeftOut:
    """A series or file that can't be shown, and why."""

    where: str
    reason: str


@dataclass(frozen=True)
class StudyDetail:
    """A study that was opened; `priors` are this patient's earlier studies, newest first."""

    study: StudyItem
    images: tuple[ImageItem, ...]
    priors: tuple[StudyItem, ...] = ()
    reports: tuple[ReportItem, ...] = ()
    left_out: tuple[LeftOut, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Planes:
    """Planes of an image as they are sent: of its `PixelForm`, little-endian, C order.

    Args:
        parts: One after another, each (z, y, x, channel); several people's answers share them.
        tag: Hash of what is sent, for caches.
    """

    parts: tuple[Shaped[np.ndarray, "..."], ...]
    tag: str

    @property
    def array(self) -> Shaped[np.ndarray, "z y x c"]:
        """All planes as one array (z, y, x, channel)."""
        return self.parts[0] if len(self.parts) == 1 else np.concatenate(self.parts)


@dataclass(frozen=True)
class Picture:
    """What is drawn as a PNG: a plane across an axis of the grid; None for the middle, and for the first window."""

    plane: Literal["z", "y", "x"] = "z"
    index: int | None = None
    centre: float | None = None
    width: float | None = None
    width_px: int = 512


@runtime_checkable
class Library(Protocol):
    """Studies and their images."""

    identified: bool
    """Whether the source may hold identities (a plain folder), or was de-identified (an archive)."""
    kind: Literal["folder", "archive"]

    def studies(self, query: StudyQuery) -> StudyPage:
        """List studies."""
        ...

    def study(self, study: str) -> StudyDetail:
        """Open a study: headers are read, pixels are not (but for a few planes); what can't be shown is left out.

        Raises:
            NotFound: There is none.
        """
        ...

    def study_of(self, image: str) -> str:
        """Return the study that an image is of.

        Raises:
            NotFound: There is none.
        """
        ...

    def image_item(self, image: str) -> ImageItem:
        """Describe an image.

        Raises:
            NotFound: There is none.
        """
        ...

    def planes(self, image: str, first: int, count: int) -> Planes:
        """Read some planes; the whole image is not read for it where its form allows.

        Raises:
            NotFound: There is no such image.
            ConfigError: The planes lie outside it.
            TooLarge: More is asked for at once than one answer may hold.
        """
        ...

    def image(self, image: str) -> Image:
        """Read a whole image; it is kept for a while, and two people asking at once share one read.

        Raises:
            NotFound: There is none.
            TooLarge: It is larger than images may be here.
        """
        ...

    def picture(self, image: str, picture: Picture) -> bytes:
        """Draw a plane as a PNG, in its physical aspect and with the letters of its sides.

        Raises:
            NotFound: There is no such image.
            ConfigError: The plane lies outside it.
            TooLarge: It needs the whole of an image that is too large.
        """
        ...

    def nifti(self, image: str) -> Path:
        """Return a NIfTI file of an image, made (with its geometry proof) when first asked for.

        Raises:
            NotFound: There is no such image.
            GeometryError: Its place in the patient is not known.
            TooLarge: It is too large.
        """
        ...


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
