"""Backbones by name and from cards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol, overload, runtime_checkable

import torch

from isocenter.core.errors import ConfigError
from isocenter.models.backbones.residual_unet import ResidualEncoder, ResidualSettings
from isocenter.models.backbones.vit import ViT, ViTSettings
from isocenter.models.interactive.backbone import InteractiveEncoder, InteractiveEncoderSettings

__all__ = ["SIZES", "AnySettings", "Backbone", "build_backbone", "named_backbone", "spelled_out"]

SIZES = {
    "tiny": (192, 12, 3),
    "small": (384, 12, 6),
    "base": (768, 12, 12),
    "large": (1024, 24, 16),
    "huge": (1280, 32, 16),
}
"""Width, depth and heads of a vision transformer by size."""

_RESIDUAL = {
    "tiny": ((16, 32, 64, 128), (1, 1, 1, 1)),
    "small": ((32, 64, 128, 256), (1, 2, 2, 2)),
    "base": ((32, 64, 128, 256, 320), (1, 3, 4, 6, 6)),
    "large": ((32, 64, 128, 256, 320, 320), (1, 3, 4, 6, 6, 6)),
}
"""Widths and blocks of a residual encoder by size."""


AnySettings = ViTSettings | ResidualSettings | InteractiveEncoderSettings


@runtime_checkable
class Backbone(Protocol):
    """The face of every backbone; also a `torch.nn.Module`."""

    @property
    def width(self) -> int:
        """Length of an embedding."""
        ...

    def maps(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return features as maps (n, channels, *grid), finest first."""
        ...

    def embed(self, x: torch.Tensor) -> torch.Tensor:
        """Return one vector for each input, (n, width)."""
        ...


def named_backbone(name: str, size: Sequence[int], *, channels_in: int = 1) -> ViTSettings | ResidualSettings:
    """Return the settings that a name stands for.

    Args:
        name: "vit-SIZE/PATCH" (tiny, small, base, large, huge; the patch may be left out) or "residual-SIZE".
        size: Pixels of the input along each axis; two for planes, three for volumes.
        channels_in: Channels of the input.

    Raises:
        ConfigError: No such backbone, or the input is not made of its patches.

    Example:
        >>> named_backbone("vit-small/8", (64, 64)).grid
        (8, 8)
    """
    kind, _, rest = name.partition("-")
    known, _, patch = rest.partition("/")
    dims = len(size)
    if dims not in (2, 3):
        raise ConfigError(f"a backbone sees 2 or 3 axes, not {dims}")
    if kind == "vit" and known in SIZES and (not patch or patch.isdecimal()):
        side = int(patch) if patch else (16 if dims == 2 else 8)
        if side < 1 or any(n % side for n in size):
            raise ConfigError(f"an input of {tuple(size)} pixels is not made of patches of {side}")
        width, depth, heads = SIZES[known]
        return ViTSettings(
            dims=dims,
            channels_in=channels_in,
            patch=(side,) * dims,
            grid=tuple(n // side for n in size),
            width=width,
            depth=depth,
            heads=heads,
        )
    if kind == "residual" and known in _RESIDUAL and not patch:
        widths, blocks = _RESIDUAL[known]
        strides = ((1,) * dims, *((2,) * dims for _ in widths[1:]))
        return ResidualSettings(dims=dims, channels_in=channels_in, widths=widths, blocks=blocks, strides=strides)
    raise ConfigError(
        f"no backbone {name!r}; there are vit-{'|'.join(SIZES)}, with or without /PATCH, and "
        f"residual-{'|'.join(_RESIDUAL)}"
    )


def spelled_out(name: str) -> tuple[str, int | None]:
    """Return the name that `named_backbone` knows for a short one, and the axes that it says, if any.

    Args:
        name: "vit-h-3d", "vit-huge/16", "residual-s-2d" and the like: sizes by their first letter, axes at the end.

    Example:
        >>> spelled_out("vit-h-3d"), spelled_out("vit-base/16")
        (('vit-huge', 3), ('vit-base/16', None))
    """
    dims = int(name[-2]) if name.lower().endswith(("-2d", "-3d")) else None
    kind, _, rest = (name[:-3] if dims else name).lower().partition("-")
    size, slash, patch = rest.partition("/")
    long = {known[0]: known for known in SIZES}.get(size, size)
    return f"{kind}-{long}{slash}{patch}", dims


def settings_from_card(card: Mapping[str, object]) -> AnySettings:
    """Return the settings that a card holds.

    Raises:
        ConfigError: The card is not of a backbone.
    """
    for kind in (ViTSettings, ResidualSettings, InteractiveEncoderSettings):
        if card.get("kind") == kind.kind:
            return kind.from_card(card)
    known = ", ".join((ViTSettings.kind, ResidualSettings.kind, InteractiveEncoderSettings.kind))
    raise ConfigError(f"no backbone of kind {card.get('kind')!r}; there are {known}")


@overload
def build_backbone(settings: ViTSettings, *, recompute: bool = False) -> ViT: ...
@overload
def build_backbone(settings: ResidualSettings, *, recompute: bool = False) -> ResidualEncoder: ...
@overload
def build_backbone(settings: InteractiveEncoderSettings, *, recompute: bool = False) -> InteractiveEncoder: ...
@overload
def build_backbone(
    settings: Mapping[str, object] | AnySettings, *, recompute: bool = False
) -> ViT | ResidualEncoder | InteractiveEncoder: ...
def build_backbone(
    settings: Mapping[str, object] | AnySettings, *, recompute: bool = False
) -> ViT | ResidualEncoder | InteractiveEncoder:
    """Build a backbone, with random weights.

    Args:
        settings: Its settings, or what they wrote into a card.
        recompute: Whether activations are computed again on the way back, to save memory.

    Raises:
        ConfigError: The card is not of a backbone.
    """
    if isinstance(settings, Mapping):
        settings = settings_from_card(settings)
    if isinstance(settings, ViTSettings):
        return ViT(settings, recompute=recompute)
    if isinstance(settings, InteractiveEncoderSettings):
        return InteractiveEncoder(settings)
    return ResidualEncoder(settings, recompute=recompute)
