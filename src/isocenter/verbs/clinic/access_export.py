"""The record of access, sent on to an audit repository: a part of the node, that begins where it left off."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import time
from collections.abc import Callable
from pathlib import Path

from isocenter.clinic.access.atna import SyslogTls, audit_message, syslog_frame
from isocenter.core.errors import ConfigError, IsocenterError
from isocenter.data.images.atomic import atomic_path
from isocenter.safety.chain import read_chain
from isocenter.verbs.clinic.access import RECORD_FORM, access_record
from isocenter.verbs.clinic.config import ClinicConfig

__all__ = ["export_of", "send_on"]

_LOG = logging.getLogger(__name__)
_LOOK_S = 0.5
_LONGEST_WAIT_S = 60.0
_MOST_BYTES = 1 << 20


def export_of(config: ClinicConfig, stopped: Callable[[], bool]) -> None:
    """Send the record on, in this process, until told to stop; what could not be sent is sent later.

    Raises:
        ConfigError: There is no section `access`, `syslog`, or a file of it can't be used.
    """
    if config.access is None or config.access.syslog is None:
        raise ConfigError("no audit repository is named: access.syslog")
    told, record = config.access.syslog, access_record(config)
    repository = SyslogTls(told.host, told.port, _context(told.tls.authorities, told.tls.certificate, told.tls.key))
    seen, wait, next_at = (-1, -1), 1.0, 0.0
    try:
        while not stopped():
            time.sleep(_LOOK_S)
            now = _seen(record)
            if now == seen or time.monotonic() < next_at:
                continue
            try:
                send_on(record, repository, told.site)
                seen, wait = now, 1.0
            except IsocenterError as error:
                _LOG.error("the record of access is sent on later: %s", error)
                next_at, wait = time.monotonic() + wait, min(_LONGEST_WAIT_S, wait * 2)
    finally:
        repository.close()


def send_on(record: Path, repository: SyslogTls, site: str = "") -> int:
    """Send the lines that were not sent yet; return how many.

    Args:
        record: The record. Beside it stands how many of its lines were sent.
        repository: Where to.
        site: Audit Enterprise Site ID.

    Raises:
        TransportError: The repository can't be reached: these lines are sent again.
        DataError: The record was altered: nothing after that is sent.
        OutputError: How far it is can't be written down.
    """
    mark = record.with_suffix(".sent")
    sent = int(mark.read_text("ascii")) if mark.is_file() else 0
    host, process, before = socket.gethostname(), os.getpid(), sent
    frames, last = b"", sent
    if record.is_file():
        for line in read_chain(record, RECORD_FORM):
            if line.number <= sent:
                continue
            message = audit_message(line.content, line.time, "isocenter", site)
            frames += syslog_frame(message, line.time, host, process, int(line.content["outcome"]))
            last = line.number
            if len(frames) > _MOST_BYTES:
                repository.send(frames)
                frames, sent = b"", last
                _mark(mark, sent)
    if frames:
        repository.send(frames)
        sent = last
        _mark(mark, sent)
    return sent - before


def _mark(mark: Path, sent: int) -> None:
    with atomic_path(mark) as temporary:
        temporary.write_text(str(sent), "ascii")


def _seen(record: Path) -> tuple[int, int]:
    try:
        found = record.stat()
    except OSError:
        return -1, -1
    return found.st_size, found.st_mtime_ns


def _context(authorities: Path | None, certificate: Path | None, key: Path | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=None if authorities is None else str(authorities))
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if certificate is not None:
            context.load_cert_chain(certificate, key)
    except OSError as error:
        raise ConfigError("certificate, key or authorities of access.syslog can't be used") from error
    return context
