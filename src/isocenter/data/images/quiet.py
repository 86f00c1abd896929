"""Silence for libraries that quote a header's values: their warnings and logs may hold a patient's name."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the remarks of pydicom, highdicom, nibabel and the decoders out of warnings and logs: they quote values.

    Every reader and writer of DICOM runs inside it, as a block or as a decorator; it may be nested.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "openjpeg", "pylibjpeg", "highdicom")]
    before = [logger.propagate for logger in loggers]
    sink = logging.NullHandler()  # without any handler, Python prints warnings to stderr
    for logger in loggers:
        logger.propagate = False
        logger.addHandler(sink)
    nibabel = logging.getLogger("nibabel.global")  # writes to standard error by a handler of its own

    def refuse(_record: logging.LogRecord) -> bool:
        return False

    nibabel.addFilter(refuse)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        nibabel.removeFilter(refuse)
        for logger, propagate in zip(loggers, before, strict=True):
            logger.propagate = propagate
            logger.removeHandler(sink)
