"""Public contract checks, phantoms and hypothesis strategies: for plug-ins, and for our own tests."""

from __future__ import annotations

from isocenter.testing.evidence_contract import check_evidence
from isocenter.testing.phantom import PHANTOM_SPACING_MM, all_orientations, phantom, phantom_geometry
from isocenter.testing.task_contract import ContractReport, check_task, example_study

__all__ = [
    "PHANTOM_SPACING_MM",
    "ContractReport",
    "all_orientations",
    "check_evidence",
    "check_task",
    "example_study",
    "phantom",
    "phantom_geometry",
]
