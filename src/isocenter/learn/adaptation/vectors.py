"""Learning classes, findings, numbers and times to an event from whole images."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import nn
from torch.nn import functional

from isocenter.core.errors import DataError
from isocenter.data.labelled import Event, Target
from isocenter.data.labelled.cases import Kind
from isocenter.evaluate.ranking import auroc, auroc_macro, concordance
from isocenter.learn.adaptation.alter import alter_values, cut
from isocenter.learn.adaptation.plan import Plan
from isocenter.models.learnt import device_of

__all__ = ["Scale", "VectorCase", "VectorJob", "answers", "answers_by_view", "cox_loss", "figures"]


@dataclass(frozen=True, eq=False)
class VectorCase:
    """A prepared case.

    Args:
        name: Of the case.
        image: Prepared, of the plan's size.
        target: Its label.
    """

    name: str
    image: Float[np.ndarray, "channel *space"]
    target: Target


@dataclass(frozen=True)
class Scale:
    """From what a network gives to what is meant.

    Args:
        mean: Of the numbers that are learnt from.
        deviation: Theirs.
        shift: What is added to each output first. Classes are drawn equally often while a network learns, and findings
            that are there count more: their logits are brought to how frequent they are. A logarithm of risk is
            brought to mean 0 over the cases that were learnt from, so that those of different networks compare.

    Source:
        Saerens et al., Neural Computation 2002 (priors).
    """

    mean: float = 0.0
    deviation: float = 1.0
    shift: tuple[float, ...] = ()

    @classmethod
    def of(cls, cases: Sequence[VectorCase]) -> Scale:
        """Return the scale of the numbers of cases."""
        values = np.array([float(c.target) for c in cases if isinstance(c.target, int | float)])
        return cls(float(values.mean()), max(float(values.std()), 1e-9)) if len(values) else cls()


def cox_loss(
    risk: Float[torch.Tensor, " n"], days: Float[torch.Tensor, " n"], happened: Float[torch.Tensor, " n"]
) -> Float[torch.Tensor, ""]:
    """Return the negative logarithm of Cox's partial likelihood for each event, ties as Breslow takes them.

    Args:
        risk: Logarithm of the hazard relative to others.
        days: Until the event, or until last seen.
        happened: 1 where the event happened.

    Source:
        Cox, JRSS B 1972; Breslow, Biometrics 1974; Katzman et al., BMC Med Res Methodol 2018 (for networks).
    """
    at_risk = days[None, :] >= days[:, None]
    whole = torch.logsumexp(risk[None, :].masked_fill(~at_risk, float("-inf")), dim=1)
    return ((whole - risk) * happened).sum() / happened.sum().clamp(min=1)


class VectorJob:
    """What the engine learns: whatever is said of a whole image.

    Args:
        plan: What was settled.
        kind: Of the labels.
        learnt: Cases to learn from.
        validation: Cases that decide when it is best; may be empty.
        balanced: Whether classes are drawn equally often, and findings that are there count more.
        smoothing: Of the labels of classes.
    """

    def __init__(
        self,
        plan: Plan,
        kind: Kind,
        learnt: Sequence[VectorCase],
        validation: Sequence[VectorCase],
        *,
        balanced: bool = True,
        smoothing: float = 0.05,
    ) -> None:
        self.plan, self.kind, self.learnt, self.validation = plan, kind, learnt, validation
        self.smoothing = smoothing
        self._groups = self._grouped() if balanced else None
        self._weights = self._finding_weights() if balanced and kind == "multilabel" else None
        self.scale = self._scaled()

    def _scaled(self) -> Scale:
        if self.kind == "regress":
            return Scale.of(self.learnt)
        if self._groups is not None and len(self._groups) == self.plan.network.outputs:
            counts = np.array([len(group) for group in self._groups], dtype=np.float64)
            return Scale(shift=tuple(float(v) for v in np.log(counts / counts.mean())))
        if self._weights is not None:
            return Scale(shift=tuple(float(v) for v in -np.log(self._weights.numpy().astype(np.float64))))
        return Scale()

    def settle_scale(self, net: nn.Module) -> Scale:
        """Return the scale of a network that has learnt; see `Scale`."""
        if self.kind == "survive":
            risks = answers(net, self.learnt, self.kind)
            self.scale = Scale(shift=(-float(risks[:, 0].mean()),))
        return self.scale

    def _grouped(self) -> list[list[int]] | None:
        if self.kind != "classify":
            return None
        groups: dict[int, list[int]] = {}
        for number, case in enumerate(self.learnt):
            if isinstance(case.target, int):
                groups.setdefault(case.target, []).append(number)
        return [groups[key] for key in sorted(groups)]

    def _finding_weights(self) -> torch.Tensor:
        """Return what a positive counts, of each finding: as negatives to positives, at most 10."""
        table = np.array([case.target for case in self.learnt if isinstance(case.target, tuple)])
        positives, negatives = (table == 1).sum(0), (table == 0).sum(0)
        return torch.from_numpy(np.clip(negatives / np.maximum(positives, 1), 1.0, 10.0).astype(np.float32))

    @property
    def batch(self) -> int:
        """Images or windows of a step."""
        return self.plan.batch

    def loss(self, net: nn.Module, rng: np.random.Generator) -> torch.Tensor:
        """Draw images and return their loss."""
        picked, plan = [], self.plan
        for _ in range(plan.batch):
            pool = None if self._groups is None else self._groups[int(rng.integers(len(self._groups)))]
            number = int(rng.integers(len(self.learnt))) if pool is None else pool[int(rng.integers(len(pool)))]
            picked.append(self.learnt[number])
        images = []
        for case in picked:
            image, _ = cut(case.image, None, None, plan.window, plan.alteration, rng)
            images.append(alter_values(image, plan.alteration, rng))
        answer = net(torch.from_numpy(np.stack(images)).to(device_of(net)))
        return self._loss(answer.float(), [case.target for case in picked])

    def _loss(self, answer: Float[torch.Tensor, "n outputs"], targets: Sequence[Target]) -> torch.Tensor:
        there = answer.device
        if self.kind == "classify":
            classes = torch.tensor([t for t in targets if isinstance(t, int)], device=there)
            return functional.cross_entropy(answer, classes, label_smoothing=self.smoothing)
        if self.kind == "multilabel":
            table = torch.tensor([t for t in targets if isinstance(t, tuple)], dtype=torch.float32, device=there)
            weights = None if self._weights is None else self._weights.to(there)
            known = (table >= 0).float()
            each = functional.binary_cross_entropy_with_logits(
                answer, table.clamp(min=0), pos_weight=weights, reduction="none"
            )
            return (each * known).sum() / known.sum().clamp(min=1)
        if self.kind == "regress":
            values = torch.tensor([float(t) for t in targets if isinstance(t, int | float)], device=there)
            return functional.smooth_l1_loss(answer[:, 0], (values - self.scale.mean) / self.scale.deviation)
        events = [t for t in targets if isinstance(t, Event)]
        table = torch.tensor([(e.days, float(e.happened)) for e in events], device=there)
        days, happened = table[:, 0], table[:, 1]
        return cox_loss(answer[:, 0], days, happened)

    def validate(self, net: nn.Module) -> Mapping[str, float]:
        """Return the figures of the validation cases; none where they can't be judged, as they are all of one class."""
        if not self.validation:
            return {}
        found = answers(net, self.validation, self.kind, scale=self.scale)
        try:
            return figures(self.kind, [case.target for case in self.validation], found)
        except DataError:
            return {}


def answers(
    net: nn.Module,
    cases: Sequence[VectorCase],
    kind: Kind,
    *,
    scale: Scale | None = None,
    mirror: Sequence[bool] = (),
    chunk: int = 32,
) -> Float[np.ndarray, "n outputs"]:
    """Return probabilities of classes or findings, numbers, or risks.

    Args:
        net: In evaluation mode.
        cases: Prepared.
        kind: Of the labels.
        scale: From what the network gives to what is meant.
        mirror: Axes along which it also looks at the mirror image; logits are averaged.
        chunk: Images at a time.
    """
    return answers_by_view(net, cases, kind, scale=scale, mirror=mirror, chunk=chunk)[0]


def answers_by_view(
    net: nn.Module,
    cases: Sequence[VectorCase],
    kind: Kind,
    *,
    scale: Scale | None = None,
    mirror: Sequence[bool] = (),
    chunk: int = 32,
) -> tuple[Float[np.ndarray, "n outputs"], Float[np.ndarray, "n views outputs"]]:
    """Return what `answers` does, and what each view alone gives: as numbers for "regress", else logits."""
    found, each, device = [], [], device_of(net)
    for first in range(0, len(cases), chunk):
        x = torch.from_numpy(np.stack([case.image for case in cases[first : first + chunk]])).to(device)
        dims = x.ndim - 2
        views = [(), *((axis - dims,) for axis in range(dims) if mirror and mirror[axis - dims])]
        with torch.inference_mode():
            several = torch.stack([net(x.flip(v) if v else x).float() for v in views]).cpu()
        logits = several.mean(0)
        if scale is not None and scale.shift:
            logits = logits + torch.tensor(scale.shift)
        if kind == "classify":
            logits = logits.softmax(1)
        elif kind == "multilabel":
            logits = logits.sigmoid()
        elif kind == "regress" and scale is not None:
            logits, several = (v * scale.deviation + scale.mean for v in (logits, several))
        found.append(logits.numpy())
        each.append(several.transpose(0, 1).numpy())
    return np.concatenate(found).astype(np.float64), np.concatenate(each).astype(np.float64)


def figures(kind: Kind, targets: Sequence[Target], found: Float[np.ndarray, "n outputs"]) -> dict[str, float]:
    """Return what answers are worth; "score" is what is to be high.

    Args:
        kind: Of the labels.
        targets: The labels.
        found: From `answers`.

    Raises:
        DataError: Nothing can be said, as a class is missing.
    """
    if kind == "classify":
        truth = np.array([t for t in targets if isinstance(t, int)])
        present = np.unique(truth)
        if len(present) < 2:
            raise DataError(f"all {len(truth)} validation cases are of one class: an AUROC needs two; give more cases")
        area = auroc_macro(truth, found)
        if math.isnan(area):  # a class is absent here: the mean of those that are there
            area = float(np.mean([auroc(truth == c, found[:, c]) for c in present]))
        right = found.argmax(1) == truth
        balanced = float(np.mean([right[truth == c].mean() for c in present]))
        loss = float(-np.log(np.clip(found[np.arange(len(truth)), truth], 1e-7, 1)).mean())
        return {
            "score": area - 0.05 * loss, "auroc": area, "accuracy": float(right.mean()), "balanced_accuracy": balanced
        }  # fmt: skip
    if kind == "multilabel":
        table = np.array([t for t in targets if isinstance(t, tuple)])
        areas = [auroc(table[table[:, n] >= 0, n] == 1, found[table[:, n] >= 0, n]) for n in range(table.shape[1])]
        known = [a for a in areas if not math.isnan(a)]
        if not known:
            raise DataError("no finding is both present and absent among the validation cases; give more cases")
        return {"score": float(np.mean(known)), "auroc": float(np.mean(known))}
    if kind == "regress":
        values = np.array([float(t) for t in targets if isinstance(t, int | float)])
        error = float(np.abs(found[:, 0] - values).mean())
        return {"score": -error, "mean_absolute_error": error}
    events = [t for t in targets if isinstance(t, Event)]
    index = concordance(np.array([e.days for e in events]), np.array([e.happened for e in events]), found[:, 0])
    return {"score": 0.5 if math.isnan(index) else index, "concordance": index}
