"""BLEU and ROUGE against sacrebleu and rouge-score where they are installed, and against what they gave."""

from __future__ import annotations

import numpy as np
import pytest

from isocenter.core.errors import DataError
from isocenter.evaluate.text_overlap import bleu, rouge_l, rouge_n, sentence_bleu, tokenise_13a
from peers import peer

WORDS = [
    "no",
    "small",
    "left",
    "right",
    "pleural",
    "effusion",
    "pneumothorax",
    "heart",
    "is",
    "normal",
    "in",
    "size",
    ",",
    ".",
    "2.5",
    "cm",
    "nodule",
    "(mild)",
    "T12-L1",
    "post-operative",
    "1,000",
    "3-4",
    "&",
    "&amp;",
    "'stable'",
    "it's",
    "50%",
    "a/b",
    "x:y",
    "edema;",
    "-",
    "lungs.",
]
PAIRS = (
    ("There is no pleural effusion. Heart size is normal.", "No pleural effusion. Heart size is normal."),
    ("2.5 cm nodule in the left upper lobe (stable).", "A 2.5-cm nodule, left upper lobe; stable."),
    ("No acute disease.", "Cardiomegaly with edema."),
)
BLEU = 40.09374414226011
SENTENCES = [69.13086465463164, 17.827531042796263, 15.97357760615681]
ROUGE = [
    [0.8750000000000001, 0.8571428571428571, 0.8750000000000001],
    [0.8421052631578948, 0.7058823529411765, 0.8421052631578948],
    [0.0, 0.0, 0.0],
]


def _texts(seed, count=12):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(0 if seed else 1, 30))) for _ in range(count)]


@pytest.mark.parametrize("seed", range(6))
def test_bleu_equals_sacrebleu(seed):
    theirs = peer("sacrebleu")
    answers, first, second = _texts(seed), _texts(seed + 100), _texts(seed + 200)
    first[:4] = [a + " today" for a in answers[:4]]
    expected = theirs.corpus_bleu(answers, [first]).score
    assert bleu(first, answers) == pytest.approx(expected, abs=1e-9)
    expected = theirs.corpus_bleu(answers, [first, second]).score
    assert bleu(list(zip(first, second, strict=True)), answers) == pytest.approx(expected, abs=1e-9)
    for reference, answer in zip(first, answers, strict=True):
        assert sentence_bleu(reference, answer) == pytest.approx(theirs.sentence_bleu(answer, [reference]).score)


def test_tokens_equal_sacrebleu():
    theirs = peer("sacrebleu.tokenizers.tokenizer_13a").Tokenizer13a()
    for text in [*_texts(3, 60), "a&quot;b -\nc", "", "Dr. X, aged 70-75; 3.5cm/4", "~{a}[b]^_`"]:
        assert " ".join(tokenise_13a(text)) == theirs(text)


@pytest.mark.parametrize("seed", range(6))
def test_rouge_equals_rouge_score(seed):
    scorer = peer("rouge_score.rouge_scorer").RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False)
    for reference, answer in [*zip(_texts(seed + 50), _texts(seed), strict=True), ("", "a"), ("a", ""), ("", "")]:
        theirs = scorer.score(reference, answer)
        ours = {"rouge1": rouge_n(reference, answer), "rouge2": rouge_n(reference, answer, order=2)}
        ours["rougeL"] = rouge_l(reference, answer)
        for name, found in ours.items():
            expected = theirs[name]
            assert (found.precision, found.recall) == pytest.approx((expected.precision, expected.recall))
            assert found.f1 == pytest.approx(expected.fmeasure)


def test_literal_values():
    """Computed with sacrebleu 2.6.0 and rouge-score 0.1.2."""
    references, answers = zip(*PAIRS, strict=True)
    assert bleu(references, answers) == pytest.approx(BLEU, abs=1e-9)
    assert [sentence_bleu(r, a) for r, a in PAIRS] == pytest.approx(SENTENCES, abs=1e-9)
    found = [(rouge_n(r, a).f1, rouge_n(r, a, order=2).f1, rouge_l(r, a).f1) for r, a in PAIRS]
    assert np.ravel(found) == pytest.approx(np.ravel(ROUGE), abs=1e-9)


def test_the_same_text_and_nothing_in_common():
    text = PAIRS[0][0]
    assert bleu([text], [text]) == pytest.approx(100)
    assert (rouge_n(text, text).f1, rouge_l(text, text).f1) == (1.0, 1.0)
    assert (bleu([text], ["xyz"]), sentence_bleu(text, ""), rouge_l(text, "xyz").f1) == (0.0, 0.0, 0.0)


def test_refused():
    with pytest.raises(DataError, match="1 references for 2"):
        bleu(["a"], ["a", "b"])
    with pytest.raises(DataError, match="no reference"):
        bleu([[]], ["a"])
    with pytest.raises(DataError, match="order"):
        rouge_n("a", "a", order=0)
