"""`isocenter pretrain`: killed and resumed it draws the same curve; the run's folder tells how it was made."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
import yaml

import isocenter
from isocenter import cli
from isocenter.core.errors import CapabilityError, ConfigError, IsocenterError
from isocenter.learn.alignment.config import check_config
from isocenter.learn.automatic import read_config
from isocenter.learn.automatic_gate import read_gate_config
from isocenter.learn.interactive_method import METHOD
from isocenter.learn.method import Method
from isocenter.learn.multimodal.config import check_config as check_pairs
from isocenter.learn.pretraining.parallel import World
from isocenter.plugins import find
from isocenter.tasks.interact.engine import Engine
from isocenter.verbs.adapt_data import AdaptDataConfig
from isocenter.verbs.clinic.config import load_clinic_config
from isocenter.verbs.phenotype import PhenotypeConfig
from isocenter.verbs.pretrain import pretrain
from isocenter.verbs.shipped import SHIPPED
from pretraining_cases import METHODS, settings_of, toy

CONFIGS = Path(__file__).parents[3] / "configs"
TINY = {
    "method": "interactive", "seed": 5,
    "network": {"widths": [4, 8, 8], "prompt_widths": [4, 4, 4], "fine": 2, "blocks": 1, "memory": 4},
    "samples": {"dims": 2, "beside": 0.2, "examples": 0.4, "most_examples": 2},
    "stages": [{"pixels": 32, "batch": 2, "until": 12}, {"pixels": 48, "batch": 2, "until": 24}],
    "learning_rate": 0.01, "warmup_steps": 2, "decay_steps": 3, "weight_decay": 0.0, "clip_norm": 1.0, "average": 0.9,
    "stay": 0.7, "most_rounds": 4, "checkpoint_every": 5, "validate_every": 8, "validation_samples": 2,
}  # fmt: skip


def written(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    said: list[tuple[str, float]] = []
    done = isocenter.pretrain(written(folder / "tiny.yaml"), folder / "run", progress=lambda *s: said.append(s))
    assert done.finished and done.step == done.steps == 24
    assert "held-out: dice 1" in said[-2][0] and "samples/s" in said[-2][0] and "left" in said[-2][0]
    assert [d for _, d in said] == sorted(d for _, d in said)
    return folder / "run"


@pytest.mark.parametrize("configuration", sorted(CONFIGS.glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_configuration_is_valid(configuration: Path) -> None:
    settings = yaml.safe_load(configuration.read_text())
    if configuration.stem == "clinic":
        assert load_clinic_config(configuration).entities
    elif settings.get("verb") == "align":
        assert check_config(settings).name.startswith("aligned-")
    elif configuration.stem.startswith("multimodal-"):
        assert settings["verb"] == "adapt" and check_pairs(settings).name == configuration.stem
    elif "method" in settings:
        method = METHOD if settings["method"] == "interactive" else METHODS[settings["method"]]
        assert method.configure(settings).model_dump(mode="json")["method"] == method.name
        assert method.name == "interactive" or configuration.stem == method.configure(settings).weights_name
    elif configuration.stem.startswith("phenotype-"):
        assert PhenotypeConfig(image=Path("i"), mask=Path("m"), out=Path("o"), **settings).families
    elif configuration.stem.startswith("gate-"):
        assert f"gate-{read_gate_config(configuration).name}" == configuration.stem
    else:
        assert read_config(configuration).name == configuration.stem


@pytest.mark.parametrize("configuration", sorted((CONFIGS / "diagnosis").glob("*.yaml")), ids=lambda p: p.name)
def test_every_configuration_of_a_learnt_task_is_valid(configuration: Path) -> None:
    assert configuration.stem in {*SHIPPED, "fundus-vessels"}, (
        "the last was tried, and docs/results/diagnosis.md says why"
    )
    config = AdaptDataConfig(data=Path("set"), out=Path("out"), **yaml.safe_load(configuration.read_text()))
    assert config.title and config.modalities and config.body_parts and config.licence == "CC-BY-4.0"


def test_the_method_has_the_face() -> None:
    assert isinstance(METHOD, Method)


def test_the_folder_tells_how_it_was_made(whole: Path) -> None:
    document = json.loads((whole / "run.json").read_text())
    assert document["config"]["seed"] == document["seed"] == 5
    assert document["data"]["kind"] == "synthesis" and len(document["data"]["engine_sha256"]) == 64
    assert document["data"]["stages"][0]["pixels"] == 32
    assert document["calls"][0]["isocenter"] == isocenter.__version__ and "commit" in document["calls"][0]
    assert (whole / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert len((whole / "steps.csv").read_text().splitlines()) == 25
    assert str(whole.parent) not in (whole / "run.json").read_text()


def test_the_weights_load(whole: Path) -> None:
    engine = Engine(plane=str(whole / "weights" / "interactive-2d.safetensors"), volume=None)
    assert engine.plane_card.training["command"] == "isocenter pretrain tiny.yaml --out RUN"
    assert engine.plane_card.training["steps"] == 24


def test_the_how_to_is_true(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = Path(__file__).parents[3] / "docs" / "how-to" / "pretrain.md"
    (snippet,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    (tmp_path / ".runs").mkdir()
    (tmp_path / ".runs" / "interactive-2d").symlink_to(whole)
    monkeypatch.chdir(tmp_path)
    known: dict[str, Engine] = {}
    exec(snippet, known)
    assert known["engine"].plane_card.training["steps"] == 24


@pytest.mark.slow
def test_killed_and_resumed_it_draws_the_same_curve(whole: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, wherever that is; a checkpoint by the clock at every step that allows one."""
    command = [sys.executable, "-m", "isocenter.cli", "pretrain", str(written(tmp_path / "tiny.yaml"))]
    command += ["--out", str(tmp_path / "run"), "--checkpoint-minutes", "0.0001"]
    steps = tmp_path / "run" / "steps.csv"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        limit = time.monotonic() + 60
        while time.monotonic() < limit and process.poll() is None:
            if steps.is_file() and len(steps.read_text().splitlines()) > 10:
                break
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was through before it could be killed"
    assert cli.run(["pretrain", str(tmp_path / "tiny.yaml"), "--out", str(tmp_path / "run"), "--resume"]) == 0
    for name in ("steps.csv", "validation.csv"):
        assert (tmp_path / "run" / name).read_text() == (whole / name).read_text()
    assert len(json.loads((tmp_path / "run" / "run.json").read_text())["calls"]) == 2
    assert (tmp_path / "run" / "weights" / "interactive-2d.safetensors").read_bytes() == (
        whole / "weights" / "interactive-2d.safetensors"
    ).read_bytes()


@pytest.mark.slow
def test_stopped_at_a_step_and_resumed(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["pretrain", str(written(tmp_path / "tiny.yaml")), "--out", str(tmp_path / "run"), "--json"]
    assert cli.run([*arguments, "--until", "9"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["step"], found["finished"]) == (9, False) and Path(found["weights"]).is_file()
    assert cli.run([*arguments, "--resume"]) == 0
    assert json.loads(capsys.readouterr().out)["finished"]
    assert (tmp_path / "run" / "steps.csv").read_text() == (whole / "steps.csv").read_text()


def test_a_run_is_resumed_with_its_own_configuration_only(tmp_path: Path) -> None:
    pretrain(written(tmp_path / "a.yaml"), tmp_path / "run", until=1)
    other = written(tmp_path / "b.yaml", learning_rate=0.5, average=0.5)
    with pytest.raises(ConfigError, match=r"another configuration \(average, learning_rate\)"):
        pretrain(other, tmp_path / "run", resume=True)
    with pytest.raises(ConfigError, match="not empty; give --resume"):
        pretrain(tmp_path / "a.yaml", tmp_path / "run")
    run_file = tmp_path / "run" / "run.json"
    begun = run_file.read_text()
    document = json.loads(begun)
    document["data"]["engine_sha256"] = "0" * 64
    run_file.write_text(json.dumps(document))
    with pytest.raises(ConfigError, match=r"learns from has changed since it was begun \(engine_sha256\)"):
        pretrain(tmp_path / "a.yaml", tmp_path / "run", resume=True)
    run_file.write_text(begun)
    (tmp_path / "run" / "checkpoint.pt").unlink()
    assert pretrain(tmp_path / "a.yaml", tmp_path / "run", resume=True, until=1).step == 1, "killed before the first"
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(IsocenterError, match=r"run\.json in .* is damaged"):
        pretrain(tmp_path / "a.yaml", tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\n", r"c\.yaml: needs a key 'method' that names what trains \(one of: KNOWN\)"),
        ("- a\n", "needs a key 'method'"),
        ("method: [\n", r"not a YAML file that can be read, line 2"),
        ("method: dreaming\n", "no method 'dreaming'; installed: KNOWN"),
        ("method: automatic\n", r"'automatic' is not one of pretraining; it has a command of its own"),
        ("method: interactive\nseed: 1\n", r"c\.yaml: setting stages: Field required"),
        ("method: interactive\nsede: 1\n", r"c\.yaml: setting"),
        (
            "method: interactive\ndata: here\n",
            r"c\.yaml: the method 'interactive' learns from synthesis alone",
        ),
    ],
)
def test_a_bad_configuration_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    message = message.replace("KNOWN", ", ".join(find("isocenter.methods")))
    with pytest.raises(ConfigError, match=message) as caught:
        pretrain(tmp_path / "c.yaml", tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_other_bad_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match=r"none\.yaml.*cannot read"):
        pretrain(tmp_path / "none.yaml", tmp_path / "run")
    with pytest.raises(ConfigError, match="setting until"):
        pretrain(tmp_path / "none.yaml", tmp_path / "run", until=0)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter.txt").write_text("mine")
    with pytest.raises(ConfigError, match="holds no run of isocenter pretrain"):
        pretrain(written(tmp_path / "t.yaml"), tmp_path / "full", resume=True)
    assert (tmp_path / "full" / "letter.txt").read_text() == "mine"
    monkeypatch.setattr("isocenter.verbs.pretrain._NEEDS", ("no_such_package",))
    with pytest.raises(CapabilityError, match=r"training needs no_such_package: pip install 'isocenter\[learn\]'"):
        pretrain(tmp_path / "t.yaml", tmp_path / "run")


def test_the_number_of_threads_comes_back(tmp_path: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        pretrain(written(tmp_path / "t.yaml"), tmp_path / "run", until=1)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


@pytest.fixture
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """The methods of this source tree, whatever was installed when."""
    monkeypatch.setattr("isocenter.verbs.pretrain.find", lambda _group: METHODS)
    monkeypatch.setattr("isocenter.verbs.pretrain.load", lambda _group, name: METHODS[name])


def masked(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump(settings_of("masked", steps=6, checkpoint_every=2, validate_every=3, **changes)))
    return path


@pytest.mark.usefixtures("registered")
def test_images_are_learnt_from(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config, images = masked(tmp_path / "m.yaml", tensorboard=True), toy(tmp_path / "pictures")
    (images / "pictures_mask.png").write_bytes((images / "kind-0_000.png").read_bytes())
    arguments = ["pretrain", str(config), "--out", str(tmp_path / "run")]
    assert cli.run(arguments) == 2
    assert "the method 'masked' learns from images: give their folder (--data FOLDER)" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()
    arguments += ["--data", str(images)]
    assert cli.run([*arguments, "--until", "3"]) == 0
    printed = capsys.readouterr().out
    assert "masked: step 3 of 6; go on with --resume" in printed and "held-out: held_out_loss" in printed
    assert "note: 1 files of pictures are not learnt from; the first, pictures_mask.png: its name says" in printed
    assert ("note: tensorboard is not installed" in printed) == (find_spec("tensorboard") is None)
    document = json.loads((tmp_path / "run" / "run.json").read_text())
    assert document["data"]["images"] == 24 and len(document["data"]["index_sha256"]) == 64
    for file in ("run.json", "choices.json", "weights/masked-2d.json", "weights/masked-2d-whole.json"):
        assert str(tmp_path) not in (tmp_path / "run" / file).read_text(), "no path of this machine"
    assert cli.run([*arguments, "--resume", "--json"]) == 0
    done = json.loads(capsys.readouterr().out)
    assert done["finished"] and done["weights"].endswith("masked-2d.safetensors") and len(done["notes"]) >= 1
    card = json.loads((tmp_path / "run" / "weights" / "masked-2d.json").read_text())
    assert card["training"]["command"] == "isocenter pretrain m.yaml --out RUN --data DATA"
    assert (tmp_path / "run" / "curves.png").read_bytes()[:4] == b"\x89PNG"
    page = Path(__file__).parents[3] / "docs" / "reference" / "pretraining-methods.md"
    (snippet,) = re.findall(r"```python\n(.*?)```", page.read_text("utf-8"), re.DOTALL)
    known: dict[str, torch.Tensor] = {}
    exec(snippet.replace(".runs/masked-2d", str(tmp_path / "run")), known)
    assert tuple(known["embedding"].shape) == (1, 32)


@pytest.mark.usefixtures("registered")
def test_a_run_is_resumed_with_its_own_images_only(tmp_path: Path) -> None:
    config, images = masked(tmp_path / "m.yaml"), toy(tmp_path / "pictures")
    said: list[str] = []
    pretrain(config, tmp_path / "run", data=images, until=2, progress=lambda what, _done: said.append(what))
    line = r"step 2 of 6, loss \d\.\d+, \d+\.\d samples/s, \d+ s left\nheld-out: loss \d\.\d+, rank \d+\.\d+$"
    assert any(re.match(line, words) for words in said)
    moved = images.rename(tmp_path / "elsewhere")
    assert pretrain(config, tmp_path / "run", data=moved, resume=True, until=3).step == 3
    first = sorted(moved.iterdir())[0]
    first.write_bytes(sorted(moved.iterdir())[1].read_bytes())
    with pytest.raises(ConfigError, match=r"learns from has changed since it was begun \(index_sha256\)"):
        pretrain(config, tmp_path / "run", data=moved, resume=True)


@pytest.mark.usefixtures("registered")
def test_the_data_of_the_file_and_of_the_command_line(tmp_path: Path) -> None:
    config = masked(tmp_path / "m.yaml", data=str(toy(tmp_path / "a", 6)))
    pretrain(config, tmp_path / "one", until=1)
    pretrain(config, tmp_path / "two", until=1, data=toy(tmp_path / "b", 8))
    counts = [json.loads((tmp_path / run / "run.json").read_text())["data"]["images"] for run in ("one", "two")]
    assert counts == [6, 8]
    assert "data" not in json.loads((tmp_path / "one" / "run.json").read_text())["config"]


def test_a_method_of_one_process_refuses_several(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    @contextlib.contextmanager
    def two() -> Iterator[World]:
        yield World(0, 2)

    monkeypatch.setattr("isocenter.learn.pretraining.parallel.joined", two)
    with pytest.raises(ConfigError, match="'interactive' trains in one process; start it without torchrun"):
        pretrain(written(tmp_path / "t.yaml"), tmp_path / "run")
    assert not (tmp_path / "run").exists()
