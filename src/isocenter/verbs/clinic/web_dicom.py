"""DICOMweb and the worklist of a node: what it holds and what it made of it, below /dicomweb.

What is stored here goes into the same holding and journal as what comes by C-STORE, so that the workflow answers it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from fastapi import APIRouter, FastAPI
from sqlalchemy.exc import DBAPIError

from isocenter.clinic.dicomweb import Catalog, DicomWeb, Entry, Worklist, worklist_router
from isocenter.clinic.dicomweb import router as dicomweb_router
from isocenter.clinic.dicomweb.index import Level
from isocenter.clinic.dimse.holding import Holding
from isocenter.verbs.clinic.web_node import NodeWeb
from isocenter.verbs.clinic.wiring import reception_of

__all__ = ["PREFIX", "router"]

_LOG = logging.getLogger(__name__)
PREFIX: Final = "/dicomweb"
_LOOK_S: Final = 0.5
_AT_ONCE: Final = 500
_RETRY_S: Final = 60


class _Fresh:
    """An `Index` that takes in what was received since, before it answers.

    Args:
        catalog: Where it looks.
    """

    def __init__(self, catalog: Catalog) -> None:
        self._catalog = catalog
        self._lock = threading.Lock()
        self._looked = 0.0

    def refresh(self, limit: int = _AT_ONCE) -> int:
        """Take in what is new; return how many."""
        with self._lock:
            self._looked = time.monotonic()
            return self._catalog.take_in(limit=limit)

    def find(self, level: Level, study: str = "", series: str = "") -> Iterator[tuple[Mapping[str, Any], Entry]]:
        """Yield studies, series or instances; see `Index`."""
        self._look()
        yield from self._catalog.find(level, study, series)

    def instances(self, study: str, series: str = "", sop: str = "") -> Sequence[Entry]:
        """Return the instances of a study, series, or one; see `Index`."""
        self._look()
        return self._catalog.instances(study, series, sop)

    def mixed(self, studies: Collection[str]) -> set[str]:
        """Return which of some studies name several patients; see `Index`."""
        return self._catalog.mixed(studies)

    def _look(self) -> None:
        if time.monotonic() - self._looked > _LOOK_S:
            self.refresh()


def router(web: NodeWeb) -> APIRouter:
    """Return the routes: QIDO-RS, WADO-RS, STOW-RS and UPS-RS."""
    settings, reception = web.web, reception_of(web.config)
    index = _Fresh(Catalog(web.ledger.engine, web.store))
    holding = Holding(web.store, reception.implementation, reception.limits) if settings.store else None
    public_url = f"{settings.public_url.rstrip('/')}{PREFIX}" if settings.public_url else ""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        ended = threading.Event()

        def keep() -> None:
            # A study of thousands of instances is indexed as it comes in, not when somebody first asks for it.
            while not ended.wait(_LOOK_S):
                try:
                    while index.refresh() == _AT_ONCE and not ended.is_set():
                        pass
                except DBAPIError as error:
                    _LOG.warning("the catalog is taken in later: %s", type(error).__name__)

        thread = threading.Thread(target=keep, name="catalog", daemon=True)
        thread.start()
        if holding is not None:
            holding.hindered()  # before now there may have been nobody
        yield
        ended.set()
        thread.join(10)

    routes = APIRouter(prefix=PREFIX, lifespan=lifespan)
    routes.include_router(worklist_router(Worklist(web.ledger.engine)))
    # Whoever is told to send again does so before its silence is taken for the end of its study.
    retry_s = max(1, min(_RETRY_S, int(web.config.completeness.quiet_s / 2)))
    routes.include_router(dicomweb_router(DicomWeb(index, holding, public_url, retry_s=retry_s)))
    return routes
