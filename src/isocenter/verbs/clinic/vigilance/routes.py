"""The node's routes of vigilance: the panel, its state for machines, and what readers say."""

from __future__ import annotations

from typing import Any, Protocol, runtime_checkable

from fastapi import APIRouter, Response

from isocenter.clinic.vigilance import Record
from isocenter.clinic.workflow import Ledger
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.vigilance.feedback import Feedback
from isocenter.verbs.clinic.vigilance.operate import panel_of, state_of
from isocenter.verbs.clinic.vigilance.page import page_policy

__all__ = ["router"]


@runtime_checkable
class _Web(Protocol):
    @property
    def config(self) -> ClinicConfig: ...
    @property
    def ledger(self) -> Ledger: ...


def router(web: _Web) -> APIRouter:
    """Return the routes.

    Args:
        web: What they act on.
    """
    routes = APIRouter(tags=["Vigilance"])
    record = Record(web.ledger.engine)

    @routes.get("/vigilance", response_class=Response)
    def panel() -> Response:
        """Show the drift panel."""
        headers = {"content-security-policy": page_policy(), "cache-control": "no-store"}
        return Response(panel_of(web.config, record), media_type="text/html; charset=utf-8", headers=headers)

    @routes.get("/node/v1/vigilance")
    def state() -> dict[str, Any]:
        """Return what the panel shows, for machines."""
        return state_of(web.config, record)

    @routes.post("/node/v1/feedback", status_code=204)
    def feedback(said: Feedback) -> Response:
        """Take in what a reader says of an answer; the same source again replaces what it said before."""
        record.say(said.said())
        return Response(status_code=204)

    return routes
