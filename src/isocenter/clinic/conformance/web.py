"""Checks of a node's DICOMweb services: STOW-RS, QIDO-RS, WADO-RS, UPS-RS."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from io import BytesIO
from typing import Any, Final

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.uid import generate_uid

from isocenter.clinic.conformance.verdicts import Failed, Skipped, Verdict, encoded, judge, small_image
from isocenter.clinic.retrieve.multipart import boundary_of, parts_of
from isocenter.core.errors import CapabilityError, TransportError

__all__ = ["WebPeer", "check_web"]

_JSON: Final = "application/dicom+json"
_BOUNDARY: Final = "conformance-check"


@dataclass(frozen=True)
class WebPeer:
    """A DICOMweb service to be checked.

    Args:
        url: Its root.
        token: Bearer token, "" for none.
        store: Whether a test image and a workitem may be stored.
        verify: What checks the server's certificate: True, or a context of TLS.
        timeout_s: Of each step.
        index_s: Longest that what was stored may take to be found; the standard names no time.
        client: What makes requests; None makes one.
    """

    url: str
    token: str = field(default="", repr=False)
    store: bool = False
    verify: Any = True
    timeout_s: float = 20.0
    index_s: float = 10.0
    client: Any = None


def check_web(peer: WebPeer) -> list[Verdict]:
    """Check a DICOMweb service.

    Raises:
        CapabilityError: httpx is not installed.
    """
    try:
        httpx: Any = import_module("httpx")
    except ImportError as error:
        raise CapabilityError("checking DICOMweb needs httpx: pip install 'isocenter[clinic]'") from error
    headers = {"Authorization": f"Bearer {peer.token}"} if peer.token else {}
    client = peer.client or httpx.Client(verify=peer.verify, timeout=peer.timeout_s, headers=headers)
    try:
        images, steps = _Images(client, peer), _Workitems(client, peer)
        checks: dict[str, Callable[[], None]] = {
            "web.stow": images.store,
            "web.qido": images.find,
            "web.qido-none": images.find_nothing,
            "web.wado": images.retrieve,
            "web.metadata": images.metadata,
            "web.not-found": images.not_there,
            "ups.create": steps.create,
            "ups.create-again": steps.create_again,
            "ups.retrieve": steps.retrieve,
            "ups.search": steps.search,
            "ups.no-jump": steps.no_jump,
            "ups.claim": steps.claim,
            "ups.claimed-once": steps.claimed_once,
            "ups.other-transaction": steps.other_transaction,
            "ups.final-state": steps.final_state,
            "ups.cancel": steps.cancel,
        }
        return [judge(name, check, httpx.TransportError, ValueError, TransportError) for name, check in checks.items()]
    finally:
        if peer.client is None:
            client.close()


class _Images:
    """Checks of images."""

    def __init__(self, client: Any, peer: WebPeer) -> None:
        self._client, self._peer, self._url = client, peer, peer.url.rstrip("/")
        self._image, self._stored = small_image(), False
        self._study = f"{self._url}/studies/{self._image.StudyInstanceUID}"

    def store(self) -> None:
        if not self._peer.store:
            raise Skipped("nothing may be stored: give --store")
        body = (
            f"--{_BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
            + encoded(self._image)
            + f"\r\n--{_BOUNDARY}--\r\n".encode()
        )
        kind = f'multipart/related; type="application/dicom"; boundary={_BOUNDARY}'
        answer = self._client.post(
            f"{self._url}/studies", content=body, headers={"Content-Type": kind, "Accept": _JSON}
        )
        _expect(answer, 200)
        if str(self._image.SOPInstanceUID) not in answer.text:
            raise Failed("the answer does not name the instance that was stored")
        self._stored = True

    def find(self) -> None:
        self._need()
        until = time.monotonic() + self._peer.index_s
        while True:
            answer = self._client.get(
                f"{self._url}/studies",
                params={"StudyInstanceUID": str(self._image.StudyInstanceUID)},
                headers={"Accept": _JSON},
            )
            if (answer.status_code == 200 and answer.json()) or time.monotonic() > until:
                break
            time.sleep(0.1)
        _expect(answer, 200)
        found = [_value(item, "StudyInstanceUID") for item in answer.json()]
        if found != [str(self._image.StudyInstanceUID)]:
            raise Failed(f"{len(found)} studies were found, or another")

    def find_nothing(self) -> None:
        answer = self._client.get(
            f"{self._url}/studies", params={"StudyInstanceUID": str(generate_uid())}, headers={"Accept": _JSON}
        )
        _expect(answer, 200, 204)
        if answer.status_code == 200 and answer.json():
            raise Failed("something was found for a UID that nothing has")

    def retrieve(self) -> None:
        self._need()
        answer = self._client.get(
            self._study, headers={"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        )
        _expect(answer, 200)
        boundary = boundary_of(answer.headers.get("content-type", ""))
        parts = [b"".join(part) for part in parts_of([answer.content], boundary)]
        if len(parts) != 1:
            raise Failed(f"{len(parts)} instances instead of one")
        back = pydicom.dcmread(BytesIO(parts[0]))
        if back.SOPInstanceUID != self._image.SOPInstanceUID or back.PixelData != self._image.PixelData:
            raise Failed("another instance, or other pixels")

    def metadata(self) -> None:
        self._need()
        answer = self._client.get(f"{self._study}/metadata", headers={"Accept": _JSON})
        _expect(answer, 200)
        found = [_value(item, "SOPInstanceUID") for item in answer.json()]
        if found != [str(self._image.SOPInstanceUID)]:
            raise Failed("the metadata are not of the instance that was stored")

    def not_there(self) -> None:
        answer = self._client.get(f"{self._url}/studies/{generate_uid()}/metadata", headers={"Accept": _JSON})
        _expect(answer, 404)

    def _need(self) -> None:
        if not self._stored:
            raise Skipped("nothing was stored")


class _Workitems:
    """Checks of workitems: one is created, claimed, and canceled."""

    def __init__(self, client: Any, peer: WebPeer) -> None:
        self._client, self._peer, self._url = client, peer, f"{peer.url.rstrip('/')}/workitems"
        self._uid, self._transaction = str(generate_uid()), str(generate_uid())
        self._made = self._claimed = False

    def create(self) -> None:
        if not self._peer.store:
            raise Skipped("nothing may be stored: give --store")
        answer = self._send()
        if answer.status_code in (404, 405, 501):
            raise Skipped("the service has no workitems")
        _expect(answer, 201)
        self._made = True
        if self._uid not in answer.headers.get("location", answer.headers.get("content-location", "")):
            raise Failed("the address of the workitem is not told")

    def create_again(self) -> None:
        self._need()
        _expect(self._send(), 409)

    def retrieve(self) -> None:
        self._need()
        answer = self._client.get(f"{self._url}/{self._uid}", headers={"Accept": _JSON})
        _expect(answer, 200)
        item = answer.json()
        item = item[0] if isinstance(item, list) else item
        if _value(item, "ProcedureStepState") != "SCHEDULED":
            raise Failed("its state is not SCHEDULED")
        if _value(item, "TransactionUID"):
            raise Failed("its Transaction UID is told")

    def search(self) -> None:
        self._need()
        wanted = {"ProcedureStepState": "SCHEDULED", "SOPInstanceUID": self._uid}
        answer = self._client.get(self._url, params=wanted, headers={"Accept": _JSON})
        _expect(answer, 200)
        if self._uid not in [_value(item, "SOPInstanceUID") for item in answer.json()]:
            raise Failed("it was not found")

    def no_jump(self) -> None:
        self._need()
        _expect(self._state("COMPLETED"), 400, 409)

    def claim(self) -> None:
        self._need()
        _expect(self._state("IN PROGRESS"), 200)
        self._claimed = True

    def claimed_once(self) -> None:
        self._need(claimed=True)
        _expect(self._state("IN PROGRESS", str(generate_uid())), 400, 409)

    def other_transaction(self) -> None:
        self._need(claimed=True)
        change = {**_element("ProcedureStepLabel", "changed")}
        answer = self._client.post(
            f"{self._url}/{self._uid}",
            params={"transaction-uid": str(generate_uid())},
            json=[change],
            headers={"Content-Type": _JSON},
        )
        _expect(answer, 400, 409)

    def final_state(self) -> None:
        self._need(claimed=True)
        _expect(self._state("COMPLETED"), 400, 409)

    def cancel(self) -> None:
        self._need(claimed=True)
        _expect(self._state("CANCELED"), 200, 409)  # 409: it asks for a reason of discontinuation first (CC.2.5)

    def _send(self) -> Any:
        body = {
            **_element("ProcedureStepState", "SCHEDULED"),
            **_element("ScheduledProcedureStepPriority", "LOW"),
            **_element("ProcedureStepLabel", "Conformance check"),
            **_element("WorklistLabel", "Conformance check"),
            **_element("ScheduledProcedureStepStartDateTime", "20300101000000"),
            **_element("InputReadinessState", "UNAVAILABLE"),
            **_element("PatientID", "CONFORMANCE-TEST"),
            **_element("PatientName", {"Alphabetic": "Conformance^Test"}),
        }
        return self._client.post(
            f"{self._url}?{self._uid}", json=[body], headers={"Content-Type": _JSON, "Accept": _JSON}
        )

    def _state(self, state: str, transaction: str = "") -> Any:
        asked = {
            **_element("ProcedureStepState", state),
            **_element("TransactionUID", transaction or self._transaction),
        }
        return self._client.put(f"{self._url}/{self._uid}/state", json=asked, headers={"Content-Type": _JSON})

    def _need(self, *, claimed: bool = False) -> None:
        if not self._made:
            raise Skipped("no workitem was created")
        if claimed and not self._claimed:
            raise Skipped("the workitem was not claimed")


def _element(keyword: str, value: Any) -> dict[str, Any]:
    return {_tag(keyword): {"vr": dictionary_VR(keyword), "Value": [value]}}


def _tag(keyword: str) -> str:
    return f"{tag_for_keyword(keyword):08X}"


def _value(item: Any, keyword: str) -> str:
    values = item.get(_tag(keyword), {}).get("Value") or [""]
    return str(values[0])


def _expect(answer: Any, *codes: int) -> None:
    if answer.status_code not in codes:
        raise Failed(f"answered with {answer.status_code} instead of {' or '.join(map(str, codes))}")
