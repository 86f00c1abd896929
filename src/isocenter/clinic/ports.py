"""What the workflow asks of the rest of the house: it knows these faces, never who is behind them.

`verbs.clinic.wiring` puts the real ones in; tests put in small ones of their own. All that crosses is plain: names,
paths, words. Each may be asked twice for the same thing (a node that was killed asks again) and must then answer alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

__all__ = [
    "Deliverer",
    "Facts",
    "Gate",
    "Notifier",
    "Outcome",
    "Preparer",
    "ResultFile",
    "Route",
    "Router",
    "Runner",
    "Said",
    "Verdict",
    "Work",
    "Worked",
]


@dataclass(frozen=True)
class Facts:
    """What a route is chosen by.

    Args:
        study: Study Instance UID.
        calling: Title of who sent it.
        called: Title of ours that was called.
        modalities: Of its instances.
        body_parts: As its headers have them.
        descriptions: Of the study and its series; free text, never to be logged.
        instances: How many.
    """

    study: str
    calling: str
    called: str
    modalities: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()
    descriptions: tuple[str, ...] = field(default=(), repr=False)
    instances: int = 0


@dataclass(frozen=True)
class Route:
    """What is done with a study.

    Args:
        name: Of the rule.
        tasks: That are asked.
        destinations: Names of where results go.
        identity: "keep", or "remove" before a task sees it.
        shadow: Answered and kept, but sent nowhere.
        on_trial: Whether the tasks are those of a model on trial, and results are to say so.
    """

    name: str
    tasks: tuple[str, ...]
    destinations: tuple[str, ...] = ()
    identity: Literal["keep", "remove"] = "keep"
    shadow: bool = False
    on_trial: bool = False


@dataclass(frozen=True)
class Verdict:
    """Whether a study may be answered; and if not, why, without a patient's value."""

    passed: bool
    reason: str = ""


@dataclass(frozen=True)
class Work:
    """A study to be answered.

    Args:
        study: Study Instance UID as received.
        version: Grows when more arrives after an answer; above 1 the answer is an amended one.
        route: What is asked.
        folder: Its instances, as they are to be read.
        inputs: Hash over the instances.
        out: Folder for results: made by the runner, in one step, when it is whole.
    """

    study: str
    version: int
    route: Route
    folder: Path
    inputs: str
    out: Path


@dataclass(frozen=True)
class Said:
    """What a task said about a study: "answered", "abstained" or "failed", and why."""

    task: str
    state: Literal["answered", "abstained", "failed"]
    reason: str = ""
    seconds: float = 0.0


@dataclass(frozen=True)
class ResultFile:
    """A file to be sent.

    Args:
        path: Where it is.
        form: "dicom", "fhir" or "hl7".
        to: Names of the destinations that it is for; None: all those of the route.
    """

    path: Path
    form: Literal["dicom", "fhir", "hl7"] = "dicom"
    to: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Worked:
    """All that came of a study.

    Args:
        said: By task.
        files: To be sent.
        told: What somebody who looks after the node should know of it; without a patient's value.
    """

    said: tuple[Said, ...]
    files: tuple[ResultFile, ...] = ()
    told: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What became of one delivery.

    Args:
        kind: "taken"; "later": a further try may do; "never": it will not.
        reason: Without a patient's value.
        wait_s: How long the other side asked us to wait, 0 where it did not say.
    """

    kind: Literal["taken", "later", "never"]
    reason: str = ""
    wait_s: float = 0.0


@runtime_checkable
class Preparer(Protocol):
    """Takes identity out of a study, where the policy says so."""

    def prepare(self, folder: Path, out: Path) -> Path:
        """Return the folder that tasks are to read.

        Args:
            folder: The study as received.
            out: A folder of its own; what a killed run left there is removed first.
        """
        ...


@runtime_checkable
class Router(Protocol):
    """Chooses what is done with a study."""

    def routes(self, facts: Facts) -> Sequence[Route]:
        """Return the routes; none where nothing is to be done."""
        ...


@runtime_checkable
class Gate(Protocol):
    """Says, before a task is asked, whether a study may be answered."""

    def check(self, work: Work) -> Verdict:
        """Look at a study."""
        ...


@runtime_checkable
class Runner(Protocol):
    """Asks the tasks."""

    def run(self, work: Work) -> Worked:
        """Answer a study; where its result stands already, return that.

        Raises:
            DataError: The study can't be answered; a further try will not help.
            OutputError: The result can't be written; a further try may help.
        """
        ...


@runtime_checkable
class Deliverer(Protocol):
    """Sends results to one place."""

    def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
        """Send files, and tell of each what became of it; what was sent before is sent again without harm."""
        ...


@runtime_checkable
class Notifier(Protocol):
    """Tells people."""

    def notify(self, kind: str, study: str, detail: str) -> None:
        """Tell what happened to a study; without a patient's value."""
        ...
