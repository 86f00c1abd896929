"""DICOMweb of a node: what is stored enters the journal, results are found, workitems are served."""

from __future__ import annotations

import asyncio

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from isocenter.clinic.dicomweb import Catalog
from isocenter.clinic.dimse.holding import HINDERED, QUEUE_FULL
from isocenter.clinic.node import receiving_since
from isocenter.clinic.ports import ResultFile, Route, Said, Work, Worked
from isocenter.clinic.workflow.engine import result_folder
from isocenter.verbs.clinic.shown import ShowingRunner
from isocenter.verbs.clinic.web import NodeWeb, node_app
from isocenter.verbs.clinic.wiring import parts_of
from unit.clinic.dicomweb.test_server import STOW, encoded, instance, multipart
from unit.clinic.dicomweb.test_ups import body
from unit.verbs.clinic.test_web import asked, token, web  # noqa: F401

STUDY = "1.2.3.1"


def test_what_is_stored_is_in_the_journal_and_found(web: NodeWeb) -> None:  # noqa: F811
    app = node_app(web)
    content = multipart(encoded(instance(number=1)), encoded(instance(number=2)))
    assert asked(app, "POST", "/dicomweb/studies", content=content, headers=STOW).status_code == 200
    assert asked(app, "GET", "/dicomweb/studies").status_code == 204, "the ledger has not heard of it"
    web.ledger.take_in(web.store / "journal")
    state = web.ledger.study(STUDY)
    assert state is not None
    assert (state.instances, state.calling) == (2, "STOW-RS")
    app = node_app(web)
    (found,) = asked(app, "GET", "/dicomweb/studies?PatientID=P1").json()
    assert found["00201208"]["Value"] == [2]
    assert asked(app, "GET", f"/dicomweb/studies/{STUDY}", headers={"Authorization": ""}).status_code == 401
    assert b"DICM" in asked(app, "GET", f"/dicomweb/studies/{STUDY}").content


def test_a_study_of_another_path_is_refused_and_not_held(web: NodeWeb) -> None:  # noqa: F811
    content = multipart(encoded(instance()))
    answer = asked(node_app(web), "POST", "/dicomweb/studies/1.2.9", content=content, headers=STOW)
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00081197"]["Value"] == [0xA900]
    assert not list((web.store / "held").rglob("*.dcm"))
    web.ledger.take_in(web.store / "journal")
    assert web.ledger.studies() == []


def test_who_is_refused_for_want_of_room_is_asked_again_before_its_study_counts_as_whole(web: NodeWeb) -> None:  # noqa: F811
    (web.store / QUEUE_FULL).touch()
    answer = asked(node_app(web), "POST", "/dicomweb/studies", content=multipart(encoded(instance())), headers=STOW)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "15")
    assert web.config.completeness.quiet_s == 30
    assert (web.store / HINDERED).exists()


def test_while_the_web_server_was_away_nobody_could_be_heard(web: NodeWeb) -> None:  # noqa: F811
    app = node_app(web)

    async def begun() -> float:
        async with app.router.lifespan_context(app):
            return receiving_since(web.store, 0.0)

    assert receiving_since(web.store, 0.0) == 0.0
    assert asyncio.run(begun()) > 0


def test_results_are_found_but_not_those_in_shadow_or_without_identity(web: NodeWeb) -> None:  # noqa: F811
    app = node_app(web)
    catalog = Catalog(web.ledger.engine, web.store)

    class Runner:
        def run(self, work: Work) -> Worked:
            work.out.mkdir(parents=True)
            instance(number=int(work.inputs)).save_as(work.out / "a.seg.dcm", enforce_file_format=True)
            (work.out / "a.hl7").write_bytes(b"MSH")
            return Worked((), (ResultFile(work.out / "a.seg.dcm"), ResultFile(work.out / "a.hl7", "hl7")))

    for number, route in enumerate(
        (Route("a", ("t",)), Route("b", ("t",), shadow=True), Route("c", ("t",), identity="remove"))
    ):
        out = result_folder(web.store, STUDY, 1, route.name)
        ShowingRunner(Runner(), catalog).run(Work(STUDY, 1, route, web.store, str(number), out))
    found = asked(app, "GET", f"/dicomweb/studies/{STUDY}/instances").json()
    assert [one["00080018"]["Value"] for one in found] == [["1.2.3.1.1.0"]]


def test_a_result_that_cannot_be_shown_is_an_answer_all_the_same(web: NodeWeb) -> None:  # noqa: F811
    out = result_folder(web.store, STUDY, 1, "a")

    class Runner:
        def run(self, work: Work) -> Worked:
            out.mkdir(parents=True)
            (out / "bad.dcm").write_bytes(b"no DICOM")
            instance().save_as(out / "good.dcm", enforce_file_format=True)
            return Worked(
                (Said("t", "answered"),), (ResultFile(out / "bad.dcm"), ResultFile(out / "good.dcm")), ("told",)
            )

    catalog = Catalog(web.ledger.engine, web.store)
    worked = ShowingRunner(Runner(), catalog).run(Work(STUDY, 1, Route("a", ("t",)), web.store, "0", out))
    assert [one.state for one in worked.said] == ["answered"] and len(worked.files) == 2
    assert worked.told[0] == "told" and "not shown by DICOMweb" in worked.told[1]
    assert [entry.file.name for entry in catalog.instances(STUDY)] == ["good.dcm"]


def test_workitems_are_served(web: NodeWeb) -> None:  # noqa: F811
    app = node_app(web)
    headers = {"Content-Type": "application/dicom+json"}
    answer = asked(app, "POST", "/dicomweb/workitems?workitem=1.2.77", json=[body()], headers=headers)
    assert answer.status_code == 201
    assert answer.headers["location"].endswith("/dicomweb/workitems/1.2.77")
    (found,) = asked(app, "GET", "/dicomweb/workitems?PatientID=4711").json()
    assert found["00741000"]["Value"] == ["SCHEDULED"]
    assert asked(app, "GET", "/dicomweb/workitems", headers={"Authorization": ""}).status_code == 401


def test_the_web_server_is_a_part_of_the_node(web: NodeWeb) -> None:  # noqa: F811
    assert [part.name for part in parts_of(web.config)] == ["workflow", "web"]
