"""The order of work: critical, then priority, then time; and however many urgent ones come, nobody waits for ever."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from isocenter.clinic.workflow.order import Waiting, order_of_work

STUDIES = st.lists(
    st.builds(Waiting, st.uuids().map(str), st.booleans(), st.integers(-3, 3), st.floats(0, 1000)), max_size=20
)


@given(STUDIES, st.floats(1000, 2000), st.floats(0, 3000))
def test_the_order_is_by_critical_priority_and_time_among_those_that_can_wait(
    studies: list[Waiting], now: float, patience_s: float
) -> None:
    ordered = order_of_work(studies, now, patience_s)
    assert sorted(ordered, key=repr) == sorted(studies, key=repr)
    overdue = [one for one in ordered if now - one.since >= patience_s]
    assert ordered[: len(overdue)] == overdue, "who has waited too long comes first"
    assert [one.since for one in overdue] == sorted(one.since for one in overdue)
    keys = [(not one.critical, -one.priority, one.since) for one in ordered[len(overdue) :]]
    assert keys == sorted(keys)


@given(st.integers(1, 6), st.integers(0, 20), st.integers(1, 4))
def test_waiting_is_bounded_though_critical_studies_never_cease(waiting: int, patience: int, arriving: int) -> None:
    # One study is worked on in a unit of time; several critical ones arrive in each.
    studies = [Waiting(f"plain {n}", False, 0, -float(n)) for n in range(waiting)]
    served: dict[str, int] = {}
    for now in range(patience + waiting + arriving + 1):
        studies += [Waiting(f"critical {now}.{n}", True, 3, float(now)) for n in range(arriving)]
        first = order_of_work(studies, float(now), float(patience))[0]
        studies.remove(first)
        served[first.study] = now
    for number in range(waiting):
        assert served[f"plain {number}"] <= patience + waiting + arriving
