"""The study list: order, with what has no date, and counts of earlier studies."""

from __future__ import annotations

import pytest

from isocenter.verbs.serving.listing import listed, stand, with_priors
from isocenter.viewer.ports import StudyItem, StudyQuery


def item(name: str, patient: str, date: str | None, description: str = "") -> StudyItem:
    return StudyItem(name, patient, date, description, ("CT",), 1, 1)


ITEMS = with_priors(
    [
        item("a", "p", "2024-01-02", "b"),
        item("b", "p", "2023-01-02", "C"),
        item("c", "q", None, "a"),
        item("d", "p", "2024-01-02", "d"),
    ]
)


def test_earlier_studies_are_counted() -> None:
    assert {i.id: i.prior for i in ITEMS} == {"a": 1, "b": 0, "c": 0, "d": 1}


@pytest.mark.parametrize(
    ("order", "ids"),
    [("date", "dabc"), ("-date", "badc"), ("description", "cabd"), ("-description", "dbac"), ("patient", "badc")],
)
def test_orders(order: str, ids: str) -> None:
    assert "".join(i.id for i in listed(ITEMS, StudyQuery(order=order)).items) == ids


def test_by_status() -> None:
    marks = {"a": ("read", "JD"), "c": ("open", None)}
    items = stand(ITEMS, lambda study: marks.get(study, ("new", None)))  # type: ignore[arg-type,return-value]
    assert [i.id for i in listed(items, StudyQuery(status="read")).items] == ["a"]
    assert next(i for i in items if i.id == "a").assigned_to == "JD"
    assert "".join(i.id for i in listed(items, StudyQuery(order="status")).items)[-2:] == "ca"
    assert listed(items, StudyQuery(limit=1)).total == 4
