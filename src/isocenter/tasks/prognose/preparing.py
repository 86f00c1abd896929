"""People with a table and several modalities as a matrix; everything in it is fitted on the training people alone.

A block of many numbers goes through four steps, each fitted inside every fold: single gaps are filled with the median,
what a scanner adds is taken away (ComBat, where scanners are named), numbers are divided by their spread, and principal
components of them are kept. Who lacks a block stands at the mean of those who have it, with a flag; networks that know
of missing modalities get the gap itself (`gapped`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import ConfigError, DataError
from isocenter.models.covariates import Block, Covariates, Preparation, fit_preparation
from isocenter.tasks.phenotype.combat import ComBat, fit_combat

__all__ = ["LEAST_OF_SCANNER", "TABLE", "BlockPreparation", "PeoplePreparation", "fit_people"]

TABLE = "table"
"""Name of the clinical table among the modalities."""
LEAST_OF_SCANNER = 5
"""People of a scanner from which on what it adds is told (a convention of ours)."""
_LEAST_PRESENT, _LEAST_FLAGGED = 10, 10
"""People with a block, and with and without it for a flag (conventions of ours)."""
_PEOPLE_A_COMPONENT = 10
_EVEN, _BEYOND = 1e-9, 1.0
_COMBAT = ("mean", "deviation", "shift", "scale", "effects", "centre", "fixed")


@dataclass(frozen=True, eq=False)
class BlockPreparation:
    """How a block becomes components.

    Args:
        name: Of the block.
        columns: Names of its numbers, as learnt from.
        used: Which of them are known of somebody and differ between people.
        fill: Median of each that is used.
        combat: What scanners add; None where nothing is harmonised.
        centre: Of each that is used, harmonised.
        spread: Of each.
        axes: Principal axes, a column each.
        size: Spread along each axis.
        flagged: Whether the matrix says who lacks the block.
        least: Of each component.
        most: Of each component.
    """

    name: str
    columns: tuple[str, ...]
    used: Bool[np.ndarray, " k"]
    fill: Float[np.ndarray, " u"]
    combat: ComBat | None
    centre: Float[np.ndarray, " u"]
    spread: Float[np.ndarray, " u"]
    axes: Float[np.ndarray, "u c"]
    size: Float[np.ndarray, " c"]
    flagged: bool
    least: Float[np.ndarray, " c"]
    most: Float[np.ndarray, " c"]

    @property
    def features(self) -> tuple[tuple[str, str], ...]:
        """Of every column of the matrix: the block, and its own name."""
        found = [(self.name, f"{self.name} component {n + 1}") for n in range(len(self.size))]
        return (*found, *([(self.name, f"{self.name} missing")] if self.flagged else []))

    def usable(self, block: Block) -> Bool[np.ndarray, " n"]:
        """Return who has the block, from a scanner that was learnt from where scanners count.

        Raises:
            DataError: The block holds other numbers, or scanners are not told.
        """
        if block.columns != self.columns:
            raise DataError(f"block {self.name!r} does not hold the {len(self.columns)} numbers that were learnt from")
        if self.combat is None:
            return block.present
        if len(block.batches) != len(block.values):
            raise DataError(f"block {self.name!r} was harmonised: the scanner of each person is needed")
        return block.present & np.isin(np.array(block.batches, dtype=str), self.combat.batches)

    def components(self, block: Block) -> Float[np.ndarray, "n c"]:
        """Return the components of each person; NaN for who lacks the block, or has it from an unknown scanner."""
        has = self.usable(block)
        found = np.full((len(has), len(self.size)), np.nan)
        if has.any():
            found[has] = (self._even(block, has) - self.centre) / self.spread @ self.axes / self.size
        return found

    def _even(self, block: Block, has: Bool[np.ndarray, " n"]) -> Float[np.ndarray, "m u"]:
        values = block.values[has][:, self.used]
        values = np.where(np.isnan(values), self.fill, values)
        if self.combat is None:
            return values
        return self.combat.transform(values, [b for b, h in zip(block.batches, has, strict=True) if h])

    def matrix(self, block: Block) -> Float[np.ndarray, "n p"]:
        """Return components, the mean for who lacks the block, and the flag."""
        found = self.components(block)
        gap = np.isnan(found[:, :1])
        return np.concatenate([np.where(gap, 0.0, found), *([gap.astype(np.float64)] if self.flagged else [])], axis=1)

    def outside(self, block: Block) -> Bool[np.ndarray, " n"]:
        """Return whose components lie a whole range beyond everybody's: another unit, or another kind of image."""
        found = self.components(block)
        room = _BEYOND * (self.most - self.least)
        with np.errstate(invalid="ignore"):
            return np.asarray(((found < self.least - room) | (found > self.most + room)).any(axis=1))

    def as_arrays(self) -> tuple[dict[str, np.ndarray], dict[str, object]]:
        """Return arrays, and JSON-ready values."""
        names = ("used", "fill", "centre", "spread", "axes", "size", "least", "most")
        arrays: dict[str, np.ndarray] = {n: getattr(self, n) for n in names}
        if self.combat is not None:
            arrays |= {f"combat.{n}": getattr(self.combat, n) for n in _COMBAT}
        batches = None if self.combat is None else list(self.combat.batches)
        return arrays, {
            "name": self.name, "columns": list(self.columns), "flagged": self.flagged, "batches": batches,
        }  # fmt: skip

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], card: Mapping[str, object]) -> BlockPreparation:
        """Return what `as_arrays` wrote.

        Raises:
            ConfigError: A value is missing.
        """
        try:
            batches = card["batches"]
            combat = None
            if isinstance(batches, list):
                combat = ComBat(tuple(batches), **{n: arrays[f"combat.{n}"] for n in _COMBAT})
            names = ("used", "fill", "centre", "spread", "axes", "size", "least", "most")
            columns = card["columns"]
            if not isinstance(columns, list):
                raise ConfigError("this is no preparation of a block; learn again")
            return cls(
                name=str(card["name"]), columns=tuple(columns), combat=combat, flagged=bool(card["flagged"]),
                **{n: arrays[n] for n in names},
            )  # fmt: skip
        except KeyError as error:
            raise ConfigError("this is no preparation of a block; learn again") from error


@dataclass(frozen=True, eq=False)
class PeoplePreparation:
    """How people become a matrix.

    Args:
        table: Of their columns; None where there are none that differ.
        blocks: Of their blocks.
    """

    table: Preparation | None
    blocks: tuple[BlockPreparation, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Columns and blocks that are learnt from."""
        columns = () if self.table is None else tuple(c.name for c in self.table.codings)
        return (*columns, *(b.name for b in self.blocks))

    @property
    def features(self) -> tuple[tuple[str, str], ...]:
        """Of every column of the matrix: the covariate or block it is of, and its own name."""
        found = () if self.table is None else self.table.features
        return (*found, *(f for b in self.blocks for f in b.features))

    @property
    def weights(self) -> Float[np.ndarray, " p"]:
        """Of each column of the matrix where people are compared: a word or a block counts as one covariate."""
        share = {b.name: len(b.size) ** -0.5 for b in self.blocks}
        return np.array([
            share[covariate] if covariate in share and not own.endswith(" missing")
            else 1.0 if covariate in share or covariate == own else 0.5**0.5
            for covariate, own in self.features
        ])  # fmt: skip

    @property
    def layout(self) -> tuple[tuple[str, int], ...]:
        """Name and width of each modality in `gapped`, in order."""
        table = () if self.table is None else ((TABLE, len(self.table.features)),)
        return (*table, *((b.name, len(b.size)) for b in self.blocks))

    def matrix(self, people: Covariates) -> Float[np.ndarray, "n p"]:
        """Return people as rows without a gap.

        Raises:
            DataError: A column or block is missing, or not what was learnt from.
        """
        parts = [] if self.table is None else [self.table.matrix(people)]
        return np.concatenate([*parts, *(b.matrix(_block(people, b.name)) for b in self.blocks)], axis=1)

    def gapped(self, people: Covariates) -> Float[np.ndarray, "n p"]:
        """Return modalities side by side as `layout` says, NaN throughout where a person lacks one.

        Raises:
            DataError: A column or block is missing, or not what was learnt from.
        """
        parts = []
        if self.table is not None:
            known = self.table.matrix(people)
            empty = np.all([np.isnan(c.values) for c in people.columns if c.name in self.names], axis=0)
            parts.append(np.where(empty[:, None], np.nan, known))
        return np.concatenate([*parts, *(b.components(_block(people, b.name)) for b in self.blocks)], axis=1)

    def outside(self, people: Covariates) -> tuple[tuple[str, ...], ...]:
        """Return for each person the covariates and blocks that nobody learnt from comes near."""
        found: list[tuple[str, ...]] = [()] * len(people)
        if self.table is not None:
            found = list(self.table.outside(people))
        for b in self.blocks:
            for row in np.flatnonzero(b.outside(_block(people, b.name))):
                found[int(row)] = (*found[int(row)], b.name)
        return tuple(found)


def _block(people: Covariates, name: str) -> Block:
    for block in people.blocks:
        if block.name == name:
            return block
    raise DataError(f"needs the block {name!r}")


def fit_people(people: Covariates) -> PeoplePreparation:
    """Learn from people how they become a matrix.

    Args:
        people: The training people, no others.

    Raises:
        DataError: Nothing is left to learn from, or too few have a block.
    """
    blocks = tuple(_fit_block(b) for b in people.blocks)
    if not people.columns:
        return PeoplePreparation(None, blocks)
    try:
        table = fit_preparation(Covariates(people.columns))
    except DataError:
        if not blocks:
            raise
        table = None  # the blocks are left to learn from
    return PeoplePreparation(table, blocks)


def _fit_block(block: Block) -> BlockPreparation:
    has = block.present
    scanners: tuple[str, ...] = ()
    if block.batches:
        names = np.array(block.batches, dtype=str)
        seen, counts = np.unique(names[has & (names != "")], return_counts=True)
        scanners = tuple(seen[counts >= LEAST_OF_SCANNER].tolist())
        has = has & np.isin(names, scanners)
    if has.sum() < _LEAST_PRESENT:
        raise DataError(
            f"{int(has.sum())} people of a training part have the block {block.name!r}"
            + (f", from a scanner with {LEAST_OF_SCANNER} people or more" if block.batches else "")
            + f": at least {_LEAST_PRESENT} are needed; leave the block out, or ask for fewer folds"
        )
    values = block.values[has]
    with np.errstate(invalid="ignore"):
        known = ~np.isnan(values).all(axis=0)
        low, high = (f(np.where(np.isnan(values), v, values), axis=0) for f, v in ((np.min, np.inf), (np.max, -np.inf)))
    used = np.asarray(known & (high > low))
    if not used.any():
        raise DataError(f"the block {block.name!r} is the same for all: there is nothing to learn from it")
    fill = np.nanmedian(values[:, used], axis=0)
    even = np.where(np.isnan(values[:, used]), fill, values[:, used])
    combat = None
    if len(scanners) > 1:
        own = [b for b, h in zip(block.batches, has, strict=True) if h]
        combat = fit_combat(even, own)
        even = combat.transform(even, own)
    elif block.batches:
        combat = _one_scanner(scanners, even)
    centre, spread = even.mean(axis=0), even.std(axis=0)
    flat = spread <= _EVEN * np.maximum(1.0, np.abs(centre))
    if len(scanners) > 1 and combat is not None:
        flat |= combat.fixed  # what never differs within a scanner tells nothing but the scanner
    spread = np.where(flat, np.inf, spread)
    most = max(1, min(block.components, len(even) // _PEOPLE_A_COMPONENT))
    _, sizes, axes = np.linalg.svd((even - centre) / spread, full_matrices=False)
    kept = np.flatnonzero(sizes > _EVEN * sizes[0])[:most] if sizes[0] > 0 else np.zeros(0, dtype=np.int64)
    if not len(kept):
        raise DataError(f"the block {block.name!r} is the same for all once it is harmonised: nothing is left in it")
    size = sizes[kept] / len(even) ** 0.5
    scores = (even - centre) / spread @ axes[kept].T / size
    lacking = len(block.values) - int(has.sum())
    return BlockPreparation(
        block.name, block.columns, used, fill, combat, centre, spread, axes[kept].T, size,
        min(lacking, int(has.sum())) >= _LEAST_FLAGGED, scores.min(axis=0), scores.max(axis=0),
    )  # fmt: skip


def _one_scanner(scanners: tuple[str, ...], even: Float[np.ndarray, "m u"]) -> ComBat:
    """Return what changes nothing, and knows the one scanner: what another adds can't be told."""
    u = even.shape[1]
    return ComBat(
        scanners, np.zeros(u), np.ones(u), np.zeros((1, u)), np.ones((1, u)), np.zeros((0, u)), np.zeros(0),
        np.ones(u, dtype=bool),
    )  # fmt: skip
