"""Image and language in one space: the network (`AlignedNet`) and what is saved, loaded and asked (`Aligned`)."""

from isocenter.models.aligned.model import Aligned, ImageInput, load_aligned, save_aligned, vocabulary_path
from isocenter.models.aligned.network import AlignedNet, AlignedSettings, Pooling

__all__ = [
    "Aligned",
    "AlignedNet",
    "AlignedSettings",
    "ImageInput",
    "Pooling",
    "load_aligned",
    "save_aligned",
    "vocabulary_path",
]
