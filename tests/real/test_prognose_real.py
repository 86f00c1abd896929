"""Public sets: published coefficients, and tables that must be read as they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.data.tables import Codes, read_clinical
from isocenter.models.covariates import fit_preparation
from isocenter.tasks.prognose.cox import fit_cox
from isocenter.verbs.prognosis.inputs import Asked, Cohort, cohort_of

pytestmark = pytest.mark.real

# R, survival::coxph(Surv(time, cens) ~ ., data = GBSG2), Efron's ties, grades against grade I.
GBSG2 = {
    "horTh: yes": -0.3462784, "age": -0.0094592, "menostat: Pre": -0.2584448, "tsize": 0.0077961,
    "tgrade: II": 0.636112, "tgrade: III": 0.779654, "pnodes": 0.0487886, "progrec": -0.0022172, "estrec": 0.0001973,
}  # fmt: skip
# R, survival::coxph(Surv(time, status) ~ age + sex + ph.ecog, data = lung), 227 complete cases.
LUNG = {"age": 0.011067, "sex": -0.552612, "ph.ecog": 0.463728}


def coefficients(cohort: Cohort) -> dict[str, float]:
    """Return coefficients of the covariates' own units, without a penalty."""
    complete = ~np.any([np.isnan(c.values) for c in cohort.people.columns], axis=0)
    people, times = cohort.people.rows(complete), cohort.times.rows(complete)
    preparation = fit_preparation(people)
    found = fit_cox(preparation.matrix(people), times.days, times.happened).coefficients
    scales = [c.scale for c in preparation.codings for _ in (c.kept or (c.name,))]
    return {name: float(b / s) for (_, name), b, s in zip(preparation.features, found, scales, strict=True)}


def test_coefficients_of_a_breast_cancer_trial_are_the_published_ones(shared_data: Path) -> None:
    table = read_clinical(shared_data / "clinical" / "GBSG2.arff")
    found = coefficients(cohort_of(table, Asked("time", "cens", Codes())))
    assert set(found) == set(GBSG2)
    for name, published in GBSG2.items():
        assert found[name] == pytest.approx(published, abs=2e-5, rel=1e-3), name


def test_coefficients_of_lung_cancer_are_the_published_ones(shared_data: Path) -> None:
    table = read_clinical(shared_data / "clinical" / "ncctg_lung.csv")
    asked = Asked("time", "status", Codes(), features=("age", "sex", "ph.ecog"))
    found = coefficients(cohort_of(table, asked))
    for name, published in LUNG.items():
        assert found[name] == pytest.approx(published, rel=1e-3), name


def test_a_cause_of_death_is_no_feature(shared_data: Path) -> None:
    table = read_clinical(shared_data / "clinical" / "flchain.arff")
    cohort = cohort_of(table, Asked("futime", "death", Codes("dead", "alive")))
    assert len(cohort.people) == 7874 and int(cohort.times.happened.sum()) == 2169
    assert "chapter" not in cohort.people.names and any(
        w.startswith("column chapter: missing") for w in cohort.left_out
    )
    creatinine = next(m for m in cohort.missing if m.column == "creatinine")
    assert creatinine.share == pytest.approx(1350 / 7874)
