"""How radiomic features are computed: which voxels count, how intensities become levels, which features are wanted."""

from __future__ import annotations

from dataclasses import dataclass, field

from isocenter.core.errors import ConfigError
from isocenter.tasks.phenotype.names import AGGREGATIONS, FAMILIES

__all__ = ["METHODS", "MOST_LEVELS", "Discretisation", "FeatureSettings"]

METHODS = ("fixed bin number", "fixed bin size", "none")
MOST_LEVELS = 1024


@dataclass(frozen=True)
class Discretisation:
    """How intensities become grey levels.

    Args:
        method: "fixed bin number" (FBN: as many levels as `bins`, over the region's own range), "fixed bin size" (FBS:
            levels `width` wide, from the lowest intensity that counts), or "none" (intensities are whole levels from 1
            already).
        bins: Of a fixed number.
        width: Of a fixed size, in the image's unit.

    Raises:
        ConfigError: There is no such method, or its number is missing or not in range.
    """

    method: str = "fixed bin number"
    bins: int = 32
    width: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise ConfigError(f"discretisation must be one of {', '.join(METHODS)}, got {self.method!r}")
        if self.method == "fixed bin number" and not 2 <= self.bins <= MOST_LEVELS:
            raise ConfigError(f"a fixed bin number must be 2 to {MOST_LEVELS}, got {self.bins}")
        if self.method == "fixed bin size" and not (self.width is not None and 0 < self.width < float("inf")):
            raise ConfigError("a fixed bin size needs a width above 0, in the image's unit")


@dataclass(frozen=True)
class FeatureSettings:
    """What is computed, and how.

    Args:
        discretisation: For the histogram and texture.
        volume_discretisation: For the intensity-volume histogram; None takes what fits the quantity: whole HU as they
            are, SUV by 0.1, all else in 1000 bins.
        intensity_range: Lowest and highest intensity that counts, each or both None; voxels beyond are left out of all
            but the shape (range resegmentation).
        outlier_deviations: Voxels farther from the mean than this many standard deviations are left out too, after the
            range; None for none.
        families: Starts of tags, of `FAMILIES`.
        aggregations: Ends of tags, of `AGGREGATIONS`.

    Raises:
        ConfigError: A family or aggregation is not known, the range is upside down, or the deviations are not above 0.
    """

    discretisation: Discretisation = field(default_factory=Discretisation)
    volume_discretisation: Discretisation | None = None
    intensity_range: tuple[float | None, float | None] = (None, None)
    outlier_deviations: float | None = None
    families: tuple[str, ...] = tuple(FAMILIES)
    aggregations: tuple[str, ...] = tuple(AGGREGATIONS)

    def __post_init__(self) -> None:
        for given, known, what in (
            (self.families, FAMILIES, "family"), (self.aggregations, AGGREGATIONS, "aggregation")
        ):  # fmt: skip
            wrong = [g for g in given if g not in known]
            if wrong or not given:
                raise ConfigError(f"no {what} {wrong[0] if wrong else ''!r}; there are {', '.join(known)}")
        low, high = self.intensity_range
        if low is not None and high is not None and low >= high:
            raise ConfigError(f"the lowest intensity that counts must be below the highest, got {low} and {high}")
        if self.outlier_deviations is not None and self.outlier_deviations <= 0:
            raise ConfigError(f"outlier deviations must be above 0, got {self.outlier_deviations}")
