"""What a machine achieves, measured there and kept in a file, and how long a counted step takes on it.

A step's time is that of its operations and that of the bytes which everything else moves: two rates, fitted to measured
steps of several sizes, in each precision and for each kind of backbone. How far the fit is off a size that it has not
seen is measured too, by leaving each size out once; it is the width of every range that is told.
"""

from __future__ import annotations

import copy
import datetime
import json
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from scipy.optimize import nnls

from isocenter.core.errors import ConfigError
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.learn.methods.masked import METHOD as MASKED
from isocenter.learn.planning.counting import count
from isocenter.learn.pretraining.args import PretrainingArgs
from isocenter.learn.pretraining.crops import generator
from isocenter.learn.pretraining.learner import Recipe
from isocenter.learn.pretraining.trainer import begun, decayed

__all__ = [
    "Estimate",
    "Profile",
    "StepRow",
    "Sum",
    "built_in",
    "load_profile",
    "masked_args",
    "measure",
    "measured_step",
    "save_profile",
]

_FOLDER = Path(__file__).parent / "profiles"
_REPEATS = 4
"""Steps after the first; the fastest counts."""
_MATRIX = {"cpu": 1024, "cuda": 8192}
"""Side of the matrices whose product is timed."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StepRow(_Strict):
    """A step that was measured.

    Attributes:
        model: Name of the backbone.
        pixels: Of the input.
        batch: Samples.
        bfloat16: Whether the forward pass ran in bfloat16.
        flops: Counted, see `counting.Work`.
        traffic: Bytes, counted; those of the update too.
        seconds: Of the fastest of several steps: forward, back, clipping, AdamW, averaging.
    """

    model: str
    pixels: tuple[int, ...]
    batch: int = Field(ge=1)
    bfloat16: bool
    flops: float = Field(gt=0)
    traffic: float = Field(gt=0)
    seconds: float = Field(gt=0)


class Profile(_Strict):
    """What one machine achieves in one process.

    Attributes:
        form: Version of this file's form.
        device: The machine, in words.
        kind: "cpu" or "cuda".
        threads: Of torch.
        torch: Its version.
        measured: Day.
        matrix_tflops: Rate of a large matrix product, by precision.
        steps: What was measured.
    """

    form: Literal[1] = 1
    device: str
    kind: Literal["cpu", "cuda"]
    threads: int = Field(ge=1)
    torch: str
    measured: str
    matrix_tflops: dict[Literal["float32", "bfloat16"], float]
    steps: tuple[StepRow, ...]

    def seconds(self, work: Sum, *, backbone: str, bfloat16: bool) -> Estimate:
        """Return how long a counted step takes.

        Args:
            work: What is done.
            backbone: Its kind: "vit" or "residual".
            bfloat16: Whether the forward pass runs in bfloat16.

        Raises:
            ConfigError: The profile has fewer than three steps of this kind.
        """
        rows = [r for r in self.steps if r.bfloat16 == bfloat16 and r.model.startswith(backbone)]
        if len(rows) < 3:
            precision = "bfloat16" if bfloat16 else "float32"
            raise ConfigError(
                f"the profile of {self.device} has {len(rows)} steps of a {backbone} in {precision}, three are needed; "
                "measure anew with isocenter plan --measure"
            )
        left_out = [abs(_told(r, _fit([o for o in rows if o is not r])) / r.seconds - 1) for r in rows]
        spread = max(left_out)
        return Estimate(_told(work, _fit(rows)), spread)


@dataclass(frozen=True)
class Sum:
    """What a step does in all.

    Args:
        flops: Operations.
        traffic: Bytes moved.
    """

    flops: float
    traffic: float


@dataclass(frozen=True)
class Estimate:
    """How long a step takes.

    Args:
        seconds: Expected.
        spread: Share by which the fit was off the worst size that it had not seen.
    """

    seconds: float
    spread: float


def _fit(rows: Sequence[StepRow]) -> tuple[float, float]:
    """Return seconds per operation and per byte, least squares of the relative error, none negative."""
    table = np.array([[r.flops / r.seconds, r.traffic / r.seconds] for r in rows])
    scale = table.max(axis=0)
    found, _ = nnls(table / scale, np.ones(len(rows)))
    per_flop, per_byte = found / scale
    return float(per_flop), float(per_byte)


def _told(work: Sum | StepRow, rates: tuple[float, float]) -> float:
    return work.flops * rates[0] + work.traffic * rates[1]


def built_in() -> tuple[str, ...]:
    """Return the names of the profiles that come with Isocenter."""
    return tuple(sorted(file.stem for file in _FOLDER.glob("*.json")))


def load_profile(given: str) -> Profile:
    """Read a profile by its path, or by the name of a built-in one.

    Raises:
        ConfigError: There is none, or the file is not a profile.
    """
    path = _FOLDER / f"{given}.json" if given in built_in() else Path(given)
    try:
        return Profile.model_validate_json(path.read_text("utf-8"))
    except OSError as error:
        known = ", ".join(built_in()) or "none"
        raise ConfigError(f"{explain_os_error(error, path, doing='read')}; built-in profiles: {known}") from error
    except (ValidationError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path.name}: not a profile that isocenter plan --measure wrote") from error


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile.

    Raises:
        OutputError: The file can't be written.
    """
    try:
        with atomic_path(path) as temporary:
            temporary.write_text(json.dumps(profile.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise explain_os_error(error, path, doing="write") from error


_SIZES: dict[str, tuple[tuple[str, tuple[int, ...], int], ...]] = {
    "cpu": (
        ("vit-tiny/16", (128, 128), 32),
        ("vit-small/16", (192, 192), 8),
        ("vit-tiny/8", (48, 48, 48), 4),
        ("vit-small/8", (48, 48, 48), 2),
        ("vit-base/16", (128, 128), 8),
        ("vit-base/16", (192, 192), 2),
        ("residual-tiny", (128, 128), 8),
        ("residual-tiny", (64, 64), 16),
        ("residual-small", (96, 96), 8),
        ("residual-base", (64, 64), 8),
        ("residual-tiny", (32, 48, 48), 4),
        ("residual-tiny", (24, 24, 24), 4),
        ("residual-small", (32, 32, 32), 2),
        ("residual-base", (16, 32, 32), 2),
    ),
    "cuda": (
        ("vit-small/16", (224, 224), 128),
        ("vit-base/16", (224, 224), 128),
        ("vit-base/8", (96, 96, 96), 4),
        ("vit-large/16", (224, 224), 64),
        ("residual-small", (224, 224), 64),
        ("residual-base", (224, 224), 32),
        ("residual-small", (96, 96, 96), 4),
        ("residual-base", (96, 96, 96), 2),
    ),
}


def measure(device: torch.device, threads: int, tell: Callable[[str, float], None]) -> Profile:
    """Measure a machine: its matrix rate, and real steps of masked autoencoding in several sizes and both precisions.

    Args:
        device: Where.
        threads: Of torch.
        tell: Called with what is measured and how much is done.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        tell("matrix products", 0.0)
        matrix: dict[Literal["float32", "bfloat16"], float] = {
            "float32": _matrix_tflops(device, torch.float32),
            "bfloat16": _matrix_tflops(device, torch.bfloat16),
        }
        wanted = [(size, half) for size in _SIZES[device.type] for half in (False, True)]
        rows = []
        for number, ((model, pixels, batch), half) in enumerate(wanted):
            tell(f"{model} {'bfloat16' if half else 'float32'}", (1 + number) / (1 + len(wanted)))
            args = masked_args(model, pixels, batch)
            rows.append(measured_step(MASKED.recipe, args, device, bfloat16=half))
    finally:
        torch.set_num_threads(before)
    return Profile(
        device=_words(device, threads),
        kind="cuda" if device.type == "cuda" else "cpu",
        threads=threads,
        torch=torch.__version__,
        measured=datetime.datetime.now(datetime.UTC).date().isoformat(),
        matrix_tflops=matrix,
        steps=tuple(rows),
    )


def masked_args(model: str, pixels: Sequence[int], batch: int) -> PretrainingArgs:
    """Return the configuration of masked autoencoding with a backbone, everything else as it stands."""
    needed = {"seed": 0, "steps": 1, "learning_rate": 1e-4, "checkpoint_every": 1, "validate_every": 1}
    return MASKED.configure({"method": "masked", "backbone": model, "pixels": list(pixels), "batch": batch, **needed})


def measured_step(recipe: Recipe, args: PretrainingArgs, device: torch.device, *, bfloat16: bool) -> StepRow:
    """Time a real step, all of it: forward, back, clipping, AdamW, averaging. Loading is not in it.

    Args:
        recipe: The method.
        args: Its configuration.
        device: Where.
        bfloat16: Whether the forward pass runs in bfloat16.
    """
    learner = begun(recipe, args).train().to(device)
    average = copy.deepcopy(learner) if learner.averaged() is None else None
    optimiser = torch.optim.AdamW(decayed(learner, args.weight_decay), lr=1e-6, fused=True)
    rng = generator(args.seed, 0)
    samples = [
        recipe.views(
            args, rng.normal(size=(args.channels, *args.pixels)).astype(np.float32), generator(args.seed, 1, n)
        )
        for n in range(args.batch)
    ]
    batch = {name: torch.stack([s[name] for s in samples]).to(device) for name in samples[0]}
    learner.begin_step(0, args.steps)
    seconds = []
    for _ in range(1 + _REPEATS):
        start = _now(device)
        optimiser.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=bfloat16):
            loss, _ = learner(dict(batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learner.parameters(), args.clip_norm)
        optimiser.step()
        learner.end_step(0, args.steps)
        if average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(list(average.parameters()), list(learner.parameters()), 0.01)
        seconds.append(_now(device) - start)
    counts = count(recipe, args, bfloat16=bfloat16)
    work = counts.at(args.batch)
    return StepRow(
        model=str(args.backbone),
        pixels=args.pixels,
        batch=args.batch,
        bfloat16=bfloat16,
        flops=work.flops,
        traffic=work.traffic + counts.update_traffic,
        seconds=min(seconds[1:]),
    )


def _matrix_tflops(device: torch.device, kind: torch.dtype) -> float:
    side = _MATRIX[device.type]
    a, b = (torch.randn(side, side, device=device).to(kind) for _ in range(2))
    seconds = []
    for _ in range(8):
        start = _now(device)
        a @ b
        seconds.append(_now(device) - start)
    return 2 * side**3 / min(seconds) / 1e12


def _now(device: torch.device) -> float:
    """Return a clock once all work is done. One thread of a CPU: its own time, whatever else the machine does."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif torch.get_num_threads() == 1:
        return time.process_time()
    return time.perf_counter()


def _words(device: torch.device, threads: int) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text("utf-8").splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return f"{model}, {threads} thread{'s' if threads > 1 else ''}"
