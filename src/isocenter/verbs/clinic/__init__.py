"""`isocenter clinic`: the node, wired: transport and workflow of `isocenter.clinic`, tasks and writers of ours."""

from __future__ import annotations

from isocenter.verbs.clinic.config import ClinicConfig, load_clinic_config
from isocenter.verbs.clinic.operate import (
    ClinicStatus,
    clinic_recover,
    clinic_replay,
    clinic_run,
    clinic_status,
    clinic_worklist,
)

__all__ = [
    "ClinicConfig",
    "ClinicStatus",
    "clinic_recover",
    "clinic_replay",
    "clinic_run",
    "clinic_status",
    "clinic_worklist",
    "load_clinic_config",
]
