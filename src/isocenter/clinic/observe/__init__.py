"""Looking after a node: checks, figures, metrics, logs and traces, all from what stands in its store and its ledger."""

from __future__ import annotations

from isocenter.clinic.observe.checks import Check, Needs, checks, ready
from isocenter.clinic.observe.exposition import Exposition
from isocenter.clinic.observe.logs import LogSettings, rotate, setup_logs, study_key
from isocenter.clinic.observe.metrics import metrics_text

__all__ = [
    "Check",
    "Exposition",
    "LogSettings",
    "Needs",
    "checks",
    "metrics_text",
    "ready",
    "rotate",
    "setup_logs",
    "study_key",
]
