"""The folder of an archive: what lies where, who may write to it, and by which policy it was made.

    ARCHIVE/
      archive.json     form, policy of de-identification, fingerprint of the key (never the key itself)
      catalog/         one Parquet file per table; `current.json` names the one that is whole
      images/          de-identified copies, by patient, study and series
      private/         mode 0700: where things came from, what could not be read, the journal of runs, the leak report,
                       and copies whose face is not removed yet

`private` may hold names of files and so identifiers; everything else may be shared.
"""

from __future__ import annotations

import fcntl
import hashlib
import hmac
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from isocenter.core.errors import ConfigError, DataError, OutputError
from isocenter.data.deidentify import Policy, Pseudonyms
from isocenter.data.images.atomic import atomic_path, explain_os_error

__all__ = ["FORM", "STAGE", "Archive", "open_archive"]

FORM = 1
STAGE = "private/faces"
"""Where copies wait whose face is not removed yet: it is found in whole series alone."""
_FILE = "archive.json"


@dataclass(frozen=True)
class Archive:
    """An archive on a local disk.

    Args:
        root: Its folder.
        policy: By which everything in it was de-identified.
        pixels: Whether it holds copies of the images; else its catalog speaks of files that stay where they are.
        key_fingerprint: Of the key of its pseudonyms.
    """

    root: Path
    policy: Policy
    pixels: bool
    key_fingerprint: str

    @property
    def catalog(self) -> Path:
        """Return the folder of the tables."""
        return self.root / "catalog"

    @property
    def images(self) -> Path:
        """Return the folder of the copies."""
        return self.root / "images"

    @property
    def private(self) -> Path:
        """Return the folder that may hold identifiers."""
        return self.root / "private"

    @property
    def journal(self) -> Path:
        """Return the folder of the parts that runs have written."""
        return self.private / "journal"

    @contextmanager
    def locked(self, name: str = "lock") -> Iterator[None]:
        """Hold the archive, or a part of it, for one writer.

        Args:
            name: Of the file in `private` that stands for what is held.

        Raises:
            OutputError: Another process is writing to it.
        """
        descriptor = os.open(self.private / name, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise OutputError("another run is writing to this archive; wait for it", source=self.root) from error
            yield
        finally:
            os.close(descriptor)


def fingerprint(key: bytes) -> str:
    """Return what tells one key from another, and from which the key can't be found."""
    return hmac.new(key, b"isocenter archive", hashlib.sha256).hexdigest()[:16]


def open_archive(root: Path) -> Archive:
    """Open an archive that there is.

    Raises:
        DataError: There is none, or it is of a form that this version does not know.
    """
    file = root / _FILE
    if not file.is_file():
        raise DataError("no archive here (archive.json is missing); make one with isocenter ingest", source=root)
    try:
        found: Mapping[str, Any] = json.loads(file.read_text("utf-8"))
        if found["form"] != FORM:
            raise DataError(f"an archive of form {found['form']}; this version reads form {FORM}", source=root)
        return Archive(root, Policy.from_dict(found["policy"]), bool(found["pixels"]), str(found["key"]))
    except OSError as error:
        raise explain_os_error(error, file, doing="read") from error
    except (ValueError, KeyError, TypeError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError("archive.json is damaged; restore it from a copy", source=root) from error


def make_archive(root: Path, policy: Policy, names: Pseudonyms, *, pixels: bool) -> Archive:
    """Open an archive to write to, or make it where there is none.

    Raises:
        ConfigError: It was made by another policy, with another key, or with (without) pixels.
        OutputError: It can't be written, or its folder holds other things.
    """
    wanted = Archive(root, policy, pixels, fingerprint(names.key))
    if (root / _FILE).is_file():
        there = open_archive(root)
        for name, ours, theirs in (
            ("policy of de-identification", policy, there.policy),
            ("choice of copying images", pixels, there.pixels),
            ("key of pseudonyms", wanted.key_fingerprint, there.key_fingerprint),
        ):
            if ours != theirs:
                raise ConfigError(f"{root} was made with another {name}; use the same, or another folder")
        return there
    try:
        root.mkdir(parents=True, exist_ok=True)
        if any(entry.name != "private" and not entry.name.startswith(".partial-") for entry in root.iterdir()):
            raise OutputError("the folder is not empty and no archive; choose another", source=root)
        wanted.private.mkdir(mode=0o700, exist_ok=True)
        wanted.private.chmod(0o700)
        for folder in (wanted.catalog, wanted.images, wanted.journal):
            folder.mkdir(exist_ok=True)
        content = {"form": FORM, "policy": policy.to_dict(), "pixels": pixels, "key": wanted.key_fingerprint}
        with atomic_path(root / _FILE) as temporary:
            temporary.write_text(json.dumps(content, indent=2, sort_keys=True) + "\n", "utf-8")
    except OSError as error:
        raise explain_os_error(error, root, doing="write") from error
    return wanted
