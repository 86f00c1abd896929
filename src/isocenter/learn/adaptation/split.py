"""Who learns from whom: folds by patient, validation cases inside them, or the parts that a set's makers chose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from isocenter.core.errors import ConfigError
from isocenter.data.labelled import LabelledCase

__all__ = ["Part", "one_side", "split"]

_LEAST_FOR_VALIDATION = 10
_VALIDATION_SHARE = 0.12


@dataclass(frozen=True)
class Part:
    """One network's share of a set; numbers of cases.

    Args:
        number: Of the network.
        learnt: It learns from these.
        validation: They decide when it is best; may be empty.
        held_out: They say what it is worth.
    """

    number: int
    learnt: tuple[int, ...]
    validation: tuple[int, ...]
    held_out: tuple[int, ...]


def split(
    cases: Sequence[LabelledCase], *, folds: int, seed: int, labelled: int | None = None, strata: Sequence[int] = ()
) -> tuple[Part, ...]:
    """Split cases so that no patient is on two sides.

    Where the set's makers chose parts, every network learns from theirs (`folds` networks that differ by chance) and is
    held to their test part; else there are folds, each held out once. Of what remains, a tenth of the patients decides
    when a network is best, if there are enough of them.

    Args:
        cases: The cases.
        folds: How many networks.
        seed: Decides the order of patients, and which learn.
        labelled: Most cases that a network learns from; None for all.
        strata: A number for each case; folds hold about equally many of each (classes).

    Raises:
        ConfigError: Fewer patients than two, or than folds; one patient is in two of the makers' parts.
    """
    if any(case.split for case in cases):
        return _given(cases, folds, seed, labelled)
    patients = sorted({case.patient for case in cases})
    if folds < 2:
        raise ConfigError("a set without a test part of its own needs 2 folds or more: something must be held out")
    if len(patients) < 2:
        raise ConfigError(
            "all cases are of one patient: nothing could be held out to say what is learnt; give cases of others"
        )
    if len(patients) < folds:
        raise ConfigError(f"{len(patients)} patients can't be split into {folds} folds; ask for at most as many")
    fold_of = _dealt(cases, patients, folds, seed, strata)
    parts = []
    for number in range(folds):
        held = tuple(i for i, case in enumerate(cases) if fold_of[case.patient] == number)
        rest = [i for i, case in enumerate(cases) if fold_of[case.patient] != number]
        learnt, validation = _inner(cases, rest, seed, number, labelled)
        parts.append(Part(number, learnt, validation, held))
    return tuple(parts)


def one_side(
    cases: Sequence[LabelledCase], images: Mapping[str, str]
) -> tuple[tuple[LabelledCase, ...], tuple[str, ...]]:
    """See to it that an image that is there twice, under two names or patients, is not on two sides of a split.

    In folds the two count as of one patient. Where the set's makers chose parts, a case is not learnt from whose image
    is also in the test part.

    Args:
        cases: The cases.
        images: Hash of each case's image, by name; cases that could not be read are not among them.

    Returns:
        The cases, and what was done to them, in words.

    Example:
        >>> cases = [LabelledCase(name, name, image=lambda: None) for name in ("a", "b", "c")]
        >>> found, told = one_side(cases, {"a": "1", "b": "2", "c": "1"})
        >>> [case.patient for case in found], len(told)
        (['a', 'b', 'a'], 1)
    """
    with_image: dict[str, list[LabelledCase]] = {}
    for case in cases:
        if case.name in images:
            with_image.setdefault(images[case.name], []).append(case)
    twice = [group for group in with_image.values() if len(group) > 1]
    if any(case.split for case in cases):
        dropped = {
            case.name
            for group in twice
            if any(c.split == "test" for c in group)
            for case in group
            if case.split != "test"
        }
        if not dropped:
            return tuple(cases), ()
        told = f"{len(dropped)} cases are not learnt from: their images are also in the test part"
        return tuple(case for case in cases if case.name not in dropped), (told,)
    patient = {case.patient: case.patient for case in cases}

    def first(name: str) -> str:
        while patient[name] != name:
            name = patient[name]
        return name

    joined = 0
    for group in twice:
        own = first(group[0].patient)
        for case in group[1:]:
            joined += first(case.patient) != own
            patient[first(case.patient)] = own
    if not joined:
        return tuple(cases), ()
    told = f"{joined} patients count as another's: they have the very same image, and it must not be on two sides"
    return tuple(replace(case, patient=first(case.patient)) for case in cases), (told,)


def _dealt(
    cases: Sequence[LabelledCase], patients: Sequence[str], folds: int, seed: int, strata: Sequence[int]
) -> dict[str, int]:
    """Deal patients to folds: those of one stratum in turn, the largest first, each to the emptiest fold."""
    group = {case.patient: strata[i] if strata else 0 for i, case in enumerate(cases)}
    size = dict.fromkeys(patients, 0)
    for case in cases:
        size[case.patient] += 1
    order = [patients[i] for i in np.random.default_rng((seed, 1)).permutation(len(patients))]
    fold_of: dict[str, int] = {}
    load = [0] * folds
    for stratum in sorted(set(group.values())):
        within = [0] * folds
        for name in sorted((p for p in order if group[p] == stratum), key=lambda p: -size[p]):
            fold = min(range(folds), key=lambda f: (within[f], load[f], f))
            fold_of[name] = fold
            within[fold] += size[name]
            load[fold] += size[name]
    return fold_of


def _inner(
    cases: Sequence[LabelledCase], rest: Sequence[int], seed: int, number: int, labelled: int | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    names = sorted({cases[i].patient for i in rest})
    rng = np.random.default_rng((seed, 2, number))
    order = [names[i] for i in rng.permutation(len(names))]
    if labelled is not None:
        wanted = [i for name in order for i in rest if cases[i].patient == name][:labelled]
        rest, order = wanted, [name for name in order if any(cases[i].patient == name for i in wanted)]
    count = round(_VALIDATION_SHARE * len(order)) if len(order) >= _LEAST_FOR_VALIDATION else 0
    checked = set(order[:count])
    learnt = tuple(i for i in rest if cases[i].patient not in checked)
    return learnt, tuple(i for i in rest if cases[i].patient in checked)


def _given(cases: Sequence[LabelledCase], folds: int, seed: int, labelled: int | None) -> tuple[Part, ...]:
    sides: dict[str, set[str]] = {}
    for case in cases:
        sides.setdefault(case.patient, set()).add(case.split)
    mixed = sorted(name for name, found in sides.items() if len(found) > 1)
    if mixed:
        raise ConfigError(f"{len(mixed)} patients are in more than one part of the set; a patient belongs to one")
    without = sum(not case.split for case in cases)
    if without:
        raise ConfigError(f"{without} cases are in no part of the set, and others are; give each a split, or none")
    where = {part: [i for i, c in enumerate(cases) if c.split == part] for part in ("train", "validation", "test")}
    if not where["train"] or not where["test"]:
        raise ConfigError("a set with parts needs a 'train' and a 'test' part")
    parts = []
    for number in range(folds):
        train, validation = where["train"], where["validation"]
        if labelled is not None:
            train = [train[i] for i in np.random.default_rng((seed, 2, number)).permutation(len(train))[:labelled]]
        if not validation:
            learnt, checked = _inner(cases, train, seed, number, None)
            train, validation = list(learnt), list(checked)
        parts.append(Part(number, tuple(train), tuple(validation), tuple(where["test"])))
    return tuple(parts)
