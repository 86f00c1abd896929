"""A toy set of three kinds of stripes, tiny settings of every method, and a training as a process of its own.

    python tests/pretraining_cases.py NAME,NAME FOLDER OUT [--resume] [key=JSON ...]
    python tests/pretraining_cases.py --jobs FILE

The file holds a JSON list of trainings, done one after the other by the same processes. Run so by tests that kill it,
and under torchrun by those that compare one process with two.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Picture

from isocenter.core.errors import OutputError
from isocenter.learn.method import Stop
from isocenter.learn.methods.distil import METHOD as DISTIL
from isocenter.learn.methods.masked import METHOD as MASKED
from isocenter.learn.methods.vicreg import METHOD as VICREG
from isocenter.learn.pretraining.method import ImageMethod
from isocenter.learn.pretraining.parallel import joined, world

METHODS: dict[str, ImageMethod] = {"masked": MASKED, "distil": DISTIL, "vicreg": VICREG}
VIT = {
    "kind": "vit", "dims": 2, "channels_in": 1, "patch": [4, 4], "grid": [8, 8], "width": 32, "depth": 2, "heads": 2,
}  # fmt: skip
RESIDUAL = {
    "kind": "residual-unet", "dims": 2, "channels_in": 1, "widths": [6, 12, 24], "blocks": [1, 1, 1],
    "strides": [[1, 1], [2, 2], [2, 2]],
}  # fmt: skip
COMMON: dict[str, Any] = {
    "seed": 3, "backbone": VIT, "pixels": [32, 32], "steps": 24, "batch": 8, "learning_rate": 0.002, "warmup_steps": 4,
    "average": 0.9, "bfloat16": False, "crop": {"share": [0.5, 1.0]}, "collapse": {"probe": 24},
    "checkpoint_every": 7, "validate_every": 8,
}  # fmt: skip
CASES: dict[str, dict[str, Any]] = {
    "masked": {"decoder": {"width": 16, "depth": 2, "heads": 2}},
    "masked-full": {"method": "masked", "decoder": {"kind": "full", "width": 16, "depth": 2, "heads": 2}},
    "masked-sparse": {"method": "masked", "backbone": RESIDUAL, "block": [8, 8], "ratio": 0.6},
    "distil": {
        "small": 2, "small_pixels": [16, 16], "teacher_momentum": 0.9, "temperature_steps": 10, "freeze_steps": 2,
        "head": {"hidden": 32, "bottleneck": 16, "prototypes": 32},
    },
    "distil-sinkhorn": {
        "method": "distil", "small": 0, "teacher_momentum": 0.9, "centring": "sinkhorn", "koleo": 0.1,
        "head": {"hidden": 32, "bottleneck": 16, "prototypes": 32},
    },
    "vicreg": {"expander": [32, 32]},
    "vicreg-residual": {"method": "vicreg", "backbone": RESIDUAL, "expander": [32, 32]},
}  # fmt: skip


def settings_of(name: str, /, **changes: Any) -> dict[str, Any]:
    """Return the tiny settings of a case."""
    return {"method": name.partition("-")[0], **COMMON, **CASES[name], **changes}


def toy(folder: Path, count: int = 24, side: int = 40) -> Path:
    """Write pictures of fine, middling and coarse stripes in any direction; which is which stands in the name alone."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:side, :side].astype(float)
    for number in range(count):
        speed = (0.45, 0.75, 1.1)[number % 3] * rng.uniform(0.9, 1.1)
        angle, phase = rng.uniform(0, np.pi), rng.uniform(0, 6)
        stripes = np.sin(speed * (x * np.cos(angle) + y * np.sin(angle)) + phase)
        noisy = stripes * rng.uniform(0.5, 1) + rng.normal(0, 0.3, stripes.shape)
        grey = np.clip(127 + 60 * noisy, 0, 255).astype(np.uint8)
        Picture.fromarray(grey).save(folder / f"kind-{number % 3}_{number:03d}.png")
    return folder


def run_job(name: str, out: str, *, until: int | None = None, resume: bool = False, **changes: Any) -> None:
    """Train a case as a job says; with `full_disk`, the last process has no room for its part of a checkpoint."""
    full = changes.pop("full_disk", False)
    method = METHODS[name.partition("-")[0]]
    config = method.configure(settings_of(name, **changes))

    def no_room(_number: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    fsync = os.fsync
    if full and world().rank == world().size - 1:
        os.fsync = no_room
    try:
        method.train(config, Path(out), Stop(until, resume), lambda _report: None)
    except OutputError as error:
        if not full:
            raise
        Path(f"{out}.{world().rank}.txt").write_text(str(error))
    finally:
        os.fsync = fsync


def main(arguments: list[str]) -> None:
    """Train a case, or several with a comma between them, each into a folder of its name; or the jobs of a file."""
    if arguments[0] == "--jobs":
        with joined():
            for job in json.loads(Path(arguments[1]).read_text()):
                run_job(**job)
        return
    names, folder, out, *rest = arguments
    changes = dict(pair.split("=", 1) for pair in rest if "=" in pair)
    with joined():
        for name in names.split(","):
            settings = settings_of(name, data=folder, **{key: json.loads(value) for key, value in changes.items()})
            method = METHODS[settings["method"]]
            stop = Stop(None, "--resume" in rest, 1e-4)
            method.train(method.configure(settings), Path(out) / name, stop, lambda _report: None)


if __name__ == "__main__":
    main(sys.argv[1:])
