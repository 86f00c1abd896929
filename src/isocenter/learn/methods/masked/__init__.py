"""Masked autoencoding: hide most of an image, and learn to fill it in from the rest.

Source:
    He et al., Masked Autoencoders Are Scalable Vision Learners, CVPR 2022; Fu et al., Rethinking Patch Dependence for
    Masked Autoencoders (CrossMAE), 2024; Tian et al., Designing BERT for Convolutional Networks (SparK), ICLR 2023.
"""

from isocenter.learn.methods.masked.args import MaskedArgs
from isocenter.learn.methods.masked.model import make
from isocenter.learn.methods.masked.transform import views
from isocenter.learn.pretraining.learner import Recipe
from isocenter.learn.pretraining.method import ImageMethod

__all__ = ["METHOD", "RECIPE"]

RECIPE = Recipe("masked", "masked autoencoding", MaskedArgs, make, views, whole="masked-autoencoder")
METHOD = ImageMethod(RECIPE)
