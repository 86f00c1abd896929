"""Synthetic patients with images for `benchmarks.fusion`: IBSI features of CT and PET, reports, a table, as files.

Everything goes the way of `isocenter prognose --block`: files are written, read, joined and held out by its own code.
"""

from __future__ import annotations

import csv
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from isocenter.data.images.resample import resample_to
from isocenter.data.tables import Codes, read_clinical
from isocenter.evaluate.bootstrap import Interval, bootstrap_statistic
from isocenter.evaluate.ranking import concordance
from isocenter.models.covariates import Covariates
from isocenter.synth.patients.cause import PatientSettings
from isocenter.synth.patients.cohort import Cohort, synthesise_cohort
from isocenter.synth.patients.images import synthesise_images
from isocenter.tasks.phenotype import Discretisation, FeatureSettings, radiomic_features
from isocenter.tasks.prognose.fused import FusionLearner
from isocenter.tasks.prognose.learners import CoxLearner, Learner, Times
from isocenter.tasks.prognose.nested import HeldOut, nested, patient_folds
from isocenter.tasks.prognose.preparing import TABLE, fit_people
from isocenter.verbs.prognosis.blocks import read_blocks
from isocenter.verbs.prognosis.inputs import Asked, cohort_of

SEED, FOLDS, INNER, HORIZON = 31, 4, 2, 730.0
SHARE_MISSING = 0.2
SHIFT, STRETCH = 1.5, 1.2
"""What scanner B adds to every feature, in its deviations, and how much it stretches it."""
COLUMNS = ("age [a]", "sex", "albumin [g/L]", "creatinine [umol/L]", "haemoglobin [g/dL]", "LDH [U/L]", "treatment")
"""Of the table: what no image tells."""
_FEATURES = FeatureSettings(
    discretisation=Discretisation("fixed bin number", 16, None), aggregations=("3D_avg", "3D_comb", "3D")
)
Row = dict[str, object]


def features(cohort: Cohort) -> dict[str, tuple[list[str], np.ndarray]]:
    """Return IBSI features of every patient's lesion in CT and in PET (on the grid of the CT): tags and numbers."""
    tags: list[str] = []
    found: dict[str, list[list[float]]] = {"ct": [], "pet": []}
    for patient in cohort.patients:
        made = synthesise_images(patient.seed, patient.cause)
        for name, image in (("ct", made.ct), ("pet", resample_to(made.pet, made.ct.geometry))):
            (region,) = radiomic_features(image, made.lesion, _FEATURES)
            tags = [f.tag for f in region.features]
            found[name].append([np.nan if f.value is None else f.value for f in region.features])
    return {name: (tags, np.array(rows)) for name, rows in found.items()}


def written(folder: Path, cohort: Cohort, made: dict[str, tuple[list[str], np.ndarray]], *, shift: float) -> None:
    """Write table, features and reports; a fifth of each modality is missing, and scanner B shifts the CT's numbers."""
    rng = np.random.default_rng(SEED)
    names = [p.name for p in cohort.patients]
    with (folder / "people.csv").open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, ["patient", *COLUMNS, "days", "event", "made"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(cohort.table())
    scanner = np.array(["A", "B"])[rng.integers(0, 2, len(names))]
    for name, (tags, rows) in made.items():
        kept = rng.random(len(names)) >= SHARE_MISSING
        values = rows
        if name == "ct" and shift:
            # Every number of scanner B goes the way that it goes with the lesion's volume: the worst that can be.
            volume = rows[:, tags.index("morph_volume")]
            way = np.array([np.sign(np.corrcoef(volume, c)[0, 1]) if c.std() > 0 else 0.0 for c in rows.T])
            centre, spread = rows.mean(axis=0), rows.std(axis=0)
            moved = centre + STRETCH * (rows - centre) + shift * spread * way
            values = np.where((scanner == "B")[:, None], moved, rows)
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            out = csv.writer(stream)
            out.writerow(["patient", "scanner", *tags])
            for n in np.flatnonzero(kept):
                out.writerow([names[n], scanner[n], *(repr(float(v)) for v in values[n])])
    kept = rng.random(len(names)) >= SHARE_MISSING
    with (folder / "reports.csv").open("w", newline="", encoding="utf-8") as stream:
        out = csv.writer(stream)
        out.writerow(["id", "text"])
        for n in np.flatnonzero(kept):
            out.writerow([names[n], "\n".join(cohort.patients[n].report.sections.values())])


def read(folder: Path, *, blocks: Sequence[str], batch: str | None) -> tuple[Covariates, Times, tuple[str, ...]]:
    """Read the files as the verb does."""
    places = {"ct": "ct.csv", "pet": "pet.csv", "report": "reports.csv:text"}
    asked = [f"{name}={folder / places[name]}" for name in blocks]
    found = read_blocks(asked, table=folder / "people.csv", patient="patient", batch=batch)
    table = read_clinical(folder / "people.csv", patient="patient")
    cohort = cohort_of(table, Asked("days", "event", Codes(), batch=batch), found)
    if not cohort.synthetic:
        raise SystemExit("the mark of invented people was lost on the way")
    return cohort.people, cohort.times, cohort.patients


def held_out(learner: Learner, people: Covariates, times: Times, patients: Sequence[str]) -> HeldOut:
    """Return what is said of people by models that never saw them."""
    folds = patient_folds(patients, times.happened, FOLDS, seed=SEED)
    return nested(
        learner, people, times, patients=patients, folds=folds, at_days=np.array([HORIZON]),
        choice=(INNER, concordance, SEED),
    )  # fmt: skip


def _only(people: Covariates, left_out: str) -> Covariates:
    columns = () if left_out == TABLE else people.columns
    return Covariates(columns, tuple(b for b in people.blocks if b.name != left_out))


def modality_rows(count: int, resamples: int, *, steps: int) -> tuple[list[Row], list[Row], dict[str, int]]:
    """Return the table of missing modalities, the table of a shifted scanner, and who has what."""
    cohort = synthesise_cohort(SEED, count, PatientSettings("randomised"))
    made = features(cohort)
    learners: list[Learner] = [CoxLearner(), FusionLearner("fusion", steps=steps)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        written(folder, cohort, made, shift=0.0)
        people, times, patients = read(folder, blocks=("ct", "pet", "report"), batch=None)
        counts = {b.name: int(b.present.sum()) for b in people.blocks} | {"events": int(times.happened.sum())}
        for learner in learners:
            rows += _taken(learner, people, times, patients, resamples)
        shifted: list[Row] = []
        for what, shift, batch in (("none", 0.0, None), ("planted", SHIFT, None), ("planted, harmonised", SHIFT,
                                                                                    "scanner")):  # fmt: skip
            written(folder, cohort, made, shift=shift)
            some, times, patients = read(folder, blocks=("ct",), batch=batch)
            some = Covariates(tuple(c for c in some.columns if c.name in ("age", "sex")), some.blocks)
            found = held_out(CoxLearner(), some, times, patients)
            told = _interval(lambda i, f=found, t=times: _order(f.risk, f, t, i), patients, resamples)
            shifted.append({"shift": what, "c": told, "gap": _gap(folder, some)})
            print(shifted[-1], flush=True)
    return rows, shifted, counts


def _taken(
    learner: Learner, people: Covariates, times: Times, patients: tuple[str, ...], resamples: int
) -> list[Row]:  # fmt: skip
    whole = held_out(learner, people, times, patients)
    rows: list[Row] = [
        {"learner": learner.name, "dropped": "none",
         "known": _interval(lambda i: _order(whole.risk, whole, times, i), patients, resamples)}
    ]  # fmt: skip
    print(rows[-1], flush=True)
    for name, risk in whole.taken.items():
        again = held_out(learner, _only(people, name), times, patients)
        rows.append({
            "learner": learner.name, "dropped": name,
            "known": _interval(lambda i, r=risk: _order(r, whole, times, i), patients, resamples),
            "again": _interval(lambda i, a=again: _order(a.risk, a, times, i), patients, resamples),
            "difference": _interval(lambda i, r=risk, a=again: _order(r, whole, times, i)
                                    - _order(a.risk, a, times, i), patients, resamples),
            "lost": _interval(lambda i, r=risk: _order(whole.risk, whole, times, i)
                              - _order(r, whole, times, i), patients, resamples),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def _order(risk: np.ndarray, held: HeldOut, times: Times, i: np.ndarray) -> float:
    return concordance(times.days[i], times.happened[i], risk[i], held.folds[i])


def _interval(statistic: Callable[[np.ndarray], float], patients: Sequence[str], resamples: int) -> list[float]:
    found: Interval = bootstrap_statistic(statistic, patients, resamples=resamples)
    return [found.value, found.low, found.high]


def _gap(folder: Path, people: Covariates) -> float:
    """Return how far the scanners' means of the first component lie apart, in deviations."""
    with (folder / "ct.csv").open(newline="", encoding="utf-8") as stream:
        scanner = {row["patient"]: row["scanner"] for row in csv.DictReader(stream)}
    first = fit_people(people).blocks[0].components(people.blocks[0])[:, 0]
    has = np.flatnonzero(~np.isnan(first))
    names = [f"synthetic-{n:06d}" for n in range(len(first))]
    of = np.array([scanner[names[n]] for n in has])
    return float(abs(first[has][of == "A"].mean() - first[has][of == "B"].mean()))
