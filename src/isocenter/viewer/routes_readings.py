"""Readings of studies: started, looked at, and their files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query
from fastapi.responses import FileResponse, Response
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import CapabilityError
from isocenter.viewer.ports import Ports, Readings
from isocenter.viewer.settings import PREFIX, Settings
from isocenter.viewer.wire import encode_levels, pack

__all__ = ["ReadingRequest", "Started", "router"]

_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
_CODED = r"^[A-Z0-9_ ]{1,16}$"
_PAGE_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; sandbox allow-scripts; script-src 'unsafe-inline'"
)
"""A reading's page holds its pictures and scripts itself; in a sandbox it has no origin, so it can ask us nothing."""
Reader = Annotated[str, Header(alias="X-Isocenter-Reader", max_length=64)]


class ReadingRequest(BaseModel):
    """What is to be read.

    Attributes:
        tasks: "auto" for every task that fits, or their names.
        evidence: Whether tasks are asked why.
        prior: A study of the same patient whose latest reading is compared with.
        modality: Of images whose file says none.
        body_part: Of images whose file says none.
    """

    model_config = ConfigDict(extra="forbid")

    tasks: Literal["auto"] | list[Annotated[str, Field(pattern=_NAME)]] = "auto"
    evidence: bool = True
    prior: Annotated[str, Field(pattern="^[0-9a-f]{16}$")] | None = None
    modality: Annotated[str, Field(pattern=_CODED)] | None = None
    body_part: Annotated[str, Field(pattern=_CODED)] | None = None


@dataclass(frozen=True)
class Started:
    """The job that was started."""

    job: str


def router(ports: Ports, settings: Settings) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix=PREFIX, tags=["readings"])

    def readings() -> Readings:
        if ports.readings is None:
            raise CapabilityError("this server offers no readings")
        return ports.readings

    @routes.post("/studies/{study}/readings", status_code=202)
    def start(study: str, wanted: ReadingRequest, reader: Reader = "") -> Started:
        """Start a reading; its job tells how far it is."""
        stated = {"modality": wanted.modality or "", "body_part": wanted.body_part or ""}
        tasks = None if wanted.tasks == "auto" else wanted.tasks
        job = readings().start(
            study, tasks=tasks, evidence=wanted.evidence, prior=wanted.prior, reader=reader, stated=stated
        )
        return Started(job)

    @routes.get("/studies/{study}/readings/latest")
    def latest(study: str) -> dict[str, Any]:
        """Return the latest result document of a study, with links to its masks, maps, nearest cases and pictures."""
        return dict(readings().latest(study))

    @routes.get("/readings/{reading}/masks/{prediction}", response_class=Response)
    def mask(reading: str, prediction: int, segment: Annotated[int | None, Query(ge=1)] = None) -> Response:
        """Send a segment of an answer's mask, or all together, as a message of the socket with levels 0 and 3."""
        found = readings().mask(reading, prediction, segment)
        head = {"type": "mask", "box_zyx": list(found.box_zyx), "encoding": "rle-levels"}
        body = pack(head, encode_levels(found.levels))
        return Response(body, media_type="application/octet-stream", headers={"Cache-Control": _KEEP})

    @routes.get("/readings/{reading}/maps/{name}", response_class=Response)
    def evidence_map(reading: str, name: str) -> Response:
        """Send where networks looked, as a message of the socket with a byte for each voxel of its box."""
        found = readings().evidence_map(reading, name)
        head = {"type": "map", "box_zyx": list(found.box_zyx), "encoding": "u8"}
        body = pack(head, found.levels.tobytes())
        return Response(body, media_type="application/octet-stream", headers={"Cache-Control": _KEEP})

    @routes.get("/readings/{reading}/files/{name:path}", response_class=FileResponse)
    def file(reading: str, name: str) -> FileResponse:
        """Send a file of a reading, by the closed list of its names."""
        found = readings().file(reading, name)
        headers = {"Cache-Control": _KEEP}
        if found.media_type == "text/html":
            headers["Content-Security-Policy"] = _PAGE_POLICY
        return FileResponse(
            found.path,
            media_type=found.media_type,
            filename=found.name,
            content_disposition_type="inline",
            headers=headers,
        )

    return routes


_KEEP = "private, max-age=86400"
