"""The ports of drafts, questions and outlooks; `viewer.ports` has them with the others."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from isocenter.viewer.report_models import (
    AskAnswer,
    AskRequest,
    Draft,
    DraftEdit,
    DraftRequest,
    Outlook,
    SignRequest,
)
from isocenter.viewer.study_ports import Served

__all__ = ["Asking", "Drafts", "Outlooks"]


@runtime_checkable
class Drafts(Protocol):
    """Drafts of reports, their versions and signed reports."""

    def of_study(self, study: str) -> tuple[Draft, ...]:
        """Return the last version of every draft of a study, the newest draft first; none for none."""
        ...

    def create(self, study: str, request: DraftRequest, reader: str) -> tuple[Draft, bool]:
        """Return the draft of a study's newest reading, and whether it was made now.

        Raises:
            NotFound: There is no such study.
            Conflict: "not_read": nothing was read of it yet.
        """
        ...

    def get(self, draft: str, version: int | None = None) -> Draft:
        """Return a version of a draft, the last by default.

        Raises:
            NotFound: There is none.
        """
        ...

    def edit(self, draft: str, edit: DraftEdit, reader: str) -> Draft:
        """Return a new version: every sentence judged.

        Raises:
            Conflict: "stale": the version is not the last; "signed": it is signed.
            ConfigError: A sentence or part is named that there is not.
        """
        ...

    def sign(self, draft: str, request: SignRequest, reader: str) -> Draft:
        """Sign a version, and write its files.

        Raises:
            Conflict: "withheld_sentences": one is withheld; "stale"; "signed"; "reading_changed": its reading is gone.
            ConfigError: The name can't sign.
        """
        ...

    def amend(self, draft: str, version: int, reader: str) -> Draft:
        """Begin a new version of a signed report.

        Raises:
            Conflict: "not_signed": it is not signed; "stale": it is not the last.
        """
        ...

    def file(self, draft: str, version: int, name: str) -> Served:
        """Return a file of a signed version.

        Raises:
            NotFound: There is none.
        """
        ...


@runtime_checkable
class Asking(Protocol):
    """Questions about a study that was read."""

    def ask(self, study: str, request: AskRequest) -> AskAnswer:
        """Answer a question, or say why not.

        Raises:
            NotFound: There is no such study.
            Conflict: "not_read": nothing was read of it yet.
            SessionExpired: The conversation is over.
        """
        ...


@runtime_checkable
class Outlooks(Protocol):
    """What configured models say of the patient of a study."""

    offers: tuple[str, ...]
    """Which models are configured: "prognosis", "treatment"."""

    def prognosis(self, study: str) -> Outlook:
        """Return the risk curve with its band, or why there is none.

        Raises:
            NotFound: No model is configured, or there is no such study.
        """
        ...

    def treatment(self, study: str) -> Outlook:
        """Return what another treatment would change, or why nothing is said.

        Raises:
            NotFound: No model is configured, or there is no such study.
        """
        ...
