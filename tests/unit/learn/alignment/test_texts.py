"""Sentences from reports, labels and metadata, and the text of a step."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from isocenter.learn.alignment.texts import (
    TextChoice,
    label_sentences,
    metadata_sentences,
    split_sentences,
    tell,
)

REPORT = ("Small left pleural effusion.", "No pneumothorax.", "The heart is enlarged.")


@pytest.mark.parametrize(
    ("report", "sentences"),
    [
        ("No effusion. Mass of 2.5 cm at the left.", ("No effusion.", "Mass of 2.5 cm at the left.")),
        ("IMPRESSION:\n1. Clear lungs.\n2) Mass", ("Clear lungs.", "Mass")),
        ("Seen by Dr. Smith. No mass; No nodule.", ("Seen by Dr. Smith.", "No mass;", "No nodule.")),
        (" \n - \n 3.", ()),
    ],
)
def test_reports_are_split(report, sentences):
    assert split_sentences(report) == sentences


def test_labels_become_sentences_that_are_true():
    findings, words = {"E": True, "M": False}, {"E": "pleural effusion", "M": "a mass"}
    seen = set()
    for seed in range(40):
        told = label_sentences(np.random.default_rng(seed), findings, words, denied=0.5)
        seen |= set(told)
        assert any("effusion" in s for s in told)
        for sentence in told:
            assert ("no" in sentence.lower().split() or "not" in sentence.split()) == ("mass" in sentence)
    assert len(seen) == 8
    assert label_sentences(np.random.default_rng(0), {"M": False}, words, denied=0.0) == ("There is no a mass.",)


def test_metadata():
    assert metadata_sentences({"VIEW": "PA", "age": ""}) == ("View: PA.",)


def test_a_text_holds_sentences_of_its_report_and_its_contradiction_differs_by_one():
    choice = TextChoice(most_sentences=2, whole=0.2, metadata=0.5, hard_negatives=2)
    sizes = set()
    for seed in range(60):
        told = tell(np.random.default_rng(seed), REPORT, choice, ("View: PA.",))
        assert told == tell(np.random.default_rng(seed), REPORT, choice, ("View: PA.",))
        body = [s for s in REPORT if s in told.text]
        sizes.add(len(body))
        assert told.sentences - {"view: pa."} == {s.lower() for s in body}
        assert 1 <= len(told.contradictions) <= 2
        for other in told.contradictions:
            assert other != told.text and ("View: PA." in other) == ("View: PA." in told.text)
            assert sum(s in other for s in body) == len(body) - 1
    assert sizes == {1, 2, 3}


def test_without_hard_negatives_the_same_words_are_drawn():
    with_, without = (TextChoice(hard_negatives=n) for n in (2, 0))
    for seed in range(20):
        a, b = (tell(np.random.default_rng(seed), REPORT, choice) for choice in (with_, without))
        assert a.text == b.text and b.contradictions == ()


def test_unknown_kinds_are_refused():
    with pytest.raises(ValidationError, match="no contradiction of kind 'mood'"):
        TextChoice(contradictions=("mood",))
