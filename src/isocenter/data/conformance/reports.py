"""Rules of structured reports and key object selections."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from pydicom import Dataset
from pydicom.sr.codedict import codes

from isocenter.data.conformance.rules import Objects, rule
from isocenter.data.images.key_objects import CRITICAL

__all__ = ["groups", "named", "referenced", "walk"]

_REPORT: Final = ("126000", "DCM")
_LANGUAGE, _OBSERVER, _DEVICE, _DEVICE_UID = "121049", "121005", "121007", "121012"
_PROCEDURE, _LIBRARY = "121058", "111028"
_GROUP, _TRACKING, _TRACKING_UID = "125007", "112039", "112040"
_NAME, _VERSION = "111001", "111003"
_NOT_ATTEMPTED = codes.DCM.NotAttempted.value
_STRUCTURAL = {"121071", "276214006", "121049", "272741003", "363698007", "370129005", "121401", "111000"}


def walk(item: Dataset) -> Iterator[Dataset]:
    """Yield a content item and all below it."""
    yield item
    for child in item.get("ContentSequence") or ():
        yield from walk(child)


def named(item: Dataset) -> str:
    """Return the code value of a content item's name, "" where it has none."""
    name = item.get("ConceptNameCodeSequence")
    return str(name[0].get("CodeValue") or "") if name else ""


def groups(dataset: Dataset) -> list[Dataset]:
    """Return the measurement groups of a report."""
    return [item for item in walk(dataset) if named(item) == _GROUP]


def referenced(dataset: Dataset) -> Iterator[Dataset]:
    """Yield every reference to an object in a content tree, presentation states of images too."""
    for item in walk(dataset):
        for sop in item.get("ReferencedSOPSequence") or ():
            yield sop
            yield from sop.get("ReferencedSOPSequence") or ()


def listed(dataset: Dataset) -> dict[str, str]:
    """Return the study of every instance that a document lists as evidence, by its UID."""
    return {
        str(sop.ReferencedSOPInstanceUID): str(study.StudyInstanceUID)
        for keyword in ("CurrentRequestedProcedureEvidenceSequence", "PertinentOtherEvidenceSequence")
        for study in dataset.get(keyword) or ()
        for series in study.ReferencedSeriesSequence
        for sop in series.ReferencedSOPSequence
    }


def _values(item: Dataset, name: str) -> list[Dataset]:
    return [child for child in item.get("ContentSequence") or () if named(child) == name]


def _template(dataset: Dataset) -> str:
    stated = dataset.get("ContentTemplateSequence")
    return str(stated[0].get("TemplateIdentifier") or "") if stated else ""


@rule(
    "sr.template",
    "A report of measurements follows TID 1500 and is titled so",
    "DICOM PS3.16 TID 1500, CID 7021",
    on=("SR",),
    profile=True,
)
def _sr_template(dataset: Dataset, _: Objects) -> Iterator[str]:
    if _template(dataset) != "1500":
        yield "the root's template is not 1500"
    if named(dataset) != _REPORT[0]:
        yield "the document's title is not Imaging Measurement Report"


@rule("sr.language", "A report says in which language it is", "DICOM PS3.16 TID 1500, TID 1204", on=("SR",))
def _sr_language(dataset: Dataset, _: Objects) -> Iterator[str]:
    if not _values(dataset, _LANGUAGE):
        yield "no language"


@rule(
    "sr.observer",
    "A report says that a device observed, and which",
    "DICOM PS3.16 TID 1002, TID 1004",
    on=("SR", "KO"),
    profile=True,
)
def _sr_observer(dataset: Dataset, _: Objects) -> Iterator[str]:
    kinds = {str(i.ConceptCodeSequence[0].CodeValue) for i in _values(dataset, _OBSERVER) if "ConceptCodeSequence" in i}
    if _DEVICE not in kinds:
        yield "no observer is a device"
    elif not any(item.get("UID") for item in _values(dataset, _DEVICE_UID)):
        yield "the observing device has no UID"


@rule(
    "sr.procedure",
    "A report names the procedure that it is of",
    "DICOM PS3.16 TID 1500 (Procedure Reported)",
    on=("SR",),
)
def _sr_procedure(dataset: Dataset, _: Objects) -> Iterator[str]:
    if not _values(dataset, _PROCEDURE):
        yield "no procedure reported"


@rule("sr.library", "A report lists the images that it was made from", "DICOM PS3.16 TID 1500, TID 1600", on=("SR",))
def _sr_library(dataset: Dataset, _: Objects) -> Iterator[str]:
    libraries = [item for item in walk(dataset) if named(item) == _LIBRARY]
    if not any(item.get("ValueType") == "IMAGE" for library in libraries for item in walk(library)):
        yield "no image library, or none with an image"


@rule(
    "sr.tracking",
    "Every finding has a tracking identifier and a tracking UID",
    "DICOM PS3.16 TID 1411, TID 1501",
    on=("SR",),
    profile=True,
)
def _sr_tracking(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    found = groups(dataset)
    if not found:
        return None
    return (
        "a measurement group without tracking"
        for group in found
        if not _values(group, _TRACKING) or not _values(group, _TRACKING_UID)
    )


@rule(
    "sr.algorithm",
    "Every finding names its algorithm and the algorithm's version",
    "DICOM PS3.16 TID 4019",
    on=("SR",),
    profile=True,
)
def _sr_algorithm(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    found = [group for group in groups(dataset) if not _is_unexamined(group)]
    if not found:
        return None
    return (
        "a measurement group without algorithm name and version"
        for group in found
        if not {_NAME, _VERSION} <= {named(item) for item in walk(group)}
    )


def _is_unexamined(group: Dataset) -> bool:
    """Tell whether a group says only what was not looked for; no algorithm did that."""
    said = [item for item in group.get("ContentSequence") or () if item.get("ValueType") in ("CODE", "NUM")]
    return bool(said) and all(
        item.ValueType == "CODE" and str(item.ConceptCodeSequence[0].CodeValue) == _NOT_ATTEMPTED for item in said
    )


@rule(
    "sr.units",
    "Every measured value has one value and a UCUM unit",
    "DICOM PS3.3 C.18.1; PS3.16 TID 300, CID 82",
    on=("SR",),
)
def _sr_units(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    numbers = [item for item in walk(dataset) if item.get("ValueType") == "NUM"]
    return (fault for item in numbers for fault in _number(item)) if numbers else None


def _number(item: Dataset) -> Iterator[str]:
    measured = item.get("MeasuredValueSequence")
    if not measured:
        if not item.get("NumericValueQualifierCodeSequence"):
            yield "a number without a value, and without a reason for none"
        return
    units = measured[0].get("MeasurementUnitsCodeSequence")
    if measured[0].get("NumericValue") is None:
        yield "a number without a value"
    if not units or units[0].get("CodingSchemeDesignator") != "UCUM":
        yield "a number without a UCUM unit"


@rule(
    "sr.qualitative",
    "Every qualitative finding has a coded value",
    "DICOM PS3.16 TID 1501 (Qualitative Evaluations)",
    on=("SR",),
    profile=True,
)
def _sr_qualitative(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    found = [
        item
        for group in groups(dataset)
        for item in group.get("ContentSequence") or ()
        if item.get("ValueType") in ("CODE", "TEXT")
        and item.get("RelationshipType") == "CONTAINS"
        and named(item) not in _STRUCTURAL
    ]
    return (
        (
            "a qualitative finding whose value is no code"
            for item in found
            if item.ValueType != "CODE" or not item.get("ConceptCodeSequence")
        )
        if found
        else None
    )


@rule(
    "sr.outcome",
    "Where an algorithm gave no answer, the report says so in code",
    "DICOM PS3.16 CID 6042",
    on=("SR",),
    profile=True,
)
def _sr_outcome(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    if groups(dataset):
        return None
    said = [item for item in walk(dataset) if item.get("ValueType") == "CODE" and named(item) == "111065"]
    return iter([] if said else ["no finding, and no coded outcome that says why"])


@rule(
    "sr.evidence",
    "All that a document refers to stands in its list of evidence",
    "DICOM PS3.3 C.17.2.3",
    on=("SR", "KO"),
)
def _sr_evidence(dataset: Dataset, _: Objects) -> Iterator[str]:
    known = listed(dataset)
    if any(str(sop.get("ReferencedSOPInstanceUID")) not in known for sop in referenced(dataset)):
        yield "it refers to an object that its evidence does not list"


@rule(
    "sr.flags",
    "A report says whether it is complete, and whether somebody verified it",
    "DICOM PS3.3 C.17.2",
    on=("SR",),
)
def _sr_flags(dataset: Dataset, _: Objects) -> Iterator[str]:
    if dataset.get("CompletionFlag") not in ("COMPLETE", "PARTIAL"):
        yield "no completion flag"
    verified = dataset.get("VerificationFlag")
    if verified not in ("VERIFIED", "UNVERIFIED"):
        yield "no verification flag"
    if (verified == "VERIFIED") != bool(dataset.get("VerifyingObserverSequence")):
        yield "verified without a person who did, or the other way round"


@rule(
    "sr.request",
    "A document of a study with an accession number refers to the request",
    "DICOM PS3.3 C.17.2, C.17.6.2",
    on=("SR", "KO"),
    profile=True,
)
def _sr_request(dataset: Dataset, _: Objects) -> Iterator[str] | None:
    accession = str(dataset.get("AccessionNumber") or "")
    if not accession:
        return None
    requests = [str(item.get("AccessionNumber") or "") for item in dataset.get("ReferencedRequestSequence") or ()]
    return iter([] if accession in requests else ["the request is not referred to"])


@rule("ko.template", "A key object selection follows TID 2010", "DICOM PS3.16 TID 2010", on=("KO",))
def _ko_template(dataset: Dataset, _: Objects) -> Iterator[str]:
    if _template(dataset) != "2010":
        yield "the root's template is not 2010"


@rule(
    "ko.title",
    "A key object selection is titled by a code of CID 7010, or as critical",
    "DICOM PS3.16 CID 7010 (extensible)",
    on=("KO",),
)
def _ko_title(dataset: Dataset, _: Objects) -> Iterator[str]:
    known = {(c.value, c.scheme_designator) for c in codes.cid7010.concepts.values()} | {
        (CRITICAL.value, CRITICAL.scheme)
    }
    title = (dataset.get("ConceptNameCodeSequence") or [Dataset()])[0]
    if (str(title.get("CodeValue")), str(title.get("CodingSchemeDesignator"))) not in known:
        yield "the title is none of CID 7010"


@rule(
    "ko.objects",
    "A key object selection selects something, of its own study",
    "DICOM PS3.16 TID 2010; PS3.3 C.17.6.2",
    on=("KO",),
)
def _ko_objects(dataset: Dataset, _: Objects) -> Iterator[str]:
    known = listed(dataset)
    selected = [str(sop.get("ReferencedSOPInstanceUID")) for sop in referenced(dataset)]
    if not selected:
        yield "nothing is selected"
    if any(known.get(uid, dataset.StudyInstanceUID) != dataset.StudyInstanceUID for uid in selected):
        yield "it selects from another study"
