"""What is known of people as a matrix: imputed, scaled and coded by what the people learnt from are like, no others.

A `Preparation` is fitted on training people alone, inside every fold; it imputes numbers by the median and words by
none of their levels, flags what was missing, takes a column for each word but the first, and divides numbers by their
spread.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import ConfigError, DataError

__all__ = ["Block", "Covariate", "Covariates", "Preparation", "fit_preparation"]

_LEAST_FLAGGED = 10
"""A flag of a value that is missing is learnt from this many cases with it, and as many without (a convention)."""


@dataclass(frozen=True, eq=False)
class Covariate:
    """One thing known of each person.

    Args:
        name: Of the column.
        values: Numbers; of words the place among `levels`; NaN where nothing is known.
        unit: UCUM, "1" for none; "" for words.
        levels: Words; empty for numbers.
    """

    name: str
    values: Float[np.ndarray, " n"]
    unit: str = "1"
    levels: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Block:
    """One modality: many numbers of each person that come together, or not at all.

    Args:
        name: Of the modality.
        columns: Names of its numbers.
        values: A row for each person, all NaN where the person lacks the modality; single numbers may be missing too.
        batches: Scanner of each person, "" where it is not known; empty where nothing is to be harmonised.
        components: Principal components that it is reduced to at most, before anything is learnt.

    Raises:
        DataError: No number, or lengths that differ.
    """

    name: str
    columns: tuple[str, ...]
    values: Float[np.ndarray, "n k"]
    batches: tuple[str, ...] = ()
    components: int = 8

    def __post_init__(self) -> None:
        if not self.columns or self.values.shape[1] != len(self.columns) or self.components < 1:
            raise DataError(f"block {self.name!r} needs a number, and a name for each")
        if self.batches and len(self.batches) != len(self.values):
            raise DataError(f"block {self.name!r} has {len(self.batches)} scanners for {len(self.values)} people")

    @property
    def present(self) -> Bool[np.ndarray, " n"]:
        """Who has the modality."""
        return np.asarray(~np.isnan(self.values).all(axis=1))

    def rows(self, chosen: Bool[np.ndarray, " n"] | Int64[np.ndarray, " k"]) -> Block:
        """Return some of the people."""
        places = np.flatnonzero(chosen) if chosen.dtype == np.bool_ else chosen
        batches = tuple(self.batches[p] for p in places) if self.batches else ()
        return replace(self, values=self.values[places], batches=batches)

    def without(self) -> Block:
        """Return the same people as if nobody had the modality."""
        return replace(self, values=np.full_like(self.values, np.nan))


@dataclass(frozen=True, eq=False)
class Covariates:
    """What is known of several people.

    Args:
        columns: In order; all of one length.
        blocks: Modalities beside, each of many numbers.

    Raises:
        DataError: Neither column nor block, a name twice, or lengths that differ.
    """

    columns: tuple[Covariate, ...]
    blocks: tuple[Block, ...] = ()

    def __post_init__(self) -> None:
        names, lengths = self.names, {len(c.values) for c in self.parts}
        if not names or len(set(names)) != len(names) or len(lengths) != 1:
            raise DataError("covariates need a column, each name once, and all of one length")

    def __len__(self) -> int:
        return len(self.parts[0].values)

    @property
    def parts(self) -> tuple[Covariate | Block, ...]:
        """The columns, and the blocks after them."""
        return (*self.columns, *self.blocks)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, and of the blocks after them."""
        return tuple(c.name for c in self.parts)

    def rows(self, chosen: Bool[np.ndarray, " n"] | Int64[np.ndarray, " k"]) -> Covariates:
        """Return some of the people."""
        columns = tuple(replace(c, values=c.values[chosen]) for c in self.columns)
        return Covariates(columns, tuple(b.rows(chosen) for b in self.blocks))

    def shuffled(self, name: str, order: Int64[np.ndarray, " n"]) -> Covariates:
        """Return the same with one column, or one whole block, dealt out anew."""
        columns = tuple(replace(c, values=c.values[order]) if c.name == name else c for c in self.columns)
        return Covariates(columns, tuple(b.rows(order) if b.name == name else b for b in self.blocks))

    def without(self, *names: str) -> Covariates:
        """Return the same people as if these columns or blocks were not known of anybody."""
        columns = tuple(replace(c, values=np.full_like(c.values, np.nan)) if c.name in names else c
                        for c in self.columns)  # fmt: skip
        return Covariates(columns, tuple(b.without() if b.name in names else b for b in self.blocks))


@dataclass(frozen=True)
class _Coding:
    """How a column becomes columns of the matrix."""

    name: str
    unit: str
    levels: tuple[str, ...]
    kept: tuple[str, ...]
    fill: float
    centre: float
    scale: float
    flagged: bool
    least: float
    most: float


@dataclass(frozen=True)
class Preparation:
    """How people become a matrix; JSON-ready with `as_card`.

    Args:
        codings: Of each column.
    """

    codings: tuple[_Coding, ...]

    @property
    def features(self) -> tuple[tuple[str, str], ...]:
        """Of every column of the matrix: the covariate it is of, and its own name."""
        found: list[tuple[str, str]] = []
        for c in self.codings:
            found += [(c.name, f"{c.name}: {level}") for level in c.kept] if c.levels else [(c.name, c.name)]
            found += [(c.name, f"{c.name} missing")] if c.flagged else []
        return tuple(found)

    def matrix(self, people: Covariates) -> Float[np.ndarray, "n p"]:
        """Return people as rows; a word that nobody learnt from had counts as none of the levels (see `outside`).

        Raises:
            DataError: A column is missing, or of another unit.
        """
        by_name = {c.name: c for c in people.columns}
        parts: list[np.ndarray] = []
        for coding in self.codings:
            column = by_name.get(coding.name)
            if column is None:
                raise DataError(f"needs the covariate {coding.name!r}")
            if bool(coding.levels) != bool(column.levels) or column.unit != coding.unit:
                raise DataError(
                    f"covariate {coding.name!r} is not what was learnt from: {coding.unit or 'words'} is needed, "
                    f"got {column.unit or 'words'}"
                )
            missing = np.isnan(column.values)
            if coding.levels:
                words = np.array([column.levels[int(v)] if not np.isnan(v) else "" for v in column.values], dtype=str)
                parts += [(words == level).astype(np.float64) for level in coding.kept]
            else:
                parts.append((np.where(missing, coding.fill, column.values) - coding.centre) / coding.scale)
            if coding.flagged:
                parts.append(missing.astype(np.float64))
        return np.stack(parts, axis=1)

    def outside(self, people: Covariates, *, margin: float = 0.1) -> tuple[tuple[str, ...], ...]:
        """Return for each person the covariates that nobody learnt from comes near.

        Args:
            people: Whom to look at.
            margin: Numbers may lie this share of the range beyond its ends.
        """
        found: list[list[str]] = [[] for _ in range(len(people))]
        by_name = {c.name: c for c in people.columns}
        for coding in self.codings:
            column = by_name.get(coding.name)
            if column is None:
                continue
            if coding.levels:
                strange = np.array(
                    [not np.isnan(v) and column.levels[int(v)] not in coding.levels for v in column.values], dtype=bool
                )
            else:
                room = margin * (coding.most - coding.least)
                strange = (column.values < coding.least - room) | (column.values > coding.most + room)
            for row in np.flatnonzero(strange):
                found[int(row)].append(coding.name)
        return tuple(tuple(names) for names in found)

    def as_card(self) -> list[dict[str, object]]:
        """Return JSON-ready values."""
        return [asdict(c) for c in self.codings]

    @classmethod
    def from_card(cls, card: Sequence[Mapping[str, object]]) -> Preparation:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing or unknown.
        """
        try:
            return cls(
                tuple(
                    _Coding(**{k: tuple(v) if isinstance(v, list) else v for k, v in one.items()})  # type: ignore[arg-type]
                    for one in card
                )
            )
        except TypeError as error:
            raise ConfigError("this is no preparation of covariates; learn again") from error


def fit_preparation(people: Covariates) -> Preparation:
    """Learn from people how they become a matrix.

    Args:
        people: The training people, no others.

    Raises:
        DataError: Nothing is left to learn from: every column is missing or the same for all.

    Example:
        >>> people = Covariates((Covariate("age", np.array([40.0, 60.0, np.nan]), "a"),))
        >>> fit_preparation(people).matrix(people).round(3).tolist()
        [[-1.0], [1.0], [0.0]]
    """
    codings = []
    for c in people.columns:
        missing = np.isnan(c.values)
        known = c.values[~missing]
        if not len(known):
            continue
        flagged = min(int(missing.sum()), len(known)) >= _LEAST_FLAGGED
        least, most = float(known.min()), float(known.max())
        if c.levels:
            present = [level for n, level in enumerate(c.levels) if (known == n).any()]
            if len(present) < 2 and not flagged:
                continue
            codings.append(_Coding(c.name, "", tuple(present), tuple(present[1:]), 0.0, 0.0, 1.0, flagged, 0.0, 0.0))
            continue
        if least == most and not flagged:
            continue
        fill = float(np.median(known))
        filled = np.where(missing, fill, c.values)
        # The spread is of what is known, so that a column with gaps is not blown up.
        centre, scale = float(filled.mean()), float(known.std()) or 1.0
        codings.append(_Coding(c.name, c.unit, (), (), fill, centre, scale, flagged, least, most))
    if not codings:
        raise DataError("no covariate differs between these people: there is nothing to learn from")
    return Preparation(tuple(codings))
