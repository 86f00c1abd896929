"""What `isocenter check` says of a task's gate: one that answers on its own and has none fails."""

from __future__ import annotations

from dataclasses import replace

from isocenter.models.weights import list_cards
from isocenter.tasks.segment.lungs_cxr.cards import CARD
from isocenter.verbs.evaluation.checks import Weights, gate_check, verdict
from isocenter.verbs.learnt_folder import LearntFile

NONE = "no gate: images of another kind are not refused"


def test_a_task_without_a_gate_is_told_and_may_not_serve() -> None:
    lungs = next(card for card in list_cards() if card.name == "lungs-cxr")
    bare = Weights("x", lungs.model_copy(update={"gate": None}))
    said = gate_check(CARD, [bare], None)
    assert (said.status, said.words) == ("failed", NONE)
    assert verdict([said])[0] is False
    known = gate_check(CARD, [bare, Weights("y", lungs)], None)
    assert known.status == "passed" and known.number == lungs.gate.own_refused <= 0.05
    assert "of a source that it does not know" in known.words and "NIH ChestX-ray14" in known.words
    assert gate_check(CARD, [], None).status == "not measured"


def test_where_somebody_points_none_is_needed() -> None:
    assert gate_check(replace(CARD, needs_prompt=True), [], None).status == "not applicable"


def test_a_learnt_task_says_why_it_has_none() -> None:
    few = LearntFile.model_construct(gate=None, ungated="12 held-out images are too few")
    said = gate_check(CARD, [], few)
    assert (said.status, said.words) == ("failed", f"{NONE}; 12 held-out images are too few")
    assert gate_check(CARD, [], LearntFile.model_construct(gate="0" * 64)).status == "passed"
