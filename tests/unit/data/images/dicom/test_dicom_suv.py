"""SUVbw: the number where every piece is there, Bq/mL and the missing piece where one is not; never a wrong SUV."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset

from isocenter.core import Image, Quantity
from isocenter.data.images.dicom import read_dicom
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series

PHANTOM = phantom(40)
WEIGHT_KG = 70.0
DOSE_BQ = 350e6
HALF_LIFE_S = 6586.2
ELAPSED_S = 3600.0
FACTOR_START = 70_000.0 / (DOSE_BQ * 0.5 ** (ELAPSED_S / HALF_LIFE_S))
FACTOR_ADMIN = 70_000.0 / DOSE_BQ


def pet(dataset: Dataset) -> None:
    dataset.Modality = "PT"
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.128"
    dataset.Units = "BQML"
    dataset.DecayCorrection = "START"
    dataset.CorrectedImage = ["NORM", "DTIM", "ATTN", "SCAT", "DECY"]
    dataset.PatientWeight = str(WEIGHT_KG)
    dataset.SeriesDate = dataset.AcquisitionDate = "20260101"
    dataset.SeriesTime = "110000"
    dataset.AcquisitionTime = "110200.5"
    dataset.RescaleSlope, dataset.RescaleIntercept = "2.5", "0"
    del dataset.RescaleType
    radio = Dataset()
    radio.RadionuclideTotalDose = str(DOSE_BQ)
    radio.RadionuclideHalfLife = str(HALF_LIFE_S)
    radio.RadiopharmaceuticalStartTime = "100000"
    dataset.RadiopharmaceuticalInformationSequence = [radio]


def read_pet(folder: Path, change: Callable[[Dataset], None] = lambda _: None) -> Image:
    def hook(_: int, dataset: Dataset) -> Dataset:
        pet(dataset)
        change(dataset)
        return dataset

    paths = write_ct_series(folder, PHANTOM, change=hook)
    study, _, _ = read_dicom(paths, root=folder)
    return study.images[0]


def stored() -> np.ndarray:
    return PHANTOM.array[0] + 1024.0


def test_start_of_scan(tmp_path: Path) -> None:
    image = read_pet(tmp_path)
    assert image.quantity is Quantity.SUVBW
    np.testing.assert_allclose(image.array[0], stored() * 2.5 * FACTOR_START, rtol=1e-6)
    assert pytest.approx(2.9214e-4, rel=1e-4) == FACTOR_START


def test_administration(tmp_path: Path) -> None:
    image = read_pet(tmp_path, lambda d: setattr(d, "DecayCorrection", "ADMIN"))
    assert image.quantity is Quantity.SUVBW
    np.testing.assert_allclose(image.array[0], stored() * 2.5 * FACTOR_ADMIN, rtol=1e-6)


def test_stated_date_and_time_win_over_the_clock(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        radio = dataset.RadiopharmaceuticalInformationSequence[0]
        radio.RadiopharmaceuticalStartDateTime = "20260101093000.00"

    image = read_pet(tmp_path, change)
    factor = 70_000.0 / (DOSE_BQ * 0.5 ** (5400 / HALF_LIFE_S))
    np.testing.assert_allclose(image.array[0], stored() * 2.5 * factor, rtol=1e-6)


def test_injection_before_midnight(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.SeriesTime, dataset.AcquisitionTime = "003000", "003000"
        dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = "233000"

    image = read_pet(tmp_path, change)
    np.testing.assert_allclose(image.array[0], stored() * 2.5 * FACTOR_START, rtol=1e-6)


def radio(dataset: Dataset) -> Dataset:
    return dataset.RadiopharmaceuticalInformationSequence[0]


MISSING = {
    "no weight": (lambda d: delattr(d, "PatientWeight"), "weight is missing"),
    "weight zero": (lambda d: setattr(d, "PatientWeight", "0"), "weight is not positive"),
    "weight in grams": (lambda d: setattr(d, "PatientWeight", "70000"), "weight is not plausible"),
    "no dose": (lambda d: delattr(radio(d), "RadionuclideTotalDose"), "dose is missing"),
    "dose in MBq": (lambda d: setattr(radio(d), "RadionuclideTotalDose", "350"), "in MBq"),
    "no half life": (lambda d: delattr(radio(d), "RadionuclideHalfLife"), "half life is missing"),
    "no injection time": (lambda d: delattr(radio(d), "RadiopharmaceuticalStartTime"), "time of injection is missing"),
    "no radiopharmaceutical": (
        lambda d: delattr(d, "RadiopharmaceuticalInformationSequence"),
        "radiopharmaceutical information is missing",
    ),
    "two radiopharmaceuticals": (
        lambda d: d.RadiopharmaceuticalInformationSequence.append(copy.deepcopy(radio(d))),
        "several radiopharmaceuticals",
    ),
    "no decay correction": (lambda d: setattr(d, "DecayCorrection", "NONE"), "neither to the start"),
    "not attenuation corrected": (lambda d: setattr(d, "CorrectedImage", ["DECY"]), "attenuation and decay"),
    "series dated later": (lambda d: setattr(d, "SeriesTime", "150000"), "dated after its acquisition"),
    "no acquisition time": (lambda d: delattr(d, "AcquisitionTime"), "acquisition times are missing"),
    "injection after the scan": (
        lambda d: setattr(radio(d), "RadiopharmaceuticalStartDateTime", "20260101120000"),
        "injection is dated after the scan",
    ),
    "another nuclide's clock": (
        lambda d: setattr(radio(d), "RadionuclideHalfLife", "109.8"),
        "ten half lives",
    ),
}


@pytest.mark.parametrize("name", MISSING)
def test_a_missing_piece_keeps_bq_per_ml(tmp_path: Path, name: str) -> None:
    change, reason = MISSING[name]
    image = read_pet(tmp_path, change)
    assert image.quantity is Quantity.BQML
    np.testing.assert_allclose(image.array[0], stored() * 2.5, rtol=1e-6)
    (note,) = (n for n in image.notes if n.startswith("no SUV"))
    assert reason in note
    assert not any(piece in note for piece in ("70000", "20260101", "350"))


def test_grams_per_ml(tmp_path: Path) -> None:
    image = read_pet(tmp_path, lambda d: setattr(d, "Units", "GML"))
    assert image.quantity is Quantity.SUVBW
    np.testing.assert_allclose(image.array[0], stored() * 2.5, rtol=1e-6)


def test_lean_body_mass_is_not_body_weight(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        dataset.Units, dataset.SUVType = "GML", "LBM"

    assert read_pet(tmp_path, change).quantity is Quantity.ARBITRARY


def philips(dataset: Dataset) -> None:
    dataset.Units = "CNTS"
    block = dataset.private_block(0x7053, "Philips PET Private Group", create=True)
    block.add_new(0x00, "DS", "0.000301")


def test_philips_counts(tmp_path: Path) -> None:
    image = read_pet(tmp_path, philips)
    assert image.quantity is Quantity.SUVBW
    np.testing.assert_allclose(image.array[0], stored() * 2.5 * 0.000301, rtol=1e-6)


def test_philips_counts_by_activity(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        philips(dataset)
        dataset[0x7053, 0x1000].value = "0"
        dataset.private_block(0x7053, "Philips PET Private Group").add_new(0x09, "DS", "1.75")

    image = read_pet(tmp_path, change)
    np.testing.assert_allclose(image.array[0], stored() * 2.5 * 1.75 * FACTOR_START, rtol=1e-6)


def test_counts_of_another_maker_stay_counts(tmp_path: Path) -> None:
    def change(dataset: Dataset) -> None:
        philips(dataset)
        dataset[0x7053, 0x0010].value = "Somebody"

    image = read_pet(tmp_path, change)
    assert image.quantity is Quantity.ARBITRARY
    np.testing.assert_allclose(image.array[0], stored() * 2.5, rtol=1e-6)


def test_slope_may_differ_from_slice_to_slice(tmp_path: Path) -> None:
    def hook(index: int, dataset: Dataset) -> Dataset:
        pet(dataset)
        dataset.Units = "GML"
        dataset.RescaleSlope = str(1 + index)
        return dataset

    paths = write_ct_series(tmp_path, PHANTOM, change=hook)
    study, _, _ = read_dicom(paths, root=tmp_path)
    image = study.images[0]
    slopes = np.array([1.0, 2.0])
    np.testing.assert_allclose(image.array[0], stored() * slopes[:, None, None], rtol=1e-6)
