"""Real files on the server: what is sent plane by plane is what the readers of the house read as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import DataError
from isocenter.verbs.serving.library import StudyLibrary
from isocenter.verbs.serving.sources import FolderSource
from isocenter.viewer.ports import Picture
from isocenter.viewer.settings import Limits

pytestmark = pytest.mark.real


@pytest.mark.parametrize(("name", "least"), [("dicom", 60), ("ct_mr_pet_sts/dicom", 3), ("ct_mr_totalsegmentator", 8)])
def test_planes_are_those_of_the_whole(shared_data: Path, tmp_path: Path, name: str, least: int) -> None:
    if not (shared_data / name).is_dir():
        pytest.skip(f"{name} is not there")
    library = StudyLibrary(
        FolderSource(shared_data / name, tmp_path), tmp_path, limits=Limits(), memory_bytes=256 << 20
    )
    library.source.start()
    assert library.source.scan.wait(120)  # type: ignore[attr-defined]
    seen = 0
    for study in sorted(library.source.scan.studies):  # type: ignore[attr-defined]
        detail = library.study(study)
        assert detail.images or detail.left_out
        for item in detail.images:
            depth = item.shape_zyx[0]
            chosen = sorted({0, depth // 3, depth - 1})
            planes = [library.planes(item.id, z, 1).array for z in chosen]
            try:
                whole = library.image(item.id).array
            except DataError:
                continue  # a plane that was not looked at can't be decoded: said when the whole is asked for
            for z, plane in zip(chosen, planes, strict=True):
                values = np.moveaxis(plane * item.pixel.slope + item.pixel.intercept, -1, 0)
                np.testing.assert_array_equal(values, whole[:, z : z + 1].astype(np.float32), err_msg=item.id)
            assert library.picture(item.id, Picture("z", width_px=32)).startswith(b"\x89PNG")
            seen += 1
    library.close()
    assert seen >= least
