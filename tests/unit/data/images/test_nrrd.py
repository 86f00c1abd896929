"""NRRD and MetaImage: what the header states, and nothing that a library would invent."""

from __future__ import annotations

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813

from isocenter.core import Code, Geometry, Image, Mask, Quantity, Segment
from isocenter.core.errors import DataError, GeometryError, PixelError, UnitsError
from isocenter.data.images.nrrd import read_nrrd, read_nrrd_mask, write_metaimage, write_nrrd
from isocenter.testing import phantom, phantom_geometry

VOXELS = np.arange(24, dtype=np.int16).reshape(4, 3, 2)  # (z, y, x)
PLACE = """space: {space}
space directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)
space origin: (10,20,30)
"""


def write(folder, geometry_lines, *, name="a.nrrd", voxels=VOXELS, sizes="2 3 4", kinds="", more=""):
    head = f"NRRD0004\ntype: short\ndimension: {len(sizes.split())}\nsizes: {sizes}\nendian: little\nencoding: raw\n"
    (folder / name).write_bytes((head + geometry_lines + kinds + more + "\n").encode() + voxels.tobytes())
    return folder / name


@pytest.mark.parametrize(
    ("space", "corner"),
    [
        ("left-posterior-superior", (10.7, 21.6, 37.5)),
        ("LPS", (10.7, 21.6, 37.5)),
        ("right-anterior-superior", (-10.7, -21.6, 37.5)),
        ("RAS", (-10.7, -21.6, 37.5)),
        ("left-anterior-superior", (10.7, -21.6, 37.5)),
    ],
)
def test_spaces(space, corner, tmp_path):
    image = read_nrrd(write(tmp_path, PLACE.format(space=space)))
    np.testing.assert_allclose(image.geometry.to_world([[3, 2, 1]]), [corner], atol=1e-9)
    assert image.array[0, 3, 1, 0] == VOXELS[3, 1, 0] == 20
    assert image.notes == ()


@pytest.mark.parametrize(
    ("lines", "reason", "spacing"),
    [
        ("", "no space such as", None),
        ("spacings: 0.7 0.8 2.5\n", "no space such as", (0.8, 0.7)),
        (PLACE.format(space="scanner-xyz"), "no space such as", (0.8, 0.7)),
        ("space dimension: 3\n" + "".join(PLACE.splitlines(keepends=True)[1:]), "no space such as", (0.8, 0.7)),
        ("space: LPS\nspace origin: (1,2,3)\n", "no space directions", None),
        ("space: LPS\nspace directions: (0.7,0,0) (0,0.8,0) (0,0,2.5)\n", "no space origin", (0.8, 0.7)),
    ],
)
def test_what_the_header_does_not_state_stays_unknown(lines, reason, spacing, tmp_path):
    image = read_nrrd(write(tmp_path, lines))
    assert image.geometry.affine is None
    assert image.geometry.pixel_spacing_mm == spacing
    assert reason in image.notes[0]
    np.testing.assert_array_equal(image.array[0], VOXELS)


def test_units(tmp_path):
    image = read_nrrd(write(tmp_path, PLACE.format(space="LPS") + 'space units: "cm" "cm" "cm"\n'))
    assert image.geometry.spacing_mm == pytest.approx((25, 8, 7))
    np.testing.assert_allclose(image.geometry.to_world([[0, 0, 0]]), [[100, 200, 300]])
    with pytest.raises(UnitsError, match="unit that is not known"):
        read_nrrd(write(tmp_path, PLACE.format(space="LPS") + 'space units: "inch" "inch" "inch"\n'))


def meta(folder, lines, name="a.mha"):
    head = f"ObjectType = Image\nNDims = 3\n{lines}DimSize = 2 3 4\nElementType = MET_SHORT\nElementDataFile = LOCAL\n"
    (folder / name).write_bytes(head.encode() + VOXELS.tobytes())
    return folder / name


META_PLACE = "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 10 20 30\nElementSpacing = 0.7 0.8 2.5\n"


def test_metaimage(tmp_path):
    image = read_nrrd(meta(tmp_path, META_PLACE))
    np.testing.assert_allclose(image.geometry.to_world([[3, 2, 1]]), [[10.7, 21.6, 37.5]])
    assert image.array[0, 3, 1, 0] == 20


def test_units_of_a_metaimage(tmp_path):
    image = read_nrrd(meta(tmp_path, META_PLACE + "DistanceUnits = um\n"))
    assert image.geometry.spacing_mm == pytest.approx((0.0025, 0.0008, 0.0007))
    assert read_nrrd(meta(tmp_path, META_PLACE + "DistanceUnits = ?\n")).geometry.spacing_mm == (2.5, 0.8, 0.7)
    with pytest.raises(UnitsError, match="unit that is not known"):
        read_nrrd(meta(tmp_path, META_PLACE + "DistanceUnits = inch\n"))


@pytest.mark.parametrize(("number", "reason"), [(0, "no TransformMatrix"), (1, "no Offset"), (2, "no ElementSpacing")])
def test_metaimage_with_a_line_missing(number, reason, tmp_path):
    lines = META_PLACE.splitlines(keepends=True)
    del lines[number]
    image = read_nrrd(meta(tmp_path, "".join(lines)))
    assert image.geometry.affine is None
    assert reason in image.notes[0]
    assert image.geometry.pixel_spacing_mm == (None if number == 2 else (0.8, 0.7))


def test_detached_data(tmp_path):
    itk = sitk.GetImageFromArray(VOXELS)
    for name in ("a.mhd", "a.nhdr"):
        sitk.WriteImage(itk, str(tmp_path / name))
        np.testing.assert_array_equal(read_nrrd(tmp_path / name).array[0], VOXELS)
    (tmp_path / "a.raw").unlink()
    with pytest.raises(PixelError, match="data file is missing beside it"):
        read_nrrd(tmp_path / "a.mhd")


@pytest.mark.parametrize("target", ["../secret.raw", "/etc/hostname"])
def test_a_header_may_not_point_out_of_its_folder(target, tmp_path):
    (tmp_path / "secret.raw").write_bytes(VOXELS.tobytes())
    inner = tmp_path / "inner"
    inner.mkdir()
    text = meta(inner, META_PLACE).read_bytes().split(b"ElementDataFile")[0]
    (inner / "a.mhd").write_bytes(text + f"ElementDataFile = {target}\n".encode())
    with pytest.raises(DataError, match="outside its folder"):
        read_nrrd(inner / "a.mhd")


def test_lists_of_files_are_refused(tmp_path):
    text = meta(tmp_path, META_PLACE).read_bytes().split(b"ElementDataFile")[0]
    for value in ("LIST\na.raw\nb.raw", "slice%03d.raw 1 4 1"):
        (tmp_path / "a.mhd").write_bytes(text + f"ElementDataFile = {value}\n".encode())
        with pytest.raises(PixelError, match="spread over several files"):
            read_nrrd(tmp_path / "a.mhd")


def test_truncated_and_damaged(tmp_path):
    for path in (write(tmp_path, PLACE.format(space="LPS")), meta(tmp_path, META_PLACE)):
        content = path.read_bytes()
        path.write_bytes(content[:-5])
        with pytest.raises(PixelError, match=r"truncated|damaged"):
            read_nrrd(path)
        path.write_bytes(content[:40])
        with pytest.raises(DataError, match=r"truncated|damaged|neither"):
            read_nrrd(path)


def test_a_header_that_promises_too_much_is_refused_at_once(tmp_path):
    with pytest.raises(PixelError, match="promises 2000000000000 bytes"):
        read_nrrd(write(tmp_path, PLACE.format(space="LPS"), sizes="10000 10000 10000"))


def test_sizes_that_make_no_sense(tmp_path):
    for sizes in ("2 3 x", "2 3 -4", "2 3 0"):
        with pytest.raises(PixelError, match="sizes in the header are damaged"):
            read_nrrd(write(tmp_path, PLACE.format(space="LPS"), sizes=sizes))


def test_singular_directions(tmp_path):
    lines = PLACE.format(space="LPS").replace("(0,0.8,0)", "(0.7,0,0)")
    with pytest.raises((GeometryError, PixelError)):
        read_nrrd(write(tmp_path, lines))


SLICER = """Segment0_ID:=Segment_1
Segment0_Name:=left lung
Segment0_LabelValue:=3
Segment0_Layer:=0
Segment0_Color:=0.5 0.25 1
Segment0_Tags:=TerminologyEntry:Segmentation category and type - 3D Slicer General Anatomy list@CODES|
Segment1_Name:=nodule
Segment1_LabelValue:=1
Segment1_Layer:=1
""".replace("@CODES", "~SCT^123037004^Anatomical Structure~SCT^39607008^Lung~SCT^7771000^Left~Anatomic codes~^^~^^")


def test_a_segmentation_of_3d_slicer_in_layers(tmp_path):
    layers = np.zeros((4, 3, 2, 2), np.int16)  # (z, y, x, layer)
    layers[1, :, :, 0] = 3
    layers[1, 1, 1, 1] = 1
    lines = PLACE.format(space="LPS").replace("space directions: ", "space directions: none ")
    path = write(
        tmp_path, lines, voxels=layers, sizes="2 2 3 4", kinds="kinds: list domain domain domain\n", more=SLICER
    )
    mask = read_nrrd_mask(path)
    lung, nodule = mask.segments
    assert (lung.number, lung.label, lung.colour) == (3, "left lung", (128, 64, 255))
    assert lung.category == Code("123037004", "SCT", "Anatomical Structure")
    assert lung.type == Code("39607008", "SCT", "Lung")
    assert (nodule.number, nodule.label) == (1, "nodule")
    assert mask.segment_array(3).sum() == 6
    assert np.argwhere(mask.segment_array(1)).tolist() == [[1, 1, 1]]


def test_a_labelmap_of_3d_slicer(tmp_path):
    labels = np.zeros((4, 3, 2), np.int16)
    labels[2, 1, 0] = 3
    mask = read_nrrd_mask(write(tmp_path, PLACE.format(space="LPS"), voxels=labels, more=SLICER))
    assert mask.is_labelmap
    assert mask.array[2, 1, 0] == 3


def test_labels_without_a_name_are_refused_when_others_have_one(tmp_path):
    labels = np.full((4, 3, 2), 8, np.int16)
    with pytest.raises(PixelError, match="have no segment"):
        read_nrrd_mask(write(tmp_path, PLACE.format(space="LPS"), voxels=labels, more=SLICER))


def test_names_of_any_kind_survive(tmp_path):
    segments = (Segment(1, "two\nlines"), Segment(2, "back\\slash: n"), Segment(3, "Größe := 4"))
    labels = np.arange(30, dtype=np.uint16).reshape(2, 3, 5) % 4
    mask = Mask(labels, phantom_geometry(), segments)
    write_nrrd(mask, tmp_path / "a.nrrd")
    assert [s.label for s in read_nrrd_mask(tmp_path / "a.nrrd").segments] == [s.label for s in segments]


def test_no_place_survives_in_nrrd_and_is_refused_in_metaimage(tmp_path):
    plain = Image(phantom().array, Geometry((2, 3, 5), stack="time"))
    assert write_nrrd(plain, tmp_path / "a.nrrd").grid == "index"
    assert read_nrrd(tmp_path / "a.nrrd").geometry.stack == "time"
    with pytest.raises(GeometryError, match="needs a place in patient millimetres"):
        write_metaimage(plain, tmp_path / "a.mha")
    spaced = Image(phantom().array[:, :1], Geometry((1, 3, 5), pixel_spacing_mm=(0.2, 0.3)))
    write_nrrd(spaced, tmp_path / "b.nrrd")
    assert read_nrrd(tmp_path / "b.nrrd").geometry.pixel_spacing_mm == (0.2, 0.3)


def test_a_shear_has_no_place_in_a_metaimage(tmp_path):
    affine = phantom_geometry().affine.copy()
    affine[0, 1] += 0.3
    image = Image(phantom().array, Geometry((2, 3, 5), affine))
    with pytest.raises(GeometryError, match="not at right angles; write NIfTI"):
        write_metaimage(image, tmp_path / "a.mha")
    assert list(tmp_path.iterdir()) == []


def test_colour(tmp_path):
    rgb = Image(np.arange(90, dtype=np.uint8).reshape(3, 2, 3, 5), phantom_geometry(), quantity=Quantity.RGB)
    for write_file, name in ((write_nrrd, "a.nrrd"), (write_metaimage, "a.mha")):
        write_file(rgb, tmp_path / name)
        back = read_nrrd(tmp_path / name)
        assert back.quantity is Quantity.RGB
        np.testing.assert_array_equal(back.array, rgb.array)


def test_wrong_names_and_types(tmp_path):
    with pytest.raises(DataError, match=r"must be named \.nrrd"):
        write_nrrd(phantom(), tmp_path / "a.nhdr")
    with pytest.raises(DataError, match=r"must be named \.mha"):
        write_metaimage(phantom(), tmp_path / "a.mhd")
    half = Image(phantom().array.astype(np.float16), phantom_geometry())
    with pytest.raises(PixelError, match="no voxels of type float16"):
        write_nrrd(half, tmp_path / "a.nrrd")
    (tmp_path / "text.nrrd").write_text("hello")
    with pytest.raises(DataError, match="neither NRRD nor MetaImage"):
        read_nrrd(tmp_path / "text.nrrd")
