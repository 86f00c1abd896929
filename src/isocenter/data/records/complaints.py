"""Complaints of a table, drawn together: one line for a reason, with the numbers of the rows that it holds for."""

from __future__ import annotations

from typing import Literal

from isocenter.data.records.rows import Refusal

__all__ = ["Complaints"]


class Complaints:
    """What is wrong with rows, by reason.

    Example:
        >>> complaints = Complaints("a.csv")
        >>> for line in (3, 4, 5, 9):
        ...     complaints.add("has no patient", line)
        >>> complaints.refusals()[0].where, complaints.refusals()[0].reason
        ('a.csv, lines 3-5, 9', 'has no patient')
    """

    def __init__(self, where: str, unit: str = "line") -> None:
        self.where = where
        self.unit = unit
        self._lines: dict[tuple[str, Literal["refused", "ignored"]], list[list[int]]] = {}

    def add(self, reason: str, line: int, kind: Literal["refused", "ignored"] = "refused") -> None:
        """Note that a reason holds for a row."""
        spans = self._lines.setdefault((reason, kind), [])
        if spans and spans[-1][1] in (line, line - 1):
            spans[-1][1] = line
        else:
            spans.append([line, line])

    def refusals(self) -> tuple[Refusal, ...]:
        """Return one refusal a reason, every row of it named."""
        out = []
        for (reason, kind), spans in self._lines.items():
            told = ", ".join(str(one) if one == last else f"{one}-{last}" for one, last in spans)
            many = len(spans) > 1 or spans[0][0] != spans[0][1]
            out.append(Refusal(f"{self.where}, {self.unit}{'s' if many else ''} {told}", reason, kind))
        return tuple(out)
