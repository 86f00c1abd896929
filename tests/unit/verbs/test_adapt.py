"""`isocenter adapt`: a session becomes a task that keeps the contract, says what it is worth, and abstains when due."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import isocenter
from adapted_cases import DEEP, FLAT, case, disc, session, tiny_weights
from isocenter import cli
from isocenter.core import Geometry, Image, Mask, Study
from isocenter.core.errors import ConfigError, DataError, WeightsError
from isocenter.data.images import write_nifti
from isocenter.models.weights import read_card
from isocenter.plugins import load_task
from isocenter.tasks.interact.engine import Engine
from isocenter.tasks.segment.adapted.cards import Fit, names_a_side
from isocenter.testing import check_task
from isocenter.verbs.adapt import adapt
from isocenter.verbs.adapted_folder import adapted_entry
from isocenter.verbs.running import choose_tasks
from isocenter.verbs.session_folder import save_session


@pytest.fixture(scope="module")
def engine():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine(volume=None)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def flat(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a session of pictures, and the task that was made of it."""
    folder = tmp_path_factory.mktemp("flat")
    save_session(session(engine, [case(seed) for seed in range(3)]), folder / "session")
    done = isocenter.adapt(folder / "session", folder / "task", steps=2)
    assert done.task == "disc-adapted" and done.cases == 3 and done.folder == folder / "task"
    assert 0 <= done.low <= done.dice <= done.high <= 1
    return folder


@pytest.fixture(scope="module")
def deep(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of volumes."""
    folder = tmp_path_factory.mktemp("deep")
    save_session(session(engine, [case(seed, DEEP, label="Left disc") for seed in range(2)]), folder / "session")
    adapt(folder / "session", folder / "task", steps=1, name="ball")
    return folder


def answer(task: Path, image: Image):
    return load_task(adapted_entry(task)).run(Study("p", images=(image,)))


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return 2 * (a & b).sum() / max(1, a.sum() + b.sum())


def test_it_outlines_the_next_image_without_a_click(flat: Path) -> None:
    image, inside = disc(11)
    found = answer(flat / "task", image)
    assert isinstance(found.value, Mask), found.abstained
    assert overlap(found.value.array > 0, inside) > 0.8
    assert found.value.segments[0].label == "disc"
    assert found.uncertainty is not None and found.uncertainty.level == pytest.approx(0.5)
    assert "chance of 50%" in found.uncertainty.description
    assert (
        found.model is not None
        and found.model.weights_sha256 == json.loads((flat / "task" / "disc-adapted.json").read_text())["sha256"]
    )


def test_the_answer_lies_where_the_patient_has_it_in_every_order_of_axes(deep: Path) -> None:
    image, inside = disc(5, DEEP)
    straight = answer(deep / "task", image)
    assert isinstance(straight.value, Mask), straight.abstained
    assert overlap(straight.value.array > 0, inside) > 0.6
    affine = image.geometry.require_affine()
    turned_affine = affine[:, [1, 2, 0, 3]].copy()
    turned_affine[:3, 3] += affine[:3, 2] * (DEEP[2] - 1)
    turned_affine[:3, 1] *= -1
    array = np.ascontiguousarray(np.transpose(image.array, (0, 2, 3, 1))[:, :, ::-1])
    turned = Image(array, Geometry((DEEP[1], DEEP[2], DEEP[0]), turned_affine), modality="MR")
    again = answer(deep / "task", turned)
    assert isinstance(again.value, Mask), again.abstained
    back = np.transpose(again.value.array[:, ::-1], (2, 0, 1))
    np.testing.assert_array_equal(back, straight.value.array)


@pytest.mark.parametrize("kind", ["flat", "deep"])
def test_it_keeps_the_contract(kind: str, flat: Path, deep: Path) -> None:
    folder, shape = (flat, FLAT) if kind == "flat" else (deep, DEEP)
    task = load_task(adapted_entry(folder / "task"))
    report = check_task(task, study=Study("p", images=(disc(7, shape)[0],)))
    assert report.answered >= 2 and report.abstained >= 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"modality": "CT"}, "needs modality MR, this image is CT"),
        ({"geometry": Geometry(FLAT, patient_orientation=("R", "F"))}, "this one lies R/F"),
        ({"geometry": Geometry((1, 56, 30)), "array": np.zeros((1, 1, 56, 30))}, "rows a column, this image has 1.87"),
        ({"geometry": Geometry((2, 56, 64)), "array": np.zeros((1, 2, 56, 64))}, "needs a single plane"),
        ({"array": np.full((1, *FLAT), 7)}, "flat: there is nothing to outline"),
        ({"array": np.indices(FLAT).sum(axis=0)[None] % 2 * 100}, "too unlike the confirmed ones"),
    ],
)
def test_it_abstains_from_what_is_not_like_the_confirmed(flat: Path, change: dict, reason: str) -> None:
    found = answer(flat / "task", replace(disc(3)[0], **change))
    assert found.abstained is not None and reason in found.abstained


def test_it_abstains_from_another_spacing_size_or_place(deep: Path) -> None:
    image, _ = disc(3, DEEP)
    fine = Geometry.axial(DEEP, spacing_mm=(2.5, 0.3, 0.3))
    reasons = [(fine, "spacing along y allows 0.533 to 1.2 mm, this one has 0.3"), (Geometry(DEEP), "needs a volume")]
    for geometry, reason in reasons:
        found = answer(deep / "task", replace(image, geometry=geometry))
        assert found.abstained is not None and reason in found.abstained
    half = Image(image.array[:, :, :12], Geometry.axial((4, 12, 44), spacing_mm=(2.5, 0.8, 0.7)), modality="MR")
    found = answer(deep / "task", half)
    assert found.abstained is not None and "size along y" in found.abstained


def test_read_and_segment_take_the_folder(deep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_nifti(disc(5, DEEP)[0], tmp_path / "scan.nii.gz")
    task = str(deep / "task")
    arguments = ["segment", str(tmp_path / "scan.nii.gz"), "--task", task, "--out", str(tmp_path / "mask.nii.gz")]
    assert cli.run([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["task"] == "ball"
    result = isocenter.read(tmp_path / "scan.nii.gz", tmp_path / "result", tasks=(task, "interact"))
    assert [p.task for p in result.predictions if p.abstained is None] == ["ball"]
    config = json.loads((tmp_path / "result" / "config.json").read_text())
    assert config["config"]["tasks"] == ["ball", "interact"], "no path: it may name a patient"


def test_the_folder_tells_how_it_was_made_and_names_nobody(flat: Path) -> None:
    made = json.loads((flat / "task" / "config.json").read_text())
    assert made["config"]["flip"] == "on" and made["config"]["steps"] == 2 and made["seed"] == 0
    assert len(made["data"]["cases"]) == 3 and made["base_weights"]["name"] == "interactive-2d"
    card = read_card(flat / "task" / "disc-adapted.safetensors")
    assert [m.structure for m in card.metrics] == ["disc, adapted", "disc, examples alone, not adapted"]
    assert card.metrics[0].count == 3 and "leave one case out; Student's t" in card.metrics[0].how
    assert card.size_bytes < 2_000_000
    assert "disc, adapted" in (flat / "task" / "disc-adapted.md").read_text()
    for file in (p for p in (flat / "task").rglob("*") if p.is_file()):
        assert not any(word in file.read_bytes() for word in (b"Zebra", b"1.2.826", str(flat).encode()))


def test_a_named_side_is_never_learnt_mirrored(deep: Path) -> None:
    assert json.loads((deep / "task" / "config.json").read_text())["config"]["flip"] == "off"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A session of pictures in which a tiny network answered, with its weights."""
    folder = tmp_path_factory.mktemp("tiny")
    engine = Engine(tiny_weights(folder), volume=None)
    save_session(session(engine, [case(seed) for seed in range(4)]), folder / "session")
    return folder


@pytest.mark.slow
def test_the_same_seed_gives_the_same_adapter(tiny: Path, tmp_path: Path) -> None:
    weights = str(tiny / "tiny.safetensors")
    files = []
    for workers, seed in ((1, 0), (2, 0), (2, 1)):
        out = tmp_path / f"{workers}-{seed}"
        adapt(tiny / "session", out, steps=6, workers=workers, seed=seed, plane_weights=weights)
        files.append((out / "disc-adapted.safetensors").read_bytes())
    assert files[0] == files[1] != files[2]


@pytest.mark.slow
def test_what_fits_into_the_minutes_is_settled_and_recorded(tiny: Path, tmp_path: Path) -> None:
    weights, said = str(tiny / "tiny.safetensors"), []
    adapt(tiny / "session", tmp_path / "t", minutes=0.01, plane_weights=weights, progress=lambda *s: said.append(s))
    steps = json.loads((tmp_path / "t" / "config.json").read_text())["config"]["steps"]
    assert 12 <= steps <= 400
    card = read_card(tmp_path / "t" / "disc-adapted.safetensors")
    checked = card.training["checked_at"]
    assert isinstance(checked, list) and checked[0] == 0 and checked[-1] == steps
    assert any("lesson" in words for words, _ in said) and said[-1][1] <= 1


def test_an_error_ends_all_threads(tiny: Path, tmp_path: Path) -> None:
    def stop(words: str, _: float) -> None:
        if "lesson" in words:
            raise KeyboardInterrupt

    weights = str(tiny / "tiny.safetensors")
    with pytest.raises(KeyboardInterrupt):
        adapt(tiny / "session", tmp_path / "t", steps=400, plane_weights=weights, progress=stop)
    assert not (tmp_path / "t").exists()


@pytest.mark.parametrize(
    ("cases", "message"),
    [
        ([case(0)], r"1 confirmed case\(s\); at least 2"),
        ([case(0), case(1, label="ring")], r"of 2 structures \('disc', 'ring'\)"),
        ([case(0), case(1, DEEP)], "some cases are single planes and some have several"),
        ([case(0, empty=True), case(1, empty=True)], "0 of the confirmed cases hold the structure"),
        ([case(0), case(1, empty=True)], "1 of the confirmed cases hold the structure"),
    ],
)
def test_sessions_that_can_t_be_learnt_from(engine: Engine, tmp_path: Path, cases: list, message: str) -> None:
    save_session(session(engine, cases), tmp_path / "s")
    with pytest.raises(DataError, match=message):
        adapt(tmp_path / "s", tmp_path / "task", steps=1)
    assert not (tmp_path / "task").exists()


def test_other_weights_are_said_and_accepted_only_when_asked(tiny: Path, tmp_path: Path) -> None:
    manifest, weights = json.loads((tiny / "session" / "session.json").read_text()), str(tiny / "tiny.safetensors")
    manifest["plane"]["sha256"] = "0" * 64
    folder = tmp_path / "s"
    folder.mkdir()
    for file in (tiny / "session").glob("*.npz"):
        (folder / file.name).write_bytes(file.read_bytes())
    (folder / "session.json").write_text(json.dumps(manifest))
    with pytest.raises(WeightsError, match=r"made with other weights .*--accept-other-weights"):
        adapt(folder, tmp_path / "task", steps=1, plane_weights=weights)
    adapt(folder, tmp_path / "task", steps=1, plane_weights=weights, accept_other_weights=True)
    assert json.loads((tmp_path / "task" / "config.json").read_text())["session_weights"]["sha256"] == "0" * 64


def test_other_bad_input(flat: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no session\.json"):
        adapt(tmp_path, tmp_path / "task")
    with pytest.raises(ConfigError, match="setting minutes"):
        adapt(flat / "session", tmp_path / "task", minutes=0)
    with pytest.raises(ConfigError, match="not empty; choose another folder, or give --overwrite"):
        adapt(flat / "session", flat / "task")
    with pytest.raises(ConfigError, match="does not hold an adapted task"):
        adapt(flat / "session", flat, overwrite=True)
    with pytest.raises(ConfigError, match="no task 'nothing'; installed"):
        choose_tasks(("nothing",))
    with pytest.raises(ConfigError, match=r"holds no task\.json"):
        choose_tasks((str(tmp_path),))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "task.json").write_text("{}")
    with pytest.raises(ConfigError, match="not the description of an adapted task"):
        choose_tasks((str(broken),))
    (broken / "task.json").write_bytes((flat / "task" / "task.json").read_bytes())
    with pytest.raises(ConfigError, match="two tasks are named 'disc-adapted'"):
        choose_tasks((str(broken), str(flat / "task")))
    with pytest.raises(WeightsError):
        load_task(adapted_entry(broken))


def test_verbs_import_without_torch() -> None:
    absent = "class Absent:\n    def find_spec(self, name, path=None, target=None):\n"
    absent += "        if name.split('.')[0] == 'torch':\n            raise ModuleNotFoundError(name)\n"
    code = f"import sys\n{absent}sys.meta_path.insert(0, Absent())\n" + "\n".join(
        f"import isocenter.verbs.{verb}" for verb in ("read", "segment", "adapt", "pretrain", "session_folder")
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "label", ["L kidney", "kidney_R", "LeftKidney", "kidneyL", "linke Niere", "rechte Niere", "riñón izquierdo"]
)
def test_names_of_sides_in_many_ways(label):
    assert names_a_side(label)


@pytest.mark.parametrize("label", ["Lungs", "Prostate", "lesion 3", "Lobule", "alright"])
def test_names_without_a_side(label):
    assert not names_a_side(label)


def _plane(seed, **geometry):
    array = np.random.default_rng(seed).normal(0, 1, (1, 1, 24, 20)).astype(np.float32)
    return Image(array, Geometry((1, 24, 20), **geometry))


def test_a_named_side_needs_to_know_how_pictures_lie():
    lying = [_plane(i, patient_orientation=("L", "F")) for i in range(3)]
    silent = [_plane(i) for i in range(3)]
    with pytest.raises(DataError, match="names a side"):
        Fit.of(silent, "Left lung")
    with pytest.raises(DataError, match="names a side"):
        Fit.of([*lying[:2], _plane(9, patient_orientation=("R", "F"))], "Left lung")
    fit = Fit.of(lying, "Left lung")
    assert fit.misfit(lying[0]) is None
    assert "side" in fit.misfit(silent[0])
    assert "lies R/F" in fit.misfit(_plane(4, patient_orientation=("R", "F")))
    assert Fit.of(silent, "Lungs").misfit(silent[1]) is None


def test_planes_along_other_axes_are_refused_not_turned():
    def cut(directions):
        geometry = Geometry.from_directions((1, 24, 20), directions, spacing_mm=(3, 1, 1), origin_mm=(0, 0, 0))
        return Image(np.random.default_rng(0).normal(0, 1, (1, 1, 24, 20)).astype(np.float32), geometry)

    axial, sagittal = cut([[0, 0, 1], [0, 1, 0], [1, 0, 0]]), cut([[1, 0, 0], [0, 0, -1], [0, 1, 0]])
    with pytest.raises(DataError, match="different axes"):
        Fit.of([axial, sagittal], "Lungs")
    assert "planes that lie" in Fit.of([axial, axial], "Lungs").misfit(sagittal)
