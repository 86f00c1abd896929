"""Fusion: what is lost when a source is missing, against a network that never knew of it; and 12 real patients.

    python -m benchmarks.fusion [--data ../shared/data] [--patients 600] [--cohort 400] [--quick]

Synthetic patients with images go the way of `isocenter prognose --block` (`benchmarks.fusion_patients`). Others are
vectors that are drawn here: four sources, each with a part of what decides the event, of stated weight; a fifth of each
is missing. It is synthetic, and says so. The 12 patients with CT, MR, PET and a known outcome are read from the shared
data: the network must refuse them. Writes docs/results/fusion.md.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy.stats import mannwhitneyu

from benchmarks.__main__ import machine
from benchmarks.fusion_patients import FOLDS, INNER, SHIFT, STRETCH, modality_rows
from isocenter.core.errors import DataError
from isocenter.data.images.nifti import read_nifti, read_nifti_mask
from isocenter.evaluate.bootstrap import Interval, bootstrap_statistic
from isocenter.evaluate.ranking import auroc, concordance
from isocenter.models.fusion.fit import FusionModel, Sources, fit_classes, fit_times
from isocenter.tasks.phenotype.measure import measure
from isocenter.tasks.prognose.cox import CoxModel, fit_cox, partial_likelihood

ROOT = Path(__file__).resolve().parents[1]
WEIGHTS = {"ct": 1.0, "mr": 0.6, "report": 0.4, "table": 0.8, "noise": 0.0}
"""What a source adds to the logarithm of the hazard, for a deviation of what it tells."""
LENGTHS = {"ct": 16, "mr": 16, "report": 24, "table": 6, "noise": 16}
SHARE_MISSING, HORIZON = 0.2, 200.0
STRENGTHS = (3.0, 1.0, 0.3, 0.1, 0.03)


def draw(count: int, seed: int) -> tuple[Sources, np.ndarray, np.ndarray]:
    """Draw synthetic patients: sources with gaps, days, events."""
    rng, mixing = np.random.default_rng(seed), np.random.default_rng(12345)
    vectors, score = {}, np.zeros(count)
    for name, weight in WEIGHTS.items():
        told = rng.normal(size=count)
        score += weight * told
        noise = rng.normal(size=(count, LENGTHS[name]))
        rows = told[:, None] * mixing.normal(size=LENGTHS[name]) + 1.5 * noise
        rows[rng.random(count) < SHARE_MISSING] = np.nan
        vectors[name] = rows
    event, lost = rng.exponential(300 * np.exp(-score)), rng.uniform(50, 1000, count)
    return Sources(vectors), np.minimum(event, lost), event <= lost


def risk_of(model: FusionModel, patients: Sources) -> np.ndarray:
    """Return the chance of the event by the horizon; that of nobody known where a patient has no source."""
    answered = patients.present.any(axis=1)
    risk = np.zeros(len(patients))
    risk[answered] = 1 - model.survival(patients.rows(answered), np.array([HORIZON]))[:, 0]
    risk[~answered] = float(np.median(risk[answered]))
    return risk


def stacked(patients: Sources) -> np.ndarray:
    """Return all numbers of all sources side by side; 0, the mean, where a source is missing."""
    return np.concatenate([np.nan_to_num(v) for v in patients.vectors.values()], axis=1)


def linear(train: Sources, days: np.ndarray, happened: np.ndarray) -> CoxModel:
    """Return Cox regression with a ridge, its strength chosen by the partial likelihood of a held-out third."""
    x, out = stacked(train), np.arange(len(days)) % 3 == 0
    told = [
        partial_likelihood(fit_cox(x[~out], days[~out], happened[~out], strength=s).risk(x[out])[:, None],
                           days[out], happened[out], np.ones(1))
        for s in STRENGTHS
    ]  # fmt: skip
    return fit_cox(x, days, happened, strength=STRENGTHS[int(np.argmax(told))])


def missing_table(patients: int, steps: int, resamples: int) -> list[dict[str, object]]:
    """Return a row for each source: with it dropped from the test patients, and learnt again without it."""
    train, days, happened = draw(patients, 11)
    test, later, came = draw(patients, 12)
    names = [str(n) for n in range(patients)]
    full = fit_times(train, days, happened, steps=steps)

    def interval(statistic: Callable[[np.ndarray], float]) -> Interval:
        return bootstrap_statistic(statistic, names, resamples=resamples)

    whole = risk_of(full, test)
    # The plainest peer: every number of every source in one ridge, what is missing as the mean.
    plain = linear(train, days, happened).risk(stacked(test))
    attention = np.nanmean(full.answer(test).weights, axis=0)
    rows: list[dict[str, object]] = [
        {"dropped": "linear", "known": _triple(interval(lambda i: concordance(later[i], came[i], plain[i])))},
        {"dropped": "none", "known": _triple(interval(lambda i: concordance(later[i], came[i], whole[i])))},
    ]
    for place, name in enumerate(WEIGHTS):
        left = [n for n in WEIGHTS if n != name]
        without = risk_of(full, test.without(name))
        again = risk_of(fit_times(train.only(left), days, happened, steps=steps), test.only(left))
        rows.append({
            "dropped": name, "weight": WEIGHTS[name], "attention": float(attention[place]),
            "moved": float(np.abs(whole - without).mean()),
            "known": _triple(interval(lambda i, r=without: concordance(later[i], came[i], r[i]))),
            "again": _triple(interval(lambda i, r=again: concordance(later[i], came[i], r[i]))),
            "difference": _triple(interval(lambda i, a=without, b=again: concordance(later[i], came[i], a[i])
                                           - concordance(later[i], came[i], b[i]))),
        })  # fmt: skip
        print(rows[-1], flush=True)
    return rows


def _triple(found: Interval) -> list[float]:
    return [found.value, found.low, found.high]


def sarcomas(data: Path) -> dict[str, object]:
    """Read 12 patients with CT, MR and PET, and ask for a network; return what it said, and what one number can."""
    folder = data / "ct_mr_pet_sts"
    with (folder / "outcome_lung_metastasis.csv").open(newline="", encoding="utf-8") as stream:
        outcome = {row["patient"]: int(row["lung_metastasis"]) for row in csv.DictReader(stream)}
    rows: dict[str, list[list[float]]] = {"ct": [], "mr": [], "pet": []}
    for patient in outcome:
        for source, (name, modality) in {"ct": ("CT", "CT"), "mr": ("MR_T1", "MR"), "pet": ("PET", "PT")}.items():
            image = read_nifti(folder / "nifti" / patient / f"{name}_image.nii.gz", modality=modality)
            mask = read_nifti_mask(folder / "nifti" / patient / f"{name}_mask.nii.gz")
            values = {m.derivation.meaning if m.derivation else m.name.meaning: m.value for m in measure(image, mask)}
            rows[source].append([values["Volume"], values["Mean"], values["Maximum"]])
    truth = np.array(list(outcome.values()))
    vectors = {name: np.array(some) for name, some in rows.items()}
    try:
        fit_classes(Sources(vectors), truth.astype(np.int64))
        said = "it was learnt: a defect"
    except DataError as error:
        said = str(error)
    highest = vectors["pet"][:, 2]
    test = mannwhitneyu(highest[truth == 1], highest[truth == 0], method="exact")
    return {
        "patients": len(truth), "events": int(truth.sum()), "said": said, "p": float(test.pvalue),
        "auc": float(auroc(truth == 1, highest)), "least_p": 2 / 66,
    }  # fmt: skip


def _shown(three: Sequence[float], sign: str = "") -> str:
    return f"{three[0]:{sign}.3f} ({three[1]:{sign}.3f} to {three[2]:{sign}.3f})"


def images_part(found: tuple[list[dict[str, object]], list[dict[str, object]], dict[str, int], int]) -> list[str]:
    """Return the part of the page on synthetic patients with images."""
    rows, shifted, counts, count = found
    has = ", ".join(f"{name} {n}" for name, n in counts.items() if name != "events")
    lines = [
        "## Patients with images", "",
        f"**Synthetic.** {count} patients of `synth.patients` (randomised), {counts['events']} events; IBSI-1 features "
        f"of the lesion in CT and in PET, hashed words of the report, and a table of age, sex, laboratory and "
        f"treatment. A fifth of each modality was taken away by chance; left: {has}. Everything goes the way of "
        f"`isocenter prognose --block`: nested cross-validation by patient ({FOLDS} outer, {INNER} inner folds), "
        "blocks reduced to principal components inside. The first C is of held-out people told by the same models with "
        "the modality taken away from all of them, the second of models that were learnt without it. Intervals: 95 %, "
        "bootstrap over patients; models are not learnt again for them.", "",
        "| learner | taken away | C of the model that knew it | C of one learnt without it | difference | lost by "
        "taking it away |",
        "| - | - | - | - | - | - |",
    ]  # fmt: skip
    for r in rows:
        if r["dropped"] == "none":
            lines.append(f"| {r['learner']} | none | {_shown(r['known'])} | | | |")
        else:
            lines.append(
                f"| {r['learner']} | {r['dropped']} | {_shown(r['known'])} | {_shown(r['again'])} | "
                f"{_shown(r['difference'], '+')} | {_shown(r['lost'], '+')} |"
            )
    lines += [
        "", "### A scanner that shifts", "",
        f"The same CT features, of two scanners dealt out by chance; scanner B moves every feature by {SHIFT:g} of its "
        f"deviations, the way that it goes with the lesion's volume, and stretches it by {STRETCH:g}: planted, as bad "
        "as it can be. Cox regression over CT, age and sex; `--batch scanner` harmonises by ComBat, fitted inside the "
        "folds alone.", "",
        "| shift | C | scanners apart on the first component, deviations |", "| - | - | - |",
        *(f"| {r['shift']} | {_shown(r['c'])} | {r['gap']:.2f} |" for r in shifted), "",
        "Harmonising brings the scanners together. Whether concordance gains by that is told by the intervals: where "
        "they overlap, nothing is shown. Several components can hold the scanner apart from the lesion, and the block "
        "adds little here; with one component a planted shift costs more (a test holds that).", "",
    ]  # fmt: skip
    return lines


def page(
    rows: list[dict[str, object]],
    real: dict[str, object] | None,
    patients: int,
    with_images: tuple[list[dict[str, object]], list[dict[str, object]], dict[str, int], int],
) -> str:
    """Return the page."""
    lines = [
        "# Fusion of several sources", "",
        f"`python -m benchmarks.fusion`, {datetime.datetime.now(tz=datetime.UTC).date()}, {machine()}.", "",
        *images_part(with_images), "## Vectors that are drawn", "",
        f"**Synthetic.** {patients} patients to learn from and {patients} others; five sources, each missing for "
        f"{SHARE_MISSING:.0%} of the patients, of which four carry a part of the logarithm of the hazard with the "
        "weight stated and one is noise. Hazards over intervals; Harrell's C of the chance of the event by day "
        f"{HORIZON:g}. Intervals: 95 %, bootstrap over the other patients; networks are not learnt again. Settings "
        "were tried on other draws of the same rule; that each source has a line of its own was decided after these "
        "draws had been seen without it.", "",
        "Attention is near even and does not follow the weights, not even which source is noise. It need not: the "
        "answer is near a sum over sources, the size of what a source says stands in what is taken from it (its value "
        "vector, its own line past the attention), and the weight only in how much of that is mixed. "
        "A variant was tried on another draw, in which what each source says by itself is set to one spread "
        "and attention must carry its size: its weights told noise (0.10) from CT (0.27), and it lost 0.02 of C; it "
        "was not taken. So what a source is worth is told by what changes without it: the risk moved, and C.", "",
        "| dropped from the others | weight | attention | risk moved, mean | C of the network that knew it "
        "| C of one learnt without it | difference |",
        "| - | - | - | - | - | - | - |",
    ]  # fmt: skip
    for r in rows:
        if r["dropped"] in ("none", "linear"):
            name = "none" if r["dropped"] == "none" else "none; no network: Cox with a ridge, missing as the mean"
            lines.append(f"| {name} | | | | {_shown(r['known'])} | | |")
            continue
        lines.append(
            f"| {r['dropped']} | {r['weight']:g} | {r['attention']:.2f} | {r['moved']:.3f} | {_shown(r['known'])} | "
            f"{_shown(r['again'])} | {_shown(r['difference'], '+')} |"
        )
    if real is not None:
        lines += [
            "", "## Sarcomas: 12 patients with CT, MR and PET", "",
            f"Lung metastasis in {real['events']} of {real['patients']}. Asked to learn from volume, mean and "
            f"maximum of the tumour in each modality, the network says: \"{real['said']}\".", "",
            f"What 12 patients can show at most: a single number that is not learnt, the largest uptake in PET, has an "
            f"AUC of {real['auc']:.2f}, p = {real['p']:.2f} (exact, two-sided). Even a perfect order of 2 against 10 "
            f"would have p = {real['least_p']:.3f}.",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--patients", type=int, default=600)
    parser.add_argument("--cohort", type=int, default=400, help="patients with images")
    parser.add_argument("--quick", action="store_true", help="write nothing")
    args = parser.parse_args()
    rows = missing_table(args.patients, 60 if args.quick else 300, 100 if args.quick else 500)
    some = 120 if args.quick else args.cohort
    with_images = (*modality_rows(some, 100 if args.quick else 500, steps=40 if args.quick else 300), some)
    real = sarcomas(args.data) if (args.data / "ct_mr_pet_sts").is_dir() else None
    if not args.quick:
        (ROOT / "docs" / "results" / "fusion.md").write_text(page(rows, real, args.patients, with_images), "utf-8")
    print(json.dumps({"name": "fusion", "rows": len(rows), "real": real}))


if __name__ == "__main__":
    main()
