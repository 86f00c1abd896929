"""What changed: paired only where it is known what belongs together, in one unit, with side, place and evidence."""

from __future__ import annotations

import copy
from typing import Any

from asking_cases import brain, chest, examined
from isocenter.verbs.asking.dialogue import Dialogue
from isocenter.verbs.asking.reply import Reply, ToolCall
from isocenter.verbs.asking.study import Examined
from isocenter.verbs.asking.tools import use
from isocenter.verbs.result import ResultDocument


def both(now: dict[str, Any], before: dict[str, Any]) -> Examined:
    return Examined(ResultDocument.model_validate(now), ResultDocument.model_validate(before))


def compared(study: Examined, **arguments: str) -> list[str]:
    return [one.text for one in use(ToolCall("compare", arguments), study).said]


def twice(made: dict[str, Any], factor: float) -> dict[str, Any]:
    """The same answer of a second series, with other sizes."""
    second = copy.deepcopy(made["predictions"][0])
    second["inputs"] = ("77" * 32,)
    for one in second["measurements"]:
        one["value"] *= factor
    for one in second["further"]:
        one["low"], one["high"] = factor * one["low"], factor * one["high"]
    made["predictions"].append(second)
    return made


def only(made: dict[str, Any], *numbers: int) -> dict[str, Any]:
    prediction = made["predictions"][0]
    prediction["segments"] = [s for s in prediction["segments"] if s["number"] in numbers]
    for kind in ("measurements", "further"):
        prediction[kind] = [m for m in prediction.get(kind, ()) if m["segment"] in numbers]
    return made


def test_several_of_the_same_are_not_paired() -> None:
    """Two series in each study, the second twice as large: nothing grew, and nothing is said to have."""
    texts = compared(both(twice(brain(), 2.0), twice(brain("dc"), 2.0)), about="hippocampus")
    assert not any("minus" in text for text in texts)
    assert sum("several of them" in text for text in texts) == 4
    mixed = use(ToolCall("compare", {"about": "hippocampus"}), both(brain(), twice(brain("dc"), 2.0)))
    assert mixed.outcome == "not examined" and not any("minus" in one.text for one in mixed.said)


def test_another_side_in_the_earlier_study_is_not_called_unexamined() -> None:
    study = both(only(brain(), 1), only(brain("dc"), 3))
    texts = compared(study, about="hippocampus")
    assert "Hippocampus, right, anterior: the earlier study claims nothing of just this" in " ".join(texts)
    assert "Hippocampus, left, anterior: claimed in the earlier study" in " ".join(texts)
    assert any(text.startswith("Earlier study: Left anterior hippocampus") for text in texts)
    assert not any("looked for it" in text for text in texts)


def test_what_only_the_earlier_study_holds_is_told() -> None:
    now, before = chest(), chest("ba")
    now["predictions"][1]["measurements"] = [
        m for m in now["predictions"][1]["measurements"] if "Effusion" not in m["name"]["meaning"]
    ]
    for arguments in ({}, {"about": "pleural effusion"}):
        texts = compared(both(now, before), **arguments)
        assert "Earlier study: Pleural effusion (probability 93 %)." in texts
        assert any(t.startswith("Pleural effusion: claimed in the earlier study; no task") for t in texts)
    assert compared(both(now, before), about="fracture") == [
        "Fracture: no task that answered looked for it; nothing can be said of it."
    ]


def test_an_earlier_value_of_zero_has_no_percentage() -> None:
    before = chest("ba", right=0.0)
    texts = " ".join(compared(both(chest(), before), about="lung", side="right"))
    assert "now minus earlier" in texts and "earlier value is 0" in texts and "+0 %" not in texts


def test_areas_are_compared_in_one_unit() -> None:
    texts = compared(both(chest(right=1200.0), chest("ba", right=900.0)), about="lung", side="right")
    assert "Lung, right: area at the detector now minus earlier +3 cm² (+33.3 %)." in texts


def test_a_number_of_one_study_alone_is_told_as_that() -> None:
    now = chest()
    now["predictions"][0]["measurements"][0]["name"]["meaning"] = "Area"
    texts = compared(both(now, chest("ba")), about="lung", side="right")
    assert "Lung, right: area was measured in one of the studies only." in texts
    assert "Lung, right: area at the detector was measured in one of the studies only." in texts


def test_differences_of_two_pairs_stand_beside_their_evidence() -> None:
    """Both sides grew by the same: each has its sentence, with what it rests on."""
    found = Dialogue(examined("brain")).ask("Has the hippocampus changed?")
    told = [one for one in found.said if "minus" in one.text or "overlap" in one.text]
    assert len(told) == 8 and all(one.evidence for one in told)
    assert {one.evidence for one in told} == {("1.e1",), ("1.e2",), ("1.e3",), ("1.e4",)}


def test_a_comparison_that_the_result_holds_is_pointed_to() -> None:
    made = ResultDocument.model_validate(chest())
    entry = {"what": "x"}  # only whether there is one is asked
    study = Examined(made.model_copy(update={"comparison": (entry,)}))
    found: Reply = use(ToolCall("compare"), study)
    assert found.said[-1].text.startswith("No earlier result was given to this question; the result itself holds")


def one_sided() -> Examined:
    return Examined(ResultDocument.model_validate(only(brain(), 1, 2)))


def test_a_side_without_outline_was_not_examined() -> None:
    for tool in ("find", "measure", "locate", "side_of", "why", "confidence"):
        found = use(ToolCall(tool, {"about": "hippocampus", "side": "left"}), one_sided())
        assert found.outcome == "not examined", tool
        assert found.said[-1].text == "Hippocampus: nothing is claimed of this side or part: left."
        assert len(found.said) == 3 and "Right anterior" in found.said[0].text


def test_what_is_missing_is_named() -> None:
    """Both sides are outlined, and the part is not: the part is missing, and only that side is told."""
    found = use(ToolCall("measure", {"about": "hippocampus", "side": "left", "place": "upper"}), examined("brain"))
    texts = [one.text for one in found.said]
    assert texts[-1] == "Hippocampus: nothing is claimed of this side or part: upper."
    assert len(texts) == 3 and all(text.startswith("Left") for text in texts[:2])
