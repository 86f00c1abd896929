"""The tokenizer: nothing is lost, the same reports give the same vocabulary, and a damaged one is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.text import BytePairs, Tokenizer, normalise_text, read_tokenizer, tokenizer_document
from isocenter.models.text import train_byte_pairs as train
from isocenter.models.text.tokenizer import BEGIN, END, PAD

REPORTS = ["No pleural effusion.", "Small left pleural effusion.", "No pneumothorax.", "Left effusion, 3.5 cm."] * 3
KNOWN = train(REPORTS, size=400)


@given(st.text(max_size=60))
def test_round_trip_of_any_text(text):
    assert KNOWN.decode(KNOWN.pieces(text)) == normalise_text(text)


@pytest.mark.parametrize("text", ["Größe 5 µm", "肺野清晰", "a_b", "12/04", "don't", "x" * 200, "\U0001fac1 lungs"])
def test_round_trip_of_what_was_never_seen(text):
    assert KNOWN.decode(KNOWN.pieces(text)) == normalise_text(text)


def test_frequent_words_are_one_token_and_rare_ones_fall_apart():
    assert len(KNOWN.pieces("no pleural effusion")) == 3
    assert len(KNOWN.pieces("zebra")) == 5
    assert KNOWN.size <= 400


def test_order_of_reports_does_not_matter():
    assert train(REPORTS[::-1], size=400).pairs == KNOWN.pairs


def test_padding_begin_end_and_cutting():
    tokens = KNOWN.encode(["No effusion.", "Small left pleural effusion."], length=4)
    assert tokens.ids.shape == (2, 4) and tokens.ids[:, 0].tolist() == [BEGIN, BEGIN]
    assert tokens.ids[1, -1] == END and np.array_equal(tokens.known, tokens.ids != PAD)
    short = KNOWN.encode(["", "No effusion."], length=40)
    assert short.known.sum(axis=1)[0] == 2 and short.ids[0, 2:].tolist() == [PAD] * (short.ids.shape[1] - 2)
    with pytest.raises(ConfigError, match="need a text"):
        KNOWN.encode([], 8)


def test_the_document_brings_it_back():
    data = tokenizer_document(KNOWN)
    again = read_tokenizer(data)
    assert isinstance(again, Tokenizer) and again.pairs == KNOWN.pairs and tokenizer_document(again) == data
    with pytest.raises(ConfigError, match="a vocabulary needs text"):
        train([], size=320)
    with pytest.raises(ConfigError, match="259 tokens"):
        train(REPORTS, size=100)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "other"}, "not a vocabulary of Isocenter"),
        ({"kind": "words"}, "of kind 'words'"),
        ({"pairs": [[3, 900]]}, "token 259 is made of 3 and 900"),
        ({"pairs": [[3]]}, "list of pairs"),
        ({"pairs": None}, "list of pairs"),
    ],
)
def test_damaged_documents(change, message):
    document = {**json.loads(tokenizer_document(KNOWN)), **change}
    with pytest.raises(WeightsError, match=message):
        read_tokenizer(json.dumps(document).encode())
    with pytest.raises(WeightsError, match="not JSON"):
        read_tokenizer(b"\xff{")


def test_pairs_are_checked_on_their_own():
    with pytest.raises(WeightsError, match="damaged"):
        BytePairs(((0, 1),))
