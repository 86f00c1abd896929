"""What each tool answers: sentences on the claims that it is about, fixed sentences, and the same as data."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from isocenter.core.knowledge import FINDINGS
from isocenter.plugins import find as registered
from isocenter.safety.claims import LedgerClaim, LedgerEvidence, Quantity
from isocenter.tasks.report.compose import Language
from isocenter.verbs.asking.arguments import (
    AboutArguments,
    ListArguments,
    MeasureArguments,
    NoArguments,
    PerhapsAboutArguments,
    Place,
    Side,
)
from isocenter.verbs.asking.names import lexicon_for
from isocenter.verbs.asking.notes import MODALITIES, QUANTITIES, note
from isocenter.verbs.asking.reply import Outcome, Reply, Said
from isocenter.verbs.asking.study import Examined, Told
from isocenter.verbs.drafting.ledger import exam_of
from isocenter.verbs.result import PredictionEntry

__all__ = [
    "about",
    "as_data",
    "confidence",
    "describe_study",
    "find",
    "list_findings",
    "locate",
    "measure",
    "not_examined",
    "on_side",
    "picture_of",
    "sentences",
    "side_of",
    "why",
]  # fmt: skip

_SHA256 = re.compile(r"[0-9a-f]{64}")


def about(name: str, claims: Iterable[Told]) -> list[Told]:
    """Return the claims that answer for a finding or a part of the body.

    A finding that is present answers for what it implies, and the absence of an opacity for that of a consolidation.
    """
    told = list(claims)
    if name not in FINDINGS:
        return [t for t in told if t.claim.about == name]
    own = [t for t in told if t.claim.about == name]
    if own:
        return own
    implying = [
        t for t in told if t.claim.about in FINDINGS and t.claim.status != "absent"
        and name in FINDINGS.implied(t.claim.about)
    ]  # fmt: skip
    if implying:
        return implying
    return [t for t in told if t.claim.status == "absent" and t.claim.about in FINDINGS.implied(name)]


def on_side(claims: Sequence[Told], side: Side | None, place: Place | None = None) -> list[Told]:
    """Return the claims of a side and part: those of that side, of both, and those that are of none."""
    kept = [t for t in claims if place is None or t.claim.place in (place, None)]
    if side is None or side == "both":
        return kept
    return [t for t in kept if t.claim.side in (side, "both", None)]


def as_data(told: Told) -> dict[str, Any]:
    """Return a claim as data; every word is of a closed table."""
    claim = told.claim
    return {
        "claim": told.id, "image": told.of or None, "about": claim.about, "status": claim.status, "side": claim.side,
        "place": claim.place,
        "grade": claim.grade, "change": claim.change, "quantities": [_number(q) for q in claim.quantities],
        "evidence": list(told.evidence),
    }  # fmt: skip


def _number(quantity: Quantity) -> dict[str, Any]:
    ends = {} if quantity.low is None else {"low": _round(quantity.low), "high": _round(quantity.high),
                                            "level_percent": quantity.level}  # fmt: skip
    return {"name": quantity.name, "value": _round(quantity.value), "unit": quantity.unit, **ends}


def _round(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.4g}")


def sentences(
    claims: Sequence[Told], examined: Examined, language: Language, quantities: tuple[str, ...] | None = None
) -> tuple[list[Said], int]:
    """Return what may be said of claims, and how many sentences were withheld."""
    said, withheld = [], 0
    for told in claims:
        text = examined.sentence(told, language, quantities)
        if text is None:
            withheld += 1
        else:
            said.append(Said(f"{told.of}: {text}" if told.of else text, "claim", (told.id,), told.evidence))
    return said, withheld


def _reply(
    outcome: Outcome, claims: Sequence[Told], examined: Examined, language: Language, *notes: str, **data: Any
) -> Reply:
    quantities = data.pop("quantities", None)
    said, withheld = sentences(claims, examined, language, quantities)
    shown = {"outcome": outcome, "claims": [as_data(t) for t in claims], **data}
    return Reply(outcome, (*said, *(Said(text, "note") for text in notes)), shown, withheld)


def _missing(name: str, language: Language, examined: Examined) -> Reply:
    if not any(True for _ in examined.claims):
        return _reply("not examined", (), examined, language, note("nothing answered", language), about=name)
    return _reply("not examined", (), examined, language, note("not looked for", language, name=name), about=name)


def _absent(claims: Sequence[Told]) -> bool:
    return all(t.claim.status == "absent" for t in claims)


def _elsewhere(known: Sequence[Told], given: AboutArguments, examined: Examined, language: Language) -> Reply:
    """Tell what is known of the other side or part, and that nothing is of the one that was asked for."""
    here = on_side(known, given.side)
    # What is missing is named: of a side that is known, the part; and only what is of that side is told.
    where = given.place if here else given.side
    other = note("other side", language, name=given.about, side=where)
    return _reply("not examined", here or known, examined, language, other, about=given.about)


def _spoken(given: AboutArguments, examined: Examined, language: Language) -> tuple[list[Told], Reply | None]:
    """Return the claims that a question is about, or the reply where there is none of them."""
    known = about(given.about, examined.claims)
    if not known:
        return [], _missing(given.about, language, examined)
    here = on_side(known, given.side, given.place)
    if not here:
        return [], _elsewhere(known, given, examined, language)
    if _absent(here):
        taken = note("taken for granted", language)
        return [], _reply("not found", here, examined, language, taken, about=given.about)
    return here, None


def _sideless(claims: Sequence[Told], language: Language) -> list[str]:
    names = dict.fromkeys(t.claim.about for t in claims if t.claim.side is None and _sided(t.claim))
    return [note("no side", language, name=name) for name in names]


def unsided(
    claims: Sequence[Told], given: AboutArguments | PerhapsAboutArguments, language: Language
) -> list[str]:  # fmt: skip
    """Say so where one side or part was asked for, and what is known is of none."""
    if _absent(claims):
        return []
    notes = _sideless(claims, language) if given.side in ("left", "right") else []
    if given.place is not None:
        names = dict.fromkeys(t.claim.about for t in claims if t.claim.place is None)
        notes += [note("no part", language, name=name) for name in names]
    return notes


def _sided(claim: LedgerClaim) -> bool:
    return FINDINGS.named(claim.about).sided if claim.about in FINDINGS else True


def list_findings(examined: Examined, given: ListArguments, language: Language) -> Reply:
    """Tell the findings of a status."""
    known = [t for t in examined.claims if t.claim.about in FINDINGS]
    rank = {"present": 0, "uncertain": 1, "absent": 2}
    chosen = sorted(
        (t for t in known if given.status in ("all", t.claim.status)), key=lambda t: rank[t.claim.status]
    )  # fmt: skip
    if not any(True for _ in examined.claims):
        return _reply("not examined", (), examined, language, note("nothing answered", language))
    if not known:
        measured = list(examined.claims) if given.status in ("all", "present") else []
        return _reply("not examined", measured, examined, language, note("no finding", language))
    if not chosen:
        return _reply("answered", (), examined, language, note("none so", language))
    return _reply("answered", chosen, examined, language)


def find(examined: Examined, given: AboutArguments, language: Language) -> Reply:
    """Tell whether something is there; of a part of the body, what was measured of it and found in it."""
    known = about(given.about, examined.claims)
    inside = [t for t in examined.claims if t.claim.about in FINDINGS and t.claim.site == given.about]
    known += [t for t in inside if t not in known] if given.about not in FINDINGS else []
    if not known:
        return _missing(given.about, language, examined)
    here = on_side(known, given.side, given.place)
    if not here:
        return _elsewhere(known, given, examined, language)
    notes = unsided(here, given, language)
    if given.about not in FINDINGS and not inside:
        notes.append(note("no finding of", language, name=given.about))
    return _reply("not found" if _absent(here) else "answered", here, examined, language, *notes, about=given.about)


def measure(examined: Examined, given: MeasureArguments, language: Language) -> Reply:
    """Tell how large something is."""
    here, ended = _spoken(given, examined, language)
    if ended is not None:
        return ended
    wanted = None if given.quantity is None else QUANTITIES[given.quantity]
    notes = unsided(here, given, language)
    if given.about in FINDINGS:
        notes.append(note("no size", language, name=given.about))
    elif wanted is not None and not any(q.name in wanted for t in here for q in t.claim.quantities):
        notes.append(note("no quantity", language, name=given.about, quantity=given.quantity))
    return _reply("answered", here, examined, language, *notes, quantities=wanted, about=given.about)


def locate(examined: Examined, given: AboutArguments, language: Language) -> Reply:
    """Tell where something is."""
    here, ended = _spoken(given, examined, language)
    if ended is not None:
        return ended
    notes, centres = unsided(here, given, language), {}
    for told in here:
        if told.claim.about in FINDINGS:
            notes.append(note("seen in", language, name=told.claim.about, site=told.claim.site))
            continue
        for name in told.evidence:
            point = _centre(examined, name)
            if point is not None:
                x, y, z = (round(v) for v in point)
                centres[name] = [x, y, z]
                notes.append(note("centre", language, ids=(name, ""), x=x, y=y, z=z))
    return _reply("answered", here, examined, language, *notes, about=given.about, centre_lps_mm=centres,
                  sites=sorted({t.claim.site for t in here}))  # fmt: skip


def _centre(examined: Examined, name: str) -> tuple[float, float, float] | None:
    evidence = examined.evidence(name)
    made = None if evidence is None else examined.prediction(evidence)
    if evidence is None or made is None or evidence.segment is None:
        return None
    proven = (p for f in made.files if f.proof is not None for p in f.proof.segments if p.number == evidence.segment)
    return next((p.centroid_lps_mm for p in proven if p.centroid_lps_mm is not None), None)


def side_of(examined: Examined, given: AboutArguments, language: Language) -> Reply:
    """Tell on which side something is."""
    here, ended = _spoken(given, examined, language)
    if ended is not None:
        return ended
    sides = sorted({t.claim.side for t in here if t.claim.side})
    unsided = [
        note("no side", language, name=n) for n in dict.fromkeys(t.claim.about for t in here if not t.claim.side)
    ]
    return _reply("answered", here, examined, language, *unsided, about=given.about, sides=sides)


def confidence(examined: Examined, given: AboutArguments, language: Language) -> Reply:
    """Tell how sure an answer is."""
    looked = about(given.about, examined.claims)
    if not looked:
        return _missing(given.about, language, examined)
    known = on_side(looked, given.side, given.place)
    if not known:
        return _elsewhere(looked, given, examined, language)
    notes, sets = _promises(known, examined, language)
    notes += unsided(known, given, language)
    if any(t.claim.about not in FINDINGS and all(q.low is None for q in t.claim.quantities) for t in known):
        notes.append(note("no interval", language))
    return _reply("answered", known, examined, language, *notes, about=given.about, sets=sets)


def _promises(
    claims: Sequence[Told], examined: Examined, language: Language
) -> tuple[list[str], list[dict[str, Any]]]:  # fmt: skip
    """Return what is promised of claims about findings, and of images like this one."""
    notes: dict[str, None] = {}
    sets: list[dict[str, Any]] = []
    for told in claims:
        for name in told.evidence:
            evidence = examined.evidence(name)
            made = None if evidence is None else examined.prediction(evidence)
            if made is None:
                continue
            if told.claim.about in FINDINGS:
                promised = _promised(made, examined.ledgers[told.ledger - 1].exam, told.claim.about)
                if promised is None:
                    notes[note("no set", language)] = None
                else:
                    level, members = promised
                    notes[note("set", language, level=level, names=members)] = None
                    sets.append({"evidence": name, "level_percent": level, "members": list(members)})
            if made.likeness is not None:
                notes[note("likeness", language, percent=round(100 * made.likeness.p_value))] = None
    return list(notes), sets


def _promised(made: PredictionEntry, exam: str, finding: str) -> tuple[int, tuple[str, ...]] | None:
    """Return level and members of the set that is promised: findings, or "present" and "absent" of this finding's own.

    None where none is promised, or a member has no name in the table; "neither" where the finding's own set is empty.
    """
    lexicon = lexicon_for((exam,))
    sure = made.uncertainty
    if sure is not None and sure.kind == "set" and sure.members and sure.level is not None:
        names = [lexicon.resolve(code.meaning) for code in sure.members]
        return (round(100 * sure.level), tuple(n for n in names if n)) if all(names) else None
    for one in made.further:
        if one.kind == "set" and one.about is not None and one.level is not None:
            states = tuple(code.meaning.lower() for code in one.members)
            if lexicon.resolve(one.about.meaning) == finding and set(states) <= {"present", "absent"}:
                return round(100 * one.level), states or ("neither",)
    return None


def why(examined: Examined, given: AboutArguments, language: Language) -> Reply:
    """Tell what an answer rests on."""
    looked = about(given.about, examined.claims)
    if not looked:
        return _missing(given.about, language, examined)
    known = on_side(looked, given.side, given.place)
    if not known:
        return _elsewhere(looked, given, examined, language)
    promised, sets = _promises(known, examined, language)
    promised += unsided(known, given, language)
    rests, weights = [], []
    for name in dict.fromkeys(n for t in known for n in t.evidence):
        evidence = examined.evidence(name)
        if evidence is None:
            continue
        made = examined.prediction(evidence)
        sha = "" if made is None or made.model is None else made.model.weights_sha256
        if _SHA256.fullmatch(sha):
            weights.append(note("weights", language, ids=(name, sha)))
        if picture_of(evidence):
            weights.append(note("map", language, ids=(name, "")))
        rests.append(_evidence_data(name, evidence, sha))
    absent = _absent(known) and given.about in FINDINGS
    return _reply("not found" if absent else "answered", known, examined, language, *promised, *weights,
                  about=given.about, sets=sets, rests_on=rests)  # fmt: skip


def picture_of(evidence: LedgerEvidence) -> str:
    """Return the picture that shows where, relative to the result; "" where the ledger knows none."""
    # Ledgers of results without maps have no such field.
    return str(getattr(evidence, "picture", ""))


def _evidence_data(name: str, evidence: LedgerEvidence, sha: str) -> dict[str, Any]:
    installed = registered("isocenter.tasks")
    return {
        "evidence": name, "kind": evidence.kind, "segment": evidence.segment,
        "task": evidence.task if evidence.task in installed else None,
        "map": bool(picture_of(evidence)),
        "weights_sha256": sha if _SHA256.fullmatch(sha) else None,
    }  # fmt: skip


def not_examined(examined: Examined, given: NoArguments, language: Language) -> Reply:
    """Tell what no task looked for, and what else the result says of its limits."""
    notes, unlooked = [], {}
    if not any(True for _ in examined.claims):
        notes.append(note("nothing answered", language))
    for ledger in examined.ledgers:
        told = [Told(1, claim) for claim in ledger.claims]
        missing = tuple(
            f.name for f in FINDINGS.of(ledger.exam) if not f.normal and not about(f.name, told)
        )  # fmt: skip
        if missing:
            unlooked[ledger.exam] = list(missing)
            notes.append(note("not by the table", language, exam=ledger.exam, names=missing))
    limits = dict.fromkeys(text for ledger in examined.ledgers for text in ledger.limits)
    abstained = sum(p.abstained is not None for p in examined.result.predictions)
    left_out = len(examined.result.left_out)
    notes.append(note("tasks", language, number=len(examined.result.answered), other=abstained))
    if left_out:
        notes.append(note("left out", language, number=left_out))
    said = (*(Said(text, "note") for text in notes), *(Said(text, "limit") for text in limits))
    data = {"outcome": "answered", "not_looked_for": unlooked, "abstained": abstained, "inputs_left_out": left_out}
    return Reply("answered", said, data)


def describe_study(examined: Examined, given: NoArguments, language: Language) -> Reply:
    """Tell what images there are."""
    notes, images = [], []
    for image in examined.result.images:
        z, y, x = image.geometry.shape_zyx
        modality = image.modality if image.modality in MODALITIES else "unknown"
        exam = exam_of(image)
        notes.append(note("image", language, number=image.index, modality=modality, exam=exam, x=x, y=y, z=z))
        images.append({"number": image.index, "modality": modality, "examination": exam, "voxels_zyx": [z, y, x]})
    abstained = sum(p.abstained is not None for p in examined.result.predictions)
    notes.append(note("tasks", language, number=len(examined.result.answered), other=abstained))
    data = {"outcome": "answered", "images": images, "answers": len(examined.result.answered), "abstained": abstained}
    return Reply("answered", tuple(Said(text, "note") for text in notes), data)
