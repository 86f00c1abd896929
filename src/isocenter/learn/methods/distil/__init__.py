"""Self-distillation: a student learns to say of small crops what its own average over steps says of large ones.

Source:
    Caron et al., Emerging Properties in Self-Supervised Vision Transformers (DINO), ICCV 2021; Oquab et al., DINOv2,
    TMLR 2024 (Sinkhorn-Knopp centring as in SwAV, KoLeo).
"""

from isocenter.learn.methods.distil.args import DistilArgs
from isocenter.learn.methods.distil.model import make
from isocenter.learn.methods.distil.transform import views
from isocenter.learn.pretraining.learner import Recipe
from isocenter.learn.pretraining.method import ImageMethod

__all__ = ["METHOD", "RECIPE"]

RECIPE = Recipe("distil", "self-distillation", DistilArgs, make, views)
METHOD = ImageMethod(RECIPE)
