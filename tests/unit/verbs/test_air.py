"""What becomes a word in a result set and what stays a number; what the node collects; what can't wait."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pydicom
import pytest

from air_cases import EFFUSION, LESION, MODEL, NODULE, card, result_set
from isocenter.clinic.ports import Route, Work
from isocenter.core import Geometry, Image, Mask, Prediction, Scores, Segment, Source, TaskEntry
from isocenter.core.knowledge import PRESENCE_CODES
from isocenter.core.prediction import Uncertainty
from isocenter.data.conformance import check_objects
from isocenter.data.images.key_objects import read_key_objects
from isocenter.verbs.air import AirSettings, CriticalFinding, findings_of, tracked, unexamined
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.tasks import answer
from isocenter.verbs.running import Answer
from toy_plugin import install_toy

THERE, NOT = PRESENCE_CODES["present"], PRESENCE_CODES["absent"]


def scored(*sets: Uncertainty, own: Uncertainty) -> Prediction:
    value = Scores(((EFFUSION, 0.9), (NODULE, 0.5), (LESION, 0.1)))
    return Prediction(value, "t", own, model=MODEL, inputs=("x",), further=sets)


def words(prediction: Prediction) -> dict[str, str]:
    return {f.code.meaning: f.presence for f in findings_of(prediction)}


def test_only_a_promise_makes_a_word() -> None:
    none = Uncertainty("margin", "nothing is promised")
    assert words(scored(own=none)) == {}
    sets = [Uncertainty("set", "p", level=0.9, members=m, about=c)
            for c, m in ((EFFUSION, (THERE,)), (NODULE, (THERE, NOT)), (LESION, (NOT,)))]  # fmt: skip
    assert words(scored(*sets, own=none)) == {
        "Pleural effusion": "present", "Nodule": "uncertain", "Lesion": "absent"
    }  # fmt: skip
    one, two, empty = ((EFFUSION,), (EFFUSION, NODULE), ())
    of = lambda members: words(scored(own=Uncertainty("set", "p", level=0.9, members=members)))  # noqa: E731
    assert of(one) == {"Pleural effusion": "present", "Nodule": "absent", "Lesion": "absent"}
    assert of(two) == {"Pleural effusion": "uncertain", "Nodule": "uncertain", "Lesion": "absent"}
    assert set(of(empty).values()) == {"uncertain"}


def test_no_two_things_of_one_series_are_followed_under_one_uid() -> None:
    def said(index: int, instance: str, *texts: str) -> Answer:
        grid = Geometry.axial((1, 2, 3), spacing_mm=(1.0, 0.8, 0.7), origin_mm=(0.0, 0.0, float(index)))
        source = Source("1.2", "1.2.3", (instance,))
        array = np.ones((len(texts), 1, 2, 3), bool)
        segments = tuple(Segment(n, "Lesion", tracking_id=text) for n, text in enumerate(texts, start=1))
        found = Prediction(
            Mask(array, grid, segments, source), "t", Uncertainty("margin", "n"), model=MODEL, inputs=("x",)
        )
        image = Image(np.zeros((1, 1, 2, 3), np.int16), grid, modality="DX", source=source)
        return Answer(index, image, TaskEntry(card("finder"), "none:none"), found)

    def uids(*answers: Answer) -> list[str]:
        return [s.tracking_uid for a in tracked(answers) for s in a.prediction.value.segments]  # type: ignore[union-attr]

    one = uids(said(0, "1.2.3.1", "lesion", "lesion", ""))
    assert len(set(one)) == 3
    assert uids(said(0, "1.2.3.0", "lesion", "lesion", "")) == one, (
        "more of the series came; what is followed is the same"
    )
    two = uids(said(0, "1.2.3.1", ""), said(1, "1.2.3.2", ""))
    assert len(set(two)) == 2 and two == uids(said(0, "1.2.3.1", ""), said(1, "1.2.3.2", ""))


def test_what_a_shipped_task_did_not_look_for_is_named() -> None:
    assert [c.meaning for c in unexamined("breast-us", "the image is too dark")] == ["benign", "malignant", "normal"]
    assert unexamined("breast-us", "needs modality US, this image is CT") == ()
    assert unexamined("lungs-cxr", "the image is too dark") == ()


def test_a_private_code_is_critical_by_its_meaning_too() -> None:
    rule = CriticalFinding(value="class-1", scheme="99ISOCENTER", meaning="Malignant")
    code = replace(EFFUSION, value="class-1", scheme="99ISOCENTER", meaning="malignant")
    assert rule.is_about(code) and not rule.is_about(replace(code, meaning="benign"))


def test_what_can_wait_is_not_flagged_and_parts_can_be_left_out(tmp_path: Path) -> None:
    folder = result_set(tmp_path, critical=(), presentation=False, parametric_maps=False)
    made = sorted(f.name for f in folder.glob("*.dcm"))
    assert made == ["image-0.ko.dcm", "image-0.sr.dcm", "image-0_outlines.seg.dcm"]
    assert all(state is None for _, state in read_key_objects(folder / "image-0.ko.dcm").images)
    assert "fail" not in {v.state for v in check_objects(folder)}


def test_key_images_are_where_it_is_largest_and_where_it_was_looked_at(tmp_path: Path) -> None:
    folder = result_set(tmp_path)
    selected = {i.sop_instance_uid for i, _ in read_key_objects(folder / "image-0.ko.dcm").images}
    at = {str(d.SOPInstanceUID): int(d.InstanceNumber) for d in map(pydicom.dcmread, (folder / "images").iterdir())}
    critical = read_key_objects(folder / "image-0.critical.ko.dcm")
    assert len(selected) == 3 and {i.sop_instance_uid for i, _ in critical.images} < selected
    assert set(selected) <= set(at)
    assert "Pleural effusion" in critical.description


def work(tmp_path: Path, task: str) -> Work:
    from isocenter.testing import phantom
    from isocenter.testing.dicom_phantom import write_ct_series

    write_ct_series(tmp_path / "study", phantom(5, shape=(3, 12, 12)))
    return Work("1.2.3", 1, Route("rule", (task,)), tmp_path / "study", "h", tmp_path / "out")


def test_the_mark_stands_in_every_object_of_a_set(tmp_path: Path) -> None:
    folder = result_set(tmp_path, mark="AI result, not for diagnosis")
    made = {f.name: pydicom.dcmread(f).to_json() for f in folder.glob("*.dcm")}
    assert len(made) == 7
    assert [name for name, said in made.items() if "AI result, not for diagnosis" not in said] == []
    assert "fail" not in {v.state for v in check_objects(folder)}


def test_the_node_collects_the_whole_set_and_says_why_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(install_toy(tmp_path / "toy", {"toy-bright": "BRIGHT"})))
    found = answer(work(tmp_path, "toy-bright"), {"air": AirSettings(inference_time=True)})
    assert [f.path.name for f in found.files] == [
        "image-0_toy-bright.seg.dcm", "image-0_toy-bright.pr.dcm", "image-0.ko.dcm", "image-0.sr.dcm"
    ]  # fmt: skip
    report = pydicom.dcmread(found.files[-1].path)
    assert str(report.ContributingEquipmentSequence[0].ContributionDateTime)[:8] == report.ContentDate
    assert "fail" not in {v.state for v in check_objects(tmp_path / "out")}
    told = json.loads((tmp_path / "out" / "result.json").read_text())
    assert told["provenance"]["config"]["air"]["qualification"] == "RESEARCH"
    none = answer(work(tmp_path / "none", "hippocampus-t1"), {"air": AirSettings()})
    (file,) = none.files
    assert none.said[0].state == "abstained" and pydicom.dcmread(file.path).ContentQualification == "RESEARCH"
    assert "fail" not in {v.state for v in check_objects(tmp_path / "none" / "out")}


def test_results_are_of_the_rules_that_are_named() -> None:
    base = {
        "store": "s", "entities": [{"title": "A", "callers": [{"title": "B"}]}],
        "rules": [{"name": "one", "tasks": ["t"]}, {"name": "two", "tasks": ["t"]}],
    }  # fmt: skip
    config = ClinicConfig.model_validate({**base, "results": {"rules": ["two"], "qualification": "SERVICE"}})
    assert config.results is not None and config.results.of_rule("one") is None
    settings = config.results.of_rule("two")
    assert settings is not None and settings.qualification == "SERVICE" and type(settings) is AirSettings
    with pytest.raises(ValueError, match="no rule is named three"):
        ClinicConfig.model_validate({**base, "results": {"rules": ["three"]}})
    assert ClinicConfig.model_validate(base).results is None
