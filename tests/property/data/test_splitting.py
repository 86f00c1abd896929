"""No patient, and no group of patients who share an image, stands in two parts; who comes later moves nobody."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isocenter.data.catalog.joining import Joined
from isocenter.data.catalog.splitting import check_parts, source_parts, split_patients

KEYS = st.text("abcdef0123456789", min_size=1, max_size=4)
PEOPLE = st.lists(KEYS, min_size=1, max_size=40, unique=True)
PAIRS = st.lists(st.tuples(KEYS, KEYS), max_size=25)
PARTS = {"train": 0.6, "validation": 0.2, "test": 0.2}


def _one_side(parts: dict[str, str], pairs: list[tuple[str, str]]) -> bool:
    """Tell by walking from neighbour to neighbour, unlike the code, whether each group stands on one side."""
    near: dict[str, set[str]] = {}
    for one, other in pairs:
        near.setdefault(one, set()).add(other)
        near.setdefault(other, set()).add(one)
    for start in parts:
        seen, ahead = {start}, [start]
        while ahead:
            for key in near.get(ahead.pop(), set()) - seen:
                seen.add(key)
                ahead.append(key)
        if len({parts[key] for key in seen if key in parts}) > 1:
            return False
    return True


@given(PEOPLE, PAIRS, st.integers(0, 5))
def test_nobody_stands_on_two_sides(people: list[str], pairs: list[tuple[str, str]], seed: int) -> None:
    parts = split_patients(people, PARTS, seed=seed, together=pairs)
    assert set(parts) == set(people) and set(parts.values()) <= set(PARTS)
    assert _one_side(parts, pairs)
    check_parts(parts, pairs)


@given(PEOPLE, PAIRS, st.dictionaries(KEYS, st.sampled_from("xy")), st.dictionaries(KEYS, st.sampled_from(list(PARTS))))
def test_nor_with_strata_and_an_earlier_version(
    people: list[str], pairs: list[tuple[str, str]], strata: dict[str, str], kept: dict[str, str]
) -> None:
    parts = split_patients(people, PARTS, together=pairs, strata=strata, kept=kept)
    assert set(parts) == set(people) and _one_side(parts, pairs)


@given(st.dictionaries(KEYS, st.sampled_from(list(PARTS)), min_size=1, max_size=40), PAIRS)
def test_the_makers_split_moves_nobody_and_does_not_leak(told: dict[str, str], pairs: list[tuple[str, str]]) -> None:
    stay, left = source_parts(told, pairs)
    assert {**stay, **left} == told and not stay.keys() & left.keys()
    assert _one_side(stay, pairs)
    assert "test" not in left.values()


@given(PEOPLE, PEOPLE, PAIRS)
def test_new_patients_move_nobody(people: list[str], more: list[str], pairs: list[tuple[str, str]]) -> None:
    among = [(a, b) for a, b in pairs if a in people and b in people]
    before = split_patients(people, PARTS, together=among)
    after = split_patients([*people, *more], PARTS, together=among)
    assert {key: after[key] for key in people} == before


@given(PAIRS)
def test_groups_do_not_depend_on_order(pairs: list[tuple[str, str]]) -> None:
    one, other = Joined(pairs), Joined(reversed(pairs))
    keys = sorted({key for pair in pairs for key in pair})
    assert [[one.of(a) == one.of(b) for a in keys] for b in keys] == [
        [other.of(a) == other.of(b) for a in keys] for b in keys
    ]
