"""What changed since the earlier study: both ledgers side by side, and the difference of what was measured in both."""

from __future__ import annotations

from typing import Any

from isocenter.core.knowledge import FINDINGS
from isocenter.safety.claims import Quantity
from isocenter.tasks.report.compose import Language
from isocenter.verbs.asking.answers import about, as_data, on_side, sentences, unsided
from isocenter.verbs.asking.arguments import PerhapsAboutArguments
from isocenter.verbs.asking.notes import note
from isocenter.verbs.asking.reply import Outcome, Reply, Said
from isocenter.verbs.asking.study import Examined, Told

__all__ = ["compare"]


def compare(examined: Examined, given: PerhapsAboutArguments, language: Language) -> Reply:
    """Tell what changed.

    The sentences of each study are those of its own ledger; a difference is computed from their numbers, and no finding
    is called new or resolved: it is told what each study calls it.
    """
    claims = list(examined.claims) if given.about is None else about(given.about, examined.claims)
    now = on_side(claims, given.side, given.place)
    if given.about is not None and not now:
        text = note("not looked for", language, name=given.about)
        return Reply("not examined", (Said(text, "note"),), {"outcome": "not examined", "about": given.about})
    if examined.prior is None:
        said, withheld = sentences(now if given.about else (), examined, language)
        text = note("no prior", language)
        return Reply("not examined", (*said, Said(text, "note")), {"outcome": "not examined"}, withheld)
    told = [Said(text, "note") for text in unsided(now, given, language)]
    pairs: list[dict[str, Any]] = []
    withheld = 0
    for one in now:
        before = _same(one, list(examined.earlier_claims))
        if before is None and given.about is None and one.claim.status == "absent":
            continue
        first, lost = sentences([one], examined, language)
        withheld += lost
        told += first
        told += _compared(one, before, examined, language)
        pairs.append({"now": as_data(one), "earlier": None if before is None else _plain(before)})
    told.append(Said(note("order as told", language), "note"))
    outcome: Outcome = "answered" if any(p["earlier"] for p in pairs) else "not examined"
    return Reply(outcome, tuple(told), {"outcome": outcome, "pairs": pairs}, withheld)


def _same(one: Told, earlier: list[Told]) -> Told | None:
    """Return the earlier claim about the same finding or part of the body, or None."""
    return next(
        (
            t for t in earlier
            if (t.claim.about, t.claim.side, t.claim.place) == (one.claim.about, one.claim.side, one.claim.place)
        ),
        None,
    )  # fmt: skip


def _plain(told: Told) -> dict[str, Any]:
    """Return an earlier claim as data, without names that are of the earlier result."""
    return {key: value for key, value in as_data(told).items() if key not in ("claim", "evidence")}


def _compared(one: Told, before: Told | None, examined: Examined, language: Language) -> list[Said]:
    if before is None:
        return [Said(note("not earlier", language, name=one.claim.about), "note")]
    said = []
    sentence = examined.earlier_sentence(before, language)
    if sentence is not None:
        said.append(Said(note("earlier", language, sentence=sentence), "earlier"))
    if one.claim.about in FINDINGS:
        words = note("status", language, name=one.claim.about, now=one.claim.status, before=before.claim.status)
        return [*said, Said(words, "note")]
    for q in one.claim.quantities:
        other = next((p for p in before.claim.quantities if (p.name, p.unit) == (q.name, q.unit)), None)
        if other is not None:
            said += _difference(one, q, other, language)
    return said


def _difference(one: Told, now: Quantity, before: Quantity, language: Language) -> list[Said]:
    gap = float(now.value - before.value)
    share = 100.0 * gap / before.value if before.value else 0.0
    text = note(
        "difference", language, name=one.claim.about, quantity=now.name, value=gap, unit=now.unit, percent=share
    )  # fmt: skip
    if now.low is None or before.low is None or now.high is None or before.high is None:
        judged = note("no interval", language)
    else:
        judged = note("apart" if now.low > before.high or before.low > now.high else "overlap", language)
    return [Said(text, "note"), Said(judged, "note")]
