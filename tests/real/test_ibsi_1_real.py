"""The IBSI-1 digital phantom: every reference value of the consensus table within its tolerance, none left out."""

from __future__ import annotations

import csv

import nibabel
import numpy as np
import pytest

from isocenter.core import Geometry, Image, Mask, Segment
from isocenter.tasks.phenotype import Discretisation, FeatureSettings, radiomic_features

pytestmark = pytest.mark.real

# Listed in the table without a value: the initiative found no consensus on them.
NO_CONSENSUS = {
    "morph_vol_dens_ombb", "morph_area_dens_ombb", "morph_vol_dens_mvee", "morph_area_dens_mvee", "ivh_auc",
}  # fmt: skip


def _table(shared_data):
    with (shared_data / "radiomics" / "reference_values" / "ibsi_1_dig_phantom.csv").open() as file:
        return list(csv.DictReader(file, delimiter=";"))


@pytest.fixture(scope="module")
def phantom(shared_data):
    folder = shared_data / "radiomics" / "ibsi_1_digital_phantom" / "nifti"
    image, mask = (
        np.asarray(nibabel.load(folder / name).dataobj).transpose(2, 1, 0)
        for name in ("image/phantom.nii.gz", "mask/mask.nii.gz")
    )
    geometry = Geometry.axial(image.shape, spacing_mm=(2.0, 2.0, 2.0))
    return Image(image[None], geometry), Mask((mask > 0).astype(np.uint16), geometry, (Segment(1, "region"),))


def test_every_reference_value(shared_data, phantom):
    rows = _table(shared_data)
    (found,) = radiomic_features(*phantom, FeatureSettings(Discretisation("none")))
    got = {f.tag: f.value for f in found.features}
    assert set(got) == {r["tag"] for r in rows}
    assert {r["tag"] for r in rows if not r["reference value"]} == NO_CONSENSUS
    checked, wrong = 0, []
    for row in rows:
        if row["reference value"]:
            checked += 1
            # Published to three figures; the tolerance is 0 for those that are exact to these.
            rounded = float(f"{got[row['tag']]:.3g}")
            if abs(rounded - float(row["reference value"])) > float(row["tolerance"]) + 1e-9:
                wrong.append((row["tag"], rounded, row["reference value"]))
    assert checked == 482
    assert not wrong


def test_features_of_a_region_do_not_depend_on_what_is_computed_beside_it(phantom):
    image, mask = phantom
    double = np.concatenate([image.array, image.array], axis=3)
    labels = np.concatenate([mask.array, np.zeros_like(mask.array)], axis=2)
    labels[..., labels.shape[2] // 2 :] = 2 * mask.array
    geometry = Geometry.axial(labels.shape, spacing_mm=(2.0, 2.0, 2.0))
    both = Mask(labels, geometry, (Segment(2, "right"), Segment(1, "left")))
    settings = FeatureSettings(Discretisation("none"), families=("morph", "cm", "rlm", "szm", "dzm", "ngt", "ngl"))
    (alone,) = radiomic_features(image, mask, settings)
    for region in radiomic_features(Image(double, geometry), both, settings):
        assert [f.value for f in region.features] == pytest.approx([f.value for f in alone.features], rel=1e-12)
