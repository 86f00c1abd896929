"""The way to the network's grid and back, over 48 orientations, without a network."""

from __future__ import annotations

import hashlib
import shutil

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Likeness, Prompt, Study
from isocenter.core.errors import WeightsError
from isocenter.models.segmentation import Probabilities, expected_dice
from isocenter.models.weights import built_in_folder, publish_card, read_card
from isocenter.tasks.segment.answer import expected_quality
from isocenter.tasks.segment.hippocampus_t1 import task as module
from isocenter.tasks.segment.hippocampus_t1.cards import CARD
from isocenter.tasks.segment.hippocampus_t1.task import HippocampusT1
from isocenter.testing import phantom_geometry
from isocenter.verbs.prompts import Target, name_segments

BLOB_LPS_MM = np.array([-30.0, 62.0, 115.0])
ABOVE_LPS_MM = np.array([-30.0, 62.0, 127.0])


def _image(geometry: Geometry) -> Image:
    """A bright ball at a fixed place in the patient, on a slope that differs along each axis."""
    index = np.indices(geometry.shape).reshape(3, -1).T
    world = geometry.to_world(index)
    ball = 300 * (np.linalg.norm(world - BLOB_LPS_MM, axis=1) < 6)
    values = ball + world @ (1.0, 0.7, -0.4)
    array = values.reshape((1, *geometry.shape)).astype(np.float32)
    return Image(array, geometry, modality="MR", body_part="BRAIN")


def _ball_probabilities(crop, middle=BLOB_LPS_MM) -> Probabilities:
    """A network that finds the ball: the half towards the anterior is class 1, the rest class 2."""
    geometry = crop.geometry
    world = geometry.to_world(np.indices(geometry.shape).reshape(3, -1).T)
    inside = np.linalg.norm(world - middle, axis=1) < 6
    anterior = world[:, 1] < middle[1]
    mean = np.stack([~inside, inside & anterior, inside & ~anterior]).astype(np.float32)
    mean = mean.reshape((3, *geometry.shape))
    return Probabilities(mean, (mean, mean))


def _grid(orientation: int, degrees: tuple[float, float, float]) -> Geometry:
    """A grid of unequal axes around the ball, its centre at the same place whatever the orientation."""
    start = phantom_geometry(orientation, degrees=degrees, shape=(16, 40, 46))
    middle = start.to_world([[(n - 1) / 2 for n in start.shape]])[0]
    affine = start.require_affine().copy()
    affine[:3, 3] += BLOB_LPS_MM - middle
    return Geometry(start.shape, affine)


@pytest.mark.parametrize("orientation", range(48))
@pytest.mark.parametrize("degrees", [(0.0, 0.0, 0.0), (8.0, -5.0, 11.0)])
def test_there_and_back_keeps_place_and_front(orientation, degrees):
    image = _image(_grid(orientation, degrees))
    crop = module._crop_of(image, None)
    assert crop.geometry.orientation == "SPL"
    array = module._back(_ball_probabilities(crop), crop, image.geometry)
    assert array.shape == image.geometry.shape
    whole = image.geometry.to_world(np.argwhere(array > 0)).mean(0)
    front, back = (image.geometry.to_world(np.argwhere(array == n)).mean(0) for n in (1, 2))
    assert np.linalg.norm(whole - BLOB_LPS_MM) < 0.35
    assert front[1] < BLOB_LPS_MM[1] - 1.5 < BLOB_LPS_MM[1] + 1.5 < back[1]
    volume = (array > 0).sum() * image.geometry.voxel_volume_mm3
    assert volume == pytest.approx(4 / 3 * np.pi * 6**3, rel=0.08)


def test_the_48_orientations_of_one_grid_give_the_network_the_same_voxels():
    base = Geometry.axial((20, 24, 30), spacing_mm=(1.0, 0.8, 1.3), origin_mm=(-50.0, 50.0, 105.0))
    image = _image(base)
    crop = module._crop_of(image, None)
    seen = 0
    for axes in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for bits in range(8):
            flips = tuple(bool(bits >> k & 1) for k in range(3))
            array = np.flip(image.array[0].transpose(axes), tuple(i for i, f in enumerate(flips) if f))
            turned = Image(array[None].copy(), base.reoriented(axes, flips), modality="MR", body_part="BRAIN")
            other = module._crop_of(turned, None)
            assert np.array_equal(other.prepared, crop.prepared)
            assert np.array_equal(other.start_lps_mm, crop.start_lps_mm)
            seen += 1
    assert seen == 48


def test_a_straight_1_mm_grid_is_taken_as_it_is():
    geometry = Geometry.axial((24, 22, 26), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(-43.5, 50.25, 104.125))
    image = _image(geometry)
    crop = module._crop_of(image, None)
    assert np.array_equal(crop.prepared, module.normalise(image.array[0].astype(np.float64)))


def test_a_window_around_a_place_is_centred_on_it_and_zero_outside_the_image():
    image = _image(_grid(0, (0.0, 0.0, 0.0)))
    crop = module._crop_of(image, ABOVE_LPS_MM)
    assert crop.prepared.shape == module.WINDOW_MM
    middle = crop.geometry.to_world([[(n - 1) / 2 for n in module.WINDOW_MM]])[0]
    assert np.allclose(middle, ABOVE_LPS_MM, atol=1e-5)
    assert not crop.prepared[-1].any()
    assert np.abs(crop.prepared[10, 20:30, 10:26]).min() > 0


def _study(image: Image) -> Study:
    return Study("key", images=(image,))


@pytest.fixture(scope="module")
def task() -> HippocampusT1:
    return HippocampusT1()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"modality": "CT"}, "needs modality MR"),
        ({"modality": ""}, "this image is unknown"),
        ({"body_part": "KNEE"}, "needs body part"),
    ],
)
def test_another_kind_of_image_is_abstained_from(task, change, words):
    image = _image(_grid(0, (0.0, 0.0, 0.0)))
    other = Image(image.array, image.geometry, **{"modality": "MR", "body_part": "BRAIN", **change})
    prediction = task.run(_study(other))
    assert prediction.value is None
    assert words in prediction.abstained
    assert prediction.inputs


def test_no_place_no_answer(task):
    image = Image(np.ones((1, 30, 30, 30), np.float32), Geometry((30, 30, 30)), modality="MR", body_part="BRAIN")
    assert "volume" in task.run(_study(image)).abstained


def test_a_large_volume_asks_for_a_prompt(task):
    geometry = Geometry.axial((60, 90, 70), spacing_mm=(1.0, 1.0, 1.0))
    image = Image(np.zeros((1, 60, 90, 70), np.float32), geometry, modality="MR", body_part="BRAIN")
    reason = task.run(_study(image)).abstained
    assert "90 mm" in reason
    assert "point or box prompt in patient millimetres" in reason


def test_a_prompt_outside_or_of_another_kind_is_said(task):
    image = _image(_grid(0, (0.0, 0.0, 0.0)))
    far = Prompt("point", np.array([[500.0, 0, 0]]))
    assert "outside" in task.run(_study(image), [far]).abstained
    lasso = Prompt("lasso", np.array([[0.0, 0, 0], [1, 0, 0], [0, 1, 0]]))
    assert "point or box" in task.run(_study(image), [lasso]).abstained


def test_flat_or_broken_voxels_are_abstained_from(task):
    geometry = Geometry.axial((30, 40, 30), spacing_mm=(1.0, 1.0, 1.0))
    for value, words in ((0.0, "flat"), (np.nan, "not finite")):
        image = Image(np.full((1, 30, 40, 30), value, np.float32), geometry, modality="MR", body_part="BRAIN")
        assert words in task.run(_study(image)).abstained


def test_what_is_no_hippocampus_is_abstained_from(task):
    prediction = task.run(_study(_image(_grid(0, (0.0, 0.0, 0.0)))))
    assert prediction.value is None


def test_what_the_gate_has_not_seen_is_refused_with_its_reason(task):
    """A ball on a slope is no hippocampus."""
    prediction = task.run(_study(_image(_grid(0, (0.0, 0.0, 0.0)))))
    assert "unlike those it learnt from" in prediction.abstained
    assert prediction.likeness.p_value <= prediction.likeness.refused_share == 0.05


def test_a_gate_that_is_missing_or_altered_stops_the_task(tmp_path):
    for suffix in (".safetensors", ".json", ".gate.npz"):
        shutil.copy(built_in_folder() / f"{CARD.weights}{suffix}", tmp_path)
    weights = str(tmp_path / f"{CARD.weights}.safetensors")
    assert HippocampusT1(weights)._gate is not None
    gate = tmp_path / f"{CARD.weights}.gate.npz"
    gate.write_bytes(gate.read_bytes()[:-1] + b"x")
    with pytest.raises(WeightsError, match="not the gate that the card vouches for"):
        HippocampusT1(weights)
    gate.unlink()
    with pytest.raises(WeightsError, match="its gate is not"):
        HippocampusT1(weights)
    card = read_card(weights)
    publish_card(tmp_path, card.model_copy(update={"gate": None}))
    assert HippocampusT1(weights)._gate is None
    np.savez(gate, scores=np.zeros(3))
    told = card.gate.model_copy(update={"sha256": hashlib.sha256(gate.read_bytes()).hexdigest()})
    publish_card(tmp_path, card.model_copy(update={"gate": told}))
    with pytest.raises(WeightsError, match="what the card calls its gate is not one"):
        HippocampusT1(weights)
    np.savez(gate, scores=np.array([{"run": "me"}], dtype=object))
    told = card.gate.model_copy(update={"sha256": hashlib.sha256(gate.read_bytes()).hexdigest()})
    publish_card(tmp_path, card.model_copy(update={"gate": told}))
    with pytest.raises(WeightsError, match="not a gate"):
        HippocampusT1(weights)


def test_two_images_are_one_too_many(task):
    image = _image(_grid(0, (0.0, 0.0, 0.0)))
    assert "exactly one image" in task.run(Study("key", images=(image, image))).abstained


@pytest.fixture
def finder(monkeypatch):
    """The task with a network that finds a ball of 0.9 mL wherever the middle of the prompts is."""
    task = HippocampusT1()

    def look(image, prompts):
        points = np.concatenate([p.coordinates for p in prompts])
        middle = (points.min(0) + points.max(0)) / 2
        crop = module._crop_of(image, middle)
        return crop, _ball_probabilities(crop, middle)

    monkeypatch.setattr(task, "_look", look)
    monkeypatch.setattr(task, "_gate", None)  # the brain of these tests is noise
    return task


def _brain() -> Image:
    geometry = Geometry.axial((60, 80, 120), spacing_mm=(1.0, 1.0, 1.0), origin_mm=(-60.0, -40.0, -30.0))
    noise = np.random.default_rng(0).normal(100, 9, (1, *geometry.shape)).astype(np.float32)
    return Image(noise, geometry, modality="MR", body_part="BRAIN")


def _at(x: float, label: str) -> Prompt:
    return Prompt("point", np.array([[x, 5.0, 0.0]]), label=label)


def test_each_target_is_answered_on_its_own_under_its_own_name(finder):
    image, points = _brain(), [_at(28, "Left hippocampus"), _at(-28, "Right hippocampus"), _at(28, "Left hippocampus")]
    prediction = finder.run(_study(image), points)
    assert prediction.abstained is None
    mask = prediction.value
    assert [s.label for s in mask.segments] == [
        "Left hippocampus, anterior part", "Left hippocampus, posterior part",
        "Right hippocampus, anterior part", "Right hippocampus, posterior part",
    ]  # fmt: skip
    assert len({s.colour for s in mask.segments}) == 4
    for number, (x, front) in enumerate([(28, True), (28, False), (-28, True), (-28, False)], start=1):
        centre = image.geometry.to_world(np.argwhere(mask.array == number)).mean(0)
        assert abs(centre[0] - x) < 0.5
        assert (centre[1] < 5) == front
    assert [m.segment for m in prediction.measurements] == [1, 2, 3, 4]
    assert set(prediction.uncertainty.per_segment) == {1, 2, 3, 4}
    assert "least sure of 2" in prediction.uncertainty.description
    assert [dict(s.parameters).get("segments") for s in prediction.steps[1:3]] == [(1, 2), (3, 4)]


def test_two_targets_bear_the_likeness_of_the_stranger_one(finder, monkeypatch):
    scores = iter((1.0, 2.0, 0.5))
    monkeypatch.setattr(module, "alike_prepared", lambda *_: (Likeness(next(scores), 0.5, 0.05, "made up"), None))
    assert finder.run(_study(_brain()), [_at(28, "A"), _at(-28, "B")]).likeness.score == 2.0
    assert finder.run(_study(_brain()), [_at(28, "A")]).likeness.score == 0.5
    monkeypatch.setattr(module, "alike_prepared", lambda *_: (None, None))
    assert finder.run(_study(_brain()), [_at(28, "A")]).likeness is None


def test_what_is_stated_of_a_target_reaches_its_parts(finder):
    target = Target.model_validate(
        {"label": "Left hippocampus", "laterality": "left", "colour": [10, 20, 30],
         "prompts": [{"kind": "point", "coordinates": [[28.0, 5.0, 0.0]]}]}
    )  # fmt: skip
    named = name_segments(finder.run(_study(_brain()), target.core_prompts()), [target]).value
    assert [s.laterality.meaning for s in named.segments] == ["Left", "Left"]
    assert named.segments[0].colour == (10, 20, 30) != named.segments[1].colour


def test_two_targets_that_meet_and_labels_without_room_are_refused(finder):
    met = finder.run(_study(_brain()), [_at(28, "A"), _at(31, "B")])
    assert met.abstained == "'A' and 'B' lead to the same hippocampus; point at the middle of each"
    long = "x" * (module.LONGEST_LABEL + 1)
    assert "shorten it" in finder.run(_study(_brain()), [_at(28, long)]).abstained
    room = finder.run(_study(_brain()), [_at(28, long[:-1])])
    assert max(len(s.label) for s in room.value.segments) == 64
    unnamed = finder.run(_study(_brain()), [Prompt("point", np.array([[28.0, 5, 0]]))])
    assert [s.label for s in unnamed.value.segments] == ["Hippocampus, anterior part", "Hippocampus, posterior part"]


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"EchoTime": 100.0, "RepetitionTime": 4000.0, "ScanningSequence": "SE"}, "echo time of 100 ms"),
        ({"EchoTime": "14", "RepetitionTime": 3500.0, "ScanningSequence": "SE"}, "repetition time of 3500 ms"),
        (
            {"EchoTime": 120.0, "RepetitionTime": 9000.0, "InversionTime": 2500.0, "ScanningSequence": ["SE", "IR"]},
            "120",
        ),
        ({"EchoTime": 20.0, "RepetitionTime": 650.0, "ScanningSequence": "GR"}, "echo time of 20 ms"),
        ({"EchoTime": 2.98, "RepetitionTime": 2300.0, "InversionTime": 900.0, "ScanningSequence": ["GR", "IR"]}, None),
        ({"EchoTime": 14.0, "RepetitionTime": 550.0, "ScanningSequence": "SE"}, None),
        ({"EchoTime": 3.2, "RepetitionTime": 8.1, "ScanningSequence": "GR"}, None),
        ({"EchoTime": 9.0, "RepetitionTime": 2200.0, "InversionTime": 860.0, "ScanningSequence": "SE IR"}, None),
        ({"EchoTime": "?", "RepetitionTime": None}, None),
        ({}, None),
    ],
)
def test_a_header_that_is_not_of_t1_weighting_is_refused(finder, meta, words):
    brain = _brain()
    image = Image(brain.array, brain.geometry, modality="MR", body_part="BRAIN", meta=meta)
    reason = finder.run(_study(image), [_at(28, "A")]).abstained
    assert reason is None if words is None else words in reason and "T1-weighted" in reason


@pytest.mark.parametrize(("name", "count", "images"), [("hippocampus-t1", 780, 195), ("lungs-cxr", 360, 90)])
def test_the_promise_counts_the_pictures_behind_it(name, count, images):
    card = read_card(name)
    for key, table in card.calibration.items():
        if isinstance(table, dict):
            assert sum(table["bin_counts"]) == table["count"] == count, key
    sizes = []
    for agreement in (0.1, 0.9, 0.999):
        said = expected_quality(card, np.full(2, agreement), {1: 1}).description
        assert f"{count} pictures: {images} images, and {3 * images} copies" in said
        assert "an unrecorded number of them altered copies" in said
        sizes.append(int(said.split("From the ")[1].split()[0]))
    assert sizes[0] == -(-count // 8) and sizes[-1] == count // 8
    damaged = card.model_copy(update={"calibration": {**card.calibration, "mean": {**card.calibration["mean"]}}})
    del damaged.calibration["mean"]["bin_counts"]
    with pytest.raises(WeightsError, match="does not count the pictures"):
        expected_quality(damaged, np.full(2, 0.9), {1: 1})


def test_a_widened_promise_says_so_and_is_wider():
    card = read_card("hippocampus-t1")
    plain = {k: v for k, v in card.calibration["mean"].items() if not k.startswith("widened")}
    wide = {**plain, "widened_below": 0.02, "widened_above": 0.5}
    narrow, broad = expected_dice(plain, 0.95), expected_dice(wide, 0.95)
    assert broad.median == narrow.median and broad.high == 1.0
    assert broad.low == pytest.approx(narrow.low - 0.02)
    told = card.model_copy(update={"calibration": {**card.calibration, "mean": wide}})
    said = expected_quality(told, np.full(2, 0.95), {1: 1})
    assert "widened by 0.02 below and 0.5 above" in said.description and said.high == 1.0
    untold = card.model_copy(update={"calibration": {**card.calibration, "mean": plain}})
    assert "widened" not in expected_quality(untold, np.full(2, 0.95), {1: 1}).description


def test_the_card_is_readable_without_the_network():
    assert CARD.licence == "CC-BY-SA-4.0"
    assert CARD.needs_spacing
