"""What VICReg trains: a backbone, and an expander to the space where the loss looks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import nn

from isocenter.learn.methods.vicreg.args import VicregArgs
from isocenter.learn.methods.vicreg.loss import covariance, invariance, variance
from isocenter.learn.pretraining.learner import Learner, encoder_of
from isocenter.learn.pretraining.parallel import gather
from isocenter.models.backbones import ResidualEncoder, ViT

__all__ = ["BatchNorm", "Vicreg", "make"]


class BatchNorm(nn.Module):
    """Normalises channels over the batch of all processes. It keeps no running statistics: the expander is thrown away.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))

    def forward(self, x: Float[torch.Tensor, "n width"]) -> Float[torch.Tensor, "n width"]:
        """Normalise; in training over the rows of all processes."""
        wide = x.float()
        rows = gather(wide) if self.training else wide
        var, mean = torch.var_mean(rows, dim=0, unbiased=False)
        return ((wide - mean) * (var + 1e-5).rsqrt() * self.weight + self.bias).to(x.dtype)


def _expander(widths: Sequence[int]) -> nn.Sequential:
    parts: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        parts += [nn.Linear(before, after), BatchNorm(after), nn.ReLU()]
    return nn.Sequential(*parts, nn.Linear(widths[-2], widths[-1], bias=False))


class Vicreg(Learner):
    """The learner.

    Args:
        backbone: The encoder.
        args: Of the method.
    """

    figures = ("invariance", "variance", "covariance")

    def __init__(self, backbone: ViT | ResidualEncoder, args: VicregArgs) -> None:
        super().__init__(backbone)
        self.args = args
        self.expander = _expander((backbone.width, *args.expander))

    def forward(self, views: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a batch and its terms."""
        looks, args = views["looks"], self.args
        n = len(looks)
        both = self.backbone.embed(looks.transpose(0, 1).flatten(0, 1))
        a, b = (self.expander(both[k * n : (k + 1) * n]).float() for k in range(2))
        if self.training:
            a, b = gather(a), gather(b)
        terms = {
            "invariance": invariance(a, b),
            "variance": variance(a) + variance(b),
            "covariance": covariance(a) + covariance(b),
        }
        loss = (
            args.invariance * terms["invariance"]
            + args.variance * terms["variance"]
            + args.covariance * terms["covariance"]
        )
        return loss, terms

    def watched(self, x: Float[torch.Tensor, "n channel *space"]) -> dict[str, Float[torch.Tensor, "n width"]]:
        """Return embeddings of the backbone and of the expander."""
        found = self.backbone.embed(x)
        return {"backbone": found, "expander": self.expander(found)}


def make(args: VicregArgs) -> Vicreg:
    """Build what a configuration says, with random weights."""
    return Vicreg(encoder_of(args), args)
