"""A model on trial: its share, the same choice each time, the live model where it fails, rollback and promotion."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from isocenter.clinic.ports import Facts, Route, Router, Runner, Said, Work, Worked
from isocenter.clinic.vigilance import Record
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.core.errors import ConfigError, DataError, ModelError, OutputError
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.config_vigilance import CanaryConfig
from isocenter.verbs.clinic.tasks import TaskRunner, _Process
from isocenter.verbs.clinic.vigilance.canary import (
    SHADOW,
    ObservingRunner,
    Trial,
    TrialRouter,
    promote,
    roll_back,
    trial_state,
)
from isocenter.verbs.clinic.vigilance.operate import clinic_decide, clinic_resume
from isocenter.verbs.clinic.vigilance.wire import trial_settings, vigilance_of

TRIAL = Trial("chest", ("old",), CanaryConfig(tasks=("new",), share=0.3))
RESULT = {
    "created": "2026-01-01T00:00:00+00:00", "study": {"patient_key": "k", "study_uid": "1.2"},
    "images": [{"index": 0, "modality": "CT", "body_part": "", "quantity": "HU", "channels": 1, "sha256": "a",
                "geometry": {"shape_zyx": [1, 1, 1], "spacing_mm": None, "pixel_spacing_mm": None, "orientation": None,
                             "affine_zyx_to_lps_mm": None, "stack": "space"}}],
    "provenance": {"isocenter": "0", "python": "3", "packages": {}, "seed": 0, "config": {}},
}  # fmt: skip


class Rules:
    """One rule, or none."""

    def __init__(self, *routes: Route) -> None:
        self._routes = routes

    def routes(self, _facts: Facts) -> Sequence[Route]:
        return self._routes


class Tasks:
    """Writes a result as tasks do, or fails as told."""

    def __init__(self) -> None:
        self.errors: dict[str, Exception] = {}
        self.abstains: set[str] = set()
        self.asked: list[tuple[str, ...]] = []

    def run(self, work: Work) -> Worked:
        self.asked.append(work.route.tasks)
        (task,) = work.route.tasks
        if (work.out / "result.json").is_file():
            return Worked((Said(task, "answered"),))
        if task in self.errors:
            raise self.errors[task]
        prediction = {"task": task, "title": task, "image": 0, "abstained": "no" if task in self.abstains else None}
        work.out.mkdir(parents=True)
        (work.out / "result.json").write_text(json.dumps(RESULT | {"predictions": [prediction]}))
        (work.out / "observed.json").write_text(json.dumps({"tasks": list(work.route.tasks), "images": []}))
        return Worked((Said(task, "answered"),))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield made
    made.engine.dispose()


def kinds(ledger: Ledger) -> list[str]:
    return [e["kind"] for e in reversed(ledger.events(limit=500))]


def work(folder: Path, study: str, task: str) -> Work:
    return Work(study, 1, Route("chest", (task,), ("pacs",)), folder, "0", folder / "out" / study)


def test_a_share_of_studies_goes_to_the_candidate_and_decisions_are_taken_up(ledger: Ledger) -> None:
    record = Record(ledger.engine)
    router = TrialRouter(Rules(Route("chest", ("old",)), Route("other", ("x",))), {"chest": TRIAL}, record, b"key")
    assert isinstance(router, Router)

    def tasks() -> list[tuple[str, ...]]:
        return [router.routes(Facts(f"1.2.{n}", "A", "B"))[0].tasks for n in range(300)]

    first = tasks()
    assert tasks() == first, "a study that comes again comes to the same model"
    assert 60 <= first.count(("new",)) <= 120
    assert router.routes(Facts("1.2.1", "A", "B"))[1].tasks == ("x",)
    assert roll_back(record, ledger, TRIAL, "worse", "operator")
    assert not roll_back(record, ledger, TRIAL, "again", "operator")
    assert set(tasks()) == {("old",)}
    assert promote(record, ledger, TRIAL, "better", "operator")
    assert set(tasks()) == {("new",)}
    assert kinds(ledger) == ["rollback", "promoted"]
    later = replace(TRIAL, canary=CanaryConfig(tasks=("newer",)))
    assert trial_state(record, later) == "running", "another candidate begins anew"
    record.choose("chest", SHADOW, "shadow", "alarm", "vigilance")
    assert router.routes(Facts("1.2.1", "A", "B"))[0].shadow and not router.routes(Facts("1.2.1", "A", "B"))[1].shadow


def test_what_is_answered_is_observed_once(ledger: Ledger, tmp_path: Path) -> None:
    record, tasks = Record(ledger.engine), Tasks()
    runner = ObservingRunner(tasks, record, ledger, {"chest": TRIAL})
    assert isinstance(runner, Runner)
    for _ in range(2):  # a node that was killed asks again
        runner.run(work(tmp_path, "1.2", "old"))
        runner.run(work(tmp_path, "1.3", "new"))
    found = [(o.study, o.arm, o.task, o.state) for o in record.observations()]
    assert found == [("1.2", "live", "old", "answered"), ("1.3", "candidate", "new", "answered")]


def test_an_answer_that_vigilance_cannot_read_is_an_answer(ledger: Ledger, tmp_path: Path) -> None:
    record, tasks = Record(ledger.engine), Tasks()
    runner = ObservingRunner(tasks, record, ledger, {})
    asked = work(tmp_path, "1.2", "old")
    runner.run(asked)
    (asked.out / "observed.json").write_text("{")
    worked = runner.run(asked)
    assert worked.said[0].state == "answered" and "not on the record of vigilance" in worked.told[0]


def test_where_the_candidate_fails_the_live_model_answers(ledger: Ledger, tmp_path: Path) -> None:
    record, tasks = Record(ledger.engine), Tasks()
    runner = ObservingRunner(tasks, record, ledger, {"chest": TRIAL})
    tasks.errors = {"new": ModelError("its weights are gone")}
    runner.run(work(tmp_path, "1.2", "new"))
    runner.run(work(tmp_path, "1.2", "new"))  # killed before the checkpoint: the live result stands, and stays live
    found = [(o.arm, o.task, o.state, o.reason) for o in record.observations()]
    assert found == [("candidate", "new", "failed", "model"), ("live", "old", "answered", "")]
    assert kinds(ledger) == ["canary"]
    for n in range(3, 7):
        runner.run(work(tmp_path, f"1.{n}", "new"))
    assert trial_state(record, TRIAL) == "rolled back"
    assert kinds(ledger).count("rollback") == 1
    assert "studies failed, limit 5%" in next(e["detail"] for e in ledger.events() if e["kind"] == "rollback")


def test_a_study_that_nobody_can_answer_is_no_word_against_the_candidate(ledger: Ledger, tmp_path: Path) -> None:
    record, tasks = Record(ledger.engine), Tasks()
    runner = ObservingRunner(tasks, record, ledger, {"chest": TRIAL})
    tasks.errors = {"new": DataError("cut off"), "old": DataError("cut off")}
    for n in range(6):
        with pytest.raises(DataError, match="cut off"):
            runner.run(work(tmp_path, f"1.{n}", "new"))
    assert trial_state(record, TRIAL) == "running"
    tasks.errors = {"new": OutputError("full"), "old": OutputError("full")}
    with pytest.raises(OutputError):
        runner.run(work(tmp_path, "1.9", "new"))
    assert record.observations(study="1.9") == [], "a full disk is tried again, and is nobody's failure"
    tasks.errors = {"old": ModelError("gone")}
    with pytest.raises(ModelError):
        runner.run(work(tmp_path, "1.8", "old"))
    assert [(o.arm, o.state) for o in record.observations(study="1.8")] == [("live", "failed")]


def test_a_candidate_that_abstains_too_often_is_rolled_back(ledger: Ledger, tmp_path: Path) -> None:
    record, tasks = Record(ledger.engine), Tasks()
    runner = ObservingRunner(tasks, record, ledger, {"chest": TRIAL})
    tasks.abstains = {"new"}
    for n in range(12):
        runner.run(work(tmp_path, f"1.{n}", "new"))
    assert trial_state(record, TRIAL) == "rolled back"


def content(folder: Path) -> ClinicConfig:
    return ClinicConfig.model_validate(
        {
            "store": folder / "store", "entities": [{"title": "A", "callers": [{"title": "B"}]}],
            "rules": [{"name": "chest", "tasks": ["old"], "canary": {"tasks": ["new"]}}, {"name": "b", "tasks": ["x"]}],
        }
    )  # fmt: skip


def test_commands(tmp_path: Path) -> None:
    config = content(tmp_path)
    assert clinic_decide(config, "chest", "promote", "margins kept")
    assert not clinic_decide(config, "chest", "promote")
    assert clinic_decide(config, "chest", "rollback")
    with pytest.raises(ConfigError, match="rules with one: chest"):
        clinic_decide(config, "b", "promote")
    assert not clinic_resume(config, "b")
    with pytest.raises(ConfigError, match="no rule"):
        clinic_resume(config, "none")
    ledger = open_ledger(config.database_url("ledger.db"))
    made = vigilance_of(config, ledger)
    made.record.choose("b", SHADOW, "shadow", "alarm", "vigilance")
    assert clinic_resume(config, "b")
    assert kinds(ledger) == ["promoted", "rollback", "resumed"]
    assert isinstance(made.router(Rules()), Router)
    assert vigilance_of(config, ledger).key == made.key
    ledger.engine.dispose()


def test_results_of_a_candidate_say_that_it_is_on_trial(tmp_path: Path) -> None:
    config = content(tmp_path)
    found = trial_settings(config, {"chest": {"mark": "x", "seed": 1}})
    assert found == {"chest\nnew": {"mark": "AI result, not for diagnosis (model on trial)", "seed": 1}}


def test_results_of_a_promoted_model_say_no_more_that_it_is_on_trial(
    ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marks: list[str] = []

    def ask(_process: object, asked: tuple[object, Work, dict[str, str]], *_: object) -> Worked:
        marks.append(asked[2]["mark"])
        return Worked(())

    monkeypatch.setattr(_Process, "ask", ask)
    config, record = content(tmp_path), Record(ledger.engine)
    rule = {"chest": {"mark": "AI result"}}
    runner = TaskRunner({**rule, **trial_settings(config, rule)}, 1, 1.0)
    always = replace(TRIAL, canary=CanaryConfig(tasks=("new",), share=1.0))
    router = TrialRouter(Rules(Route("chest", ("old",))), {"chest": always}, record, b"key")

    def answer(study: str) -> Route:
        (route,) = router.routes(Facts(study, "A", "B"))
        runner.run(replace(work(tmp_path, study, "new"), route=route))
        return route

    assert answer("1.1").on_trial
    assert promote(record, ledger, always, "better", "operator")
    assert not answer("1.2").on_trial
    assert roll_back(record, ledger, always, "worse", "operator")
    assert answer("1.3").tasks == ("old",)
    assert marks == ["AI result, not for diagnosis (model on trial)", "AI result", "AI result"]
