"""A draft of a report from the ledger: a sentence for each claim, in English, Spanish or Chinese.

Each sentence carries the ids of its claims, so that whoever reads it can go to what it rests on. English sentences are
judged by the ledger like anybody's (`safety.claims.judge`), and withheld where it says no; Spanish and Chinese ones are
put together from the table of words alone, so that they can't say anything else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from isocenter.core.knowledge import FINDINGS
from isocenter.core.knowledge.languages import CHINESE, SPANISH, Names
from isocenter.safety.claims import Ledger, LedgerClaim, Quantity, judge

__all__ = ["Draft", "DraftSection", "DraftSentence", "Language", "SectionName", "compose", "section_title"]

Language = Literal["en", "es", "zh"]
SectionName = Literal["indication", "technique", "comparison", "findings", "impression", "limits"]

_TITLES: dict[Language, dict[SectionName, str]] = {
    "en": {
        "indication": "Indication", "technique": "Technique", "comparison": "Comparison", "findings": "Findings",
        "impression": "Impression", "limits": "Limits",
    },
    "es": {
        "indication": "Indicación", "technique": "Técnica", "comparison": "Comparación", "findings": "Hallazgos",
        "impression": "Impresión", "limits": "Limitaciones",
    },
    "zh": {
        "indication": "检查目的", "technique": "检查技术", "comparison": "对比", "findings": "影像所见",
        "impression": "影像诊断", "limits": "局限性",
    },
}  # fmt: skip
_NOTHING: dict[Language, str] = {
    "en": "Nothing that was looked for is called present or possible.",
    "es": "Nada de lo que se buscó se considera presente o posible.",
    "zh": "所检索的各项均未判定为存在或可能存在。",
}
_UNITS = {"cm2": "cm²", "mm2": "mm²", "mm3": "mm³", "voxel": "voxels", "pixel": "pixels"}
_GRADES = {"mild": "mild", "moderate": "moderate", "severe": "severe"}
_CHANGES = {"new": "new", "worse": "worsening", "better": "improving", "unchanged": "stable", "resolved": "resolved"}
_FORMS = {"m": 0, "f": 1, "mp": 2, "fp": 3}


@dataclass(frozen=True)
class DraftSentence:
    """A sentence of a draft.

    Args:
        text: The sentence.
        claims: Ids of the claims that it makes; empty for what claims nothing.
        withheld: Why it may not be printed; empty where it may.
    """

    text: str
    claims: tuple[str, ...] = ()
    withheld: tuple[str, ...] = ()


@dataclass(frozen=True)
class DraftSection:
    """A part of a draft.

    Args:
        name: Which part.
        title: Its heading, in the draft's language.
        sentences: In order.
    """

    name: SectionName
    title: str
    sentences: tuple[DraftSentence, ...]


@dataclass(frozen=True)
class Draft:
    """A draft of a report.

    Args:
        language: BCP 47 tag.
        sections: In order; those with nothing in them are left out.
    """

    language: Language
    sections: tuple[DraftSection, ...]

    def section(self, name: SectionName) -> DraftSection | None:
        """Return a part, or None."""
        return next((s for s in self.sections if s.name == name), None)

    @property
    def text(self) -> str:
        """The draft as plain text: only what may be printed."""
        parts = []
        for section in self.sections:
            said = [s.text for s in section.sentences if not s.withheld]
            if said:
                parts.append(f"{section.title.upper()}\n" + "\n".join(said))
        return "\n\n".join(parts) + "\n"


def section_title(name: SectionName, language: Language) -> str:
    """Return the heading of a section.

    Example:
        >>> section_title("findings", "es")
        'Hallazgos'
    """
    return _TITLES[language][name]


def compose(
    ledger: Ledger,
    *,
    language: Language = "en",
    indication: str = "",
    technique: str = "",
    comparison: str = "",
) -> Draft:
    """Write a draft.

    Args:
        ledger: What may be claimed.
        language: Of the draft.
        indication: As the clinician gave it; printed as given, claims nothing.
        technique: What was examined, in the draft's language.
        comparison: With what it was compared.
    """
    findings = [_sentence(claim, ledger, language) for claim in _ordered(ledger)]
    facts: list[tuple[SectionName, Sequence[DraftSentence]]] = [
        ("indication", _plain(indication)),
        ("technique", _plain(technique)),
        ("comparison", _plain(comparison)),
        ("findings", findings),
        ("impression", _impression(ledger, language)),
        ("limits", [DraftSentence(text) for text in ledger.limits]),
    ]
    sections = tuple(DraftSection(n, _TITLES[language][n], tuple(said)) for n, said in facts if said)
    return Draft(language, sections)


def _plain(text: str) -> list[DraftSentence]:
    shown = " ".join(text.split())
    return [DraftSentence(shown)] if shown else []


def _ordered(ledger: Ledger) -> list[LedgerClaim]:
    """Return claims organ by organ; of each what is there, what may be, measures, and what is not."""
    places = {site.name: number for number, site in enumerate(FINDINGS.sites)}

    def rank(claim: LedgerClaim) -> int:
        if claim.about not in FINDINGS:
            return 2
        return {"present": 0, "uncertain": 1, "absent": 3}[claim.status]

    return sorted(ledger.claims, key=lambda c: (places[c.site], rank(c)))


def _sentence(claim: LedgerClaim, ledger: Ledger, language: Language) -> DraftSentence:
    text = _WRITERS[language](claim, True)
    return _checked(text, claim, ledger, language)


def _checked(text: str, claim: LedgerClaim, ledger: Ledger, language: Language) -> DraftSentence:
    if language != "en":
        return DraftSentence(text, (claim.id,))
    verdict = judge(text, ledger)
    claims = tuple(dict.fromkeys((claim.id, *verdict.claims))) if claim.id in verdict.claims else verdict.claims
    if verdict.supported and claim.id not in verdict.claims:
        return DraftSentence(text, (), (f"it was read as another claim than {claim.id}",))
    return DraftSentence(text, claims if verdict.supported else (), verdict.reasons)


def _impression(ledger: Ledger, language: Language) -> list[DraftSentence]:
    found = [c for c in _ordered(ledger) if c.about in FINDINGS]
    told = [c for c in found if c.status != "absent"]
    if told:
        return [_checked(_WRITERS[language](claim, False), claim, ledger, language) for claim in told]
    return [DraftSentence(_NOTHING[language])] if found else []


def _number(value: float) -> str:
    """Print a number with three digits, as many as a measurement of an outline bears."""
    if value != 0 and abs(value) < 1:
        return f"{value:.2g}" if abs(value) >= 0.001 else f"{value:.1g}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.1f}"


def _percent(value: float) -> str:
    if value >= 10:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.05 else f"{value:.1g}"


def _with_unit(quantity: Quantity) -> tuple[str, str]:
    unit = _UNITS.get(quantity.unit, quantity.unit)
    return (_percent if unit == "%" else _number)(quantity.value), f" {unit}" if unit else ""


def _interval(quantity: Quantity, form: str) -> str:
    """Write a promised interval; the form names level, low and high."""
    if quantity.low is None or quantity.high is None or quantity.level is None:
        return ""
    _, unit = _with_unit(quantity)
    low, high = (_number(end) for end in (quantity.low, quantity.high))
    return form.format(level=f"{quantity.level:.0f} %", low=low, high=f"{high}{unit}")


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _english(claim: LedgerClaim, numbers: bool) -> str:
    if claim.about not in FINDINGS:
        words = [w for w in (claim.side, claim.place, claim.site) if w]
        said = []
        for q in claim.quantities:
            value, unit = _with_unit(q)
            promised = _interval(q, "{level} interval {low} to {high}")
            said.append(f"{q.name} {value}{unit}" + (f" ({promised})" if promised else ""))
        return _capital(f"{' '.join(words)}: {', '.join(said)}.")
    words = [
        _CHANGES.get(claim.change or "", ""),
        _GRADES.get(claim.grade or "", ""),
        _english_side(claim),
        claim.about,
    ]
    name = " ".join(w for w in words if w)
    text = {"present": name, "absent": f"no {claim.about}", "uncertain": f"possible {name}"}[claim.status]
    return _capital(text + (_chance(claim, " (probability {} %)") if numbers else "") + ".")


def _english_side(claim: LedgerClaim) -> str:
    return {"left": "left", "right": "right", "both": "bilateral"}.get(claim.side or "", "")


def _chance(claim: LedgerClaim, form: str) -> str:
    for q in claim.quantities:
        if q.name == "probability":
            return form.format(_percent(q.value))
    return ""


def _in_spanish(marked: str) -> tuple[str, int]:
    name, _, form = marked.partition("|")
    return name, _FORMS[form]


def _spanish(claim: LedgerClaim, numbers: bool) -> str:
    names: Names = SPANISH
    marked = names.findings[claim.about] if claim.about in FINDINGS else names.sites[claim.site]
    name, form = _in_spanish(marked)

    def agreeing(table: str | None) -> str:
        return "" if table is None else table.split("/")[form]

    side = agreeing(names.sides.get(claim.side or ""))
    if claim.about not in FINDINGS:
        said = []
        for q in claim.quantities:
            value, unit = _with_unit(q)
            promised = _interval(q, "intervalo del {level}: {low} a {high}")
            said.append(f"{names.quantities[q.name]} {value}{unit}" + (f" ({promised})" if promised else ""))
        place = {"anterior": "parte anterior", "posterior": "parte posterior"}.get(claim.place or "", "")
        return _capital(f"{' '.join(w for w in (name, side) if w)}{', ' + place if place else ''}: {', '.join(said)}.")
    grade, change = agreeing(names.grades.get(claim.grade or "")), agreeing(names.changes.get(claim.change or ""))
    whole = " ".join(w for w in (name, side, grade, change) if w)
    text = {"present": whole, "absent": f"sin {name}", "uncertain": f"posible {whole}"}[claim.status]
    return _capital(text + (_chance(claim, " (probabilidad {} %)") if numbers else "") + ".")


def _chinese(claim: LedgerClaim, numbers: bool) -> str:
    names: Names = CHINESE
    side = names.sides.get(claim.side or "", "")
    if claim.about not in FINDINGS:
        said = []
        for q in claim.quantities:
            value, unit = _with_unit(q)
            promised = _interval(q, "{level} 区间 {low} 至 {high}")
            said.append(f"{names.quantities[q.name]} {value}{unit}" + (f"（{promised}）" if promised else ""))
        place = {"anterior": "前部", "posterior": "后部"}.get(claim.place or "", "")
        return f"{side}{names.sites[claim.site]}{place}：{'，'.join(said)}。"
    name = names.findings[claim.about]
    whole = "".join((names.changes.get(claim.change or "", ""), side, names.grades.get(claim.grade or "", ""), name))
    text = {"present": whole, "absent": f"未见{name}", "uncertain": f"可能存在{whole}"}[claim.status]
    return text + (_chance(claim, "（概率 {} %）") if numbers else "") + "。"


_WRITERS = {"en": _english, "es": _spanish, "zh": _chinese}
