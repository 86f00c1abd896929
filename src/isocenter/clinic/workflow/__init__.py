"""The durable workflow of the node: what was received is answered exactly once, whatever happens in between."""

from __future__ import annotations

from isocenter.clinic.workflow.ledger import Completeness, Ledger, StudyState, delivery_key, open_ledger

__all__ = ["Completeness", "Ledger", "StudyState", "delivery_key", "open_ledger"]
