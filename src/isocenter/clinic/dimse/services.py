"""What acceptors handle beside C-STORE and C-ECHO, by itself: their processes import this, and no task, no database."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from isocenter.clinic.dimse.association import Service
from isocenter.clinic.dimse.commitment import Commitments
from isocenter.clinic.dimse.messages import N_ACTION, N_CREATE, N_SET
from isocenter.clinic.dimse.steps import PerformedSteps

__all__ = ["services_of"]


def services_of(store: Path) -> Mapping[int, Service]:
    """Return what handles storage commitment and performed procedure steps.

    Args:
        store: The node's folder.
    """
    commitments, steps = Commitments(store / "commitments"), PerformedSteps(store / "steps")
    return {N_ACTION: commitments, N_CREATE: steps, N_SET: steps}
