"""The prompt file: read, told where it is wrong, and matched to images and tasks."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from isocenter.core import Code, Mask, ModelRef, Prediction, Segment, Source, Study, TaskCard, TaskEntry, Uncertainty
from isocenter.core.errors import ConfigError
from isocenter.core.mask import ANATOMICAL_STRUCTURE
from isocenter.testing import phantom
from isocenter.verbs.prompts import check_places, load_prompts, name_segments, prompts_schema, targets_for

ROOT = Path(__file__).resolve().parents[3]
POINT = {"kind": "point", "coordinates": [[1.0, 2.0, 3.0]]}


def _file(tmp_path: Path, *targets: dict[str, Any]) -> Path:
    path = tmp_path / "prompts.json"
    path.write_text(json.dumps({"prompts_version": "1.0", "targets": list(targets)}), "utf-8")
    return path


def _card(**changes: Any) -> TaskCard:
    given: dict[str, Any] = {
        "name": "t", "title": "T", "modalities": (), "body_parts": (), "needs_volume": None, "needs_spacing": False,
        "prompts": ("point", "box"), "needs_prompt": True, "intended_use": "-", "not_for": "-", "licence": "MIT",
    }  # fmt: skip
    return TaskCard(**{**given, **changes})


def _entries(*cards: TaskCard) -> dict[str, TaskEntry]:
    return {card.name: TaskEntry(card, "nowhere:T") for card in cards or (_card(),)}


def _study(count: int = 1) -> Study:
    images = tuple(
        replace(phantom(), source=Source(series_uid=f"1.2.{n}", files=(f"folder/{n}.dcm",))) for n in range(count)
    )
    return Study("key", images=images)


def test_a_whole_file(tmp_path: Path) -> None:
    box = {"kind": "box", "frame": "index_zyx", "coordinates": [[0, 0, 0], [1, 2, 3]], "positive": False}
    loaded = load_prompts(_file(tmp_path, {"label": "Liver", "task": "t", "prompts": [POINT, box]}))
    first, second = loaded.targets[0].core_prompts()
    assert first.kind == "point" and first.positive and first.frame == "lps_mm" and first.label == "Liver"
    assert first.coordinates.tolist() == [[1.0, 2.0, 3.0]]
    assert second.frame == "index_zyx" and not second.positive and second.coordinates.shape == (2, 3)
    assert len(loaded.sha256) == 64


@pytest.mark.parametrize(
    ("target", "place"),
    [
        ({"prompts": [POINT]}, r"targets\[0\]\.label: Field required"),
        ({"label": "a", "prompts": []}, r"targets\[0\]\.prompts: .*at least 1 item"),
        ({"label": "a", "prompts": [{"kind": "dot"}]}, r"targets\[0\]\.prompts\[0\]\.kind: .*'point'"),
        ({"label": "a", "prompts": [{"kind": "point", "coordinates": [[1, 2]]}]}, r"\.coordinates\[0\]"),
        ({"label": "a", "prompts": [{"kind": "point", "coordinates": [[1, 2, "x"]]}]}, r"coordinates\[0\]\[2\]"),
        ({"label": "a", "prompts": [{"kind": "point", "points": 1}]}, r"prompts\[0\]\.points: Extra inputs"),
        ({"label": "a", "image": {"index": 0, "file": "x"}, "prompts": [POINT]}, r"image: give exactly one of"),
        ({"label": "a", "image": {}, "prompts": [POINT]}, r"image: give exactly one of"),
        ({"label": "a", "colour": [0, 0, 999], "prompts": [POINT]}, r"colour must be three numbers from 0 to 255"),
        ({"label": "a", "laterality": "port", "prompts": [POINT]}, r"targets\[0\]\.laterality"),
        ({"label": "a", "prompts": [{"kind": "point"}]}, r"targets\[0\] \('a'\): a point prompt can't have 0 points"),
        ({"label": "a", "prompts": [{"kind": "box", "coordinates": [[1, 2, 3]]}]}, r"a box prompt can't have 1"),
        ({"label": "a\\b", "prompts": [POINT]}, r"targets\[0\]\.label: .*backslash"),
        ({"label": "a\nb", "prompts": [POINT]}, r"targets\[0\]\.label: .*control character"),
        ({"label": "a" * 65, "prompts": [POINT]}, r"targets\[0\]\.label: .*at most 64"),
    ],
)
def test_a_wrong_field_is_named(tmp_path: Path, target: dict[str, Any], place: str) -> None:
    with pytest.raises(ConfigError, match=place):
        load_prompts(_file(tmp_path, target))


def test_broken_json_names_line_and_column(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text('{\n "prompts_version": "1.0",\n "targets": [,]\n}', "utf-8")
    with pytest.raises(ConfigError, match="line 3, column 14"):
        load_prompts(path)
    path.write_bytes(b"\xff\xfe{}")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load_prompts(path)
    with pytest.raises(ConfigError, match="can't be read"):
        load_prompts(tmp_path / "absent.json")
    path.write_text('{"prompts_version": "9", "targets": []}', "utf-8")
    with pytest.raises(ConfigError, match=r"prompts_version.*\(and 1 more\)"):
        load_prompts(path)
    path.write_text('{"prompts_version": "1.0", "targets": [{"label": "a", "prompts": [{"kind": "point", '
                    '"coordinates": [[NaN, 0, 0]]}]}]}', "utf-8")  # fmt: skip
    with pytest.raises(ConfigError, match=r"coordinates\[0\]\[0\].*finite"):
        load_prompts(path)


def test_which_image_is_meant(tmp_path: Path) -> None:
    study = _study(3)
    choices: list[dict[str, Any]] = [{"index": 2}, {"series_uid": "1.2.1"}, {"file": "0.dcm"}, {"file": "folder/2.dcm"}]
    loaded = load_prompts(
        _file(tmp_path, *({"label": f"t{n}", "image": c, "prompts": [POINT]} for n, c in enumerate(choices)))
    )
    check_places(loaded.targets, study, _entries())
    hits = [[t.label for t in targets_for(loaded.targets, study, i, _card(), named=False)] for i in range(3)]
    assert hits == [["t2"], ["t1"], ["t0", "t3"]]


def test_a_target_that_would_be_left_aside_is_refused(tmp_path: Path) -> None:
    loaded = load_prompts(_file(tmp_path, {"label": "a", "prompts": [POINT]})).targets
    check_places(loaded, _study(1), _entries())
    with pytest.raises(ConfigError, match="the study has 2 images; say which"):
        check_places(loaded, _study(2), _entries())
    missing = load_prompts(_file(tmp_path, {"label": "a", "image": {"index": 7}, "prompts": [POINT]})).targets
    with pytest.raises(ConfigError, match="is not exactly one of the study's 1 images"):
        check_places(missing, _study(1), _entries())
    other = load_prompts(_file(tmp_path, {"label": "a", "task": "zzz", "prompts": [POINT]})).targets
    with pytest.raises(ConfigError, match="task 'zzz' is not among t"):
        check_places(other, _study(1), _entries())


def test_two_targets_of_one_label_are_refused_before_and_after_the_image_is_known(tmp_path: Path) -> None:
    right = {"label": "kidney", "laterality": "right", "prompts": [POINT]}
    left = {"label": "kidney", "laterality": "left", "prompts": [POINT]}
    with pytest.raises(ConfigError, match=r"targets\[0\] and targets\[1\] are both called 'kidney'"):
        load_prompts(_file(tmp_path, right, left))
    names: list[dict[str, Any]] = [{"index": 1}, {"file": "1.dcm"}, {"series_uid": "1.2.1"}]
    for choice in names[1:]:
        loaded = load_prompts(_file(tmp_path, {**right, "image": names[0]}, {**left, "image": choice})).targets
        with pytest.raises(ConfigError, match="both called 'kidney'"):
            check_places(loaded, _study(2), _entries())
    named = load_prompts(_file(tmp_path, right, {**left, "task": "t"})).targets
    with pytest.raises(ConfigError, match="both called 'kidney'"):
        check_places(named, _study(1), _entries())
    apart = load_prompts(_file(tmp_path, {**right, "image": {"index": 0}}, {**left, "image": {"index": 1}})).targets
    check_places(apart, _study(2), _entries())
    tasks = load_prompts(_file(tmp_path, {**right, "task": "t"}, {**left, "task": "u"})).targets
    check_places(tasks, _study(1), _entries(_card(), _card(name="u")))


def test_a_target_that_no_task_receives_is_refused(tmp_path: Path) -> None:
    text = {"kind": "text", "text": "kidney"}
    alone, mixed = (
        load_prompts(_file(tmp_path, {"label": "a", "prompts": prompts})).targets for prompts in ([text], [POINT, text])
    )
    for targets, kinds in ((alone, "text"), (mixed, "point and text")):
        with pytest.raises(
            ConfigError, match=rf"targets\[0\] \('a'\): no task would answer it: none takes {kinds} .*t \(po"
        ):
            check_places(targets, _study(1), _entries())
        check_places(targets, _study(1), _entries(_card(), _card(name="u", prompts=("point", "text"))))
    point = load_prompts(_file(tmp_path, {"label": "a", "prompts": [POINT]})).targets
    automatic = _entries(_card(needs_prompt=False))
    check_places(point, _study(1), automatic, named=True)
    with pytest.raises(ConfigError, match="no task would answer it"):
        check_places(point, _study(1), automatic, named=False)
    second = load_prompts(_file(tmp_path, {"label": "a", "image": {"index": 1}, "prompts": [POINT]})).targets
    check_places(second, _study(2), _entries(), image=1)
    with pytest.raises(ConfigError, match=r"another image than the one asked for \(0\)"):
        check_places(second, _study(2), _entries(), image=0)


def test_which_task_gets_a_target(tmp_path: Path) -> None:
    free, bound = load_prompts(
        _file(tmp_path, {"label": "free", "prompts": [POINT]}, {"label": "bound", "task": "u", "prompts": [POINT]})
    ).targets

    def given(card: TaskCard, *, named: bool) -> list[str]:
        return [t.label for t in targets_for((free, bound), _study(), 0, card, named=named)]

    assert given(_card(), named=False) == ["free"]
    assert given(_card(needs_prompt=False), named=False) == []
    assert given(_card(needs_prompt=False), named=True) == ["free"]
    assert given(_card(name="u", needs_prompt=False), named=False) == ["bound"]
    assert given(_card(prompts=("box",)), named=False) == []


def test_segments_get_the_targets_codes(tmp_path: Path) -> None:
    kidney = {"value": "64033007", "scheme": "SCT", "meaning": "Kidney"}
    target = load_prompts(
        _file(
            tmp_path,
            {"label": "Left kidney", "type": kidney, "laterality": "left", "colour": [1, 2, 3], "prompts": [POINT]},
        )
    ).targets[0]
    image = phantom()
    mask = Mask(
        np.ones(image.geometry.shape, np.uint16), image.geometry, (Segment(1, "Left kidney"), Segment(2, "Other"))
    )
    before = Prediction(mask, "t", Uncertainty("quality", "-"), model=ModelRef("m", "1"), inputs=("x",))
    after = name_segments(before, [target])
    assert isinstance(after.value, Mask)
    named, other = after.value.segments
    assert named.type == Code("64033007", "SCT", "Kidney")
    assert named.category == ANATOMICAL_STRUCTURE
    assert named.laterality == Code("7771000", "SCT", "Left")
    assert named.colour == (1, 2, 3)
    assert other == mask.segments[1]
    assert after.value.array is mask.array


def _parts(*labels: str) -> Prediction:
    image, hippocampus = phantom(), Code("5366008", "SCT", "Hippocampus")
    segments = tuple(Segment(n, label, ANATOMICAL_STRUCTURE, hippocampus) for n, label in enumerate(labels, start=1))
    mask = Mask(np.ones(image.geometry.shape, np.uint16), image.geometry, segments)
    return Prediction(mask, "t", Uncertainty("quality", "-"), model=ModelRef("m", "1"), inputs=("x",))


def test_parts_of_a_target_get_its_side_and_shades_of_its_colour(tmp_path: Path) -> None:
    long = {"label": "HC, left", "laterality": "left", "colour": [100, 0, 200], "prompts": [POINT]}
    short = {"label": "HC", "laterality": "right", "prompts": [POINT]}
    targets = load_prompts(_file(tmp_path, short, long)).targets
    before = _parts("HC, front", "HC, back", "HC, left, front", "HC, left, back", "HCx, front")
    after = name_segments(before, targets).value
    assert isinstance(after, Mask) and isinstance(before.value, Mask)
    sides = [s.laterality.meaning if s.laterality else None for s in after.segments]
    assert sides == ["Right", "Right", "Left", "Left", None]
    assert [s.colour for s in after.segments[2:4]] == [(100, 0, 200), (154, 89, 219)]
    assert after.segments[0].colour == before.value.segments[0].colour
    assert {s.type for s in after.segments} == {s.type for s in before.value.segments}


def test_what_an_answer_can_not_carry_is_refused(tmp_path: Path) -> None:
    kidney = {"value": "64033007", "scheme": "SCT", "meaning": "Kidney"}
    wrong = load_prompts(_file(tmp_path, {"label": "HC", "type": kidney, "prompts": [POINT]})).targets
    with pytest.raises(ConfigError, match="'Kidney' is stated, and task 't' outlines 'Hippocampus'"):
        name_segments(_parts("HC, front"), wrong)
    side = load_prompts(_file(tmp_path, {"label": "HC", "laterality": "left", "prompts": [POINT]})).targets
    with pytest.raises(ConfigError, match="does not answer target by target"):
        name_segments(_parts("Hippocampus"), side)
    plain = load_prompts(_file(tmp_path, {"label": "HC", "prompts": [POINT]})).targets
    before = _parts("Hippocampus")
    assert name_segments(before, plain).value.segments == before.value.segments  # type: ignore[union-attr]


def test_the_documented_example_is_valid(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "reference" / "prompts.md").read_text("utf-8")
    example = page.split("```json\n", 1)[1].split("```", 1)[0]
    path = tmp_path / "example.json"
    path.write_text(example, "utf-8")
    assert [t.label for t in load_prompts(path).targets] == ["Left kidney", "Lesion"]


def test_every_field_is_documented() -> None:
    page = (ROOT / "docs" / "reference" / "prompts.md").read_text("utf-8")
    schema: Any = prompts_schema()
    names = set(schema["properties"]) | {n for d in schema["$defs"].values() for n in d["properties"]}
    assert [n for n in sorted(names) if f"`{n}`" not in page] == []
