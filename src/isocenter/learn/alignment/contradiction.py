"""Turning a sentence of a report into one that contradicts it: another presence, another side, another size.

These are rules, not a model: the same sentence always becomes the same contradiction, and a sentence of which the rules
are not sure is left alone. What they produce is meant for training and testing networks, never for a report.

* **negation**: "no effusion" <-> "effusion", "is enlarged" <-> "is not enlarged".
* **laterality**: "left" <-> "right", only where a sentence says that something *is* there: "no left effusion" says
  nothing about the right, and of clear lungs both sides may be said.
* **severity**: "small" <-> "large", "mild" <-> "severe".

**Names that hold a side** (left ventricle, right atrium, right middle lobe, left bundle branch, ...) are never swapped:
the result would speak of another structure, or of none that exists, and a network would learn the odd name and not the
side. So "left ventricle is enlarged" has a negation, and no laterality. "Left" in "the tube was left in place" is no
side.

Sentences that hedge, compare or ask ("may", "unchanged", "cannot be excluded", "?") are never altered at all.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from isocenter.core.errors import ConfigError

__all__ = ["CONTRADICTIONS", "Contradiction", "contradict", "contradict_in_report"]

CONTRADICTIONS = ("negation", "laterality", "severity")
"""Kinds of contradiction."""


@dataclass(frozen=True)
class Contradiction:
    """A sentence that says the opposite of another.

    Args:
        kind: One of `CONTRADICTIONS`.
        text: The sentence.
    """

    kind: str
    text: str


def _any(*words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(words)})\b", re.IGNORECASE)


_UNSURE = re.compile(
    r"\?|\b(?:may|might|could|can|cannot|possibl[ey]|probabl[ey]|perhaps|questionable|equivocal|suspected|suspicious|"
    r"likely|unlikely|suggest\w*|concern\w*|versus|vs|if|unless|recommend\w*|advise\w*|consider|clinical\w*|correlat\w*|"
    r"excluded|exclude|rule[ds]? out|unchanged|continu\w*|persist\w*|remain\w*|as before|"
    r"stable|change[ds]?|unaltered|compar\w*|previous\w*|prior|interval|again|"
    r"neither|nor|limited|history|indication|however|although|views?|projections?|portable|technique|rotated|"
    r"not (?:applicable|available|included|performed))\b|"
    r"\bno (?:longer|further|additional|more|new|other|old)\b|\bwithout (?:further|contrast)\b|\bnot (?:only|yet)\b",
    re.IGNORECASE,
)

_NAMES = re.compile(
    r"\b(?:left|right)[ -](?:ventric\w*|atri\w*|heart\b|coronary|anterior descending|circumflex|main (?:coronary|stem)|"
    r"bundle|axis|middle lobe|paratracheal stripe|lingula\w*|recurrent|gastric|colic|colon|crus|aortic arch|"
    r"sided aort\w*|handed\b|shift|angle[ds]?\b|away|now|after|before|over\b|behind|untreated|blank)|"
    r"\b(?:is|are|was|were|been|being|be|has|have|had|patient)\s+left\s+(?:in|at|as|the|to|alone|by|with)\b|"
    r"\bto[ -](?:left|right)[ -]shunt|\ball right\b|\b(?:left|right)[ -]to[ -](?:left|right)\b",
    re.IGNORECASE,
)
"""Where "left" and "right" belong to a name, or are no sides."""

_SIDE = re.compile(r"\b(left|right)(?=\b|-)", re.IGNORECASE)
_MORE = _any("greater", "larger", "worse", "more", "smaller", "less", "higher", "lower", "bigger")
_BOTH = _any("bilateral(?:ly)?", "both", "either", "each")
_SOUND = _any(
    *("clear", "normal(?:ly)?", "unremarkable", "intact", "sharp", "patent", "symmetric(?:al)?", "well[ -]expanded"),
    *("well[ -]aerated", "free", "negative", "within", "preserved", "expanded", "resolved", "removed"),
)
_DENIED = re.compile(r"\b(?:no|not|without|absent|absence|negative|none|never|free of|n't|lack\w*)\b", re.IGNORECASE)

_SIZES = (("small", "large"), ("mild", "severe"), ("minimal", "marked"), ("slight", "marked"), ("minor", "major"))
_SIZE = dict(_SIZES) | {b: a for a, b in reversed(_SIZES)}
_SIZE |= {f"{a}ly": f"{b}ly" for a, b in (("mild", "severe"), ("severe", "mild"), ("minimal", "marked"))}
_SIZE |= {"slightly": "markedly", "markedly": "slightly"}
_SIZED = re.compile(rf"\b({'|'.join(sorted(_SIZE, key=len, reverse=True))})\b(?! (?:bowel|intestine))", re.IGNORECASE)
_LEAD = re.compile(
    rf"^(?:an?\s+|the\s+|some\s+|multiple\s+|several\s+)?"
    rf"(?:(?:{'|'.join(_SIZE)}|moderate|tiny|trace)(?:-sized)?\s+(?!bowel|intestine))*",
    re.IGNORECASE,
)

_ADVERBS = r"(?:currently|also|now|still)"
_BE = rf"(?:is|are|was|were)(?: {_ADVERBS})?"
_REMOVE = tuple(
    (re.compile(pattern, re.IGNORECASE), new)
    for pattern, new in (
        (r"^there (is|are|was|were) no\b(?: evidence of\b| sign of\b| signs of\b)?", r"There \1"),
        (r"^no (?:evidence|signs?) of\b", "Evidence of"),
        (r"^no (?=\S)", ""),
        (rf"\b({_BE}) not\b", r"\1"),
        (rf"\b({_BE}) absent\b", r"\1 present"),
        (rf"\b({_BE}) (?:free|clear) of\b", r"\1 full of"),
        (rf"\b({_BE}) negative for\b", r"\1 positive for"),
        (r"\b(shows?|showed|demonstrates?|reveals?|has|have|had) no\b", r"\1"),
        (r"\b(do|does|did) not (show|demonstrate|reveal|have|contain)\b", r"\1 \2"),
        (r"\bwithout\b(?: evidence of\b)?", "with"),
    )
)
_VERB = re.compile(rf"\b{_BE}\b", re.IGNORECASE)
_SEEMS = re.compile(r"\b(appear|seem)(s?)\b", re.IGNORECASE)
_LAST = re.compile(r"\b(normal|clear|unremarkable|intact|sharp)(?=[.;]?$)", re.IGNORECASE)
_THERE = re.compile(r"^(there (?:is|are|was|were))\b(?: an?\b| some\b)?", re.IGNORECASE)
_SHOWS = re.compile(r"\b(shows?|showed|demonstrates?|reveals?|has|have|had)\b(?! been\b)(?: an?\b)?", re.IGNORECASE)


def _cased(text: str) -> str:
    text = re.sub(r"\s+", " ", text).strip()
    return text[:1].upper() + text[1:]


def _lowered(text: str) -> str:
    """Return a sentence as what stands after "No": its first letter small, unless an abbreviation begins it."""
    return text if text[1:2].isupper() else text[:1].lower() + text[1:]


def _negated(sentence: str) -> str | None:
    """Toggle the presence that a sentence speaks of."""
    if _DENIED.search(sentence):
        for pattern, new in _REMOVE:
            toggled, count = pattern.subn(new, sentence, count=1)
            if count:
                # What is left must deny nothing more: "no nodule and no mass" is not undone by half.
                return None if _DENIED.search(toggled) else _cased(toggled)
        return None
    there = _THERE.match(sentence)
    if there:
        return _cased(f"{there[1]} no {sentence[there.end() :].strip()}")
    verb, shows = _VERB.search(sentence), _SHOWS.search(sentence)
    if verb:
        if re.match(r"an? ", sentence, re.IGNORECASE):
            return _cased(f"No {_lowered(_LEAD.sub('', sentence, count=1))}")
        return _cased(f"{sentence[: verb.end()]} not{sentence[verb.end() :]}")
    seems, last = _SEEMS.search(sentence), _LAST.search(sentence)
    if seems:
        does = "does" if seems[2] else "do"
        return _cased(f"{sentence[: seems.start()]}{does} not {seems[1]}{sentence[seems.end() :]}")
    if last and not shows:
        return _cased(f"{sentence[: last.start()]}not {sentence[last.start() :]}")
    if shows:
        return _cased(f"{sentence[: shows.start()]}{shows[1]} no {sentence[shows.end() :].strip()}")
    rest = _LEAD.sub("", sentence, count=1)
    return _cased(f"No {_lowered(rest)}") if re.match(r"\w", rest) else None


def _swapped(word: str) -> str:
    other = "right" if word.lower() == "left" else "left"
    return other.upper() if word.isupper() else other.capitalize() if word[:1].isupper() else other


def _other_side(sentence: str) -> str | None:
    """Move what a sentence says is there to the other side."""
    if _NAMES.search(sentence) or _DENIED.search(sentence) or _SOUND.search(sentence) or _BOTH.search(sentence):
        return None
    sides = {m.lower() for m in _SIDE.findall(sentence)}
    if not sides or (len(sides) == 2 and not (_MORE.search(sentence) and re.search(r"\bthan\b", sentence))):
        return None
    return _SIDE.sub(lambda m: _swapped(m[0]), sentence)


def _other_size(sentence: str) -> str | None:
    """Make large what a sentence says is small, and the other way round; only where one size is named."""
    if _DENIED.search(sentence) or len(_SIZED.findall(sentence)) != 1:
        return None

    def new(match: re.Match[str]) -> str:
        other = _SIZE[match[0].lower()]
        return other.capitalize() if match[0][:1].isupper() else other

    return _SIZED.sub(new, sentence)


_RULES = {"negation": _negated, "laterality": _other_side, "severity": _other_size}


def contradict(sentence: str, kinds: Sequence[str] = ("negation", "laterality")) -> tuple[Contradiction, ...]:
    """Return the contradictions of a sentence, at most one of each kind.

    Args:
        sentence: One sentence of a report.
        kinds: Which of `CONTRADICTIONS`.

    Raises:
        ConfigError: There is no such kind.

    Example:
        >>> [c.text for c in contradict("Small left pleural effusion.")]
        ['No left pleural effusion.', 'Small right pleural effusion.']
        >>> contradict("Effusion cannot be excluded."), contradict("No left effusion.", ["laterality"])
        ((), ())
    """
    unknown = sorted(set(kinds) - set(CONTRADICTIONS))
    if unknown:
        raise ConfigError(f"no contradiction of kind {unknown[0]!r}; there are {', '.join(CONTRADICTIONS)}")
    plain = re.sub(r"\s+", " ", sentence).strip()
    heading = re.fullmatch(r"[A-Z]+[.:]?", plain)
    if heading or not re.search(r"[a-z]{3}", plain, re.IGNORECASE) or _UNSURE.search(plain):
        return ()
    found = [(kind, _RULES[kind](plain)) for kind in CONTRADICTIONS if kind in kinds]
    return tuple(Contradiction(kind, text) for kind, text in found if text and text.lower() != plain.lower())


_COMMON = frozenset(
    {
        *(
            "the",
            "a",
            "an",
            "of",
            "in",
            "on",
            "at",
            "is",
            "are",
            "was",
            "were",
            "there",
            "with",
            "and",
            "or",
            "to",
            "by",
        ),
        *("over", "no", "not", "seen", "noted", "present", "both", "side", "sided", "zone", "region", "area", "upper"),
        *("lower", "shows", "left", "right", "small", "large", "moderate", "mild", "severe", "bilateral"),
    }
)


def _said(sentence: str) -> frozenset[str]:
    words = frozenset(re.findall(r"[a-z]{3,}", sentence.lower())) - _COMMON
    return frozenset(word.removesuffix("s") for word in words)


def contradict_in_report(
    sentences: Sequence[str], at: int, kinds: Sequence[str] = ("negation", "laterality")
) -> tuple[Contradiction, ...]:
    """Return the contradictions of a sentence that its report does not make true again.

    "Left effusion" is no lie turned to the right where another sentence finds one on the right too, or on both sides;
    and a contradiction that stands in the report itself is none.

    Args:
        sentences: The whole report.
        at: Which of them.
        kinds: Which of `CONTRADICTIONS`.

    Example:
        >>> contradict_in_report(["Left effusion.", "Small effusion on the right."], 0, ["laterality"])
        ()
    """
    own = sentences[at]
    others = [s for i, s in enumerate(sentences) if i != at and not _DENIED.search(s)]
    verbatim = {s.strip().lower() for s in sentences}
    found = []
    for item in contradict(own, kinds):
        sides = {m.lower() for m in _SIDE.findall(item.text)}
        rival = item.kind == "laterality" and any(
            _said(own) & _said(s) and (_BOTH.search(s) or sides & {m.lower() for m in _SIDE.findall(s)}) for s in others
        )
        if not rival and item.text.lower() not in verbatim:
            found.append(item)
    return tuple(found)
