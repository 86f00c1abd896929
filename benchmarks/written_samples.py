"""One object of each kind written from a real DICOM series (STS_002 of the soft-tissue sarcoma set), for the judges."""

from __future__ import annotations

import os
from pathlib import Path

import highdicom
import nibabel
import numpy as np
import pydicom

from benchmarks.__main__ import ROOT
from isocenter.core import Image, Mask, ModelRef, Prediction, Quantity, TaskCard, TaskEntry
from isocenter.core.prediction import Uncertainty
from isocenter.data.images import StudyFiles, read_study
from isocenter.data.images.parametric_map import write_parametric_map
from isocenter.data.images.rtstruct import write_rtstruct
from isocenter.data.images.secondary_capture import write_secondary_capture
from isocenter.data.images.seg import write_seg
from isocenter.data.images.sr import SegReference, SrContent, write_sr
from isocenter.data.images.sr.content import Abstention, Answer
from isocenter.tasks.phenotype import measure
from isocenter.verbs.air import AirRun, AirSettings, marks_of, tracked, write_air
from isocenter.verbs.running import Answer as Answering
from isocenter.verbs.writing import write_image

DATA = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data")) / "ct_mr_pet_sts"
FOLDERS = {"CT": "CT", "MR": "MR_T1", "PT": "PET"}


def write_samples(folder: Path) -> None:
    """Write SEG (three kinds), RTSTRUCT, SR, parametric map and secondary capture; open each in its peer."""
    files = read_study(DATA / "dicom" / "STS_002")
    image = next(i for i in files.study.images if i.modality == "CT")
    mask = next(m for m in files.study.masks if m.geometry.same_grid(image.geometry))
    headers = files.headers.image(image)
    labelmap = Mask(mask.segment_array(1).astype(np.uint16), image.geometry, mask.segments[:1])
    soft = Mask(mask.segment_array(1)[None].astype(np.float32) * np.float32(0.8), image.geometry, mask.segments[:1])
    write_seg(labelmap, folder / "SEG binary.dcm", headers=headers)
    write_seg(labelmap, folder / "SEG labelmap.dcm", headers=headers, kind="LABELMAP")
    write_seg(soft, folder / "SEG fractional.dcm", headers=headers, kind="FRACTIONAL")
    write_rtstruct(labelmap, folder / "RTSTRUCT.dcm", headers=headers)
    answer = Answer(
        "sample",
        ModelRef("sample", "1", "0" * 64, "Apache-2.0"),
        measure(image, labelmap),
        labelmap.segments,
        SegReference.from_file(folder / "SEG binary.dcm"),
        notes=("A sample.",),
    )
    content = SrContent((answer,), (Abstention("other", "needs modality MR, this image is CT"),))
    write_sr(content, folder / "SR TID 1500.dcm", headers=headers)
    heat = Image(soft.array, image.geometry, quantity=Quantity.PROBABILITY, modality="CT")
    write_parametric_map(heat, folder / "Parametric map.dcm", headers=headers)
    picture = np.zeros((64, 80, 3), np.uint8)
    picture[10:30, 20:60] = (200, 90, 30)
    write_secondary_capture(picture, folder / "Secondary capture.dcm", headers=headers)
    write_result_set(folder, files, image, labelmap)
    for name in ("SEG binary", "SEG labelmap", "SEG fractional"):
        highdicom.seg.segread(folder / f"{name}.dcm")
    highdicom.sr.srread(folder / "SR TID 1500.dcm")
    for path in folder.glob("*.dcm"):
        pydicom.dcmread(path)


def write_result_set(folder: Path, files: StudyFiles, image: Image, mask: Mask) -> None:
    """Write what a node sends back with `results:` in its settings: report, drawing, key images, root of the set."""
    out, mark = folder / "set", "AI result, not for diagnosis"
    out.mkdir()
    card = TaskCard(
        "sample", "A sample", (), (), needs_volume=None, needs_spacing=False, prompts=(), needs_prompt=False,
        intended_use="A sample.", not_for="Patients.", licence="Apache-2.0",
    )  # fmt: skip
    found = Prediction(
        Mask(mask.array, image.geometry, mask.segments, image.source), "sample",
        Uncertainty("quality", "nothing is promised"), model=ModelRef("sample", "1", "0" * 64, "Apache-2.0"),
        inputs=("CT",), measurements=measure(image, mask),
    )  # fmt: skip
    answers = [tracked(Answering(0, image, TaskEntry(card, "none:none"), found))]
    run = AirRun.begin(AirSettings(inference_time=False), out, files.headers, mark=mark)
    written = write_image(
        answers, out, files.headers, rtstruct=False, mark=mark, marking=lambda m: (marks_of(run, [m]), run.inferred)
    )
    write_air(run, answers, ((),), written)
    for path in sorted(out.glob("*.dcm")):
        header = pydicom.dcmread(path, stop_before_pixels=True)
        path.rename(folder / f"Result set, {header.Modality}, {header.SeriesDescription.replace('/', ' ')}.dcm")


def contour_rows() -> list[str]:
    """STS_002: each RTSTRUCT read onto its series against the NIfTI mask beside it (read here by nibabel alone)."""
    files = read_study(DATA / "dicom" / "STS_002")
    rows = [
        "STS_002 (soft-tissue sarcoma, CC BY 3.0): CT, MR and PET are read into one study; each RTSTRUCT against the",
        "mask that its makers drew from it (NIfTI, read by nibabel alone, matched voxel by voxel in patient mm):",
        "",
        "| series | voxels of the contour | voxels of the NIfTI mask | Dice |",
        "| --- | --- | --- | --- |",
    ]
    for image in files.study.images:
        mask = next(m for m in files.study.masks if m.geometry.same_grid(image.geometry))
        name = FOLDERS[image.modality]
        nifti = nibabel.load(DATA / "nifti" / "STS_002" / f"{name}_mask.nii.gz")
        truth = np.argwhere(np.asarray(nifti.dataobj) > 0)
        world = truth @ nifti.affine[:3, :3].T + nifti.affine[:3, 3]
        index = np.rint(image.geometry.to_index(world * (-1.0, -1.0, 1.0))).astype(int)
        theirs = np.zeros(image.geometry.shape, bool)
        theirs[tuple(index.T)] = True
        ours = mask.segment_array(1)
        dice = 2 * (ours & theirs).sum() / (ours.sum() + theirs.sum())
        rows.append(f"| {image.modality} | {ours.sum()} | {theirs.sum()} | {dice:.4f} |")
    return rows
