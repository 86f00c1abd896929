"""Whatever a text holds: labels are the same every time, rest on words in it, and never come without a place."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isocenter.evaluate.report_labels import label_report
from isocenter.evaluate.report_text import clean_text

PIECES = st.sampled_from(
    ["no ", "effusion", "left ", "cardiomegaly", ". ", "\n", "\n\n", "FINDINGS: ", "HISTORY: ", "<b>", "</b>", "&nbsp;",
     "new ", "stable ", "the heart is enlarged", ", ", " and ", "possible ", "\u00ad", "ﬁ", "é", "肺", "?",
     "is ", "resolved "]
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=200), st.lists(PIECES, max_size=30).map("".join))


@given(TEXTS)
def test_labels_hold_for_any_text(text):
    found = label_report(text)
    assert found == label_report(text)
    assert (found.outcome == "labelled") or not found.labels
    for label in found.labels:
        assert label.spans
        for span in label.spans:
            assert 0 <= span.start < span.end <= len(text)
            assert text[span.start : span.end].strip()


@given(TEXTS)
def test_cleaning_keeps_every_place(text):
    clean = clean_text(text)
    places = range(len(clean.text)) if clean.places is None else clean.places
    assert len(places) == len(clean.text)
    assert list(places) == sorted(places)
    assert all(0 <= p < max(1, len(text)) for p in places)
    for character, place in zip(clean.text, places, strict=True):
        if character.isalpha() and character.isascii() and text[place].isascii():
            assert character == text[place]
