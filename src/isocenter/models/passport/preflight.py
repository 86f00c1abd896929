"""Pre-flight: before weights are used on this machine, each promise of their passport is put to the test.

A check says passed, failed or not applicable, with its number. The gravest failure of this software is the wrong side,
so a phantom with one bright ball, and its mirror image, go through every network that takes pictures.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict
from torch import nn

from isocenter.core.errors import CapabilityError, WeightsError
from isocenter.models.passport import monai_bundle, nnunet
from isocenter.models.passport.checkpoint import non_finite
from isocenter.models.passport.document import UNKNOWN, Passport
from isocenter.models.passport.door import Located, build, describe
from isocenter.models.passport.feeding import Said, answer, is_dense, size_for
from isocenter.models.passport.files import Progress, altered
from isocenter.models.passport.memory import available_bytes, needed_bytes, size_words
from isocenter.models.passport.phantom import prepare, sided_phantom

__all__ = ["Check", "CheckReport", "check_weights"]

_RUNS, _SECONDS = 5, 20.0
_SHARE = 0.55
"""Of the change that the ball makes, this share must lie on the ball's side. One half would be chance."""
_BLIND = 1e-4
"""Features that differ by less than this share of their length between a picture and its mirror are side-blind."""
_FAR = 50.0
"""Beyond this, values that were to be centred and scaled are on another scale than their mean and deviation."""
_HIGH_WATER = Path("/proc/self/clear_refs"), Path("/proc/self/status")

Picture = Float[np.ndarray, "channels *space"]
Status = Literal["passed", "failed", "not applicable"]


class Check(BaseModel):
    """One check.

    Attributes:
        name: What was checked.
        status: How it went.
        number: What was measured; None where there is no number.
        unit: UCUM unit of the number.
        words: What was found, and what to do where it failed.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    status: Status
    number: float | None = None
    unit: str = ""
    words: str


class CheckReport(BaseModel):
    """All checks of one model.

    Attributes:
        name: The model.
        passed: Whether none failed.
        passport: What was checked.
        checks: In the order in which they were made.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    passed: bool
    passport: Passport
    checks: tuple[Check, ...]


def check_weights(located: Located, progress: Progress | None = None) -> CheckReport:
    """Check weights: files, licence, intended use, and how their network behaves on this machine.

    Args:
        located: From `isocenter.models.passport.door.locate`.
        progress: Called with what is done and how much of it.

    Raises:
        WeightsError: Weights that are not in the store can't be read at all.
        CapabilityError: A package that is needed to read them is not installed.
    """
    tell = progress or (lambda _words, _done: None)
    passport, files = _files(located, progress)
    checks = [files, *_statements(passport)]
    if files.status == "failed":
        checks += _not_run("the files are not what was recorded", "weights")
    else:
        checks += _on_this_machine(located.root, passport, tell)
    passed = all(check.status != "failed" for check in checks)
    return CheckReport(name=located.name or passport.name, passed=passed, passport=passport, checks=tuple(checks))


def _files(located: Located, progress: Progress | None) -> tuple[Passport, Check]:
    recorded = located.recorded
    if recorded is None:
        passport = describe(located.root, progress)
        if passport.kind == "isocenter":
            return passport, Check(name="files", status="passed", words="the sha256 is the one on the card")
        words = "nothing was recorded: it is not in the store (isocenter models add)"
        return passport, Check(name="files", status="not applicable", words=words)
    try:
        if not located.root.exists():
            raise WeightsError(f"nothing lies at {located.root} any more; put it back, or add it again")
        differences = altered(recorded.files, describe(located.root, progress).files)
    except WeightsError as error:
        return recorded, Check(name="files", status="failed", words=str(error))
    count = len(recorded.files)
    if differences:
        words = f"{'; '.join(differences[:3])}; take the files from their source again"
        return recorded, Check(name="files", status="failed", number=len(differences), unit="1", words=words)
    words = f"all {count} are what was recorded when it was added (sha256)"
    return recorded, Check(name="files", status="passed", number=count, unit="1", words=words)


def _statements(passport: Passport) -> list[Check]:
    found = []
    for name, said, option in (
        ("licence", passport.licence, "--licence"),
        ("intended use", passport.intended_use, "--intended-use"),
    ):
        stated = said != UNKNOWN
        remedy = f"not stated; find out, and say it when you add it ({option})"
        found.append(Check(name=name, status="passed" if stated else "failed", words=said if stated else remedy))
    return found


def _not_run(why: str, *names: str) -> list[Check]:
    rest = (*names, "memory", "output", "latency", "intensity", "laterality")
    return [Check(name=name, status="not applicable", words=f"not run: {why}") for name in dict.fromkeys(rest)]


def _on_this_machine(root: Path, passport: Passport, tell: Progress) -> list[Check]:
    """Build the network and look at it."""
    there, needed = available_bytes(), needed_bytes(passport.parameters)
    if there is not None and needed > there:
        words = f"its parameters alone need {size_words(needed)} and {size_words(there)} are free"
        memory = Check(name="memory", status="failed", number=needed, unit="By", words=words)
        return [memory if check.name == "memory" else check for check in _not_run("memory is too small", "weights")]
    tell("building the network", 0.1)
    try:
        network = build(root, passport)
    except CapabilityError as error:
        return [_numbers(root, passport, str(error)), *_not_run(str(error))]
    except WeightsError as error:
        return [Check(name="weights", status="failed", words=str(error)), *_not_run("there is no network")]
    words = f"{passport.parameters:,} numbers fill the network, and all are finite"
    weights = Check(name="weights", status="passed", number=passport.parameters, unit="1", words=words)
    try:
        return [weights, *_Flight(network, passport, tell).checks()]
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        why = next(iter(str(error).splitlines()), type(error).__name__)
        failed = Check(name="output", status="failed", words=f"the network stops on the phantom: {why}")
        return [weights, *(failed if c.name == "output" else c for c in _not_run("the network stops on the phantom"))]


def _numbers(root: Path, passport: Passport, why: str) -> Check:
    """Look at the numbers of weights whose network can't be built here."""
    if passport.kind not in ("monai", "nnunet"):
        return Check(name="weights", status="not applicable", words=f"not run: {why}")
    state = (monai_bundle if passport.kind == "monai" else nnunet).read_state(root)
    wrong, first = non_finite(state)
    if wrong:
        words = f"{wrong:,} numbers are not finite, the first in {first!r}; take it from its source again"
        return Check(name="weights", status="failed", number=wrong, unit="1", words=words)
    words = f"{passport.parameters:,} numbers, all finite; they were not put into a network: {why}"
    return Check(name="weights", status="passed", number=passport.parameters, unit="1", words=words)


class _Flight:
    """One network on the phantom."""

    def __init__(self, network: nn.Module, passport: Passport, tell: Progress) -> None:
        self._network, self._passport, self._tell = network, passport, tell
        takes = passport.inputs
        self._size = size_for(passport)
        self._axes = takes.axes or "zyx"[-len(self._size) :]

    def checks(self) -> list[Check]:
        """Run all."""
        language = self._passport.role == "language"
        picture = None if language else self._picture("low")
        self._tell("running the network", 0.3)
        memory, said = self._memory(picture)
        self._tell("timing the network", 0.5)
        latency = self._latency(picture)
        self._tell("looking at both sides", 0.8)
        if picture is None:
            words = "takes no picture"
            rest = [Check(name=name, status="not applicable", words=words) for name in ("intensity", "laterality")]
        else:
            rest = [self._intensity(picture), self._laterality(picture, said)]
        return [memory, self._output(said), latency, *rest]

    def _picture(self, ball: Literal["low", "high"] | None) -> Picture:
        takes = self._passport.inputs
        values = sided_phantom(self._size, self._axes, ball)
        return prepare(values, takes.channels or 1, takes.scaling, takes.intensity)

    def _ask(self, picture: Picture | None) -> Said:
        return answer(self._network, self._passport, picture)

    def _memory(self, picture: Picture | None) -> tuple[Check, Said]:
        held = [*self._network.parameters(), *self._network.buffers()]
        weights = sum(tensor.numel() * tensor.element_size() for tensor in held)
        there = available_bytes()
        beside, how, said = _peak(self._network, lambda: self._ask(picture))
        total = weights + beside
        enough = there is None or beside <= there
        free = "" if there is None else f"; {size_words(there)} were free"
        words = f"{size_words(weights)} for parameters, {size_words(beside)} more while it runs ({how}){free}"
        status: Status = "passed" if enough else "failed"
        return Check(name="memory", status=status, number=total, unit="By", words=words), said

    def _output(self, said: Said) -> Check:
        wrong = sum(int((~torch.isfinite(tensor)).sum()) for tensor in said.everything)
        shape = " x ".join(map(str, said.features.shape))
        if wrong:
            words = f"{wrong:,} numbers of the answer are not finite: don't use it"
            return Check(name="output", status="failed", number=wrong, unit="1", words=words)
        return Check(name="output", status="passed", number=0, unit="1", words=f"{shape}, all numbers finite")

    def _latency(self, picture: Picture | None) -> Check:
        taken: list[float] = []
        while len(taken) < _RUNS and (not taken or sum(taken) < _SECONDS):
            started = time.perf_counter()
            self._ask(picture)
            taken.append(time.perf_counter() - started)
        size = "tokens" if picture is None else " x ".join(map(str, picture.shape))
        milliseconds = round(1000 * median(taken), 3)
        words = f"{milliseconds:.4g} ms, median of {len(taken)} runs, {size}, {torch.get_num_threads()} threads, CPU"
        return Check(name="latency", status="passed", number=milliseconds, unit="ms", words=words)

    def _intensity(self, picture: Picture) -> Check:
        takes = self._passport.inputs
        low, high = float(picture.min()), float(picture.max())
        given = f"{low:.3g} to {high:.3g} from the phantom"
        scaling, reach = takes.scaling, takes.intensity
        if scaling is None and reach is None:
            words = f"the source states neither a range nor how to get there ({given})"
            return Check(name="intensity", status="not applicable", words=words)
        scaled = scaling is not None and (bool(scaling.std) or scaling.by_image)
        wide = max(abs(low), abs(high), *map(abs, reach or ()))
        expected = "each image's own mean and deviation" if reach is None else f"{reach[0]:.3g} to {reach[1]:.3g}"
        width = high - low if reach is None else reach[1] - reach[0]
        words, inside = f"{expected} expected, {given}", 1.0
        if reach is not None:
            slack = 0.01 * abs(width)
            inside = float(np.mean((picture >= reach[0] - slack) & (picture <= reach[1] + slack)))
        most = max(float(np.ptp(channel)) for channel in picture)
        flat = width <= 0 or most < 0.01 * width or (scaled and most < 0.1)
        if flat or inside < 1 or (scaled and wide > _FAR):
            why = (
                "nothing can be told apart any more" if flat
                else "the stated mean and deviation are of another scale" if inside == 1
                else "the stated preparation leaves the stated range"
            )  # fmt: skip
            words = f"{words}: {why}; ask the source how images are prepared"
            return Check(name="intensity", status="failed", number=inside, unit="1", words=words)
        return Check(name="intensity", status="passed", number=inside, unit="1", words=words)

    def _laterality(self, picture: Picture, said: Said) -> Check:
        empty, other = self._picture(None), self._picture("high")
        if np.array_equal(picture, empty):
            words = "the phantom's ball can't be seen through the stated window"
            return Check(name="laterality", status="not applicable", words=words)
        mirrored = self._ask(other)
        if is_dense(self._passport):
            return self._place(self._ask(empty), said, mirrored)
        one, two = (_pooled(s.features) for s in (said, mirrored))
        apart = float((one - two).norm() / max(float(one.norm()), 1e-12))
        if not apart >= _BLIND:
            words = (
                "side-blind: a picture and its mirror image look the same to it; don't use it where the side matters"
            )
            return Check(name="laterality", status="failed", number=apart, unit="1", words=words)
        words = f"features of a picture and its mirror image differ by {apart:.3g} of their length"
        return Check(name="laterality", status="passed", number=apart, unit="1", words=words)

    def _place(self, empty: Said, low: Said, high: Said) -> Check:
        """Check that what the ball changes lies where the ball is, along every axis."""
        changes = [(s.features - empty.features).float().square().sum(dim=(0, 1)) for s in (low, high)]
        if any(float(change.sum()) <= 0 for change in changes) or changes[0].ndim != len(self._axes):
            words = "a bright ball in the picture changes nothing in the answer, or the answer has other axes"
            return Check(name="laterality", status="failed", number=0.0, unit="1", words=words)
        shares = {axis: [_first_half(change, i) for change in changes] for i, axis in enumerate(self._axes)}
        beside = min(shares["x"][0], 1 - shares["x"][1])
        along = {axis: min(both) for axis, both in shares.items() if axis != "x"}
        wrong = [axis for axis, share in along.items() if share < _SHARE]
        if beside >= _SHARE and not wrong:
            others = min(along.values(), default=1.0)
            words = f"{beside:.0%} of what the ball changes lies on its own side, {others:.0%} along other axes"
            return Check(name="laterality", status="passed", number=beside, unit="1", words=words)
        where = (
            f"lies on the other side ({beside:.0%} on its own): left and right are exchanged" if beside <= 1 - _SHARE
            else f"lies on both sides alike ({beside:.0%} on its own)" if beside < _SHARE
            else f"lies elsewhere along {', '.join(wrong)}: axes are mixed up"
        )  # fmt: skip
        words = f"what a ball in the picture changes in the answer {where}; don't use it"
        return Check(name="laterality", status="failed", number=beside, unit="1", words=words)


def _first_half(change: torch.Tensor, axis: int) -> float:
    """Return which share of a change lies in the first half along an axis."""
    profile = change.sum(dim=[d for d in range(change.ndim) if d != axis])
    half = len(profile) // 2
    first, second = float(profile[:half].sum()), float(profile[len(profile) - half :].sum())
    return first / max(first + second, 1e-30)


def _pooled(features: torch.Tensor) -> torch.Tensor:
    """Return one vector for a picture: of tokens the first and the mean, of a grid the mean."""
    flat = features.float()[0]
    if features.ndim == 2:
        return flat
    if features.ndim == 3:
        return torch.cat([flat[0], flat.mean(dim=0)])
    return flat.flatten(1).mean(dim=1)


def _peak(network: nn.Module, run: Callable[[], Said]) -> tuple[int, str, Said]:
    """Run once; return how much memory that took beside the parameters, how it was found, and the answer."""
    with suppress(OSError, ValueError, IndexError):
        _HIGH_WATER[0].write_text("5", encoding="ascii")  # sets the process's high-water mark back to now
        before = _resident("VmHWM")
        said = run()
        return max(0, _resident("VmHWM") - before), "peak of the process", said
    sizes: list[int] = []

    def note(_module: nn.Module, _given: object, out: object) -> None:
        if isinstance(out, torch.Tensor):
            sizes.append(out.numel() * out.element_size())

    hooks = [m.register_forward_hook(note) for m in network.modules() if not any(m.children())]
    try:
        said = run()
    finally:
        for hook in hooks:
            hook.remove()
    return sum(sizes), "all layers' answers together, an upper bound", said


def _resident(field: str) -> int:
    lines = _HIGH_WATER[1].read_text(encoding="ascii").splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(f"{field}:")).split()[1])
