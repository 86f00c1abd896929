"""DICOMweb: QIDO-RS says what there is, WADO-RS brings it, a study at a time.

By httpx (BSD): it streams answers, verifies TLS by default and has timeouts that count silence, not the whole transfer.
dicomweb-client was the other candidate; it brings numpy, pillow and requests and offers no way to resume.

Source:
    DICOM PS3.18, 10.4 (retrieve), 10.6 (search).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from types import MappingProxyType
from typing import Any

from isocenter.clinic.retrieve.multipart import boundary_of, parts_of
from isocenter.clinic.retrieve.plan import GONE, Failure, Patience, Query, Retrieved, is_uid
from isocenter.clinic.retrieve.staging import Staging
from isocenter.clinic.retry_after import asked_wait_s
from isocenter.clinic.secrecy import in_the_clear
from isocenter.core.errors import CapabilityError, ConfigError, TransportError

__all__ = ["DicomWebServer", "retrieve_dicomweb"]

_PAGE = 200
_PASSING = (408, 425, 429, 500, 502, 503, 504)
_ACCEPT = 'multipart/related; type="application/dicom"; transfer-syntax=*'
_MAX_PAGE = 256 << 20
_STUDY, _SERIES, _SOP = "0020000D", "0020000E", "00080018"


@dataclass(frozen=True)
class DicomWebServer:
    """A server, and how to be let in.

    Args:
        url: Root of its DICOMweb service, e.g. "https://pacs.example.org/dicom-web".
        token: Bearer token, "" for none; sent over https alone, or to this machine.
        headers: Further headers.
        verify: Whether the server's certificate is verified; a path is a file of certificates to trust.
        certificate: Files of our own certificate and its key, None for none.

    Raises:
        ConfigError: The URL is neither http nor https, or a token would travel in the clear.
    """

    url: str
    token: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}), repr=False)
    verify: bool | Path = True
    certificate: tuple[Path, Path] | None = None

    def __post_init__(self) -> None:
        if not self.url.startswith(("http://", "https://")):
            raise ConfigError("the URL of a DICOMweb server begins with http:// or https://")
        if self.token and in_the_clear(self.url):
            raise ConfigError("a token over http:// could be read by anybody on the way; use https://")


class _PassingError(TransportError):
    """A failure that a further try may not have."""

    def __init__(self, message: str, wait_s: float = 0.0, *, silent: bool = False) -> None:
        super().__init__(message)
        self.wait_s = wait_s
        self.silent = silent


def retrieve_dicomweb(
    server: DicomWebServer,
    query: Query,
    to: Path,
    *,
    patience: Patience | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Retrieved:
    """Fetch all instances of the studies that a query finds, into STUDY/SERIES/INSTANCE.dcm below a folder.

    What is there already is not fetched again, so a call that was cut off is simply repeated. What could not be fetched
    is in the result, with its reason; the other studies are fetched all the same.

    Args:
        server: Where.
        query: Which studies.
        to: The folder.
        patience: Tries, times and limits.
        progress: Called with a study's UID, its number and how many there are, before it is fetched.
        sleep: Waits between tries.

    Raises:
        CapabilityError: httpx is not installed.
        TransportError: The server does not answer, does not let us in, or can't say what it has.
        OutputError: The folder can't be written, the disk is full.
    """
    patience = patience or Patience()
    staging = Staging(to)
    with _session(server, patience, sleep) as session:
        studies, failures = _studies(session, query, patience)
        result = Retrieved(studies=tuple(studies), failures=tuple(failures))
        for number, study in enumerate(studies, start=1):
            if progress is not None:
                progress(study, number, len(studies))
            if session.gone:
                result = replace(result, failures=(*result.failures, Failure(study, "", GONE)))
                continue
            if patience.max_bytes is not None and staging.bytes >= patience.max_bytes:
                result = replace(result, failures=(*result.failures, Failure(study, "", "beyond max_bytes")))
                continue
            present, missed = _study(session, study, staging)
            result = replace(result, present=result.present + present, failures=(*result.failures, *missed))
    return replace(result, fetched=staging.fetched, bytes=staging.bytes)


@dataclass
class _Session:
    client: Any
    httpx: Any
    root: str
    patience: Patience
    sleep: Callable[[float], None]
    silences: int = 0

    @property
    def gone(self) -> bool:
        """Whether the server has not answered for so long that nothing more is asked of it."""
        return self.silences >= self.patience.give_up

    def tries(self, what: Callable[[], Any]) -> Any:
        """Do something that may fail for a passing reason, as often as patience has it."""
        wait = self.patience.backoff_s
        for left in range(self.patience.retries, -1, -1):
            try:
                done = what()
            except _PassingError as error:
                if not left:
                    self.silences = self.silences + 1 if error.silent else 0
                    raise
                self.sleep(max(wait, error.wait_s))
                wait *= 2
            except TransportError:
                self.silences = 0
                raise
            else:
                self.silences = 0
                return done
        raise TransportError("no try was made")  # unreachable: retries is not negative

    @contextmanager
    def opened(self, path: str, accept: str, params: Mapping[str, str] | None = None) -> Iterator[Any]:
        """Give a good answer, open; raise for any other."""
        httpx = self.httpx
        try:
            with self.client.stream("GET", self.root + path, params=params, headers={"Accept": accept}) as answer:
                code = answer.status_code
                if code in _PASSING:
                    wait_s = asked_wait_s(answer.headers.get("Retry-After", ""))
                    raise _PassingError(f"the server answered {code}", wait_s)
                if code in (401, 403):
                    raise TransportError(f"the server does not let us in ({code}); check the token or certificate")
                if code not in (200, 204, 206):
                    raise TransportError(f"the server answered {code}")
                yield answer
        except httpx.TransportError as error:
            told = f"the server does not answer, or was cut off ({type(error).__name__})"
            raise _PassingError(told, silent=True) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise TransportError(f"the request failed ({type(error).__name__})") from error

    def page(self, path: str, params: Mapping[str, str]) -> list[dict[str, Any]]:
        """Return one page of a search."""

        def once() -> list[dict[str, Any]]:
            with self.opened(path, "application/dicom+json", params) as answer:
                if answer.status_code == 204:
                    return []
                body = bytearray()
                for chunk in answer.iter_bytes():
                    body += chunk
                    if len(body) > _MAX_PAGE:
                        raise TransportError("the server's list is longer than any page; it ignores our limit")
            try:
                found = json.loads(body)
            except (ValueError, RecursionError) as error:
                raise TransportError("the server's list is no JSON") from error
            if not isinstance(found, list):
                raise TransportError("the server's list is no list")
            return [item for item in found if isinstance(item, dict)]

        made: list[dict[str, Any]] = self.tries(once)
        return made

    def search(self, path: str, params: Mapping[str, str], key: str) -> Iterator[dict[str, Any]]:
        """Yield all answers, page by page, each once: servers differ in what they do with an offset."""
        seen: set[str] = set()
        offset = 0
        while True:
            found = self.page(path, {**params, "limit": str(_PAGE), "offset": str(offset)})
            new = [item for item in found if _value(item, key) not in seen]
            for item in new:
                seen.add(_value(item, key))
                yield item
            offset += len(found)
            if not new:
                return


@contextmanager
def _session(server: DicomWebServer, patience: Patience, sleep: Callable[[float], None]) -> Iterator[_Session]:
    try:
        httpx: Any = import_module("httpx")
    except ImportError as error:
        raise CapabilityError("DICOMweb needs httpx: pip install 'isocenter[clinic]'") from error
    import ssl

    headers = dict(server.headers)
    if server.token:
        headers["Authorization"] = f"Bearer {server.token}"
    verify: Any = server.verify
    if server.verify and (isinstance(server.verify, Path) or server.certificate is not None):
        try:
            cafile = str(server.verify) if isinstance(server.verify, Path) else None
            verify = ssl.create_default_context(cafile=cafile)
            if server.certificate is not None:
                verify.load_cert_chain(*(str(part) for part in server.certificate))
        except OSError as error:
            raise ConfigError("a file of certificates can't be read; check its path and form") from error
    # A redirect could carry the token elsewhere: none is followed.
    with httpx.Client(headers=headers, verify=verify, timeout=patience.timeout_s, follow_redirects=False) as client:
        yield _Session(client, httpx, server.url.rstrip("/"), patience, sleep)


def _value(item: Mapping[str, Any], tag: str) -> str:
    element = item.get(tag)
    values = element.get("Value") if isinstance(element, dict) else None
    return values[0] if isinstance(values, list) and values and isinstance(values[0], str) else ""


def _studies(session: _Session, query: Query, patience: Patience) -> tuple[list[str], list[Failure]]:
    studies: list[str] = []
    failures: list[Failure] = []
    for item in session.search("/studies", {k: v for k, v in query.filters.items() if v}, _STUDY):
        uid = _value(item, _STUDY)
        if not is_uid(uid):
            failures.append(Failure("", "", "the server lists a study without a UID"))
        elif patience.max_studies is not None and len(studies) >= patience.max_studies:
            failures.append(Failure(uid, "", "beyond max_studies"))
            break
        else:
            studies.append(uid)
    return studies, failures


def _study(session: _Session, study: str, staging: Staging) -> tuple[int, list[Failure]]:
    """Fetch a study: whole where nothing of it is there, then what is missing, one instance at a time."""
    try:
        listed = [
            (_value(item, _SERIES), _value(item, _SOP))
            for item in session.search(f"/studies/{study}/instances", {}, _SOP)
        ]
    except TransportError as error:
        return 0, [Failure(study, "", str(error))]
    failures = [Failure(study, "", "the server lists an instance without UIDs") for pair in listed if not _good(pair)]
    wanted = [pair for pair in listed if _good(pair)]
    missing = [pair for pair in wanted if not staging.has(study, *pair)]
    present = len(wanted) - len(missing)
    if not wanted and not failures:
        return 0, [Failure(study, "", "the server lists no instance of it")]
    if missing and not present and len(missing) > 1:
        with suppress(TransportError):  # what did not come is asked for one by one, and complained of there
            _fetch(session, f"/studies/{study}", study, staging, frozenset(sop for _, sop in missing))
        missing = [pair for pair in wanted if not staging.has(study, *pair)]
    for series, sop in missing:
        if session.gone:
            failures.append(Failure(study, sop, GONE))
            continue
        path = f"/studies/{study}/series/{series}/instances/{sop}"
        reason = ""
        try:
            session.tries(partial(_fetch, session, path, study, staging, frozenset((sop,))))
        except TransportError as error:
            reason = str(error)
        if not staging.has(study, series, sop):
            failures.append(Failure(study, sop, reason or "the server sent nothing, or another series of it"))
    return present, failures


def _good(pair: tuple[str, str]) -> bool:
    return is_uid(pair[0]) and is_uid(pair[1])


def _fetch(session: _Session, path: str, study: str, staging: Staging, wanted: frozenset[str]) -> None:
    with session.opened(path, _ACCEPT) as answer:
        if answer.status_code == 204:
            return
        boundary = boundary_of(answer.headers.get("Content-Type", ""))
        try:
            for part in parts_of(answer.iter_bytes(), boundary):
                staging.store(part, study, wanted)
        except _PassingError:
            raise
        except TransportError as error:
            raise _PassingError(str(error)) from error
