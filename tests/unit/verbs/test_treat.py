"""`isocenter treat` from a table to the page: what is said, what is not, and what is refused."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from isocenter import cli
from isocenter.core.errors import ConfigError, DataError, UnitsError
from isocenter.synth.patients import PatientSettings, synthesise_cohort, write_cohort
from isocenter.tasks.treat import METHODS, Amount, Learnt
from isocenter.verbs.audit import audit_show
from isocenter.verbs.treat import TreatConfig, _sure_of, treat
from isocenter.verbs.treatment.document import AmountEntry, TreatDocument

COMMON = {"option": "new", "against": "usual", "index_time": "index_time"}
TIMES = {**COMMON, "time": "days", "event": "event", "horizon_days": 1095.0, "event_name": "death"}
QUICK = {"method": "dr-learner", "folds": 3, "tries": 2}


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cohort(tmp_path_factory.mktemp("cohort") / "c", synthesise_cohort(7, 700))


@pytest.fixture(scope="module")
def observed(cohort: Path) -> tuple[TreatDocument, Path]:
    """An observational analysis, with people: two as learnt from, one who lacks overlap, one unlike anyone, one gap,
    one with a number beyond everyone's."""
    pytest.importorskip("econml")
    with (cohort / "patients.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    kidney = "creatinine [umol/L]"
    failing = next(r for r in rows if float(r[kidney]) > 200)
    fine = next(r for r in rows if float(r[kidney]) < 100)
    people = [
        fine,
        failing,
        {**fine, "patient": "p3", "lesion side": "middle"},
        {**fine, "patient": "p4", "age [a]": ""},
        {**fine, "patient": "p5", "LDH [U/L]": "1e9"},
    ]
    file = cohort.parent / "people.csv"
    with file.open("w", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(people)
    out = cohort.parent / "out"
    made = treat(
        cohort / "patients.csv", out, "treatment", "observational", people=file, harms=("toxicity",), width_limit=0.95,
        **TIMES, **QUICK,
    )  # fmt: skip
    return made, out


def test_the_average_is_found_where_something_can_be_said(observed: tuple[TreatDocument, Path], cohort: Path) -> None:
    made, _ = observed
    with (cohort / "truth.csv").open(newline="") as text:
        truth = [r for r in csv.DictReader(text) if r["without overlap"] == "0"]
    true = sum(float(r["effect in survival"]) for r in truth) / len(truth)
    average = made.outcome.average
    width = average.high - average.low
    assert average.low - width / 2 < true < average.high + width / 2
    harm = sum(float(r["toxicity risk treated"]) - float(r["toxicity risk untreated"]) for r in truth) / len(truth)
    assert made.harms[0].average.value == pytest.approx(harm, abs=0.08) and made.harms[0].bad
    assert made.outcome.policy is not None and made.outcome.calibration is not None
    assert made.harms[0].policy is None and made.harms[0].calibration is None
    assert len(made.outcome.calibration.groups) == 5 and len(made.outcome.refutations) == 3
    assert made.outcome.e_value > 1 and 0 < made.outcome.robustness < 1


def test_the_planted_group_is_named_and_confounding_is_shown(observed: tuple[TreatDocument, Path]) -> None:
    made, _ = observed
    assert any(re.search(r"with creatinine \[umol/L\] above 1\d\d.*none got new", rule) for rule in made.support.rules)
    assert made.support.people == 700 and made.support.supported < 670
    assert sum(made.support.refused.values()) == made.support.people - made.support.supported
    assert made.overlap.discrimination > 0.6
    assert max(abs(b.before) for b in made.balance) > 0.3 and max(abs(b.after) for b in made.balance) < 0.15
    assert made.overlap.effective_treated < made.treated


def test_observational_results_are_called_associations_everywhere(observed: tuple[TreatDocument, Path]) -> None:
    made, out = observed
    assert made.claim == "association"
    page = (out / "treat.html").read_text("utf-8")
    visible = re.sub(r"<style>.*?</style>", "", page, flags=re.DOTALL)
    assert "Associations, not effects" in visible and "Synthetic." in visible
    words = visible.replace("Associations, not effects", "")
    assert not re.search(r"\beffects?\b", words, re.IGNORECASE)
    assert all("association" in s for p in made.people if not p.refused for s in p.sentences[1:4:2])
    shared = (out / "treat.json").read_text("utf-8") + page
    assert "synthetic-0" not in shared, "names stay in people.csv"
    with (out / "people.csv").open(newline="") as text:
        table = list(csv.DictReader(text))
    assert (
        table[0]["name"].startswith("synthetic-0")
        and "association" in table[0]
        and not any("effect" in name for name in table[0])
    )
    assert {row["made"] for row in table} == {"synthetic"}


def test_people_get_numbers_or_a_reason(observed: tuple[TreatDocument, Path]) -> None:
    made, _ = observed
    fine, failing, unseen, gap, beyond = made.people
    assert [p.person for p in made.people] == [f"person {n}" for n in range(1, 6)]
    assert fine.refused is None and fine.effect is not None and fine.untreated is not None and fine.treated is not None
    assert fine.treated.value - fine.untreated.value == pytest.approx(fine.effect.value)
    calibration = made.outcome.calibration
    doubted = calibration is not None and calibration.told != "people differ about as predicted"
    assert fine.sentences[-1].startswith("But ") == doubted == any("But" in s for s in fine.sentences)
    assert fine.sentences[0].startswith("Of 100 people like this, about ") and "toxicity" in fine.sentences[2]
    assert len(fine.harms) == 1 and fine.harms[0] is not None
    assert [p.refused for p in (failing, unseen, gap, beyond)] == ["group", "unlike", "unlike", "unlike"]
    assert "none got new" in failing.reason and "lesion side" in unseen.reason and "age [a] is not stated" in gap.reason
    assert beyond.reason == "LDH [U/L] lies beyond that of everyone learnt from"
    assert "(death is bad; association)" in fine.verdict
    for person in (failing, unseen, gap, beyond):
        assert person.verdict == "insufficient support for this person: no recommendation"
        assert person.effect is None and person.harms == (None,)


def test_the_page_draws_people_and_is_self_contained(observed: tuple[TreatDocument, Path]) -> None:
    made, out = observed
    page = (out / "treat.html").read_text("utf-8")
    # One answered person and the two averages: benefit and harm, both options, a hundred each.
    assert page.count("<use ") == 100 * 2 * 2 * 2
    assert not re.search(r"(src|href)=\"(?!#|data:)", page) and "<script" not in page
    assert TreatDocument.model_validate_json((out / "treat.json").read_text("utf-8")) == made
    assert made.inputs.keys() == {"table", "people"} and "table" not in made.config


def test_a_trial_has_effects(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr("isocenter.verbs.treat.treat", partial(treat, folds=3, tries=2))
    folder = write_cohort(tmp_path / "c", synthesise_cohort(8, 300, PatientSettings("randomised")))
    arguments = [
        "treat", str(folder / "patients.csv"), "--out", str(tmp_path / "out"), "--treatment", "treatment",
        "--option", "new", "--against", "usual", "--design", "randomised", "--outcome", "albumin [g/L]",
        "--better", "higher",
        "--index-time", "index_time",
        "--leave-out", "days", "--leave-out", "event", "--leave-out", "toxicity", "--method", "t-learner",
        "--feature", "age", "--feature", "sex", "--feature", "LDH",
    ]  # fmt: skip
    assert cli.run(arguments) == 0
    text = capsys.readouterr().out
    assert "randomised: effects (synthetic)" in text and "association" not in text and "g/L" in text
    made = json.loads((tmp_path / "out" / "treat.json").read_text("utf-8"))
    assert made["claim"] == "effect" and made["overlap"]["learner"] == "share"
    average = made["outcome"]["average"]
    assert average["low"] < 0 < average["high"], "treatment does not change what was measured before it"
    assert cli.run(arguments) == cli.Exit.USAGE, "an older result is not replaced unasked"


def _write(tmp_path: Path, change: Callable[[dict[str, str]], dict[str, str]]) -> Path:
    rows = [change({k: str(v) for k, v in row.items()}) for row in synthesise_cohort(3, 200).table()]
    file = tmp_path / "t.csv"
    with file.open("w", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda r: {**r, "treatment": "new"}, DataError, "nobody has the option 'usual'"),
        (lambda r: {**r, "event": "0"}, DataError, "nobody had the event"),
        (lambda r: {**r, "days": "-3"}, DataError, "200 times of 'days' are negative, the first on line 2"),
        (lambda r: {**r, "event": "2"}, DataError, "holds 1 different values that are not explained"),
        (lambda r: {**r, "days": ""}, DataError, "the outcome (days, event) is empty for everyone"),
        (lambda r: {**r, "days": str(min(int(r["days"]), 900))}, DataError, "nobody was in sight up to day 1095"),
        (lambda r: {**r, "patient": "one"}, DataError, "is of the person of line 2"),
    ],
)
def test_bad_tables(
    tmp_path: Path, change: Callable[[dict[str, str]], dict[str, str]], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=re.escape(words)):
        treat(_write(tmp_path, change), tmp_path / "out", "treatment", "observational", **TIMES)
    assert not (tmp_path / "out").exists()


def test_everyone_got_the_treatment(tmp_path: Path) -> None:
    file = _write(tmp_path, lambda r: {**r, "treatment": "1"})
    with pytest.raises(DataError, match="everyone got the same option"):
        treat(
            file,
            tmp_path / "out",
            "treatment",
            "observational",
            outcome="toxicity",
            better="lower",
            index_time="index_time",
        )


def test_times_in_another_unit(tmp_path: Path) -> None:
    def years(unit: str, by: float) -> Path:
        def change(row: dict[str, str]) -> dict[str, str]:
            days = float(row.pop("days"))
            return {**row, f"time [{unit}]": str(days / by)}

        return _write(tmp_path, change)

    settings = {**TIMES, "time": "time [mg]"}
    with pytest.raises(UnitsError, match="column 'time': 'mg' does not convert to 'd'"):
        treat(years("mg", 1.0), tmp_path / "out", "treatment", "observational", **settings)
    settings["time"] = "time [a]"
    with pytest.raises(DataError, match=r"those with usual: nobody was in sight up to day 3000"):
        treat(
            years("a", 365.25), tmp_path / "out", "treatment", "observational", **{**settings, "horizon_days": 3000.0}
        )


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "either --outcome, or --time"),
        ({"outcome": "toxicity", "time": "days"}, "either --outcome, or --time"),
        ({**COMMON, "time": "days", "event": "event"}, "--horizon DAYS"),
        ({"outcome": "toxicity"}, "say which way 'toxicity' is better: --better higher or --better lower"),
        ({**TIMES, "better": "lower"}, "with --time say --event-is bad or --event-is good"),
        ({"outcome": "toxicity", "better": "lower", "event_is": "good"}, "--event-is is of --time"),
        ({"outcome": "toxicity", "better": "lower", "option": "new"}, "name both options"),
        ({"outcome": "toxicity", "better": "lower", "option": "new", "against": "new"}, "one and the same"),
        ({"outcome": "toxicity", "better": "lower"}, "holds 2 options that are not 0 and 1"),
        ({"outcome": "toxicity", "level": 2.0}, "setting level"),
        ({"outcome": "toxicity", "method": "oracle"}, "setting method"),
    ],
)
def test_settings_that_do_not_belong_together(tmp_path: Path, settings: dict[str, object], words: str) -> None:
    file = _write(tmp_path, dict)
    with pytest.raises(ConfigError, match=re.escape(words)):
        treat(file, tmp_path / "out", "treatment", "observational", **settings)
    with pytest.raises(ConfigError, match="setting design"):
        treat(file, tmp_path / "out", "treatment", "guessed", outcome="toxicity")


def test_the_configuration_offers_every_learner() -> None:
    assert set(METHODS) == set(TreatConfig.model_fields["method"].annotation.__args__)  # type: ignore[union-attr]


def test_nothing_is_said_where_options_never_meet(tmp_path: Path) -> None:
    pytest.importorskip("sklearn")
    file = _write(tmp_path, lambda r: {**r, "treatment": "new" if float(r["age [a]"]) > 63 else "usual"})
    with pytest.raises(DataError, match="something can be said of 0 people only"):
        treat(
            file,
            tmp_path / "out",
            "treatment",
            "observational",
            **COMMON,
            outcome="toxicity",
            better="lower",
            leave_out=("days", "event"),
        )


@pytest.mark.slow
def test_a_harm_that_is_surely_worse_stands_in_the_heading(
    observed: tuple[TreatDocument, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, out = observed
    fine = made.people[0]
    page = (out / "treat.html").read_text("utf-8")
    assert f"{fine.person}: {fine.verdict}" in page
    harm = Learnt.tell
    monkeypatch.setattr(Learnt, "tell", lambda self, x: _told_sure(harm(self, x)))
    again = treat(
        out.parent / "c" / "patients.csv", out.parent / "sure", "treatment", "observational",
        people=out.parent / "people.csv", harms=("toxicity",), width_limit=0.95, **TIMES, **QUICK,
    )  # fmt: skip
    words = "more have had no death by day 1095 with new, but more toxicity (death is bad; association)"
    assert again.people[0].verdict == words and words in (out.parent / "sure" / "treat.html").read_text("utf-8")


def test_a_harm_that_is_sure_on_average_only_is_told_as_that() -> None:
    average = AmountEntry(value=0.1, low=0.05, high=0.15, level=0.9)
    unsure, sure = Amount(0.1, -0.2, 0.4), Amount(-0.3, -0.4, -0.2)
    assert _sure_of("toxicity", unsure, average) == ("toxicity on average", Amount(0.1, 0.05, 0.15))
    assert _sure_of("toxicity", sure, average) == ("toxicity", sure)


def _told_sure(told: tuple[tuple[Amount, ...], tuple[tuple[Amount, Amount], ...]]) -> object:
    """Give the difference of everyone an interval above 0, for the outcome and the harm alike."""
    return tuple(Amount(0.2, 0.1, 0.3) for _ in told[0]), told[1]


@pytest.mark.slow
def test_blocks_of_many_features_what_is_not_known_and_the_record(tmp_path: Path) -> None:
    pytest.importorskip("econml")
    cohort = synthesise_cohort(9, 400)
    rng = np.random.default_rng(0)
    rows = [{k: v for k, v in row.items() if not k.startswith("lesion")} for row in cohort.table()]
    for row in rows[::11]:
        row["albumin [g/L]"] = ""
    _csv(tmp_path / "t.csv", rows)
    weights = rng.normal(size=(3, 30))
    features = []
    for patient in cohort.patients[40:]:
        c = patient.cause
        seen = np.array([np.log(c.volume_ml), np.log(c.uptake_suv), c.necrosis]) @ weights + 0.1 * rng.normal(size=30)
        features.append({"patient": patient.name, "region": "lesion", **{f"f{n}": v for n, v in enumerate(seen)}})
    _csv(tmp_path / "ct.csv", [{**row, "made": "synthetic"} for row in features])
    people = [rows[50], {**rows[51], "albumin [g/L]": ""}, {**rows[10]}]
    _csv(tmp_path / "people.csv", people)
    record = tmp_path / "audit.jsonl"
    made = treat(
        tmp_path / "t.csv", tmp_path / "out", "treatment", "observational", people=tmp_path / "people.csv",
        leave_out=("toxicity",), blocks=(f"ct={tmp_path / 'ct.csv'}",), width_limit=2.0, audit=record, **TIMES, **QUICK,
    )  # fmt: skip
    assert made.synthetic and [(b.people, b.columns, b.features) for b in made.blocks] == [(360, 30, 30)]
    assert {m.column: round(m.share * 400) for m in made.missing} == {"albumin": 37}
    shown = [b.feature for b in made.balance if b.feature.startswith("ct")]
    assert "ct, not stated" in shown and 3 <= sum("component" in name for name in shown) <= 8
    assert [p.imputed for p in made.people if not p.refused] == [
        x for p, x in zip(made.people, ((), ("albumin",), ("ct (all of it)",)), strict=True) if not p.refused
    ]
    assert made.people[1].refused is None
    assert any(s.startswith("Not known of this person, and taken as") for s in made.people[1].sentences)
    page = (tmp_path / "out" / "treat.html").read_text("utf-8")
    assert "ct (synthetic)" in page and "synthetic people" in page and "Not known of this person" in page
    assert made.inputs.keys() == {"table", "people", "block ct"} and "blocks" not in made.config
    (line,) = audit_show(record).lines
    assert line.said["verb"] == "treat" and line.said["outcome"] == "answered"
    assert set(line.said["inputs"]) == set(made.inputs.values())
    with pytest.raises(DataError):
        treat(tmp_path / "none.csv", tmp_path / "o2", "treatment", "observational", audit=record, **TIMES)
    assert [one.said["outcome"] for one in audit_show(record).lines] == ["answered", "failed"]


def _csv(file: Path, rows: Sequence[Mapping[str, object]]) -> None:
    with file.open("w", newline="") as text:
        writer = csv.DictWriter(text, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
