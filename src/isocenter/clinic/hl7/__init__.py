"""HL7 v2 by MLLP: orders and results in, each on the disk before it is acknowledged; results out."""

from __future__ import annotations

from isocenter.clinic.hl7.mllp import MllpLimits, MllpPeer, MllpServer, Reply, send
from isocenter.clinic.hl7.orders import Inbox, Kept, Order, read_kept, read_orders
from isocenter.clinic.hl7.results import oru_r01

__all__ = [
    "Inbox",
    "Kept",
    "MllpLimits",
    "MllpPeer",
    "MllpServer",
    "Order",
    "Reply",
    "oru_r01",
    "read_kept",
    "read_orders",
    "send",
]
