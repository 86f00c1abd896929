"""Perturbations do what they say; ComBat takes scanners out and leaves what is true."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Segment
from isocenter.core.errors import ConfigError, DataError
from isocenter.tasks.phenotype import FeatureSettings
from isocenter.tasks.phenotype.combat import fit_combat
from isocenter.tasks.phenotype.perturb import (
    Perturbation,
    draw_perturbations,
    noise_deviation,
    perturbed,
    perturbed_features,
)

GRID = Geometry.axial((15, 40, 42), spacing_mm=(2.0, 1.0, 0.8))


def _case():
    z, y, x = np.indices(GRID.shape)
    inside = ((z - 7) / 4) ** 2 + ((y - 19) / 6) ** 2 + ((x - 20) / 13) ** 2 < 1
    values = 100 + 10 * np.sin(x / 5) + 8 * np.cos(y / 4) + np.random.default_rng(0).normal(0, 2, GRID.shape)
    return Image(values[None], GRID), Mask(inside.astype(np.uint16), GRID, (Segment(1, "r"),)), inside


def test_a_perturbation_of_nothing_changes_nothing():
    image, mask, inside = _case()
    same, outline = perturbed(image, mask, Perturbation())
    assert np.array_equal(same.array, image.array)
    assert np.array_equal(outline.segment_array(1), inside)


def test_a_shift_moves_image_and_mask_together():
    image, mask, inside = _case()
    moved, outline = perturbed(image, mask, Perturbation(shift_voxels=(0.0, 2.0, -3.0)))
    assert np.array_equal(outline.segment_array(1), np.roll(inside, (2, -3), (1, 2)))
    expected = np.roll(image.array[0], (2, -3), (1, 2))
    assert moved.array[0][3:12, 8:30, 8:30] == pytest.approx(expected[3:12, 8:30, 8:30], abs=1e-6)


def test_a_turn_is_true_in_millimetres():
    image, mask, inside = _case()
    _, outline = perturbed(image, mask, Perturbation(turn_degrees=30.0))
    spread = [np.cov((np.argwhere(m) * (2.0, 1.0, 0.8)).T) for m in (inside, outline.segment_array(1))]
    before, after = (np.linalg.eigvalsh(s[1:, 1:]) for s in spread)
    assert after == pytest.approx(before, rel=0.05)
    vector = np.linalg.eigh(spread[1][1:, 1:])[1][:, 1]
    assert np.degrees(np.arctan2(abs(vector[0]), abs(vector[1]))) == pytest.approx(30, abs=3)


@pytest.mark.parametrize("growth", [-0.15, 0.15])
def test_a_volume_grows_as_asked_and_an_outline_wanders_by_a_little(growth):
    image, mask, inside = _case()
    _, outline = perturbed(image, mask, Perturbation(outline_mm=0.5, growth=growth, seed=3))
    found = outline.segment_array(1)
    assert found.sum() == round(inside.sum() * (1 + growth))
    overlap = 2 * (found & inside).sum() / (found.sum() + inside.sum())
    assert 0.85 < overlap < 1


def test_noise_is_estimated_and_added():
    image, mask, _ = _case()
    assert noise_deviation(image) == pytest.approx(2.0, rel=0.1)
    noisy, _ = perturbed(image, mask, Perturbation(noise=1.0, seed=1))
    assert (noisy.array - image.array).std() == pytest.approx(2.0, rel=0.1)


def test_features_under_perturbations_repeat_with_their_seed():
    image, mask, _ = _case()
    settings = FeatureSettings(families=("stat", "morph"))
    drawn = draw_perturbations(2, seed=4)
    first, again = (perturbed_features(image, mask, drawn, settings) for _ in range(2))
    assert first == again
    assert first[0] != first[1]
    with pytest.raises(ConfigError):
        draw_perturbations(0)
    with pytest.raises(ConfigError):
        Perturbation(growth=-1.0)


def _scanned(rng, sizes, *, features=30, age=0.5):
    batch = np.repeat(np.arange(len(sizes)), sizes)
    ages = rng.normal(60, 10, len(batch)) + 3 * batch
    truth = rng.normal(size=(len(batch), features)) + age * (ages[:, None] - 60) / 10
    shift, scale = rng.normal(0, 2, (len(sizes), features)), rng.uniform(0.5, 2, (len(sizes), features))
    return truth, truth * scale[batch] + shift[batch], [f"s{b}" for b in batch], ages[:, None]


def test_combat_takes_scanners_out_and_leaves_the_covariate():
    truth, seen, scanners, ages = _scanned(np.random.default_rng(0), (80, 60, 70))
    found = fit_combat(seen, scanners, ages).transform(seen, scanners, ages)
    batch = np.array(scanners)

    def apart(values):
        rest = values - np.array([np.polyval(np.polyfit(ages[:, 0], v, 1), ages[:, 0]) for v in values.T]).T
        means = np.array([rest[batch == b].mean(0) for b in sorted(set(scanners))])
        return float(np.abs(means - means.mean(0)).mean())

    assert apart(seen) > 1
    assert apart(found) < 0.15
    slopes = [np.polyfit(ages[:, 0], v, 1)[0] / v.std() for v in found.T]
    expected = [np.polyfit(ages[:, 0], v, 1)[0] / v.std() for v in truth.T]
    assert np.mean(slopes) == pytest.approx(np.mean(expected), rel=0.2)


def test_combat_is_fitted_on_the_training_part_alone():
    truth, seen, scanners, ages = _scanned(np.random.default_rng(1), (60, 60))
    train = np.arange(len(seen)) % 2 == 0
    names = np.array(scanners)
    fitted = fit_combat(seen[train], names[train].tolist(), ages[train])
    whole = fitted.transform(seen[~train], names[~train].tolist(), ages[~train])
    alone = fitted.transform(seen[~train][:1], names[~train][:1].tolist(), ages[~train][:1])
    assert alone[0] == pytest.approx(whole[0])
    correlation = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(whole.T, truth[~train].T, strict=True)])
    before = np.mean([np.corrcoef(a, b)[0, 1] for a, b in zip(seen[~train].T, truth[~train].T, strict=True)])
    assert correlation > 0.95 > before


def test_shrinking_helps_where_scanners_have_few_patients():
    errors = {True: [], False: []}
    for seed in range(12):
        rng = np.random.default_rng(seed)
        features, sizes = 60, (6, 6)
        batch = np.repeat([0, 1], sizes)
        truth = rng.normal(size=(12, features))
        seen = truth + np.array([0.0, 1.5])[batch][:, None]  # the same shift of every feature
        scanners = [f"s{b}" for b in batch]
        fresh = rng.normal(size=(200, features))
        for shrink in errors:
            fitted = fit_combat(seen, scanners, shrink=shrink)
            two = [fitted.transform(fresh + s, [n] * 200) for s, n in ((0.0, "s0"), (1.5, "s1"))]
            errors[shrink].append(np.sqrt(np.mean((two[0] - two[1]) ** 2)))
    assert np.mean(errors[True]) < 0.8 * np.mean(errors[False])


def test_combat_refuses_what_it_cannot_tell():
    rng = np.random.default_rng(2)
    x = rng.normal(size=(10, 4))
    names = ["a"] * 5 + ["b"] * 5
    fitted = fit_combat(x, names)
    for wrong in (
        lambda: fit_combat(x, ["a"] * 9 + ["b"]),
        lambda: fit_combat(np.where(x > 1, np.nan, x), names),
        lambda: fit_combat(x, names, np.array([[0.0]] * 5 + [[1.0]] * 5)),
        lambda: fitted.transform(x, ["c"] * 10),
        lambda: fitted.transform(x[:, :2], names),
        lambda: fitted.transform(x, names, np.zeros((10, 1))),
    ):
        with pytest.raises(DataError):
            wrong()
    with pytest.raises(ConfigError):
        fit_combat(x, names[:4])
    x[:, 1] = 3.0
    assert fit_combat(x, names).transform(x, names)[:, 1] == pytest.approx(3.0)
