"""Chats with places to jump to, and outlooks of patients: who is found, who is not, and what is told of whom."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from asking_cases import CASES, written
from draft_cases import CHEST, IMAGE, STUDY, read_ct, readings
from isocenter.core.errors import ConfigError, Conflict, DataError, NotFound, SessionExpired
from isocenter.safety.audit import read_lines
from isocenter.synth.patients import synthesise_cohort, write_cohort
from isocenter.verbs.prognose import prognose
from isocenter.verbs.serving.asking import Conversations
from isocenter.verbs.serving.drafts import ReadingPlace
from isocenter.verbs.serving.outlook import OutlookKeeper
from isocenter.verbs.serving.persons import StudyPerson
from isocenter.viewer.report_models import AskRequest
from isocenter.viewer.report_ports import Asking, Outlooks
from survival_cases import people

WHO = {"1" * 16: StudyPerson("1.2.3", "key-one"), "2" * 16: StudyPerson("1.2.4", "key-two")}


@pytest.fixture(scope="module")
def read(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("asking")
    with pytest.MonkeyPatch.context() as patch:
        read_ct(folder, patch.syspath_prepend)
    written(CASES["chest"][0], folder / "chest")
    return folder


def test_an_answer_leads_to_its_place_and_remembers(read: Path) -> None:
    talks = Conversations(readings(read / "result", chest=read / "chest"))
    assert isinstance(talks, Asking)
    found = talks.ask(STUDY, AskRequest(question="How large is the left adrenal gland?"))
    assert found.outcome == "answered" and found.refused is None and found.by == "rules"
    (said,) = [s for s in found.answer if s.kind == "claim"]
    (place,) = said.evidence
    assert place.image == IMAGE and place.point_lps_mm is not None and place.index_zyx is not None
    again = talks.ask(STUDY, AskRequest(question="why?", conversation=found.conversation))
    assert again.calls == ({"tool": "why", "arguments": {"about": "adrenal gland", "side": "left"}},)
    refused = talks.ask(STUDY, AskRequest(question="Should it be removed?", conversation=found.conversation))
    assert (refused.outcome, refused.refused) == ("refused", "treatment") and refused.answer[0].text
    effusion = talks.ask(CHEST, AskRequest(question="¿derrame?", language="es"))
    assert effusion.outcome == "refused", "questions are asked in English"
    spanish = talks.ask(CHEST, AskRequest(question="Is there an effusion?", language="es"))
    assert spanish.answer[0].text.startswith("Derrame pleural") and spanish.answer[0].evidence[0].kind == "probability"


def test_conversations_end(read: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = {"now": ReadingPlace("1" * 16, read / "chest", {})}
    talks = Conversations(lambda study, _: place["now"] if study == CHEST else None)
    with pytest.raises(Conflict) as told:
        talks.ask(STUDY, AskRequest(question="What is there?"))
    assert told.value.code == "not_read"
    one = talks.ask(CHEST, AskRequest(question="Is there an effusion?")).conversation
    for name in ("0" * 16, "../x"):
        with pytest.raises(SessionExpired):
            talks.ask(CHEST, AskRequest(question="why?", conversation=name))
    place["now"] = ReadingPlace("2" * 16, read / "chest", {})
    with pytest.raises(SessionExpired, match="read again"):
        talks.ask(CHEST, AskRequest(question="why?", conversation=one))
    monkeypatch.setattr("isocenter.verbs.serving.asking.MOST", 2)
    names = [talks.ask(CHEST, AskRequest(question="Is there an effusion?")).conversation for _ in range(3)]
    with pytest.raises(SessionExpired):
        talks.ask(CHEST, AskRequest(question="why?", conversation=names[0]))
    assert talks.ask(CHEST, AskRequest(question="why?", conversation=names[2])).outcome == "answered"


def person(study: str) -> StudyPerson:
    if study not in WHO:
        raise NotFound("there is no such study")
    return WHO[study]


@pytest.fixture(scope="module")
def prognosis(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("prognosis")
    known, times = people(160)
    age, marker, stage = known.columns
    lines = ["age [a],marker [ug/L],stage,days,died"]
    for i in range(160):
        seen = "" if np.isnan(marker.values[i]) else f"{marker.values[i]:.4f}"
        cells = [f"{age.values[i]:.2f}", seen, stage.levels[int(stage.values[i])], f"{times.days[i]:.2f}"]
        lines.append(",".join([*cells, str(int(times.happened[i]))]))
    (folder / "t.csv").write_text("\n".join(lines) + "\n", "utf-8")
    prognose(folder / "t.csv", folder / "m", time="days", event="died", horizon_days=300, learners=("cox",), folds=2,
             inner=2, refits=10, resamples=20)  # fmt: skip
    return folder / "m"


def test_a_prognosis_has_a_curve_a_band_and_drivers_or_a_reason(prognosis: Path, tmp_path: Path) -> None:
    table = tmp_path / "patients.csv"
    rows = ["patient_key,age [a],marker [ug/L],stage", "key-one,75,1.5,III", "key-two,75,1e7,III", "key-three,1,1,I"]
    table.write_text("\n".join(rows) + "\n")
    keeper = OutlookKeeper(person, prognosis=prognosis, clinical=table, audit=tmp_path / "audit.jsonl")
    assert isinstance(keeper, Outlooks)
    told = keeper.prognosis("1" * 16)
    assert told.abstained is None and told.matched_by == "patient_key" and told.document is not None
    own, near = told.curves
    assert own.percent[0] == 100 and (np.diff(own.percent) <= 0).all() and len(own.days) == len(own.percent)
    assert (np.array(own.low_percent) <= np.array(own.percent) + 1e-9).all() and near.name.endswith("nearest patients")
    assert {d["covariate"] for d in told.document["drivers"]} == {"age", "marker", "stage"}
    assert told.facts["horizon_days"] == 300 and "promise" in told.facts and told.facts["patients"] == 160
    assert keeper.prognosis("1" * 16) == told
    assert len(list(read_lines(tmp_path / "audit.jsonl"))) == 1, "what is known is not told again"
    strange = keeper.prognosis("2" * 16)
    assert strange.abstained and not strange.curves, "a person unlike any other is not answered"
    rows[2] = "key-one,60,1,II"
    table.write_text("\n".join(rows) + "\n")
    assert "2 rows" in str(keeper.prognosis("1" * 16).abstained)
    assert "no row" in str(keeper.prognosis("2" * 16).abstained)
    with pytest.raises(NotFound):
        keeper.prognosis("9" * 16)
    with pytest.raises(NotFound, match="--treatment"):
        keeper.treatment("1" * 16)


def test_what_is_configured_wrongly_is_told_at_the_start(prognosis: Path, tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("name,age [a]\nx,1\n")
    with pytest.raises(ConfigError, match="--clinical"):
        OutlookKeeper(person, prognosis=prognosis)
    with pytest.raises(DataError, match="needs a column"):
        OutlookKeeper(person, prognosis=prognosis, clinical=tmp_path / "t.csv")
    with pytest.raises(ConfigError, match="no model"):
        OutlookKeeper(person, prognosis=tmp_path, clinical=tmp_path / "t.csv")
    with pytest.raises(ConfigError, match=r"treat\.yaml"):
        OutlookKeeper(person, treatment=tmp_path, clinical=tmp_path / "t.csv")
    (tmp_path / "treat.yaml").write_text("table: t.csv\nmethod: magic\ntreatment: x\ndesign: randomised\n")
    with pytest.raises(ConfigError, match="no settings"):
        OutlookKeeper(person, treatment=tmp_path, clinical=tmp_path / "t.csv")


@pytest.mark.slow
def test_a_treatment_is_told_with_its_interval_and_of_whom_nothing_is_said(tmp_path: Path) -> None:
    pytest.importorskip("econml")
    folder = write_cohort(tmp_path / "cohort", synthesise_cohort(7, 400))
    with (folder / "patients.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    (folder / "treat.yaml").write_text(
        "table: patients.csv\ntreatment: treatment\noption: new\nagainst: usual\ntime: days\nevent: event\n"
        "event_name: death\nhorizon_days: 1095\nindex_time: index_time\ndesign: observational\nmethod: dr-learner\n"
        "folds: 2\ntries: 2\nharms: [toxicity]\nwidth_limit: 1.9\n"
    )
    kidney = "creatinine [umol/L]"
    fine, failing = next(r for r in rows if float(r[kidney]) < 100), next(r for r in rows if float(r[kidney]) > 200)
    with (tmp_path / "clinical.csv").open("w", newline="") as text:
        writer = csv.DictWriter(text, ["patient_key", *rows[0]])
        writer.writeheader()
        writer.writerows([{"patient_key": "key-one", **fine}, {"patient_key": "key-two", **failing}])
    keeper = OutlookKeeper(person, treatment=folder, clinical=tmp_path / "clinical.csv")
    told, refused = keeper.treatment("1" * 16), keeper.treatment("2" * 16)
    assert told.abstained is None and told.document is not None and told.synthetic, told.abstained
    effect = told.document["effect"]
    assert effect["low"] < effect["value"] < effect["high"] and told.document["sentences"]
    assert told.facts["claim"] == "association" and told.facts["nothing_is_said_of"]
    assert refused.abstained and refused.document is not None and refused.document["effect"] is None
    assert "creatinine" in refused.abstained
