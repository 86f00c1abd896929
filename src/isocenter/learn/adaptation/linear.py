"""A linear answer over what a backbone sees, found exactly: no steps, no chance, seconds.

The backbone stays as it is. What it sees of the cases that are learnt from is brought to mean 0 and deviation 1, and
the head is the one minimum of loss plus penalty. The penalty is the one of `PENALTIES` with the least loss on the
validation cases.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from isocenter.core.errors import TrainingError
from isocenter.data.labelled import Event
from isocenter.data.labelled.cases import Kind
from isocenter.learn.adaptation.engine import Learnt
from isocenter.learn.adaptation.vectors import Scale, VectorCase, VectorJob, cox_loss
from isocenter.models.learnt.network import VectorNet

__all__ = ["PENALTIES", "fit_linear"]

PENALTIES = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0)
"""What half of the sum of the squared weights counts, against the mean loss of a case."""
_USUAL = 3.0
"""Without validation cases (a convention of ours)."""
_ROUNDS, _CHUNK = 200, 32


def fit_linear(net: nn.Module, job: VectorJob) -> Learnt:
    """Find the head of a network whose backbone stays as it is.

    Args:
        net: A `VectorNet`; changed in place.
        job: The cases, and what is said of them.

    Returns:
        The network; its step is 0.

    Raises:
        TrainingError: What the backbone sees is not finite.
    """
    if not isinstance(net, VectorNet):
        raise TypeError("a linear answer is about the whole image")
    started, cpu = time.monotonic(), time.process_time()
    net.eval()
    seen = _seen(net, job.learnt, mirror=job.plan.alteration.mirror)
    targets = [case.target for case in job.learnt] * (len(seen) // len(job.learnt))
    norm, linear = net.head[0], net.head[-1]
    if not isinstance(linear, nn.Linear):
        raise TypeError("the head of a network ends with a linear layer")
    if isinstance(norm, nn.BatchNorm1d) and norm.running_mean is not None and norm.running_var is not None:
        norm.running_mean.copy_(seen.mean(0))
        norm.running_var.copy_(seen.var(0, unbiased=False).clamp(min=1e-8))
    with torch.no_grad():
        x = norm(seen).double()
        held = norm(_seen(net, job.validation)).double() if job.validation else None
    labels = _labels(job.kind, targets, job.scale)
    wanted = _labels(job.kind, [case.target for case in job.validation], job.scale)
    least, penalty, kept = math.inf, _USUAL, None
    for tried in (_USUAL,) if held is None else PENALTIES:
        found = _minimum(x, labels, job.kind, tried)
        loss = 0.0 if held is None else float(_loss(held @ found[0].T + found[1], wanted, job.kind))
        if kept is None or loss < least:
            least, penalty, kept = loss, tried, found
    if kept is None:
        raise TypeError("there is no penalty to try")
    with torch.no_grad():
        linear.weight.copy_(kept[0].float())
        linear.bias.copy_(kept[1].float())
    validation = {**job.validate(net), "penalty": penalty}
    return Learnt(net, 0, 0, validation, time.monotonic() - started, time.process_time() - cpu)


def _seen(
    net: VectorNet, cases: Sequence[VectorCase], *, mirror: Sequence[bool] = ()
) -> Float[torch.Tensor, "n features"]:
    """Return what the head would see of each case; then the same of their mirror images, along each axis asked."""
    found = []
    dims = cases[0].image.ndim - 1
    views = [(), *((axis - dims,) for axis in range(dims) if mirror and mirror[axis - dims])]
    with torch.no_grad():
        for view in views:
            for first in range(0, len(cases), _CHUNK):
                x = torch.from_numpy(np.stack([case.image for case in cases[first : first + _CHUNK]]))
                found.append(net.embed(x.flip(view) if view else x))
    seen = torch.cat(found)
    if not bool(torch.isfinite(seen).all()):
        raise TrainingError("what the backbone sees of a case is not finite")
    return seen


def _labels(kind: Kind, targets: Sequence[object], scale: Scale) -> torch.Tensor:
    if kind == "classify":
        return torch.tensor([t for t in targets if isinstance(t, int)])
    if kind == "multilabel":
        return torch.tensor([t for t in targets if isinstance(t, tuple)], dtype=torch.float64)
    if kind == "regress":
        values = [float(t) for t in targets if isinstance(t, int | float)]
        return (torch.tensor(values, dtype=torch.float64) - scale.mean) / scale.deviation
    return torch.tensor([(e.days, float(e.happened)) for e in targets if isinstance(e, Event)], dtype=torch.float64)


def _loss(answer: Float[torch.Tensor, "n k"], labels: torch.Tensor, kind: Kind) -> torch.Tensor:
    """Return the mean loss of a case, of each finding for itself: one that is seldom told counts as much."""
    if kind == "classify":
        return functional.cross_entropy(answer, labels)
    if kind == "multilabel":
        known = (labels >= 0).double()
        each = functional.binary_cross_entropy_with_logits(answer, labels.clamp(min=0), reduction="none")
        return ((each * known).sum(0) / known.sum(0).clamp(min=1)).sum()
    if kind == "regress":
        return functional.mse_loss(answer[:, 0], labels) / 2
    return cox_loss(answer[:, 0], labels[:, 0], labels[:, 1])


def _minimum(
    x: Float[torch.Tensor, "n features"], labels: torch.Tensor, kind: Kind, penalty: float
) -> tuple[Float[torch.Tensor, "k features"], Float[torch.Tensor, " k"]]:
    """Return the weights and offsets with the least loss and penalty; the offsets are free."""
    outputs = int(labels.max()) + 1 if kind == "classify" else labels.shape[1] if kind == "multilabel" else 1
    weight = torch.zeros(outputs, x.shape[1], dtype=torch.float64, requires_grad=True)
    offset = torch.zeros(outputs, dtype=torch.float64, requires_grad=True)
    search = torch.optim.LBFGS(
        [weight, offset], max_iter=_ROUNDS, tolerance_grad=1e-7, tolerance_change=1e-10, line_search_fn="strong_wolfe"
    )

    def step() -> torch.Tensor:
        search.zero_grad()
        total = _loss(x @ weight.T + offset, labels, kind) + penalty / 2 * (weight**2).sum()
        total.backward()  # type: ignore[no-untyped-call]
        return total

    search.step(step)  # type: ignore[no-untyped-call]
    return weight.detach(), offset.detach()
