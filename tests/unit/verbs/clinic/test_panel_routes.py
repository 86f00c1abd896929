"""The node's own routes, with SQLite and PostgreSQL: what they show is there, and what is no word is refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from isocenter.verbs.clinic import load_clinic_config
from observed_store import STUDY, busy_store
from postgres_peer import Databases

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")
from isocenter.verbs.clinic.panel import router  # noqa: E402
from isocenter.verbs.clinic.web import NodeWeb  # noqa: E402


@pytest.fixture
def client(databases: Databases, tmp_path: Path) -> Iterator[Any]:
    store, file = tmp_path / "store", tmp_path / "clinic.yaml"
    content = {
        "store": str(store), "acceptors": 1, **databases.settings(store),
        "entities": [{"title": "ISOCENTER", "port": 0, "callers": [{"title": "SCANNER"}]}],
        "destinations": {"pacs": {"kind": "dimse", "title": "P", "host": "127.0.0.1", "port": 104}},
    }  # fmt: skip
    file.write_text(yaml.safe_dump(content))
    ledger = busy_store(store, databases.url(store))
    app = fastapi.FastAPI()
    app.include_router(router(NodeWeb(load_clinic_config(file), ledger, store)))
    with testclient.TestClient(app) as made:
        yield made
    ledger.engine.dispose()


def test_what_is_shown(client: Any) -> None:
    status = client.get("/node/v1/status").json()
    assert status["studies"] == {"answered": 1, "arriving": 2, "complete": 1, "failed": 1, "working": 1}
    assert [one["destination"] for one in status["dead_letters"]] == ["pacs"]
    assert len(client.get("/node/v1/studies", params={"state": "arriving"}).json()) == 2
    assert len(client.get("/node/v1/deliveries", params={"destination": "pacs", "state": "delivered"}).json()) == 1
    events = client.get("/node/v1/events", params={"limit": 5}).json()
    older = client.get("/node/v1/events", params={"limit": 5, "before": events[-1]["number"]}).json()
    assert [one["number"] for one in events + older] == sorted((one["number"] for one in events + older), reverse=True)
    assert "isocenter_studies" in client.get("/metrics").text
    assert STUDY.format(0)[-20:] in client.get("/panel").text
    asked = {"deliveries": ["b" * 64], "studies": [STUDY.format(1)]}
    assert client.post("/node/v1/replay", json=asked).json() == {"deliveries": 1, "studies": 1}


def test_what_is_no_word_is_refused(client: Any) -> None:
    for path in ("events?kind=%00", "events?before=99999999999999999999", "studies?state=a%00", "deliveries?state=%00",
                 "deliveries?destination=x%00"):  # fmt: skip
        assert client.get(f"/node/v1/{path}").status_code == 422, path
    for words in (["\0"], ["x" * 65]):
        assert client.post("/node/v1/replay", json={"deliveries": words}).status_code == 422
        assert client.post("/node/v1/replay", json={"studies": words}).status_code == 422
