"""Routes by which a node is looked after: is it alive, is it ready, how is it, and send that again."""

from __future__ import annotations

import json
import threading
import time
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from jinja2 import Environment, StrictUndefined, Template
from pydantic import BaseModel, ConfigDict, Field

from isocenter.clinic.observe import Check, checks, metrics_text, ready
from isocenter.clinic.observe.exposition import CONTENT_TYPE
from isocenter.clinic.observe.overview import Overview, deliveries_of, events_of, studies_of
from isocenter.clinic.workflow import Completeness
from isocenter.core.errors import ConfigError
from isocenter.verbs.clinic.observing import needs_of
from isocenter.version import __version__

if TYPE_CHECKING:
    from isocenter.verbs.clinic.web import NodeWeb

__all__ = ["ReplayRequest", "router"]

_KEEP_S: Final = 2.0
_IDENTITY: Final = "isocenter.identity"
"""Where the layer of access puts who asks."""
_POLICY: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_LONGEST: Final = 1000
Limit = Annotated[int, Query(ge=1, le=_LONGEST)]
Number = Annotated[int | None, Query(ge=0, lt=1 << 31)]
# PostgreSQL refuses NUL.
Word = Annotated[str, Query(max_length=64, pattern=r"^[^\x00]*$")]
Key = Annotated[str, Field(max_length=64, pattern=r"^[^\x00]*$")]


class ReplayRequest(BaseModel):
    """What is to be taken up again.

    Attributes:
        deliveries: Keys of dead letters.
        studies: UIDs of studies that failed.
        everything: All dead letters and all studies that failed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    deliveries: tuple[Key, ...] = Field(default=(), max_length=_LONGEST)
    studies: tuple[Key, ...] = Field(default=(), max_length=_LONGEST)
    everything: bool = False


class _Looks:
    """Checks, not done anew for everybody who asks within moments."""

    def __init__(self, web: NodeWeb) -> None:
        self._web, self._needs = web, needs_of(web.config)
        self._lock = threading.Lock()
        self._at, self._found = -_KEEP_S, ()  # type: tuple[float, tuple[Check, ...]]

    def look(self) -> tuple[Check, ...]:
        """Return the checks."""
        with self._lock:
            if time.monotonic() - self._at > _KEEP_S:
                self._found = checks(self._web.store, self._web.ledger, self._needs)
                self._at = time.monotonic()
            return self._found


def router(web: NodeWeb) -> APIRouter:
    """Return the routes.

    Args:
        web: The node's settings, ledger and store.
    """
    routes = APIRouter(tags=["Node"])
    looks = _Looks(web)
    _add_probes(routes, web, looks)
    _add_api(routes, web, looks)
    _add_panel(routes, web, looks)
    return routes


def _overview(web: NodeWeb) -> Overview:
    told = web.config.completeness
    return Overview(
        web.store, web.ledger, needs_of(web.config), Completeness(told.quiet_s, told.told_s, told.longest_s),
        tuple(sorted(web.config.destinations)), web.config.tasks.processes,
    )  # fmt: skip


def _add_probes(routes: APIRouter, web: NodeWeb, looks: _Looks) -> None:
    @routes.get("/health")
    def health() -> dict[str, str]:
        """Tell that this process lives; nothing else is looked at."""
        return {"status": "ok", "isocenter": __version__}

    @routes.get("/ready", responses={503: {"description": "A check is not well."}})
    def is_ready() -> JSONResponse:
        """Tell whether the node can do its work: 200, or 503 with the checks that are not well."""
        found = looks.look()
        well = ready(found)
        content = {"ready": well, "checks": [{"name": c.name, "ok": c.ok, "detail": c.detail} for c in found]}
        return JSONResponse(content, 200 if well else 503)

    @routes.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> Response:
        """Return the metrics, as Prometheus reads them."""
        text = metrics_text(web.store, web.ledger, needs_of(web.config), looks.look())
        return Response(text, media_type=None, headers={"Content-Type": CONTENT_TYPE})


def _add_api(routes: APIRouter, web: NodeWeb, looks: _Looks) -> None:
    overview = _overview(web)

    @routes.get("/node/v1/status")
    def status() -> dict[str, Any]:
        """Return all that the panel shows."""
        return overview.look(looks.look())

    @routes.get("/node/v1/events")
    def events(kind: Word = "", before: Number = None, limit: Limit = 100) -> list[dict[str, Any]]:
        """Return events, newest first; older ones by `before` the number of the last."""
        return events_of(web.ledger, kinds=(kind,) if kind else (), before=before, limit=limit)

    @routes.get("/node/v1/studies")
    def studies(state: Word = "", limit: Limit = 100) -> list[dict[str, Any]]:
        """Return studies, the latest first."""
        return studies_of(web.ledger, state=state, limit=limit)

    @routes.get("/node/v1/deliveries")
    def deliveries(state: Word = "", destination: Word = "", limit: Limit = 100) -> list[dict[str, Any]]:
        """Return deliveries, the latest first."""
        return deliveries_of(web.ledger, state=state, destination=destination, limit=limit)

    @routes.post("/node/v1/replay")
    def replay(wanted: ReplayRequest, request: Request) -> dict[str, int]:
        """Send dead letters again, and have failed studies answered again; return how many were taken up."""
        if wanted.everything == bool(wanted.deliveries or wanted.studies):
            raise ConfigError("name deliveries or studies, or ask for everything")
        sent = asked = 0
        if wanted.everything or wanted.deliveries:
            sent = web.ledger.replay(None if wanted.everything else wanted.deliveries)
        if wanted.everything or wanted.studies:
            asked = web.ledger.ask_again(None if wanted.everything else wanted.studies)
        who = getattr(request.scope.get(_IDENTITY), "name", "somebody with the node's token")
        web.ledger.tell("replay", "", f"{sent} deliveries, {asked} studies, asked for by {who}")
        return {"deliveries": sent, "studies": asked}


def _add_panel(routes: APIRouter, web: NodeWeb, looks: _Looks) -> None:
    overview = _overview(web)

    @routes.get("/panel", response_class=HTMLResponse)
    def panel(request: Request) -> HTMLResponse:
        """Return the panel."""
        seen = overview.look(looks.look())
        csrf = getattr(request.scope.get(_IDENTITY), "csrf", "")
        recent = events_of(web.ledger, limit=40)
        page = _template().render(seen=seen, recent=recent, csrf=csrf, now=seen["at"])
        return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-store"})

    @routes.get("/panel/panel.css", response_class=Response, responses={200: {"content": {"text/css": {}}}})
    def style() -> Response:
        """Return the panel's style."""
        return Response(_file("panel.css"), media_type="text/css", headers={"Cache-Control": "max-age=300"})

    @routes.get("/panel/panel.js", response_class=Response, responses={200: {"content": {"text/javascript": {}}}})
    def script() -> Response:
        """Return the panel's script: it keeps the page fresh, and sends what a button asks for."""
        return Response(_file("panel.js"), media_type="text/javascript", headers={"Cache-Control": "max-age=300"})


def _file(name: str) -> str:
    return files("isocenter.verbs.clinic.panel").joinpath(name).read_text("utf-8")


@cache
def _template() -> Template:
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {"ago": _ago, "size": _size, "when": _when, "json": json.dumps, "short": _short}
    return environment.from_string(_file("panel.html.j2"))


def _ago(at: float | None, now: float) -> str:
    """Return how long ago something was, in words."""
    if at is None:
        return "never"
    seconds = max(0.0, now - at)
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit} ago"
    return f"{seconds:.0f} s ago"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _size(count: float | None) -> str:
    if count is None:
        return "no limit"
    for unit in ("B", "kB", "MB", "GB"):
        if abs(count) < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"


def _short(uid: str) -> str:
    """Return the end of a UID, which tells it from others; the whole stands beside it for the pointer and the copy."""
    return uid if len(uid) <= 28 else f"…{uid[-27:]}"
