"""The terms of self-distillation: what the teacher says, how far the student is from it, and what keeps crops apart."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch.nn import functional

__all__ = ["centred", "distance", "koleo", "sinkhorn"]


def centred(
    logits: Float[torch.Tensor, "n prototypes"], centre: Float[torch.Tensor, " prototypes"], temperature: torch.Tensor
) -> Float[torch.Tensor, "n prototypes"]:
    """Return the teacher's answer: centred, so that no prototype takes all, and sharpened, so that not all get alike.

    Source:
        Caron et al., ICCV 2021, equation 4 and section 3.1 ("avoiding collapse").
    """
    return torch.softmax((logits - centre) / temperature, dim=1)


def sinkhorn(
    logits: Float[torch.Tensor, "n prototypes"], temperature: torch.Tensor, rounds: int = 3
) -> Float[torch.Tensor, "n prototypes"]:
    """Return the teacher's answer with prototypes in equal use over the batch: rows sum to 1, columns nearly to n / K.

    Source:
        Caron et al., SwAV, NeurIPS 2020, section 3.1; Cuturi, NeurIPS 2013. In logarithms, so that nothing overflows.
    """
    log = logits / temperature
    for _ in range(rounds):
        log = log - torch.logsumexp(log, dim=0, keepdim=True)
        log = log - torch.logsumexp(log, dim=1, keepdim=True)
    return log.exp()


def distance(
    student: Float[torch.Tensor, "crops n prototypes"],
    teacher: Float[torch.Tensor, "large n prototypes"],
    temperature: float,
) -> Float[torch.Tensor, ""]:
    """Return the mean cross-entropy between the teacher's answers and the student's to all other crops.

    Args:
        student: Logits; the first crops are the large ones, in the teacher's order.
        teacher: Probabilities.
        temperature: The student's.

    Source:
        Caron et al., ICCV 2021, equation 3.
    """
    log = functional.log_softmax(student / temperature, dim=2)
    each = -torch.einsum("tnk,snk->ts", teacher, log) / teacher.shape[1]
    same = torch.eye(len(teacher), len(student), dtype=torch.bool, device=each.device)
    # A sum, not a selection: its size must be known without values, for `learn.planning`.
    return each.masked_fill(same, 0.0).sum() / (each.numel() - len(teacher))


def koleo(x: Float[torch.Tensor, "n width"]) -> Float[torch.Tensor, ""]:
    """Return minus the mean logarithm of the distance to the nearest other, of vectors brought to length 1.

    Source:
        Sablayrolles et al., Spreading vectors for similarity search, ICLR 2019; Oquab et al., DINOv2.
    """
    unit = functional.normalize(x, dim=1)
    with torch.no_grad():
        alike = unit @ unit.T
        nearest = alike.fill_diagonal_(-2.0).argmax(dim=1)
    return -torch.log((unit - unit[nearest]).norm(dim=1) + 1e-8).mean()
