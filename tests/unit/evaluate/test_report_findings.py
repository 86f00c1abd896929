"""What the rules read in sentences of chest reports, and how two reports compare."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.evaluate.chest_terms import CHEST, Vocabulary
from isocenter.evaluate.report_findings import Claim, read_claims, report_agreement

READ = {
    # denial, and how far it reaches
    "No pneumothorax, effusion, or focal consolidation is seen.": "!consolidation !pleural_effusion !pneumothorax",
    "Lungs are clear of focal airspace disease, pneumothorax, or effusion.": "!opacity !pleural_effusion !pneumothorax",
    "No effusion, heart is enlarged.": "cardiomegaly !pleural_effusion",
    "No evidence of pneumonia but there is a small left pneumothorax.": "!pneumonia pneumothorax/left/mild",
    "Cardiomegaly without overt edema or effusion, stable right apical scarring.": (
        "cardiomegaly !pleural_effusion !pulmonary_edema scarring/right"
    ),
    "Pneumothorax has resolved.": "!pneumothorax",
    "Effusion, pneumothorax, or edema are not identified.": "!pleural_effusion !pneumothorax !pulmonary_edema",
    "There is no change in the left effusion.": "pleural_effusion/left",
    "No left pneumothorax.": "!pneumothorax",
    "There are masses. No nodules.": "mass !nodule",
    # doubt
    "Opacity in the right lower lobe may represent pneumonia or atelectasis.": (
        "?atelectasis opacity/right ?pneumonia"
    ),
    "Opacities which may be due to mild edema.": "opacity ?pulmonary_edema//mild",
    "No focal opacity to suggest pneumonia.": "!opacity !pneumonia",
    "Pneumonia cannot be excluded.": "?pneumonia",
    "Pneumothorax?": "?pneumothorax",
    "Effusions suspected bilaterally.": "?pleural_effusion/both",
    "A nodule in the right upper lobe, possibly a granuloma.": "?granuloma nodule/right",
    "Evaluate for pneumonia.": "",
    # parts and what is said of them
    "Heart size and mediastinal contours are normal.": "!cardiomegaly !mediastinal_widening",
    "The heart is mildly enlarged and the lungs are clear.": "cardiomegaly//mild !opacity",
    "Heart is not enlarged.": "!cardiomegaly",
    "The lungs are not clear.": "opacity",
    "Marked elevation of the left hemidiaphragm.": "elevated_diaphragm/left/severe",
    "The cardiomediastinal silhouette is within normal limits.": "!cardiomegaly !mediastinal_widening",
    "Left ventricular prominence.": "",
    # sides and grades
    "There is a moderate left pleural effusion and small right effusion.": "pleural_effusion/both/moderate",
    "Bilateral effusions, right greater than left.": "pleural_effusion/both",
    "Left basilar atelectasis and effusion.": "atelectasis/left pleural_effusion/left",
    "Effusion on the left is large.": "pleural_effusion/left/severe",
    "Right effusion. Left nodule.": "nodule/left pleural_effusion/right",
    "Left effusion. Effusion on the right.": "pleural_effusion/both",
    "No large effusion. Small left effusion.": "pleural_effusion/left/mild",
    "Blunting suggesting a small right effusion.": "blunted_costophrenic_angle ?pleural_effusion/right/mild",
    "Blunted left costophrenic angle.": "blunted_costophrenic_angle/left",
    "COPD without emphysema.": "!emphysema obstructive_lung_disease",
    "Calcified nodule in the left lung, nodular opacity on the right.": "calcified_nodule/left nodular_opacity/right",
    "Left hydropneumothorax.": "pleural_effusion/left pneumothorax/left",
    "No hydropneumothorax.": "!hydropneumothorax",
    "No new infiltrate.": "!infiltrate",
    "Basilar atelectasis, with no evidence of tuberculosis.": "atelectasis",
    "Fibrosis at the apex may be due to radiation treatment.": "fibrosis",
    "The heart is large.": "cardiomegaly",
    "Heart size is normal with prominent right atrial convexity.": "!cardiomegaly",
    "Atelectasis versus pneumonia.": "?atelectasis ?pneumonia",
    "No atelectasis or pneumonia.": "!atelectasis !pneumonia",
    "Cannot rule out pneumonia.": "?pneumonia",
    "Bony overlap could obscure a small nodule.": "?nodule//mild",
    "Mild to moderate cardiomegaly.": "cardiomegaly//moderate",
    "": "",
}


def _short(claim):
    sign = {"present": "", "absent": "!", "uncertain": "?"}[claim.status]
    return f"{sign}{claim.finding.replace(' ', '_')}/{claim.side or ''}/{claim.grade or ''}".rstrip("/")


@pytest.mark.parametrize("sentence", READ)
def test_what_is_read(sentence):
    found = [_short(c) for c in read_claims(sentence)]
    assert sorted(found, key=lambda c: c.strip("!?")) == READ[sentence].split()


REFERENCE = "Moderate left pleural effusion. No pneumothorax. Heart size is normal. Possible pneumonia."


def test_the_same_report_agrees_with_itself():
    found = report_agreement(REFERENCE, REFERENCE)
    assert (found.precision, found.recall, found.f1, found.positive_f1, found.finding_f1) == (1, 1, 1, 1, 1)
    assert (found.status_agreement, found.side_agreement, found.grade_agreement) == (1, 1, 1)
    assert found.contradicted == found.wrong_side == ()


def test_other_words_for_the_same_are_the_same():
    answer = (
        "The cardiac silhouette is unremarkable. There is moderate pleural fluid on the left, pneumonia is possible."
    )
    answer += " Pneumothorax is not seen."
    assert report_agreement(REFERENCE, answer).f1 == 1.0


@pytest.mark.parametrize(
    ("old", "new", "contradicted", "wrong_side", "status", "side", "grade"),
    [
        ("No pneumothorax", "Small pneumothorax", ("pneumothorax",), (), 0.75, 1.0, 1.0),
        ("left", "right", (), ("pleural effusion",), 1.0, 0.0, 1.0),
        ("Moderate", "Small", (), (), 1.0, 1.0, 0.0),
        ("Possible pneumonia", "Pneumonia", (), (), 0.75, 1.0, 1.0),
    ],
)
def test_one_error_is_found_and_named(old, new, contradicted, wrong_side, status, side, grade):
    found = report_agreement(REFERENCE, REFERENCE.replace(old, new))
    assert found.f1 == 0.75
    assert (found.contradicted, found.wrong_side) == (contradicted, wrong_side)
    assert (found.status_agreement, found.side_agreement, found.grade_agreement) == (status, side, grade)


def test_negation_costs_nearly_nothing_in_bleu_and_much_here():
    from isocenter.evaluate.text_overlap import rouge_l

    reference = "There is no pleural effusion in the left or the right hemithorax on this examination today."
    answer = reference.replace("no ", "a ")
    assert rouge_l(reference, answer).f1 > 0.9
    assert report_agreement(reference, answer).f1 == 0.0


def test_reports_without_a_claim():
    nothing = report_agreement("Two views.", "Views of the chest.")
    assert (nothing.f1, nothing.precision, nothing.recall, nothing.positive_f1) == (1, 1, 1, 1)
    assert np.isnan([nothing.status_agreement, nothing.side_agreement, nothing.grade_agreement]).all()
    silent = report_agreement(REFERENCE, "")
    assert (silent.f1, silent.precision, silent.recall) == (0, 0, 0)


def test_words_may_be_exchanged():
    fundus = Vocabulary(
        findings={"drusen": ("drusen",), "haemorrhage": ("haemorrhage", "hemorrhage")},
        unsided=frozenset(),
        subjects={"disc": (("optic disc", "disc"), {"normal": "swollen disc", "large": "swollen disc"})},
        predicates={"normal": ("normal",), "large": ("swollen",)},
        cues={"deny": ("no",), "verb": ("is",)},
        sides={"left": ("left",), "right": ("right",), "both": ("both",)},
        grades={"mild": ("few",), "moderate": (), "severe": ("many",)},
    )
    found = read_claims("Many drusen in the left eye. No hemorrhages. The optic disc is swollen.", fundus)
    assert found == (
        Claim("drusen", "present", "left", "severe"),
        Claim("haemorrhage", "absent"),
        Claim("swollen disc", "present"),
    )


def test_the_vocabulary_holds_together():
    assert len(CHEST.findings) >= 40
    claimed = {f for _, table in CHEST.subjects.values() for names in table.values() for f in names.split("|")}
    assert claimed <= set(CHEST.findings)
    assert set(CHEST.unsided) <= set(CHEST.findings)
    assert {p for _, table in CHEST.subjects.values() for p in table} <= set(CHEST.predicates)
    phrases = [p for table in (CHEST.findings, CHEST.predicates, CHEST.cues) for ps in table.values() for p in ps]
    assert sorted({p for p in phrases if phrases.count(p) > 1}) == []
