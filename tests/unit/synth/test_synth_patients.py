"""Synthetic patients: one cause behind everything, both outcomes known, and everything says what it is."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from isocenter.core.errors import ConfigError, OutputError
from isocenter.data.images.nifti import read_nifti
from isocenter.synth.patients import (
    PatientSettings,
    draw_cause,
    synthesise_cohort,
    synthesise_images,
    synthesise_patient,
    write_cohort,
)
from isocenter.synth.patients.__main__ import main
from isocenter.synth.patients.cause import Stream, stream
from isocenter.synth.patients.outcome import log_hazard_ratio, mean_days


def test_a_patient_is_a_function_of_seed_and_number() -> None:
    alone, among = synthesise_patient(3, 11), synthesise_cohort(3, 20).patients[11]
    assert alone.row() == among.row() and alone.truth() == among.truth()
    assert alone.report.sections == among.report.sections
    one, same = synthesise_images(3, alone.cause), synthesise_images(3, among.cause)
    assert one.ct.array.tobytes() == same.ct.array.tobytes() and one.pet.array.tobytes() == same.pet.array.tobytes()
    assert synthesise_patient(4, 11).row() != alone.row()
    shifted = synthesise_cohort(3, 5, first=11)
    assert shifted.patients[0].row() == alone.row()


def test_another_design_leaves_patient_and_both_outcomes_as_they_are() -> None:
    for number in range(20):
        one = synthesise_patient(1, number, PatientSettings("randomised"))
        other = synthesise_patient(1, number, PatientSettings("confounded", strength=2.0))
        assert one.cause == other.cause
        assert (one.fate.days_treated, one.fate.days_untreated) == (other.fate.days_treated, other.fate.days_untreated)
        assert one.fate.propensity == 0.5


def test_the_truth_is_the_mean_of_what_happens() -> None:
    """The stated mean days and survival, against the same patient living many lives."""
    cause = draw_cause(1, 7)
    log_hazard = 0.75 * cause.severity + log_hazard_ratio(cause)
    luck = np.random.default_rng(0).exponential(size=400_000)
    lives = 1150.0 * (luck * np.exp(-log_hazard)) ** (1 / 1.2)
    truth = synthesise_patient(1, 7).fate
    assert mean_days(log_hazard, 1095.0) == pytest.approx(np.minimum(lives, 1095).mean(), rel=0.003)
    assert truth.mean_days_treated == pytest.approx(np.minimum(lives, 1095).mean(), rel=0.003)
    assert truth.survival_treated == pytest.approx((lives > 1095).mean(), abs=0.003)


def test_what_is_seen_is_one_of_the_two_outcomes_or_earlier() -> None:
    for patient in synthesise_cohort(2, 300).patients:
        f = patient.fate
        own = f.days_treated if f.treated else f.days_untreated
        assert f.days == max(1.0, np.ceil(own)) if f.died else f.days <= max(1.0, np.ceil(own))


def test_the_sicker_are_treated_and_the_planted_group_never_is() -> None:
    made = synthesise_cohort(5, 1500).patients
    planted = [p for p in made if p.cause.without_overlap]
    assert 0.05 < len(planted) / len(made) < 0.15
    assert not any(p.fate.treated for p in planted) and all(p.fate.propensity == 0 for p in planted)
    others = [p for p in made if not p.cause.without_overlap]
    assert all(0.08 <= p.fate.propensity <= 0.92 for p in others)
    severity = np.array([p.cause.severity for p in others])
    treated = np.array([p.fate.treated for p in others])
    assert severity[treated].mean() - severity[~treated].mean() > 0.4
    assert abs(severity.mean()) < 0.2 and 0.8 < severity.std() < 1.2
    effects = np.array([p.fate.effect_days for p in others])
    assert 0.1 < (effects < 0).mean() < 0.4, "some are harmed"
    kept = synthesise_cohort(5, 300, PatientSettings(no_overlap=False)).patients
    assert any(p.fate.treated for p in kept if p.cause.without_overlap)
    assert not any(
        p.truth()["without overlap"] for p in synthesise_cohort(5, 50, PatientSettings("randomised")).patients
    )


def test_what_no_table_holds_moves_treatment_and_outcome() -> None:
    made = synthesise_cohort(6, 800, PatientSettings(hidden=1.0, no_overlap=False)).patients
    hidden = np.array([p.cause.hidden for p in made])
    assert np.corrcoef(hidden, [p.fate.treated for p in made])[0, 1] > 0.2
    assert np.corrcoef(hidden, [p.fate.mean_days_untreated for p in made])[0, 1] < -0.3
    assert not any("hidden" in p.row() for p in made[:3])


@pytest.mark.parametrize("number", range(8))
def test_the_lesion_can_be_measured_back(number: int) -> None:
    cause = draw_cause(9, number)
    made = synthesise_images(9, cause)
    lesion = made.lesion.array > 0
    assert lesion.sum() * 4**3 / 1000 == pytest.approx(cause.volume_ml, rel=0.25)
    x = made.lesion.geometry.to_world(np.argwhere(lesion).astype(float)).mean(axis=0)[0]
    assert (x > 0) == cause.left, "x grows to the patient's left"
    assert made.ct.array[0][lesion].mean() == pytest.approx(45, abs=25)
    assert made.ct.array.min() < -900 and made.pet.array.min() >= 0
    places = made.pet.geometry.to_world(np.argwhere(made.pet.array[0] == made.pet.array[0].max()).astype(float))
    assert (places[0, 0] > 0) == cause.left or cause.uptake_suv < 2.5, "what glows most is the lesion"
    assert made.pet.array.max() < 1.5 * max(cause.uptake_suv, 1.4)


def test_uptake_is_seen_and_necrosis_is_dark() -> None:
    cause = replace(draw_cause(9, 3), uptake_suv=12.0, necrosis=0.4, radius_mm=25.0)
    plain = synthesise_images(9, replace(cause, necrosis=0.0))
    dark = synthesise_images(9, cause)
    assert plain.pet.array.max() == pytest.approx(12, rel=0.25)
    inside = plain.lesion.array > 0
    assert plain.ct.array[0][inside].mean() - dark.ct.array[0][inside].mean() > 5


def test_the_report_says_what_the_cause_says() -> None:
    cause = replace(draw_cause(9, 3), uptake_suv=12.0, necrosis=0.4, radius_mm=25.0, left=True, irregularity=0.9)
    patient = replace(synthesise_patient(9, 3), cause=cause)
    text = patient.report.sections["findings"]
    assert "5.0 cm mass in the left half" in text and "SUVmax 12.0" in text and "intensely" in text
    assert "irregular margins" in text or "spiculated" in text
    assert "without necrosis" not in text and "homogeneous" not in text


def test_a_folder_keeps_the_truth_apart_and_says_synthetic_everywhere(tmp_path: Path) -> None:
    cohort = synthesise_cohort(1, 3)
    write_cohort(tmp_path / "a", cohort, images=True)
    write_cohort(tmp_path / "b", cohort, images=True)
    files = sorted(p.relative_to(tmp_path / "a") for p in (tmp_path / "a").rglob("*") if p.is_file())
    assert len(files) == 5 + 3 * 4
    for file in files:
        one = (tmp_path / "a" / file).read_bytes()
        assert one == (tmp_path / "b" / file).read_bytes(), "the same bytes"
        if file.suffix != ".gz":
            assert b"synthetic" in one.lower()
        else:
            assert b"synthetic" in nib.load(tmp_path / "a" / file).header.extensions[0].get_content().lower()
    with (tmp_path / "a" / "patients.csv").open(newline="") as text:
        rows = list(csv.DictReader(text))
    assert all(row["made"] == "synthetic" and row["patient"].startswith("synthetic-") for row in rows)
    told = {"propensity", "hidden", "effect in mean days", "days treated", "without overlap"}
    assert not told & set(rows[0]), "no truth among what is known"
    assert json.loads((tmp_path / "a" / "cohort.json").read_text())["settings"]["strength"] == 1.0
    assert bytes(nib.load(tmp_path / "a/images/synthetic-000000/ct.nii.gz").header["descrip"]).startswith(b"synthetic")
    assert read_nifti(tmp_path / "a" / "images" / "synthetic-000001" / "pet.nii.gz").quantity.value == "SUVbw"
    with pytest.raises(OutputError):
        write_cohort(tmp_path / "a", cohort)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "c"), "--patients", "4", "--design", "randomised"]) == 0
    assert "invented" in capsys.readouterr().out
    assert main([str(tmp_path / "c"), "--patients", "4"]) == 2
    assert main([str(tmp_path / "d"), "--patients", "0"]) == 2
    assert "one patient or more" in capsys.readouterr().err


def test_settings_out_of_range_are_refused() -> None:
    for wrong in ({"strength": 9.0}, {"horizon_days": 0.0}, {"hidden": -1.0}, {"horizon_days": 5000.0}):
        with pytest.raises(ConfigError, match="must lie in"):
            PatientSettings(**wrong)
    with pytest.raises(ConfigError):
        stream(-1, 0, Stream.CAUSE)
