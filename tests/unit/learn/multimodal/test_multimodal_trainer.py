"""The training: killed at any step it draws the same curve; a blind twin is blind; the gap; promises; refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image as Picture

from isocenter.core.errors import CapabilityError, ConfigError, DataError, TrainingError, WeightsError
from isocenter.learn.multimodal.begin import image_input_of
from isocenter.learn.multimodal.cases import Case, Cases, open_cases
from isocenter.learn.multimodal.config import check_config, load_config
from isocenter.learn.multimodal.export import outcome
from isocenter.learn.multimodal.measure import Answered, answer_closed, gap_figures, shuffled_images
from isocenter.learn.multimodal.promise import answer_promise, held_to
from isocenter.learn.multimodal.trainer import CHECKPOINT, Trainer
from isocenter.models.multimodal import ImageInput
from isocenter.tasks.answer.cards import Asked
from multimodal_cases import VOLUMES, make_language, make_llava

ROOT = Path(__file__).parents[4]
BACKBONE = {
    "kind": "residual-unet", "dims": 2, "channels_in": 1, "widths": [4, 8], "blocks": [1, 1],
    "strides": [[2, 2], [4, 4]],
}  # fmt: skip
TINY = {
    "name": "tiny", "seed": 5, "steps": 6, "batch": 4, "learning_rate": 0.002, "warmup_steps": 2, "average": 0.9,
    "data": {"kind": "synthetic", "seed": 3, "patients": 24, "validation": 20, "test": 20},
    "vision": {"size": 32, "backbone": BACKBONE},
    "language": {"vocabulary": 300, "length": 64, "width": 16, "depth": 1, "heads": 2, "groups": 1, "hidden": 24},
    "checkpoint_every": 4, "validate_every": 3, "watched": 16,
}  # fmt: skip


def trainer(out, *, blind=False, **changes):
    config = check_config({**TINY, **changes})
    return Trainer(config, open_cases(config.data, image_input_of(config), None, config.seed), out, blind=blind)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    one = trainer(tmp_path_factory.mktemp("whole"))
    one.run()
    return one


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_stopped_at_any_step_and_resumed_it_draws_the_same_curve(whole, tmp_path, stop):
    trainer(tmp_path).run(until=stop)
    torch.manual_seed(123)  # whatever else happens in the process
    again = trainer(tmp_path)
    again.run(resume=True)
    assert again.step == 6
    for name in ("steps.csv", "validation.csv"):
        assert (tmp_path / name).read_text() == (whole.out / name).read_text()
    for key, value in whole.average.items():
        assert torch.equal(again.average[key], value)
    assert again.vocabulary_sha256 == whole.vocabulary_sha256


@pytest.mark.parametrize("whole_folder", [True, False])
def test_low_rank_changes_resume_exactly_too(tmp_path, whole_folder):
    pytest.importorskip("transformers")
    if whole_folder:
        changes = {"whole": str(make_llava(tmp_path / "base")), "learns": {"rank": 2, "tower": "locked"}}
    else:
        changes = {
            "language": {"folder": str(make_language(tmp_path / "base")), "length": 96},
            "learns": {"rank": 2, "magnitude": True},
        }
    changes |= {"steps": 4, "save": "adapter", "checkpoint_every": 2, "validate_every": 4, "watched": 4}
    one = trainer(tmp_path / "one", **changes)
    one.run()
    trainer(tmp_path / "two", **changes).run(until=2)
    two = trainer(tmp_path / "two", **changes)
    two.run(resume=True)
    assert (tmp_path / "one" / "steps.csv").read_text() == (tmp_path / "two" / "steps.csv").read_text()
    assert len(one.changing) < len(dict(one.net.named_parameters()))


def test_a_blind_twin_sees_nothing_and_learns_from_the_same_questions(whole, tmp_path):
    twin = trainer(tmp_path, blind=True)
    assert [twin.batch(s) for s in range(6)] == [whole.batch(s) for s in range(6)]
    for key, value in dict(whole.net.named_parameters()).items():
        assert dict(twin.net.named_parameters())[key].shape == value.shape
    twin.run()
    places = twin.cases.of("test")
    with twin.averaged() as model:
        blind = answer_closed(model, twin.cases, places, twin.image_of)
        swapped = answer_closed(
            model, twin.cases, places, twin.image_of, of=shuffled_images(twin.cases, places, 1)
        )  # fmt: skip
    for one, other in zip(blind, swapped, strict=True):
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)
    # One wording, one answer, whatever the image: it can only know the words.
    for one in blind:
        by_words = {}
        for at, scores in zip(one.places, one.scores, strict=True):
            first = by_words.setdefault(twin.cases.cases[at].question, scores)
            np.testing.assert_allclose(scores, first, atol=1e-4)
    with whole.averaged() as model:
        sighted = answer_closed(model, whole.cases, places, whole.image_of)
    assert np.abs(np.ptp(sighted[0].scores, axis=0)).max() > 1e-6


def test_the_averaged_weights_are_lent_and_put_back(whole):
    before = {k: v.detach().clone() for k, v in whole.changing.items()}
    with whole.averaged():
        assert any(not torch.equal(v, before[k]) for k, v in whole.changing.items())
    assert all(torch.equal(v, before[k]) for k, v in whole.changing.items())


def test_it_learns_a_side_that_is_seen_and_its_twin_does_not(tmp_path):
    """Some steps on one question: the sighted model is right, the blind one guesses; the promise says so."""
    rng = np.random.default_rng(0)
    images, cases = {}, []
    for n in range(200):
        side = ("left", "right")[n % 2]
        image = rng.normal(0, 0.3, (16, 16)).astype(np.float32)
        image[5:11, slice(1, 6) if side == "left" else slice(10, 15)] += 2
        split = "train" if n < 80 else "validation" if n < 140 else "test"
        images[f"i{n}"] = image
        cases.append(Case((f"i{n}",), "Which side?", side, "side", f"p{n}", split, n))
    small = {**BACKBONE, "strides": [[2, 2], [2, 2]]}
    config = check_config(
        {**TINY, "steps": 60, "batch": 16, "learning_rate": 0.01, "vision": {"size": 16, "backbone": small},
         "validate_every": 60, "checkpoint_every": 60}
    )  # fmt: skip
    set_ = Cases(cases, images.__getitem__, ImageInput((16, 16)), {}, source="sides")
    sighted, blind = (Trainer(config, set_, tmp_path / str(b), blind=b) for b in (False, True))
    sighted.run()
    blind.run()
    losses = [float(line.split(",")[1]) for line in (tmp_path / "False" / "steps.csv").read_text().split()[1:]]
    assert np.mean(losses[-10:]) < 0.3 * np.mean(losses[:10])
    found = outcome(sighted, blind)
    (figure,) = found.test.figures
    assert figure.sighted > 0.95 and figure.blind == 0.5 and figure.shuffled < 0.7
    assert figure.gap_low > 0.3 and figure.p < 0.01
    (promise,) = found.promises
    assert promise["looking"] == "helps" and promise["wordings"] == ["which side"] and promise["sets"]["by"] == "class"
    assert found.held_to[0].coverage >= 0.85 and found.held_to[0].set_size >= 0.85


def _answered(scores, truth, kind="k"):
    n, k = scores.shape
    answers = tuple("abc"[:k])
    return Answered(kind, answers, tuple(range(n)), tuple(f"p{i}" for i in range(n)), truth, scores)


def test_the_gap_is_that_of_shares_and_its_interval_is_paired():
    truth = np.tile([0, 1], 20).astype(np.int64)
    right = np.where(np.arange(2)[None] == truth[:, None], 1.0, 0.0)
    guess = np.tile([1.0, 0.0], (40, 1))
    (one,) = gap_figures([_answered(right, truth)], [_answered(guess, truth)], [_answered(guess, truth)], {"k": 0.5})
    assert (one.sighted, one.blind, one.shuffled, one.gap) == (1.0, 0.5, 0.5, 0.5)
    assert 0.25 < one.gap_low < 0.5 < one.gap_high < 0.75
    (same,) = gap_figures([_answered(guess, truth)], [_answered(guess, truth)], [_answered(right, truth)], {"k": 0.5})
    assert (same.gap, same.gap_low, same.gap_high) == (0.0, 0.0, 0.0)
    promise = answer_promise(_answered(guess, truth), 0.9, same)
    assert promise["looking"] == "does not help"
    assert answer_promise(_answered(guess, truth), 0.9, None)["looking"] == "no twin"
    some = _answered(right[:8], truth[:8])
    (unknown,) = gap_figures([some], [some], [some], {"k": 0.5})
    assert unknown.gap_low is None and answer_promise(some, 0.9, unknown)["looking"] == "too few patients"
    few = answer_promise(_answered(right[:4], truth[:4]), 0.9, None)
    assert few["sets"] is None and held_to(few, _answered(right, truth)).coverage is None
    (alone,) = gap_figures([_answered(right, truth)], None, [_answered(guess, truth)], {"k": 0.5})
    assert alone.blind is None and alone.gap is None and alone.low is not None


def _doubtful(seed: int, n: int) -> Answered:
    """Answers that are sure and often wrong in part of the cases, and undecided in the rest."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n).astype(np.int64)
    sure = rng.random(n) < 0.3
    right = rng.random(n) < 0.75
    p = np.where(sure, 0.95 + 0.04 * rng.random(n), 0.5 + 0.02 * rng.random(n))
    best = np.where(right, truth, 1 - truth)
    scores = np.log(np.where(np.arange(2)[None] == best[:, None], p[:, None], 1 - p[:, None]))
    return _answered(scores, truth)


def test_what_is_shown_is_measured_apart_from_what_is_asked():
    """Sets of all answers always hold the truth and are never shown: the others hold it less often."""
    promise = answer_promise(_doubtful(1, 400), 0.9, None)
    held = held_to(promise, _doubtful(2, 4000))
    assert held.coverage > 0.88 and held.shown_coverage < 0.8 and 0 < held.shown < 4000
    assert held.shown_low < held.shown_coverage < held.shown_high < 0.9
    answered = round((1 - held.undecided) * 4000)
    assert held.shown == answered
    wrong = (1 - held.coverage) * 4000  # a set that does not hold the truth is a shown one
    assert held.shown_coverage == pytest.approx(1 - wrong / answered)
    # Validation foretells it, by folds of its patients.
    assert promise["shown_low"] < held.shown_coverage < promise["shown_high"] < 0.9
    asked = Asked.model_validate({**promise, "wordings": ["which"]})
    assert not asked.keeps_its_level
    fine = answer_promise(_clear(3, 200), 0.9, None)
    assert fine["shown_high"] >= 0.9 and Asked.model_validate({**fine, "wordings": ["which"]}).keeps_its_level


def _clear(seed: int, n: int) -> Answered:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, n).astype(np.int64)
    return _answered(np.where(np.arange(2)[None] == truth[:, None], 2.0, 0.0) + rng.normal(0, 0.5, (n, 2)), truth)


def test_with_too_few_cases_nothing_is_known_of_what_is_shown():
    nine = _clear(1, 9)
    promise = answer_promise(nine, 0.9, None)
    assert promise["sets"] is not None and promise["shown"] is None  # a fold leaves fewer than the level needs
    assert not Asked.model_validate({**promise, "wordings": ["which"]}).keeps_its_level


def test_shuffled_images_are_of_another_patient_and_of_the_same_kind(whole):
    cases = whole.cases
    places = cases.of("test")
    for at, other in shuffled_images(cases, places, 3).items():
        assert cases.cases[at].patient != cases.cases[other].patient
        assert cases.cases[at].kind == cases.cases[other].kind
    with pytest.raises(DataError, match="asked of one patient only"):
        shuffled_images(cases, places[:1], 3)


def test_what_is_refused(tmp_path):
    for changes, error, message in (
        ({"batch": 400}, ConfigError, "and a batch takes 400"),
        ({"device": "cuda"}, CapabilityError, "no CUDA device"),
        ({"language": {**TINY["language"], "length": 20}}, DataError, "row 0: question 0 .* the model reads 20"),
        ({"vision": {"size": 30, "backbone": BACKBONE}}, ConfigError, "not a multiple of"),
        ({"vision": {"size": [8, 32, 32], "backbone": BACKBONE}}, ConfigError, "one number"),
        ({"start_from": "nowhere.safetensors"}, WeightsError, "no such file"),
    ):
        if torch.cuda.is_available() and "device" in changes:
            continue
        with pytest.raises(error, match=message):
            trainer(tmp_path, **changes)
    for changes, message in (
        ({"x": 1}, "setting x"),
        ({"save": "adapter"}, "an adapter needs a folder"),
        ({"save": "adapter", "whole": "x"}, "an adapter needs low-rank changes"),
        ({"start_from": "x", "whole": "y"}, "begin with one of them"),
        ({"learns": {"tower": "lora"}}, "low-rank changes only where the rank"),
        ({"projector": {"pool": 2, "queries": 4}}, "pools places or looks"),
    ):
        with pytest.raises(ConfigError, match=message):
            check_config({**TINY, **changes})
    broken = trainer(tmp_path / "nan")
    with torch.no_grad():
        next(iter(broken.changing.values())).fill_(float("nan"))
    with pytest.raises(TrainingError, match="loss of step 1 is no number"):
        broken.train_step()
    other = trainer(tmp_path / "other")
    other.run(until=1)
    with pytest.raises(WeightsError, match="of another training"):
        trainer(tmp_path / "other", blind=True).run(resume=True)
    (tmp_path / "other" / CHECKPOINT).write_bytes(b"x")
    with pytest.raises(WeightsError, match="not a checkpoint"):
        trainer(tmp_path / "other").run(resume=True)
    bad = tmp_path / "bad.yaml"
    for content, message in (("a: [", "line 1"), ("- 1", "holds no settings")):
        bad.write_text(content)
        with pytest.raises(ConfigError, match=message):
            load_config(bad)
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path / "none.yaml")


def test_questions_that_teach_nothing_are_refused():
    one = Case(("i",), "Which side?", "left", "side", "p", "train", 1)
    two = replace(one, patient="q", number=2)
    far = replace(one, answer="middle", patient="r", split="test", number=4)
    read = lambda _: np.zeros((4, 4), np.float32)  # noqa: E731
    with pytest.raises(DataError, match="have one answer in training"):
        Cases([one, two], read, ImageInput((4, 4)), {}, source="t")
    right = replace(two, answer="right")
    with pytest.raises(DataError, match=r"row 4 \(test\) has an answer that none of its kind has in training"):
        Cases([one, two, replace(right, number=3, patient="s"), far], read, ImageInput((4, 4)), {}, source="t")
    with pytest.raises(DataError, match="differ in case or blanks alone"):
        Cases(
            [one, replace(two, answer="Left"), right, replace(right, number=5)],
            read,
            ImageInput((4, 4)),
            {},
            source="t",
        )
    free = [replace(one, answer=f"report {n}", number=n, patient=f"p{n}") for n in range(4)]
    assert Cases(free, read, ImageInput((4, 4)), {}, source="t").closed == {}


@pytest.mark.parametrize("name", ["synthetic", "questions", "language-folder"])
def test_every_configuration_is_valid(name):
    checked = check_config(load_config(ROOT / "configs" / f"multimodal-{name}.yaml"))
    assert checked.name == f"multimodal-{name}" and yaml.safe_load(checked.model_dump_json())


def test_volumes_and_several_images_of_one_question_are_learnt_from(tmp_path):
    rng = np.random.default_rng(2)
    volumes = {f"v{n}": rng.normal(size=(5, 18, 20)).astype(np.float32) for n in range(48)}
    cases = [
        Case((f"v{2 * n}", f"v{2 * n + 1}"), "Which is larger?", ("first", "second")[n % 2], "which", f"p{n}",
             ("train", "train", "validation", "test")[n % 4 if n > 1 else 0], n)
        for n in range(24)
    ]  # fmt: skip
    config = check_config(
        {**TINY, "steps": 3, "vision": {"size": [4, 16, 16], "backbone": VOLUMES},
         "language": {**TINY["language"], "length": 120}}
    )  # fmt: skip
    set_ = Cases(cases, volumes.__getitem__, ImageInput((4, 16, 16)), {}, source="volumes")
    one = Trainer(config, set_, tmp_path)
    one.run()
    places = set_.of("test")
    with one.averaged() as model:
        (found,) = answer_closed(model, set_, places, set_.prepared)
        first = cases[places[0]]
        alone = model.score([volumes[name] for name in first.images], first.question, found.answers)
        other = model.score([volumes[name] for name in first.images[::-1]], first.question, found.answers)
    np.testing.assert_allclose(found.scores[0], alone, atol=1e-4)
    assert np.abs(alone - other).max() > 1e-7


def _table(folder: Path, rows: list[str]) -> Path:
    for n in range(12):
        Picture.fromarray(np.random.default_rng(n).integers(0, 255, (16, 16), dtype=np.uint8)).save(folder / f"{n}.png")
    (folder / "pairs.csv").write_text("image,question,answer,patient,kind,split\n" + "\n".join(rows) + "\n")
    return folder


def _opened(folder: Path) -> Cases:
    data = {
        "kind": "questions", "table": "pairs.csv", "patient": "patient", "question_kind": "kind", "split": "split",
    }  # fmt: skip
    config = check_config({**TINY, "data": data})
    return open_cases(config.data, ImageInput((16, 16)), folder, 1)


def test_a_kind_that_could_not_be_measured_is_refused_before_anything_is_learnt(tmp_path):
    splits = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    rows = [f"{n}.png,Which side?,{('left', 'right')[n % 2]},p{n},side,{s}" for n, s in enumerate(splits)]
    rare = [f"{n}.png,Is it large?,{('yes', 'no')[n % 2]},p{n},size,{splits[n]}" for n in (0, 1, 2, 3, 9, 10, 11)]
    with pytest.raises(DataError, match=r"the kind 'size' is asked of one patient only in validation: .* leave its"):
        _opened(_table(tmp_path, rows + rare))
    alone = [row for row in rows if ",p9," not in row]
    with pytest.raises(DataError, match="the kind 'side' is asked of one patient only in validation"):
        _opened(_table(tmp_path, alone))
    assert len(_opened(_table(tmp_path, rows)).cases) == 12


def test_what_a_set_is_changes_with_the_content_of_an_image(tmp_path):
    splits = ["train"] * 8 + ["validation"] * 2 + ["test"] * 2
    rows = [f"{n}.png,Which side?,{('left', 'right')[n % 2]},p{n},side,{s}" for n, s in enumerate(splits)]
    before = _opened(_table(tmp_path, rows)).identity
    assert _opened(tmp_path).identity == before
    image = bytearray((tmp_path / "3.png").read_bytes())
    image[-20] ^= 1  # of the same name and size
    (tmp_path / "3.png").write_bytes(image)
    after = _opened(tmp_path).identity
    assert after["images_sha256"] != before["images_sha256"] and after["table_sha256"] == before["table_sha256"]
