"""The face of what a self-supervised method trains, and how a method is put together from its folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Shaped
from torch import nn

from isocenter.learn.pretraining.args import PretrainingArgs
from isocenter.models.backbones import ResidualEncoder, ViT, build_backbone
from isocenter.models.backbones.residual_unet import Level
from isocenter.models.backbones.vit import Block

__all__ = ["Learner", "MakeViews", "Recipe", "encoder_of"]

Views = dict[str, torch.Tensor]


class Learner(nn.Module):
    """A backbone and what is needed to train it. Each method has its own.

    Nothing in it draws random numbers: what is random comes with the views, so that a step depends on (seed, step).

    Attributes:
        backbone: What ships.
        figures: Names of what `forward` returns beside the loss: columns of `steps.csv`.
    """

    figures: tuple[str, ...] = ()

    def __init__(self, backbone: ViT | ResidualEncoder) -> None:
        super().__init__()
        self.backbone = backbone

    def forward(self, views: Views) -> tuple[torch.Tensor, Views]:
        """Return the loss of a batch of views, and the figures."""
        raise NotImplementedError

    def begin_step(self, step: int, steps: int) -> None:
        """Set what follows a schedule, before step number `step` of `steps` (counted from 0)."""

    def before_update(self, step: int) -> None:
        """Look at the gradients before the optimiser does."""

    def end_step(self, step: int, steps: int) -> None:
        """Do what comes after an update of the weights."""

    def watched(self, x: Float[torch.Tensor, "n channel *space"]) -> dict[str, Float[torch.Tensor, "n width"]]:
        """Return the embeddings that must not collapse, by their place; the backbone's come first."""
        return {"backbone": self.backbone.embed(x)}

    def units(self) -> list[nn.Module]:
        """Return the modules that are computed as one each: several processes share them out one by one."""
        return [m for m in self.modules() if isinstance(m, Block | Level)]

    def averaged(self) -> nn.Module | None:
        """Return a backbone that is an average over steps already; None where the trainer is to keep one."""
        return None


@runtime_checkable
class MakeViews(Protocol):
    """Makes what a method is shown of one image."""

    def __call__(
        self, args: Any, image: Shaped[np.ndarray, "channel *space"], rng: np.random.Generator
    ) -> dict[str, torch.Tensor]:
        """Return views by name; equal shapes for every image."""
        ...


@dataclass(frozen=True)
class Recipe:
    """A method, put together from its folder.

    Args:
        name: Name of the method.
        title: For the card: what was learnt how.
        args: Its configuration.
        learner: Makes what is trained.
        views: Makes what it is shown.
        whole: Whether the whole learner ships beside the backbone; its name on the card is `whole`.
    """

    name: str
    title: str
    args: type[PretrainingArgs]
    learner: Callable[[Any], Learner]
    views: MakeViews
    whole: str = ""

    def card_network(self, args: PretrainingArgs) -> Mapping[str, object]:
        """Return what is needed to build the whole learner again."""
        return {"kind": self.whole, "method": self.name, "args": args.model_dump(mode="json")}


def encoder_of(args: PretrainingArgs) -> ViT | ResidualEncoder:
    """Build the backbone that a configuration names, with random weights."""
    return build_backbone(args.shape, recompute=args.recompute)
