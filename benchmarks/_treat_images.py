"""Whether phenotypes measured in images make `isocenter treat` better, on synthetic patients whose truth is known.

The true effect depends on the lesion: uptake and necrosis, which stand in no column of the clinical table here. CT and
PET of each patient are written to files, `isocenter phenotype` measures the lesion in both, and `isocenter treat` is
asked three times about the same further patients: with the clinical table alone, with the two blocks of phenotypes,
and with the cause's own numbers in place of what was measured (nobody could know them so well).
"""

from __future__ import annotations

import csv
import hashlib
import shutil
from pathlib import Path
from typing import Any

import numpy as np

import isocenter
from isocenter.data.images import resample_to, write_nifti
from isocenter.evaluate.treatment import pehe, policy_regret
from isocenter.synth.patients import Cohort, PatientSettings, synthesise_cohort, synthesise_images
from isocenter.verbs.phenotype import phenotype
from isocenter.verbs.treat import treat
from isocenter.verbs.treatment.document import TreatDocument

__all__ = ["ARMS", "images", "lines", "measuring_hash"]

ARMS = ("clinical table", "and phenotypes of CT and PET", "and the cause's own numbers")
_LESION = "lesion "
_RESAMPLES = 2000
_QUICK: dict[str, Any] = {
    "families": ("morph", "loc", "stat", "ivh", "cm"),
    "aggregations": ("3D_comb", "3D"),
}


def measuring_hash() -> str:
    """Return a hash of the code that what is measured depends on: patients, images, files, features, rows."""
    package = Path(isocenter.__file__).parent
    rooms = ("core", "data/images", "synth", "tasks/phenotype")
    files = [file for room in rooms for file in sorted((package / room).rglob("*.py"))]
    files += [package / "verbs" / file for file in ("phenotype.py", "phenotyping/inputs.py", "phenotyping/rows.py")]
    parts = [file.relative_to(package).as_posix().encode() + file.read_bytes() for file in files]
    return hashlib.sha256(b"\0".join([*parts, repr(_QUICK).encode()])).hexdigest()[:16]


def _measured(cohort: Cohort, folder: Path) -> None:
    """Write images of each patient, measure them with the verb, and keep the rows alone."""
    for patient in cohort.patients:
        if (folder / "pet" / patient.name / "features.csv").is_file():
            continue
        own, out = folder / "images", folder / "made"
        own.mkdir(parents=True, exist_ok=True)
        made = synthesise_images(cohort.seed, patient.cause)
        # The lesion was drawn on the CT; small ones would lose too much on the coarser grid of the PET.
        pet = resample_to(made.pet, made.ct.geometry)
        for name, item in (("ct", made.ct), ("pet", pet), ("lesion", made.lesion)):
            write_nifti(item, own / f"{name}.nii.gz")
        for name in ("ct", "pet"):
            phenotype(
                own / f"{name}.nii.gz", own / "lesion.nii.gz", out, patient=patient.name, overwrite=True, **_QUICK
            )
            (folder / name / patient.name).mkdir(parents=True, exist_ok=True)
            shutil.copy(out / "features.csv", folder / name / patient.name / "features.csv")


def _gathered(folder: Path) -> None:
    """Put the rows of all patients under each other: one table for each modality."""
    for name in ("ct", "pet"):
        files = sorted((folder / name).glob("*/features.csv"))
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as stream:
            writer: csv.DictWriter[str] | None = None
            for file in files:
                with file.open(newline="", encoding="utf-8") as own:
                    rows = list(csv.DictReader(own))
                if writer is None:
                    writer = csv.DictWriter(stream, list(rows[0]))
                    writer.writeheader()
                writer.writerows(rows)


def _table(file: Path, cohort: Cohort, *, lesion: bool) -> None:
    rows = [{k: v for k, v in row.items() if lesion or not k.startswith(_LESION)} for row in cohort.table()]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def images(seed: int, count: int, others: int, work: Path, parts: Path) -> dict[str, Any]:
    """Ask about further patients of a cohort three times.

    Args:
        seed: Of the cohort.
        count: Patients that are learnt from.
        others: Patients that are asked about.
        work: Folder for tables.
        parts: Folder of what was measured; a run that was stopped goes on.
    """
    settings = PatientSettings(no_overlap=False)
    cohort = synthesise_cohort(seed, count, settings)
    asked = synthesise_cohort(seed, others, settings, first=count)
    _measured(Cohort(seed, settings, (*cohort.patients, *asked.patients)), parts)
    _gathered(parts)
    found = {}
    for arm in ARMS:
        lesion = arm == ARMS[2]
        _table(work / "table.csv", cohort, lesion=lesion)
        _table(work / "people.csv", asked, lesion=lesion)
        found[arm] = treat(
            work / "table.csv", work / "out", "treatment", "observational", option="new", against="usual", time="days",
            event="event", horizon_days=settings.horizon_days, event_name="death", index_time="index_time",
            leave_out=("toxicity",), people=work / "people.csv", width_limit=2.0, tries=2, overwrite=True,
            blocks=(f"ct={parts / 'ct.csv'}", f"pet={parts / 'pet.csv'}") if arm == ARMS[1] else (),
        )  # fmt: skip
    true = np.array([float(r["effect in survival"]) for r in asked.truth()])
    return {"seed": seed, "count": count, "others": others, **_compared(found, true)}


def _compared(found: dict[str, TreatDocument], true: np.ndarray) -> dict[str, Any]:
    """Compare on those whom every arm answers; intervals: bootstrap over the people who are asked about."""
    said = {
        arm: np.array([np.nan if p.effect is None else p.effect.value for p in d.people]) for arm, d in found.items()
    }
    both = np.all([np.isfinite(v) for v in said.values()], axis=0)
    rng = np.random.default_rng(0)
    own = true[both]
    draws = rng.integers(0, len(own), (_RESAMPLES, len(own)))
    made: dict[str, Any] = {"answered": int(both.sum()), "spread": float(own.std()), "arms": {}, "less": {}}
    each: dict[str, dict[str, np.ndarray]] = {}
    for arm, d in found.items():
        v = said[arm][both]
        figures = {"pehe": pehe, "regret": policy_regret}
        each[arm] = {n: np.array([f(v[i], own[i]) for i in draws]) for n, f in figures.items()}
        calibration = d.outcome.calibration
        made["arms"][arm] = {
            **{n: [f(v, own), *np.quantile(each[arm][n], (0.025, 0.975)).tolist()] for n, f in figures.items()},
            "correlation": float(np.corrcoef(v, own)[0, 1]), "refused": int((~np.isfinite(said[arm])).sum()),
            "coverage": float(np.mean([
                p.effect.low <= t <= p.effect.high for p, t in zip(d.people, true, strict=True) if p.effect is not None
            ])),
            "told": "" if calibration is None else calibration.told,
            "features": len(d.features),
        }  # fmt: skip
    for arm in ARMS[1:]:
        made["less"][arm] = {
            n: [
                made["arms"][ARMS[0]][n][0] - made["arms"][arm][n][0],
                *np.quantile(each[ARMS[0]][n] - each[arm][n], (0.025, 0.975)).tolist(),
            ]
            for n in ("pehe", "regret")
        }
    return made


def _in_100(three: list[float], digits: int = 1) -> str:
    return f"{100 * three[0]:.{digits}f} ({100 * three[1]:.{digits}f} to {100 * three[2]:.{digits}f})"


def lines(runs: list[dict[str, Any]]) -> list[str]:
    """Return the part of the page."""
    one = runs[0]
    made = [
        "", "## Phenotypes of images as covariates (synthetic)", "",
        f"Synthetic patients, confounded: {one['count']:,} to learn from and {one['others']:,} further ones of the "
        "same cohort to be told of. Uptake and necrosis of the lesion decide the effect and stand in no column; CT and "
        "PET of each (the PET on the CT's grid) were written to files and measured by `isocenter phenotype` (families "
        f"{', '.join(_QUICK['families'])}), and given to `isocenter treat --block ct=ct.csv --block pet=pet.csv`, "
        "which reduces each block to eight components at most inside every fold. Survival at day 1095, in 100; of "
        "people whom all three answer. Intervals 95 %: bootstrap over the people who are asked about, models held "
        "fixed.", "",
        "| cohort | known | people asked, answered by all | refused | PEHE | less than with the table alone | regret "
        "of the policy | less than with the table alone | correlation with the truth | coverage of 90 % intervals, % |",
        "| - | - | - | - | - | - | - | - | - | - |",
    ]  # fmt: skip
    for run in runs:
        for arm in ARMS:
            a, less = run["arms"][arm], run["less"].get(arm)
            made.append(
                f"| {run['seed']} | {arm} | {run['others']}, {run['answered']} | {a['refused']} | "
                f"{_in_100(a['pehe'])} | "
                f"{_in_100(less['pehe']) if less else ''} | {_in_100(a['regret'], 2)} | "
                f"{_in_100(less['regret'], 2) if less else ''} | {a['correlation']:.2f} | {100 * a['coverage']:.0f} |"
            )
    better = sum(r["less"][ARMS[1]][n][1] > 0 for r in runs for n in ("pehe", "regret"))
    made += [
        "", f"True effects spread by {100 * one['spread']:.1f} in 100. With phenotypes error and regret are smaller, "
        f"with an interval that excludes 0, in {better} of {2 * len(runs)} comparisons.",
    ]  # fmt: skip
    return made
