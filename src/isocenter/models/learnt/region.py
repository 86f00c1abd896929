"""The part of a picture that a network looks at: the box round an organ that embedded weights outline.

With a few hundred pictures to learn from, where the organ lies in the frame is most of what differs between them. Cut
to the organ, a network finds the same thing at the same place.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError, PixelError, WeightsError
from isocenter.models.segmentation import build_unet, segment_picture
from isocenter.models.unet import UNet
from isocenter.models.weights import load_weights

__all__ = ["REGIONS", "Region"]

REGIONS = {"lungs": "lungs-cxr"}
"""Names of organs, and the embedded weights that outline them."""
_MARGIN = 0.08
_SHARES = (0.08, 0.75)
"""Share of the picture that the organ covers; the limits of `lungs-cxr`, which lie outside everything it has seen."""


@lru_cache(maxsize=4)
def _outliner(weights: str) -> tuple[UNet, int, str]:
    loaded = load_weights(weights)
    return build_unet(loaded), int(str(loaded.card.preparation["side_pixels"])), loaded.card.sha256


@dataclass(frozen=True)
class Region:
    """An organ, and the weights that find it.

    Args:
        organ: One of `REGIONS`.
        sha256: Of the weights.

    Raises:
        ConfigError: There is no such organ.
    """

    organ: str
    sha256: str

    def __post_init__(self) -> None:
        if self.organ not in REGIONS:
            raise ConfigError(f"no region {self.organ!r}; there are {', '.join(REGIONS)}")

    @classmethod
    def of(cls, organ: str) -> Region:
        """Return the region of an organ with the weights of this installation.

        Raises:
            ConfigError: There is no such organ.
            WeightsError: Its weights are missing or altered.
        """
        if organ not in REGIONS:
            raise ConfigError(f"no region {organ!r}; there are {', '.join(REGIONS)}")
        return cls(organ, _outliner(REGIONS[organ])[2])

    def box(self, picture: Float[np.ndarray, "rows columns"]) -> tuple[slice, slice]:
        """Return the rows and columns of the organ, with a margin.

        Args:
            picture: Intensities in any unit, larger is brighter, upright.

        Raises:
            PixelError: The picture is flat or not finite, or the organ is not there.
            WeightsError: This installation has other weights than those that the network learnt with.
        """
        net, side, sha256 = _outliner(REGIONS[self.organ])
        if sha256 != self.sha256:
            raise WeightsError(f"the weights {REGIONS[self.organ]!r} are not those that it learnt with; adapt again")
        _, labels = segment_picture(net, picture, side)
        if not _SHARES[0] <= float(labels.mean()) <= _SHARES[1]:
            raise PixelError(f"the {self.organ} that it looks at were not found in this picture")
        found = []
        for axis in (0, 1):
            there = np.flatnonzero(labels.any(axis=1 - axis))
            margin = round(_MARGIN * (there[-1] + 1 - there[0]))
            found.append(slice(max(0, int(there[0]) - margin), min(labels.shape[axis], int(there[-1]) + 1 + margin)))
        return found[0], found[1]
