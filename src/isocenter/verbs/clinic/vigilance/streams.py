"""One rule and task as a stream of studies: what is compared with the reference, and in which order.

A study counts once, with the version that was answered first and the image that its task answered (else the first that
was for it), for images of one study resemble each other. What came in and how often the task abstains is of all
studies; what comes out is of the present weights alone: another model's numbers are no drift.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from isocenter.clinic.vigilance import Observation, Said

__all__ = ["ABSTAINED", "INPUTS", "Feature", "Study", "features_of", "studies_of", "tie_of", "value_of"]

Kind = Literal["numbers", "words", "rate"]
ABSTAINED: Final = "abstained"
INPUTS: Final = (
    "slices", "rows", "columns", "spacing z", "spacing y", "spacing x", "intensity p1", "intensity p5", "intensity p25",
    "intensity p50", "intensity p75", "intensity p95", "intensity p99", "noise", "noise share", "modality", "body part",
    "quantity", "manufacturer", "scanner",
)  # fmt: skip
_LEAST_SHARE = 0.5
"""A number that fewer of the reference's studies have is not watched: its absence is no news."""


@dataclass(frozen=True)
class Study:
    """One study of a stream.

    Args:
        row: What was observed.
        said: What readers said of the answer.
    """

    row: Observation
    said: tuple[Said, ...] = ()


@dataclass(frozen=True)
class Feature:
    """Something that is watched: its name, whether numbers or words, and whether it comes out of the model."""

    name: str
    kind: Kind
    output: bool


def studies_of(rows: Sequence[Observation], said: Mapping[str, Sequence[Said]]) -> list[Study]:
    """Return the studies of a stream, each once, in the order in which they came.

    Args:
        rows: Of one rule, arm and task.
        said: What readers said, by study.
    """
    first: dict[str, list[Observation]] = {}
    for row in rows:
        mine = first.setdefault(row.study, [])
        if not mine or mine[0].version == row.version:
            mine.append(row)
    found = []
    for study, mine in first.items():
        one = min(mine, key=lambda r: (_order(r), r.image))
        spoken = tuple(s for s in said.get(study, ()) if s.task == one.task)
        # The study stands where its first row does: a row that is chosen later must not change the order.
        found.append(Study(replace(one, number=mine[0].number, at=mine[0].at), spoken))
    return found


def _order(row: Observation) -> int:
    """Order the images of a study: answered, then refused by the gate, then others; images for other tasks last."""
    if row.state == "answered":
        return 0
    return {"unlike": 1, "other": 2, "prompt": 3, "missing": 3, "misfit": 4}.get(row.reason, 0)


def features_of(reference: Sequence[Study]) -> list[Feature]:
    """Return what is watched of a stream: what most of the reference's studies have."""
    counts: dict[tuple[str, Kind], int] = {}
    answered = [s for s in reference if s.row.state == "answered"]
    for study in reference:
        for name in study.row.numbers:
            counts[name, "numbers"] = counts.get((name, "numbers"), 0) + 1
        for name in study.row.words:
            counts[name, "words"] = counts.get((name, "words"), 0) + 1
    found = [Feature(ABSTAINED, "words", False)]
    for (name, kind), count in counts.items():
        output = name not in INPUTS
        if count >= _LEAST_SHARE * len(answered if output else reference) and count:
            found.append(Feature(name, kind, output))
    order = {name: n for n, name in enumerate((ABSTAINED, *INPUTS))}
    return sorted(found, key=lambda f: (order.get(f.name, len(order)), f.name))


def value_of(study: Study, feature: Feature, known: frozenset[str] = frozenset()) -> float | str | None:
    """Return what a study has of a feature; None where it has nothing.

    Args:
        study: The study.
        feature: Which.
        known: Words of the reference; any other is "other".
    """
    row = study.row
    if feature.name == ABSTAINED:
        return "no" if row.state == "answered" else "yes"
    if feature.kind == "numbers":
        return row.numbers.get(feature.name)
    word = row.words.get(feature.name)
    return word if word is None or not known or word in known else "other"


def tie_of(study: Study, feature: Feature) -> float:
    """Return a number in (0, 1) that looks drawn at random and is the same whenever it is asked for."""
    digest = hashlib.sha256(f"{study.row.key}\0{feature.name}\0{feature.kind}".encode()).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48
