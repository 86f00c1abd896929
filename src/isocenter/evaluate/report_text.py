"""Reports as they come: cleaned with each character in its place, cut into sections, and known as English or not.

What was asked (indication, history), what was compared with and how it was made hold words of findings that nobody
found, so they are not read. A text in another language is not read either: "kein Pneumothorax" holds no word that
denies in English, and a label of it would be wrong.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

from isocenter.evaluate.chest_terms import CHEST, Vocabulary
from isocenter.evaluate.report_mentions import stem

__all__ = [
    "MAX_CHARACTERS",
    "CleanText",
    "Section",
    "clean_text",
    "english",
    "foreign_sentences",
    "is_read",
    "other_body_part",
    "split_sections",
]

MAX_CHARACTERS = 131_072
"""A longer text is no report, and is not read."""

_LEAST_SHARE = 0.2
"""Share of a text's words that prove that it is English; reports of the Indiana set have a third and more."""
_SHORT = 8

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_HIDDEN = re.compile(r"<(script|style)\b|<!--", re.IGNORECASE)
_BLOCK = re.compile(r"</?(?:p|br|div|li|ul|ol|tr|td|th|table|h[1-6]|section|hr)\b[^<>]{0,300}>", re.IGNORECASE)
_TAG = re.compile(r"</?[A-Za-z][^<>]{0,300}>|<\?xml[^<>]{0,300}>|<!DOCTYPE[^<>]{0,300}>", re.IGNORECASE)
_ENTITY = re.compile(r"&(?:[A-Za-z]{2,8}|#\d{1,7}|#x[0-9A-Fa-f]{1,6});")
_INVISIBLE = frozenset("\u00ad\u200b\u200c\u200d\u200e\u200f\u2060\ufeff" + "\u202a\u202b\u202c\u202d\u202e")
_WORD = re.compile(r"[^\W\d_]+")
_SENTENCE = re.compile(r"[^.;:?!]+(?:[.;:?!]|$)")
_BLANK = re.compile(r"\S[ \t]*\n[ \t]*\n")

_READ = (
    *("findings", "finding", "impression", "impressions", "conclusion", "conclusions", "interpretation", "opinion"),
    *("summary", "result", "results", "report", "addendum", "findings and impression", "findings/impression"),
    *("wet read", "lungs", "lung", "heart", "pleura", "mediastinum", "bones", "airways", "chest", "other findings"),
    *(
        "lines and tubes",
        "support devices",
        "soft tissues",
        "final report",
        "heart and mediastinum",
        "lungs and pleura",
    ),
)
_NOT_READ = (
    *("indication", "indications", "clinical indication", "history", "clinical history", "patient history"),
    *("past medical history", "reason for exam", "reason for examination", "reason for this examination"),
    *("reason for study", "reason for visit", "clinical information", "clinical data", "clinical details"),
    *("clinical statement", "clinical question", "medical condition", "comparison", "comparisons", "comparison exam"),
    *("comparison study", "prior study", "prior studies", "technique", "procedure", "exam", "examination", "exam type"),
    *("type of examination", "study", "protocol", "contrast", "reference exam", "recommendation", "recommendations"),
    *("notification", "dictated by", "signed by", "electronically signed by", "signature", "attending", "radiologist"),
)
_NAMES = "|".join(
    sorted((re.escape(n).replace(r"\ ", r"[ \t]{1,4}") for n in (*_READ, *_NOT_READ)), key=len, reverse=True)
)
# A heading stands at the beginning of a line or sentence and ends with a colon, or has a line for itself in capitals.
# Every repetition has a limit: a text of spaces alone must not take hours.
_HEADING = re.compile(
    rf"(?:^|(?<=[.!?])[ \t]|[ \t][ \t])[ \t#*_]{{0,40}}(?P<name>{_NAMES})[ \t*_]{{0,8}}:[*_]{{0,4}}"
    rf"|^[ \t#*_]{{0,80}}(?P<alone>{_NAMES})[ \t*_]{{0,80}}$",
    re.IGNORECASE | re.MULTILINE,
)


@dataclass(frozen=True)
class CleanText:
    """A text without markup, control and invisible characters.

    Args:
        text: What is read.
        places: Place of each of its characters in the text as it came; None where all stand where they stood.
        length: Of the text as it came.
        markup: Whether there was markup.
    """

    text: str
    places: tuple[int, ...] | None
    length: int
    markup: bool = False

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return where characters stand in the text as it came."""
        if self.places is None:
            return start, end
        return self.places[start], self.places[end - 1] + 1


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Args:
        name: Its heading, lower case; "" where there was none.
        start: First character behind the heading.
        end: One past its last character.
        read: Whether findings are read in it.
    """

    name: str
    start: int
    end: int
    read: bool


def clean_text(text: str) -> CleanText:
    """Take out what is no text, each character in its place; compatibility characters (ligatures) are resolved.

    Example:
        >>> clean_text("<b>No</b> effusion&nbsp;seen.").text
        '   No     effusion      seen.'
    """
    length, places = len(text), None
    if not text.isascii():
        kept = [
            (letter, place)
            for place, character in enumerate(text)
            if character not in _INVISIBLE
            for letter in (character if character.isascii() else unicodedata.normalize("NFKC", character))
        ]
        text = "".join(letter for letter, _ in kept)
        if len(kept) != length or any(place != n for n, (_, place) in enumerate(kept)):
            places = tuple(place for _, place in kept)
    markup = False
    if "<" in text or "&" in text:
        before = text
        text = _without_hidden(text)
        text = _BLOCK.sub(lambda m: "\n\n" + " " * (len(m[0]) - 2), text)
        text = _ENTITY.sub(_spaces, _TAG.sub(_spaces, text))
        markup = text != before
    if "\r" in text:
        text = text.replace("\r\n", " \n").replace("\r", "\n")
    return CleanText(_CONTROL.sub(" ", text), places, length, markup)


def _without_hidden(text: str) -> str:
    """Blank scripts, styles and comments; one that never ends is left, and searched for once."""
    lower = text.lower() if text.isascii() else text
    parts: list[str] = []
    done = place = 0
    endless: set[str] = set()
    while (match := _HIDDEN.search(text, place)) is not None:
        end = "-->" if match[1] is None else f"</{match[1].lower()}"
        found = -1 if end in endless else lower.find(end, match.end())
        place = match.end()
        if found < 0:
            endless.add(end)
            continue
        close = text.find(">", found)
        place = len(text) if close < 0 else close + 1
        parts += [text[done : match.start()], " " * (place - match.start())]
        done = place
    return "".join([*parts, text[done:]])


def _spaces(match: re.Match[str]) -> str:
    return " " * len(match[0])


def split_sections(text: str) -> tuple[Section, ...]:
    """Cut a report at its headings, and say which sections are read.

    What no heading stands over is read. A section that is not read ends at the next heading, or at the blank line
    behind its words.

    Example:
        >>> [(s.name, s.read) for s in split_sections("INDICATION: rule out pneumonia. FINDINGS: Clear lungs.")]
        [('indication', False), ('findings', True)]
    """
    found: list[Section] = []
    name, start = "", 0
    for match in _HEADING.finditer(text):
        alone = match["alone"]
        if alone is not None and not (alone.isupper() or alone.istitle()):
            continue
        found += _ended(text, name, start, match.start())
        name, start = " ".join((match["name"] or alone).lower().split()), match.end()
    found += _ended(text, name, start, len(text))
    return tuple(found)


def _ended(text: str, name: str, start: int, end: int) -> list[Section]:
    if not text[start:end].strip():
        return []
    read = name not in _NOT_READ
    blank = None if read else _BLANK.search(text, start, end)
    if blank is None or not text[blank.end() : end].strip():
        return [Section(name, start, end, read)]
    return [Section(name, start, blank.start() + 1, read), Section("", blank.end(), end, True)]


def is_read(section: str) -> bool:
    """Tell whether findings are read in a section of this name."""
    return " ".join(section.lower().split()) not in _NOT_READ


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENGLISH = _words(
    "the is are was were of and with there has have been which this that seen within size heart lung lungs without "
    "right left clear unremarkable stable unchanged mild small large both lower upper lobe lobes findings for from by "
    "or not may be identified again noted evidence either although however limits overlying chest view views compared "
    "prior bilateral bibasilar mildly enlarged increased decreased likely possible no"
) - {"no", "or", "has", "was"}
# Words of vocabularies that other languages have as well, so that they prove nothing.
_ELSEWHERE = _words(
    "normal pneumothorax atelectasis fibrosis edema oedema hernia fracture consolidation infiltration emphysema "
    "scoliosis osteopenia pleural pleura interstitial granuloma bulla stent hydrothorax pneumonia hydropneumothorax "
    "pneumomediastinum pneumoperitoneum kyphosis kyphoscoliosis pulmonary cardiac costophrenic hilum hila aorta "
    "ectasia tumor no or has was in and a an vs icd picc copd chf metastasis lingula congestion thorax "
    "diaphragm hilar port minor active dense advanced gross stop question versus a extensive"
)
_FOREIGN = _words(
    "de la el los las del se sin con y una un le les des du et pas est avec sans dans aux une der das und kein keine "
    "keinen keiner nicht mit ist sind ohne im zum rechts links beidseits beidseitig dos sem com ao il lo gli di nel "
    "della dei delle senza het een geen niet met op van voor och ej inte som ikke og jest nie bez oraz brak en "
    "derrame versamento derecho izquierdo droite gauche destro sinistro rechte linke derecha izquierda esquerda"
)

_CHEST_WORDS = _words(
    "lung lungs chest heart cardiac pleural pleura pulmonary mediastinum mediastinal cardiomediastinal thorax thoracic "
    "costophrenic rib ribs hilar hilum hila cardiomegaly pneumothorax pneumonia atelectasis diaphragm hemidiaphragm "
    "cardiopulmonary airspace bibasilar basilar aorta aortic lobe bronchial perihilar intrathoracic emphysema lingula "
    "retrocardiac lobes effusions copd infiltrate infiltrates consolidation pneumoperitoneum hiatal"
)
_OTHER_WORDS = _words(
    "knee knees hip hips ankle foot toe wrist hand finger elbow femur femoral tibia fibula brain cerebral intracranial "
    "cranial liver hepatic kidney kidneys renal gallbladder pancreas uterus ovary ovaries prostate bladder breast "
    "mammogram mammography retina retinal fundus optic sinuses sella lumbar cervical pelvis pelvic colon appendix "
    "fetal fetus thyroid patella patellar joint hippocampus adrenal testis testicular scrotal orbit orbital"
)


@lru_cache(maxsize=8)
def _known(vocabulary: Vocabulary) -> tuple[frozenset[str], frozenset[str]]:
    """Return all words of a vocabulary, and those that prove that a text is English."""
    tables = (vocabulary.findings, vocabulary.predicates, vocabulary.cues, vocabulary.sides, vocabulary.grades)
    phrases = [p for table in (*tables, vocabulary.changes) for ps in table.values() for p in ps]
    phrases += [p for ps, _ in vocabulary.subjects.values() for p in ps]
    words = frozenset(w for p in phrases for w in p.split())
    return words, (words | _ENGLISH) - _ELSEWHERE - _FOREIGN


def _votes(words: Sequence[str], proofs: frozenset[str]) -> tuple[int, int]:
    """Return how many words are English without doubt, and how many are not English without doubt."""
    ours = foreign = 0
    for word in words:
        if word in proofs:
            ours += 1
        elif word in _FOREIGN or not word.isascii():
            # A run of letters of another script may be a whole sentence.
            foreign += 1 + len(word) // 4 * (ord(word[0]) > 0x24F)
    return ours, foreign


def english(text: str, vocabulary: Vocabulary = CHEST) -> bool:
    """Tell by its words whether a text is English; where they prove nothing, it is not.

    A few words that are all of the vocabulary are English ("No pneumothorax").

    Example:
        >>> [english(t) for t in ("No pneumothorax.", "Kein Pneumothorax.", "Sin derrame pleural ni neumotórax.")]
        [True, False, False]
    """
    words = _WORD.findall(text.lower())
    known, proofs = _known(vocabulary)
    ours, foreign = _votes(words, proofs)
    if not ours:
        return not foreign and 0 < len(words) <= _SHORT and all(_in(w, known) for w in words)
    if foreign >= ours:
        return False
    return len(words) <= _SHORT or ours / len(words) >= _LEAST_SHARE


def _in(word: str, known: frozenset[str]) -> bool:
    return word in known or stem(word) in known


def foreign_sentences(text: str, vocabulary: Vocabulary = CHEST) -> Iterator[tuple[int, int]]:
    """Yield where sentences of another language stand in a text that is English as a whole."""
    _, proofs = _known(vocabulary)
    if text.isascii() and _FOREIGN.isdisjoint(_WORD.findall(text.lower())):
        return
    for match in _SENTENCE.finditer(text):
        ours, foreign = _votes(_WORD.findall(match[0].lower()), proofs)
        if foreign and foreign >= ours:
            yield match.span()


def other_body_part(text: str) -> bool:
    """Tell whether a text speaks of parts of the body, and of none of the chest.

    Example:
        >>> [other_body_part(t) for t in ("Knee: small effusion, no fracture.", "No effusion.", "Lungs clear.")]
        [True, False, False]
    """
    words = _WORD.findall(text.lower())
    return not _OTHER_WORDS.isdisjoint(words) and _CHEST_WORDS.isdisjoint(words)
