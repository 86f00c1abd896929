"""Prognose with modalities beside the table, end to end: joined, measured, kept, asked, said; and its audit lines."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from isocenter import cli
from isocenter.core.errors import ConfigError, DataError, UnitsError
from isocenter.safety.audit import read_lines, verify
from isocenter.tasks.prognose import fused
from isocenter.verbs.prognose import prognose, prognose_people
from isocenter.verbs.prognosis.document import PrognosisModel

N = 160
QUICK = {"folds": 2, "inner": 2, "refits": 10, "trees": 30, "resamples": 30}
ASKED = {"time": "days", "event": "died", "horizon_days": 150, "patient": "who", "index_time": "start"}


def write_cohort(folder: Path, *, shift: float = 0.0) -> Path:
    """A table, CT numbers of two scanners for most, a report for all; the signal is in the CT and in the report."""
    rng = np.random.default_rng(3)
    signal, age = rng.normal(size=N), rng.normal(60, 8, N)
    event, lost = rng.exponential(150 * np.exp(-signal)), rng.uniform(80, 500, N)
    days, died = np.minimum(event, lost), event <= lost
    table, ct, reports = ["who,age [a],start,days,died,made"], ["patient,day,scanner,f0 [mm],f1,f2"], ["id,text"]
    for n in range(N):
        table.append(f"p{n},{age[n]:.2f},2020-03-01,{days[n]:.2f},{int(died[n])},synthetic")
        if n % 4:
            scanner = "AB"[n % 2]
            own = signal[n] * np.array([1.0, -0.7, 0.4]) + 0.4 * rng.normal(size=3) + shift * (scanner == "B")
            ct.append(f"p{n},2020-02-{1 + n % 28:02d},{scanner}," + ",".join(f"{v:.4f}" for v in own))
        size = "large irregular mass" if signal[n] > 0 else "small smooth nodule"
        reports.append(f"p{n},SYNTHETIC: {size} of {n} mm")
    for name, lines in (("people", table), ("ct", ct), ("reports", reports)):
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return folder


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, PrognosisModel]]:
    folder = write_cohort(tmp_path_factory.mktemp("blocks"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with pytest.MonkeyPatch.context() as patch:
        small = partial(fused.FusionLearner, networks=1, decays=(0.1,), steps=25)
        patch.setattr(fused, "FusionLearner", small)
        model = prognose(
            folder / "people.csv", folder / "m", blocks=blocks(folder), batch="scanner", audit=folder / "audit.jsonl",
            learners=("cox", "fusion"), **ASKED, **QUICK,
        )  # fmt: skip
    yield folder, model
    torch.set_num_threads(threads)


def blocks(folder: Path) -> tuple[str, ...]:
    return (f"ct={folder / 'ct.csv'}", f"report={folder / 'reports.csv'}:text")


def test_a_model_over_blocks_is_measured_and_counted(made: tuple[Path, PrognosisModel]) -> None:
    folder, model = made
    assert [e.learner for e in model.learners] == ["cox", "fusion"] and model.synthetic
    ct, report = model.blocks
    assert (ct.people, report.people) == (120, 160) and ct.columns == ("f0", "f1", "f2") and ct.units[0] == "mm"
    assert ct.batches == {"A": 40, "B": 80} and report.text and not report.batches and ct.dated
    assert model.patterns == {"ct + report": 120, "report": 40}
    for entry in model.learners:
        assert next(f.value for f in entry.figures if f.name == "Harrell's C") > 0.6
        taken = {t.modality: t for t in entry.taken}
        assert set(taken) == {"ct", "report", "table"} and taken["ct"].lost_low is not None
        assert set(entry.dropped) == {"age", "ct", "report"}
    # The clinical table tells nothing here; CT and report stand in for each other.
    assert {t.modality: t.lost for t in model.learners[0].taken}["table"] < 0.05
    page = (folder / "m" / "model.html").read_text("utf-8")
    assert "Who has which modality" in page and "Without a modality" in page and "Synthetic." in page
    assert "scanners: A 40, B 80" in page and "p17" not in page
    assert any("without dates" in n and n.endswith(": report") for n in model.notes)
    assert any(w.startswith("column made: says that these people are invented") for w in model.left_out)


def test_people_are_asked_with_any_modality_missing(made: tuple[Path, PrognosisModel], tmp_path: Path) -> None:
    folder, model = made
    person = ["who=p1,age [a]=61", "who=p4,age [a]=61", "age [a]=61", "who=p2"]
    told = prognose_people(folder / "m", tmp_path / "t", people=person, blocks=blocks(folder))
    has, no_ct, nothing, no_table = told.people
    assert told.synthetic and has.risk is not None and nothing.risk is not None
    modalities = {m.modality: m for m in has.modalities}
    assert list(modalities) == ["table", "ct", "report"] and all(m.present and m.used for m in modalities.values())
    assert modalities["ct"].without is not None and abs(modalities["ct"].without - has.risk) > 1e-4
    if model.learner == "fusion":
        assert sum(m.attention or 0 for m in has.modalities) == pytest.approx(1)
    assert [m.present for m in no_ct.modalities] == [True, False, True] and not no_ct.notes
    assert [m.present for m in nothing.modalities] == [True, False, False]
    assert len(nothing.notes) == 1 and "report was never missing among those learnt from" in nothing.notes[0]
    assert [m.present for m in no_table.modalities] == [False, True, True] and no_table.imputed == ("age",)
    page = (tmp_path / "t" / "prognosis.html").read_text("utf-8")
    assert "Modalities" in page and "Invented people" in page and "never missing" in page
    assert "report" in {d.covariate for d in has.drivers}
    table = prognose_people(folder / "m", table=folder / "people.csv", blocks=blocks(folder))
    assert len(table.people) == N and [m.present for m in table.people[4].modalities] == [True, False, True]


def test_a_scanner_that_is_new_is_said(made: tuple[Path, PrognosisModel], tmp_path: Path) -> None:
    folder, _ = made
    (tmp_path / "new.csv").write_text("patient,scanner,f0 [cm],f1,f2\nq,C,0.1,-0.7,0.4\nr,A,0.1,-0.7,0.4\n", "utf-8")
    told = prognose_people(
        folder / "m", people=["who=q,age [a]=61", "who=r,age [a]=61"], blocks=[f"ct={tmp_path / 'new.csv'}"]
    )
    new, known = told.people
    assert any("ct is of a scanner that was not learnt from" in note for note in new.notes)
    assert [(m.present, m.used) for m in new.modalities][1] == (True, False)
    assert [(m.present, m.used) for m in known.modalities][1] == (True, True) and known.risk != new.risk
    plain = prognose_people(folder / "m", people=["age [a]=61"]).people[0]
    assert plain.risk == new.risk  # it is not used, and so says nothing


def test_wrong_blocks_of_people(made: tuple[Path, PrognosisModel], tmp_path: Path) -> None:
    folder, _ = made
    ask = partial(prognose_people, folder / "m", people=["who=q,age [a]=61"])
    (tmp_path / "a.csv").write_text("patient,scanner,f0 [mm],f1\nq,A,0.1,-0.7\n", "utf-8")
    with pytest.raises(DataError, match="'ct' lacks 1 of the 3 numbers that the model learnt with: f2"):
        ask(blocks=[f"ct={tmp_path / 'a.csv'}"])
    with pytest.raises(ConfigError, match="knows no block 'mr'; it learnt with ct, report"):
        ask(blocks=[f"mr={tmp_path / 'a.csv'}"])
    with pytest.raises(DataError, match="holds numbers; the model learnt with text"):
        ask(blocks=[f"report={tmp_path / 'a.csv'}"])
    with pytest.raises(ConfigError, match="have no column of the patient's key"):
        prognose_people(folder / "m", people=["age [a]=61"], blocks=blocks(folder))
    (tmp_path / "b.csv").write_text("patient,scanner,f0 [kg],f1,f2\nq,A,0.1,-0.7,1\n", "utf-8")
    with pytest.raises(UnitsError, match="column 'f0' of block 'ct'"):
        ask(blocks=[f"ct={tmp_path / 'b.csv'}"])
    said = ask(blocks=blocks(folder)).notes
    assert sum("Nobody answered for has a row in the block" in note for note in said) == 2


@pytest.mark.parametrize(
    ("change", "error", "said"),
    [
        (lambda t: t.replace("p1,", "x1,"), DataError, r"1 of its patients are not in the table, the first on line 2"),
        (lambda t: t.replace("\np", "\nx"), DataError, "none of its 120 patients is in the table"),
        (lambda t: t + "p1,2020-02-01,A,1,2,3\n", DataError, "line 122 is of the patient of line 2"),
        (lambda t: t.replace("2020-02-02", "2020-03-02", 1), DataError, "leakage: block 'ct' is dated later .* 1 rows"),
        (lambda t: t.replace("2020-02-02", "", 1), DataError, "leakage: block 'ct' is dated later"),
    ],
)
def test_joins_that_can_not_be(tmp_path: Path, change, error: type[Exception], said: str) -> None:
    folder = write_cohort(tmp_path)
    (folder / "ct.csv").write_text(change((folder / "ct.csv").read_text("utf-8")), "utf-8")
    with pytest.raises(error, match=said):
        prognose(folder / "people.csv", folder / "m", blocks=blocks(folder), **ASKED, **QUICK)


def test_settings_that_can_not_be(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path)
    learn = partial(prognose, folder / "people.csv", folder / "m", **QUICK)
    with pytest.raises(ConfigError, match="fusion joins several modalities"):
        learn(learners=("fusion",), **ASKED)
    with pytest.raises(ConfigError, match="name the patient's column"):
        learn(blocks=blocks(folder), **{**ASKED, "patient": None})
    with pytest.raises(ConfigError, match="--batch harmonises blocks"):
        learn(batch="scanner", **ASKED)
    with pytest.raises(ConfigError, match="no column 'site' of scanners"):
        learn(batch="site", blocks=blocks(folder), **ASKED)
    with pytest.raises(DataError, match=r"block 'ct' has dates \(day\)"):
        learn(blocks=blocks(folder), leave_out=("start",), **{**ASKED, "index_time": None})
    for wrong in ("ct", "ct=", f"table={folder / 'ct.csv'}", f"ct={folder / 'no.csv'}"):
        with pytest.raises(ConfigError, match="block"):
            learn(blocks=(wrong,), **ASKED)
    with pytest.raises(ConfigError, match="called like a column"):
        learn(blocks=(f"age={folder / 'ct.csv'}",), **ASKED)


def test_a_block_that_tells_the_outcome_is_leakage(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path)
    table = [line.split(",") for line in (folder / "people.csv").read_text("utf-8").splitlines()[1:]]
    died = ["who,a"] + [f"{cells[0]},{n}" for n, cells in enumerate(table) if cells[4] == "1"]
    (folder / "autopsy.csv").write_text("\n".join(died) + "\n", "utf-8")
    learn = partial(prognose, folder / "people.csv", folder / "m", learners=("cox",), **ASKED, **QUICK)
    with pytest.raises(DataError, match="there for nearly all with the event"):
        learn(blocks=(f"autopsy={folder / 'autopsy.csv'}",))
    copy = ["who,lived,noise"] + [f"{cells[0]},{cells[3]},{n * 37 % 11}" for n, cells in enumerate(table)]
    (folder / "copy.csv").write_text("\n".join(copy) + "\n", "utf-8")
    made = learn(blocks=(f"copy={folder / 'copy.csv'}",))
    assert made.blocks[0].columns == ("noise",)
    assert any("block copy, lived: puts people in the order" in what for what in made.left_out)


def test_a_text_may_stand_in_the_table_itself(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path)
    texts = (folder / "reports.csv").read_text("utf-8").splitlines()[1:]
    lines = (folder / "people.csv").read_text("utf-8").splitlines()
    rows = [f"{line},{text.split(',')[1]}" for line, text in zip(lines[1:], texts, strict=True)]
    (folder / "people.csv").write_text("\n".join([f"{lines[0]},note", *rows]) + "\n", "utf-8")
    settings = {**ASKED, **QUICK, "learners": ("cox",)}
    made = prognose(folder / "people.csv", folder / "m", blocks=("report=:note",), **settings)
    assert [c.name for c in made.columns] == ["age"] and made.blocks[0].people == N and made.blocks[0].text
    assert not any(what.startswith("column note") for what in made.left_out)
    assert made.learners[0].taken[0].modality == "report" and made.learners[0].taken[0].lost > 0.03
    told = prognose_people(folder / "m", table=folder / "people.csv", blocks=("report=:note",))
    assert all(p.modalities[1].present for p in told.people)


def test_a_shift_of_scanners_is_evened_out_by_the_verb(tmp_path: Path) -> None:
    folder = write_cohort(tmp_path, shift=4.0)
    settings = {**ASKED, **QUICK, "learners": ("cox",), "components": 1, "blocks": blocks(folder)[:1]}
    found = []
    for name, batch in (("plain", None), ("even", "scanner")):
        made = prognose(folder / "people.csv", folder / name, batch=batch, **settings)
        found.append(made.learners[0].figures[0].value)
    assert found[1] > found[0] + 0.05


def test_every_run_is_a_line_of_the_record(made: tuple[Path, PrognosisModel], tmp_path: Path) -> None:
    folder, model = made
    (line,) = (event for *_, event in read_lines(folder / "audit.jsonl"))
    assert line.verb == "prognose" and line.outcome == "answered" and len(line.outputs) == 1
    assert model.data_sha256 in line.inputs and {b.sha256 for b in model.blocks} < set(line.inputs)
    record = tmp_path / "audit.jsonl"
    people = ["who=p1,age [a]=61", "age [a]=300"]
    prognose_people(folder / "m", people=people, blocks=blocks(folder), audit=record)
    arguments = ["prognose", "--model", str(folder / "m"), "--patient", "age [a]=300", "--audit", str(record)]
    assert cli.run(arguments) == 4
    with pytest.raises(ConfigError):
        prognose_people(folder / "m", audit=record)
    lines = [event for *_, event in read_lines(record)]
    assert [e.outcome for e in lines] == ["answered", "abstained", "failed"] and verify(record).lines == 3
    assert [a.outcome for a in lines[0].answers] == ["answered", "abstained"]
    assert {a.weights for a in lines[0].answers} == {model.arrays_sha256}
    assert "p1" not in record.read_text("utf-8").replace("sha", "")


def test_the_command_takes_blocks(
    made: tuple[Path, PrognosisModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = made
    arguments = [
        "prognose", str(folder / "people.csv"), "--out", str(tmp_path / "m"), "--time", "days", "--event", "died",
        "--horizon", "150", "--patient-column", "who", "--index-time", "start", "--learner", "cox", "--folds", "2",
        "--inner", "2", "--refits", "10", "--resamples", "30", "--components", "2", "--batch", "scanner",
        *(a for b in blocks(folder) for a in ("--block", b)),
    ]  # fmt: skip
    assert cli.run(arguments) == 0
    said = capsys.readouterr().out
    assert "synthetic: these people are invented" in said and "block ct: 120 of 160 have it" in said
    assert "without ct: concordance" in said
    ask = ["prognose", "--model", str(tmp_path / "m"), "--patient", "who=p1,age [a]=61"]
    assert cli.run([*ask, *(a for b in blocks(folder) for a in ("--block", b))]) == 0
    said = capsys.readouterr().out
    assert "  ct: without it" in said and "synthetic: of invented people" in said
