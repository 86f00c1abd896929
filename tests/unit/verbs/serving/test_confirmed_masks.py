"""Confirmed masks on the disk: versions, and many who confirm in one moment."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from isocenter.core import Geometry, Mask, Segment
from isocenter.core.errors import Conflict, DataError, GeometryError, NotFound
from isocenter.verbs.serving.masks import MaskFolder, NewMask, levels_of_mask
from viewing import BALL, MemoryLibrary


def new(library, label="ball", reader="AB"):
    geometry = library.images[BALL].geometry
    array = np.zeros(geometry.shape, dtype=np.uint16)
    array[4:9, 10:20, 11:17] = 1
    mask = Mask(array, geometry, (Segment(1, label, algorithm_type="MANUAL"),))
    return NewMask(BALL, label, reader, mask, levels_of_mask(mask), 0.9, 3, ())


def test_of_many_who_saw_the_same_version_one_is_taken_and_the_others_are_told(tmp_path):
    library = MemoryLibrary(tmp_path)
    masks = MaskFolder(tmp_path / "masks", library)

    def confirm(number):
        try:
            return masks.add(new(library, reader=f"r{number}"), library.images[BALL], version=0).version
        except Conflict as refusal:
            return refusal.code

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(confirm, range(8)))
    assert sorted(map(str, found)) == ["1"] + ["stale"] * 7
    assert masks.add(new(library), library.images[BALL], version=None).version == 2
    assert masks.version(BALL, "ball") == 2 and masks.version(BALL, "other") == 0


def test_masks_are_found_again_and_come_back_as_they_were(tmp_path):
    library = MemoryLibrary(tmp_path)
    wanted = new(library)
    item = MaskFolder(tmp_path / "masks", library).add(wanted, library.images[BALL], version=0)
    again = MaskFolder(tmp_path / "masks", library)
    assert again.of_image(BALL) == (item,)
    mask = again.mask(item.id)
    np.testing.assert_array_equal(mask.array, wanted.mask.array)
    assert mask.geometry.same_grid(wanted.mask.geometry) and mask.segments[0].label == "ball"
    told, change = again.levels(item.id)
    assert told == item and change.box_zyx == (4, 9, 10, 20, 11, 17) and (change.levels == 3).all()
    assert again.file(item.id, "nifti").path.is_file()
    with pytest.raises(DataError, match="DICOM"):
        again.file(item.id, "seg")
    for name in ("../" + item.id, "0" * 16, ""):
        with pytest.raises(NotFound):
            again.file(name, "nifti")
    (tmp_path / "masks" / item.id / "levels.iso").write_bytes(b"ISO1")
    with pytest.raises(DataError, match=r"levels\.iso"):
        again.levels(item.id)


def test_a_mask_on_another_grid_is_refused(tmp_path):
    library = MemoryLibrary(tmp_path)
    wanted = new(library)
    moved = Mask(
        wanted.mask.array, Geometry.axial(wanted.mask.geometry.shape, spacing_mm=(1, 1, 1)), wanted.mask.segments
    )
    other = NewMask(BALL, "ball", "AB", moved, wanted.levels, None, 0, ())
    masks = MaskFolder(tmp_path / "masks", library)
    with pytest.raises(GeometryError, match="another grid"):
        masks.add(other, library.images[BALL], version=0)
    assert masks.items() == () and not list((tmp_path / "masks").glob("*"))
