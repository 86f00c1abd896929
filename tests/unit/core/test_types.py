"""The core types refuse what would be wrong later."""

from __future__ import annotations

from datetime import datetime

import numpy as np
import pytest

from isocenter.core import (
    Code,
    Evidence,
    Geometry,
    Image,
    Mask,
    Measurement,
    Prediction,
    Prompt,
    Record,
    Scores,
    Segment,
    Study,
    TaskCard,
)
from isocenter.core.errors import ConfigError, DataError, GeometryError, IsocenterError, PixelError, UnitsError
from isocenter.core.units import UCUM
from isocenter.testing import phantom

LUNG = Code("39607008", "SCT", "Lung")


@pytest.mark.parametrize(
    ("affine", "message"),
    [
        (np.zeros((4, 4)), "last row"),
        (np.diag([1.0, 0, 1, 1]), "singular"),
        (np.diag([1.0, np.nan, 1, 1]), "finite"),
        (np.array([[1.0, 1, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "singular"),
    ],
)
def test_geometry_refuses_impossible_affines(affine: np.ndarray, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Geometry((2, 3, 5), affine)


def test_unknown_place_refuses_millimetres_and_never_invents_spacing() -> None:
    geometry = Geometry((1, 4, 4))
    assert geometry.spacing_mm is None
    assert geometry.pixel_spacing_mm is None
    assert geometry.voxel_volume_mm3 is None
    assert geometry.orientation is None
    with pytest.raises(GeometryError, match="patient millimetres"):
        geometry.to_world([[0, 0, 0]])
    with pytest.raises(GeometryError, match="index_zyx"):
        Prompt("point", np.zeros((1, 3))).index_zyx(geometry)


def test_axial_grid_has_literal_positions() -> None:
    geometry = Geometry.axial((5, 3, 2), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10, 20, 30))
    assert geometry.to_world([[0, 0, 0], [4, 2, 1]]).round(9).tolist() == [[10, 20, 30], [10.7, 21.6, 40]]
    assert geometry.contains_index([[4.5, 2.4, 1.4], [4.6, 0, 0]]).tolist() == [True, False]


def test_geometry_is_immutable() -> None:
    geometry = phantom().geometry
    with pytest.raises(ValueError, match="read-only"):
        geometry.affine[0, 0] = 3.0
    with pytest.raises(AttributeError):
        geometry.shape = (1, 1, 1)


def test_image_refuses_disagreement() -> None:
    image = phantom()
    with pytest.raises(GeometryError, match="disagree"):
        Image(image.array[:, :1], image.geometry)
    with pytest.raises(PixelError, match="axes"):
        Image(image.array[0], image.geometry)
    with pytest.raises(PixelError, match="integer or float"):
        Image(image.array.astype(bool), image.geometry)


def test_mask_refuses_labels_without_segment_and_wrong_types() -> None:
    geometry = phantom().geometry
    array = np.zeros(geometry.shape, np.uint16)
    array[0, 1, 2] = 3
    with pytest.raises(PixelError, match="no segment"):
        Mask(array, geometry, (Segment(1, "lung"),))
    with pytest.raises(PixelError, match="uint16"):
        Mask(array.astype(np.int64), geometry, (Segment(3, "lung"),))
    with pytest.raises(PixelError, match="unique"):
        Mask(array, geometry, (Segment(3, "a"), Segment(3, "b")))
    with pytest.raises(PixelError, match="NaN"):
        Mask(np.full((1, *geometry.shape), np.nan, np.float32), geometry, (Segment(1, "a"),))
    mask = Mask(array, geometry, (Segment(3, "lung"),))
    assert np.argwhere(mask.segment_array(3)).tolist() == [[0, 1, 2]]
    with pytest.raises(PixelError, match="no segment 9"):
        mask.segment_array(9)


def test_measurement_needs_a_finite_value_and_a_ucum_unit() -> None:
    name = Code("118565006", "SCT", "Volume")
    with pytest.raises(UnitsError, match="finite"):
        Measurement(name, float("inf"), UCUM["mL"])
    with pytest.raises(UnitsError, match="UCUM"):
        Measurement(name, 3.0, LUNG)
    with pytest.raises(UnitsError, match="1 to 64"):
        Code("1", "SCT", "x" * 65)


def test_evidence_is_exactly_one_thing() -> None:
    with pytest.raises(DataError, match="got 0"):
        Evidence()
    with pytest.raises(DataError, match="got 2"):
        Evidence(segment=1, probability=0.5)


def test_study_refuses_the_future() -> None:
    later = Record(LUNG, 1.0, UCUM["mL"], datetime(2020, 1, 2))
    with pytest.raises(DataError, match="future"):
        Study("k", records=(later,), index_time=datetime(2020, 1, 1))


@pytest.mark.parametrize(
    ("kind", "points", "message"),
    [
        ("point", [[0.0, 0, np.nan]], "finite"),
        ("box", [[0.0, 0, 0]], "can't have 1"),
        ("lasso", [[0.0, 0, 0], [1, 1, 1]], "can't have 2"),
        ("point", [[0.0, 0, 0], [1, 1, 1]], "can't have 2"),
    ],
)
def test_prompt_refuses(kind: str, points: list, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Prompt(kind, np.array(points))


def test_prediction_is_an_answer_or_a_reason() -> None:
    with pytest.raises(DataError, match="either"):
        Prediction(None, "t")
    with pytest.raises(DataError, match="needs its uncertainty"):
        Prediction(Scores(((LUNG, 0.5),)), "t")
    with pytest.raises(DataError, match=r"\[0, 1\]"):
        Scores(((LUNG, 1.5),))
    assert Prediction.abstain("t", "no prompt").value is None


def test_card_says_why_an_image_does_not_fit() -> None:
    card = TaskCard("x", "X", ("MR",), ("BRAIN",), True, True, (), False, "use", "not", "Apache-2.0")
    image = phantom()
    assert "needs modality MR, this image is CT" in (card.misfit(image) or "")
    mr = Image(image.array, image.geometry, modality="MR", body_part="BRAIN")
    assert card.misfit(mr) is None
    flat = Image(image.array[:, :1], Geometry((1, 3, 5)), modality="MR", body_part="BRAIN")
    assert "volume" in (card.misfit(flat) or "")


def test_data_errors_carry_their_source_and_are_value_errors() -> None:
    error = GeometryError("slices 3 and 4 coincide", source="series 2")
    assert isinstance(error, ValueError)
    assert isinstance(error, IsocenterError)
    assert error.source == "series 2"
    assert str(error) == "series 2: slices 3 and 4 coincide"
