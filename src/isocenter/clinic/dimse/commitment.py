"""Storage commitment: a sender asks whether its instances are held for good, and is told in a report (PS3.4 annex J).

The request is written down before it is answered; the report is made from what is held at the time, and sent on an
association of our own until the sender has taken it.
"""

from __future__ import annotations

import json
import logging
import os
from contextlib import suppress
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from pydicom.dataset import Dataset

from isocenter.clinic.dimse.association import Answer, Peer
from isocenter.clinic.dimse.entities import STORAGE_COMMITMENT
from isocenter.clinic.dimse.messages import Command
from isocenter.clinic.dimse.steps import decoded
from isocenter.clinic.retrieve.dimse import DimseNode, settle
from isocenter.clinic.retrieve.plan import is_uid
from isocenter.core.errors import CapabilityError, OutputError, TransportError
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.quiet import quiet

__all__ = ["Commitments", "commitment_report", "open_commitments", "send_commitment_report"]

_LOG = logging.getLogger(__name__)
_SUCCESS, _FAILURE, _NO_ACTION, _MISSING, _RESOURCES = 0x0000, 0x0110, 0x0123, 0x0120, 0x0213
_NO_SUCH_INSTANCE, _OTHER_CLASS = 0x0112, 0x0119
_INSTANCE: Final = "1.2.840.10008.1.20.1.1"


class Commitments:
    """What handles N-ACTION of storage commitment.

    Args:
        folder: Where requests are written down.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def handle(self, command: Command, data: bytes, transfer_syntax: str, peer: Peer) -> Answer:
        """Take a request; see `Service`."""
        if command.action != 1:
            return Answer(_NO_ACTION, "this action is not offered")
        asked = decoded(data, transfer_syntax)
        if asked is None:
            return Answer(_FAILURE, "the data set can't be read")
        transaction = str(asked.get("TransactionUID") or "")
        wanted = [
            [str(item.get("ReferencedSOPClassUID") or ""), str(item.get("ReferencedSOPInstanceUID") or "")]
            for item in asked.get("ReferencedSOPSequence") or ()
        ]
        if not is_uid(transaction) or not wanted:  # it becomes the name of a file
            return Answer(_MISSING, "no transaction, or nothing referenced")
        request = {
            "transaction": transaction, "calling": peer.calling, "called": peer.called, "wanted": wanted,
            "at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }  # fmt: skip
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with atomic_path(self._folder / f"{transaction}.json") as temporary, temporary.open("w") as stream:
                json.dump(request, stream)
                stream.flush()
                os.fsync(stream.fileno())
        except (OSError, OutputError):
            return Answer(_RESOURCES, "can't be written; ask again later")
        return Answer(_SUCCESS)


def open_commitments(folder: Path) -> list[dict[str, Any]]:
    """Return the requests that no report was sent for, oldest first.

    A file that holds none (cut off, or written by another) is set aside: it could never be answered, and must not keep
    the others from being.
    """
    # What is still being written has a name that begins with a dot.
    there = [file for file in folder.glob("*.json") if not file.name.startswith(".")] if folder.is_dir() else []
    files = sorted(there, key=lambda f: f.stat().st_mtime)
    found = []
    for file in files:
        request = _request_of(file)
        if request is not None:
            found.append(request)
            continue
        with suppress(OSError):
            file.rename(file.with_suffix(".bad"))
            _LOG.error("a request of storage commitment can't be read; it is kept beside the others, as .bad")
    return found


def _request_of(file: Path) -> dict[str, Any] | None:
    try:
        request = json.loads(file.read_bytes())
        words = [request[name] for name in ("transaction", "calling", "called", "at")]
        wanted = [(str(sop_class), str(uid)) for sop_class, uid in request["wanted"]]
        datetime.fromisoformat(request["at"]).timestamp()
    except (ValueError, KeyError, TypeError):
        return None
    whole = all(isinstance(word, str) for word in words) and file.name == f"{request['transaction']}.json" and wanted
    return {**request, "wanted": wanted} if whole else None


@quiet()
def commitment_report(request: dict[str, Any], held: dict[str, str]) -> tuple[Dataset, int]:
    """Make the report of a request.

    Args:
        request: From `open_commitments`.
        held: SOP class of each instance that is held, by its UID.

    Returns:
        The data set, and the event: 1 where all is held, 2 where something is not.
    """
    report = Dataset()
    report.TransactionUID = request["transaction"]
    kept, failed = [], []
    for sop_class, uid in request["wanted"]:
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = sop_class, uid
        if held.get(uid) == sop_class:
            kept.append(item)
        else:
            item.FailureReason = _OTHER_CLASS if uid in held else _NO_SUCH_INSTANCE
            failed.append(item)
    report.ReferencedSOPSequence = kept
    if not kept:
        del report.ReferencedSOPSequence
    if failed:
        report.FailedSOPSequence = failed
    return report, 2 if failed else 1


def send_commitment_report(
    folder: Path,
    request: dict[str, Any],
    report: tuple[Dataset, int],
    peer: DimseNode,
    timeout_s: float = 30,
) -> None:
    """Send a report, and forget the request once it was taken.

    Args:
        folder: Of the requests.
        request: What it answers.
        report: From `commitment_report`.
        peer: Who asked, as it was called: where it takes reports, and whether by TLS.
        timeout_s: Of each step.

    Raises:
        CapabilityError: pynetdicom is not installed.
        TransportError: It was not taken; the request stays.
        ValueError: It can't be sent: the other side takes no reports, or it can't be written as DICOM.
    """
    try:
        net: Any = import_module("pynetdicom")
    except ImportError as error:
        raise CapabilityError("storage commitment needs pynetdicom: pip install 'isocenter[clinic]'") from error
    entity = net.AE(ae_title=peer.own_title)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = timeout_s
    entity.add_requested_context(STORAGE_COMMITMENT)
    # We report as the provider of the service, on an association that we ask for (PS3.4 J.3.3).
    role = net.build_role(STORAGE_COMMITMENT, scp_role=True)
    tls = {} if peer.tls is None else {"tls_args": (peer.tls, peer.host)}
    association = entity.associate(peer.host, peer.port, ae_title=peer.ae_title, ext_neg=[role], **tls)
    if not association.is_established:
        settle(association)
        raise TransportError("the report of a storage commitment was not taken: no association")
    try:
        data, event = report
        status, _ = association.send_n_event_report(data, event, STORAGE_COMMITMENT, _INSTANCE)
    except RuntimeError as error:  # pynetdicom: the association was cut
        raise TransportError("the report of a storage commitment was not taken: the association was cut") from error
    finally:
        association.release()
    if status.get("Status") != _SUCCESS:
        raise TransportError("the report of a storage commitment was not taken")
    (folder / f"{request['transaction']}.json").unlink(missing_ok=True)
