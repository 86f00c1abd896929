"""Answers window by window for images larger than what a network looks at.

Windows overlap by half; each counts most in its middle, so that no seam shows.

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

__all__ = ["device_of", "slide", "views_of"]

Looks = Callable[[torch.Tensor], torch.Tensor]


def device_of(net: nn.Module) -> torch.device:
    """Return where a network's weights are; the processor, where it has none."""
    first = next(net.parameters(), None)
    return torch.device("cpu") if first is None else first.device


def _starts(length: int, window: int) -> list[int]:
    """Return where windows begin along an axis: evenly, overlapping by half or more."""
    if length <= window:
        return [0]
    count = int(np.ceil((length - window) / (window / 2))) + 1
    return [round(i * (length - window) / (count - 1)) for i in range(count)]


def _bell(window: Sequence[int]) -> Float[np.ndarray, "*window"]:
    out = np.ones((1,) * len(window), dtype=np.float32)
    for axis, n in enumerate(window):
        gap = (np.arange(n) - (n - 1) / 2) / (n / 8)
        bell = np.exp(-0.5 * gap**2).astype(np.float32)
        out = out * np.expand_dims(bell, tuple(a for a in range(len(window)) if a != axis))
    return np.maximum(out, 1e-3)


def slide(
    look: Looks, image: Float[np.ndarray, "channel *space"], window: Sequence[int], classes: int
) -> Float[np.ndarray, "classes *space"]:
    """Return the probabilities of an image.

    Args:
        look: From (1, channel, *window) to probabilities (1, classes, *window), on any device.
        image: Prepared; sides smaller than the window are padded with 0 and cut again.
        window: What the network looks at.
        classes: Channels of an answer.
    """
    space = image.shape[1:]
    extra = [max(0, w - n) for n, w in zip(space, window, strict=True)]
    padded = np.pad(image, [(0, 0), *((e // 2, e - e // 2) for e in extra)])
    total = np.zeros((classes, *padded.shape[1:]), dtype=np.float32)
    weight = np.zeros(padded.shape[1:], dtype=np.float32)
    bell = _bell(window)
    for corner in itertools.product(*(_starts(n, w) for n, w in zip(padded.shape[1:], window, strict=True))):
        place = tuple(slice(c, c + w) for c, w in zip(corner, window, strict=True))
        part = torch.from_numpy(np.ascontiguousarray(padded[(slice(None), *place)]))[None]
        with torch.inference_mode():
            found = look(part)[0].float().cpu().numpy()
        total[(slice(None), *place)] += found * bell
        weight[place] += bell
    inner = tuple(slice(e // 2, e // 2 + n) for e, n in zip(extra, space, strict=True))
    return np.ascontiguousarray((total / weight)[(slice(None), *inner)])


def views_of(
    net: nn.Module,
    image: Float[np.ndarray, "channel *space"],
    window: Sequence[int],
    classes: int,
    mirror: Sequence[bool] = (),
) -> list[Float[np.ndarray, "classes *space"]]:
    """Return the probabilities of an image, and of each mirror image of it turned back; the answer is their mean.

    Args:
        net: From windows to logits.
        image: Prepared.
        window: What it looks at.
        classes: Background included.
        mirror: Axes (the last ones of the image) along which it also looks at the mirror image.
    """
    dims, device = image.ndim - 1, device_of(net)
    flips: list[tuple[int, ...]] = [(), *((axis - dims,) for axis in range(dims) if mirror and mirror[axis - dims])]

    def look(flip: tuple[int, ...]) -> Looks:
        def one(x: torch.Tensor) -> torch.Tensor:
            x = x.to(device)
            answer: torch.Tensor = net(x.flip(flip) if flip else x).float().softmax(1)
            return answer.flip(flip) if flip else answer

        return one

    return [slide(look(flip), image, window, classes) for flip in flips]
