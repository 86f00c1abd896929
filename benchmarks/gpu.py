"""What a GPU makes of Isocenter's trainings: rates, utilisation, memory, the same curve, and a set learnt there.

    python -m benchmarks.gpu measure FOLDER     (on the machine with the GPU: writes FOLDER/gpu.json and a profile)
    python -m benchmarks.gpu hippocampus FOLDER --data ../shared/data    (there too: five folds side by side)
    python -m benchmarks.gpu page FOLDER        (anywhere: writes docs/results/gpu.md from gpu.json, which it copies)

`measure` takes about three minutes and needs no data: images are drawn. Times are of whole steps (forward, back,
clipping, AdamW, averaging), the median of several, with the device waited for.
"""

from __future__ import annotations

import argparse
import copy
import csv
import datetime
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.adapt_sets import alone
from isocenter.data.labelled import open_labelled
from isocenter.evaluate.bootstrap import bootstrap_mean
from isocenter.learn.adaptation.run import adapt_to_set
from isocenter.learn.adaptation.settings import DataSettings
from isocenter.learn.adaptation.split import split
from isocenter.learn.methods.masked import METHOD
from isocenter.learn.planning.counting import count
from isocenter.learn.planning.layout import memory_of
from isocenter.learn.planning.rates import masked_args, measure, save_profile
from isocenter.learn.pretraining.crops import generator
from isocenter.learn.pretraining.speed import compiled
from isocenter.learn.pretraining.trainer import begun, decayed
from isocenter.verbs.pretrain import pretrain

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
RATES = (
    ("vit-large/16", (224, 224), 256, False),
    ("vit-large/16", (224, 224), 256, True),
    ("vit-large/16", (224, 224), 1024, True),
    ("vit-large/8", (96, 96, 96), 64, True),
)
"""Backbone, pixels, batch, whether it is compiled."""
PEAKS = (
    ("vit-large/16", (224, 224), 64, False),
    ("vit-large/16", (224, 224), 64, True),
    ("vit-base/8", (96, 96, 96), 8, False),
    ("residual-base", (224, 224), 32, False),
    ("residual-small", (96, 96, 96), 4, False),
)
"""Backbone, pixels, batch, whether activations are computed again."""
CURVES = {"masked": "masked, transformer", "masked-sparse": "masked, residual encoder", "distil": "distil",
          "vicreg": "vicreg"}  # fmt: skip


def _batch(args: Any, device: torch.device) -> dict[str, torch.Tensor]:
    rng = generator(args.seed, 0)
    shown = [
        METHOD.recipe.views(args, rng.normal(size=(args.channels, *args.pixels)).astype(np.float32), generator(0, 1, n))
        for n in range(8)
    ]
    views = {k: torch.stack([v[k] for v in shown]) for k in shown[0]}
    return {k: v.repeat(-(-args.batch // 8), *(1,) * (v.ndim - 1))[: args.batch].to(device) for k, v in views.items()}


def steps_of(args: Any, device: torch.device, *, bfloat16: bool, compile_it: bool, repeats: int) -> list[float]:
    """Return the seconds of whole steps, the first few left out."""
    learner = begun(METHOD.recipe, args).train().to(device)
    average = copy.deepcopy(learner)
    optimiser = torch.optim.AdamW(decayed(learner, args.weight_decay), lr=1e-6, fused=True)
    batch, call = _batch(args, device), learner
    if compile_it:
        found, told = compiled(learner, batch, half=bfloat16)
        if told:
            raise RuntimeError(told)
        call = found  # type: ignore[assignment]
    seconds = []
    for _ in range(repeats + 3):
        if device.type == "cuda":
            torch.cuda.synchronize()
        start = time.perf_counter()
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss, _ = call(dict(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), args.clip_norm)
        optimiser.step()
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(learner.parameters()), 0.01)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    return seconds[3:]


def rates(device: torch.device, rows: list[dict[str, Any]], keep: Callable[[], None]) -> list[dict[str, Any]]:
    for model, pixels, batch, compile_it in RATES[len(rows) :]:
        args = masked_args(model, pixels, batch)
        row: dict[str, Any] = {"model": model, "pixels": pixels, "batch": batch, "compiled": compile_it}
        try:
            seconds = statistics.median(steps_of(args, device, bfloat16=True, compile_it=compile_it, repeats=8))
            flops = count(METHOD.recipe, args, bfloat16=True).at(batch).flops
            row |= {"seconds": seconds, "samples_s": batch / seconds, "tflops": flops / seconds / 1e12}
        except RuntimeError as error:
            row["failed"] = str(error).splitlines()[0][:200]
        rows.append(row)
        print(row, flush=True)
        keep()
        torch.cuda.empty_cache()
        torch.compiler.reset()  # or the next size is compiled for any size
    return rows


def peaks(device: torch.device, rows: list[dict[str, Any]], keep: Callable[[], None]) -> list[dict[str, Any]]:
    for model, pixels, batch, recompute in PEAKS:
        args = masked_args(model, pixels, batch).model_copy(update={"recompute": recompute})
        for half in (False, True):
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            steps_of(args, device, bfloat16=half, compile_it=False, repeats=0)
            found = torch.cuda.max_memory_allocated() - before
            told = memory_of(count(METHOD.recipe, args, bfloat16=half), "one", 1, batch, 1).total
            rows.append(
                {
                    "model": model,
                    "pixels": pixels,
                    "batch": batch,
                    "recompute": recompute,
                    "bfloat16": half,
                    "told": told,
                    "found": found,
                    "reserved": torch.cuda.max_memory_reserved(),
                }
            )
            print(rows[-1], flush=True)
            keep()
    return rows


def _losses(run: Path) -> list[str]:
    with (run / "steps.csv").open(newline="") as stream:
        return [row["loss"] for row in csv.DictReader(stream)]


def curves() -> list[dict[str, Any]]:
    """Train on the processor and on the GPU, stop and go on, and by NCCL as DDP and FSDP with one process."""
    sys.path.insert(0, str(ROOT / "tests"))
    from pretraining_cases import toy

    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        images = str(toy(home / "toy"))
        short: dict[str, Any] = {"steps": 8, "warmup_steps": 2}

        def jobs(way: str, **more: Any) -> list[dict[str, Any]]:
            return [{"name": n, "out": str(home / way / n), "data": images, **short, **more} for n in CURVES]

        def start(wanted: list[dict[str, Any]], *, torchrun: bool) -> None:
            file = home / "jobs.json"
            file.write_text(json.dumps(wanted))
            run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "1"] if torchrun else []
            command = [sys.executable, *run, "tests/pretraining_cases.py", "--jobs", str(file)]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
            if done.returncode:
                raise RuntimeError(done.stderr[-2000:])

        start(
            [
                *jobs("cpu", device="cpu"),
                *jobs("whole", device="cuda"),
                *jobs("again", device="cuda"),
                *jobs("stopped", device="cuda", until=4),
            ],
            torchrun=False,
        )
        start(jobs("stopped", device="cuda", resume=True), torchrun=False)
        start([*jobs("ddp", parallel="ddp"), *jobs("fsdp", parallel="fsdp")], torchrun=True)
        rows = []
        for name, title in CURVES.items():
            whole = _losses(home / "whole" / name)
            row: dict[str, Any] = {"title": title, "last": float(whole[-1])}
            for way in ("again", "stopped", "ddp", "fsdp", "cpu"):
                other = _losses(home / way / name)
                row[way] = max(abs(float(a) - float(b)) for a, b in zip(whole, other, strict=True))
            rows.append(row)
            print(row, flush=True)
        return rows


def fed(device: torch.device) -> dict[str, Any]:
    """Train a ViT-L as `isocenter pretrain` does, from files, and tell how many samples it learns from a second."""
    from PIL import Image as Picture

    with tempfile.TemporaryDirectory() as folder:
        home, rng = Path(folder), np.random.default_rng(0)
        (home / "images").mkdir()
        for number in range(256):
            rows = rng.normal(size=(32, 32)).repeat(10, 0).repeat(10, 1) * 30 + 128 + rng.normal(0, 8, (320, 320))
            Picture.fromarray(np.clip(rows, 0, 255).astype(np.uint8)).save(home / "images" / f"{number:03d}.png")
        settings = {
            "method": "masked", "seed": 0, "backbone": "vit-large/16", "pixels": [224, 224], "batch": 256, "steps": 60,
            "learning_rate": 1e-4, "warmup_steps": 10, "checkpoint_every": 60, "validate_every": 60, "compile": True,
            "bfloat16": True, "images": {"workers": max(1, (os.cpu_count() or 2) - 2)}, "crop": {"share": [0.3, 1.0]},
            "device": device.type,
        }  # fmt: skip
        (home / "run.yaml").write_text(json.dumps(settings))
        times: list[float] = []
        pretrain(
            home / "run.yaml", home / "out", data=home / "images", progress=lambda *_: times.append(time.perf_counter())
        )
        gaps = np.diff(times)[20:-1]
        return {"samples_s": 256 / float(np.median(gaps)), "workers": settings["images"], "steps": len(times)}


PARTS = ("matrix", "rates", "peaks", "fed", "curves")


def _measure(folder: Path, parts: Sequence[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    device = torch.device("cuda")
    done: dict[str, Any] = {
        "date": str(datetime.datetime.now(tz=datetime.UTC).date()), "device": torch.cuda.get_device_name(device),
        "torch": torch.__version__, "cores": os.cpu_count(), "memory": torch.cuda.get_device_properties(0).total_memory,
    }  # fmt: skip

    file = folder / "gpu.json"
    done |= json.loads(file.read_text("utf-8")) if file.is_file() else {}

    def write() -> None:
        file.write_text(json.dumps(done, indent=1), "utf-8")

    def keep(name: str, made: Any) -> None:
        try:
            done[name] = made()
        except Exception as error:  # noqa: BLE001 - a part that fails must not cost the others theirs; it is told
            done[name] = {"failed": f"{type(error).__name__}: {error}"[-1500:]}
            print(name, done[name], flush=True)
        write()

    def profile() -> dict[str, float]:
        found = measure(device, 1, lambda what, share: print(f"{share:.0%} {what}", flush=True))
        save_profile(found, folder / "profile.json")
        return dict(found.matrix_tflops)

    for name, made in (
        ("matrix", profile), ("rates", lambda: rates(device, done.setdefault("rates", []), write)),
        ("peaks", lambda: peaks(device, done.setdefault("peaks", []), write)),
        ("fed", lambda: fed(device)), ("curves", curves),
    ):  # fmt: skip
        if name not in parts:
            continue
        started = time.perf_counter()
        keep(name, made)
        print(f"{name}: {time.perf_counter() - started:.0f} s", flush=True)


HIPPOCAMPUS: dict[str, dict[str, Any]] = {
    "6000": {"steps": 6000},
}
"""What is tried beside `adapt_sets hippocampus`, which takes 2,000 steps; all else is as there."""


def _fold(data: Path, name: str, fold: int, folder: Path) -> None:
    """Learn one fold and write what its held-out cases are answered."""
    labelled = open_labelled(data / "mr_hippocampus_msd")
    part = split(labelled.cases, folds=5, seed=0)[fold]
    settings = DataSettings(seed=0, folds=1, batch=2, learning_rate=3e-3, device="cuda", **HIPPOCAMPUS[name])
    found = adapt_to_set(alone(labelled, part), settings, folder / f"{name}-{fold}")
    member = found.members[0]
    kept = {
        "dice": {row.name: list(row.dice) for row in found.masks}, "seconds": member.learnt.seconds,
        "step": member.learnt.step, "bfloat16": found.settings.precision == "bfloat16",
    }  # fmt: skip
    (folder / f"{name}-{fold}.json").write_text(json.dumps(kept), "utf-8")


def _hippocampus(data: Path, folder: Path) -> None:
    """Learn all folds of all variants, each in a process of its own, and gather them."""
    work = folder / "work"
    work.mkdir(parents=True, exist_ok=True)
    jobs = {}
    for name in HIPPOCAMPUS:
        for fold in range(5):
            command = [sys.executable, "-m", "benchmarks.gpu", "fold", str(work), "--data", str(data)]
            command += ["--variant", name, "--fold", str(fold)]
            with (work / f"{name}-{fold}.log").open("w") as log:
                jobs[name, fold] = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
    for job in jobs.values():
        job.wait()
    found: dict[str, Any] = {}
    for name, fold in jobs:
        file = work / f"{name}-{fold}.json"
        log = (work / f"{name}-{fold}.log").read_text("utf-8")[-1500:]
        found.setdefault(name, []).append(json.loads(file.read_text("utf-8")) if file.is_file() else {"failed": log})
    found["device"] = torch.cuda.get_device_name()
    file = folder / "gpu.json"
    done = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    file.write_text(json.dumps({**done, "hippocampus": found}, indent=1), "utf-8")
    for name in HIPPOCAMPUS:
        means = [float(np.mean([np.mean(d) for d in f["dice"].values()])) for f in found[name] if "dice" in f]
        print(name, means, [f.get("seconds") for f in found[name]], [f["failed"] for f in found[name] if "failed" in f])


def page(done: dict[str, Any]) -> str:
    """Return the page."""
    matrix = done["matrix"]
    lines = [
        "# On a GPU", "",
        f"`python -m benchmarks.gpu`, {done['date']}, {done['device']} ({done['memory'] / 1e9:.0f} GB), torch "
        f"{done['torch']}, {done['cores']} processor cores, lent for a quarter of an hour: parts that a time limit cut "
        "off are not here. Rate of a large matrix product: "
        f"{matrix['bfloat16']:.0f} TFLOP/s in bfloat16, {matrix['float32']:.0f} in float32. The machine was lent "
        "twice, a card of one kind each time: matrix products, profile and the first two rows are of the first time, "
        "the rest of the second. The rows of memory were copied from what the command printed, as a limit "
        "cut it off.", "",
        "## Masked autoencoding: throughput and utilisation", "",
        "A whole step as `isocenter pretrain` takes it (forward, back, clipping, AdamW, averaging), bfloat16, median "
        "of eight; images are drawn and lie on the card, so reading is not in it. Utilisation: operations of the model "
        "(counted, `isocenter.learn.planning.counting`) a second over the measured matrix rate. Target: 50 %.", "",
        "| backbone | pixels | batch | torch.compile | step, ms | samples/s | TFLOP/s | utilisation |",
        "| - | - | - | - | - | - | - | - |",
    ]  # fmt: skip
    for r in done["rates"]:
        if "failed" in r:
            lines.append(f"| {r['model']} | | {r['batch']} | | failed: {r['failed']} | | | |")
            continue
        lines.append(
            f"| {r['model']} | {'x'.join(map(str, r['pixels']))} | {r['batch']} | {'yes' if r['compiled'] else 'no'} | "
            f"{r['seconds'] * 1e3:.1f} | {r['samples_s']:.0f} | {r['tflops']:.0f} | "
            f"{r['tflops'] / matrix['bfloat16']:.1%} |"
        )
    lines += [
        "", "## Does `isocenter plan` tell the memory?", "",
        "What it counts, against what torch had allocated at most in three real steps, and had reserved, in MB. A plan "
        "leaves a tenth of the device free.", "",
        "| backbone | pixels | batch | precision | recompute | told | allocated | told / allocated | reserved |",
        "| - | - | - | - | - | - | - | - | - |",
    ]  # fmt: skip
    for r in done["peaks"]:
        lines.append(
            f"| {r['model']} | {'x'.join(map(str, r['pixels']))} | {r['batch']} | "
            f"{'bfloat16' if r['bfloat16'] else 'float32'} | {'yes' if r['recompute'] else 'no'} | "
            f"{r['told'] / 1e6:.0f} | {r['found'] / 1e6:.0f} | {r['told'] / r['found']:.2f} | "
            f"{r['reserved'] / 1e6:.0f} |"
        )
    lines += [
        "", "## The same curve", "",
        "Toy images, tiny networks, 8 steps, float32. Largest difference of a step's loss to that of one run on the "
        "GPU: of the same again, of a run stopped at step 4 and gone on with by another process, of one process under "
        "NCCL as DDP and as FSDP, and of the processor. Convolutions of a GPU add in no fixed order, so a residual "
        "encoder's differ in the last digits from run to run.", "",
        "| training | last loss | again | stopped, resumed | DDP | FSDP | processor |",
        "| - | - | - | - | - | - | - |",
    ]  # fmt: skip
    for r in done["curves"]:
        cells = " | ".join(f"{r[k]:.1e}" for k in ("again", "stopped", "ddp", "fsdp", "cpu"))
        lines.append(f"| {r['title']} | {r['last']:.4f} | {cells} |")
    lines += ["", "## Hippocampus with three times the steps", "", *_hippocampus_lines(done["hippocampus"]), ""]
    return "\n".join(lines)


def _hippocampus_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        "`isocenter adapt` on the hippocampus set (195 volumes, five folds by case) as in [adapt.md](adapt.md), which "
        "takes 2,000 steps, with 6,000; five folds and four other trainings shared the card, and each chose its "
        "precision by a trial of its own. How far do more steps get? On one core of a processor 6,000 steps take about "
        "55 minutes.", "",
        "| fold | mean Dice, held out | minutes on the GPU | best step | precision |", "| - | - | - | - | - |",
    ]  # fmt: skip
    every: list[float] = []
    for number, fold in enumerate(found["6000"]):
        values = [float(np.mean(d)) for d in fold["dice"].values()]
        every += values
        lines.append(
            f"| {number} | {np.mean(values):.4f} | {fold['seconds'] / 60:.1f} | {fold['step']} | "
            f"{'bfloat16' if fold['bfloat16'] else 'float32'} |"
        )
    mean = bootstrap_mean(every, [str(i) for i in range(len(every))])
    lines.append(f"| **all** | **{mean.value:.4f} ({mean.low:.4f} to {mean.high:.4f})** | | | |")
    return lines


def main() -> None:
    """Measure, or write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("measure", "hippocampus", "fold", "page"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--variant", choices=sorted(HIPPOCAMPUS), default="6000")
    parser.add_argument("--fold", type=int, default=0)
    args = parser.parse_args()
    if args.what == "measure":
        _measure(args.folder, args.parts)
    elif args.what == "hippocampus":
        _hippocampus(args.data, args.folder)
    elif args.what == "fold":
        _fold(args.data, args.variant, args.fold, args.folder)
    else:
        done = json.loads((args.folder / "gpu.json").read_text("utf-8"))
        (RESULTS / "gpu.json").write_text(json.dumps(done, indent=1) + "\n", "utf-8")
        (RESULTS / "gpu.md").write_text(page(done), "utf-8")


if __name__ == "__main__":
    main()
