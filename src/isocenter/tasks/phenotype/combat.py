"""Harmonisation of features across scanners: ComBat, fitted on one set of patients and applied to any other.

What a scanner adds to a feature, and how much it stretches it, is estimated over all features at once (empirical
Bayes), beside the effect of covariates that is kept. Fit it on the training part of a split alone: fitted on all
patients it lets the test part's values into training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError, DataError

__all__ = ["ComBat", "fit_combat"]

_LEAST = 2
_CONVERGED = 1e-6
_ROUNDS = 500
Table = Float[np.ndarray, "n features"]


@dataclass(frozen=True, eq=False)
class ComBat:
    """What scanners add to features, as estimated from a training set.

    Args:
        batches: Names of the scanners that were seen.
        mean: Of each feature, over all scanners.
        deviation: Of each feature, within scanners.
        shift: What each scanner adds, in deviations, (batch, feature).
        scale: How much each scanner stretches, (batch, feature).
        effects: Of covariates, (covariate, feature).
        centre: Means of the covariates.
        fixed: Features without spread within scanners, which are left as they are.
    """

    batches: tuple[str, ...]
    mean: Float[np.ndarray, "features"]
    deviation: Float[np.ndarray, "features"]
    shift: Float[np.ndarray, "batches features"]
    scale: Float[np.ndarray, "batches features"]
    effects: Float[np.ndarray, "covariates features"]
    centre: Float[np.ndarray, "covariates"]
    fixed: np.ndarray

    def transform(
        self, features: Table, batches: Sequence[str], covariates: Float[np.ndarray, "n covariates"] | None = None
    ) -> Table:
        """Return features without what their scanners add.

        Args:
            features: One row for each patient; all finite.
            batches: Scanner of each.
            covariates: As in fitting.

        Raises:
            DataError: A scanner that was not seen in fitting, or a table of another form.
        """
        features, _, kept = _checked(features, batches, covariates)
        if features.shape[1] != len(self.mean) or kept.shape[1] != len(self.centre):
            raise DataError(
                f"fitted to {len(self.mean)} features and {len(self.centre)} covariates, got {features.shape[1]} and "
                f"{kept.shape[1]}"
            )
        unseen = sorted(set(batches) - set(self.batches))
        if unseen:
            raise DataError(
                f"{len(unseen)} scanners were not among those fitted; what they add is not known. Fit with some of "
                "their patients, or leave these out"
            )
        index = np.array([self.batches.index(b) for b in batches], dtype=np.int64)
        known = self.mean + (kept - self.centre) @ self.effects
        standard = (features - known) / self.deviation
        found = (standard - self.shift[index]) / self.scale[index] * self.deviation + known
        return np.where(self.fixed, features, found)


def fit_combat(
    features: Table,
    batches: Sequence[str],
    covariates: Float[np.ndarray, "n covariates"] | None = None,
    *,
    shrink: bool = True,
) -> ComBat:
    """Estimate what scanners add to features.

    Args:
        features: One row for each patient of the training part; all finite.
        batches: Scanner of each.
        covariates: What features may truly depend on (age, stage), kept as it is; None for nothing.
        shrink: Whether scanners' estimates are drawn together over features (empirical Bayes); else each feature's own.

    Raises:
        DataError: Fewer than two patients of a scanner, a value that is not finite, or covariates that scanners (or
            each other) tell exactly, so that the two can't be told apart.

    Source:
        Johnson, Li and Rabinovic 2007 (Biostatistics 8:118), parametric priors.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(60, 8))
        >>> x[:30] = 3 + 2 * x[:30]
        >>> clean = fit_combat(x, ["a"] * 30 + ["b"] * 30).transform(x, ["a"] * 30 + ["b"] * 30)
        >>> bool(abs(clean[:30].mean() - clean[30:].mean()) < 0.1)
        True
    """
    features, names, kept = _checked(features, batches, covariates)
    member = np.array([[b == name for name in names] for b in batches], dtype=np.float64)
    sizes = member.sum(axis=0)
    if sizes.min() < _LEAST:
        raise DataError(
            f"a scanner has {int(sizes.min())} patient in the training part; what it adds needs two or more"
        )
    centre = kept.mean(axis=0)
    design = np.hstack([member, kept - centre])
    if np.linalg.matrix_rank(design) < design.shape[1]:
        raise DataError(
            "a covariate is told exactly by scanners or other covariates: their effects can't be told apart"
        )
    fitted, *_ = np.linalg.lstsq(design, features, rcond=None)
    mean = sizes / sizes.sum() @ fitted[: len(names)]
    effects = fitted[len(names) :]
    deviation = np.sqrt(((features - design @ fitted) ** 2).mean(axis=0))
    fixed = deviation <= 1e-12 * np.maximum(1.0, np.abs(mean))
    deviation = np.where(fixed, 1.0, deviation)
    standard = (features - mean - (kept - centre) @ effects) / deviation
    shifts, scales = [], []
    for column in range(len(names)):
        own = standard[member[:, column] > 0]
        shift, square = own.mean(axis=0), own.var(axis=0, ddof=1)
        square = np.where(fixed | (square <= 0), 1.0, square)
        if shrink and np.count_nonzero(~fixed) > 1:
            shift, square = _shrunk(own, shift, square, ~fixed)
        shifts.append(shift)
        scales.append(np.sqrt(square))
    return ComBat(names, mean, deviation, np.array(shifts), np.array(scales), effects, centre, fixed)


def _shrunk(
    own: Table, shift: Float[np.ndarray, "features"], square: Float[np.ndarray, "features"], used: np.ndarray
) -> tuple[Float[np.ndarray, "features"], Float[np.ndarray, "features"]]:
    """Draw a scanner's estimates towards what it does to features in general."""
    n = len(own)
    middle, spread = shift[used].mean(), shift[used].var(ddof=1)
    m, v = square[used].mean(), square[used].var(ddof=1)
    if spread <= 0 or v <= 0:
        return shift, square
    # An inverse gamma distribution of that mean and variance.
    shape, rate = (2 * v + m**2) / v, (m * v + m**3) / v
    now, wide = shift.copy(), square.copy()
    for _ in range(_ROUNDS):
        new = (n * spread * shift + wide * middle) / (n * spread + wide)
        sums = ((own - new) ** 2).sum(axis=0)
        wider = (rate + sums / 2) / (n / 2 + shape - 1)
        change = max(float(np.abs(new - now).max()), float(np.abs(wider / wide - 1).max()))
        now, wide = new, wider
        if change < _CONVERGED:
            break
    return np.where(used, now, shift), np.where(used, wide, square)


def _checked(
    features: Table, batches: Sequence[str], covariates: Float[np.ndarray, "n covariates"] | None
) -> tuple[Table, tuple[str, ...], Float[np.ndarray, "n covariates"]]:
    features = np.asarray(features, dtype=np.float64)
    kept = np.zeros((len(features), 0)) if covariates is None else np.asarray(covariates, dtype=np.float64)
    if features.ndim != 2 or len(batches) != len(features) or len(kept) != len(features):
        raise ConfigError("features, scanners and covariates need a row for each patient")
    if not (np.isfinite(features).all() and np.isfinite(kept).all()):
        raise DataError("harmonisation takes finite numbers alone; leave out or fill in what is missing first")
    return features, tuple(sorted(set(batches))), kept
