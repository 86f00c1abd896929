"""What changed since the earlier study: both ledgers side by side, and the difference of what was measured in both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from isocenter.core.knowledge import FINDINGS
from isocenter.safety.claims import LedgerClaim, Quantity
from isocenter.tasks.report.compose import Language
from isocenter.verbs.asking.answers import about, as_data, on_side, sentences, unsided
from isocenter.verbs.asking.arguments import PerhapsAboutArguments
from isocenter.verbs.asking.notes import note
from isocenter.verbs.asking.reply import Outcome, Reply, Said
from isocenter.verbs.asking.study import Examined, Told

__all__ = ["compare"]

_IN_MM2 = {"mm2": 1.0, "cm2": 100.0}
"""Units of areas: a ledger takes the larger one for large areas, so that two studies may differ in it."""


def compare(examined: Examined, given: PerhapsAboutArguments, language: Language) -> Reply:
    """Tell what changed.

    The sentences of each study are those of its own ledger; a difference is computed from their numbers, and no finding
    is called new or resolved: it is told what each study calls it. Claims are paired only where each study holds
    exactly one of the same finding or part of the body, side and place.
    """
    now = _asked(examined.claims, given)
    before = _asked(examined.earlier_claims, given)
    if given.about is not None and not now and not before:
        looked = (*about(given.about, examined.claims), *about(given.about, examined.earlier_claims))
        where = given.side if given.side in ("left", "right") else given.place
        text = note("other side", language, name=given.about, side=where) if looked and where else note(
            "not looked for", language, name=given.about
        )  # fmt: skip
        return Reply("not examined", (Said(text, "note"),), {"outcome": "not examined", "about": given.about})
    if examined.prior is None:
        said, withheld = sentences(now if given.about else (), examined, language)
        text = note("prior in result" if examined.result.comparison else "no prior", language)
        return Reply("not examined", (*said, Said(text, "note")), {"outcome": "not examined"}, withheld)
    told = [Said(text, "note") for text in unsided(now, given, language)]
    pairs: list[dict[str, Any]] = []
    withheld = 0
    for key in dict.fromkeys(map(_key, (*now, *before))):
        ours, theirs = [t for t in now if _key(t) == key], [t for t in before if _key(t) == key]
        if given.about is None and not (ours and theirs) and _all_absent((*ours, *theirs)):
            continue
        first, lost = sentences(ours, examined, language)
        withheld += lost
        told += first
        told += _earlier(theirs, examined, language)
        told += _compared(ours, theirs, examined, language)
        pairs += _as_pairs(ours, theirs)
    told.append(Said(note("order as told", language), "note"))
    outcome: Outcome = "answered" if any(p["now"] and p["earlier"] for p in pairs) else "not examined"
    return Reply(outcome, tuple(told), {"outcome": outcome, "pairs": pairs}, withheld)


def _asked(claims: Iterable[Told], given: PerhapsAboutArguments) -> list[Told]:
    return on_side(list(claims) if given.about is None else about(given.about, claims), given.side, given.place)


def _key(told: Told) -> tuple[str, str | None, str | None, str]:
    """Return what must be the same for two claims to be compared; a CT and a PET measure one lesion differently."""
    return told.claim.about, told.claim.side, told.claim.place, told.of.partition(" (")[0]


def _all_absent(claims: Sequence[Told]) -> bool:
    return all(t.claim.status == "absent" for t in claims)


def _as_pairs(ours: Sequence[Told], theirs: Sequence[Told]) -> list[dict[str, Any]]:
    """Return claims as data: beside each other where each study holds one."""
    if len(ours) == len(theirs) == 1 and not any(t.of.startswith("image") for t in (*ours, *theirs)):
        return [{"now": as_data(ours[0]), "earlier": _plain(theirs[0])}]
    alone = [{"now": as_data(t), "earlier": None} for t in ours]
    return [*alone, *({"now": None, "earlier": _plain(t)} for t in theirs)]


def _plain(told: Told) -> dict[str, Any]:
    """Return an earlier claim as data, without names that are of the earlier result."""
    return {key: value for key, value in as_data(told).items() if key not in ("claim", "evidence")}


def _earlier(theirs: Sequence[Told], examined: Examined, language: Language) -> list[Said]:
    found = [(one.of, examined.earlier_sentence(one, language)) for one in theirs]
    return [
        Said(note("earlier", language, sentence=f"{of}: {text}" if of else text), "earlier")
        for of, text in found
        if text is not None
    ]


def _compared(ours: Sequence[Told], theirs: Sequence[Told], examined: Examined, language: Language) -> list[Said]:
    """Return what is told of claims with the same key, beside the sentences of each study."""
    name, rests = _named((*ours, *theirs)[0].claim), tuple(e for t in ours for e in t.evidence)
    unknown = any(t.of.startswith("image") for t in (*ours, *theirs))  # of which modality it is, nobody knows
    if len(ours) > 1 or len(theirs) > 1 or (unknown and ours and theirs):
        return [Said(note("not paired", language, name=name), "note", (), rests)]
    if not theirs:
        other = about(ours[0].claim.about, examined.earlier_claims)
        key = "otherwise earlier" if other else "not earlier"
        return [Said(note(key, language, name=name), "note", (), rests)]
    if not ours:
        key = "otherwise now" if about(theirs[0].claim.about, examined.claims) else "not now"
        return [Said(note(key, language, name=name), "note")]
    claim, before = ours[0].claim, theirs[0].claim
    if claim.about in FINDINGS:
        words = note("status", language, name=name, now=claim.status, before=before.status)
        return [Said(words, "note", (), rests)]
    said = []
    for quantity in claim.quantities:
        found = [p for p in (_in_unit(q, quantity) for q in before.quantities) if p is not None]
        if len(found) == 1:
            texts = _difference(name, quantity, found[0], language)
        else:
            texts = [note("one only", language, name=name, quantity=quantity.name)]
        said += [Said(text, "note", (), rests) for text in texts]
    lost = [q for q in before.quantities if q.name not in {p.name for p in claim.quantities}]
    return [*said, *(Said(note("one only", language, name=name, quantity=q.name), "note", (), rests) for q in lost)]


def _named(claim: LedgerClaim) -> tuple[str, ...]:
    """Return what a claim is about, with its side and place."""
    return tuple(word for word in (claim.about, claim.side, claim.place) if word)


def _in_unit(one: Quantity, of: Quantity) -> Quantity | None:
    """Return a number of the same name in the unit of another; None where it is of another name or kind."""
    if one.name != of.name:
        return None
    if one.unit == of.unit:
        return one
    if one.unit not in _IN_MM2 or of.unit not in _IN_MM2:
        return None
    scale = _IN_MM2[one.unit] / _IN_MM2[of.unit]
    low, high = (None if end is None else end * scale for end in (one.low, one.high))
    return replace(one, value=one.value * scale, unit=of.unit, low=low, high=high)


def _difference(name: tuple[str, ...], now: Quantity, before: Quantity, language: Language) -> list[str]:
    gap, unit = float(now.value - before.value), now.unit
    if before.value:
        share = 100.0 * gap / before.value
        text = note("difference", language, name=name, quantity=now.name, value=gap, unit=unit, percent=share)
    else:
        text = note("difference from zero", language, name=name, quantity=now.name, value=gap, unit=unit)
    if now.low is None or before.low is None or now.high is None or before.high is None:
        return [text, note("no interval", language)]
    return [text, note("apart" if now.low > before.high or before.low > now.high else "overlap", language)]
