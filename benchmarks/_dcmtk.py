"""dcmtk's programs, whatever else of their names is on the path: pynetdicom brings a storescu and a findscu too."""

from __future__ import annotations

import functools
import os
import subprocess
from pathlib import Path

ENVIRONMENT = {**os.environ, "TCP_NODELAY": "1"}
"""Without TCP_NODELAY dcmtk waits 40 ms with every small message."""


@functools.cache
def dcmtk(program: str) -> str:
    """Return the path of a program of dcmtk, known by what it says of itself; "" where there is none."""
    for folder in os.get_exec_path():
        file = Path(folder) / program
        if os.access(file, os.X_OK) and file.is_file() and version(str(file)):
            return str(file)
    return ""


@functools.cache
def version(file: str) -> str:
    """Return what a program of dcmtk says of itself ("dcmtk: storescu v3.6.7 ..."); "" where it is another's."""
    done = subprocess.run([file, "--version"], capture_output=True, text=True, check=False, timeout=60)
    first = done.stdout.partition("\n")[0].strip("$ ")
    return first if first.startswith("dcmtk: ") else ""
