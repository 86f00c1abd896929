"""Reports of storage commitment: sent when what was asked for is in the ledger, or has had its time to be."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from isocenter.clinic.dimse import commitment_report, open_commitments, send_commitment_report
from isocenter.clinic.retrieve.plan import is_uid
from isocenter.clinic.workflow.ledger import Ledger
from isocenter.core.errors import TransportError

__all__ = ["CommitmentReports"]

_LOG = logging.getLogger(__name__)
_GRACE_S: Final = 60.0
"""A request may overtake its instances: what is not held is not denied before this."""
_FIRST_WAIT_S: Final = 2.0
_LONGEST_WAIT_S: Final = 300.0


@dataclass
class _Wait:
    """What failed, and when it is tried again."""

    tries: int = 0
    until: float = 0.0

    def longer(self) -> None:
        self.tries += 1
        self.until = time.monotonic() + min(_LONGEST_WAIT_S, _FIRST_WAIT_S * 2 ** min(self.tries - 1, 20))


class CommitmentReports:
    """What sends reports. One that can't be sent holds up none of another, nor a peer that is away those of others.

    Args:
        folder: Of the requests.
        ledger: What is held.
        peers: Title, host and port of who may ask, by title.
    """

    def __init__(self, folder: Path, ledger: Ledger, peers: Mapping[str, tuple[str, str, int]]) -> None:
        self._folder, self._ledger, self._peers = folder, ledger, peers
        self._waits: dict[str, _Wait] = {}

    def send(self) -> int:
        """Send what reports can be sent; return how many were."""
        sent = 0
        away: set[str] = set()
        for request in open_commitments(self._folder):
            title, transaction = request["calling"], request["transaction"]
            peer = self._peers.get(title)
            if peer is None or title in away or self._waiting(transaction) or self._waiting(f"peer {title}"):
                continue  # without a port for reports in the configuration the request stays, and is seen there
            report = commitment_report(request, self._held(request))
            asked = datetime.fromisoformat(request["at"]).timestamp()
            if report[1] != 1 and time.time() - asked < _GRACE_S:
                continue
            try:
                send_commitment_report(self._folder, request, report, peer)
            except TransportError as error:
                _LOG.warning("%s", error)
                away.add(title)
                self._waits.setdefault(f"peer {title}", _Wait()).longer()
            except ValueError as error:
                _LOG.warning("the report of a storage commitment can't be sent: %s", type(error).__name__)
                self._waits.setdefault(transaction, _Wait()).longer()
            else:
                sent += 1
                for name in (transaction, f"peer {title}"):
                    self._waits.pop(name, None)
        return sent

    def _waiting(self, name: str) -> bool:
        return name in self._waits and time.monotonic() < self._waits[name].until

    def _held(self, request: Mapping[str, Any]) -> dict[str, str]:
        return self._ledger.classes([uid for _, uid in request["wanted"] if is_uid(uid)])
