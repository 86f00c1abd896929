"""Which file a row of a table is of.

A row is of the file that lies where it says. A row that gives no folder, or one that is not there (a table is kept
beside the images, or names the place it was made at), is of the one file of that name whose folders fit; where several
do, in folders of different cases, none gets the row, and that is told; but where the name itself begins with the
identifier of the patient whom the row names (`00000211_000.png`, patient 211), all of that name are of that patient, in
whatever sizes they are kept. An image and its mask are of one case.

Several rows of one file are one, with what each of them says; where they say two patients, two parts of the set, or an
image and a mask, the file gets none of them, and that is told.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace

from isocenter.data.archive.naming import named, spot, stem
from isocenter.data.records import ManifestRow

__all__ = ["ToldFiles"]

_FEW = 8
"""Rows of one name that are gone through one by one; more are found by their folders."""
_SHORTEST = 5
"""Letters and digits of an identifier in a name: `1_a.png` of patient 1 may be anybody's."""
_MANY = "|"
"""Between the values of a cell that holds several."""
_Folders = tuple[str, ...]
_Found = tuple[ManifestRow, bool]
"""A row, and whether it names the file as a mask."""


@dataclass(slots=True)
class _Spots:
    """The spots of some files: how many there are counts only up to two."""

    first: _Folders | None = None
    several: bool = False

    def add(self, one: _Folders) -> None:
        if self.first is None:
            self.first = one
        elif one != self.first:
            self.several = True

    @property
    def only(self) -> _Folders | None:
        """Return the spot where there is one alone."""
        return None if self.several else self.first


@dataclass(slots=True)
class _Seen:
    """Where files lie that a row could be of: at the place that it means, or elsewhere in folders that fit."""

    here: bool = False
    fitting: _Spots = field(default_factory=_Spots)


@dataclass(slots=True, eq=False)
class _Row:
    """A row of a table.

    Args:
        table: That it stands in.
        row: The row.
        mask: Whether the name is that of its mask.
        folders: As the row gives them.
        spot: Of the place that it means.
        named: Whether the row gives no folder and the name begins with the identifier of the row's patient.
        torn: Whether several rows of that place contradict each other.
        seen: Files of its name, and files of its name but for the ending.
    """

    table: str
    row: ManifestRow
    mask: bool
    folders: _Folders
    spot: _Folders
    named: bool = False
    torn: bool = False
    seen: tuple[_Seen, _Seen] = field(default_factory=lambda: (_Seen(), _Seen()))


@dataclass(slots=True, eq=False)
class _Name:
    """The rows of one name of a file, with its ending (form 0) or without (form 1), and where files of it lie."""

    form: int
    rows: dict[tuple[str, _Folders, _Folders], _Row] = field(default_factory=dict)
    spots: _Spots = field(default_factory=_Spots)
    cases: _Spots = field(default_factory=_Spots)
    by_folders: dict[_Folders, list[_Row]] | None = None
    by_spot: dict[_Folders, list[_Row]] | None = None
    resolved: dict[_Folders, list[_Row]] | None = None

    def note(self, folders: _Folders, inner: _Folders, where: _Folders) -> None:
        """Take note of a file of the name."""
        self.spots.add(where)
        for row in self._near(folders, inner, where):
            seen = row.seen[self.form]
            if row.spot == where:
                seen.here = True
            elif _fits(row.folders, folders, inner):
                seen.fitting.add(where)

    def note_case(self, where: _Folders) -> None:
        """Take note of a file of another name whose case is called so."""
        self.cases.add(where)
        for row in self._near((), (), where):
            if row.spot == where:
                row.seen[self.form].here = True

    def _near(self, folders: _Folders, inner: _Folders, where: _Folders) -> Iterable[_Row]:
        """Return the rows that may be of a file: all, or of many those whose folders end alike."""
        if len(self.rows) <= _FEW:
            return self.rows.values()
        if self.by_folders is None or self.by_spot is None:
            self.by_folders, self.by_spot = {}, _grouped(self.rows.values(), lambda row: row.spot)
            for row in self.rows.values():
                self.by_folders.setdefault(row.folders, []).append(row)
                for start in range(1, len(row.folders)):  # the ends of what the row gives, marked as such
                    self.by_folders.setdefault(("", *row.folders[start:]), []).append(row)
        tails = [folders[len(folders) - length :] for length in range(len(folders) + 1)]
        near = [*self.by_spot.get(where, ()), *self.by_folders.get(("", *inner), ())]
        near += [row for tail in tails for row in self.by_folders.get(tail, ())]
        return {id(row): row for row in near}.values()

    def of(self, row: _Row) -> _Folders | None:
        """Return the spot of the files that a row is of; None where there is none, or several."""
        seen = row.seen[self.form]
        if seen.here:
            return row.spot
        if seen.fitting.first is None and self.spots.first is None and not row.folders:
            return self.cases.only
        return seen.fitting.only

    def at(self, where: _Folders) -> list[_Row]:
        """Return the rows of files at a spot."""
        if self.resolved is None:
            self.resolved = _grouped(self.rows.values(), self.of)
        return self.resolved.get(where, []) or [row for row in self.rows.values() if self.everywhere(row)]

    def everywhere(self, row: _Row) -> bool:
        """Tell whether a row is of the files of its name at all spots."""
        return row.named and self.of(row) is None and self.spots.several

    @property
    def alone(self) -> list[_Row]:
        """Return the rows of the name where all files of it lie at one spot."""
        return self.at(self.spots.only) if self.spots.only is not None else []


def _joined(rows: Iterable[_Found]) -> _Found | None:
    """Return what several rows of a file say together; None where they contradict each other.

    Example:
        >>> one = ManifestRow("1.png", {"label": "a", "x": "1"}, "P1"), False
        >>> row, mask = _joined([one, (ManifestRow("1.png", {"label": "b"}), False)])
        >>> dict(row.values), row.patient
        ({'label': 'a|b', 'x': '1'}, 'P1')
        >>> _joined([one, (ManifestRow("1.png", {}, "P2"), False)]) is None
        True
    """
    (row, mask), *others = rows
    for other, other_mask in others:
        if (row.patient and other.patient and row.patient != other.patient) or mask != other_mask:
            return None
        if row.split and other.split and row.split != other.split:
            return None
        values = dict(row.values)  # no proxy: rows go to other processes
        for name, value in other.values.items():
            said = values.get(name, value).split(_MANY)
            values[name] = _MANY.join(dict.fromkeys((*said, *value.split(_MANY))))
        row = replace(
            row, values=values, patient=row.patient or other.patient, split=row.split or other.split,
            words=tuple(dict.fromkeys((*row.words, *other.words))),
        )  # fmt: skip
    return row, mask


def _grouped(rows: Iterable[_Row], key: Callable[[_Row], _Folders | None]) -> dict[_Folders, list[_Row]]:
    out: dict[_Folders, list[_Row]] = {}
    for row in rows:
        one = key(row)
        if one is not None:
            out.setdefault(one, []).append(row)
    return out


def _fits(told: _Folders, folders: _Folders, inner: _Folders) -> bool:
    """Tell whether the folders that a row gives are the last ones of a file, or end with all of those in its set."""
    if folders[max(0, len(folders) - len(told)) :] == told:
        return True
    return 0 < len(inner) < len(told) and told[len(told) - len(inner) :] == inner


def _names_patient(base: str, patient: str) -> bool:
    """Tell whether a file's name begins with a patient's identifier; a name of a person, or zeros alone, is none.

    Example:
        >>> _names_patient("00000211_000.png", "211"), _names_patient("1_a.png", "1"), _names_patient("scan.png", "")
        (True, False, False)
        >>> _names_patient("smith_1.png", "smith"), _names_patient("00000_1.png", "0")
        (False, False)
    """
    first = re.split(r"[^A-Za-z0-9]", stem(base), maxsplit=1)[0]
    number = patient.strip().lstrip("0")
    return len(first) >= _SHORTEST and any(map(str.isdigit, number)) and first.lstrip("0") == number


def _parts(folder: str) -> _Folders:
    return tuple(part for part in folder.split("/") if part not in ("", "."))


class ToldFiles:
    """What the tables of one set say of files: rows are told, then files are counted, then rows are found.

    Args:
        root_name: Name of the set's folder, "" where it has none.

    Example:
        >>> files = ToldFiles("set")
        >>> files.tell("t.csv", ManifestRow("A/1.png"))
        >>> for name in ("A/1.png", "B/1.png"):
        ...     files.count(name, name)
        >>> files.find("A/1.png", "A/1.png") is None, files.find("B/1.png", "B/1.png")
        (False, None)
    """

    def __init__(self, root_name: str) -> None:
        self._root = _parts(root_name)
        self._exact: dict[str, _Found | None] = {}
        self._names: dict[str, _Name] = {}

    def tell(self, table: str, row: ManifestRow) -> None:
        """Take in a row.

        Args:
            table: Name of the table in its source, "/" between folders.
            row: Of it.
        """
        self._tell(table, row.file, row, mask=False)
        if row.mask:
            self._tell(table, row.mask, row, mask=True)

    def _tell(self, table: str, file: str, row: ManifestRow, *, mask: bool) -> None:
        exact = posixpath.normpath(posixpath.join(posixpath.dirname(table), file.lstrip("/")))
        folder, base = posixpath.split(file)
        before = self._exact.get(exact, (row, mask))
        self._exact[exact] = None if before is None else _joined((before, (row, mask)))
        alone = not _parts(folder) and _names_patient(base, row.patient)
        made = _Row(table, row, mask, _parts(folder), spot(posixpath.dirname(exact)), named=alone)
        for form, key in enumerate((base, stem(base) + ".*")):
            name = self._names.get(key)
            if name is None:
                name = self._names[key] = _Name(form)
            known = name.rows.setdefault((base, made.folders, made.spot), made)
            if known is not made and not known.torn:
                both = _joined(((known.row, known.mask), (row, mask)))
                known.row, known.torn = known.row if both is None else both[0], both is None

    def count(self, name: str, inner: str) -> None:
        """Take note of a file that rows may be of.

        Args:
            name: In its source, "/" between folders.
            inner: In its set.
        """
        folder, base = posixpath.split(name)
        folders, within, where = _parts(folder), _parts(posixpath.dirname(inner)) or self._root, spot(folder)
        keys = (base, stem(base) + ".*")
        for key in keys:
            if (known := self._names.get(key)) is not None:
                known.note(folders, within, where)
        case = named(inner).case + ".*"
        if case not in keys and (known := self._names.get(case)) is not None:
            known.note_case(where)

    def find(self, name: str, inner: str) -> _Found | None:
        """Return the row that is of a file, and whether the file is its mask.

        Args:
            name: In its source.
            inner: In its set.
        """
        if name in self._exact:
            return self._exact[name]
        folder, base = posixpath.split(name)
        where, said = spot(folder), named(inner)
        for key in (base, stem(base) + ".*", said.case + ".*"):
            if (known := self._names.get(key)) is None:
                continue
            rows = known.at(where)
            if not rows and said.role == "mask":
                rows = known.alone  # a mask lies where it likes, if its image is the only one of the name
            if len({row.mask for row in rows}) > 1:  # `images/1.png` and `masks/1.png`, each with a row
                within = _parts(posixpath.dirname(inner)) or self._root
                fitting = [row for row in rows if _fits(row.folders, _parts(folder), within)] or rows
                rows = [row for row in fitting if row.mask == (said.role == "mask")] or fitting
            if rows:
                return None if any(row.torn for row in rows) else _joined((row.row, row.mask) for row in rows)
        return None

    def unplaced(self) -> Iterator[tuple[str, int]]:
        """Yield tables with the number of their rows that are of no file, though files of such a name are there."""
        counts: dict[str, int] = {}
        for name in self._names.values():
            if name.form == 0:
                continue  # each row stands once under its name without the ending
            for (base, _, _), row in name.rows.items():
                of = self._names[base].of(row)
                if self._names[base].everywhere(row) or name.everywhere(row):
                    continue
                if of is None and name.of(row) is None and (name.spots.first is not None or name.cases.several):
                    counts[row.table] = counts.get(row.table, 0) + 1
        yield from sorted(counts.items())

    def torn(self) -> Iterator[tuple[str, int]]:
        """Yield tables with the number of files of which their rows, or those of another table, say two things."""
        counts: dict[str, int] = {}
        for name in self._names.values():
            rows = [row for (base, *_), row in name.rows.items() if name.form == 0 or self._names[base].of(row) is None]
            for mask in (False, True):
                for some in _grouped((row for row in rows if row.mask is mask), name.of).values():
                    if any(row.torn for row in some) or _joined((row.row, row.mask) for row in some) is None:
                        counts[some[0].table] = counts.get(some[0].table, 0) + 1
        yield from sorted(counts.items())
