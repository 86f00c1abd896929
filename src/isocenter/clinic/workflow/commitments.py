"""Reports of storage commitment: sent when what was asked for is held, or has had its time to be.

Whoever is told that an instance is held may delete it. So it must be in the ledger and on the disk, and be the object
that this sender sent: where it was told that another of this UID is held, the report says that its own is not.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Row, Select, select

from isocenter.clinic.dimse import commitment_report, open_commitments, send_commitment_report
from isocenter.clinic.dimse.holding import place_of
from isocenter.clinic.retrieve import DimseNode
from isocenter.clinic.retrieve.plan import is_uid
from isocenter.clinic.workflow.ledger import Ledger
from isocenter.clinic.workflow.tables import CONFLICTS, CURSORS, INSTANCES, REFUSALS
from isocenter.core.errors import TransportError

__all__ = ["CommitmentReports"]

_LOG = logging.getLogger(__name__)
_GRACE_S: Final = 60.0
"""A request may overtake its instances: what is not held is not denied before this."""
_AT_ONCE: Final = 1000
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
        folder: Of the requests, in the node's folder.
        ledger: What was received.
        peers: Where reports go, by the title that was called and the one that called: callers of two entities may have
            one title.
    """

    def __init__(self, folder: Path, ledger: Ledger, peers: Mapping[tuple[str, str], DimseNode]) -> None:
        self._folder, self._ledger, self._peers = folder, ledger, peers
        self._waits: dict[str, _Wait] = {}
        self._journals: dict[str, dict[str, int]] = {}

    def send(self) -> int:
        """Send what reports can be sent; return how many were."""
        sent = 0
        away: set[str] = set()
        for request in open_commitments(self._folder):
            who, transaction = (request["called"], request["calling"]), request["transaction"]
            peer, line = self._peers.get(who), f"peer {who}"
            if peer is None or line in away or self._waiting(transaction) or self._waiting(line):
                continue  # without a port for reports in the configuration the request stays, and is seen there
            is_new = time.time() - datetime.fromisoformat(request["at"]).timestamp() < _GRACE_S
            if is_new and not self._taken_in(transaction):
                continue
            report = commitment_report(request, self._held(request))
            if is_new and report[1] != 1:
                continue
            try:
                send_commitment_report(self._folder, request, report, peer)
            except TransportError as error:
                _LOG.warning("%s", error)
                away.add(line)
                self._waits.setdefault(line, _Wait()).longer()
            except ValueError as error:
                _LOG.warning("the report of a storage commitment can't be sent: %s", type(error).__name__)
                self._waits.setdefault(transaction, _Wait()).longer()
            else:
                sent += 1
                self._journals.pop(transaction, None)
                for name in (transaction, line):
                    self._waits.pop(name, None)
        return sent

    def _waiting(self, name: str) -> bool:
        return name in self._waits and time.monotonic() < self._waits[name].until

    def _taken_in(self, transaction: str) -> bool:
        """Tell whether the ledger knows what was received, and refused, before a request was first looked at."""
        if transaction not in self._journals:
            journals = (self._folder.parent / "journal").glob("*.jsonl")
            self._journals[transaction] = {file.name: file.stat().st_size for file in journals}
        with self._ledger.engine.connect() as connection:
            known = {row.journal: row.position for row in connection.execute(select(CURSORS))}
        return all(known.get(name, 0) >= size for name, size in self._journals[transaction].items())

    def _held(self, request: Mapping[str, Any]) -> dict[str, str]:
        """Return the SOP class of each instance that is held as who asks sent it, by its UID."""
        wanted = [uid for _, uid in request["wanted"] if is_uid(uid)]
        read = select(INSTANCES.c.sop, INSTANCES.c.study, INSTANCES.c.sop_class)
        # Of two senders of one other content `conflicts` knows the first alone; an older version wrote nothing else.
        others = [select(t.c.sop).where(t.c.calling == request["calling"]) for t in (REFUSALS, CONFLICTS)]
        refused = {row.sop for query in others for row in self._among(query, wanted)}
        return {
            row.sop: row.sop_class
            for row in self._among(read, wanted)
            if row.sop not in refused and place_of(self._folder.parent, row.study, row.sop).is_file()
        }

    def _among(self, query: Select[Any], instances: Sequence[str]) -> Iterator[Row[Any]]:
        sop = query.selected_columns["sop"]
        with self._ledger.engine.connect() as connection:
            for begin in range(0, len(instances), _AT_ONCE):  # a database takes only so many values in one question
                yield from connection.execute(query.where(sop.in_(list(instances[begin : begin + _AT_ONCE]))))
