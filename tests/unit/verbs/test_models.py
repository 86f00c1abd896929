"""`isocenter models`: what is added is recorded, found again, checked, and refused once it was altered."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import isocenter
from isocenter import cli
from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.passport.store import ENTRY, store_folder
from isocenter.models.weights import built_in_folder, list_cards, render_card, save_weights
from passport_cases import make_bundle, make_huggingface, make_nnunet, with_monai, with_nnunet

ROOT = Path(__file__).resolve().parents[3]
USE = "Tests of this package."


@pytest.fixture(autouse=True)
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ISOCENTER_MODELS", str(tmp_path / "store"))
    return tmp_path / "store"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_huggingface(tmp_path_factory.mktemp("weights") / "Tiny DINOv2")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / made.name))


def names() -> list[str]:
    return [m.name for m in isocenter.models_list().models if m.place != "built-in"]


def test_large_weights_stay_where_they_are(folder: Path, store: Path) -> None:
    entry = isocenter.models_add(folder)
    assert entry.passport.name == "tiny-dinov2"
    assert entry.root == str(folder.resolve())
    assert not entry.converted
    assert sorted(p.name for p in store.rglob("*") if p.is_file()) == [ENTRY] == ["passport.json"]
    opened = isocenter.open_weights("tiny-dinov2")
    assert opened.passport == entry.passport
    assert opened.root == folder.resolve()
    assert isocenter.models_check("tiny-dinov2").passed
    assert isocenter.models_card("tiny-dinov2").passport == entry.passport


def test_a_copy_needs_the_folder_no_more(folder: Path, store: Path) -> None:
    entry = isocenter.models_add(folder, name="mine", copy_files=True)
    assert (entry.root, entry.origin) == (None, str(folder.resolve()))
    shutil.rmtree(folder)
    assert isocenter.open_weights("mine").root == store / "mine" / "files"
    assert isocenter.models_check("mine").passed
    assert not [p for p in store.rglob("*") if p.is_symlink()]


@pytest.mark.parametrize("make", [make_bundle, make_nnunet])
def test_an_archive_becomes_safetensors(make, tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_monai(monkeypatch)
    with_nnunet(monkeypatch)
    folder = make(tmp_path / "x")
    before = isocenter.open_weights(folder)
    entry = isocenter.models_add(folder, name="mine", licence="CC-BY-4.0", intended_use=USE)
    assert entry.converted and entry.passport.source_format == "safetensors"
    assert re.search(r"converted to safetensors from .*\.pth? \(sha256 [0-9a-f]{64}\)", entry.passport.notes[-1])
    assert not [p for p in store.rglob("*") if p.suffix in (".pt", ".pth")]
    shutil.rmtree(folder)
    monkeypatch.setattr(torch, "load", None)
    opened = isocenter.open_weights("mine")
    assert opened.passport.licence == "CC-BY-4.0"
    other = before.network.state_dict()
    assert all(torch.equal(value, other[key]) for key, value in opened.network.state_dict().items())
    assert isocenter.models_check("mine").passed


def test_our_own_weights_can_be_added(tmp_path: Path) -> None:
    from isocenter.models.unet import UNet, UNetSettings

    settings = UNetSettings(rank=2, channels_in=1, classes=2, widths=(4, 8))
    card = {
        "name": "own", "version": "1", "title": "Own", "licence": "CC0-1.0", "network": settings.as_card(),
        "preparation": {"side_pixels": 32}, "intended_use": "Tests.", "not_for": "Else.", "training_data": (),
        "training": {}, "metrics": (),
    }  # fmt: skip
    arrays = {k: np.asarray(v) for k, v in UNet(settings).state_dict().items()}
    save_weights(tmp_path / "run", arrays, card)
    isocenter.models_add(tmp_path / "run", name="from-folder")
    isocenter.models_add(tmp_path / "run" / "own.safetensors", name="from-file", copy_files=True)
    for name in ("from-folder", "from-file"):
        opened = isocenter.open_weights(name)
        assert (opened.passport.licence, opened.passport.name, opened.passport.role) == ("CC0-1.0", name, "segmenter")
        assert all(np.array_equal(v, arrays[k]) for k, v in opened.network.state_dict().items())


def test_what_the_user_says_is_recorded_as_theirs(folder: Path) -> None:
    entry = isocenter.models_add(folder, licence="LicenseRef-mine", intended_use="Research.")
    assert (entry.passport.licence, entry.passport.intended_use) == ("LicenseRef-mine", "Research.")
    assert entry.passport.licence_from == "who added it; the front matter of README.md says apache-2.0"


# What is refused


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"name": "lungs-cxr"}, "a built-in model is named 'lungs-cxr'"),
        ({"name": "taken"}, "a model named 'taken' is in the store already"),
        ({"name": "Not A Name"}, "can't name a model"),
        ({"name": "../outside"}, "can't name a model"),
        ({"licence": ""}, "licence"),
        ({"surprise": 1}, "surprise"),
    ],
)
def test_names_and_settings_are_checked(settings: dict, words: str, folder: Path) -> None:
    isocenter.models_add(folder, name="taken")
    with pytest.raises(ConfigError, match=words):
        isocenter.models_add(folder, **settings)
    assert names() == ["taken"]


def test_a_folder_that_is_none_leaves_no_entry(tmp_path: Path, store: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match="holds no weights that are known"):
        isocenter.models_add(tmp_path / "empty")
    assert names() == []


def test_altered_weights_are_not_opened(folder: Path) -> None:
    isocenter.models_add(folder, name="mine")
    with (folder / "model.safetensors").open("r+b") as stream:
        stream.seek(-4, 2)
        stream.write(b"\1\2\3\4")
    with pytest.raises(WeightsError, match=r"mine: model.safetensors was altered .sha256 .*since it was added"):
        isocenter.open_weights("mine")
    report = isocenter.models_check("mine")
    assert not report.passed
    assert report.checks[0].status == "failed"


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda f: (f / "config.json").write_text((f / "config.json").read_text() + " "), "config.json was altered"),
        (lambda f: (f / "preprocessor_config.json").unlink(), "preprocessor_config.json is gone"),
        (lambda f: (f / "tokenizer.json").write_text("{}"), "tokenizer.json was not there when it was added"),
        (shutil.rmtree, "no longer at"),
    ],
)
def test_every_file_that_counts_is_held_to_its_hash(spoil, words: str, folder: Path) -> None:
    isocenter.models_add(folder, name="mine")
    spoil(folder)
    with pytest.raises(WeightsError, match=words):
        isocenter.open_weights("mine")
    assert not isocenter.models_check("mine").passed


def test_a_change_while_copying_leaves_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copyfile(source: Path, target: Path) -> None:
        data = Path(source).read_bytes()
        Path(target).write_bytes(data[:-1] + b"\1" if str(source).endswith(".safetensors") else data)

    monkeypatch.setattr("isocenter.verbs.models.shutil.copyfile", copyfile)
    with pytest.raises(WeightsError, match="changed while it was copied"):
        isocenter.models_add(folder, copy_files=True)
    assert names() == []


def test_a_damaged_entry_is_listed_with_its_problem(folder: Path, store: Path) -> None:
    isocenter.models_add(folder, name="gone")
    isocenter.models_add(folder, name="spoilt")
    isocenter.models_add(folder, name="renamed")
    (store / "spoilt" / ENTRY).write_text("{}")
    (store / "renamed").rename(store / "other")
    (folder / "config.json").unlink()
    problems = {m.name: m.problem or "" for m in isocenter.models_list().models}
    assert "config.json is gone" in problems["gone"]
    assert "not the description of a model" in problems["spoilt"]
    assert "describes 'renamed', not 'other'" in problems["other"]
    with pytest.raises(WeightsError, match="not the description of a model"):
        isocenter.open_weights("spoilt")


def test_names_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no weights named 'nothing'.*there are: hippocampus-t1"):
        isocenter.open_weights("nothing")
    with pytest.raises(WeightsError, match="Nothing is downloaded"):
        isocenter.open_weights("facebook/dinov2-small")
    with pytest.raises(WeightsError, match="this machine only"):
        isocenter.open_weights("https://example.org/model.safetensors")


# The commands


def test_the_commands(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["models", "add", str(folder), "--name", "mine", "--intended-use", USE]) == 0
    assert "licence apache-2.0" in capsys.readouterr().out
    assert cli.run(["models", "list", "--json"]) == 0
    listed = {m["name"]: m for m in json.loads(capsys.readouterr().out)["models"]}
    assert {"mine", "lungs-cxr"} <= set(listed)
    assert listed["mine"]["place"] == str(folder.resolve())
    assert cli.run(["models", "list"]) == 0
    assert "mine: dinov2 (Dinov2Model of transformers)" in capsys.readouterr().out
    assert cli.run(["models", "check", "mine"]) == 0
    out = capsys.readouterr().out
    assert out.count("passed") == 9 and "laterality" in out
    assert cli.run(["models", "card", "mine"]) == 0
    page = capsys.readouterr().out
    assert page.startswith("# mine") and "**Licence.** apache-2.0" in page and "sha256 `" in page
    assert cli.run(["models", "card", "mine", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["name"] == "mine"
    assert cli.run(["models", "add", str(folder), "--name", "mine"]) == 2
    assert "in the store already" in capsys.readouterr().err


def test_a_failed_check_is_an_exit_code(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = make_huggingface(tmp_path / "x")
    (folder / "README.md").unlink()
    assert cli.run(["models", "check", str(folder), "--json"]) == 5
    out, err = capsys.readouterr()
    report = json.loads(out)
    assert not report["passed"]
    assert {c["name"] for c in report["checks"] if c["status"] == "failed"} == {"licence", "intended use"}
    assert err == "isocenter: x failed: licence, intended use\n"
    assert cli.run(["models", "check", str(tmp_path / "nothing")]) == 5
    assert cli.run(["models", "card", "lungs-cxr"]) == 0


def test_the_card_of_a_built_in_model_is_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    found = isocenter.models_card("lungs-cxr")
    card = next(c for c in list_cards() if c.name == "lungs-cxr")
    assert found.page == render_card(card)
    assert found.passport.files[0].sha256 == card.sha256
    assert isocenter.models_card(built_in_folder() / "lungs-cxr.safetensors").passport == found.passport


def test_listing_needs_no_torch(folder: Path) -> None:
    isocenter.models_add(folder, name="mine")
    code = (
        "import sys; sys.modules['torch'] = None; import isocenter; "
        "print(*[m.name for m in isocenter.models_list().models], isocenter.models_card('mine').passport.name)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[-2:] == ["mine", "mine"]
    code = "import sys; sys.modules['torch'] = None; import isocenter; isocenter.models_check('lungs-cxr')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "pip install 'isocenter[torch]'" in done.stderr


def test_the_store_is_where_the_user_s_data_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("ISOCENTER_MODELS")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert store_folder() == tmp_path / "isocenter" / "models"
    monkeypatch.delenv("XDG_DATA_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert store_folder() == tmp_path / ".local" / "share" / "isocenter" / "models"
    assert names() == []


def test_the_page_s_examples_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "how-to" / "bring-your-own-weights.md").read_text("utf-8")
    shutil.move(folder, tmp_path / "dinov2-small")
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^\$ isocenter (models .*)$", page, re.MULTILINE)
    assert len(commands) >= 4
    with_nnunet(monkeypatch)
    make_nnunet(tmp_path / "Dataset009_Spleen")
    for command in commands:
        words = shlex.split(command)
        assert cli.run(words) == 0, command
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert blocks
    for block in blocks:
        exec(compile(block, "bring-your-own-weights.md", "exec"), {})
