"""Images to learn from: every format, no label, damaged files named and counted, crops pure in their key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image as Picture

from isocenter.core import Geometry, Image, Quantity
from isocenter.core.errors import DataError, PixelError
from isocenter.data.images import write_metaimage, write_nifti, write_nrrd
from isocenter.learn.method import Stop
from isocenter.learn.pretraining.appearance import vary
from isocenter.learn.pretraining.args import CropArgs, PretrainingArgs
from isocenter.learn.pretraining.crops import crop, cut, generator
from isocenter.learn.pretraining.files import index_of
from isocenter.learn.pretraining.images import Images, prepare
from isocenter.testing.dicom_phantom import write_ct_series
from pretraining_cases import METHODS, settings_of, toy


def volume(shape: tuple[int, int, int] = (6, 20, 22), spacing: tuple[float, float, float] = (1.0, 0.9, 0.8)) -> Image:
    rng = np.random.default_rng(sum(shape))
    array = rng.integers(-200, 800, (1, *shape)).astype(np.int16)
    return Image(array, Geometry.axial(shape, spacing_mm=spacing, origin_mm=(5.0, -3.0, 9.0)))


def args_of(**changes: Any) -> PretrainingArgs:
    return METHODS["masked"].configure(settings_of("masked", **changes))


def three_d(**changes: Any) -> PretrainingArgs:
    vit = {"kind": "vit", "dims": 3, "channels_in": 1, "patch": [4, 8, 8], "grid": [2, 2, 2], "width": 24, "heads": 2}
    return args_of(backbone=vit | {"depth": 1}, pixels=[8, 16, 16], crop={}, **changes)


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two DICOM series, NIfTI, NRRD, MetaImage, PNG, JPEG, TIFF, .npz, and what is no image."""
    folder = tmp_path_factory.mktemp("mixed")
    write_ct_series(folder / "ct" / "a", volume(), name="a")
    write_ct_series(folder / "ct" / "b", volume((5, 16, 18)), seed=9, name="b")
    write_nifti(volume((4, 18, 20)), folder / "head.nii.gz")
    write_nrrd(volume((5, 18, 21)), folder / "deep.nrrd")
    write_metaimage(volume((7, 18, 21)), folder / "deep.mha")
    rng = np.random.default_rng(1)
    Picture.fromarray(rng.integers(0, 255, (30, 33), dtype=np.uint8)).save(folder / "grey.png")
    Picture.fromarray(rng.integers(0, 255, (30, 33, 3), dtype=np.uint8)).save(folder / "colour.jpg")
    Picture.fromarray(rng.integers(0, 255, (31, 33), dtype=np.uint8)).save(folder / "grey.tiff")
    (folder / "labelsTr").mkdir()
    write_nifti(volume((4, 18, 20)), folder / "labelsTr" / "head.nii.gz")
    Picture.fromarray(np.eye(20, dtype=np.uint8)).save(folder / "grey_mask.png")
    (folder / "letter.txt").write_text("to be left alone")
    np.savez_compressed(
        folder / "small.npz",
        train_images=rng.integers(0, 255, (3, 28, 28), dtype=np.uint8),
        train_labels=np.array([[7], [7], [7]]),
        val_images=rng.integers(0, 255, (2, 28, 28, 3), dtype=np.uint8),
    )
    return folder


def test_every_format_is_found_and_read(mixed: Path) -> None:
    args = args_of(data=str(mixed))
    index = index_of(mixed, args.images.leave_out)
    kinds = [e.kind for e in index.entries]
    assert {k: kinds.count(k) for k in kinds} == {"dicom": 2, "nifti": 1, "nrrd": 2, "picture": 3, "npz": 5}
    assert index.files == 11 + 1 + 2 + 3 + 1
    left = dict(index.left_out)
    assert set(left) == {"labelsTr/head.nii.gz", "grey_mask.png", "letter.txt"}
    assert "images.leave_out" in left["grey_mask.png"]
    assert {e.array for e in index.entries if e.kind == "npz"} == {"train_images", "val_images"}, "no label is read"
    images = Images(index, args)
    for number in range(len(images.learnt)):
        plane = images.draw(number, generator(number))
        assert plane.ndim == 3 and plane.shape[0] == 1 and np.isfinite(plane).all()
    assert not images.unreadable


def test_the_hash_is_of_the_images_and_their_order_alone(mixed: Path, tmp_path: Path) -> None:
    a = toy(tmp_path / "a", 6)
    known = index_of(a).sha256
    assert index_of(toy(tmp_path / "elsewhere" / "b", 6)).sha256 == known
    first = sorted(a.iterdir())[0]
    first.write_bytes(first.read_bytes() + b"\0")
    assert index_of(a).sha256 != known
    rows = [e for e in index_of(mixed).entries if e.kind == "npz"]
    assert len({e.key for e in rows}) == len(rows)


def test_a_list_of_paths(mixed: Path, tmp_path: Path) -> None:
    toy(tmp_path / "toy", 3)
    listed = tmp_path / "list.txt"
    listed.write_text(f"# mine\n{mixed / 'head.nii.gz'}\n\ntoy\n{mixed / 'small.npz'}\n{mixed / 'letter.txt'}\n")
    index = index_of(listed)
    assert (index.name, len(index.entries)) == ("list.txt", 9)
    assert [name for name, _ in index.left_out] == ["letter.txt"]
    listed.write_text("toy\nnowhere.png\n")
    with pytest.raises(DataError, match=r"list\.txt: line 2 names a path that is not there"):
        index_of(listed)
    listed.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match="not UTF-8"):
        index_of(listed)


def test_what_can_not_be_an_index(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file or folder"):
        index_of(tmp_path / "nowhere")
    with pytest.raises(DataError, match="1 images to learn from; at least two"):
        index_of(toy(tmp_path / "one", 1))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="the folder is empty"):
        index_of(tmp_path / "empty")
    (tmp_path / "bad.npz").write_bytes(b"PK\x03\x04nothing")
    with pytest.raises(DataError, match=r"bad\.npz: the \.npz is damaged"):
        index_of(tmp_path / "bad.npz")
    np.savez(tmp_path / "labels.npz", train_labels=np.zeros(9))
    with pytest.raises(DataError, match=r"no array of it is named \*_images"):
        index_of(tmp_path / "labels.npz")


def test_held_out_images_are_never_learnt_from(tmp_path: Path) -> None:
    index = index_of(toy(tmp_path / "toy", 20))
    learnt, held = index.split(0.2)
    assert (len(learnt), len(held)) == (16, 4) and not set(learnt) & set(held)
    assert index_of(toy(tmp_path / "again", 20)).split(0.2)[1] == tuple(
        type(e)(e.kind, (tmp_path / "again" / e.name,), e.name, e.sha256) for e in held
    )
    images = Images(index, args_of(images={"held_out": 0.2}))
    drawn = [images.draw(n, generator(n)).tobytes() for n in range(2 * 16)]
    assert len(set(drawn[:16])) == 16 and set(drawn[:16]) == set(drawn[16:]), "each once an epoch"
    assert drawn[:16] != drawn[16:], "in another order"
    assert not set(drawn) & {images.draw(n, generator(n), held=True).tobytes() for n in range(4)}


def damaged(folder: Path, count: int, good: int = 20) -> Path:
    """A toy set; some of it cut off in the middle."""
    toy(folder, good)
    for number, file in enumerate(sorted(folder.iterdir())[3 : 3 + 2 * count : 2]):
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2 + number])
    return folder


def test_damaged_images_are_named_skipped_and_counted(tmp_path: Path) -> None:
    method = METHODS["masked"]
    settings = settings_of("masked", data=str(damaged(tmp_path / "toy", 2)), images={"most_unreadable": 0.1}, steps=8)
    said = []
    method.train(method.configure(settings), tmp_path / "run", Stop(), said.append)
    note = "2 of 20 images can't be learnt from and were left out: unreadable.csv"
    assert said[-1].notes == (note,)
    table = (tmp_path / "run" / "unreadable.csv").read_text().splitlines()
    assert len(table) == 3 and all(".png,the picture is truncated or damaged" in row for row in table[1:])
    assert len((tmp_path / "run" / "steps.csv").read_text().splitlines()) == 9
    # What was skipped is skipped again, and what takes its place is the same.
    method.train(method.configure(settings), tmp_path / "part", Stop(until=3), said.append)
    method.train(method.configure(settings), tmp_path / "part", Stop(resume=True), said.append)
    assert (tmp_path / "part" / "steps.csv").read_text() == (tmp_path / "run" / "steps.csv").read_text()


def test_too_many_damaged_images_stop_the_run(tmp_path: Path) -> None:
    method = METHODS["masked"]
    settings = settings_of(
        "masked", data=str(damaged(tmp_path / "toy", 4)), images={"most_unreadable": 0.1, "workers": 0}
    )
    message = (
        r"3 of 20 images can't be learnt from; `images\.most_unreadable` allows a share of 0\.1: kind-\d_\d+\.png: "
    )
    with pytest.raises(DataError, match=message):
        method.train(method.configure(settings), tmp_path / "run", Stop(), lambda _r: None)


def test_a_set_of_damaged_images_alone_ends(tmp_path: Path) -> None:
    folder = toy(tmp_path / "toy", 3)
    for file in folder.iterdir():
        file.write_bytes(file.read_bytes()[:60])
    images = Images(index_of(folder), args_of(images={"most_unreadable": 1.0}))
    with pytest.raises(DataError, match="of 3 images can't be learnt from"):
        images.draw(0, generator(1))


def test_preparation() -> None:
    image = volume((6, 20, 22), (1.0, 1.0, 1.0))
    ready = prepare(image, args_of())
    assert abs(float(ready.array.astype(float).mean())) < 1e-2 and float(ready.array.astype(float).std()) == (
        pytest.approx(1.0, abs=1e-2)
    )
    assert ready.axes == (0, 1, 2), "isotropic: planes across any axis"
    assert prepare(volume((6, 20, 22), (3.0, 1.0, 1.0)), args_of()).axes == (0,), "thick slices: in plane alone"
    colour = Image(
        np.random.default_rng(2).integers(0, 255, (3, 1, 8, 9)).astype(np.uint8),
        Geometry((1, 8, 9)),
        quantity=Quantity.RGB,
    )
    assert prepare(colour, args_of()).array.shape == (1, 1, 8, 9)
    vit = {"kind": "vit", "channels_in": 3, "patch": [4, 4], "grid": [8, 8], "width": 32, "depth": 1, "heads": 2}
    three = args_of(channels=3, backbone=vit)
    assert prepare(colour, three).array.shape == (3, 1, 8, 9)
    grey = prepare(volume((1, 8, 9)), three).array
    assert grey.shape == (3, 1, 8, 9) and np.array_equal(grey[0], grey[2])
    respaced = prepare(volume((6, 20, 22), (2.0, 0.5, 1.0)), args_of(images={"spacing_mm": 1.0}))
    assert respaced.array.shape == (1, 12, 10, 22)
    with pytest.raises(PixelError, match="flat"):
        prepare(Image(np.ones((1, 1, 4, 4), np.uint8), Geometry((1, 4, 4))), args_of())
    with pytest.raises(PixelError, match="a plane or a cine, and volumes are learnt from"):
        prepare(volume((1, 8, 9)), three_d())


def test_volumes_are_learnt_from(tmp_path: Path) -> None:
    (tmp_path / "v").mkdir()
    for number in range(4):
        write_nifti(volume((6 + number, 20, 22)), tmp_path / "v" / f"{number}.nii")
    args = three_d(data=str(tmp_path / "v"))
    images = Images(index_of(tmp_path / "v"), args)
    shown = images.draw(0, generator(0))
    assert shown.ndim == 4 and shown.shape[0] == 1
    part = crop(shown, generator(1), args.pixels, args.crop)
    assert tuple(part.shape) == (1, 8, 16, 16)


def test_a_crop_is_what_its_key_says() -> None:
    image = np.random.default_rng(0).normal(size=(1, 50, 40)).astype(np.float16)
    a, b = (crop(image, generator(3, 1, 7), (24, 24), CropArgs(share=(0.3, 1.0))) for _ in range(2))
    assert a.equal(b) and not a.equal(crop(image, generator(3, 1, 8), (24, 24), CropArgs(share=(0.3, 1.0))))


def test_a_crop_that_keeps_pixels_pads_what_is_too_small() -> None:
    args = CropArgs(zoom=(1.0, 1.0), aspect=1.0, flip=False)
    image = np.arange(1.0, 7.0, dtype=np.float32).reshape(1, 2, 3)
    assert crop(image, generator(0), (4, 5), args).tolist() == [
        [[0, 0, 0, 0, 0], [0, 1, 2, 3, 0], [0, 4, 5, 6, 0], [0, 0, 0, 0, 0]]
    ]
    seen = {tuple(crop(image, generator(k), (1, 3), args).flatten().tolist()) for k in range(20)}
    assert seen == {(1, 2, 3), (4, 5, 6)}, "every place comes"


def test_a_crop_is_mirrored_half_of_the_time() -> None:
    image = np.arange(4.0, dtype=np.float32).reshape(1, 1, 4)
    args = CropArgs(zoom=(1.0, 1.0), aspect=1.0)
    firsts = [float(crop(image, generator(k), (1, 4), args)[0, 0, 0]) for k in range(200)]
    assert set(firsts) == {0.0, 3.0} and 60 < firsts.count(3.0) < 140


def test_shrinking_takes_means() -> None:
    image = np.indices((1, 8, 8))[2].astype(np.float32) % 2  # stripes one pixel wide
    assert np.allclose(cut(image, [0, 0], [8, 8], [4, 4]).numpy(), 0.5)


def test_appearance_changes_and_is_pure() -> None:
    image = crop(np.random.default_rng(0).normal(size=(1, 20, 20)), generator(0), (20, 20), CropArgs(flip=False))
    assert vary(image, generator(1), 0.0).equal(image)
    assert vary(image, generator(1), 1.0).equal(vary(image, generator(1), 1.0))
    different = [vary(image, generator(k), 1.0) for k in range(8)]
    assert all(d.shape == image.shape and bool(d.isfinite().all()) and not d.equal(image) for d in different)
