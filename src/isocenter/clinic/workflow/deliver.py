"""Sending results until they are taken: by the kind of refusal again later, or never and told so.

The ledger knows what is to be sent; each destination has a thread of its own, so that one that is down holds up no
other. A node that is killed between the other side's answer and the ledger's line sends the same file again: results
have the same UIDs whenever they are made, so the other side has it once.
"""

from __future__ import annotations

import hashlib
import logging
import secrets
import ssl
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final
from xml.etree import ElementTree

from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from isocenter.clinic.ports import Deliverer, Outcome
from isocenter.clinic.retrieve.dimse import DimseNode, settle, was_rejected
from isocenter.clinic.retry_after import asked_wait_s
from isocenter.clinic.workflow.ledger import Ledger
from isocenter.core.errors import CapabilityError, ConfigError, IsocenterError
from isocenter.data.images.quiet import quiet

__all__ = ["Deliveries", "Insistence", "StoreDestination", "StowDestination", "sorted_status"]

_LOG = logging.getLogger(__name__)
_BATCH = 100
_TAKEN: Final = Outcome("taken")
_WARNINGS = (0xB000, 0xB006, 0xB007)
_LATER = {
    0x0110: "processing failure",
    0x0210: "duplicate invocation",
    0x0213: "resource limitation",
}
_DUPLICATE_INSTANCE = 0x0111
_HTTP_LATER = (408, 425, 429, 500, 502, 503, 504)


@dataclass(frozen=True)
class Insistence:
    """How often a delivery is tried.

    Args:
        first_wait_s: Before the second try; doubled each time.
        longest_wait_s: Never longer than that.
        tries: After so many it is a dead letter.
    """

    first_wait_s: float = 2.0
    longest_wait_s: float = 600.0
    tries: int = 500

    def wait_s(self, tries: int, delivery: str) -> float | None:
        """Return how long to wait after so many tries; None: no more.

        A part by the delivery's name keeps many that failed together from coming back together.
        """
        if tries >= self.tries:
            return None
        spread = 0.75 + 0.5 * hashlib.blake2b(delivery.encode(), digest_size=1).digest()[0] / 255
        return float(min(self.longest_wait_s, self.first_wait_s * 2 ** min(tries - 1, 30)) * spread)


class Deliveries:
    """What is waiting in a ledger, on its way.

    Args:
        ledger: Whose.
        destinations: By name.
        insistence: How often is tried.
        store: The node's folder, which names of files begin in; None: names are whole.
    """

    def __init__(
        self,
        ledger: Ledger,
        destinations: Mapping[str, Deliverer],
        insistence: Insistence | None = None,
        store: Path | None = None,
    ) -> None:
        self._ledger, self._destinations = ledger, destinations
        self._insistence, self._store = insistence or Insistence(), store or Path()
        self._pool = ThreadPoolExecutor(max(1, len(destinations)), thread_name_prefix="deliver")
        self._busy: dict[str, Future[int]] = {}

    def pump(self) -> None:
        """Begin what is due, at each destination that is not busy.

        Raises:
            Exception: What stopped a thread, the ledger's database say; here it reaches who can start again.
        """
        for name in self._destinations:
            before = self._busy.get(name)
            if before is not None:
                if not before.done():
                    continue
                before.result()
            if self._ledger.due(limit=1, destination=name):
                self._busy[name] = self._pool.submit(self.send, name)

    def send(self, destination: str) -> int:
        """Try once what is due at a destination; return how many were taken."""
        rows = self._ledger.due(limit=_BATCH, destination=destination)
        if not rows:
            return 0
        outcomes = self._outcomes(destination, [self._store / row["file"] for row in rows])
        taken = 0
        for row, outcome in zip(rows, outcomes, strict=True):
            if outcome.kind == "taken":
                self._ledger.delivered(row["delivery"])
                taken += 1
                continue
            wait_s = None
            if outcome.kind == "later":
                wait_s = self._insistence.wait_s(row["tries"] + 1, row["delivery"])
                wait_s = None if wait_s is None else max(wait_s, outcome.wait_s)
            _LOG.warning("a delivery to %s was not taken: %s", destination, outcome.reason)
            self._ledger.failed(row["delivery"], outcome.reason, wait_s=wait_s)
        return taken

    def _outcomes(self, destination: str, files: Sequence[Path]) -> Sequence[Outcome]:
        """Deliver; whatever goes wrong there is no reason to stop the others."""
        try:
            return self._destinations[destination].deliver(files)
        except IsocenterError as error:  # its certificates can't be read any more, say
            return [Outcome("later", str(error))] * len(files)
        except OSError as error:
            why = f"it can't be reached, or a file can't be read ({type(error).__name__})"
            return [Outcome("later", why)] * len(files)
        except Exception as error:  # noqa: BLE001  # the boundary: by an odd answer, or one odd file among these
            if len(files) > 1:
                return [outcome for file in files for outcome in self._outcomes(destination, [file])]
            _LOG.exception("a delivery to %s failed by a defect of Isocenter", destination)
            return [Outcome("later", f"a defect of Isocenter ({type(error).__name__})")]

    def close(self) -> None:
        """Let what is on its way arrive."""
        self._pool.shutdown(wait=True, cancel_futures=True)


def sorted_status(status: int) -> Outcome:
    """Return what a status of C-STORE means for a further try.

    Source:
        DICOM PS3.4 table B.2-1, PS3.7 annex C.

    Example:
        >>> [sorted_status(s).kind for s in (0x0000, 0xB007, 0xA700, 0xA900, 0xC000, 0x0111)]
        ['taken', 'taken', 'later', 'never', 'never', 'taken']
    """
    if status in (0x0000, _DUPLICATE_INSTANCE, *_WARNINGS):
        return _TAKEN
    if status & 0xFF00 == 0xA700:
        return Outcome("later", f"out of resources ({status:04X})")
    known = _LATER.get(status)
    if known is not None:
        return Outcome("later", f"{known} ({status:04X})")
    return Outcome("never", f"refused with status {status:04X}")


@dataclass(frozen=True)
class StoreDestination:
    """C-STORE to another system: many instances an association.

    Args:
        node: The system.
        timeout_s: Of each step.
    """

    node: DimseNode
    timeout_s: float = 30.0

    def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
        """Send files; see `Deliverer`."""
        net = _import("pynetdicom", "C-STORE")
        datasets: list[Any] = []
        for file in files:
            try:
                with quiet():
                    datasets.append(dcmread(file))
            except FileNotFoundError:
                datasets.append(Outcome("never", "the file is not there any more"))
            except (OSError, InvalidDicomError) as error:
                datasets.append(Outcome("later" if isinstance(error, OSError) else "never", "the file can't be read"))
        contexts = {
            (str(d.SOPClassUID), str(d.file_meta.TransferSyntaxUID)) for d in datasets if not isinstance(d, Outcome)
        }
        if not contexts:
            return datasets
        entity = net.AE(ae_title=self.node.own_title)
        entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = self.timeout_s
        entity.connection_timeout = self.timeout_s
        for sop_class, syntax in sorted(contexts)[:126]:
            entity.add_requested_context(sop_class, syntax)
        tls = {} if self.node.tls is None else {"tls_args": (self.node.tls, self.node.host)}
        association = entity.associate(self.node.host, self.node.port, ae_title=self.node.ae_title, **tls)
        if not association.is_established:
            settle(association)
            why = "the association was rejected" if was_rejected(association) else "no association"
            return [d if isinstance(d, Outcome) else Outcome("later", why) for d in datasets]
        try:
            return [d if isinstance(d, Outcome) else self._send(association, d) for d in datasets]
        finally:
            if association.is_established:
                association.release()
            settle(association)

    def _send(self, association: Any, dataset: Any) -> Outcome:
        if not association.is_established:
            return Outcome("later", "the association was cut")
        try:
            with quiet():
                status = association.send_c_store(dataset)
        except ValueError:  # pynetdicom: no accepted presentation context
            return Outcome("never", "the other side takes no such object in this transfer syntax")
        except RuntimeError:
            return Outcome("later", "the association was cut")
        if "Status" not in status:
            return Outcome("later", "no answer, or the association was cut")
        return sorted_status(int(status.Status))


@dataclass(frozen=True)
class StowDestination:
    """STOW-RS to another system.

    Args:
        url: Root of its DICOMweb service.
        token: Bearer token; "" for none.
        headers: Further headers.
        verify: Whether its certificate is verified; a path: by these authorities.
        timeout_s: Of each step.

    Raises:
        ConfigError: The URL is neither http nor https.
    """

    url: str
    token: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    verify: bool | Path = True
    timeout_s: float = 60.0

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("the URL of a DICOMweb server begins with http:// or https://")

    def deliver(self, files: Sequence[Path]) -> Sequence[Outcome]:
        """Send files, one a request, so that one that is refused takes no other with it; see `Deliverer`."""
        httpx = _import("httpx", "STOW-RS")
        headers = {**self.headers, "Accept": "application/dicom+json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        verify: Any = self.verify
        if isinstance(verify, Path):
            try:
                verify = ssl.create_default_context(cafile=str(verify))
            except OSError as error:  # an SSLError is one
                raise ConfigError("a file of certificates can't be read; check its path and form") from error
        outcomes: list[Outcome] = []
        with httpx.Client(timeout=self.timeout_s, verify=verify, headers=headers) as client:
            for file in files:
                down = next((o for o in outcomes if o.reason == "the server can't be reached"), None)
                outcomes.append(down or self._post(httpx, client, file))
        return outcomes

    def _post(self, httpx: Any, client: Any, file: Path) -> Outcome:
        try:
            content = file.read_bytes()
        except FileNotFoundError:
            return Outcome("never", "the file is not there any more")
        except OSError:
            return Outcome("later", "the file can't be read")
        boundary = secrets.token_hex(16)
        body = b"".join(
            (
                f"--{boundary}\r\nContent-Type: application/dicom\r\n\r\n".encode(),
                content,
                f"\r\n--{boundary}--\r\n".encode(),
            )
        )
        kind = f'multipart/related; type="application/dicom"; boundary={boundary}'
        try:
            answer = client.post(f"{self.url.rstrip('/')}/studies", content=body, headers={"Content-Type": kind})
        except httpx.RequestError:  # not reached, cut off, or an answer that can't be decoded
            return Outcome("later", "the server can't be reached")
        return _stored(answer)


def _stored(answer: Any) -> Outcome:
    """Return what a STOW-RS answer means (PS3.18 table 10.5.3-1)."""
    status = answer.status_code
    if status in _HTTP_LATER:
        return Outcome("later", f"HTTP {status}", asked_wait_s(answer.headers.get("Retry-After", "")))
    reason = _failure_reason(answer)
    if reason is not None:
        told = sorted_status(reason)
        return told if told.kind == "taken" else Outcome(told.kind, f"HTTP {status}: {told.reason}")
    if status in (200, 202):
        return _TAKEN
    return Outcome("never", f"HTTP {status}")


def _failure_reason(answer: Any) -> int | None:
    """Return the first Failure Reason of a STOW-RS answer, None where nothing failed or it says nothing."""
    try:
        if "xml" in answer.headers.get("Content-Type", ""):
            root = ElementTree.fromstring(answer.text)  # noqa: S314 - no entities beyond expat's own limits
            found = [e.findtext(".//{*}Value") for e in root.iter() if e.get("tag") == "00081197"]
            return int(found[0]) if found and found[0] else None
        content = answer.json()
        content = content[0] if isinstance(content, list) and content else content
        failed = content["00081198"]["Value"][0]
        return int(failed["00081197"]["Value"][0])
    except (ValueError, LookupError, TypeError, OverflowError, RecursionError, ElementTree.ParseError):
        return None  # whatever it is, it is the other side's


def _import(module: str, what: str) -> Any:
    try:
        return import_module(module)
    except ImportError as error:
        raise CapabilityError(f"{what} needs {module}: pip install 'isocenter[clinic]'") from error
