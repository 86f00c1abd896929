"""The leak report: what was removed, what a person should look at, and how many a person hides among.

It holds counts, tags and reasons, and no value of a patient.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from pydicom.datadict import keyword_for_tag

from isocenter.core.errors import DataError, IdentityLeak
from isocenter.data.deidentify.dicom import Deidentified
from isocenter.data.deidentify.policy import Policy
from isocenter.data.deidentify.text import CleanText

__all__ = ["SMALL_CLASS", "Anonymity", "LeakReport", "is_settled", "k_anonymity", "keyword_of"]

SMALL_CLASS = 5


@dataclass(frozen=True)
class Anonymity:
    """How well the rows of a table hide among each other.

    Args:
        columns: The quasi-identifiers: columns that others may know of a person.
        rows: Rows.
        classes: Different combinations of their values.
        smallest: Rows of the smallest class: the k of k-anonymity; 0 in a table without rows.
        small_share: Share of rows whose class is smaller than five.
        unique_share: Share of rows that are alone.

    Source:
        L. Sweeney, "k-anonymity: a model for protecting privacy", 2002.
    """

    columns: tuple[str, ...]
    rows: int
    classes: int
    smallest: int
    small_share: float
    unique_share: float

    def to_dict(self) -> dict[str, object]:
        """Return the figures by name."""
        return {
            "columns": list(self.columns),
            "rows": self.rows,
            "classes": self.classes,
            "k": self.smallest,
            "share_of_rows_with_k_below_5": self.small_share,
            "share_of_unique_rows": self.unique_share,
        }


def k_anonymity(rows: Iterable[Mapping[str, object]], columns: Sequence[str]) -> Anonymity:
    """Measure k-anonymity over quasi-identifiers; an absent value is a value like any other.

    Args:
        rows: One mapping per person.
        columns: The quasi-identifiers, at least one.

    Raises:
        DataError: No column, or one that a row does not have.

    Example:
        >>> people = [{"sex": "F", "born": 1950}, {"sex": "F", "born": 1950}, {"sex": "M", "born": 1950}]
        >>> k_anonymity(people, ["sex", "born"]).smallest
        1
    """
    if not columns:
        raise DataError("k-anonymity needs at least one column that others may know")
    counts: Counter[tuple[object, ...]] = Counter()
    for row in rows:
        for column in columns:
            if column not in row:
                raise DataError(f"a row has no column {column!r}")
        counts[tuple(row[column] for column in columns)] += 1
    total = sum(counts.values())
    small = sum(count for count in counts.values() if count < SMALL_CLASS)
    alone = sum(count for count in counts.values() if count == 1)
    return Anonymity(
        tuple(columns),
        total,
        len(counts),
        min(counts.values(), default=0),
        small / total if total else 0.0,
        alone / total if total else 0.0,
    )


@dataclass
class LeakReport:
    """Collects what de-identification did over many objects.

    Args:
        policy: The policy they went through.
    """

    policy: Policy
    objects: int = 0
    texts: int = 0
    removed: Counter[tuple[str, str]] = field(default_factory=Counter)
    replaced: Counter[str] = field(default_factory=Counter)
    suspicious: Counter[tuple[str, str]] = field(default_factory=Counter)
    blanked: int = 0
    faces: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    anonymity: list[Anonymity] = field(default_factory=list)

    def add(self, done: Deidentified) -> None:
        """Count one DICOM object."""
        self.objects += 1
        self.removed.update(done.removed)
        self.suspicious.update((found.tag, found.reason) for found in done.suspicious)
        self.blanked += len(done.pixel_boxes)

    def add_text(self, done: CleanText) -> None:
        """Count one text."""
        self.texts += 1
        self.replaced.update(span.kind for span in done.spans)

    def add_refused(self, reason: str) -> None:
        """Count one object that was not let through; the reason must hold no value of a patient."""
        self.refused[reason] += 1

    def merge(self, other: LeakReport) -> None:
        """Add the counts of another report; the order of merging makes no difference.

        Raises:
            DataError: It is of another policy.
        """
        if other.policy != self.policy:
            raise DataError("leak reports of two policies cannot be one")
        self.objects += other.objects
        self.texts += other.texts
        self.blanked += other.blanked
        self.faces += other.faces
        for name in ("removed", "replaced", "suspicious", "refused"):
            getattr(self, name).update(getattr(other, name))

    def to_dict(self) -> dict[str, object]:
        """Return the report for a file: sorted, without any value of a patient."""
        return {
            "policy": self.policy.to_dict(),
            "objects": self.objects,
            "texts": self.texts,
            "boxes_blanked": self.blanked,
            "faces_removed": self.faces,
            "changed": [
                {"tag": tag, "keyword": keyword_of(tag), "action": action, "count": count}
                for (tag, action), count in sorted(self.removed.items())
            ],
            "replaced_in_texts": dict(sorted(self.replaced.items())),
            "suspicious": [
                {"tag": tag, "keyword": keyword_of(tag), "reason": reason, "count": count}
                for (tag, reason), count in sorted(self.suspicious.items())
            ],
            "refused": dict(sorted(self.refused.items())),
            "anonymity": [figures.to_dict() for figures in self.anonymity],
        }

    def to_json(self) -> str:
        """Return the report as JSON."""
        return json.dumps(self.to_dict(), indent=1, ensure_ascii=False)

    def open_reasons(self) -> list[str]:
        """Return what is suspicious and was not cleaned, by reason."""
        return sorted({reason for _, reason in self.suspicious if not is_settled(reason)})

    def require_safe(self, *, least_k: int = 0) -> None:
        """Stop an export that would carry identity.

        Args:
            least_k: Smallest class that every measured table must have.

        Raises:
            IdentityLeak: De-identification is off, something suspicious was found that was not cleaned, or a table is
                below the wanted k.
        """
        if self.policy.off:
            raise IdentityLeak(
                "de-identification is off, so this holds identified data; export it from an archive that is not"
            )
        if reasons := self.open_reasons():
            raise IdentityLeak(f"someone has to look at the leak report first: {'; '.join(reasons)}")
        for figures in self.anonymity:
            if figures.rows and figures.smallest < least_k:
                raise IdentityLeak(
                    f"a row hides among {figures.smallest} by {', '.join(figures.columns)}, and {least_k} are "
                    f"wanted; coarsen "
                    "these columns or leave small classes out"
                )


def is_settled(reason: str) -> bool:
    """Tell whether a reason says itself that what it found is gone."""
    return reason.endswith(("replaced", "removed"))


def keyword_of(tag: str) -> str:
    """Return the keyword of a tag of eight hexadecimal digits, "" where it has none."""
    try:
        return keyword_for_tag(int(tag, 16))
    except ValueError:
        return ""
