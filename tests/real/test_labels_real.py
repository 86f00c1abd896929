"""Real labelled sets in every form: the voxels and places that other software reads are those of the source."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel
import numpy as np
import pytest

from isocenter.data.labelled import LabelledSet, open_labelled
from isocenter.data.labelled.export import ExportOptions, write_labelled

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def hippocampus(shared_data: Path) -> LabelledSet:
    found = open_labelled(shared_data / "mr_hippocampus_msd")
    return found.only(found.cases[:3])


def _same(one: Path, other: Path) -> None:
    a, b = nibabel.load(one), nibabel.load(other)
    np.testing.assert_array_equal(np.asarray(a.dataobj), np.asarray(b.dataobj))
    np.testing.assert_allclose(a.affine, b.affine, atol=1e-4)


@pytest.mark.parametrize(
    ("form", "image", "label"),
    [
        ("nnunet", "imagesTr/{}_0000.nii.gz", "labelsTr/{}.nii.gz"),
        ("decathlon", "imagesTr/{}.nii.gz", "labelsTr/{}.nii.gz"),
        ("folders", "images/{}.nii.gz", "labels/{}.nii.gz"),
        (
            "bids",
            "sub-{0}/anat/sub-{0}_run-1_T1w.nii.gz",
            "derivatives/isocenter/sub-{0}/anat/sub-{0}_run-1_desc-confirmed_dseg.nii.gz",
        ),
    ],
)
def test_nibabel_reads_what_the_source_holds(hippocampus, shared_data, tmp_path, form, image, label):
    write_labelled(hippocampus, tmp_path / "set", form, ExportOptions(suffix="T1w"))
    for case in hippocampus.cases:
        name = case.name.replace("_", "") if form == "bids" else case.name
        _same(tmp_path / "set" / image.format(name), shared_data / "mr_hippocampus_msd/images" / f"{case.name}.nii.gz")
        _same(tmp_path / "set" / label.format(name), shared_data / "mr_hippocampus_msd/labels" / f"{case.name}.nii.gz")


def test_lungs_as_coco(shared_data, tmp_path):
    from isocenter.data.labelled.decathlon import mask_case

    folder = shared_data / "cxr_covid_lungmask"
    files = sorted((folder / "lung_masks").glob("*.png"))[:3]
    cases = tuple(mask_case(f.stem, f.stem, (folder / "images" / f.name,), f, (("lungs",), (255,))) for f in files)
    labelled = LabelledSet("lungs", "segment", ("lungs",), cases, (255,), True)
    done = write_labelled(labelled, tmp_path / "set", "coco")
    annotations = json.loads((tmp_path / "set" / "annotations.json").read_text())["annotations"]
    back = {c.name: c for c in open_labelled(tmp_path / "set").cases}
    assert set(done.cases) == set(back)
    for case in (c for c in cases if c.name in done.cases):
        geometry = case.image().geometry
        mine, theirs = (c.mask(geometry).segment_array(1) for c in (case, back[case.name]))
        assert np.array_equal(mine, theirs) and int(mine.sum()) in [a["area"] for a in annotations]
