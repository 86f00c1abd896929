"""How do features of real tumours stand a second scan and a second outline? Intraclass correlations, with intervals.

Soft-tissue sarcomas of 12 patients (IBSI's validation set), CT and PET, expert outlines. Each is shifted by parts of a
voxel, turned by up to 6 degrees, made noisier, and its outline wanders and grows or shrinks by up to 15 %, drawn anew
for each patient; ICC(1,1) of every feature over the patients, 3D aggregations, voxels as they are.

    python -m benchmarks.phenotype_robustness [--data ../shared/data] [--count 10]

Writes docs/results/phenotype-robustness.md and .json.
"""

from __future__ import annotations

import argparse
import datetime
import json
from pathlib import Path

import numpy as np

from benchmarks.__main__ import machine
from isocenter.core import Mask, Segment
from isocenter.data.images import read_nifti, read_nifti_mask
from isocenter.evaluate.statistics import intraclass_correlation
from isocenter.tasks.phenotype import Discretisation, FeatureSettings
from isocenter.tasks.phenotype.features import tags_of
from isocenter.tasks.phenotype.names import FAMILIES
from isocenter.tasks.phenotype.perturb import draw_perturbations, perturbed_features

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results" / "phenotype-robustness.md"
SETTINGS = FeatureSettings(Discretisation("fixed bin number", 32), aggregations=("3D_comb", "3D"))
LIMITS = (0.90, 0.75)


def values_of(data: Path, what: str, count: int) -> dict[str, np.ndarray]:
    """Return features under perturbations: patients x perturbations, by tag; tags with a gap are left out."""
    tables = []
    for number, folder in enumerate(sorted((data / "ct_mr_pet_sts" / "nifti").iterdir())):
        image = read_nifti(folder / f"{what}_image.nii.gz")
        labels = read_nifti_mask(folder / f"{what}_mask.nii.gz")
        mask = Mask((labels.array > 0).astype(np.uint16), labels.geometry, (Segment(1, "tumour"),))
        runs = perturbed_features(image, mask, draw_perturbations(count, seed=number), SETTINGS)
        tables.append([{f.tag: f.value for f in run[0].features} for run in runs])
        print(what, folder.name, flush=True)
    found = {}
    for tag in tags_of(SETTINGS):
        rows = [[run[tag] for run in table] for table in tables]
        if all(v is not None for row in rows for v in row):
            found[tag] = np.array(rows)
    return found


def section(what: str, found: dict[str, dict]) -> list[str]:
    """Return a table of one kind of image."""
    lines = [
        "", f"## {what}", "",
        "| family | features | lower end 0.90 or more | 0.75 or more | below 0.75 | median ICC | least (interval) |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for family, (_, title) in FAMILIES.items():
        own = {t: r for t, r in found.items() if t.split("_")[0] == family}
        lows = [r["low"] for r in own.values()]
        high, good = (sum(v >= limit for v in lows) for limit in LIMITS)
        least = min(own, key=lambda t: own[t]["icc"])
        worst = own[least]
        median = float(np.median([r["icc"] for r in own.values()]))
        lines.append(
            f"| {title} | {len(own)} | {high} | {good - high} | {len(own) - good} | {median:.3f} | `{least}` "
            f"{worst['icc']:.2f} ({worst['low']:.2f} to {worst['high']:.2f}) |"
        )
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--count", type=int, default=10)
    args = parser.parse_args()
    everything, lines = {}, []
    patients = 0
    for what in ("CT", "PET"):
        found = {}
        for tag, rows in values_of(args.data, what, args.count).items():
            icc = intraclass_correlation(rows, form="1,1")
            patients = icc.subjects
            if icc.value is not None:
                found[tag] = {"icc": icc.value, "low": icc.low, "high": icc.high}
        everything[what] = found
        lines += section(what, found)
    head = [
        "# How features of tumours stand a second scan and outline", "",
        f"`python -m benchmarks.phenotype_robustness`, {datetime.date.today().isoformat()}, {machine()}.", "",
        f"{patients} patients with soft-tissue sarcoma (IBSI's validation set, CC BY 3.0), {args.count} perturbations "
        "each (shift, turn, noise, outline, volume). ICC(1,1) with 95 % intervals; 12 patients leave them wide, and "
        "the share of a feature's spread that is between patients depends on how different the patients are. "
        "Perturbations are no second scan: they say which features can't be trusted, not which can. All numbers: "
        "phenotype-robustness.json.",
    ]  # fmt: skip
    PAGE.write_text("\n".join([*head, *lines]) + "\n", encoding="utf-8")
    PAGE.with_suffix(".json").write_text(json.dumps(everything, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
