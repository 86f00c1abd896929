"""What commands write and return: results to standard output, lines and progress to standard error, exit codes."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import Any

__all__ = ["Exit", "out", "progress", "say"]

_SECONDS_BETWEEN_LINES = 60.0


class Exit(IntEnum):
    """What the process returns."""

    OK = 0
    DEFECT = 1
    USAGE = 2
    INPUT = 3
    NOTHING_ANSWERED = 4
    MODEL = 5
    OUTPUT = 6
    INTERRUPTED = 130
    TERMINATED = 143


def out(text: str) -> None:
    """Write a result to standard output."""
    sys.stdout.write(text.rstrip("\n") + "\n")
    sys.stdout.flush()


def say(line: str) -> None:
    """Write one line to standard error."""
    sys.stderr.write("isocenter: " + " ".join(line.split()) + "\n")


@contextlib.contextmanager
def progress(*, lines: bool = False) -> Iterator[Callable[[str, float], None]]:
    """Show a bar on standard error while it is a terminal; it vanishes at the end.

    Args:
        lines: Whether a line a minute is written where standard error is no terminal (a log of hours of work).
    """
    if not sys.stderr.isatty():
        # What a plug-in prints must not come between a program and its JSON.
        with contextlib.redirect_stdout(sys.stderr):
            yield _line_a_minute() if lines else lambda _stage, _done: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns: tuple[Any, ...] = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with (
        contextlib.redirect_stdout(sys.stderr),
        Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=False) as bar,
    ):
        job = bar.add_task("starting", total=1.0)
        yield lambda stage, done: bar.update(job, description=stage, completed=done)


def _line_a_minute() -> Callable[[str, float], None]:
    last = [time.monotonic()]

    def tell(stage: str, done: float) -> None:
        if time.monotonic() - last[0] >= _SECONDS_BETWEEN_LINES:
            last[0] = time.monotonic()
            say(f"{done:.0%} {stage}")

    return tell
