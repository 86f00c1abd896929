"""A prompt: what a person points at, in patient millimetres, so that it survives resampling."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError, GeometryError
from isocenter.core.geometry import Geometry

__all__ = ["Prompt"]

_LEAST_POINTS = {"point": 1, "box": 2, "scribble": 1, "lasso": 3, "text": 0, "example": 0}


@dataclass(frozen=True, eq=False)
class Prompt:
    """One act of pointing.

    Args:
        kind: "point", "box" (two opposite corners), "scribble" (a polyline), "lasso" (a closed polygon in one plane),
            "text" or "example".
        coordinates: (n, 3). In frame "lps_mm": DICOM LPS (x, y, z) in mm. In frame "index_zyx": voxel indices, only
            for images whose place in the patient is not known.
        positive: True for "this belongs to it", False for "this does not".
        frame: "lps_mm" or "index_zyx".
        label: Name of the structure meant; prompts with one label make one segment.
        text: The words of a text prompt.

    Raises:
        ConfigError: Unknown kind or frame, too few points, or coordinates that are not finite.
    """

    kind: Literal["point", "box", "scribble", "lasso", "text", "example"]
    coordinates: Float[np.ndarray, "n 3"] = field(default_factory=lambda: np.zeros((0, 3)))
    positive: bool = True
    frame: Literal["lps_mm", "index_zyx"] = "lps_mm"
    label: str = "object"
    text: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _LEAST_POINTS:
            raise ConfigError(f"prompt kind must be one of {', '.join(_LEAST_POINTS)}; got {self.kind!r}")
        if self.frame not in ("lps_mm", "index_zyx"):
            raise ConfigError(f"prompt frame must be lps_mm or index_zyx; got {self.frame!r}")
        points = (
            np.asarray(self.coordinates, dtype=np.float64).reshape(-1, 3)
            if np.size(self.coordinates)
            else (np.zeros((0, 3)))
        )
        if not np.isfinite(points).all():
            raise ConfigError(f"coordinates of a {self.kind} prompt must be finite")
        if len(points) < _LEAST_POINTS[self.kind] or (
            self.kind in ("point", "box") and len(points) != _LEAST_POINTS[self.kind]
        ):
            raise ConfigError(f"a {self.kind} prompt can't have {len(points)} points")
        points.setflags(write=False)
        object.__setattr__(self, "coordinates", points)

    def index_zyx(self, geometry: Geometry) -> Float[np.ndarray, "n 3"]:
        """Return the coordinates as fractional indices (z, y, x) of a grid.

        Raises:
            GeometryError: The prompt is in patient mm and the grid has no place in the patient.
        """
        if self.frame == "index_zyx":
            return np.array(self.coordinates, dtype=np.float64)
        if geometry.affine is None:
            raise GeometryError(
                "the prompt is in patient millimetres and this image has no place in the patient; give it in frame "
                "'index_zyx' (slice, row, column)"
            )
        return geometry.to_index(self.coordinates)
