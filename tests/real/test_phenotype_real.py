"""isocenter phenotype on PET and CT of STS_002 (CC BY 3.0): DICOM with RTSTRUCT against NIfTI with its mask."""

from __future__ import annotations

import pytest

from isocenter.verbs.phenotype import phenotype

pytestmark = pytest.mark.real


@pytest.mark.parametrize("what", ["PET", "CT"])
def test_dicom_and_nifti_say_the_same(shared_data, tmp_path, what):
    folder = shared_data / "ct_mr_pet_sts"
    dicom = folder / "dicom" / "STS_002" / what
    quantity = {"PET": "SUVbw", "CT": "HU"}[what]
    quick = {"aggregations": ("3D_comb", "3D")}
    structure = next((dicom / "mask").iterdir())
    one = phenotype(dicom / "image", structure, tmp_path / "dicom", **quick)
    nifti = folder / "nifti" / "STS_002"
    other = phenotype(
        nifti / f"{what}_image.nii.gz", nifti / f"{what}_mask.nii.gz", tmp_path / "nifti", quantity=quantity, **quick
    )
    assert one.image.quantity == other.image.quantity == quantity
    first, second = (d.regions[0] for d in (one, other))
    assert first.voxels == second.voxels == {"PET": 555, "CT": 17090}[what]
    pairs = [(f.tag, f.value, g.value) for f, g in zip(first.features, second.features, strict=True)]
    # Whoever made the NIfTI computed SUV and shape of voxels on their own: they agree to about 3 figures.
    shape = [p for p in pairs if p[0].startswith("morph_") and p[0] not in ("morph_com", "morph_integ_int")]
    assert all(b == pytest.approx(a, rel=2e-3) for _, a, b in shape)
    means = {tag: (a, b) for tag, a, b in pairs}
    assert means["stat_mean"][1] == pytest.approx(means["stat_mean"][0], rel=0.01)
    if what == "CT":
        # The PET of the same patient is no other date, but it is another image of the same pseudonym.
        again = phenotype(
            dicom.parent / "PET" / "image", next((dicom.parent / "PET" / "mask").iterdir()), tmp_path / "later",
            prior=tmp_path / "dicom", families=("stat",), aggregations=("3D",),
        )  # fmt: skip
        assert again.response.category is not None
        assert not any("whoever asked" in n for n in again.notes)
    found = {(m.name.meaning, m.derivation.meaning if m.derivation else ""): m.value for m in first.measurements}
    if what == "PET":
        mean, volume = found["SUVbw", "Mean"], found["Volume", ""]
        assert found["Total Lesion Glycolysis", ""] == pytest.approx(mean * volume)
        assert mean < found["SUVbw", "Peak Value Within ROI"] < found["SUVbw", "Maximum"]
        assert len([m for m in first.measurements if m.name.meaning == "SUVbw"]) == 8
