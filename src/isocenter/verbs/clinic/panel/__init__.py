"""The node's own pages and API: health, metrics, the panel an administrator looks at."""

from __future__ import annotations

from isocenter.verbs.clinic.panel.routes import router

__all__ = ["router"]
