"""How good decisions are: counts of right and wrong ones, and the figures made of them.

Two kinds of decision: yes or no (`binary_counts`, whose properties are the figures), and one of several classes
(functions on numbers of classes). A share of nothing is NaN: there is no sensitivity where nobody has the finding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Int64

from isocenter.core.errors import ConfigError, DataError
from isocenter.evaluate.tables import check_classes, check_same_length

__all__ = [
    "BinaryCounts",
    "accuracy",
    "balanced_accuracy",
    "binary_counts",
    "confusion_matrix",
    "f1_macro",
    "f1_per_class",
    "kappa",
    "mcc",
]


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


@dataclass(frozen=True)
class BinaryCounts:
    """Decisions for or against a finding.

    Args:
        true_positive: Have it, and were said to.
        false_positive: Have it not, and were said to.
        false_negative: Have it, and were said not to.
        true_negative: Have it not, and were said not to.

    Source:
        Maier-Hein et al., Nature Methods 2024 (Metrics Reloaded), for all figures.

    Example:
        >>> c = BinaryCounts(true_positive=40, false_positive=10, false_negative=10, true_negative=140)
        >>> c.sensitivity, round(c.specificity, 4), c.f1, round(c.mcc, 4), round(c.positive_likelihood_ratio, 6)
        (0.8, 0.9333, 0.8, 0.7333, 12.0)
    """

    true_positive: int
    false_positive: int
    false_negative: int
    true_negative: int

    @property
    def cases(self) -> int:
        """All decisions."""
        return self.true_positive + self.false_positive + self.false_negative + self.true_negative

    @property
    def prevalence(self) -> float:
        """Share of cases that have it."""
        return _share(self.true_positive + self.false_negative, self.cases)

    @property
    def sensitivity(self) -> float:
        """Share found of those that have it (recall, true positive rate)."""
        return _share(self.true_positive, self.true_positive + self.false_negative)

    @property
    def specificity(self) -> float:
        """Share left alone of those that have it not (true negative rate)."""
        return _share(self.true_negative, self.true_negative + self.false_positive)

    @property
    def positive_predictive_value(self) -> float:
        """Share that have it of those said to (precision); falls with the prevalence."""
        return _share(self.true_positive, self.true_positive + self.false_positive)

    @property
    def negative_predictive_value(self) -> float:
        """Share that have it not of those said not to."""
        return _share(self.true_negative, self.true_negative + self.false_negative)

    @property
    def accuracy(self) -> float:
        """Share of right decisions; high for whoever always says no to what is rare."""
        return _share(self.true_positive + self.true_negative, self.cases)

    @property
    def balanced_accuracy(self) -> float:
        """Mean of sensitivity and specificity; 0.5 is chance."""
        return (self.sensitivity + self.specificity) / 2

    @property
    def youden(self) -> float:
        """Sensitivity plus specificity minus one; 0 is chance."""
        return self.sensitivity + self.specificity - 1

    @property
    def f1(self) -> float:
        """Harmonic mean of sensitivity and positive predictive value (Dice of decisions)."""
        both = 2 * self.true_positive
        return _share(both, both + self.false_positive + self.false_negative)

    @property
    def mcc(self) -> float:
        """Matthews correlation coefficient, -1 to 1; 0 where all cases, or all decisions, are of one kind.

        Source:
            Matthews, Biochimica et Biophysica Acta 1975.
        """
        tp, fp, fn, tn = self.true_positive, self.false_positive, self.false_negative, self.true_negative
        square = (tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)
        return float((tp * tn - fp * fn) / np.sqrt(float(square))) if square else 0.0

    @property
    def positive_likelihood_ratio(self) -> float:
        """How much a yes raises the odds; infinite without a false positive, NaN where neither rate is known."""
        return _ratio(self.sensitivity, 1 - self.specificity, self.false_positive == 0)

    @property
    def negative_likelihood_ratio(self) -> float:
        """How much a no lowers the odds; infinite where no case without it is left alone."""
        return _ratio(1 - self.sensitivity, self.specificity, self.true_negative == 0)


def _ratio(upper: float, lower: float, nothing_below: bool) -> float:
    if np.isnan(upper) or np.isnan(lower):
        return float("nan")
    if nothing_below:
        return float("inf") if upper > 0 else float("nan")
    return upper / lower


def binary_counts(truth: Bool[np.ndarray, " n"], said: Bool[np.ndarray, " n"]) -> BinaryCounts:
    """Count decisions for or against a finding.

    Args:
        truth: Who has it.
        said: Who was said to.

    Raises:
        DataError: No case, or lengths that differ.

    Example:
        >>> binary_counts(np.array([True, True, False]), np.array([True, False, False])).sensitivity
        0.5
    """
    check_same_length(truth, said)
    hit = int((truth & said).sum())
    positive, called = int(truth.sum()), int(said.sum())
    return BinaryCounts(hit, called - hit, positive - hit, len(truth) - positive - called + hit)


def confusion_matrix(
    truth: Int[np.ndarray, " n"], said: Int[np.ndarray, " n"], *, classes: int
) -> Int64[np.ndarray, "classes classes"]:
    """Count decisions for one of several classes: rows are the truth, columns what was said.

    Raises:
        DataError: No case, lengths that differ, or a class that there is not.

    Example:
        >>> confusion_matrix(np.array([0, 1, 1]), np.array([0, 1, 0]), classes=2).tolist()
        [[1, 0], [1, 1]]
    """
    check_same_length(truth, said)
    for numbers in (truth, said):
        check_classes(numbers, classes)
    counts = np.bincount(truth.astype(np.int64) * classes + said.astype(np.int64), minlength=classes**2)
    return counts.astype(np.int64).reshape(classes, classes)


def accuracy(truth: Int[np.ndarray, " n"], said: Int[np.ndarray, " n"]) -> float:
    """Return the share of right decisions.

    Raises:
        DataError: No case, or lengths that differ.
    """
    check_same_length(truth, said)
    return float((truth == said).mean())


def _matrix(truth: Int[np.ndarray, " n"], said: Int[np.ndarray, " n"]) -> Int64[np.ndarray, "c c"]:
    check_same_length(truth, said)
    return confusion_matrix(truth, said, classes=int(max(truth.max(), said.max())) + 1)


def balanced_accuracy(truth: Int[np.ndarray, " n"], said: Int[np.ndarray, " n"]) -> float:
    """Return the mean over the classes that occur of the share found of each.

    Raises:
        DataError: No case, lengths that differ, or a class below 0.

    Source:
        Brodersen et al., ICPR 2010.
    """
    counts = _matrix(truth, said)
    sizes = counts.sum(axis=1)
    return float((np.diag(counts)[sizes > 0] / sizes[sizes > 0]).mean())


def f1_per_class(
    truth: Int[np.ndarray, " n"], said: Int[np.ndarray, " n"], *, classes: int
) -> Float[np.ndarray, " classes"]:
    """Return the F1 of each class against the rest; NaN for one that neither occurs nor was said.

    Raises:
        DataError: As `confusion_matrix`.
    """
    counts = confusion_matrix(truth, said, classes=classes)
    both = counts.sum(axis=0) + counts.sum(axis=1)
    return 2 * np.diag(counts) / np.where(both > 0, both, np.nan)


def f1_macro(truth: Int[np.ndarray, " n"], said: Int[np.ndarray, " n"], *, classes: int) -> float:
    """Return the mean F1 over the classes that occur or were said.

    Raises:
        DataError: As `confusion_matrix`.
    """
    return float(np.nanmean(f1_per_class(truth, said, classes=classes)))


def mcc(truth: Int[np.ndarray, " n"], said: Int[np.ndarray, " n"]) -> float:
    """Return the Matthews correlation coefficient of several classes, -1 to 1; 0 where one side has one class alone.

    Raises:
        DataError: No case, lengths that differ, or a class below 0.

    Source:
        Gorodkin, Computational Biology and Chemistry 2004.
    """
    counts = _matrix(truth, said).astype(np.float64)
    rows, columns, all_of = counts.sum(axis=1), counts.sum(axis=0), counts.sum()
    square = (all_of**2 - (rows**2).sum()) * (all_of**2 - (columns**2).sum())
    return float((np.trace(counts) * all_of - rows @ columns) / np.sqrt(square)) if square > 0 else 0.0


def kappa(
    truth: Int[np.ndarray, " n"],
    said: Int[np.ndarray, " n"],
    *,
    classes: int,
    weights: Literal["none", "linear", "quadratic"] = "none",
) -> float:
    """Return Cohen's kappa: agreement beyond chance; weighted where classes are in order (grades, stages).

    Args:
        truth: Number of the class.
        said: Number of the class that was said.
        classes: How many there are.
        weights: How much worse it is to be two classes off than one.

    Raises:
        DataError: As `confusion_matrix`; or both sides are of one and the same class, where chance alone agrees.
        ConfigError: No such weights.

    Source:
        Cohen, Educational and Psychological Measurement 1960, and Psychological Bulletin 1968 (weights).
    """
    powers = {"none": 0, "linear": 1, "quadratic": 2}
    if weights not in powers:
        raise ConfigError(f"weights must be one of {', '.join(powers)}, got {weights!r}")
    counts = confusion_matrix(truth, said, classes=classes).astype(np.float64)
    apart = np.abs(np.subtract.outer(np.arange(classes), np.arange(classes))).astype(np.float64)
    cost = (apart > 0).astype(np.float64) if weights == "none" else apart ** powers[weights]
    expected = np.outer(counts.sum(axis=1), counts.sum(axis=0)) / counts.sum()
    chance = float((cost * expected).sum())
    if not chance:
        raise DataError("both sides are of one and the same class: there is no agreement beyond chance")
    return 1 - float((cost * counts).sum()) / chance
