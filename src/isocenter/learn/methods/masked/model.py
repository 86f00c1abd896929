"""What masked autoencoding trains: an encoder that sees a part, and a decoder that fills in the rest."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import nn

from isocenter.core.errors import ConfigError
from isocenter.learn.methods.masked.args import MaskedArgs
from isocenter.learn.methods.masked.decoder import Decoder
from isocenter.learn.methods.masked.loss import masked_loss
from isocenter.learn.methods.masked.sparse import SparseDecoder, sparse_maps, visible_map
from isocenter.learn.methods.masked.transform import patches_of, pick
from isocenter.learn.pretraining.learner import Learner, encoder_of
from isocenter.models.backbones import ResidualEncoder, ViT

__all__ = ["MaskedConvolutions", "MaskedTransformer", "make"]


class MaskedTransformer(Learner):
    """A vision transformer that encodes visible patches alone.

    Args:
        backbone: The encoder.
        args: Of the method.
    """

    def __init__(self, backbone: ViT, args: MaskedArgs) -> None:
        super().__init__(backbone)
        self.args, self.encoder = args, backbone
        block = args.channels * math.prod(args.patch)
        self.decoder = Decoder(args.decoder, backbone.width, args.grid, block)

    def predict(self, views: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is filled in, normalised patch by patch, and what was hidden; each (n, missing, block)."""
        patches = patches_of(views["image"], self.args.patch)
        tokens = self.encoder.encode(pick(patches, views["kept"]), self.args.grid, views["kept"])
        return self.decoder(tokens, views["kept"], views["missing"]), pick(patches, views["missing"])

    def forward(self, views: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a batch."""
        return masked_loss(*self.predict(views)), {}

    def units(self) -> list[nn.Module]:
        """Return the blocks of encoder and decoder."""
        return [*super().units(), *self.decoder.readers]


class MaskedConvolutions(Learner):
    """A residual encoder whose hidden places stay empty at every level.

    Args:
        backbone: The encoder.
        args: Of the method.

    Raises:
        ConfigError: Its finest level is coarser than the image, or its layers normalise in another way.
    """

    def __init__(self, backbone: ResidualEncoder, args: MaskedArgs) -> None:
        super().__init__(backbone)
        if max(backbone.settings.strides[0]) > 1:
            raise ConfigError("backbone: masked autoencoding fills in pixels; the first stride must be of ones")
        if backbone.settings.norm != "instance":
            raise ConfigError("backbone: where parts are hidden only norm 'instance' is known; leave `norm` out")
        self.args, self.encoder = args, backbone
        self.decoder = SparseDecoder(backbone, args.channels)

    def predict(self, views: dict[str, torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is filled in, normalised patch by patch, and what was hidden; each (n, missing, block)."""
        image: Float[torch.Tensor, "n channel *space"] = views["image"]
        visible = visible_map(views["kept"], self.args.grid)
        drawn = self.decoder(sparse_maps(self.encoder, image, visible), visible)
        filled, patches = (pick(patches_of(x, self.args.patch), views["missing"]) for x in (drawn, image))
        return filled, patches

    def forward(self, views: dict[str, torch.Tensor]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss of a batch."""
        return masked_loss(*self.predict(views)), {}


def make(args: MaskedArgs) -> MaskedTransformer | MaskedConvolutions:
    """Build what a configuration says, with random weights."""
    backbone = encoder_of(args)
    return MaskedTransformer(backbone, args) if isinstance(backbone, ViT) else MaskedConvolutions(backbone, args)
