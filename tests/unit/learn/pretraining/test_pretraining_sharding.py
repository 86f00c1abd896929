"""Weights shared out among processes: the curve of one, checkpoints in parts, and any other number that goes on."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import isocenter
from isocenter.core.errors import ConfigError, OutputError, WeightsError
from isocenter.learn import sharded_checkpoint
from isocenter.learn.pretraining import states
from isocenter.learn.pretraining.parallel import World
from isocenter.learn.pretraining.sharding import layout_of
from isocenter.learn.pretraining.trainer import begun
from isocenter.learn.sharded_checkpoint import load_shards, read_state, save_shards
from isocenter.models.weights import load_weights
from pretraining_cases import METHODS, run_job, settings_of, toy

ROOT = Path(__file__).parents[4]
DRIVER = ROOT / "tests" / "pretraining_cases.py"
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
    "PYTHONPATH": str(Path(isocenter.__file__).parents[1]),
}  # fmt: skip
CASES = ("masked", "masked-full", "masked-sparse", "vicreg", "distil")
SHORT: dict[str, Any] = {"steps": 4, "warmup_steps": 2, "accumulate": 2}


def rows(path: Path) -> list[dict[str, float]]:
    with path.open(newline="") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Trainings by one process, then by two, some of which go on with what others began."""
    home = tmp_path_factory.mktemp("sharding")
    images = str(toy(home / "toy"))

    def job(name: str, out: str, **more: Any) -> dict[str, Any]:
        return {"name": name, "out": str(home / out), "data": images, **SHORT, **more}

    for name in CASES:
        run_job(**job(name, f"one/{name}"))
    run_job(**job("masked", "one-then-two", parallel="fsdp", until=2))
    two = [job(name, f"two/{name}", parallel="fsdp") for name in CASES]
    two += [
        job("masked-sparse", "again", parallel="fsdp", recompute=True),
        job("masked", "half", parallel="fsdp", bfloat16=True),
        job("masked", "one-then-two", parallel="fsdp", resume=True),
        job("masked", "fsdp-then-one", parallel="fsdp", until=2),
        job("distil", "fsdp-then-one-distil", parallel="fsdp", until=2),
        job("masked", "fsdp-then-ddp", parallel="fsdp", until=2),
        job("masked", "fsdp-then-ddp", parallel="ddp", resume=True),
        job("masked", "ddp-then-fsdp", parallel="ddp", until=2),
        job("masked", "ddp-then-fsdp", parallel="fsdp", resume=True),
        job("masked", "full", parallel="fsdp", until=2),
        job("masked", "full", parallel="fsdp", resume=True, full_disk=True),
    ]
    (home / "jobs.json").write_text(json.dumps(two))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(DRIVER)]
    done = subprocess.run(
        [*command, "--jobs", str(home / "jobs.json")], env=ENVIRONMENT, capture_output=True, text=True, check=False,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    run_job(**job("masked", "fsdp-then-one", resume=True))
    run_job(**job("distil", "fsdp-then-one-distil", resume=True))
    return home


def alike(run: Path, whole: Path) -> None:
    """The loss of every step within 1e-5, absolute and of itself, and so the held-out one."""
    for table, column in (("steps.csv", "loss"), ("validation.csv", "held_out_loss")):
        ours, theirs = rows(run / table), rows(whole / table)
        assert len(ours) == len(theirs) >= 2
        for a, b in zip(ours, theirs, strict=True):
            assert a[column] == pytest.approx(b[column], abs=1e-5, rel=1e-5)


def close(ours: np.ndarray, theirs: np.ndarray) -> None:
    """Equal but for rounding. A shift of keys changes no attention: its gradient is rounding, which Adam enlarges."""
    np.testing.assert_allclose(ours, theirs, atol=1e-5 if ours.ndim > 1 else 1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_two_processes_that_share_the_weights_draw_the_curve_of_one(name: str, runs: Path) -> None:
    """The batch is in two parts; gradients are clipped by their common length, and the averaged twin is shared too."""
    alike(runs / "two" / name, runs / "one" / name)
    gradients = [[row["gradient"] for row in rows(runs / r / name / "steps.csv")] for r in ("one", "two")]
    assert gradients[1] == pytest.approx(gradients[0], rel=1e-4) and max(gradients[0]) > 1.0  # it was clipped
    chosen = json.loads((runs / "two" / name / "choices.json").read_text())
    assert (chosen["parallel"], chosen["processes"]) == ("fsdp", 2)


@pytest.mark.slow
def test_the_averaged_twin_stays_that_of_one(runs: Path) -> None:
    recipe = METHODS["masked"].recipe
    learner = begun(recipe, recipe.args.model_validate(settings_of("masked")))
    start = {k: v.clone() for k, v in states.named(learner)}
    load_shards(runs / "two" / "masked", {f"average.{k}": v.detach() for k, v in states.named(learner)})
    whole = states.plain_of(runs / "one" / "masked")["tensors"]["average"]
    assert any(not torch.equal(v, start[k]) for k, v in states.named(learner))
    for name, value in states.named(learner):
        close(value.detach().numpy(), whole[name].numpy())


@pytest.mark.slow
def test_recomputing_changes_nothing_and_bfloat16_little(runs: Path) -> None:
    alike(runs / "again", runs / "one" / "masked-sparse")
    for a, b in zip(rows(runs / "half" / "steps.csv"), rows(runs / "one" / "masked" / "steps.csv"), strict=True):
        assert a["loss"] == pytest.approx(b["loss"], rel=0.01) and a["loss"] != b["loss"]


@pytest.mark.parametrize(
    "way", ["one-then-two", "fsdp-then-one", "fsdp-then-one-distil", "fsdp-then-ddp", "ddp-then-fsdp"]
)
@pytest.mark.slow
def test_another_number_of_processes_goes_on(way: str, runs: Path) -> None:
    alike(runs / way, runs / "one" / ("distil" if way.endswith("distil") else "masked"))
    in_parts = way in ("one-then-two", "ddp-then-fsdp")
    assert (runs / way / "checkpoint").is_dir() == in_parts  # the older form is gone
    assert (runs / way / "checkpoint.pt").is_file() != in_parts


@pytest.mark.slow
def test_every_process_writes_its_own_part_and_nothing_is_pickled(runs: Path) -> None:
    folder = runs / "two" / "masked" / "checkpoint" / "step-00000004"
    files = sorted(folder.iterdir())
    assert [f.suffix for f in files] == [".safetensors", ".safetensors", ".json"]
    sizes = [f.stat().st_size for f in files[:2]]
    assert max(sizes) < 1.2 * min(sizes)
    assert [p.name for p in folder.parent.iterdir() if p.is_dir()] == [folder.name]


@pytest.mark.slow
def test_a_full_disk_of_one_process_stops_all_and_keeps_the_checkpoint_before(runs: Path) -> None:
    first, second = ((runs / f"full.{rank}.txt").read_text() for rank in range(2))
    for said in (first, second):
        assert "the disk is full" in said or "a process could not write its part" in said
    assert read_state(runs / "full")["step"] == 2
    assert [p.name for p in (runs / "full" / "checkpoint").iterdir() if p.is_dir()] == ["step-00000002"]


@pytest.mark.slow
def test_the_weights_are_gathered(runs: Path) -> None:
    method = METHODS["masked"]
    config = method.configure(settings_of("masked", data=str(runs / "toy"), **SHORT))
    ours, theirs = (
        load_weights(method.export(config, runs / r / "masked", command="isocenter pretrain", machine="a machine"))
        for r in ("one", "two")
    )
    assert ours.arrays.keys() == theirs.arrays.keys() and ours.card.network == theirs.card.network
    for key, value in ours.arrays.items():
        close(theirs.arrays[key], value)
    assert theirs.card.training["steps"] == 4 and "parallel" not in theirs.card.training["config"]


@pytest.mark.slow
def test_killed_while_it_writes_parts_it_goes_on_as_if_nothing_had_been(tmp_path: Path) -> None:
    images = toy(tmp_path / "toy")
    run_job("masked", str(tmp_path / "whole"), data=str(images))
    command = [sys.executable, str(DRIVER), "masked", str(images), str(tmp_path / "run"), 'parallel="fsdp"']
    steps = tmp_path / "run" / "masked" / "steps.csv"
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
    assert 1 <= read_state(tmp_path / "run" / "masked")["step"] < 24
    run_job("masked", str(tmp_path / "run" / "masked"), data=str(images), parallel="fsdp", resume=True)
    for table in ("steps.csv", "validation.csv"):
        assert (tmp_path / "run" / "masked" / table).read_text() == (tmp_path / "whole" / table).read_text()


def test_a_checkpoint_in_parts_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    save_shards(tmp_path, 1, {"a": torch.arange(6.0)}, {"step": 1})
    leftover = tmp_path / "checkpoint" / "step-00000009"  # of a kill
    leftover.mkdir()
    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OutputError, match=r"checkpoint: cannot write: the disk is full; free some space"):
        save_shards(tmp_path, 2, {"a": torch.zeros(6)}, {"step": 2})
    monkeypatch.undo()
    assert read_state(tmp_path) == {"step": 1} and not leftover.exists()
    found = torch.zeros(6)
    load_shards(tmp_path, {"a": found})
    assert found.tolist() == [0, 1, 2, 3, 4, 5]
    save_shards(tmp_path, 1, {"a": torch.zeros(6)}, {"step": 1})  # of the same step: it is there already
    save_shards(tmp_path, 2, {"a": torch.ones(6)}, {"step": 2})
    assert sorted(p.name for p in (tmp_path / "checkpoint").iterdir()) == ["latest.json", "step-00000002"]


def test_a_damaged_checkpoint_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WeightsError, match="no checkpoint in"):
        read_state(tmp_path)
    save_shards(tmp_path, 1, {"a": torch.arange(6.0)}, {"step": 1})
    for wrong in ({"b": torch.zeros(6)}, {"a": torch.zeros(7)}):
        with pytest.raises(WeightsError, match=r"of another training, or a part of it is missing \([ab]\)"):
            load_shards(tmp_path, wrong)
    (part,) = (tmp_path / "checkpoint" / "step-00000001").glob("*.safetensors")
    kept = part.read_bytes()
    part.write_bytes(b"\xff" * len(kept))
    with pytest.raises(WeightsError, match="is damaged"):
        load_shards(tmp_path, {"a": torch.zeros(6)})
    part.write_bytes(kept[:-4])
    with pytest.raises(WeightsError, match=r"is damaged \(shard-00001"):
        read_state(tmp_path)
    part.unlink()
    with pytest.raises(WeightsError, match="is damaged"):
        read_state(tmp_path)
    shutil.rmtree(part.parent)
    with pytest.raises(WeightsError, match="names no checkpoint"):
        read_state(tmp_path)
    (tmp_path / "checkpoint" / "latest.json").write_text('{"folder": "../elsewhere"}')
    with pytest.raises(WeightsError, match="names no checkpoint"):
        read_state(tmp_path)
    monkeypatch.delattr(sharded_checkpoint.dcp, "HuggingFaceStorageWriter")
    with pytest.raises(isocenter.core.errors.CapabilityError, match="a newer torch"):
        save_shards(tmp_path, 3, {}, {})


def test_of_two_forms_the_later_counts(tmp_path: Path) -> None:
    """Both are there only if a kill came between writing one and removing the other."""
    images = str(toy(tmp_path / "toy"))
    job: dict[str, Any] = {"name": "masked", "out": str(tmp_path / "run"), "data": images, **SHORT}
    run_job(**job, until=1)
    kept = (tmp_path / "run" / "checkpoint.pt").read_bytes()
    run_job(**job, until=2, resume=True, parallel="fsdp")
    (tmp_path / "run" / "checkpoint.pt").write_bytes(kept)
    assert states.plain_of(tmp_path / "run")["step"] == 2
    run_job(**job, until=3, resume=True)
    assert states.plain_of(tmp_path / "run")["step"] == 3 and states.has_checkpoint(tmp_path / "run")


def test_how_processes_hold_the_weights() -> None:
    configure = METHODS["masked"].configure
    for given, size, expected in (
        ("auto", 1, "one"), ("auto", 2, "ddp"), ("ddp", 2, "ddp"), ("fsdp", 2, "fsdp"), ("fsdp", 1, "one"),
    ):  # fmt: skip
        assert layout_of(configure(settings_of("masked", parallel=given)), World(0, size)) == expected
    with pytest.raises(ConfigError, match="do not go together"):
        layout_of(configure(settings_of("masked", parallel="fsdp", compile=True)), World(0, 2))
    with pytest.raises(ConfigError, match="setting parallel"):
        configure(settings_of("masked", parallel="pipeline"))
