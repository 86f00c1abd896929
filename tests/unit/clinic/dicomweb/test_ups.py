"""The worklist: the state machine of PS3.4 annex CC, over HTTP and from several threads at once."""

from __future__ import annotations

import threading

import pytest
from pydicom.uid import generate_uid

from isocenter.clinic.dicomweb import UpsRefused, Worklist, worklist_router
from isocenter.clinic.dicomweb.index import element, tag_of
from isocenter.clinic.dicomweb.ups import FILTERED, GLOBAL
from isocenter.clinic.dicomweb.ups_rules import changed
from isocenter.clinic.workflow.ledger import open_ledger

fastapi = pytest.importorskip("fastapi")
testclient = pytest.importorskip("fastapi.testclient")
TRANSACTION = "1.2.3.99"


def body(**more):
    words = {
        "ProcedureStepState": "SCHEDULED", "ScheduledProcedureStepPriority": "MEDIUM", "ProcedureStepLabel": "AI",
        "ScheduledProcedureStepStartDateTime": "20260101120000", "InputReadinessState": "READY", "PatientID": "4711",
        **more,
    }  # fmt: skip
    return {tag_of(k): element(k, *([] if v is None else [v])) for k, v in words.items()}


def sequence(keyword, item):
    return {tag_of(keyword): {"vr": "SQ", "Value": [item]}}


def performed(*, output=True):
    code = {"00080100": {"vr": "SH", "Value": ["x"]}}
    inner = {
        **sequence("PerformedStationNameCodeSequence", code), **sequence("PerformedWorkitemCodeSequence", code),
        tag_of("PerformedProcedureStepStartDateTime"): {"vr": "DT", "Value": ["20260101"]},
        tag_of("PerformedProcedureStepEndDateTime"): {"vr": "DT", "Value": ["20260101"]},
    }  # fmt: skip
    if output:
        inner[tag_of("OutputInformationSequence")] = {"vr": "SQ"}
    return sequence("UnifiedProcedureStepPerformedProcedureSequence", inner)


@pytest.fixture
def worklist(databases, tmp_path):
    made = open_ledger(databases.url(tmp_path))
    yield Worklist(made.engine)
    made.engine.dispose()


@pytest.fixture
def http(worklist):
    app = fastapi.FastAPI()
    app.include_router(worklist_router(worklist), prefix="/ups")
    with testclient.TestClient(app, base_url="http://here/ups") as client:
        yield client


def to(state, transaction=TRANSACTION):
    return {tag_of("ProcedureStepState"): element("ProcedureStepState", state),
            tag_of("TransactionUID"): element("TransactionUID", transaction)}  # fmt: skip


def test_from_scheduled_to_completed(http):
    made = http.post("/workitems?1.2.3.1", json=[body()])
    assert made.status_code == 201
    assert made.headers["location"].endswith("/ups/workitems/1.2.3.1")
    assert http.post("/workitems?workitem=1.2.3.1", json=body()).status_code == 409
    assert http.put("/workitems/1.2.3.1/state", json=to("COMPLETED")).status_code == 409
    assert http.put("/workitems/1.2.3.1/state", json=to("IN PROGRESS")).status_code == 200
    assert http.put("/workitems/1.2.3.1/state", json=to("IN PROGRESS", "1.9")).status_code == 409
    assert http.post("/workitems/1.2.3.1?transaction-uid=1.9", json=performed()).status_code == 409
    assert http.post("/workitems/1.2.3.1", json=performed()).status_code == 409
    assert http.put("/workitems/1.2.3.1/state", json=to("COMPLETED")).status_code == 409
    assert http.post(f"/workitems/1.2.3.1?{TRANSACTION}", json=performed(output=False)).status_code == 200
    assert http.put("/workitems/1.2.3.1/state", json=to("COMPLETED")).status_code == 409
    assert http.post(f"/workitems/1.2.3.1?{TRANSACTION}", json=performed()).status_code == 200
    assert http.put("/workitems/1.2.3.1/state", json=to("COMPLETED", "1.9")).status_code == 409
    assert http.put("/workitems/1.2.3.1/state", json=to("COMPLETED")).status_code == 200
    again = http.put("/workitems/1.2.3.1/state", json=to("COMPLETED"))
    assert (again.status_code, "already in the requested state" in again.headers["warning"]) == (200, True)
    (item,) = http.get("/workitems/1.2.3.1").json()
    assert item[tag_of("ProcedureStepState")]["Value"] == ["COMPLETED"]
    assert tag_of("TransactionUID") not in item
    assert http.post(f"/workitems/1.2.3.1?{TRANSACTION}", json=performed()).status_code == 409
    assert http.post("/workitems/1.2.3.1/cancelrequest").status_code == 409


STATES = ("SCHEDULED", "IN PROGRESS", "COMPLETED", "CANCELED")
# PS3.4 table CC.1.1-2: for each state what the right Transaction UID gets (0: changed, None: warning).
TABLE = {
    "IN PROGRESS": (0, 0xC302, 0xC300, 0xC300),
    "SCHEDULED": (0xC303, 0xC303, 0xC303, 0xC303),
    "COMPLETED": (0xC310, 0, None, 0xC300),
    "CANCELED": (0xC310, 0, 0xC300, None),
}


@pytest.mark.parametrize("wanted", STATES)
@pytest.mark.parametrize("now", STATES)
def test_the_table_of_states(now, wanted):
    lock = "" if now == "SCHEDULED" else TRANSACTION

    def status(given):
        try:
            return None if changed(now, wanted, lock=lock, given=given) else 0
        except UpsRefused as refused:
            return refused.status

    assert status(TRANSACTION) == TABLE[wanted][STATES.index(now)]
    assert status("") == 0xC301
    if wanted in ("COMPLETED", "CANCELED") and now != "SCHEDULED":
        assert status("1.2.3.100") == 0xC301


def test_one_of_many_who_claim_at_once_has_it(worklist):
    uid = worklist.create(body())
    won, lost = [], []

    def claim():
        mine = str(generate_uid())
        try:
            worklist.change_state(uid, "IN PROGRESS", mine)
            won.append(mine)
        except UpsRefused as refused:
            lost.append(refused.status)

    threads = [threading.Thread(target=claim) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(won), lost) == (1, [0xC302] * 5)


def test_what_is_no_workitem_is_refused(http):
    for bad in (
        b"", b"x", b"[]", b"[1]", b"{}", b'{"00741000": 1}', b'{"00741000": {"vr": "CS", "Value": 1}}', b"[" * 5000,
    ):  # fmt: skip
        assert http.post("/workitems", content=bad).status_code == 400, bad
    for word in ("ProcedureStepLabel", "ScheduledProcedureStepPriority", "InputReadinessState", "ProcedureStepState"):
        assert http.post("/workitems", json=body(**{word: None})).status_code == 400
    assert http.post("/workitems", json=body(ProcedureStepState="COMPLETED")).status_code == 400
    assert http.post("/workitems", json=body(InputReadinessState="MAYBE")).status_code == 400
    assert http.post("/workitems", json=body(TransactionUID="1.2")).status_code == 400
    assert http.post("/workitems?workitem=x", json=body()).status_code == 400
    assert http.get("/workitems/1.2.9").status_code == 404
    assert http.get("/workitems/x").status_code == 400
    assert http.put("/workitems/1.2.9/state", json=to("IN PROGRESS")).status_code == 404
    http.post("/workitems?1.2.3.1", json=body())
    assert http.put("/workitems/1.2.3.1/state", json=to("DONE")).status_code == 400
    assert http.put("/workitems/1.2.3.1/state", json=to("IN PROGRESS", "")).status_code == 400
    assert http.post("/workitems/1.2.3.1", json={tag_of("PatientID"): element("PatientID", "x")}).status_code == 400
    assert http.post("/workitems", content=b" " * (5 << 20)).status_code == 413


def test_searches_by_urgency(http):
    for uid, priority in (("1.2.1", "LOW"), ("1.2.2", "HIGH"), ("1.2.3", "MEDIUM")):
        http.post(f"/workitems?{uid}", json=body(ScheduledProcedureStepPriority=priority))

    def found(query):
        answer = http.get(f"/workitems?{query}")
        return [] if answer.status_code == 204 else [i[tag_of("SOPInstanceUID")]["Value"][0] for i in answer.json()]

    assert found("") == ["1.2.2", "1.2.3", "1.2.1"]
    assert found("limit=1&offset=1") == ["1.2.3"]
    assert found("ProcedureStepState=SCHEDULED&ScheduledProcedureStepPriority=LOW") == ["1.2.1"]
    assert found("ProcedureStepState=COMPLETED") == []
    assert found("PatientID=nobody") == []
    assert http.get("/workitems?nonsense=1").status_code == 400
    assert http.get("/workitems?limit=x").status_code == 400


def test_cancel_and_what_subscribers_are_told(http):
    http.post("/workitems?1.2.1", json=body())
    assert http.get("/subscribers/VIEWER/events").status_code == 404
    assert http.post(f"/workitems/{GLOBAL}/subscribers/VIEWER").status_code == 201
    filtered = http.post(f"/workitems/{FILTERED}/subscribers/OTHER?ScheduledProcedureStepPriority=HIGH")
    assert filtered.status_code == 201
    http.post("/workitems?1.2.2", json=body(ScheduledProcedureStepPriority="HIGH"))
    http.put("/workitems/1.2.1/state", json=to("IN PROGRESS"))
    assert http.post("/workitems/1.2.1/cancelrequest").status_code == 202
    assert http.post("/workitems/1.2.2/cancelrequest").status_code == 202

    def told(who, after=0):
        answer = http.get(f"/subscribers/{who}/events?after={after}").json()
        return [
            (e["workitem"], e["kind"], e["dataset"].get(tag_of("ProcedureStepState"), {}).get("Value")) for e in answer
        ]

    assert told("VIEWER") == [
        ("1.2.2", "state report", ["SCHEDULED"]), ("1.2.1", "state report", ["IN PROGRESS"]),
        ("1.2.1", "cancel requested", None), ("1.2.2", "state report", ["CANCELED"]),
    ]  # fmt: skip
    assert {uid for uid, *_ in told("OTHER")} == {"1.2.2"}
    last = http.get("/subscribers/VIEWER/events").json()[-1]["number"]
    assert told("VIEWER", last) == []
    assert http.delete(f"/workitems/{GLOBAL}/subscribers/VIEWER").status_code == 200
    assert http.delete(f"/workitems/{GLOBAL}/subscribers/VIEWER").status_code == 404
    assert http.get("/workitems/1.2.1").json()[0][tag_of("ProcedureStepState")]["Value"] == ["IN PROGRESS"]


def test_who_polls_while_others_write_misses_nothing(worklist, monkeypatch):
    """Two change workitems at once, and the first is done last: its event is not behind what was polled already."""
    worklist.subscribe("VIEWER", GLOBAL)
    written, go_on, event = threading.Event(), threading.Event(), Worklist._event

    def slow(self, connection, uid, *told):
        event(self, connection, uid, *told)
        if uid == "1.2.1":
            written.set()
            go_on.wait(20)

    monkeypatch.setattr(Worklist, "_event", slow)
    threads = [threading.Thread(target=worklist.create, args=(body(), uid)) for uid in ("1.2.1", "1.2.2")]
    threads[0].start()
    assert written.wait(20)
    threads[1].start()
    threads[1].join(0.3)
    seen = worklist.events("VIEWER")
    go_on.set()
    for thread in threads:
        thread.join()
    seen += worklist.events("VIEWER", max((one.number for one in seen), default=0))
    assert [one.uid for one in seen] == ["1.2.1", "1.2.2"]


def test_what_was_created_outlasts_a_restart(databases, tmp_path):
    for _ in range(2):
        ledger = open_ledger(databases.url(tmp_path))
        worklist = Worklist(ledger.engine)
        try:
            worklist.create(body(), "1.2.3.1")
        except UpsRefused as refused:
            assert refused.status == 0x0111
            assert worklist.retrieve("1.2.3.1")[tag_of("PatientID")]["Value"] == ["4711"]
        else:
            worklist.change_state("1.2.3.1", "IN PROGRESS", TRANSACTION)
        ledger.engine.dispose()
