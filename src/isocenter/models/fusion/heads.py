"""What is learnt at the end of a network of people: a class, Cox's partial likelihood, or hazards over intervals."""

from __future__ import annotations

import warnings

import torch
from jaxtyping import Bool, Float, Int
from torch.nn import functional

from isocenter.core.errors import CapabilityError

__all__ = ["cox_loss", "hazard_loss"]


def cox_loss(
    risk: Float[torch.Tensor, " n"], days: Float[torch.Tensor, " n"], happened: Bool[torch.Tensor, " n"]
) -> Float[torch.Tensor, ""]:
    """Return minus Cox's log partial likelihood for each event, ties as Efron's.

    Args:
        risk: Logarithm of the hazard ratio.
        days: Until the event, or until last seen.
        happened: Whether the event happened.

    Raises:
        CapabilityError: torchsurv is not installed.

    Source:
        Katzman et al., BMC Medical Research Methodology 2018 (DeepSurv); Efron, JASA 1977.
    """
    try:
        from torchsurv.loss.cox import neg_partial_log_likelihood
    except ImportError as error:
        raise CapabilityError("DeepSurv needs torchsurv; pip install 'isocenter[precision]'") from error
    with warnings.catch_warnings():
        warnings.filterwarnings(
            "ignore", message="Ties in `time` detected", category=UserWarning
        )  # it says how: as asked
        loss: torch.Tensor = neg_partial_log_likelihood(risk, happened, days, ties_method="efron", reduction="sum")
    # Its own mean is over days with an event, so that with ties it would change with how finely time is told.
    return loss / happened.sum().clamp(min=1)


def hazard_loss(
    logits: Float[torch.Tensor, "n k"], passed: Int[torch.Tensor, " n"], event: Bool[torch.Tensor, " n"]
) -> Float[torch.Tensor, ""]:
    """Return minus the log likelihood of hazards over intervals, mean over people.

    Args:
        logits: Of the hazard of each interval.
        passed: How many intervals each has passed without the event.
        event: Whether the event came in the next one.

    Source:
        Gensheimer and Narasimhan, PeerJ 2019.

    Example:
        >>> logits = torch.zeros(1, 2)
        >>> float(hazard_loss(logits, torch.tensor([1]), torch.tensor([True]))) / float(torch.log(torch.tensor(2.0)))
        2.0
    """
    number = torch.arange(logits.shape[1], device=logits.device)
    seen = number[None] < (passed + event.long())[:, None]
    came = (number[None] == passed[:, None]) & event[:, None]
    each = functional.binary_cross_entropy_with_logits(logits, came.to(logits.dtype), reduction="none")
    return (each * seen).sum(dim=1).mean()
