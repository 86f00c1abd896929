"""Run every benchmark and write docs/results/benchmarks.md.

    python -m benchmarks [--quick] [NAME ...]

Each benchmark prints one JSON object as its last line: name, ours, peer, unit, ratio (above 1: ours is better),
peer_name, peer_version, input, and perhaps "cases" (further objects of the same form) and "note" (a sentence).
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# These write result pages of their own.
NOT_SPEED = {
    "active_learning",
    "adapt_from_session",
    "adapt_sets",
    "archive",
    "arrival_checks",
    "align_probe",
    "ask_questions",
    "blind_gap",
    "conformal_coverage",
    "deidentify_letters",
    "deidentify_text",
    "diagnosis",
    "drift",
    "duplicates",
    "evidence_maps",
    "evidence_sets",
    "failure_detection",
    "gate_kinds",
    "gate_shipped",
    "interactive_cards",
    "interactive_dice",
    "interactive_sets",
    "interactive_ours",
    "interactive_sam",
    "interactive_volumes",
    "label_scores",
    "label_sets",
    "ledger_attacks",
    "nnunet_peer",
    "node_faults",
    "fresh_machine",
    "gpu",
    "phenotype",
    "phenotype_pyradiomics",
    "phenotype_robustness",
    "fusion",
    "fuzz_node",
    "prognose",
    "report_metrics",
    "scale",
    "similarity",
    "streaming",
    "scorecards",
    "training_pixels",
    "treat",
    "viewer_latency",
    "written_objects",
    "written_samples",
}


def machine() -> str:
    """Describe the machine in one line, without naming it."""
    model = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = [line for line in cpuinfo.read_text().splitlines() if line.startswith("model name")]
        model = lines[0].split(":", 1)[1].strip() if lines else model
    return f"{model}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def run_one(name: str, quick: bool) -> dict[str, object]:
    """Run one benchmark in its own process and return its JSON object."""
    command = [sys.executable, "-m", f"benchmarks.{name}", *(["--quick"] if quick else [])]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name} failed:\n{done.stdout}\n{done.stderr}")
    result: dict[str, object] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Run all, or the named ones, and write the page (only a full run writes it)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    here = sorted(p.stem for p in Path(__file__).parent.glob("*.py") if not p.stem.startswith("_"))
    names = args.names or [n for n in here if n not in NOT_SPEED]
    rows: list[dict[str, object]] = []
    notes: list[str] = []
    for name in names:
        result = run_one(name, args.quick)
        cases, note = result.pop("cases", []), result.pop("note", "")
        rows += [result, *cases]  # type: ignore[misc]
        notes += [str(note)] if note else []
        print(json.dumps(result))
    if args.quick or args.names:
        return
    lines = [
        "# Benchmarks",
        "",
        f"`make bench`, {datetime.date.today().isoformat()}, {machine()}.",
        "Ours and the peer in turn on the same input in one run; both gave the same answer; medians.",
        "A ratio above 1 means ours is better.",
        "",
        "| benchmark | input | ours | peer | unit | ratio | peer |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    lines += [
        f"| {r['name']} | {r['input']} | {r['ours']:.3g} | {r['peer']:.3g} | {r['unit']} | {r['ratio']:.2f} "
        f"| {r['peer_name']} {r['peer_version']} |"
        for r in rows
    ]
    lines += [line for note in notes for line in ("", note)]
    (ROOT / "docs" / "results" / "benchmarks.md").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
