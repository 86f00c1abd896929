"""The ASGI app: routers around ports, problems for errors, a guard around all of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from fastapi import APIRouter, FastAPI

from isocenter.version import __version__
from isocenter.viewer import (
    monai_label,
    page,
    routes_health,
    routes_jobs,
    routes_readings,
    routes_reports,
    routes_sessions,
    routes_studies,
    routes_work,
)
from isocenter.viewer.ports import Ports
from isocenter.viewer.problems import REFUSALS, add_handlers
from isocenter.viewer.security import Guard
from isocenter.viewer.settings import NOT_FOR_CLINICAL_USE, PREFIX, Settings

__all__ = ["ROUTERS", "Closing", "create_app"]

ROUTERS: tuple[Callable[[Ports, Settings], APIRouter], ...] = (
    routes_health.router,
    routes_studies.router,
    routes_readings.router,
    routes_jobs.router,
    routes_sessions.router,
    monai_label.router,
    routes_reports.router,
    routes_work.router,
)
"""One per noun, in the order of the documentation. A new noun is a file `routes_NOUN.py` (or a module of its own) with
a function `router(ports, settings) -> APIRouter`, and a line here. A router whose work outlives a request (threads,
leases) gives it a `lifespan`, which FastAPI enters when the server starts and leaves when it stops."""

Closing = Callable[[], object]


def create_app(
    ports: Ports,
    settings: Settings,
    *,
    on_close: Sequence[Closing] = (),
    protect: Callable[[FastAPI], None] | None = None,
) -> FastAPI:
    """Make the app.

    Args:
        ports: What it acts on.
        settings: How it is served.
        on_close: Called, last first, when the server stops.
        protect: Puts accounts and roles around the app (`clinic.access.protect`) once it has its routes; None: whoever
            has the one token of the settings may use everything.
    """

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            for close in on_close:
                stack.callback(close)
            yield

    app = FastAPI(
        title="Isocenter",
        summary="The viewer's server.",
        description=NOT_FOR_CLINICAL_USE,
        version=__version__,
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=REFUSALS,
    )
    add_handlers(app)
    for router in ROUTERS:
        app.include_router(router(ports, settings))
    app.include_router(page.router(settings))
    if protect is None:
        app.add_middleware(Guard, settings=settings)
    else:
        protect(app)
    return app
