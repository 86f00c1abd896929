"""What is kept in memory: never more than its room, never made twice at once, errors not kept."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from isocenter.verbs.serving.memory import Kept


@given(room=st.integers(1, 50), asked=st.lists(st.tuples(st.integers(0, 8), st.integers(0, 30)), max_size=60))
def test_never_more_than_its_room(room: int, asked: list[tuple[int, int]]) -> None:
    kept: Kept[bytes] = Kept(room, len)
    sizes: dict[int, int] = {}
    for key, size in asked:
        size = sizes.setdefault(key, size)
        assert kept.get(key, lambda size=size: b"x" * size) == b"x" * size
        assert kept.bytes <= room
        assert kept.bytes == sum(sizes[k] for k in sizes if kept.holds(k))
        assert kept.holds(key) == (size <= room)


def test_the_least_recently_used_goes_first() -> None:
    kept: Kept[bytes] = Kept(3, len)
    for key in "abc":
        kept.get(key, lambda: b"x")
    assert kept.peek("a") == b"x"
    kept.get("d", lambda: b"x")
    assert [key for key in "abcd" if kept.holds(key)] == ["a", "c", "d"]
    kept.drop("a")
    assert kept.peek("a") is None and kept.bytes == 2
    kept.clear()
    assert kept.bytes == 0


def test_an_error_is_not_kept_and_reaches_all_who_wait() -> None:
    kept: Kept[bytes] = Kept(10, len)
    begun, go = threading.Event(), threading.Event()

    def fails() -> bytes:
        begun.set()
        go.wait(10)
        raise ValueError("cut off")

    caught: list[str] = []

    def ask() -> None:
        with pytest.raises(ValueError, match="cut off"):
            kept.get("a", fails)
        caught.append("x")

    threads = [threading.Thread(target=ask) for _ in range(3)]
    threads[0].start()
    assert begun.wait(10)
    for thread in threads[1:]:
        thread.start()
    go.set()
    for thread in threads:
        thread.join(10)
    assert len(caught) == 3
    assert kept.get("a", lambda: b"now") == b"now"
