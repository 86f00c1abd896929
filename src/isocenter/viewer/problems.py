"""Errors as answers: RFC 9457 problem details, one status and code per error of `core.errors`."""

from __future__ import annotations

import logging
from pathlib import PurePath
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from isocenter.core.defects import arose_at
from isocenter.core.errors import (
    AtCapacity,
    CapabilityError,
    ClinicError,
    ConfigError,
    Conflict,
    DataError,
    GeometryError,
    IdentityLeak,
    IsocenterError,
    ModelError,
    NotFound,
    OutputError,
    PixelError,
    PluginError,
    SessionExpired,
    Stopped,
    TooLarge,
    TransportError,
    UnitsError,
    WeightsError,
)
from isocenter.viewer.ports import Problem

__all__ = ["MEDIA_TYPE", "REFUSALS", "add_handlers", "answer", "defect", "error_of", "problem_of", "status_of"]

MEDIA_TYPE = "application/problem+json"
_REFUSAL = {
    "title": "Refusal",
    "type": "object",
    "required": ["status", "detail"],
    "properties": {
        "type": {"type": "string"}, "title": {"type": "string"}, "status": {"type": "integer"},
        "code": {"type": "string"}, "detail": {"type": "string"},
    },
}  # fmt: skip
REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"description": what, "content": {MEDIA_TYPE: {"schema": {"$ref": "#/components/schemas/Refusal"}}}}
    for code, what in (("4XX", "Refused"), ("5XX", "Not possible here or now"))
}
"""What an app's OpenAPI document says of every route: how it refuses. It takes the place of FastAPI's form of 422."""
_RETRY_SECONDS = 5
_log = logging.getLogger("isocenter.viewer")

# The first that fits: an error stands before those it inherits from.
_KINDS: tuple[tuple[type[IsocenterError], int, str, str], ...] = (
    (NotFound, 404, "not_found", "There is nothing of this name"),
    (Conflict, 409, "conflict", "It was changed meanwhile, or its state does not allow this"),
    (Stopped, 409, "stopped", "The work was stopped"),
    (SessionExpired, 410, "session_expired", "The session has expired"),
    (AtCapacity, 503, "at_capacity", "The server is full"),
    (TransportError, 502, "transport", "Another system did not answer"),
    (ClinicError, 502, "clinic", "A conversation with another system failed"),
    (TooLarge, 413, "too_large", "It is too large"),
    (OutputError, 507, "output", "The work folder can't be written"),
    (IdentityLeak, 422, "identity_leak", "Two patients where one is allowed"),
    (GeometryError, 422, "geometry", "Its place in the patient does not allow this"),
    (UnitsError, 422, "units", "A quantity or unit does not fit"),
    (PixelError, 422, "pixels", "Its pixels can't be read"),
    (DataError, 422, "data", "The data can't be read"),
    (ConfigError, 400, "config", "The request is not valid"),
    (CapabilityError, 501, "not_offered", "This server can't do this"),
    (WeightsError, 503, "weights", "A model's weights are missing or altered"),
    (ModelError, 503, "model", "A model can't be used"),
    (PluginError, 503, "plugin", "A plug-in is broken"),
)


def status_of(error: IsocenterError) -> tuple[int, str, str]:
    """Return the status, code and title of an error.

    Example:
        >>> status_of(NotFound("no such study"))[:2]
        (404, 'not_found')
    """
    for kind, status, code, title in _KINDS:
        if isinstance(error, kind):
            return status, getattr(error, "code", code), title
    return 500, "defect", "A defect of Isocenter"


def problem_of(error: IsocenterError) -> Problem:
    """Return what a program and a person are told of an error; a place on the server's disk is not told."""
    detail = str(error)
    source = getattr(error, "source", "")
    if source and PurePath(source).is_absolute():
        detail = detail.removeprefix(f"{source}: ").replace(source, PurePath(source).name)
    return Problem(status_of(error)[1], detail)


def error_of(problem: Problem) -> IsocenterError:
    """Return an error for a problem that another process told; `problem_of` of it is the same problem.

    Example:
        >>> problem_of(error_of(Problem("geometry", "mixed orientation")))
        Problem(code='geometry', detail='mixed orientation')
    """
    kind = next((kind for kind, _, code, _ in _KINDS if code == problem.code), DataError)
    return kind(problem.detail)


def answer(status: int, code: str, title: str, detail: str, **more: object) -> JSONResponse:
    """Return a problem as an answer."""
    body = {"type": f"urn:isocenter:problem:{code}", "title": title, "status": status, "code": code, "detail": detail}
    headers = {"Retry-After": str(_RETRY_SECONDS)} if status == 503 else None
    return JSONResponse({**body, **more}, status_code=status, media_type=MEDIA_TYPE, headers=headers)


def defect(error: Exception) -> JSONResponse:
    """Return the answer to an error that is none of ours.

    Its text may hold anything, a header's value too: only its type and place are logged, the trace where debugging is
    on.
    """
    trace = error if _log.isEnabledFor(logging.DEBUG) else None
    kind = type(error).__name__
    _log.error("%s (%s): a defect of Isocenter, please report it", kind, arose_at(error), exc_info=trace)
    detail = f"{type(error).__name__}: please report it; with ISOCENTER_DEBUG=1 the server's log shows more"
    return answer(500, "defect", "A defect of Isocenter", detail)


def add_handlers(app: FastAPI) -> None:
    """Let an app answer every error by a problem, and its document say so; it is made with the responses `REFUSALS`.

    `security.Guard` answers what is no error of ours.
    """
    described = app.openapi

    def openapi() -> dict[str, Any]:
        document = described()
        document.setdefault("components", {}).setdefault("schemas", {})["Refusal"] = _REFUSAL
        return document

    app.openapi = openapi  # type: ignore[method-assign]

    async def ours(_request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, IsocenterError):
            raise error
        status, code, title = status_of(error)
        return answer(status, code, title, problem_of(error).detail)

    async def invalid(_request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, RequestValidationError):
            raise error
        found = [
            {"where": ".".join(str(part) for part in e["loc"]), "what": str(e["msg"])} for e in error.errors()[:20]
        ]
        detail = "; ".join(f"{item['where']}: {item['what']}" for item in found)
        return answer(422, "invalid", "The request is not valid", detail, errors=found)

    async def http(_request: Request, error: Exception) -> JSONResponse:
        if not isinstance(error, HTTPException):
            raise error
        code = {401: "unauthorized", 403: "forbidden", 404: "not_found", 405: "method_not_allowed", 413: "too_large"}
        return answer(error.status_code, code.get(error.status_code, "http"), str(error.detail), str(error.detail))

    app.add_exception_handler(IsocenterError, ours)
    app.add_exception_handler(RequestValidationError, invalid)
    app.add_exception_handler(HTTPException, http)
