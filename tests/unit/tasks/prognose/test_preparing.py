"""Blocks inside folds: nothing of a held-out person is in what is fitted; scanners are evened out, or said."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.ranking import concordance
from isocenter.models.covariates import Block, Covariate, Covariates
from isocenter.tasks.prognose import preparing
from isocenter.tasks.prognose.learners import CoxLearner, Times
from isocenter.tasks.prognose.nested import nested, patient_folds
from isocenter.tasks.prognose.preparing import BlockPreparation, fit_people

N, K = 240, 12


def cohort(*, shift: float = 0.0, seed: int = 0) -> tuple[Covariates, Times]:
    """A table that tells a little, and a block that tells much; half of the people are of scanner B."""
    rng = np.random.default_rng(seed)
    signal, age = rng.normal(size=N), rng.normal(60, 10, N)
    rows = signal[:, None] * np.random.default_rng(5).normal(size=K) + rng.normal(size=(N, K))
    batches = tuple("AB"[n % 2] for n in range(N))
    rows[1::2] = rows[1::2] * (1 + shift / 10) + shift * np.random.default_rng(5).normal(size=K)  # where signal lies
    rows[rng.random(N) < 0.2] = np.nan
    rows[3, 4] = np.nan
    event, lost = rng.exponential(200 * np.exp(-signal - 0.02 * (age - 60))), rng.uniform(50, 800, N)
    columns = (Covariate("age", age, "a"),)
    block = Block("ct", tuple(f"f{n}" for n in range(K)), rows, batches)
    return Covariates(columns, (block,)), Times(np.minimum(event, lost), event <= lost)


def held_out(people: Covariates, times: Times) -> float:
    names = [str(n) for n in range(N)]
    folds = patient_folds(names, times.happened, 3)
    found = nested(
        CoxLearner(l1_ratios=(0.5,), strengths=6), people, times, patients=names, folds=folds,
        at_days=np.array([100.0]), choice=(2, concordance, 0),
    )  # fmt: skip
    return concordance(times.days, times.happened, found.risk, folds)


def without_scanners(people: Covariates) -> Covariates:
    return Covariates(people.columns, tuple(replace(b, batches=()) for b in people.blocks))


def test_no_held_out_row_is_in_what_is_harmonised(monkeypatch: pytest.MonkeyPatch) -> None:
    people, times = cohort()
    block = people.blocks[0]
    values = np.where(block.present[:, None], np.arange(N)[:, None] + 1000.0 * block.values, np.nan)
    values[:, 0] = np.where(block.present, np.arange(N), np.nan)  # the first number is the person's own
    people = Covariates(people.columns, (replace(block, values=values),))
    seen: list[set[int]] = []
    real = preparing.fit_combat

    def spy(features: np.ndarray, batches: list[str]) -> object:
        seen.append({int(n) for n in features[:, 0]})
        return real(features, batches)

    monkeypatch.setattr(preparing, "fit_combat", spy)
    held_out(people, times)
    folds = patient_folds([str(n) for n in range(N)], times.happened, 3)
    has = block.present
    training = [{int(n) for n in np.flatnonzero((folds != k) & has)} for k in range(3)]
    assert len(seen) == 9  # of each outer fold the whole training part, and two inner parts of it
    for number, ids in enumerate(seen):
        assert ids <= training[number // 3]
    assert [ids for ids in seen if ids in training] == training or sum(ids in training for ids in seen) == 3


def test_a_planted_shift_of_scanners_is_taken_away() -> None:
    people, times = cohort(shift=4.0)
    plain, even = held_out(without_scanners(people), times), held_out(people, times)
    clean = held_out(without_scanners(cohort()[0]), times)
    assert even > plain + 0.03 and abs(even - clean) < 0.02
    parts = [fit_people(p).blocks[0].components(p.blocks[0]) for p in (without_scanners(people), people)]
    scanner = np.arange(N) % 2 == 1
    gaps = [abs(np.nanmean(c[scanner, 0]) - np.nanmean(c[~scanner, 0])) for c in parts]
    assert gaps[0] > 1.5 and gaps[1] < 0.2


def test_who_lacks_a_block_stands_at_the_mean_with_a_flag_or_is_a_gap() -> None:
    people, _ = cohort()
    made = fit_people(people)
    block, lacks = made.blocks[0], ~people.blocks[0].present
    assert block.flagged and lacks.sum() > 10
    matrix, gapped = made.matrix(people), made.gapped(people)
    assert np.isfinite(matrix).all() and matrix.shape[1] == len(made.features) == len(made.weights)
    own = matrix[:, 1:-1]
    assert (own[lacks] == 0).all() and (matrix[:, -1] == lacks).all()
    np.testing.assert_allclose(own[~lacks].mean(axis=0), 0, atol=1e-9)
    np.testing.assert_allclose(own[~lacks].std(axis=0), 1, atol=1e-9)
    assert np.isnan(gapped[lacks, 1:]).all() and np.isfinite(gapped[~lacks]).all()
    assert made.layout == (("table", 1), ("ct", 8))
    # A block counts as one covariate where people are compared.
    assert (made.weights[1:-1] ** 2).sum() == pytest.approx(1)
    nobody = people.rows(np.arange(2)).without("age")
    assert np.isnan(made.gapped(nobody)[:, 0]).all() and np.isfinite(made.matrix(nobody)).all()


def test_a_scanner_that_was_not_learnt_from_is_not_passed_through() -> None:
    people, _ = cohort()
    batches = list(people.blocks[0].batches)
    has = np.flatnonzero(people.blocks[0].present)
    for n in has[:3]:
        batches[n] = "C"  # of three people: too few to tell what it adds
    batches[has[3]] = ""
    people = Covariates(people.columns, (replace(people.blocks[0], batches=tuple(batches)),))
    made = fit_people(people).blocks[0]
    assert made.combat is not None and made.combat.batches == ("A", "B")
    assert not made.usable(people.blocks[0])[has[:4]].any() and made.usable(people.blocks[0])[has[4:]].all()
    assert np.isnan(made.components(people.blocks[0])[has[:4]]).all()
    with pytest.raises(DataError, match="scanner of each person"):
        made.usable(replace(people.blocks[0], batches=()))
    with pytest.raises(DataError, match="does not hold"):
        made.usable(replace(people.blocks[0], columns=tuple("abcdefghijkl")))
    one = fit_people(Covariates(people.columns, (replace(people.blocks[0], batches=("A",) * N),))).blocks[0]
    plain = fit_people(without_scanners(people)).blocks[0]
    np.testing.assert_allclose(
        one.components(replace(people.blocks[0], batches=("A",) * N)), plain.components(people.blocks[0])
    )
    assert not one.usable(replace(people.blocks[0], batches=("B",) * N)).any()


def test_what_only_tells_the_scanner_is_dropped_and_other_units_are_told() -> None:
    people, _ = cohort()
    block = people.blocks[0]
    values = block.values.copy()
    values[:, 0] = np.where(block.present, (np.arange(N) % 2) * 7.0, np.nan)
    made = fit_people(Covariates(people.columns, (replace(block, values=values),)))
    assert np.isinf(made.blocks[0].spread[0]) and np.isfinite(made.blocks[0].spread[1:]).all()
    far = Covariates(people.columns, (replace(block, values=values * 1000),)).rows(block.present)
    near = Covariates(people.columns, (replace(block, values=values),)).rows(block.present)
    assert all("ct" in names for names in made.outside(far)) and not any("ct" in n for n in made.outside(near))


def test_a_preparation_comes_back_from_arrays() -> None:
    people, _ = cohort()
    for some in (people, without_scanners(people)):
        made = fit_people(some).blocks[0]
        back = BlockPreparation.from_arrays(*made.as_arrays())
        np.testing.assert_array_equal(back.components(some.blocks[0]), made.components(some.blocks[0]))
        assert back.features == made.features
    with pytest.raises(ConfigError, match="learn again"):
        BlockPreparation.from_arrays({}, {"name": "ct", "columns": [], "flagged": True, "batches": None})


def test_too_few_and_nothing() -> None:
    people, _ = cohort()
    few = people.blocks[0].values.copy()
    few[9:] = np.nan
    with pytest.raises(DataError, match="people of a training part have the block"):
        fit_people(Covariates(people.columns, (Block("ct", people.blocks[0].columns, few),)))
    with pytest.raises(DataError, match="same for all"):
        fit_people(Covariates((), (Block("ct", ("f",), np.ones((20, 1))),)))
    with pytest.raises(DataError, match="scanners for"):
        Block("ct", ("f",), np.ones((20, 1)), ("A",))
    alone = fit_people(Covariates((Covariate("a", np.ones(N)),), people.blocks))
    assert alone.table is None and alone.names == ("ct",)
