"""Rules that turn a sentence into its contradiction, and all that they must leave alone."""

from __future__ import annotations

import pytest

from isocenter.core.errors import ConfigError
from isocenter.learn.alignment.contradiction import CONTRADICTIONS, contradict, contradict_in_report


def only(sentence: str, kind: str) -> str | None:
    found = contradict(sentence, [kind])
    return found[0].text if found else None


@pytest.mark.parametrize(
    ("sentence", "negation"),
    [
        ("No pleural effusion.", "Pleural effusion."),
        ("There is no pneumothorax.", "There is pneumothorax."),
        ("There are no focal opacities.", "There are focal opacities."),
        ("No evidence of consolidation.", "Evidence of consolidation."),
        ("There is no evidence of edema.", "There is edema."),
        ("Pneumothorax is absent.", "Pneumothorax is present."),
        ("The heart is not enlarged.", "The heart is enlarged."),
        ("The heart is enlarged.", "The heart is not enlarged."),
        ("Heart size is normal.", "Heart size is not normal."),
        ("The lungs are clear.", "The lungs are not clear."),
        ("The lungs are free of consolidation.", "The lungs are full of consolidation."),
        ("Atelectasis without effusion.", "Atelectasis with effusion."),
        ("The radiograph shows no fracture.", "The radiograph shows fracture."),
        ("The left upper zone shows a nodule.", "The left upper zone shows no nodule."),
        ("There is a large right effusion.", "There is no large right effusion."),
        ("A small effusion is seen on the left.", "No effusion is seen on the left."),
        ("Small left pleural effusion.", "No left pleural effusion."),
        ("Cardiomegaly.", "No cardiomegaly."),
        ("PICC line on the right.", "No PICC line on the right."),
        ("Small bowel gas.", "No small bowel gas."),
        ("  Mild\n cardiomegaly.", "No cardiomegaly."),
        ("The left ventricle is enlarged.", "The left ventricle is not enlarged."),
        ("The lungs appear clear.", "The lungs do not appear clear."),
        ("The aorta appears tortuous.", "The aorta does not appear tortuous."),
        ("Heart and aorta normal.", "Heart and aorta not normal."),
        ("The examination was negative for fracture.", "The examination was positive for fracture."),
    ],
)
def test_negation(sentence, negation):
    assert only(sentence, "negation") == negation


@pytest.mark.parametrize(
    ("sentence", "other_side"),
    [
        ("Small left pleural effusion.", "Small right pleural effusion."),
        ("Right lower lobe pneumonia.", "Left lower lobe pneumonia."),
        ("LEFT LOWER LOBE PNEUMONIA", "RIGHT LOWER LOBE PNEUMONIA"),
        ("A left-sided pacemaker is in place.", "A right-sided pacemaker is in place."),
        ("The mediastinum is shifted to the left.", "The mediastinum is shifted to the right."),
        ("Right internal jugular line.", "Left internal jugular line."),
        (
            "Effusions, larger on the left than on the right.",
            "Effusions, larger on the right than on the left.",
        ),
    ],
)
def test_laterality(sentence, other_side):
    assert only(sentence, "laterality") == other_side
    assert only(other_side, "laterality") == sentence


@pytest.mark.parametrize(
    "sentence",
    [
        "The left ventricle is enlarged.",  # a name: its other side is another chamber
        "Left ventricular hypertrophy.",
        "Enlarged right atrium.",
        "Right middle lobe consolidation.",  # there is no left one
        "Left bundle branch block.",
        "Left axis deviation.",
        "Right paratracheal stripe thickening.",
        "Left-to-right shunt.",
        "The tube was left in place.",
        "No left pleural effusion.",  # says nothing of the right
        "There is no consolidation in the right lung.",
        "The left lung is clear.",  # both may be
        "Normal right hilum.",
        "Left and right effusions.",  # means the same the other way round
        "Bilateral effusions, left basal atelectasis on both sides.",
        "Effusion.",
        "The patient is right-handed.",
    ],
)
def test_sides_that_are_left_alone(sentence):
    assert only(sentence, "laterality") is None


@pytest.mark.parametrize(
    "sentence",
    [
        "Effusion cannot be excluded.",
        "Possible left effusion.",
        "Findings may represent pneumonia.",
        "Left effusion?",
        "Unchanged left effusion.",
        "No change in the left effusion.",
        "No longer seen is the right effusion.",
        "Compared to the prior, the heart is larger.",
        "Neither effusion nor pneumothorax.",
        "No nodule and no mass.",
        "Recommend CT of the left lung.",
        "Likely left basal atelectasis.",
        "PA view.",
        "ABDOMEN.",
        "Continued low lung volumes.",
        "The right base remains dense.",
        "...",
        "12 3.",
        "",
    ],
)
def test_sentences_that_are_never_altered(sentence):
    assert contradict(sentence, CONTRADICTIONS) == ()


@pytest.mark.parametrize(
    ("sentence", "other_size"),
    [
        ("Small left pleural effusion.", "Large left pleural effusion."),
        ("There is mild cardiomegaly.", "There is severe cardiomegaly."),
        ("Moderate effusion.", None),
        ("No large effusion.", None),
        ("Small nodule in a large cavity.", None),
        ("Dilated small bowel.", None),
    ],
)
def test_severity(sentence, other_size):
    assert only(sentence, "severity") == other_size


def test_the_same_sentence_the_same_contradiction_and_never_itself():
    for sentence in ("Small left effusion.", "No effusion.", "The heart is enlarged."):
        assert contradict(sentence, CONTRADICTIONS) == contradict(sentence, CONTRADICTIONS)
        assert all(c.text.lower() != sentence.lower() for c in contradict(sentence, CONTRADICTIONS))


@pytest.mark.parametrize(
    "others",
    [
        ["Small effusion on the right."],
        ["Right effusion, too."],
        ["Bilateral effusions."],
        ["Right effusion."],
    ],
)
def test_a_report_that_says_the_other_side_too_gives_no_contradiction(others):
    assert contradict_in_report(["Left effusion.", *others], 0, ["laterality"]) == ()
    assert contradict_in_report(["Left effusion.", "No right effusion."], 0, ["laterality"])
    assert contradict_in_report(["Left effusion.", "Mass in the right lung."], 0, ["laterality"])


def test_unknown_kinds_are_refused():
    with pytest.raises(ConfigError, match="no contradiction of kind 'colour'"):
        contradict("Left effusion.", ["colour"])
