"""Every rule of the result set passes on ours, and catches at least one object that is broken on purpose."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
from pydicom import Dataset

from air_cases import result_set
from dciodvfy import dciodvfy_errors
from isocenter.core.errors import DataError
from isocenter.data.conformance import RULES, check_objects

SR, KO, CRITICAL = "image-0.sr.dcm", "image-0.ko.dcm", "image-0.critical.ko.dcm"
SEG, PR, PM = "image-0_outlines.seg.dcm", "image-0_outlines.pr.dcm", "image-0_findings.evidence-1.map.dcm"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return result_set(tmp_path_factory.mktemp("set"))


def tree(item: Dataset):
    yield item
    for child in item.get("ContentSequence") or ():
        yield from tree(child)


def name_of(item: Dataset) -> str:
    names = item.get("ConceptNameCodeSequence")
    return str(names[0].CodeValue) if names else ""


def first(d: Dataset, name: str) -> Dataset:
    return next(item for item in tree(d) if name_of(item) == name)


def without(name: str) -> Callable[[Dataset], None]:
    """Take every content item of a name out of a tree."""

    def change(d: Dataset) -> None:
        for item in tree(d):
            if "ContentSequence" in item:
                item.ContentSequence = [c for c in item.ContentSequence if name_of(c) != name]

    return change


def setting(keyword: str, value: object) -> Callable[[Dataset], None]:
    return lambda d: setattr(d, keyword, value)


def deleting(*keywords: str) -> Callable[[Dataset], None]:
    def change(d: Dataset) -> None:
        for keyword in keywords:
            del d[keyword]

    return change


def each(sequence: str, change: Callable[[Dataset], None]) -> Callable[[Dataset], None]:
    def every(d: Dataset) -> None:
        for item in d[sequence].value:
            change(item)

    return every


def shift(d: Dataset) -> None:
    for item in d.GraphicAnnotationSequence:
        for graphic in item.GraphicObjectSequence:
            graphic.GraphicData = [v + 3.0 if n % 2 == 0 else v for n, v in enumerate(graphic.GraphicData)]


def mirror(d: Dataset) -> None:
    for item in d.GraphicAnnotationSequence:
        for graphic in item.GraphicObjectSequence:
            graphic.GraphicData = [17 - v if n % 2 == 0 else v for n, v in enumerate(graphic.GraphicData)]


def outcomes_gone(d: Dataset) -> None:
    without("125007")(d)
    without("111065")(d)


BROKEN: dict[str, tuple[str, Callable[[Dataset], None]]] = {
    "common.character-set": (SR, lambda d: (setattr(d, "PatientComments", "Zoë"), delattr(d, "SpecificCharacterSet"))),
    "common.codes": (KO, lambda d: setattr(d.ConceptNameCodeSequence[0], "CodeMeaning", "")),
    "common.contribution": (PR, each("ContributingEquipmentSequence", deleting("Manufacturer"))),
    "common.device-uid": (SEG, deleting("DeviceUID")),
    "common.equipment": (PM, setting("ManufacturerModelName", "")),
    "common.meta": (SR, lambda d: setattr(d.file_meta, "MediaStorageSOPInstanceUID", "1.2.3")),
    "common.private-schemes": (SR, deleting("CodingSchemeIdentificationSequence")),
    "common.qualification": (SEG, setting("ContentQualification", "TRUSTED")),
    "common.uids": (SR, setting("SeriesInstanceUID", "1.02.3")),
    "ko.objects": (KO, without("260753009")),
    "ko.template": (KO, lambda d: setattr(d.ContentTemplateSequence[0], "TemplateIdentifier", "1500")),
    "ko.title": (KO, lambda d: setattr(d.ConceptNameCodeSequence[0], "CodeValue", "113999")),
    "pm.units": (PM, lambda d: delattr(d.SharedFunctionalGroupsSequence[0], "RealWorldValueMappingSequence")),
    "pr.area": (PR, deleting("DisplayedAreaSelectionSequence")),
    "pr.inside": (PR, lambda d: setattr(d.GraphicAnnotationSequence[0].GraphicObjectSequence[0], "GraphicData",
                                        [900.0] * 2 * d.GraphicAnnotationSequence[0].GraphicObjectSequence[0]
                                        .NumberOfGraphicPoints)),
    "pr.layers": (PR, lambda d: setattr(d.GraphicAnnotationSequence[0], "GraphicLayer", "NOWHERE")),
    "pr.lookup": (PR, deleting("PresentationLUTShape")),
    "pr.place": (PR, mirror),
    "pr.references": (PR, lambda d: setattr(d.GraphicAnnotationSequence[0].ReferencedImageSequence[0],
                                            "ReferencedSOPInstanceUID", "1.2.3")),
    "seg.algorithm": (SEG, each("SegmentSequence", deleting("SegmentAlgorithmName"))),
    "seg.codes": (SEG, each("SegmentSequence", deleting("SegmentedPropertyTypeCodeSequence"))),
    "seg.frame-of-reference": (SEG, setting("FrameOfReferenceUID", "1.2.3")),
    "seg.series": (SEG, deleting("ReferencedSeriesSequence")),
    "seg.tracking": (SEG, each("SegmentSequence", deleting("TrackingUID"))),
    "set.critical": (SR, without("73568-8")),
    "set.patient": (SEG, setting("PatientID", "SOMEBODY-ELSE")),
    "set.root": (SR, without("121180")),
    "set.series": (KO, lambda d: setattr(d, "SeriesInstanceUID", "1.2.3.4")),
    "set.study": (PR, setting("StudyInstanceUID", "1.2.3")),
    "set.unique": (KO, setting("SOPInstanceUID", "1.2.3.4.5")),
    "sr.algorithm": (SR, without("111003")),
    "sr.evidence": (SR, deleting("CurrentRequestedProcedureEvidenceSequence")),
    "sr.flags": (SR, setting("VerificationFlag", "VERIFIED")),
    "sr.language": (SR, without("121049")),
    "sr.library": (SR, without("111028")),
    "sr.observer": (KO, without("121012")),
    "sr.outcome": (SR, outcomes_gone),
    "sr.procedure": (SR, without("121058")),
    "sr.qualitative": (SR, lambda d: delattr(next(i for i in tree(d) if name_of(i) == "60046008"
                                                  and i.ValueType == "CODE"), "ConceptCodeSequence")),
    "sr.request": (SR, deleting("ReferencedRequestSequence")),
    "sr.same-tracking": (SEG, each("SegmentSequence", setting("TrackingUID", "1.2.3"))),
    "sr.segments": (SEG, each("SegmentSequence", lambda i: setattr(i, "SegmentNumber", i.SegmentNumber + 5))),
    "sr.template": (SR, deleting("ContentTemplateSequence")),
    "sr.tracking": (SR, without("112040")),
    "sr.units": (SR, lambda d: setattr(next(i for i in tree(d) if i.get("ValueType") == "NUM").MeasuredValueSequence[0]
                                       .MeasurementUnitsCodeSequence[0], "CodingSchemeDesignator", "99ISOCENTER")),
}  # fmt: skip
SECOND = {"set.series": CRITICAL, "set.unique": CRITICAL}  # the same is done to another object


def test_every_rule_holds_for_what_we_write(whole: Path) -> None:
    verdicts = check_objects(whole)
    assert [v.name for v in verdicts] == sorted(RULES) and len(RULES) == 45
    assert {v.name: v.faults for v in verdicts if v.state == "fail"} == {}
    assert {v.name for v in verdicts if v.state == "not applicable"} == {"common.character-set", "sr.outcome"}
    for file in whole.glob("*.dcm"):
        assert dciodvfy_errors(file) == [], file.name


def test_a_rule_says_where_it_comes_from() -> None:
    assert all(rule.source.startswith(("DICOM PS3.", "IHE RAD")) for rule in RULES.values())
    assert set(BROKEN) == set(RULES), "each rule has an object that breaks it"


@pytest.mark.parametrize("name", sorted(BROKEN))
def test_a_broken_object_is_caught(name: str, whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    place, change = BROKEN[name]
    for file in [place, *([SECOND[name]] if name in SECOND else [])]:
        dataset = pydicom.dcmread(folder / file)
        with pydicom.config.disable_value_validation():
            change(dataset)
            if name == "set.series" and file == CRITICAL:
                dataset.Modality = "SR"
            dataset.save_as(folder / file)
    found = {v.name: v for v in check_objects(folder)}
    assert found[name].state == "fail", found[name]
    said = " ".join(f for v in found.values() for f in v.faults)
    assert "PHANTOM" not in said and "SOMEBODY" not in said and "Zo" not in said, "no patient's value in a verdict"


def test_a_shifted_outline_is_caught(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    dataset = pydicom.dcmread(folder / PR)
    shift(dataset)
    dataset.save_as(folder / PR)
    assert {v.name: v.state for v in check_objects(folder)}["pr.place"] == "fail"


def test_an_outline_of_another_shape_within_the_same_bounds_is_caught(whole: Path, tmp_path: Path) -> None:
    folder = tmp_path / "set"
    shutil.copytree(whole, folder)
    dataset = pydicom.dcmread(folder / PR)
    for item in dataset.GraphicAnnotationSequence:
        for graphic in item.GraphicObjectSequence:
            if graphic.GraphicType == "POLYLINE":
                left, right = min(graphic.GraphicData[::2]), max(graphic.GraphicData[::2])
                top, bottom = min(graphic.GraphicData[1::2]), max(graphic.GraphicData[1::2])
                graphic.GraphicData = [left, top, right, top, left, bottom, left, top]
                graphic.NumberOfGraphicPoints = 4
    dataset.save_as(folder / PR)
    assert {v.name: v.state for v in check_objects(folder)}["pr.place"] == "fail"


def test_a_folder_without_results_is_refused(whole: Path) -> None:
    with pytest.raises(DataError, match="no report"):
        check_objects(whole / "images")
