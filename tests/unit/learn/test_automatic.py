from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from isocenter.core.errors import ConfigError, DataError
from isocenter.learn.automatic import AutomaticConfig, prepare_case, read_config, train
from isocenter.learn.automatic_augment import Augmentation, augment
from isocenter.learn.automatic_card import card_fields
from isocenter.learn.automatic_data import Case, folds_by_group, load_hippocampus, load_lungs
from isocenter.learn.automatic_evaluate import CaseResult, cross_validate, milder, summarise
from isocenter.learn.automatic_report import render
from isocenter.models.weights import WeightsCard, save_weights

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
STILL = Augmentation(0.0, (1.0, 1.0), 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0)


def _config(**changes) -> AutomaticConfig:
    values = {
        "name": "tiny",
        "data": "lungs",
        "seed": 5,
        "network": {"rank": 2, "channels_in": 1, "classes": 2, "widths": [4, 6]},
        "window": [16, 16],
        "augmentation": vars(replace(STILL, flip=0.5, noise=0.1, shift=0.1)),
        "schedule": {
            "iterations_fold": 50, "iterations_final": 50, "batch": 2, "learning_rate": 0.01, "averaging": 0.9,
        },
        "folds": 2,
    }  # fmt: skip
    return AutomaticConfig.model_validate({**values, **changes})


def _cases(count=24) -> list[Case]:
    """Bright discs on noise, two images a patient."""
    rng, cases = np.random.default_rng(0), []
    y, x = np.mgrid[:20, :24]
    for number in range(count):
        centre, radius = rng.uniform((7, 8), (13, 16)), rng.uniform(3, 5)
        label = ((y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2).astype(np.uint8)
        image = (label * 3.0 + rng.normal(0, 0.3, label.shape)).astype(np.float32)
        cases.append(Case(f"case-{number}", f"patient-{number // 2}", image, label, "made here"))
    return cases


@pytest.mark.parametrize("name", ["lungs-cxr", "hippocampus-t1"])
def test_the_shipped_configurations_are_valid(name):
    config = read_config(CONFIGS / f"{name}.yaml")
    assert config.name == name
    assert config.folds == 5
    assert len(config.window) == config.network.rank
    assert all(side % config.network.multiple == 0 for side in config.window)


@pytest.mark.parametrize("line", ["surprise: 1", "folds: many", "window: [", "data: knees"])
def test_a_wrong_setting_is_refused(tmp_path, line):
    file = tmp_path / "config.yaml"
    key = line.partition(":")[0]
    kept = [row for row in (CONFIGS / "lungs-cxr.yaml").read_text().splitlines() if not row.startswith(f"{key}:")]
    file.write_text("\n".join([*kept, line]))
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_config(file)


def test_no_patient_is_in_two_folds_and_folds_are_even():
    rng = np.random.default_rng(3)
    groups = [f"p{i}" for i in rng.integers(0, 40, 150)]
    folds = folds_by_group(groups, 5, seed=1)
    assert all(len({f for f, g in zip(folds, groups, strict=True) if g == name}) == 1 for name in set(groups))
    counts = np.bincount(folds, minlength=5)
    assert counts.max() - counts.min() <= 3
    assert folds == folds_by_group(groups, 5, seed=1)
    assert folds != folds_by_group(groups, 5, seed=2)


def test_more_folds_than_patients_are_refused():
    with pytest.raises(ConfigError, match="2 groups"):
        folds_by_group(["a", "b", "a"], 3, seed=0)


@pytest.mark.parametrize("read", [load_lungs, load_hippocampus])
def test_a_folder_without_the_set_is_refused(tmp_path, read):
    with pytest.raises(DataError, match="give the folder"):
        read(tmp_path)


def test_no_change_keeps_every_label_and_the_order_of_intensities():
    case = _cases(1)[0]
    image, label = augment(case.image, case.label.astype(np.int64), (20, 24), STILL, np.random.default_rng(0))
    assert np.array_equal(label, case.label)
    correlation = np.corrcoef(image.ravel(), case.image.ravel())[0, 1]
    assert correlation > 0.95  # a slow shading may still be laid over it


def test_image_and_label_move_together():
    how = replace(STILL, rotation_degree=30, scale=(0.8, 1.2), shift=0.2, flip=0.5)
    case = _cases(1)[0]
    for seed in range(20):
        image, label = augment(case.image, case.label.astype(np.int64), (24, 24), how, np.random.default_rng(seed))
        assert image.shape == label.shape == (24, 24)
        assert image[label == 1].mean() > image[label == 0].mean() + 1
        assert np.isfinite(image).all()


def test_the_same_seed_gives_the_same_window():
    how, case = _config().augmentation, _cases(1)[0]
    one, two = (augment(case.image, case.label.astype(np.int64), (16, 16), how, np.random.default_rng(9)) for _ in "ab")
    assert np.array_equal(one[0], two[0])
    assert np.array_equal(one[1], two[1])


def test_half_of_a_harsh_change_is_milder_everywhere():
    harsh = Augmentation(40, (0.5, 2.0), 0.4, 0.2, 0.5, 0.5, 1.0, 1.0, 4.0, 6)
    half = milder(harsh, 0.5)
    assert half.scale == (0.5**0.5, 2.0**0.5)
    assert (half.rotation_degree, half.blur_voxel, half.markers, half.flip) == (20, 2.0, 3, 0.5)


def test_the_letterboxed_label_keeps_its_share_of_the_picture():
    case = _cases(1)[0]
    image, label = prepare_case(case, _config(window=[48, 48]))
    assert image.shape == label.shape == (48, 48)
    assert label.sum() / (48 / 24) ** 2 == pytest.approx(case.label.sum(), rel=0.08)
    assert not label[:3].any()


def test_an_interrupted_training_ends_like_an_unbroken_one(tmp_path, monkeypatch):
    config, pairs = _config(), [prepare_case(case, _config()) for case in _cases(6)]
    monkeypatch.setattr("isocenter.learn.automatic._CHECKPOINT_EVERY", 4)
    whole = train(pairs, config, stream=0, iterations=10, folder=tmp_path / "whole")
    real = torch.optim.AdamW.step
    steps = []

    def interrupted(self, *args, **kwargs):
        steps.append(1)
        if len(steps) == 7:
            raise KeyboardInterrupt
        return real(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.AdamW, "step", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(pairs, config, stream=0, iterations=10, folder=tmp_path / "broken")
    assert not (tmp_path / "broken" / "weights.safetensors").exists()
    monkeypatch.setattr(torch.optim.AdamW, "step", real)
    resumed = train(pairs, config, stream=0, iterations=10, folder=tmp_path / "broken")
    for a, b in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(a, b)


def test_training_learns_and_the_cross_validation_ends_on_a_card(tmp_path):
    config, cases = _config(), _cases()
    fold_of = folds_by_group([case.group for case in cases], 2, config.seed)
    for fold in range(2):
        pairs = [prepare_case(c, config) for c, f in zip(cases, fold_of, strict=True) if f != fold]
        train(pairs, config, stream=fold, iterations=60, folder=tmp_path / f"fold-{fold}")
    results = cross_validate(cases, config, tmp_path)
    clean = [r for r in results if not r.changed]
    assert len(clean) == 24
    assert len(results) == 96
    assert np.mean([r.metrics["Dice"] for r in clean]) > 0.8
    assert {(r.name, r.fold) for r in clean} == {(c.name, f) for c, f in zip(cases, fold_of, strict=True)}


def _made_up_results() -> list[CaseResult]:
    rng, results = np.random.default_rng(1), []
    for number in range(200):
        for changed in (False, True):
            agreement = rng.uniform(0.5, 0.8) if changed else rng.uniform(0.85, 1)
            dice = float(np.clip(agreement - 0.05 + rng.normal(0, 0.02), 0, 1))
            metrics = {"Dice": (dice,)} if changed else {"Dice": (dice,), "IoU": (dice / (2 - dice),)}
            results.append(CaseResult(f"c{number}", f"p{number}", number % 2, changed, (float(agreement),), metrics))
    return results


def test_the_summary_feeds_card_and_page(tmp_path):
    config, results = _config(), _made_up_results()
    summary = summarise(results, config)
    check = summary["calibration_check"]
    assert 0.85 <= check["coverage"] <= 1
    assert check["pearson_expected_true"] > 0.9
    card = save_weights(tmp_path, {"a": np.zeros(3, np.float32)}, card_fields(config, _cases(), summary))
    assert isinstance(card, WeightsCard)
    truth = np.mean([r.metrics["Dice"][0] for r in results if not r.changed])
    assert card.metrics[0].value == pytest.approx(truth)
    assert card.metrics[0].low < truth < card.metrics[0].high
    assert "2-fold cross-validation by patient;" in card.metrics[0].how
    least = float(str(card.calibration["least_agreement"]))
    turned_away = np.mean([r.agreement[0] < least for r in results if not r.changed])
    assert turned_away == pytest.approx(0.02, abs=0.006)
    table = card.calibration["mean"]
    assert isinstance(table, dict) and sum(table["bin_counts"]) == 400 and sum(table["bin_changed"]) == 200
    assert table["bin_changed"][0] == table["bin_counts"][0] and table["bin_changed"][-1] == 0
    assert (card.calibration["images"], card.calibration["changed_copies"]) == (200, 200)
    page = render({"tiny": summary})
    assert f"| Dice | both lungs | {truth:.3f} |" in page
    assert "200 held-out images of 200 patients, 2 folds" in page


def test_a_missing_fold_is_said_on_the_card(tmp_path):
    config = _config(folds=3)
    fields = card_fields(config, _cases(), summarise(_made_up_results(), config))
    assert "2 of the 3 folds" in fields["metrics"][0]["how"]
    with pytest.raises(ConfigError, match="no fold has been trained"):
        cross_validate(_cases(), config, tmp_path)
