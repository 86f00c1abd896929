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
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import lru_cache

from isocenter.data.archive.told_files import ToldFiles
from isocenter.data.archive.walk import Trouble
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
    """The sets of one source: every name is `seen`, tables are `told`, names `counted`, and then they can be `placed`.

    Args:
        source_name: Name of the source's folder, "" where it is one file.
        domain: As the user said it, "" where not.
    """

    source_name: str
    domain: str = ""
    _strong: set[str] = field(default_factory=set)
    _weak: set[str] = field(default_factory=set)
    _dicom: set[str] = field(default_factory=set)
    _told: dict[str, ToldFiles] = field(default_factory=dict)
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
        for manifest in manifests:
            known = self._told.setdefault(root, ToldFiles(self._root_name(root)))
            for bare in manifest.rows:
                known.tell(unpacked(name), replace(bare, values=told_values(manifest, bare)))

    @property
    def tells(self) -> bool:
        """Whether a table speaks of files, so that names have to be `counted`."""
        return bool(self._told)

    def counted(self, name: str) -> None:
        """Take note of a file that rows of tables may be of; whose a DICOM file is stands in its header."""
        root = self.root(name)
        if root in self._told and not name.lower().endswith(_DICOM):
            self._told[root].count(*self._inner(name, root))

    def unplaced(self) -> Iterator[Trouble]:
        """Yield what tables say of files that can't be told apart."""
        for known in self._told.values():
            for table, count in known.unplaced():
                rows = "a row names" if count == 1 else f"{count} rows name"
                yield Trouble(table, f"{rows} no one file: several, or others elsewhere, are called so; say the folder")
            for table, count in known.torn():
                files = "a file" if count == 1 else f"each of {count} files"
                said = "two patients, two parts of the set, or an image and a mask; it gets none of them"
                yield Trouble(table, f"several rows name {files} and contradict each other: {said}")

    def place(self, name: str) -> Belonging:
        """Tell what is known of a file from where it lies."""
        root = self.root(name)
        plain, inner = self._inner(name, root)
        root_name = self._root_name(root)
        domain = self.domain_of(root)
        collection = self.domain or (root_name if root in self._strong else "")
        found = self._told[root].find(plain, inner) if root in self._told else None
        row, mask = found or (None, False)
        return Belonging(domain, root_name, inner, row, mask, collection, self.domain)

    def _root_name(self, root: str) -> str:
        return root.rsplit("/", 1)[-1] or self.source_name

    @staticmethod
    def _inner(name: str, root: str) -> tuple[str, str]:
        """Return a name, and what it is in its set."""
        plain = unpacked(name)
        return plain, plain[len(root) + 1 :] if root else plain
