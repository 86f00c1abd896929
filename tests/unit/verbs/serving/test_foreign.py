"""Files that other programs send: refused by what they promise, before they are unpacked."""

from __future__ import annotations

import gzip

import nibabel
import numpy as np
import pytest

from isocenter.core.errors import DataError, TooLarge
from isocenter.verbs.serving import foreign
from isocenter.verbs.serving.foreign import LabelFiles
from isocenter.verbs.serving.interaction import SessionInteractions
from isocenter.verbs.serving.plain import check_promise, read_file
from isocenter.verbs.serving.sources import PlainFile
from isocenter.viewer.settings import Limits
from viewing import BALL, MemoryLibrary


@pytest.mark.parametrize("what", ["image", "label"])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nrrd"])
def test_a_small_file_that_unpacks_to_much_is_refused_before_it_is_read(tmp_path, monkeypatch, what, suffix):
    sides = (2048, 2048, 2048)
    if suffix == ".nii.gz":
        header = nibabel.Nifti1Header()
        header.set_data_dtype(np.uint8)
        header.set_data_shape(sides)
        content = gzip.compress(header.binaryblock + b"\0" * 4096)
    else:
        text = "NRRD0004\ntype: uint8\ndimension: 3\nspace: left-posterior-superior\nsizes: 2048 2048 2048\n"
        text += "space directions: (1,0,0) (0,1,0) (0,0,1)\nkinds: domain domain domain\nencoding: gzip\n"
        content = f"{text}space origin: (0,0,0)\n\n".encode() + gzip.compress(b"\0" * 4096)

    def never(*_args, **_more):
        raise AssertionError("it was read")

    for name in ("read_nifti", "read_nrrd", "read_nifti_mask", "read_nrrd_mask"):
        monkeypatch.setattr(foreign, name, never)
    library = MemoryLibrary(tmp_path)
    work = tmp_path / "work"
    files = LabelFiles(library, SessionInteractions(library, work), work, limits=Limits(image_bytes=64 << 20))
    with pytest.raises(TooLarge, match="8192 MiB"):
        if what == "image":
            files.take(content, f"a{suffix}")
        else:
            files.add_label(BALL, content, f"a{suffix}", labels={}, reader="AB")


def test_a_nifti_that_is_cut_off_in_its_header_is_left_to_its_reader(tmp_path):
    file = tmp_path / "a.nii"
    file.write_bytes(b"x" * 100)
    plain = PlainFile(file, "nifti", "a.nii")
    check_promise(plain, 1)
    with pytest.raises(DataError):
        read_file(plain)
