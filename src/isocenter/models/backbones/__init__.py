"""Backbones: what turns pixels into features. `build_backbone` makes one; every one has the face of `Backbone`.

vit              vision transformer, 2D and 3D, tiny to huge (`ViT`)
residual-unet    residual encoder of a U-Net, 2D and 3D (`ResidualEncoder`); `ResidualUNet` adds the decoder
    interactive-encoder   the image encoder of the interactive network (`isocenter.models.interactive.backbone`)
"""

from isocenter.models.backbones.build import (
    SIZES,
    AnySettings,
    Backbone,
    build_backbone,
    named_backbone,
    settings_from_card,
)
from isocenter.models.backbones.residual_unet import ResidualEncoder, ResidualSettings, ResidualUNet
from isocenter.models.backbones.vit import ViT, ViTSettings

__all__ = [
    "SIZES",
    "AnySettings",
    "Backbone",
    "ResidualEncoder",
    "ResidualSettings",
    "ResidualUNet",
    "ViT",
    "ViTSettings",
    "build_backbone",
    "named_backbone",
    "settings_from_card",
]
