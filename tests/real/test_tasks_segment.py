"""The automatic tasks on real images: literal answers, orientation, determinism, refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from isocenter.core import Geometry, Image, Prompt, Study
from isocenter.data.images.nifti import read_nifti
from isocenter.evaluate.overlap import dice
from isocenter.learn.automatic_data import load_hippocampus, load_lungs
from isocenter.tasks.segment.hippocampus_t1.task import HippocampusT1
from isocenter.tasks.segment.lungs_cxr.task import LungsCxr
from isocenter.testing.task_contract import check_task

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def lungs():
    return LungsCxr()


@pytest.fixture(scope="module")
def hippocampus():
    return HippocampusT1()


@pytest.fixture(scope="module")
def crop(shared_data):
    folder = shared_data / "mr_hippocampus_msd"
    name = sorted(file.name for file in (folder / "images").glob("*.nii.gz"))[0]
    image = replace(read_nifti(folder / "images" / name, modality="MR"), body_part="BRAIN")
    return image, read_nifti(folder / "labels" / name).array[0]


def _run(task, image):
    return task.run(Study("key", images=(image,)))


def test_a_hippocampus_is_found_front_and_back(hippocampus, crop):
    image, label = crop
    prediction = _run(hippocampus, image)
    assert prediction.abstained is None
    for number in (1, 2):
        assert dice(label == number, prediction.value.array == number) > 0.8
    volumes = [m.value for m in prediction.measurements]
    assert volumes == [pytest.approx((prediction.value.array == n).sum() / 1000) for n in (1, 2)]
    assert prediction.uncertainty.low <= prediction.uncertainty.high
    assert set(prediction.uncertainty.per_segment) == {1, 2}
    assert len(prediction.model.weights_sha256) == 64


def test_a_second_run_is_byte_identical(hippocampus, crop):
    first, second = (_run(HippocampusT1(), crop[0]).value.array.tobytes() for _ in range(2))
    assert first == second == _run(hippocampus, crop[0]).value.array.tobytes()


def test_orientations_give_one_answer_in_the_patient(hippocampus, crop):
    # Every axis order and every flip; that all 48 give the network the same voxels is a unit test.
    image, _ = crop
    expected = _run(hippocampus, image).value.array
    for axes in ((0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)):
        for bits in (axes[0], 7 - axes[1]):
            flips = tuple(bool(bits >> k & 1) for k in range(3))

            def turn(array, axes=axes, flips=flips):
                return np.flip(array.transpose(axes), tuple(i for i, f in enumerate(flips) if f)).copy()

            geometry = image.geometry.reoriented(axes, flips)
            turned = Image(turn(image.array[0])[None], geometry, modality="MR", body_part="BRAIN")
            found = _run(hippocampus, turned).value
            assert np.array_equal(found.array, turn(expected)), (axes, flips)
            assert found.geometry == geometry


def test_a_click_off_the_middle_in_a_whole_brain_finds_the_same_hippocampus(hippocampus):
    nilearn = pytest.importorskip("nilearn")
    file = Path(nilearn.__file__).parent / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    image = replace(read_nifti(file, modality="MR"), body_part="BRAIN")
    study = Study("key", images=(image,))
    centres = []
    for click in ((27.0, 22.0, -14.0), (30.0, 18.0, -12.0), (-27.0, 22.0, -14.0)):
        prediction = hippocampus.run(study, [Prompt("point", np.array([click]))])
        assert prediction.abstained is None
        assert all(1.2 < m.value < 3.5 for m in prediction.measurements)
        centres.append(image.geometry.to_world(np.argwhere(prediction.value.array > 0)).mean(0))
    assert np.linalg.norm(centres[0] - centres[1]) < 1.0
    assert np.linalg.norm(centres[0] * (-1, 1, 1) - centres[2]) < 1.0  # the template is symmetric
    assert np.linalg.norm(centres[0] - (27, 22, -15)) < 3.0


def test_left_and_right_together_are_those_alone(hippocampus):
    nilearn = pytest.importorskip("nilearn")
    file = Path(nilearn.__file__).parent / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    study = Study("key", images=(replace(read_nifti(file, modality="MR"), body_part="BRAIN"),))
    left, right = (
        Prompt("point", np.array([[x, 22.0, -14.0]]), label=label) for x, label in ((27.0, "L"), (-27.0, "R"))
    )
    both = hippocampus.run(study, [left, right]).value
    assert [s.label[0] for s in both.segments] == ["L", "L", "R", "R"]
    for first, prompt in ((1, left), (3, right)):
        alone = hippocampus.run(study, [prompt]).value.array
        for part in (1, 2):
            assert np.array_equal(both.array == first + part - 1, alone == part)


def test_other_spacing_gives_the_same_place(hippocampus, crop):
    from scipy import ndimage

    image, label = crop
    geometry = image.geometry
    coarse = ndimage.zoom(image.array[0], (0.5, 1, 1), order=1, grid_mode=True, mode="nearest")
    affine = geometry.require_affine().copy()
    affine[:3, 0] *= geometry.shape[0] / coarse.shape[0]
    affine[:3, 3] += (geometry.shape[0] / coarse.shape[0] - 1) / 2 * geometry.require_affine()[:3, 0]
    thick = Image(coarse[None], Geometry(coarse.shape, affine), modality="MR", body_part="BRAIN")
    found = _run(hippocampus, thick).value
    centre = found.geometry.to_world(np.argwhere(found.array > 0)).mean(0)
    truth = geometry.to_world(np.argwhere(label > 0)).mean(0)
    assert np.linalg.norm(centre - truth) < 1.5


def _radiograph(file, orientation=("", "")) -> Image:
    array = np.asarray(Picture.open(file).convert("L"), dtype=np.uint8)
    geometry = Geometry((1, *array.shape), patient_orientation=orientation)
    return Image(array[None, None], geometry, modality="DX", body_part="CHEST")


def test_a_chest_without_orientation_gets_no_side_and_one_with_it_does(lungs, shared_data):
    file = shared_data / "cxr_covid_lungmask" / "images" / "b343e657.png"
    truth = np.asarray(Picture.open(shared_data / "cxr_covid_lungmask" / "lung_masks" / "b343e657.png")) > 0
    unsided = _run(lungs, _radiograph(file)).value
    assert [s.label for s in unsided.segments] == ["Lungs"]
    assert dice(truth, unsided.array[0] > 0) > 0.93
    sided = _run(lungs, _radiograph(file, ("L", "F"))).value
    assert [s.laterality.meaning for s in sided.segments] == ["Right", "Left"]
    right, left = (np.argwhere(sided.array[0] == n)[:, 1].mean() for n in (1, 2))
    assert right < left
    assert np.array_equal(sided.array > 0, unsided.array > 0)


def test_every_way_a_picture_may_lie_gives_one_answer_in_the_patient(lungs, shared_data):
    file = shared_data / "cxr_covid_lungmask" / "images" / "b343e657.png"
    upright = _radiograph(file, ("L", "F"))
    expected = _run(lungs, upright).value.array[0]
    turns = {
        ("R", "F"): lambda a: a[:, ::-1],
        ("L", "H"): lambda a: a[::-1],
        ("R", "H"): lambda a: a[::-1, ::-1],
        ("F", "L"): lambda a: a.T,
        ("H", "R"): lambda a: a[::-1, ::-1].T,
    }
    for orientation, turn in turns.items():
        array = np.ascontiguousarray(turn(upright.array[0, 0]))
        geometry = Geometry((1, *array.shape), patient_orientation=orientation)
        found = _run(lungs, Image(array[None, None], geometry, modality="DX", body_part="CHEST")).value
        assert np.array_equal(found.array[0], turn(expected)), orientation


def test_a_negative_that_says_so_gives_the_answer_of_its_positive(lungs, shared_data):
    files = sorted((shared_data / "cxr_covid_lungmask" / "images").glob("*.png"))[:4]
    for file in [*files, *sorted((shared_data / "cxr_nih" / "images_256").glob("*.png"))[:4]]:
        positive = _radiograph(file, ("L", "F"))
        meta = {"PhotometricInterpretation": "MONOCHROME1"}
        negative = replace(positive, array=255 - positive.array, meta=meta)
        expected, found = _run(lungs, positive), _run(lungs, negative)
        assert (expected.value is None) == (found.value is None), file.name
        if expected.value is not None:
            assert dice(expected.value.array > 0, found.value.array > 0) > 0.999, file.name
            assert any("MONOCHROME1" in step.name for step in found.steps)
        lateral = replace(positive, geometry=Geometry(positive.geometry.shape, patient_orientation=("A", "F")))
        assert "frontal view" in _run(lungs, lateral).abstained


def test_other_hospitals_chests_are_answered_and_other_organs_are_not(lungs, shared_data):
    chests = sorted((shared_data / "cxr_nih" / "images_256").glob("*.png"))[:30]
    others = sorted((shared_data / "us_breast_busi" / "images").glob("*.png"))[::40]
    lying = [np.rot90(_radiograph(file).array[0, 0]).copy() for file in chests[:12]]
    answered = [_run(lungs, _radiograph(file)).abstained is None for file in chests]
    assert np.mean(answered) >= 0.9
    assert np.mean([_run(lungs, _radiograph(file)).abstained is None for file in others]) <= 0.2
    turned = [Image(a[None, None], Geometry((1, *a.shape)), modality="DX", body_part="CHEST") for a in lying]
    assert np.mean([_run(lungs, image).abstained is None for image in turned]) <= 0.2


def test_answers_say_how_like_what_was_learnt_their_image_is(lungs, hippocampus, crop, shared_data):
    chest = _radiograph(shared_data / "cxr_nih" / "images_256" / "00000211_000.png")
    for task, image in ((lungs, chest), (hippocampus, crop[0])):
        told = _run(task, image)
        assert told.abstained is None and told.likeness.p_value > told.likeness.refused_share
        assert "held-out images" in told.likeness.description
        for change in (lambda a: np.rot90(a, 2, (-2, -1)), lambda a: a.max() - a):
            array = np.ascontiguousarray(change(image.array))
            refused = _run(task, replace(image, array=array))
            assert "unlike those it learnt from" in refused.abstained
            assert refused.likeness.p_value <= refused.likeness.refused_share
            assert refused.likeness.score > told.likeness.score


def test_the_labelled_sets_are_read_as_their_licences_allow(shared_data):
    chests = load_lungs(shared_data / "cxr_covid_lungmask")
    assert (len(chests), len({c.group for c in chests})) == (90, 48)
    assert all(c.image.shape == c.label.shape and set(np.unique(c.label)) == {0, 1} for c in chests)
    crops = load_hippocampus(shared_data / "mr_hippocampus_msd")
    assert len(crops) == 195
    assert all(set(np.unique(c.label)) == {0, 1, 2} for c in crops)
    fronts = [np.argwhere(c.label == 1).mean(0) - np.argwhere(c.label == 2).mean(0) for c in crops]
    assert np.mean([f[1] < 0 for f in fronts]) > 0.99  # index y grows to the posterior


def test_the_contract_is_kept_with_real_answers(lungs, hippocampus, crop, shared_data):
    chest = _radiograph(shared_data / "cxr_covid_lungmask" / "images" / "b343e657.png", ("L", "F"))
    for task, image in ((lungs, chest), (hippocampus, crop[0])):
        assert check_task(task, study=Study("key", images=(image,))).answered >= 2
