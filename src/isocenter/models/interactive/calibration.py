"""What turns the interactive network's logits into probabilities and expected overlaps that can be believed.

The numbers stand on the card of the weights; how they were fitted is told in `isocenter.learn.interactive_calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from isocenter.core.errors import ConfigError

__all__ = ["Calibration"]


@dataclass(frozen=True)
class Calibration:
    """Corrections of a network's logits.

    Args:
        temperature: Divides the logit of every voxel; masks at 0.5 stay what they are.
        overlap_slope: Of the line through the logit of the predicted overlap.
        overlap_offset: Of the same line.

    Raises:
        ConfigError: The temperature or the slope is not positive.

    Example:
        >>> Calibration(temperature=2.0).probability(torch.tensor([0.0, 2.0])).tolist()
        [0.5, 0.7310585975646973]
    """

    temperature: float = 1.0
    overlap_slope: float = 1.0
    overlap_offset: float = 0.0

    def __post_init__(self) -> None:
        if not (self.temperature > 0 and self.overlap_slope > 0):
            raise ConfigError(f"a calibration has a positive temperature and slope, got {self}")

    @classmethod
    def from_card(cls, calibration: Mapping[str, object]) -> Calibration:
        """Read the corrections from a card; what it does not say is left as it is.

        Raises:
            ConfigError: A value is not a number, or out of range.
        """
        names = ("temperature", "overlap_slope", "overlap_offset")
        try:
            return cls(**{name: float(str(calibration[name])) for name in names if name in calibration})
        except ValueError as error:
            raise ConfigError("the card's calibration is not made of numbers") from error

    def probability(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the probability of every voxel, 0 to 1."""
        return torch.sigmoid(logits / self.temperature)

    def overlap(self, logits: torch.Tensor) -> torch.Tensor:
        """Return the expected IoU, 0 to 1."""
        return torch.sigmoid(self.overlap_slope * logits + self.overlap_offset)
