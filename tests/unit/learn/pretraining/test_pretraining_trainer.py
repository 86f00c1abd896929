"""The engine: killed and resumed it draws the same curve, two processes draw that of one, it stops with reasons."""

from __future__ import annotations

import csv
import errno
import json
import math
import os
import signal
import subprocess
import sys
import time
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isocenter
from isocenter.core.errors import ConfigError, OutputError, TrainingError, WeightsError
from isocenter.learn.checkpoint import load_checkpoint, save_checkpoint
from isocenter.learn.method import Method, StepReport, Stop
from isocenter.learn.pretraining import speed
from isocenter.learn.pretraining.parallel import World
from isocenter.learn.pretraining.trainer import begun, decayed
from isocenter.models.backbones import build_backbone
from isocenter.models.weights import load_weights
from pretraining_cases import COMMON, METHODS, settings_of, toy

ROOT = Path(__file__).parents[4]
DRIVER = ROOT / "tests" / "pretraining_cases.py"
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
    "PYTHONPATH": str(Path(isocenter.__file__).parents[1]),
}  # fmt: skip


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return toy(tmp_path_factory.mktemp("images") / "toy")


def train(name: str, images: Path, out: Path, /, *, stop: Stop | None = None, **changes: Any) -> list[StepReport]:
    method = METHODS[name.partition("-")[0]]
    said: list[StepReport] = []
    method.train(
        method.configure(settings_of(name, data=str(images), **changes)), out, stop or Stop(), lambda r: said.append(r)
    )
    return said


def rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


@pytest.mark.parametrize(
    "name", ["masked", pytest.param("distil", marks=pytest.mark.slow), pytest.param("vicreg", marks=pytest.mark.slow)]
)
def test_killed_and_resumed_it_draws_the_same_curve(name: str, images: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, wherever that is; a checkpoint by the clock after nearly every step."""
    train(name, images, tmp_path / "whole")
    command = [sys.executable, str(DRIVER), name, str(images), str(tmp_path / "run")]
    steps = tmp_path / "run" / name / "steps.csv"
    process = subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.DEVNULL)
    try:
        limit = time.monotonic() + 60
        while time.monotonic() < limit and process.poll() is None:
            if steps.is_file() and len(steps.read_text().splitlines()) > 6:
                break
            time.sleep(0.002)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was through before it could be killed"
    train(name, images, tmp_path / "run" / name, stop=Stop(resume=True))
    for table in ("steps.csv", "validation.csv"):
        assert (tmp_path / "run" / name / table).read_text() == (tmp_path / "whole" / table).read_text()
    ours, theirs = (load_checkpoint(tmp_path / r / "checkpoint.pt") for r in (f"run/{name}", "whole"))
    assert all(torch.equal(ours["learner"][k], v) for k, v in theirs["learner"].items())


@pytest.mark.slow
def test_two_processes_draw_the_curve_of_one(images: Path, tmp_path: Path) -> None:
    """The batch is worked through in two parts, each shared by both: what looks at a whole part is gathered."""
    names = ("masked", "masked-sparse", "vicreg", "distil", "distil-sinkhorn")
    short = {"steps": 4, "warmup_steps": 2, "accumulate": 2}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(DRIVER)]
    command += [",".join(names), str(images), str(tmp_path / "two"), *(f"{k}={v}" for k, v in short.items())]
    done = subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    for name in names:
        train(name, images, tmp_path / "one" / name, **short)
        one, two = (rows(tmp_path / r / name / "steps.csv") for r in ("one", "two"))
        assert len(one) == len(two) == 4
        for a, b in zip(one, two, strict=True):
            assert a["loss"] == pytest.approx(b["loss"], abs=1e-5, rel=1e-5)
        assert json.loads((tmp_path / "two" / name / "choices.json").read_text())["processes"] == 2


def test_a_batch_in_parts_is_the_batch(images: Path, tmp_path: Path) -> None:
    train("masked", images, tmp_path / "whole", steps=4)
    train("masked", images, tmp_path / "parts", steps=4, accumulate=4, recompute=True)
    for a, b in zip(rows(tmp_path / "whole" / "steps.csv"), rows(tmp_path / "parts" / "steps.csv"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-4)


def test_workers_change_nothing(images: Path, tmp_path: Path) -> None:
    train("masked", images, tmp_path / "a", steps=4, images={"workers": 0})
    train("masked", images, tmp_path / "b", steps=4, images={"workers": 3, "cache_mb": 1})
    assert (tmp_path / "a" / "steps.csv").read_text() == (tmp_path / "b" / "steps.csv").read_text()


def test_the_reports(images: Path, tmp_path: Path) -> None:
    said = train("masked", images, tmp_path / "run", steps=9)
    assert [r.step for r in said] == list(range(1, 10)) and said[-1].steps == 9 and said[0].samples == 8
    assert said[0].shown == ("held_out_loss", "rank") and set(said[0].shown) <= set(said[0].validation)
    assert said[7].validation["step"] == 8 and said[6].validation["step"] == 0
    assert not said[-1].notes


def test_the_weights_are_the_averaged_backbone(images: Path, tmp_path: Path) -> None:
    method = METHODS["vicreg"]
    config = method.configure(settings_of("vicreg", data=str(images), steps=3, licence="CC0-1.0"))
    assert isinstance(method, Method)
    method.train(config, tmp_path, Stop(), lambda _r: None)
    path = method.export(config, tmp_path, command="isocenter pretrain x.yaml --out RUN", machine="a machine")
    weights = load_weights(path)
    backbone = build_backbone(weights.card.network)
    backbone.load_state_dict({k: torch.from_numpy(v) for k, v in weights.arrays.items()}, strict=True)
    state = load_checkpoint(tmp_path / "checkpoint.pt")
    for key, value in backbone.state_dict().items():
        assert torch.equal(value, state["average"][f"backbone.{key}"])
        if value.ndim > 1:
            assert not torch.equal(value, state["learner"][f"backbone.{key}"])
    card = weights.card
    assert (card.name, card.licence, card.training["steps"], card.training["samples"]) == (
        "vicreg-2d",
        "CC0-1.0",
        3,
        24,
    )
    (learnt,) = card.training_data
    assert (learnt.name, learnt.cases, learnt.licence) == ("toy", 23, "CC0-1.0")
    assert method.data_identity(config)["index_sha256"] in learnt.note
    assert learnt.note.startswith("1 more were held out")
    assert card.preparation["pixels"] == [32, 32] and card.training["held_out"]["step"] == 3
    for file in (path.with_suffix(".json"), path.with_suffix(".md"), tmp_path / "choices.json"):
        assert str(images.parent) not in file.read_text()
    method.draw(tmp_path, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    with pytest.raises(WeightsError, match="'vicreg', not 'masked'"):
        other = METHODS["masked"]
        other.export(other.configure(settings_of("masked", data=str(images))), tmp_path, command="", machine="")


def test_a_loss_that_is_no_number_stops_the_run(images: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"step \d+: the (loss|gradient) is no finite number.*lower learning rate"):
        train("vicreg", images, tmp_path / "run", learning_rate=1e19, clip_norm=1e30, warmup_steps=0, average=0.0)
    state = tmp_path / "run" / "checkpoint.pt"
    assert not state.exists() or all(bool(v.isfinite().all()) for v in load_checkpoint(state)["learner"].values())


def test_a_full_disk_keeps_the_checkpoint_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, {"step": 1})

    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"checkpoint\.pt: cannot write: the disk is full; free some space"):
        save_checkpoint(path, {"step": 2})
    monkeypatch.undo()
    assert load_checkpoint(path)["step"] == 1
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_an_error_of_torch_hides_what_the_system_said(tmp_path: Path) -> None:
    """A real limit on the size of files: torch's writer turns it into a RuntimeError."""
    code = (
        "import resource, signal, sys, torch; from pathlib import Path\n"
        "from isocenter.core.errors import OutputError\n"
        "from isocenter.learn.checkpoint import save_checkpoint\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); path = Path(sys.argv[1])\n"
        "save_checkpoint(path, {'a': torch.zeros(10)})\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))\n"
        "try: save_checkpoint(path, {'a': torch.randn(100000)})\n"
        "except OutputError: sys.exit(7)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "c.pt")], env=ENVIRONMENT, capture_output=True, check=False
    )
    assert done.returncode == 7, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["c.pt"] and (tmp_path / "c.pt").stat().st_size < 5000


def test_precision_is_timed_once_and_kept(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train("masked", images, tmp_path / "run", stop=Stop(until=2), bfloat16="auto")
    chosen = json.loads((tmp_path / "run" / "choices.json").read_text())
    assert chosen["float32_seconds"] > 0 and chosen["bfloat16_seconds"] > 0
    assert chosen["bfloat16"] == (chosen["float32_seconds"] > 1.1 * chosen["bfloat16_seconds"])
    monkeypatch.setattr(speed, "statistics", None)  # nothing is timed again
    train("masked", images, tmp_path / "run", stop=Stop(until=3, resume=True), bfloat16="auto")
    assert json.loads((tmp_path / "run" / "choices.json").read_text()) == chosen


def test_bfloat16_learns(images: Path, tmp_path: Path) -> None:
    for name in ("masked", "masked-sparse", "distil", "vicreg"):
        train(name, images, tmp_path / name, steps=3, bfloat16=True)
        assert all(math.isfinite(row["loss"]) for row in rows(tmp_path / name / "steps.csv"))


def test_compiling_falls_back_with_a_reason(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_module: object) -> object:
        raise RuntimeError("no compiler\nat all")

    train("distil", images, tmp_path / "plain", steps=2)
    monkeypatch.setattr(torch, "compile", broken)
    said = train("distil", images, tmp_path / "run", steps=2, compile=True)
    assert said[-1].notes == ("torch.compile does not work here (RuntimeError: no compiler); it runs without",)
    monkeypatch.setattr(torch, "compile", lambda module: module)
    assert not train("distil", images, tmp_path / "works", steps=2, compile=True)[-1].notes
    for run in ("run", "works"):  # the trial left no trace
        assert (tmp_path / run / "steps.csv").read_text() == (tmp_path / "plain" / "steps.csv").read_text()


def test_event_files_where_the_package_is(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocenter.learn.pretraining.events.find_spec", lambda _name: None)
    (note,) = train("masked", images, tmp_path / "a", steps=2, tensorboard=True)[-1].notes
    assert "tensorboard is not installed" in note
    written: list[tuple[str, float, int]] = []

    class SummaryWriter:
        def __init__(self, folder: str, purge_step: int) -> None:
            assert folder.endswith("events") and purge_step == 1

        def add_scalar(self, name: str, value: float, step: int) -> None:
            written.append((name, value, step))

        def close(self) -> None:
            pass

    monkeypatch.setattr("isocenter.learn.pretraining.events.find_spec", lambda _name: object())
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = SummaryWriter  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    assert not train("masked", images, tmp_path / "b", steps=2, tensorboard=True)[-1].notes
    table = rows(tmp_path / "b" / "steps.csv")
    assert ("step/loss", table[1]["loss"], 2) in written
    assert {name for name, _, _ in written} >= {"validation/rank", "validation/held_out_loss", "step/rate"}


def test_matrices_decay_and_nothing_else() -> None:
    config = METHODS["masked"].configure(settings_of("masked"))
    learner = begun(METHODS["masked"].recipe, config)
    yes, no = decayed(learner, 0.3)
    assert (yes["weight_decay"], no["weight_decay"]) == (0.3, 0.0)
    assert all(p.ndim == 2 for p in yes["params"]) and any(p is learner.backbone.registers for p in no["params"])
    assert sum(p.numel() for g in (yes, no) for p in g["params"]) == sum(p.numel() for p in learner.parameters())


def test_the_first_weights_come_from_the_seed_alone() -> None:
    config = METHODS["masked"].configure(settings_of("masked"))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    a = begun(METHODS["masked"].recipe, config).state_dict()
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    b = begun(METHODS["masked"].recipe, config).state_dict()
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_rate_goes_up_and_down() -> None:
    config = METHODS["masked"].configure(settings_of("masked", steps=20, warmup_steps=4, learning_rate=1.0))
    rates = [config.rate(step) for step in range(20)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0] and rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(0.01 + 0.99 * (0.5 + 0.5 * np.cos(np.pi * 15 / 16)))


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("masked", {"sede": 1}, "setting sede: Extra inputs are not permitted"),
        ("masked", {"backbone": "vit-enormous"}, "no backbone 'vit-enormous'"),
        ("masked", {"backbone": "vit-tiny/5"}, "not made of patches of 5"),
        ("masked", {"pixels": [32, 32, 32]}, "the backbone sees 2 axes and 1 channels"),
        ("masked", {"channels": 3}, "`pixels` and `channels` say 2 and 3"),
        ("masked", {"pixels": [30, 32]}, r"pixels: every side must be a multiple of \(4, 4\)"),
        ("masked", {"batch": 8, "accumulate": 3}, "a batch of 8 has no 3 equal parts"),
        ("masked", {"ratio": 1.0}, "setting ratio: "),
        ("masked", {"block": [8, 8]}, "a transformer hides its own patches"),
        ("masked", {"decoder": {"width": 30, "heads": 4}}, "4 heads don't divide a width of 30"),
        ("masked", {"decoder": {"kind": "full", "predict": 0.5}}, "every hidden patch is filled in"),
        ("masked", {"crop": {"share": [0.9, 0.2]}}, "setting crop.share: needs two positive numbers"),
        ("masked-sparse", {"block": [6, 8]}, r"must be multiples of \(4, 4\)"),
        ("distil", {"small_pixels": [10, 16]}, r"small_pixels: 2 sides, each a multiple of \(4, 4\)"),
        ("distil", {"teacher_temperature": [0.0, 0.1]}, "teacher_temperature: must be positive"),
        ("vicreg", {"batch": 1}, "needs two images or more"),
        ("vicreg", {"variance": -1}, "setting variance: "),
        ("vicreg", {"name": "A/b"}, "setting name: "),
    ],
)
def test_a_bad_configuration_is_one_line(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        METHODS[name.partition("-")[0]].configure(settings_of(name, **changes))
    assert "\n" not in str(caught.value)


def test_processes_share_a_batch_equally(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocenter.learn.pretraining.trainer.world", lambda: World(0, 3))
    with pytest.raises(ConfigError, match="3 processes can't share a batch of 8 in 2 parts equally"):
        train("masked", images, tmp_path, accumulate=2)


def test_images_are_asked_for(tmp_path: Path) -> None:
    method = METHODS["masked"]
    with pytest.raises(ConfigError, match=r"'masked' learns from images: give their folder \(--data FOLDER\)"):
        method.data_identity(method.configure(settings_of("masked")))
    with pytest.raises(ConfigError, match="takes its own configuration"):
        method.train(METHODS["vicreg"].configure(settings_of("vicreg")), tmp_path, Stop(), lambda _r: None)
    assert "data" not in method.configure(settings_of("masked", data="somewhere")).model_dump()
    assert COMMON["steps"] == 24
