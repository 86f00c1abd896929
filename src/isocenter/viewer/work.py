"""The port of the work list: what is to be labelled, by whom, in which order, and how far readers agree.

An *item* is an image and a label. A *turn* is an item in the hands of one reader; a share of the items wants several
readers, so that their agreement can be measured. A turn is open, doing, done, skipped (with a reason), or again
(somebody asked for another look). Every item has a version, which each change raises and must name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

__all__ = [
    "ExportOrder",
    "Filling",
    "TurnChange",
    "WorkExport",
    "WorkItem",
    "WorkLabel",
    "WorkList",
    "WorkPage",
    "WorkPlan",
    "WorkQuery",
    "WorkTurn",
]

State = Literal["open", "doing", "done", "skipped", "again"]
Order = Literal["given", "random", "active"]
Json = dict[str, Any]


@dataclass(frozen=True)
class WorkLabel:
    """What is to be labelled.

    Args:
        name: Of the structure, or of the question.
        kind: Whether the answer is a mask or one of `classes`.
        classes: Answers that may be given; of grades, in their order.
        graded: Whether classes are grades: a difference of two steps then counts more than one of one.
    """

    name: str
    kind: Literal["mask", "class"] = "mask"
    classes: tuple[str, ...] = ()
    graded: bool = False


@dataclass(frozen=True)
class WorkPlan:
    """Who labels what.

    Args:
        labels: What is to be labelled in every image.
        readers: Who gets items; empty: whoever asks for the next one.
        modality: Images of this modality alone; "" for all.
        q: Words of the study, as in the study list; "" for all.
        shared: Share of the patients whose images are labelled by several readers.
        shared_readers: How many.
        order: In which items come.
        seed: Of what is random: the order, and which patients are shared.
        version: Raised by each change; 0 before there is a plan.
    """

    labels: tuple[WorkLabel, ...] = ()
    readers: tuple[str, ...] = ()
    modality: str = ""
    q: str = ""
    shared: float = 0.0
    shared_readers: int = 2
    order: Order = "given"
    seed: int = 0
    version: int = 0


@dataclass(frozen=True)
class WorkTurn:
    """An item in the hands of a reader.

    Args:
        reader: Who.
        state: How far.
        reason: Why it was skipped, or is wanted again.
        answer: The confirmed mask's id, or the class; "" before there is one.
        updated: When it was last changed.
    """

    reader: str
    state: State
    reason: str
    answer: str
    updated: str


@dataclass(frozen=True)
class WorkItem:
    """An image and a label.

    Args:
        id: Of the item.
        study: Of the image.
        image: Which.
        label: What is labelled.
        kind: Whether with a mask or a class.
        classes: Answers that may be given.
        patient_key: Pseudonym.
        rank: Place in the order, from 0.
        wanted: How many readers it wants.
        version: Raised by each change.
        turns: Of its readers.
    """

    id: str
    study: str
    image: str
    label: str
    kind: Literal["mask", "class"]
    classes: tuple[str, ...]
    patient_key: str
    rank: int
    wanted: int
    version: int
    turns: tuple[WorkTurn, ...] = ()


@dataclass(frozen=True)
class Filling:
    """Work in the background: items being found, or put into an order.

    Args:
        what: "" where nothing goes on.
        done: From 0 to 1.
        problem: Why the last one failed, in words; "" where it did not.
        left_out: Images and studies that could not be read.
    """

    what: str = ""
    done: float = 0.0
    problem: str = ""
    left_out: int = 0


@dataclass(frozen=True)
class WorkQuery:
    """Which items are listed; "" for any.

    Args:
        reader: Who has a turn.
        state: Of such a turn; "unassigned": fewer readers than wanted.
        label: Of the item.
        study: Of the item.
        offset: How many are passed over.
        limit: At most so many.
    """

    reader: str = ""
    state: str = ""
    label: str = ""
    study: str = ""
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True)
class WorkPage:
    """A part of the list.

    Args:
        total: How many fit the query.
        items: By rank.
        counts: Turns of each state, of all readers; "unassigned": turns that nobody has.
        by_reader: The same of each reader.
        plan: As it stands.
        filling: What goes on in the background.
    """

    total: int
    items: tuple[WorkItem, ...]
    counts: dict[str, int]
    by_reader: dict[str, dict[str, int]]
    plan: WorkPlan
    filling: Filling


@dataclass(frozen=True)
class TurnChange:
    """What a reader says of an item, or somebody of a reader's turn.

    Args:
        version: Of the item that was looked at.
        reader: Whose turn.
        state: What it becomes; "open" gives a turn back.
        reason: Needed for "skipped" and "again".
        answer: The mask, or the class; of a mask that the reader has confirmed, "" takes the latest.
    """

    version: int
    reader: str
    state: State
    reason: str = ""
    answer: str = ""


@dataclass(frozen=True)
class ExportOrder:
    """What is exported.

    Args:
        form: As `isocenter labels export --form`.
        labels: Names of masks; empty for all of the plan.
        choose: Which of several readers' masks: "latest", "majority", or "reader:NAME".
        parts: Shares of parts, by patient, e.g. "train=0.8,test=0.2"; "" for none.
        suffix: Of BIDS names.
        licence: Of the set.
        identified: Whether DICOM Segmentations of studies that are not de-identified are wanted.
    """

    form: str
    labels: tuple[str, ...] = ()
    choose: str = "latest"
    parts: str = ""
    suffix: str = ""
    licence: str = ""
    identified: bool = False


@dataclass(frozen=True)
class WorkExport:
    """What an export wrote.

    Args:
        id: Of the export; a file of it is sent by this name.
        form: Its form.
        folder: Below the work folder.
        cases: How many.
        left_out: Cases that are not in it, and why.
        parts: Cases in each part.
        notes: For whoever trains.
        bytes: Of the packed file.
    """

    id: str
    form: str
    folder: str
    cases: int
    left_out: tuple[tuple[str, str], ...]
    parts: dict[str, int]
    notes: tuple[str, ...]
    bytes: int


@runtime_checkable
class WorkList(Protocol):
    """Labelling by several people; called from several threads, and by several servers over one work folder."""

    def plan(self) -> WorkPlan:
        """Return the plan; its version is 0 where there is none."""
        ...

    def set_plan(self, plan: WorkPlan) -> WorkPlan:
        """Change the plan, and begin to look for items; `plan.version` is the one that was looked at.

        Raises:
            Conflict: It was changed meanwhile.
            ConfigError: It makes no sense.
        """
        ...

    def items(self, query: WorkQuery) -> WorkPage:
        """List items by rank."""
        ...

    def item(self, item: str) -> WorkItem:
        """Return an item.

        Raises:
            NotFound: There is none.
        """
        ...

    def next(self, reader: str, label: str) -> WorkItem | None:
        """Return what a reader does next, and say that they are at it; None where nothing is left for them."""
        ...

    def change(self, item: str, change: TurnChange) -> WorkItem:
        """Change a reader's turn.

        Raises:
            NotFound: There is no such item, or the reader has no turn.
            Conflict: It was changed meanwhile.
            ConfigError: The answer or the reason is missing, or none that may be given.
        """
        ...

    def assign(self, item: str, *, version: int, readers: tuple[str, ...]) -> WorkItem:
        """Say who has an item; turns that are done or skipped stay.

        Raises:
            NotFound: There is no such item.
            Conflict: It was changed meanwhile.
        """
        ...

    def reorder(self, order: Order, seed: int) -> Filling:
        """Put what nobody has begun into an order, in the background."""
        ...

    def agreement(self, *, label: str, tolerance_mm: float) -> Json:
        """Say how far readers agree on a label, the images they agree least on first.

        Raises:
            NotFound: The plan has no such label.
        """
        ...

    def export(self, order: ExportOrder) -> WorkExport:
        """Write the confirmed masks for a training, below the work folder.

        Raises:
            ConfigError: The form, the choice or the parts make no sense.
            DataError: Nothing could be written.
        """
        ...

    def exported(self, export: str) -> tuple[str, str]:
        """Return the path of an export's packed file, and the name under which it is saved.

        Raises:
            NotFound: There is none.
        """
        ...

    def status(self, study: str) -> tuple[Literal["new", "open", "read", "signed"], str | None]:
        """Return how far a study is and who has it; the study list shows it."""
        ...
