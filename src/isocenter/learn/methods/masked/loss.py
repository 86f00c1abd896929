"""The loss of masked autoencoding: the mean squared error of hidden patches, each normalised by itself."""

from __future__ import annotations

import torch
from jaxtyping import Float

__all__ = ["masked_loss", "normalised"]


def normalised(patches: Float[torch.Tensor, "n some block"]) -> Float[torch.Tensor, "n some block"]:
    """Return patches with mean 0 and variance 1 each: what counts is structure, not brightness.

    Source:
        He et al., CVPR 2022, section 3 ("reconstruction target").
    """
    var, mean = torch.var_mean(patches, dim=2, keepdim=True)
    return (patches - mean) * (var + 1e-6).rsqrt()


def masked_loss(
    predicted: Float[torch.Tensor, "n some block"], hidden: Float[torch.Tensor, "n some block"]
) -> Float[torch.Tensor, ""]:
    """Return the mean squared error.

    Args:
        predicted: What was filled in.
        hidden: The patches that were hidden, as they are.
    """
    return (predicted.float() - normalised(hidden.float())).square().mean()
