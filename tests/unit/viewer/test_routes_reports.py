"""The routes of drafts, questions and outlooks: what they answer, how they refuse, and what OpenAPI says of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from draft_cases import STUDY, read_ct, readings
from e2e.conftest import MARKERS
from isocenter.verbs.serving.asking import Conversations
from isocenter.verbs.serving.drafts import DraftKeeper
from isocenter.viewer.app import create_app
from isocenter.viewer.ports import Ports
from isocenter.viewer.settings import Settings

TOKEN = "a-token-of-the-tests-0123"


class NoLibrary:
    """No study is looked at here: readings are given."""

    identified, kind = True, "folder"

    def __getattr__(self, name: str) -> object:
        raise AssertionError(name)

    studies = study = study_of = image_item = planes = image = picture = nifti = lambda self, *_: None


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("routes")
    with pytest.MonkeyPatch.context() as patch:
        read_ct(folder, patch.syspath_prepend)
    return folder


@pytest.fixture
def client(read: Path, tmp_path: Path) -> Iterator[TestClient]:
    place = readings(read / "result", read / "study")
    ports = Ports(library=NoLibrary(), drafts=DraftKeeper(tmp_path / "drafts", place), asking=Conversations(place))
    app = create_app(ports, Settings(token=TOKEN))
    headers = {"Authorization": f"Bearer {TOKEN}", "X-Isocenter-Reader": "ab"}
    with TestClient(app, base_url="http://127.0.0.1:8470", headers=headers) as made:
        yield made


def test_the_story_of_a_draft(client: TestClient) -> None:
    assert client.get(f"/api/v1/studies/{STUDY}/drafts").json() == []
    made = client.post(f"/api/v1/studies/{STUDY}/draft", json={"language": "en", "indication": "Mass?"})
    assert made.status_code == 201
    draft = made.json()
    assert client.post(f"/api/v1/studies/{STUDY}/draft", json={}).status_code == 200
    sections = draft["parts"][0]["sections"]
    given = [{"id": s["id"], "section": x["name"], "text": s["text"]} for x in sections for s in x["sentences"]]
    turned = [{**s, "text": s["text"].replace("Left", "Right")} for s in given]
    after = client.put(f"/api/v1/drafts/{draft['id']}", json={"version": 1, "sentences": turned}).json()
    assert after["version"] == 2 and after["withheld"] >= 1 and after["reader"] == "ab"
    refused = client.post(f"/api/v1/drafts/{draft['id']}/sign", json={"version": 2, "by": "A. Reader"})
    assert refused.status_code == 409 and refused.json()["code"] == "withheld_sentences"
    assert refused.headers["content-type"] == "application/problem+json"
    stale = client.put(f"/api/v1/drafts/{draft['id']}", json={"version": 1, "sentences": given})
    assert (stale.status_code, stale.json()["code"]) == (409, "stale") and "by ab" in stale.json()["detail"]
    client.put(f"/api/v1/drafts/{draft['id']}", json={"version": 2, "sentences": given})
    signed = client.post(f"/api/v1/drafts/{draft['id']}/sign", json={"version": 3, "by": "A. Reader"}).json()
    assert [f["form"] for f in signed["signed"]["files"]] == ["sr", "fhir", "pdf"]
    for file in signed["signed"]["files"]:
        sent = client.get(file["url"])
        assert sent.status_code == 200 and hashlib.sha256(sent.content).hexdigest() == file["sha256"]
        assert sent.headers["x-content-type-options"] == "nosniff"
        assert file["name"] in sent.headers["content-disposition"]
    assert (
        client.put(f"/api/v1/drafts/{draft['id']}", json={"version": 3, "sentences": given}).json()["code"] == "signed"
    )
    amended = client.post(f"/api/v1/drafts/{draft['id']}/amend", json={"version": 3})
    assert amended.status_code == 201 and amended.json()["amends"] == 3
    assert [d["version"] for d in client.get(f"/api/v1/studies/{STUDY}/drafts").json()] == [4]
    old = client.get(f"/api/v1/drafts/{draft['id']}", params={"version": 3}).json()
    assert old["signed"] == signed["signed"]


def test_the_story_of_a_question(client: TestClient) -> None:
    found = client.post(f"/api/v1/studies/{STUDY}/ask", json={"question": "How large is the left adrenal gland?"})
    answer = found.json()
    assert found.status_code == 200 and answer["outcome"] == "answered"
    assert answer["answer"][0]["evidence"][0]["index_zyx"]
    assert not any(marker in found.text for marker in MARKERS)
    gone = client.post(f"/api/v1/studies/{STUDY}/ask", json={"question": "why?", "conversation": "0" * 16})
    assert (gone.status_code, gone.json()["code"]) == (410, "session_expired")


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", f"/studies/{STUDY}/draft", {"language": "de"}, 422),
        ("POST", f"/studies/{'9' * 16}/draft", {}, 404),
        ("POST", f"/studies/{'0' * 16}/draft", {}, 409),
        ("POST", "/studies/..%2f..%2fetc/draft", {}, 404),
        ("GET", f"/drafts/{'9' * 16}", None, 404),
        ("GET", "/drafts/..", None, 404),
        ("GET", f"/drafts/{'9' * 16}/files/1/..%2f..%2fresult.json", None, 404),
        ("PUT", f"/drafts/{'9' * 16}", {"version": 1, "sentences": []}, 404),
        ("PUT", f"/drafts/{'9' * 16}", {"version": 1, "sentences": [{"section": "findings", "text": "x" * 1001}]}, 422),
        ("PUT", f"/drafts/{'9' * 16}", {"version": 1, "sentences": [{"section": "elsewhere", "text": "x"}]}, 422),
        ("POST", f"/drafts/{'9' * 16}/sign", {"version": 1, "by": ""}, 422),
        ("POST", f"/studies/{STUDY}/ask", {"question": "x" * 2001}, 422),
        ("GET", f"/studies/{STUDY}/prognosis", None, 501),
        ("GET", f"/studies/{STUDY}/treatment", None, 501),
    ],
)
def test_what_is_wrong_is_told_as_a_problem(
    client: TestClient, method: str, path: str, body: object, status: int
) -> None:
    found = client.request(method, f"/api/v1{path}", json=body)
    assert found.status_code == status, found.text
    assert found.headers["content-type"] == "application/problem+json" and found.json()["detail"]


def test_nobody_without_the_token_and_no_other_site(client: TestClient) -> None:
    path = f"/api/v1/studies/{STUDY}/draft"
    assert client.post(path, json={}, headers={"Authorization": "Bearer x"}).status_code == 401
    assert client.post(path, json={}, headers={"Origin": "http://elsewhere.example"}).status_code == 403


def test_openapi_says_what_a_draft_is(client: TestClient) -> None:
    found = client.get("/api/v1/openapi.json").json()
    assert {"Draft", "Outlook", "AskAnswer", "Place"} <= set(found["components"]["schemas"])
    assert "put" in found["paths"]["/api/v1/drafts/{draft}"]
