"""The ledger: derived from journals once a line, complete by silence or by what the scanner says."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import pytest
from sqlalchemy import inspect, make_url, text

from isocenter.clinic.vigilance.record import Record
from isocenter.clinic.workflow import Completeness, Ledger, delivery_key, open_ledger
from isocenter.clinic.workflow.told import told_of
from isocenter.core.errors import TransportError
from postgres_peer import Cluster, Databases


class Clock:
    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def ledger(databases: Databases, tmp_path: Path) -> Iterator[Ledger]:
    made = open_ledger(databases.url(tmp_path))
    yield Ledger(made.engine, Clock())
    made.engine.dispose()


def line(number: int, study: str = "1.2.1", at: float = 1_700_000_000.0, **more: object) -> dict[str, object]:
    told = {
        "study": study, "series": f"{study}.1", "sop": f"{study}.1.{number}", "class": "1.2.840.10008.5.1.4.1.1.2",
        "syntax": "1.2.840.10008.1.2.1", "modality": "CT", "sha256": f"{number:064d}", "bytes": 100,
        "calling": "SCANNER", "called": "NODE", "at": datetime.fromtimestamp(at, UTC).isoformat(),
    }  # fmt: skip
    return {**told, **more}


def write(folder: Path, *lines: dict[str, object], name: str = "1-1.jsonl", end: str = "\n") -> None:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("a") as stream:
        stream.write("\n".join(json.dumps(entry) for entry in lines) + end)


def clock(ledger: Ledger) -> Clock:
    made = ledger._clock
    assert isinstance(made, Clock)
    return made


def test_who_opens_a_new_ledger_at_once_makes_it_once(databases: Databases, tmp_path: Path) -> None:
    for attempt in range(5 if databases.cluster is None else 2):
        (tmp_path / f"{attempt}").mkdir()
        url, together = databases.url(tmp_path / f"{attempt}"), threading.Barrier(6)

        def opened(url: str = url, together: threading.Barrier = together) -> dict[str, int]:
            together.wait(10)
            ledger = open_ledger(url)
            Record(ledger.engine)
            found = ledger.counts()
            ledger.engine.dispose()
            return found

        with ThreadPoolExecutor(6) as pool:
            found = [one.result() for one in [pool.submit(opened) for _ in range(6)]]
        assert found == [found[0]] * 6


def test_a_database_that_is_not_there_or_lets_nobody_in_is_told_without_its_url(postgresql: Cluster) -> None:
    url = make_url(postgresql.new())
    for wrong in (url.set(port=1), url.set(password="geheim"), url.set(database="other")):
        with pytest.raises(TransportError, match="PostgreSQL does not answer, or does not let us in") as told:
            open_ledger(wrong.render_as_string(hide_password=False))
        assert "geheim" not in str(told.value)
    postgresql.give_back(url.render_as_string(hide_password=False))


def test_every_line_counts_once(ledger: Ledger, tmp_path: Path) -> None:
    journals = tmp_path / "journal"
    write(journals, line(1), line(2), line(2, again=True))
    write(journals, line(2, again=True), line(3), name="2-2.jsonl", end="")  # the last line is not whole yet
    assert ledger.take_in(journals) == 2
    assert ledger.take_in(journals) == 0
    write(journals, name="2-2.jsonl")
    assert ledger.take_in(journals) == 1
    state = ledger.study("1.2.1")
    assert state is not None
    assert (state.instances, state.bytes, state.modalities, state.version) == (3, 300, ("CT",), 1)
    assert [row["sop"] for row in ledger.instances("1.2.1")] == [f"1.2.1.1.{n}" for n in (1, 2, 3)]


def test_which_title_was_called_is_learnt_from_a_later_line_and_never_changed(ledger: Ledger, tmp_path: Path) -> None:
    journals = tmp_path / "journal"
    called = []
    for told in (line(1, called="", recovered=True), line(1, called="RESEARCH", again=True), line(2, called="OTHER")):
        write(journals, told)
        ledger.take_in(journals)
        state = ledger.study("1.2.1")
        assert state is not None
        called.append((state.called, state.instances, state.version))
    assert called == [("", 1, 1), ("RESEARCH", 1, 1), ("RESEARCH", 2, 1)]


def test_silence_completes_a_study_and_more_reopens_it(ledger: Ledger, tmp_path: Path) -> None:
    journals, rule = tmp_path / "journal", Completeness(quiet_s=10)
    write(journals, line(1))
    ledger.take_in(journals)
    clock(ledger).now += 9
    assert not ledger.complete(rule)
    clock(ledger).now += 1
    assert [s.study for s in ledger.complete(rule)] == ["1.2.1"]
    assert ledger.mark("1.2.1", 1, "working")
    write(journals, line(2, at=clock(ledger).now))
    ledger.take_in(journals)
    assert not ledger.mark("1.2.1", 1, "answered"), "an answer to fewer instances must not close the study"
    state = ledger.study("1.2.1")
    assert state is not None
    assert (state.state, state.version) == ("arriving", 2)
    clock(ledger).now += 10
    assert [s.version for s in ledger.complete(rule)] == [2]
    assert ledger.mark("1.2.1", 2, "answered")
    assert [e["kind"] for e in reversed(ledger.events())] == ["complete", "working", "reopened", "complete", "answered"]


def test_the_scanner_says_how_many_there_are(ledger: Ledger, tmp_path: Path) -> None:
    journals, rule = tmp_path / "journal", Completeness(quiet_s=1000, told_s=0.5)
    at = datetime.fromtimestamp(1_700_000_000.0, UTC).isoformat()
    steps = tmp_path / "steps.jsonl"
    first = {"step": "9", "status": "IN PROGRESS", "studies": ["1.2.1"], "series": {}, "calling": "CT", "at": at}
    steps.write_text(json.dumps(first) + "\n")
    write(journals, line(1))
    ledger.take_in(journals)
    assert ledger.take_in_steps(steps) == 1
    clock(ledger).now += 5
    assert not ledger.complete(rule)
    with steps.open("a") as stream:
        stream.write(json.dumps({**first, "status": "COMPLETED", "series": {"1.2.1.1": 2}}) + "\n")
    assert ledger.take_in_steps(steps) == 1
    assert not ledger.complete(rule), "one of two instances is not here yet"
    write(journals, line(2))
    ledger.take_in(journals)
    assert [s.study for s in ledger.complete(rule)] == ["1.2.1"]


def step(name: str, study: str = "1.2.1", *, status: str = "COMPLETED", **series: int) -> str:
    told = {
        "step": name, "status": status, "studies": study.split(), "calling": "CT",
        "series": {uid.replace("_", ".").lstrip("s"): count for uid, count in series.items()},
        "at": datetime.fromtimestamp(1_700_000_000.0, UTC).isoformat(),
    }  # fmt: skip
    return json.dumps(told) + "\n"


BY_WORD = Completeness(quiet_s=1000, told_s=0.5)


def test_what_is_of_another_series_is_none_that_the_scanner_spoke_of(ledger: Ledger, tmp_path: Path) -> None:
    journals, steps = tmp_path / "journal", tmp_path / "steps.jsonl"
    others = {"series": "1.2.1.2", "modality": "SR"}
    write(journals, *(line(n) for n in range(7)), *(line(n, sop=f"1.2.1.2.{n}", **others) for n in range(3)))
    steps.write_text(step("9", s1_2_1_1=10))
    ledger.take_in(journals)
    ledger.take_in_steps(steps)
    clock(ledger).now += 5
    assert not ledger.complete(BY_WORD), "three slices of ten are not here, whatever else is"
    with ledger.engine.connect() as connection:
        told = told_of(connection, ["1.2.1"])["1.2.1"]
    assert (told.expected, told.here, told.ended) == (10, 7, True)
    write(journals, *(line(n) for n in range(7, 10)))
    ledger.take_in(journals)
    assert [s.study for s in ledger.complete(BY_WORD)] == ["1.2.1"]


def test_each_step_has_to_say_what_it_made(ledger: Ledger, tmp_path: Path) -> None:
    journals, steps = tmp_path / "journal", tmp_path / "steps.jsonl"
    write(journals, line(1))
    ledger.take_in(journals)
    clock(ledger).now += 5
    for told in (step("9", s1_2_1_1=1) + step("8"), step("8", s1_2_1_1=2), step("8", status="DISCONTINUED", s1=1)):
        with steps.open("a") as stream:
            stream.write(told)
        ledger.take_in_steps(steps)
        assert not ledger.complete(BY_WORD)
    with steps.open("a") as stream:
        stream.write(step("8", s1_2_1_1=1))  # what is said of a step later takes the place of what was said before
    ledger.take_in_steps(steps)
    assert not ledger.complete(BY_WORD), "two steps made two instances of this series"
    write(journals, line(2))
    ledger.take_in(journals)
    assert ledger.complete(BY_WORD)


def test_a_step_of_two_studies_has_its_series_in_either(ledger: Ledger, tmp_path: Path) -> None:
    steps = tmp_path / "steps.jsonl"
    steps.write_text(step("9", "1.2.1 1.2.2", s1_2_1_1=1, s1_2_2_1=1))
    ledger.take_in_steps(steps)
    write(tmp_path / "journal", line(1))
    ledger.take_in(tmp_path / "journal")
    clock(ledger).now += 5
    assert not ledger.complete(BY_WORD)
    write(tmp_path / "journal", line(1, "1.2.2"))
    ledger.take_in(tmp_path / "journal")
    assert sorted(s.study for s in ledger.complete(BY_WORD)) == ["1.2.1", "1.2.2"]


def test_steps_that_an_older_version_took_in_leave_it_to_silence(
    ledger: Ledger, databases: Databases, tmp_path: Path
) -> None:
    journals, steps = tmp_path / "journal", tmp_path / "steps.jsonl"
    write(journals, line(1))
    steps.write_text(step("9", s1_2_1_1=1))
    ledger.take_in(journals)
    ledger.take_in_steps(steps)
    with ledger.engine.begin() as connection:
        connection.execute(text("DROP TABLE step_series"))  # older versions had the sum alone
    again = open_ledger(databases.url(tmp_path))
    newer = Ledger(again.engine, clock(ledger))
    clock(ledger).now += 5
    assert newer.take_in_steps(steps) == 0
    assert not newer.complete(BY_WORD)
    with newer.engine.connect() as connection:
        assert told_of(connection, ["1.2.1"])["1.2.1"].here is None
    clock(ledger).now += 1000
    assert newer.complete(BY_WORD)
    again.engine.dispose()


def test_a_study_that_never_falls_quiet_is_answered(ledger: Ledger, tmp_path: Path) -> None:
    journals = tmp_path / "journal"
    for second in range(0, 100, 5):
        write(journals, line(second, at=1_700_000_000.0 + second))
    ledger.take_in(journals)
    clock(ledger).now += 100
    assert not ledger.complete(Completeness(quiet_s=10, longest_s=200))
    assert ledger.complete(Completeness(quiet_s=10, longest_s=100))


def test_the_urgent_come_first(ledger: Ledger, tmp_path: Path) -> None:
    write(tmp_path / "journal", line(1, "1.2.1"), line(1, "1.2.2"), line(1, "1.2.3"))
    ledger.take_in(tmp_path / "journal")
    ledger.prioritise("1.2.3", 5)
    clock(ledger).now += 60
    assert [s.study for s in ledger.complete(Completeness())] == ["1.2.3", "1.2.1", "1.2.2"]


def test_conflicts_are_seen_once(ledger: Ledger, tmp_path: Path) -> None:
    write(
        tmp_path / "journal", line(1), line(1, sha256="f" * 64, conflict=True), line(1, sha256="f" * 64, conflict=True)
    )
    assert ledger.take_in(tmp_path / "journal") == 1
    (conflict,) = ledger.conflicts()
    assert (conflict["sop"], conflict["sha256"], conflict["calling"]) == ("1.2.1.1.1", "f" * 64, "SCANNER")


def test_an_instance_that_another_study_holds_is_a_conflict_and_opens_its_study_again(
    ledger: Ledger, tmp_path: Path
) -> None:
    journals = tmp_path / "journal"
    write(journals, line(1), line(2, "1.2.2"))
    ledger.take_in(journals)
    clock(ledger).now += 60
    assert len(ledger.complete(Completeness())) == 2
    assert ledger.mark("1.2.2", 1, "answered")
    copied = line(1, "1.2.2", sop="1.2.1.1.1", sha256="a" * 64)
    write(journals, copied)
    assert ledger.take_in(journals) == 0
    state = ledger.study("1.2.2")
    assert state is not None and (state.state, state.version, state.instances) == ("arriving", 2, 1)
    assert (ledger.displaced("1.2.1"), ledger.displaced("1.2.2")) == (0, 1)
    assert [(c["sop"], c["study"]) for c in ledger.conflicts()] == [("1.2.1.1.1", "1.2.2")]
    write(journals, copied, line(2, "1.2.2", sha256="f" * 64, conflict=True))
    told = len(ledger.events())
    assert ledger.take_in(journals) == 0
    assert [e["kind"] for e in ledger.events()][: len(ledger.events()) - told] == ["conflict"], (
        "the copy again is no news"
    )
    assert ledger.displaced("1.2.2") == 1, "what was refused at the door is not missing"


def test_what_is_withdrawn_while_on_its_way_is_not_tried_again(ledger: Ledger, tmp_path: Path) -> None:
    write(tmp_path / "journal", line(1))
    ledger.take_in(tmp_path / "journal")
    row = {"delivery": "k", "study": "1.2.1", "version": 1, "destination": "pacs", "form": "dicom",
           "file": "provisional/a/b.dcm"}  # fmt: skip
    ledger.queue([row])
    assert ledger.withdraw("1.2.1", "provisional/a") == 1
    ledger.failed("k", "no association", wait_s=0.0)
    ledger.failed("k", "the file is not there any more", wait_s=None)
    assert not ledger.due()
    assert not ledger.dead_letters()


def test_deliveries_are_tried_again_given_up_and_replayed(ledger: Ledger, tmp_path: Path) -> None:
    write(tmp_path / "journal", line(1))
    ledger.take_in(tmp_path / "journal")
    key = delivery_key("1.2.1", "1", "PACS", "seg", "a")
    row = {"delivery": key, "study": "1.2.1", "version": 1, "destination": "PACS", "form": "seg", "file": "a.dcm"}
    assert (ledger.queue([row]), ledger.queue([row])) == (1, 0)
    assert [d["delivery"] for d in ledger.due()] == [key]
    ledger.failed(key, "refused: out of resources", wait_s=30)
    assert not ledger.due()
    clock(ledger).now += 30
    assert [d["tries"] for d in ledger.due()] == [1]
    ledger.failed(key, "refused: out of resources", wait_s=None)
    assert not ledger.due()
    assert [d["error"] for d in ledger.dead_letters()] == ["refused: out of resources"]
    assert ledger.counts() == {"arriving": 1, "delivery dead": 1}
    assert ledger.replay(["other"]) == 0
    assert ledger.replay([key]) == 1
    ledger.delivered(key)
    assert ledger.counts() == {"arriving": 1, "delivery delivered": 1}
    assert ledger.events()[0]["kind"] == "dead letter"


def test_tables_of_an_older_version_are_added_to(databases: Databases, tmp_path: Path) -> None:
    url = databases.url(tmp_path)
    older = open_ledger(url)
    write(tmp_path / "journal", line(1))
    older.take_in(tmp_path / "journal")
    with older.engine.begin() as connection:
        connection.execute(text("DROP TABLE refusals"))
        connection.execute(text("DROP INDEX deliveries_by_study"))
    older.engine.dispose()
    ledger = open_ledger(url)
    write(tmp_path / "journal", line(1, sha256="f" * 64, conflict=True))
    assert ledger.take_in(tmp_path / "journal") == 0
    with ledger.engine.connect() as connection:
        assert connection.execute(text("SELECT sop, calling FROM refusals")).all() == [("1.2.1.1.1", "SCANNER")]
        assert "deliveries_by_study" in {one["name"] for one in inspect(connection).get_indexes("deliveries")}
    ledger.engine.dispose()


def test_texts_that_a_database_refuses_hold_up_no_other(ledger: Ledger, tmp_path: Path) -> None:
    write(tmp_path / "journal", line(1, modality="C\x00T\ud800"), line(2))
    assert ledger.take_in(tmp_path / "journal") == 2
    (study,) = ledger.studies()
    assert study.modalities == ("CT", "CT?")
    long = {"studies": ["1." * 60], "step": "2." * 60, "status": "X" * 60, "series": {}, "calling": "SCANNER"}
    write(tmp_path / "steps", {**long, "at": line(1)["at"]}, name="steps.jsonl")
    assert ledger.take_in_steps(tmp_path / "steps" / "steps.jsonl") == 1
    assert ledger.complete(Completeness(quiet_s=1e9, longest_s=1e9)) == []
