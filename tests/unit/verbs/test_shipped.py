"""The learnt tasks that ship: listed without torch, whole, refused when altered, and checked like any other."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from isocenter.core import Geometry, Image, Study
from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.learnt import Prepared
from isocenter.models.orientation import Turned
from isocenter.models.weights import read_card
from isocenter.plugins import load_task, task_entries
from isocenter.verbs import shipped
from isocenter.verbs.check import check
from isocenter.verbs.learnt_folder import HELD_OUT
from isocenter.verbs.running import choose_tasks
from isocenter.verbs.shipped import SHIPPED, is_shipped, shipped_entry, task_folder

ROOT = Path(__file__).resolve().parents[3]


@pytest.mark.parametrize("name", SHIPPED)
def test_it_is_installed_and_whole(name: str) -> None:
    entries, broken = task_entries()
    assert not broken and entries[name].card == shipped_entry(name).card
    card, folder = entries[name].card, task_folder(name)
    assert card.modalities and card.body_parts, "an image of another kind is refused by its header"
    assert card.licence == "CC-BY-4.0"
    assert folder is not None and not (folder / HELD_OUT).exists(), "names of images don't ship"
    weights = sorted(folder.glob("*.safetensors"))
    assert weights and sum(f.stat().st_size for f in folder.iterdir()) < 20e6
    for file in weights:
        passport = read_card(file)
        assert passport.metrics and all(d.source != "this installation" for d in passport.training_data)
        assert (ROOT / passport.scorecard).is_file()


def test_a_copy_is_known_and_a_change_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "adrenal-shape"
    folder = task_folder(name)
    assert folder is not None
    copy = tmp_path / name
    shutil.copytree(folder, copy)
    assert is_shipped(copy, name) and not is_shipped(copy, "chest-xray") and not is_shipped(copy, "lungs-cxr")
    assert choose_tasks((str(copy),)).entries[name].card == shipped_entry(name).card
    text = (copy / "task.json").read_text()
    (copy / "task.json").write_text(text.replace('"level": 0.9', '"level": 0.8', 1))
    assert not is_shipped(copy, name)
    with pytest.raises(ConfigError, match="an installed task is named 'adrenal-shape'"):
        choose_tasks((str(copy),))
    monkeypatch.setattr(shipped, "_place", lambda task: tmp_path / task)
    (copy / "gate.npz").unlink()
    with pytest.raises(WeightsError, match=r"gate\.npz is missing"):
        load_task(shipped_entry(name))
    (copy / "task.json").write_text("{}")
    with pytest.raises(ConfigError, match="not the description of a learnt task"):
        shipped_entry(name)


def test_check_says_what_does_not_ship(tmp_path: Path) -> None:
    card = check("adrenal-shape", tmp_path / "card", pictures=False)
    assert any("held-out cases does not ship" in note for note in card.notes)
    assert not [c for c in card.checks if c.status == "failed"]


def test_an_answer_says_which_part_it_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the lungs were found, and by which weights, is among the steps of the answer."""
    task = load_task(shipped_entry("chest-xray"))
    rows, columns = np.indices((128, 128))
    film = (60 + 120 * (abs(rows - 64) < 45) * (abs(columns - 64) < 50)).astype(np.uint8)
    prepared = Prepared(np.zeros((1, 64, 64), np.float32), Turned.to(Geometry((1, 128, 128)), None), (1, 90, 100),
                        (1, 128, 128), (19, 14))  # fmt: skip
    monkeypatch.setattr(type(task._settings.preparation), "forward", lambda _self, _image: prepared)
    monkeypatch.setattr("isocenter.tasks.learnt.task.alike", lambda _gate, _features: (None, None))
    monkeypatch.setattr(type(task._settings.fit), "unlike", lambda _self, _volume: None)
    image = Image(film[None, None], Geometry((1, 128, 128)), modality="DX", body_part="CHEST")
    found = task.run(Study("p", images=(image,)))
    steps = {step.name: step.parameters for step in found.steps}
    assert steps["region"] == {"organ": "lungs", "sha256": read_card("lungs-cxr").sha256, "corner": (19, 14)}
    assert steps["intensity"]["negated"] is False


def test_names_of_other_things() -> None:
    assert task_folder("lungs-cxr") is None and task_folder("no-such-task") is None
    assert shipped.BREAST_US.card.name == "breast-us"
    with pytest.raises(AttributeError, match="NO_SUCH"):
        shipped.NO_SUCH  # noqa: B018
