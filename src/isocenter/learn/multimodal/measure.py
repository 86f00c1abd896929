"""Answers with the image, without it, and with another patient's: how much of what is right comes from looking.

The gap between a model and its blind twin is the figure that counts: high accuracy alone may be guessed from the words
of a question and from how frequent answers are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Int64

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import bootstrap_mean
from isocenter.evaluate.statistics.paired import compare_means
from isocenter.learn.multimodal.cases import Cases
from isocenter.models.multimodal import Multimodal, lay_out, log_likelihoods
from isocenter.models.multimodal.answers import score_choices

__all__ = ["Answered", "Free", "GapFigure", "answer_closed", "free_losses", "gap_figures", "shuffled_images"]

ImageOf = Callable[[str], np.ndarray]
_AT_ONCE = 32


@dataclass(frozen=True, eq=False)
class Answered:
    """Answers to the questions of one closed kind.

    Args:
        kind: Of question.
        answers: The closed set.
        places: Which questions of the set.
        patients: Who each is of.
        truth: Number of the true answer.
        scores: Log-likelihood of each answer.
    """

    kind: str
    answers: tuple[str, ...]
    places: tuple[int, ...]
    patients: tuple[str, ...]
    truth: Int64[np.ndarray, " n"]
    scores: Float[np.ndarray, "n k"]

    @property
    def right(self) -> Bool[np.ndarray, " n"]:
        """Whether the likeliest answer is the true one."""
        return np.asarray(self.scores.argmax(axis=1) == self.truth)


@dataclass(frozen=True, eq=False)
class Free:
    """How surprising free answers are.

    Args:
        places: Which questions of the set.
        patients: Who each is of.
        values: Mean over an answer's tokens, in nats.
    """

    places: tuple[int, ...]
    patients: tuple[str, ...]
    values: Float[np.ndarray, " n"]


def _seen(
    model: Multimodal, cases: Cases, places: Sequence[int], image_of: Callable[[int], list[np.ndarray]]
) -> tuple[torch.Tensor, list[int]]:
    """Return the tokens of all images of questions, and how many each has."""
    images = [image_of(at) for at in places]
    return model.see([one for some in images for one in some]), [len(some) for some in images]


def _images(cases: Cases, image_of: ImageOf) -> Callable[[int], list[np.ndarray]]:
    return lambda at: [image_of(name) for name in cases.cases[at].images]


def answer_closed(
    model: Multimodal, cases: Cases, places: Sequence[int], image_of: ImageOf, *, of: Mapping[int, int] | None = None
) -> tuple[Answered, ...]:
    """Answer the questions of closed kinds.

    Args:
        model: Who answers.
        cases: The set.
        places: Which questions; those of free kinds are left out.
        image_of: What is shown in place of an image.
        of: By question, the question whose images are shown instead.
    """
    found, shown, swap = [], _images(cases, image_of), of or {}
    for kind, answers in cases.closed.items():
        mine = [at for at in places if cases.cases[at].kind == kind]
        if not mine:
            continue
        scores: Float[np.ndarray, "n k"] = np.zeros((len(mine), len(answers)))
        for start in range(0, len(mine), _AT_ONCE):
            some = mine[start : start + _AT_ONCE]
            seen, counts = _seen(model, cases, [swap.get(at, at) for at in some], shown)
            if set(counts) == {1}:
                asked = [cases.cases[at].question for at in some]
                scores[start : start + len(some)] = score_choices(model.net, model.words, seen, asked, answers)
            else:
                scores[start : start + len(some)] = _several(model, cases, some, (seen, counts), answers)
        truth = np.array([answers.index(cases.cases[at].answer) for at in mine], dtype=np.int64)
        patients = tuple(cases.cases[at].patient for at in mine)
        found.append(Answered(kind, answers, tuple(mine), patients, truth, scores))
    return tuple(found)


@torch.inference_mode()
def _several(
    model: Multimodal,
    cases: Cases,
    places: Sequence[int],
    shown: tuple[torch.Tensor, list[int]],
    answers: Sequence[str],
) -> Float[np.ndarray, "n k"]:
    """Score questions of several images, one by one."""
    rows, parts = [], torch.split(shown[0], shown[1])
    for at, count, seen in zip(places, shown[1], parts, strict=True):
        laid = lay_out(
            model.words, [(cases.cases[at].question, count)] * len(answers), answers,
            tokens=model.net.tokens, length=model.net.length,
        )  # fmt: skip
        said, _ = log_likelihoods(model.net, model.words, laid, seen.repeat(len(answers), 1, 1))
        rows.append(said.double().numpy())
    return np.stack(rows)


@torch.inference_mode()
def free_losses(
    model: Multimodal, cases: Cases, places: Sequence[int], image_of: ImageOf, *, of: Mapping[int, int] | None = None
) -> Free:
    """Return how surprising the answers of free kinds are; arguments as of `answer_closed`."""
    mine = [at for at in places if cases.cases[at].kind not in cases.closed]
    values: list[float] = []
    shown, swap = _images(cases, image_of), of or {}
    for start in range(0, len(mine), _AT_ONCE):
        some = mine[start : start + _AT_ONCE]
        seen, counts = _seen(model, cases, [swap.get(at, at) for at in some], shown)
        laid = lay_out(
            model.words,
            [(cases.cases[at].question, count) for at, count in zip(some, counts, strict=True)],
            [cases.cases[at].answer for at in some],
            tokens=model.net.tokens,
            length=model.net.length,
        )
        said, tokens = log_likelihoods(model.net, model.words, laid, seen)
        values += (-said / tokens).tolist()
    return Free(tuple(mine), tuple(cases.cases[at].patient for at in mine), np.array(values, dtype=np.float64))


def shuffled_images(cases: Cases, places: Sequence[int], seed: int) -> dict[int, int]:
    """Return for each question another one, of its kind and of another patient, whose images are shown instead.

    Args:
        cases: The set.
        places: Which questions.
        seed: Decides which.

    Raises:
        DataError: A kind is asked of one patient only.
    """
    rng, found = np.random.default_rng([seed, 31]), {}
    for kind in sorted({cases.cases[at].kind for at in places}):
        mine = [at for at in places if cases.cases[at].kind == kind]
        for at in mine:
            me = cases.cases[at]
            others = [o for o in mine if cases.cases[o].patient != me.patient]
            alike = [o for o in others if len(cases.cases[o].images) == len(me.images)]
            if not alike:
                raise DataError(f"the kind {kind!r} is asked of one patient only: no other image can be shown")
            found[at] = alike[int(rng.integers(len(alike)))]
    return found


@dataclass(frozen=True)
class GapFigure:
    """How often a kind of question is answered rightly, and how much of that comes from looking.

    Args:
        kind: Of question, or "all".
        answers: How many there are to choose from; 0 for "all".
        questions: How many were asked.
        patients: Of how many.
        prior: Share of the most frequent answer in training.
        sighted: Share right with the image.
        low: Lower end of its 95 % interval over patients; None with fewer than 10.
        high: Upper end.
        blind: Share right by the blind twin; None where none was trained.
        shuffled: Share right with another patient's image.
        gap: Sighted minus blind.
        gap_low: Lower end of its 95 % interval, by paired resampling of patients.
        gap_high: Upper end.
        p: Of a gap of zero, by exchanging the two for whole patients.
    """

    kind: str
    answers: int
    questions: int
    patients: int
    prior: float
    sighted: float
    low: float | None
    high: float | None
    blind: float | None
    shuffled: float
    gap: float | None
    gap_low: float | None
    gap_high: float | None
    p: float | None

    def as_row(self) -> dict[str, object]:
        """Return JSON-ready values."""
        return asdict(self)


def gap_figures(
    sighted: Sequence[Answered],
    blind: Sequence[Answered] | None,
    shuffled: Sequence[Answered],
    priors: Mapping[str, float],
    *,
    resamples: int = 2000,
) -> tuple[GapFigure, ...]:
    """Return the figures of every kind, and of all together.

    Args:
        sighted: Answers with the image.
        blind: Of the blind twin, to the same questions; None where none was trained.
        shuffled: With another patient's image, to the same questions.
        priors: By kind, share of the most frequent answer in training.
        resamples: Of the intervals.
    """
    found = []
    for number, one in enumerate(sighted):
        twin = None if blind is None else blind[number].right
        found.append(
            _figure(
                (one.kind, len(one.answers), priors[one.kind]),
                (one.right, twin, shuffled[number].right),
                one.patients,
                resamples,
            )
        )
    if len(found) > 1:
        every = np.concatenate([one.right for one in sighted])
        twins = None if blind is None else np.concatenate([one.right for one in blind])
        patients = tuple(p for one in sighted for p in one.patients)
        prior = float(np.average([f.prior for f in found], weights=[f.questions for f in found]))
        others = np.concatenate([one.right for one in shuffled])
        found.append(_figure(("all", 0, prior), (every, twins, others), patients, resamples))
    return tuple(found)


def _figure(
    said: tuple[str, int, float],
    right: tuple[np.ndarray, np.ndarray | None, np.ndarray],
    patients: Sequence[str],
    resamples: int,
) -> GapFigure:
    kind, answers, prior = said
    sighted, blind, shuffled = right
    values = sighted.astype(np.float64)
    enough = len(set(patients)) >= 10
    interval = bootstrap_mean(values, patients, resamples=resamples) if enough else None
    gap = low = high = p = None
    if blind is not None:
        gap = float(values.mean() - blind.mean())
        if enough:
            compared = compare_means(blind.astype(np.float64), values, patients, resamples=resamples)
            low, high, p = compared.difference.low, compared.difference.high, compared.p
    return GapFigure(
        kind, answers, len(values), len(set(patients)), prior, float(values.mean()),
        None if interval is None else interval.low, None if interval is None else interval.high,
        None if blind is None else float(blind.mean()), float(shuffled.mean()), gap, low, high, p,
    )  # fmt: skip
