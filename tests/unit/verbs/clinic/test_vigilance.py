"""Drift seen and told once, nothing told while studies are alike, actions taken and never silent."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import delete, insert, select

from isocenter.clinic.vigilance import Episode, Observation, Record, Said
from isocenter.clinic.vigilance.tables import OBSERVATIONS
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.core.errors import ConfigError, DataError
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.config_vigilance import CanaryConfig, VigilanceConfig
from isocenter.verbs.clinic.vigilance import watch as watching
from isocenter.verbs.clinic.vigilance.assess import Stream, assess
from isocenter.verbs.clinic.vigilance.canary import SHADOW, Trial, trial_state
from isocenter.verbs.clinic.vigilance.reference import read_reference, reference_of_record, write_reference
from isocenter.verbs.clinic.vigilance.streams import studies_of
from isocenter.verbs.clinic.vigilance.watch import Watch
from vigilance_cases import louder, numbered, stream

SETTINGS = VigilanceConfig(reference_studies=100, window=40, alpha=0.05)


def of(rows: list[Observation], settings: VigilanceConfig = SETTINGS, **more):
    return assess(Stream("chest", "live", "lungs", rows, **more), settings)


def feature(found, name: str):
    return next(f for f in found.features if f.name == name)


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    made = open_ledger(f"sqlite:///{tmp_path / 'ledger.db'}")
    yield made
    made.engine.dispose()


def kinds(ledger: Ledger) -> list[str]:
    return [e["kind"] for e in reversed(ledger.events(limit=500))]


def test_the_reference_is_gathered_first() -> None:
    found = of(stream(60, 0))
    assert (found.reference, found.wanted, found.ready, found.features) == (60, 100, False, ())
    assert [r.name for r in found.rates] == ["failed", "abstained", "overridden", "uncovered"]


def test_studies_that_are_alike_raise_nothing_and_a_change_is_found() -> None:
    alike = of(stream(500, 1))
    assert alike.ready and alike.studies == 400
    assert [f.name for f in alike.features if f.since is not None] == []
    assert {"noise", "slices", "modality", "manufacturer", "abstained", "volume of lung"} <= {
        f.name for f in alike.features
    }
    moved = of(stream(500, 1, louder(400)))
    changed = [f for f in moved.features if f.since is not None]
    assert [f.name for f in changed] == ["noise"]
    since = changed[0].since
    assert since is not None and 400 <= since < 470
    assert changed[0].window_q < 0.001 and not changed[0].is_like_again
    assert moved == of(stream(500, 1, louder(400))), "the same record gives the same assessment"


def test_new_words_prevalence_and_abstentions_are_found() -> None:
    def elsewhere(n: int, row: Observation) -> Observation:
        return row if n < 300 else replace(row, words={**row.words, "manufacturer": "Philips"})

    def strange(n: int, row: Observation) -> Observation:
        return row if n < 300 or n % 3 else replace(row, state="abstained", reason="unlike", weights="ab" * 32)

    found = of(stream(400, 2, elsewhere))
    assert [f.name for f in found.features if f.since is not None] == ["manufacturer"]
    assert feature(found, "manufacturer").now.startswith("other")
    assert feature(of(stream(500, 2, strange)), "abstained").since is not None


def test_another_model_s_numbers_are_no_drift() -> None:
    def other(n: int, row: Observation) -> Observation:
        if n < 250:
            return row
        numbers = {k: v * (3 if k == "volume of lung" else 1) for k, v in row.numbers.items()}
        return replace(row, weights="cd" * 32, numbers=numbers)

    found = of(stream(400, 3, other))
    assert found.weights == "cd" * 32
    assert [f.name for f in found.features if f.since is not None] == []
    few = of(stream(270, 3, other))
    assert all(not f.output for f in few.features), "20 answers are too few to know a model by"


def test_a_study_counts_once() -> None:
    row = stream(1, 0)[0]
    rows = [
        replace(row, image=0, state="abstained", reason="misfit", number=1),
        replace(row, image=1, state="answered", reason="", number=2),
        replace(row, image=2, state="answered", reason="", number=3),
        replace(row, version=2, image=1, number=4, numbers={}),
    ]
    (study,) = studies_of(rows, {row.study: [Said(row.study, "lungs", "agree"), Said(row.study, "x", "agree")]})
    assert (study.row.image, study.row.number, len(study.said)) == (1, 1, 1)


def test_rates_beside_their_limits() -> None:
    rows = stream(120, 4)
    said = {r.study: [Said(r.study, "lungs", "override", "mask", n % 2 == 0)] for n, r in enumerate(rows[:60])}
    found = {r.name: r for r in of(rows, said=said).rates}
    assert found["overridden"].since is not None and found["overridden"].cases == 40
    assert found["uncovered"].since is not None and found["uncovered"].happened == 20
    assert found["failed"].since is None and found["abstained"].limit is None
    broken = [replace(r, state="failed", reason="model", image=-1) for r in rows]
    assert {r.name: r.since is not None for r in of(broken).rates}["failed"]
    assert not any(r.since for r in of([replace(r, reason="study") for r in broken]).rates)


def test_what_was_read_once_is_not_read_again_and_the_assessment_is_that_of_the_whole(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watching, "_OVERLAP", 10)
    record = Record(ledger.engine)
    watch = Watch(ledger, record, SETTINGS, {}, {})
    rows = stream(420, 11, louder(300))
    others = [replace(row, rule="head", numbers=dict(row.numbers)) for row in stream(150, 12)]
    read: list[int] = []
    whole = record.observations
    for begin, end in ((0, 90), (90, 150), (150, 150), (150, 330), (330, 420)):
        record.observe(rows[begin:end])
        record.observe(others[begin // 3 : end // 3])
        late = OBSERVATIONS.c.number == record.latest()[0] - 3  # PostgreSQL may show it after those that follow
        with ledger.engine.begin() as connection:
            kept = connection.execute(select(OBSERVATIONS).where(late)).mappings().one()
            connection.execute(delete(OBSERVATIONS).where(late))
        watch.turn()
        with ledger.engine.begin() as connection:
            connection.execute(insert(OBSERVATIONS).values(**kept))
        heard = next(row.study for row in rows[end // 2 :] if row.state == "answered")
        record.say(Said(heard, "lungs", "override", "mask", source=str(end)))
        monkeypatch.setattr(record, "observations", lambda *a, **k: read.append(len(whole(*a, **k))) or whole(*a, **k))
        watch.turn()
        monkeypatch.setattr(record, "observations", whole)
        found = watch._memory.assessments(SETTINGS, {})
        assert repr(found) == repr(watching.assessments(record, SETTINGS, {}))
    assert len(read) == 5 and max(read) <= 12, "a look reads what came since, and a few before it"
    assert "noise" in {e.feature for e in record.episodes()}


def test_an_alarm_is_told_once_and_ends_and_may_come_again(ledger: Ledger) -> None:
    record = Record(ledger.engine)
    watch = Watch(ledger, record, SETTINGS, {}, {})
    rows = stream(300, 5, louder(200))
    record.observe(rows[:190])
    assert watch.turn() == 0
    record.observe(rows[190:])
    assert watch.turn() == 1
    assert watch.turn() == 0 and watch.turn() == 0
    record.observe(numbered(stream(20, 6, louder(0), first=301), 0))
    assert watch.turn() == 0, "while it is open nothing is told again"
    (opened,) = record.episodes()
    assert opened.feature == "noise" and "reference" in opened.detail and opened.closed is None
    record.observe(stream(150, 7, first=400))
    watch.turn()
    assert record.episodes(open_only=True) == []
    record.observe(stream(120, 8, louder(0), first=600))
    assert watch.turn() == 1
    assert kinds(ledger).count("alarm") == 2 and kinds(ledger).count("alarm over") == 1
    assert "1.2." not in json.dumps([e for e in ledger.events() if e["kind"] == "alarm"])


def test_an_alarm_may_keep_answers_back_and_says_so(ledger: Ledger) -> None:
    record = Record(ledger.engine)
    watch = Watch(ledger, record, SETTINGS.model_copy(update={"on_alarm": "shadow"}), {}, {})
    record.observe(stream(300, 5, louder(200)))
    watch.turn()
    choice = record.choice("chest", SHADOW)
    assert choice is not None and choice.state == "shadow" and "noise" in choice.reason
    assert kinds(ledger) == ["alarm", "shadow"]
    assert "action: shadow" in ledger.events()[1]["detail"]


def test_an_alarm_of_a_candidate_rolls_it_back(ledger: Ledger) -> None:
    record, trial = Record(ledger.engine), Trial("chest", ("old",), CanaryConfig(tasks=("new",)))
    watch = Watch(ledger, record, SETTINGS, {"chest": trial}, {})
    record.observe([replace(r, arm="candidate") for r in stream(300, 5, louder(200))])
    watch.turn()
    assert trial_state(record, trial) == "rolled back" and kinds(ledger) == ["alarm", "rollback"]


def test_a_reference_file(ledger: Ledger, tmp_path: Path) -> None:
    record = Record(ledger.engine)
    with pytest.raises(DataError, match="30"):
        reference_of_record(record, 100)
    record.observe(stream(120, 1))
    rows = reference_of_record(record, 100)
    write_reference(rows, tmp_path / "reference.json")
    assert "1.2." not in (tmp_path / "reference.json").read_text(), "studies are numbered"
    found = read_reference(tmp_path / "reference.json")
    assert len(found["chest", "lungs"]) == 100
    new = stream(150, 9, louder(0))
    assessed = of(new, reference=found["chest", "lungs"])
    assert assessed.ready and assessed.wanted == 0
    assert [f.name for f in assessed.features if f.since is not None] == ["noise"]
    (tmp_path / "bad.json").write_text("{}")
    with pytest.raises(ConfigError, match="no reference"):
        read_reference(tmp_path / "bad.json")


def test_a_period_begins_anew() -> None:
    rows = [replace(r, at=r.number * 86_400.0) for r in stream(500, 1)]
    found = feature(of(rows, SETTINGS.model_copy(update={"period_days": 100.0})), "noise")
    assert found.count <= 100
    spans = [Episode("chest", "live", "lungs", "noise", 150, 450)]
    assert feature(of(stream(500, 1), episodes=spans), "noise").count == 50


def test_the_configuration_says_what_is_watched() -> None:
    config = ClinicConfig(store=Path("x"), entities=({"title": "A", "callers": [{"title": "B"}]},))  # type: ignore[arg-type]
    assert config.vigilance.mark == "AI result, not for diagnosis" and config.vigilance.on_alarm == "none"
    with pytest.raises(ValueError, match="String should match"):
        VigilanceConfig(mark="Nicht für Diagnosen")
