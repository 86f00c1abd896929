"""One reading in a process of its own: its memory goes when it ends, and the server lives on whatever becomes of it.

Standard input: one JSON object, the fields of `ReadConfig`. Standard output: lines of JSON, {"stage", "done"} on the
way and {"ok": true} or {"problem": {"code", "detail"}} at the end.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any, NoReturn

from isocenter.core.errors import IsocenterError
from isocenter.verbs.read import read
from isocenter.viewer.problems import problem_of

__all__ = ["main"]

_NICENESS = 5


def main() -> None:
    """Do what standard input says."""
    os.nice(_NICENESS)  # whoever clicks meanwhile goes first
    signal.signal(signal.SIGTERM, _stopped)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C goes to the server, which ends this by SIGTERM
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    sys.stdout = sys.stderr  # what a plug-in prints must not come between the lines

    def tell(line: dict[str, Any]) -> None:
        told.write(json.dumps(line) + "\n")
        told.flush()

    settings = json.load(sys.stdin)
    path, out = settings.pop("path"), settings.pop("out")
    if settings.get("tasks", "auto") != "auto":
        settings["tasks"] = tuple(settings["tasks"])
    try:
        read(path, out, progress=lambda stage, done: tell({"stage": stage, "done": done}), **settings)
    except IsocenterError as error:
        problem = problem_of(error)
        tell({"problem": {"code": problem.code, "detail": problem.detail}})
    else:
        tell({"ok": True})


def _stopped(_signal: int, _frame: object) -> NoReturn:
    raise SystemExit(143)  # blocks on the way out remove what is half-written


if __name__ == "__main__":
    main()
