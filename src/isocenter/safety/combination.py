"""An image's probability joined with a clinical table: a logistic line fitted on held-out answers, each part told.

Of each finding or class, log-odds = slope x (log-odds that the networks gave) + bias + sum of weight x covariate.
Numbers are brought to mean 0 and deviation 1, words become one number for each value but the first. What is not given
counts as the mean, and is named. The penalty draws weights to 0 and the slope to 1: with few cases the image alone
remains.

It is fitted on answers of networks that never saw the case, and what it is worth is told by cross-validation over
patients beside the image alone, recalibrated the same way. Classes are joined one against the others, and brought to a
sum of 1.

Source:
    Harrell, Regression Modeling Strategies 2015 (penalty, cases a covariate); Steyerberg, Clinical Prediction Models
    2019.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Float
from scipy.special import expit

from isocenter.core.errors import ConfigError, DataError
from isocenter.safety.card import rule_from

__all__ = ["Combination", "Covariate", "covariates_of", "log_odds"]

_UNIT = re.compile(r"^(?P<name>.+?)\s*\[(?P<unit>[^\[\]]+)\]$")
_MOST_VALUES = 6
_CLIP = 1e-6


@dataclass(frozen=True)
class Covariate:
    """A column of a clinical table.

    Args:
        column: Its heading: "age [a]" with a UCUM unit for a number ("[1]" for none), or a word for words.
        values: Words that it may hold; empty for a number.
        mean: Of a number.
        deviation: Of a number.
        shares: Of words, how frequent each is.
    """

    column: str
    values: tuple[str, ...] = ()
    mean: float = 0.0
    deviation: float = 1.0
    shares: tuple[float, ...] = ()

    @property
    def terms(self) -> tuple[str, ...]:
        """What is fitted: the column, or each word but the first."""
        return tuple(f"{self.column} = {v}" for v in self.values[1:]) or (self.column,)

    def encode(self, text: str) -> tuple[list[float], bool]:
        """Return the numbers that stand for a cell, and whether it was given.

        Raises:
            DataError: It is no number, or a word that none of the cases had.
        """
        if not text:
            return (list(self.shares[1:]) if self.values else [0.0]), False
        if self.values:
            if text not in self.values:
                raise DataError(f"{self.column} holds a word that was not learnt; known: {', '.join(self.values)}")
            return [float(text == v) for v in self.values[1:]], True
        value = _number(text)
        if value is None:
            raise DataError(f"{self.column} holds what is no finite number")
        return [(value - self.mean) / self.deviation], True


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def covariates_of(columns: Mapping[str, Sequence[str]]) -> tuple[Covariate, ...]:
    """Return what columns hold.

    Args:
        columns: Cells by heading; "" where nothing is given.

    Raises:
        DataError: A number without a unit in its heading, a column of one value, or too many words.

    Example:
        >>> [c.terms for c in covariates_of({"age [a]": ["40", "60", ""], "sex": ["F", "M", "F"]})]
        [('age [a]',), ('sex = M',)]
    """
    found = []
    for column, cells in columns.items():
        given = [c for c in cells if c]
        numbers = [_number(c) for c in given]
        if given and all(n is not None for n in numbers):
            if _UNIT.match(column) is None:
                raise DataError(
                    f"{column!r} holds numbers: say their unit in the heading, as in 'age [a]'; [1] for none"
                )
            values = np.array([n for n in numbers if n is not None])
            if values.std() <= 0:
                raise DataError(f"{column!r} holds one value alone")
            found.append(Covariate(column, mean=float(values.mean()), deviation=float(values.std())))
            continue
        words = sorted(set(given))
        if not 2 <= len(words) <= _MOST_VALUES:
            raise DataError(f"{column!r} holds {len(words)} words; 2 to {_MOST_VALUES} can be joined, or numbers")
        found.append(Covariate(column, tuple(words), shares=tuple(given.count(w) / len(given) for w in words)))
    return tuple(found)


@dataclass(frozen=True)
class Combination:
    """A fitted combination.

    Args:
        covariates: Of the table.
        exclusive: Whether outputs are classes of which one is true.
        slopes: Of the image's log-odds, by output.
        biases: By output.
        weights: By output and term.
        cases: That it was fitted on.
        loss_image: Mean log loss of the image alone, cross-validated.
        loss_both: With the table.
        auroc_image: Mean AUROC over outputs of the image alone, cross-validated.
        auroc_both: With the table.
    """

    covariates: tuple[Covariate, ...]
    exclusive: bool
    slopes: tuple[float, ...]
    biases: tuple[float, ...]
    weights: tuple[tuple[float, ...], ...]
    cases: int
    loss_image: float
    loss_both: float
    auroc_image: float
    auroc_both: float

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_card(cls, card: Mapping[str, object]) -> Combination:
        """Return what `as_card` wrote.

        Raises:
            ConfigError: A value is missing or unknown.
        """
        rows = card.get("covariates")
        what = "how an image is joined with a clinical table"
        if not isinstance(rows, list | tuple):
            raise ConfigError(f"this is not {what}: it names no covariates")
        made = tuple(rule_from(Covariate, _tuples(row), what) for row in rows)
        return rule_from(cls, {**_tuples(card), "covariates": made}, what)

    @property
    def terms(self) -> tuple[str, ...]:
        """What is fitted beside the image."""
        return tuple(term for c in self.covariates for term in c.terms)

    def encode(self, row: Mapping[str, str]) -> tuple[Float[np.ndarray, " terms"], tuple[str, ...]]:
        """Return the numbers of a row of a table, and the columns where nothing was given.

        Raises:
            DataError: A column is missing, or a cell is not what it holds.
        """
        lost = [c.column for c in self.covariates if c.column not in row]
        if lost:
            raise DataError(
                f"the clinical table has no column {lost[0]!r} (with that unit), which the task learnt with"
            )
        told = [c.encode(row[c.column]) for c in self.covariates]
        absent = tuple(c.column for c, (_, given) in zip(self.covariates, told, strict=True) if not given)
        return np.array([v for numbers, _ in told for v in numbers]), absent

    def parts(
        self, p: Float[np.ndarray, " outputs"], x: Float[np.ndarray, " terms"]
    ) -> tuple[dict[str, float], ...]:  # fmt: skip
        """Return the parts of each output's log-odds, before classes are brought to a sum of 1.

        Args:
            p: Probabilities of the image alone.
            x: From `encode`.
        """
        scores = log_odds(p)
        return tuple(
            {
                "image": self.slopes[k] * float(scores[k]),
                "start": self.biases[k],
                **{t: w * float(v) for t, w, v in zip(self.terms, self.weights[k], x, strict=True)},
            }
            for k in range(len(p))
        )

    def apply(self, p: Float[np.ndarray, " outputs"], x: Float[np.ndarray, " terms"]) -> Float[np.ndarray, " outputs"]:
        """Return the joined probabilities."""
        joined = expit(np.array([sum(parts.values()) for parts in self.parts(p, x)]))
        return np.asarray(joined / joined.sum() if self.exclusive else joined)


def _tuples(card: Mapping[str, object]) -> dict[str, object]:
    def one(value: object) -> object:
        return tuple(one(v) for v in value) if isinstance(value, list) else value

    return {k: one(v) for k, v in card.items()}


def log_odds(p: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Return the log-odds of probabilities, those of 0 and 1 kept finite."""
    kept = np.clip(p, _CLIP, 1 - _CLIP)
    return np.asarray(np.log(kept / (1 - kept)))
