"""Nothing half-written ever stands under a final name.

A writer gets a temporary path in the same folder, with the same suffixes. Only when it has finished, read its file back
and proven it, is the file flushed to the disk and renamed over the final name in one step. Anything else, be it an
error, a full disk or Ctrl-C, removes the temporary file and leaves what stood there before.
"""

from __future__ import annotations

import errno
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from isocenter.core.errors import DataError, OutputError

__all__ = ["atomic_folder", "atomic_path", "explain_os_error", "make_parent"]

_PREFIX = ".partial-"
_LONGEST_NAME = 255

_REMEDIES = {
    errno.ENOSPC: ("the disk is full", "free some space, or write to another disk"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, or write to another disk"),
    errno.EFBIG: ("the file is larger than this file system allows", "write to another disk"),
    errno.EACCES: ("no permission", "change the permissions, or choose another folder"),
    errno.EPERM: ("no permission", "change the permissions, or choose another folder"),
    errno.EROFS: ("the file system is read-only", "choose another folder"),
    errno.ENOENT: ("the folder does not exist", "create it first, or correct the path"),
    errno.ENOTDIR: ("a part of the path is a file, not a folder", "correct the path"),
    errno.EISDIR: ("a folder stands under this name", "choose another name, or move the folder away"),
    errno.ENOTEMPTY: ("a folder that is not empty stands under this name", "choose another name, or move it away"),
    errno.EEXIST: ("something already stands under this name", "choose another name, or move it away"),
    errno.ENAMETOOLONG: ("the name is too long", "choose a shorter name"),
    errno.ELOOP: ("the path is a circle of symbolic links", "correct the path"),
    errno.EIO: ("the disk reported an input/output error", "check the disk"),
}


def explain_os_error(error: OSError, where: Path, *, doing: str) -> DataError:
    """Turn an error of the operating system into one clear line.

    Args:
        error: What the operating system said.
        where: The path that the user knows (the final name, never the temporary one).
        doing: What was being done, e.g. "write".

    Returns:
        The error to raise: what happened, where, and what to do; an `OutputError` where writing was refused.

    Example:
        >>> import errno
        >>> print(explain_os_error(OSError(errno.ENOSPC, "x"), Path("out/mask.nii.gz"), doing="write"))
        out/mask.nii.gz: cannot write: the disk is full; free some space, or write to another disk
    """
    first = _first_error(error)
    what, remedy = _REMEDIES.get(first.errno or 0, (first.strerror or type(error).__name__, "check the path and disk"))
    if first.errno == errno.ENOENT and doing == "read":
        what, remedy = "the file does not exist", "correct the path"
    kind = OutputError if doing == "write" else DataError
    return kind(f"cannot {doing}: {what}; {remedy}", source=where)


def _first_error(error: OSError) -> OSError:
    """Return the error that the system gave: pydicom wraps it into one of its own, which has no number."""
    while error.errno is None and isinstance(error.__cause__, OSError):
        error = error.__cause__
    return error


def make_parent(final: Path) -> None:
    """Make the folder that a result shall stand in, with those above it.

    Raises:
        OutputError: The operating system refused.
    """
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, final, doing="write") from error


@contextmanager
def atomic_path(final: Path) -> Iterator[Path]:
    """Yield a temporary path beside the final one; rename it there when the block ends well.

    The block must create a regular file at the yielded path. A file that stands under the final name is replaced in
    one step; a symbolic link is replaced itself, not what it points to.

    Args:
        final: Where the file shall be. Its folder must exist.

    Yields:
        A path in the same folder that ends in the same name, so that writers that look at suffixes see the same.

    Raises:
        OutputError: The operating system refused (full disk, no permission, missing folder).
        DataError: The block wrote nothing. Other errors of it pass unchanged. In every case nothing is left behind.
    """
    final = Path(final)
    temporary = _beside(final)
    try:
        _check_target(final)
        try:
            yield temporary
            if not temporary.is_file():
                raise DataError("the writer produced no file; this is a defect of the writer", source=final)
            _flush(temporary)
            temporary.replace(final)
            _flush_folder(final.parent)
        except OSError as error:
            raise explain_os_error(error, final, doing="write") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


@contextmanager
def atomic_folder(final: Path, *, replace: bool = False) -> Iterator[Path]:
    """Yield a temporary folder beside the final one; rename it there when the block ends well.

    Args:
        final: Where the folder shall be. Its parent must exist.
        replace: Whether a folder that stands there and is not empty may be replaced, with all that it holds.

    Yields:
        An empty folder in the same parent.

    Raises:
        OutputError: The operating system refused, or something that must not be replaced stands under the final name.
            In every case nothing half-written is left behind, and what stood there before still does.
    """
    final = Path(final)
    temporary = _beside(final)
    try:
        try:
            if final.is_symlink() or (final.exists() and not final.is_dir()):
                raise explain_os_error(OSError(errno.EEXIST, ""), final, doing="write")
            if final.is_dir() and any(final.iterdir()) and not replace:
                raise explain_os_error(OSError(errno.ENOTEMPTY, ""), final, doing="write")
            temporary.mkdir()
            yield temporary
            for file in temporary.rglob("*"):
                if file.is_file() and not file.is_symlink():
                    _flush(file)
            _swap_folder(temporary, final)
            _flush_folder(final.parent)
        except OSError as error:
            raise explain_os_error(error, final, doing="write") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _swap_folder(temporary: Path, final: Path) -> None:
    if not final.exists():
        temporary.rename(final)
        return
    old = _beside(final)
    try:
        final.rename(old)
        temporary.rename(final)
    except BaseException:
        # An interrupt may arrive right after either rename: what stands on the disk decides, not which line was next.
        if old.exists() and not final.exists():
            old.rename(final)
        raise
    finally:
        if final.exists():
            _remove(old)


def _remove(folder: Path) -> None:
    """Remove a folder, also when an interrupt arrives meanwhile."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _beside(final: Path) -> Path:
    token = secrets.token_hex(4)
    keep = _LONGEST_NAME - len(_PREFIX) - len(token) - 1
    name = final.name if len(os.fsencode(final.name)) <= keep else "".join(final.suffixes[-2:])[-keep:]
    return final.with_name(f"{_PREFIX}{token}-{name}")


def _check_target(final: Path) -> None:
    if len(os.fsencode(final.name)) > _LONGEST_NAME:
        raise explain_os_error(OSError(errno.ENAMETOOLONG, ""), final, doing="write")
    try:
        if final.is_dir():
            raise OSError(errno.EISDIR, "")
        if not final.parent.exists():
            raise OSError(errno.ENOENT, "")
        if not final.parent.is_dir():
            raise OSError(errno.ENOTDIR, "")
    except OSError as error:
        raise explain_os_error(error, final, doing="write") from error


def _flush(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _flush_folder(folder: Path) -> None:
    # Some file systems do not allow a folder to be opened or flushed; the rename itself has already happened.
    with suppress(OSError):
        _flush(folder)
