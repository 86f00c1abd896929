"""A session in a folder: the same pixels, place and masks come back, and no identity goes in."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from adapted_cases import DEEP, FLAT, case, disc, session, tiny_weights
from isocenter.core import Geometry, Image, Prompt, Quantity
from isocenter.core.errors import ConfigError, DataError, WeightsError
from isocenter.data.images import write_nifti
from isocenter.tasks.interact.engine import Engine
from isocenter.tasks.interact.session import Session
from isocenter.testing import phantom
from isocenter.verbs.session_folder import load_session, read_manifest, save_session


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine(tiny_weights(tmp_path_factory.mktemp("weights")), volume=None)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("shape", [FLAT, DEEP])
def test_what_was_confirmed_comes_back(engine: Engine, tmp_path: Path, shape: tuple[int, int, int]) -> None:
    cases = [case(seed, shape) for seed in range(3)]
    saved = save_session(session(engine, cases), tmp_path / "s")
    assert [entry.prompts for entry in saved.cases] == [0, 1, 2]
    again = load_session(engine, tmp_path / "s")
    assert again.label == "disc" and len(again.examples) == 3
    for before, after in zip(cases, again.cases, strict=True):
        np.testing.assert_array_equal(after.image.array, before.image.array)
        assert after.image.array.dtype == before.image.array.dtype
        np.testing.assert_array_equal(after.mask.array, before.mask.array)
        one, two = before.image.geometry, after.image.geometry
        assert one.same_grid(two) and one.patient_orientation == two.patient_orientation
        assert one.pixel_spacing_mm == two.pixel_spacing_mm and one.stack == two.stack
        assert (after.image.modality, after.image.quantity) == ("MR", Quantity.ARBITRARY)
    image, _ = disc(9, shape)
    np.testing.assert_array_equal(_answer(again, image), _answer(session(engine, cases), image))


def _answer(session_: Session, image: Image) -> np.ndarray:
    session_.begin(image)
    return session_.mask


def test_an_oblique_grid_with_unequal_axes_survives(engine: Engine, tmp_path: Path) -> None:
    image = phantom()
    made = Session(engine, "thing")
    made.begin(image)
    made.prompt(Prompt("point", np.array([[1.0, 1.0, 2.0]]), frame="index_zyx"))
    made.confirm()
    save_session(made, tmp_path / "s")
    (back,) = load_session(engine, tmp_path / "s").cases
    np.testing.assert_array_equal(back.image.geometry.affine, image.geometry.affine)
    np.testing.assert_array_equal(back.image.array, image.array)
    assert back.prompts == 1 and back.label == "thing"


def test_no_identity_goes_in(engine: Engine, tmp_path: Path) -> None:
    save_session(session(engine, [case(0), case(1, DEEP)]), tmp_path / "s")
    for file in (tmp_path / "s").iterdir():
        data = file.read_bytes()
        for word in (b"Zebra", b"1.2.826", b"1.2.3", b"KVP", str(tmp_path).encode()):
            assert word not in data, f"{word!r} in {file.name}"


def test_a_colour_picture_and_an_empty_mask_survive(engine: Engine, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    picture = Image(rng.integers(0, 255, (3, 1, 20, 30), dtype=np.uint8), Geometry((1, 20, 30)), Quantity.RGB)
    made = Session(engine)
    made.begin(picture)
    made.confirm()
    save_session(made, tmp_path / "s")
    (back,) = load_session(engine, tmp_path / "s").cases
    assert back.image.quantity is Quantity.RGB and back.image.geometry.affine is None
    np.testing.assert_array_equal(back.image.array, picture.array)
    assert not back.mask.array.any()


def test_folders_that_must_not_be_written(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="nothing was confirmed"):
        save_session(Session(engine), tmp_path / "s")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("x")
    one = session(engine, [case(0)])
    with pytest.raises(ConfigError, match="not empty"):
        save_session(one, tmp_path / "mine")
    with pytest.raises(ConfigError, match="does not hold a session"):
        save_session(one, tmp_path / "mine", overwrite=True)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["letter.txt"]
    save_session(one, tmp_path / "s")
    save_session(session(engine, [case(0), case(1)]), tmp_path / "s", overwrite=True)
    assert len(read_manifest(tmp_path / "s").cases) == 2


def test_folders_that_can_t_be_read(engine: Engine, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no session\.json"):
        load_session(engine, tmp_path)
    save_session(session(engine, [case(0), case(1)]), tmp_path / "s")
    file, text = tmp_path / "s" / "session.json", (tmp_path / "s" / "session.json").read_text()
    other = json.loads(text)
    other["plane"]["sha256"] = "0" * 64
    file.write_text(json.dumps(other))
    with pytest.raises(WeightsError, match=r"made with other weights \(tiny 000000000000"):
        load_session(engine, tmp_path / "s")
    assert len(load_session(engine, tmp_path / "s", accept_other_weights=True).cases) == 2
    other["cases"][0]["grid"]["shape_zyx"] = [1, 56, 63]
    file.write_text(json.dumps(other))
    with pytest.raises(DataError, match="does not hold an image and its mask"):
        load_session(engine, tmp_path / "s", accept_other_weights=True)
    other["patient"] = "x"
    file.write_text(json.dumps(other))
    with pytest.raises(DataError, match="patient: Extra inputs"):
        load_session(engine, tmp_path / "s")
    file.write_text(text)
    with (tmp_path / "s" / "case-001.npz").open("ab") as stream:
        stream.write(b"x")
    with pytest.raises(DataError, match="its sha256 differs"):
        load_session(engine, tmp_path / "s")
    (tmp_path / "s" / "case-002.npz").unlink()
    (tmp_path / "s" / "case-001.npz").unlink()
    with pytest.raises(DataError, match="is missing"):
        load_session(engine, tmp_path / "s")


def test_the_how_to_is_true(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "adapt-from-a-session.md"
    (snippet,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    paths = [tmp_path / f"{seed}.nii.gz" for seed in range(2)]
    for seed, path in enumerate(paths):
        write_nifti(disc(seed)[0], path)
    monkeypatch.chdir(tmp_path)
    point = Prompt("point", np.array([[0.0, 20.0, 38.0]]), frame="index_zyx")
    exec(snippet, {"paths": paths, "point": point})
    assert [case.prompts for case in read_manifest(tmp_path / "session").cases] == [1, 1]
