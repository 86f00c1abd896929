"""Learn a fusion network from patients, and use it: every source on the scale of the patients learnt from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64
from scipy.special import expit, softmax
from torch.nn import functional

from isocenter.core.errors import DataError, TrainingError
from isocenter.models.fusion.heads import cox_loss, hazard_loss
from isocenter.models.fusion.intervals import Intervals, cut_time
from isocenter.models.fusion.network import FusionNet, FusionSettings

__all__ = ["LEAST_OF_EACH", "FusionAnswer", "FusionModel", "Sources", "fit_classes", "fit_times"]

LEAST_OF_EACH = 10
"""Patients with the event, or of each class, and as many others: with fewer nothing is learnt (our convention)."""
_STEPS, _RATE, _DECAY, _NETWORKS, _LOOK = 300, 0.01, 0.1, 5, 5


@dataclass(frozen=True, eq=False)
class Sources:
    """What several patients have.

    Args:
        vectors: Of each source, a row for each patient; a row of NaN where it is missing.

    Raises:
        DataError: No source, lengths that differ, or a row of which a part is missing: impute that before.
    """

    vectors: Mapping[str, Float[np.ndarray, "n _"]]

    def __post_init__(self) -> None:
        if not self.vectors or len({len(v) for v in self.vectors.values()}) != 1:
            raise DataError("fusion needs a source, and a row for each patient in every one")
        for name, rows in self.vectors.items():
            gap = np.isnan(rows)
            if (gap.any(axis=1) & ~gap.all(axis=1)).any() or np.isinf(rows).any():
                raise DataError(
                    f"source {name!r} has rows of which a part is missing, or infinite; a source is there or not: "
                    "impute the table before, and leave an image out whole"
                )

    def __len__(self) -> int:
        return len(next(iter(self.vectors.values())))

    @property
    def present(self) -> Bool[np.ndarray, "n sources"]:
        """Which sources each patient has, in order."""
        return np.stack([~np.isnan(v[:, 0]) for v in self.vectors.values()], axis=1)

    def rows(self, chosen: Bool[np.ndarray, " n"] | Int64[np.ndarray, " k"]) -> Sources:
        """Return some of the patients."""
        return Sources({name: v[chosen] for name, v in self.vectors.items()})

    def without(self, *names: str) -> Sources:
        """Return the same patients as if they lacked these sources."""
        return Sources({n: np.full_like(v, np.nan) if n in names else v for n, v in self.vectors.items()})

    def only(self, names: Sequence[str]) -> Sources:
        """Return the same patients with these sources alone, the others not even known of."""
        return Sources({n: self.vectors[n] for n in names})


@dataclass(frozen=True, eq=False)
class FusionAnswer:
    """What a network says.

    Args:
        outputs: Chances of classes, the logarithm of the hazard ratio (one column), or hazards of intervals.
        weights: How much attention each source got, adding up to 1.
        answered: Who has a source; the others' rows are NaN.
    """

    outputs: Float[np.ndarray, "n k"]
    weights: Float[np.ndarray, "n sources"]
    answered: Bool[np.ndarray, " n"]


@dataclass(frozen=True, eq=False)
class FusionModel:
    """Learned networks with the scale of each source; their mean answers.

    Args:
        nets: In evaluation mode, each stopped on another part of the patients.
        centres: Of each source.
        scales: Of each source.
        intervals: Of time, for hazards.
    """

    nets: tuple[FusionNet, ...]
    centres: Mapping[str, Float[np.ndarray, " _"]]
    scales: Mapping[str, Float[np.ndarray, " _"]]
    intervals: Intervals | None = None

    def answer(self, patients: Sources) -> FusionAnswer:
        """Answer for patients; who has no source at all has rows of NaN.

        Raises:
            DataError: A source is not there, or of another length.
        """
        has = np.asarray(patients.present.any(axis=1))
        count, settings = len(patients), self.nets[0].settings
        outputs = np.full((count, settings.outputs), np.nan)
        weights = np.full((count, len(settings.sources)), np.nan)
        if has.any():
            vectors, present = _tensors(patients.rows(has), self)
            with torch.inference_mode():
                each = [net(vectors, present) for net in self.nets]
            raws = [out.double().numpy() for out, _ in each]
            if settings.head == "classify":
                raws = [softmax(raw, axis=1) for raw in raws]
            elif settings.head == "discrete":
                raws = [expit(raw) for raw in raws]
            outputs[has] = np.mean(raws, axis=0)
            weights[has] = np.mean([told.double().numpy() for _, told in each], axis=0)
        return FusionAnswer(outputs, weights, has)

    def survival(self, patients: Sources, at_days: Float[np.ndarray, " q"]) -> Float[np.ndarray, "n q"]:
        """Return the chance of being without the event after each day, from hazards.

        Raises:
            DataError: The network has no hazards.
        """
        if self.intervals is None:
            raise DataError("only a network of hazards over intervals has curves of its own; Cox needs a baseline")
        return self.intervals.survival(self.answer(patients).outputs, at_days)


def _tensors(patients: Sources, model: FusionModel) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    vectors, present = {}, []
    for name, size in model.nets[0].settings.sources:
        rows = patients.vectors.get(name)
        if rows is None or rows.shape[1] != size:
            raise DataError(f"needs {size} numbers of the source {name!r}")
        present.append(~np.isnan(rows[:, 0]))
        scaled = np.nan_to_num((rows - model.centres[name]) / model.scales[name])
        vectors[name] = torch.from_numpy(scaled.astype(np.float32))
    return vectors, torch.from_numpy(np.stack(present, axis=1))


def _begun(
    patients: Sources, settings: FusionSettings, intervals: Intervals | None, networks: int
) -> FusionModel:  # fmt: skip
    centres, scales = {}, {}
    for name, rows in patients.vectors.items():
        seen = rows[~np.isnan(rows[:, 0])]
        if not len(seen):
            raise DataError(f"nobody has the source {name!r}: leave it out")
        spread = seen.std(axis=0)
        centres[name], scales[name] = seen.mean(axis=0), np.where(spread > 1e-9, spread, 1.0)
    nets = tuple(FusionNet(settings) for _ in range(networks))
    return FusionModel(nets, centres, scales, intervals)


def refuse_few(first: int, others: int, what: str) -> None:
    """Refuse to learn from too few.

    Raises:
        DataError: Fewer than `LEAST_OF_EACH` on a side.
    """
    if min(first, others) < LEAST_OF_EACH:
        raise DataError(
            f"{first} patients {what} and {others} others are too few to join several sources: at least "
            f"{LEAST_OF_EACH} of each are needed, and hundreds for an answer that can be relied on"
        )


def fit_classes(
    patients: Sources,
    classes: Int64[np.ndarray, " n"],
    *,
    settings: FusionSettings | None = None,
    steps: int = _STEPS,
    seed: int = 0,
) -> FusionModel:
    """Learn classes from several sources.

    Args:
        patients: What they have.
        classes: Of each, from 0.
        settings: Of the network; sources and outputs are set from the patients.
        steps: Of training, all patients at once.
        seed: Of everything random.

    Raises:
        DataError: A class of too few, or sources that don't fit.
        TrainingError: The loss is no number.
    """
    counts = np.bincount(classes)
    least = int(counts.argmin())
    refuse_few(int(counts[least]), len(classes) - int(counts[least]), f"of class {least}")
    sources = tuple((n, v.shape[1]) for n, v in patients.vectors.items())
    begun = settings or FusionSettings(sources, "classify", len(counts))
    made = replace(begun, sources=sources, head="classify", outputs=len(counts))
    truth = torch.from_numpy(classes)
    return _fit(patients, made, None, lambda out, rows: functional.cross_entropy(out, truth[rows]), _How(steps, seed))


def fit_times(
    patients: Sources,
    days: Float[np.ndarray, " n"],
    happened: Bool[np.ndarray, " n"],
    *,
    settings: FusionSettings | None = None,
    steps: int = _STEPS,
    networks: int = _NETWORKS,
    decay: float = _DECAY,
    seed: int = 0,
) -> FusionModel:
    """Learn times to an event from several sources.

    Args:
        patients: What they have.
        days: Until the event, or until last seen.
        happened: Whether the event happened.
        settings: Of the network, with the head "cox" or "discrete"; sources and outputs are set from the patients.
        steps: Of training, all patients at once.
        networks: Whose mean answers; each is stopped on another part of the patients.
        decay: Of weights.
        seed: Of everything random.

    Raises:
        DataError: Too few events, or sources that don't fit.
        TrainingError: The loss is no number.
        CapabilityError: Cox's likelihood is asked for and torchsurv is not installed.
    """
    events = int(happened.sum())
    refuse_few(events, max(len(days) - events, LEAST_OF_EACH), "with the event")
    sources = tuple((n, v.shape[1]) for n, v in patients.vectors.items())
    head = settings.head if settings is not None else "discrete"
    if head == "classify":
        raise DataError("times need the head 'cox' or 'discrete'")
    intervals = cut_time(days, happened, most=10) if head == "discrete" else None
    outputs = 1 if intervals is None else len(intervals)
    made = replace(settings or FusionSettings(sources, head, outputs), sources=sources, outputs=outputs)
    if intervals is None:
        when, came = torch.from_numpy(days.astype(np.float32)), torch.from_numpy(happened)
        return _fit(
            patients, made, None, lambda out, rows: cox_loss(out[:, 0], when[rows], came[rows]),
            _How(steps, seed, networks, decay),
        )  # fmt: skip
    passed, event = (torch.from_numpy(part) for part in intervals.place(days, happened))
    return _fit(
        patients, made, intervals, lambda out, rows: hazard_loss(out, passed[rows], event[rows]),
        _How(steps, seed, networks, decay),
    )  # fmt: skip


@dataclass(frozen=True)
class _How:
    """How networks are learnt."""

    steps: int
    seed: int
    networks: int = _NETWORKS
    decay: float = _DECAY


def _fit(
    patients: Sources,
    settings: FusionSettings,
    intervals: Intervals | None,
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    how: _How,
) -> FusionModel:
    """Learn from those who have a source: a network for each part that is held out, stopped where that is best."""
    has = np.asarray(patients.present.any(axis=1))
    known = patients.rows(has)
    rows = torch.from_numpy(np.flatnonzero(has))
    part = torch.from_numpy(np.random.default_rng(how.seed).permutation(len(known)) % _NETWORKS)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(how.seed)
        model = _begun(known, settings, intervals, how.networks)
        vectors, present = _tensors(known, model)
        for number, net in enumerate(model.nets):
            out = part == number
            _stopped(net, (vectors, present, rows), loss_of, out, how)
    return model


def _stopped(
    net: FusionNet,
    data: tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor],
    loss_of: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    out: torch.Tensor,
    how: _How,
) -> None:
    """Learn one network; keep it as it was when its loss on the part held out was least."""
    vectors, present, rows = data
    inside = {name: v[~out] for name, v in vectors.items()}
    outside = {name: v[out] for name, v in vectors.items()}
    optimiser = torch.optim.AdamW(net.parameters(), lr=_RATE, weight_decay=how.decay)
    least, best = float("inf"), {k: v.clone() for k, v in net.state_dict().items()}
    for step in range(how.steps):
        net.train()
        optimiser.zero_grad(set_to_none=True)
        loss = loss_of(net(inside, present[~out])[0], rows[~out])
        if not bool(torch.isfinite(loss)):
            raise TrainingError("the loss is no number; a source may hold numbers of very different size")
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        if step % _LOOK == _LOOK - 1:
            net.eval()
            with torch.no_grad():
                held = float(loss_of(net(outside, present[out])[0], rows[out]))
            if held < least:
                least, best = held, {k: v.clone() for k, v in net.state_dict().items()}
    net.load_state_dict(best)
    net.eval()
