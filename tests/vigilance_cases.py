"""Rows of a node's record, made up: a stream of studies of one task, with a shift where the test wants one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from isocenter.clinic.vigilance import Observation

SHA = "ab" * 32


def stream(
    count: int, seed: int, change: Callable[[int, Observation], Observation] | None = None, *, first: int = 1
) -> list[Observation]:
    """Return observations of so many studies, one each, that are exchangeable but for the change."""
    rng = np.random.default_rng(seed)
    rows = []
    for n in range(first, first + count):
        lung, noise = rng.lognormal(8, 0.25), rng.gamma(20, 0.5)
        abstains = rng.random() < 0.04
        numbers = {
            "slices": float(rng.integers(100, 400)), "spacing z": float(rng.choice([1.0, 2.5])), "noise": float(noise),
            "intensity p50": float(rng.normal(-500, 60)), "gate score": float(rng.normal()),
        }  # fmt: skip
        if not abstains:
            numbers |= {"volume of lung": float(lung), "probability of effusion": float(rng.beta(1, 6))}
        words = {
            "modality": "CT", "body part": str(rng.choice(["CHEST", "ABDOMEN"], p=[0.9, 0.1])),
            "manufacturer": str(rng.choice(["Siemens", "GE"], p=[0.7, 0.3])),
        }  # fmt: skip
        row = Observation(
            f"1.2.{n}", 1, "chest", "live", "lungs", 0, "abstained" if abstains else "answered",
            "unlike" if abstains else "", True, SHA, "lungs 1", 1.5, numbers, words, at=1000.0 + n, number=n,
        )  # fmt: skip
        rows.append(row if change is None else change(n, row))
    return rows


def louder(after: int) -> Callable[[int, Observation], Observation]:
    """Return a change: from one study on the noise is higher, as with another protocol."""

    def change(n: int, row: Observation) -> Observation:
        return row if n < after else replace(row, numbers={**row.numbers, "noise": row.numbers["noise"] * 1.6})

    return change


def numbered(rows: Sequence[Observation], offset: int) -> list[Observation]:
    """Return rows that come after others."""
    return [replace(row, number=row.number + offset) for row in rows]
