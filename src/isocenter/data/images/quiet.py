"""Silence for libraries that quote a header's values: their warnings and logs may hold a patient's name."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["quiet"]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the remarks of pydicom, highdicom and the decoders out of warnings and logs: they quote values.

    Every reader and writer of DICOM runs inside it, as a block or as a decorator; it may be nested.
    """
    loggers = [logging.getLogger(name) for name in ("pydicom", "openjpeg", "pylibjpeg", "highdicom")]
    before = [logger.propagate for logger in loggers]
    sink = logging.NullHandler()  # without any handler, Python prints warnings to stderr
    for logger in loggers:
        logger.propagate = False
        logger.addHandler(sink)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, propagate in zip(loggers, before, strict=True):
            logger.propagate = propagate
            logger.removeHandler(sink)
