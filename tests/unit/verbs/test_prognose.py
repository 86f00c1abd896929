"""Prognose, end to end: a table in, a model with figures out; people in, curves or reasons out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from isocenter import cli
from isocenter.core.errors import ConfigError, DataError, UnitsError, WeightsError
from isocenter.verbs.prognose import _order, prognose, prognose_people
from isocenter.verbs.prognosis.document import FigureEntry, LearnerEntry, PrognosisModel
from survival_cases import people

QUICK = {"folds": 2, "inner": 2, "refits": 10, "trees": 40, "resamples": 30}


def write_table(file: Path, *, extra: str = "", codes: np.ndarray | None = None, n: int = 220) -> Path:
    known, times = people(n)
    age, marker, stage = known.columns
    lines = [f"who,age [a],marker [ug/L],stage,site,days,died{',' + extra if extra else ''}"]
    for i in range(n):
        died = int(times.happened[i]) if codes is None else int(codes[i])
        seen = "" if np.isnan(marker.values[i]) else f"{marker.values[i]:.4f}"
        cells = [f"p{i}", f"{age.values[i]:.2f}", seen, stage.levels[int(stage.values[i])], f"s{i % 2}"]
        cells += [f"{times.days[i]:.2f}", str(died)]
        if extra == "cause":
            cells.append("heart" if died else "")
        if extra == "follow_up":
            cells.append(f"{-times.days[i] * 2:.3f}")
        lines.append(",".join(cells))
    file.write_text("\n".join(lines) + "\n", "utf-8")
    return file


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, PrognosisModel]:
    folder = tmp_path_factory.mktemp("prognose")
    table = write_table(folder / "t.csv")
    made = prognose(
        table, folder / "m", time="days", event="died", horizon_days=300, patient="who", group="site", **QUICK
    )
    return folder / "m", made


def test_a_model_is_measured_and_kept(model: tuple[Path, PrognosisModel]) -> None:
    folder, made = model
    assert {f.name for f in folder.iterdir()} == {"model.json", "model.npz", "model.html"}
    assert [e.learner for e in made.learners] == ["cox", "forest"] and made.learner in ("cox", "forest")
    for entry in made.learners:
        c = {f.name: f for f in entry.figures}
        assert c["Harrell's C"].value > 0.66 and c["Harrell's C"].low is not None
        assert c["Harrell's C"].low < c["Harrell's C"].value < (c["Harrell's C"].high or 0)
        assert c["Brier"].value < c["Brier of nobody told apart"].value
        assert 0.6 < c["observed / predicted"].value < 1.5
        assert sum(g.count for g in entry.calibration) == 220
        said = [g.predicted for g in entry.calibration]
        assert said == sorted(said)
    marker = next(m for m in made.missing if m.column == "marker")
    assert marker.share == pytest.approx(1 / 8, abs=0.01) and set(marker.by_group) == {"s0", "s1"}
    assert "site" not in [c.name for c in made.columns] and "best of 2" in " ".join(made.notes)
    page = (folder / "model.html").read_text("utf-8")
    assert "Harrell" in page and "<svg" in page and "http" not in page.replace("http-equiv", "")
    assert "p17" not in (folder / "model.json").read_text("utf-8") + page


def test_people_are_answered_with_a_band_and_drivers(model: tuple[Path, PrognosisModel], tmp_path: Path) -> None:
    folder, _ = model
    told = prognose_people(
        folder, tmp_path / "out", people=["age [a]=75,marker [ug/L]=1.5,stage=III", "age [mo]=540,marker [ug/L]=-1.5"]
    )
    high, low = told.people
    assert high.risk is not None and low.risk is not None and high.low is not None and high.high is not None
    assert high.risk > low.risk + 0.3 and high.low <= high.risk <= high.high
    assert all((np.diff(c) <= 0).all() for c in (high.survival, high.survival_low, high.survival_high))
    assert high.neighbours >= 10 and len(high.survival) == len(told.at_days)
    assert low.imputed == ("stage",) and {d.covariate for d in high.drivers} == {"age", "marker", "stage"}
    page = (tmp_path / "out" / "prognosis.html").read_text("utf-8")
    assert "nearest patients" in page and page.count("<polyline") == 4
    rows = (tmp_path / "out" / "curves.csv").read_text("utf-8").splitlines()
    assert len(rows) == 1 + 2 * len(told.at_days)
    again = prognose_people(folder, people=["age [a]=75,marker [ug/L]=1.5,stage=III"])
    assert again.people[0] == high


def test_a_stranger_is_not_answered(
    model: tuple[Path, PrognosisModel], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, _ = model
    arguments = ["prognose", "--model", str(folder), "--out", str(tmp_path / "o"), "--patient", "age [a]=300,stage=I"]
    assert cli.run(arguments) == 4
    said = capsys.readouterr()
    assert "no answer: insufficient support: age lies beyond" in said.out and "nothing was answered" in said.err
    found = json.loads((tmp_path / "o" / "prognosis.json").read_text("utf-8"))
    assert found["people"][0]["risk"] is None and "No answer" in (tmp_path / "o" / "prognosis.html").read_text("utf-8")
    strange = prognose_people(folder, people=["age [a]=60,stage=IV"]).people[0]
    assert "stage lies beyond" in str(strange.abstained)


def test_wrong_questions(model: tuple[Path, PrognosisModel], tmp_path: Path) -> None:
    folder, _ = model
    with pytest.raises(UnitsError, match="does not convert"):
        prognose_people(folder, people=["age [kg]=61"])
    with pytest.raises(DataError, match="no column that the model learnt"):
        prognose_people(folder, people=["height [cm]=180"])
    with pytest.raises(ConfigError, match="COLUMN=VALUE"):
        prognose_people(folder, people=["61"])
    with pytest.raises(ConfigError, match="nobody is asked about"):
        prognose_people(folder)
    with pytest.raises(ConfigError, match="holds no model"):
        prognose_people(tmp_path, people=["age [a]=61"])
    spoilt = tmp_path / "spoilt"
    spoilt.mkdir()
    for name in ("model.json", "model.npz"):
        (spoilt / name).write_bytes((folder / name).read_bytes())
    (spoilt / "model.npz").write_bytes((folder / "model.npz").read_bytes()[:-9])
    with pytest.raises(WeightsError, match="is not what"):
        prognose_people(spoilt, people=["age [a]=61"])


def test_columns_that_tell_the_outcome_are_left_out_or_refused(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", extra="cause")
    settings = {"time": "days", "event": "died", "horizon_days": 300, "patient": "who", "learners": ("cox",), **QUICK}
    with pytest.raises(DataError, match=r"leakage: cause: missing for nearly all"):
        prognose(table, tmp_path / "m", features=("age", "cause"), **settings)
    made = prognose(table, tmp_path / "m", leave_out=("site",), **settings)
    assert any(what.startswith("column cause: missing") for what in made.left_out)
    assert [c.name for c in made.columns] == ["age", "marker", "stage"]
    table = write_table(tmp_path / "u.csv", extra="follow_up")
    with pytest.raises(DataError, match=r"follow_up: puts people in the order"):
        prognose(table, tmp_path / "m2", features=("age", "follow_up"), **settings)


def test_competing_events(tmp_path: Path) -> None:
    _, times = people(220)
    second = np.random.default_rng(3).random(220) < 0.35
    table = write_table(tmp_path / "t.csv", codes=np.where(times.happened, np.where(second, 2, 1), 0))
    settings = {"time": "days", "event": "died", "horizon_days": 300, "patient": "who", **QUICK}
    with pytest.raises(DataError, match="not explained"):
        prognose(table, tmp_path / "m", **settings)
    with pytest.raises(ConfigError, match="Cox regression alone"):
        prognose(table, tmp_path / "m", competing=("2",), learners=("forest",), **settings)
    with pytest.raises(ConfigError, match="fine-gray is of competing events"):
        prognose(table, tmp_path / "m", learners=("fine-gray",), **settings)
    made = prognose(table, tmp_path / "m", competing=("2",), **settings)
    assert [e.learner for e in made.learners] == ["competing-cox", "fine-gray"]
    assert all(e.figures[0].name == "C of the event" and e.figures[0].value > 0.6 for e in made.learners)
    person = prognose_people(tmp_path / "m", people=["age [a]=60,marker [ug/L]=0.2,stage=II"]).people[0]
    assert person.risk is not None and person.neighbours_low == () and len(person.neighbours_days)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"horizon_days": 99999.0}, ConfigError, "nobody was seen beyond day"),
        ({"horizon_days": 1e-6}, ConfigError, "nobody had the event by day"),
        ({"horizon_days": -1.0}, ConfigError, "horizon_days"),
        ({"folds": 200}, DataError, "can't be spread over"),
        ({"features": ("heigth",)}, ConfigError, "no column 'heigth'"),
        ({"time": "stage"}, DataError, "must hold numbers"),
        ({"event": "age"}, DataError, "not explained"),
        ({"units": {"age": "kg"}}, UnitsError, "does not convert"),
        ({"learners": ("oracle",)}, ConfigError, "learners"),
    ],
)
def test_what_can_not_be_asked(tmp_path: Path, settings: dict[str, object], error: type[Exception], words: str) -> None:
    table = write_table(tmp_path / "t.csv", n=80)
    given = {"time": "days", "event": "died", "horizon_days": 300.0, "patient": "who", **QUICK, **settings}
    with pytest.raises(error, match=words):
        prognose(table, tmp_path / "m", **given)  # type: ignore[arg-type]
    assert not (tmp_path / "m").exists()


def test_dates_after_the_index_time(tmp_path: Path) -> None:
    lines = write_table(tmp_path / "t.csv", n=120).read_text("utf-8").splitlines()
    rows = [f"{lines[0]},index,ct,ct date"]
    rows += [f"{line},2020-01-01,{n},{2020 + n % 2}-0{1 + n % 2}-01" for n, line in enumerate(lines[1:])]
    table = tmp_path / "d.csv"
    table.write_text("\n".join(rows) + "\n", "utf-8")
    settings = {"time": "days", "event": "died", "horizon_days": 300.0, "patient": "who", "learners": ("cox",), **QUICK}
    with pytest.raises(DataError, match="need the column of the index time"):
        prognose(table, tmp_path / "m", **settings)  # type: ignore[arg-type]
    with pytest.raises(
        DataError, match="leakage: ct: dated later than the index time, or not told to be earlier, in 60 rows"
    ):
        prognose(table, tmp_path / "m", index_time="index", features=("age", "ct"), **settings)  # type: ignore[arg-type]
    made = prognose(table, tmp_path / "m", index_time="index", **settings)  # type: ignore[arg-type]
    assert "column ct: dated later than the index time, or not told to be earlier, in 60 rows" in made.left_out
    rows[3] = rows[3].replace("2020-01-01,", "2120-01-01,")
    table.write_text("\n".join(rows) + "\n", "utf-8")
    with pytest.raises(DataError, match="lie in the future, the first on line 4"):
        prognose(table, tmp_path / "m3", index_time="index", **settings)  # type: ignore[arg-type]


def test_the_command_learns_and_prints_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = write_table(tmp_path / "t.csv", n=70)
    arguments = [
        "prognose", str(table), "--out", str(tmp_path / "m"), "--time", "days", "--event", "died", "--horizon", "300",
        "--patient-column", "who", "--learner", "cox", "--folds", "3", "--refits", "10",
        "--resamples", "30", "--kind", "stage=category",
    ]  # fmt: skip
    assert cli.run([*arguments, "--json"]) == 0
    assert PrognosisModel.model_validate_json(capsys.readouterr().out).rows == 70
    assert cli.run(arguments) == 2
    assert "is not empty" in capsys.readouterr().err
    assert cli.run(["prognose", str(table)]) == 2
    assert "give --out, --time, --event, --horizon" in capsys.readouterr().err
    assert cli.run(["prognose", "--model", str(tmp_path / "m"), "--time", "days"]) == 2
    assert cli.run([*arguments, "--overwrite", "--kind", "stage"]) == 2


SETTINGS = {"time": "days", "event": "died", "horizon_days": 300.0, "learners": ("cox",), **QUICK}


def held(folder: Path) -> dict[str, bytes]:
    return {f.name: f.read_bytes() for f in folder.iterdir() if f.is_file()}


def test_a_folder_that_is_not_ours_or_is_read_is_never_replaced(
    model: tuple[Path, PrognosisModel], tmp_path: Path
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    table = write_table(data / "t.csv", n=80)
    before = held(data)
    with pytest.raises(ConfigError, match="not overwritten"):
        prognose(table, data, patient="who", overwrite=True, **SETTINGS)  # type: ignore[arg-type]
    assert held(data) == before
    for name in ("model.json", "model.npz"):
        (data / name).write_bytes((model[0] / name).read_bytes())
    (tmp_path / "elsewhere.csv").write_bytes(table.read_bytes())
    (data / "link.csv").symlink_to(tmp_path / "elsewhere.csv")
    before = held(data)
    for one in (table, data / "link.csv"):
        with pytest.raises(ConfigError, match="holds what is read"):
            prognose(one, data, patient="who", overwrite=True, **SETTINGS)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="is not empty"):
        prognose(tmp_path / "elsewhere.csv", data, patient="who", **SETTINGS)  # type: ignore[arg-type]
    assert held(data) == before


def test_answers_never_replace_a_model(model: tuple[Path, PrognosisModel], tmp_path: Path) -> None:
    person = ["age [a]=60,marker [ug/L]=0.2,stage=II"]
    mine = tmp_path / "m"
    mine.mkdir()
    for name, held_bytes in held(model[0]).items():
        (mine / name).write_bytes(held_bytes)
    with pytest.raises(ConfigError, match="not overwritten"):
        prognose_people(mine, mine, people=person, overwrite=True)
    (mine / "prognosis.json").write_text("{}", "utf-8")
    for out in (mine, mine.parent / "m" / ".." / "m"):
        with pytest.raises(ConfigError, match="holds what is read"):
            prognose_people(mine, out, people=person, overwrite=True)
    assert (mine / "model.npz").is_file()
    prognose_people(mine, tmp_path / "told", people=person)
    prognose_people(mine, tmp_path / "told", people=person, overwrite=True)
    assert (tmp_path / "told" / "prognosis.json").is_file()


def with_columns(table: Path, **columns: list[str]) -> Path:
    lines = table.read_text("utf-8").splitlines()
    for name, cells in columns.items():
        lines = [f"{line},{cell}" for line, cell in zip(lines, [name, *cells], strict=True)]
    table.write_text("\n".join(lines) + "\n", "utf-8")
    return table


def test_a_copy_of_the_event_is_no_feature(tmp_path: Path) -> None:
    _, times = people(220)
    died = times.happened
    noise = np.random.default_rng(1).random(220)
    nearly = died ^ (noise < 0.01)
    loosely = died ^ (noise < 0.15)
    table = with_columns(
        write_table(tmp_path / "t.csv"),
        relapse=["yes" if d else "no" for d in died], state=["dead" if d else "alive" for d in nearly],
        code=[str(int(d)) for d in died], score=[f"{d + 0.5 * r:.3f}" for d, r in zip(died, noise, strict=True)],
        weak=["yes" if d else "no" for d in loosely], rare=["x" if n < 3 else "y" for n in range(220)],
    )  # fmt: skip
    made = prognose(table, tmp_path / "m", patient="who", **SETTINGS)  # type: ignore[arg-type]
    told = [what.split(":")[0] for what in made.left_out if "tells who had the event by itself" in what]
    assert told == ["column relapse", "column state", "column code", "column score"]
    assert {"weak", "rare"} <= {c.name for c in made.columns}
    with pytest.raises(DataError, match="leakage: relapse: tells who had the event by itself"):
        prognose(table, tmp_path / "m2", patient="who", features=("age", "relapse"), **SETTINGS)  # type: ignore[arg-type]


def test_a_copy_of_all_competing_events_is_no_feature(tmp_path: Path) -> None:
    _, times = people(220)
    second = np.random.default_rng(3).random(220) < 0.35
    codes = np.where(times.happened, np.where(second, 2, 1), 0)
    table = write_table(tmp_path / "t.csv", codes=codes)
    with_columns(table, ended=["yes" if c else "no" for c in codes], why=[f"c{c}" for c in codes])
    made = prognose(table, tmp_path / "m", patient="who", competing=("2",), **SETTINGS)  # type: ignore[arg-type]
    assert not {"ended", "why"} & {c.name for c in made.columns}


def test_names_of_people_are_no_features(tmp_path: Path) -> None:
    table = with_columns(write_table(tmp_path / "t.csv", n=80), **{"Patient ID": [str(n // 2) for n in range(80)]})
    with pytest.raises(ConfigError, match=r"'Patient ID' seems to name patients.*--patient-column.*--leave-out"):
        prognose(table, tmp_path / "m", **SETTINGS)  # type: ignore[arg-type]
    made = prognose(table, tmp_path / "m", leave_out=("Patient ID", "who"), **SETTINGS)  # type: ignore[arg-type]
    assert "Patient ID" not in [c.name for c in made.columns]
    made = prognose(table, tmp_path / "n", patient="who", **SETTINGS)  # type: ignore[arg-type]
    assert "column Patient ID: names people or cases" in made.left_out
    assert "Patient ID" not in [c.name for c in made.columns]


def test_a_first_column_of_row_numbers_is_dropped(tmp_path: Path) -> None:
    table = write_table(tmp_path / "t.csv", n=80)
    lines = table.read_text("utf-8").splitlines()
    table.write_text("\n".join(f"{n or ''},{line}" for n, line in enumerate(lines)) + "\n", "utf-8")
    made = prognose(table, tmp_path / "m", patient="who", **SETTINGS)  # type: ignore[arg-type]
    assert [c.name for c in made.columns] == ["age", "marker", "stage", "site"]
    assert "the first column, without a heading: names of rows" in made.left_out


def test_dates_of_columns_that_are_left_out_stop_nothing(tmp_path: Path) -> None:
    table = with_columns(
        write_table(tmp_path / "t.csv", n=80), index=["2020-01-01"] * 80, ct=[str(n) for n in range(80)],
        **{"ct Date": ["2020-02-01"] * 80},
    )  # fmt: skip
    given = {"patient": "who", "index_time": "index", **SETTINGS}
    made = prognose(table, tmp_path / "m", **given)  # type: ignore[arg-type]
    assert any(what.startswith("column ct: dated later") for what in made.left_out)
    made = prognose(table, tmp_path / "n", leave_out=("ct",), **given)  # type: ignore[arg-type]
    assert [c.name for c in made.columns] == ["age", "marker", "stage", "site"]
    with_columns(table, progression=["2020-03-01"] * 80)
    with pytest.raises(DataError, match=r"date no column: progression \(80 rows\)"):
        prognose(table, tmp_path / "o", **given)  # type: ignore[arg-type]


def test_a_way_of_learning_is_chosen_by_its_concordance() -> None:
    brier, c = FigureEntry(name="Brier", of="", value=0.9), FigureEntry(name="Harrell's C", of="", value=0.6)
    entry = LearnerEntry(learner="cox", figures=(brier, c), calibration=(), settings=(), dropped={})
    assert _order(entry) == 0.6
    unknown = c.model_copy(update={"value": float("nan")})
    for figures in ((brier,), (brier, unknown)):
        with pytest.raises(DataError, match="no concordance can be told"):
            _order(entry.model_copy(update={"figures": figures}))
