"""A small DICOMweb server over what the node holds and makes, as a router of FastAPI.

It knows of no users: whoever mounts it puts a guard before it. Handlers that read files or the database run in threads.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from isocenter.clinic.dicomweb import qido, wado
from isocenter.clinic.dicomweb.described import PICTURES, described, in_json, parameter
from isocenter.clinic.dicomweb.index import Entry, Index, Level
from isocenter.clinic.dicomweb.multipart import MediaType, accepted, part_of
from isocenter.clinic.dicomweb.stow import Storing
from isocenter.clinic.dimse.holding import Holding
from isocenter.clinic.retrieve.plan import is_uid
from isocenter.core.errors import DataError, PixelError, TransportError

__all__ = ["Access", "DicomWeb", "problem", "router"]

_JSON = "application/dicom+json"


@dataclass(frozen=True)
class Access:
    """What somebody did, for the audit record.

    Args:
        what: "search", "retrieve" or "store".
        client: Address of the client.
        study: Study Instance UID; "" for none or several.
        count: Results, or instances.
    """

    what: str
    client: str
    study: str
    count: int


def _untold(_access: Access) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class DicomWeb:
    """What the server serves.

    Args:
        index: What there is.
        holding: Where instances that are stored go; None: nothing can be stored.
        public_url: Address of the service as clients see it; "" takes that of the request.
        told: Called for each access.
        retry_s: When whoever was refused for want of room is asked to send again.
    """

    index: Index
    holding: Holding | None = None
    public_url: str = ""
    told: Callable[[Access], None] = field(default=_untold)
    retry_s: int = 60


def problem(code: int, detail: str, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """Return an answer that says what is wrong."""
    content = {"status": code, "detail": detail}
    return JSONResponse(content, code, media_type="application/problem+json", headers=dict(headers or {}))


def router(serves: DicomWeb) -> APIRouter:
    """Return the routes: QIDO-RS, WADO-RS and STOW-RS, below the prefix that they are mounted at."""
    routes = APIRouter(tags=["DICOMweb"])
    study, series = "/studies/{study}", "/studies/{study}/series/{series}"
    one = series + "/instances/{sop}"
    web = _Web(serves)

    def add(path: str, handler: Callable[..., Any], name: str, told: dict[str, Any], method: str = "GET") -> None:
        routes.add_api_route(path, handler, methods=[method], name=name, **told)

    for path, level in (
        ("/studies", "studies"), ("/series", "series"), ("/instances", "instances"), (f"{study}/series", "series"),
        (f"{study}/instances", "instances"), (f"{series}/instances", "instances"),
    ):  # fmt: skip
        told = described(path, f"Search {level} (QIDO-RS).", {200: in_json("array"), 204: ()}, query=_SEARCHED)
        add(path, web.searching(level), f"search {path}", told)  # type: ignore[arg-type]
    for path in (study, series, one):
        whole = dict.fromkeys((200, 206), ("multipart/related", "application/dicom"))
        add(path, web.retrieve, f"retrieve {path}", described(path, "Retrieve instances (WADO-RS).", whole))
        below = f"{path}/metadata"
        told = described(below, "Retrieve metadata (WADO-RS).", dict.fromkeys((200, 206), in_json("array")))
        add(below, web.metadata, f"metadata {path}", told)
        below = f"{path}/rendered"
        told = described(below, "Retrieve pictures (WADO-RS).", dict.fromkeys((200, 206), PICTURES), query=_RENDERED)
        add(below, web.rendered, f"rendered {path}", told)
    below = f"{one}/frames/{{frames}}"
    add(below, web.frames, "frames", described(below, "Retrieve frames (WADO-RS).", {200: ("multipart/related",)}))
    below += "/rendered"
    told = described(below, "Retrieve pictures of frames (WADO-RS).", {200: PICTURES, 206: PICTURES}, query=_RENDERED)
    add(below, web.rendered, "rendered frames", told)
    below = f"{one}/bulkdata/{{tag}}"
    told = described(below, "Retrieve bulk data (WADO-RS).", {200: ("multipart/related", "application/octet-stream")})
    add(below, web.bulk, "bulk data", told)
    stored = {
        200: in_json("object"), 202: in_json("object"), 409: in_json("object"),
        503: {**in_json("object"), "application/problem+json": {}},
    }  # fmt: skip
    sent = {"multipart/related": {"schema": {"type": "string", "format": "binary"}}}
    for path in ("/studies", study):
        add(path, web.store, f"store {path}", described(path, "Store (STOW-RS).", stored, body=sent), "POST")
    return routes


_NUMBER: Final = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
_SEARCHED: Final = (
    parameter("limit", _NUMBER, "most results"),
    parameter("offset", _NUMBER, "results to pass over"),
    parameter("includefield", {"type": "string", "maxLength": 1024}, "all, or attributes by keyword or tag"),
    parameter("fuzzymatching", {"type": "boolean"}, "is not done"),
)
"""Attributes to match are parameters too: by keyword, or by eight hexadecimal digits."""
_RENDERED: Final = (
    parameter("quality", {"type": "integer", "minimum": 1, "maximum": 100}, "of a JPEG"),
    parameter("viewport", {"type": "string", "pattern": "^[1-9][0-9]{0,4},[1-9][0-9]{0,4}$"}, "WIDTH,HEIGHT"),
    parameter("window", {"type": "string"}, "CENTRE,WIDTH,linear"),
)


class _Refusal(Exception):
    """An answer that is not the one asked for."""

    def __init__(self, code: int, detail: str) -> None:
        super().__init__(detail)
        self.code, self.detail = code, detail


def _answered(do: Callable[[Request], Response], request: Request) -> Response:
    try:
        return do(request)
    except _Refusal as refusal:
        return problem(refusal.code, refusal.detail)
    except qido.BadRequest as error:
        return problem(400, str(error))
    except qido.TooMany as error:
        return problem(413, str(error))
    except wado.NotAcceptable as error:
        return problem(406, str(error))
    except PixelError:
        return problem(406, "this instance can't be given in that form; ask for it as stored")
    except (DataError, OSError):
        return problem(404, "the instance can't be read")


class _Web:
    """The handlers."""

    def __init__(self, serves: DicomWeb) -> None:
        self._serves = serves

    def searching(self, level: Level) -> Callable[[Request], Response]:
        def search(request: Request) -> Response:
            return _answered(lambda asked: self._search(level, asked), request)

        return search

    def retrieve(self, request: Request) -> Response:
        return _answered(self._retrieve, request)

    def metadata(self, request: Request) -> Response:
        return _answered(self._metadata, request)

    def frames(self, request: Request) -> Response:
        return _answered(self._frames, request)

    def rendered(self, request: Request) -> Response:
        return _answered(self._rendered, request)

    def bulk(self, request: Request) -> Response:
        return _answered(self._bulk, request)

    def _search(self, level: Level, request: Request) -> Response:
        _check_json(request)
        asked = qido.read_search(level, request.query_params.multi_items())
        study, series, _ = _path(request)
        if study and not self._serves.index.instances(study, series):
            raise _Refusal(404, "there is no such study or series")
        root = self._root(request)
        found = qido.search(self._serves.index, asked, (study, series), lambda at, entry: _address(root, at, entry))
        warnings = list(asked.warnings)
        if found.more:
            warnings.append("There are additional results that can be requested.")
        if found.mixed:
            warnings.append(
                f"{found.mixed} of the studies found hold instances of more than one patient; each patient is a result."
            )
        headers = {"Warning": ", ".join(f'299 isocenter "{one}"' for one in warnings)} if warnings else {}
        self._tell("search", request, study, len(found.results))
        if not found.results:
            return Response(status_code=204, headers=headers)
        return JSONResponse(list(found.results), media_type=_JSON, headers=headers)

    def _retrieve(self, request: Request) -> Response:
        study, _, sop = _path(request)
        entries, code = self._entries(request)
        chosen = wado.choose(_accepts(request), [entry.syntax for entry in entries], single=bool(sop))
        self._tell("retrieve", request, study, len(entries))
        if not chosen.multipart:
            kind = f"{chosen.media};transfer-syntax={chosen.syntax or entries[0].syntax}"
            return _streamed(wado.whole(entries[0], chosen.syntax), kind, code)
        boundary = wado.new_boundary()
        return _streamed(
            wado.instances(entries, chosen, boundary),
            f'multipart/related; type="{chosen.media}"; boundary={boundary}',
            code,
        )

    def _metadata(self, request: Request) -> Response:
        _check_json(request)
        entries, code = self._entries(request)
        root = self._root(request)
        self._tell("retrieve", request, entries[0].study, len(entries))

        def told_of(entry: Entry) -> Mapping[str, Any]:
            try:
                return wado.metadata(entry, _address(root, "instances", entry))
            except DataError:
                if len(entries) == 1:
                    raise
                return wado.told_by_index(entry)  # one that can't be read takes the others' metadata from nobody

        def pieces() -> Any:
            yield b"["
            for number, entry in enumerate(entries):
                yield (b"," if number else b"") + json.dumps(told_of(entry), separators=(",", ":")).encode()
            yield b"]"

        return _streamed(pieces(), _JSON, code)

    def _frames(self, request: Request) -> Response:
        entries, _ = self._entries(request)
        media, bodies = wado.frames(entries[0], _numbers(request), _accepts(request))
        self._tell("retrieve", request, entries[0].study, 1)
        return _parts((media, body) for body in bodies)

    def _rendered(self, request: Request) -> Response:
        entries, code = self._entries(request)
        how, multipart = _rendering(request)
        numbers = _numbers(request) if "frames" in request.path_params else [1]
        several = multipart or len(entries) * len(numbers) > 1
        self._tell("retrieve", request, entries[0].study, len(entries))
        if not several:
            return Response(wado.rendered(entries[0], numbers[0], how), code, media_type=how.media)
        return _parts(_shown(entries, numbers, how))

    def _bulk(self, request: Request) -> Response:
        entries, _ = self._entries(request)
        tag = request.path_params["tag"]
        if not re.fullmatch(r"[0-9A-F]{8}", tag):
            raise _Refusal(404, "there is no such bulk data")
        media, bodies = wado.bulk(entries[0], tag)
        self._tell("retrieve", request, entries[0].study, 1)
        return _parts((media, body) for body in bodies)

    async def store(self, request: Request) -> Response:
        holding = self._serves.holding
        study = request.path_params.get("study", "")
        if holding is None:
            return problem(405, "nothing can be stored here")
        if study and not is_uid(study):
            return problem(400, "the study of the path is no UID")
        try:
            _check_json(request)
            storing = Storing(holding, request.headers.get("content-type", ""), study)
        except _Refusal as refusal:
            return problem(refusal.code, refusal.detail)
        except TransportError as error:
            return problem(415, str(error))
        try:
            async for chunk in request.stream():
                if chunk:
                    await run_in_threadpool(storing.feed, chunk)
            storing.end()
        except TransportError as error:
            return problem(400, f"{error}; {sum(not one.status for one in storing.results)} instances before are held")
        except ClientDisconnect:
            return problem(400, "the request was cut off")
        finally:
            storing.abandon()
        good = sum(not one.status for one in storing.results)
        await run_in_threadpool(self._tell, "store", request, study, good)
        if not storing.results:
            return problem(400, "the request holds no instance")
        code = storing.code
        headers = {"Retry-After": str(self._serves.retry_s)} if code == 503 else {}
        return JSONResponse(storing.answer(self._root(request)), code, media_type=_JSON, headers=headers)

    def _entries(self, request: Request) -> tuple[Sequence[Entry], int]:
        """Return the instances of a path, and the status: 206 where some are no longer there."""
        found = self._serves.index.instances(*_path(request))
        there = [entry for entry in found if entry.file.is_file()]
        if not there:
            raise _Refusal(404, "there is no such study, series or instance")
        return there, 200 if len(there) == len(found) else 206

    def _root(self, request: Request) -> str:
        if self._serves.public_url:
            return self._serves.public_url.rstrip("/")
        path = re.split(r"/(?:studies|series|instances)(?:/|$)", request.url.path, maxsplit=1)[0]
        return f"{request.url.scheme}://{request.url.netloc}{path}"

    def _tell(self, what: str, request: Request, study: str, count: int) -> None:
        self._serves.told(Access(what, request.client.host if request.client else "", study, count))


def _path(request: Request) -> tuple[str, str, str]:
    """Return study, series and instance of a path; "" for what it does not name."""
    uids = [request.path_params.get(name, "") for name in ("study", "series", "sop")]
    if any(uid and not is_uid(uid) for uid in uids):
        raise _Refusal(400, "a UID of the path is none")
    return uids[0], uids[1], uids[2]


def _accepts(request: Request) -> list[MediaType]:
    """Return what is accepted; the parameter of the address goes before the header."""
    try:
        return accepted(request.query_params.get("accept", "") or request.headers.get("accept", ""))
    except TransportError as error:
        raise _Refusal(400, str(error)) from error


def _check_json(request: Request) -> None:
    if not any(one.name in (_JSON, "application/json", "application/*", "*/*") for one in _accepts(request)):
        raise _Refusal(406, "lists and metadata are given as application/dicom+json")


def _numbers(request: Request) -> list[int]:
    text = request.path_params["frames"]
    if not re.fullmatch(r"[0-9]{1,6}(,[0-9]{1,6}){0,999}", text):
        raise _Refusal(400, "frames are numbers from 1, with commas between them, a thousand at most")
    return [int(number) for number in text.split(",")]


def _rendering(request: Request) -> tuple[wado.Rendering, bool]:
    """Return how pictures are asked for, and whether in parts."""
    media, multipart = "", False
    for one in _accepts(request):
        multipart = one.name == "multipart/related"
        name = one.parameters.get("type", "*/*") if multipart else one.name
        media = {"*/*": "image/jpeg", "image/*": "image/jpeg"}.get(name, name)
        if media in ("image/jpeg", "image/png"):
            break
    else:
        raise wado.NotAcceptable("pictures are given as image/jpeg or image/png")
    given = request.query_params
    quality = given.get("quality", "90")
    if not re.fullmatch(r"[1-9][0-9]?|100", quality):
        raise _Refusal(400, "quality is a number from 1 to 100")
    window = _pair(given.get("window", ""), r"-?[0-9]{1,9}(?:\.[0-9]{1,6})?")
    size = _pair(given.get("viewport", ""), r"[1-9][0-9]{0,4}")
    if window is not None and window[1] < 1:
        raise _Refusal(400, "a window is CENTRE,WIDTH,linear with a width of 1 or more")
    return (
        wado.Rendering(media, int(quality), window, None if size is None else (int(size[0]), int(size[1]))),
        multipart,
    )


def _pair(text: str, number: str) -> tuple[float, float] | None:
    if not text:
        return None
    found = re.fullmatch(rf"({number}),({number})(?:,(?:linear|LINEAR))?", text)
    if found is None:
        raise _Refusal(400, "a window is CENTRE,WIDTH,linear, and a viewport WIDTH,HEIGHT")
    return float(found[1]), float(found[2])


def _address(root: str, level: Level, entry: Entry) -> str:
    address = f"{root}/studies/{entry.study}"
    if level != "studies":
        address += f"/series/{entry.series}"
    return address if level != "instances" else f"{address}/instances/{entry.sop}"


def _streamed(pieces: Any, media: str, code: int = 200) -> Response:
    """Stream an answer. Its first piece is made before the status is sent: what can't be made at all is told by it."""
    rest = iter(pieces)
    begin = [piece for _, piece in zip(range(2), rest, strict=False)]
    return StreamingResponse(chain(begin, rest), code, media_type=media)


def _shown(entries: Sequence[Entry], numbers: Sequence[int], how: wado.Rendering) -> Iterator[tuple[str, bytes]]:
    """Yield pictures. What is none, as a report among images, is left out; that nothing can be shown is told.

    Raises:
        PixelError: There is no picture.
    """
    found = False
    for entry in entries:
        for number in numbers:
            try:
                yield how.media, wado.rendered(entry, number, how)
                found = True
            except DataError:
                if len(entries) == 1:
                    raise
    if not found:
        raise PixelError("nothing of it can be shown")


def _parts(parts: Any) -> Response:
    """Stream parts of their own media types."""
    boundary = wado.new_boundary()

    def pieces() -> Any:
        for media, body in parts:
            yield part_of(boundary, media) + body
        yield f"\r\n--{boundary}--\r\n".encode()

    rest = iter(pieces())
    begin = next(rest)
    found = re.search(rb"Content-Type: ([^;\r]+)", begin)
    kind = found[1].decode() if found else "application/octet-stream"
    return StreamingResponse(chain([begin], rest), media_type=f'multipart/related; type="{kind}"; boundary={boundary}')
