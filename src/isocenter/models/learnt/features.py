"""What a network sees in a whole image: the numbers that a gate compares with those of the images it learnt from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from isocenter.models.learnt.network import VectorNet
from isocenter.models.learnt.sliding import device_of
from isocenter.models.recall import look_once

__all__ = ["embeddings_of", "network_features"]

_MOST_WINDOWS = 8


def network_features(
    net: nn.Module, image: Float[np.ndarray, "channel *space"], window: Sequence[int]
) -> dict[str, np.ndarray]:
    """Return the network's numbers of an image.

    Args:
        net: A learnt network, in evaluation mode.
        image: Prepared.
        window: What the network looks at.

    Returns:
        "embedding": of the encoder, or what the head sees of it, mean of at most 8 windows spread over the image.
        "energy": minus the logarithm of the sum of the exponentials of logits, where the network tells classes or
        findings apart.

    Source:
        Liu et al., NeurIPS 2020 (energy).
    """
    device = device_of(net)
    with torch.inference_mode():
        parts = [torch.from_numpy(part)[None].to(device) for part in _windows(image, window)]
        see = net.embed if isinstance(net, VectorNet) else net.encoder.embed  # type: ignore[union-attr]
        seen = [look_once(net, part, "embedding", lambda x: see(x)[0].float()) for part in parts]  # type: ignore[operator]
        embedding = torch.stack(seen).mean(0)
        out = {"embedding": embedding.cpu().numpy().astype(np.float64)}
        if isinstance(net, VectorNet):
            logits = net.head(embedding[None])[0]
            if len(logits) > 1:
                out["energy"] = np.array([-float(torch.logsumexp(logits, 0))])
    return out


def _windows(image: Float[np.ndarray, "channel *space"], window: Sequence[int]) -> list[np.ndarray]:
    """Cut windows spread evenly over an image; one that is smaller is padded with 0."""
    space = image.shape[1:]
    extra = [max(0, w - n) for n, w in zip(space, window, strict=True)]
    padded = np.pad(image, [(0, 0), *((e // 2, e - e // 2) for e in extra)])
    starts = [
        [0] if n <= w else [0, n - w] if n < 2 * w else [(n - w) // 4, 3 * (n - w) // 4]
        for n, w in zip(padded.shape[1:], window, strict=True)
    ]
    corners = list(itertools.product(*starts))[:_MOST_WINDOWS]
    return [
        np.ascontiguousarray(padded[(slice(None), *(slice(c, c + w) for c, w in zip(corner, window, strict=True)))])
        for corner in corners
    ]


def embeddings_of(
    net: VectorNet, images: Sequence[Float[np.ndarray, "channel *space"]], *, chunk: int = 32
) -> Float[np.ndarray, "n features"]:
    """Return what the head of a network for whole images sees of each.

    Args:
        net: In evaluation mode.
        images: Prepared, of one size.
        chunk: Images at a time.
    """
    found, device = [], device_of(net)
    with torch.inference_mode():
        for first in range(0, len(images), chunk):
            x = torch.from_numpy(np.stack(images[first : first + chunk]).astype(np.float32)).to(device)
            found.append(net.embed(x).float().cpu().numpy())
    return np.concatenate(found).astype(np.float64)
