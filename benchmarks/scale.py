"""Is what `isocenter plan` says what happens here, and do several processes draw the curve of one?

    python -m benchmarks.scale

Writes docs/results/scale.md. Times and peaks are of sizes that are not in the profile. Ray is tried where it is
installed.
"""

from __future__ import annotations

import copy
import csv
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.__main__ import ROOT, machine
from isocenter.learn.methods.masked import METHOD
from isocenter.learn.planning.counting import count
from isocenter.learn.planning.layout import memory_of
from isocenter.learn.planning.rates import Sum, load_profile, masked_args, measured_step
from isocenter.learn.pretraining.crops import generator
from isocenter.learn.pretraining.trainer import begun, decayed

PROFILE = "cpu-xeon-amx"
TIMES = (
    ("vit-small/16", (224, 224), 4),
    ("vit-small/8", (32, 64, 64), 2),
    ("residual-small", (128, 128), 4),
    ("residual-tiny", (32, 64, 64), 2),
)
PEAKS = (
    ("vit-small/16", (192, 192), 32, False),
    ("vit-small/16", (192, 192), 32, True),
    ("vit-base/16", (224, 224), 4, False),
    ("residual-tiny", (128, 128), 16, False),
    ("residual-small", (32, 48, 48), 2, False),
)
CASES = {"masked": "masked, transformer", "masked-sparse": "masked, residual encoder", "distil": "distil",
         "vicreg": "vicreg"}  # fmt: skip
RAY_BEFORE = (
    "Last measured on 2026-11-26 with Ray 2.60.0: `tests/e2e/test_pretrain_ray.py` passed\n"
    "(484 s with its four commands while other work ran, 85 s when less did): two processes of Ray with FSDP until\n"
    "step 4, then one plain process to the end, the curve of one process within 1e-5."
)
SHORT: dict[str, Any] = {"steps": 8, "warmup_steps": 2, "accumulate": 2}


def times() -> list[str]:
    profile, rows = load_profile(PROFILE), []
    torch.set_num_threads(profile.threads)
    for model, pixels, batch in TIMES:
        for half in (False, True):
            row = measured_step(METHOD.recipe, masked_args(model, pixels, batch), torch.device("cpu"), bfloat16=half)
            told = profile.seconds(Sum(row.flops, row.traffic), backbone=model.partition("-")[0], bfloat16=half)
            off = told.seconds / row.seconds - 1
            rate = profile.matrix_tflops["bfloat16" if half else "float32"]
            rows.append(
                f"| {model} | {'x'.join(map(str, pixels))} | {batch} | {'bfloat16' if half else 'float32'} | "
                f"{told.seconds:.3f} (± {told.spread:.0%}) | {row.seconds:.3f} | {off:+.0%} | "
                f"{row.flops / row.seconds / 1e12 / rate:.0%} |"
            )
            print(rows[-1], flush=True)
    return rows


def peak(model: str, pixels: tuple[int, ...], batch: int, recompute: bool) -> int:
    """Return by how much two real steps raise the highest memory of this process, after a tiny training."""

    def kept(key: str) -> int:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * int(next(line for line in lines if line.startswith(key)).split()[1])

    def train(args: Any) -> None:
        learner = begun(METHOD.recipe, args).train()
        average, optimiser = copy.deepcopy(learner), torch.optim.AdamW(decayed(learner, 0.05), lr=1e-5, fused=True)
        image = np.random.default_rng(0).normal(size=(1, *args.pixels)).astype(np.float32)
        shown = [METHOD.recipe.views(args, image, generator(0, n)) for n in range(args.batch)]
        views = {k: torch.stack([v[k] for v in shown]) for k in shown[0]}
        for _ in range(2):
            optimiser.zero_grad(set_to_none=True)
            learner(views)[0].backward()
            optimiser.step()
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(learner.parameters()), 0.01)

    torch.set_num_threads(1)
    small = "vit-tiny/16" if model.startswith("vit") else "residual-tiny"
    train(masked_args(small, (32,) * len(pixels), 2))
    before = kept("VmRSS")
    train(masked_args(model, pixels, batch).model_copy(update={"recompute": recompute}))
    return kept("VmHWM") - before


def peaks() -> list[str]:
    rows = []
    for case in PEAKS:
        model, pixels, batch, recompute = case
        command = [sys.executable, "-m", "benchmarks.scale", "--peak", json.dumps(case)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        found = int(done.stdout)
        args = masked_args(model, pixels, batch).model_copy(update={"recompute": recompute})
        told = memory_of(count(METHOD.recipe, args, bfloat16=False), "one", 1, batch, 1).total
        rows.append(
            f"| {model}{', recompute' if recompute else ''} | {'x'.join(map(str, pixels))} | {batch} | "
            f"{told / 1e6:.0f} | {found / 1e6:.0f} | {told / found:.2f} |"
        )
        print(rows[-1], flush=True)
    return rows


def losses(run: Path) -> list[float]:
    with (run / "steps.csv").open(newline="") as stream:
        return [float(row["loss"]) for row in csv.DictReader(stream)]


def curves() -> list[str]:
    """Train by one process and by two, and go on with another number."""
    sys.path.insert(0, str(ROOT / "tests"))
    from pretraining_cases import toy

    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        images = str(toy(home / "toy"))

        def job(name: str, out: str, **more: Any) -> dict[str, Any]:
            return {"name": name, "out": str(home / out), "data": images, **SHORT, **more}

        def start(jobs: list[dict[str, Any]], processes: int) -> None:
            (home / "jobs.json").write_text(json.dumps(jobs))
            command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node",
                       str(processes), "tests/pretraining_cases.py", "--jobs", str(home / "jobs.json")]  # fmt: skip
            subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=True)

        ways = ("2, ddp", "2, fsdp", "1, then 2 with fsdp", "2 with fsdp, then 1")
        start(
            [
                *(job(n, f"one/{n}") for n in CASES),
                *(job(n, f"{ways[2]}/{n}", parallel="fsdp", until=4) for n in CASES),
            ],
            1,
        )
        two = [job(n, f"2, {way}/{n}", parallel=way) for n in CASES for way in ("ddp", "fsdp")]
        two += [job(n, f"{ways[2]}/{n}", parallel="fsdp", resume=True) for n in CASES]
        start([*two, *(job(n, f"{ways[3]}/{n}", parallel="fsdp", until=4) for n in CASES)], 2)
        start([job(n, f"{ways[3]}/{n}", resume=True) for n in CASES], 1)
        rows = []
        for name, title in CASES.items():
            one = losses(home / "one" / name)
            off = [max(abs(a - b) for a, b in zip(one, losses(home / w / name), strict=True)) for w in ways]
            rows.append(f"| {title} | {one[-1]:.4f} | " + " | ".join(f"{v:.1e}" for v in off) + " |")
            print(rows[-1], flush=True)
        return rows


def ray() -> str:
    if find_spec("ray") is None:
        return f"Ray was not installed in the environment of this run. {RAY_BEFORE}"
    started = time.perf_counter()
    command = [sys.executable, "-m", "pytest", "-q", "-m", "long", "tests/e2e/test_pretrain_ray.py"]
    environment = {**os.environ, "ISOCENTER_LONG": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    import ray as package

    seconds = time.perf_counter() - started
    which = f"`tests/e2e/test_pretrain_ray.py` with Ray {package.__version__}, {seconds:.0f} s with its four commands"
    if done.returncode:
        return f"{which}: it failed. {done.stdout.strip().splitlines()[-1]}"
    return (
        f"{which}: passed.\nTwo processes of Ray with FSDP until step 4, then one plain process to the end: the "
        "curve of one\nprocess within 1e-5."
    )


def main() -> None:
    """Measure all and write the page."""
    if sys.argv[1:2] == ["--peak"]:
        model, pixels, batch, recompute = json.loads(sys.argv[2])
        print(peak(model, tuple(pixels), batch, recompute))
        return
    profile = load_profile(PROFILE)
    bend, high, same = times(), peaks(), curves()
    slow, fast = profile.matrix_tflops["float32"], profile.matrix_tflops["bfloat16"]
    today = datetime.datetime.now(datetime.UTC).date()
    worst = {kind: max(1 / float(row.split("|")[6]) for row in high if kind in row) for kind in ("vit", "residual")}
    page = f"""# Several processes, and plans

`python -m benchmarks.scale` (`make scale`), {today}, {machine()},
torch {torch.__version__}, one thread. Other work ran on the machine; times are the thread's own
(processor seconds). On a GPU: [gpu.md](gpu.md).

## Does a plan tell the time of a step?

Masked autoencoding, a whole step: forward, back, clipping, AdamW, averaging. None of these sizes is in the profile
(`{PROFILE}`, measured on {profile.device}, {profile.measured}). In brackets what
the plan says of its own error: the worst size of the profile when it is left out. Utilisation: counted operations a
second over the measured matrix rate ({slow:.2f} TFLOP/s in float32, {fast:.2f} in bfloat16).

| backbone | pixels | batch | precision | told, s | measured, s | told is off by | utilisation |
| --- | --- | --- | --- | --- | --- | --- | --- |
{chr(10).join(bend)}

## Does a plan tell the memory?

What is counted, in MB, against what two real steps (float32) add to the highest resident memory of a process of their
own. Operations and kept bytes are equal to the last one in tests; the rest is what the C library and the convolutions
of a CPU keep beyond tensors: residual encoders need up to {worst["residual"]:.2f} times what is counted,
transformers up to {worst["vit"]:.2f} times.

| backbone | pixels | batch | told | measured | told / measured |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(high)}

## Do several processes draw the curve of one?

Toy images, tiny networks, {SHORT["steps"]} steps of 8 samples in two parts, gloo, float32. Largest difference of
the loss of a step to that of one process; the target is 1e-5, of a loss above 1 relative to it.

| training | last loss, one process | 2 processes, DDP | 2, FSDP | 1, then 2 with FSDP | 2 with FSDP, then 1 |
| --- | --- | --- | --- | --- | --- |
{chr(10).join(same)}

## Ray

{ray()}
"""
    (ROOT / "docs" / "results" / "scale.md").write_text(page, encoding="utf-8")
    print("wrote docs/results/scale.md")


if __name__ == "__main__":
    main()
