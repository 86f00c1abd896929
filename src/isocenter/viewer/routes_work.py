"""The work list: plan, items, turns, orders, agreement, exports."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Header, Query, Request
from fastapi.responses import FileResponse
from pydantic import BaseModel, ConfigDict, Field

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.viewer.ports import Ports
from isocenter.viewer.settings import IDENTITY, PREFIX, Settings
from isocenter.viewer.work import (
    ExportOrder,
    Filling,
    TurnChange,
    WorkExport,
    WorkItem,
    WorkLabel,
    WorkList,
    WorkPage,
    WorkPlan,
    WorkQuery,
)

__all__ = ["router"]

_NAME = Field(min_length=1, max_length=64)
ReaderHeader = Annotated[str, Header(alias="X-Isocenter-Reader", max_length=64)]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class LabelBody(_Body):
    """What is labelled; see `WorkLabel`."""

    name: str = _NAME
    kind: Literal["mask", "class"] = "mask"
    classes: list[Annotated[str, _NAME]] = Field(default=[], max_length=50)
    graded: bool = False


class PlanBody(_Body):
    """Who labels what; see `WorkPlan`."""

    version: int = Field(ge=0)
    labels: list[LabelBody] = Field(min_length=1, max_length=50)
    readers: list[Annotated[str, _NAME]] = Field(default=[], max_length=100)
    modality: str = Field(default="", max_length=16)
    q: str = Field(default="", max_length=200)
    shared: float = Field(default=0.0, ge=0, le=1)
    shared_readers: int = Field(default=2, ge=1, le=10)
    order: Literal["given", "random", "active"] = "given"
    seed: int = Field(default=0, ge=0)


class NextBody(_Body):
    """Of which label the next item shall be; "" for any."""

    label: str = Field(default="", max_length=64)


class ChangeBody(_Body):
    """What becomes of a turn; see `TurnChange`."""

    version: int = Field(ge=1)
    reader: str = Field(default="", max_length=64)
    state: Literal["open", "doing", "done", "skipped", "again"]
    reason: str = Field(default="", max_length=200)
    answer: str = Field(default="", max_length=64)


class AssignBody(_Body):
    """Who has an item."""

    version: int = Field(ge=1)
    readers: list[Annotated[str, _NAME]] = Field(max_length=10)


class OrderBody(_Body):
    """In which order items come."""

    order: Literal["given", "random", "active"]
    seed: int = Field(default=0, ge=0)


class ExportBody(_Body):
    """What is exported; see `ExportOrder`."""

    form: str = _NAME
    labels: list[Annotated[str, _NAME]] = Field(default=[], max_length=50)
    choose: str = Field(default="latest", max_length=80)
    parts: str = Field(default="", max_length=200)
    suffix: str = Field(default="", max_length=16)
    licence: str = Field(default="", max_length=64)
    identified: bool = False


def router(ports: Ports, _settings: Settings) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix=PREFIX, tags=["work"])

    @routes.get("/work")
    def items(
        reader: Annotated[str, Query(max_length=64)] = "",
        state: Literal["", "open", "doing", "done", "skipped", "again", "unassigned"] = "",
        label: Annotated[str, Query(max_length=64)] = "",
        study: Annotated[str, Query(max_length=64)] = "",
        offset: Annotated[int, Query(ge=0)] = 0,
        limit: Annotated[int, Query(ge=0, le=1000)] = 50,
    ) -> WorkPage:
        """List items by rank, with how many turns are in which state."""
        return _work(ports).items(WorkQuery(reader, state, label, study, offset, limit))

    @routes.put("/work/plan")
    def set_plan(body: PlanBody) -> WorkPlan:
        """Change the plan (409 where somebody has meanwhile), and look for its items in the background."""
        labels = tuple(WorkLabel(one.name, one.kind, tuple(one.classes), one.graded) for one in body.labels)
        rest = body.model_dump(exclude={"labels", "readers"})
        return _work(ports).set_plan(WorkPlan(labels=labels, readers=tuple(body.readers), **rest))

    @routes.post("/work/next")
    def next_item(body: NextBody, x_isocenter_reader: ReaderHeader = "") -> dict[str, WorkItem | None]:
        """Return what the reader does next, and note that they are at it."""
        return {"item": _work(ports).next(_reader(x_isocenter_reader), body.label)}

    @routes.get("/work/items/{item}")
    def item(item: str) -> WorkItem:
        """Return an item."""
        return _work(ports).item(item)

    @routes.put("/work/items/{item}")
    def change(item: str, body: ChangeBody, asked: Request, x_isocenter_reader: ReaderHeader = "") -> WorkItem:
        """Change a turn: done, skipped with a reason, given back, or wanted again; 409 where it has changed."""
        known = asked.scope.get(IDENTITY)  # with accounts, nobody changes another's turn
        reader = known.name if known is not None else body.reader or _reader(x_isocenter_reader)
        return _work(ports).change(item, TurnChange(body.version, reader, body.state, body.reason, body.answer))

    @routes.put("/work/items/{item}/readers")
    def assign(item: str, body: AssignBody) -> WorkItem:
        """Say who has an item; what is done or skipped stays."""
        return _work(ports).assign(item, version=body.version, readers=tuple(body.readers))

    @routes.post("/work/order", status_code=202)
    def order(body: OrderBody) -> Filling:
        """Put what nobody has begun into an order, in the background; GET /work says how far that is."""
        return _work(ports).reorder(body.order, body.seed)

    @routes.get("/work/agreement")
    def agreement(
        label: Annotated[str, Query(min_length=1, max_length=64)],
        tolerance_mm: Annotated[float, Query(ge=0, le=100, allow_inf_nan=False)] = 2.0,
    ) -> dict[str, Any]:
        """Say how far readers agree: Dice and NSD of masks, kappa of classes, what they agree least on first."""
        return _work(ports).agreement(label=label, tolerance_mm=tolerance_mm)

    @routes.post("/work/exports", status_code=201)
    def export(body: ExportBody) -> WorkExport:
        """Write the confirmed masks in the form of a training, below the work folder."""
        rest = body.model_dump(exclude={"labels"})
        return _work(ports).export(ExportOrder(labels=tuple(body.labels), **rest))

    @routes.get("/work/exports/{export}.zip", response_class=FileResponse)
    def exported(export: str) -> FileResponse:
        """Send an export as one file."""
        path, name = _work(ports).exported(export)
        return FileResponse(path, media_type="application/zip", filename=name)

    return routes


def _work(ports: Ports) -> WorkList:
    if ports.work is None:
        raise CapabilityError("this server keeps no work list")
    return ports.work


def _reader(name: str) -> str:
    if not name.strip():
        raise ConfigError("say who you are: the header X-Isocenter-Reader, or `reader` where the route takes it")
    return name.strip()
