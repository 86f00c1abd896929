"""`isocenter labels` over a real folder: what was confirmed comes out in every form, and nobody's name with it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from isocenter import cli
from isocenter.core import Mask, Segment
from isocenter.core.errors import ConfigError, DataError, IdentityLeak
from isocenter.data.images.seg import read_seg
from isocenter.data.labelled import open_labelled
from isocenter.verbs.labels import convert_labels, export_labels, label_agreement
from isocenter.verbs.serve import ServeConfig
from isocenter.verbs.serving.masks import MaskFolder, NewMask, levels_of_mask
from isocenter.verbs.serving.ports import open_library
from isocenter.verbs.serving.worklist import LabelWork
from isocenter.viewer.ports import StudyQuery
from isocenter.viewer.settings import Limits
from isocenter.viewer.work import WorkLabel, WorkPlan
from serving_cases import NAME, write_folder

pytest.importorskip("fastapi")


@pytest.fixture(scope="module")
def confirmed(tmp_path_factory) -> Path:
    """A folder of studies beside which two readers have labelled every CT; returns the folder."""
    root = tmp_path_factory.mktemp("labels")
    folder = root / "studies"
    folder.mkdir()
    write_folder(folder)
    config = ServeConfig(path=folder)
    work = config.work_folder
    work.mkdir()
    library = open_library(config, work, Limits())
    library.source.start()
    while (page := library.studies(StudyQuery(limit=100))).scanning:
        pass
    masks = MaskFolder(work / "masks", library)
    listed = LabelWork(work, library, masks)
    listed.set_plan(WorkPlan(labels=(WorkLabel("ramp"),), readers=("AB", "CD"), modality="CT", shared=1.0))
    listed.wait()
    for study in page.items:
        for item in library.study(study.id).images:
            if item.modality != "CT":
                continue
            image = library.image(item.id)
            for reader, first in (("AB", 0), ("CD", 1)):
                values = np.zeros(image.geometry.shape, dtype=np.uint16)
                values[1:3, 1:4, first : first + 3] = 1
                mask = Mask(values, image.geometry, (Segment(1, "ramp"),), image.source)
                new = NewMask(item.id, "ramp", reader, mask, levels_of_mask(mask), 0.9, 2, ())
                masks.add(new, image, version=None)
    listed.close()
    library.close()
    return folder


@pytest.mark.parametrize("form", ["folders", "nnunet", "decathlon"])
def test_every_form_holds_what_was_confirmed(confirmed, form, tmp_path):
    found = export_labels(confirmed, tmp_path / "set", form=form, choose="reader:AB")
    assert len(found.cases) == 3 and not found.left_out
    whole = b"".join(p.read_bytes() for p in (tmp_path / "set").rglob("*") if p.is_file())
    assert NAME.encode() not in whole and b"1.2.3" not in whole
    read = open_labelled(tmp_path / "set")
    patients = {case.patient for case in read.cases}
    assert read.classes == ("ramp",) and all(p.startswith("p-") and "P1" not in p for p in patients)
    for case in read.cases:
        image = case.image()
        inside = case.mask(image.geometry).array > 0
        assert inside.sum() == 18 and inside[1:3, 1:4, :3].all()


def test_two_studies_of_one_patient_stay_together(confirmed, tmp_path):
    export_labels(confirmed, tmp_path / "a", form="folders")
    export_labels(confirmed, tmp_path / "b", form="folders", parts="train=0.5,test=0.5")
    one, two = (open_labelled(tmp_path / name).cases for name in ("a", "b"))
    assert [(c.name, c.patient) for c in one] == [(c.name, c.patient) for c in two]
    assert sorted([c.patient for c in one].count(p) for p in {c.patient for c in one}) == [1, 2]
    for patient in {c.patient for c in two}:
        assert len({c.split for c in two if c.patient == patient}) == 1


def test_segmentations_need_a_word_and_lie_on_their_series(confirmed, tmp_path):
    with pytest.raises(IdentityLeak):
        export_labels(confirmed, tmp_path / "set", form="seg")
    assert not (tmp_path / "set").exists()
    found = export_labels(confirmed, tmp_path / "set", form="seg", identified=True, choose="reader:CD")
    files = sorted((tmp_path / "set").glob("*.seg.dcm"))
    assert len(files) == len(found.cases) == 3
    for file in files:
        mask = read_seg(file)
        assert int(mask.segment_array(1).sum()) == 18


def test_shards_and_bids(confirmed, tmp_path):
    found = export_labels(confirmed, tmp_path / "bids", form="bids", suffix="ct")
    assert len(list((tmp_path / "bids").glob("sub-*/ct/*_ct.nii.gz"))) == len(found.cases) == 3
    assert len(list((tmp_path / "bids" / "derivatives").rglob("*_dseg.nii.gz"))) == 3
    pytest.importorskip("blosc2")
    assert len(export_labels(confirmed, tmp_path / "shards", form="shards").cases) == 3


def test_one_form_becomes_another(confirmed, tmp_path):
    export_labels(confirmed, tmp_path / "a", form="nnunet", licence="CC0-1.0")
    found = convert_labels(tmp_path / "a", tmp_path / "b", form="decathlon")
    a, b = open_labelled(tmp_path / "a"), open_labelled(tmp_path / "b")
    assert [(c.name, c.patient) for c in a.cases] == [(c.name, c.patient) for c in b.cases] and b.licence == "CC0-1.0"
    assert found.form == "decathlon"
    with pytest.raises(ConfigError):
        convert_labels(tmp_path / "a", tmp_path / "c", form="tar")


def test_agreement_says_what_differs(confirmed):
    found = label_agreement(confirmed, "ramp", tolerance_mm=0.5)
    (pair,) = found["pairs"]
    assert pair["images"] == 3 and pair["patients"] == 2
    assert pair["dice"] == {"value": pytest.approx(2 / 3, abs=1e-4), "low": None, "high": None}
    assert pair["nsd"]["value"] == 1.0  # columns lie 0.5 mm apart
    with pytest.raises(ConfigError, match="no label"):
        label_agreement(confirmed, "hip")


def test_what_is_refused(confirmed, tmp_path):
    with pytest.raises(DataError, match="nothing was confirmed"):
        export_labels(confirmed, tmp_path / "set", form="folders", labels=("hip",))
    with pytest.raises(ConfigError, match="no work folder"):
        export_labels(confirmed, tmp_path / "set", form="folders", work=tmp_path / "none")
    with pytest.raises(ConfigError):
        export_labels(confirmed, tmp_path / "set", form="folders", parts="train=0.5,unknown=0.5")
    with pytest.raises(ConfigError, match="setting colour"):
        export_labels(confirmed, tmp_path / "set", form="folders", colour="red")


def test_commands(confirmed, tmp_path):
    run = CliRunner().invoke
    asked = ["labels", "export", str(confirmed), "--form", "nnunet", "--to", str(tmp_path / "set"), "--json"]
    done = run(cli.app, asked)
    assert done.exit_code == 0, done.output
    assert len(json.loads(done.stdout)["cases"]) == 3
    told = run(cli.app, ["labels", "agreement", str(confirmed), "--label", "ramp"])
    assert "AB and CD, 3 images of 2 patients: Dice 0.667" in told.stdout
    there = run(cli.app, ["labels", "convert", str(tmp_path / "set"), "--form", "folders", "--to", str(tmp_path / "b")])
    assert "3 cases as folders" in there.stdout
