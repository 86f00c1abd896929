"""What a newcomer pays: minutes, MB downloaded and peak memory of `make demo`, then `make test`, from a clean clone.

    python -m benchmarks.fresh_machine

Clones HEAD into a temporary folder, with pip's cache off, runs both targets as a person would, and writes
docs/results/fresh-machine.md. Downloaded: what pip says it downloads, plus wheels that it takes from this machine
instead of a network (a CPU torch), at their size. Memory: the largest sum of resident memory of all its processes,
sampled ten times a second. Real data: `make test` finds them beside the checkout, so the folder is linked there.
"""

from __future__ import annotations

import datetime
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

from benchmarks.__main__ import ROOT, machine

UNITS = {"kB": 1e-3, "MB": 1.0, "GB": 1e3, "bytes": 1e-6}


def downloaded_mb(log: str) -> float:
    """Sum the sizes that pip printed, and those of local wheels that it processed."""
    total = sum(float(n) * UNITS[u] for n, u in re.findall(r"Downloading \S+ \(([\d.]+) (kB|MB|GB|bytes)\)", log))
    local = {Path(p) for p in re.findall(r"Processing (\S+\.whl)", log)}
    return total + sum(p.stat().st_size / 1e6 for p in local if p.is_file())


def tree_memory_mb(process: psutil.Process) -> float:
    """Resident memory of a process and all below it, in MB."""
    total = 0
    for p in [process, *process.children(recursive=True)]:
        try:
            total += p.memory_info().rss
        except psutil.Error:
            continue
    return total / 1e6


def run_target(target: str, folder: Path) -> tuple[float, float, float, str]:
    """Run one make target; return minutes, MB downloaded, peak MB of memory and the last line it printed."""
    log_path = folder.parent / f"{target}.log"
    env = {**os.environ, "PIP_NO_CACHE_DIR": "1", "PIP_PROGRESS_BAR": "off", "BROWSER": "true"}
    start, peak = time.monotonic(), 0.0
    with log_path.open("w") as log:
        process = subprocess.Popen(["make", target], cwd=folder, stdout=log, stderr=subprocess.STDOUT, env=env)
        watched = psutil.Process(process.pid)
        while process.poll() is None:
            peak = max(peak, tree_memory_mb(watched))
            time.sleep(0.1)
    minutes = (time.monotonic() - start) / 60
    text = log_path.read_text(errors="replace")
    if process.returncode:
        raise SystemExit(f"make {target} failed:\n{text[-3000:]}")
    last = next((line for line in reversed(text.splitlines()) if " passed" in line or "index.html" in line), "")
    return minutes, downloaded_mb(text), peak, last.replace(str(folder), ".").strip("= ")


def main() -> None:
    """Measure both targets and write the page."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    with tempfile.TemporaryDirectory() as temp:
        clone = Path(temp) / "isocenter"
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
        if (ROOT.parent / "shared").is_dir():
            (Path(temp) / "shared").symlink_to(ROOT.parent / "shared")
        rows = []
        for target in ("demo", "test"):
            minutes, mb, peak, last = run_target(target, clone)
            print(f"make {target}: {minutes:.1f} min, {mb:.0f} MB downloaded, {peak:.0f} MB peak memory; {last}")
            rows.append(f"| `make {target}` | {minutes:.1f} | {mb:.0f} | {peak:.0f} | {last} |")
    run = f"{datetime.date.today().isoformat()}, {machine()}, commit {commit.stdout.strip()}"
    lines = [
        "# A fresh machine",
        "",
        f"`python -m benchmarks.fresh_machine`, {run}.",
        "A clean clone, no environment, pip's cache off; `make test` runs in the environment that `make demo` made.",
        "",
        "| command | minutes | MB downloaded | peak MB of memory (all processes) | it said |",
        "| --- | --- | --- | --- | --- |",
        *rows,
    ]
    (ROOT / "docs" / "results" / "fresh-machine.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
