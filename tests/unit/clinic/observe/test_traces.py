"""Traces: one for each study and version, the same whenever it is sent, and without a patient's value or UID."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from isocenter.clinic.observe import study_key
from isocenter.clinic.observe.traces import Traces
from observed_store import STUDY, busy_store

pytest.importorskip("httpx")
pytestmark = pytest.mark.enable_socket


@pytest.fixture
def collector() -> Iterator[HTTPServer]:
    """A collector that keeps what it is sent, and refuses while it is told to."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            content = self.rfile.read(int(self.headers["Content-Length"]))
            if not server.down:  # type: ignore[attr-defined]
                server.got.append((self.headers["Authorization"], json.loads(content)))  # type: ignore[attr-defined]
            self.send_response(503 if server.down else 200)  # type: ignore[attr-defined]
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = HTTPServer(("127.0.0.1", 0), Handler)
    server.got, server.down = [], False  # type: ignore[attr-defined]
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_a_study_is_told_once_and_again_alike(tmp_path: Path, collector: HTTPServer) -> None:
    ledger = busy_store(tmp_path)
    traces = Traces(ledger, f"http://127.0.0.1:{collector.server_port}/v1/traces", "token")
    assert traces.pump() == 0, "nothing of before"
    ledger.mark(STUDY.format(0), 1, "answered", "3 answers")
    ledger.delivered("c" * 64)
    collector.down = True  # type: ignore[attr-defined]
    assert traces.pump() == 0
    collector.down = False  # type: ignore[attr-defined]
    count = traces.pump()
    assert traces.pump() == 0
    ((token, content),) = collector.got  # type: ignore[attr-defined]
    assert token == "Bearer token"
    (scope,) = content["resourceSpans"][0]["scopeSpans"]
    spans = scope["spans"]
    assert count == len(spans) == 8
    assert sorted(s["name"] for s in spans) == sorted(
        ["study", "receive", "complete", "route and gate", "task", "task", "task", "delivery"]
    )
    assert len({s["traceId"] for s in spans}) == 1 and len({s["spanId"] for s in spans}) == 8
    assert all(len(s["traceId"]) == 32 and len(s["spanId"]) == 16 for s in spans)
    root = next(s for s in spans if s["name"] == "study")
    assert {s.get("parentSpanId") for s in spans} == {None, root["spanId"]}
    assert all(int(s["startTimeUnixNano"]) <= int(s["endTimeUnixNano"]) for s in spans)
    text = json.dumps(content)
    assert study_key(STUDY.format(0)) in text and STUDY.format(0) not in text
    ledger.engine.dispose()
