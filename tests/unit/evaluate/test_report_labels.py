"""What reports are labelled with, what is not read, and what is not labelled at all."""

from __future__ import annotations

import pytest

from isocenter.core.knowledge import FINDINGS
from isocenter.evaluate.report_labels import (
    CHEXPERT,
    MAX_CHARACTERS,
    chexpert_labels,
    label_report,
    label_sections,
)
from isocenter.evaluate.report_mentions import read_mentions
from isocenter.evaluate.report_text import clean_text, english, foreign_sentences, split_sections

CHANGES = {
    "Stable cardiomegaly and left effusion.": {"cardiomegaly": "unchanged", "pleural effusion": None},
    "The left effusion has increased.": {"pleural effusion": "worse"},
    "Left effusion and atelectasis are unchanged.": {"pleural effusion": "unchanged", "atelectasis": "unchanged"},
    "Interval resolution of the right pneumothorax.": {"pneumothorax": "resolved"},
    "Pneumothorax has resolved.": {"pneumothorax": "resolved"},
    "No new nodule or mass.": {"nodule": "new", "mass": "new"},
    "New right consolidation, small effusion.": {"consolidation": "new", "pleural effusion": None},
    "There is no significant change in the left effusion.": {"pleural effusion": "unchanged"},
    "Worsening pulmonary edema with stable effusions.": {"pulmonary edema": "worse", "pleural effusion": "unchanged"},
    "The heart is enlarged but stable.": {"cardiomegaly": "unchanged"},
    "Heart size is stable. No effusion.": {"pleural effusion": None},
    "Small effusions, decreased in size since the prior exam.": {"pleural effusion": "better"},
    "Stable opacities without effusion.": {"opacity": "unchanged", "pleural effusion": None},
    "Near complete resolution of the right effusion.": {"pleural effusion": "better"},
    "Increased interstitial markings.": {"interstitial markings": None},
}


@pytest.mark.parametrize("sentence", CHANGES)
def test_changes(sentence):
    assert {m.finding: m.change for m in read_mentions(sentence)} == CHANGES[sentence]


@pytest.mark.parametrize(
    "text",
    [
        "Small left pleural effusion. The heart is mildly enlarged.",
        "ﬁbrosis and em\u00adphysema;\u00a0İ no e\u200bffusion",
        "<p>Clear lungs &amp; heart.</p>\r\nNo effusion\x07 or pneumothorax",
    ],
)
def test_places_are_those_in_the_text_as_it_came(text):
    found = label_report(text)
    assert found.outcome == "labelled" and found.labels
    for label in found.labels:
        for span in label.spans:
            words = clean_text(text[span.start : span.end]).text
            read = {m.finding for m in read_mentions(words)}
            assert label.concept.name in read | {label.implied_by} or label.implied_by in read


def test_a_finding_stands_once_with_all_that_is_said_of_it():
    found = label_report("FINDINGS: Small left effusion, unchanged. IMPRESSION: Moderate right effusion is worse.")
    (effusion,) = found.labels
    assert (effusion.presence, effusion.side, effusion.grade, effusion.change) == (
        "present",
        "both",
        "moderate",
        "mixed",
    )
    assert [s.section for s in effusion.spans] == ["findings", "impression"]


def test_what_is_implied_is_added_and_marked():
    found = {label.concept.name: label for label in label_report("Left hydropneumothorax.").labels}
    assert found["pneumothorax"].implied_by == found["pleural effusion"].implied_by == "hydropneumothorax"
    assert found["pneumothorax"].side == "left"
    # A report that speaks of it itself is not overruled.
    found = {label.concept.name: label for label in label_report("No focal opacity. Possible pneumonia.").labels}
    assert (found["opacity"].presence, found["opacity"].implied_by) == ("absent", None)
    # What is denied implies nothing; what is doubted implies a doubt.
    assert [label.concept.name for label in label_report("No consolidation.").labels] == ["consolidation"]
    found = {label.concept.name: label for label in label_report("Possible consolidation.").labels}
    assert (found["opacity"].presence, found["opacity"].implied_by) == ("uncertain", "consolidation")


SECTIONS = {
    "INDICATION: pneumonia?\nFINDINGS: Lungs are clear.": ("findings", "indication", "opacity"),
    "HISTORY:\n\ncough, pneumonia\n\nThe heart is enlarged.": ("", "history", "cardiomegaly"),
    "COMPARISON: effusion then. IMPRESSION: No nodule.": ("impression", "comparison", "nodule"),
    "**Clinical history:** mass. **Impression:** No nodule.": ("impression", "clinical history", "nodule"),
    "TECHNIQUE\nPA, pneumothorax protocol\nIMPRESSION\nNo nodule.": ("impression", "technique", "nodule"),
    "In comparison: the effusion is larger.": ("", "", "pleural effusion"),
    "RECOMMENDATION: exclude a mass. FINDINGS: Clear lungs.": ("findings", "recommendation", "opacity"),
}


@pytest.mark.parametrize("text", SECTIONS)
def test_sections(text):
    read, left_out, finding = SECTIONS[text]
    found = label_report(text)
    assert (found.read, found.left_out) == ((read,) if read else (), (left_out,) if left_out else ())
    assert [label.concept.name for label in found.labels] == [finding]


def test_sections_that_come_apart():
    found = label_sections([("Indication", "Pneumonia?"), ("Findings", "No effusion."), ("Other", "Left nodule.")])
    assert (found.read, found.left_out) == (("findings", "other"), ("indication",))
    by_name = {label.concept.name: label for label in found.labels}
    assert by_name["pleural effusion"].spans[0].section == "findings"
    report = found.report({"findings": "No effusion.", "other": "Left nodule."})
    coded = {f.code.meaning: f for f in report.findings}
    assert coded["Nodule"].laterality.meaning == "Left" and coded["Nodule"].site.meaning == "Lung"
    assert coded["Pleural effusion"].presence == "absent"
    assert coded["Pleural effusion"].evidence[0].text_span == ("findings", 3, 11)


OTHER_LANGUAGES = [
    "Pneumothorax ausgeschlossen.",
    "Kein Pneumothorax, kein Pleuraerguss.",
    "Pas d'épanchement pleural. Silhouette cardiaque normale.",
    "No derrame pleural. Silueta cardiaca normal.",
    "Sem derrame pleural. Pneumothorax ausente.",
    "右肺上叶结节，左侧胸腔积液。",
    "Non versamento pleurico. Cuore nei limiti.",
    "Geen pneumothorax of pleuravocht.",
    "Jantung normal, paru clear dan sinus tumpul tidak ada efusi pleura",
    "Brak cech odmy. Serce w normie",
    "Hjertet er normalt stort. Ingen pneumothorax",
    "心影增大 Cardiomegaly.",
    "Пневмоторакс не выявлен.",
]


@pytest.mark.parametrize("text", OTHER_LANGUAGES)
def test_another_language_is_not_labelled(text):
    found = label_report(text)
    assert (found.outcome, found.labels) == ("not English", ())


@pytest.mark.parametrize(
    "text", ["Cardiomegaly.", "No pneumothorax.", "Bibasilar atelectasis/scarring; s/p CABG", "Fibrosis.", "CHF."]
)
def test_terse_english_is_english(text):
    assert english(text)


def test_a_sentence_of_another_language_is_not_read_and_said_so():
    text = "The heart is enlarged and the lungs are clear. Kein Pneumothorax mit Erguss. No effusion is seen."
    found = label_report(text)
    assert {label.concept.name for label in found.labels} == {"cardiomegaly", "opacity", "pleural effusion"}
    (span,) = found.foreign
    assert text[span.start : span.end].strip() == "Kein Pneumothorax mit Erguss."
    assert list(foreign_sentences("No effusion.")) == []


@pytest.mark.parametrize(
    ("text", "outcome"),
    [
        ("", "empty"),
        (" \n\t ", "empty"),
        ("INDICATION: pneumonia", "nothing to read"),
        ("<p></p>", "nothing to read"),
        ("The lungs are clear. " * 7000, "too long"),
        ("%PDF-1.7 the lungs are clear", "no text"),
        ("{\\rtf1 the lungs are clear}", "no text"),
        ("\x00\x01\x02\x03 no effusion is seen", "no text"),
        ("Knee: small effusion, no fracture is seen.", "not of the chest"),
        ("The uterus is normal. There is a mass in the left ovary.", "not of the chest"),
        ("12345 67890", "not English"),
    ],
)
def test_what_is_not_labelled_says_why(text, outcome):
    found = label_report(text)
    assert (found.outcome, found.labels) == (outcome, ())
    assert set(chexpert_labels(found).values()) == {None}


def test_the_longest_report_is_read():
    text = ("The lungs are clear. " * 7000)[:MAX_CHARACTERS]
    assert label_report(text).outcome == "labelled"


@pytest.mark.parametrize(
    "piece",
    [" ", "\t ", "\n ", "<", "<a ", "<script>", "<!--", "<!--x-->", "&a", "#", "findings ", "left effusion ", "is "],
)
def test_no_text_takes_for_ever(piece):
    """Once a heading between many blanks did: these end."""
    text = "No effusion is seen. " + piece * (20_000 // len(piece))
    assert label_report(text).outcome in ("labelled", "not English")


def test_markup_is_no_text():
    found = label_report(
        "<html><style>p {mass: 1}</style><!-- pneumonia --><p>No <b>pleural</b>&nbsp;effusion</p></html>"
    )
    assert found.markup
    assert [(label.concept.name, label.presence) for label in found.labels] == [("pleural effusion", "absent")]
    # A sign that is no tag stays.
    assert not label_report("A nodule of <5 mm is seen in the left lung.").markup


def test_headings_of_html_are_headings():
    found = label_report("<h2>History</h2><p>pneumonia</p><h2>Findings:</h2><p>The lungs are clear.</p>")
    assert [s.name for s in split_sections("History:\nx\nFindings:\ny")] == ["history", "findings"]
    assert [label.concept.name for label in found.labels] == ["opacity"]


CHEXPERT_CASES = {
    # The conventions of Irvin et al., AAAI 2019; sentences of our own.
    "The heart is normal in size. The lungs are clear. No edema.": {"No Finding": 1, "Cardiomegaly": 0, "Edema": 0},
    "Normal cardiomediastinal silhouette.": {"No Finding": 1, "Enlarged Cardiomediastinum": 0},
    "Enlarged cardiomediastinal silhouette.": {"Enlarged Cardiomediastinum": 1, "Cardiomegaly": 1},
    "Patchy airspace disease may reflect atelectasis or consolidation.": {
        "Lung Opacity": 1, "Atelectasis": -1, "Consolidation": -1,
    },
    "No new pulmonary nodules.": {"Lung Lesion": -1},
    "No focal opacity.": {"No Finding": 1, "Lung Opacity": 0},
    "Calcified granuloma.": {},
    "Right hydropneumothorax.": {"Pneumothorax": 1, "Pleural Effusion": 1},
    "Small effusion. No large effusion.": {"Pleural Effusion": 1},
    "Possible effusion. No effusion.": {"Pleural Effusion": -1},
    "Pacemaker. No pneumothorax.": {"No Finding": 1, "Support Devices": 1, "Pneumothorax": 0},
    "Two views of the chest.": {},
    "COPD.": {},
}  # fmt: skip


@pytest.mark.parametrize("text", CHEXPERT_CASES)
def test_the_observations_of_chexpert(text):
    found = chexpert_labels(label_report(text))
    assert list(found) == list(CHEXPERT)
    assert {name: value for name, value in found.items() if value is not None} == CHEXPERT_CASES[text]


def test_every_observation_rests_on_known_findings():
    assert all(finding in FINDINGS for findings in CHEXPERT.values() for finding in findings)
    assert len(CHEXPERT) == 14
