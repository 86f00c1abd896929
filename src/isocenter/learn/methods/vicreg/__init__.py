"""VICReg: two looks at one place must be alike, while no channel of the embeddings falls idle or repeats another.

Source:
    Bardes, Ponce and LeCun, VICReg: Variance-Invariance-Covariance Regularization, ICLR 2022.
"""

from isocenter.learn.methods.vicreg.args import VicregArgs
from isocenter.learn.methods.vicreg.model import make
from isocenter.learn.methods.vicreg.transform import views
from isocenter.learn.pretraining.learner import Recipe
from isocenter.learn.pretraining.method import ImageMethod

__all__ = ["METHOD", "RECIPE"]

RECIPE = Recipe("vicreg", "variance-invariance-covariance regularisation", VicregArgs, make, views)
METHOD = ImageMethod(RECIPE)
