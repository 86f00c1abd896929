"""Joining image and language: retrieval, the probe of negation and side, findings told in words.

    python -m benchmarks.align_probe --data ../shared/data

Trains three times on synthetic patients from `configs/align-2d.yaml` (as it is; without contradictions; with the mean
over space instead of attention), all from one seed, and once on labelled chest X-rays
(`configs/align-cxr-labels.yaml`); writes `docs/results/align.md`. Trainings are kept in `.runs/align-probe` and taken
up where they were stopped. The last line is JSON. `--quick` takes a few steps and writes nothing.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from isocenter.evaluate.bootstrap import bootstrap_mean
from isocenter.evaluate.retrieval import choices
from isocenter.learn.alignment.config import load_config
from isocenter.learn.alignment.measure import probe_items
from isocenter.learn.alignment.pairs import open_pairs
from isocenter.models.aligned import load_aligned
from isocenter.verbs.align import AlignResult, FigureRow, align
from isocenter.verbs.provenance import code_version, machine

ROOT = Path(__file__).resolve().parents[1]
ARMS: dict[str, dict[str, Any]] = {
    "contradictions": {},
    "no contradictions": {"texts": {"hard_negatives": 0}},
    "mean instead of attention": {"image": {"pooling": "mean"}},
}
"""What each training on synthetic patients changes in the configuration."""
TIMES = "cpu_minutes.json"


def merged(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with changes, one level deep."""
    out = dict(settings)
    for key, value in changes.items():
        out[key] = {**out[key], **value} if isinstance(value, dict) and key in out else value
    return out


def train(config: Path, changes: Mapping[str, Any], out: Path, data: Path | None) -> tuple[AlignResult, float]:
    """Train, or take up a training, and return what it came to with the CPU minutes of all its calls."""
    out.parent.mkdir(parents=True, exist_ok=True)
    settings = merged(yaml.safe_load(config.read_text("utf-8")), changes)
    own = out.with_suffix(".yaml")
    own.write_text(yaml.safe_dump(settings), "utf-8")
    before = time.process_time()
    done = align(own, out, data=data, resume=out.exists(), progress=_line(out.name))
    file = out / TIMES
    minutes = (time.process_time() - before) / 60
    known = json.loads(file.read_text()) if file.is_file() else 0.0
    # A call that found the training finished only measured again: its minutes are not the training's.
    spent = known if known and minutes < 1 else known + minutes
    file.write_text(json.dumps(spent))
    return done, spent


def _line(name: str) -> Any:
    last = [0.0]

    def tell(stage: str, done: float) -> None:
        if time.monotonic() - last[0] > 30:
            last[0] = time.monotonic()
            print(f"{name}: {done:.0%} {stage}", flush=True)

    return tell


def compared(config: Path, runs: Mapping[str, Path]) -> list[tuple[str, str, str]]:
    """Return, by kind and arm, how much more often the first arm takes the true sentence, on the same probes."""
    training = load_config(config)
    pairs = open_pairs(training.data, training.image.side, None, training.seed)
    places = pairs.of("test")
    items = probe_items(pairs, places)
    planes = [pairs.plane(at) for at in places]
    right: dict[str, np.ndarray] = {}
    for name, run in runs.items():
        model = load_aligned(run)
        images = dict(zip(places, model.embed_images(planes), strict=True))
        true, false = (model.embed_texts([getattr(item, which) for item in items]) for which in ("true", "false"))
        seen = np.stack([images[item.at] for item in items])
        right[name] = choices((seen * true).sum(axis=1), (seen * false).sum(axis=1))
    first = next(iter(runs))
    rows = []
    for kind in ("negation", "laterality"):
        at = [i for i, item in enumerate(items) if item.kind == kind]
        patients = [pairs.pairs[items[i].at].patient for i in at]
        for name in list(runs)[1:]:
            found = bootstrap_mean((right[first] - right[name])[at], patients)
            rows.append((kind, name, f"{found.value:+.3f} ({found.low:+.3f} to {found.high:+.3f})"))
    return rows


def _cell(figure: FigureRow | None) -> str:
    if figure is None:
        return ""
    interval = "" if figure.low is None else f" ({figure.low:.3f} to {figure.high:.3f})"
    unseen = "" if figure.unseen is None else f"; {figure.unseen:.3f}"
    return f"{figure.value:.3f}{interval}{unseen}"


def table(results: Mapping[str, AlignResult]) -> list[str]:
    """Return the figures of several trainings as a table."""
    names = [f.name for f in next(iter(results.values())).figures]
    lines = [
        f"| figure | questions | chance | {' | '.join(results)} |",
        f"| - | - | - |{' - |' * len(results)}",
    ]
    for name in names:
        row = {arm: next((f for f in result.figures if f.name == name), None) for arm, result in results.items()}
        one = next(f for f in row.values() if f is not None)
        lines.append(f"| {name} | {one.count} | {one.chance:.3f} | {' | '.join(_cell(f) for f in row.values())} |")
    return lines


def page(
    results: Mapping[str, AlignResult],
    minutes: Mapping[str, float],
    differences: list[tuple[str, str, str]],
    labelled: AlignResult | None,
) -> str:
    """Return the page of results."""
    version = code_version()
    lines = [
        "# Joining image and language",
        "",
        f"`python -m benchmarks.align_probe`, {datetime.datetime.now(tz=datetime.UTC).date()}; {machine()}, one "
        f"thread, beside other work (load at the end: {os.getloadavg()[0]:.1f}); "
        f"commit {str(version['commit'])[:12]}{', with changes' if version['changed'] else ''}.",
        "",
        "In brackets 95 % intervals over patients (BCa bootstrap of means; percentiles for areas). How it works, and "
        "what a probe is: [aligning](../explanation/align.md).",
        "",
        "## Synthetic patients",
        "",
        "Films and reports of `synth.paired`, `configs/align-2d.yaml`; patients of the table were never learnt "
        "from. These films are crude drawings: the figures compare ways of learning, and say nothing of real images. "
        f"CPU minutes of each training: {', '.join(f'{name} {m:.1f}' for name, m in minutes.items())}.",
        "",
        "A probe gives the share of pairs in which the true sentence is taken and not its contradiction; after the "
        "semicolon stands what the same model reaches without looking, by the mean of all images.",
        "",
        *table(results),
        "",
        "The same probes, *contradictions* minus the other arm, by patient:",
        "",
        "| probe | other arm | difference |",
        "| - | - | - |",
        *(f"| {kind} | {name} | {text} |" for kind, name, text in differences),
        "",
        "One seed each: the intervals hold the chance of the patients, not that of the training.",
        "",
        "## Chest X-rays with labels",
        "",
    ]
    if labelled is None:
        lines.append("Not measured: the folder of the set was not given.")
    else:
        lines += [
            "NIH ChestX-ray14 (NIH Clinical Center; labels mined from reports, noisy), 421 images of 421 patients, "
            f"`configs/align-cxr-labels.yaml`, {labelled.step} steps; labels as sentences, split by patient. "
            "Findings are told in words; no classifier is trained. So few images teach little: an interval that holds "
            "0.5 shows nothing. The labels say no side, so the probe is of negation alone, and most sentences of the "
            "denied findings are true of most patients: see what is reached without looking.",
            "",
            *table({"value": labelled}),
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Train, measure and write the page; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--runs", type=Path, default=ROOT / ".runs" / "align-probe")
    parser.add_argument("--quick", action="store_true", help="a few steps on few patients; writes nothing")
    args = parser.parse_args()
    few: dict[str, Any] = {}
    if args.quick:
        few = {"steps": 4, "data": {"patients": 100, "validation": 12, "test": 24}}
        args.runs = Path(tempfile.mkdtemp())
    config = ROOT / "configs" / "align-2d.yaml"
    results, minutes, runs = {}, {}, {}
    for number, (name, changes) in enumerate(ARMS.items()):
        runs[name] = args.runs / f"arm-{number}"
        results[name], minutes[name] = train(config, merged(few, changes), runs[name], None)
    differences = compared(args.runs / "arm-0.yaml", runs)
    labelled, cxr = None, args.data / "cxr_nih"
    if cxr.is_dir():
        steps = {"steps": 4} if args.quick else {}
        labelled, _ = train(ROOT / "configs" / "align-cxr-labels.yaml", steps, args.runs / "cxr-labels", cxr)
    text = page(results, minutes, differences, labelled)
    if not args.quick:
        args.out.mkdir(parents=True, exist_ok=True)
        (args.out / "align.md").write_text(text, "utf-8")
    probes = {
        name: {f.name: round(f.value, 3) for f in result.figures if f.name in ("probe: negation", "probe: laterality")}
        for name, result in results.items()
    }
    print(json.dumps({"name": "align_probe", "probes": probes, "cpu_minutes": minutes}))


if __name__ == "__main__":
    main()
