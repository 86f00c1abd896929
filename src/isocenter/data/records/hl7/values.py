"""One OBX to what it says: a text for the report, or a record."""

from __future__ import annotations

import base64
import binascii
import math
import re
from dataclasses import dataclass

from isocenter.data.records.hl7.message import Segment
from isocenter.data.records.markup import plain_text
from isocenter.data.records.moments import hl7_moment

__all__ = ["Value", "coded", "document", "section_of", "values_of"]

_LINES = ("TX", "FT")
_SECTIONS = {
    "IMP": "impression", "GDT": "findings", "ADT": "addendum", "REC": "recommendation", "ANT": "addendum",
    "CNP": "consultant", "TCM": "technique", "MDT": "mammography",
    "59776-5": "findings", "18782-3": "findings", "19005-8": "impression", "55110-1": "impression",
    "18834-2": "comparison", "55114-3": "prior procedures", "55111-9": "technique", "18785-6": "indication",
    "55115-0": "request", "55752-0": "clinical information", "11329-0": "history", "18783-0": "recommendation",
    "55107-7": "addendum", "55113-5": "key images", "121070": "findings", "121072": "impression",
    "121076": "impression", "121060": "history", "121109": "indication", "121064": "technique",
    "121049": "language",
}  # fmt: skip
"""Suffixes of HL7 v2.3 (7.2.2), LOINC section codes (RAD, CDA diagnostic imaging report), DICOM CID 7001."""
_WORDS = {
    "finding": "findings", "findings": "findings", "impression": "impression", "impressions": "impression",
    "conclusion": "impression", "addendum": "addendum", "technique": "technique", "comparison": "comparison",
    "indication": "indication", "clinical history": "history", "history": "history",
    "recommendation": "recommendation", "recommendations": "recommendation", "procedure": "technique",
    "befund": "findings", "beurteilung": "impression", "fragestellung": "indication", "hallazgos": "findings",
    "impresión": "impression", "conclusión": "impression", "résultats": "findings", "conclusions": "impression",
}  # fmt: skip
_NUMBER = re.compile(r"[-+]?(\d+(\.\d*)?|\.\d+)([eE][-+]?\d+)?")


@dataclass(frozen=True)
class Value:
    """A value as a record takes it.

    Args:
        number: A number.
        text: Words.
        code: (system, code).
        moment: A date or a moment, ISO 8601.
    """

    number: float | None = None
    text: str = ""
    code: tuple[str, str] | None = None
    moment: str = ""


def coded(segment: Segment, repetition: str) -> tuple[str, str, str]:
    r"""Return (code, system, words) of a CE, CWE or CNE; of two codings the one of LOINC or SNOMED.

    Example:
        >>> from isocenter.data.records.hl7.message import Delimiters
        >>> obx = Segment("OBX", (), Delimiters("|", "^", "~", "\\", "&"))
        >>> coded(obx, "GLU^Glucose^L^2345-7^Glucose SerPl^LN")
        ('2345-7', 'LN', 'Glucose SerPl')
    """
    one = [segment.component(repetition, n) for n in (1, 3, 2)]
    other = [segment.component(repetition, n) for n in (4, 6, 5)]
    chosen = other if other[0] and (not one[0] or (other[1] in ("LN", "SCT") and one[1] not in ("LN", "SCT"))) else one
    original = segment.component(repetition, 9)
    words = chosen[2] or one[2] or original
    return chosen[0] or words, chosen[1], words


def section_of(obx: Segment) -> str:
    r"""Return the name of the section that an OBX's text belongs to; "" for none.

    Example:
        >>> from isocenter.data.records.hl7.message import parse_message
        >>> m = parse_message(b"MSH|^~\\&|\rOBX|1|TX|71020&IMP^Chest||Clear.\rOBX|2|FT|59776-5^Findings^LN||x\r")
        >>> [section_of(s) for s in m.segments[1:]]
        ['impression', 'findings']
    """
    repetition = obx.raw(3)
    suffix = obx.component(repetition, 1, 2)
    for known in (suffix, obx.component(repetition, 1), obx.component(repetition, 4)):
        if known.upper() in _SECTIONS:
            return _SECTIONS[known.upper()]
    for number in (2, 5, 1):
        words = obx.component(repetition, number)
        if words.casefold() in _WORDS:
            return _WORDS[words.casefold()]
    words = obx.component(repetition, 2) or obx.component(repetition, 5)
    return words.lower()


def values_of(obx: Segment) -> tuple[list[Value], str]:
    """Return the values of an OBX that is no text of a report, and what is wrong with it ("" for nothing)."""
    kind = obx.text(2).upper()
    read = {
        "NM": _number, "SN": _structured, "CE": _code, "CWE": _code, "CNE": _code, "CF": _code, "DT": _moment,
        "TS": _moment, "DTM": _moment, "TM": _time, "ST": _words, "TX": _words, "FT": _words, "IS": _words,
        "ID": _words, "HD": _words, "SI": _number,
    }.get(kind)  # fmt: skip
    if read is None:
        return [], f"a value of type {kind if re.fullmatch('[A-Z]{2,3}', kind) else 'none'} is not read"
    out = []
    for repetition in obx.repetitions(5):
        value = read(obx, repetition)
        if value is None:
            return [], f"the value is none of its type {kind}"
        out.append(value)
    return out, ""


def document(obx: Segment) -> tuple[str, str]:
    """Return the text of encapsulated data (ED), and what is wrong with it.

    Source:
        HL7 v2.5.1, 2.A.24: source application, type of data, subtype, encoding, data.
    """
    repetition = obx.raw(5)
    kind, subtype, encoding = (obx.component(repetition, n).casefold() for n in (2, 3, 4))
    body = repetition.split(obx.marks.component)[4:]
    data = obx.unescape(obx.marks.component.join(body))
    known = "html" in subtype or "html" in kind, subtype in ("", "plain", "text", "txt", "ascii") or "plain" in kind
    if not any(known):
        told = subtype if subtype in ("pdf", "rtf", "jpeg", "png", "tiff", "xml", "dicom") else "of another type"
        return "", f"an encapsulated document ({told}) is not read; send its text as TX or FT"
    if encoding == "base64":
        try:
            raw = base64.b64decode("".join(data.split()), validate=True)
            data = raw.decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            return "", "an encapsulated document is no base64 of UTF-8 text"
    elif encoding not in ("a", ""):
        return "", "an encapsulated document's encoding is not read; send it as base64"
    return (plain_text(data) if known[0] else data), ""


def _number(obx: Segment, repetition: str) -> Value | None:
    text = obx.component(repetition, 1)
    if not _NUMBER.fullmatch(text) or not math.isfinite(float(text)):
        # Laboratories send "<5" as NM, against the standard; as a text it misleads nobody.
        return Value(text=text) if re.fullmatch(r"[<>]=? ?" + _NUMBER.pattern, text) else None
    return Value(float(text))


def _structured(obx: Segment, repetition: str) -> Value | None:
    comparator, one, separator, other = (obx.component(repetition, n) for n in (1, 2, 3, 4))
    if comparator in ("", "=") and not separator and not other:
        return _number(obx, f"{one}") if _NUMBER.fullmatch(one) else None
    text = f"{'' if comparator == '=' else comparator}{one}{separator}{other}"
    return Value(text=text) if text else None


def _code(obx: Segment, repetition: str) -> Value | None:
    code, system, words = coded(obx, repetition)
    return Value(text=words or code, code=(system, code)) if code else None


def _moment(obx: Segment, repetition: str) -> Value | None:
    found = hl7_moment(obx.component(repetition, 1))
    return Value(moment=found) if found else None


def _time(obx: Segment, repetition: str) -> Value | None:
    text = obx.component(repetition, 1)
    found = re.fullmatch(r"([01]\d|2[0-3])([0-5]\d)?([0-5]\d)?(\.\d{1,4})?([+-]\d{4})?", text)
    if found is None:
        return None
    return Value(text=":".join(part for part in (found[1], found[2] or "00", found[3]) if part))


def _words(obx: Segment, repetition: str) -> Value | None:
    return Value(text=obx.unescape(repetition).strip())
