"""What the OpenAPI document says of the routes of DICOMweb and of the worklist, which read their requests themselves.

Refusals stand in the document once for all routes of an app (RFC 9457).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import Response

__all__ = ["JSON", "PICTURES", "described", "in_json", "parameter"]

JSON: Final = "application/dicom+json"
PICTURES: Final = ("image/jpeg", "image/png", "multipart/related")
_UID: Final = {"type": "string", "pattern": r"^[0-9][0-9.]{0,63}$"}
_PATH: Final[Mapping[str, Mapping[str, Any]]] = {
    "study": _UID, "series": _UID, "sop": _UID, "uid": _UID,
    "frames": {"type": "string", "pattern": r"^[0-9]{1,6}(,[0-9]{1,6}){0,999}$"},
    "tag": {"type": "string", "pattern": r"^[0-9A-Fa-f]{8}$"},
    "subscriber": {"type": "string", "pattern": r"^[!-\[\]-~]{1,16}$"},
}  # fmt: skip


def parameter(name: str, schema: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Return a parameter of the address that may be left out."""
    return {"name": name, "in": "query", "required": False, "description": what, "schema": dict(schema)}


def in_json(kind: str) -> dict[str, Any]:
    """Return an answer in the DICOM JSON model.

    Args:
        kind: "array" of data sets, or "object" for one.
    """
    return {JSON: {"schema": {"type": kind} | ({"items": {"type": "object"}} if kind == "array" else {})}}


def described(
    path: str,
    what: str,
    answers: Mapping[int, Sequence[str] | Mapping[str, Any]],
    *,
    query: Sequence[Mapping[str, Any]] = (),
    body: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a route is told beside its handler, for the document.

    Args:
        path: Of the route.
        what: It does, in a sentence.
        answers: By status: media types, or the content as OpenAPI has it; none for an answer without a body. The first
            is the one that a request usually gets.
        query: Parameters of its address.
        body: Content of a request.
    """
    inside = [
        {"name": name, "in": "path", "required": True, "schema": dict(_PATH[name])}
        for name in re.findall(r"\{([a-z]+)\}", path)
    ]
    extra: dict[str, Any] = {"parameters": [*inside, *query]}
    if body is not None:
        extra["requestBody"] = {"content": dict(body), "required": True}
    responses: dict[int | str, dict[str, Any]] = {}
    for status, given in answers.items():
        content = given if isinstance(given, Mapping) else {media: {} for media in given}
        responses[status] = {"content": dict(content)} if content else {}
    return {
        "status_code": next(iter(answers)), "response_class": Response, "summary": what, "responses": responses,
        "openapi_extra": extra,
    }  # fmt: skip
