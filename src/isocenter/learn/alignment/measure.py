"""What an aligned model is held to: retrieval against chance, the probe of negation and side, findings told in words.

**The probe.** A true sentence of a patient's own report and its contradiction (`contradiction`) stand before the
patient's image; a model that looks and reads takes the true one. Chance is one half. Because some sentences give
themselves away ("the lungs are not clear" is seldom written), the same choice is also made without looking, by the mean
of all images: what a model does better than that it owes to the image.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import DataError
from isocenter.evaluate.bootstrap import bootstrap_mean
from isocenter.evaluate.discrimination import bootstrap_roc_auc, roc_auc
from isocenter.evaluate.retrieval import chance_at_k, choices, hits_at_k
from isocenter.learn.alignment.contradiction import contradict_in_report
from isocenter.learn.alignment.pairs import Pair, Pairs
from isocenter.learn.alignment.texts import ABSENT, PRESENT
from isocenter.models.aligned import Aligned
from isocenter.models.text import normalise_text

__all__ = [
    "Figure",
    "ProbeItem",
    "as_rows",
    "finding_figures",
    "measure",
    "probe_figures",
    "probe_items",
    "retrieval_figures",
    "weigh_phrase",
]

KS = (1, 5, 10)
"""How many candidates retrieval looks at."""


@dataclass(frozen=True)
class Figure:
    """One measured figure.

    Args:
        name: What was measured.
        value: The figure.
        low: Lower end of its 95 % interval; None where there are too few patients for one.
        high: Upper end.
        chance: What knows nothing reaches.
        unseen: What the same model reaches without looking; None where that is not asked.
        patients: Behind it.
        count: Questions behind it.
    """

    name: str
    value: float
    low: float | None
    high: float | None
    chance: float
    unseen: float | None
    patients: int
    count: int


@dataclass(frozen=True)
class ProbeItem:
    """A true sentence and its contradiction.

    Args:
        at: Place of the pair in its set.
        kind: "negation", "laterality" or "severity".
        detail: For a negation whether the true sentence affirms or denies; for a side, which is the true one.
        true: What the report says.
        false: Its contradiction.
    """

    at: int
    kind: str
    detail: str
    true: str
    false: str


def probe_items(
    pairs: Pairs, places: Sequence[int], kinds: Sequence[str] = ("negation", "laterality")
) -> tuple[ProbeItem, ...]:
    """Return all probes of some pairs, at most two of each kind for each pair."""
    found: list[ProbeItem] = []
    for at in places:
        pair, left = pairs.pairs[at], dict.fromkeys(kinds, 2)
        for number, sentence in enumerate(pair.sentences):
            for item in contradict_in_report(pair.sentences, number, kinds):
                if left[item.kind] and normalise_text(item.text) not in pair.true:
                    left[item.kind] -= 1
                    found.append(ProbeItem(at, item.kind, _detail(item.kind, sentence, item.text), sentence, item.text))
    return tuple(found)


def _detail(kind: str, true: str, false: str) -> str:
    words, others = (set(normalise_text(text).replace("-", " ").rstrip(".").split()) for text in (true, false))
    if kind == "laterality":
        return "true side left" if "left" in words - others else "true side right"
    if kind == "negation":
        denies = {"no", "not", "without", "absent", "free"}
        return "true sentence denies" if denies & (words - others) else "true sentence affirms"
    return ""


def probe_figures(
    items: Sequence[ProbeItem],
    pairs: Pairs,
    images: Mapping[int, Float[np.ndarray, " width"]],
    embed: Callable[[Sequence[str]], Float[np.ndarray, "n width"]],
) -> list[Figure]:
    """Return how often the true sentence is taken, by kind and detail.

    Args:
        items: From `probe_items`.
        pairs: The set.
        images: The embedding of each pair's image, by its place.
        embed: Embeds texts.
    """
    if not items:
        return []
    texts = sorted({text for item in items for text in (item.true, item.false)})
    row = {text: i for i, text in enumerate(texts)}
    vectors = embed(texts)
    true, false = (vectors[[row[getattr(item, name)] for item in items]] for name in ("true", "false"))
    seen = np.stack([images[item.at] for item in items])
    mean = np.mean([images[at] for at in sorted(images)], axis=0)
    taken = choices((seen * true).sum(axis=1), (seen * false).sum(axis=1))
    blind = choices(true @ mean, false @ mean)
    groups: dict[str, list[int]] = {}
    for i, item in enumerate(items):
        groups.setdefault(item.kind, []).append(i)
        if item.detail:
            groups.setdefault(f"{item.kind}, {item.detail}", []).append(i)
    patients = np.array([pairs.pairs[item.at].patient for item in items])
    return [
        _mean_figure(f"probe: {name}", taken[at], patients[at].tolist(), 0.5, float(blind[at].mean()))
        for name, at in sorted(groups.items())
    ]


def _mean_figure(
    name: str, values: Float[np.ndarray, " n"], patients: Sequence[str], chance: float, unseen: float | None = None
) -> Figure:
    low: float | None = None
    high: float | None = None
    # With too few patients the value stands without an interval.
    with contextlib.suppress(DataError):
        interval = bootstrap_mean(values, patients)
        low, high = interval.low, interval.high
    return Figure(name, float(np.mean(values)), low, high, chance, unseen, len(set(patients)), len(values))


def retrieval_figures(
    pairs: Pairs,
    places: Sequence[int],
    images: Float[np.ndarray, "n width"],
    texts: Float[np.ndarray, "n width"],
    ks: Sequence[int] = KS,
) -> list[Figure]:
    """Return recall at k, image to text and text to image; a report that reads the same is as right as one's own."""
    own = [" ".join(sorted(map(normalise_text, pairs.pairs[at].sentences))) for at in places]
    right: Bool[np.ndarray, "n n"] = np.array([[a == b for b in own] for a in own])
    patients = [pairs.pairs[at].patient for at in places]
    similarity = images @ texts.T
    found = []
    for direction, matrix, wanted in (
        ("image to text", similarity, right),
        ("text to image", similarity.T, right.T),
    ):
        for k in ks:
            hits = hits_at_k(matrix, wanted, k)
            found.append(_mean_figure(f"recall@{k}, {direction}", hits, patients, chance_at_k(wanted, k)))
    return found


def finding_figures(
    aligned: Aligned,
    pairs: Pairs,
    places: Sequence[int],
    images: Float[np.ndarray, "n width"],
    phrases: Mapping[str, str],
) -> list[Figure]:
    """Return the area under the ROC curve of each labelled finding, told by words alone."""
    found = []
    patients = [pairs.pairs[at].patient for at in places]
    for label, phrase in phrases.items():
        present = np.array([pairs.pairs[at].findings[label] for at in places])
        if not 0 < present.sum() < len(present):
            continue
        scores = weigh_phrase(aligned, images, phrase)
        low: float | None = None
        high: float | None = None
        with contextlib.suppress(DataError):
            interval = bootstrap_roc_auc(scores, present, patients)
            low, high = interval.low, interval.high
        name = f"zero-shot AUC: {phrase} ({int(present.sum())} of {len(present)} have it)"
        found.append(Figure(name, roc_auc(scores, present), low, high, 0.5, None, len(set(patients)), len(places)))
    return found


def weigh_phrase(aligned: Aligned, images: Float[np.ndarray, "n width"], phrase: str) -> Float[np.ndarray, " n"]:
    """Return how much better the words for "there" fit each image than those for "not there", over several wordings."""
    vectors = [
        aligned.embed_texts([template.format(phrase) for template in wordings]).mean(axis=0)
        for wordings in (PRESENT, ABSENT)
    ]
    return aligned.weigh(images, vectors[0], vectors[1])


def measure(
    aligned: Aligned,
    pairs: Pairs,
    places: Sequence[int],
    *,
    kinds: Sequence[str] = ("negation", "laterality"),
    phrases: Mapping[str, str] | None = None,
) -> list[Figure]:
    """Measure everything on some pairs.

    Args:
        aligned: The model.
        pairs: The set.
        places: Which pairs; none that was learnt from.
        kinds: Kinds of contradiction.
        phrases: The words of labelled findings, where the set has labels.
    """
    images = aligned.embed_images([pairs.plane(at) for at in places])
    texts = aligned.embed_texts([_whole(pairs.pairs[at]) for at in places])
    by_place = dict(zip(places, images, strict=True))
    found = retrieval_figures(pairs, places, images, texts, [k for k in KS if k < len(places)])
    found += probe_figures(probe_items(pairs, places, kinds), pairs, by_place, aligned.embed_texts)
    if phrases:
        found += finding_figures(aligned, pairs, places, images, phrases)
    return found


def _whole(pair: Pair) -> str:
    return " ".join(pair.sentences)


def as_rows(figures: Sequence[Figure]) -> list[dict[str, Any]]:
    """Return figures as JSON-ready rows."""
    return [asdict(figure) for figure in figures]
