"""Candidates put in order for queries: recall among the first, rank of the first right one, precision, beside chance.

query,candidate,score,relevant            relevant 1 or 0; the score is higher for more alike; any number
query,patient,candidate,score,relevant    and whose the query is

Or an .npz with `similarity` (queries, candidates), `relevant` (the same, bool or 0 and 1) and perhaps `query` (names)
and `query_patient`.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.evaluate.retrieval import (
    average_precisions,
    chance_at_k,
    chance_precision,
    chance_reciprocal_rank,
    hits_at_k,
    reciprocal_ranks,
)
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.evaluation.document import CurveEntry
from isocenter.verbs.evaluation.scores import Cases
from isocenter.verbs.evaluation.system import System, mean_measure
from isocenter.verbs.evaluation.tables import Table, patients_for, several

__all__ = ["Query", "retrieval_of_arrays", "retrieval_of_table", "retrieval_system"]

Missing = Literal["fail", "count-as-zero"]
FIRST = (1, 5, 10)
"""Among how many a right one is looked for."""
_DRAWN = 50


@dataclass(frozen=True, eq=False)
class Query:
    """What one query was given.

    Args:
        scores: Of each candidate, higher for more alike.
        right: Which are right.
        candidates: Their names; numbers where they have none.
    """

    scores: Float[np.ndarray, " n"]
    right: Bool[np.ndarray, " n"]
    candidates: tuple[str, ...]

    def truth(self) -> str:
        """Return what is true of it as text: the same for two systems that were asked the same."""
        pairs = sorted(zip(self.candidates, self.right.tolist(), strict=True))
        return hashlib.sha256(repr(pairs).encode()).hexdigest()


def retrieval_of_table(table: Table, missing: Missing, patients: Table | None) -> System:
    """Read a table of queries and candidates and return the system.

    Raises:
        DataError: A column is missing, a candidate stands twice, relevant is not 0 or 1, a query has no right
            candidate and that was not allowed, or a query is of two patients.
    """
    queries, candidates = table.names("query"), table.names("candidate")
    scores = np.array(table.numbers("score", what="finite score"))
    marks = table.column("relevant")
    first: dict[tuple[str, str], int] = {}
    rows: dict[str, list[int]] = {}
    for row, (query, candidate, mark) in enumerate(zip(queries, candidates, marks, strict=True)):
        before = first.setdefault((query, candidate), row)
        if before != row:
            raise DataError(
                f"line {table.line(row)} names the query and candidate of line {table.line(before)} again",
                source=table.file,
            )
        if mark not in ("0", "1"):
            raise DataError(f"line {table.line(row)}: relevant must be 0 or 1", source=table.file)
        rows.setdefault(query, []).append(row)
    right = np.array([mark == "1" for mark in marks])
    names = sorted(rows)
    if "patient" in table.columns and patients is None:
        who, known, notes = _own_patients(table, queries, names)
    else:
        who, known, notes = patients_for(names, patients)
    found = [
        Query(scores[rows[name]], right[rows[name]], tuple(candidates[row] for row in rows[name])) for name in names
    ]
    return retrieval_system(Cases(tuple(names), tuple(who), known, notes), found, missing)


def _own_patients(
    table: Table, queries: Sequence[str], names: Sequence[str]
) -> tuple[list[str], bool, tuple[str, ...]]:
    given: dict[str, str] = {}
    for row, (query, patient) in enumerate(zip(queries, table.names("patient"), strict=True)):
        if given.setdefault(query, patient) != patient:
            raise DataError(f"line {table.line(row)} gives its query to another patient", source=table.file)
    who = [given[name] for name in names]
    return who, True, several(who)


def retrieval_of_arrays(file: Path, missing: Missing, patients: Table | None) -> System:
    """Read an .npz of similarities and return the system.

    Raises:
        DataError: An array is missing, of another shape or kind, or not finite; or as `retrieval_of_table`.
    """
    held = _arrays(file)
    lacking = [name for name in ("similarity", "relevant") if name not in held]
    if lacking:
        raise DataError(f"needs an array {lacking[0]!r}; it has {', '.join(held) or 'none'}", source=file)
    similarity, relevant = held["similarity"], held["relevant"]
    if similarity.ndim != 2 or not similarity.size or similarity.shape != relevant.shape:
        raise DataError(
            f"similarity {similarity.shape} and relevant {relevant.shape} must both be (queries, candidates)",
            source=file,
        )
    if similarity.dtype.kind not in "fiu" or not np.isfinite(similarity).all():
        raise DataError("similarity holds a value that is no finite number", source=file)
    if relevant.dtype.kind not in "biuf" or not np.isin(relevant, (0, 1)).all():
        raise DataError("relevant must hold bool, or 0 and 1", source=file)
    count = len(similarity)
    names = [f"query {n}" for n in range(1, count + 1)] if "query" not in held else _names(held, "query", count, file)
    if len(set(names)) < count:
        raise DataError("two queries have one name: a query is counted once", source=file)
    who, known, notes = patients_for(names, patients) if patients is not None or "query_patient" not in held else (
        _names(held, "query_patient", count, file), True, ())  # fmt: skip
    if patients is None and known:
        notes = several(who)
    numbers = tuple(str(n) for n in range(similarity.shape[1]))
    found = [
        Query(s, r, numbers) for s, r in zip(similarity.astype(np.float64), relevant.astype(bool), strict=True)
    ]  # fmt: skip
    try:
        made = retrieval_system(Cases(tuple(names), tuple(who), known, tuple(notes)), found, missing)
    except DataError as error:
        raise DataError(str(error), source=file) from error
    return System(**{**vars(made), "inputs": {"similarity": file_sha256(file)}})


def _arrays(file: Path) -> dict[str, np.ndarray]:
    try:
        with file.open("rb") as stream, np.load(stream, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error
    except (ValueError, zipfile.BadZipFile, EOFError, AttributeError) as error:
        raise DataError("not an .npz of plain arrays", source=file) from error


def _names(held: dict[str, np.ndarray], name: str, count: int, file: Path) -> list[str]:
    array = held[name]
    if array.shape != (count,) or array.dtype.kind not in "Uiu" or not all(str(v) for v in array.tolist()):
        raise DataError(f"{name} must hold a word or a whole number for each of the {count} queries", source=file)
    return [str(v) for v in array.tolist()]


def retrieval_system(cases: Cases, queries: Sequence[Query], missing: Missing) -> System:
    """Return the system of an order of candidates for each query.

    Args:
        cases: The queries, and the patient of each.
        queries: What each was given.
        missing: Whether a query without a right candidate counts as one that found nothing, or is refused.

    Raises:
        DataError: A query has no right candidate and that was not allowed, or all candidates of all are right.
    """
    without = [n for n, one in enumerate(queries) if not one.right.any()]
    if len(without) == len(queries):
        raise DataError("one class only: no candidate is relevant")
    if all(one.right.all() for one in queries):
        raise DataError("one class only: every candidate is relevant, so any order finds one")
    if without and missing == "fail":
        raise DataError(
            f"{len(without)} of {len(queries)} queries have no relevant candidate, number {without[0] + 1} (in order "
            "of names) first: add the candidate, leave the query out, or give --missing count-as-zero"
        )
    pools = [len(one.right) for one in queries]
    firsts = [k for k in FIRST if k == 1 or k < max(pools)]
    each = [_Answer(one, firsts) for one in queries]
    measures = [mean_measure(f"recall at {k}", "", [one.hits[k] for one in each]) for k in firsts]
    measures += [
        mean_measure("MRR", "", [one.reciprocal for one in each]),
        mean_measure("mAP", "", [one.precision for one in each]),
    ]
    by_chance = [(f"recall at {k}", [one.chance[k] for one in each]) for k in firsts]
    by_chance += [("MRR", [one.chance_reciprocal for one in each]), ("mAP", [one.chance_precision for one in each])]
    measures += [mean_measure(f"{name}, by chance", "", v, higher_is_better=None) for name, v in by_chance]
    rows = tuple(
        {"number": n, "case": case, "patient": patient, "candidates": len(query.right),
         "relevant": int(query.right.sum()), "reciprocal rank": one.reciprocal, "average precision": one.precision}
        | {f"recall at {k}": one.hits[k] for k in firsts}
        | {"note": "" if query.right.any() else "no relevant candidate: counted as nothing found"}
        for n, (case, patient, query, one) in enumerate(
            zip(cases.names, cases.patients, queries, each, strict=True), start=1
        )
    )  # fmt: skip
    return System(
        "retrieval", cases.names, cases.patients, cases.known, tuple(measures), rows,
        1 - np.array([one.precision for one in each]),
        notes=(*cases.notes, *_notes(pools, firsts, len(without))),
        curves=_curves(queries, max(pools)), truth=tuple(query.truth() for query in queries),
    )  # fmt: skip


class _Answer:
    """Figures of one query; all are 0 where it has no right candidate."""

    def __init__(self, query: Query, firsts: Sequence[int]) -> None:
        scores, right = query.scores[None], query.right[None]
        there = bool(query.right.any())
        self.hits = {k: float(hits_at_k(scores, right, k)[0]) if there else 0.0 for k in firsts}
        self.reciprocal = float(reciprocal_ranks(scores, right)[0]) if there else 0.0
        self.precision = float(average_precisions(scores, right)[0]) if there else 0.0
        self.chance = {k: chance_at_k(right, k) if there else 0.0 for k in firsts}
        self.chance_reciprocal = chance_reciprocal_rank(right) if there else 0.0
        self.chance_precision = chance_precision(right) if there else 0.0


def _notes(pools: Sequence[int], firsts: Sequence[int], without: int) -> list[str]:
    notes = [
        "recall at k is the share of queries with a relevant candidate among the first k; a tie counts against, so "
        "that scores that are all alike find nothing; by chance is a random order of the same candidates"
    ]
    if len(set(pools)) > 1:
        notes.append(
            f"queries have from {min(pools)} to {max(pools)} candidates: a relevant one that is not listed is not "
            "known of, and figures of lists that were cut are too good"
        )
    left = [str(k) for k in FIRST if k not in firsts]
    if left:
        notes.append(f"with {max(pools)} candidates at most, recall at {' and '.join(left)} says nothing")
    if without:
        notes.append(f"{without} queries have no relevant candidate: each counts as one that found nothing")
    return notes


def _curves(queries: Sequence[Query], largest: int) -> tuple[CurveEntry, ...]:
    """Draw recall over how many are looked at, and that of a random order."""
    asked = [q for q in queries if q.right.any()]
    share = len(asked) / len(queries)
    ranks = np.array([1 / reciprocal_ranks(q.scores[None], q.right[None])[0] for q in asked])
    points = list(range(1, min(largest, _DRAWN) + 1))
    found = [share * float((ranks < k + 0.5).mean()) for k in points]
    chance = [share * float(np.mean([chance_at_k(q.right[None], k) for q in asked])) for k in points]
    return tuple(
        CurveEntry(
            title="Recall", name=name, x_label="candidates looked at", y_label="recall",
            x=tuple(float(k) for k in points), y=tuple(round(v, 6) for v in values), x_least=1.0,
        )
        for name, values in (("the order given", found), ("a random order", chance))
    )  # fmt: skip
