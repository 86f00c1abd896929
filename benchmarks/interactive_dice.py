"""How good is the interactive model on real images after 1, 2, 3, 5 and 10 simulated interactions?

    python -m benchmarks.interactive_dice [--quick] [--data ../shared/data]

The harness is `isocenter.evaluate.interactive`; a simulated person clicks at the centre of the largest error, again and
again. Baselines see the same images with the same rule. Writes docs/results/interactive.md and .json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.__main__ import ROOT, machine
from benchmarks.interactive_ours import Ours
from benchmarks.interactive_sam import peer_versions, sam_segmenters
from benchmarks.interactive_sets import COMPACT, SEED, Case, chest_xray, hippocampus, planes
from isocenter.core import Geometry
from isocenter.evaluate.bootstrap import LEAST_PATIENTS
from isocenter.evaluate.calibration import reliability
from isocenter.evaluate.interactive import Row, Segmenter, SessionResult, run_scribbles, run_session, summarise
from isocenter.evaluate.interactive_baselines import GeodesicDistance, OtsuInBox, RandomWalker
from isocenter.evaluate.interactive_user import BoxUser, CentreClicks, RandomClicks, Scribbler, User
from isocenter.evaluate.overlap import dice
from isocenter.models.weights import WeightsCard
from isocenter.tasks.interact.engine import Engine, Examples

SHOWN = (1, 2, 3, 5, 10)
CONTEXT = (1, 4, 16)


@dataclass(frozen=True)
class Budget:
    """How much of everything."""

    planes: int = 24
    baseline: int = 8
    context: int = 12


QUICK = Budget(planes=3, baseline=1, context=0)


def sessions(segmenter: Segmenter, cases: Sequence[Case], user: User, acts: int = 10) -> list[SessionResult]:
    """Let a user work on every case."""
    return [run_session(segmenter, case.measured(), user, acts) for case in cases]


def table(results: Sequence[SessionResult], metric: str = "dice", shown: Sequence[int] = SHOWN) -> list[str]:
    """Write a metric by interactions, per group, and the mean of the compact groups."""
    rows = [r for r in summarise(results).rows if r.scope == "group"]
    rows.sort(key=lambda r: (r.label not in COMPACT, r.label))
    head = [f"{k} interaction{'s' if k > 1 else ''}" for k in shown]
    lines = ["| target | images | patients | " + " | ".join(head) + " | to Dice 0.9 | never |"]
    lines += ["| - | - | - |" + " - |" * (len(shown) + 2)]
    for row in rows:
        cells = [str(getattr(row, metric)[k]) for k in shown]
        effort = f"{row.clicks_to_goal:.1f} of {row.budget} | {row.never:.0%}"
        lines.append(f"| {row.label} | {row.cases} | {row.patients} | " + " | ".join(cells) + f" | {effort} |")
    means = [compact(rows, metric, k) for k in shown]
    lines.append("| **mean of the compact targets** | | | " + " | ".join(f"**{m:.3f}**" for m in means) + " | | |")
    return lines


def compact(rows: Sequence[Row], metric: str, after: int) -> float:
    """Return the mean over the compact groups, each counting the same."""
    return float(np.mean([getattr(r, metric)[after].value for r in rows if r.label in COMPACT]))


def mean_after(results: Sequence[SessionResult], after: int) -> float:
    """Return the mean Dice of the compact groups after so many interactions."""
    return compact([r for r in summarise(results).rows if r.scope == "group"], "dice", after)


def human_scribbles(segmenter: Segmenter, root: Path) -> dict[str, list[float]]:
    """Answer the first scribbles of each of MedScribble's three people."""
    from benchmarks.interactive_sets import medscribble

    found: dict[str, list[float]] = defaultdict(list)
    for case in medscribble(root):
        with np.load(root / "interactive_medscribble" / f"{case.name}.npz") as data:
            people = data["scribbles"] > 0
        for number, drawn in enumerate(people, start=1):
            if drawn.any():
                pair = (drawn[0][None], drawn[1][None])
                result = run_scribbles(segmenter, case.measured(), [pair], person=f"person {number}")
                found[f"person {number}"].append(result.dice[0])
    return found


def in_context(engine: Engine, root: Path, count: int) -> dict[str, dict[int, list[float]]]:
    """Answer images of one half from confirmed cases of the other, without any click."""
    found: dict[str, dict[int, list[float]]] = {}
    for source in (hippocampus, chest_xray):
        cases = list(source(root))
        rng = np.random.default_rng([SEED, 7])
        order = [cases[i] for i in rng.permutation(len(cases))]
        shown = [c for c in order if c.development][: max(CONTEXT)]
        asked = [c for c in order if not c.development][:count]
        scores: dict[int, list[float]] = {}
        for many in CONTEXT:
            examples = Examples(engine)
            for case in shown[:many]:
                one = case.measured()
                examples.add(one.image.astype(np.float32), one.target)
            for case in asked:
                one = case.measured()
                shape = (one.image.shape[0], one.image.shape[1], one.image.shape[2])
                outline = engine.open(one.image.astype(np.float32), Geometry(shape)).from_examples(examples)
                scores.setdefault(many, []).append(dice(one.target, np.asarray(outline.probability >= 0.5)))
        found[asked[0].group] = scores
    return found


def plane_for(root: Path) -> tuple[Case, tuple[int, ...]]:
    """Return the image that clicks on a plane are timed on, and its size."""
    return next(chest_xray(root)), (256, 256)


def latency(engine: Engine, timed: tuple[Case, tuple[int, ...]]) -> list[str]:
    """Measure the first encoding and each interaction on an image brought to a size, on all cores."""
    from scipy import ndimage

    case, size = timed
    lines = ["| image | encode, ms, p50 / p95 | interaction, ms, p50 / p95 |", "| - | - | - |"]
    factors = [s / n for s, n in zip(size, case.image.shape, strict=True)]
    image = ndimage.zoom(case.image, factors, order=1)
    target = ndimage.zoom(case.target.astype(np.float32), factors, order=1) >= 0.5
    deep = image if image.ndim == 3 else image[None]
    mask = target if target.ndim == 3 else target[None]
    begun, acted = [], []
    for repeat in range(4):
        work = Ours(engine).begin(deep, (1.0, 1.0, 1.0) if image.ndim == 3 else None)
        user, answer = RandomClicks(seed=repeat), np.zeros(mask.shape, dtype=bool)
        for number in range(10):
            act = user.act(mask, answer, number)
            if act is None:
                break
            start = time.perf_counter()
            answer = work.act(act) >= 0.5
            (begun if number == 0 else acted).append((time.perf_counter() - start) * 1000)
    cells = [f"{np.percentile(t, 50):.0f} / {np.percentile(t, 95):.0f}" for t in (begun, acted)]
    return [*lines, f"| {' x '.join(map(str, size))} | {cells[0]} | {cells[1]} |"]


@dataclass(frozen=True)
class Honesty:
    """What a model said of itself against what was so.

    Args:
        gap: Mean distance of expected and reached Dice.
        bias: Mean of expected minus reached.
        correlation: Pearson's, of expected with reached.
        error: Expected calibration error of the voxels in the box round target and answer.
    """

    gap: float
    bias: float
    correlation: float
    error: float


def honesty(engine: Engine, cases: Sequence[Case]) -> Honesty:
    """Compare expected with reached Dice, and voxels' probabilities with what is so, over ten clicks."""
    expected, reached, said, so = [], [], [], []
    for case in cases:
        one, user = case.measured(), CentreClicks()
        work = Ours(engine).begin(one.image, one.spacing_mm)
        answer = np.zeros(one.target.shape, dtype=bool)
        for number in range(10):
            act = user.act(one.target, answer, number)
            if act is None:
                break
            probability = work.act(act)
            answer = probability >= 0.5
            if work.outline is not None:
                expected.append(work.outline.expected_dice)
                reached.append(dice(one.target, answer))
                box = _box(answer | one.target)
                said.append(probability[box].ravel()[::7])
                so.append(one.target[box].ravel()[::7])
    gaps = np.array(expected) - np.array(reached)
    error = reliability(np.concatenate(said), np.concatenate(so)).expected_calibration_error
    return Honesty(float(np.abs(gaps).mean()), float(gaps.mean()), float(np.corrcoef(expected, reached)[0, 1]), error)


def honesty_table(engine: Engine, cases: Sequence[Case]) -> list[str]:
    """Write what a model said of itself as a table."""
    said = honesty(engine, cases)
    numbers = " | ".join(f"{n:.3f}" for n in (said.gap, said.bias, said.correlation, said.error))
    return [
        "| images | expected Dice off by | too high by | correlation | calibration error |",
        "| - | - | - | - | - |",
        f"| {len(cases)} | {numbers} |",
    ]


def named(card: WeightsCard) -> str:
    """Return name, hash and size of weights in words."""
    return f"`{card.name}` (sha256 `{card.sha256[:16]}`, {card.size_bytes / 1e6:.1f} MB)"


def keep_metrics(folder: Path, name: str, metrics: list[dict[str, object]]) -> None:
    """Put what a card prints into interactive.json, beside what is there."""
    file = folder / "interactive.json"
    record = json.loads(file.read_text("utf-8")) if file.is_file() else {}
    file.write_text(json.dumps({**record, name: metrics}, indent=1) + "\n", encoding="utf-8")


def _box(where: np.ndarray) -> tuple[slice, ...]:
    """Return the box that holds all that is set, a fifth larger on every side."""
    found = []
    for axis in range(3):
        line = np.flatnonzero(where.any(axis=tuple(a for a in range(3) if a != axis)))
        room = (line[-1] - line[0] + 1) // 5 + 1
        found.append(slice(max(0, int(line[0]) - int(room)), int(line[-1]) + 1 + int(room)))
    return tuple(found)


def metrics_of(results: Sequence[SessionResult], how: str) -> list[dict[str, object]]:
    """Return what the cards print."""
    found: list[dict[str, object]] = []
    for row in summarise(results).rows:
        if row.scope != "group":
            continue
        for after in (1, 3, 5, 10):
            if after not in row.dice:
                continue
            value = row.dice[after]
            one: dict[str, object] = {
                "name": f"Dice after {after} click{'s' if after > 1 else ''}",
                "structure": row.label,
                "value": round(value.value, 4),
                "count": row.patients,
                "how": how,
            }
            if value.low is not None and value.high is not None:
                one |= {"low": round(value.low, 4), "high": round(value.high, 4), "level": 0.95}
            found.append(one)
    return found


def main() -> None:
    """Run and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument(
        "--sam", type=Path, action="append", default=[], metavar="FOLDER", help="of SAM, MedSAM or SAM 2"
    )
    args = parser.parse_args()
    torch.set_num_threads(2)
    begun, budget = time.monotonic(), QUICK if args.quick else Budget()
    engine = Engine()
    ours = Ours(engine)
    cases = planes(args.data, per_group=budget.planes)
    clicked = sessions(ours, cases, CentreClicks())
    few = [c for g in COMPACT for c in [c for c in cases if c.group == g][: budget.baseline]]
    simple = (RandomWalker(), GeodesicDistance(), *sam_segmenters(args.sam))
    peers = {s.name: sessions(s, few, CentreClicks(), 5) for s in simple}
    chosen = {(c.group, c.name) for c in few}
    mine = [r for r in clicked if (r.group, r.case) in chosen]
    if not args.quick:
        page = Page(args.data, engine, cases, clicked, (mine, peers), budget)
        page.write(time.monotonic() - begun)
    best_name, best = max(((n, mean_after(r, 3)) for n, r in peers.items()), key=lambda one: one[1])
    print(
        json.dumps(
            {
                "name": "interactive_dice",
                "ours": round(mean_after(mine, 3), 3),
                "peer": round(best, 3),
                "unit": "Dice after 3 clicks",
                "ratio": round(mean_after(mine, 3) / best, 3),
                "peer_name": f"best of {len(peers)} baselines: {best_name}",
                "peer_version": peer_versions(args.sam),
                "input": f"{len(few)} real images, {len(COMPACT)} sets",
            }
        )
    )


@dataclass
class Page:
    """The page of results: everything that is measured beside the clicks, and how it is told."""

    root: Path
    engine: Engine
    cases: Sequence[Case]
    clicked: Sequence[SessionResult]
    baselines: tuple[Sequence[SessionResult], dict[str, list[SessionResult]]]
    budget: Budget

    def write(self, seconds: float) -> None:
        """Measure the rest and write."""
        begun = time.monotonic()
        held_out = {(c.group, c.name) for c in self.cases if not c.development}
        reported = [r for r in self.clicked if (r.group, r.case) in held_out]
        sections = [
            self._other_prompts(),
            self._against(),
            self._context(),
            self._expectation(),
            [
                "## Time",
                "",
                "Two cores, nothing else running; random clicks.",
                "",
                *latency(self.engine, plane_for(self.root)),
            ],
        ]
        weights = named(self.engine.plane_card)
        minutes = (seconds + time.monotonic() - begun) / 60
        lines = [
            "# Interactive segmentation on real images",
            "",
            f"`python -m benchmarks.interactive_dice`, {datetime.datetime.now(tz=datetime.UTC).date()}; {machine()}, "
            f"torch {torch.__version__.split('+')[0]}, {minutes:.0f} minutes.",
            f"Weights {weights}, trained on synthesis alone: no real image was used to train them.",
            "",
            "A simulated person clicks at the centre of the largest error. Mean Dice; in brackets the 95 % interval "
            f"over patients (BCa bootstrap), given where there are {LEAST_PATIENTS} patients or more. Images are a "
            f"fixed subsample (seed {SEED}), at most {self.budget.planes} a set. Compact targets: all but the vessels. "
            "Volumes have [a page of their own](interactive-volumes.md).",
            "",
            "## All images",
            "",
            *table(self.clicked),
            "",
            *self._by_modality(),
            "",
            "## Only the half that was never looked at",
            "",
            "On one half of the patients (by a hash of the patient's name) it was looked at where the model fails and "
            "how it should look closer. This is the other half. (The CT organs of both halves are of one patient.)",
            "",
            *table(reported),
            "",
            "### NSD at 2 voxels, the same half",
            "",
            *table(reported, "nsd"),
            *[line for section in sections for line in ("", *section)],
            "",
            "## What the sets are",
            "",
            "CT organs: the reference is another model's output, not a person's drawing; one patient. CXR lungs: both "
            "lungs as one target, so one click can't say it. Fundus vessels are thin trees; clicks are the wrong "
            "prompt for them. The breast ultrasound images at hand carry no masks, so no figure is given for them.",
        ]
        out = ROOT / "docs" / "results"
        (out / "interactive.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        how = "simulated clicks at the centre of the largest error; fixed subsample; docs/results/interactive.md"
        keep_metrics(out, "interactive-2d", metrics_of(self.clicked, how))

    def _other_prompts(self) -> list[str]:
        ours = Ours(self.engine)
        few = [c for g in (*COMPACT, "Fundus vessels") for c in [c for c in self.cases if c.group == g][:12]]
        columns = {
            "exact box": sessions(ours, few, BoxUser(), 1),
            "careless box (5 %)": sessions(ours, few, BoxUser(jitter=0.05), 1),
            "1 scribble": sessions(ours, few, Scribbler(), 3),
            "random click": sessions(ours, few, RandomClicks(), 3),
        }
        columns = {**columns, "3 scribbles": columns["1 scribble"], "3 random clicks": columns["random click"]}
        lines = ["## Other prompts", "", "| target | " + " | ".join(columns) + " |", "| - |" + " - |" * len(columns)]
        for group in sorted({c.group for c in few}):
            cells = []
            for name, results in columns.items():
                after = 3 if name.startswith("3") else 1
                cells.append(f"{np.mean([r.dice[after - 1] for r in results if r.group == group]):.3f}")
            lines.append(f"| {group} | " + " | ".join(cells) + " |")
        people = human_scribbles(ours, self.root)
        lines += ["", "MedScribble, the first set of scribbles of each person (8 images each), mean Dice: "]
        lines[-1] += "; ".join(f"{name} {np.mean(values):.3f}" for name, values in sorted(people.items())) + "."
        return lines

    def _against(self) -> list[str]:
        mine, peers = self.baselines
        few = [c for c in self.cases if (c.group, c.name) in {(r.group, r.case) for r in mine}]
        otsu = sessions(OtsuInBox(), few, BoxUser(), 1)
        names = ["Isocenter", *peers]
        lines = ["## Against simple methods, same images, same rule", "", "Dice after 1 / 3 / 5 clicks.", ""]
        lines += ["| target | images | " + " | ".join(names) + " | Otsu in the exact box |"]
        lines += ["| - | - |" + " - |" * (len(names) + 1)]
        runs = [mine, *peers.values()]
        for group in COMPACT:
            count = sum(r.group == group for r in mine)
            cells = []
            for results in runs:
                values = np.mean([r.dice for r in _cut(results, 5) if r.group == group], axis=0)
                cells.append(" / ".join(f"{values[k - 1]:.3f}" for k in (1, 3, 5)))
            cells.append(f"{np.mean([r.dice[0] for r in otsu if r.group == group]):.3f}")
            lines.append(f"| {group} | {count} | " + " | ".join(cells) + " |")
        total = [" / ".join(f"**{mean_after(_cut(r, 5), k):.3f}**" for k in (1, 3, 5)) for r in runs]
        lines.append("| **mean** | | " + " | ".join(total) + f" | **{mean_after(otsu, 1):.3f}** |")
        return lines

    def _context(self) -> list[str]:
        found = in_context(self.engine, self.root, self.budget.context)
        lines = [
            "## From confirmed cases, without any click",
            "",
            "Examples are of one half of the patients, the images answered of the other; mean Dice.",
            "",
            "| target | images | " + " | ".join(f"{k} example{'s' if k > 1 else ''}" for k in CONTEXT) + " |",
            "| - | - |" + " - |" * len(CONTEXT),
        ]
        for group, scores in found.items():
            cells = [f"{np.mean(scores[k]):.3f}" for k in CONTEXT]
            lines.append(f"| {group} | {len(scores[1])} | " + " | ".join(cells) + " |")
        return lines

    def _expectation(self) -> list[str]:
        few = [c for g in COMPACT for c in [c for c in self.cases if c.group == g and not c.development][:6]]
        lines = [
            "## What it says of itself",
            "",
            "Ten clicks on compact targets of the half that was never looked at. Expected against reached Dice, and "
            "the expected calibration error (15 bins) of the pixels' probabilities in a box a fifth larger than target "
            "and answer. The corrections on the card were fitted on synthesis, not on these images.",
            "",
        ]
        return [*lines, *honesty_table(self.engine, few)]

    def _by_modality(self) -> list[str]:
        compact_only = [r for r in self.clicked if r.group in COMPACT]
        rows = [r for r in summarise(compact_only).rows if r.scope == "modality"]
        lines = ["| modality | images | patients | " + " | ".join(f"{k}" for k in SHOWN) + " |"]
        lines.append("| - | - | - |" + " - |" * len(SHOWN))
        for row in rows:
            cells = " | ".join(str(row.dice[k]) for k in SHOWN)
            lines.append(f"| {row.label} | {row.cases} | {row.patients} | {cells} |")
        return ["### By modality, compact targets, Dice by interactions", "", *lines]


def _cut(results: Sequence[SessionResult], acts: int) -> list[SessionResult]:
    """Return sessions with their first acts only."""
    from dataclasses import replace

    return [replace(r, dice=r.dice[:acts], nsd=r.nsd[:acts]) for r in results]


if __name__ == "__main__":
    main()
