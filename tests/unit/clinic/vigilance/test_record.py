"""The record of vigilance: written twice without harm, in SQLite and in PostgreSQL; the choice by hash is stable."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sqlalchemy import Engine, create_engine

from isocenter.clinic.vigilance import Episode, Observation, Record, Said, share_of, vigilance_key
from isocenter.core.errors import DataError
from postgres_peer import Databases
from vigilance_cases import stream


@pytest.fixture
def engine(databases: Databases, tmp_path: Path) -> Iterator[Engine]:
    made = create_engine(databases.url(tmp_path))
    yield made
    made.dispose()


def test_what_is_on_record(engine: Engine) -> None:
    record, again = Record(engine, lambda: 50.0), Record(engine)
    rows = stream(5, 0)
    assert record.observe(rows) == 5
    assert again.observe(rows) == 0, "the same answer again is no news"
    found = record.observations("chest", "live", "lungs")
    assert [o.numbers for o in found] == [o.numbers for o in rows]
    assert [o.number for o in found] == sorted(o.number for o in found)
    assert record.streams() == [("chest", "live", "lungs")]
    assert len(record.observations(study="1.2.3")) == 1

    study = next(r.study for r in rows if r.state == "answered")
    record.say(Said(study, "lungs", "agree", source="ris"))
    record.say(Said(study, "lungs", "override", "mask", False, source="ris"))
    record.say(Said(study, "lungs", "agree", source="viewer"))
    assert [(s.kind, s.covered, s.source) for s in record.sayings()] == [
        ("override", False, "ris"), ("agree", None, "viewer"),
    ]  # fmt: skip
    with pytest.raises(DataError, match="no answer of this task"):
        record.say(Said("9.9", "lungs", "agree"))
    assert record.latest() == (found[-1].number, 50.0)

    alarm = Episode("chest", "live", "lungs", "noise", found[-1].number, detail="d", action="none")
    assert record.open_episode(alarm)
    assert not record.open_episode(alarm), "an episode is opened once"
    (opened,) = record.episodes(open_only=True)
    record.close_episode(opened.number, 9)
    assert record.episodes(open_only=True) == [] and record.episodes()[0].closed == 9
    assert record.open_episode(alarm), "after its end there may be another"

    assert record.choose("chest", "shadow", "shadow", "alarm", "vigilance")
    assert not record.choose("chest", "shadow", "shadow", "again", "vigilance")
    assert record.choose("chest", "shadow", "live", "looked at", "operator")
    assert [(c.state, c.who) for c in record.choices()] == [("live", "operator")]
    assert record.choice("other", "shadow") is None


def test_a_row_that_was_changed_is_told(tmp_path: Path) -> None:
    made = create_engine(f"sqlite:///{tmp_path / 'x.db'}")
    record = Record(made)
    record.observe([Observation("1.2", 1, "r", "live", "t", 0, "answered")])
    with made.begin() as connection:
        connection.exec_driver_sql("update observations set study = '9.9'")
    with pytest.raises(DataError, match="changed from outside"):
        record.observations()
    made.dispose()


def test_the_key_is_the_store_s_own(tmp_path: Path) -> None:
    key = vigilance_key(tmp_path / "store")
    assert vigilance_key(tmp_path / "store") == key and len(key) == 32
    assert (tmp_path / "store" / "vigilance.key").stat().st_mode & 0o777 == 0o600
    assert vigilance_key(tmp_path / "other") != key
    assert [f.name for f in (tmp_path / "store").iterdir()] == ["vigilance.key"]


@given(st.binary(min_size=1, max_size=32), st.text(max_size=20), st.text(max_size=64))
@settings(max_examples=100, deadline=None)
def test_a_share_is_a_share_and_the_same_each_time(key: bytes, rule: str, study: str) -> None:
    found = share_of(key, rule, study)
    assert 0 <= found < 1 and share_of(key, rule, study) == found


@pytest.mark.parametrize("share", [0.02, 0.1, 0.5])
def test_as_many_studies_are_chosen_as_the_share_says(share: float) -> None:
    chosen = sum(share_of(b"key", "rule", "about", f"1.2.840.{n}") < share for n in range(4000))
    low, high = stats.binom.ppf((0.0005, 0.9995), 4000, share)
    assert low <= chosen <= high
