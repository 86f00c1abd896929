"""`isocenter check`: what is known passes or fails, what is not is "not measured", and the scorecard says all of it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from PIL import Image as Picture

import isocenter
from adapted_cases import case, session, tiny_weights
from evaluation_cases import ball, save, table
from isocenter import cli
from isocenter.core import (
    Code,
    Estimate,
    Geometry,
    Mask,
    ModelRef,
    Prediction,
    Scores,
    Segment,
    Study,
    TaskEntry,
    Uncertainty,
)
from isocenter.core.errors import ConfigError, DataError
from isocenter.core.fingerprint import values_fingerprint
from isocenter.core.units import UCUM
from isocenter.data.labelled import open_labelled
from isocenter.evaluate.corruption import CORRUPTIONS
from isocenter.models.training_pixels import training_pixels
from isocenter.models.weights import read_card
from isocenter.plugins import task_entries
from isocenter.tasks.interact.engine import Engine
from isocenter.tasks.segment.lungs_cxr.cards import CARD
from isocenter.verbs.check import CheckConfig, seen_before, weights_of
from isocenter.verbs.evaluation.checks import (
    abstention_check,
    coverage_checks,
    latency_check,
    subgroup_check,
    task_checks,
    verdict,
)
from isocenter.verbs.evaluation.document import (
    CheckEntry,
    DropEntry,
    EvaluationDocument,
    PointEntry,
    ScorecardDocument,
    SubgroupBlock,
    SubgroupEntry,
    scorecard_schema,
)
from isocenter.verbs.evaluation.drawing import drops_svg, forest_svg
from isocenter.verbs.evaluation.masks import MaskSettings, measure_case
from isocenter.verbs.evaluation.runs import Kept, RunSettings, as_classes, ask, keeps_promises, system_of
from isocenter.verbs.session_folder import save_session

GRID = Geometry.axial((2, 10, 20), spacing_mm=(2.5, 2.0, 2.0))
QUICK = {"widths": (4, 8), "precision": "float32", "learning_rate": 0.01, "seed": 1, "folds": 2, "steps": 25}


@pytest.fixture(scope="module")
def balls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("balls")
    for n in range(12):
        image, label = ball(n)
        save(image, folder / "images" / f"zebra-{n:02d}.nii.gz")
        save((label > 0).astype(np.uint8), folder / "labels" / f"zebra-{n:02d}.nii.gz")
    (folder / "classes.txt").write_text("ball\n")
    return folder


@pytest.fixture(scope="module")
def learnt(balls: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("learnt") / "task"
    isocenter.adapt_data(balls, out, **QUICK)
    return out


@pytest.fixture(scope="module")
def sides(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A task that tells a bright top from a bright bottom, and its set."""
    folder = tmp_path_factory.mktemp("sides")
    rng = np.random.default_rng(0)
    for n in range(24):
        array = rng.normal(90, 12, (32, 32))
        array[slice(4, 14) if n % 2 else slice(18, 28), 8:24] += 70
        place = folder / "set" / ("top" if n % 2 else "bottom")
        place.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(np.clip(array, 0, 255).astype(np.uint8)).save(place / f"i{n}.png")
    out = folder / "task"
    isocenter.adapt_data(folder / "set", out, **QUICK)
    return out, folder / "set"


def by_name(found: ScorecardDocument) -> dict[str, CheckEntry]:
    return {check.name: check for check in found.checks}


@pytest.fixture(scope="module")
def checked(learnt: Path, balls: Path) -> Path:
    """The scorecard of the learnt task on the set that it learnt from."""
    out = learnt.parent / "card"
    groups = table(learnt.parent / "g.csv", ["case", "sex"], [(f"zebra-{n:02d}", "FM"[n % 2]) for n in range(12)])
    code = cli.run([
        "check", str(learnt), "--out", str(out), "--data", str(balls), "--groups", str(groups), "--corrupt",
        "rotation,inversion", "--corrupt-cases", "2",
    ])  # fmt: skip
    assert code == cli.Exit.MODEL, "its calibration is missing"
    return out


def test_a_learnt_task_on_its_set(checked: Path) -> None:
    out = checked
    document = json.loads((out / "scorecard.json").read_text("utf-8"))
    Draft202012Validator(scorecard_schema()).validate(document)
    found = ScorecardDocument.model_validate(document)
    checks = by_name(found)
    for name in ("packages", "licence", "intended use", "files", "weights", "laterality", "contract", "repeatable"):
        assert checks[name].status == "passed", checks[name].words
    assert checks["orientation"].status == "passed", "it turns every volume to one order of axes before it looks"
    assert checks["orientation"].number == pytest.approx(1.0), checks["orientation"].words
    assert checks["latency"].status == "measured", "time has no limit: it is no pass"
    assert checks["calibration"].status == "failed", "12 held-out cases promise nothing"
    assert "held-out cases were too few" in checks["calibration"].words
    assert checks["coverage"].status == "not measured" and checks["subgroups"].status == "not measured"
    assert not found.passed and "calibration" in found.against
    assert any("12 of 12 images of this set were learnt from" in note for note in found.notes)
    assert found.evaluation is not None and found.evaluation.cases == 12
    drops = {d.kind: d for d in found.evaluation.drops}
    assert [p.grade for p in drops["rotation"].points] == [0, 1, 2, 3, 4, 5]
    assert [p.grade for p in drops["inversion"].points] == [0, 5]
    assert all(p.cases == 2 for d in drops.values() for p in d.points)
    page = (out / "scorecard.html").read_text("utf-8")
    assert page.count("data:image/png") >= 2 and "zebra" not in page
    card = (out / "model-card.md").read_text("utf-8")
    assert "| calibration | failed |" in card and "Against it: calibration" in card
    assert {f.name for f in out.iterdir()} == {"scorecard.json", "scorecard.html", "model-card.md", "cases.csv"}


def test_a_learnt_task_alone_is_measured_by_what_it_held_out(learnt: Path, tmp_path: Path) -> None:
    found = isocenter.check(str(learnt), tmp_path / "card", resamples=100)
    assert found.evaluation is not None and found.evaluation.cases == 12
    assert found.evaluation.figures[0].name == "Dice" and not found.evaluation.drops
    checks = by_name(found)
    assert checks["coverage"].status == "not measured" and checks["orientation"].status == "not measured"
    assert any("networks that never saw its patient" in note for note in found.evaluation.notes)


def test_classes(sides: tuple[Path, Path], tmp_path: Path) -> None:
    task, labelled = sides
    alone = isocenter.check(str(task), tmp_path / "alone", resamples=100)
    assert alone.evaluation is not None and alone.evaluation.kind == "classes"
    assert alone.evaluation.roc and alone.evaluation.reliability
    found = isocenter.check(
        str(task), tmp_path / "card", data=labelled, corrupt=("blur",), corrupt_cases=4, resamples=100
    )
    checks = by_name(found)
    assert checks["orientation"].status == "not applicable" and checks["repeatable"].status == "passed"
    covered = checks["coverage of the set of classes"]
    assert covered.status == "not measured" and covered.words.startswith("the cases are those that it learnt from")
    assert re.search(r"(\d\d) of \1 promises of 90% were kept, in answers about \1 patients", covered.words)
    assert checks["calibration"].status == checks["abstentions"].status == "passed"
    assert checks["latency of answers"].unit == "ms" and checks["latency of answers"].status == "measured"
    assert found.evaluation is not None and found.evaluation.figures[0].value > 0.9


def test_evaluate_runs_a_task(learnt: Path, balls: Path, tmp_path: Path) -> None:
    found = isocenter.evaluate_predictions(
        tmp_path / "out", task=str(learnt), data=balls, against=str(learnt), resamples=100, pictures=False
    )
    assert found.cases == 12 and all(c.difference == 0 for c in found.comparisons if c.difference is not None)
    with pytest.raises(ConfigError, match="needs someone who points"):
        isocenter.evaluate_predictions(tmp_path / "o2", task="interact", data=balls)
    with pytest.raises(ConfigError, match="no task 'nobody'"):
        isocenter.evaluate_predictions(tmp_path / "o3", task="nobody", data=balls)
    with pytest.raises(DataError, match=r"no case was answered; the first reason: needs modality"):
        isocenter.evaluate_predictions(tmp_path / "o4", task="hippocampus-t1", data=balls)


@pytest.mark.parametrize("task", ["interact", "lungs-cxr", "hippocampus-t1"])
def test_the_tasks_that_ship(task: str, tmp_path: Path, capsys) -> None:
    code = cli.run(["check", task, "--out", str(tmp_path / "card"), "--json"])
    found = ScorecardDocument.model_validate_json(capsys.readouterr().out)
    assert code == (cli.Exit.OK if found.passed else cli.Exit.MODEL)
    checks = by_name(found)
    assert not [c.name for c in found.checks if c.status == "failed"]
    for name in ("licence", "weights", "laterality", "contract", "calibration"):
        assert checks[name].status == "passed"
    assert checks["gate"].status == ("not applicable" if task == "interact" else "passed")
    assert checks["coverage"].status == checks["subgroups"].status == "not measured"
    assert found.evaluation is None and "Nothing was measured" in (tmp_path / "card" / "scorecard.html").read_text()
    if task != "interact":
        assert found.against == ("repeatable",), "it abstains from invented images: what it does twice is not known"
    assert found.card.figures and found.card.weights_sha256


def test_a_task_of_a_session(tmp_path: Path) -> None:
    """Its base is put through the pre-flight; the adapter, which is no network, runs with the task alone."""
    engine = Engine(tiny_weights(tmp_path), volume=None)
    save_session(session(engine, [case(seed) for seed in range(3)]), tmp_path / "session")
    isocenter.adapt(
        tmp_path / "session", tmp_path / "task", steps=2, plane_weights=str(tmp_path / "tiny.safetensors")
    )  # fmt: skip
    found = isocenter.check(str(tmp_path / "task"), tmp_path / "card")
    checks = by_name(found)
    assert checks["weights"].status == checks["laterality"].status == "passed" and len(found.card.weights_sha256) == 2
    assert checks["calibration"].status == "failed" and checks["calibration"].words.endswith("card of tiny")
    assert checks["contract"].status == "passed" and not found.passed


# Tasks that are wrong


class Toy:
    """A task that outlines what is bright, and can be made wrong in several ways."""

    def __init__(self, how: str = "") -> None:
        self.how, self.calls = how, 0
        self.card = replace(
            CARD, name="toy", modalities=(), body_parts=(), needs_volume=None, weights="", requires=(), licence="MIT"
        )

    def run(self, study: Study, prompts=()) -> Prediction:
        self.calls += 1
        if len(study.images) != 1:
            return Prediction.abstain("toy", "needs exactly one image")
        image = study.images[0]
        volume = image.array[0].astype(float)
        if np.ptp(volume) == 0:
            return Prediction.abstain("toy", "the image is flat: nothing is in it")
        limit = 180 if self.how == "absolute" else volume.min() + 0.6 * np.ptp(volume)
        found = (volume > limit).astype(np.uint16)
        if self.how == "random":
            found[tuple(np.array(found.shape) // 2)] = self.calls % 2
        if self.how == "sided":
            found[..., found.shape[2] // 2 :] = 0
        return Prediction(
            Mask(found, image.geometry, (Segment(1, "ball"),)), "toy",
            uncertainty=Uncertainty("quality", "A Dice, promised for nothing.", 0.99, 1.0, 0.9),
            model=ModelRef("toy", "1", "", "MIT"), inputs=("x",),
        )  # fmt: skip


def entry(how: str = "") -> TaskEntry:
    toy = Toy(how)
    return TaskEntry(toy.card, "", lambda: toy)


def study(balls: Path) -> Study:
    return Study("p", images=(open_labelled(balls).cases[0].image(),))


def test_a_right_task_passes(balls: Path) -> None:
    checks = {c.name: c for c in task_checks(entry(), study(balls), 0)}
    assert {c.status for c in checks.values()} == {"passed"}, [c.words for c in checks.values()]
    assert checks["orientation"].number == 1.0 and checks["intensity scale"].number == 1.0


@pytest.mark.parametrize(
    ("how", "check"), [("random", "contract"), ("sided", "orientation"), ("absolute", "intensity scale")]
)
def test_a_wrong_task_fails_the_check_that_is_there_for_it(how: str, check: str, balls: Path) -> None:
    checks = {c.name: c for c in task_checks(entry(how), study(balls), 0)}
    assert checks[check].status == "failed", checks[check].words
    allowed, against = verdict(list(checks.values()))
    assert not allowed and check in {c.name for c in against}


def test_promises_that_are_not_kept_fail(balls: Path) -> None:
    outcome = ask(entry(), open_labelled(balls), RunSettings(), lambda *_: None)
    (found,) = coverage_checks(outcome)
    assert found.status == "not measured" and "at least 20 patients are needed" in found.words
    assert re.match(r"\d of 12 promises of 90% were kept", found.words)
    assert {one.patient for one in outcome.kept} == {case.patient for case in outcome.cases}
    # The same answers, twice as many patients.
    twice = replace(outcome, kept=(*outcome.kept, *(replace(one, patient=f"b{one.patient}") for one in outcome.kept)))
    (found,) = coverage_checks(twice)
    assert found.status == "failed" and "fewer than promised" in found.words
    assert coverage_checks(twice, "seen")[0].status == "failed", "kept too rarely even where it learnt"
    assert coverage_checks(None)[0].status == "not measured"
    assert system_of(outcome).measures[0].name == "Dice"


def test_promises_of_each_kind() -> None:
    code = Code("class-1", "99ISOCENTER", "a")
    model = {"model": ModelRef("m", "1", "", "MIT"), "inputs": ("x",)}
    labelled = open_case(1)
    said = Prediction(
        Scores(((code, 1.0),)), "t", uncertainty=Uncertainty("set", "x", level=0.9, members=(code,)), **model
    )  # fmt: skip
    assert keeps_promises(said, np.array([1.0, 0.0]), replace(labelled, target=0), ("a", "b")) == [
        Kept("the set of classes", True, 0.9)
    ]
    assert keeps_promises(said, np.array([1.0, 0.0]), replace(labelled, target=1), ("a", "b"))[0].kept is False
    number = Prediction(
        Estimate(code, 3.0, UCUM["1"]), "t", uncertainty=Uncertainty("interval", "x", 2.0, 4.0, 0.9), **model
    )
    assert keeps_promises(number, 3.0, replace(labelled, target=5.0), ("a",)) == [Kept("the interval", False, 0.9)]
    volume = Uncertainty("interval", "x", 1.0, 2.0, 0.9, segment=1, unit=UCUM["mL"])
    margin = Uncertainty("margin", "x", 1.0, 2.0, segment=1, unit=UCUM["mL"])
    outlined = replace(number, further=(volume, margin))
    for voxels, kept in ((150, True), (250, False)):
        reference = np.zeros((2, 10, 20), np.uint16)
        reference.ravel()[:voxels] = 1
        answer = measure_case(reference, reference, GRID, MaskSettings(), [1])
        assert Kept("volumes", kept, 0.9) in keeps_promises(outlined, answer, labelled, ("a",), 10.0)
        assert not [k for k in keeps_promises(outlined, answer, labelled, ("a",), None) if k.what == "volumes"]
    silent = Prediction(Estimate(code, 3.0, UCUM["1"]), "t", uncertainty=Uncertainty("interval", "x"), **model)
    assert keeps_promises(silent, 3.0, replace(labelled, target=5.0), ("a",)) == []


def open_case(target: int):
    from isocenter.data.labelled import LabelledCase

    return LabelledCase("c", "p", lambda: None, target=target)


def test_segments_are_matched_with_classes_or_refused() -> None:
    array = np.array([[[0, 1, 2]]], np.uint16)
    mask = Mask(array, Geometry((1, 1, 3)), (Segment(1, "right"), Segment(2, "left")))
    assert as_classes(mask, ("left", "right"))[0].ravel().tolist() == [0, 2, 1]
    both, note = as_classes(mask, ("lungs",))
    assert both.ravel().tolist() == [0, 1, 1] and "one class" in note
    with pytest.raises(DataError, match="names a side"):
        as_classes(mask, ("x", "y"))
    plain = Mask(array, Geometry((1, 1, 3)), (Segment(1, "core"), Segment(2, "rim")))
    assert "by number" in as_classes(plain, ("x", "y"))[1]
    far = Mask(np.array([[[0, 1, 7]]], np.uint16), Geometry((1, 1, 3)), (Segment(1, "a"), Segment(7, "b")))
    with pytest.raises(DataError, match="can't be matched"):
        as_classes(far, ("x", "y"))


def test_verdict_wants_what_is_essential() -> None:
    def made(**status: str) -> list[CheckEntry]:
        names = {"licence", "intended use", "contract", "repeatable", "weights", "calibration", "laterality"}
        return [
            CheckEntry(name=n, status=status.get(n.replace(" ", "_"), "passed"), words="x") for n in sorted(names)
        ]  # fmt: skip

    assert verdict(made())[0]
    assert not verdict(made(calibration="not measured"))[0] and not verdict(made(licence="failed"))[0]
    assert not verdict(made(laterality="not measured"))[0]
    assert not verdict(made(laterality="not applicable"))[0], "that left and right were not looked at is no pass"
    assert subgroup_check(None, 0.1).status == "not measured"


@pytest.mark.parametrize(
    ("kept", "patients", "status"),
    [
        (0, 1, "not measured"), (0, 2, "not measured"), (0, 19, "not measured"), (13, 20, "failed"),
        (14, 20, "passed"), (20, 20, "passed"),
    ],
)  # fmt: skip
def test_promises_need_patients_to_be_judged(kept: int, patients: int, status: str, balls: Path) -> None:
    outcome = ask(entry(), open_labelled(balls), RunSettings(), lambda *_: None)
    made = tuple(Kept("x", n < kept, 0.9, f"p{n}") for n in range(patients))
    assert coverage_checks(replace(outcome, kept=made))[0].status == status


def test_many_promises_of_few_patients_are_not_many(balls: Path) -> None:
    """165 of 200 would be too few of independent promises; of 40 patients with five each they are not beyond chance."""
    outcome = ask(entry(), open_labelled(balls), RunSettings(), lambda *_: None)
    made = tuple(Kept("volumes", n % 40 < 33, 0.9, f"p{n % 40}") for n in range(200))
    (clustered,) = coverage_checks(replace(outcome, kept=made))
    apart = tuple(replace(one, patient=f"q{n}") for n, one in enumerate(made))
    (independent,) = coverage_checks(replace(outcome, kept=apart))
    assert (clustered.status, independent.status) == ("passed", "failed")
    assert "40 patients" in clustered.words and "effective number of cases" in clustered.words


def groups(*rows: tuple[str, float, float, int], higher: bool = True, least: float = 0.001) -> EvaluationDocument:
    """A document of which only the groups are looked at: name, gap, corrected p, patients."""
    made = tuple(
        SubgroupEntry(
            name=name, columns=("site",), levels=(name,), patients=n, cases=n, value=0.8, low=0.7, high=0.9, gap=gap,
            gap_low=gap - 0.1, gap_high=gap + 0.1, p=p, p_corrected=p, p_least=least,
        )
        for name, gap, p, n in rows
    )  # fmt: skip
    block = SubgroupBlock(
        name="Dice", structure="", overall=0.9, rows=made, worst=rows[0][0], tested=len(rows), higher_is_better=higher
    )
    return EvaluationDocument.model_construct(subgroups=block)


def test_any_group_that_is_worse_beyond_chance_fails() -> None:
    """The worst gap may be of few patients and chance, and the second worst of many and none."""
    found = subgroup_check(groups(("A", -0.25, 0.3, 10), ("B", -0.20, 0.002, 200)), 0.1)
    assert found.status == "failed" and found.number == -0.20
    assert "1 of 2 tested groups are worse than the rest: B, Dice -0.200" in found.words and "A" not in found.words
    both = subgroup_check(groups(("A", -0.25, 0.01, 30), ("B", -0.20, 0.002, 200)), 0.1)
    assert both.status == "failed" and "2 of 2" in both.words and both.number == -0.25
    assert subgroup_check(groups(("A", -0.25, 0.3, 10), ("B", -0.05, 0.002, 200)), 0.1).status == "passed"
    assert subgroup_check(groups(("A", 0.3, 0.001, 40), ("B", 0.0, 1.0, 200)), 0.1).status == "passed", (
        "the better side"
    )
    error = subgroup_check(groups(("A", 0.3, 0.001, 40), ("B", -0.3, 0.001, 200), higher=False), 0.1)
    assert error.status == "failed" and error.number == 0.3, "of an error the higher is the worse"


def test_groups_that_could_not_be_told_from_chance_are_not_measured() -> None:
    blind = subgroup_check(groups(("A", -0.5, 0.12, 24), ("B", 0.1, 1.0, 24), least=0.12), 0.1)
    assert blind.status == "not measured" and "no gap could have been told from chance" in blind.words
    seen = subgroup_check(groups(("A", -0.05, 0.4, 24), ("B", 0.1, 1.0, 24)), 0.1, "the cases are learnt ones")
    assert seen.status == "not measured" and seen.words.startswith("the cases are learnt ones")
    assert subgroup_check(groups(("A", -0.5, 0.001, 24)), 0.1, "seen").status == "failed"


class Shy(Toy):
    """Answers one case in so many."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every

    def run(self, study: Study, prompts=()) -> Prediction:
        self.calls += 1
        if self.calls % self.every:
            return Prediction.abstain("toy", "would rather not")
        return super().run(study, prompts)


def test_a_task_that_hardly_answers_must_not_serve(balls: Path) -> None:
    shy = Shy(6)
    outcome = ask(TaskEntry(shy.card, "", lambda: shy), open_labelled(balls), RunSettings(), lambda *_: None)
    found = abstention_check(outcome, 0.5)
    share = sum(outcome.reasons.values()) / 12
    assert share > 0.5 and found.status == "failed" and found.number == share
    assert "would rather not" in found.words and not verdict([found])[0]
    assert abstention_check(outcome, 1.0).status == "passed" and abstention_check(None, 0.5).status == "not measured"


def test_speed_is_a_pass_only_where_a_limit_was_set(balls: Path) -> None:
    outcome = ask(entry(), open_labelled(balls), RunSettings(), lambda *_: None)
    slow = replace(outcome, seconds=(0.1,) * 18 + (3.0,) * 2)
    (told,) = latency_check(slow)
    assert told.status == "measured" and "no limit was given" in told.words and told.number == pytest.approx(100)
    assert [latency_check(slow, limit)[0].status for limit in (2.0, 4.0)] == ["failed", "passed"]
    assert latency_check(replace(outcome, seconds=(0.1,) * 19 + (3.0,)), 2.0)[0].status == "passed", "19 of 20 are fast"
    assert latency_check(None) == [] and latency_check(None, 1.0)[0].status == "not measured"


def test_whether_built_in_weights_learnt_from_a_set(balls: Path, tmp_path: Path, monkeypatch) -> None:
    """By the values of its images, found again though mirrored; or said by whoever runs the check."""
    outcome = ask(entry(), open_labelled(balls), RunSettings(), lambda *_: None)
    weights = weights_of("lungs-cxr", task_entries()[0]["lungs-cxr"])
    config = CheckConfig(task="lungs-cxr", out=tmp_path)
    assert seen_before(config, weights, outcome) == ("", [])
    learnt = {values_fingerprint(case.image().array[..., ::-1])[:16] for case in outcome.cases[:3]}
    monkeypatch.setattr("isocenter.verbs.check.training_pixels", lambda name: frozenset(learnt))
    why, notes = seen_before(config, weights, outcome)
    assert why == "3 of 12 cases are those that it learnt from: take them out" and "3 of 12 images" in notes[0]
    assert seen_before(config.model_copy(update={"seen": False}), weights, outcome) == ("", [])
    monkeypatch.setattr("isocenter.verbs.check.training_pixels", lambda name: None)
    why, notes = seen_before(config, weights, outcome)
    assert why == "" and notes == ["whether lungs-cxr learnt from these images is not known"]
    why, notes = seen_before(config.model_copy(update={"seen": True}), weights, outcome)
    assert why == "the cases are those that it learnt from" and "says" in notes[-1]


@pytest.mark.parametrize("name", ["lungs-cxr", "hippocampus-t1"])
def test_the_list_of_training_images_is_whole(name: str) -> None:
    listed = training_pixels(name)
    assert listed is not None and len(listed) == read_card(name).training_data[0].cases
    assert all(re.fullmatch("[0-9a-f]{16}", one) for one in listed)


def test_settings_of_check(tmp_path: Path, capsys) -> None:
    assert cli.run(["check", "nobody", "--out", str(tmp_path / "o")]) == cli.Exit.USAGE
    assert "no task 'nobody'" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="give --data SET with --groups"):
        isocenter.check("interact", tmp_path / "o", groups=tmp_path / "g.csv")
    with pytest.raises(ConfigError, match="is said of a set"):
        isocenter.check("interact", tmp_path / "o", seen=True)
    with pytest.raises(ConfigError, match="corrupt_cases"):
        isocenter.check("interact", tmp_path / "o", corrupt_cases=0)
    assert task_entries()[0], "the installed tasks are there"


# The page


class Reader(HTMLParser):
    """Collects what accessibility is about."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.problems: list[str] = []
        self.headings: list[int] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.ids += [given["id"]] if given.get("id") else []
        if tag in ("script", "link", "iframe") and given.get("href") != "data:,":
            self.problems.append(f"{tag} loads something")
        if tag == "img" and (not given.get("alt") or not (given.get("src") or "").startswith("data:")):
            self.problems.append("a picture without words, or from elsewhere")
        if tag == "svg" and given.get("aria-hidden") != "true" and not (given.get("role") and given.get("aria-label")):
            self.problems.append("a drawing without words")
        if tag == "th" and not given.get("scope"):
            self.problems.append("a heading of a table without scope")
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))


def test_the_page_is_whole_and_accessible(checked: Path) -> None:
    page = (checked / "scorecard.html").read_text("utf-8")
    reader = Reader()
    reader.feed(page)
    assert not reader.problems
    assert len(reader.ids) == len(set(reader.ids)) and 'lang="en"' in page and "prefers-color-scheme: dark" in page
    assert reader.headings[0] == 1 and reader.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(reader.headings, reader.headings[1:], strict=False)), "no level is skipped"
    assert not re.search(r"(?:src|href)=\"(?!data:|#)", page) and "http" not in re.sub(r"http-equiv", "", page)


def _luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_of_curves_stand_out_in_light_and_dark() -> None:
    """WCAG 2.2 1.4.11: three to one for graphics, against the card they are drawn on."""
    folder = Path(isocenter.__file__).parent / "verbs"
    css = (folder / "evaluation" / "evaluation.css").read_text("utf-8")
    common = (folder / "report" / "report.css").read_text("utf-8")
    backgrounds = re.findall(r"--card: (#[0-9a-f]{6})", common)[:2]
    blocks = re.findall(r":root \{ (--s0.*?) \}", css)
    assert len(blocks) == len(backgrounds) == 2
    for block, background in zip(blocks, backgrounds, strict=True):
        for colour in re.findall(r"#[0-9a-f]{6}", block):
            light, dark = sorted((_luminance(colour), _luminance(background)), reverse=True)
            assert (light + 0.05) / (dark + 0.05) >= 3, (colour, background)


def test_names_in_drawings_are_escaped() -> None:
    bad = "<script>alert(1)</script>"
    row = SubgroupEntry(name=bad, columns=("x",), levels=(bad,), patients=10, cases=10, value=0.5, low=0.4, high=0.6)
    drawn = str(forest_svg(SubgroupBlock(name=bad, structure=bad, overall=0.5, rows=(row,))))
    points = tuple(PointEntry(grade=g, answered=1, cases=1, value=0.5) for g in (0, 1))
    drawn += "".join(drops_svg([DropEntry(kind=bad, title=bad, name=bad, structure=bad, points=points)]))
    assert "<script" not in drawn and "&lt;script" in drawn
    assert CORRUPTIONS


def test_drop_curves_start_near_the_data_and_say_so() -> None:
    """From 0, a fall from 0.95 to 0.93 is a flat line. All drawings share one axis, and each bears its own name."""

    def curve(kind: str, *values: float) -> DropEntry:
        points = tuple(PointEntry(grade=g, answered=9, cases=9, value=v) for g, v in enumerate(values))
        return DropEntry(kind=kind, title=kind, name="Dice", structure="", points=points)

    drawn = drops_svg([curve("noise", 0.95, 0.94, 0.93), curve("blur", 0.952, 0.951, 0.95)])
    assert len(drawn) == 2 and "noise" in drawn[0] and "blur" in drawn[1] and not any("legend" in d for d in drawn)
    assert all("axis from 0.93, not 0" in d for d in drawn)
    ends = re.search(r'<polyline class="series s0" points="([^"]*)"', drawn[0])
    assert ends is not None
    heights = [float(point.split(",")[1]) for point in ends[1].split()]
    assert heights[-1] - heights[0] > 100, "of 220 pixels"
    (low,) = drops_svg([curve("noise", 0.9, 0.0)])
    assert "not 0" not in low
    assert drops_svg([curve("one value", 0.5)]) and drops_svg([]) == []


def test_a_card_counts_patients_and_not_cases_that_it_does_not_know(tmp_path: Path) -> None:
    found = isocenter.check("lungs-cxr", tmp_path / "card")
    assert {f.patients for f in found.card.figures} == {48} and {f.cases for f in found.card.figures} == {None}
    assert "90 images" in " ".join(found.card.training_data)


def test_the_subject_has_its_own_line_where_the_page_is_narrow() -> None:
    css = (Path(isocenter.__file__).parent / "verbs" / "evaluation" / "evaluation.css").read_text("utf-8")
    narrow = css[css.index("@media (max-width: 640px)") :]
    assert "flex-wrap: wrap" in narrow and "flex-basis: 100%" in narrow
