"""How far the work on a study is: new, opened, read, or signed; the furthest counts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, runtime_checkable

from isocenter.verbs.serving.library import StudyLibrary
from isocenter.viewer.ports import Status

__all__ = ["Standings"]


@runtime_checkable
class _Reads(Protocol):
    def has(self, study: str) -> bool:
        """Tell whether a study has been read."""
        ...


class Standings:
    """What the study list shows of the work; see the module.

    Args:
        library: Knows which studies were opened.
        readings: Knows which were read.
        signed: Tells whether a study's report was signed; None where no reports are offered.
        assigned: Tells whom a study is assigned to; None where there is no work list.
    """

    def __init__(
        self,
        library: StudyLibrary,
        readings: _Reads,
        *,
        signed: Callable[[str], bool] | None = None,
        assigned: Callable[[str], str | None] | None = None,
    ) -> None:
        self.library, self.readings, self.signed, self.assigned = library, readings, signed, assigned

    def of(self, study: str) -> tuple[Status, str | None]:
        """Return how far a study is, and whom it is assigned to."""
        whom = None if self.assigned is None else self.assigned(study)
        if self.signed is not None and self.signed(study):
            return "signed", whom
        if self.readings.has(study):
            return "read", whom
        return ("open" if self.library.was_opened(study) else "new"), whom
