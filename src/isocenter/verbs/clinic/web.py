"""The node's web server: one app of routers around its ledger and store, in a process of its own.

A section of the node adds its routes by a function `(NodeWeb) -> APIRouter` in `ROUTERS`. Whoever may not come in is
turned away before any of them is asked; errors are answered as problems, and never by a trace.
"""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from fastapi import APIRouter, FastAPI

from isocenter.clinic.access import protect
from isocenter.clinic.modes import refuse_shared
from isocenter.clinic.workflow import open_ledger
from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import atomic_path
from isocenter.verbs.clinic import panel, web_dicom, web_orders
from isocenter.verbs.clinic.access import node_access
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.config_web import WebConfig
from isocenter.verbs.clinic.vigilance import routes as vigilance
from isocenter.verbs.clinic.web_node import NodeWeb
from isocenter.verbs.serving.running import listen, run_server
from isocenter.version import __version__
from isocenter.viewer.problems import REFUSALS, add_handlers
from isocenter.viewer.security import Guard
from isocenter.viewer.settings import NOT_FOR_CLINICAL_USE, Limits, Settings

__all__ = ["ROUTERS", "WEB_FILE", "NodeWeb", "check_web", "node_app", "run_web"]

_LOG = logging.getLogger(__name__)
_LEAST_TOKEN: Final = 16
_BODY_BYTES: Final = 4 << 20
WEB_FILE: Final = "web.json"
"""Where the node's web server says on which port it listens."""


ROUTERS: tuple[Callable[[NodeWeb], APIRouter], ...] = (
    panel.router,
    web_dicom.router,
    web_orders.router,
    vigilance.router,
)
"""One per section, in the order of the documentation."""


def node_app(web: NodeWeb) -> FastAPI:
    """Make the node's app, with its guard around it.

    Raises:
        ConfigError: The token is not there, or too short.
    """
    settings = web.web

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with AsyncExitStack() as stack:
            stack.callback(web.ledger.engine.dispose)
            if access is not None:
                stack.callback(access.close)
            yield

    access = None if web.config.access is None else node_access(web.config)
    app = FastAPI(
        title="Isocenter node",
        summary="What the clinic's node holds and makes: DICOMweb, worklist, state.",
        description=NOT_FOR_CLINICAL_USE,
        version=__version__,
        openapi_url="/node/v1/openapi.json",
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        responses=REFUSALS,
    )
    add_handlers(app)
    for router in ROUTERS:
        app.include_router(router(web))
    if access is not None:
        protect(app, access)
    else:
        app.add_middleware(Guard, settings=_guarded(settings))
    return app


def _guarded(settings: WebConfig) -> Settings:
    """Return how the guard is set that knows one token."""
    return Settings(
        token=_token(settings),
        host=settings.host,
        port=settings.port,
        names=(*settings.names, *_public_name(settings)),
        limits=Limits(body_bytes=_BODY_BYTES, upload_bytes=settings.upload_mb << 20),
        open_paths=("/health", "/ready"),
        upload_paths=("/dicomweb/studies",),
    )


def run_web(config: ClinicConfig, stopped: Callable[[], bool]) -> None:
    """Serve a node's app until told to stop; requests that are open are finished first.

    Raises:
        ConfigError: There is no section `web:`, or its token is not there.
        OutputError: The address is taken.
    """
    ledger = open_ledger(config.database_url("ledger.db"))
    web = NodeWeb(config, ledger, config.store)
    settings, app = web.web, node_app(web)
    tls = None
    if settings.tls is not None and settings.tls.certificate is not None and settings.tls.key is not None:
        tls = (settings.tls.certificate, settings.tls.key)
    place = config.store / WEB_FILE

    def started(port: int) -> None:
        with atomic_path(place) as temporary:
            temporary.write_text(json.dumps({"port": port, "scheme": "http" if tls is None else "https"}))
        _LOG.info("the web server listens on port %d", port)

    try:
        with listen(settings.host, settings.port) as listener:
            run_server(app, listener, started, stopped=stopped, tls=tls, logs=False)
    finally:
        place.unlink(missing_ok=True)


def check_web(config: ClinicConfig) -> None:
    """Tell, before anything is received, that the web server could not be: token, certificate or address.

    Raises:
        ConfigError: The token or a file is not there.
        OutputError: The address is taken.
    """
    if config.web is None:
        return
    if config.access is None:
        _token(config.web)
    else:
        node_access(config).close()
    tls = config.web.tls
    for file in () if tls is None else (tls.certificate, tls.key):
        if file is not None and not file.is_file():
            raise ConfigError(f"{file} of the web server's TLS is not there")
    if tls is not None and tls.key is not None:
        refuse_shared(tls.key, "the key of the web server's TLS")
    listen(config.web.host, config.web.port).close()


def _token(settings: WebConfig) -> str:
    if settings.token is None:
        raise ConfigError("the web server has no token, and no accounts")
    token = settings.token.read()
    if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token or "," in token:
        raise ConfigError(
            f"the web server's token has {_LEAST_TOKEN} or more ASCII letters, digits and signs, without space or comma"
        )
    return token


def _public_name(settings: WebConfig) -> tuple[str, ...]:
    host = settings.public_url.partition("://")[2].partition("/")[0]
    return (host.rpartition(":")[0] if ":" in host and not host.endswith("]") else host,) if host else ()
