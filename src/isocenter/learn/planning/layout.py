"""How many processes hold a learner, in which parts, and what that costs in memory, in work and on the network.

Weights, gradients, moments and the averaged twin are exact. Activations and what lives in between are counted
(`counting`). What the device keeps for itself, its context and its allocator's gaps, is not: `FREE` is left for it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from isocenter.core.errors import ConfigError
from isocenter.learn.planning.counting import FLOAT, Counts
from isocenter.learn.planning.rates import Sum

__all__ = ["FREE", "Layout", "Need", "layouts", "memory_of"]

FREE = 0.1
"""Share of the memory that a plan leaves free."""
_HALF = 2

Parallel = Literal["one", "ddp", "fsdp"]


@dataclass(frozen=True)
class Need:
    """Memory of one process in bytes.

    Args:
        weights: Of the learner, a teacher among them.
        gradients: In float32; with DDP a second time, in the buckets that are summed.
        optimiser: Two moments of every trainable weight.
        average: The averaged twin.
        gathered: With FSDP, the parts that are whole at a time.
        activations: What a part of the batch keeps and needs in between, at the worst moment.
    """

    weights: float
    gradients: float
    optimiser: float
    average: float
    gathered: float
    activations: float

    @property
    def total(self) -> float:
        """Return the sum."""
        return self.weights + self.gradients + self.optimiser + self.average + self.gathered + self.activations


@dataclass(frozen=True)
class Layout:
    """A way to train.

    Args:
        parallel: How processes hold the weights.
        recompute: Whether activations are computed again on the way back.
        part: Samples that a process works through at a time; 0 where not even one fits.
        accumulate: Parts of a process's share of the batch.
        need: Memory of a process, with one sample where `part` is 0.
        work: What a process does in a step.
        network: Bytes that a process sends in a step.
    """

    parallel: Parallel
    recompute: bool
    part: int
    accumulate: int
    need: Need
    work: Sum
    network: float


def memory_of(counts: Counts, parallel: Parallel, processes: int, part: int, accumulate: int) -> Need:
    """Return the memory of one process.

    Args:
        counts: The step, counted.
        parallel: How processes hold the weights.
        processes: How many.
        part: Samples at a time.
        accumulate: Parts of a step; gradients of the first wait for the last.
    """
    share = processes if parallel == "fsdp" else 1
    gradients = FLOAT * counts.trainable
    # Gradients come while activations go: what both need at the worst moment is less than their sum.
    peak = counts.peak(part, gradients="come" if accumulate == 1 else "wait")
    activations, gathered = max(0.0, peak - gradients), 0.0
    if parallel == "fsdp":
        size = _HALF if counts.bfloat16 else FLOAT
        alone = sorted(counts.units[:-1], reverse=True)[:2] or [0]
        # Two units at a time (one is computed, the next is fetched), a gradient of one, and what is no unit.
        gathered = size * sum(alone) + FLOAT * (alone[0] + 2 * counts.units[-1])
        # Casts of weights to bfloat16 are counted, and not made: units are gathered in it.
        casts = _HALF * sum(counts.units[:-1]) if counts.bfloat16 else 0
        activations = max(0.0, counts.peak(part, gradients="none") - casts)
    return Need(
        weights=FLOAT * counts.parameters / share,
        gradients=gradients / share + (gradients if parallel == "ddp" else 0),
        optimiser=2 * FLOAT * counts.trainable / share,
        average=FLOAT * counts.averaged / share,
        gathered=gathered,
        activations=activations,
    )


def layouts(
    counted: Mapping[bool, Counts], *, processes: int, batch: int, memory: float, least: int = 1
) -> Iterator[Layout]:
    """Give every way to train, the simplest first, each with the largest part of the batch that fits.

    Args:
        counted: The step, counted without and with recomputing.
        processes: How many.
        batch: Samples of a step, of all processes together.
        memory: Of a process, in bytes.
        least: Samples that a part needs: a loss over a batch needs two.

    Raises:
        ConfigError: The processes can't share the batch equally.
    """
    share, rest = divmod(batch, processes)
    if rest or share < least:
        raise ConfigError(f"{processes} processes can't share a batch of {batch} equally, {least} or more each")
    kinds: tuple[Parallel, ...] = ("one",) if processes == 1 else ("ddp", "fsdp")
    for recompute in (False, True):
        for parallel in kinds:
            counts = counted[recompute]
            parts = [n for n in range(share, least - 1, -1) if share % n == 0]
            fits = (
                n for n in parts
                if memory_of(counts, parallel, processes, n, share // n).total <= (1 - FREE) * memory
            )  # fmt: skip
            part = next(fits, 0)
            shown, accumulate = (part, share // part) if part else (least, share // least)
            yield Layout(
                parallel,
                recompute,
                part,
                accumulate,
                memory_of(counts, parallel, processes, shown, accumulate),
                _work(counts, parallel, processes, shown, accumulate),
                _network(counts, parallel, processes, accumulate),
            )


def _work(counts: Counts, parallel: Parallel, processes: int, part: int, accumulate: int) -> Sum:
    each = counts.at(part)
    update = counts.update_traffic / (processes if parallel == "fsdp" else 1)
    return Sum(each.flops * accumulate, each.traffic * accumulate + update)


def _network(counts: Counts, parallel: Parallel, processes: int, accumulate: int) -> float:
    """Return the bytes that a process sends in a step, each collective as a ring."""
    ring = (processes - 1) / processes
    gradients = FLOAT * counts.trainable
    if parallel == "ddp":
        return 2 * ring * gradients
    if parallel == "fsdp":
        size = _HALF if counts.bfloat16 else FLOAT
        weights = size * sum(counts.units[:-1]) + FLOAT * counts.units[-1]
        # Gathered on the way there and, but for a frozen teacher, on the way back; gradients summed in float32.
        gathers = weights * (1 + counts.trainable / counts.parameters)
        return ring * accumulate * (gathers + gradients)
    return 0.0
