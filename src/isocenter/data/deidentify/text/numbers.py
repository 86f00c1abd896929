"""Numbers, addresses of the net and codes that belong to one person, device or visit."""

from __future__ import annotations

import re

__all__ = ["find_emails", "find_ids", "find_labelled_ids", "find_phones", "find_urls"]

_EMAIL = re.compile(r"[\w.+'-]+(?:@|\s?\[at\]\s?|\s\(at\)\s)[\w-]+(?:(?:\.|\s?\[dot\]\s?)[\w-]+)+", re.IGNORECASE)
_URL = re.compile(
    r"\b(?:https?|ftp|sftp|file)://[^\s<>\"')\]]+|\bwww\.[^\s<>\"')\],;]+"
    r"|\b[\w-]+(?:\.[\w-]+)*\.(?:com|org|net|edu|gov|co\.uk|nhs\.uk|ac\.uk|de|es|cn|io|health"
    r"|info)(?:/[^\s<>\"')\],;]*)?(?![\w@-]|\.\w)",
    re.IGNORECASE,
)
_VALUE = r"(?P<v>(?=[\w./-]*\d)[A-Z0-9](?:[\w/-]|\.(?=\w)){2,30}(?:[ ]\d{2,6}(?!\d|[.,/]\d|\s?(?:m[mlg]|cm|%))){0,3})"
_LABEL = (
    r"(?:m\.?r\.?n\.?|mr[ ]?\#|medical[ ]record(?:[ ](?:number|no\.?|num|id))?|med(?:ical)?\.?[ ]rec\.?(?:[ ]no\.?)?"
    r"|(?:hospital|hosp|unit|chart|patient|pt|account|acct|visit|encounter|accession|acc|case|order"
    r"|requisition|req|exam|study"
    r"|specimen|sample|lab|policy|insurance|member|subscriber|group|claim|invoice|licen[cs]e|passport"
    r"|certificate|device"
    r"|serial|referral|admission|booking|episode|report|file|beneficiary|medicare|medicaid|health[ "
    r"]?card|driver'?s[ ]licen[cs]e"
    r"|pager|badge|employee|staff|provider|registration|reg|ticket|reference|protocol[ ]subject"
    r"|trial[ ]subject|subject)"
    r"[ ]?(?:number|no\.?|num\.?|nr\.?|id|identifier|code|\#|№)"
    r"|accession|acc\#?|ssn|s\.s\.n\.?|social[ ]security(?:[ ](?:number|no\.?))?|nhs(?:[ ](?:number"
    r"|no\.?))?|chi(?:[ ]number)?|npi|dea"
    r"|(?:our|your|my)[ ]ref(?:erence)?\.?|ref\.?|lot|batch|gmc|tax[ ]id|s/n|udi|imei|vin|uid|dni|nie"
    r"|nif|nhc|cip|nuhsa|n\.?º?[ ]?(?:de[ ])?historia(?:[ ]cl[ií]nica)?"
    r"|historia(?:[ ]cl[ií]nica)?|expediente|n[úu]mero[ ]de[ ]\w+|patienten-?(?:nummer|nr\.?|id)|fall-?(?:nummer|nr\.?)"
    r"|versicherten-?(?:nummer|nr\.?)|aufnahme-?(?:nummer|nr\.?)|id|病案号|住院号|门诊号|检查号|影像号|登记号|身份证号?码?|病历号|社保号|就诊卡号)"
)
_LABELLED = re.compile(
    rf"(?<![\w])(?i:{_LABEL})[ \t]*(?:[:#=：]|is|no\.?|nº|\(|\s)?[ \t]*[#:]?[ \t]*{_VALUE}", re.IGNORECASE
)
_SHAPES = [
    re.compile(r"(?<![\w-])\d{3}-\d{2}-\d{4}(?![\w-])"),  # SSN
    re.compile(r"(?<![\w-])\d{2}-\d{2}-\d{3,4}(?![\w-])"),
    re.compile(r"(?<=\()\d{5,12}(?=\))"),
    re.compile(r"(?<![\w.-])\d{3}[ ]\d{3}[ ]\d{4}(?![\w-]|\.\d|[ ]?m)"),  # NHS
    re.compile(r"(?<![\w.-])\d{8}-?[A-HJ-NP-TV-Z](?![\w-])|(?<![\w.-])[XYZ]-?\d{7}-?[A-Z](?![\w-])"),  # DNI, NIE
    re.compile(r"(?<!\d)\d{17}[\dXx](?!\d)"),  # Chinese resident identity
    re.compile(r"(?<![\w.])[0-2](?:\.(?:0|[1-9]\d*)){5,}(?!\w|\.\d)"),  # UID
    re.compile(r"(?<![\w-])[0-9a-fA-F]{8}-(?:[0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}(?![\w-])"),  # UUID
    re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?!\w|\.\d)"),  # IPv4
    re.compile(r"(?<![\w.])(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}(?![\w:])"),  # MAC
    re.compile(r"(?<![\w./-])\#?[A-Z]{1,6}-?\d{5,}(?:[-/]\w+)*(?![\w])"),
    re.compile(r"(?<![\w./-])[A-Z]{1,5}-\d{2,4}-\d{3,}(?![\w])"),
    re.compile(r"(?<![\w./-])[A-Z]{1,3}\d{2}-\d{3,}(?![\w])"),
    re.compile(r"(?<![\w./-])\d{2,4}-[A-Z]{1,4}-\d{3,}(?![\w])"),
    re.compile(r"(?<![\w./-])\d{2,4}-\d{4,}(?:-\d+)?(?![\w-]|\.\d)"),
    re.compile(r"(?<![\w.,/+-])\#?\d{7,}(?:-\d+)?(?![\w.,]\d|\w|\s?(?:HU|m[lg]|cells|copies|IU|U/))"),
    re.compile(r"(?<![\w./-])(?=(?:[A-Z]*\d){4})(?=[A-Z0-9]*[A-Z][A-Z0-9]*[A-Z])[A-Z0-9]{8,}(?![\w])"),
]
_PHONE = [
    re.compile(
        (
            r"(?<![\w.])\+\d{1,3}[\s.-]?(?:\(0?\d{1,4}\)[\s.-]?)?\d{1,5}(?:[\s./-]?\d{2,5}){1,5}(?:\s?(?:e"
            r"xt|x|Durchwahl|-)\.?\s?\d{1,5})?(?![\w])"
        ),
        re.IGNORECASE,
    ),
    re.compile(
        r"(?<![\w.+-])(?:1[\s.-])?\(\d{3}\)[\s.-]?\d{3}[\s.-]?\d{4}(?:\s?(?:ext|x)\.?\s?\d{1,6})?(?!\d)", re.IGNORECASE
    ),
    re.compile(r"(?<![\w.+-])(?:1[\s.-])?\d{3}([.-])\d{3}\1\d{4}(?:\s?(?:ext|x)\.?\s?\d{1,6})?(?!\d)", re.IGNORECASE),
    re.compile(r"(?<![\w.+-])\d{3}[/ ]\d{3}[- ]\d{4}(?![\w-]|\.\d)"),
    re.compile(r"(?<![\w.+/-])\d{3}-\d{4}(?![\w-])"),
    re.compile(r"(?<![\w.])0\d{2,5}[\s/-]\d{3,8}(?:[\s-]?\d{2,6}){0,2}(?![\w/])"),
    re.compile(r"(?<![\w.])[6789]\d{2}[ ]\d{3}[ ]\d{3}(?![\w])|(?<![\w.])9\d[ ]\d{3}[ ]\d{2}[ ]\d{2}(?![\w])"),
    re.compile(r"(?<!\d)1[3-9]\d[ -]?\d{4}[ -]?\d{4}(?!\d)"),
    re.compile(
        r"(?<![\w])(?:tel(?:e(?:phone|fon)|éfono)?|phone|ph|fax|mobile|cell|mob|pager|bleep|beeper"
        r"|ext(?:ension)?|call(?:\s+back)?|contact"
        r"|m[óo]vil|handy|durchwahl|电话|手机|联系电话|传真)\.?(?:\s+(?:number|no\.?|at|is"
        r"|on))?\s*[:#：]?\s*(?P<v>\+?[\d(][\d\s().x/-]{2,20}\d)",
        re.IGNORECASE,
    ),
]


def find_emails(text: str) -> list[tuple[int, int]]:
    """Return where addresses of mail stand."""
    if "@" not in text and "at" not in text:
        return []
    return [hit.span() for hit in _EMAIL.finditer(text)]


def find_urls(text: str) -> list[tuple[int, int]]:
    """Return where addresses of the net stand."""
    if "." not in text:
        return []
    return [(hit.start(), hit.end() - (hit[0][-1] in ".,;:")) for hit in _URL.finditer(text)]


def find_phones(text: str) -> list[tuple[int, int]]:
    """Return where numbers of telephones, faxes and pagers stand."""
    return [hit.span("v" if "v" in rule.groupindex else 0) for rule in _PHONE for hit in rule.finditer(text)]


def find_labelled_ids(text: str) -> list[tuple[int, int]]:
    """Return where numbers stand behind a label (MRN, accession, SSN, NHS number and so on)."""
    return [hit.span("v") for hit in _LABELLED.finditer(text)]


def find_ids(text: str) -> list[tuple[int, int]]:
    """Return where numbers stand that have the shape of a name for a person, a visit, an object or a device."""
    out: list[tuple[int, int]] = []
    for rule in _SHAPES:
        out += [hit.span() for hit in rule.finditer(text)]
    return out
