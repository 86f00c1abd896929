"""The bytes behind a locator: a file, an entry of a zip archive, or an object in a store."""

from __future__ import annotations

import errno
import os
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from isocenter.core.errors import DataError, OutputError
from isocenter.data.archive.walk import open_remote
from isocenter.data.images.atomic import explain_os_error

__all__ = ["Lost", "as_file", "read_content", "read_head"]

_ENTRY = "!/"
_HEAD = 1 << 15


class Lost(DataError):
    """A file that was there when it was listed, and is not any more."""


def read_content(locator: str, name: str) -> bytes:
    """Return a whole file.

    Raises:
        Lost: It is gone.
        DataError: It can't be read.
    """
    try:
        if "://" in locator:
            files, path = open_remote(locator)
            with files.open(path, "rb") as stream:
                return bytes(stream.read())
        if _ENTRY in locator:
            archive, _, entry = locator.partition(_ENTRY)
            with zipfile.ZipFile(archive) as opened:
                return opened.read(entry)
        with open(locator, "rb", buffering=0) as stream:  # noqa: PTH123
            return stream.read()
    except (FileNotFoundError, KeyError) as error:
        raise Lost("was there when it was listed, and is gone; bring it back and run again", source=name) from error
    except OSError as error:
        raise _explained(error, name) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, RuntimeError) as error:
        raise DataError("the archive is damaged here, or encrypted; unpack it yourself", source=name) from error


def read_head(locator: str, name: str) -> bytes:
    """Return the first 32 KiB of a file.

    Raises:
        Lost: It is gone.
        DataError: It can't be read.
    """
    if "://" in locator:
        try:
            files, path = open_remote(locator)
            return bytes(files.cat_file(path, 0, _HEAD))
        except FileNotFoundError as error:
            raise Lost("was there when it was listed, and is gone; bring it back and run again", source=name) from error
        except OSError as error:
            raise _explained(error, name) from error
    if _ENTRY in locator:
        return read_content(locator, name)
    try:
        descriptor = os.open(locator, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.read(descriptor, _HEAD)
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise Lost("was there when it was listed, and is gone; bring it back and run again", source=name) from error
    except OSError as error:
        raise _explained(error, name) from error


@contextmanager
def as_file(locator: str, name: str, content: bytes) -> Iterator[Path]:
    """Yield a path under which readers that need one find a content; a temporary one where it is no plain file."""
    if "://" not in locator and _ENTRY not in locator:
        yield Path(locator)
        return
    with tempfile.TemporaryDirectory(prefix="isocenter-") as folder:
        path = Path(folder) / name.replace("!/", "/").rsplit("/", 1)[-1]
        path.write_bytes(content)
        yield path


def _explained(error: OSError, name: str) -> DataError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return OutputError("cannot write: the disk is full; free some space", source=name)
    if error.errno in (errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.EHOSTDOWN, errno.ENODEV):
        return Lost("the place it lies in has gone away while it was read; bring it back and run again", source=name)
    return explain_os_error(error, Path(name), doing="read")
