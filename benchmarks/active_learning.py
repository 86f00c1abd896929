"""Does the order in which cases are labelled matter? Dice against labelled cases, ours against random order.

    python -m benchmarks.active_learning [--data ../shared/data] [--kept FOLDER] [--out docs/results]

Hippocampus in MR (one case a patient). Orders are compared on the development half of the patients
(`interactive_sets.is_development`); the one that gains most there is run once on the other half, and that is what the
page reports. Here the experts' masks stand for what a person confirms. Two learners: the one of a session, which
answers from the confirmed cases, and a small U-Net that is taught from nothing. Uncertainties are the session's, as in
the work list. Every figure that is measured is kept under --kept, so that a run that was stopped goes on. Writes
active-learning.md and active-learning.json.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from benchmarks.__main__ import machine
from benchmarks._active_learners import HEIGHTS, STEPS, InContext, SmallUNet
from benchmarks.interactive_sets import SEED, Case, hippocampus
from isocenter.evaluate.bootstrap import Interval, bootstrap_mean
from isocenter.learn.selection import METHODS, SHIPPED, Method, Pool, choose
from isocenter.models.interactive.build import build_plane_model
from isocenter.models.weights import load_weights

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = (2, 4, 8)
"""Cases that are labelled when the model is asked again how unsure it is of the rest."""
COUNTS = {"session": (2, 4, 8), "small U-Net": (2, 4, 8)}
TUNED_AT = {"session": (2, 4), "small U-Net": (4, 8)}
AFTERWARDS = ("small U-Net", 2)
"""Looked at on the development half when the test had been seen, to explain it; nothing was chosen by it."""
ORDERS: tuple[Method, ...] = tuple(m for m in METHODS if m != "random")


@dataclass(frozen=True)
class Extent:
    """How much is run on a half: folds, random orders, networks of one order, most patients asked in a fold."""

    folds: int
    random: int
    repeats: int
    asked: int


VALIDATION, TEST = Extent(2, 3, 1, 16), Extent(5, 4, 1, 99)
QUICK = Extent(2, 1, 1, 2)


class Half:
    """One half of the patients, cut into folds: each fold is asked once, and labelled from the others.

    Args:
        name: Of the half.
        cases: Of it, one a patient.
        extent: How much is run.
        kept: File of what was measured.
    """

    def __init__(self, name: str, cases: Sequence[Case], extent: Extent, kept: Path) -> None:
        self.name, self.cases, self.extent, self._file = name, cases, extent, kept
        order = np.random.default_rng([SEED, 9]).permutation(len(cases))
        parts = np.array_split(order, extent.folds)
        self.folds = [(np.setdiff1d(order, part), part[: extent.asked]) for part in parts]
        model = build_plane_model(load_weights("interactive-2d"))
        self.session, self.network = InContext(model, cases), SmallUNet(cases)
        lines = kept.read_text("utf-8").splitlines() if kept.is_file() else []
        self._known = {tuple(json.loads(line)["key"]): json.loads(line)["found"] for line in lines}

    def _once(self, key: tuple[object, ...], measure: object) -> list[float]:
        if key not in self._known:
            self._known[key] = measure()  # type: ignore[operator]
            with self._file.open("a", encoding="utf-8") as stream:
                stream.write(json.dumps({"key": key, "found": self._known[key]}) + "\n")
        return list(self._known[key])

    def order(self, fold: int, method: Method, number: int) -> list[int]:
        """Return eight cases of a fold's pool, in the order of a method, asking the model again at each round."""
        pool, _ = self.folds[fold]

        def measure() -> list[float]:
            taken: list[int] = []
            for goal in ROUNDS:
                labelled = tuple(int(np.flatnonzero(pool == t)[0]) for t in taken)
                doubt = None
                if taken and method in ("uncertain", "doubtful-core-set", "doubtful-representative"):
                    doubt = np.array([1 - a.expected for a in self.session.answer(taken, pool.tolist(), every=2)])
                given = Pool(self.session.embeddings[pool], doubt, labelled)
                chosen = choose(given, goal - len(taken), method=method, seed=1000 * fold + number)
                taken += [int(pool[i]) for i in chosen]
            return [float(t) for t in taken]

        return [int(t) for t in self._once((self.name, fold, method, number, "order"), measure)]

    def dice(self, fold: int, method: Method, number: int, learner: str, count: int, repeat: int = 0) -> list[float]:
        """Return the Dice of a fold's patients with so many labelled cases."""
        _, asked = self.folds[fold]
        labelled = self.order(fold, method, number)[:count]
        one = self.session if learner == "session" else self.network
        key = (self.name, fold, method, number, learner, count, repeat)
        return self._once(key, lambda: one.dice(labelled, asked.tolist(), 100 * number + repeat))

    def table(self, method: Method, learner: str, count: int) -> np.ndarray:
        """Return Dice as (order, patient): of random the orders one by one, of others the mean over networks."""
        numbers = range(self.extent.random) if method == "random" else range(1)
        repeats = self.extent.repeats if method != "random" and learner != "session" else 1
        rows = []
        for number in numbers:
            folds = [
                np.mean([self.dice(f, method, number, learner, count, r) for r in range(repeats)], axis=0)
                for f in range(len(self.folds))
            ]
            rows.append(np.concatenate(folds))
        return np.array(rows)

    @property
    def patients(self) -> list[str]:
        """The patients as they stand in `table`."""
        return [self.cases[int(i)].patient for _, asked in self.folds for i in asked]


def compare(half: Half, method: Method, learner: str, count: int) -> dict[str, object]:
    """Compare an order with random at a number of labelled cases, patient by patient."""
    ours, random = half.table(method, learner, count)[0], half.table("random", learner, count)
    gain = ours - random.mean(axis=0)
    return {
        "order": method,
        "learner": learner,
        "labelled": count,
        "ours": entry(bootstrap_mean(ours, half.patients)),
        "random": entry(bootstrap_mean(random.mean(axis=0), half.patients)),
        "gain": entry(bootstrap_mean(gain, half.patients)),
        "random_orders": [round(float(v), 4) for v in random.mean(axis=1)],
        "better_than": int((random.mean(axis=1) < ours.mean()).sum()),
    }


def entry(interval: Interval) -> dict[str, float]:
    """Return an interval as numbers."""
    return {k: round(float(getattr(interval, k)), 4) for k in ("value", "low", "high")}


def tune(half: Half, orders: Sequence[Method]) -> tuple[list[dict[str, object]], Method]:
    """Compare orders on the development half, and return the one with the largest mean gain."""
    rows = []
    for learner, counts in TUNED_AT.items():
        for method in orders:
            rows += [compare(half, method, learner, count) for count in counts]
            print(half.name, learner, method, [r["gain"]["value"] for r in rows[-len(counts) :]], flush=True)  # type: ignore[index]
    means = {m: np.mean([r["gain"]["value"] for r in rows if r["order"] == m]) for m in orders}  # type: ignore[index]
    return rows, max(orders, key=lambda m: means[m])


def afterwards(half: Half, orders: Sequence[Method]) -> list[dict[str, object]]:
    """Compare orders on the development half where the test surprised."""
    return [compare(half, method, *AFTERWARDS) for method in orders]


def shown(value: object) -> str:
    """Return an interval as text."""
    return "{value:.3f} ({low:.3f} to {high:.3f})".format(**value)  # type: ignore[arg-type]


def page(found: dict[str, object], notes: Sequence[str]) -> str:
    """Return the page of results."""
    test, tuned = found["test"], found["validation"]
    lines = [
        "# Which case to label next",
        "",
        *(str(found["head"]), ""),
        "## The order that was chosen, on the other half",
        "",
        f"Chosen on the development half: **{found['chosen']}** (`learn/selection.py`). Each of {found['patients']} "
        "patients is asked once; its fold is labelled from the other folds of this half. Mean Dice; in brackets the "
        "95 % interval over patients (BCa bootstrap). *Gain*: patient by patient, against the mean of "
        f"{TEST.random} random orders. *Random orders beaten*: by the mean over all patients.",
        "",
        "| learner | labelled | random order | ours | gain | random orders beaten |",
        "| - | - | - | - | - | - |",
    ]
    lines += [
        f"| {r['learner']} | {r['labelled']} | {shown(r['random'])} | {shown(r['ours'])} | {shown(r['gain'])} "
        f"| {r['better_than']} of {len(r['random_orders'])} |"
        for r in test  # type: ignore[attr-defined]
    ]
    lines += [
        *("", *notes, ""),
        "The intervals hold the chance that lies in the patients, not that of the orders and networks (of ours "
        "one for each fold). These images are crops of one organ in one kind of image, and alike: whether an order "
        "helps where images differ more is not answered here.",
        "",
        "## How it was chosen, on the development half",
        "",
        "Gain in mean Dice over random order. The order with the largest mean of its row was taken.",
        "",
    ]
    keys = [(learner, count) for learner, counts in TUNED_AT.items() for count in counts]
    lines += [
        "| order | " + " | ".join(f"{learner}, {count} labelled" for learner, count in keys) + " | mean |",
        "| - " * (len(keys) + 2) + "|",
    ]
    for method in ORDERS:
        row = {(r["learner"], r["labelled"]): r["gain"] for r in tuned if r["order"] == method}  # type: ignore[attr-defined]
        mean = np.mean([g["value"] for g in row.values()])
        lines.append(f"| {method} | " + " | ".join(shown(row[key]) for key in keys) + f" | {mean:+.4f} |")
    learner, count = AFTERWARDS
    lines += [
        *("", "## Looked at afterwards, on the development half", ""),
        f"The choice above did not look at the {learner} with {count} labelled cases. When the test had shown what "
        "happens there, the development half was asked the same. By it a core-set, which takes the farthest image "
        "second, begins worse than chance, and an order that takes the most representative images does not. The work "
        f"list uses **{SHIPPED}**, which begins with those. That it gains anything on other patients is not shown: the "
        "other half was asked once, about another order.",
        *("", f"| order | {learner}, {count} labelled | gain |", "| - | - | - |"),
        *(f"| {r['order']} | {shown(r['ours'])} | {shown(r['gain'])} |" for r in found["afterwards"]),  # type: ignore[attr-defined]
    ]
    return "\n".join(lines) + "\n"


def heading(minutes: float) -> str:
    """Return what was run, in words."""
    return (
        f"`python -m benchmarks.active_learning`, {datetime.datetime.now(tz=datetime.UTC).date()}; {machine()}, torch "
        f"{torch.__version__.split('+')[0]}, one thread, {minutes:.0f} minutes of it. Hippocampus in MR (195 patients "
        "of the Medical Segmentation Decathlon, CC BY-SA 4.0), both parts as one; the experts' masks stand for what a "
        f"person confirms; Dice on {len(HEIGHTS)} planes of each volume, evenly spread. *Session*: the built-in "
        "interactive network answers from the labelled cases, without a click. *Small U-Net*: 25 thousand parameters, "
        f"taught from nothing by {STEPS} lessons. Every order begins from the embeddings alone; the session is asked "
        "how unsure it is (1 - expected Dice) of all other cases when 2 and 4 are labelled."
    )


def verdict(rows: Sequence[dict[str, object]]) -> list[str]:
    """Say in words what the figures of the test say, whichever way they fall."""
    notes = []
    for learner in COUNTS:
        mine = [r for r in rows if r["learner"] == learner]
        sure = [r["labelled"] for r in mine if r["gain"]["low"] > 0]  # type: ignore[index]
        worse = [r["labelled"] for r in mine if r["gain"]["high"] < 0]  # type: ignore[index]
        told = []
        if sure:
            told.append(f"better than random order with {', '.join(map(str, sure))} labelled cases")
        if worse:
            told.append(f"worse with {', '.join(map(str, worse))}")
        rest = [r["labelled"] for r in mine if r["labelled"] not in (*sure, *worse)]
        if rest:
            told.append(f"no difference that these patients can show with {', '.join(map(str, rest))}")
        notes.append(f"- {learner}: {'; '.join(told)}.")
    return notes


def main() -> None:
    """Measure and write the page; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--kept", type=Path, default=Path("active-learning-kept.jsonl"))
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "results")
    parser.add_argument("--spent", type=float, default=0.0, help="minutes of earlier runs that --kept holds")
    parser.add_argument("--quick", action="store_true", help="few patients and orders; writes no page")
    parser.add_argument("--only-tune", action="store_true", help="stop before the other half is touched")
    args = parser.parse_args()
    torch.set_num_threads(1)
    started = time.process_time()
    cases = list(hippocampus(args.data))
    kept = args.kept.with_suffix(".quick.jsonl") if args.quick else args.kept
    mine = [c for c in cases if c.development]
    half = Half("validation", mine[:12] if args.quick else mine, QUICK if args.quick else VALIDATION, kept)
    if args.quick:
        rows = [half.table(SHIPPED, "session", 2).mean(), half.table("random", "session", 2).mean()]
        print(json.dumps({"name": "active_learning", "quick": [round(float(v), 4) for v in rows]}))
        return
    tuned, chosen = tune(half, ORDERS)
    print("chosen:", chosen, f"{(time.process_time() - started) / 60:.1f} CPU minutes", flush=True)
    if args.only_tune:
        return
    other = Half("test", [c for c in cases if not c.development], TEST, kept)
    test = []
    for learner, counts in COUNTS.items():
        for count in counts:
            test.append(compare(other, chosen, learner, count))
            print(json.dumps(test[-1]), flush=True)
    after = afterwards(half, ORDERS)
    head = heading(args.spent + (time.process_time() - started) / 60)
    found = {"chosen": chosen, "patients": len(other.patients), "head": head}
    found |= {"test": test, "validation": tuned, "afterwards": after}
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "active-learning.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (args.out / "active-learning.md").write_text(page(found, verdict(test)), "utf-8")
    gains = {f"{r['learner']}, {r['labelled']}": r["gain"] for r in test}
    print(json.dumps({"name": "active_learning", "chosen": chosen, "gains": gains}))


if __name__ == "__main__":
    main()
