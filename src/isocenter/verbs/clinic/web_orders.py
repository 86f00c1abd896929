"""What was ordered, as the node knows it: /node/v1/orders, without a patient's value."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from isocenter.clinic.workflow.orders import Orders
from isocenter.verbs.clinic.web_node import NodeWeb

__all__ = ["router"]


def router(web: NodeWeb) -> APIRouter:
    """Return the route."""
    orders = Orders(web.ledger, web.store)
    routes = APIRouter(prefix="/node/v1", tags=["Node"])

    @routes.get("/orders")
    def listed(limit: Annotated[int, Query(ge=1, le=1000)] = 200) -> list[dict[str, Any]]:
        """Return the latest orders, and whether the studies of their numbers use them."""
        return orders.listed(limit=limit)

    return routes
