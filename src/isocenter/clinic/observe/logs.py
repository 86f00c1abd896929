"""Logs of a node: one JSON object a line, and never a patient's value.

Our own messages are fixed words with titles, numbers and reasons of ours; UIDs in them become the keys by which the
store names its folders. What other libraries say, and the words of their errors, may hold anything from a header: of
these only where they come from is written. The same filter stands before the plain form.
"""

from __future__ import annotations

import json
import logging
import logging.handlers
import multiprocessing
import os
import re
import sys
import threading
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Literal

from isocenter.core.errors import IsocenterError

__all__ = ["LogSettings", "rotate", "setup_logs", "study_key"]

_UID: Final = re.compile(r"(?<![\d.])(?:[012](?:\.\d+){4,}|2\.25\.\d{9,})")
_OURS: Final = "isocenter"
_WITHHELD: Final = "a message of another library; its words are withheld"
_KEY_LETTERS: Final = 16


@dataclass(frozen=True)
class LogSettings:
    """Where logs go.

    Args:
        form: "json", or "text" for people.
        file: A file that the node rotates; None for standard error.
        level: The least that is written.
        most_bytes: Of a file, before it is rotated.
        files: Older files that are kept.
    """

    form: Literal["json", "text"] = "json"
    file: Path | None = None
    level: Literal["debug", "info", "warning", "error"] = "info"
    most_bytes: int = 50 << 20
    files: int = 10


def study_key(uid: str) -> str:
    """Return what a log says for a UID: the same for the same, and no way back but by trying UIDs that one has.

    Example:
        >>> study_key("1.2.3") == study_key("1.2.3") != study_key("1.2.4")
        True
    """
    return blake2b(uid.encode(), digest_size=16).hexdigest()[:_KEY_LETTERS]


def setup_logs(settings: LogSettings) -> None:
    """Set up the log of this process: handlers, warnings, and errors that nobody caught.

    Args:
        settings: Where logs go.

    Raises:
        OSError: The file can't be opened.
    """
    handler: logging.Handler
    if settings.file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        settings.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handler = _OwnFile(settings.file)
    handler.setFormatter(JsonLines() if settings.form == "json" else PlainLines())
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.level.upper())
    # How an association of ours went, our own lines say; pynetdicom's four to each, without their words, drown them.
    logging.getLogger("pynetdicom").setLevel(logging.NOTSET if settings.level == "debug" else logging.CRITICAL)
    # DBOS would write traces to standard error, whose words may hold anything; where a handler is, it adds none.
    durable = logging.getLogger("dbos")
    for old in durable.handlers[:]:
        durable.removeHandler(old)
    durable.addHandler(logging.NullHandler())
    durable.propagate = True
    logging.captureWarnings(True)
    sys.excepthook = _uncaught
    threading.excepthook = _uncaught_in_thread


def rotate(settings: LogSettings) -> bool:
    """Put a log that is too long aside; return whether it was. The node alone does it; other processes follow.

    Args:
        settings: Where logs go.
    """
    file = settings.file
    if file is None:
        return False
    try:
        if file.stat().st_size <= settings.most_bytes:
            return False
        for number in range(settings.files - 1, 0, -1):
            with suppress(FileNotFoundError):
                file.with_name(f"{file.name}.{number}").replace(file.with_name(f"{file.name}.{number + 1}"))
        file.replace(file.with_name(f"{file.name}.1")) if settings.files else file.unlink()
    except OSError:
        return False
    return True


class _OwnFile(logging.handlers.WatchedFileHandler):
    """A file that its owner alone may read; each record is one write at its end, so processes may share it."""

    def _open(self) -> IO[Any]:  # type: ignore[override]
        descriptor = os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        return os.fdopen(descriptor, "a", encoding="utf-8")


class JsonLines(logging.Formatter):
    """Records as JSON."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        told: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "component": _component(),
            "pid": record.process,
            "logger": record.name,
        }
        return json.dumps({**told, **_content(record)}, ensure_ascii=True)


class PlainLines(logging.Formatter):
    """Records for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record as one line."""
        content = _content(record)
        error = f" [{content['error']} at {content.get('at', '')}]" if "error" in content else ""
        when = self.formatTime(record)
        words = str(content["message"]).replace("\n", " ")
        return f"{when} {record.levelname} {_component()} {record.name} {words}{error}"


def _component() -> str:
    name = multiprocessing.current_process().name
    return "node" if name == "MainProcess" else name.removeprefix("isocenter-")


def _content(record: logging.LogRecord) -> dict[str, Any]:
    """Return what may be told of a record: event, message, study, error."""
    told: dict[str, Any] = {}
    if record.name == _OURS or record.name.startswith(f"{_OURS}."):
        message = record.getMessage()
        uids = _UID.findall(message)
        event = getattr(record, "event", None) or str(record.msg).partition("%")[0].strip(" :,('")
        told["event"] = event or "message"
        told["message"] = _UID.sub(lambda found: study_key(found[0]), message)
        study = getattr(record, "study", "") or (uids[0] if uids else "")
        if study:
            told["study"] = study_key(study)
    else:
        told["event"], told["message"] = "library", _WITHHELD
        told["at"] = f"{record.module}:{record.lineno}"
    if record.exc_info and record.exc_info[1] is not None:
        told.update(_error(record.exc_info[1], record.exc_info[2]))
    return told


def _error(error: BaseException, trace: TracebackType | None) -> dict[str, str]:
    """Return kind and place of an error; its words only where they are ours."""
    told = {"error": type(error).__name__}
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is not None:
        told["at"] = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
    if isinstance(error, IsocenterError):
        told["reason"] = _UID.sub(lambda found: study_key(found[0]), str(error))
    return told


def _uncaught(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger(_OURS).critical("a process ends by an error", exc_info=(kind, error, trace))


def _uncaught_in_thread(told: threading.ExceptHookArgs) -> None:
    if told.exc_value is None or issubclass(told.exc_type, SystemExit):
        return
    logging.getLogger(_OURS).error(
        "a thread ends by an error", exc_info=(told.exc_type, told.exc_value, told.exc_traceback)
    )
