"""Names of findings and parts of the body in a question, by the words that people use, in the light of the study."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType

from isocenter.core.knowledge import FINDINGS
from isocenter.evaluate.report_mentions import stem
from isocenter.safety.claim_words import NARROWER

__all__ = ["Found", "Lexicon", "lexicon_for", "nearest"]

_EVERYWHERE: Mapping[str, str] = MappingProxyType(
    {"hippocampal": "hippocampus", "hippocampi": "hippocampus", "cardiac": "heart", "adrenals": "adrenal gland"}
)
_MALIGNANT, _BENIGN = "malignant breast lesion", "benign breast lesion"
_IN_EXAM: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "chest radiograph": {"fluid": "pleural effusion", "normal": "normal chest", "ptx": "pneumothorax"},
        "breast ultrasound": {
            **dict.fromkeys(("malignant", "malignancy", "cancer", "carcinoma", "cancerous"), _MALIGNANT),
            **dict.fromkeys(("malignant lesion", "malignant mass"), _MALIGNANT),
            **dict.fromkeys(("benign", "benign lesion", "benign mass", "harmless"), _BENIGN),
            **dict.fromkeys(("mass", "lesion", "lump", "nodule", "tumor", "tumour"), "breast mass"),
            "cyst": "breast cyst", "normal": "normal breast",
        },
        "fundus photograph": {"hemorrhage": "retinal hemorrhage", "retinopathy": "diabetic retinopathy"},
        "brain MR": dict.fromkeys(("atrophy", "atrophic", "hippocampal volume loss"), "hippocampal atrophy"),
        "abdomen CT": {
            **dict.fromkeys(("mass", "nodule"), "adrenal mass"), "hyperplasia": "adrenal hyperplasia",
        },
    }
)  # fmt: skip
_OUTLINED = ("tumor", "tumour", "mass", "growth", "sarcoma")
"""What people call an outlined lesion, where the findings of the study's examinations hold no such word."""


@dataclass(frozen=True)
class Found:
    """A name in a question.

    Args:
        name: Of a finding or a part of the body.
        start: First word.
        end: One past the last.
    """

    name: str
    start: int
    end: int


@dataclass(frozen=True)
class Lexicon:
    """Phrases that name something.

    Args:
        exams: Kinds of examination in the study; their findings come before others of the same words.
        outlined: Names of the parts of the body that were outlined.
    """

    exams: tuple[str, ...]
    outlined: frozenset[str] = frozenset()

    @cached_property
    def phrases(self) -> Mapping[str, str]:
        """Name by phrase, in stems; the words of the study's own examinations come first."""
        table: dict[str, str] = {}
        for phrase, name in self._pairs():
            table.setdefault(_key(phrase), name)
        return table

    def _pairs(self) -> Iterator[tuple[str, str]]:
        for exam in self.exams:
            yield from _IN_EXAM.get(exam, {}).items()
        yield from _words(f.name for f in FINDINGS if f.exam in self.exams)
        if "lesion" in self.outlined:
            yield from ((word, "lesion") for word in _OUTLINED)
        for site in FINDINGS.sites:
            yield from ((word, site.name) for word in (site.name, *site.synonyms))
        yield from _EVERYWHERE.items()
        yield from _words(f.name for f in FINDINGS if f.exam not in self.exams)

    @cached_property
    def words(self) -> frozenset[str]:
        """Every stem that stands in a phrase."""
        return frozenset(word for phrase in self.phrases for word in phrase.split())

    def find(self, stems: Sequence[str]) -> tuple[Found, ...]:
        """Return what words name, the longest phrase first, without what another of them implies or holds.

        Args:
            stems: Words of a question, in stems.

        Example:
            >>> [found.name for found in Lexicon(("chest radiograph",)).find(["left", "pleural", "effusion"])]
            ['pleural effusion']
        """
        found, at = [], 0
        while at < len(stems):
            step = 1
            for length in range(min(6, len(stems) - at), 0, -1):
                name = self.phrases.get(" ".join(stems[at : at + length]))
                if name is not None:
                    found.append(Found(name, at, at + length))
                    step = length
                    break
            at += step
        return tuple(found)

    def resolve(self, words: str) -> str | None:
        """Return the name that a phrase means, or None.

        Example:
            >>> Lexicon(("chest radiograph",)).resolve("Effusions")
            'pleural effusion'
        """
        return self.phrases.get(_key(words))


@lru_cache(maxsize=64)
def lexicon_for(exams: tuple[str, ...], outlined: frozenset[str] = frozenset()) -> Lexicon:
    """Return the lexicon of a study; the same one for the same examinations and outlines."""
    return Lexicon(exams, outlined)


def nearest(word: str, known: Iterable[str]) -> str | None:
    """Return the known word that a misspelt one means: of six letters or more, one slip away, and the only such.

    Args:
        word: In lower case.
        known: Words that it may be.

    Example:
        >>> nearest("pnuemothorax", ["pneumothorax", "pneumonia"]), nearest("liver", ["river"])
        ('pneumothorax', None)
    """
    if len(word) < 6:
        return None
    near = {other for other in known if len(other) >= 6 and abs(len(other) - len(word)) <= 1 and _one_slip(word, other)}
    return near.pop() if len(near) == 1 else None


def _one_slip(a: str, b: str) -> bool:
    """Tell whether a letter left out, put in, changed or swapped with its neighbour makes one word of the other."""
    if a == b:
        return False
    start = next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))
    a, b = a[start:], b[start:]
    return a[1:] == b or a == b[1:] or a[1:] == b[1:] or (a[:2] == b[1::-1] and a[2:] == b[2:])


def _words(names: Iterable[str]) -> Iterator[tuple[str, str]]:
    for name in names:
        named = {stem(word) for word in name.split()}
        for phrase in FINDINGS.named(name).words:
            # "Cancer" is read as a mass in reports; a question about cancer is not one about a mass.
            if not ({stem(word) for word in phrase.split()} & NARROWER) - named:
                yield phrase, name


def _key(phrase: str) -> str:
    return " ".join(stem(word) for word in phrase.lower().replace("-", " ").replace("_", " ").split())
