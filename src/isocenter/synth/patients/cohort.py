"""A cohort of synthetic patients as a folder: tables, reports, images, and beside them the truth in its own file."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import date, timedelta
from pathlib import Path

from isocenter.core import Report
from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.images.nifti import write_nifti
from isocenter.synth.patients.cause import Cause, PatientSettings, draw_cause
from isocenter.synth.patients.images import synthesise_images
from isocenter.synth.patients.outcome import Fate, draw_fate
from isocenter.synth.patients.words import MARK, write_report

__all__ = ["Cohort", "SyntheticPatient", "synthesise_cohort", "synthesise_patient", "write_cohort"]

PATIENTS, TRUTH, REPORTS, ABOUT, NOTE = "patients.csv", "truth.csv", "reports.csv", "cohort.json", "SYNTHETIC.txt"
_FIRST_DAY = date(2001, 1, 1)
_SAID = (
    f"{MARK}: every patient here is invented by isocenter.synth.patients. Nothing here is of a person, and nothing "
    "that is found here is evidence about a disease or a treatment."
)

Row = Mapping[str, str | float | int]


@dataclass(frozen=True, eq=False)
class SyntheticPatient:
    """One patient.

    Args:
        seed: Of the cohort.
        cause: Who it is.
        fate: What becomes of it, seen and unseen.
        settings: Of the cohort.
    """

    seed: int
    cause: Cause
    fate: Fate
    settings: PatientSettings

    @property
    def name(self) -> str:
        """Return a name that says what it is."""
        return f"synthetic-{self.cause.number:06d}"

    @property
    def report(self) -> Report:
        """The report of its images."""
        return write_report(self.seed, self.cause)

    def row(self) -> Row:
        """Return what a table of patients holds: nothing that would not be known of a real one."""
        c, f = self.cause, self.fate
        return {
            "patient": self.name,
            "index_time": (_FIRST_DAY + timedelta(days=f.entered_day)).isoformat(),
            "age [a]": c.age_a,
            "sex": "male" if c.male else "female",
            "weight [kg]": c.weight_kg,
            "lesion volume [mL]": round(c.volume_ml, 2),
            "lesion irregularity [1]": c.irregularity,
            "lesion necrosis [%]": round(100 * c.necrosis, 1),
            "lesion SUVmax [{SUVbw}g/ml]": c.uptake_suv,
            "lesion side": "left" if c.left else "right",
            "albumin [g/L]": c.albumin_g_l,
            "creatinine [umol/L]": c.creatinine_umol_l,
            "haemoglobin [g/dL]": c.haemoglobin_g_dl,
            "LDH [U/L]": c.ldh_u_l,
            "treatment": "new" if f.treated else "usual",
            "days": int(f.days),
            "event": int(f.died),
            "toxicity": int(f.toxicity),
            "made": MARK.lower(),
        }

    def truth(self) -> Row:
        """Return what nobody could know of a real patient."""
        f = self.fate
        return {
            "patient": self.name,
            "horizon [d]": self.settings.horizon_days,
            "propensity": round(f.propensity, 5),
            "days untreated": round(f.days_untreated, 1),
            "days treated": round(f.days_treated, 1),
            "mean days untreated": round(f.mean_days_untreated, 2),
            "mean days treated": round(f.mean_days_treated, 2),
            "effect in mean days": round(f.effect_days, 2),
            "survival untreated": round(f.survival_untreated, 5),
            "survival treated": round(f.survival_treated, 5),
            "effect in survival": round(f.survival_treated - f.survival_untreated, 5),
            "toxicity risk untreated": round(f.toxicity_risk_untreated, 5),
            "toxicity risk treated": round(f.toxicity_risk_treated, 5),
            "without overlap": int(
                self.settings.design == "confounded" and self.settings.no_overlap and self.cause.without_overlap
            ),
            "hidden": round(self.cause.hidden, 4) if self.settings.hidden else 0,
            "made": MARK.lower(),
        }


@dataclass(frozen=True, eq=False)
class Cohort:
    """Patients in the order of their numbers.

    Args:
        seed: Of all.
        settings: Of all.
        patients: From number 0 or the first asked for.
    """

    seed: int
    settings: PatientSettings
    patients: tuple[SyntheticPatient, ...]

    def table(self) -> list[Row]:
        """Return what is known of each."""
        return [patient.row() for patient in self.patients]

    def truth(self) -> list[Row]:
        """Return what is true of each."""
        return [patient.truth() for patient in self.patients]


def synthesise_patient(seed: int, number: int, settings: PatientSettings | None = None) -> SyntheticPatient:
    """Make one patient; the same seed and number make the same patient in any cohort.

    Args:
        seed: Of the cohort.
        number: Of the patient.
        settings: How treatment is given.

    Raises:
        ConfigError: Seed or number is negative.

    Example:
        >>> synthesise_patient(1, 7).row() == synthesise_patient(1, 7).row()
        True
    """
    settings = settings or PatientSettings()
    cause = draw_cause(seed, number)
    return SyntheticPatient(seed, cause, draw_fate(seed, cause, settings), settings)


def synthesise_cohort(
    seed: int, count: int, settings: PatientSettings | None = None, *, first: int = 0
) -> Cohort:  # fmt: skip
    """Make a cohort.

    Args:
        seed: Of the cohort.
        count: How many patients.
        settings: How treatment is given.
        first: Number of the first patient.

    Raises:
        ConfigError: No patient is asked for, or seed or number is negative.
    """
    if count < 1:
        raise ConfigError(f"a cohort needs one patient or more, got {count}")
    settings = settings or PatientSettings()
    made = tuple(synthesise_patient(seed, number, settings) for number in range(first, first + count))
    return Cohort(seed, settings, made)


def _write_table(file: Path, rows: Sequence[Row]) -> None:
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def _write_images(folder: Path, patient: SyntheticPatient) -> None:
    own = folder / patient.name
    own.mkdir(parents=True)
    made = synthesise_images(patient.seed, patient.cause)
    for name, item in (("ct", made.ct), ("pet", made.pet), ("lesion", made.lesion)):
        write_nifti(item, own / f"{name}.nii.gz")
    about = {
        "made": MARK.lower(), "patient": patient.name, "seed": patient.seed, "number": patient.cause.number,
        "ct": "HU", "pet": "SUVbw", "lesion": "mask on the grid of the CT",
    }  # fmt: skip
    (own / "about.json").write_text(json.dumps(about, indent=1) + "\n", "utf-8")


def write_cohort(
    out: Path | str,
    cohort: Cohort,
    *,
    images: bool = False,
    overwrite: bool = False,
    progress: Callable[[str, float], None] | None = None,
) -> Path:
    """Write a cohort to a folder; the same cohort gives the same bytes.

    Args:
        out: Folder: patients.csv, truth.csv, reports.csv, cohort.json, SYNTHETIC.txt and, if asked for, images/.
        cohort: What to write.
        images: Whether CT, PET and mask of each patient are written, about 0.3 MB each.
        overwrite: Whether an older folder is replaced.
        progress: Told what is done, and its share.

    Returns:
        The folder.

    Raises:
        OutputError: The folder can't be written, or is not empty.
    """
    out = Path(out)
    make_parent(out)
    with atomic_folder(out, replace=overwrite) as folder:
        _write_table(folder / PATIENTS, cohort.table())
        _write_table(folder / TRUTH, cohort.truth())
        _write_table(
            folder / REPORTS,
            [{"id": p.name, "text": "\n".join(p.report.sections.values())} for p in cohort.patients],
        )
        about = {
            "made": MARK.lower(), "note": _SAID, "seed": cohort.seed, "patients": len(cohort.patients),
            "settings": asdict(cohort.settings), "images": images,
        }  # fmt: skip
        (folder / ABOUT).write_text(json.dumps(about, indent=1) + "\n", "utf-8")
        (folder / NOTE).write_text(_SAID + "\n", "utf-8")
        for done, patient in enumerate(cohort.patients if images else (), start=1):
            _write_images(folder / "images", patient)
            if progress is not None:
                progress("images", done / len(cohort.patients))
    return out
