"""Do conformal sets, intervals and thresholds hold what they promise on real held-out answers?

    python -m benchmarks.conformal_coverage [NAME ...] [--data ../shared/data] [--work .runs/adapt]

Answers of networks that never saw the case: PneumoniaMNIST (those of `benchmarks.adapt_sets`, taken up from --work),
breast ultrasound in three classes and hippocampus volumes (short trainings of a few minutes, in --work too). 200 times,
cases are halved at random by patient: one half fits the rule, the other is covered or not. NAME: pneumonia, breast or
hippocampus; all by default. Answers are kept in --work. Writes docs/results/conformal.md.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from benchmarks.__main__ import machine
from isocenter.data.labelled import LabelledSet, open_labelled
from isocenter.learn.adaptation.held_out import MaskRow, VectorRow
from isocenter.learn.adaptation.promise import joined
from isocenter.learn.adaptation.rules import Estimates, Wish, interval_rules
from isocenter.learn.adaptation.run import AdaptedSet, adapt_to_set
from isocenter.learn.adaptation.settings import DataSettings
from isocenter.safety.difficulty import DifficultyRule, chooses
from isocenter.safety.intervals import IntervalRule, fit_absolute, fit_ratio
from isocenter.safety.masks import THRESHOLDS, fit_mask_threshold
from isocenter.safety.quantiles import coverage_range, least_cases
from isocenter.safety.sets import fit_sets

ROOT = Path(__file__).resolve().parents[1]
LEVEL, SPLITS = 0.9, 200
PNEUMONIA = DataSettings(seed=0, folds=3, steps=1500, learning_rate=3e-3)
BREAST = DataSettings(seed=0, folds=5, steps=120, batch=32, learning_rate=3e-3, side=64, widths=(16, 32, 64, 128))
HIPPOCAMPUS = DataSettings(seed=0, folds=2, steps=100, learning_rate=3e-3, widths=(8, 16, 32))


@dataclass
class Row:
    """Coverage of one rule over all splits."""

    what: str
    rule: str
    covered: list[float] = field(default_factory=list)
    sizes: list[float] = field(default_factory=list)
    inside: list[bool] = field(default_factory=list)
    counts: tuple[int, int] = (0, 0)

    def add(self, covered: np.ndarray, size: float, calibrated: int) -> None:
        """Add a split; `inside` says whether its coverage lies in the 95 % range that chance alone gives."""
        self.covered.append(float(covered.mean()))
        self.sizes.append(size)
        low, high = coverage_range(calibrated, LEVEL, len(covered))
        self.inside.append(low - 1e-9 <= self.covered[-1] <= high + 1e-9)
        self.counts = (calibrated, len(covered))

    def cells(self) -> list[str]:
        """Return the cells of the table."""
        low, high = coverage_range(self.counts[0], LEVEL, self.counts[1])
        return [
            self.what, self.rule, f"{self.counts[0]} / {self.counts[1]}", f"{np.mean(self.covered):.3f}",
            f"{low:.3f} to {high:.3f}", f"{np.mean(self.inside):.0%}", f"{np.mean(self.sizes):.2f}",
        ]  # fmt: skip

    def figures(self) -> dict[str, object]:
        """Return the same for machines."""
        low, high = coverage_range(self.counts[0], LEVEL, self.counts[1])
        return {
            "what": self.what, "rule": self.rule, "fitted": self.counts[0], "tried": self.counts[1],
            "mean_coverage": round(float(np.mean(self.covered)), 4), "range_low": round(low, 4),
            "range_high": round(high, 4), "share_in_range": round(float(np.mean(self.inside)), 4),
            "mean_size": round(float(np.mean(self.sizes)), 4),
        }  # fmt: skip


def learnt(name: str, labelled: LabelledSet, settings: DataSettings, work: Path) -> AdaptedSet:
    """Learn, or take up what was learnt."""
    print(f"{name}: networks", flush=True)
    return adapt_to_set(labelled, settings, work / name)


def breast(data: Path, work: Path) -> LabelledSet:
    """Return the breast ultrasound set as a table of grey images (some of its pictures have coloured marks)."""
    folder, place = data / "us_breast_busi", work / "breast-grey"
    with (folder / "labels.csv").open(newline="") as stream:
        rows = [(row["image"], row["label"]) for row in csv.DictReader(stream)]
    place.mkdir(parents=True, exist_ok=True)
    for name, _ in rows:
        with Picture.open(folder / "images" / name) as picture:
            picture.convert("L").save(place / name)
    with (place / "table.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("image", "label"), *rows])
    return open_labelled(place / "table.csv")


def halves(patients: list[str], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return two halves of the cases, by patient; a case whose set names none counts as one."""
    names = sorted(set(patients))
    first = {names[i] for i in np.random.default_rng(seed).permutation(len(names))[: len(names) // 2]}
    here = np.array([p in first for p in patients])
    return np.flatnonzero(here), np.flatnonzero(~here)


def kept(name: str, work: Path, learn: Callable[[], AdaptedSet]) -> tuple[list[VectorRow], list[MaskRow]]:
    """Return held-out answers that an earlier call kept, or learn and keep them."""
    file = work / f"conformal-{name}.json"
    if not file.is_file():
        found = learn()
        masks = [{**vars(row), "numbers": dict(row.numbers)} for row in found.masks]
        vectors = [{**vars(row), "numbers": dict(row.numbers)} for row in found.vectors]
        file.write_text(json.dumps({"vectors": vectors, "masks": masks}), "utf-8")
    document = json.loads(file.read_text("utf-8"))
    vectors = [VectorRow(**{**row, "answer": tuple(row["answer"])}) for row in document["vectors"]]
    return vectors, [MaskRow(**row) for row in document["masks"]]


def by_difficulty(what: str, found: Estimates) -> tuple[Row, Row, str]:
    """Try the rule that tasks fit: by difficulty where it is chosen, else by ratio; and the ratio on the same cases."""
    row, plain, chosen = Row(what, "by difficulty, where chosen"), Row(what, "ratio, on the same cases"), 0
    for seed in range(SPLITS):
        fit, new = halves(list(found.patients), seed)
        # Which patients choose is drawn anew for each split, as their names would be in another set.
        some = Estimates(
            tuple(found.names[i] for i in fit), tuple(f"{seed} {found.patients[i]}" for i in fit), found.answers[fit],
            found.truth[fit], tuple(found.numbers[i] for i in fit),
        )  # fmt: skip
        fitted = interval_rules(some, Wish(), volumes=True)
        rule = IntervalRule.from_card(fitted.interval)
        difficulty = None if fitted.difficulty is None else DifficultyRule.from_card(fitted.difficulty)
        chosen += difficulty is not None
        one = fit_ratio(some.answers[~chooses(some.patients)], some.truth[~chooses(some.patients)], level=LEVEL)
        for into, made in ((row, rule), (plain, one)):
            ends = np.array([
                made.around(a, spread=a * (difficulty.of(found.numbers[i]) if difficulty is not None else 1.0))
                for i, a in zip(new, found.answers[new].tolist(), strict=True)
            ])  # fmt: skip
            inside = (ends[:, 0] <= found.truth[new]) & (found.truth[new] <= ends[:, 1])
            into.add(inside, float((ends[:, 1] - ends[:, 0]).mean() / found.truth[new].mean()), rule.cases)
    return row, plain, f"{what}: intervals by difficulty were chosen in {chosen} of {SPLITS} splits."


def sets(what: str, answers: list[VectorRow]) -> list[Row]:
    """Try every kind of set on the answers of a task of classes."""
    cases = joined(answers)
    truth = np.array([row.target for row in cases], dtype=np.int64)
    p = np.array([row.answer for row in cases])
    p = p / p.sum(1, keepdims=True)
    keys = [f"{what} {row.name}" for row in cases]
    kinds: dict[str, dict[str, object]] = {
        "LAC": {}, "APS, randomised": {"score": "aps", "randomised": True},
        "RAPS, randomised": {"score": "raps", "randomised": True}, "LAC by class": {"by_class": True},
    }  # fmt: skip
    rows = {kind: Row(what, kind) for kind in kinds}
    each = {number: Row(what, f"LAC by class, class {number} alone") for number in range(p.shape[1])}
    plain = {number: Row(what, f"LAC over all, class {number} alone") for number in range(p.shape[1])}
    for seed in range(SPLITS):
        fit, new = halves([row.patient for row in cases], seed)
        for kind, given in kinds.items():
            named = {"keys": [keys[i] for i in fit]} if given.get("randomised") else {}
            rule = fit_sets(p[fit], truth[fit], level=LEVEL, **given, **named)  # type: ignore[arg-type]
            inside = rule.sets(p[new], keys=[keys[i] for i in new] if given.get("randomised") else ())
            own = inside[np.arange(len(new)), truth[new]]
            rows[kind].add(own, float(inside.sum(1).mean()), rule.calibration_cases)
            for number, row in (each if kind == "LAC by class" else plain if kind == "LAC" else {}).items():
                mine = truth[new] == number
                row.add(own[mine], float(inside[mine].sum(1).mean()), int((truth[fit] == number).sum()))
    return [*rows.values(), *plain.values(), *each.values()]


def volumes(answers: list[MaskRow]) -> tuple[list[Row], list[str]]:
    """Try intervals of volumes, and the threshold that bounds what is missed."""
    rows, said = [], []
    for number, name in ((0, "anterior"), (1, "posterior")):
        answer, truth = np.array([row.volumes[number] for row in answers]).T
        missed = np.array([row.missed[number] for row in answers])
        patients = [row.patient for row in answers]
        kinds: dict[str, Callable[..., object]] = {"ratio": fit_ratio, "absolute gap": fit_absolute}
        for kind, fitted in kinds.items():
            row = Row(f"hippocampus volume, {name}", kind)
            for seed in range(SPLITS):
                fit, new = halves(patients, seed)
                rule = fitted(answer[fit], truth[fit], level=LEVEL)
                ends = np.array([rule.around(float(a)) for a in answer[new]])  # type: ignore[attr-defined]
                inside = (ends[:, 0] <= truth[new]) & (truth[new] <= ends[:, 1])
                row.add(inside, float((ends[:, 1] - ends[:, 0]).mean() / truth[new].mean()), len(fit))
            rows.append(row)
        names, numbers = tuple(row.name for row in answers), tuple(row.numbers for row in answers)
        *more, line = by_difficulty(
            f"hippocampus volume, {name}", Estimates(names, tuple(patients), answer, truth, numbers)
        )
        rows += more
        said.append(line)
        lost, thresholds = [], []
        for seed in range(SPLITS):
            fit, new = halves(patients, seed)
            mask = fit_mask_threshold(missed[fit], most_missed=0.1)
            thresholds.append(mask.threshold)
            lost.append(float(missed[new, THRESHOLDS.index(mask.threshold)].mean()))
        half = float(missed[:, THRESHOLDS.index(0.5)].mean())
        said.append(
            f"Missed share, {name}: bound 10 %, mean over {SPLITS} splits {np.mean(lost):.1%} (95 % of splits between "
            f"{np.quantile(lost, 0.025):.1%} and {np.quantile(lost, 0.975):.1%}); mean threshold "
            f"{np.mean(thresholds):.2f}. At a threshold of 0.50: {half:.1%}."
        )
    return rows, said


def page(rows: list[Row], said: list[str], notes: list[str]) -> str:
    """Return the page of results."""
    lines = [
        "# What conformal rules hold on real answers", "",
        f"`python -m benchmarks.conformal_coverage`, {datetime.date.today().isoformat()}, {machine()}.", "",
        f"Promised: {LEVEL:.0%}. {SPLITS} random halvings by image (none of the three sets names its patients): one "
        "half fits, the other is tried. *Range*: "
        "where "
        "the coverage of one split lies with a chance of 95 % if the promise holds exactly (beta-binomial). *In "
        "range*: "
        "share of the splits whose coverage does; about 95 % is right, and splits of one set are not independent. APS "
        "and RAPS always hold the likeliest class, and so may cover more. *Size*: classes of a set; of an interval, "
        "width over mean volume.", "",
        "| what | rule | fitted / tried | mean coverage | range of a split | in range | size |",
        "| - | - | - | - | - | - | - |",
    ]  # fmt: skip
    lines += [f"| {' | '.join(row.cells())} |" for row in rows]
    lines += ["", *[line for one in said for line in (one, "")], *[line for one in notes for line in (one, "")]]
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Run all; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("names", nargs="*", default=[], metavar="NAME")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--work", type=Path, default=ROOT / ".runs" / "adapt")
    args = parser.parse_args()
    names, data, work = args.names or ["pneumonia", "breast", "hippocampus"], args.data, args.work
    rows, said = [], []
    if "pneumonia" in names:
        labelled = open_labelled(data / "medmnist" / "pneumoniamnist_28.npz")
        rows += sets(
            "PneumoniaMNIST", kept("pneumonia", work, lambda: learnt("pneumonia", labelled, PNEUMONIA, work))[0]
        )
    if "breast" in names:
        busi = kept("breast", work, lambda: learnt("breast-conformal", breast(data, work), BREAST, work))
        rows += sets("breast ultrasound", busi[0])
    if "hippocampus" in names:
        crops = open_labelled(data / "mr_hippocampus_msd")
        intervals, said = volumes(
            kept("hippocampus", work, lambda: learnt("hippocampus-short", crops, HIPPOCAMPUS, work))[1]
        )
        rows += intervals
    notes = [
        "PneumoniaMNIST: the test part, mean of three networks. Breast ultrasound: five folds; hippocampus: two. Each "
        f"case answered by the network that never saw it, after {BREAST.steps} and {HIPPOCAMPUS.steps} steps (quick "
        "networks: the promise must hold whatever they are worth). Classes are numbered in the order of the set.",
        f"With fewer than {least_cases(LEVEL)} cases of a class a promise by class is refused.",
    ]
    results = ROOT / "docs" / "results"
    (results / "conformal.md").write_text(page(rows, said, notes), "utf-8")
    document = {
        "date": datetime.date.today().isoformat(), "machine": machine(), "level": LEVEL, "splits": SPLITS,
        "halved_by": "image", "rows": [row.figures() for row in rows], "missed": said, "notes": notes,
    }  # fmt: skip
    (results / "conformal.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    worst = min(float(np.mean(row.covered)) for row in rows if "over all" not in row.rule)
    print(json.dumps({"name": "conformal_coverage", "rules": len(rows), "least_mean_coverage": round(worst, 4)}))


if __name__ == "__main__":
    main()
