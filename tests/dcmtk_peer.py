"""dcmtk's programs for tests: skipped, saying so, where they are not installed, and a failure under CI=true."""

from __future__ import annotations

import os
import subprocess

import pytest
from benchmarks._dcmtk import ENVIRONMENT, dcmtk

__all__ = ["dcmtk", "need_dcmtk", "run_dcmtk"]


def need_dcmtk(*programs: str) -> None:
    """Skip, or fail under CI=true, where one is missing; pynetdicom's of the same name is not it."""
    missing = [program for program in programs if not dcmtk(program)]
    if missing:
        why = f"dcmtk is not installed: {', '.join(missing)}"
        pytest.fail(why) if os.environ.get("CI") == "true" else pytest.skip(why)


def run_dcmtk(program: str, *arguments: str, seconds: float = 120.0) -> str:
    """Run one to its end, which must be a good one; return all that it said."""
    done = subprocess.run(
        [dcmtk(program), *arguments], capture_output=True, text=True, env=ENVIRONMENT, timeout=seconds, check=False
    )
    assert done.returncode == 0, f"{program} ended with {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout + done.stderr
