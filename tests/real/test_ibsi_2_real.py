"""The IBSI-2 digital phantoms: every reference response map that is there, voxel by voxel within 1 % of its range."""

from __future__ import annotations

import math

import nibabel
import numpy as np
import pytest

from isocenter.tasks.phenotype.filters import Filter, response_map

pytestmark = pytest.mark.real

_LAWS_3D = {"kind": "laws", "kernels": "E5L5S5", "boundary": "zero"}
_LAWS_MIRROR = {"kind": "laws", "kernels": "E3W5R5", "boundary": "mirror"}
_LAWS_2D = {"kind": "laws", "kernels": "L5S5", "boundary": "mirror", "flat": True}
_GABOR_A = {"kind": "gabor", "deviation_mm": 10.0, "wavelength_mm": 4.0, "gamma": 0.5, "boundary": "zero"}
_GABOR_B = {"kind": "gabor", "deviation_mm": 20.0, "wavelength_mm": 8.0, "gamma": 2.5, "boundary": "mirror"}
_DB2 = {"kind": "wavelet", "wavelet": "db2", "bands": "LHL", "boundary": "zero"}
_COIF1 = {"kind": "wavelet", "wavelet": "coif1", "bands": "HHL", "boundary": "periodic"}
_HAAR = {"kind": "wavelet", "wavelet": "haar", "level": 2, "boundary": "mirror", "invariant": True}

# By the number of the test in the IBSI-2 manual: the phantom, and the filter.
CASES = {
    "1A1": ("checkerboard", {"kind": "mean", "support": 15, "boundary": "zero"}),
    "1A2": ("checkerboard", {"kind": "mean", "support": 15, "boundary": "nearest"}),
    "1A3": ("checkerboard", {"kind": "mean", "support": 15, "boundary": "periodic"}),
    "1A4": ("checkerboard", {"kind": "mean", "support": 15, "boundary": "mirror"}),
    "1B1": ("impulse", {"kind": "mean", "support": 15, "boundary": "zero", "flat": True}),
    "2A": ("impulse", {"kind": "log", "deviation_mm": 3.0, "boundary": "zero"}),
    "2B": ("checkerboard", {"kind": "log", "deviation_mm": 5.0, "boundary": "mirror"}),
    "2C": ("checkerboard", {"kind": "log", "deviation_mm": 5.0, "boundary": "mirror", "flat": True}),
    "3A1": ("impulse", _LAWS_3D),
    "3A2": ("impulse", {**_LAWS_3D, "invariant": True}),
    "3A3": ("impulse", {**_LAWS_3D, "invariant": True, "energy": 7}),
    "3B1": ("checkerboard", _LAWS_MIRROR),
    "3B2": ("checkerboard", {**_LAWS_MIRROR, "invariant": True}),
    "3B3": ("checkerboard", {**_LAWS_MIRROR, "invariant": True, "energy": 7}),
    "3C1": ("checkerboard", _LAWS_2D),
    "3C2": ("checkerboard", {**_LAWS_2D, "invariant": True}),
    "3C3": ("checkerboard", {**_LAWS_2D, "invariant": True, "energy": 7}),
    "4A1": ("impulse", {**_GABOR_A, "theta": math.pi / 3, "flat": True}),
    "4A2": ("impulse", {**_GABOR_A, "theta": math.pi / 4, "invariant": True}),
    "4B1": ("sphere", {**_GABOR_B, "theta": 5 * math.pi / 4, "flat": True}),
    "4B2": ("sphere", {**_GABOR_B, "theta": math.pi / 8, "invariant": True}),
    "5A1": ("impulse", _DB2),
    "5A2": ("impulse", {**_DB2, "invariant": True}),
    "6A1": ("sphere", _COIF1),
    "6A2": ("sphere", {**_COIF1, "invariant": True}),
    "7A1": ("checkerboard", {**_HAAR, "bands": "LLL"}),
    "7A2": ("checkerboard", {**_HAAR, "bands": "HHH"}),
    "8A1": ("checkerboard", {"kind": "simoncelli", "level": 1}),
    "8A2": ("checkerboard", {"kind": "simoncelli", "level": 2}),
    "8A3": ("checkerboard", {"kind": "simoncelli", "level": 3}),
}
SPACING = (2.0, 2.0, 2.0)


def _load(file):
    return np.asarray(nibabel.load(file).dataobj, dtype=np.float64).transpose(2, 1, 0)


def _maps(shared_data):
    folder = shared_data / "radiomics" / "reference_values" / "ibsi_2_response_maps"
    return {f.name.split("_CT_")[1].split("_")[0].removesuffix(".nii.gz"): f for f in sorted(folder.iterdir())}


def test_every_map_has_its_filter(shared_data):
    assert set(_maps(shared_data)) == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_response_map(shared_data, case):
    phantom, settings = CASES[case]
    folder = shared_data / "radiomics" / "ibsi_2_digital_phantom" / "nifti" / phantom / "image"
    image = _load(folder / f"{phantom}.nii.gz")
    reference = _load(_maps(shared_data)[case])
    found = response_map(image, Filter(**settings), SPACING)
    extent = reference.max() - reference.min()
    assert np.abs(found - reference).max() <= 0.01 * extent
    # What is seen is far nearer than IBSI-2's tolerance of 1 %; a change shows here first.
    assert np.abs(found - reference).max() <= (3e-3 if case == "4B2" else 1e-4) * extent
