"""A series while it arrives: what is wrong is told at once, and nothing merely because the rest has not come."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.uid import UID

from arrival_cases import body, files_of, told
from isocenter.core import Geometry


def codes(found: list) -> list[str]:
    return [alert.code for _, alert in found]


@pytest.mark.parametrize("order", ["forth", "back", "odd then even", "random"])
def test_a_whole_series_in_any_order_gives_no_alert(tmp_path: Path, order: str) -> None:
    files = files_of(tmp_path)
    orders = {
        "forth": files, "back": files[::-1], "odd then even": files[::2] + files[1::2],
        "random": random.Random(4).sample(files, len(files)),
    }  # fmt: skip
    # Slower than the time that a gap may stand, so that a wrong rule would tell of one in the middle.
    assert told(orders[order], every_s=2.0, then_s=20.0, ended=True, pixels=True) == []


def test_what_is_not_there_yet_is_not_missing(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    assert told(files[:6], every_s=1.0, then_s=60.0) == []


@pytest.mark.parametrize("back", [False, True])
def test_a_missing_slice_is_told_while_the_series_goes_on(tmp_path: Path, back: bool) -> None:
    files = files_of(tmp_path, body((30, 8, 8)), lambda index, one: None if index == 15 else one)
    found = told(files[::-1] if back else files, every_s=0.5)
    assert codes(found) == ["missing-slices"]
    when, alert = found[0]
    assert "1 missing slice: 5.00 mm between image 15 and image 17 where the spacing is 2.50 mm" in alert.detail
    assert when < 0.5 * len(files), "before the last slice has come"


def test_a_gap_that_closes_is_no_gap(tmp_path: Path) -> None:
    files = files_of(tmp_path)
    late = [*files[:5], *files[6:], files[5]]
    assert told(late, every_s=0.4, then_s=20, ended=True) == []


def test_a_gap_out_of_order_is_told_in_silence(tmp_path: Path) -> None:
    files = files_of(tmp_path, change=lambda index, one: None if index == 5 else one)
    shuffled = random.Random(1).sample(files, len(files))
    found = told(shuffled, every_s=1.0, then_s=10.0)
    assert codes(found) == ["missing-slices"]
    assert found[0][0] >= len(files) + 5.0


def test_a_second_slice_at_one_place_is_told_at_once(tmp_path: Path) -> None:
    def again(index: int, one: Dataset) -> Dataset:
        if index == 6:
            one.ImagePositionPatient = [*one.ImagePositionPatient[:2], float(one.ImagePositionPatient[2]) - 2.5]
        return one

    found = told(files_of(tmp_path, change=again), ended=True)
    assert codes(found)[0] == "duplicate-slice"
    assert "image 7 lies where image 6 lies" in found[0][1].detail
    assert found[0][0] == pytest.approx(0.7)


def test_phases_at_one_place_are_no_duplicates(tmp_path: Path) -> None:
    def phase(number: int):
        def change(_index: int, one: Dataset) -> Dataset:
            one.AcquisitionNumber = str(number)
            one.SOPInstanceUID = UID(f"{one.SOPInstanceUID[:50]}.{number}")
            one.file_meta.MediaStorageSOPInstanceUID = one.SOPInstanceUID
            return one

        return change

    one, two = (files_of(tmp_path / str(n), change=phase(n)) for n in (1, 2))
    assert told([*one, *two], every_s=0.4, then_s=20, ended=True) == []
    assert told([*one, *two[:5]], every_s=0.4, then_s=20) == [], "the second phase is under way"


def test_a_turned_slice_is_told_at_once(tmp_path: Path) -> None:
    def turn(index: int, one: Dataset) -> Dataset:
        if index == 5:
            a = np.deg2rad(1.0)
            one.ImageOrientationPatient = [float(v) for v in (1, 0, 0, 0, np.cos(a).round(6), np.sin(a).round(6))]
        return one

    found = told(files_of(tmp_path, change=turn))
    assert codes(found)[0] == "mixed-orientation"
    assert found[0][0] == pytest.approx(0.6)


def test_a_tilted_gantry_is_told(tmp_path: Path) -> None:
    def shear(index: int, one: Dataset) -> Dataset:
        x, y, z = (float(v) for v in one.ImagePositionPatient)
        one.ImagePositionPatient = [x, round(y + 0.5 * index, 3), z]
        return one

    found = told(files_of(tmp_path, change=shear))
    assert codes(found) == ["tilt"]
    assert "sheared by 11.31 degrees" in found[0][1].detail


def test_another_size_in_one_series_is_told(tmp_path: Path) -> None:
    small = files_of(tmp_path / "small", body((5, 32, 40)))
    large = files_of(tmp_path / "large")
    assert "size-changes" in codes(told([*small[:3], *large[3:]]))


@pytest.mark.parametrize(("mm", "expected"), [(0.0, []), (5.0, ["motion"])])
def test_a_jump_of_the_body_is_told(tmp_path: Path, mm: float, expected: list[str]) -> None:
    found = told(files_of(tmp_path, body(moved_from=8, mm=mm)), pixels=True, ended=True)
    assert codes(found) == expected
    assert all("between image 8 and image 9" in alert.detail for _, alert in found)


def test_a_body_that_is_cut_off_is_told(tmp_path: Path) -> None:
    whole = body()
    cut = whole.array[:, :, 16:-16, 12:-12]
    geometry = Geometry.axial(cut.shape[1:], spacing_mm=(2.5, 0.8, 0.7), origin_mm=(0.0, 0.0, 0.0))
    found = told(files_of(tmp_path, replace(whole, array=cut, geometry=geometry)), pixels=True, ended=True)
    assert "field-of-view" in codes(found)
