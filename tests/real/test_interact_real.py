"""The shipped interactive weights on real images they never saw."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch

from isocenter.core import Geometry, Image, Prompt, Study
from isocenter.evaluate.interactive_user import centre_of_largest_error
from isocenter.tasks.interact.task import Interact


@pytest.mark.real
def test_clicks_outline_real_structures_better_and_better(shared_data):
    torch.set_num_threads(1)
    task = Interact()
    firsts, lasts = [], []
    for name, kind in (("STS_002", "MR_T1"), ("STS_003", "CT"), ("STS_010", "PET"), ("STS_015", "CT")):
        folder = shared_data / "ct_mr_pet_sts" / "nifti" / name
        volume = np.asarray(nib.load(folder / f"{kind}_image.nii.gz").dataobj).T
        mask = np.asarray(nib.load(folder / f"{kind}_mask.nii.gz").dataobj).T > 0
        z = int(mask.sum(axis=(1, 2)).argmax())
        image = Image(volume[z : z + 1][None].astype(np.float32), Geometry((1, *volume.shape[1:])))
        target, answer, prompts, scores = mask[z], np.zeros(mask.shape[1:], bool), [], []
        for _ in range(5):
            click = centre_of_largest_error(target[None], answer[None])
            if click is not None:
                prompts.append(Prompt("point", click.index_zyx, click.positive, "index_zyx"))
                prediction = task.run(Study("p", images=(image,)), prompts)
                answer = np.zeros_like(target) if prediction.value is None else prediction.value.array[0] == 1
            scores.append(2 * (answer & target).sum() / (answer.sum() + target.sum()))
        firsts.append(scores[0])
        lasts.append(scores[-1])
    assert np.mean(lasts) > 0.75
    assert np.mean(lasts) > np.mean(firsts)


@pytest.mark.real
def test_a_sarcoma_is_outlined_in_the_whole_volume(shared_data):
    """Three clicks in a PET volume of 12 mm lesions and more: most of it is found, and it does not flood the body."""
    torch.set_num_threads(2)
    folder = shared_data / "ct_mr_pet_sts" / "nifti" / "STS_002"
    stored = nib.load(folder / "PET_image.nii.gz")
    volume = np.asarray(stored.dataobj).T.astype(np.float32)
    target = np.asarray(nib.load(folder / "PET_mask.nii.gz").dataobj).T > 0
    x, y, z = (float(v) for v in stored.header.get_zooms()[:3])
    image = Image(volume[None], Geometry.axial(volume.shape, spacing_mm=(z, y, x)))
    task, answer, prompts = Interact(), np.zeros(target.shape, bool), []
    for _ in range(3):
        click = centre_of_largest_error(target, answer)
        prompts.append(Prompt("point", click.index_zyx, click.positive, "index_zyx"))
        answer = task.run(Study("p", images=(image,)), prompts).value.array == 1
    assert 2 * (answer & target).sum() / (answer.sum() + target.sum()) > 0.5
    assert answer.sum() < 2.5 * target.sum()
