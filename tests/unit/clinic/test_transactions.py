"""Checks of a running node: ours passes them; one that answers wrongly is found out."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from isocenter.clinic.conformance import CHECKS, DimsePeer, WebPeer, check_dimse, check_web
from isocenter.clinic.dicomweb import Catalog, DicomWeb, Worklist, router, worklist_router
from isocenter.clinic.dimse import Allowed, Commitments, Limits, LocalEntity, Reception
from isocenter.clinic.dimse.acceptor import listen, serve
from isocenter.clinic.dimse.holding import Holding, recover
from isocenter.clinic.dimse.messages import N_ACTION
from isocenter.clinic.retrieve import DimseNode
from isocenter.clinic.workflow import commitments
from isocenter.clinic.workflow.commitments import CommitmentReports
from isocenter.clinic.workflow.ledger import Ledger, open_ledger
from orthanc_peer import free_port
from postgres_peer import Databases

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")
pytestmark = pytest.mark.enable_socket


@contextmanager
def node(folder: Path, callers: tuple[Allowed, ...], reported_to: int | None) -> Iterator[int]:
    """Run acceptors, and what reports commitments, in threads."""
    entity = LocalEntity("NODE", port=0, allowed=callers)
    made, stop = listen(entity), threading.Event()
    services = {N_ACTION: Commitments(folder / "commitments")}
    reception = Reception((entity,), folder, ("1.2.3.4", "TEST"), Limits(), lambda: services)
    ledger = open_ledger(f"sqlite:///{folder.parent / 'ledger.db'}")
    peers = {("NODE", "TESTER"): DimseNode("127.0.0.1", reported_to or 104, "TESTER", "NODE")}
    reports = CommitmentReports(folder / "commitments", ledger, peers)

    def report() -> None:
        while not stop.wait(0.05):
            ledger.take_in(folder / "journal")
            reports.send()

    threads = [threading.Thread(target=serve, args=(reception, [made], stop.is_set))]
    threads += [threading.Thread(target=report)] if reported_to else []
    for thread in threads:
        thread.start()
    try:
        yield made.getsockname()[1]
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        made.close()
        ledger.engine.dispose()


def test_our_node_passes_each_check_of_dimse(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commitments, "_GRACE_S", 0.5)  # a node waits a minute for what may still arrive
    port = free_port()
    with node(tmp_path / "store", (Allowed("TESTER"),), port) as at:
        found = check_dimse(DimsePeer("NODE", "127.0.0.1", at, "TESTER", store=True, listen=port))
    assert {v.name: v.faults for v in found if v.state != "pass"} == {}
    assert [v.name for v in found] == [name for name in CHECKS if name.startswith("dimse.")]


def test_a_node_that_lets_everybody_in_is_told_so_and_nothing_is_stored_unasked(tmp_path: Path) -> None:
    with node(tmp_path / "store", (), None) as at:
        found = {v.name: v for v in check_dimse(DimsePeer("NODE", "127.0.0.1", at, "TESTER"))}
    assert found["dimse.caller"].state == "fail" and found["dimse.caller"].faults == ("it was not rejected",)
    assert found["dimse.echo"].state == "pass"
    assert {v.state for n, v in found.items() if "store" in n or "commit" in n} == {"not applicable"}
    assert not list((tmp_path / "store" / "instances").rglob("*.dcm"))


class Fresh(Catalog):
    """A catalogue that is brought up to date whenever it is asked."""

    ledger: Ledger

    def _fresh(self) -> None:
        self.ledger.take_in(self._root / "journal")
        self.take_in()

    def find(self, level, study="", series=""):
        self._fresh()
        return super().find(level, study, series)


def web(folder: Path, ledger: Ledger) -> object:
    recover(folder)
    holding = Holding(folder, ("1.2.3.4", "TEST"), Limits())
    app, catalog = fastapi.FastAPI(), Fresh(ledger.engine, folder)
    catalog.ledger = ledger
    app.include_router(router(DicomWeb(catalog, holding)), prefix="/dicomweb")
    app.include_router(worklist_router(Worklist(ledger.engine)), prefix="/dicomweb")
    return app


def test_our_dicomweb_passes_each_check(databases: Databases, tmp_path: Path) -> None:
    ledger = open_ledger(databases.url(tmp_path))
    with testclient.TestClient(web(tmp_path / "store", ledger), base_url="http://here") as client:
        found = check_web(WebPeer("http://here/dicomweb", store=True, client=client))
        unasked = check_web(WebPeer("http://here/dicomweb", client=client))
    ledger.engine.dispose()
    assert {v.name: v.faults for v in found if v.state != "pass"} == {}
    assert [v.name for v in found] == [name for name in CHECKS if not name.startswith("dimse.")]
    assert {v.name for v in unasked if v.state == "pass"} == {"web.qido-none", "web.not-found"}


def test_a_service_that_answers_wrongly_is_found_out() -> None:
    def wrong(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=[{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}}])
        return httpx.Response(200 if "/studies" in str(request.url) else 201, headers={"location": "elsewhere"})

    client = httpx.Client(transport=httpx.MockTransport(wrong))
    found = {v.name: v for v in check_web(WebPeer("http://here", store=True, client=client, index_s=0.2))}
    client.close()
    assert {n for n, v in found.items() if v.state == "fail"} == {
        "web.stow", "web.qido-none", "web.not-found", "ups.create", "ups.create-again", "ups.retrieve", "ups.search",
        "ups.no-jump", "ups.claim",
    }  # fmt: skip
    assert found["web.qido"].faults == ("nothing was stored",)


def test_a_service_that_is_not_there_fails_in_words() -> None:
    def gone(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("a name that must not be told")

    client = httpx.Client(transport=httpx.MockTransport(gone))
    found = check_web(WebPeer("http://here", store=True, client=client, index_s=0.2))
    client.close()
    assert {f for v in found if v.state == "fail" for f in v.faults} == {"no answer: ConnectError"}
