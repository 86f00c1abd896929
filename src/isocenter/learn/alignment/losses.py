"""The two losses that bring an image and its text together, with masks and with contradictions as further negatives.

A pair that is no known negative (the same text of another patient, or a text whose every sentence stands in the other
patient's report too) is left out: it is neither pulled nor pushed. A contradiction of an image's own text is a negative
of that image alone.

Source:
    Radford et al., CLIP, ICML 2021 (softmax); Zhai et al., SigLIP, ICCV 2023 (sigmoid); Yuksekgonul et al., ICLR 2023
    (negatives of one's own text).
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch.nn import functional

__all__ = ["alignment_loss", "sigmoid_loss", "softmax_loss"]

Logits = Float[torch.Tensor, "n n"]
Left = Bool[torch.Tensor, "n n"]
Hard = Float[torch.Tensor, "n h"]
Known = Bool[torch.Tensor, "n h"]


def sigmoid_loss(logits: Logits, left_out: Left, hard: Hard, known: Known) -> Float[torch.Tensor, ""]:
    """Ask of every pair by itself whether it belongs together.

    Args:
        logits: Of image i with text j; pairs that belong together on the diagonal.
        left_out: Pairs off the diagonal that are not known to be wrong.
        hard: Of image i with contradictions of its own text.
        known: Which of those there are.

    Returns:
        The sum over pairs, per image.

    Example:
        >>> none = torch.zeros(2, 2, dtype=torch.bool)
        >>> loss = sigmoid_loss(torch.zeros(2, 2), none, torch.zeros(2, 0), torch.zeros(2, 0, dtype=torch.bool))
        >>> round(float(loss), 4)  # two pairs for each image, each log 2
        1.3863
    """
    count = len(logits)
    own = torch.eye(count, dtype=torch.bool, device=logits.device)
    each = functional.softplus(torch.where(own, -logits, logits)).masked_fill(left_out & ~own, 0.0)
    return (each.sum() + functional.softplus(hard).masked_fill(~known, 0.0).sum()) / count


def softmax_loss(logits: Logits, left_out: Left, hard: Hard, known: Known) -> Float[torch.Tensor, ""]:
    """Ask which text is the image's, and which image is the text's; the mean of both.

    Args:
        logits: As in `sigmoid_loss`.
        left_out: As in `sigmoid_loss`.
        hard: As in `sigmoid_loss`; further texts to choose from, for their image alone.
        known: As in `sigmoid_loss`.
    """
    count = len(logits)
    away = left_out & ~torch.eye(count, dtype=torch.bool, device=logits.device)
    logits = logits.masked_fill(away, -torch.inf)
    wide = torch.cat([logits, hard.masked_fill(~known, -torch.inf)], dim=1)
    own = torch.arange(count, device=logits.device)
    return (functional.cross_entropy(wide, own) + functional.cross_entropy(logits.T, own)) / 2


def alignment_loss(kind: str, logits: Logits, left_out: Left, hard: Hard, known: Known) -> Float[torch.Tensor, ""]:
    """Return the loss of a kind, "sigmoid" or "softmax"."""
    return (sigmoid_loss if kind == "sigmoid" else softmax_loss)(logits, left_out, hard, known)
