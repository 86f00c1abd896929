"""Words that a sentence of a report may hold: those of the ontology, of measuring, and those that claim nothing.

The list is closed on purpose. A word that is missing makes the judge withhold a true sentence, which a reader can put
right; a word too many could carry a claim past it. Words that name a finding, an organ, a side, an amount, a change or
a time are never in `PLAIN`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

from isocenter.core.knowledge import CHANGE_WORDS, FINDINGS, GRADE_WORDS, Exam
from isocenter.evaluate.chest_terms import CHEST, Vocabulary
from isocenter.evaluate.report_mentions import stem

__all__ = [
    "CERTAIN",
    "CHANGING",
    "DOUBTING",
    "GRADING",
    "NARROWER",
    "PLACES",
    "PLAIN",
    "known_words",
    "stem",
    "vocabulary_of",
]

_CERTAIN = (
    "certain certainly definite definitely definitive definitively clearly undoubtedly obvious obviously proven "
    "confirmed confirm diagnostic pathognomonic unequivocal unequivocally surely always undeniable conclusive"
)
_DOUBTING = (
    "no not without never neither nor cannot absent absence lack denies negative resolved resolution excluded exclude "
    "unlikely possible possibly probable probably likely may might could suspicious suspected suspicion questionable "
    "questioned perhaps versus vs differential presumed potentially concern concerning equivocal"
)
_NARROWER = (
    "malignancy malignant cancer carcinoma metastasis metastatic neoplasm tumor tumour infection infectious "
    "fibroadenoma adenoma bronchopneumonia"
)
NARROWER = frozenset(stem(word) for word in _NARROWER.split())
"""Words that reading takes for a finding, but that say more than its name does: a mass is not yet a cancer."""
CERTAIN = frozenset(_CERTAIN.split())
"""Words that make a claim certain; in a report of a model none may stand."""
DOUBTING = frozenset(stem(word) for word in _DOUBTING.split())
"""Words that deny or doubt, as stems; they must meet a finding."""

_FUNCTION = (
    "a an the this that these those of in on at to from with within for by as and or both is are was were be been has "
    "have it its their there here which also each than about approximately around one side base basal apex "
    "apical zone field part parts region area areas total whole overall respectively between"
)
_REPORT = (
    "image images picture radiograph film view views scan study examination exam series slice slices volume outline "
    "outlined outlines segmented contour mask seen visible shown shows show identified noted found finding findings "
    "detected present demonstrated evident appear appears remain remains suggest suggests suggested consistent "
    "compatible represent represents reported reports report draft impression conclusion summary technique comparison "
    "measured measures measure measuring measurement estimated estimate estimates expected interval promised ranges "
    "probability probabilities chance score model models task software automatic automatically algorithm calibrated "
    "calibration evidence reader review reviewed reviewing radiologist check checked checking please correlate "
    "clinically clinical recommended advised "
    "size sized length width diameter axis axes long short largest smallest maximum minimum mean median dice quality "
    "given set level percent case patient frontal lateral upright supine projection detector plane"
)


@dataclass(frozen=True, eq=False)
class PlainWords:
    """Words that claim nothing by themselves.

    Args:
        words: Their stems.
        sites: Parts of the body by their stemmed names.
    """

    words: frozenset[str]
    sites: Mapping[str, str]


def _site_names() -> Iterator[tuple[str, str]]:
    for site in FINDINGS.sites:
        for name in (site.name, *site.synonyms):
            yield " ".join(stem(word) for word in name.split()), site.name


PLAIN = PlainWords(
    frozenset(stem(word) for text in (_FUNCTION, _REPORT) for word in text.split())
    | frozenset((_FUNCTION + " " + _REPORT).split()),
    dict(_site_names()),
)


@lru_cache(maxsize=8)
def vocabulary_of(exam: Exam) -> Vocabulary:
    """Return the words that sentences on an examination are read by.

    Cues, sides, grades and changes are the same for all; parts that are judged ("the heart is enlarged") belong to the
    chest radiograph.
    """
    if exam == "chest radiograph":
        return CHEST
    concepts = FINDINGS.of(exam)
    return replace(
        CHEST,
        findings={concept.name: concept.words for concept in concepts},
        unsided=frozenset(concept.name for concept in concepts if not concept.sided),
        subjects={},
        parts={},
    )


@lru_cache(maxsize=8)
def known_words(exam: Exam) -> frozenset[str]:
    """Return every word that a sentence on an examination may hold outside of what it names, as its stem."""
    vocabulary = vocabulary_of(exam)
    # Not the cues about earlier days and other people, nor phrases that only look like cues: no ledger holds those.
    cues = [vocabulary.cues[k] for k in ("deny", "denied", "hedge", "hedged", "stop", "verb", "or", "and")]
    tables = (vocabulary.sides, vocabulary.grades, vocabulary.changes)
    phrases = [p for some in (*cues, *(row for table in tables for row in table.values())) for p in some]
    words = {stem(word) for phrase in phrases for word in phrase.split()} | set(PLACES)
    return frozenset(words - CERTAIN) | PLAIN.words


def _qualifiers(table: Mapping[str, tuple[str, ...]]) -> frozenset[str]:
    """Return the words that by themselves say a grade or a change."""
    return frozenset(stem(phrase) for some in table.values() for phrase in some if " " not in phrase) - PLAIN.words


GRADING, CHANGING = _qualifiers(GRADE_WORDS), _qualifiers(CHANGE_WORDS)
"""Words that say how much, or what changed, as stems; they must meet a finding of which that is claimed."""
PLACES = ("anterior", "posterior", "upper", "lower")
"""Parts of a part of the body."""
