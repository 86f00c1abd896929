"""David Clunie's DICOM validator (Debian: dicom3tools), as a check in tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


def dciodvfy_errors(path: Path) -> list[str]:
    """Return the "Error" lines for a file; skipped where the program is absent, a failure under CI=true."""
    program = shutil.which("dciodvfy")
    if program is None:
        reason = "dciodvfy (dicom3tools) is not installed"
        if os.environ.get("CI") == "true":
            pytest.fail(reason + " (under CI=true it must be there)")
        pytest.skip(reason)
    # It exits with 1 on warnings too, and speaks Latin-1.
    done = subprocess.run([program, str(path)], capture_output=True, check=False, timeout=60)
    said = (done.stdout + done.stderr).decode("latin-1").splitlines()
    assert said, "dciodvfy said nothing, not even the name of the object"
    return [line for line in said if "Error" in line]
