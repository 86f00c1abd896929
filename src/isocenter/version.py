"""The version, alone, so that any room can state it without importing another."""

from __future__ import annotations

__version__ = "0.1.0"
