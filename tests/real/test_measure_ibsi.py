"""The IBSI digital phantom: measured values against the published reference values."""

from __future__ import annotations

import csv

import nibabel
import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Segment
from isocenter.tasks.phenotype import measure

pytestmark = pytest.mark.real


def test_ibsi_digital_phantom(shared_data):
    folder = shared_data / "radiomics"
    nifti = folder / "ibsi_1_digital_phantom" / "nifti"
    files = {name: next((nifti / name).glob("*.nii*")) for name in ("image", "mask")}
    arrays = {n: np.asarray(nibabel.load(f).dataobj).transpose(2, 1, 0) for n, f in files.items()}
    spacing = tuple(float(s) for s in nibabel.load(files["image"]).header.get_zooms()[::-1])
    geometry = Geometry.axial(arrays["image"].shape, spacing_mm=spacing)
    mask = Mask((arrays["mask"] > 0).astype(np.uint16), geometry, (Segment(1, "region"),))
    got = {
        m.derivation.meaning if m.derivation else m.name.meaning: m.value
        for m in measure(Image(arrays["image"][None], geometry), mask)
    }
    with (folder / "reference_values" / "ibsi_1_dig_phantom.csv").open() as file:
        reference = {r["tag"]: r for r in csv.DictReader(file, delimiter=";") if r["reference value"]}
    for tag, name, scale in [
        ("morph_vol_approx", "Volume", 1000),
        ("morph_diam", "Maximum 3D Diameter of a Mesh", 1),
        ("stat_mean", "Mean", 1),
        ("stat_median", "Median", 1),
        ("stat_min", "Minimum", 1),
        ("stat_max", "Maximum", 1),
        ("stat_p10", "Tenth percentile", 1),
        ("stat_p90", "Ninetieth percentile", 1),
    ]:
        # Published to three figures; the tolerance column is 0 for values that are exact to these.
        expected, tolerance = float(reference[tag]["reference value"]), float(reference[tag]["tolerance"])
        assert got[name] * scale == pytest.approx(expected, abs=max(tolerance, 0.005)), tag
