"""Reading questions by rules: word order, plurals, slips of the pen, memory; and what is not understood."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asking_cases import examined
from isocenter.verbs.asking.dialogue import Dialogue
from isocenter.verbs.asking.grammar import read_question
from isocenter.verbs.asking.names import Lexicon, nearest
from isocenter.verbs.asking.tools import lexicon_of

QUESTIONS = Path(__file__).resolve().parents[4] / "benchmarks" / "ask_questions.txt"
CHEST = Lexicon(("chest radiograph",), frozenset({"lung"}))


def read(question: str) -> list[tuple[str, dict]]:
    return [(c.tool, dict(c.arguments)) for c in read_question(question, CHEST).calls]


@pytest.mark.parametrize(
    "question",
    ["How big is the left lung?", "the left lung: how big is it", "LEFT LUNG - HOW BIG", "how big's the left lung??",
     "size of the left lung", "left lung size"],
)  # fmt: skip
def test_word_order_does_not_matter(question: str) -> None:
    assert read(question) == [("measure", {"about": "lung", "side": "left"})]


def test_the_questions_that_the_rules_were_made_by_are_read_as_meant() -> None:
    """Those of parts develop and last, without turns: what each calls, and how it ends."""
    part, wrong, asked = "", [], 0
    for line in QUESTIONS.read_text("utf-8").splitlines():
        part = line.strip("[]") if line.startswith("[") else part
        if line.startswith(("[", "#")) or not line.strip() or "||" in line or not part.startswith(("develop", "last")):
            continue
        case, question, expected = (piece.strip() for piece in line.split("|"))
        call, _, outcome = (piece.strip() for piece in expected.rpartition("->"))
        found = Dialogue(examined(case)).ask(question)
        made = " + ".join(" ".join([c.tool, *(f"{k}={v}" for k, v in c.arguments.items())]) for c in found.calls)
        ended = f"refused:{found.why}" if found.why else found.outcome
        asked += 1
        if (sorted(made.split()), ended) != (sorted(call.split()), outcome):
            wrong.append(question)
    assert asked > 150 and len(wrong) <= 6, wrong


@pytest.mark.parametrize(
    ("question", "name"),
    [
        ("any pleural efusion?", "pleural effusion"), ("any pnemothorax?", "pneumothorax"),
        ("any pneumothroax?", "pneumothorax"), ("any atelectasiss?", "atelectasis"), ("any nodules?", "nodule"),
        ("any pulmonary oedema?", "pulmonary edema"), ("any swollen rib?", None), ("any brokn rib?", None),
        ("any hernai?", "hernia"),
    ],
)  # fmt: skip
def test_plurals_and_one_slip(question: str, name: str | None) -> None:
    assert read(question) == ([] if name is None else [("find", {"about": name})])


@given(st.sampled_from(["pneumothorax", "consolidation", "cardiomegaly", "emphysema"]), st.data())
def test_one_slip_in_a_long_word_is_read_right(word: str, data: st.DataObject) -> None:
    at = data.draw(st.integers(1, len(word) - 2))
    kind = data.draw(st.sampled_from(["leave out", "put in", "change", "swap"]))
    letter = data.draw(st.sampled_from("abcdefghijklmnopqrstuvwxyz"))
    slipped = {
        "leave out": word[:at] + word[at + 1 :], "put in": word[:at] + letter + word[at:],
        "change": word[:at] + letter + word[at + 1 :], "swap": word[:at] + word[at + 1] + word[at] + word[at + 2 :],
    }[kind]  # fmt: skip
    assert slipped == word or nearest(slipped, CHEST.words) == word


@given(st.text(max_size=200))
def test_any_text_is_read_or_refused(text: str) -> None:
    found = Dialogue(examined("chest")).ask(text)
    assert found.said and (found.outcome != "refused" or found.why)


@pytest.mark.parametrize(
    "question",
    ["Is there a pulmonary embolism?", "Is there an embolism in the left lung?", "How big is the liver?",
     "Is the spiculated thing in the left lung large?", "Is it cancer?", "left"],
)  # fmt: skip
def test_what_holds_an_unknown_word_is_not_answered_with_what_is_known(question: str) -> None:
    assert read(question) == []


def test_a_part_that_is_judged_is_not_called_well_by_its_size() -> None:
    """Asked whether a lung is abnormal, it tells what was found in it, or that nothing was looked for."""
    found = Dialogue(examined("chest")).ask("Is the left lung abnormal?")
    assert "Possible consolidation (probability 40 %)." in found.text
    brain = Dialogue(examined("brain")).ask("Is something wrong with the left hippocampus?")
    assert "Hippocampus: no task that answered looked for findings in it." in brain.text
    assert read("Is the left lung enlarged?") == [("measure", {"about": "lung", "side": "left"})]
    assert read("Is the heart enlarged?") == [("find", {"about": "cardiomegaly"})]
    assert read("Is the left lung malignant?") == []


UNKNOWN = (
    "embolism", "pulmonary embolism", "tuberculosis", "sarcoidosis", "stroke", "appendicitis", "gallstone",
    "kidney stone", "aneurysm", "dissection", "infarct", "abscess", "lymphoma", "leukemia", "asthma", "covid",
    "influenza", "bronchitis", "pleurisy", "ascites", "thrombus", "clot", "glioma", "meningioma",
    "plaque in the coronary", "ground glass", "honeycombing", "crazy paving", "silhouette of the liver", "liver",
    "spleen", "kidney", "pancreas", "bladder", "thyroid", "trachea", "esophagus", "stomach", "bowel", "prostate",
    "ovary", "uterus", "femur", "knee", "shoulder", "amygdala", "cerebellum", "ventricle", "cancer", "tumor",
    "malignancy", "metastasis", "infection of the lung", "shadow", "spot on the lung", "water in the lung",
    "air around the lung", "blood in the lung", "stone in the left lung", "swelling of the lung",
    "something white in the left lung", "bullet", "coin in the lung", "needle", "bleeding", "scoliotic deformity",
)  # fmt: skip


@pytest.mark.parametrize(
    "form", ["Is there a {}?", "How large is the {}?", "Where is the {}?", "{}?", "Has the {} changed?"]
)
def test_what_is_in_no_table_is_answered_with_nothing(form: str) -> None:
    for thing in UNKNOWN:
        found = Dialogue(examined("chest")).ask(form.format(thing))
        assert found.outcome in ("refused", "not examined"), found.text
        assert not any(one.claims for one in found.said)


def test_what_was_last_spoken_of_is_remembered() -> None:
    dialogue = Dialogue(examined("brain"))

    def ask(question: str) -> tuple[str, dict]:
        (call,) = dialogue.ask(question).calls
        return call.tool, dict(call.arguments)

    right = {"about": "hippocampus", "side": "right"}
    assert ask("What is the volume of the left hippocampus?")[0] == "measure"
    assert ask("and the right one?") == ("measure", {**right, "quantity": "volume"})
    assert ask("has it changed?") == ("compare", right)
    assert ask("how sure are you?") == ("confidence", right)
    assert ask("why?") == ("why", right)
    assert ask("where is it?") == ("locate", right)
    assert ask("and the left?") == ("locate", {"about": "hippocampus", "side": "left"})
    assert ask("how big is its anterior part?") == (
        "measure", {"about": "hippocampus", "side": "left", "place": "anterior"}
    )  # fmt: skip
    assert ask("and the posterior part?")[1]["place"] == "posterior"
    assert ask("which side is bigger?")[1]["side"] == "both"
    assert dialogue.ask("How are you today?").why == "question", "not everything is about what was last spoken of"
    assert [c.tool for c in dialogue.ask("Do you see anything suspicious?").calls] == ["list_findings"]
    assert ask("and the right hippocampus?")[0] == "measure"
    assert dialogue.ask("Should it be removed?").why == "treatment"
    assert ask("which side is it on?") == ("side_of", {"about": "hippocampus"})
    assert Dialogue(examined("brain")).ask("and the right one?").outcome == "refused"
    assert Dialogue(examined("brain")).ask("How big is it?").why == "referent"


def test_words_mean_what_the_study_is_of() -> None:
    for case, word, name in (
        ("sarcoma", "mass", "lesion"), ("breast", "mass", "breast mass"), ("chest", "mass", "mass"),
        ("breast", "cancer", "malignant breast lesion"), ("chest", "cancer", None),
        ("chest", "Hippocampi", "hippocampus"),
    ):  # fmt: skip
        assert lexicon_of(examined(case)).resolve(word) == name
