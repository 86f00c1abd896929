"""The three terms of VICReg, as in Algorithm 1 of the paper."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch.nn import functional

__all__ = ["covariance", "invariance", "variance"]

_TARGET, _EPSILON = 1.0, 1e-4


def invariance(a: Float[torch.Tensor, "n width"], b: Float[torch.Tensor, "n width"]) -> Float[torch.Tensor, ""]:
    """Return the mean squared difference of two looks.

    Source:
        Algorithm 1 (`mse_loss`): the mean over channels too, where equation 5 of the text sums over them.
    """
    return functional.mse_loss(a, b)


def variance(z: Float[torch.Tensor, "n width"]) -> Float[torch.Tensor, ""]:
    """Return by how much the standard deviation of channels falls short of 1, on average.

    Source:
        Equations 1 and 2, with epsilon 1e-4.
    """
    return functional.relu(_TARGET - torch.sqrt(z.var(dim=0) + _EPSILON)).mean()


def covariance(z: Float[torch.Tensor, "n width"]) -> Float[torch.Tensor, ""]:
    """Return the sum of squared covariances between different channels, over the number of channels.

    Source:
        Equations 3 and 4.
    """
    centred = z - z.mean(dim=0)
    matrix = centred.T @ centred / (len(z) - 1)
    return (matrix.square().sum() - matrix.diagonal().square().sum()) / z.shape[1]
