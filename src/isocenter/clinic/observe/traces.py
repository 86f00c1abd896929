"""Traces of studies for OpenTelemetry: receive, complete, route and gate, tasks, deliveries.

Spans are made of what the ledger holds, after the fact: nothing on the way of a study waits for them, a node that was
killed tells of a study once it is answered, and ids are hashes, so what is sent twice is the same span. They go out as
JSON (OTLP over HTTP), for which nothing needs to be installed. Attributes are keys, numbers and names of ours.

Source:
    OpenTelemetry protocol 1.x, opentelemetry.proto.trace.v1, JSON encoding.
"""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final

from sqlalchemy import Connection, func, select

from isocenter.clinic.observe.logs import study_key
from isocenter.clinic.workflow.ledger import ANSWERED, COMPLETE, FAILED, WORKING, Ledger
from isocenter.clinic.workflow.tables import ANSWERS, CURSORS, DELIVERIES, EVENTS, STUDIES
from isocenter.core.errors import CapabilityError
from isocenter.version import __version__

__all__ = ["Traces"]

_LOG = logging.getLogger(__name__)
_STUDIES, _SENT = "traces/studies", "traces/deliveries"
_MOST: Final = 100
_INTERNAL, _OK, _ERROR = 1, 1, 2


class Traces:
    """What tells of studies.

    Args:
        ledger: Of the node.
        url: Where traces go.
        token: Bearer token; "" for none.
        timeout_s: Of a request.

    Raises:
        CapabilityError: httpx is not installed.
    """

    def __init__(self, ledger: Ledger, url: str, token: str = "", timeout_s: float = 10.0) -> None:
        try:
            self._httpx: Any = import_module("httpx")
        except ImportError as error:
            raise CapabilityError("traces need httpx: pip install 'isocenter[clinic]'") from error
        self._ledger, self._url, self._timeout_s = ledger, url, timeout_s
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._silent = False

    def pump(self) -> int:
        """Send what is new; return how many spans. What is not taken stays for the next time."""
        with self._ledger.engine.begin() as connection:
            after = {name: self._begin(connection, name) for name in (_STUDIES, _SENT)}
        with self._ledger.engine.connect() as connection:
            spans, study_at = _study_spans(connection, after[_STUDIES])
            more, sent_at = _delivery_spans(connection, after[_SENT])
        spans += more
        if not spans:
            return 0
        resource = {"attributes": _attributes({"service.name": "isocenter-clinic", "service.version": __version__})}
        scopes = [{"scope": {"name": "isocenter", "version": __version__}, "spans": spans}]
        content = {"resourceSpans": [{"resource": resource, "scopeSpans": scopes}]}
        try:
            answer = self._httpx.post(self._url, json=content, headers=self._headers, timeout=self._timeout_s)
            trouble = "" if answer.status_code < 300 else f"HTTP {answer.status_code}"
        except self._httpx.HTTPError as error:
            trouble = type(error).__name__
        if trouble:
            if not self._silent:
                _LOG.warning("traces are not taken: %s; they wait", trouble)
            self._silent = True
            return 0
        self._silent = False
        with self._ledger.engine.begin() as connection:
            for name, position in ((_STUDIES, study_at), (_SENT, sent_at)):
                self._ledger.put(connection, CURSORS, {"journal": name, "position": position}, "journal")
        return len(spans)

    def _begin(self, connection: Connection, name: str) -> int:
        """Return how far was told; the first time, that is now: nothing of before is told."""
        found = connection.scalar(select(CURSORS.c.position).where(CURSORS.c.journal == name))
        if found is not None:
            return int(found)
        last = connection.scalar(select(func.max(EVENTS.c.number))) or 0
        position = int(last) if name == _STUDIES else int(time.time() * 1000)
        self._ledger.put(connection, CURSORS, {"journal": name, "position": position}, "journal")
        return position


def _study_spans(connection: Connection, after: int) -> tuple[list[dict[str, Any]], int]:
    """Return the spans of studies that were answered or failed after an event, and the last one's number."""
    ended = connection.execute(
        select(EVENTS)
        .where(EVENTS.c.number > after, EVENTS.c.kind.in_((ANSWERED, FAILED)), EVENTS.c.study != "")
        .order_by(EVENTS.c.number)
        .limit(_MOST)
    ).all()
    spans = []
    for event in ended:
        after = event.number
        study = connection.execute(select(STUDIES).where(STUDIES.c.study == event.study)).first()
        if study is None:
            continue
        times = {
            kind: connection.scalar(
                select(func.max(EVENTS.c.at)).where(
                    EVENTS.c.study == event.study, EVENTS.c.kind == kind, EVENTS.c.number < event.number
                )
            )
            for kind in (COMPLETE, WORKING)
        }
        answers = connection.execute(
            select(ANSWERS).where(ANSWERS.c.study == event.study, ANSWERS.c.version == study.version)
        ).all()
        spans += _spans(event, study, times, answers)
    return spans, after


def _spans(event: Any, study: Any, times: Mapping[str, float | None], answers: Any) -> list[dict[str, Any]]:
    told = {"isocenter.study": study_key(event.study), "isocenter.version": study.version}
    trace = _trace(event.study, study.version)
    root = _id(trace, "study")
    begin = min(study.first_at, event.at)
    spans = [
        _span(trace, root, "", "study", (begin, event.at), {**told, "isocenter.instances": study.instances},
              failed=event.kind == FAILED)
    ]  # fmt: skip
    last = min(study.last_at, event.at)
    steps = [("receive", begin, last, {"isocenter.called": study.called, "isocenter.bytes": study.bytes})]
    complete, working = times[COMPLETE] or last, times[WORKING] or times[COMPLETE] or last
    steps.append(("complete", last, complete, {}))
    first = min((answer.at - answer.seconds for answer in answers), default=event.at)
    steps.append(("route and gate", working, max(working, first), {}))
    spans += [_span(trace, _id(trace, name), root, name, (a, b), told | more) for name, a, b, more in steps]
    for answer in answers:
        more = {"isocenter.task": answer.task, "isocenter.state": answer.state, "isocenter.rule": answer.rule}
        when = (answer.at - answer.seconds, answer.at)
        name = _id(trace, f"task {answer.answer}")
        spans.append(_span(trace, name, root, "task", when, told | more, failed=answer.state == "failed"))
    return spans


def _delivery_spans(connection: Connection, after: int) -> tuple[list[dict[str, Any]], int]:
    """Return the spans of deliveries that ended after a time (milliseconds), and the last one's."""
    rows = connection.execute(
        select(DELIVERIES)
        .where(DELIVERIES.c.at * 1000 > after, DELIVERIES.c.state.in_(("delivered", "dead")))
        .order_by(DELIVERIES.c.at)
        .limit(_MOST)
    ).all()
    spans = []
    for row in rows:
        after = max(after, int(row.at * 1000) + 1)
        trace = _trace(row.study, row.version)
        told = {"isocenter.study": study_key(row.study), "isocenter.destination": row.destination,
                "isocenter.tries": row.tries, "isocenter.state": row.state}  # fmt: skip
        answered = connection.scalar(
            select(func.max(ANSWERS.c.at)).where(ANSWERS.c.study == row.study, ANSWERS.c.version == row.version)
        )
        when = (min(answered or row.at, row.at), row.at)
        one = _id(trace, f"delivery {row.delivery}")
        spans.append(_span(trace, one, _id(trace, "study"), "delivery", when, told, failed=row.state == "dead"))
    return spans, after


def _trace(study: str, version: int) -> str:
    return hashlib.blake2b(f"{study}:{version}".encode(), digest_size=16).hexdigest()


def _id(trace: str, name: str) -> str:
    return hashlib.blake2b(f"{trace} {name}".encode(), digest_size=8).hexdigest()


def _span(
    trace: str, number: str, parent: str, name: str, when: tuple[float, float], told: Mapping[str, Any], *,
    failed: bool = False,
) -> dict[str, Any]:  # fmt: skip
    begin, end = (str(int(at * 1e9)) for at in (when[0], max(when)))
    return {
        "traceId": trace, "spanId": number, **({"parentSpanId": parent} if parent else {}), "name": name,
        "kind": _INTERNAL, "startTimeUnixNano": begin, "endTimeUnixNano": end, "attributes": _attributes(told),
        "status": {"code": _ERROR if failed else _OK},
    }  # fmt: skip


def _attributes(told: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [
        {"key": key, "value": {"intValue": str(value)} if isinstance(value, int) else {"stringValue": str(value)}}
        for key, value in told.items()
    ]
