"""Patient, Observation, Condition, Procedure and the medications of FHIR, each to rows."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace

from isocenter.data.records.fhir.bundle import Resources, first_identifier
from isocenter.data.records.fhir.nodes import Node
from isocenter.data.records.fhir.values import (
    Coded,
    Value,
    coded,
    human_name,
    moment,
    numbered,
    quantity,
    value_of,
    written,
)
from isocenter.data.records.moments import fhir_moment
from isocenter.data.records.people import as_sex, words_of
from isocenter.data.records.rows import Kind, RawPatient, RawRecord, Status

__all__ = ["condition", "medication", "observation", "patient", "procedure"]

STATES: dict[str, Status] = {
    "registered": "registered", "partial": "preliminary", "preliminary": "preliminary", "final": "final",
    "amended": "amended", "corrected": "corrected", "appended": "appended", "cancelled": "cancelled",
    "entered-in-error": "withdrawn", "unknown": "", "": "",
    "preparation": "registered", "in-progress": "preliminary", "not-done": "withdrawn", "on-hold": "registered",
    "stopped": "cancelled", "completed": "final", "active": "final", "intended": "registered", "draft": "registered",
    "not-taken": "withdrawn", "recorded": "final", "ended": "final", "modified": "amended", "current": "final",
    "superseded": "cancelled", "registered-draft": "registered", "available": "final",
}  # fmt: skip
"""Of all the resources read here; what was not done or not taken is no statement that it was."""


def patient(node: Node, resources: Resources) -> RawPatient | None:
    """Return a Patient; None, with a complaint, where nothing identifies it."""
    known = first_identifier(node)
    own = node.text("id")
    if own:
        known.append(resources.address("Patient", own))
    for link in node.many("link"):
        other = resources.person(link.one("other"), node)
        known.extend([other] if other[1] else [])
    known = list(dict.fromkeys(known))
    if not known:
        node.wrong.append("Patient has neither identifier nor id")
        return None
    names = sorted(node.many("name"), key=lambda n: ("official", "usual", "").index(n.text("use")) if n.text("use") in
                   ("official", "usual", "") else 3)  # fmt: skip
    words = [human_name(n) for n in names[1:]] + [n.text("text") for n in names]
    words += [t.text("value") for t in node.many("telecom")]
    for address in node.many("address"):
        words += [*address.texts("line"), *(address.text(k) for k in ("text", "city", "postalCode", "district"))]
    for contact in node.many("contact"):
        words += [human_name(contact.one("name")), *(t.text("value") for t in contact.many("telecom"))]
        words += [*contact.one("address").texts("line"), contact.one("address").text("text")]
    sex = as_sex(node.text("gender"))
    if sex is None:
        node.wrong.append("Patient.gender is none of FHIR's")
    died = moment(node, "deceasedDateTime")
    dead = node.truth("deceasedBoolean") if "deceasedBoolean" in node else (True if died else None)
    born = fhir_moment(node.text("birthDate")) if node.text("birthDate") else ""
    if born is None:
        node.wrong.append("Patient.birthDate is no date")
    return RawPatient(
        *known[0], tuple(known[1:]), human_name(names[0]) if names else "", (born or "")[:10], sex or "", dead, died,
        words_of(words), "fhir",
    )  # fmt: skip


def _row(node: Node, resources: Resources, kind: Kind, code: Coded, time: str, subject: Node) -> RawRecord:
    state = node.text("status")
    if state not in STATES:
        node.wrong.append(f"{node.place}.status is not known here")
    issuer, person = resources.person(subject, node)
    if not person:
        node.wrong.append(f"{node.place} names no patient")
    name = node.place.split(".")[0].split(":")[0]
    own = node.text("id") or next((value for _, value in map(numbered, node.many("identifier")) if value), "")
    return RawRecord(
        issuer, person, kind, code.code, code.system, code.display, time=time, status=STATES.get(state, ""),
        form="fhir", identifier=f"{name}/{own}" if own else "",
    )  # fmt: skip


def _notes(node: Node) -> str:
    return "\n".join(text for n in node.many("note") if (text := n.text("text")))


def observation(node: Node, resources: Resources, subject: Node | None = None) -> Iterator[RawRecord]:
    """Yield the value of an Observation and of its components; of one without any, why there is none."""
    time = moment(node, "effectiveDateTime", "effectivePeriod", "effectiveInstant", "issued")
    code = coded(node.one("code"))
    whose = node.one("subject")
    if not whose and subject is not None:
        whose = Node(subject.content, f"{node.place}.subject", node.wrong)
    row = _row(node, resources, "observation", code, time, whose)
    empty = True
    for part in (node, *node.many("component")):
        own = code if part is node else coded(part.one("code"))
        values, told = value_of(part)
        if told:
            node.wrong.append(told)
        if values and not own.code:
            node.wrong.append(f"{part.place} has no code; what was observed can't be told")
            continue
        for value in values:
            empty = False
            yield _filled(row, own, value, _notes(node))
        reason = coded(part.one("dataAbsentReason"))
        if not values and not told and reason.code:
            empty = False
            told = reason.code if re.fullmatch(r"[a-z][a-z-]{1,20}", reason.code) else "a reason in words"
            node.wrong.append(f"{part.place} has no value: {told}")
    if empty and _notes(node):
        yield replace(row, text=_notes(node))
    elif empty and not list(node.many("component")) and not list(node.many("hasMember")) and not node.wrong:
        node.wrong.append(f"{node.place} has no value")


def _filled(row: RawRecord, code: Coded, value: Value, notes: str) -> RawRecord:
    text = value.text if value.text or value.number is None else notes
    return replace(
        row, code=code.code, system=code.system, display=code.display, number=value.number, unit=value.unit, text=text,
        value_code=value.code, value_time=value.moment,
    )  # fmt: skip


def condition(node: Node, resources: Resources) -> Iterator[RawRecord]:
    """Yield a Condition: since when, whether it still holds, and when it ended; a refuted one is withdrawn."""
    time = moment(node, "onsetDateTime", "onsetPeriod", "recordedDate", "assertedDate")
    code = coded(node.one("code"))
    if not code.code:
        node.wrong.append("Condition has no code")
        return
    clinical, verified = coded(node.one("clinicalStatus")).code, coded(node.one("verificationStatus")).code
    status: Status = {
        "confirmed": "final", "unconfirmed": "preliminary", "provisional": "preliminary",
        "differential": "preliminary", "refuted": "withdrawn", "entered-in-error": "withdrawn",
    }.get(verified, "")  # type: ignore[assignment]  # fmt: skip
    words = [clinical]
    for key in ("onsetAge", "abatementAge"):
        age = quantity(node.one(key))
        if age is not None:
            # Written as people write it: who cleans texts of great ages knows "97 years", and not "97.0 a".
            unit = "years" if age.unit in ("a", "y", "yr") else age.unit
            words.append(f"{key[:-3]} {age.text or written(age.number or 0.0)} {unit}")
    words += [node.text("onsetString"), node.text("abatementString"), _notes(node)]
    row = _row(node, resources, "condition", code, time, node.one("subject"))
    ended = moment(node, "abatementDateTime", "abatementPeriod")
    yield replace(row, status=status, text="; ".join(w for w in words if w), value_time=ended)


def procedure(node: Node, resources: Resources) -> Iterator[RawRecord]:
    """Yield a Procedure."""
    time = moment(node, "performedDateTime", "performedPeriod", "occurrenceDateTime", "occurrencePeriod", "recorded")
    code = coded(node.one("code"))
    if not code.code:
        node.wrong.append("Procedure has no code")
        return
    sites = [coded(site).display for site in node.many("bodySite")]
    words = [*sites, coded(node.one("outcome")).display, _notes(node)]
    row = _row(node, resources, "procedure", code, time, node.one("subject"))
    yield replace(row, text="; ".join(w for w in words if w))


def medication(node: Node, resources: Resources) -> Iterator[RawRecord]:
    """Yield what was taken, ordered or given: the drug, its dose as a number, and how in words."""
    time = moment(
        node, "effectiveDateTime", "effectivePeriod", "occurenceDateTime", "occurenceCurrentDateTime",
        "occurrenceDateTime", "occurrencePeriod", "authoredOn", "dateAsserted",
    )  # fmt: skip
    code = _drug(node, resources)
    if not code.code:
        node.wrong.append(f"{node.place} names no medication that is here")
        return
    subject = node.one("subject")
    row = _row(node, resources, "medication", code, time, subject)
    if node.truth("doNotPerform"):
        row = replace(row, status="withdrawn")
    amounts: list[Value] = []
    words: list[str] = []
    dosages = [node.one("dosage")] if isinstance(node.content.get("dosage"), dict) else list(node.many("dosage"))
    for dosage in (*dosages, *node.many("dosageInstruction")):
        words.append(dosage.text("text") or dosage.text("patientInstruction"))
        rates = list(dosage.many("doseAndRate")) or [dosage]
        for rate in rates:
            amount = quantity(rate.one("doseQuantity")) or quantity(rate.one("dose"))
            amounts.extend([amount] if amount is not None else [])
    text = "; ".join(w for w in (*words, _notes(node)) if w)
    if len(amounts) == 1:  # of several doses none is the dose; the words say how
        amount = amounts[0]
        yield replace(row, number=amount.number, unit=amount.unit, text="; ".join(w for w in (amount.text, text) if w))
    else:
        told = [f"{a.text or a.number} {a.unit}".strip() for a in amounts]
        yield replace(row, text="; ".join(w for w in (text, *told) if w))


def _drug(node: Node, resources: Resources) -> Coded:
    either = node.one("medication")  # R5: a CodeableReference
    concept = coded(node.one("medicationCodeableConcept") or either.one("concept"))
    if concept.code:
        return concept
    reference = node.one("medicationReference") or either.one("reference")
    found = resources.find(reference, node)
    if found.text("resourceType") == "Medication":
        return coded(found.one("code"))
    words = reference.text("display")
    return Coded(words, "", words)
