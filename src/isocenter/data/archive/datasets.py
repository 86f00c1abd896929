"""Which set a file that is not DICOM belongs to, and what a table beside it says of it.

Numbers like "12" name another person in every set. So identifiers of files that are not DICOM are of a *domain*: the
name of the set's folder, the same wherever that folder lies. Where DICOM files lie in the same set, its domain is
theirs, so that a table of outcomes joins the images that it is about. `NAME=SOURCE` says the domain of a whole source.

The folder of a set is the nearest one that a `dataset.json`, `dataset_description.json` or `participants.tsv` stands
in; else the topmost that a table stands in; else the first below the source.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from isocenter.data.archive.naming import named, stem
from isocenter.data.records import Manifest, ManifestRow

__all__ = ["DESCRIPTIONS", "TABLES", "Belonging", "Sets", "told_values"]

_STRONG = frozenset({"dataset.json", "dataset_description.json", "participants.tsv"})
DESCRIPTIONS = frozenset({"dataset.json", "dataset_description.json", "plans.json", "splits_final.json"})
"""Files that describe a set, and hold nothing of a person."""
TABLES = (".csv", ".tsv", ".parquet", ".arff", ".xlsx")
_LOOKS = 2
"""Files of a folder whose first bytes are looked at while it is listed."""
_DICOM = (".dcm", ".dicom", ".ima")


_NO_LABEL = frozenset(
    [
        "file",
        "mask",
        "split",
        "patient",
        "issuer",
        "accession",
        "study_uid",
        "identifier",
        "date",
        "moment",
        "birth_date",
        "deceased_date",
        "name",
        "person",
        "row",
        "text",
    ]
)
_NO_NAME = re.compile(r"(?i)(^|[^a-z])(file|filename|folder|path|url|uri|link|doi)s?($|[^a-z])")


def told_values(manifest: Manifest, row: ManifestRow) -> Mapping[str, str]:
    """Return what a table says of a file, without identifiers, dates, names of files and addresses."""
    return {
        name: value
        for name, value in row.values.items()
        if manifest.roles.get(name, "") not in _NO_LABEL and not _NO_NAME.search(name)
    }


@dataclass(frozen=True)
class Belonging:
    """What is known of a file from where it lies.

    Args:
        domain: Of identifiers in it.
        root_name: Name of the set's folder, "" where the source is one file.
        inner: Its name relative to that folder.
        row: Of the table that names it, None where none does.
        mask_of_row: Whether the table names it as a mask.
        collection: Name of the set for the catalog: as the user gave it, or of a folder that says itself that it is a
            set. Other folders may bear a patient's name, and theirs is kept to ourselves ("").
        stated: The domain that the user gave, "" where none: the only one that DICOM without an issuer is of.
    """

    domain: str
    root_name: str
    inner: str
    row: ManifestRow | None = None
    mask_of_row: bool = False
    collection: str = ""
    stated: str = ""

    @property
    def mark(self) -> str:
        """Return what changes when anything here does."""
        row = self.row
        where = (self.domain, self.root_name, self.collection, self.stated)
        if row is None:
            return _mark(*where)
        values = (f"{k}={v}" for k, v in sorted(row.values.items()))
        said = (row.file, row.patient, row.split, row.mask, *values, *row.words)
        return _mark(*where, self.inner, str(self.mask_of_row), *said)


@lru_cache(maxsize=1024)
def _mark(*said: str) -> str:
    return hashlib.blake2b("\0".join(said).encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()


def unpacked(name: str) -> str:
    """Return a name in which an archive is a folder like any other."""
    return name.replace("!/", "/")


@dataclass
class Sets:
    """The sets of one source: first every name is `seen`, then tables are `told`, then names can be `placed`.

    Args:
        source_name: Name of the source's folder, "" where it is one file.
        domain: As the user said it, "" where not.
    """

    source_name: str
    domain: str = ""
    _strong: set[str] = field(default_factory=set)
    _weak: set[str] = field(default_factory=set)
    _dicom: set[str] = field(default_factory=set)
    _rows: dict[str, dict[str, tuple[ManifestRow, bool] | None]] = field(default_factory=dict)
    _roots: dict[str, str] = field(default_factory=dict)
    _looked: dict[str, int] = field(default_factory=dict)
    _domains: dict[str, str] = field(default_factory=dict)

    def seen(self, name: str) -> None:
        """Take note of a file's name."""
        folder, _, base = unpacked(name).rpartition("/")
        lower = base.lower()
        if lower in _STRONG:
            self._strong.add(folder)
        elif lower.endswith(TABLES):
            self._weak.add(folder)
        elif lower.endswith(_DICOM) or lower == "dicomdir":
            self._dicom.add(folder)

    def doubtful(self, name: str) -> bool:
        """Tell whether a file's first bytes should be looked at: a name without an ending is often DICOM's."""
        folder, _, base = unpacked(name).rpartition("/")
        if "." in base or folder in self._dicom or self._looked.get(folder, 0) >= _LOOKS:
            return False
        self._looked[folder] = self._looked.get(folder, 0) + 1
        return True

    def is_dicom(self, name: str) -> None:
        """Take note that a file is DICOM."""
        self._dicom.add(unpacked(name).rpartition("/")[0])

    def root(self, name: str) -> str:
        """Return the folder of a file's set, relative to the source."""
        folder = unpacked(name).rpartition("/")[0]
        if folder not in self._roots:
            self._roots[folder] = self._root(folder)
        return self._roots[folder]

    def _root(self, folder: str) -> str:
        parts = folder.split("/") if folder else []
        ancestors = ["/".join(parts[:n]) for n in range(len(parts) + 1)]
        for ancestor in reversed(ancestors):
            if ancestor in self._strong:
                return ancestor
        for ancestor in ancestors:
            if ancestor in self._weak:
                return ancestor
        return parts[0] if parts else ""

    def domain_of(self, root: str) -> str:
        """Return whose the identifiers of a set are."""
        if root not in self._domains:
            self._domains[root] = self._domain(root)
        return self._domains[root]

    def _domain(self, root: str) -> str:
        if self.domain or not self.source_name:
            return self.domain
        if any(folder == root or folder.startswith(root + "/") or not root for folder in self._dicom):
            return ""
        return root.rsplit("/", 1)[-1] or self.source_name

    def told(self, name: str, manifests: Iterable[Manifest]) -> None:
        """Take in the tables of files that a file holds.

        Args:
            name: Of that file.
            manifests: What it holds.
        """
        root = self.root(name)
        folder = unpacked(name).rpartition("/")[0]
        known = self._rows.setdefault(root, {})
        for manifest in manifests:
            for bare in manifest.rows:
                row = replace(bare, values=told_values(manifest, bare))
                _note(known, folder, row.file, row, mask=False)
                if row.mask:
                    _note(known, folder, row.mask, row, mask=True)

    def place(self, name: str) -> Belonging:
        """Tell what is known of a file from where it lies."""
        plain = unpacked(name)
        root = self.root(name)
        inner = plain[len(root) + 1 :] if root else plain
        root_name = root.rsplit("/", 1)[-1] or self.source_name
        domain = self.domain_of(root)
        collection = self.domain or (root_name if root in self._strong else "")
        known: Mapping[str, tuple[ManifestRow, bool] | None] = self._rows.get(root, {})
        if known:
            base = plain.rsplit("/", 1)[-1]
            for key in (plain, "*/" + base, "*/" + stem(base) + ".*", "*/" + named(inner).case + ".*"):
                found = known.get(key)
                if found is not None:
                    return Belonging(domain, root_name, inner, found[0], found[1], collection, self.domain)
        return Belonging(domain, root_name, inner, collection=collection, stated=self.domain)


def _note(
    known: dict[str, tuple[ManifestRow, bool] | None], folder: str, file: str, row: ManifestRow, *, mask: bool
) -> None:
    """Note a row under the file's place, its name, and its name without ending; two rows of one name are no answer."""
    base = file.rsplit("/", 1)[-1]
    exact = f"{folder}/{file}" if folder else file
    known[exact] = (row, mask)
    for key in ("*/" + base, "*/" + stem(base) + ".*"):
        known[key] = (row, mask) if key not in known or known[key] == (row, mask) else None
