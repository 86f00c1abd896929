"""Data types of FHIR: codes, quantities, times, names, identifiers and attachments."""

from __future__ import annotations

import base64
import binascii
import re
from typing import NamedTuple

from isocenter.data.records.fhir.nodes import Node
from isocenter.data.records.markup import plain_text
from isocenter.data.records.moments import fhir_moment
from isocenter.data.records.people import is_ucum, person_name

__all__ = [
    "Coded",
    "Value",
    "attachment_text",
    "coded",
    "human_name",
    "moment",
    "numbered",
    "quantity",
    "value_of",
    "written",
]

_UCUM = "http://unitsofmeasure.org"
_PREFERRED = ("http://loinc.org", "http://snomed.info/sct", "http://www.nlm.nih.gov/research/umls/rxnorm")
_PLAIN = ("text/plain", "text/markdown", "text")
_MARKUP = ("text/html", "application/xhtml+xml")


class Coded(NamedTuple):
    """A coded concept: the code (words where it has none), its system, and words."""

    code: str
    system: str
    display: str


class Value(NamedTuple):
    """A value as a record takes it."""

    number: float | None = None
    unit: str = ""
    text: str = ""
    code: tuple[str, str] | None = None
    moment: str = ""


def coded(concept: Node) -> Coded:
    """Return a CodeableConcept; of several codings one of LOINC, SNOMED CT or RxNorm, else the first.

    Example:
        >>> coded(Node({"coding": [{"system": "urn:x", "code": "1"}, {"system": "http://loinc.org", "code": "718-7",
        ...     "display": "Hemoglobin"}]}, "code", []))
        Coded(code='718-7', system='http://loinc.org', display='Hemoglobin')
    """
    codings = [c for c in concept.many("coding") if c.text("code")]
    text = concept.text("text")
    if not codings:
        words = text or next((c.text("display") for c in concept.many("coding") if c.text("display")), "")
        return Coded(words, "", words)
    chosen = min(
        codings, key=lambda c: _PREFERRED.index(c.text("system")) if c.text("system") in _PREFERRED else len(_PREFERRED)
    )
    return Coded(chosen.text("code"), chosen.text("system"), chosen.text("display") or text or chosen.text("code"))


def quantity(node: Node) -> Value | None:
    """Return a Quantity: a number of a unit, or words where it has a comparator; None without a value."""
    number = node.number("value")
    if number is None:
        return None
    unit = node.text("code") if node.text("system") == _UCUM else node.text("unit") or node.text("code")
    comparator = node.text("comparator")
    if comparator:
        return Value(None, unit, f"{comparator}{written(number)}")
    return Value(number, unit)


def written(number: float) -> str:
    """Return a number without a fraction that says nothing."""
    return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)


def moment(node: Node, *keys: str) -> str:
    """Return the first time that is given under one of the keys; of a Period its start, else its end."""
    for key in keys:
        if key not in node:
            continue
        given = node.content[key]
        text = node.text(key) if isinstance(given, str) else ""
        if isinstance(given, dict):
            period = node.one(key)
            text = period.text("start") or period.text("end")
        found = fhir_moment(text) if text else None
        if found is not None:
            return found
        node.wrong.append(f"{node.place}.{key} is no time that is read")
    return ""


def value_of(node: Node) -> tuple[list[Value], str]:
    """Return the value[x] of an Observation or component, and what is wrong with it ("" for nothing)."""
    for key in node.content:
        if not key.startswith("value") or node.content[key] is None:
            continue
        kind = key[len("value") :]
        value = _of_kind(node, key, kind)
        if value is None:
            return [], f"{node.place}.{key} is not read"
        told = ""
        if value.unit and value.number is not None and not is_ucum(value.unit):
            told = f"{node.place}.{key} has a unit that is not of UCUM; it is kept as it stands"
        return [value], told
    return [], ""


def _of_kind(node: Node, key: str, kind: str) -> Value | None:
    if kind == "Quantity":
        return quantity(node.one(key))
    if kind == "CodeableConcept":
        code = coded(node.one(key))
        return Value(text=code.display, code=(code.system, code.code) if code.system else None) if code.code else None
    if kind in ("String", "Markdown", "Time"):
        return Value(text=node.text(key)) if node.text(key) else None
    if kind == "Boolean":
        truth = node.truth(key)
        return None if truth is None else Value(text="true" if truth else "false")
    if kind in ("Integer", "Decimal"):
        number = node.number(key)
        return None if number is None else Value(number)
    if kind in ("DateTime", "Date", "Period", "Instant"):
        found = moment(node, key)
        return Value(moment=found) if found else None
    if kind == "Range":
        return _between(quantity(node.one(key).one("low")), quantity(node.one(key).one("high")), "-")
    if kind == "Ratio":
        return _between(quantity(node.one(key).one("numerator")), quantity(node.one(key).one("denominator")), ":")
    return None


def _between(one: Value | None, other: Value | None, mark: str) -> Value | None:
    if one is None and other is None:
        return None
    parts = ["" if v is None else (v.text or written(v.number or 0.0)) for v in (one, other)]
    units = [v.unit for v in (one, other) if v is not None and v.unit]
    if mark == "-" or len(set(units)) <= 1:
        return Value(None, units[0] if units else "", mark.join(parts))
    both = [f"{part} {unit}" for part, unit in zip(parts, units, strict=False)]
    return Value(text=mark.join(both))


def human_name(node: Node) -> str:
    """Return a HumanName as DICOM writes it."""
    given = node.texts("given")
    family = node.text("family")
    if not family and not given:
        return node.text("text")
    parts = (" ".join(given[1:]), " ".join(node.texts("prefix")), " ".join(node.texts("suffix")))
    return person_name(family, given[0] if given else "", *parts)


def numbered(node: Node) -> tuple[str, str]:
    """Return (issuer, value) of an Identifier: its system, else the display of who assigned it."""
    value = node.text("value")
    return node.text("system") or node.one("assigner").text("display"), value


def attachment_text(node: Node) -> tuple[str, str]:
    """Return the text of an Attachment, and why there is none."""
    kind = node.text("contentType").split(";")[0].strip().lower()
    if "data" not in node:
        elsewhere = "is elsewhere (a URL), which is not followed" if "url" in node else "has no data"
        return "", f"{node.place} {elsewhere}"
    if kind not in (*_PLAIN, *_MARKUP, ""):
        told = kind if re.fullmatch(r"[a-z]+/[a-z0-9.+-]{1,60}", kind) else "of another type"
        return "", f"{node.place} is {told}, which is not read; send text or HTML"
    try:
        raw = base64.b64decode("".join(node.text("data").split()), validate=True)
        charset = node.text("contentType").lower().partition("charset=")[2].strip("\"' ;") or "utf-8"
        text = raw.decode(charset)
    except (binascii.Error, UnicodeDecodeError, LookupError):
        return "", f"{node.place} is no base64 of text in its character set"
    return (plain_text(text) if kind in _MARKUP else text), ""
