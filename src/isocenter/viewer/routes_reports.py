"""Drafts of reports, questions and outlooks."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.responses import FileResponse

from isocenter.core.errors import CapabilityError
from isocenter.viewer.ports import Ports
from isocenter.viewer.report_models import (
    AmendRequest,
    AskAnswer,
    AskRequest,
    Draft,
    DraftEdit,
    DraftRequest,
    Outlook,
    SignRequest,
)
from isocenter.viewer.report_ports import Asking, Drafts, Outlooks
from isocenter.viewer.settings import IDENTITY, PREFIX, Settings

__all__ = ["router"]

Reader = Annotated[str, Header(alias="X-Isocenter-Reader", max_length=64, pattern=r"^[^\x00-\x1f]*$")]


def router(ports: Ports, settings: Settings) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix=PREFIX)
    _draft_routes(routes, ports)
    _question_routes(routes, ports)
    return routes


def _draft_routes(routes: APIRouter, ports: Ports) -> None:
    def drafts() -> Drafts:
        if ports.drafts is None:
            raise CapabilityError("this server offers no drafts")
        return ports.drafts

    @routes.post("/studies/{study}/draft", tags=["reports"], responses={201: {"model": Draft}})
    def create(study: str, request: DraftRequest, response: Response, reader: Reader = "") -> Draft:
        """Make the draft of a study's newest reading (201), or return the one that is there (200)."""
        draft, new = drafts().create(study, request, reader)
        response.status_code = 201 if new else 200
        return draft

    @routes.get("/studies/{study}/drafts", tags=["reports"])
    def of_study(study: str) -> list[Draft]:
        """Return the last version of every draft of a study, the newest draft first; an empty list for none."""
        return list(drafts().of_study(study))

    @routes.get("/drafts/{draft}", tags=["reports"])
    def get(draft: str, version: Annotated[int | None, Query(ge=1)] = None) -> Draft:
        """Return a version of a draft, the last by default."""
        return drafts().get(draft, version)

    @routes.put("/drafts/{draft}", tags=["reports"])
    def edit(draft: str, edited: DraftEdit, reader: Reader = "") -> Draft:
        """Put all sentences as they shall stand; the new version says of each whether the ledger holds it."""
        return drafts().edit(draft, edited, reader)

    @routes.post("/drafts/{draft}/sign", tags=["reports"])
    def sign(draft: str, request: SignRequest, asked: Request, reader: Reader = "") -> Draft:
        """Sign a version: SR, FHIR and PDF are written, read back and compared. With accounts, whose it is signs."""
        signer = asked.scope.get(IDENTITY)
        if signer is not None:  # nobody signs with another's name
            request = request.model_copy(update={"by": signer.full_name or signer.name})
        return drafts().sign(draft, request, reader)

    @routes.post("/drafts/{draft}/amend", tags=["reports"], status_code=201)
    def amend(draft: str, request: AmendRequest, reader: Reader = "") -> Draft:
        """Begin a new version of a signed report, which stays as it was signed."""
        return drafts().amend(draft, request.version, reader)

    @routes.get("/drafts/{draft}/files/{version}/{name}", tags=["reports"], response_class=FileResponse)
    def file(draft: str, version: int, name: str) -> FileResponse:
        """Send a file of a signed version, which still has the hash that it was signed with."""
        served = drafts().file(draft, version, name)
        return FileResponse(served.path, media_type=served.media_type, filename=served.name)


def _question_routes(routes: APIRouter, ports: Ports) -> None:
    def asking() -> Asking:
        if ports.asking is None:
            raise CapabilityError("this server answers no questions")
        return ports.asking

    def outlooks() -> Outlooks:
        if ports.outlook is None:
            raise CapabilityError("this server has no model of time")
        return ports.outlook

    @routes.post("/studies/{study}/ask", tags=["questions"])
    def ask(study: str, request: AskRequest) -> AskAnswer:
        """Answer a question about a study that was read, every sentence with the places that it rests on."""
        return asking().ask(study, request)

    @routes.get("/studies/{study}/prognosis", tags=["outlook"])
    def prognosis(study: str) -> Outlook:
        """Return what the configured model says of the patient's future, or why it says nothing."""
        return outlooks().prognosis(study)

    @routes.get("/studies/{study}/treatment", tags=["outlook"])
    def treatment(study: str) -> Outlook:
        """Return what the configured table says another treatment would change, or why nothing is said."""
        return outlooks().treatment(study)
