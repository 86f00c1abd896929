"""The same training under Ray Train: the curve of one process, a run that goes on elsewhere, errors as they are.

Two fits of about 20 seconds; it runs where Ray is installed (`pip install 'isocenter[ray]'`, `make scale`).
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

import isocenter
from pretraining_cases import settings_of, toy

pytest.importorskip("ray", reason="Ray is not installed; make scale says how")
pytestmark = pytest.mark.long("make scale")
ENVIRONMENT = {
    **os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo",
    "PYTHONPATH": str(Path(isocenter.__file__).parents[1]),
}  # fmt: skip


def train(folder: Path, out: str, *more: str) -> subprocess.CompletedProcess[str]:
    """Run the command as a user does."""
    command = [sys.executable, "-m", "isocenter.cli", "pretrain", "toy.yaml", "--data", "toy", "--out", out, "--json"]
    return subprocess.run(
        [*command, *more], cwd=folder, env=ENVIRONMENT, capture_output=True, text=True, check=False, timeout=900
    )


def losses(file: Path) -> list[float]:
    with file.open(newline="") as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


def test_two_processes_of_ray_draw_the_curve_of_one(tmp_path: Path) -> None:
    toy(tmp_path / "toy")
    (tmp_path / "toy.yaml").write_text(yaml.safe_dump(settings_of("masked", steps=6)))
    one = train(tmp_path, "one")
    assert one.returncode == 0, one.stderr[-2000:]
    two = train(tmp_path, "two", "--ray", "2", "--parallel", "fsdp", "--until", "4")
    assert two.returncode == 0, two.stderr[-2000:]
    told = json.loads(two.stdout)
    assert (told["step"], told["finished"], told["weights"]) == (4, False, "two/weights/masked-2d.safetensors")
    assert json.loads((tmp_path / "two" / "choices.json").read_text())["processes"] == 2
    again = train(tmp_path, "two", "--resume")  # Ray began it, one plain process ends it
    assert again.returncode == 0, again.stderr[-2000:]
    assert losses(tmp_path / "two" / "steps.csv") == pytest.approx(losses(tmp_path / "one" / "steps.csv"), abs=1e-5)
    refused = train(tmp_path, "two", "--ray", "2")
    assert refused.returncode != 0 and "is not empty; give --resume" in refused.stderr
    assert not list(tmp_path.glob(".two*"))
