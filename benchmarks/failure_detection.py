"""Does the expected Dice follow the true one when images get worse?

    python -m benchmarks.failure_detection [--data ../shared/data] [--work .runs/adapt]

Hippocampus: the short networks of `benchmarks.conformal_coverage` (in --work), each on cases that it never saw. Lungs:
the embedded `lungs-cxr` network, which has seen all of these X-rays while it learnt, so its Dice on the clean ones is
better than on new ones. Each image is answered as it is and spoilt in six ways, mildly to severely. One half of the
patients fits `safety.quality`, the other half is reported; then the other way round. Writes
docs/results/failure-detection.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from benchmarks.__main__ import machine
from benchmarks.conformal_coverage import HIPPOCAMPUS, learnt
from isocenter.data.labelled import open_labelled
from isocenter.evaluate.bootstrap import bootstrap_statistic
from isocenter.evaluate.overlap import dice
from isocenter.evaluate.ranking import auroc
from isocenter.learn.adaptation.likeness import strange_number
from isocenter.learn.automatic_data import load_lungs
from isocenter.models.learnt import views_of
from isocenter.models.learnt.agreement import answer_numbers
from isocenter.models.preparation import Letterbox, normalise
from isocenter.models.segmentation import build_unet, predict, self_agreement
from isocenter.models.weights import load_weights
from isocenter.safety.descriptors import descriptors
from isocenter.safety.gate import combined, fit_reference
from isocenter.safety.quality import fit_quality

ROOT = Path(__file__).resolve().parents[1]
GRADES, COPIES = 5, 5
MOST_CASES = 24
"""Held-out cases of each hippocampus network that are looked at."""
POOR = 0.7
"""Below this Dice an answer counts as failed."""


@dataclass(frozen=True)
class Answer:
    """An answer, its numbers and its true Dice."""

    patient: str
    spoilt: str
    grade: int
    numbers: dict[str, float]
    dice: float
    sharp: float


def noise(a: np.ndarray, grade: float, rng: np.random.Generator) -> np.ndarray:
    """Add grain up to 1.5 deviations."""
    return np.asarray(a + rng.normal(0, 1.5 * grade * a.std(), a.shape))


def blur(a: np.ndarray, grade: float, rng: np.random.Generator) -> np.ndarray:
    """Blur by up to a fortieth of the longest side, and 3 voxels at least."""
    return np.asarray(ndimage.gaussian_filter(a, grade * max(3.0, max(a.shape) / 40)))


def contrast(a: np.ndarray, grade: float, rng: np.random.Generator) -> np.ndarray:
    """Clip the values to the middle of their range, down to a twentieth of it."""
    low, high = np.percentile(a, (50 - 47.5 * (1 - grade) - 2.5, 50 + 47.5 * (1 - grade) + 2.5))
    return np.asarray(np.clip(a, low, max(high, low + 1e-3)))


def ghosting(a: np.ndarray, grade: float, rng: np.random.Generator) -> np.ndarray:
    """Add copies shifted along an axis, as motion between lines does."""
    axis = int(rng.integers(a.ndim))
    out = a.copy()
    for k in (1, 2):
        out = out + 1.2 * grade / k * np.roll(a, k * a.shape[axis] // 4, axis=axis)
    return np.asarray(out)


def downsampling(a: np.ndarray, grade: float, rng: np.random.Generator) -> np.ndarray:
    """Lose resolution by a factor of up to 7."""
    few = [max(2, round(n / (1 + 6 * grade))) for n in a.shape]
    small = ndimage.zoom(a, [f / n for f, n in zip(few, a.shape, strict=True)], order=1)
    return np.asarray(ndimage.zoom(small, [n / f for f, n in zip(small.shape, a.shape, strict=True)], order=1))


def gamma(a: np.ndarray, grade: float, rng: np.random.Generator) -> np.ndarray:
    """Bend the curve of contrast, up or down."""
    low, high = float(a.min()), float(a.max())
    unit = (a - low) / max(high - low, 1e-9)
    return np.asarray(unit ** np.exp(rng.choice([-1, 1]) * 2.0 * grade))


SPOILINGS: dict[str, Callable[[np.ndarray, float, np.random.Generator], np.ndarray]] = {
    "noise": noise, "blur": blur, "contrast": contrast, "ghosting": ghosting, "downsampling": downsampling,
    "gamma": gamma,
}  # fmt: skip


def copies(array: np.ndarray, seed: int) -> list[tuple[str, int, np.ndarray]]:
    """Return an image as it is, and copies spoilt at random in one way each."""
    rng = np.random.default_rng((5, seed))
    out = [("clean", 0, array)]
    for kind in rng.permutation(list(SPOILINGS))[:COPIES]:
        grade = int(rng.integers(1, GRADES + 1))
        out.append((str(kind), grade, SPOILINGS[str(kind)](array.astype(np.float64), grade / GRADES, rng)))
    return out


def hippocampus(data: Path, work: Path) -> list[Answer]:
    """Answer held-out cases and copies of them by the network that never saw their patient."""
    labelled = open_labelled(data / "mr_hippocampus_msd")
    found = learnt("hippocampus-short", labelled, HIPPOCAMPUS, work)
    if found.gate is None or found.failed:  # numbers of cases are those of the set where none was left out
        raise SystemExit(f"no gate ({found.ungated}), or cases left out: {len(found.failed)}")
    plan, out = found.plan, []
    for member, reference in zip(found.members, found.gate.references, strict=True):
        for number in member.part.held_out[:MOST_CASES]:
            case = labelled.cases[number]
            read = case.image()
            if case.mask is None:
                raise SystemExit("a case without a mask")
            prepared = plan.preparation.forward(read)
            label = prepared.label(case.mask(read.geometry).array)
            for kind, grade, array in copies(prepared.array[0], number):
                image = normalise(array)[None].astype(np.float32)
                views = views_of(member.learnt.net, image, plan.window, plan.network.outputs, plan.alteration.mirror)
                numbers = {**answer_numbers(views), **strange_number(reference, member.learnt.net, image, plan.window)}
                answer = np.mean(views, axis=0).argmax(0)
                true = float(np.mean([dice(label == n, answer == n) for n in (1, 2)]))
                out.append(Answer(case.patient, kind, grade, numbers, true, numbers["sharp"]))
    return out


def lungs(data: Path) -> list[Answer]:
    """Answer X-rays and copies of them by the embedded network."""
    weights = load_weights("lungs-cxr")
    net, side = build_unet(weights), int(str(weights.card.preparation["side_pixels"]))
    cases, out = load_lungs(data / "cxr_covid_lungmask"), []
    squares = [Letterbox(*case.image.shape, side).forward(normalise(case.image.astype(np.float32))) for case in cases]
    patients = sorted({case.group for case in cases})
    known = {p for i, p in enumerate(patients) if i % 2 == 0}
    # What is strange is told from one half of the patients alone; descriptors need no network.
    half = [descriptors(s[None]) for s, case in zip(squares, cases, strict=True) if case.group in known]
    reference = fit_reference(half)
    for number, (case, square) in enumerate(zip(cases, squares, strict=True)):
        box = Letterbox(*case.label.shape, side)
        label = box.forward((case.label > 0).astype(np.float32)) >= 0.5
        for kind, grade, array in copies(square, number):
            image = normalise(array).astype(np.float32)
            looked = predict(net, image)
            numbers = answer_numbers(list(looked.views))
            numbers["strange"] = combined([reference.strangeness(descriptors(image[None]))])[0]
            true = dice(label, looked.mean.argmax(0) > 0)
            out.append(Answer(case.group, kind, grade, numbers, true, float(self_agreement(looked).mean())))
    return out


def kept(what: str, work: Path, answer: Callable[[], list[Answer]]) -> list[Answer]:
    """Return answers that an earlier call kept in --work, or answer and keep them."""
    file = work / f"failure-{what}.json"
    if not file.is_file():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps([vars(a) for a in answer()]), "utf-8")
    return [Answer(**row) for row in json.loads(file.read_text("utf-8"))]


def report(what: str, answers: list[Answer]) -> tuple[list[str], dict[str, object]]:
    """Fit on one half of the patients, report on the other, and the other way round; return lines and figures."""
    patients = sorted({a.patient for a in answers})
    names = sorted(answers[0].numbers)
    table = np.array([[a.numbers[n] for n in names] for a in answers])
    true, whose = np.array([a.dice for a in answers]), [a.patient for a in answers]
    first = {p for i, p in enumerate(patients) if i % 2 == 0}
    here = np.array([p in first for p in whose])
    expected, low, high = np.empty(len(true)), np.empty(len(true)), np.empty(len(true))
    for fit in (here, ~here):
        rule = fit_quality(table[fit], true[fit], [p for p, f in zip(whose, fit, strict=True) if f], names)
        for i in np.flatnonzero(~fit):
            one = rule.expect(dict(zip(names, table[i].tolist(), strict=True)))
            expected[i], low[i], high[i] = one.value, one.low, one.high

    def r(values: np.ndarray) -> Callable[[np.ndarray], float]:
        return lambda i: float(np.corrcoef(values[i], true[i])[0, 1])

    sharp = np.array([a.sharp for a in answers])
    ours = bootstrap_statistic(r(expected), whose)
    before = bootstrap_statistic(r(sharp), whose)
    inside = (low <= true) & (true <= high)
    poor = true < POOR
    area = auroc(poor, -expected)
    kept = np.argsort(-expected)[: round(0.8 * len(true))]
    lines = [
        f"## {what}", "",
        f"{len(patients)} patients, {len(true)} answers; true Dice {true.min():.2f} to {true.max():.2f}, mean "
        f"{true.mean():.3f}, of clean images {true[[a.spoilt == 'clean' for a in answers]].mean():.3f}; "
        f"{poor.mean():.0%} "
        f"below {POOR}.", "",
        f"- Correlation of expected and true Dice: **{ours.value:.3f}** (95 % {ours.low:.3f} to {ours.high:.3f}); "
        "of the "
        f"answer's agreement with itself alone, as before: {before.value:.3f} ({before.low:.3f} to {before.high:.3f}).",
        f"- Mean absolute error {np.abs(expected - true).mean():.3f}. The 90 % interval holds the true Dice in "
        f"{inside.mean():.1%}; its mean width is {(high - low).mean():.2f}.",
        f"- A Dice below {POOR} is found with an AUROC of {area:.3f}. Without the fifth that is expected to be "
        "worst, mean "
        f"Dice is {true[kept].mean():.3f}.", "",
        "| spoilt by | answers | mean true Dice | mean expected | correlation |", "| - | - | - | - | - |",
    ]  # fmt: skip
    spoilt: list[dict[str, object]] = []
    for kind in ("clean", *SPOILINGS):
        mine = np.array([a.spoilt == kind for a in answers])
        inner = np.corrcoef(expected[mine], true[mine])[0, 1] if mine.sum() > 2 else float("nan")
        lines.append(f"| {kind} | {mine.sum()} | {true[mine].mean():.3f} | {expected[mine].mean():.3f} | {inner:.2f} |")
        spoilt.append({
            "spoilt_by": kind, "answers": int(mine.sum()), "mean_dice": round(float(true[mine].mean()), 4),
            "mean_expected": round(float(expected[mine].mean()), 4),
            "correlation": None if np.isnan(inner) else round(float(inner), 4),
        })  # fmt: skip
    figures: dict[str, object] = {
        "what": what, "patients": len(patients), "answers": len(true), "correlation": round(ours.value, 4),
        "low": round(ours.low, 4), "high": round(ours.high, 4), "agreement_alone": round(before.value, 4),
        "mean_absolute_error": round(float(np.abs(expected - true).mean()), 4),
        "interval_holds": round(float(inside.mean()), 4), "interval_width": round(float((high - low).mean()), 4),
        "poor_below": POOR, "auroc_of_poor": round(float(area), 4), "rows": spoilt,
    }  # fmt: skip
    return [*lines, ""], figures


def main() -> None:
    """Run all; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--work", type=Path, default=ROOT / ".runs" / "adapt")
    args = parser.parse_args()
    torch.set_num_threads(1)
    lines = [
        "# Failure detection for segmentation", "",
        f"`python -m benchmarks.failure_detection`, {datetime.date.today().isoformat()}, {machine()}.", "",
        f"Each image as it is, and {COPIES} copies spoilt in one of six ways each, at grade 1 to {GRADES}. Two-fold by "
        "patient: `safety.quality` is fitted on one half of the patients and reported on the other. Target: "
        "correlation of 0.8 or more. Intervals: bootstrap over patients.", "",
    ]  # fmt: skip
    found: dict[str, dict[str, object]] = {}
    both = (
        (
            "Hippocampus, networks that never saw the patient",
            kept("hippocampus", args.work, lambda: hippocampus(args.data, args.work)),
        ),
        ("Lungs, the embedded network (it has seen these X-rays)", kept("lungs", args.work, lambda: lungs(args.data))),
    )
    for what, answers in both:
        more, found[what.split(",")[0].lower()] = report(what, answers)
        lines += more
        print("\n".join(more), flush=True)
    lines.append(
        "The rule was fitted on the same six ways of spoiling as it was tried on, on other patients: of a failure of "
        "another kind (another contrast, a lesion, a wrong body part) this says nothing; the gate is for those. Lungs "
        "lie just below the target. They were looked at once before, when the rule had no term for numbers far above "
        "their usual range: the correlation was 0.783 then, so 0.799 was not found blindly; hippocampus was run once."
    )
    (ROOT / "docs" / "results" / "failure-detection.md").write_text("\n".join(lines) + "\n", "utf-8")
    document = {"date": datetime.date.today().isoformat(), "machine": machine(), "sets": list(found.values())}
    (ROOT / "docs" / "results" / "failure-detection.json").write_text(json.dumps(document, indent=1) + "\n", "utf-8")
    print(json.dumps({"name": "failure_detection", **{k: v["correlation"] for k, v in found.items()}}))


if __name__ == "__main__":
    main()
