"""The task `interact`: where prompts land, what comes back, and when it abstains."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from isocenter.core import Geometry, Image, Prompt, Quantity, Study
from isocenter.tasks.interact.cards import CARD, ENTRY
from isocenter.tasks.interact.placing import place
from isocenter.tasks.interact.task import Interact
from isocenter.testing import check_task
from isocenter.testing.phantom import phantom_geometry, rotation

SHAPE = (5, 40, 44)
CENTRE = (2, 18, 25)


@pytest.fixture(scope="module")
def task():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Interact()
    torch.set_num_threads(threads)


def ball_image(geometry: Geometry, **changes) -> tuple[Image, np.ndarray]:
    z, y, x = np.mgrid[0 : geometry.shape[0], 0 : geometry.shape[1], 0 : geometry.shape[2]].astype(float)
    inside = ((z - CENTRE[0]) * 6) ** 2 + (y - CENTRE[1]) ** 2 + (x - CENTRE[2]) ** 2 < 10**2
    array = (np.random.default_rng(0).normal(40, 8, geometry.shape) + 90 * inside).astype(np.float32)
    return Image(array[None], geometry, **changes), inside


def study(image: Image) -> Study:
    return Study("pseudonym", images=(image,))


def index_prompt(kind, points, positive=True, label="object"):
    return Prompt(kind, np.array(points, dtype=float), positive, "index_zyx", label)


def overlap(a, b):
    return 2 * (a & b).sum() / (a.sum() + b.sum())


@pytest.mark.parametrize("orientation", [0, 7, 22, 41])
def test_a_click_in_millimetres_outlines_the_ball_on_the_original_grid(task, orientation):
    geometry = phantom_geometry(orientation, shape=SHAPE)
    image, inside = ball_image(geometry)
    prediction = task.run(study(image), [Prompt("point", geometry.to_world([CENTRE]))])
    assert prediction.abstained is None
    assert prediction.value.geometry == geometry
    assert prediction.value.array.dtype == np.uint16
    assert overlap(prediction.value.array == 1, inside) > 0.7
    assert 0 < prediction.uncertainty.per_segment[1] <= 1
    assert prediction.model.weights_sha256 and prediction.steps and prediction.inputs
    assert prediction.value.segments[0].algorithm_type == "SEMIAUTOMATIC"


def test_millimetres_and_indices_say_the_same(task):
    geometry = phantom_geometry(13, shape=SHAPE)
    image, _ = ball_image(geometry)
    by_mm = task.run(study(image), [Prompt("point", geometry.to_world([CENTRE]))])
    by_index = task.run(study(image), [index_prompt("point", [CENTRE])])
    np.testing.assert_array_equal(by_mm.value.array, by_index.value.array)


@pytest.mark.parametrize(
    ("kind", "points"),
    [
        ("box", [[2, 7.6, 14.6], [2, 28.4, 35.4]]),
        ("box", [[1, 7.6, 14.6], [3, 28.4, 35.4]]),
        ("lasso", [[2, 6, 25], [2, 18, 37], [2, 30, 25], [2, 18, 13]]),
        ("scribble", [[2, 13, 25], [2, 22, 25], [2, 18, 30]]),
    ],
)
def test_every_kind_of_prompt_outlines_the_ball(task, kind, points):
    image, inside = ball_image(phantom_geometry(0, shape=SHAPE))
    prediction = task.run(study(image), [index_prompt(kind, points)])
    assert prediction.abstained is None, prediction.abstained
    assert overlap(prediction.value.array[2] == 1, inside[2]) > 0.85


def test_a_three_dimensional_box_is_never_left(task):
    image, _ = ball_image(phantom_geometry(0, shape=SHAPE))
    prediction = task.run(study(image), [index_prompt("box", [[2, 7.6, 14.6], [3, 28.4, 35.4]])])
    assert set(np.unique(np.nonzero(prediction.value.array)[0])) <= {2, 3}


def test_labels_become_segments(task):
    image, inside = ball_image(phantom_geometry(0, shape=SHAPE))
    prompts = [index_prompt("point", [CENTRE], label="tumour"), index_prompt("point", [[2, 35, 5]], label="rest")]
    prediction = task.run(study(image), prompts)
    assert [s.label for s in prediction.value.segments] == ["tumour", "rest"]
    assert overlap(prediction.value.array == 1, inside) > 0.6
    assert prediction.value.array[CENTRE] == 1


@pytest.mark.parametrize("channels", [1, 3])
def test_pictures_without_a_place_in_the_patient(task, channels):
    _, y, x = np.mgrid[0:1, 0:40, 0:44].astype(float)
    inside = (y - 18) ** 2 + (x - 25) ** 2 < 100
    array = np.repeat((inside * 150 + 40).astype(np.uint8)[None], channels, axis=0)
    quantity = Quantity.RGB if channels == 3 else Quantity.ARBITRARY
    picture = Image(array, Geometry((1, 40, 44)), quantity=quantity)
    prediction = task.run(study(picture), [index_prompt("point", [[0, 18, 25]])])
    assert overlap(prediction.value.array == 1, inside) > 0.9
    refused = task.run(study(picture), [Prompt("point", np.array([[0.0, 18, 25]]))])
    assert "index_zyx" in refused.abstained


def test_frames_of_a_cine_are_answered_alone(task):
    geometry = Geometry(SHAPE, stack="time")
    image, _ = ball_image(geometry)
    prediction = task.run(study(image), [index_prompt("point", [CENTRE])])
    assert set(np.nonzero(prediction.value.array)[0].tolist()) == {2}


@pytest.mark.parametrize(
    ("prompts", "reason"),
    [
        ([], "needs a prompt"),
        ([index_prompt("point", [[2, 18, 44.6]])], "outside the image"),
        ([index_prompt("point", [[-3, 18, 20]])], "outside the image"),
        ([index_prompt("box", [[2, 90, 90], [2, 99, 99]])], "outside the image"),
        ([index_prompt("point", [CENTRE], positive=False)], "every prompt says what it is not"),
        ([index_prompt("point", [CENTRE]), index_prompt("point", [CENTRE], positive=False)], "not to belong"),
        ([index_prompt("box", [CENTRE, CENTRE])], "is empty"),
        ([index_prompt("lasso", [[0, 3, 3], [2, 30, 5], [4, 9, 30]])], "one plane"),
        ([Prompt("text", text="the liver")], "'text'"),
    ],
)
def test_abstains_with_a_reason(task, prompts, reason):
    image, _ = ball_image(phantom_geometry(0, shape=SHAPE))
    prediction = task.run(study(image), prompts)
    assert prediction.value is None
    assert reason in prediction.abstained


def test_flat_and_broken_images(task):
    geometry = phantom_geometry(0, shape=SHAPE)
    click = [index_prompt("point", [CENTRE])]
    for value in (0.0, np.nan):
        flat = Image(np.full((1, *SHAPE), value, dtype=np.float32), geometry)
        assert "flat" in task.run(study(flat), click).abstained
    image, inside = ball_image(geometry)
    broken = image.array.copy()
    broken[0, 0, 0, :5] = np.nan
    prediction = task.run(study(Image(broken, geometry)), click)
    assert "not finite" in prediction.notes[0]
    assert overlap(prediction.value.array == 1, inside) > 0.7


def test_three_channels_are_colour_only_where_the_image_says_so(task):
    image, _ = ball_image(phantom_geometry(0, shape=SHAPE))
    rest = np.random.default_rng(1).normal(0, 400, (2, *SHAPE)).astype(np.float32)
    echoes = Image(np.concatenate([image.array, rest]), image.geometry)
    click = [index_prompt("point", [CENTRE])]
    prediction = task.run(study(echoes), click)
    assert prediction.notes == ("only the first of 3 channels was read",)
    np.testing.assert_array_equal(prediction.value.array, task.run(study(image), click).value.array)
    colour = task.run(study(Image(echoes.array, image.geometry, quantity=Quantity.RGB)), click)
    assert colour.value is None or "luminance" in colour.notes[0]


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.0, 7.0])
def test_a_plane_that_shows_nothing_is_not_outlined(task, value):
    noise = np.random.default_rng(0).random((1, *SHAPE)).astype(np.float32)
    noise[0, 2] = value
    image = Image(noise, phantom_geometry(0, shape=SHAPE))
    refused = task.run(study(image), [index_prompt("point", [CENTRE])])
    assert refused.value is None
    assert "plane 2 (from 0, along z)" in refused.abstained and "flat or has no finite value" in refused.abstained


@pytest.mark.parametrize("value", [np.nan, 40.0])
def test_a_plane_between_that_shows_nothing_stays_empty(task, value):
    image, _ = ball_image(phantom_geometry(0, shape=SHAPE))
    holed = image.array.copy()
    holed[0, 3] = value
    prompts = [index_prompt("point", [CENTRE]), index_prompt("point", [[4, 18, 25]])]
    prediction = task.run(study(Image(holed, image.geometry)), prompts)
    assert prediction.value.array[2].any() and not prediction.value.array[3].any()


@pytest.mark.parametrize("factor", [1e290, 1e36, 1e-300])
def test_values_beyond_single_precision_are_scaled(task, factor):
    image, _ = ball_image(phantom_geometry(0, shape=SHAPE))
    click = [index_prompt("point", [CENTRE])]
    extreme = Image(image.array.astype(np.float64) * factor, image.geometry)
    prediction = task.run(study(extreme), click)
    assert "single precision" in prediction.notes[0]
    assert overlap(prediction.value.array == 1, task.run(study(image), click).value.array == 1) > 0.99


def test_two_images_are_one_too_many(task):
    image, _ = ball_image(phantom_geometry(0, shape=SHAPE))
    assert "exactly one image" in task.run(Study("p", images=(image, image)), []).abstained


def test_undo_is_asking_again_without_it(task):
    image, _ = ball_image(phantom_geometry(0, shape=SHAPE))
    first = [index_prompt("point", [CENTRE])]
    before = task.run(study(image), first).value.array
    task.run(study(image), [*first, index_prompt("point", [[2, 18, 33]], positive=False)])
    np.testing.assert_array_equal(task.run(study(image), first).value.array, before)


def test_thin_volumes(task):
    for shape in ((1, 1, 9), (6, 1, 1), (1, 30, 1)):
        array = np.random.default_rng(0).normal(size=(1, *shape)).astype(np.float32)
        prediction = task.run(study(Image(array, Geometry(shape))), [index_prompt("point", [[n // 2 for n in shape]])])
        assert (prediction.value is None) != (prediction.abstained is None)


def test_axis_of_planes_follows_what_was_drawn():
    geometry = Geometry(SHAPE)
    sagittal = place([index_prompt("scribble", [[1, 10, 25], [3, 20, 25]])], geometry)
    assert sagittal.axis == 2 and list(sagittal.marks) == [25]
    coronal = place([index_prompt("box", [[0, 18, 5], [4, 18, 30]])], geometry)
    assert coronal.axis == 1 and list(coronal.marks) == [18]
    clicks = place([index_prompt("point", [[3, 10, 25]])], geometry)
    assert clicks.axis == 0 and clicks.marks[3][0].points.tolist() == [[10, 25]]


@pytest.mark.parametrize(("degrees", "in_plane"), [(0.0, (31, 31)), (30.0, (42, 42)), (45.0, None)])
def test_a_box_along_the_patients_axes_on_an_oblique_grid(degrees, in_plane):
    directions = rotation(degrees=(0.0, 0.0, degrees)) @ np.array([[0.0, 0, 1], [0, 1, 0], [1, 0, 0]])
    geometry = Geometry.from_directions((20, 100, 100), directions, spacing_mm=(1, 1, 1), origin_mm=(0, 0, 0))
    half = np.array([[15.0, 15, 5]])
    middle = geometry.to_world([[10, 50, 50]])
    placed = place([Prompt("box", np.concatenate([middle - half, middle + half]))], geometry)
    if in_plane is None:  # both corners lie on one oblique plane: two readings
        assert "lasso of four corners" in placed
        return
    assert (placed.axis, placed.first, placed.last) == (0, 5, 15)
    assert np.ptp(placed.marks[10][0].points, axis=0).round().tolist() == list(in_plane)


def test_a_scribble_through_slices_is_cut_into_strokes():
    placed = place([index_prompt("point", [[0, 5, 5]]), index_prompt("scribble", [[0, 5, 5], [4, 9, 9]])],
                   Geometry((5, 20, 20)))  # fmt: skip
    assert sorted(placed.marks) == [0, 1, 2, 3, 4]


def test_card_is_the_entry_and_the_task_keeps_the_contract(task):
    assert ENTRY.card is CARD and ENTRY.factory.endswith(":Interact")
    report = check_task(task)
    assert report.task == "interact"
    assert report.answered > 0
