"""From a set's fingerprint to everything that is to be settled: preparation, window, network, batch.

Source:
    Isensee et al., Nature Methods 2021 (rules: median spacing, window by budget, strides by spacing).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from isocenter.core.errors import ConfigError
from isocenter.learn.adaptation.alter import Alteration
from isocenter.learn.adaptation.fingerprint import Fingerprint
from isocenter.models.backbones import AnySettings, ResidualSettings, ViTSettings
from isocenter.models.backbones.residual_unet import strides_for
from isocenter.models.learnt import LearntSettings, Preparation
from isocenter.models.learnt.descriptor import DescriptorSettings
from isocenter.models.learnt.region import Region

__all__ = ["Plan", "Settled", "plan_segmentation", "plan_vector"]

_THICK = 3.0
"""Slices thicker than this many pixels are not turned out of."""
_WINDOW_VOXELS = {2: 256 * 256, 3: 100_000}
"""Most voxels of a window: what two cores learn from in a few hundred milliseconds."""


_LEAST_FOR_BATCH_NORM = 8
"""With fewer images of a step its mean and deviation say too little."""


@dataclass(frozen=True)
class Plan:
    """What was settled.

    Args:
        preparation: How images are prepared.
        network: What is learnt.
        alteration: How images are changed while it is.
        window: What the network looks at; the whole prepared image where answers are not voxel by voxel.
        batch: Windows of a step.
        thick: Whether slices are too thick to be turned out of.
    """

    preparation: Preparation
    network: LearntSettings
    alteration: Alteration
    window: tuple[int, ...]
    batch: int
    thick: bool = False

    def as_card(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return {
            "preparation": self.preparation.as_card(),
            "network": self.network.as_card(),
            "alteration": {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self.alteration).items()},
            "window": list(self.window),
            "batch": self.batch,
            "thick": self.thick,
        }


@dataclass(frozen=True)
class Settled:
    """What of an answer about the whole image the user settled; see `DataSettings`.

    Args:
        region: Organ that is looked at.
        pool: What of the coarsest map is looked at.
        linear: Whether the answer is linear in what a backbone sees that does not learn.
    """

    region: Literal["lungs"] | None = None
    pool: Literal["auto", "mean", "mean-max", "grid"] = "auto"
    linear: bool = False


def _preparation(found: Fingerprint) -> Preparation:
    spacing = found.spacing_mm
    if found.unit == "hounsfield":
        low, high, mean, deviation = found.foreground
        return Preparation(
            found.dims, found.channels, found.orientation, spacing, "set", (low, high), mean, max(deviation, 1e-6)
        )
    if found.shape_share is not None:
        share = found.shape_share
        spread = max((share * (1 - share)) ** 0.5, 1e-2)
        return Preparation(
            found.dims, found.channels, found.orientation, spacing, "shape", mean=share, deviation=spread
        )
    return Preparation(found.dims, found.channels, found.orientation, spacing)


def _window(size: Sequence[int], multiple: Sequence[int], most: int) -> tuple[int, ...]:
    """Return the largest window with sides a multiple, not much larger than the image, within a budget of voxels."""
    sides = [max(m, -(-n // m) * m) for n, m in zip(size, multiple, strict=True)]
    while True:
        voxels = 1
        for side in sides:
            voxels *= side
        longest = max(range(len(sides)), key=lambda a: sides[a] / multiple[a])
        if voxels <= most or sides[longest] <= multiple[longest]:
            return tuple(sides)
        sides[longest] -= multiple[longest]


def plan_segmentation(
    found: Fingerprint,
    classes: int,
    *,
    widths: Sequence[int] | None,
    mirror: tuple[bool, ...],
    batch: int = 2,
    most_side: int | None = None,
    backbone: AnySettings | None = None,
) -> Plan:
    """Settle how masks are learnt.

    Args:
        found: What the set is like.
        classes: Without background.
        widths: Of the network's levels, finest first; None for the embedded choice.
        mirror: Which axes (z, y, x) may be mirrored.
        batch: Windows of a step.
        most_side: Longest side that planes without spacing are brought to, so that those of other cameras are as
            large; None leaves them.
        backbone: To use instead of one that fits the set.

    Raises:
        ConfigError: Images are too small, the backbone is for other ones, or a side is asked where spacing is known.
    """
    dims, preparation = found.dims, _preparation(found)
    size = found.size[-dims:]
    if most_side is not None:
        if dims != 2 or found.spacing_mm is not None:
            raise ConfigError("a side is of single planes whose spacing is not known; leave it out for these images")
        preparation = replace(preparation, longest=most_side)
        size = tuple(max(1, round(n * most_side / max(size))) for n in size)
    spacing = (found.spacing_mm or (1.0, 1.0, 1.0))[-dims:]
    settings = backbone
    if settings is None:
        wanted = tuple(widths or ((24, 48, 96, 192) if dims == 3 else (24, 48, 96, 192, 256)))
        strides = strides_for(spacing, size, len(wanted))
        if len(strides) < 2:
            raise ConfigError(f"images of {size} voxels are too small to learn masks from")
        settings = ResidualSettings(
            dims=dims,
            channels_in=found.channels,
            widths=wanted[: len(strides)],
            blocks=(1,) * len(strides),
            strides=strides,
        )
    _check_backbone(settings, found)
    thick = dims == 3 and spacing[0] > _THICK * min(spacing[1:])
    return Plan(
        preparation,
        LearntSettings(settings.as_card(), classes + 1, mask=True),
        Alteration(mirror=mirror),
        _window(size, settings.multiple, _WINDOW_VOXELS[dims] * (1 if isinstance(settings, ResidualSettings) else 2)),
        batch,
        thick,
    )


def _check_backbone(settings: AnySettings | DescriptorSettings, found: Fingerprint) -> None:
    if (settings.dims, settings.channels_in) != (found.dims, found.channels):
        raise ConfigError(
            f"the backbone is for {settings.dims} dims and {settings.channels_in} channels; the images have "
            f"{found.dims} and {found.channels}"
        )


def _residual_for(
    found: Fingerprint, inner: Sequence[int], widths: Sequence[int] | None, batch: int
) -> ResidualSettings:
    dims = found.dims
    wanted = tuple(widths or ((32, 64, 128, 256) if dims == 2 else (16, 32, 64, 128)))
    strides = strides_for((1.0,) * dims, inner, len(wanted) + 1)
    if max(inner) > 48 and len(strides) > 2:  # the first level of a large image is halved at once
        strides = (strides[1], *strides[2:])
    strides = strides[: len(wanted)]
    if len(strides) < 2:
        raise ConfigError(f"images of {found.size} voxels are too small to learn from")
    return ResidualSettings(
        dims=dims,
        channels_in=found.channels,
        widths=wanted[: len(strides)],
        blocks=(2,) * len(strides),
        strides=strides,
        norm="batch" if batch >= _LEAST_FOR_BATCH_NORM else "instance",
    )


def _pool(
    settings: AnySettings | DescriptorSettings, batch: int, settled: Settled
) -> Literal["mean", "mean-max", "grid"]:  # fmt: skip
    if settled.pool != "auto":
        return settled.pool
    if settled.linear and not isinstance(settings, ViTSettings):
        return "grid"
    return "mean" if batch < _LEAST_FOR_BATCH_NORM or isinstance(settings, ViTSettings) else "mean-max"


def _alteration(found: Fingerprint, mirror: tuple[bool, ...]) -> Alteration:
    """Return how whole images are changed: a shape keeps its two values, and a volume about its size."""
    how = Alteration(mirror=mirror)
    if found.dims == 3:  # all lie on one grid, where size is a sign of disease
        how = replace(how, zoom=0.08, stretch=0.04)
    if found.shape_share is not None:
        how = replace(how, contrast=0.0, shading=0.0, noise=0.0, blur=0.0, coarse=1.0)
    return how


def plan_vector(
    found: Fingerprint,
    outputs: int,
    *,
    widths: Sequence[int] | None,
    mirror: tuple[bool, ...],
    batch: int = 32,
    most_side: int | None = None,
    backbone: AnySettings | None = None,
    settled: Settled = Settled(),
) -> Plan:
    """Settle how classes, findings, numbers or times are learnt: from the whole image at one size.

    Args:
        found: What the set is like.
        outputs: Numbers that the network gives.
        widths: Of the network's levels; None for the embedded choice.
        mirror: Which axes (z, y, x) may be mirrored.
        batch: Images of a step.
        most_side: Longest side of the image that the network sees; None for 128 (planes) or 64 (volumes).
        backbone: To use instead of one that fits the set.
        settled: What else the user settled.

    Raises:
        ConfigError: Images are too small, the backbone is for other ones, or an organ is asked of volumes.
    """
    dims, region = found.dims, settled.region
    most = most_side or (128 if dims == 2 else 64)
    size = found.size[-dims:]
    if region is not None:
        if dims != 2:
            raise ConfigError("a region is of single planes; leave it out for volumes")
        size = (most, most)  # boxes of organs differ in shape: all are brought to a square
    scale = min(1.0, most / max(size))
    inner = tuple(max(4, round(n * scale)) for n in size)
    settings: AnySettings | DescriptorSettings
    if backbone is None and settled.linear:
        settings = DescriptorSettings(dims=dims, channels_in=found.channels)
    else:
        settings = backbone if backbone is not None else _residual_for(found, inner, widths, batch)
    _check_backbone(settings, found)
    multiple = settings.multiple
    fitted = tuple(max(m, -(-n // m) * m) for n, m in zip(inner, multiple, strict=True))
    preparation = replace(_preparation(found), spacing_mm=None, size=fitted)
    if region is not None:
        preparation = replace(preparation, region=region, region_sha256=Region.of(region).sha256)
    return Plan(
        preparation,
        LearntSettings(settings.as_card(), outputs, mask=False, dropout=0.2, pool=_pool(settings, batch, settled)),
        _alteration(found, mirror),
        fitted,
        batch,
    )
