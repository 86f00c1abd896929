"""`isocenter diagnose`: answers as `read` gives them, and why; compared with an earlier result; clear refusals."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

import isocenter
from isocenter import cli
from isocenter.core import Code, EvidenceMap, Explains, Geometry, Image, Scores, Study
from isocenter.core.errors import ConfigError, DataError, WeightsError
from isocenter.data.images import read_picture
from isocenter.plugins import load_task
from isocenter.testing import check_task
from isocenter.verbs.comparison import check_prior, compared
from isocenter.verbs.evidence import _map_entries
from isocenter.verbs.learnt_folder import learnt_entry
from isocenter.verbs.result import ResultDocument, read_result

QUICK = {"widths": (4, 8), "precision": "float32", "learning_rate": 0.01, "seed": 1, "mirror": "off", "batch": 16}
PLACE = (4, 19)
"""Row and column where the square of a further picture begins."""


def picture(kind: str, seed: int, at: tuple[int, int] | None = None) -> np.ndarray:
    """A square on noise, anywhere: of stripes that lie or stand."""
    rng = np.random.default_rng(seed)
    image = rng.normal(100, 10, (40, 32))
    row, column = at or (int(rng.integers(2, 28)), int(rng.integers(2, 20)))
    lying = np.repeat([[110.0, -70.0] * 3], 2, axis=0).T.reshape(-1)[:10, None] * np.ones((1, 10))
    image[row : row + 10, column : column + 10] += lying if kind == "lying" else lying.T
    return image.clip(0, 255).astype(np.uint8)


def save(array: np.ndarray, file: Path) -> Path:
    Picture.fromarray(array).save(file)
    return file


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    rows = []
    for seed in range(40):
        kind = "lying" if seed % 2 else "standing"
        save(picture(kind, seed), folder / f"Zebra^Name-{seed}.png")
        rows.append([f"Zebra^Name-{seed}.png", f"Zebra {seed // 2}", kind])
    with (folder / "t.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["image", "patient", "label"], *rows])
    return folder


@pytest.fixture(scope="module")
def task(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("task") / "squares"
    done = isocenter.adapt_data(data / "t.csv", out, folds=2, steps=60, name="squares", **QUICK)
    assert {f.name: f.value for f in done.figures}["AUROC"] > 0.95
    assert "nearest confirmed cases" in " ".join(done.notes)
    return out


@pytest.fixture(scope="module")
def answer(task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("answer")
    save(picture("lying", 99, PLACE), folder / "new.png")
    assert cli.run(["diagnose", str(folder / "new.png"), "--task", str(task), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_an_answer_says_why(answer: Path, task: Path) -> None:
    document = read_result(answer)
    (prediction,) = document.predictions
    evidence = prediction.evidence
    assert document.schema_version == "1.3" and {e.kind for e in evidence} >= {"map", "region", "feature", "neighbour"}
    first = next(e for e in evidence if e.kind == "map")
    assert first.about == "lying", "the most probable class comes first"
    region = next(e for e in evidence if e.kind == "region" and e.about == "lying")
    row, column = (region.numbers[f"peak {axis}"] for axis in "yx")
    assert PLACE[0] - 2 <= row <= PLACE[0] + 12 and PLACE[1] - 2 <= column <= PLACE[1] + 12, "in the square"
    assert 0 <= region.numbers["share of map"] <= 1 and "side and height not known" in region.text
    near = [e for e in evidence if e.kind == "neighbour"]
    assert [e.numbers["rank"] for e in near] == [1, 2, 3, 4, 5]
    assert [e.numbers["distance"] for e in near] == sorted(e.numbers["distance"] for e in near)
    assert sum("confirmed as: lying" in e.text for e in near) >= 4
    files = {f.path: f for f in prediction.files}
    assert files[first.file].format == "PNG"
    content = (answer / first.file).read_bytes()
    assert hashlib.sha256(content).hexdigest() == files[first.file].sha256
    page = (answer / "report.html").read_text()
    assert page.count("data:image/png;base64") >= 2 and "Nearest confirmed cases" in page and "chance" in page
    assert "Zebra" not in (answer / "result.json").read_text() + page, "no name of a case"
    assert json.loads((answer / "config.json").read_text())["verb"] == "diagnose"


def test_the_picture_is_warm_where_the_square_is(answer: Path) -> None:
    evidence = read_result(answer).predictions[0].evidence
    drawn = np.asarray(Picture.open(answer / next(e.file for e in evidence if e.kind == "map")).convert("RGB")).astype(
        int
    )
    warm = np.argwhere(drawn[..., 0] - drawn[..., 2] > 60)
    assert len(warm) and warm[:, 0].mean() < drawn.shape[0] * 0.5, "the upper half"


def test_evidence_never_moves_the_answer_and_is_the_same_twice(answer: Path, task: Path, tmp_path: Path) -> None:
    image = answer.parent / "new.png"
    plain = isocenter.read(image, tmp_path / "read", tasks=(str(task),))
    again = isocenter.diagnose(image, tmp_path / "again", (str(task),))
    first = read_result(answer)
    for one, other in ((plain, first), (again, first)):
        assert one.predictions[0].measurements == other.predictions[0].measurements
        assert one.predictions[0].uncertainty == other.predictions[0].uncertainty
    assert plain.predictions[0].evidence == () and again.predictions[0].evidence == first.predictions[0].evidence
    carried = isocenter.read(image, tmp_path / "carried", tasks=(str(task),), evidence=True)
    assert carried.predictions[0].evidence == first.predictions[0].evidence, "read carries it where asked to"


def test_the_task_explains_its_own_answers_alone(task: Path, data: Path) -> None:
    learnt = load_task(learnt_entry(task))
    assert isinstance(learnt, Explains)
    check_task(learnt)
    image = read_picture(data / "Zebra^Name-1.png")
    study = Study("p", images=(image,))
    found = learnt.run(study)
    assert isinstance(found.value, Scores)
    told = learnt.explain(study, found)
    assert told.neighbours[0].distance == 0 and "this very image" in told.neighbours[0].label
    for one in told.maps:
        assert one.array.shape == image.geometry.shape and one.array.max() == 1 and np.isfinite(one.array).all()
        assert all(0 <= p < n for p, n in zip(one.peak, image.geometry.shape, strict=True))
    flat = Study("p", images=(Image(np.full((1, 1, 40, 32), 7, np.uint8), Geometry((1, 40, 32))),))
    none = learnt.run(flat)
    assert none.abstained is not None
    empty = learnt.explain(flat, none)
    assert (empty.maps, empty.neighbours, empty.features) == ((), (), ()), "no answer, no evidence"
    with pytest.raises(DataError, match="of another image"):
        learnt.explain(Study("p", images=(read_picture(data / "Zebra^Name-2.png"),)), found)


def test_the_mirrored_picture_has_the_mirrored_place(task: Path, tmp_path: Path) -> None:
    """The class does not change; where the networks looked goes to the other side."""
    places = []
    for name, array in (("straight", picture("lying", 99, PLACE)), ("mirrored", picture("lying", 99, PLACE)[:, ::-1])):
        save(np.ascontiguousarray(array), tmp_path / f"{name}.png")
        learnt = load_task(learnt_entry(task))
        study = Study("p", images=(read_picture(tmp_path / f"{name}.png"),))
        found = learnt.run(study)
        if found.abstained is not None:
            pytest.skip(f"the gate takes the mirrored picture for strange: {found.abstained}")
        assert isinstance(learnt, Explains)
        places.append(learnt.explain(study, found).maps[0].peak[2])
    assert places[0] > 15.5 > places[1]


def test_cases_without_names_and_held_to_their_hash(task: Path, data: Path, tmp_path: Path) -> None:
    with np.load(task / "cases.npz") as arrays:
        assert sorted(arrays.files) == ["labels", "names", "network-0", "network-1"]
        assert all(len(arrays[key]) == 40 for key in arrays.files)
        assert {str(v) for v in arrays["labels"]} == {"lying", "standing"}
        sha = read_picture(data / "Zebra^Name-1.png").sha256
        assert f"case {sha[:12]}" in {str(v) for v in arrays["names"]}
        assert "Zebra" not in " ".join(map(str, arrays["names"]))
    worth = json.loads((task / "task.json").read_text())["retrieval"]
    assert worth["value"] > worth["chance"] + 0.2 and worth["cases"] == 40 and worth["low"] <= worth["value"]
    altered = tmp_path / "altered"
    shutil.copytree(task, altered)
    (altered / "cases.npz").write_bytes(b"other")
    with pytest.raises(WeightsError, match=r"cases\.npz is missing, or not the one"):
        load_task(learnt_entry(altered))


def test_an_older_folder_answers_and_says_that_it_has_no_cases(task: Path, data: Path, tmp_path: Path) -> None:
    older = tmp_path / "older"
    shutil.copytree(task, older)
    (older / "cases.npz").unlink()
    card = json.loads((older / "task.json").read_text())
    del card["cases"], card["retrieval"]
    (older / "task.json").write_text(json.dumps(card))
    document = isocenter.diagnose(data / "Zebra^Name-1.png", tmp_path / "out", (str(older),))
    evidence = document.predictions[0].evidence
    assert not [e for e in evidence if e.kind == "neighbour"] and [e for e in evidence if e.kind == "map"]
    assert "keeps no index of cases" in next(e.text for e in evidence if e.kind == "missing")


@pytest.mark.parametrize(
    ("error", "told"),
    [(DataError("no grid"), "could not be made: no grid"), (MemoryError(), "memory ran out"),
     (ZeroDivisionError("Zebra"), "ZeroDivisionError, a defect of the task")],
)  # fmt: skip
def test_an_answer_stands_where_its_evidence_cannot_be_made(
    task: Path, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, told: str
) -> None:
    def broken(*_: object) -> None:
        raise error

    monkeypatch.setattr(type(load_task(learnt_entry(task))), "explain", broken)
    document = isocenter.diagnose(data / "Zebra^Name-1.png", tmp_path / "out", (str(task),))
    (prediction,) = document.predictions
    assert prediction.abstained is None and prediction.measurements
    assert [e.kind for e in prediction.evidence] == ["missing"]
    assert told in prediction.evidence[0].text and "Zebra" not in prediction.evidence[0].text


def test_a_folder_that_does_not_say_what_it_learnt_from_is_refused(task: Path, tmp_path: Path) -> None:
    for content in ("", '{"data": {}}', None):
        altered = tmp_path / f"altered-{content is None}-{len(content or '')}"
        shutil.copytree(task, altered)
        (altered / "config.json").unlink()
        if content is not None:
            (altered / "config.json").write_text(content)
        with pytest.raises(WeightsError, match=r"config\.json is missing or not whole"):
            load_task(learnt_entry(altered))


def test_a_task_may_be_made_without_cases(data: Path, tmp_path: Path) -> None:
    done = isocenter.adapt_data(data / "t.csv", tmp_path / "t", folds=2, steps=2, cases=False, **QUICK)
    assert not (tmp_path / "t" / "cases.npz").exists() and not [n for n in done.notes if "nearest" in n]
    assert json.loads((tmp_path / "t" / "task.json").read_text())["retrieval"] is None


def test_a_study_of_several_images_and_abstentions(task: Path, tmp_path: Path) -> None:
    study = tmp_path / "study"
    study.mkdir()
    save(picture("lying", 50), study / "a.png")
    save(picture("standing", 51), study / "b.png")
    save(np.full((40, 32), 9, np.uint8), study / "c.png")
    document = isocenter.diagnose(study, tmp_path / "out", (str(task),))
    assert [p.abstained is None for p in document.predictions] == [True, True, False]
    assert [bool(p.evidence) for p in document.predictions] == [True, True, False]
    tops = [next(e.about for e in p.evidence if e.kind == "map") for p in document.answered]
    assert tops == ["lying", "standing"]


def test_refusals(task: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image, out = data / "Zebra^Name-1.png", tmp_path / "out"
    with pytest.raises(ConfigError, match="no task 'nothing'"):
        isocenter.diagnose(image, out, ("nothing",))
    with pytest.raises(ConfigError, match=r"holds no task\.json"):
        isocenter.diagnose(image, out, (str(data),))
    with pytest.raises(ConfigError, match="setting tasks"):
        isocenter.diagnose(image, out, ())
    with pytest.raises(DataError, match="this is a text file"):
        isocenter.diagnose(data / "t.csv", out, (str(task),))
    with pytest.raises(DataError):
        isocenter.diagnose(image, out, (str(task),), prior=tmp_path / "nowhere")
    assert not out.exists(), "nothing is left behind"
    save(np.full((40, 32), 9, np.uint8), tmp_path / "flat.png")
    code = cli.run(["diagnose", str(tmp_path / "flat.png"), "--task", str(task), "--out", str(out)])
    assert code == cli.Exit.NOTHING_ANSWERED and "flat" in capsys.readouterr().err
    assert not list(out.glob("*.png")), "no answer, no evidence"


def changed(document: ResultDocument, value: float, **other: object) -> ResultDocument:
    """An earlier result: another image, another probability."""
    (prediction,) = document.predictions
    first = prediction.measurements[0].model_copy(update={"value": value})
    new = {"measurements": (first, *prediction.measurements[1:]), **other}
    image = document.images[0].model_copy(update={"sha256": "cd" * 32})
    return document.model_copy(update={"images": (image,), "predictions": (prediction.model_copy(update=new),)})


def test_what_surely_changed(answer: Path) -> None:
    now = read_result(answer)
    (prediction,) = now.predictions
    assert prediction.uncertainty is not None and prediction.uncertainty.members
    found = compared(changed(now, 0.5), now)
    assert {c.verdict for c in found} == {"no sure change"} and len(found) == 3
    assert "no interval is promised" in found[1].text and found[1].before == 0.5
    other = prediction.uncertainty.model_copy(
        update={"members": (prediction.uncertainty.members[0].model_copy(update={"meaning": "standing"}),)}
    )
    assert compared(changed(now, 0.1, uncertainty=other), now)[0].verdict == "changed"
    model = prediction.model.model_copy(update={"weights_sha256": "0" * 64})
    (reason,) = compared(changed(now, 0.1, model=model), now)
    assert reason.verdict == "not comparable" and "other weights" in reason.text
    (reason,) = compared(changed(now, 0.1, task="x"), now)
    assert "no answer of this task" in reason.text
    (reason,) = compared(changed(now, 0.1, abstained="dark"), now)
    assert "abstained from the earlier image" in reason.text
    with pytest.raises(ConfigError, match="of the same image"):
        compared(now, now)


@pytest.mark.parametrize(
    ("before", "now", "verdict"),
    [
        (["Absent"], ["Present"], "changed"), (["Absent"], ["Present", "Absent"], "no sure change"),
        (["Present"], ["Present"], "no sure change"), ([], ["Present"], None),
    ],
)  # fmt: skip
def test_a_finding_surely_changed_where_its_sets_have_nothing_in_common(answer: Path, before, now, verdict) -> None:
    document = read_result(answer)
    (prediction,) = document.predictions
    name = prediction.measurements[0].name.model_copy(update={"meaning": "effusion"})

    def with_set(states: list[str]) -> dict[str, object]:
        members = tuple(name.model_copy(update={"meaning": state}) for state in states)
        own = {"kind": "set", "description": "", "level": 0.9, "about": name, "members": members}
        return {"uncertainty": None, "measurements": (), "further": (type(prediction.uncertainty).model_validate(own),)}

    later = document.model_copy(update={"predictions": (prediction.model_copy(update=with_set(now)),)})
    found = compared(changed(document, 0.5, **with_set(before)), later)
    assert [(c.about, c.verdict) for c in found] == ([] if verdict is None else [("effusion", verdict)])


def test_intervals_that_do_not_overlap_are_a_sure_change(answer: Path) -> None:
    now = read_result(answer)
    code = now.predictions[0].measurements[0].name.model_copy(update={"meaning": "age"})
    number = now.predictions[0].measurements[0].model_copy(update={"name": code, "value": 60.0})

    def with_interval(document: ResultDocument, value: float, level: float | None, half: float) -> ResultDocument:
        interval = {"kind": "interval", "description": "", "low": value - half, "high": value + half, "level": level}
        (p,) = document.predictions
        sure = type(p.uncertainty).model_validate(interval)
        update = {"uncertainty": sure, "measurements": (number.model_copy(update={"value": value}),)}
        return document.model_copy(update={"predictions": (p.model_copy(update=update),)})

    before = changed(now, 0.5)
    for value, level, half, verdict in (
        (60, 0.9, 4, "higher"), (40, 0.9, 4, "lower"), (53, 0.9, 4, "no sure change"), (60, None, 4, "no sure change"),
    ):  # fmt: skip
        (found,) = compared(with_interval(before, 50, level, 4), with_interval(now, value, level, half))
        assert (found.verdict, found.before, found.now) == (verdict, 50, value)


def test_a_prior_of_another_patient_is_refused(answer: Path, task: Path, data: Path, tmp_path: Path) -> None:
    now = read_result(answer)
    other = tmp_path / "other"
    other.mkdir()
    (other / "result.json").write_text(
        now.model_copy(update={"study": now.study.model_copy(update={"patient_key": "f" * 32})}).to_json()
    )
    with pytest.raises(DataError, match="of another patient"):
        check_prior(other, now.study.patient_key)
    with pytest.raises(DataError, match="of another patient"):
        isocenter.diagnose(data / "Zebra^Name-1.png", tmp_path / "out", (str(task),), prior=other)
    with pytest.raises(DataError, match="without a patient's pseudonym"):
        check_prior(other, "")
    assert not (tmp_path / "out").exists()


def test_a_prior_of_the_same_patient_stands_on_the_page(task: Path, tmp_path: Path) -> None:
    """One folder read twice bears one pseudonym, as pictures without a patient do: by where they lie."""
    study = tmp_path / "study"
    study.mkdir()
    save(picture("lying", 60), study / "a.png")
    first = isocenter.diagnose(study, tmp_path / "one", (str(task),))
    save(picture("standing", 61), study / "a.png")
    document = read_result(tmp_path / "one")
    later = isocenter.diagnose(study, tmp_path / "later", (str(task),))
    same = document.study.model_copy(update={"patient_key": later.study.patient_key})
    (tmp_path / "one" / "result.json").write_text(document.model_copy(update={"study": same}).to_json())
    second = isocenter.diagnose(study, tmp_path / "two", (str(task),), prior=tmp_path / "one")
    assert first.comparison == () and second.comparison
    verdict = second.comparison[0]
    assert verdict.verdict == "changed" and "was lying and is standing" in verdict.text
    assert "Compared with the earlier result" in (tmp_path / "two" / "report.html").read_text()
    assert second.provenance.config["prior"] is True and str(tmp_path) not in second.to_json()


def test_an_older_result_reads_still(answer: Path) -> None:
    document = json.loads((answer / "result.json").read_text())
    document["schema_version"] = "1.2"
    del document["comparison"], document["predictions"][0]["evidence"]
    assert ResultDocument.model_validate(document).predictions[0].evidence == ()
    document["predictions"][0]["evidence"] = [{"kind": "map", "about": "x", "text": "y", "extra": 1}]
    with pytest.raises(ValueError, match="extra"):
        ResultDocument.model_validate(document)


def test_report_shows_the_map_beside_the_sentence(answer: Path, tmp_path: Path) -> None:
    """A breast ultrasound whose classes have names in the table of findings."""
    folder = tmp_path / "r"
    shutil.copytree(answer, folder)
    text = (folder / "result.json").read_text().replace('"lying"', '"malignant"').replace('"standing"', '"benign"')
    text = text.replace("Probability of lying", "Probability of malignant").replace(
        "Probability of standing", "Probability of benign"
    )
    document = ResultDocument.model_validate_json(text)
    image = document.images[0].model_copy(update={"modality": "US", "body_part": "BREAST"})
    (folder / "result.json").write_text(document.model_copy(update={"images": (image,)}).to_json())
    draft = isocenter.report(folder, tmp_path / "draft")
    claims = {c["about"]: c for p in draft.parts for c in p.ledger["claims"]}
    evidence = {e["id"]: e for p in draft.parts for e in p.ledger["evidence"]}
    bound = evidence[claims["malignant breast lesion"]["evidence"][0]]
    assert bound["picture"].endswith(".evidence-1.png") and "strongest for" in bound["text"]
    page = (tmp_path / "draft" / "draft.html").read_text()
    item = page.split(f'id="p1-{bound["id"]}"')[1].split("</li>")[0]
    assert "data:image/png;base64" in item, "the picture stands in the evidence that the sentence links to"
    assert f'href="#p1-{bound["id"]}"' in page
    other = io.BytesIO()
    Picture.new("RGB", (4, 4)).save(other, format="PNG")
    (folder / bound["picture"]).write_bytes(other.getvalue())
    with pytest.raises(DataError, match="not the one that was written"):
        isocenter.report(folder, tmp_path / "draft2")
    (folder / bound["picture"]).unlink()
    isocenter.report(folder, tmp_path / "draft3")
    assert "does not lie beside the result" in (tmp_path / "draft3" / "draft.html").read_text()
    reached = ResultDocument.model_validate_json((folder / "result.json").read_text())
    first = reached.predictions[0].evidence[0].model_copy(update={"file": "../../secret.png"})
    outside = reached.predictions[0].model_copy(update={"evidence": (first,)})
    (folder / "result.json").write_text(reached.model_copy(update={"predictions": (outside,)}).to_json())
    with pytest.raises(DataError, match="not one of its files"):
        isocenter.report(folder, tmp_path / "draft4")


def clinical(file: Path, key: str, rows: list[tuple[str, str, str]], heading: str = "age [a]") -> Path:
    with file.open("w", newline="") as stream:
        csv.writer(stream).writerows([[key, heading, "sex"], *rows])
    return file


def test_a_clinical_table_is_told_beside_the_answer(data: Path, task: Path, tmp_path: Path) -> None:
    """Old age speaks for one class in the table; the answer, and what it promises, stay the image's."""
    rng = np.random.default_rng(0)
    rows = [(f"Zebra {p}", f"{(70 if p % 2 else 50) + rng.normal(0, 3):.1f}", "FM"[p // 2 % 2]) for p in range(20)]
    with pytest.raises(DataError, match=r"need 20 held-out cases with and without each class"):
        twice = tmp_path / "few"
        twice.mkdir()
        lines = (data / "t.csv").read_text().splitlines()[:31]
        (twice / "t.csv").write_text("\n".join(lines).replace("Zebra^", f"{data}/Zebra^"))
        isocenter.adapt_data(
            twice / "t.csv",
            tmp_path / "n",
            folds=2,
            steps=2,
            clinical=clinical(tmp_path / "f.csv", "patient", rows),
            **QUICK,
        )
    table = clinical(tmp_path / "c.csv", "patient", rows)
    done = isocenter.adapt_data(data / "t.csv", tmp_path / "t", folds=2, steps=10, clinical=table, **QUICK)
    card = json.loads((tmp_path / "t" / "task.json").read_text())["clinical"]
    assert [c["column"] for c in card["covariates"]] == ["age [a]", "sex"] and card["cases"] == 40 and done.cases == 40
    image = data / "Zebra^Name-1.png"
    own = clinical(tmp_path / "own.csv", "image", [("Zebra^Name-1.png", "71", ""), ("other.png", "40", "F")])
    found = isocenter.diagnose(image, tmp_path / "out", (str(tmp_path / "t"),), clinical=own)
    plain = isocenter.diagnose(image, tmp_path / "plain", (str(tmp_path / "t"),))
    (one,), (other,) = found.predictions, plain.predictions
    if one.abstained is not None:
        pytest.skip(one.abstained)
    assert (one.measurements, one.uncertainty) == (other.measurements, other.uncertainty)
    told = [e for e in one.evidence if "with the table" in e.numbers]
    assert [e.about for e in told] == ["lying", "standing"] and "taken as the mean: sex" in told[0].text
    assert sum(e.numbers["with the table"] for e in told) == pytest.approx(1)
    assert told[0].numbers["image alone"] == pytest.approx(one.measurements[0].value)
    assert "cross-validated: AUROC" in told[0].text and "71" not in told[0].text.split("On 40")[0]
    without = isocenter.diagnose(image, tmp_path / "w", (str(task),), clinical=own)
    assert "learnt with none" in next(e.text for e in without.predictions[0].evidence if e.about == "clinical table")
    for rows, heading, message in (
        ([("x.png", "71", "F")], "age [a]", "no row of this study"),
        ([("Zebra^Name-1.png", "71", "F")] * 2, "age [a]", "2 rows of this study"),
        ([("Zebra^Name-1.png", "852", "F")], "age [mo]", r"no column 'age \[a\]'"),
    ):
        bad = clinical(tmp_path / "bad.csv", "image", rows, heading)
        with pytest.raises(DataError, match=message):
            isocenter.diagnose(image, tmp_path / "bad", (str(tmp_path / "t"),), clinical=bad)
    assert not (tmp_path / "bad").exists()


def test_the_side_that_is_told_is_that_of_the_strongest_point() -> None:
    """A lobe that reaches to the other side moves the middle of the region, not what is said of the strongest point."""
    image = Image(
        np.random.default_rng(0).random((1, 1, 40, 200)), Geometry((1, 40, 200), patient_orientation=("L", "F")),
        modality="DX",
    )  # fmt: skip
    values = np.zeros((1, 40, 200), np.float32)
    values[0, 20, 30:190], values[0, 20, 30] = 0.6, 1.0
    found = EvidenceMap(Code("f", "99ISOCENTER", "finding"), values, image.geometry, "by hand")
    told = next(e for e in _map_entries(image, found, "map.png") if e.kind == "region")
    assert "patient's right" in told.text and "left" not in told.text
    assert told.numbers["peak x"] == 30
