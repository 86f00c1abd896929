"""Where networks looked: maps of what in an image speaks for an answer, on the prepared grid.

Two families. Gradients at a map of the network (Grad-CAM++, LayerCAM, HiResCAM) or at the image (gradient times input,
SmoothGrad) cost a way back each. Occlusion hides part after part and looks at what becomes of the answer: slower, and
of any network. `METHODS` holds all; `DEFAULT` is the one that did best (docs/results/evidence-maps.md).

What is explained is a log-odds: of a finding its logit, of a class its logit less the log-sum-exp of the others', of a
number or a risk the number. As in the answer itself, networks and their views of mirror images are averaged.

Source:
    Selvaraju et al., ICCV 2017; Chattopadhyay et al., WACV 2018 (Grad-CAM++); Jiang et al., IEEE TIP 2021 (LayerCAM);
    Draelos and Carin 2020 (HiResCAM); Shrikumar et al. 2016 (gradient times input); Smilkov et al. 2017 (SmoothGrad);
    Zeiler and Fergus, ECCV 2014 (occlusion).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy import ndimage
from torch import nn
from torch.nn import functional

from isocenter.core.errors import ConfigError
from isocenter.models.backbones import ViT
from isocenter.models.learnt.network import VectorNet

__all__ = ["DEFAULT", "METHODS", "Method", "Target", "evidence_maps", "hidden", "peak_region"]

Method = Literal["grad-cam++", "layer-cam", "hires-cam", "gradient", "smooth", "occlusion"]
DEFAULT: Method = "gradient"
METHODS: Mapping[Method, str] = MappingProxyType(
    {
        "grad-cam++": "Grad-CAM++ of the coarsest map",
        "layer-cam": "LayerCAM of the second coarsest map",
        "hires-cam": "HiResCAM of the coarsest map",
        "gradient": "gradient times input, smoothed",
        "smooth": "SmoothGrad of squared gradients, smoothed",
        "occlusion": "occlusion by a blurred copy, windows of an eighth of each side",
    }
)
_SMOOTH_COPIES, _SMOOTH_NOISE = 16, 0.15
_WINDOWS = {2: 8, 3: 4}
"""Windows of occlusion that tile each axis; they overlap by half."""
_CHUNK = 16


@dataclass(frozen=True)
class Target:
    """What is explained.

    Args:
        output: Which output of the network.
        exclusive: Whether outputs are classes of which one is true.
    """

    output: int
    exclusive: bool = False

    def of(self, logits: Float[torch.Tensor, "n outputs"]) -> Float[torch.Tensor, " n"]:
        """Return the log-odds (or the number) of each row."""
        mine = logits[:, self.output]
        if not self.exclusive or logits.shape[1] < 2:
            return mine
        others = [i for i in range(logits.shape[1]) if i != self.output]
        return mine - torch.logsumexp(logits[:, others], 1)


def evidence_maps(
    nets: Sequence[nn.Module],
    image: Float[np.ndarray, "channel *space"],
    targets: Sequence[Target],
    *,
    method: str = DEFAULT,
    mirror: Sequence[bool] = (),
) -> Float[np.ndarray, "targets networks *space"]:
    """Return what in an image speaks for answers, in the eyes of each network; what speaks against them is 0.

    Args:
        nets: Networks of one answer for the whole image, in evaluation mode; nothing in them is changed.
        image: Prepared.
        targets: What is explained.
        method: How.
        mirror: Axes (z, y, x; the last ones of the image) along which the answer also looks at the mirror image.

    Raises:
        ConfigError: There is no such method, or a network answers voxel by voxel.
    """
    if method not in _MAKES:
        raise ConfigError(f"there is no method {method!r} of evidence maps; there are {', '.join(METHODS)}")
    x = torch.from_numpy(np.ascontiguousarray(image, dtype=np.float32))[None]
    dims = x.ndim - 2
    views: list[tuple[int, ...]] = [(), *((axis - dims,) for axis in range(dims) if mirror and mirror[axis - dims])]
    found = []
    for net in nets:
        if not isinstance(net, VectorNet):
            raise ConfigError("a network that answers voxel by voxel shows where by its outline; there is no other map")
        one = np.zeros((len(targets), *image.shape[1:]), dtype=np.float64)
        for view in views:
            seen = _MAKES[method](net, x.flip(view) if view else x, targets)
            one += (seen.flip(view) if view else seen).double().numpy() / len(views)
        found.append(np.clip(one, 0, None))
    return np.stack(found, axis=1)


def _activations(net: VectorNet, x: torch.Tensor, level: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a map of the backbone, as part of the graph, and the logits that come of it."""
    encoder = net.encoder
    if isinstance(encoder, ViT):
        kept: list[torch.Tensor] = []

        def keep(_module: nn.Module, _given: object, output: torch.Tensor) -> None:
            kept.append(output)

        with torch.enable_grad():
            handle = encoder.norm.register_forward_hook(keep)
            logits = net(x)
            handle.remove()
        return kept[0], logits
    with torch.enable_grad():
        maps = encoder.maps(x.clone().requires_grad_(True))  # so that a backbone with nothing to learn has a way back
        return maps[max(level, -len(maps))], net.head(net.pooled(maps[-1]))


def _cam(weigh: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], level: int) -> _Make:
    def one(net: VectorNet, x: torch.Tensor, target: Target) -> torch.Tensor:
        chosen, logits = _activations(net, x, level)
        (gradient,) = torch.autograd.grad(target.of(logits.float()).sum(), chosen)
        chosen = chosen.detach()
        if isinstance(net.encoder, ViT):
            free, grid = net.encoder.settings.registers, net.encoder.grid_of(x.shape[2:])
            chosen, gradient = (t[:, free:].transpose(1, 2).reshape(1, -1, *grid) for t in (chosen, gradient))
        coarse = weigh(chosen.float(), gradient.float()).clamp(min=0)
        mode = "bilinear" if x.ndim == 4 else "trilinear"
        return functional.interpolate(coarse[:, None], x.shape[2:], mode=mode, align_corners=False)[0, 0]

    return _each(one)


def _each(one: Callable[[VectorNet, torch.Tensor, Target], torch.Tensor]) -> _Make:
    def make(net: VectorNet, x: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
        return torch.stack([one(net, x, target) for target in targets])

    return make


def _plus_plus(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    space = tuple(range(2, a.ndim))
    square, cube = g**2, g**3
    below = 2 * square + (a * cube).sum(space, keepdim=True)
    alpha = square / torch.where(below.abs() > 1e-12, below, torch.ones_like(below))
    weights = (alpha * g.clamp(min=0)).sum(space, keepdim=True)
    return (weights * a).sum(1)


def _layer(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    return (a * g.clamp(min=0)).sum(1)


def _hires(a: torch.Tensor, g: torch.Tensor) -> torch.Tensor:
    return (a * g).sum(1)


def _smoothed(raw: torch.Tensor) -> torch.Tensor:
    """Return a map of single voxels as one of places: a Gaussian of a 32nd of the longest side."""
    values = ndimage.gaussian_filter(raw.double().numpy(), max(raw.shape) / 32)
    return torch.from_numpy(np.ascontiguousarray(values))


def _input_gradient(net: VectorNet, x: torch.Tensor, target: Target) -> torch.Tensor:
    with torch.enable_grad():
        given = x.clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(target.of(net(given).float()).sum(), given)
    return gradient.detach()


def _gradient(net: VectorNet, x: torch.Tensor, target: Target) -> torch.Tensor:
    return _smoothed((_input_gradient(net, x, target) * x)[0].sum(0))


def _smooth(net: VectorNet, x: torch.Tensor, target: Target) -> torch.Tensor:
    draw = torch.Generator().manual_seed(0)  # the same noise for every image: the same image, the same map
    spread = _SMOOTH_NOISE * float(x.max() - x.min())
    total = torch.zeros_like(x)
    for _ in range(_SMOOTH_COPIES):
        noise = torch.randn(x.shape, generator=draw) * spread
        total += _input_gradient(net, x + noise, target) ** 2 / _SMOOTH_COPIES
    return _smoothed(total[0].sum(0))


def _blurred(image: Float[np.ndarray, "channel *space"]) -> Float[np.ndarray, "channel *space"]:
    sigma = (0.0, *(n / 8 for n in image.shape[1:]))
    return np.asarray(ndimage.gaussian_filter(image, sigma, mode="nearest"), dtype=np.float32)


def _occlusion(net: VectorNet, x: torch.Tensor, targets: Sequence[Target]) -> torch.Tensor:
    """Return how much each answer loses where a voxel is hidden: mean over the windows that hide it."""
    image = x[0].numpy()
    space = image.shape[1:]
    instead = _blurred(image)
    sides = [max(1, round(n / _WINDOWS[len(space)])) for n in space]
    starts = [_tiled(n, side) for n, side in zip(space, sides, strict=True)]
    total, count = np.zeros((len(targets), *space)), np.zeros(space)
    places = [
        tuple(slice(c, c + s) for c, s in zip(corner, sides, strict=True)) for corner in itertools.product(*starts)
    ]
    whole = _log_odds(net, image[None], targets)
    for first in range(0, len(places), _CHUNK):
        here = places[first : first + _CHUNK]
        batch = np.repeat(image[None], len(here), axis=0)
        for row, place in enumerate(here):
            batch[row][(slice(None), *place)] = instead[(slice(None), *place)]
        lost = whole - _log_odds(net, batch, targets)
        for row, place in enumerate(here):
            total[(slice(None), *place)] += lost[:, row].reshape(-1, *([1] * len(space)))
            count[place] += 1
    return torch.from_numpy(total / count)


def _log_odds(
    net: VectorNet, images: Float[np.ndarray, "n channel *space"], targets: Sequence[Target]
) -> Float[np.ndarray, "targets n"]:
    with torch.inference_mode():
        logits = net(torch.from_numpy(images)).float()
        return torch.stack([target.of(logits) for target in targets]).numpy().astype(np.float64)


def _tiled(length: int, side: int) -> list[int]:
    """Return where windows begin along an axis: from edge to edge, overlapping by half or more."""
    if length <= side:
        return [0]
    steps = int(np.ceil((length - side) / max(1, side / 2))) + 1
    return sorted({round(i * (length - side) / (steps - 1)) for i in range(steps)})


_Make = Callable[[VectorNet, torch.Tensor, Sequence[Target]], torch.Tensor]
_MAKES: Mapping[str, _Make] = MappingProxyType(
    {
        "grad-cam++": _cam(_plus_plus, -1),
        "layer-cam": _cam(_layer, -2),
        "hires-cam": _cam(_hires, -1),
        "gradient": _each(_gradient),
        "smooth": _each(_smooth),
        "occlusion": _occlusion,
    }
)


def peak_region(values: Float[np.ndarray, "*space"], *, share: float = 0.5) -> Bool[np.ndarray, "*space"]:
    """Return the connected region round the strongest voxel where a map holds a share of its peak or more.

    Args:
        values: A map; not negative.
        share: Of the peak.

    Example:
        >>> peak_region(np.array([0.0, 0.6, 1.0, 0.2, 0.9])).tolist()
        [False, True, True, False, False]
    """
    peak = float(values.max())
    if peak <= 0:
        return np.zeros(values.shape, dtype=bool)
    parts, _ = ndimage.label(values >= share * peak)
    return np.asarray(parts == parts[np.unravel_index(int(values.argmax()), values.shape)])


def hidden(
    image: Float[np.ndarray, "channel *space"], region: Bool[np.ndarray, "*space"]
) -> Float[np.ndarray, "channel *space"]:
    """Return a prepared image with a region replaced by its blurred copy, as occlusion does."""
    return np.where(region[None], _blurred(image), image).astype(np.float32)
