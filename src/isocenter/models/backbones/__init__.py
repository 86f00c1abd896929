"""Backbones: what turns pixels into features. `build_backbone` makes one; every one has the face of `Backbone`.

vit              vision transformer, 2D and 3D, tiny to huge (`ViT`)
residual-unet    residual encoder of a U-Net, 2D and 3D (`ResidualEncoder`); `ResidualUNet` adds the decoder
"""

from isocenter.models.backbones.build import SIZES, Backbone, build_backbone, named_backbone
from isocenter.models.backbones.residual_unet import ResidualEncoder, ResidualSettings, ResidualUNet
from isocenter.models.backbones.vit import ViT, ViTSettings

__all__ = [
    "SIZES",
    "Backbone",
    "ResidualEncoder",
    "ResidualSettings",
    "ResidualUNet",
    "ViT",
    "ViTSettings",
    "build_backbone",
    "named_backbone",
]
