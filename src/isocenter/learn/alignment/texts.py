"""Which words an image is shown with: sentences of its report, findings as sentences, and what else is known of it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from isocenter.learn.alignment.contradiction import CONTRADICTIONS, Contradiction, contradict_in_report
from isocenter.models.text import normalise_text

__all__ = [
    "ABSENT",
    "PRESENT",
    "TextChoice",
    "Told",
    "label_sentences",
    "metadata_sentences",
    "split_sentences",
    "tell",
]

PRESENT = ("There is {}.", "{}.", "Findings of {}.", "{} is present.")
"""How a finding that is there becomes a sentence."""
ABSENT = ("There is no {}.", "No {}.", "No evidence of {}.", "{} is not present.")
"""How one that is not there does."""

_END = re.compile(r"(?<=[.!?;])\s+(?=[A-Z0-9(])|\s*\n+\s*")
_NO_END = re.compile(r"(?:^|\s)(?:dr|mr|mrs|vs|approx|no|fig|e\.g|i\.e|cf|st|[a-z]|\d+)\.$", re.IGNORECASE)
_NUMBERED = re.compile(r"^(?:\d+[.)]|[-*•])\s+")


def split_sentences(report: str) -> tuple[str, ...]:
    r"""Split a report into sentences; numbers of a list go, headings of a single word stay out.

    Example:
        >>> split_sentences("FINDINGS:\n1. Mass of 2.5 cm. Seen by Dr. X.\n2. No effusion")
        ('Mass of 2.5 cm.', 'Seen by Dr. X.', 'No effusion')
    """
    parts: list[str] = []
    for line in re.split(r"\n+", report):
        begun = True
        for piece in _END.split(_NUMBERED.sub("", line.strip())):
            if not begun and _NO_END.search(parts[-1]):
                parts[-1] = f"{parts[-1]} {piece.strip()}"
            else:
                parts.append(piece.strip())
            begun = False
    return tuple(p for p in parts if re.search(r"[^\W\d_]{2}", p) and not re.fullmatch(r"[\w /]+:", p))


def label_sentences(
    rng: np.random.Generator, findings: Mapping[str, bool], phrases: Mapping[str, str], *, denied: float
) -> tuple[str, ...]:
    """Return findings as sentences: all that are there, and a share of those that are not.

    Args:
        rng: Where randomness comes from.
        findings: By label, whether it is there.
        phrases: The words for each label.
        denied: Chance that a finding that is not there is spoken of.

    Returns:
        At least one sentence, in any order.
    """
    told = []
    for label, there in findings.items():
        chance, template = rng.random(), int(rng.integers(len(PRESENT)))
        if there or chance < denied:
            told.append(_filled((PRESENT if there else ABSENT)[template], phrases[label]))
    if not told:
        label = list(findings)[int(rng.integers(len(findings)))]
        told.append(_filled(ABSENT[0], phrases[label]))
    return tuple(told[i] for i in rng.permutation(len(told)))


def _filled(template: str, phrase: str) -> str:
    text = template.format(phrase)
    return text[:1].upper() + text[1:]


def metadata_sentences(values: Mapping[str, str]) -> tuple[str, ...]:
    """Return what is known beside the report as sentences.

    Example:
        >>> metadata_sentences({"View Position": "PA", "Device": " "})
        ('View position: PA.',)
    """
    return tuple(f"{name.strip().capitalize()}: {value.strip()}." for name, value in values.items() if value.strip())


class TextChoice(BaseModel):
    """How the text of a step is put together.

    Attributes:
        most_sentences: Sentences drawn from the report, 1 to this many.
        whole: Chance that the whole report is taken instead.
        metadata: Chance that what is known beside the report stands before it.
        hard_negatives: Contradictions of each text; 0 for none.
        contradictions: Of which kinds.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    most_sentences: int = Field(default=3, ge=1)
    whole: float = Field(default=0.2, ge=0, le=1)
    metadata: float = Field(default=0.5, ge=0, le=1)
    hard_negatives: int = Field(default=1, ge=0, le=8)
    contradictions: tuple[str, ...] = Field(default=("negation", "laterality"), min_length=1)

    def model_post_init(self, _context: object) -> None:
        """Hold the kinds to those that there are."""
        unknown = sorted(set(self.contradictions) - set(CONTRADICTIONS))
        if unknown:
            raise ValueError(f"no contradiction of kind {unknown[0]!r}; there are {', '.join(CONTRADICTIONS)}")


@dataclass(frozen=True)
class Told:
    """The text that an image is shown with in one step.

    Args:
        text: The text.
        sentences: Its sentences, normalised: what it claims.
        contradictions: The same text with one sentence turned into its opposite.
    """

    text: str
    sentences: frozenset[str]
    contradictions: tuple[str, ...]


def tell(rng: np.random.Generator, sentences: Sequence[str], choice: TextChoice, metadata: Sequence[str] = ()) -> Told:
    """Draw the text of one image for one step.

    Args:
        rng: Where randomness comes from.
        sentences: Its report.
        choice: How.
        metadata: What is known beside the report; never contradicted.
    """
    count = len(sentences)
    if rng.random() < choice.whole:
        taken = list(range(count))
    else:
        taken = rng.permutation(count)[: int(rng.integers(1, choice.most_sentences + 1))].tolist()
    before = list(metadata) if rng.random() < choice.metadata else []
    body = [sentences[i] for i in taken]
    contradictions: tuple[str, ...] = ()
    if choice.hard_negatives:
        found: list[tuple[int, Contradiction]] = [
            (place, item)
            for place, i in enumerate(taken)
            for item in contradict_in_report(sentences, i, choice.contradictions)
        ]
        contradictions = _draw(rng, found, body, before, choice.hard_negatives)
    claims = frozenset(normalise_text(s) for s in [*before, *body])
    return Told(" ".join([*before, *body]), claims, contradictions)


def _draw(
    rng: np.random.Generator,
    found: Sequence[tuple[int, Contradiction]],
    body: Sequence[str],
    before: Sequence[str],
    count: int,
) -> tuple[str, ...]:
    """Draw contradictions, kinds in turn so that a rare one is not drowned by a frequent one."""
    by_kind: dict[str, list[tuple[int, Contradiction]]] = {}
    for at in rng.permutation(len(found)):
        by_kind.setdefault(found[at][1].kind, []).append(found[at])
    kinds = [sorted(by_kind)[i] for i in rng.permutation(len(by_kind))]
    texts: list[str] = []
    while len(texts) < count and any(by_kind.values()):
        for kind in kinds:
            if by_kind[kind] and len(texts) < count:
                place, item = by_kind[kind].pop()
                texts.append(" ".join([*before, *body[:place], item.text, *body[place + 1 :]]))
    return tuple(texts)
