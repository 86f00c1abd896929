"""What the OpenAPI documents of the node's and the viewer's apps say holds, and what they allow breaks nothing.

Schemathesis makes requests of each operation, good ones and bad ones, of things that are there and of others, and they
are asked of the app in this process: no answer tells of a defect, and each is one that the document promises, by
status, media type and content. `make fuzz` asks more often.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from benchmarks._fuzz_bytes import Target, dataset, part10
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis.generation import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from starlette.testclient import TestClient

from isocenter.clinic.workflow import open_ledger
from isocenter.verbs.clinic import load_clinic_config
from isocenter.verbs.clinic.web import NodeWeb, node_app
from serving_cases import API, opened, served, studies, write_folder
from unit.verbs.clinic.test_clinic_config import written

TOKEN = "a-token-of-the-tests"
NOT_OFFERED = (501, 502, 503, 507)
"""Said on purpose: not offered, another system, full, no room. Anything else of 500 on is a defect."""
EACH = 30 if os.environ.get("ISOCENTER_LONG") == "1" else 2
CHECKS = [
    status_code_conformance, content_type_conformance, response_schema_conformance, response_headers_conformance,
]  # fmt: skip
COSTLY = re.compile(r"^POST .*/(readings|exports)$")
"""Would set models to work on what is there: asked of what is not there alone."""


@dataclass
class Asked:
    """An app, its document, and names of what is there, by the names of the document's parameters."""

    client: TestClient
    document: dict[str, Any]
    known: Mapping[str, str]
    statuses: Counter[int] = field(default_factory=Counter)
    operations: set[str] = field(default_factory=set)

    @property
    def labels(self) -> set[str]:
        """All operations of the document."""
        return {f"{method.upper()} {path}" for path, methods in self.document["paths"].items() for method in methods}

    def send(self, method: str, url: str, **given: Any) -> httpx.Response:
        """Send a request; no answer of a defect is ever taken."""
        answer = self.client.request(method, url, follow_redirects=False, **given)
        told = f"{method} {url}: {answer.status_code} {answer.text[:300]}"
        assert answer.status_code < 500 or answer.status_code in NOT_OFFERED, told
        self.statuses[answer.status_code] += 1
        return answer


@contextmanager
def viewer_app(folder: Path) -> Iterator[Asked]:
    with served(write_folder(folder / "in"), folder / "work") as client:
        study = studies(client)[0]["id"]
        known = {"study": study, "image": opened(client, study)["images"][0]["id"]}
        yield Asked(client, client.get(f"{API}/openapi.json").json(), known)


@contextmanager
def of_node(folder: Path) -> Iterator[Asked]:
    """A node that holds one instance and one workitem."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("NODE_TOKEN", TOKEN)
        config = load_clinic_config(written(folder, {"web": {"token": {"env": "NODE_TOKEN"}}}))
        config.store.mkdir()
        ledger = open_ledger(config.database_url("ledger.db"))
        app = node_app(NodeWeb(config, ledger, config.store))
        headers = {"Authorization": f"Bearer {TOKEN}"}
        with TestClient(app, base_url="http://127.0.0.1", headers=headers) as client:
            one = dataset(Target(0, 0, 0, "1.2.826.0.1.7"), "1.2.826.0.1.7.1", "1.2.826.0.1.7.2")
            kind = 'multipart/related; type="application/dicom"; boundary=b'
            content = b"--b\r\nContent-Type: application/dicom\r\n\r\n" + part10(one) + b"\r\n--b--"
            assert client.post("/dicomweb/studies", content=content, headers={"Content-Type": kind}).status_code == 200
            ledger.take_in(config.store / "journal")
            known = {
                "study": one.StudyInstanceUID, "series": one.SeriesInstanceUID, "sop": one.SOPInstanceUID,
                "frames": "1", "tag": "7FE00010", "uid": "1.2.826.0.1.7.3", "subscriber": "FOLLOWER",
            }  # fmt: skip
            yield Asked(client, client.get("/node/v1/openapi.json").json(), known)


@pytest.fixture(scope="module", params=["viewer", "node"])
def asked(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    folder = tmp_path_factory.mktemp(request.param)
    with viewer_app(folder) if request.param == "viewer" else of_node(folder) as found:
        yield found


def as_bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else str(value).encode("latin-1", "replace")


@schemathesis.serializer("multipart/related")
def of_one_part(_context: Any, value: Any) -> bytes:
    """Return a body of STOW-RS whose only part is whatever Schemathesis makes."""
    return b"--b\r\nContent-Type: application/dicom\r\n\r\n" + as_bytes(value) + b"\r\n--b--\r\n"


def request_of(case: Any, base: str) -> dict[str, Any]:
    """Return a case as the client of an app takes it."""
    given = {k: v for k, v in case.as_transport_kwargs(base_url=base).items() if v is not None}
    cookies = given.pop("cookies", None) or {}
    headers = [
        (as_bytes(k), as_bytes(v)) for k, v in dict(given.pop("headers", {})).items() if k.lower() != "user-agent"
    ]
    headers += [(b"cookie", as_bytes(f"{name}={value}")) for name, value in cookies.items()]
    if isinstance(given.get("data"), bytes | str):
        given["content"] = given.pop("data")
        if as_bytes(given["content"]).startswith(b"--b\r\n"):
            headers = [(k, v) for k, v in headers if k.lower() != b"content-type"]
            headers.append((b"content-type", b'multipart/related; type="application/dicom"; boundary=b'))
    return {**given, "headers": headers}


def asking(asked: Asked, operation: Any, mode: GenerationMode) -> Callable[[], None]:
    """Return what asks an operation a few times."""
    label, base = operation.label, str(asked.client.base_url).rstrip("/")

    @settings(
        max_examples=EACH, database=None, derandomize=True, deadline=None, phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(case=operation.as_strategy(generation_mode=mode), there=st.booleans())
    def ask(case: Any, there: bool) -> None:
        if there and not COSTLY.match(label):
            names = case.path_parameters or {}
            case.path_parameters = {name: asked.known.get(name, value) for name, value in names.items()}
        given = request_of(case, base)
        answer = asked.send(given.pop("method"), given.pop("url"), **given)
        case.validate_response(answer, checks=CHECKS)
        asked.operations.add(label)

    return ask


def ask_all(asked: Asked, mode: GenerationMode) -> set[str]:
    """Ask every operation, and tell all that was wrong; return those of which nothing of the kind can be asked."""
    without, wrong = set(), []
    for found in schemathesis.openapi.from_dict(asked.document).get_all_operations():
        operation = found.ok()
        if mode is GenerationMode.NEGATIVE and _takes_anything(asked.document, operation.path, operation.method):
            continue
        try:
            asking(asked, operation, mode)()
        except Unsatisfiable:
            without.add(operation.label)
        except Exception as error:  # noqa: BLE001  # of each operation is told what is wrong with it
            wrong.append(f"{operation.label}: {type(error).__name__}: {error}"[:700])
    assert not wrong, f"{len(wrong)} operations\n" + "\n----\n".join(wrong)
    return without


def test_good_requests_are_answered_as_the_document_says(asked: Asked) -> None:
    assert ask_all(asked, GenerationMode.POSITIVE) == set()
    assert asked.operations == asked.labels
    assert sum(count for status, count in asked.statuses.items() if status < 300) > 20, asked.statuses
    assert sum(count for status, count in asked.statuses.items() if 400 <= status < 500) > 20, asked.statuses


def test_bad_requests_are_answered_as_the_document_says(asked: Asked) -> None:
    before = asked.statuses.total()
    assert ask_all(asked, GenerationMode.NEGATIVE) == set()
    assert asked.statuses.total() - before > 20


def _takes_anything(document: dict[str, Any], path: str, method: str) -> bool:
    """Tell whether a route takes nothing that could be in no form: no body but bytes, and any names in its path."""
    told = document["paths"][path][method.lower()]
    formed = [p for p in told.get("parameters", ()) if p["in"] != "path" or "pattern" in p["schema"]]
    return not formed and set(told.get("requestBody", {}).get("content", {})) <= {"multipart/related"}


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


def test_bodies_that_are_no_answerable_json(asked: Asked) -> None:
    before = asked.statuses.total()
    for path, methods in asked.document["paths"].items():
        for method, operation in methods.items():
            if method == "get":
                continue
            fields = _fields(asked.document, operation)
            for body in (*BODIES, *(b'{"%s": %s}' % (name.encode(), value) for name in fields for value in BODIES[:4])):
                address = re.sub(r"\{[^}]*\}", "1", path)
                asked.send(method.upper(), address, content=body, headers={"Content-Type": "application/json"})
    assert asked.statuses.total() - before > 40


def _fields(document: dict[str, Any], operation: dict[str, Any]) -> list[str]:
    """Return the names of the fields of an operation's body."""
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    name = content.get("schema", {}).get("$ref", "").rpartition("/")[2]
    return list(document.get("components", {}).get("schemas", {}).get(name, {}).get("properties", {}))
