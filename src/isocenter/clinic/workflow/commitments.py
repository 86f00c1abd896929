"""Reports of storage commitment: sent when what was asked for is in the ledger, or has had its time to be."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Final

from isocenter.clinic.dimse import commitment_report, open_commitments, send_commitment_report
from isocenter.clinic.workflow.ledger import Ledger
from isocenter.core.errors import TransportError

__all__ = ["report_commitments"]

_LOG = logging.getLogger(__name__)
_GRACE_S: Final = 60.0
"""A request may overtake its instances: what is not held is not denied before this."""


def report_commitments(folder: Path, ledger: Ledger, peers: Mapping[str, tuple[str, str, int]]) -> int:
    """Send what reports can be sent; return how many were.

    Args:
        folder: Of the requests.
        ledger: What is held.
        peers: Title, host and port of who may ask, by title.
    """
    sent = 0
    for request in open_commitments(folder):
        peer = peers.get(request["calling"])
        if peer is None:
            continue  # its configuration has no port for reports; the request stays, and is seen there
        held = ledger.classes([uid for _, uid in request["wanted"]])
        report = commitment_report(request, held)
        asked = datetime.fromisoformat(request["at"]).timestamp()
        if report[1] != 1 and time.time() - asked < _GRACE_S:
            continue
        try:
            send_commitment_report(folder, request, report, peer)
        except TransportError as error:
            _LOG.warning("%s", error)
            continue
        sent += 1
    return sent
