"""What is not answered, whoever would answer: checked before any rule or model sees a question.

Treatment, doses, prognosis, other patients, instructions, other languages. The check is by words and errs on the side
of refusing: a refused question can be put in other words.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from itertools import pairwise

from isocenter.evaluate.report_mentions import stem
from isocenter.verbs.asking.grammar import plain
from isocenter.verbs.asking.grammar_words import EVERY_WORD
from isocenter.verbs.asking.names import Lexicon, nearest

__all__ = ["LONGEST", "Checked", "check_question"]

LONGEST = 1000
"""Longest question in characters."""

_INSTRUCTION = re.compile(
    r"\b(?:ignore|disregard|override|overrule|bypass|jailbreak|pretend|role ?play|obey|forget|comply)\b"
    r"|\b(?:system|hidden|developer|initial) (?:prompt|message|mode|instruction)"
    r"|\b(?:your|previous|prior|above|these|all|new|my|following) (?:\w+ )?(?:instructions?|rules?"
    r"|guidelines?|orders?)\b"
    r"|\byou are (?:now|no longer)\b|\bact as\b|\bfrom now on\b|(?<!you )\bsay (?:that|there|it)\b"
    r"|\brepeat after\b|\boutput (?:only|just|the)\b|\bstop (?:following|obeying|using)\b|\banswer (?:as "
    r"if|yes|no|with)\b|\balways (?:say|answer)\b|\breply with\b"
    r"|\b(?:delete|erase|execute|run the|download|upload|send|email|write to|password|api key|shell|sudo|curl|eval)\b"
    r"|\b(?:change|set|mark|edit|modify|correct|overwrite) (?:the |this |it |all )*(?:result|report"
    r"|finding|ledger|status|probability)"
    r"|https?:|\bassistant\s*:|\bsystem\s*:|\btool_?calls?\b|<\||\|>"
)  # fmt: skip
_TREATMENT = re.compile(
    r"\b(?:treat\w*|therap\w*|surg\w*|operat\w*|resect\w*|remov\w*|drain\w*|medicat\w*|medicin\w*"
    r"|drugs?|antibiotic\w*|"
    r"prescri\w*|chemo\w*|radiotherap\w*|irradiat\w*|immunotherap\w*|steroids?|furosemide|amoxicillin"
    r"|aspirin|heparin|pills?|"
    r"dos(?:e|es|age|ages|ing)|mg|milligrams?|grays?|gy|biops\w*|admit\w*|discharg\w*|hospitali\w*"
    r"|refer(?:red|ral)?|transfus\w*|"
    r"intubat\w*|vaccin\w*|managed?|management|recommend\w*|advi[sc]e\w*|puncture|anticoagul\w*)\b"
    r"|\bwhat (?:should|shall|must|can|do) (?:i|we|he|she|they|the patient) (?:now )?(?:do|take|give|try)\b"
    r"|\bnext steps?\b|\bdo next\b|\bshould (?:i|we|he|she|they|it|the patient|you)\b(?! (?:trust|believe"
    r"|read|understand))"
    r"|\b(?:go|going|send|sent) (?:him |her |them )?home\b|\bdiuretic\w*\b|\boxygen\b|\bradiation\b"
    r"|\bventilat\w*\b|\bstatins?\b"
    r"|\b(?:give|take) (?:him|her|them)\b"
    r"|\bfollow[ -]?up (?:needed|necessary|required|indicated|when)\b|\bindicated\b|\burgent\w*|\bemergency\b"
)  # fmt: skip
_PROGNOSIS = re.compile(
    r"\b(?:prognos\w*|surviv\w*|die|dies|dying|death|fatal|lethal|mortal\w*|cur(?:e|ed|able)|recover\w*"
    r"|relaps\w*|recur\w*|"
    r"life|kills?|outlook|remission|terminal)\b"
    r"|\bhow (?:long|much time) (?:will|does|do|has|have|until|till|before|can)\b"
    r"|\b(?:will|going to) .*\b(?:grow|spread|come back|return|worsen|improve|progress|heal|shrink|live"
    r"|get|be|become|develop)\b"
    r"|\b(?:live|lives|alive|life ?expectancy|get well|risk of|years left)\b"
)  # fmt: skip
_OTHER_PATIENT = re.compile(
    r"\b(?:other|another|different|next|previous|last|second|every|all|any|same|neighbou?ring|prior) "
    r"(?:patient|person|case|subject)s?\b"
    r"|\bpatients\b|\bsomeone else|\bmy (?:mother|father|wife|husband|son|daughter|brother|sister|friend|child|own|"
    r"(?:\w+ )?patients?)\b|\b(?:mrs|ms|miss|herr|frau|señor|señora|monsieur|madame|sir|lady)\b\.? ?\w*"
    r"|\b(?:mrn|patient[ _-]?(?:id|key|name|number)|medical record|accession|date of birth|born|ssn|name of)\b"
    r"|\bmr\.? (?!scan|imag|stud|exam|series|or\b|and\b|of\b)[a-z]"
    r"|\b(?:aunt|uncle|cousin|niece|nephew|grand\w+|husband|wife)\b|\bwho (?:is|was) (?:he|she|the patient|this)\b"
    r"|\bpatient (?:no\.? ?|number |nr\.? ?|#)?\d|\b(?:bed|room|ward)\b"
)  # fmt: skip
_KEY = re.compile(r"\b(?:\d+\.){3,}\d+\b|\b\d{4,}\b|\b[0-9a-f]{8,}\b|\b[A-Za-z]{1,4}[-_]?\d{3,}\b")
_FOREIGN = frozenset(
    [
        "hay",
        "es",
        "el",
        "la",
        "los",
        "las",
        "del",
        "qué",
        "que",
        "cuál",
        "cual",
        "dónde",
        "donde",
        "cómo",
        "como",
        "está",
        "pulmón",
        "pulmones",
        "derrame",
        "tamaño",
        "grande",
        "il",
        "un",
        "une",
        "y",
        "le",
        "les",
        "des",
        "du",
        "est",
        "sont",
        "où",
        "quel",
        "quelle",
        "combien",
        "gibt",
        "einen",
        "eine",
        "ein",
        "der",
        "die",
        "das",
        "wo",
        "wie",
        "groß",
        "ist",
        "sind",
        "welche",
        "und",
        "nicht",
        "c'è",
        "è",
        "della",
        "dove",
        "quanto",
        "há",
        "são",
        "onde",
        "qual",
        "tamanho",
        "não",
    ]
)
_NAMING = re.compile(r"\b(?:called|named|patient) +([a-z][a-z'’-]*)")
"""Before a name, however it is written."""
_BEFORE_A_NAME = frozenset({"patient", "for", "about", "of", "called", "named", "with"})


@dataclass(frozen=True)
class Checked:
    """A question that was checked.

    Args:
        text: The question, without markup and signs that don't print.
        refused: Why it is not answered, by the name of a refusal; "" where it may be.
    """

    text: str
    refused: str = ""


def check_question(question: str, lexicon: Lexicon, patient_key: str = "") -> Checked:
    """Say whether a question may be answered at all.

    Args:
        question: As it was typed.
        lexicon: Names that may be asked for.
        patient_key: Pseudonym of the study's patient, which may be named.

    Example:
        >>> lexicon = Lexicon(("chest radiograph",))
        >>> check_question("Should we drain it?", lexicon).refused, check_question("Any <b>effusion</b>?", lexicon).text
        ('treatment', 'Any effusion?')
    """
    if len(question) > 4 * LONGEST:
        return Checked("", "length")
    text = _cleaned(question)
    if len(patient_key) >= 6:
        text = " ".join(re.sub(rf"(?<!\w){re.escape(patient_key)}(?!\w)", " this patient ", text).split())
    lower = plain(text)
    if not re.search(r"\w", text):
        return Checked(text, "empty")
    if len(text) > LONGEST:
        return Checked("", "length")
    if _foreign(text, lower) or _unknown_tongue(lower, lexicon):
        return Checked(text, "language")
    for why, pattern in (("instruction", _INSTRUCTION), ("patient", _OTHER_PATIENT)):
        if pattern.search(lower):
            return Checked(text, why)
    if _KEY.search(text) or _names_someone(text, lexicon):
        return Checked(text, "patient")
    for why, pattern in (("treatment", _TREATMENT), ("prognosis", _PROGNOSIS)):
        if pattern.search(lower):
            return Checked(text, why)
    return Checked(text)


def _cleaned(question: str) -> str:
    """Return a question without markup, control characters and signs without width."""
    text = unicodedata.normalize("NFKC", question)
    text = "".join(" " if unicodedata.category(c) in ("Cc", "Zl", "Zp") else c for c in text
                   if unicodedata.category(c) not in ("Cf", "Cs", "Co", "Cn"))  # fmt: skip
    text = re.sub(r"<!--.*?-->|</?[A-Za-z][^<>]{0,200}>", "", text)
    return " ".join(text.split())


def _foreign(text: str, lower: str) -> bool:
    letters = [c for c in text if c.isalpha()]
    beyond = [c for c in letters if not c.isascii()]
    if len(beyond) * 5 > len(letters):
        return True
    words = re.findall(r"[^\W\d_]+", lower)
    told = sum(word in _FOREIGN for word in words)
    return told * 3 >= len(words) and told > 0 and (bool(beyond) or told > 1 or len(words) == 1)


def _unknown_tongue(lower: str, lexicon: Lexicon) -> bool:
    words = re.findall(r"[^\W\d_]+", lower)
    unknown = sum(not _known(word, lexicon) for word in words)
    return len(words) >= 3 and 10 * unknown > 7 * len(words)


def _names_someone(text: str, lexicon: Lexicon) -> bool:
    """Tell whether words look like a person's name: capitals that neither begin a sentence nor are known.

    After "called", "named" or "patient", a word that is not known is one, whatever its letters.
    """
    if any(not _known(word, lexicon) for word in _NAMING.findall(plain(text))):
        return True
    for sentence in re.split(r"[.?!:]\s+", text):
        words = re.findall(r"[^\W\d_]+(?:'s|’s)?", sentence)
        strange = [
            n > 0 and word[0].isupper() and not word.isupper() and not _known(word, lexicon)
            for n, word in enumerate(words)
        ]  # fmt: skip
        if any(a and b for a, b in pairwise(strange)):
            return True
        for capital, word, before in zip(strange[1:], words[1:], words, strict=False):
            if capital and (word.endswith(("'s", "’s")) or before.lower() in _BEFORE_A_NAME):
                return True
    return False


def _known(word: str, lexicon: Lexicon) -> bool:
    one = stem(re.sub(r"['’]s$", "", word).lower())
    return one in lexicon.words or word.lower() in EVERY_WORD or nearest(one, lexicon.words) is not None
