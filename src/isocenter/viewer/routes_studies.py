"""Studies, images and their voxels."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterator
from typing import Annotated, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field

from isocenter.viewer.ports import ImageItem, Picture, Planes, Ports, StudyDetail, StudyPage, StudyQuery
from isocenter.viewer.settings import PREFIX, Settings

__all__ = ["StudyFilter", "router"]

_DATE = r"^(\d{4}-\d{2}-\d{2})?$"
_KEEP = "private, max-age=86400, immutable"
_SLICE_BYTES = 1 << 20


class StudyFilter(BaseModel):
    """Which studies are listed; "" for any.

    Attributes:
        q: Words in description, modalities, pseudonym, accession or date.
        modality: DICOM modality that a series has.
        patient: Pseudonym.
        date_from: First study date, YYYY-MM-DD (in the address: `from`).
        date_to: Last study date (in the address: `to`).
        status: Of the work on it.
        offset: How many are passed over.
        limit: At most so many.
        order: By what they are sorted; with "-" before it, reversed.
    """

    model_config = ConfigDict(extra="forbid", populate_by_name=False)

    q: Annotated[str, Field(max_length=200)] = ""
    modality: Annotated[str, Field(max_length=16)] = ""
    patient: Annotated[str, Field(max_length=64)] = ""
    date_from: Annotated[str, Field(alias="from", pattern=_DATE)] = ""
    date_to: Annotated[str, Field(alias="to", pattern=_DATE)] = ""
    status: Literal["", "new", "open", "read", "signed"] = ""
    offset: Annotated[int, Field(ge=0)] = 0
    limit: Annotated[int, Field(ge=1, le=1000)] = 50
    order: Annotated[str, Field(pattern="^-?(date|patient|description|status)$")] = "date"

    def query(self) -> StudyQuery:
        """Return the question that the library is asked."""
        return StudyQuery(**{**self.model_dump(), "modality": self.modality.upper()})


def router(ports: Ports, settings: Settings) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix=PREFIX, tags=["studies"])
    library = ports.library

    @routes.get("/studies")
    def studies(asked: Annotated[StudyFilter, Query()]) -> StudyPage:
        """List studies."""
        return library.studies(asked.query())

    @routes.get("/studies/{study}")
    def study(study: str) -> StudyDetail:
        """Open a study: its images, earlier studies of the patient, reports, and what can't be shown."""
        return library.study(study)

    @routes.get("/images/{image}")
    def image(image: str) -> ImageItem:
        """Describe an image."""
        return library.image_item(image)

    @routes.get("/images/{image}/pixels", response_class=Response, responses=_BINARY)
    def pixels(
        request: Request,
        image: str,
        first: Annotated[int, Query(ge=0)] = 0,
        count: Annotated[int | None, Query(ge=1)] = None,
        compress: Literal["", "gzip"] = "",
        if_none_match: Annotated[str, Header()] = "",
    ) -> Response:
        """Send planes first .. first+count-1 as raw voxels: little-endian, C order (z, y, x, channel)."""
        item = library.image_item(image)
        planes = library.planes(image, first, item.shape_zyx[0] - first if count is None else count)
        tag = f'"{planes.tag}"'
        headers = {"ETag": tag, "Cache-Control": _KEEP, "X-Isocenter-Dtype": item.pixel.dtype}
        if _has(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        return _voxels(planes, headers, packed=compress == "gzip")

    @routes.get("/images/{image}/picture.png", response_class=Response, responses=_PNG)
    def picture(
        image: str,
        plane: Literal["z", "y", "x"] = "z",
        index: Annotated[int | None, Query(ge=0)] = None,
        centre: Annotated[float | None, Query(ge=-1e9, le=1e9)] = None,
        width: Annotated[float | None, Query(ge=1e-6, le=1e9)] = None,
        width_px: Annotated[int, Query(ge=16, le=2048)] = 512,
        if_none_match: Annotated[str, Header()] = "",
    ) -> Response:
        """Draw a plane across an axis of the grid, in its physical aspect, with the letters of its sides."""
        png = library.picture(image, Picture(plane, index, centre, width, width_px))
        tag = f'"{hashlib.sha256(png).hexdigest()}"'
        headers = {"ETag": tag, "Cache-Control": _KEEP}
        if _has(if_none_match, tag):
            return Response(status_code=304, headers=headers)
        return Response(png, media_type="image/png", headers=headers)

    @routes.get("/images/{image}/nifti", response_class=FileResponse, responses=_GZIP)
    def nifti(image: str) -> FileResponse:
        """Send an image as NIfTI, whose place in the patient was proven when it was written."""
        path = library.nifti(image)
        return FileResponse(path, media_type="application/gzip", filename=f"{image}.nii.gz")

    return routes


def _has(if_none_match: str, tag: str) -> bool:
    """Tell whether whoever asks has what a tag stands for."""
    return tag in [part.strip().removeprefix("W/") for part in if_none_match.split(",")]


def _voxels(planes: Planes, headers: dict[str, str], *, packed: bool) -> StreamingResponse:
    """Send planes from where they are kept: several people's answers are in memory once, however slow their lines."""
    views = [part.reshape(-1).data.cast("B") for part in planes.parts]
    if packed:
        headers = {**headers, "Content-Encoding": "gzip"}
        return StreamingResponse(_packed(views), media_type="application/octet-stream", headers=headers)
    headers = {**headers, "Content-Length": str(sum(len(view) for view in views))}
    return StreamingResponse(_sliced(views), media_type="application/octet-stream", headers=headers)


def _sliced(views: list[memoryview]) -> Iterator[memoryview]:
    for view in views:
        for begin in range(0, len(view), _SLICE_BYTES):
            yield view[begin : begin + _SLICE_BYTES]


def _packed(views: list[memoryview]) -> Iterator[bytes]:
    packer = zlib.compressobj(1, wbits=31)
    for view in _sliced(views):
        yield packer.compress(view)
    yield packer.flush()


_SAME: dict[str, object] = {"description": "What was asked for is what whoever asks has already"}
_BINARY: dict[int | str, dict[str, object]] = {
    200: {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}},
    304: _SAME,
}
_PNG: dict[int | str, dict[str, object]] = {
    200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}},
    304: _SAME,
}
_GZIP: dict[int | str, dict[str, object]] = {
    200: {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}}
}
