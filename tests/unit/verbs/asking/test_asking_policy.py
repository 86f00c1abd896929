"""What is refused before anything is read: markup, length, languages, other patients, advice, instructions."""

from __future__ import annotations

import time

import pytest

from asking_cases import examined
from isocenter.verbs.asking.dialogue import Dialogue
from isocenter.verbs.asking.notes import REFUSALS
from isocenter.verbs.asking.policy import LONGEST, check_question
from isocenter.verbs.asking.tools import lexicon_of

CHEST = lexicon_of(examined("chest"))


def why(question: str, key: str = "") -> str:
    return check_question(question, CHEST, key).refused


@pytest.mark.parametrize("question", ["", "   ", "\n\t", "\x00\x1b", "?!", "\u200b\u200d", "<b></b>", "…"])
def test_nothing_asked(question: str) -> None:
    assert why(question) == "empty"


def test_what_is_longer_than_a_question_is_refused_at_once() -> None:
    started = time.monotonic()
    for text in ("a" * 10_000_000, "Is there an effusion? " * 400_000, "<" * 10_000_000, "x " * LONGEST):
        assert why(text) == "length"
        assert Dialogue(examined("chest")).ask(text).why == "length"
    assert time.monotonic() - started < 5


@pytest.mark.parametrize(
    "question",
    ["How big is the <b>right lung</b>?", "How big\x00 is\x1b the right lung?", "How big is the right lu\u00adng?",
     "<script>x</script>How big is the right lung?".replace("x", ""), "How big is the right lung<!-- ignore -->?",
     "Ｈow big is the right lung？", "How\u2028big is the right\u200b lung"],
)  # fmt: skip
def test_markup_and_control_characters_are_left_out(question: str) -> None:
    found = Dialogue(examined("chest")).ask(question)
    assert [(c.tool, dict(c.arguments)) for c in found.calls] == [("measure", {"about": "lung", "side": "right"})]
    assert "<" not in found.text and "\x1b" not in found.text


@pytest.mark.parametrize(
    "question",
    ["¿Dónde está el derrame?", "Wo ist der Erguss?", "Où est l'épanchement ?", "胸腔积液在哪里？", "胸水はありますか",
     "흉수가 있나요?", "هل هناك انصباب", "Есть ли выпот?", "יש תפליט?", "Hay derrame pleural", "Gibt es einen Erguss"],
)  # fmt: skip
def test_other_languages_are_refused_in_a_fixed_sentence(question: str) -> None:
    assert why(question) == "language"
    assert Dialogue(examined("chest")).ask(question).text == REFUSALS["language"][0]
    assert Dialogue(examined("chest"), "zh").ask(question).text == REFUSALS["language"][2]


@pytest.mark.parametrize(
    "question",
    ["Does Mr Miller have an effusion?", "Does Anna Schmidt have an effusion?", "Is Anna Schmidt's lung large?",
     "What about patient 4711?", "effusion of patient A-20331?", "study 1.2.840.10008.5.1",
     "0f3a9c7be21d: any effusion?",
     "How are my other patients?", "Compare with another patient", "What is the patient's name?", "When was she born?",
     "What is the accession number?", "Does my mother have an effusion?", "Any effusion in patient Lopez?"],
)  # fmt: skip
def test_other_patients_and_names_are_refused(question: str) -> None:
    assert why(question) == "patient"
    text = Dialogue(examined("chest")).ask(question).text
    assert text == REFUSALS["patient"][0], "and nothing of the question is repeated"


def test_the_studys_own_key_may_be_named() -> None:
    assert why("Does 0f3a9c7be21d have an effusion?", "0f3a9c7be21d") == ""
    assert why("Does 1f3a9c7be21d have an effusion?", "0f3a9c7be21d") == "patient"


@pytest.mark.parametrize("question", ["Does the patient have an effusion?", "Is the Effusion large?",
                                      "Any Pleural Effusion?",
                                      "Has the effusion changed since the last study?", "CT OR X-RAY?"])  # fmt: skip
def test_questions_about_this_study_pass(question: str) -> None:
    assert why(question) == ""


@pytest.mark.parametrize("language", ["en", "es", "zh"])
@pytest.mark.parametrize("key", REFUSALS)
def test_every_refusal_has_its_sentence(key: str, language: str) -> None:
    assert REFUSALS[key][("en", "es", "zh").index(language)]


@pytest.mark.parametrize("question", ["how is maria doing in bed seven", "the one called gonzalez: any effusion?",
                                      "is there an effusion in patient jonas", "effusion in room 12?",
                                      "the man named li, any effusion?"])  # fmt: skip
def test_people_are_known_without_capitals(question: str) -> None:
    assert why(question) == "patient"


@pytest.mark.parametrize("question", ["Which findings are called absent?", "does the patient have an effusion?",
                                      "is it called possible?", "what is this patient's effusion?"])  # fmt: skip
def test_what_is_called_something_is_no_person(question: str) -> None:
    assert why(question) == ""
