"""Interaction sessions and confirmed masks; the socket itself is `socket`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Body, FastAPI, Header, Request, Response, WebSocket
from fastapi.responses import FileResponse

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.viewer.ports import MaskItem, Ports
from isocenter.viewer.sessions import Live, SessionDesk
from isocenter.viewer.settings import IDENTITY, PREFIX, Settings
from isocenter.viewer.socket import converse
from isocenter.viewer.wire import encode_levels, pack

__all__ = ["NewSession", "SessionItem", "reader_of", "router"]

Form = Literal["nifti", "seg", "rtstruct"]


@dataclass(frozen=True)
class NewSession:
    """Who wants to outline what."""

    label: str = "object"
    reader: str = ""


@dataclass(frozen=True)
class SessionItem:
    """A session; `cases` are its confirmed ones: clicks, seconds, first_dice."""

    id: str
    label: str
    reader: str
    lease_seconds: float
    image: str | None
    cases: tuple[dict[str, Any], ...]


def router(ports: Ports, settings: Settings) -> APIRouter:
    """Return the routes; the desk stands on the router's state as long as the server runs."""
    interactions = ports.interactions
    if interactions is None:
        return _not_offered()
    desk = SessionDesk(interactions, settings.limits)

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with desk.running():
            yield

    routes = APIRouter(prefix=PREFIX, tags=["interaction"], lifespan=lifespan)

    @routes.post("/sessions", status_code=201)
    async def create(
        new: Annotated[NewSession, Body()], x_isocenter_reader: Annotated[str, Header(max_length=64)] = ""
    ) -> SessionItem:
        """Begin a session; 503 with Retry-After where all places are taken."""
        label, reader = new.label.strip(), reader_of(x_isocenter_reader or new.reader)
        if not 1 <= len(label) <= 64 or not label.isprintable():
            raise ConfigError("a structure's name has 1 to 64 letters")
        return _item(await desk.create(label, reader), settings)

    @routes.get("/sessions")
    async def sessions(asked: Request) -> tuple[SessionItem, ...]:
        """List the sessions that hold a place; with accounts, one's own, and all to an administrator."""
        known = asked.scope.get(IDENTITY)
        shown = [one for one in desk.live if known is None or known.role == "admin" or one.reader == known.name]
        return tuple(_item(live, settings) for live in shown)

    @routes.get("/sessions/{session}")
    async def one(session: str, asked: Request) -> SessionItem:
        """Return a session; one from before a restart gets its place again. With accounts, 409 for another's."""
        return _item(await desk.get(session, asking=_asking(asked)), settings)

    @routes.delete("/sessions/{session}", status_code=204)
    async def end(session: str, asked: Request) -> Response:
        """End a session; what was confirmed stays. With accounts, 409 for another's."""
        await desk.end(session, asking=_asking(asked))
        return Response(status_code=204)

    @routes.websocket("/sessions/{session}/socket")
    async def socket(websocket: WebSocket, session: str) -> None:
        """Interaction; see docs/reference/viewer-api.md."""
        await converse(websocket, session, desk, settings)

    @routes.get("/images/{image}/masks")
    def masks(image: str) -> tuple[MaskItem, ...]:
        """List the confirmed masks of an image, oldest first."""
        return interactions.masks(image)

    @routes.get("/masks/{mask}", response_class=Response, responses=_BINARY)
    def mask(mask: str) -> Response:
        """Send a confirmed mask as levels: a message of the socket's form."""
        item, change = interactions.mask(mask)
        head = {
            "type": "mask",
            "id": item.id,
            "image": item.image,
            "label": item.label,
            "box_zyx": list(change.box_zyx),
            "encoding": "rle-levels",
        }
        body = pack(head, encode_levels(change.levels))
        keep = {"Cache-Control": "private, max-age=86400, immutable"}
        return Response(body, media_type="application/octet-stream", headers=keep)

    @routes.get("/masks/{mask}/file", response_class=FileResponse, responses=_FILES)
    def mask_file(mask: str, form: Form = "nifti") -> FileResponse:
        """Send a confirmed mask as a file, written with its geometry proof."""
        served = interactions.mask_file(mask, form)
        return FileResponse(served.path, media_type=served.media_type, filename=served.name)

    return routes


def reader_of(text: str) -> str:
    """Return who works, as it is written: at most 64 printable letters.

    Raises:
        ConfigError: There are more, or others.
    """
    reader = text.strip()
    if len(reader) > 64 or not (reader.isprintable() or not reader):
        raise ConfigError("a reader's name has at most 64 letters")
    return reader


def _asking(asked: Request) -> str | None:
    known = asked.scope.get(IDENTITY)
    return None if known is None else str(known.name)


def _item(live: Live, settings: Settings) -> SessionItem:
    cases = tuple(dict(case) for case in live.work.cases)
    return SessionItem(live.id, live.label, live.reader, settings.limits.lease_seconds, live.image or None, cases)


def _not_offered() -> APIRouter:
    routes = APIRouter(prefix=PREFIX, tags=["interaction"])

    @routes.post("/sessions", include_in_schema=False)
    @routes.get("/sessions", include_in_schema=False)
    async def nothing() -> None:
        raise CapabilityError("this server outlines nothing: it was started without models")

    return routes


_BINARY: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}
}
_FILES: dict[int | str, dict[str, Any]] = {
    200: {
        "content": {
            media: {"schema": {"type": "string", "format": "binary"}}
            for media in ("application/gzip", "application/dicom")
        }
    }
}
