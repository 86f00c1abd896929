"""Modes of files and folders: what a node keeps is its owner's alone."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from isocenter.core.errors import ConfigError, OutputError

__all__ = ["own_folder", "refuse_shared", "tighten"]

_LOG = logging.getLogger(__name__)
_OTHERS = 0o077


def tighten(path: Path) -> None:
    """Take a file or folder of ours away from everybody but its owner, where others may use it.

    Raises:
        ConfigError: It is another's, so that we can't.
    """
    if os.name != "posix":
        return
    try:
        mode = path.stat().st_mode
        if mode & _OTHERS:
            path.chmod(mode & 0o7700)
            _LOG.warning("%s could be used by others of this machine; it is its owner's alone now", path)
    except OSError as error:
        raise ConfigError(f"others may use {path}, and that can't be changed; chmod it, or give it to us") from error


def own_folder(path: Path) -> Path:
    """Make a folder for its owner alone, or take it away from others.

    Raises:
        ConfigError: It is another's.
        OutputError: It can't be made.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"the folder can't be made: {error.strerror}", source=path) from error
    tighten(path)
    return path


def refuse_shared(path: Path, what: str) -> None:
    """Refuse a file that somebody else made and that others may read: a key, a secret.

    Args:
        path: The file.
        what: In words, for the message.

    Raises:
        ConfigError: Others may read it, or it is not there.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{what} in {path} can't be read: {error.strerror}") from error
    if os.name == "posix" and mode & _OTHERS:
        raise ConfigError(f"others may read {what} in {path}; give it to its owner alone: chmod 600")
