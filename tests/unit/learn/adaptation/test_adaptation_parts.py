"""Parts of adapting: splits by patient, windows, losses against their formulas, promises that are kept."""

from __future__ import annotations

import errno
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from isocenter.core import Geometry, Image, Quantity
from isocenter.core.errors import ConfigError, DataError, OutputError, TrainingError
from isocenter.data.labelled import Event, LabelledCase, LabelledSet
from isocenter.learn.adaptation.alter import Alteration, alter_values, cut
from isocenter.learn.adaptation.engine import Course, fit
from isocenter.learn.adaptation.fingerprint import Fingerprint, Read, fingerprint
from isocenter.learn.adaptation.held_out import MaskRow, VectorRow
from isocenter.learn.adaptation.masks import mask_loss
from isocenter.learn.adaptation.plan import Settled, plan_vector
from isocenter.learn.adaptation.promise import joined, mask_promise, vector_figures, vector_promise
from isocenter.learn.adaptation.split import one_side, split
from isocenter.learn.adaptation.vectors import VectorCase, VectorJob, answers, cox_loss
from isocenter.learn.checkpoint import load_checkpoint
from isocenter.models.learnt import Preparation
from isocenter.safety.intervals import IntervalRule
from isocenter.safety.masks import MaskRule
from isocenter.safety.quality import QualityRule
from isocenter.safety.sets import SetRule

FLAT = Fingerprint(
    2, 1, ("",), None, None, (1, 16, 16), (1, 16, 16), "arbitrary", (0.0, 1.0, 0.5, 0.2), (1.0,), 60, 60
)  # fmt: skip
STILL = Alteration(moved=0.0, shift=0.0, mirror=(False, False, False))


def case(name: str, patient: str, part: str = "") -> LabelledCase:
    image = Image(np.zeros((1, 1, 2, 2)), Geometry((1, 2, 2)))
    return LabelledCase(name, patient, lambda: image, target=0, split=part)  # type: ignore[arg-type]


@pytest.mark.parametrize(("coloured", "channels"), [(2, 1), (4, 3)])
def test_grey_pictures_beside_coloured_ones_are_what_most_are(coloured: int, channels: int) -> None:
    rng = np.random.default_rng(0)
    flat = Geometry((1, 8, 8))
    grey = [Image(rng.integers(0, 255, (1, 1, 8, 8)), flat) for _ in range(3)]
    colour = [Image(rng.integers(0, 255, (3, 1, 8, 8)), flat, Quantity.RGB) for _ in range(coloured)]
    cases = [case(str(n), str(n)) for n in range(3 + coloured)]
    read = [Read(one, image, None) for one, image in zip(cases, [*grey, *colour], strict=True)]
    found = fingerprint(LabelledSet("set", "classify", ("a", "b"), tuple(cases)), read)
    assert found.channels == channels
    preparation = Preparation(2, channels, None, None)
    for image in (*grey, *colour):
        assert preparation.forward(image).array.shape == (channels, 8, 8)
    volume = Image(rng.integers(0, 255, (1, 4, 8, 8)), Geometry((4, 8, 8)))
    with pytest.raises(DataError, match=r"channels|planes"):
        fingerprint(LabelledSet("set", "classify", ("a", "b"), tuple(cases)), [*read[3:], Read(cases[0], volume, None)])


def test_an_image_that_is_there_twice_is_on_one_side() -> None:
    cases = [case(str(n), f"p{n}") for n in range(12)]
    images = {str(n): str(n % 10) for n in range(12)}  # 0 and 10, 1 and 11 are the same
    found, told = one_side(cases, images)
    assert told == ("2 patients count as another's: they have the very same image, and it must not be on two sides",)
    for part in split(found, folds=3, seed=0):
        sides = [{images[cases[i].name] for i in side} for side in (part.learnt + part.validation, part.held_out)]
        assert not sides[0] & sides[1]
    given_parts = [case(str(n), f"p{n}", "test" if n > 9 else "train") for n in range(12)]
    found, told = one_side(given_parts, images)
    assert [c.name for c in found] == [str(n) for n in range(2, 12)] and told[0].startswith(
        "2 cases are not learnt from"
    )
    assert one_side(cases, {str(n): str(n) for n in range(12)}) == (tuple(cases), ())


@settings(max_examples=60, deadline=None)
@given(
    patients=st.lists(st.integers(0, 11), min_size=8, max_size=40), folds=st.integers(2, 5), seed=st.integers(0, 99),
    labelled=st.none() | st.integers(1, 9),
)  # fmt: skip
def test_no_patient_is_on_two_sides(patients, folds, seed, labelled):
    cases = [case(str(i), f"p{p}") for i, p in enumerate(patients)]
    if len(set(patients)) < folds:
        with pytest.raises(ConfigError):
            split(cases, folds=folds, seed=seed)
        return
    parts = split(cases, folds=folds, seed=seed, labelled=labelled, strata=[p % 2 for p in patients])
    held = sorted(i for part in parts for i in part.held_out)
    assert held == list(range(len(cases))), "each case is held out exactly once"
    for part in parts:
        who = [{cases[i].patient for i in some} for some in (part.learnt, part.validation, part.held_out)]
        assert not who[0] & who[1] and not who[0] & who[2] and not who[1] & who[2]
        assert part.learnt
        if labelled is not None:
            assert len(part.learnt) + len(part.validation) <= labelled
    assert split(cases, folds=folds, seed=seed) == split(cases, folds=folds, seed=seed)


def test_something_is_held_out_or_refused():
    with pytest.raises(ConfigError, match="2 folds or more"):
        split([case("a", "a"), case("b", "b")], folds=1, seed=0)
    mixed = [case("a", "a", "train"), case("b", "b", "test"), case("c", "c")]
    with pytest.raises(ConfigError, match="1 cases are in no part"):
        split(mixed, folds=2, seed=0)


def test_the_makers_parts_are_kept():
    parts = ["train"] * 6 + ["validation"] * 2 + ["test"] * 3
    cases = [case(str(i), str(i), part) for i, part in enumerate(parts)]
    for part in split(cases, folds=3, seed=0):
        assert (part.learnt, part.validation, part.held_out) == (tuple(range(6)), (6, 7), (8, 9, 10))


def test_a_window_on_whole_voxels_is_a_copy():
    image = np.arange(4 * 5 * 6, dtype=np.float32).reshape(1, 4, 5, 6)
    label = (image[0] % 3).astype(np.uint16)
    rng = np.random.default_rng(0)
    window, target = cut(image, label, (2.5, 2.0, 3.5), (2, 3, 4), STILL, rng)
    np.testing.assert_array_equal(window, image[:, 2:4, 1:4, 2:6])
    np.testing.assert_array_equal(target, label[2:4, 1:4, 2:6])
    outside, _ = cut(image, None, (0.5, 0.0, 0.5), (2, 3, 4), STILL, rng)
    assert (outside[0, :, 0] == 0).all() and outside[0, 0, 1, 1] == image[0, 0, 0, 0]


@pytest.mark.parametrize("moved", [0.0, 1.0])
def test_mirroring_takes_image_and_label_along_the_same_axis(moved):
    """Brightness grows with x, the label is its upper half: after any change the two still agree."""
    image = np.broadcast_to(np.arange(12, dtype=np.float32), (1, 6, 8, 12)).copy()
    label = (image[0] > 5.5).astype(np.uint16)
    how = Alteration(moved=moved, turn_degrees=10, zoom=0.1, stretch=0.02, shift=0.0, mirror=(False, False, True))
    flipped = 0
    for seed in range(12):
        window, target = cut(image, label, None, (6, 8, 12), how, np.random.default_rng(seed))
        inside = window[0] > 0.5
        assert ((window[0] > 5.5) == (target == 1))[inside].mean() > 0.93
        flipped += bool(window[0, 3, 4, 2] > window[0, 3, 4, 9])
    assert 2 <= flipped <= 10


def test_values_change_but_stay_finite_and_near():
    z, y, x = np.indices((9, 10, 11))
    image = np.stack([np.sin(x / 2) + y / 5, np.cos(z / 2) - x / 9]).astype(np.float32)
    image = (image - image.mean()) / image.std()
    for seed in range(20):
        out = alter_values(image, Alteration(), np.random.default_rng(seed))
        assert out.shape == image.shape and np.isfinite(out).all()
        assert np.corrcoef(out.ravel(), image.ravel())[0, 1] > 0.7


def test_mask_loss_by_hand():
    logits = torch.tensor([[[[2.0, 0.0]], [[0.0, 1.0]]]])  # one row of two pixels, two classes
    target = torch.tensor([[[0, 1]]])
    p = logits.softmax(1)
    cross = -(p[0, 0, 0, 0].log() + p[0, 1, 0, 1].log()) / 2
    dice = 1 - (2 * p[0, 1, 0, 1] + 1) / (p[0, 1].sum() + 1 + 1)
    torch.testing.assert_close(mask_loss([logits], target), cross + dice)
    coarse = torch.zeros(1, 2, 1, 1)
    both = mask_loss([logits, coarse], target)
    alone = mask_loss([coarse], target[:, :, :1])
    torch.testing.assert_close(both, (cross + dice + 0.5 * alone) / 1.5)


def test_cox_loss_by_hand():
    risk, days = torch.tensor([0.3, -0.2, 1.0]), torch.tensor([5.0, 9.0, 2.0])
    happened = torch.tensor([1.0, 0.0, 1.0])
    first = torch.logsumexp(risk, 0) - risk[2]  # all are at risk on day 2
    second = torch.logsumexp(risk[:2], 0) - risk[0]  # two are on day 5
    torch.testing.assert_close(cox_loss(risk, days, happened), (first + second) / 2)
    assert float(cox_loss(risk, days, torch.zeros(3))) == 0.0


def rows(answers: np.ndarray, truth: np.ndarray) -> list[VectorRow]:
    return [
        VectorRow(str(i), str(i), 0, int(t), tuple(float(v) for v in a))
        for i, (a, t) in enumerate(zip(answers, truth, strict=True))
    ]


def test_the_set_of_classes_holds_the_true_one_as_often_as_promised():
    """Split conformal: on further cases of the same kind, coverage is 90 % within what chance allows."""
    rng = np.random.default_rng(3)

    def draw(count: int) -> tuple[np.ndarray, np.ndarray]:
        truth = rng.integers(0, 3, count)
        logits = rng.normal(0, 1.5, (count, 3)) + 1.5 * np.eye(3)[truth]
        p = np.exp(2 * logits)  # too sure by a factor of two
        return p / p.sum(1, keepdims=True), truth

    covered = []
    for _ in range(30):
        promise = vector_promise("classify", rows(*draw(200)))
        assert 1.3 < float(str(promise["temperature"])) < 4, "sharper than it should be"
        answers, truth = draw(400)
        scaled = answers ** (1 / float(str(promise["temperature"])))
        p = scaled / scaled.sum(1, keepdims=True)
        p = p / p.sum(1, keepdims=True)
        covered.append(SetRule.from_card(promise["sets"]).sets(p)[np.arange(400), truth].mean())
    assert 0.88 < np.mean(covered) < 0.93
    assert "sets" not in vector_promise("classify", rows(*draw(12))), "12 cases promise nothing"


def test_thirty_cases_that_are_all_right_do_not_make_an_answer_certain():
    truth = np.arange(30) % 2
    answers = np.where(np.eye(2)[truth] > 0, 0.97, 0.03)
    temperature = float(str(vector_promise("classify", rows(answers, truth))["temperature"]))
    sharp = answers[0] ** (1 / temperature)
    assert (sharp / sharp.sum()).max() == pytest.approx(1 - 1 / 32, abs=0.005)


def test_an_interval_and_a_baseline():
    rng = np.random.default_rng(4)
    truth = rng.normal(50, 10, 300)
    found = [VectorRow(str(i), str(i), 0, float(t), (float(t + rng.normal(0, 2)),)) for i, t in enumerate(truth)]
    assert 3.0 < IntervalRule.from_card(vector_promise("regress", found)["interval"]).high < 3.6, (
        "1.645 deviations of 2"
    )
    events = [VectorRow(str(i), str(i), 0, Event(float(d), True), (0.0,)) for i, d in enumerate(range(1, 101))]
    promise = vector_promise("survive", events)
    # Without any difference in risk, Breslow's hazard is Nelson and Aalen's: the sum of 1 over those at risk.
    expected = sum(1 / (100 - n) for n in range(50))
    assert promise["horizon_days"] == 50.5 and promise["baseline"] == pytest.approx(expected)


@pytest.mark.parametrize("count", [20, 40, 41, 60, 100, 121, 160, 195])
def test_masks_promise_for_any_number_of_cases(count):
    values = np.random.default_rng(5).uniform(0.5, 1, count)
    rows = [
        MaskRow(str(i), str(i), 0, (float(v),), {"sharp": float(v)}, ((0.0,) * 50 + (0.2,) * 49,), ((10.0, 10 * v),))
        for i, v in enumerate(values)
    ]
    promise = mask_promise(rows)
    worth = QualityRule.from_card(promise["quality"]).expect({"sharp": 0.8})
    assert worth.low <= worth.value <= worth.high and worth.value == pytest.approx(0.8, abs=0.1)
    # Where the number tells how far off a volume is, its intervals follow it; without it they hold for all alike.
    noise = np.random.default_rng(6).random(count)
    plain = mask_promise([replace(r, numbers={"sharp": float(n)}) for r, n in zip(rows, noise, strict=True)])
    low, high = IntervalRule.from_card(plain["volumes"]["1"]).around(1.0)
    assert 0.5 <= low < 0.6 and 0.9 < high <= 1
    # 20 cases that miss a fifth: the bound of a tenth needs the threshold at which none misses anything.
    assert MaskRule.from_card(promise["margins"]["1"]).threshold == 0.5
    few = mask_promise(rows[:8])
    assert "quality" not in few and few["volumes"] == {} == few["margins"]
    assert "quality" not in mask_promise(rows[:19])


def test_risks_of_two_networks_are_compared_within_each():
    """The second network's risks lie higher by a constant that means nothing: the figure is not moved by it."""
    rng = np.random.default_rng(6)
    days = rng.uniform(1, 99, 40)
    rows = [
        VectorRow(str(i), str(i), i % 2, Event(float(d), True), (float(-d + 500 * (i % 2)),))
        for i, d in enumerate(days)
    ]
    (figure,) = vector_figures("survive", rows, ["event"], "")
    assert figure["value"] == 1.0


def test_probabilities_are_at_the_classes_own_frequency():
    """Pictures that say nothing, one in ten of them 'sick': the answer is one in ten, not one in two."""
    rng = np.random.default_rng(7)
    plan = plan_vector(FLAT, 2, widths=(4, 8), mirror=(False, False, False), batch=32)
    images = rng.normal(size=(60, 1, *plan.window)).astype(np.float32)
    cases = [VectorCase(str(i), image, int(i % 10 == 0)) for i, image in enumerate(images)]
    job = VectorJob(plan, "classify", cases, [])
    net = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(int(np.prod(plan.window)), 2))
    torch.nn.init.zeros_(net[1].weight)
    torch.nn.init.zeros_(net[1].bias)  # what a balanced training of this comes to
    found = answers(net, cases, "classify", scale=job.settle_scale(net))
    np.testing.assert_allclose(found, [[0.9, 0.1]] * 60, atol=1e-6)


class Hungry:
    """A job that asks for more memory than there is, after so many steps."""

    batch = 6

    def __init__(self, error: Exception, after: int) -> None:
        self.error, self.left = error, after

    def loss(self, net: torch.nn.Module, rng: np.random.Generator) -> torch.Tensor:
        self.left -= 1
        if self.left < 0:
            raise self.error
        return net(torch.ones(1, 2)).square().mean()

    def validate(self, net: torch.nn.Module) -> dict[str, float]:
        return {}


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes")]
)
def test_memory_that_runs_out_says_which_setting_would_fit(tmp_path, error):
    net = torch.nn.Linear(2, 1)
    course = Course(0, 0, 9, checks=9)
    with pytest.raises(TrainingError, match="batch of 6; a batch of 3 needs about half, and so do narrower `widths`"):
        fit(net, Hungry(error, 4), course, tmp_path, lambda _w, _d: None)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["standing"]["step"] == 4, "what was learnt before is whole"
    with pytest.raises(RuntimeError, match="another trouble"):
        fit(net, Hungry(RuntimeError("another trouble"), 0), course, tmp_path / "b", lambda _w, _d: None)


def test_a_full_disk_leaves_the_checkpoint_before(tmp_path, monkeypatch):
    net, course = torch.nn.Linear(2, 1), Course(0, 0, 6, checks=6)
    real, count = torch.save, [0]

    def save(*args, **kwargs):
        count[0] += 1
        if count[0] == 4:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(*args, **kwargs)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OutputError, match="space"):
        fit(net, Hungry(MemoryError(), 99), course, tmp_path, lambda _w, _d: None)
    monkeypatch.undo()
    assert load_checkpoint(tmp_path / "checkpoint.pt")["standing"]["step"] == 3
    assert fit(net, Hungry(MemoryError(), 99), course, tmp_path, lambda _w, _d: None).steps == 6


def test_networks_that_answer_one_case_are_joined():
    twice = [VectorRow("a", "p", n, 1, (0.2 * n, 1 - 0.2 * n)) for n in range(2)]
    (one,) = joined(twice)
    assert one.answer == pytest.approx((0.1, 0.9)) and one.target == 1


def test_shapes_keep_their_two_values_and_volumes_about_their_size() -> None:
    rng = np.random.default_rng(0)
    cases = [case(str(n), str(n)) for n in range(6)]
    place = Geometry((16, 16, 16))
    shapes = [Image((rng.random((1, 16, 16, 16)) < 0.3) * np.uint8(255), place) for _ in cases]
    pictures = [*shapes[:5], Image(rng.integers(0, 255, (1, 16, 16, 16)), place)]
    found = {}
    for name, images in (("shapes", shapes), ("pictures", pictures)):
        read = [Read(one, image, None) for one, image in zip(cases, images, strict=True)]
        finger = fingerprint(LabelledSet("set", "classify", ("a", "b"), tuple(cases)), read)
        assert (finger.shape_share is not None) == (name == "shapes")
        found[name] = plan_vector(finger, 2, widths=(4, 8), mirror=(False, False, True), batch=8)
    one, other = found["shapes"].alteration, found["pictures"].alteration
    assert (one.contrast, one.shading, one.noise, one.blur, one.coarse) == (0, 0, 0, 0, 1)
    assert other.contrast > 0 and other.noise > 0 and one.zoom == other.zoom < Alteration().zoom
    # The same two numbers in each image, however much of it is shape.
    values = {name: [np.unique(p.preparation.forward(i).array) for i in shapes[:2]] for name, p in found.items()}
    np.testing.assert_allclose(*values["shapes"])
    assert np.abs(values["pictures"][0] - values["pictures"][1]).max() > 1e-3
    assert found["shapes"].network.pool == "mean-max"
    assert plan_vector(finger, 2, widths=(4, 8), mirror=(False,) * 3, batch=4).network.pool == "mean"
    grid = plan_vector(finger, 2, widths=(4, 8), mirror=(False,) * 3, batch=4, settled=Settled(pool="grid"))
    assert grid.network.pool == "grid"
    with pytest.raises(ConfigError, match="a region is of single planes"):
        plan_vector(finger, 2, widths=(4, 8), mirror=(False,) * 3, settled=Settled("lungs"))
