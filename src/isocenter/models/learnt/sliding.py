"""Answers window by window for images larger than what a network looks at.

Windows overlap by half or more; each counts most in its middle, so that no seam shows. Where they stand depends on the
image's place, not on its extent: an image that grows at either end keeps its windows, all but those at its ends.

Source:
    Isensee et al., Nature Methods 2021 (Gaussian weights).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from isocenter.models.recall import look_once

__all__ = ["device_of", "look_ahead", "slide", "views_of"]

Looks = Callable[[torch.Tensor], torch.Tensor]


def device_of(net: nn.Module) -> torch.device:
    """Return where a network's weights are; the processor, where it has none."""
    first = next(net.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def _starts(length: int, window: int, first: int = 0) -> list[int]:
    """Return where windows begin along an axis: every half window of the lattice, and at both ends.

    Args:
        length: Of the axis.
        window: Of the window.
        first: Where the axis begins on the lattice.

    Example:
        >>> _starts(20, 8), _starts(23, 8, first=-3)
        ([0, 4, 8, 12], [0, 3, 7, 11, 15])
    """
    if length <= window:
        return [0]
    step = max(1, window // 2)
    return sorted({0, *range(-first % step, length - window + 1, step), length - window})


def _bell(window: Sequence[int]) -> Float[np.ndarray, "*window"]:
    out = np.ones((1,) * len(window), dtype=np.float32)
    for axis, n in enumerate(window):
        gap = (np.arange(n) - (n - 1) / 2) / (n / 8)
        bell = np.exp(-0.5 * gap**2).astype(np.float32)
        out = out * np.expand_dims(bell, tuple(a for a in range(len(window)) if a != axis))
    return np.maximum(out, 1e-3)


def slide(
    look: Looks,
    image: Float[np.ndarray, "channel *space"],
    window: Sequence[int],
    classes: int,
    first: Sequence[int] = (),
) -> Float[np.ndarray, "classes *space"]:
    """Return the probabilities of an image.

    Args:
        look: From (1, channel, *window) to probabilities (1, classes, *window), on any device.
        image: Prepared; sides smaller than the window are padded with 0 and cut again.
        window: What the network looks at.
        classes: Channels of an answer.
        first: Where the image's first voxel lies on a lattice that does not grow with the image; zeros where not known.
    """
    space = image.shape[1:]
    lattice = tuple(first) or (0,) * len(space)
    extra = [max(0, w - n) for n, w in zip(space, window, strict=True)]
    padded = np.pad(image, [(0, 0), *((e // 2, e - e // 2) for e in extra)])
    total = np.zeros((classes, *padded.shape[1:]), dtype=np.float32)
    weight = np.zeros(padded.shape[1:], dtype=np.float32)
    bell = _bell(window)
    starts = [_starts(n, w, f) for n, w, f in zip(padded.shape[1:], window, lattice, strict=True)]
    for corner in itertools.product(*starts):
        place = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        part = torch.from_numpy(np.ascontiguousarray(padded[(slice(None), *place)]))[None]
        with torch.inference_mode():
            found = look(part)[0].float().cpu().numpy()
        total[(slice(None), *place)] += found * bell
        weight[place] += bell
    inner = tuple(slice(e // 2, e // 2 + n) for e, n in zip(extra, space, strict=True))
    return np.ascontiguousarray((total / weight)[(slice(None), *inner)])


def look_ahead(
    net: nn.Module,
    image: Float[np.ndarray, "channel *space"],
    window: Sequence[int],
    mirror: Sequence[bool],
    first: Sequence[int],
    grows: int,
) -> int:
    """Look at those windows of an image that it will keep when it grows; return how many they are.

    Args:
        net: From windows to logits.
        image: Prepared, as far as it has come.
        window: What the network looks at.
        mirror: See `views_of`.
        first: See `slide`.
        grows: Axis along which more will come, at either end.
    """
    space = image.shape[1:]
    if len(first) != len(space) or space[grows] < window[grows]:
        return 0
    extra = [max(0, w - n) for n, w in zip(space, window, strict=True)]
    padded = np.pad(image, [(0, 0), *((e // 2, e - e // 2) for e in extra)])
    starts = [_starts(n, w, f) for n, w, f in zip(padded.shape[1:], window, first, strict=True)]
    step = max(1, window[grows] // 2)
    starts[grows] = [start for start in starts[grows] if (start + first[grows]) % step == 0]
    looks = _looks(net, len(space), mirror)
    corners = list(itertools.product(*starts))
    for corner in corners:
        place = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        part = torch.from_numpy(np.ascontiguousarray(padded[(slice(None), *place)]))[None]
        with torch.inference_mode():
            for look in looks:
                look(part)
    return len(corners)


def views_of(
    net: nn.Module,
    image: Float[np.ndarray, "channel *space"],
    window: Sequence[int],
    classes: int,
    mirror: Sequence[bool] = (),
    first: Sequence[int] = (),
) -> list[Float[np.ndarray, "classes *space"]]:
    """Return the probabilities of an image, and of each mirror image of it turned back; the answer is their mean.

    Args:
        net: From windows to logits.
        image: Prepared.
        window: What it looks at.
        classes: Background included.
        mirror: Axes (the last ones of the image) along which it also looks at the mirror image.
        first: See `slide`.
    """
    looks = _looks(net, image.ndim - 1, mirror)
    return [slide(look, image, window, classes, first) for look in looks]


def _looks(net: nn.Module, dims: int, mirror: Sequence[bool]) -> list[Looks]:
    """Return what a network says of a window: of itself, and of each mirror image turned back."""
    device = device_of(net)
    flips: list[tuple[int, ...]] = [(), *((axis - dims,) for axis in range(dims) if mirror and mirror[axis - dims])]

    def look(flip: tuple[int, ...]) -> Looks:
        def ask(x: torch.Tensor) -> torch.Tensor:
            answer: torch.Tensor = net(x.flip(flip) if flip else x).float().softmax(1)
            return answer.flip(flip) if flip else answer

        return lambda x: look_once(net, x.to(device), f"softmax of {flip}", ask)

    return [look(flip) for flip in flips]
