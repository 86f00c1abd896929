"""A finding is asked for where it lies, is read as what the words mean there, or is refused."""

from __future__ import annotations

import pytest

from asking_cases import examined
from isocenter.core.knowledge import FINDINGS
from isocenter.verbs.asking.dialogue import Dialogue
from isocenter.verbs.asking.sites import fits


@pytest.mark.parametrize(
    ("case", "question", "about"),
    [
        ("chest", "Is there fluid around the heart?", ["pericardial effusion"]),
        ("chest", "Any effusion in the pericardium?", ["pericardial effusion"]),
        ("chest", "Is there a mass in the adrenal gland?", ["adrenal mass"]),
        ("chest", "Any emphysema of the mediastinum?", ["pneumomediastinum"]),
        ("chest", "Is there an effusion around the left lung?", ["pleural effusion"]),
        ("chest", "Any pneumothorax in the chest?", ["pneumothorax"]),
        ("chest", "Is there an effusion, and is the heart enlarged?", ["pleural effusion", "cardiomegaly"]),
        ("chest", "Is the heart normal?", ["heart"]),
        ("chest", "Is there an opacity in the adrenal gland?", []),
        ("chest", "Is there a nodule in the heart?", []),
        ("chest", "Where in the breast is the pneumothorax?", []),
        ("sarcoma", "Is there a mass in the heart?", []),
        ("sarcoma", "How big is the tumour of the lung?", []),
        ("brain", "How large is the hippocampus of the adrenal gland?", []),
    ],
)
def test_what_is_asked_about(case: str, question: str, about: list[str]) -> None:
    found = Dialogue(examined(case)).ask(question)
    assert [call.arguments["about"] for call in found.calls] == about
    assert (found.outcome == "refused") == (not about)


def test_no_finding_is_answered_for_a_part_of_the_body_that_it_does_not_lie_in() -> None:
    """Every word of every finding beside every part of the body: what is called lies there, or nothing is."""
    study, asked, refused = examined("chest"), 0, 0
    for finding in FINDINGS:
        for site in FINDINGS.sites:
            if site.name == "lesion":
                continue
            found = Dialogue(study).ask(f"Is there a {finding.name} in the {site.name}?")
            asked, refused = asked + 1, refused + (found.outcome == "refused")
            for call in found.calls:
                name = call.arguments["about"]
                assert fits(name, site.name) if name in FINDINGS else name == site.name, (finding.name, site.name)
    assert asked > 1000 and 0.5 < refused / asked < 0.98


@pytest.mark.parametrize("question", ["Is there a sign of 肿瘤 in the left lung?", "Any ürethral effusion?"])
def test_a_word_with_other_letters_is_not_known(question: str) -> None:
    assert Dialogue(examined("chest")).ask(question).why == "question"


def test_right_that_asks_for_assent_and_since_that_gives_a_reason() -> None:
    dialogue = Dialogue(examined("chest"))
    assert dict(dialogue.ask("No effusion, right?").calls[0].arguments) == {"about": "pleural effusion"}
    assert dict(dialogue.ask("How big is the lung, right?").calls[0].arguments)["side"] == "right"
    reason = dialogue.ask("Since there is no effusion, is there a pneumothorax?")
    assert {call.tool for call in reason.calls} == {"find"}
    assert dialogue.ask("Since the last study, has the effusion grown?").calls[0].tool == "compare"
