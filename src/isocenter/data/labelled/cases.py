"""Cases with their labels, whatever they are labels of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from isocenter.core import Geometry, Image, Mask
from isocenter.core.errors import DataError

__all__ = ["Event", "Kind", "LabelledCase", "LabelledSet", "Split", "Target", "unique"]

Kind = Literal["segment", "classify", "multilabel", "regress", "survive"]
Split = Literal["", "train", "validation", "test"]


@dataclass(frozen=True)
class Event:
    """What is known of when something happened.

    Args:
        days: Until the event, or until the case was last seen without it.
        happened: Whether it happened; False where the case was only seen that far (censored).

    Raises:
        DataError: The time is negative or not finite.
    """

    days: float
    happened: bool

    def __post_init__(self) -> None:
        if not 0 <= self.days < float("inf"):
            raise DataError(f"a time to an event must be 0 days or more, got {self.days}")


Target = int | float | tuple[int, ...] | Event | None
"""Number of the class; number; 0, 1 or -1 (not known) for each finding; event. None where the label is a mask."""


@dataclass(frozen=True, eq=False)
class LabelledCase:
    """One image and its label.

    Args:
        name: Names the case in reports; a file's stem or a row's number, never a patient's name.
        patient: Whose image it is: cases of one patient are never in two folds.
        image: Reads the image.
        mask: Reads the label mask, given its image's grid; None where the label is not a mask.
        target: The label; None where it is a mask.
        split: The part of the set that its makers put the case into; "" where they did not.
    """

    name: str
    patient: str
    image: Callable[[], Image]
    mask: Callable[[Geometry], Mask] | None = None
    target: Target = None
    split: Split = ""


@dataclass(frozen=True, eq=False)
class LabelledSet:
    """A set of labelled cases of one kind.

    Args:
        name: Of the set.
        kind: What the labels are.
        classes: Names: of a mask's segments (value 1 first), of the classes (number 0 first), of the findings; of the
            one number or event.
        values: For masks, the value of each class in the files; else empty.
        cases: In a fixed order.
        patients_known: Whether the set says which cases are of one patient; else each case counts as one.
        licence: As the set states it; "" where it does not.
        notes: What its reader noticed.

    Raises:
        DataError: No case, no class, two cases of one name, or a number of a class that there is not.
    """

    name: str
    kind: Kind
    classes: tuple[str, ...]
    cases: tuple[LabelledCase, ...]
    values: tuple[int, ...] = ()
    patients_known: bool = False
    licence: str = ""
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.cases:
            raise DataError("no labelled case was found", source=self.name)
        twice = [name for name, count in Counter(case.name for case in self.cases).items() if count > 1]
        if twice:
            raise DataError(f"{len(twice)} names are given to more than one case, {twice[0]!r} first", source=self.name)
        if not self.classes or len(set(self.classes)) != len(self.classes):
            raise DataError(f"classes need names that differ, got {self.classes}", source=self.name)
        if self.kind == "classify":
            for case in self.cases:
                if not isinstance(case.target, int) or not 0 <= case.target < len(self.classes):
                    raise DataError(
                        f"case {case.name!r} has the label {case.target!r}; there are {len(self.classes)} classes, "
                        "counted from 0",
                        source=self.name,
                    )

    def only(self, cases: Sequence[LabelledCase]) -> LabelledSet:
        """Return the set with some of its cases."""
        return LabelledSet(
            self.name, self.kind, self.classes, tuple(cases), self.values, self.patients_known, self.licence, self.notes
        )

    def part(self, split: Split) -> tuple[LabelledCase, ...]:
        """Return the cases that the set's makers put into a part."""
        return tuple(case for case in self.cases if case.split == split)


def unique(names: Sequence[str]) -> list[str]:
    """Return names that differ: a number is added where one comes again."""
    seen: Counter[str] = Counter()
    found = []
    for name in names:
        seen[name] += 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found
