"""Questions in English, read by rules: which tools answer them, and what is asked about.

A question is understood only if every word of it is known: a word of the table of findings, of asking, or one that asks
nothing. "Is there a pulmonary embolism in the left lung?" is therefore not answered with the left lung. Word order,
plurals and one slip of the pen in a long word don't matter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from isocenter.core.knowledge import FINDINGS
from isocenter.evaluate.report_mentions import stem
from isocenter.verbs.asking.grammar_words import EVERY_WORD, INTENTS, QUANTITY_WORDS
from isocenter.verbs.asking.names import Found, Lexicon, nearest
from isocenter.verbs.asking.reply import ToolCall
from isocenter.verbs.asking.sites import placed

__all__ = ["Read", "Referent", "plain", "read_question"]

_SPLIT = re.compile(r"[a-z]+(?:\d[a-z]?)?|\d+")
_CONTRACTED: tuple[tuple[str, str], ...] = (
    (r"\bcan't\b|\bcannot\b", "can not"), (r"\bwon't\b", "will not"), (r"n't\b", " not"), (r"\bwhat's\b", "what is"),
    (r"\br/o\b|\brule out\b", "any"), (r"\by/n\b", ""),
    (r"\bboth (?=stud|exam|scan|image|film|time)", ""), (r"\bblind spots?\b", "limits"),
    (r"\bbottom line\b", "summary"), (r"\bl (?:vs\.?|versus|and|or|/) r\b|\bl/r\b", "left versus right"),
    (r"\bwhere's\b", "where is"), (r"\bthere's\b", "there is"), (r"\bit's\b", "it is"), (r"\bhow's\b", "how is"),
    (r"\b(?:x|x-)[ -]?rays?\b", "radiograph"), (r"'s\b", ""), (r"\bi'd\b", "i would"), (r"'(?:re|ve|ll|m)\b", ""),
)  # fmt: skip
_TAG = re.compile(r"^((?:no|so|there|it|this|that|you)\b.*),\s*right\s*\?*\s*$")
"""Here "right" asks for assent, and is no side of the body."""
_AS = re.compile(r"^since (?=(?:there|it|you|we|no)\b)")
_ENLARGED = re.compile(r"\b(enlarg\w+|dilated|too (?:big|large))\b")
_IS_LARGE = re.compile(r"^(?:is|does|looks?) .*\b(?:big|large)\b")
_GOES_ON = re.compile(r"(?:and|what about|how about|and what about)\b")
_IS_IT = re.compile(r"(?:is|has|did|was|does) (?:it|that|this)\b")
_PLACES = ("anterior", "posterior", "upper", "lower")
_TAKES_SIDE = frozenset({"find", "measure", "locate", "compare", "why", "confidence"})
_NEEDS = frozenset({"find", "measure", "locate", "side_of", "why", "confidence"})


@dataclass(frozen=True)
class Referent:
    """What was last spoken of.

    Args:
        tool: What was asked of it.
        arguments: With what.
    """

    tool: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Read:
    """What a question was read as.

    Args:
        calls: Tools that answer it; none where it was not understood.
        why: Why it was not understood, by the name of a refusal; "" where it was.
        corrected: Known words that misspelt ones were read as.
        strange: Whether a word is not known as it stands; such a question is not sent to a model.
    """

    calls: tuple[ToolCall, ...] = ()
    why: str = ""
    corrected: tuple[str, ...] = ()
    strange: bool = False


def plain(question: str) -> str:
    """Return a question in lower case, without contractions.

    Example:
        >>> plain("What's the size? Can't you tell?")
        'what is the size? can not you tell?'
    """
    text = _AS.sub("", _TAG.sub(r"\1", question.lower().replace("’", "'").strip()))
    for pattern, words in _CONTRACTED:
        text = re.sub(pattern, words, text)
    return text


def read_question(question: str, lexicon: Lexicon, last: Referent | None = None) -> Read:
    """Read a question.

    Args:
        question: In English.
        lexicon: Names that may be asked for.
        last: What was spoken of before, for "and the right one?".

    Example:
        >>> read_question("How big is the left lung?", Lexicon(("chest radiograph",))).calls
        (ToolCall(tool='measure', arguments={'about': 'lung', 'side': 'left'}),)
    """
    words, corrected, strange, unknown = _known_words(question, lexicon)
    if unknown or not words:
        return Read((), "question", corrected, strange)
    return replace(_understood(words, corrected, lexicon, last), strange=strange)


def _understood(words: list[str], corrected: tuple[str, ...], lexicon: Lexicon, last: Referent | None) -> Read:
    text = " ".join(words)
    stems = [stem(word) for word in words]
    if _left_over(words, stems, lexicon):
        return Read((), "question", corrected)
    names = _names(stems, text, lexicon)
    if names is None:
        return Read((), "question", corrected)
    side = _side(stems)
    tool = _intent(text, bool(names))
    meant = _meant(text) or ((side or _place(text)) is not None and tool in (None, "find"))
    if not names and last is not None and (meant if tool in (None, "find", "compare") else tool in _NEEDS):
        return _again(tool, side, text, last, corrected)
    if not names and last is None and tool == "compare" and _IS_IT.match(text):
        return Read((), "referent", corrected)
    if tool is None and not names:
        return Read((), "question", corrected)
    if tool is None:
        tool = last.tool if last is not None and _GOES_ON.match(text) else "find"
    if tool == "list_findings" and names:
        tool = "find"
    if tool == "find" and names and names[0] not in FINDINGS and _ENLARGED.search(text):
        tool = "measure"  # whether a size is too large is not known; how large it is, may be
    calls = _calls(tool, names, side, text)
    if calls:
        return Read(calls, "", corrected)
    return Read((), "question" if tool == "find" and not _meant(text) else "referent", corrected)


def _known_words(question: str, lexicon: Lexicon) -> tuple[list[str], tuple[str, ...], bool, bool]:
    """Return the words, those that were corrected, and whether one is not known as it stands, and not at all."""
    text = plain(question)
    # A word of another script is a word that is not known, and not a sign between words.
    unknown = strange = any(c.isalpha() and not c.isascii() for c in text)
    words, corrected = [], []
    for word in _SPLIT.findall(text):
        one = stem(word)
        if word in EVERY_WORD or one in EVERY_WORD or one in lexicon.words or word in lexicon.words:
            words.append(word)
            continue
        strange = True
        near = nearest(one, lexicon.words) or nearest(word, EVERY_WORD)
        if near is None:
            unknown = True
            continue
        words.append(near)
        if near in lexicon.words:
            corrected.append(near)
    return words, tuple(corrected), strange, unknown


def _left_over(words: list[str], stems: list[str], lexicon: Lexicon) -> bool:
    """Tell whether a word of a longer name stands alone: "swollen" is known of an optic disc, and not of a rib."""
    named = {at for one in lexicon.find(stems) for at in range(one.start, one.end)}
    return any(
        at not in named and word not in EVERY_WORD and stems[at] not in EVERY_WORD for at, word in enumerate(words)
    )


def _names(stems: list[str], text: str, lexicon: Lexicon) -> list[str] | None:
    """Return what is asked about: findings before parts of the body, the narrowest of those that imply each other.

    None where a finding is asked for in a part of the body that it doesn't lie in.
    """
    found = lexicon.find(stems)
    named = {at for one in found if one.name in FINDINGS for at in range(one.start, one.end)}
    # "Hilar enlargement in the heart" says nothing of the heart's size.
    rest = " ".join(word for at, word in enumerate(text.split()) if at not in named)
    names = placed([_judged(one, rest, lexicon) for one in found], stems, lexicon)
    if names is None:
        return None
    findings = [name for name in names if name in FINDINGS]
    wider = {wide for name in findings for wide in FINDINGS.implied(name)}
    findings = [name for name in findings if name not in wider]
    if findings:
        return findings
    return [name for name in names if name not in FINDINGS]


def _judged(one: Found, text: str, lexicon: Lexicon) -> Found:
    """Return the finding that a part of the body is asked for: an enlarged heart, a lung that is not clear."""
    if one.name == "heart" and (_ENLARGED.search(text) or _IS_LARGE.search(text)):
        return replace(one, name="cardiomegaly")
    if one.name == "lung" and "chest radiograph" in lexicon.exams and re.search(r"\bclear\b", text):
        return replace(one, name="opacity")
    return one


def _side(stems: list[str]) -> str | None:
    said = {word for word in stems if word in ("left", "right")}
    if len(said) == 2 or {"both", "bilateral", "asymmetry", "symmetry", "symmetric", "asymmetric", "symmetrical"} & {
        *stems
    }:
        return "both"
    return said.pop() if said else None


def _intent(text: str, named: bool) -> str | None:
    for tool, pattern, needs in INTENTS:
        if needs is not None and needs != named:
            continue
        if pattern.search(text):
            return tool
    return None


def _meant(text: str) -> bool:
    return re.search(r"\b(it|its|that|this|they|them|one)\b", text) is not None


def _again(tool: str | None, side: str | None, text: str, last: Referent, corrected: tuple[str, ...]) -> Read:
    """Return the last question again, of the other side or with another tool."""
    if tool is None and side is None and _place(text) is None:
        return Read((), "question", corrected)
    arguments = {k: v for k, v in last.arguments.items() if k in ("about", "side", "place")}
    chosen = tool if tool is not None and tool != "find" else last.tool
    place = _place(text)
    if side is not None and side != "both":
        arguments["side"] = side
    elif tool == "measure" and (side == "both" or re.search(r"\bwhich side\b", text)):
        arguments["side"] = "both"
    if place is not None:
        arguments["place"] = place
    if "about" not in arguments:
        return Read((), "referent", corrected)
    if chosen == "side_of":
        arguments.pop("side", None)
    quantity = _quantity(text) if tool == "measure" else last.arguments.get("quantity")
    if chosen == "measure" and quantity:
        arguments["quantity"] = quantity
    return Read((ToolCall(chosen, arguments),), "", corrected)


def _place(text: str) -> str | None:
    return next((word for word in _PLACES if re.search(rf"\b{word}\b", text)), None)


def _quantity(text: str) -> str | None:
    return next((name for name, pattern in QUANTITY_WORDS if pattern.search(text)), None)


def _calls(tool: str, names: list[str], side: str | None, text: str) -> tuple[ToolCall, ...]:
    if tool == "list_findings":
        status = next(
            (
                name for name, pattern in (
                    ("uncertain",
                        r"\b(uncertain|unclear|possible|possibly|unsure|doubtful|questionable|equivocal"
                        r"|perhaps)\b"),
                    ("absent", r"\b(absent|ruled out|excluded|negative|not (?:there|present|found))\b"),
                    ("present", r"\b(present|positive|abnormalit\w+)\b"),
                )
                if re.search(pattern, text)
            ),
            None,
        )  # fmt: skip
        return (ToolCall(tool, {"status": status} if status else {}),)
    if tool in ("not_examined", "describe_study"):
        return (ToolCall(tool),)
    if not names:
        return (ToolCall("compare"),) if tool == "compare" else ()
    made = []
    for name in names:
        arguments = {"about": name}
        paired = name not in FINDINGS and FINDINGS.site(name).paired
        if tool == "measure":
            if paired and side is None and re.search(r"\b(which|same|other|than|differ|difference)\b", text):
                arguments["side"] = "both"
            elif side is not None:
                arguments["side"] = side
            quantity = _quantity(text)
            if quantity is not None:
                arguments["quantity"] = quantity
        elif side is not None and side != "both" and tool in _TAKES_SIDE:
            arguments["side"] = side
        place = _place(text)
        if place is not None and tool in _TAKES_SIDE:
            arguments["place"] = place
        made.append(ToolCall(tool, arguments))
    return tuple(made)
