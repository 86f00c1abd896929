"""Reports as XML of public collections: Open-i (Indiana University), and BioC, which labellers of reports write."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree import ElementTree

from isocenter.core.errors import DataError
from isocenter.data.records.rows import Found, RawLabel, RawReport, Refusal

__all__ = ["read_xml"]

_LANGUAGES = {"eng": "en", "ger": "de", "deu": "de", "spa": "es", "fre": "fr", "fra": "fr", "ita": "it", "por": "pt"}
_OTHERS = {
    "ClinicalDocument": "a CDA document is not read; send it as FHIR JSON, HL7 v2 or text",
    "Bundle": "FHIR as XML is not read; send it as JSON",
    "Workbook": "a spreadsheet is not read; save it as CSV",
}


def read_xml(data: bytes, source: str) -> Found:
    """Read reports from XML.

    Args:
        data: One eCitation of Open-i, or a collection of BioC.
        source: What it is called in refusals.

    Raises:
        DataError: No XML, or with a document type of its own, which could make it unfold without end.

    Source:
        Demner-Fushman et al., J Am Med Inform Assoc 2016;23:304 (the Indiana collection); BioC, Comeau et al. 2013.

    Example:
        >>> xml = b'<eCitation><uId id="CXR1"/><AbstractText Label="FINDINGS">Clear.</AbstractText></eCitation>'
        >>> read_xml(xml, "1.xml").reports[0].sections
        (('findings', 'Clear.'),)
    """
    if re.search(rb"<!(DOCTYPE|ENTITY)", data[:65536]) and b"<!ENTITY" in data:
        raise DataError("XML that declares entities of its own is not read", source=source)
    try:
        root = ElementTree.fromstring(data)  # noqa: S314 entities are refused above
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise DataError("no XML, or damaged", source=source) from error
    name = _local(root.tag)
    if name == "eCitation":
        return _open_i(root, source)
    if name == "collection":
        return _bioc(root, source)
    reason = _OTHERS.get(name, "XML of a kind that is not read")
    return Found(refused=(Refusal(source, reason, "refused" if name in _OTHERS else "ignored"),))


def _local(tag: str) -> str:
    return tag.rsplit("}", 1)[-1]


def _open_i(root: ElementTree.Element, source: str) -> Found:
    uid = root.find("uId")
    identifier = (uid.get("id") or "").strip() if uid is not None else ""
    parts: dict[str, list[str]] = {}
    for element in root.iter("AbstractText"):
        text = "".join(element.itertext()).strip()
        if text:
            parts.setdefault((element.get("Label") or "").strip().lower(), []).append(text)
    labels = [
        RawLabel("MeSH" if kind == "major" else "MeSH automatic", (term.text or "").strip(), file=identifier,
                 rater="" if kind == "major" else "automatic", kind="finding", form="openi")
        for mesh in root.iter("MeSH") for kind in ("major", "automatic") for term in mesh.iter(kind)
        if (term.text or "").strip()
    ]  # fmt: skip
    images = tuple(i for image in root.iter("parentImage") if (i := (image.get("id") or "").strip()))
    captions = [c.text.strip() for c in root.iter("caption") if c.text and c.text.strip()]
    language = next((_LANGUAGES.get((e.text or "").strip(), "") for e in root.iter("Language")), "")
    if not identifier:
        return Found(refused=(Refusal(source, "an eCitation without uId; what its report is called can't be told"),))
    if not parts:
        reason = "a report without a text; its labels and images are kept" if labels else "a report without a text"
        return Found(labels=tuple(labels), refused=(Refusal(source, reason),))
    sections = tuple((name, "\n".join(texts)) for name, texts in parts.items())
    report = RawReport(
        "", "", sections, language=language, title=captions[0] if captions else "", status="final", form="openi",
        identifier=identifier, images=images,
    )  # fmt: skip
    return Found(reports=(report,), labels=tuple(labels))


def _bioc(root: ElementTree.Element, source: str) -> Found:
    reports: list[RawReport] = []
    labels: list[RawLabel] = []
    refused: list[Refusal] = []
    for number, document in enumerate(root.iter("document"), start=1):
        own = (document.findtext("id") or "").strip()
        identifier, inside = own or f"document {number}", None if own else source.partition("/")[2]
        passages = [p.findtext("text") or "" for p in document.iter("passage")]
        if not any(text.strip() for text in passages):
            refused.append(Refusal(f"{source}: document {number}", "has no text"))
            continue
        whole = "\n".join(text for text in passages if text.strip())
        reports.append(RawReport("", "", (("", whole),), form="bioc", identifier=identifier, inside=inside))
        labels.extend(_annotated(document, identifier, inside))
    return Found(reports=tuple(reports), labels=tuple(labels), refused=tuple(refused))


def _annotated(document: ElementTree.Element, identifier: str, inside: str | None) -> Iterator[RawLabel]:
    for annotation in document.iter("annotation"):
        infons = {i.get("key") or "": (i.text or "").strip() for i in annotation.iter("infon")}
        term = infons.get("term") or (annotation.findtext("text") or "").strip()
        if term:
            value = "absent" if {"neg", "negation"} & set(infons) else "present"
            value = "uncertain" if {"uncertain", "uncertainty"} & set(infons) else value
            rater = infons.get("annotator", "")
            yield RawLabel(term, value, file=identifier, rater=rater, kind="finding", form="bioc", inside=inside)
