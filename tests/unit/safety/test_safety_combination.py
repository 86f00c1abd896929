"""An image joined with a clinical table: what is fitted, what it is worth, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit, logit

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.combination import Combination, covariates_of
from isocenter.safety.combination_fit import check_combination, fit_combination


def cohort(n: int = 600, *, gain: float = 1.5, unit: float = 1.0):
    """Cases whose chance is known: the image's log-odds, and age and sex on top of it."""
    rng = np.random.default_rng(0)
    s, age, woman = rng.normal(0, 1, n), rng.normal(60, 10, n), rng.random(n) < 0.4
    y = rng.random(n) < expit(s + gain * (age - 60) / 10 - 1.0 * woman)
    columns = {"age [a]": [f"{a * unit:.6f}" for a in age], "sex": ["F" if w else "M" for w in woman]}
    return expit(s)[:, None], y[:, None].astype(float), [f"p{i // 2}" for i in range(n)], columns


def test_what_there_is_is_found_and_worth_more() -> None:
    p, y, patients, columns = cohort()
    found = fit_combination(p, y, patients, columns, exclusive=False)
    assert found.terms == ("age [a]", "sex = M") and found.cases == 600
    assert found.slopes[0] == pytest.approx(1.0, abs=0.25)
    assert found.weights[0] == pytest.approx((1.5, 1.0), abs=0.3)
    assert found.auroc_both > found.auroc_image + 0.08 and found.loss_both < found.loss_image - 0.05


def test_what_there_is_not_is_not_found() -> None:
    p, y, patients, columns = cohort()
    noise = {"age [a]": list(np.random.default_rng(1).permutation(columns["age [a]"]))}
    found = fit_combination(p, y, patients, noise, exclusive=False)
    assert abs(found.weights[0][0]) < 0.2 and abs(found.auroc_both - found.auroc_image) < 0.01


def test_it_is_the_minimum_of_the_penalised_loss() -> None:
    """Against Newton's steps, written out here."""
    p, y, patients, columns = cohort(300)
    found = fit_combination(p, y, patients, columns, exclusive=False)
    x = np.array([found.encode({k: v[i] for k, v in columns.items()})[0] for i in range(300)])
    a = np.column_stack([logit(p[:, 0]), np.ones(300), x])
    w, pull, centre = np.array([1.0, 0, 0, 0]), np.diag([1.0, 0, 1, 1]), np.array([1.0, 0, 0, 0])
    for _ in range(30):
        q = expit(a @ w)
        w -= np.linalg.solve(a.T @ (a * (q * (1 - q))[:, None]) + pull, a.T @ (q - y[:, 0]) + pull @ (w - centre))
    assert [found.slopes[0], found.biases[0], *found.weights[0]] == pytest.approx(list(w), abs=1e-3)


def test_units_change_nothing_and_parts_add_up() -> None:
    p, y, patients, columns = cohort()
    years = fit_combination(p, y, patients, columns, exclusive=False)
    _, _, _, months = cohort(unit=12.0)
    months = {"age [mo]": months["age [a]"], "sex": months["sex"]}
    other = fit_combination(p, y, patients, months, exclusive=False)
    one, _ = years.encode({"age [a]": "75", "sex": "F"})
    two, _ = other.encode({"age [mo]": "900", "sex": "F"})
    chance = np.array([0.3])
    assert years.apply(chance, one) == pytest.approx(other.apply(chance, two), abs=1e-3)
    (parts,) = years.parts(chance, one)
    assert set(parts) == {"image", "start", "age [a]", "sex = M"}
    assert expit(sum(parts.values())) == pytest.approx(years.apply(chance, one)[0])
    with pytest.raises(DataError, match=r"no column 'age \[a\]' \(with that unit\)"):
        years.encode({"age [mo]": "900", "sex": "F"})


def test_what_is_not_given_counts_as_the_mean_and_is_named() -> None:
    p, y, patients, columns = cohort()
    found = fit_combination(p, y, patients, columns, exclusive=False)
    x, absent = found.encode({"age [a]": "", "sex": ""})
    assert absent == ("age [a]", "sex") and x[0] == 0 and x[1] == pytest.approx(columns["sex"].count("M") / 600)


def test_two_classes_are_one_question() -> None:
    p, y, patients, columns = cohort()
    both = fit_combination(np.hstack([1 - p, p]), np.hstack([1 - y, y]), patients, columns, exclusive=True)
    x, _ = both.encode({"age [a]": "75", "sex": "F"})
    joined = both.apply(np.array([0.7, 0.3]), x)
    assert joined.sum() == pytest.approx(1)
    single = fit_combination(p, y, patients, columns, exclusive=False)
    assert joined[1] == pytest.approx(single.apply(np.array([0.3]), x)[0], abs=2e-3)


def test_it_comes_back_from_json() -> None:
    p, y, patients, columns = cohort()
    found = fit_combination(p, y, patients, columns, exclusive=False)
    assert Combination.from_card(json.loads(json.dumps(found.as_card()))) == found
    with pytest.raises(ConfigError, match="joined with a clinical table"):
        Combination.from_card({"covariates": []})


def test_what_can_not_be_joined_is_refused() -> None:
    p, y, patients, columns = cohort()
    with pytest.raises(DataError, match="say their unit"):
        covariates_of({"age": columns["age [a]"]})
    with pytest.raises(DataError, match="one value alone"):
        covariates_of({"age [a]": ["4", "4"]})
    with pytest.raises(DataError, match="holds 30 words"):
        covariates_of({"site": [f"s{i}" for i in range(30)]})
    with pytest.raises(DataError, match="holds 0 words"):
        covariates_of({"site": ["", ""]})
    few = {k: v[:20] for k, v in columns.items()}
    with pytest.raises(DataError, match=r"need 20 held-out cases with and without each"):
        check_combination(y[:20], few)
    with pytest.raises(DataError, match="need 20"):
        fit_combination(p[:20], y[:20], patients[:20], few, exclusive=False)
    found = fit_combination(p, y, patients, columns, exclusive=False)
    with pytest.raises(DataError, match="not learnt; known: F, M"):
        found.encode({"age [a]": "50", "sex": "other"})
    with pytest.raises(DataError, match="no finite number"):
        found.encode({"age [a]": "fifty", "sex": "F"})
