"""Measurements to a DICOM Structured Report, TID 1500 "Measurement Report", read back before it stands."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import highdicom.sr as hd
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code as DicomCode
from pydicom.uid import Comprehensive3DSRStorage
from pydicom.valuerep import format_number_as_ds

from isocenter.core.errors import ConfigError, DataError, ProofError
from isocenter.core.mask import Segment
from isocenter.core.prediction import ModelRef
from isocenter.core.report import Finding
from isocenter.core.units import Code, Measurement
from isocenter.data.images.atomic import atomic_path
from isocenter.data.images.identity import MANUFACTURER, Origin, content_time, derive_uid, new_object
from isocenter.data.images.instance import open_instance
from isocenter.data.images.marks import Marks
from isocenter.data.images.quiet import quiet
from isocenter.data.images.references import ObjectReference, evidence_items, referenced_requests
from isocenter.data.images.sr.attested import attest, check_attested, signed_items
from isocenter.data.images.sr.content import Abstention, Answer, SrContent
from isocenter.data.images.sr.read import SrDocument, read_sr
from isocenter.data.images.sr.result_set import check_result_set, set_items
from isocenter.version import __version__

__all__ = ["write_sr"]

_Concept = hd.CodedConcept | DicomCode

_CONTAINS = hd.RelationshipTypeValues.CONTAINS
_CONCEPT_MOD = hd.RelationshipTypeValues.HAS_CONCEPT_MOD

_PROCEDURES = {  # CID 100
    "CT": Code("77477000", "SCT", "Computed tomography imaging"),
    "MR": Code("113091000", "SCT", "Magnetic resonance imaging"),
    "PT": Code("82918005", "SCT", "Positron emission tomography"),
    "US": Code("16310003", "SCT", "Ultrasonography"),
    "CR": Code("168537006", "SCT", "Plain radiography"),
    "DX": Code("168537006", "SCT", "Plain radiography"),
    "MG": Code("71651007", "SCT", "Mammography"),
    "NM": Code("373205008", "SCT", "Nuclear medicine imaging"),
}
_IMAGING = Code("363679005", "SCT", "Imaging procedure")
_PRESENCE = {
    "present": Code("52101004", "SCT", "Present"),
    "absent": Code("2667000", "SCT", "Absent"),
    "uncertain": Code("82334004", "SCT", "Indeterminate"),
}
_QUALITATIVE = Code("C0034375", "UMLS", "Qualitative Evaluations")
_SECTION_NAMES = {
    "findings": codes.DCM.Findings,
    "impression": codes.DCM.Impression,
}


@quiet()
def write_sr(
    content: SrContent,
    path: Path,
    *,
    headers: Sequence[Dataset],
    created: datetime | None = None,
    marks: Marks | None = None,
) -> SrDocument:
    """Write answers and abstentions as a Comprehensive 3D SR.

    Every segment becomes a measurement group that names the segment by number in its SEG and the series it was drawn
    on, or for a single plane the very image; the algorithm by name, version and sha256 of its weights; and its
    measurements with UCUM units. What was not done, and why, stands under "Qualitative Evaluations"; so do the
    sentences of a report that a person signed, which is then verified by that person, and final.

    Args:
        content: What the report says.
        path: Final file name; appears only when what was read back is what was to be written.
        headers: Of the image that was read.
        created: Date and time of making; None takes those of the source.
        marks: What it says of the algorithms behind it; None for nothing.

    Returns:
        The document as read back from the file.

    Raises:
        ConfigError: The language tag cannot be coded.
        DataError: No header, a segment or SEG that is not named, or the file cannot be written.
        ProofError: What was read back is not what was to be written.

    Source:
        DICOM PS3.16 TID 1500, 1411, 1501, 1600, 4019; PS3.3 A.35.13.
    """
    if not content.answers and not content.abstentions and content.signed is None:
        raise DataError("a report needs an answer or an abstention, and there is neither")
    # What a report that stands alone does not have must not change its UID.
    more = [content.results, *(a.shown_on for a in content.answers), *(a.unexamined for a in content.abstentions)]
    said = (content, created, *([more] if any(more) else []))
    digest = hashlib.sha256(repr(said).encode()).hexdigest()
    title = "Isocenter measurement report" if content.signed is None else "Isocenter signed report"
    if content.mark:
        title = f"{content.mark}: Isocenter report"[:64]
    number = 9201 if content.signed is None else 9202
    origin = Origin(Comprehensive3DSRStorage, "SR", title, number, (digest,), created, marks)
    dataset = new_object(headers, origin)
    root = _root(content, headers)
    for element in root:
        dataset[element.tag] = element
    dataset.ContentDate, dataset.ContentTime = content_time(headers, created)
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.PreliminaryFlag = "PRELIMINARY"
    if content.signed is not None:
        attest(dataset, content.signed)
    dataset.ReferencedPerformedProcedureStepSequence = []
    dataset.PerformedProcedureCodeSequence = []
    dataset.CurrentRequestedProcedureEvidenceSequence = evidence_items(_evidence(content, headers))
    if content.results is not None:
        requests = referenced_requests(headers)
        if requests:
            dataset.ReferencedRequestSequence = requests
    with atomic_path(path) as temporary:
        dataset.save_as(temporary, enforce_file_format=True)
        document = read_sr(temporary)
        _check(content, document)
        if content.signed is not None:
            check_attested(content.signed, open_instance(temporary), document)
        if content.results is not None:
            check_result_set(content.results, open_instance(temporary, pixels=False))
    return document


def _root(content: SrContent, headers: Sequence[Dataset]) -> Dataset:
    root = hd.ContainerContentItem(name=codes.DCM.ImagingMeasurementReport, template_id="1500")
    root.ContentSequence = hd.ContentSequence()
    root.ContentSequence.extend(hd.LanguageOfContentItemAndDescendants(_language(content.language)))
    device = hd.DeviceObserverIdentifyingAttributes(
        uid=derive_uid("device", __version__),
        name=MANUFACTURER,
        manufacturer_name=MANUFACTURER,
        model_name=MANUFACTURER,
        serial_number=__version__,
    )
    observer = hd.ObserverContext(observer_type=codes.DCM.Device, observer_identifying_attributes=device)
    root.ContentSequence.extend(hd.ObservationContext(observer_device_context=observer))
    procedure = content.procedure or _PROCEDURES.get(str(headers[0].get("Modality", "")), _IMAGING)
    root.ContentSequence.append(
        hd.CodeContentItem(name=codes.DCM.ProcedureReported, value=_concept(procedure), relationship_type=_CONCEPT_MOD)
    )
    root.ContentSequence.append(_library(headers))
    groups = [group for answer in content.answers for group in _groups(answer, _of_series(answer, headers))]
    groups += [group for one in content.abstentions if one.unexamined for group in _unexamined(one, headers)]
    if groups:
        root.ContentSequence.append(_container(codes.DCM.ImagingMeasurements, groups))
    root.ContentSequence.append(_container(_concept(_QUALITATIVE), _outcomes(content)))
    if content.results is not None:
        root.ContentSequence.extend(set_items(content.results))
    return root


def _of_series(answer: Answer, headers: Sequence[Dataset]) -> Sequence[Dataset]:
    """Return the headers of the series that an answer is of."""
    own = [h for h in headers if answer.series_uid and str(h.get("SeriesInstanceUID", "")) == answer.series_uid]
    if answer.series_uid and not own:
        raise DataError(f"task {answer.task} is of a series that no header was given of")
    return own or headers


def _container(name: _Concept, items: Sequence[hd.ContentItem]) -> hd.ContainerContentItem:
    container = hd.ContainerContentItem(name=name, relationship_type=_CONTAINS)
    container.ContentSequence = hd.ContentSequence()
    for item in items:
        container.ContentSequence.append(item)
    return container


def _library(headers: Sequence[Dataset]) -> hd.ContainerContentItem:
    """TID 1600: every source image once, without descriptors, which the images themselves state."""
    images = [
        hd.ImageContentItem(
            name=hd.CodedConcept("260753009", "SCT", "Source"),
            referenced_sop_class_uid=str(h.SOPClassUID),
            referenced_sop_instance_uid=str(h.SOPInstanceUID),
            relationship_type=_CONTAINS,
        )
        for h in headers
    ]
    return _container(codes.DCM.ImageLibrary, [_container(codes.DCM.ImageLibraryGroup, images)])


def _groups(answer: Answer, headers: Sequence[Dataset]) -> list[hd.ContentItem]:
    """Return one measurement group per segment, then one for the whole image."""
    named = {s.number for s in answer.segments}
    unknown = sorted({m.segment for m in answer.measurements if m.segment is not None} - named)
    if unknown:
        raise DataError(f"task {answer.task} measured in segments {unknown}, which its answer does not name")
    algorithm = _algorithm(answer.task, answer.model)
    out: list[hd.ContentItem] = []
    for segment in answer.segments:
        values = [m for m in answer.measurements if m.segment == segment.number]
        findings = [f for f in answer.report.findings if any(e.segment == segment.number for e in f.evidence)]
        out += [*_segment_group(answer, segment, values, findings, headers)]
    values = [m for m in answer.measurements if m.segment is None]
    findings = [f for f in answer.report.findings if not any(e.segment in named for e in f.evidence)]
    if values or findings:
        name = f"{answer.task} image"
        group = hd.MeasurementsAndQualitativeEvaluations(
            tracking_identifier=hd.TrackingIdentifier(_tracking_uid(name, headers), name),
            algorithm_id=algorithm,
            measurements=[_measurement(m) for m in values],
            qualitative_evaluations=[_evaluation(f) for f in findings],
            source_images=_sources(answer) or None,
        )
        out += [*group]
    return out


def _segment_group(
    answer: Answer,
    segment: Segment,
    values: Sequence[Measurement],
    findings: Sequence[Finding],
    headers: Sequence[Dataset],
) -> hd.ContentSequence:
    name = segment.tracking_id or f"{answer.task} segment {segment.number}"
    uid = segment.tracking_uid or _tracking_uid(name, headers)
    common: dict[str, Any] = {
        "tracking_identifier": hd.TrackingIdentifier(uid, name),
        "finding_category": _concept(segment.category),
        "finding_type": _concept(segment.type),
        "algorithm_id": _algorithm(answer.task, answer.model),
        "measurements": [_measurement(m) for m in values],
        "qualitative_evaluations": [_evaluation(f) for f in findings],
    }
    if segment.laterality is not None:
        site = hd.FindingSite(anatomic_location=_concept(segment.type), laterality=_concept(segment.laterality))
        common["finding_sites"] = [site]
    if answer.seg is None:
        return hd.MeasurementsAndQualitativeEvaluations(**common)
    # A frame and a segment number must not stand together (PS3.3 C.18.4), so TID 1411 serves single planes as well.
    if len(headers) == 1 and int(headers[0].get("NumberOfFrames") or 1) == 1:
        image = hd.SourceImageForSegmentation(str(headers[0].SOPClassUID), str(headers[0].SOPInstanceUID))
        drawn_on: dict[str, Any] = {"source_images": [image]}
    else:
        drawn_on = {"source_series": hd.SourceSeriesForSegmentation(str(headers[0].SeriesInstanceUID))}
    region = hd.ReferencedSegment(answer.seg.sop_class_uid, answer.seg.sop_instance_uid, segment.number, **drawn_on)
    return hd.VolumetricROIMeasurementsAndQualitativeEvaluations(referenced_segment=region, **common)


def _sources(answer: Answer) -> list[hd.SourceImageForMeasurementGroup]:
    return [
        hd.SourceImageForMeasurementGroup(
            one.sop_class_uid, one.sop_instance_uid, None if one.frame is None else [one.frame]
        )
        for one in answer.shown_on
    ]


def _unexamined(abstention: Abstention, headers: Sequence[Dataset]) -> hd.ContentSequence:
    """Say of each finding that a task would have spoken of that it was not looked for."""
    name = f"{abstention.task} not examined"
    return hd.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.TrackingIdentifier(_tracking_uid(name, headers), name),
        qualitative_evaluations=[
            hd.QualitativeEvaluation(name=_concept(code), value=codes.DCM.NotAttempted)
            for code in abstention.unexamined
        ],
    )


def _outcomes(content: SrContent) -> list[hd.ContentItem]:
    """Return for every task whether it answered, by what, and what its reader should know."""
    out: list[hd.ContentItem] = [_text(content.mark)] if content.mark else []
    for answer in content.answers:
        model = answer.model
        weights = f", weights sha256 {model.weights_sha256}" if model.weights_sha256 else ""
        licence = f", licence {model.licence}" if model.licence else ""
        out.append(_outcome(codes.DCM.Succeeded))
        out.append(_text(f"Task {answer.task} answered with {model.name} {model.version}{weights}{licence}."))
        for name, text in answer.report.sections.items():
            out.append(_text(text, _SECTION_NAMES.get(name.lower(), codes.DCM.Comment)))
        out.extend(_text(f"Task {answer.task}: {note}") for note in answer.notes)
    for abstention in content.abstentions:
        out.append(_outcome(codes.DCM.NotAttempted))
        out.append(_text(_abstained(abstention)))
    if content.signed is not None:
        out.extend(signed_items(content.signed))
    return out


def _abstained(abstention: Abstention) -> str:
    return f"Task {abstention.task} abstained: {abstention.reason}"


def _outcome(value: _Concept) -> hd.ContentItem:
    return hd.CodeContentItem(name=codes.DCM.SummaryOfAnalyses, value=value, relationship_type=_CONTAINS)


def _text(text: str, name: _Concept = codes.DCM.Comment) -> hd.ContentItem:
    return hd.TextContentItem(name=name, value=text or "(empty)", relationship_type=_CONTAINS)


def _measurement(measurement: Measurement) -> hd.Measurement:
    derivation = None if measurement.derivation is None else _concept(measurement.derivation)
    return hd.Measurement(
        name=_concept(measurement.name),
        value=float(format_number_as_ds(float(measurement.value))),
        unit=_concept(measurement.unit),
        derivation=derivation,
    )


def _evaluation(finding: Finding) -> hd.QualitativeEvaluation:
    return hd.QualitativeEvaluation(name=_concept(finding.code), value=_concept(_PRESENCE[finding.presence]))


def _algorithm(task: str, model: ModelRef) -> hd.AlgorithmIdentification:
    parameters = [f"task={task}"]
    if model.weights_sha256:
        parameters.append(f"weights-sha256={model.weights_sha256}")
    return hd.AlgorithmIdentification(
        name=model.name, version=model.version, parameters=parameters, manufacturer=MANUFACTURER
    )


def _tracking_uid(name: str, headers: Sequence[Dataset]) -> str:
    return str(derive_uid("tracking", name, str(headers[0].get("SeriesInstanceUID", ""))))


def _concept(code: Code) -> hd.CodedConcept:
    return hd.CodedConcept(code.value, code.scheme, code.meaning)


def _language(tag: str) -> hd.CodedConcept:
    if not 2 <= len(tag) <= 16 or not tag.replace("-", "").isalnum():
        raise ConfigError(f"a language must be a BCP 47 tag such as 'en' or 'de-CH', got {tag!r}")
    meanings = {"en": "English", "de": "German", "fr": "French", "es": "Spanish", "it": "Italian"}
    return hd.CodedConcept(tag, "RFC5646", meanings.get(tag.split("-")[0].lower(), tag))


def _evidence(content: SrContent, headers: Sequence[Dataset]) -> list[ObjectReference]:
    """List every instance that the tree refers to: source images, SEGs, and what the report is the root of."""
    wanted = [ObjectReference.of(h) for h in headers]
    wanted += [
        ObjectReference(a.seg.sop_class_uid, a.seg.sop_instance_uid, a.seg.series_uid, a.seg.study_uid)
        for a in content.answers
        if a.seg is not None
    ]
    return [*wanted, *(content.results.evidence if content.results is not None else ())]


def _check(content: SrContent, document: SrDocument) -> None:
    """Refuse a file that does not say what was to be said: every value, unit, segment and reason."""
    wanted = sorted(
        (m.name.value, m.unit.value, (m.segment or 0) if a.seg else 0, m.value)
        for a in content.answers
        for m in a.measurements
    )
    found = sorted((m.name.value, m.unit.value, m.segment or 0, m.value) for m in document.measurements)
    same = len(wanted) == len(found) and all(
        a[:3] == b[:3] and math.isclose(a[3], b[3], rel_tol=1e-9, abs_tol=1e-12)
        for a, b in zip(wanted, found, strict=True)
    )
    if not same:
        raise ProofError(
            "the report read back does not hold the measurements that were to be written; nothing was kept"
        )
    texts = "\n".join(document.texts)
    if content.mark and content.mark not in document.texts:
        raise ProofError("the report read back lacks the mark that it was to carry; nothing was kept")
    if any(_abstained(a) not in texts for a in content.abstentions):
        raise ProofError("the report read back lacks a reason for abstaining; nothing was kept")
