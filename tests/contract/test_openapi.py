"""What the OpenAPI documents of the node's and the viewer's apps say holds, and what they allow breaks nothing.

Schemathesis makes requests of each operation, good ones and bad ones, and they are asked of the app in this process: no
answer tells of a defect, and each one that the document describes is as it says.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import response_schema_conformance
from starlette.testclient import TestClient

from isocenter.clinic.workflow import open_ledger
from isocenter.verbs.clinic import load_clinic_config
from isocenter.verbs.clinic.web import NodeWeb, node_app
from serving_cases import API, served, write_folder
from unit.verbs.clinic.test_clinic_config import written

pytestmark = pytest.mark.long("make fuzz")
TOKEN = "a-token-of-the-tests"
NOT_OFFERED = (501, 502, 503, 507)
"""Said on purpose: not offered, another system, full, no room. Anything else of 500 on is a defect."""
EACH = 4


@pytest.fixture(scope="module")
def viewer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("viewer")
    with served(write_folder(folder / "in"), folder / "work") as client:
        yield client, client.get(f"{API}/openapi.json").json()


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[TestClient, dict[str, Any]]]:
    folder = tmp_path_factory.mktemp("node")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODE_TOKEN", TOKEN)
        config = load_clinic_config(written(folder, {"web": {"token": {"env": "NODE_TOKEN"}}}))
        ledger = open_ledger(config.database_url("ledger.db"))
        app = node_app(NodeWeb(config, ledger, config.store))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with TestClient(app, base_url="http://127.0.0.1", headers=headers) as client:
            yield client, client.get("/node/v1/openapi.json").json()


def ask_all(client: TestClient, document: dict[str, Any], mode: GenerationMode) -> int:
    """Ask every operation; return how many answers came."""
    count = 0
    base = str(client.base_url).rstrip("/")
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        operation = found.ok()

        @settings(
            max_examples=EACH, database=None, derandomize=True, deadline=None, phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=operation.as_strategy(generation_mode=mode))
        def ask(case: Any) -> None:
            nonlocal count
            given = {k: v for k, v in case.as_transport_kwargs(base_url=base).items() if v is not None}
            given["headers"] = {k: v for k, v in dict(given.get("headers", {})).items() if k.lower() != "user-agent"}
            answer = client.request(**given, follow_redirects=False)
            told = f"{given['method']} {given['url']}: {answer.status_code} {answer.text[:300]}"
            assert answer.status_code < 500 or answer.status_code in NOT_OFFERED, told
            case.validate_response(answer, checks=[response_schema_conformance])
            count += 1

        ask()
    return count


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_viewer(viewer: tuple[TestClient, dict[str, Any]], mode: GenerationMode) -> None:
    assert ask_all(*viewer, mode) > 40


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_the_node(node: tuple[TestClient, dict[str, Any]], mode: GenerationMode) -> None:
    assert ask_all(*node, mode) > 40


BODIES = (
    b'"\\ud800"',
    b"NaN",
    b"1e999",
    b"[" * 3000 + b"]" * 3000,
    b"\xff\xfe",
    b"{",
    b'{"\\u0000": "\\ud800"}',
    b"9" * 5000,
)


@pytest.mark.parametrize("app", ["viewer", "node"])
def test_bodies_that_are_no_answerable_json(app: str, request: pytest.FixtureRequest) -> None:
    client, document = request.getfixturevalue(app)
    asked = 0
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            fields = _fields(document, operation)
            for body in (*BODIES, *(b'{"%s": %s}' % (name.encode(), value) for name in fields for value in BODIES[:4])):
                if method == "get":
                    continue
                address = re.sub(r"\{[^}]*\}", "1", path)
                answer = client.request(
                    method, address, content=body, headers={"Content-Type": "application/json"}, follow_redirects=False
                )
                assert answer.status_code < 500 or answer.status_code in NOT_OFFERED, (method, path, body[:40])
                asked += 1
    assert asked > 40


def _fields(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    """Return the names of the fields of an operation's body."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return list(document.get("components", {}).get("schemas", {}).get(name, {}).get("properties", {}))
