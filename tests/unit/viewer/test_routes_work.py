"""The work list over HTTP: plan, next, done, skipped, told of a second writer, agreement, export."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from isocenter.verbs.serving.worklist import LabelWork
from serving_cases import API, BASE, TOKEN
from work_cases import SmallLibrary, SmallMasks

pytest.importorskip("fastapi")


class Served:
    """A server over the small library."""

    def __init__(self, folder) -> None:
        from isocenter.viewer.app import create_app
        from isocenter.viewer.ports import Ports
        from isocenter.viewer.settings import Settings

        self.library = SmallLibrary(12)
        self.masks = SmallMasks(self.library)
        self.work = LabelWork(folder, self.library, self.masks)
        app = create_app(Ports(library=self.library, work=self.work), Settings(token=TOKEN))
        self.client = TestClient(app, base_url=BASE, headers={"Authorization": f"Bearer {TOKEN}"})

    def ask(self, method: str, path: str, *, reader: str = "", status: int = 200, **more):
        headers = {"X-Isocenter-Reader": reader} if reader else {}
        answer = self.client.request(method, f"{API}/work{path}", headers=headers, **more)
        assert answer.status_code == status, answer.text
        return answer.json()


@pytest.fixture
def served(tmp_path) -> Iterator[Served]:
    made = Served(tmp_path)
    with made.client:
        yield made
    made.work.close()


PLAN = {
    "version": 0,
    "labels": [{"name": "knee"}, {"name": "grade", "kind": "class", "classes": ["none", "mild", "severe"]}],
    "readers": ["AB", "CD"],
    "shared": 1.0,
}


def test_from_a_plan_to_an_export(served):
    empty = served.ask("GET", "")
    assert empty["total"] == 0 and empty["plan"]["version"] == 0
    assert served.ask("PUT", "/plan", json=PLAN)["version"] == 1
    served.work.wait()
    page = served.ask("GET", "?limit=5")
    assert page["total"] == 24 and len(page["items"]) == 5 and page["counts"]["open"] == 48
    assert served.ask("GET", "?reader=AB&state=open&label=knee")["total"] == 12

    for reader, shift in (("AB", 0), ("CD", 1)):
        while (item := served.ask("POST", "/next", reader=reader, json={"label": "knee"})["item"]) is not None:
            mask = served.masks.add(item["image"], "knee", reader, shift=shift)
            done = {"version": item["version"], "state": "done", "answer": mask}
            turn = served.ask("PUT", f"/items/{item['id']}", reader=reader, json=done)["turns"]
            assert (reader, "done", mask) in [(t["reader"], t["state"], t["answer"]) for t in turn]

    agreed = served.ask("GET", "/agreement?label=knee&tolerance_mm=1")
    assert agreed["pairs"][0]["images"] == 12 and agreed["pairs"][0]["dice"]["low"] is not None
    assert len(agreed["disagreements"]) == 12

    told = served.ask("POST", "/exports", status=201, json={"form": "nnunet", "labels": ["knee"]})
    answer = served.client.get(f"{API}/work/exports/{told['id']}.zip")
    assert answer.headers["content-type"] == "application/zip"
    with zipfile.ZipFile(io.BytesIO(answer.content)) as packed:
        assert sum(name.endswith("_0000.nii.gz") for name in packed.namelist()) == told["cases"] == 12


def test_skipped_given_back_wanted_again_and_stale(served):
    served.ask("PUT", "/plan", json=PLAN)
    served.work.wait()
    item = served.ask("POST", "/next", reader="AB", json={"label": "grade"})["item"]
    where = f"/items/{item['id']}"
    version = item["version"]
    problem = served.ask("PUT", where, reader="AB", status=400, json={"version": version, "state": "skipped"})
    assert "why" in problem["detail"]
    after = served.ask("PUT", where, reader="AB", json={"version": version, "state": "done", "answer": "mild"})
    stale = served.ask("PUT", where, reader="CD", status=409, json={"version": version, "state": "open"})
    assert stale["code"] == "stale"
    again = {"version": after["version"], "state": "again", "reader": "AB", "reason": "which side?"}
    served.ask("PUT", where, reader="CD", json=again)
    assert served.ask("POST", "/next", reader="AB", json={"label": "grade"})["item"]["id"] == item["id"]
    item = served.ask("GET", where)
    assigned = served.ask("PUT", f"{where}/readers", json={"version": item["version"], "readers": ["EF"]})
    assert [t["reader"] for t in assigned["turns"]] == ["EF"]
    assert served.ask("POST", "/order", status=202, json={"order": "random", "seed": 3})["problem"] == ""


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/next", {"label": ""}, 400),  # nobody said who asks
        ("PUT", "/plan", {"version": 3, "labels": [{"name": "x"}]}, 409),
        ("PUT", "/plan", {"version": 0, "labels": []}, 422),
        ("PUT", "/plan", {"version": 0, "labels": [{"name": "x", "colour": "red"}]}, 422),
        ("POST", "/order", {"order": "active"}, 400),  # no model
        ("POST", "/order", {"order": "best"}, 422),
        ("GET", "/items/0000000000000000", None, 404),
        ("GET", "/agreement?label=hip", None, 404),
        ("GET", "/agreement?label=hip&tolerance_mm=nan", None, 422),
        ("GET", "/exports/0000000000000000.zip", None, 404),
        ("GET", "/exports/..%2F..%2Fworklist%2Fkey.zip", None, 404),
        ("POST", "/exports", {"form": "tar"}, 400),
        ("POST", "/exports", {"form": "folders"}, 422),  # nothing was confirmed
    ],
)
def test_what_is_refused(served, method, path, body, status):
    found = served.ask(method, path, status=status, **({} if body is None else {"json": body}))
    assert found["status"] == status and found["detail"]


def test_a_server_without_a_work_list_says_so(tmp_path):
    from isocenter.viewer.app import create_app
    from isocenter.viewer.ports import Ports
    from isocenter.viewer.settings import Settings

    app = create_app(Ports(library=SmallLibrary()), Settings(token=TOKEN))
    with TestClient(app, base_url=BASE, headers={"Authorization": f"Bearer {TOKEN}"}) as client:
        assert client.get(f"{API}/work").status_code == 501
        assert client.get(f"{API}/work", headers={"Authorization": "Bearer no"}).status_code == 401
