"""Where an error that is none of ours came from: all that may be told of it, as its words may hold anything."""

from __future__ import annotations

from pathlib import Path

__all__ = ["arose_at"]


def arose_at(error: BaseException) -> str:
    """Return file and line in which an error arose, and the last of ours on the way; "" where it has no trace.

    Example:
        >>> try:
        ...     int("a patient's name")
        ... except ValueError as error:
        ...     arose_at(error).endswith("line 2")
        True
    """
    frames = []
    trace = error.__traceback__
    while trace is not None:
        frames.append((Path(trace.tb_frame.f_code.co_filename), trace.tb_lineno))
        trace = trace.tb_next
    if not frames:
        return ""
    ours = [frame for frame in frames if "isocenter" in frame[0].parts]
    told = list(dict.fromkeys([frames[-1], *ours[-1:]]))
    return ", ".join(f"{file.name} line {line}" for file, line in told)
