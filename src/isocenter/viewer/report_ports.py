"""What the verb `serve` hands in for drafts, questions and outlooks, and what these may answer instead.

The viewer knows no verb: it is given objects that keep these Protocols.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from isocenter.core.errors import ClinicError
from isocenter.viewer.report_models import (
    AskAnswer,
    AskRequest,
    Draft,
    DraftEdit,
    DraftRequest,
    Outlook,
    SignRequest,
)

__all__ = ["Asking", "Drafts", "KeptFile", "Outlooks", "ReportProblem"]


class ReportProblem(ClinicError):
    """Something that was asked for and is not done, as HTTP tells it.

    Attributes:
        status: Of HTTP.
        code: For programs, one word.
        more: Further members of the problem document.
    """

    def __init__(self, status: int, code: str, detail: str, **more: Any) -> None:
        super().__init__(detail)
        self.status, self.code, self.detail = status, code, detail
        self.more: Mapping[str, Any] = more


@dataclass(frozen=True)
class KeptFile:
    """A file to be sent: where it is, what it is, and its hash."""

    path: Path
    media_type: str
    sha256: str


@runtime_checkable
class Drafts(Protocol):
    """Drafts of reports, their versions and signed reports."""

    def latest(self, study: str) -> Draft:
        """Return the newest draft of a study.

        Raises:
            ReportProblem: There is none (404).
        """

    def create(self, study: str, request: DraftRequest, reader: str) -> tuple[Draft, bool]:
        """Return the draft of a study's newest reading, and whether it was made now.

        Raises:
            ReportProblem: The study is not known (404), or was not read (409).
        """

    def get(self, draft: str, version: int | None = None) -> Draft:
        """Return a version of a draft, the last by default.

        Raises:
            ReportProblem: There is none (404).
        """

    def edit(self, draft: str, edit: DraftEdit, reader: str) -> Draft:
        """Return a new version: every sentence judged.

        Raises:
            ReportProblem: The version is not the last (409 `stale`), or is signed (409 `signed`).
        """

    def sign(self, draft: str, request: SignRequest, reader: str) -> Draft:
        """Sign a version, and write its files.

        Raises:
            ReportProblem: A sentence is withheld (409 `withheld_sentences`), the version is not the last, or signed.
        """

    def amend(self, draft: str, version: int, reader: str) -> Draft:
        """Begin a new version of a signed report.

        Raises:
            ReportProblem: It is not signed (409 `not_signed`), or not the last (409 `stale`).
        """

    def file(self, draft: str, version: int, name: str) -> KeptFile:
        """Return a file of a signed version.

        Raises:
            ReportProblem: There is none (404).
        """


@runtime_checkable
class Asking(Protocol):
    """Questions about a study that was read."""

    def ask(self, study: str, request: AskRequest) -> AskAnswer:
        """Answer a question, or say why not.

        Raises:
            ReportProblem: The study is not known (404), was not read (409), or the conversation is over (410).
        """


@runtime_checkable
class Outlooks(Protocol):
    """What configured models say of the patient of a study."""

    def prognosis(self, study: str) -> Outlook:
        """Return the risk curve with its band, or why there is none.

        Raises:
            ReportProblem: No model is configured, or the study is not known (404).
        """

    def treatment(self, study: str) -> Outlook:
        """Return what another treatment would change, or why nothing is said.

        Raises:
            ReportProblem: No model is configured, or the study is not known (404).
        """
