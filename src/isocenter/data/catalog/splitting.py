"""Patients into parts that can't leak: who shares an image, or nearly one, stands on one side.

A patient's place is decided by a keyed hash of the patient alone, so patients who come later move nobody who is there
(but one who joins two groups by a new duplicate: groups of several parts become one). With strata, shares are kept in
each stratum and patients of an earlier version keep their part.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.catalog.joining import Joined

__all__ = ["Parts", "check_parts", "parse_parts", "source_parts", "split_patients"]

Parts = Mapping[str, float]
_HELD_OUT = ("test", "validation", "val")
"""Parts that keep a duplicate; it leaves the others."""


def parse_parts(text: str) -> dict[str, float]:
    """Read shares by name.

    Raises:
        ConfigError: They are not NAME=SHARE, or don't sum to 1.

    Example:
        >>> parse_parts("train=0.8, test=0.2")
        {'train': 0.8, 'test': 0.2}
    """
    parts: dict[str, float] = {}
    for word in text.split(","):
        name, sign, share = word.partition("=")
        name = name.strip()
        try:
            value = float(share)
        except ValueError:
            sign, value = "", 0.0
        if not (sign and name.isidentifier() and name not in parts and 0 < value <= 1):
            raise ConfigError(f"a split is NAME=SHARE,NAME=SHARE with shares above 0, got {text!r}")
        parts[name] = value
    if abs(sum(parts.values()) - 1) > 1e-6:
        raise ConfigError(f"the shares of a split sum to 1, these to {sum(parts.values()):g}")
    return parts


def split_patients(
    patients: Iterable[str], parts: Parts, *, seed: int = 0, together: Iterable[tuple[str, str]] = (),
    strata: Mapping[str, str] | None = None, kept: Mapping[str, str] | None = None,
) -> dict[str, str]:  # fmt: skip
    """Put each patient into a part.

    Args:
        patients: Keys.
        parts: Shares by name.
        seed: Key of the hash.
        together: Pairs that must stand on one side; keys beyond `patients` join, too.
        strata: What each patient's shares are kept within.
        kept: Parts of an earlier version, which strata keep.

    Returns:
        The part of each patient.

    Example:
        >>> split_patients(["a", "b"], {"train": 0.5, "test": 0.5}, together=[("a", "b")])["a"] == split_patients(
        ...     ["a", "b"], {"train": 0.5, "test": 0.5}, together=[("a", "b")])["b"]
        True
    """
    groups = _groups(patients, together)
    order = sorted((min(_share(seed, key) for key in members), members) for members in groups)
    if strata is None:
        return {key: _by_share(parts, at) for at, members in order for key in members}
    return _by_stratum(order, parts, strata, kept or {})


def source_parts(
    told: Mapping[str, str], together: Iterable[tuple[str, str]] = ()
) -> tuple[dict[str, str], dict[str, str]]:
    """Keep the parts that the makers of a set chose; of a duplicate across parts, the held-out one stays.

    Args:
        told: The part of each patient.
        together: Pairs that may not stand on two sides.

    Returns:
        The part of each patient who stays, and of each who is left out.
    """
    stay: dict[str, str] = {}
    left: dict[str, str] = {}
    for members in _groups(told, together):
        found = {told[key] for key in members}
        best = min(found, key=lambda part: (_HELD_OUT.index(part) if part in _HELD_OUT else len(_HELD_OUT), part))
        for key in members:
            (stay if told[key] == best else left)[key] = told[key]
    return stay, left


def check_parts(assigned: Mapping[str, str], together: Iterable[tuple[str, str]]) -> None:
    """Refuse a split that leaks.

    Raises:
        DataError: Patients who share an image stand in two parts.
    """
    leaks = sum(1 for members in _groups(assigned, together) if len({assigned[key] for key in members}) > 1)
    if leaks:
        raise DataError(f"{leaks} groups of patients who share an image stand in two parts; make the cohort anew")


def _groups(patients: Iterable[str], together: Iterable[tuple[str, str]]) -> list[Sequence[str]]:
    joined: Joined[str] = Joined(together)
    members: dict[str, list[str]] = {}
    for key in sorted(set(patients)):
        members.setdefault(joined.of(key), []).append(key)
    return list(members.values())


def _share(seed: int, key: str) -> float:
    digest = hashlib.blake2b(key.encode(), key=f"split {seed}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _by_share(parts: Parts, at: float) -> str:
    end = 0.0
    for name, share in parts.items():
        end += share
        if at < end:
            return name
    return list(parts)[-1]


def _by_stratum(
    order: Sequence[tuple[float, Sequence[str]]], parts: Parts, strata: Mapping[str, str], kept: Mapping[str, str]
) -> dict[str, str]:
    """Give each group to the part that lacks most in its stratum; a group keeps its first patient's earlier part."""
    have: dict[str, dict[str, int]] = {}
    done: dict[str, str] = {}

    def put(members: Sequence[str], part: str) -> None:
        for key in members:
            done[key] = part
            here = have.setdefault(strata.get(key, ""), dict.fromkeys(parts, 0))
            here[part] += 1

    fresh = []
    for _, members in order:
        earlier = [kept[key] for key in members if kept.get(key) in parts]
        if earlier:
            put(members, earlier[0])
        else:
            fresh.append(members)
    for members in fresh:
        here = have.get(strata.get(members[0], ""), dict.fromkeys(parts, 0))
        total = sum(here.values()) + len(members)
        lacks = {name: (share * total - here[name], share) for name, share in parts.items()}
        put(members, max(lacks, key=lacks.__getitem__))
    return done
