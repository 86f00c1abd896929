"""Synthetic patients whose images, report, laboratory, treatment and outcome come from one cause, with the truth known.

    python -m isocenter.synth.patients OUT --patients 2000 [--images]

Of every patient both outcomes are known, with the treatment and without: what no real table holds, and what a claim
about the effect of a treatment on one person can be measured against. All of it is invented, and says so.
"""

from __future__ import annotations

from isocenter.synth.patients.cause import Cause, PatientSettings, draw_cause
from isocenter.synth.patients.cohort import (
    Cohort,
    SyntheticPatient,
    synthesise_cohort,
    synthesise_patient,
    write_cohort,
)
from isocenter.synth.patients.images import PatientImages, synthesise_images
from isocenter.synth.patients.outcome import Fate, draw_fate

__all__ = [
    "Cause",
    "Cohort",
    "Fate",
    "PatientImages",
    "PatientSettings",
    "SyntheticPatient",
    "draw_cause",
    "draw_fate",
    "synthesise_cohort",
    "synthesise_images",
    "synthesise_patient",
    "write_cohort",
]
