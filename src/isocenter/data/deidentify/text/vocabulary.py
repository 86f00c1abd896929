"""Words that a clinical text may begin with a capital and that are nobody's name.

Taken from what pydicom carries anyway: the names of all attributes and the meanings of all coded concepts (SNOMED, DCM,
RadLex, UCUM and others of PS3.16), some 9,500 words; and from common words of English prose.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

from pydicom._dicom_dict import DicomDictionary
from pydicom.sr._concepts_dict import concepts

__all__ = ["is_prose", "is_word"]

_WORD = re.compile(r"[^\W\d_]+")
_SMALL = re.compile(r"(?<![\w])[a-zà-ÿ]{2,}(?![\w])")
_LEAST_SMALL, _LEAST_ENGLISH, _LEAST_STEM = 8, 3, 3
_ENGLISH = frozenset(
    [
        "the",
        "of",
        "and",
        "is",
        "was",
        "with",
        "there",
        "are",
        "for",
        "has",
        "his",
        "her",
        "to",
        "at",
        "this",
        "by",
        "from",
    ]
)
_PREFIX = re.compile(
    r"(?:cardio|pneumo|hyper|hypo|peri|retro|bi|multi|non|sub|supra|infra|inter|intra|broncho|chole|osteo|arthro|neuro|angio"
    r"|hepato|spleno|hydro|hemo|haemo|thrombo|post|pre|micro|macro|para|endo|ecto|un|re|over|under|out|in|dis)"
)
# Endings of English and of medicine that names hardly have.
_ENDINGS = re.compile(
    r".{2,}(?:ly|tions?|sions?|osis|oses|itis|ectomy|otomy|ostomy|plasty|scopy|graphy|gram|penia|[aeu]mia|uria|pathy|ness|ment"
    r"|ments|ous|ating|izing|ising|ated|ized|ised|ible|able|ical|ular|ial|ity|ities|ism|ography|oma|omas|algia|trophy|ectasis"
    r"|lysis|stasis|genic|ology|ologist|iatric|ward|wise|less|ful|ive|oid|cele|rrhea|phagia|phasia|plegia|paresis|pnea)"
)
_COMMON = """
able about absent accept according account accounting across actually add adding admit admits advise advised
affected again ago agree agreed agrees alleged almost alone along already although always am among anticipated
anyone anything apart apparently appear appeared appears apply appointment appropriate approximately aren around
arrange arranged arrives asked asks attend attended attends available avoid aware away bad based because become
becoming been began begin being believe below besides best better between beyond big blunting book booked both bring
brings brought bruised but call called calls came can cannot cared carries carry cause causes child children claims
clearing come comes coming complains complete concern concerns condition confirm consider considering continue
continued copy correlate coughing could currently daily decide declined decreasing deny denies depend despite
details develop developing did died difficult discuss discussed discussion dizzy doctor does doing done down drives
drove early eats either else enjoys enough essentially etc evaluate even ever every everyone everything exam examine
examined except expect expected explained extensive falls far fasting feel feels fell felt few final finally find
fine five focused followed following follows found four friend further gave general get gets give given gives goes
going gone good got great grossly had happy has have having he hello hence her here hers him hoping how however if
ill improve improved improving include includes increasing indeed inform informed inside instead intact into issues
item its joined just keep keeps kept kind kindly knew know known knows lack large last later least leave left less
let lets like likely limits listed little live lived lives long look looked looks lost lot lower made mainly major
make makes making many marked married may maybe me mean means meanwhile met might mine minimally minor minute
minutes missed mobile more moreover most mostly move moved much must my near nearly need needed needs neither never
nevertheless new next no nobody none nor notably note noted notes nothing notice noticed now obtain obtained
occasional occurs off offer offered often ok okay old on once one only onset open opinion option options our ours
out outpatient over overall own parents part partial passed past perhaps phone place placed plan planned plans
please plus present presumed prevent previously prior probably produce productive prominent provided puts question
questionable quite ran rather read ready really reason recall received recent recently recheck recommend
redemonstrated redness refer referred refuse refused regards regular remain remained remaining remains remove
removed repeat repeated request requested requires resident resolved resolving rest result retired return returned
review reviewed rotated rule same sat satisfactory saw say says scattered schedule scheduled second see seeing seem
seemed seems seen send sent several shall she short should show showed shown shows sibling similar simple since
single sit skilled sleeps slept slides slight small smoker smokes some someone something soon sore specifically
staff start started states stay stayed still stop stopped streaky strong such suggest suggested suggesting suggests
sure swollen take taken takes taking talk tall tell tender term than thank thanks that the their them then there
therefore these they thing things think third this those though three through throughout thus till times together
told tolerated too took total toward tried tries trip try turn twice two typically unable unchanged under underlying
undergo underwent unfortunately unless unlike until up update upon us use used uses using usual usually vague
various via view visible visit visited wait walk walks want wanted wants warm was watch way ways weak weakness wear
week weeks well went were what when where whereas whether which while whole whom whose why wide wish wishes with
within without woman women work worked working works worse worsening worst would write xray year years yes yesterday
yet you young your patchy bibasilar hyperexpanded hyperinflated multilevel followup preop postop sternotomy
dextroscoliosis levoscoliosis redemonstration bandlike platelike pectus gunshot osteophytes spurring sequela
sequelae cardio shortness lightheaded airspace bariatric homeless enteric biapical perihilar costophrenic
retrocardiac coarse hiatal clips sonogram biopsies cysts nodules masses lesions opacities effusions fractures
segments lobes vessels ducts nodes spaces scans films radiographs sutures staples subtle incidental suspicion
stigmata senescent runny nonsmoker bullae spoke mail brought burning crushing stabbing sharp dull heal healed
sibling lawyer teacher farmer medicare medicaid glenohumeral osteophyte remainder unfolding straightening six seven
eight nine ten complaining expiratory inspiratory nurse builder driver engineer
"""
_COMMON_WORDS = frozenset(_COMMON.split())


@cache
def _clinical() -> frozenset[str]:
    words: set[str] = set()
    for _, _, name, _, _ in DicomDictionary.values():
        words.update(_WORD.findall(name.lower()))
    schemes: dict[str, Any] = concepts
    for by_keyword in schemes.values():
        for codes in by_keyword.values():
            for meaning, *_ in codes.values():
                words.update(_WORD.findall(meaning.lower()))
    return frozenset(words)


def is_word(word: str) -> bool:
    """Tell whether a word, in small letters, is one of language or medicine.

    Example:
        >>> is_word("prostate"), is_word("interpreter"), is_word("quorumby")
        (True, True, False)
    """
    return _ENDINGS.fullmatch(word) is not None or any(
        form in _COMMON_WORDS or form in _clinical() for form in _forms(word)
    )


def _forms(word: str) -> set[str]:
    """Return a word without its endings and without a prefix of medicine."""
    out = {word}
    for ending in ("s", "es", "ed", "d", "ing", "er", "al", "ic"):
        if word.endswith(ending) and len(word) - len(ending) >= _LEAST_STEM:
            stem = word[: -len(ending)]
            out |= {stem, stem + "e", stem[:-1] if stem[-2:-1] == stem[-1:] else stem}
    prefix = _PREFIX.match(word)
    if prefix is not None and len(word) - prefix.end() >= _LEAST_STEM:
        out.add(word[prefix.end() :])
    return out


def is_prose(text: str) -> bool:
    """Tell English sentences from descriptors, and from languages whose nouns wear capitals.

    Example:
        >>> is_prose("There is a nodule of the right lung, and the heart is of normal size.")
        True
        >>> is_prose("Ax T2 FLAIR Propeller")
        False
    """
    small = _SMALL.findall(text)
    return len(small) >= _LEAST_SMALL and len(_ENGLISH.intersection(small)) >= _LEAST_ENGLISH
