"""How each kind of network is fed in a check, and what of its answer is looked at."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import nn

from isocenter.models.passport.document import Passport

__all__ = ["Said", "answer", "is_dense", "size_for"]

_DEFAULT = {2: (128, 128), 3: (64, 64, 64)}
_TOKENS = 8


class Said(NamedTuple):
    """What a network answers: the part that is compared, and all numbers of it."""

    features: torch.Tensor
    everything: tuple[torch.Tensor, ...]


def size_for(passport: Passport) -> tuple[int, ...]:
    """Return the size of the phantom: what the passport states, else a small one."""
    return passport.inputs.size or _DEFAULT[len(passport.inputs.axes) or 2]


def is_dense(passport: Passport) -> bool:
    """Tell whether the answer lies on a grid that follows the image's, place by place."""
    return passport.role == "segmenter" or (passport.kind == "isocenter" and passport.role == "promptable")


@torch.inference_mode()
def answer(network: nn.Module, passport: Passport, picture: Float[np.ndarray, "channels *space"] | None) -> Said:
    """Ask a network about a picture, or about a few tokens where it takes no picture."""
    asked: Any = network
    first = next(network.parameters())
    x = None if picture is None else torch.from_numpy(picture)[None].to(first.dtype)
    if passport.role == "language":
        said: Any = asked(input_ids=_tokens(passport)).logits
    elif passport.kind == "isocenter" and passport.role == "promptable":
        said = asked.encode(x).levels[0]
    elif passport.kind == "isocenter" and passport.role == "encoder":
        said = asked.maps(x)[-1]
    elif passport.kind != "huggingface":
        said = asked(x)
    elif passport.role == "image-text":
        out = asked(input_ids=_tokens(passport), pixel_values=x)
        return Said(out.image_embeds, tuple(_tensors((out.image_embeds, out.text_embeds, out.logits_per_image))))
    elif passport.role == "promptable":
        said = asked.get_image_embeddings(x)
    elif passport.role == "multimodal":
        # What the language model reads of a picture; that it reads on is checked with a row of tokens.
        said = (
            _stacked(asked.get_image_features(pixel_values=x).pooler_output),
            asked(input_ids=_tokens(passport)).logits,
        )
    elif passport.architecture.startswith("vit_mae "):
        # The order of patches is drawn at random unless it is given.
        patches = asked.embeddings.patch_embeddings.num_patches
        said = asked(pixel_values=x, noise=torch.arange(patches, dtype=torch.float32)[None]).last_hidden_state
    else:
        said = asked(pixel_values=x).last_hidden_state
    found = tuple(_tensors(said))
    return Said(found[0], found)


def _stacked(tokens: Any) -> torch.Tensor:
    stacked: torch.Tensor = torch.stack(list(tokens)) if isinstance(tokens, list | tuple) else tokens
    return stacked


def _tokens(passport: Passport) -> torch.Tensor:
    """Return a row of tokens, the same each time."""
    most = passport.inputs.vocabulary or 2
    return (torch.arange(_TOKENS)[None] * 7 + 1) % most


def _tensors(said: Any) -> Iterator[torch.Tensor]:
    if isinstance(said, torch.Tensor):
        if said.is_floating_point():
            yield said
    elif isinstance(said, Mapping):
        for value in said.values():
            yield from _tensors(value)
    elif isinstance(said, list | tuple):
        for value in said:
            yield from _tensors(value)
