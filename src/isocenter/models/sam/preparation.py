"""From a slice to the square picture that a SAM takes, from voxels to its pixels, and from its logits back to voxels.

Done here, for the image processors of SAM 2 need torchvision. Three ways are published:

| way | resize | numbers |
| --- | --- | --- |
| sam | longer side to 1024, the rest padded with 0 below and to the right | ImageNet's mean and deviation |
| sam2 | to 1024 x 1024, whatever the shape | ImageNet's mean and deviation |
| medsam | to 1024 x 1024, cubic | 0..1, no mean and no deviation |

MedSAM was trained the third way, while the folder of its weights on the Hugging Face hub, and most examples, prepare
pictures the first way. By default the folder decides; ask for "medsam" to get the way it was trained.

Positions: voxel i is the middle of a cell that covers i - 0.5 to i + 0.5, and a resize maps cells, so voxel i of n lies
at (i + 0.5) * m / n - 0.5 of m pixels. (SAM's own processors map i to i * m / n, and are off by up to half a voxel.)

Source:
    Kirillov et al., ICCV 2023 (SAM); Ravi et al., 2024 (SAM 2); Ma et al., Nature Communications 2024 (MedSAM).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float
from torch.nn.functional import interpolate, pad

from isocenter.core.errors import ConfigError, WeightsError

__all__ = ["Preparation", "Way", "preparation_for", "window"]

Way = Literal["auto", "sam", "sam2", "medsam"]
Filter = Literal["bilinear", "bicubic"]
Three = tuple[float, float, float]

_MEAN: Three = (0.485, 0.456, 0.406)
_STD: Three = (0.229, 0.224, 0.225)
_FILTERS: dict[object, Filter] = {2: "bilinear", 3: "bicubic"}  # PIL's numbers, as Hugging Face writes them
_PERCENTILES = (1.0, 99.0)


def window(image: Float[np.ndarray, "z y x"]) -> Float[np.ndarray, "z y x"]:
    """Bring intensities of any range to 0..255: percentiles 1 and 99 of the whole image become its ends.

    Where the two are equal, the least and the greatest intensity are taken; an image of one intensity becomes 0.

    Example:
        >>> window(np.array([[[-1000.0, 0.0, 1000.0]]])).round(1).tolist()
        [[[0.0, 127.5, 255.0]]]
    """
    low, high = (float(v) for v in np.percentile(image, _PERCENTILES))
    if not high > low:
        low, high = float(image.min()), float(image.max())
    if not high > low:
        return np.zeros(image.shape, dtype=np.float32)
    return (np.clip((image - low) / (high - low), 0.0, 1.0) * 255.0).astype(np.float32)


@dataclass(frozen=True)
class Preparation:
    """How a slice becomes the picture that the network takes.

    Args:
        size: Side of the picture, pixels.
        square: True: both sides are resized to `size`; False: the longer one is, and the rest is padded with 0.
        mean: Taken off each channel, after `factor`.
        std: Each channel is divided by it.
        factor: What 0..255 is multiplied with.
        resample: How pixels are mixed; anti-aliased.
    """

    size: int
    square: bool
    mean: Three = _MEAN
    std: Three = _STD
    factor: float = 1 / 255
    resample: Filter = "bilinear"

    def resized(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Return height and width of a slice within the picture, pixels.

        Example:
            >>> Preparation(1024, square=False).resized((40, 64)), Preparation(1024, square=True).resized((40, 64))
            ((640, 1024), (1024, 1024))
        """
        if self.square:
            return self.size, self.size
        scale = self.size / max(shape)
        height, width = (max(1, int(n * scale + 0.5)) for n in shape)
        return height, width

    def pixels(self, plane: Float[np.ndarray, "h w"]) -> torch.Tensor:
        """Return the picture (1, 3, size, size), grey in all three channels.

        Args:
            plane: A slice in 0..255, see `window`.
        """
        height, width = self.resized((plane.shape[0], plane.shape[1]))
        grey = torch.from_numpy(np.ascontiguousarray(plane, dtype=np.float32))[None, None]
        small = interpolate(grey, (height, width), mode=self.resample, antialias=True, align_corners=False)
        three = small.clamp(0, 255).expand(1, 3, height, width) * self.factor
        mean, std = (torch.tensor(v, dtype=torch.float32).view(1, 3, 1, 1) for v in (self.mean, self.std))
        return pad((three - mean) / std, (0, self.size - width, 0, self.size - height))

    def points(self, index_yx: Float[np.ndarray, "n 2"], shape: tuple[int, int]) -> Float[np.ndarray, "n 2"]:
        """Return where voxels lie in the picture: x, y in pixels, the middle of the first pixel being 0.

        Args:
            index_yx: Row and column; whole numbers are voxel centres.
            shape: Height and width of the slice.

        Example:
            >>> Preparation(1024, square=False).points(np.array([[0.0, 0.0], [39.0, 63.0]]), (40, 64)).tolist()
            [[7.5, 7.5], [1015.5, 631.5]]
        """
        scale = np.array(self.resized(shape)) / np.array(shape)
        return np.ascontiguousarray(((index_yx + 0.5) * scale - 0.5)[:, ::-1])

    def box(self, corners_yx: Float[np.ndarray, "2 2"], shape: tuple[int, int]) -> Float[np.ndarray, "4"]:
        """Return x, y of the first and of the last pixel that still belong to a box, as the picture of a mask has them.

        Args:
            corners_yx: Row and column of the least and the greatest voxel that still belong to it.
            shape: Height and width of the slice.

        Example:
            >>> Preparation(1024, square=False).box(np.array([[0.0, 2.0], [39.0, 2.0]]), (40, 64)).tolist()
            [32.0, 0.0, 47.0, 639.0]
        """
        scale = np.array(self.resized(shape)) / np.array(shape)
        first, last = corners_yx[0] * scale, (corners_yx[1] + 1.0) * scale - 1.0
        middle = (first + last) / 2  # of a box that shrinks to less than a pixel
        return np.concatenate([np.minimum(first, middle)[::-1], np.maximum(last, middle)[::-1]])

    def back(self, logits: torch.Tensor, shape: tuple[int, int]) -> Float[np.ndarray, "h w"]:
        """Bring logits (1, 1, h, w) of the picture, at any resolution, back to the voxels of a slice."""
        if not self.square:
            height, width = self.resized(shape)
            whole = interpolate(logits, (self.size, self.size), mode="bilinear", align_corners=False)
            logits = whole[..., :height, :width]
        said = interpolate(logits, shape, mode="bilinear", align_corners=False)
        return said[0, 0].cpu().numpy().astype(np.float32, copy=False)


def _three(said: dict[str, Any], key: str, otherwise: Three) -> Three:
    values = said.get(key) or list(otherwise)
    listed = isinstance(values, list) and len(values) == 3
    if not listed or not all(isinstance(v, int | float) and np.isfinite(v) for v in values):
        raise WeightsError(f"the folder's {key} must be three numbers, not {values!r}")
    return float(values[0]), float(values[1]), float(values[2])


def _square(said: dict[str, Any], kind: str, size: int) -> bool:
    """Tell from the folder's words whether both sides are resized, and check that they are the network's."""
    asked = said.get("size")
    sides = asked if isinstance(asked, dict) else {}
    padded = said.get("pad_size")
    numbers = [v for v in (*sides.values(), *(padded if isinstance(padded, dict) else {}).values()) if v is not None]
    if any(v != size for v in numbers):
        raise WeightsError(
            f"the folder prepares pictures of {sorted(map(str, numbers))}, its network takes {size} pixels"
        )
    if sides.get("longest_edge"):
        return False
    return True if sides.get("height") else kind == "sam2"


def preparation_for(kind: str, size: int, said: dict[str, Any] | None, way: str = "auto") -> Preparation:
    """Return how pictures are prepared.

    Args:
        kind: "sam" or "sam2".
        size: Side of the picture that the network takes.
        said: What the folder says (size, mean, deviation, factor, filter); None where it says nothing.
        way: "auto" does what the folder says, and where it says nothing what was published for the kind; any other is
            done whatever the folder says.

    Raises:
        WeightsError: The folder says what can't be done, or what does not fit its network.
        ConfigError: No such way.
    """
    if way not in get_args(Way):
        raise ConfigError(f"a preparation is one of {', '.join(get_args(Way))}; got {way!r}")
    if way == "medsam":
        return Preparation(size, True, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), resample="bicubic")
    if way != "auto" or said is None:
        return Preparation(size, (kind if way == "auto" else way) == "sam2")
    resample = _FILTERS.get(said.get("resample", 2))
    if resample is None:
        raise WeightsError(
            f"the folder resizes with filter {said['resample']!r}; only 2 (bilinear) and 3 (bicubic) are done"
        )
    normal = said.get("do_normalize") is not False
    std = _three(said, "image_std", _STD) if normal else (1.0, 1.0, 1.0)
    if min(std) <= 0:
        raise WeightsError(f"the folder's image_std must be above zero, not {std}")
    factor = said.get("rescale_factor") or 1 / 255
    if not isinstance(factor, int | float) or not 0 < factor < np.inf:
        raise WeightsError(f"the folder's rescale_factor must be above zero, not {factor!r}")
    return Preparation(
        size,
        _square(said, kind, size),
        _three(said, "image_mean", _MEAN) if normal else (0.0, 0.0, 0.0),
        std,
        1.0 if said.get("do_rescale") is False else float(factor),
        resample,
    )
