"""Headers that claim more frames than their file can hold: refused before there is anything for each of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydicom import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import RLELossless

from isocenter.core import Geometry, Image
from isocenter.core.errors import PixelError
from isocenter.data.images.dicom.header import read_dataset, scan
from isocenter.data.images.dicom.plane import planes_of
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.testing.phantom import phantom


def claiming(folder: Path, frames: str, *, encapsulated: bool) -> Path:
    """Write one small file that claims frames."""

    def change(_index: int, dataset: Dataset) -> Dataset:
        dataset.NumberOfFrames = frames
        if encapsulated:
            dataset.file_meta.TransferSyntaxUID = RLELossless
            dataset.PixelData = encapsulate([bytes(64)])
            dataset["PixelData"].VR = "OB"
        return dataset

    image = phantom()
    one = Image(image.array[:, :1], Geometry.axial((1, *image.array.shape[2:]), spacing_mm=(2.0, 1.0, 0.5)))
    write_ct_series(folder, one, change=change)
    return next(file for file in folder.rglob("*") if file.is_file())


@pytest.mark.parametrize("encapsulated", [True, False])
@pytest.mark.parametrize("frames", ["2147483647", "300000"])
def test_frames_that_can_not_be_there(tmp_path: Path, frames: str, encapsulated: bool) -> None:
    header = scan(claiming(tmp_path, frames, encapsulated=encapsulated))
    assert header.frames == int(frames)
    with pytest.raises(PixelError, match=f"claims {frames} frames"):
        planes_of(header, read_dataset(header.path))


def test_frames_that_may_be_there(tmp_path: Path) -> None:
    header = scan(claiming(tmp_path, "7", encapsulated=True))
    assert len(planes_of(header, read_dataset(header.path))) == 7
