"""DiagnosticReport, DocumentReference and ImagingStudy of FHIR to reports and links between studies and numbers."""

from __future__ import annotations

from collections.abc import Iterator

from isocenter.data.records.fhir.bundle import Resources
from isocenter.data.records.fhir.nodes import Node
from isocenter.data.records.fhir.records import STATES
from isocenter.data.records.fhir.values import attachment_text, coded, moment, numbered
from isocenter.data.records.markup import plain_text
from isocenter.data.records.rows import RawLabel, RawReport, RawStudy

__all__ = ["diagnostic_report", "document_reference", "imaging_study"]

_DICOM_UID = "urn:dicom:uid"
_SECTIONS = {
    "59776-5": "findings", "18782-3": "findings", "19005-8": "impression", "55110-1": "impression",
    "18834-2": "comparison", "55111-9": "technique", "18785-6": "indication", "18783-0": "recommendation",
    "55107-7": "addendum", "11329-0": "history",
}  # fmt: skip


def diagnostic_report(node: Node, resources: Resources) -> tuple[RawReport | None, list[RawLabel]]:
    """Return a DiagnosticReport, None where it holds no text, and its coded conclusions.

    The text is what is presented (presentedForm), else the results in words; the conclusion is the impression; the
    narrative made for people is taken where there is nothing else.
    """
    sections = _presented(node.many("presentedForm"), node)
    if not sections:
        sections = _results(node, resources)
    conclusion = node.text("conclusion")
    if conclusion and not any(conclusion in text for _, text in sections):
        sections = [(name or "text", text) for name, text in sections]
        sections.append(("impression", conclusion))
    if not sections and (words := plain_text(node.one("text").text("div"))):
        sections = [("", words)]
    issuer, patient = resources.person(node.one("subject"), node)
    if not patient:
        node.wrong.append("DiagnosticReport names no patient")
    accession, given_by, uid = _numbers(node, resources)
    own = node.text("id")
    identifiers = [pair for pair in map(numbered, node.many("identifier")) if pair[1] and pair[1] != accession]
    identifier = identifiers[0][1] if identifiers else f"DiagnosticReport/{own}" if own else ""
    status = STATES.get(node.text("status"), "")
    title = coded(node.one("code")).display
    labels = [
        RawLabel(c.display, "present", issuer, patient, identifier, accession, uid, kind="finding", form="fhir")
        for concept in node.many("conclusionCode") if (c := coded(concept)).code
    ]  # fmt: skip
    if not any(text.strip() for _, text in sections):
        node.wrong.append("DiagnosticReport has no text that is read")
        return None, labels
    people = resources.names([*node.many("performer"), *node.many("resultsInterpreter")], node)
    effective = moment(node, "effectiveDateTime", "effectivePeriod")
    report = RawReport(
        issuer, patient, tuple(sections), accession, given_by, uid, moment(node, "issued") or effective, effective,
        node.text("language") or node.first("presentedForm").text("language"), title, status, "fhir", identifier, "",
        identifier if status in ("amended", "corrected", "appended") else "", people,
    )  # fmt: skip
    return report, labels


def _presented(forms: Iterator[Node], node: Node) -> list[tuple[str, str]]:
    texts = []
    for form in forms:
        text, wrong = attachment_text(form)
        if wrong:
            node.wrong.append(wrong)
        elif text.strip() and text not in texts:
            texts.append(text)
    return [("", "\n\n".join(texts))] if texts else []


def _results(node: Node, resources: Resources) -> list[tuple[str, str]]:
    """Return the results that are words: sections by their codes."""
    lines: dict[str, list[str]] = {}
    for reference in node.many("result"):
        found = resources.find(reference, node)
        words = found.text("valueString") if isinstance(found.content.get("valueString"), str) else ""
        if words:
            code = coded(found.one("code"))
            lines.setdefault(_SECTIONS.get(code.code, code.display.lower()), []).append(words)
    return [(name, "\n".join(texts)) for name, texts in lines.items()]


def _is_accession(identifier: Node) -> bool:
    codes = {c.text("code") for c in identifier.one("type").many("coding")}
    return "ACSN" in codes or "accession" in identifier.text("system").lower()


def _study_numbers(node: Node) -> tuple[str, str, str]:
    """Return (accession, who gave it, study UID) of an ImagingStudy's or request's own identifiers."""
    accession, given_by, uid = "", "", ""
    for identifier in node.many("identifier"):
        system, value = numbered(identifier)
        if system == _DICOM_UID:
            uid = value.removeprefix("urn:oid:")
        elif value and _is_accession(identifier):
            accession, given_by = value, system
    return accession, given_by, uid


def _numbers(node: Node, resources: Resources) -> tuple[str, str, str]:
    """Find accession and study UID: on the report, on its studies, on what it is based on."""
    found = [_study_numbers(node)]
    for key in ("imagingStudy", "study", "basedOn"):
        for reference in node.many(key):
            stated = numbered(reference.one("identifier"))
            if stated[0] == _DICOM_UID:
                found.append(("", "", stated[1].removeprefix("urn:oid:")))
            elif stated[1] and _is_accession(reference.one("identifier")):
                found.append((stated[1], stated[0], ""))
            target = resources.find(reference, node)
            if target:
                found.append(_study_numbers(target))
                if target.text("resourceType") == "ImagingStudy":
                    found += [_study_numbers(resources.find(r, target)) for r in target.many("basedOn")]
    accession = next((pair[:2] for pair in found if pair[0]), ("", ""))
    return *accession, next((pair[2] for pair in found if pair[2]), "")


def document_reference(node: Node, resources: Resources) -> RawReport | None:
    """Return the text of a DocumentReference; None, with a complaint, where it holds none."""
    sections = _presented((c.one("attachment") for c in node.many("content")), node)
    issuer, patient = resources.person(node.one("subject"), node)
    if not patient:
        node.wrong.append("DocumentReference names no patient")
    if not sections:
        return None
    accession, given_by, uid = _study_numbers(node)
    context = node.one("context")
    for reference in context.many("related"):
        accession, given_by, uid = (a or b for a, b in zip(
            (accession, given_by, uid), _study_numbers(resources.find(reference, node)), strict=True))  # fmt: skip
    state = node.text("docStatus") or node.text("status")
    own = node.text("id")
    title = coded(node.one("type")).display or node.text("description")
    people = resources.names([*node.many("author"), node.one("authenticator")], node)
    study_time = moment(context, "period")
    return RawReport(
        issuer, patient, tuple(sections), accession, given_by, uid, moment(node, "date"), study_time,
        node.text("language"), title, STATES.get(state, ""), "fhir", f"DocumentReference/{own}" if own else "",
        people=people,
    )  # fmt: skip


def imaging_study(node: Node, resources: Resources) -> RawStudy:
    """Return what an ImagingStudy says of its numbers."""
    accession, given_by, uid = _study_numbers(node)
    if not accession:
        for reference in node.many("basedOn"):
            stated = numbered(reference.one("identifier"))
            if stated[1] and _is_accession(reference.one("identifier")):
                accession, given_by = stated[1], stated[0]
            else:
                accession, given_by, _ = _study_numbers(resources.find(reference, node))
            if accession:
                break
    issuer, patient = resources.person(node.one("subject"), node)
    if not patient:
        node.wrong.append("ImagingStudy names no patient")
    return RawStudy(
        issuer, patient, uid, accession, given_by, moment(node, "started"), node.text("description"), "fhir"
    )
