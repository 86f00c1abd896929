"""Names of persons in free text: behind titles and labels, before credentials, and where two words look like a name."""

from __future__ import annotations

import re

from isocenter.data.deidentify.text.vocabulary import is_prose, is_word
from isocenter.data.deidentify.text.words import EPONYMS, FIRST_NAMES, NOT_NAMES, SURNAMES

__all__ = ["find_names"]

_UP = "A-ZÀ-ÖØ-ÞĀĂĄĆČĎĐĒĘĚĞĢİĶĹĽŁŃŇŌŐŒŘŚŞŠŢŤŪŮŰŹŻŽ"
_LOW = "a-zß-öø-ÿāăąćčďđēęěğģıķĺľłńňōőœřśşšţťūůűźżž"
# One word of a name: Mary, O'Neil, McDonald, Jean-Luc, an initial with or without full stop.
_WORD = (
    rf"(?:(?:[{_UP}]['’])?[{_UP}][{_LOW}]+(?:[{_UP}][{_LOW}]+)?(?:['’-](?:[{_UP}]['’])?[{_UP}]?["
    rf"{_LOW}]+(?:[{_UP}][{_LOW}]+)?)*|[{_UP}]['’][{_UP}][{_LOW}]+)"
)
_SHOUT = rf"[{_UP}]['’]?[{_UP}]+(?:['’-][{_UP}]+)*"
_INITIAL = rf"[{_UP}](?:\.|(?![{_LOW}{_UP}'’]))"
_PARTICLE = r"(?:(?:van|von|de|del|della|der|den|dos|da|di|la|las|los|el|al|bin|ibn|abu|zu|y|ter|ten|le|du|st\.)[ -])"
_GAP = r"[ \t]{1,2}"
_NAME = (
    rf"(?:{_INITIAL}(?:{_GAP})?){{0,2}}{_PARTICLE}{{0,2}}{_WORD}(?:{_GAP}(?:{_PARTICLE}{{0,2}}(?:"
    rf"{_WORD})|{_INITIAL})){{0,3}}"
)
_NAME_OR_SHOUT = rf"(?:{_NAME}|(?:{_INITIAL}(?:{_GAP})?){{0,2}}{_SHOUT}(?:{_GAP}(?:{_SHOUT}|{_INITIAL})){{0,3}})"
_LISTED = (
    rf"{_PARTICLE}{{0,2}}(?:{_WORD}|{_SHOUT})(?:{_GAP}(?:{_WORD}|{_SHOUT}))?[,^][ ]?(?:{_WORD}"
    rf"|{_SHOUT})(?:[ ^](?:{_WORD}|{_SHOUT}|{_INITIAL}|\({_INITIAL}\))){{0,2}}"
)
_TITLE = (
    r"(?:Drs?|Doctor|Docteur|Prof|Professor|Mrs?|Ms|Miss|Mx|Messrs|Sir|Dame|Lord|Lady|Rev|Sister|Fr"
    r"|Nurse|Matron|Capt|Sgt"
    r"|Sra?|Srta|Dra|Don|Doña|Señora?|Herrn?|Frau|Fräulein|Hr|Fr|Madame|Monsieur|Mme"
    r"|DR|MRS?|MS|PROF|DOCTOR)"
)
_CREDENTIAL = (
    r"(?:M\.?D\.?|D\.?O\.?|R\.?N\.?|Ph\.?D\.?|N\.?P\.?|P\.?A\.?(?:-C)?|FRCR|FRCS|FRCP|MRCP|MBBS|MBChB"
    r"|MB\s?BCh|FACR|FACS|CRNA"
    r"|RT(?:\s?\(R\))?|R\.?T\.?\(R\)|DDS|DMD|DPM|ARNP|APRN|CNM|LPN|BSN|MPH|MSc|FFR|Dr\.?\s?med\.?|M\.?B\.?)"
)
_LABEL = (
    r"(?:(?:patient|pt|full|first|last|given|family|sur|maiden|mother'?s|father'?s|next of kin|contact|client|subject)"
    r"(?:['’]s)?[ _-]?name|name|patient|pt|paciente|nombre(?:s)?(?:\s+y\s+apellidos)?|apellidos"
    r"|patientin|name der patientin"
    r"|referr(?:ing|ed)(?:\s+(?:by|physician|provider|doctor|clinician))?|attending(?:\s+(?:physician|radiologist|md))?"
    r"|(?:ordering|requesting|reporting|interpreting|reading|primary care|family|performing"
    r"|consulting|admitting|treating)"
    r"\s+(?:physician|provider|doctor|radiologist|clinician|practitioner|consultant)|physician"
    r"|provider|radiologist|surgeon"
    r"|consultant|resident|fellow|registrar|sonographer|technologist|radiographer|technician|operator|nurse|gp|pcp|tech"
    r"|(?:dictat|transcrib|sign|report|review|verif|approv|authenticat|interpret|prepar|perform"
    r"|authoris|authoriz|finaliz"
    r"|request|order|refer|check|complet|enter|witness|typ|validat|inform|firmad|realizad)(?:ed|en"
    r"|ied|o|ten)?(?:\s+(?:and|&)"
    r"\s+\w+ed)?(?:\s+electronically)?\s+(?:by|por)|electronically\s+signed(?:\s+by)?|e-?signed(?:\s+by)?|signed|author"
    r"|informado por|firmado(?:\s+por)?|médico(?:\s+\w+)?|solicitante|befundet von|überweiser|zuweiser|arzt|ärztin"
    r"|unterzeichnet|gez\.?|cc|re|regarding|attn|attention|to|from|dear|copy to|emergency contact"
    r"|contact person|contact|guardian|spouse|next of kin|nok"
    r"|witness|read(?:\s+by)?|approved|verified|reviewed|finali[sz]ed|dictated|transcribed|reported"
    r"|performed|authenticated)"
)
_CUE = (
    r"(?:discussed\s+with|communicated\s+(?:to|with)|(?:called|phoned|paged|conveyed|relayed|reported"
    r"|given|telephoned|faxed"
    r"|sent|emailed|handed|addressed|forwarded|shown)\s+(?:\w+\s+){0,3}?(?:to|with)|spoke\s+(?:to"
    r"|with)|informed|notified"
    r"|(?:seen|read|reviewed|performed|dictated|requested|referred|interpreted|reported|signed"
    r"|verified|accompanied|obtained"
    r"|provided|witnessed|transcribed|approved|acknowledged|confirmed|supervised|administered|placed|inserted|operated"
    r"|assisted|ordered)\s+(?:\w+\s+){0,2}?by|under\s+the\s+care\s+of|care\s+of|attention\s+of|"
    r"(?:wife|husband|son|daughter|mother|father|brother|sister|partner|spouse|niece|nephew|aunt"
    r"|uncle|neighbour|neighbor"
    r"|carer|caregiver|guardian|friend|cousin|grandson|granddaughter)(?:\s*,|\s+(?:is|named|called))?"
    r"|named|my\s+colleague|yours\s+sincerely,?|kind\s+regards,?|regards,?|sincerely,?|thanks,?|thank\s+you,?"
    r"|(?:la|el)\s+paciente|(?:der|die)\s+patientin?|comentado\s+con|besprochen\s+mit|vista?\s+por|remitid[oa]\s+por)"
)
_SUFFIX = r"(?:,?[ ]?(?:Jr|Sr|JR|SR|II|III|IV)\b\.?)?"
_TITLED = rf"(?:{_TITLE}(?:\.[ ]?|[ ]))?"
_BOTH = rf"(?P<n>(?:{_LISTED}|{_NAME_OR_SHOUT}){_SUFFIX})"
_DOES = (
    r"(?:presented|presents|attended|returned|complain(?:s|ed)|reports|reported|denies|was[ ](?:seen"
    r"|admitted|referred|informed"
    r"|discharged|transferred|brought|called|notified|scanned)|is[ ]an?[ ]\d|who[ ]|lives|has[ ]been[ ]\w+ed)"
)
_OF_FAMILY = r"(?:wife|husband|son|daughter|mother|father|family|partner|carer|GP|sister|brother|room|chart|case)"
_RULES = [
    # Dr Jane Roe; Prof. Dr. med. Roe; Nurse Roe
    re.compile(
        rf"(?<![\w])(?:{_TITLE}(?:\s?med\.?)?(?:\.(?:{_GAP})?|{_GAP})(?:{_TITLE}(?:\.(?:{_GAP})?"
        rf"|{_GAP}))?)(?P<n>{_NAME_OR_SHOUT}{_SUFFIX})"
    ),
    # Jane Roe, MD; Jane Roe FRCR; Roe, Jane, MD; JANE ROE, MD
    re.compile(rf"(?<![\w'’])(?P<n>{_NAME}{_SUFFIX})(?:,[ ]{{0,2}}|[ ]{{1,2}})(?={_CREDENTIAL}(?![\w]))"),
    re.compile(rf"(?<![\w'’])(?P<n>{_LISTED}|{_NAME_OR_SHOUT}{_SUFFIX}),[ ]{{0,2}}(?={_CREDENTIAL}(?![\w]))"),
    # Radiologist: Jane Roe; Patient name - ROE, JANE
    re.compile(rf"(?<![\w])(?i:{_LABEL})\s*(?::|=|#|\t|\s-\s)[ \t]*(?:\r?\n[ \t]*)?{_TITLED}{_BOTH}"),
    # NAME Jane Roe, with capitals or a gap in place of the colon
    re.compile(
        rf"(?m)(?:^|[\t|]|[ ]{{2}})(?:NAME|Name|PATIENT|PT|Pt|PROVIDER|Physician)[ "
        rf"]+{_TITLED}{_BOTH}(?=[ ]{{2}}|\t|\s*$|[ ]?[|(,;])"
    ),
    re.compile(rf"(?<![\w])(?i:dear|hi|hello|cc)[ ]+{_TITLED}(?P<n>{_NAME})(?=\s*[,:\n])"),
    re.compile(rf"(?<![\w])(?i:{_CUE})(?:\s+|\s*\([ ]?){_TITLED}(?P<n>{_LISTED}|{_NAME})"),
    # Jane Roe's daughter; Jane Roe presented
    re.compile(
        rf"(?<![\w'’])(?P<n>{_WORD}{_GAP}(?:{_INITIAL}{_GAP})?(?:{_PARTICLE}{{0,2}}{_WORD}))(?=['’]s[ "
        rf"]{_OF_FAMILY}\b|[ ]{_DOES})"
    ),
    # Jane Roe (DOB 1/2/1950); Pt Roe slept
    re.compile(rf"(?<![\w'’])(?P<n>{_NAME})(?=[ ]*\([ ]?(?:DOB|D\.O\.B|born|MRN|NHS|aged|\*|#|\d{{2}}))"),
    re.compile(rf"(?<![\w])(?:Pt|pt)\.?[ ](?P<n>{_WORD})(?=[ ][{_LOW}])"),
    # Patient Jane Roe, born; finalized by Jane Roe; NP Roe
    re.compile(rf"(?<![\w])(?:Patient|Pt|patient|client|RN|NP|PA)[ ](?P<n>{_WORD}{_GAP}(?:{_INITIAL}{_GAP})?{_WORD})"),
    re.compile(rf"(?<![\w])\w+(?:ed|en|ten)[ ]by[ ](?P<n>{_WORD}{_GAP}(?:{_INITIAL}{_GAP})?{_WORD}|{_LISTED})"),
    # a signature on a line of its own
    re.compile(rf"(?m)(?:^[ \t]*(?:--?|—|~|/e?s/)[ \t]*)(?P<n>{_NAME_OR_SHOUT})[ \t.]*$"),
]
_NEXT = re.compile(rf"(?:[ ]?[;/&][ ]?|[ ](?:and|und|y)[ ]){_TITLED}(?P<n>{_LISTED}|{_NAME})")
_BY = re.compile(rf"(?<![\w])\w+(?:ed|en|ten)[ ]by[ ](?P<n>{_WORD})(?![\w-])")
_PAIR = re.compile(
    rf"(?<![\w'’])(?P<a>{_WORD}){_GAP}(?:{_INITIAL}{_GAP})?(?P<b>{_PARTICLE}{{0,2}}{_WORD}(?:-{_WORD})?"
    rf")(?:{_GAP}(?P<c>{_WORD}))?"
)
_COMMA = re.compile(rf"(?<![\w'’])(?P<a>{_WORD}|{_SHOUT}),[ ](?P<b>{_WORD}|{_SHOUT})(?:[ ]{_INITIAL})?(?![\w'’])")
_CARET = re.compile(rf"(?<![\w^])[{_UP}{_LOW}'’-]+\^[{_UP}{_LOW}'’-]+(?:\^[\w'’-]*)*")
# Any label of one to three words with a colon, before two words that are no terms.
_ANY_LABEL = re.compile(rf"(?<![\w])[{_UP}][\w/]+(?:[ ][\w/]+){{0,2}}:[ \t]*(?P<n>{_LISTED}|{_NAME})")
_LONE = re.compile(rf"(?<=[{_LOW},(][ (])(?P<a>{_WORD})(?![\w-])(?!['’]s[ ]|[ ]?\d|[ ][IVX]+\b)")
_CAPITAL = re.compile(rf"(?<![\w.'’/-])(?P<a>{_WORD})(?![\w/]|['’]s[ ]|-\d|[ ]?\d)")
# A line that has small words is a sentence, not a title.
_TITLE_LINE = re.compile(r"(?<![\w])[a-zà-ÿ]{2,}(?:[ ,.;]+[^\s]+){0,3}?[ ][a-zà-ÿ]{2,}(?![\w])")
_SINGLE = re.compile(
    rf"(?<![\w'’-])(?P<a>{_WORD})(?=['’]s\s+(?:wife|husband|son|daughter|mother|father|room|chart|gp"
    rf"|care|case|family)\b)"
)
_MADE_OF = re.compile(r"[\s,.^_-]+")

_ZH_SURNAMES = (
    "王李张刘陈杨黄赵周吴徐孙马朱胡郭何林高罗郑梁谢宋唐许韩冯邓曹彭曾肖田董袁潘于蒋蔡余杜叶程苏魏吕丁任沈姚卢姜崔钟谭陆汪范金石廖贾夏韦付方白邹孟熊秦邱江尹薛"
    "闫段雷侯龙史陶黎贺顾毛郝龚邵万钱严覃武戴莫孔向汤"
)
_ZH = [
    re.compile(
        r"(?:姓\s*名|患者|病人|病患|联系人|家属|报告医[生师]|审核医[生师]|申请医[生师]|诊断医[生师]|检查医[生师]|主治医[生师]|医[生师]|技师"
        r"|护士)\s*[:：]\s*(?P<n>[\u4e00-\u9fff]{2,4}(?:[·•][\u4e00-\u9fff]{1,6})?)"
    ),
    re.compile(
        rf"(?P<n>(?:欧阳|司马|上官|诸葛|[{_ZH_SURNAMES}])[\u4e00-\u9fff]{{0,2}})(?=(?:主任|副主任|教授|医生|医师|大夫|护士|先生|女士|小姐|同志|技师))"
    ),
    re.compile(
        rf"(?:患者|病人)(?P<n>(?:欧阳|司马|上官|诸葛|[{_ZH_SURNAMES}])[\u4e00-\u9fff]{{1,2}})(?=[,，、。\s(（]|男|女)"
    ),
]


def find_names(text: str) -> list[tuple[int, int]]:
    """Return where names of persons stand.

    Titles, labels, credentials and phrases that a person follows decide first. Two capital words count as a name where
    one is a common first name, where both are no terms inside a sentence, and before a common surname.
    """
    sure: list[tuple[int, int]] = []
    for rule in _RULES:
        for hit in rule.finditer(text):
            span = _trimmed(text, *hit.span("n"))
            if span is not None:
                sure.append(span)
    sure += [span for start, end in tuple(sure) for span in _next_in_list(text, end)]
    # "HEAD^ROUTINE" is how one maker names its protocols.
    carets = (hit for hit in _CARET.finditer(text) if not any(_plain(w) in NOT_NAMES for w in _MADE_OF.split(hit[0])))
    sure += [hit.span() for hit in carets]
    out = sure + _again(text, sure)
    for hit in _PAIR.finditer(text):
        span = _pair(text, hit)
        if span is not None:
            out.append(span)
    for hit in _COMMA.finditer(text):
        first, second = _plain(hit["a"]), _plain(hit["b"])
        if second in FIRST_NAMES and first not in NOT_NAMES and (first not in EPONYMS or first in SURNAMES):
            out.append(hit.span())
    out += _labelled(text) + (_bare(text) if is_prose(text) else _lone(text))
    out += [hit.span("n") for hit in _BY.finditer(text) if _unknown(_plain(hit["n"]))]
    out += [hit.span("a") for hit in _SINGLE.finditer(text) if _plain(hit["a"]) not in NOT_NAMES]
    if not text.isascii():
        out += [hit.span("n") for rule in _ZH for hit in rule.finditer(text)]
    return out


def _labelled(text: str) -> list[tuple[int, int]]:
    """Return two or more words behind any label, none of which is a term."""
    out = []
    for hit in _ANY_LABEL.finditer(text):
        words = [_plain(word) for word in _MADE_OF.split(hit["n"]) if len(word) > 1]
        if len(words) >= 2 and not hit["n"].isupper() and all(_unknown(word) or word in SURNAMES for word in words):
            out.append(hit.span("n"))
    return out


def _lone(text: str) -> list[tuple[int, int]]:
    """Return capital words inside a sentence of small letters that are no term, no eponym and nowhere written small."""
    out = []
    for hit in _LONE.finditer(text):
        word = _plain(hit["a"])
        if not _unknown(word) or not _inside_sentence(text, hit.start()) or _BEHIND_WORD.match(text, hit.end()):
            continue
        if re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", text) is None:
            out.append(hit.span("a"))
    return out


def _bare(text: str) -> list[tuple[int, int]]:
    """Return capital words of prose that are no words of language or medicine, wherever they stand.

    Sentences may begin with any word, so this needs a vocabulary; descriptors in capital words are not prose.
    """
    out = _lone(text)
    for hit in _CAPITAL.finditer(text):
        word = _plain(hit["a"])
        parts = [part for part in re.split(r"['’-]", word) if len(part) > 1]
        if not _unknown(word) or any(is_word(part) or part in EPONYMS for part in parts):
            continue
        if _BEHIND_WORD.match(text, hit.end()) or _TITLE_LINE.search(_line(text, hit.start())) is None:
            continue
        if re.search(rf"(?<![\w]){re.escape(word)}(?![\w])", text) is None:
            out.append(hit.span("a"))
    return out


def _line(text: str, place: int) -> str:
    """Return the line around a place."""
    end = text.find("\n", place)
    return text[text.rfind("\n", 0, place) + 1 : end if end >= 0 else len(text)]


def _next_in_list(text: str, end: int) -> list[tuple[int, int]]:
    """Return names that follow one that is sure, behind a semicolon or "and"."""
    out: list[tuple[int, int]] = []
    hit = _NEXT.match(text, end)
    while hit is not None and len(out) < 8:
        span = _trimmed(text, *hit.span("n"))
        if span is None or _BEHIND_WORD.match(text, span[1]) or _plain(text[span[0] : span[1]]) in EPONYMS:
            break
        out.append(span)
        hit = _NEXT.match(text, span[1])
    return out


def _again(text: str, sure: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Return where words of names that are sure stand once more, without title or label.

    An eponym before a word for a disease, a sign or an instrument is none of them.
    """
    words: set[str] = set()
    for start, end in sure:
        for word in _MADE_OF.split(text[start:end]):
            plain = _plain(word)
            if len(plain) >= 3 and plain not in NOT_NAMES and not plain.isdigit():
                words.add(plain)
    if not words:
        return []
    spelled = "|".join(re.escape(word) for word in sorted(words, key=lambda w: (-len(w), w)))
    again = re.compile(rf"(?<![\w])(?:{spelled})(?![{_UP}{_LOW}\d_])", re.IGNORECASE)
    found = ((hit.start(), hit.end()) for hit in again.finditer(text) if hit[0][0].isupper() or not hit[0][0].isascii())
    return [span for span in found if not _BEHIND_WORD.match(text, span[1])]


def _plain(word: str) -> str:
    return word.lower().replace("’", "'").strip("'.,")


def _trimmed(text: str, start: int, end: int) -> tuple[int, int] | None:
    """Cut words that are terms from the end of what looks like a name; None where nothing is left."""
    words = [(hit.start() + start, hit.end() + start) for hit in re.finditer(r"[^\s,^]+", text[start:end])]
    for place, (begin, stop) in enumerate(words):
        word = _plain(text[begin:stop])
        if len(word) > 1 and word in NOT_NAMES and not (place and word in SURNAMES):
            words = words[:place]
            break
    while words and len(_plain(text[words[-1][0] : words[-1][1]])) == 0:
        words.pop()
    if not words:
        return None
    stop = words[-1][1]
    while stop > words[0][0] and text[stop - 1] in ",.;:" and not (text[stop - 1] == "." and stop - words[-1][0] == 2):
        stop -= 1
    only = text[words[0][0] : stop]
    return None if len(only.strip(".'’ ")) < 2 else (words[0][0], stop)


def _pair(text: str, hit: re.Match[str]) -> tuple[int, int] | None:
    first, second = _plain(hit["a"]), _plain(hit["b"].split()[-1])
    third = _plain(hit["c"]) if hit["c"] else ""
    if first in FIRST_NAMES and first not in NOT_NAMES and second not in NOT_NAMES and second not in _BEHIND:
        return hit.start(), hit.end("c") if third in SURNAMES else hit.end("b")
    if second in FIRST_NAMES and third and third not in NOT_NAMES and third not in _BEHIND and second not in NOT_NAMES:
        return hit.start("b"), hit.end("c")
    if _unknown(first) and _unknown(second) and not third and _inside_sentence(text, hit.start()):
        return hit.start(), hit.end("b")
    if second in SURNAMES and first not in NOT_NAMES and first not in EPONYMS and second not in EPONYMS and not third:
        return hit.start(), hit.end("b")
    return None


def _unknown(word: str) -> bool:
    """Tell whether a word is neither a term nor an eponym."""
    return len(word) > 2 and word not in NOT_NAMES and word not in EPONYMS and word not in _BEHIND


def _inside_sentence(text: str, start: int) -> bool:
    """Tell whether a place is inside a sentence of small letters: not behind a full stop, and not in a title."""
    before = text[max(0, start - 60) : start].split("\n")[-1]
    words = re.findall(r"[^\W\d_]+", before)
    return (
        before.rstrip()[-1:] not in (".", ":", "!", "?", "")
        and bool(words)
        and all(word[0].islower() for word in words[-2:])
    )


_BEHIND_WORD = re.compile(
    r"(?:['’]s)?[ ](?:disease|syndrome|sign|cyst|lymphoma|nodes?|classification|score|grade|ring|duct"
    r"|tumou?r|fracture|angle|lines?"
    r"|criteria|procedure|operation|catheter|tube|drain|test|phenomenon|abscess|hernia|lesion|deformity|contracture"
    r"|man(?:oeuvre|euver)|type|class|stage|pouch|space|plate|screw|nail|wire|stent|filter|valve|graft|flap|fascia|ligament"
    r"|membrane|muscle|artery|vein|nerve|canal|foramen|fossa|sinus|gland|body|bodies|cells?|layer|tubercle|island|area"
    r"|aphasia|palsy|paralysis|chorea|ataxia|dementia|encephalopathy|an[a]?emia|thyroiditis|arteritis|malformation"
    r"|anomaly|tetralogy|position|incision|approach|technique|method|protocol|dissection|aneurysm|infection|virus"
    r"|barr virus|index|ratio|formula|equation|scale|staging|system|stain|bandage|splint|collar|needle|clip|coil)\b"
)
_BEHIND = frozenset(
    [
        "disease",
        "syndrome",
        "sign",
        "cyst",
        "lymphoma",
        "node",
        "nodes",
        "classification",
        "score",
        "grade",
        "ring",
        "duct",
        "tumor",
        "tumour",
    ]
)
