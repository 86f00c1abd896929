"""Checks of a node's DIMSE services."""

from __future__ import annotations

import copy
import queue
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final

from pydicom import Dataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, ImplicitVRLittleEndian, generate_uid

from isocenter.clinic.conformance.verdicts import Failed, Skipped, Verdict, judge, small_image
from isocenter.clinic.retrieve.dimse import was_rejected
from isocenter.core.errors import CapabilityError

__all__ = ["DimsePeer", "check_dimse"]

_VERIFICATION: Final = "1.2.840.10008.1.1"
_COMMITMENT: Final = "1.2.840.10008.1.20.1"
_COMMITMENT_INSTANCE: Final = "1.2.840.10008.1.20.1.1"
_NO_SUCH_INSTANCE: Final = 0x0112
_UNKNOWN_SERVICE: Final = "1.2.826.0.1.3680043.8.498.1"
_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian)


@dataclass(frozen=True)
class DimsePeer:
    """A node to be checked.

    Args:
        title: Application entity title that it is called by.
        host: Address.
        port: Port.
        calling: Title that it knows us by.
        store: Whether a test image may be stored.
        listen: Port where we take its reports of storage commitment; None where it knows none of ours.
        timeout_s: Of each step.
        report_s: Longest that a report of storage commitment is waited for; some wait for what may still arrive.
        tls: Context of DICOM TLS, or None.
    """

    title: str
    host: str
    port: int
    calling: str
    store: bool = False
    listen: int | None = None
    timeout_s: float = 15.0
    report_s: float = 90.0
    tls: Any = None


def check_dimse(peer: DimsePeer) -> list[Verdict]:
    """Check a node's DIMSE services, one association a check.

    Raises:
        CapabilityError: pynetdicom is not installed.
    """
    try:
        net: Any = import_module("pynetdicom")
    except ImportError as error:
        raise CapabilityError("checking a node needs pynetdicom: pip install 'isocenter[clinic]'") from error
    checks = _Checks(net, peer)
    return [
        judge("dimse.echo", checks.echo),
        judge("dimse.called", checks.other_called),
        judge("dimse.caller", checks.unknown_caller),
        judge("dimse.context", checks.unknown_context),
        judge("dimse.store", checks.store),
        judge("dimse.store-again", checks.store),
        judge("dimse.store-class", checks.store_other_class),
        judge("dimse.commit", checks.commit),
        judge("dimse.commit-unknown", checks.commit_unknown),
    ]


class _Mislabelled(Dataset):
    """A data set whose sender takes it for a CT: the command says CT, as the context does; the data set does not."""

    def __getattr__(self, name: str) -> Any:
        return CTImageStorage if name == "SOPClassUID" else super().__getattr__(name)


class _Checks:
    def __init__(self, net: Any, peer: DimsePeer) -> None:
        self._net, self._peer, self._image = net, peer, small_image()
        self._stored = False

    def _entity(self, calling: str) -> Any:
        entity = self._net.AE(ae_title=calling)
        seconds = self._peer.timeout_s
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = entity.connection_timeout = seconds
        return entity

    @contextmanager
    def _association(self, *contexts: str, calling: str = "", called: str = "") -> Iterator[Any]:
        entity = self._entity(calling or self._peer.calling)
        for context in contexts:
            entity.add_requested_context(context, list(_SYNTAXES))
        tls = None if self._peer.tls is None else (self._peer.tls, self._peer.host)
        made = entity.associate(self._peer.host, self._peer.port, ae_title=called or self._peer.title, tls_args=tls)
        try:
            yield made
        finally:
            if made.is_established:
                made.release()

    def echo(self) -> None:
        with self._association(_VERIFICATION) as made:
            if not made.is_established:
                raise Failed("no association")
            _success(made.send_c_echo())

    def other_called(self) -> None:
        with self._association(_VERIFICATION, called="NOBODY-IS-HERE") as made:
            if not was_rejected(made):
                raise Failed("it was not rejected")

    def unknown_caller(self) -> None:
        with self._association(_VERIFICATION, calling="NOBODY-KNOWS-ME") as made:
            if not was_rejected(made):
                raise Failed("it was not rejected")

    def unknown_context(self) -> None:
        with self._association(_VERIFICATION, _UNKNOWN_SERVICE) as made:
            if not made.is_established:
                raise Failed("the association was not accepted for the service that is known")
            if _UNKNOWN_SERVICE in {str(c.abstract_syntax) for c in made.accepted_contexts}:
                raise Failed("a service that there is not was accepted")
            _success(made.send_c_echo())

    def store(self) -> None:
        self._may_store()
        with self._association(str(self._image.SOPClassUID)) as made:
            if not made.is_established:
                raise Failed("no association for Secondary Capture Image Storage")
            _success(made.send_c_store(self._image))
        self._stored = True

    def store_other_class(self) -> None:
        self._may_store()
        wrong = _Mislabelled()
        wrong.update(copy.deepcopy(self._image))
        wrong.file_meta = copy.deepcopy(self._image.file_meta)
        wrong.SOPInstanceUID = wrong.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        with self._association(str(CTImageStorage)) as made:
            if not made.is_established:
                raise Failed("no association for CT Image Storage")
            status = made.send_c_store(wrong)
        if "Status" not in status:
            raise Failed("no answer")
        if status.Status == 0:
            raise Failed("it was taken")

    def commit(self) -> None:
        report = self._commitment(str(self._image.SOPClassUID), str(self._image.SOPInstanceUID))
        if report.get("FailedSOPSequence") or not report.get("ReferencedSOPSequence"):
            raise Failed("what was stored is not reported as committed")

    def commit_unknown(self) -> None:
        report = self._commitment(str(self._image.SOPClassUID), str(generate_uid()))
        failed = report.get("FailedSOPSequence") or [Dataset()]
        if failed[0].get("FailureReason") != _NO_SUCH_INSTANCE:
            raise Failed("what was never sent is not reported as failed with 0112H")

    def _may_store(self) -> None:
        if not self._peer.store:
            raise Skipped("nothing may be stored: give --store")

    def _commitment(self, sop_class: str, sop_instance: str) -> Dataset:
        """Ask for a commitment and wait for the report, on this association or on one that the node opens."""
        self._may_store()
        if not self._stored:
            raise Skipped("nothing was stored")
        reports: queue.SimpleQueue[Dataset] = queue.SimpleQueue()
        transaction = str(generate_uid())

        def report(event: Any) -> tuple[int, None]:
            told = event.event_information
            if str(told.get("TransactionUID")) == transaction:
                reports.put(told)
            return 0x0000, None

        handlers = [(self._net.evt.EVT_N_EVENT_REPORT, report)]
        server = None
        if self._peer.listen is not None:
            entity = self._entity(self._peer.calling)
            entity.add_supported_context(_COMMITMENT, list(_SYNTAXES), scu_role=False, scp_role=True)
            server = entity.start_server(("", self._peer.listen), block=False, evt_handlers=handlers)
        try:
            return self._ask(transaction, (sop_class, sop_instance), handlers, reports)
        finally:
            if server is not None:
                server.shutdown()

    def _ask(
        self, transaction: str, instance: tuple[str, str], handlers: list[Any], reports: queue.SimpleQueue[Dataset]
    ) -> Dataset:
        asked, item = Dataset(), Dataset()
        asked.TransactionUID = transaction
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = instance
        asked.ReferencedSOPSequence = [item]
        entity = self._entity(self._peer.calling)
        entity.add_requested_context(_COMMITMENT, list(_SYNTAXES))
        tls = None if self._peer.tls is None else (self._peer.tls, self._peer.host)
        made = entity.associate(
            self._peer.host, self._peer.port, ae_title=self._peer.title, evt_handlers=handlers, tls_args=tls
        )
        if not made.is_established or not made.accepted_contexts:
            raise Skipped("the node does not offer storage commitment")
        try:
            status, _ = made.send_n_action(asked, 1, _COMMITMENT, _COMMITMENT_INSTANCE)
            _success(status)
            if self._peer.listen is None:
                raise Skipped(
                    "the request was taken; its report can't be waited for without a port that the node knows"
                )
            return reports.get(timeout=self._peer.report_s)
        except queue.Empty as error:
            raise Failed("no report came") from error
        finally:
            made.release()


def _success(status: Dataset) -> None:
    if "Status" not in status:
        raise Failed("no answer")
    if status.Status != 0:
        raise Failed(f"answered with {status.Status:04X}H")
