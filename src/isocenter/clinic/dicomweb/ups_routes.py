"""UPS-RS as a router of FastAPI. Subscribers poll: there is no WebSocket.

Source:
    DICOM PS3.18, 11.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydicom.datadict import keyword_for_tag, tag_for_keyword
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from isocenter.clinic.dicomweb.described import described, in_json, parameter
from isocenter.clinic.dicomweb.index import tag_of
from isocenter.clinic.dicomweb.qido import BadRequest
from isocenter.clinic.dicomweb.server import problem
from isocenter.clinic.dicomweb.ups import FILTERED, Worklist
from isocenter.clinic.dicomweb.ups_rules import UpsRefused, first
from isocenter.clinic.retrieve.plan import is_uid

__all__ = ["worklist_router"]

_JSON = "application/dicom+json"
_MOST_BODY = 4 << 20
_PAGE = 200
_DEEPEST = 64
_TITLE = re.compile(r"[!-\[\]-~]{1,16}")


def worklist_router(worklist: Worklist) -> APIRouter:
    """Return the routes of the worklist, below the prefix that they are mounted at."""
    routes = APIRouter(tags=["UPS-RS"])
    web = _Web(worklist)
    item = "/workitems/{uid}"
    follower = f"{item}/subscribers/{{subscriber}}"
    one = {_JSON: {"schema": {"type": "object"}}}
    table: Sequence[tuple[str, str, Any, str, Mapping[int, Any], Mapping[str, Any] | None]] = (
        ("/workitems", "POST", web.create, "Create a workitem.", {201: ()}, one),
        ("/workitems", "GET", web.search, "Search workitems.", {200: in_json("array"), 204: ()}, None),
        (item, "GET", web.retrieve, "Retrieve a workitem.", {200: in_json("array")}, None),
        (item, "POST", web.change, "Change a workitem.", {200: ()}, one),
        (f"{item}/state", "PUT", web.state, "Change a workitem's state.", {200: ()}, one),
        (f"{item}/cancelrequest", "POST", web.cancel, "Ask that a workitem be cancelled.", {202: ()}, None),
        (follower, "POST", web.subscribe, "Subscribe.", {201: ()}, None),
        (follower, "DELETE", web.unsubscribe, "Unsubscribe.", {200: ()}, None),
        ("/subscribers/{subscriber}/events", "GET", web.events, "Poll what happened.", {200: _EVENTS}, None),
    )
    for path, method, handler, what, answers, sent in table:
        told = described(path, what, answers, query=_SEARCHED if what.startswith("Search") else (), body=sent)
        routes.add_api_route(path, _guarded(handler), methods=[method], name=f"{method} {path}", **told)
    return routes


_EVENTS = {"application/json": {"schema": {"type": "array", "items": {"type": "object"}}}}
_NUMBER = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_SEARCHED = (
    parameter("limit", _NUMBER, "most results"),
    parameter("offset", _NUMBER, "results to pass over"),
)


def _guarded(handler: Callable[[Request, bytes], Response]) -> Callable[..., Any]:
    """Return a handler that reads the body, bounded, and answers refusals."""

    async def handle(request: Request) -> Response:
        body = bytearray()
        try:
            async for chunk in request.stream():
                body += chunk
                if len(body) > _MOST_BODY:
                    return problem(413, "the body is too long")
        except ClientDisconnect:
            return problem(400, "the request was cut off")
        try:
            return await run_in_threadpool(handler, request, bytes(body))
        except UpsRefused as refused:
            return problem(refused.code, refused.warning, _warning(refused.warning))
        except BadRequest as error:
            return problem(400, str(error))

    return handle


def _warning(text: str) -> dict[str, str]:
    return {"Warning": f'299 isocenter "{text}"'} if text else {}


class _Web:
    """The handlers."""

    def __init__(self, worklist: Worklist) -> None:
        self._worklist = worklist

    def create(self, request: Request, body: bytes) -> Response:
        uid = self._worklist.create(_dataset(body), _uid_of_query(request, "workitem", "AffectedSOPInstanceUID"))
        address = f"{str(request.url).partition('?')[0].rstrip('/')}/{uid}"
        return Response(status_code=201, headers={"Location": address, "Content-Location": address})

    def retrieve(self, request: Request, _body: bytes) -> Response:
        return JSONResponse([self._worklist.retrieve(_uid(request))], media_type=_JSON)

    def change(self, request: Request, body: bytes) -> Response:
        transaction = _uid_of_query(request, "transaction-uid", "transaction")
        self._worklist.change(_uid(request), _dataset(body), transaction)
        return Response(status_code=200)

    def state(self, request: Request, body: bytes) -> Response:
        asked = _dataset(body)
        if not isinstance(asked, dict):
            raise BadRequest("the body is not a data set in the DICOM JSON model")
        state, transaction = str(first(asked, "ProcedureStepState")), str(first(asked, "TransactionUID"))
        warning = self._worklist.change_state(_uid(request), state, transaction)
        return Response(status_code=200, headers=_warning(warning))

    def cancel(self, request: Request, body: bytes) -> Response:
        asked = _dataset(body) if body.strip() else {}
        reason = str(first(asked, "ReasonForCancellation"))[:1024] if isinstance(asked, dict) else ""
        warning = self._worklist.request_cancel(_uid(request), reason)
        return Response(status_code=202, headers=_warning(warning))

    def search(self, request: Request, _body: bytes) -> Response:
        match: dict[str, str] = {}
        numbers = {"limit": _PAGE, "offset": 0}
        for name, value in request.query_params.multi_items():
            if name in numbers:
                if not re.fullmatch(r"[0-9]{1,9}", value):
                    raise BadRequest(f"{name} is a number, 0 or more")
                numbers[name] = int(value)
            elif name in ("includefield", "fuzzymatching"):
                continue  # workitems are told whole
            else:
                match[_path_of(name)] = _value(value)
        limit = min(numbers["limit"], 1000)
        found, more = self._worklist.search(match, limit=limit, offset=numbers["offset"])
        headers = _warning("There are additional results that can be requested." if more else "")
        if not found:
            return Response(status_code=204, headers=headers)
        return JSONResponse(found, media_type=_JSON, headers=headers)

    def subscribe(self, request: Request, _body: bytes) -> Response:
        uid, subscriber = _uid(request), _title(request)
        match = {
            _path_of(name): _value(value)
            for name, value in request.query_params.multi_items()
            if name not in ("deletionlock", "filter")
        }
        for part in request.query_params.get("filter", "").split(","):
            name, equals, value = part.partition("=")
            if equals:
                match[_path_of(name)] = _value(value)
        if match and uid != FILTERED:
            raise BadRequest("only the filtered global subscription takes a filter")
        self._worklist.subscribe(subscriber, uid, match)
        address = f"{str(request.url).partition('/workitems/')[0]}/subscribers/{subscriber}/events"
        return Response(status_code=201, headers={"Content-Location": address})

    def unsubscribe(self, request: Request, _body: bytes) -> Response:
        self._worklist.unsubscribe(_title(request), _uid(request))
        return Response(status_code=200)

    def events(self, request: Request, _body: bytes) -> Response:
        after = request.query_params.get("after", "0")
        if not re.fullmatch(r"[0-9]{1,15}", after):
            raise BadRequest("after is a number, 0 or more")
        found = self._worklist.events(_title(request), int(after))
        told = [{"number": e.number, "workitem": e.uid, "kind": e.kind, "dataset": dict(e.body)} for e in found]
        return JSONResponse(told)


def _uid(request: Request) -> str:
    uid: str = request.path_params["uid"]
    if not is_uid(uid):
        raise BadRequest("the workitem of the path is no UID")
    return uid


def _title(request: Request) -> str:
    title: str = request.path_params["subscriber"]
    if not _TITLE.fullmatch(title):
        raise BadRequest("a subscriber is named by an application entity title of 1 to 16 characters")
    return title


def _uid_of_query(request: Request, *names: str) -> str:
    """Return a UID of a query: by name, or by itself ("/workitems?1.2.3"), as editions of the standard have it."""
    given = request.query_params
    found = next((given[name] for name in names if name in given), "")
    if not found and len(given) == 1 and is_uid(next(iter(given))):
        found = next(iter(given))
    if given and not is_uid(found):
        raise BadRequest("the UID of the query is none")
    return found


def _dataset(body: bytes) -> object:
    """Return the data set of a body: itself, or the only one of a list."""
    try:
        found = json.loads(body)
        # What could not be told again is not taken: NaN, infinity, halves of characters, nests without end.
        json.dumps(found, allow_nan=False, ensure_ascii=False).encode()
        if _depth(found) > _DEEPEST:
            raise ValueError("too deep")
    except (ValueError, RecursionError) as error:
        raise BadRequest("the body is not a data set in the DICOM JSON model") from error
    if isinstance(found, list) and len(found) == 1:
        return found[0]
    return found


def _depth(value: object) -> int:
    """Return how deep a JSON value is nested."""
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [
            inner
            for one in level
            for inner in (one.values() if isinstance(one, dict) else one if isinstance(one, list) else ())
        ]
    return depth


def _value(value: str) -> str:
    if len(value) > 1024:
        raise BadRequest("a value that is too long")
    return value


def _path_of(name: str) -> str:
    """Return the path of an attribute by tags; keywords or tags, with dots into sequences."""
    path = []
    for part in name.split(".")[:4]:
        if re.fullmatch(r"[0-9A-Fa-f]{8}", part) and keyword_for_tag(int(part, 16)):
            path.append(part.upper())
        elif part.isalnum() and tag_for_keyword(part) is not None:
            path.append(tag_of(part))
        else:
            raise BadRequest("a parameter that is not known; attributes are given by keyword or by tag")
    return ".".join(path)
