"""Results as messages on their way: a FHIR transaction, or HL7 by MLLP.

Both may be sent twice without harm: the resources of a bundle are made only where there are none of their identifier,
and a message that is sent again has the same control id.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from isocenter.clinic.fhir.client import FhirRefused, FhirServer, send_bundle
from isocenter.clinic.hl7.mllp import MllpPeer, send
from isocenter.clinic.ports import Outcome
from isocenter.core.errors import DataError, TransportError

__all__ = ["BundleDestination", "MllpDestination"]

_TAKEN: Final = Outcome("taken")
_INSIDE: Final = ("206", "207")
"""Conditions of HL7 table 0357 that are the other side's own trouble: a record that is locked, an internal error."""


@dataclass(frozen=True)
class BundleDestination:
    """A FHIR server.

    Args:
        server: It, with no tries of its own: the ledger tries again.
    """

    server: FhirServer

    def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
        """Send bundles, each a transaction of its own; see `Deliverer`."""
        outcomes: list[Outcome] = []
        for file in files:
            down = next((o for o in outcomes if o.reason.startswith("the server does not answer")), None)
            outcomes.append(down or self._post(file))
        return outcomes

    def _post(self, file: Path) -> Outcome:
        content = _content(file)
        if isinstance(content, Outcome):
            return content
        try:
            bundle = json.loads(content)
        except ValueError:
            return Outcome("never", "the file is no bundle")
        try:
            send_bundle(self.server, bundle)
        except FhirRefused as error:
            return Outcome("never", str(error))
        except TransportError as error:
            return Outcome("later", str(error))
        return _TAKEN


@dataclass(frozen=True)
class MllpDestination:
    """A system that takes HL7 messages.

    AA is taken. AE and AR are refusals of the message, which stay; where it says that the trouble is its own (ERR-3 of
    206 or 207) the same message may be taken later.

    Args:
        peer: It.
    """

    peer: MllpPeer

    def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
        """Send messages, one after the other; see `Deliverer`."""
        outcomes: list[Outcome] = []
        for file in files:
            down = next((o for o in outcomes if o.reason.startswith("the peer does not answer")), None)
            outcomes.append(down or self._send(file))
        return outcomes

    def _send(self, file: Path) -> Outcome:
        content = _content(file)
        if isinstance(content, Outcome):
            return content
        try:
            reply = send(self.peer, content)
        except TransportError as error:
            return Outcome("later", str(error))
        except DataError:
            return Outcome("never", "the file is no HL7 message")
        if reply.taken:
            return _TAKEN
        why = f"answered {reply.code}{f', condition {reply.condition}' if reply.condition else ''}"
        return Outcome("later" if reply.condition in _INSIDE else "never", why)


def _content(file: Path) -> bytes | Outcome:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return Outcome("never", "the file is not there any more")
    except OSError:
        return Outcome("later", "the file can't be read")
