"""The table of findings on the page: likeliest first, and what the promised set says of each."""

from __future__ import annotations

from isocenter.verbs.report.words import finding_rows, is_chance
from isocenter.verbs.result import CodeEntry, MeasurementEntry, PredictionEntry, UncertaintyEntry


def code(text: str) -> CodeEntry:
    return CodeEntry(value=text[:16], scheme="99ISOCENTER", meaning=text)


def answer(
    chances: dict[str, float], sure: UncertaintyEntry, further: tuple[UncertaintyEntry, ...] = ()
) -> PredictionEntry:
    measured = [
        MeasurementEntry(name=code(name), derivation=None, value=value, unit=code("1"), segment=None)
        for name, value in {"Volume": 3.0, **{f"Probability of {k}": v for k, v in chances.items()}}.items()
    ]
    assert [is_chance(m) for m in measured] == [False, *[True] * len(chances)]
    return PredictionEntry(
        task="t", title="T", image=0, abstained=None, intended_use="", not_for="", uncertainty=sure, model=None,
        inputs=("ab" * 32,), measurements=tuple(measured), further=further,
    )  # fmt: skip


def promised(kind: str, *members: str, about: str | None = None) -> UncertaintyEntry:
    return UncertaintyEntry(
        kind=kind, description="d", level=0.9, members=tuple(code(m) for m in members),
        about=None if about is None else code(about),
    )  # fmt: skip


def test_each_findings_own_set() -> None:
    further = (
        promised("set", "Absent", about="mass"),
        promised("set", "Absent", "Present", about="effusion"),
        promised("set", "Present", about="edema"),
    )
    found = finding_rows(
        answer({"mass": 0.02, "effusion": 0.4, "edema": 0.9961, "other": 0.1}, promised("set"), further)
    )
    assert found == [
        ("edema", "99.6 %", "present"), ("effusion", "40 %", "not decided"), ("other", "10 %", ""),
        ("mass", "2 %", "absent"),
    ]  # fmt: skip


def test_classes_share_a_set_and_without_one_nothing_is_said() -> None:
    sure = promised("set", "benign", "normal")
    found = finding_rows(answer({"benign": 0.6, "malignant": 0.08, "normal": 0.32}, sure))
    assert [said for _, _, said in found] == ["in the set", "in the set", "not in the set"]
    assert [said for _, _, said in finding_rows(answer({"benign": 0.6}, promised("set")))] == [""]
    assert finding_rows(answer({}, promised("interval"))) == []
