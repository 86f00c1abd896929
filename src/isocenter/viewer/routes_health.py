"""Whether the server lives, and what it is."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from fastapi import APIRouter

from isocenter.version import __version__
from isocenter.viewer.ports import Ports, TaskItem
from isocenter.viewer.settings import NOT_FOR_CLINICAL_USE, PREFIX, Settings

__all__ = ["Health", "Info", "router"]


@dataclass(frozen=True)
class Health:
    """That the server lives."""

    status: str = "ok"
    version: str = __version__


@dataclass(frozen=True)
class LimitsInfo:
    """What the server refuses beyond."""

    sessions: int
    upload_bytes: int
    image_bytes: int
    answer_bytes: int
    message_bytes: int
    replay_bytes: int


@dataclass(frozen=True)
class Info:
    """What this server is and offers."""

    source_kind: str
    identified: bool
    tasks: tuple[TaskItem, ...]
    limits: LimitsInfo
    offers: tuple[str, ...]
    version: str = __version__
    api: str = "1"
    not_for_clinical_use: str = NOT_FOR_CLINICAL_USE
    links: dict[str, str] = field(default_factory=lambda: {"openapi": f"{PREFIX}/openapi.json"})


def router(ports: Ports, settings: Settings) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix=PREFIX, tags=["server"])
    limits = settings.limits
    offers = ("readings", "interactions", "drafts", "asking", "outlook", "work")
    info = Info(
        source_kind=ports.library.kind,
        identified=ports.library.identified,
        tasks=ports.tasks,
        limits=LimitsInfo(**{field.name: getattr(limits, field.name) for field in fields(LimitsInfo)}),
        offers=(
            *(name for name in offers if getattr(ports, name) is not None),
            *(() if ports.outlook is None else ports.outlook.offers),
        ),
    )

    @routes.get("/health")
    async def health() -> Health:
        """Tell that the server lives; needs no token."""
        return Health()

    @routes.get("/info")
    async def about() -> Info:
        """Tell what this server is: version, source, tasks, limits, and which parts it offers."""
        return info

    return routes
