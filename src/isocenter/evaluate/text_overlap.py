"""How many words two texts share: BLEU and ROUGE, as sacrebleu and rouge-score count them.

Both count words and know nothing of what they mean: "no effusion" and "effusion" share nearly all. For reports they
belong beside a figure that reads findings (`isocenter.evaluate.report_agreement`), never alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log

from isocenter.core.errors import DataError

__all__ = ["Rouge", "bleu", "rouge_l", "rouge_n", "sentence_bleu", "tokenise_13a"]

_ORDER = 4
_ENTITIES = (("<skipped>", ""), ("-\n", ""), ("\n", " "))
_QUOTED = (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">"))
_SPLITS = (
    (re.compile(r"([{-~\[-` -&(-+:-@/])"), r" \1 "),  # symbols but . , - '
    (re.compile(r"([^0-9])([.,])"), r"\1 \2 "),  # point and comma, unless a digit stands before
    (re.compile(r"([.,])([^0-9])"), r" \1 \2"),  # unless one stands behind
    (re.compile(r"([0-9])(-)"), r"\1 \2 "),  # a dash behind a digit
)


def tokenise_13a(text: str) -> list[str]:
    """Split a text into words and signs as the machine translation evaluations of NIST do.

    Source:
        mteval-v13a (NIST, public domain), the default of sacrebleu (Post, WMT 2018).

    Example:
        >>> tokenise_13a("No effusion, 2.5 cm nodule.")
        ['No', 'effusion', ',', '2.5', 'cm', 'nodule', '.']
    """
    for old, new in _ENTITIES:
        text = text.replace(old, new)
    if "&" in text:
        for old, new in _QUOTED:
            text = text.replace(old, new)
    text = f" {text} "
    for pattern, new in _SPLITS:
        text = pattern.sub(new, text)
    return text.split()


@dataclass
class _Matches:
    """N-grams of a text that occur in its references, and lengths."""

    right: list[int]
    total: list[int]
    length: int
    reference_length: int


def _grams(words: Sequence[str], order: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(words[i : i + order]) for i in range(len(words) - order + 1))


def _count(references: Sequence[str], answer: str) -> _Matches:
    words, others = tokenise_13a(answer.rstrip()), [tokenise_13a(r.rstrip()) for r in references]
    nearest = min((abs(len(o) - len(words)), len(o)) for o in others)[1]
    found = _Matches([], [], len(words), nearest)
    for order in range(1, _ORDER + 1):
        most: Counter[tuple[str, ...]] = Counter()
        for other in others:
            most |= _grams(other, order)
        grams = _grams(words, order)
        found.right.append(sum(min(count, most[gram]) for gram, count in grams.items()))
        found.total.append(max(len(words) - order + 1, 0))
    return found


def _score(found: _Matches, *, shorten: bool) -> float:
    """Return BLEU, smoothed as mteval does; `shorten` leaves out orders that the text is too short for."""
    if not any(found.right):
        return 0.0
    logs, smooth, orders = 0.0, 1.0, _ORDER
    for order, (right, total) in enumerate(zip(found.right, found.total, strict=True), start=1):
        if not total:
            if not shorten:
                return 0.0
            orders = order - 1
            break
        if not right:
            smooth *= 2
        logs += log(right / total if right else 1 / (smooth * total))
    short = found.length < found.reference_length
    return 100 * exp(logs / orders + (1 - found.reference_length / found.length if short else 0.0))


def _several(reference: str | Sequence[str], case: int) -> Sequence[str]:
    found = [reference] if isinstance(reference, str) else list(reference)
    if not found:
        raise DataError(f"case {case} has no reference")
    return found


def bleu(references: Sequence[str | Sequence[str]], answers: Sequence[str]) -> float:
    """Return the BLEU of a set of texts: n-grams to 4 words, counted over all texts together, 0 to 100.

    Args:
        references: One text for each case, or several.
        answers: One text for each case.

    Raises:
        DataError: No case, numbers that differ, or a case without a reference.

    Source:
        Papineni et al., ACL 2002; Post, WMT 2018 (sacrebleu, tokens 13a, smoothing "exp").

    Example:
        >>> round(bleu(["There is no pleural effusion today."], ["There is no effusion today."]), 2)
        43.01
    """
    if len(references) != len(answers) or not answers:
        raise DataError(f"{len(references)} references for {len(answers)} texts")
    whole = _Matches([0] * _ORDER, [0] * _ORDER, 0, 0)
    for case, (reference, answer) in enumerate(zip(references, answers, strict=True)):
        found = _count(_several(reference, case), answer)
        whole.right = [a + b for a, b in zip(whole.right, found.right, strict=True)]
        whole.total = [a + b for a, b in zip(whole.total, found.total, strict=True)]
        whole.length += found.length
        whole.reference_length += found.reference_length
    return _score(whole, shorten=False)


def sentence_bleu(reference: str | Sequence[str], answer: str) -> float:
    """Return the BLEU of one text, 0 to 100; orders that it is too short for are left out.

    Raises:
        DataError: No reference.

    Source:
        Chen and Cherry, WMT 2014 (smoothing); sacrebleu's sentence_bleu.
    """
    return _score(_count(_several(reference, 0), answer), shorten=True)


@dataclass(frozen=True)
class Rouge:
    """Share of the answer's n-grams that are right, of the reference's that were found, and their harmonic mean.

    Args:
        precision: 0 to 1; 0 where there is none.
        recall: 0 to 1; 0 where there is none.
    """

    precision: float
    recall: float

    @property
    def f1(self) -> float:
        """Harmonic mean; 0 where nothing is shared."""
        both = self.precision + self.recall
        return 2 * self.precision * self.recall / both if both else 0.0


def _rouge_words(text: str) -> list[str]:
    return re.sub(r"[^a-z0-9]+", " ", text.lower()).split()


def rouge_n(reference: str, answer: str, *, order: int = 1) -> Rouge:
    """Return the ROUGE-N of one text: shared n-grams, each as often as it occurs in both; words are not stemmed.

    Raises:
        DataError: The order is below 1.

    Source:
        Lin, ACL Workshop 2004; equal to rouge-score without its stemmer.

    Example:
        >>> rouge_n("no pleural effusion", "no effusion").f1
        0.8
    """
    if order < 1:
        raise DataError(f"order must be 1 or more, got {order}")
    a, b = (_grams(_rouge_words(text), order) for text in (reference, answer))
    shared = sum((a & b).values())
    return Rouge(shared / max(sum(b.values()), 1), shared / max(sum(a.values()), 1))


def rouge_l(reference: str, answer: str) -> Rouge:
    """Return the ROUGE-L of one text: the longest row of words that both have in this order.

    Source:
        Lin, ACL Workshop 2004; equal to rouge-score's rougeL without its stemmer. Hyyro, AWOCA 2004 (rows as bits).

    Example:
        >>> round(rouge_l("small left pleural effusion", "left small effusion").f1, 4)
        0.5714
    """
    a, b = _rouge_words(reference), _rouge_words(answer)
    if not a or not b:
        return Rouge(0.0, 0.0)
    places: dict[str, int] = {}
    for place, word in enumerate(a):
        places[word] = places.get(word, 0) | 1 << place
    full = (1 << len(a)) - 1
    row = full
    for word in b:
        match = row & places.get(word, 0)
        row = ((row + match) | (row - match)) & full
    shared = len(a) - row.bit_count()
    return Rouge(shared / len(b), shared / len(a))
