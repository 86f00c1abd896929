"""DIMSE: C-FIND says what there is; C-GET brings it over the same association, or C-MOVE to a store of our own.

Source:
    DICOM PS3.4, annex C (query/retrieve), PS3.7, 9.1 (services).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from pydicom import Dataset

from isocenter.clinic.retrieve.plan import GONE, Failure, Patience, Query, Retrieved, is_uid
from isocenter.clinic.retrieve.staging import Staging
from isocenter.core.errors import CapabilityError, ConfigError, DataError, TransportError

__all__ = ["DimseNode", "retrieve_get", "retrieve_move", "settle", "was_rejected"]

_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_MOVE = "1.2.840.10008.5.1.4.1.2.2.2"
_GET = "1.2.840.10008.5.1.4.1.2.2.3"
"""Study root, the one that every archive has."""
_CONTEXTS = 126
"""An association has at most 128 presentation contexts."""
_BATCH = 100
_PENDING = (0xFF00, 0xFF01)
_SUCCESS, _WARNING = 0x0000, 0xB000
_REJECTED = (0x01, 0x02)
"""For good, or for now (PS3.8, 9.3.4)."""


@dataclass(frozen=True)
class DimseNode:
    """The other system.

    Args:
        host: Its name or address.
        port: Its port.
        ae_title: Its application entity title.
        own_title: The title that it knows us by.
        tls: A context by which the connection is encrypted; None for plain.

    Raises:
        ConfigError: A title is empty or longer than 16 characters, or the port is none.
    """

    host: str
    port: int
    ae_title: str
    own_title: str = "ISOCENTER"
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        for title in (self.ae_title, self.own_title):
            if not title.strip() or len(title) > 16:
                raise ConfigError("an application entity title has 1 to 16 characters")
        if not 0 < self.port < 65536:
            raise ConfigError("a port is a number from 1 to 65535")


def settle(association: Any) -> None:
    """Close what pynetdicom leaves open where an association ends badly."""
    left = association.dul.socket
    if left is not None and left.socket is not None:
        with suppress(OSError):
            left.socket.close()


def was_rejected(association: Any) -> bool:
    """Whether the other side refused an association that pynetdicom asked for.

    pynetdicom's own `is_rejected` stays False where the refusal came before the thread that asks had looked whether the
    line stands: the line is closed by then, and the answer waits unread.
    """
    if association.is_rejected:
        return True
    unread = association.dul.peek_next_pdu()
    return getattr(unread, "result", None) in _REJECTED


class _SilentError(TransportError):
    """No answer at all."""


class _Errors:
    """What our store could not keep: an error of the disk must reach the caller, over the network's thread."""

    def __init__(self) -> None:
        self.fatal: DataError | None = None
        self.reasons: list[str] = []


def retrieve_get(
    node: DimseNode,
    query: Query,
    to: Path,
    *,
    patience: Patience | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Retrieved:
    """Fetch the studies that a query finds by C-FIND and C-GET, into STUDY/SERIES/INSTANCE.dcm below a folder.

    What is there already is not fetched again. What could not be fetched is in the result, with its reason.

    Args:
        node: Where.
        query: Which studies.
        to: The folder.
        patience: Tries, times and limits.
        progress: Called with a study's UID, its number and how many there are, before it is fetched.
        sleep: Waits between tries.

    Raises:
        CapabilityError: pynetdicom is not installed.
        TransportError: The other system does not answer, refuses us, or can't say what it has.
        OutputError: The folder can't be written.
    """
    ways = _Ways(node, patience or Patience(), sleep, Staging(to), progress)

    def fetch(request: Dataset, study: str) -> None:
        ae = ways.entity()
        ae.add_requested_context(_GET)
        classes = ways.storage_classes(study)
        roles = []
        for uid in classes:
            ae.add_requested_context(uid, ways.net.ALL_TRANSFER_SYNTAXES)
            roles.append(ways.net.build_role(uid, scp_role=True))
        handlers = [(ways.net.evt.EVT_C_STORE, ways.kept, [study])]
        with ways.associated(ae, ext_neg=roles, evt_handlers=handlers) as association:
            ways.drain(association.send_c_get(request, _GET))

    return _retrieve(ways, query, fetch)


def retrieve_move(
    node: DimseNode,
    query: Query,
    to: Path,
    *,
    listen: tuple[str, int],
    patience: Patience | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Retrieved:
    """Fetch as `retrieve_get` does, by C-MOVE to a store of our own that runs for the time of the call.

    Args:
        node: Where; it must know `own_title` as a destination, at our address and port.
        query: Which studies.
        to: The folder.
        listen: Address and port of our store.
        patience: Tries, times and limits.
        progress: Called with a study's UID, its number and how many there are, before it is fetched.
        sleep: Waits between tries.

    Raises:
        CapabilityError: pynetdicom is not installed.
        TransportError: The other system does not answer, refuses us, or can't say what it has; the port is taken.
        OutputError: The folder can't be written.
    """
    ways = _Ways(node, patience or Patience(), sleep, Staging(to), progress)
    current = [""]

    def stored(event: Any) -> int:
        return ways.kept(event, current[0])

    def fetch(request: Dataset, study: str) -> None:
        current[0] = study
        ae = ways.entity()
        ae.add_requested_context(_MOVE)
        with ways.associated(ae) as association:
            ways.drain(association.send_c_move(request, node.own_title, _MOVE))

    store = ways.entity()
    for context in ways.net.AllStoragePresentationContexts:
        store.add_supported_context(context.abstract_syntax, ways.net.ALL_TRANSFER_SYNTAXES)
    try:
        server = store.start_server(listen, block=False, evt_handlers=[(ways.net.evt.EVT_C_STORE, stored)])
    except OSError as error:
        raise TransportError("our store can't listen there; is the port taken?") from error
    try:
        return _retrieve(ways, query, fetch)
    finally:
        server.shutdown()


class _Ways:
    """What both ways of fetching share."""

    def __init__(
        self,
        node: DimseNode,
        patience: Patience,
        sleep: Callable[[float], None],
        staging: Staging,
        progress: Callable[[str, int, int], None] | None,
    ) -> None:
        try:
            self.net: Any = import_module("pynetdicom")
        except ImportError as error:
            raise CapabilityError("C-GET and C-MOVE need pynetdicom: pip install 'isocenter[clinic]'") from error
        self.node, self.patience, self.sleep, self.staging = node, patience, sleep, staging
        self.progress = progress or (lambda _study, _number, _all: None)
        self.errors = _Errors()
        self.classes: dict[str, list[str]] = {}
        self.silences = 0

    def entity(self) -> Any:
        ae = self.net.AE(ae_title=self.node.own_title)
        ae.acse_timeout = ae.dimse_timeout = ae.network_timeout = ae.connection_timeout = self.patience.timeout_s
        return ae

    @contextmanager
    def associated(self, ae: Any, **options: Any) -> Iterator[Any]:
        node = self.node
        if node.tls is not None:
            options["tls_args"] = (node.tls, node.host)
        association = ae.associate(node.host, node.port, ae_title=node.ae_title, **options)
        if not association.is_established:
            if was_rejected(association):
                raise TransportError("the other system refuses us (does it know our title?)")
            raise _SilentError("the other system does not answer")
        try:
            yield association
        finally:
            if association.is_established:
                association.release()

    def kept(self, event: Any, study: str) -> int:
        """Keep what arrives; the status goes back to the sender."""
        try:
            self.staging.store([event.encoded_dataset()], study)
        except TransportError as error:
            self.errors.reasons.append(str(error))
            return 0xA900  # data set does not match
        except DataError as error:
            self.errors.fatal = error
            return 0xA700  # out of resources
        return _SUCCESS

    def drain(self, responses: Iterator[tuple[Any, Any]]) -> list[Any]:
        """Take all answers of a service.

        Raises:
            TransportError: It ended without one, or with a failure.
        """
        found = []
        for status, identifier in responses:
            if self.errors.fatal is not None:
                raise self.errors.fatal
            code = status.get("Status")
            if code is None:
                raise _SilentError("the other system went silent, or was cut off")
            if code in _PENDING:
                found.append(identifier)
            elif code not in (_SUCCESS, _WARNING):
                raise TransportError(f"the other system answered with status 0x{code:04X}")
        return found

    def tries(self, what: Callable[[], None]) -> str:
        """Try until it works; return why it did not in the end, "" where it did."""
        wait, reason = self.patience.backoff_s, ""
        for left in range(self.patience.retries, -1, -1):
            try:
                what()
            except TransportError as error:
                reason = str(error)
                if left:
                    self.sleep(wait)
                    wait *= 2
                else:
                    self.silences = self.silences + 1 if isinstance(error, _SilentError) else 0
            else:
                self.silences = 0
                return ""
        return reason

    def find(self, level: str, keys: dict[str, str]) -> list[Dataset]:
        """Search at a level."""
        request = Dataset()
        request.QueryRetrieveLevel = level
        for keyword, value in keys.items():
            setattr(request, keyword, value)
        found: list[Dataset] = []

        def once() -> None:
            found.clear()
            ae = self.entity()
            ae.add_requested_context(_FIND)
            with self.associated(ae) as association:
                found.extend(item for item in self.drain(association.send_c_find(request, _FIND)) if item is not None)

        reason = self.tries(once)
        if reason:
            raise TransportError(reason)
        return found

    def instances(self, study: str) -> list[tuple[str, str]]:
        """Return (series UID, instance UID) of a study; keep which classes they are of."""
        series = self.find("SERIES", {"StudyInstanceUID": study, "SeriesInstanceUID": ""})
        out, classes = [], []
        for one in series:
            keys = {"StudyInstanceUID": study, "SeriesInstanceUID": str(one.get("SeriesInstanceUID") or "")}
            for item in self.find("IMAGE", {**keys, "SOPInstanceUID": "", "SOPClassUID": ""}):
                out.append((keys["SeriesInstanceUID"], str(item.get("SOPInstanceUID") or "")))
                classes.append(str(item.get("SOPClassUID") or ""))
        self.classes[study] = [uid for uid in dict.fromkeys(classes) if is_uid(uid)]
        return list(dict.fromkeys(out))

    def storage_classes(self, study: str) -> list[str]:
        """Return the classes to ask for: those of the study, where the other system says them; else all usual ones."""
        known = self.classes.get(study) or []
        usual = [c.abstract_syntax for c in self.net.StoragePresentationContexts]
        return list(dict.fromkeys([*known, *([] if known else usual)]))[:_CONTEXTS]


def _retrieve(ways: _Ways, query: Query, fetch: Callable[[Dataset, str], None]) -> Retrieved:
    filters = {"StudyInstanceUID": "", **{k: v for k, v in query.filters.items() if v}}
    found = [str(item.get("StudyInstanceUID") or "") for item in ways.find("STUDY", filters)]
    studies = [uid for uid in dict.fromkeys(found) if is_uid(uid)]
    failures = [Failure("", "", "the other system lists a study without a UID") for uid in found if not is_uid(uid)]
    limit = ways.patience.max_studies
    if limit is not None and len(studies) > limit:
        failures += [Failure(uid, "", "beyond max_studies") for uid in studies[limit:]]
        studies = studies[:limit]
    result = Retrieved(tuple(studies), failures=tuple(failures))
    for number, study in enumerate(studies, start=1):
        ways.progress(study, number, len(studies))
        if ways.silences >= ways.patience.give_up:
            result = replace(result, failures=(*result.failures, Failure(study, "", GONE)))
            continue
        most = ways.patience.max_bytes
        if most is not None and ways.staging.bytes >= most:
            result = replace(result, failures=(*result.failures, Failure(study, "", "beyond max_bytes")))
            continue
        present, missed = _study(ways, study, fetch)
        result = replace(result, present=result.present + present, failures=(*result.failures, *missed))
    return replace(result, fetched=ways.staging.fetched, bytes=ways.staging.bytes)


def _study(ways: _Ways, study: str, fetch: Callable[[Dataset, str], None]) -> tuple[int, list[Failure]]:
    try:
        listed = [pair for pair in ways.instances(study) if is_uid(pair[0]) and is_uid(pair[1])]
    except TransportError as error:
        return 0, [Failure(study, "", str(error))]
    if not listed:
        return 0, [Failure(study, "", "the other system lists no instance of it")]
    missing = [pair for pair in listed if not ways.staging.has(study, *pair)]
    present, reason = len(listed) - len(missing), ""
    ways.errors.reasons.clear()
    for turn in range(ways.patience.retries + 1):
        if not missing:
            break
        whole = turn == 0 and not present

        def once(missing: Sequence[tuple[str, str]] = missing, *, whole: bool = whole) -> None:
            for request in [_request(study, None)] if whole else _requests(study, missing):
                fetch(request, study)

        reason = ""
        try:
            once()
        except TransportError as error:
            reason = str(error)
        before, missing = len(missing), [pair for pair in missing if not ways.staging.has(study, *pair)]
        if missing and len(missing) == before:
            ways.sleep(ways.patience.backoff_s * 2**turn)
    told = reason or next(iter(ways.errors.reasons), "") or "the other system did not send it"
    return present, [Failure(study, sop, told) for _, sop in missing]


def _request(study: str, series: tuple[str, list[str]] | None) -> Dataset:
    request = Dataset()
    request.QueryRetrieveLevel = "STUDY" if series is None else "IMAGE"
    request.StudyInstanceUID = study
    if series is not None:
        request.SeriesInstanceUID, request.SOPInstanceUID = series
    return request


def _requests(study: str, missing: Sequence[tuple[str, str]]) -> Iterator[Dataset]:
    by_series: dict[str, list[str]] = {}
    for series, sop in missing:
        by_series.setdefault(series, []).append(sop)
    for series, sops in by_series.items():
        for start in range(0, len(sops), _BATCH):
            yield _request(study, (series, sops[start : start + _BATCH]))
