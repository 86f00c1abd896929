"""How fast are all IBSI-1 features of a lesion of 100 cm3, against MIRP, and do both say the same?

A ball of 100 cm3 at 1 mm with texture, 32 grey levels (fixed bin number). Two jobs: every feature in every way to bring
matrices together (IBSI's 487), and what MIRP computes by default. Ours and the peer run in turn, each in a process of
its own with one thread; time is the processor's, since a shared machine stretches the clock's. Every value that both
have must agree to one part in a thousand, but for those that the page lists with the reason. It also compares the
features of PyRadiomics' own test cases with the baselines that it ships (see benchmarks/phenotype_pyradiomics.py).

    python -m benchmarks.phenotype [--quick] [--peer PYTHON] [--data ../shared/data] [--write]

PYTHON is an interpreter with mirp; without it the one that runs this must have it. --write writes the page
docs/results/phenotype.md.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "results" / "phenotype.md"
BINS, RADIUS_MM = 32, 28.79  # 100 cm3
REPEATS = 5
WAYS = {
    "2d_avg": "2D_avg", "2d_s_mrg": "2D_comb", "2.5d_d_mrg": "2_5D_avg", "2.5d_v_mrg": "2_5D_comb", "3d_avg": "3D_avg",
    "3d_v_mrg": "3D_comb", "2d": "2D", "2.5d": "2_5D", "3d": "3D",
}  # fmt: skip
"""MIRP's names of the ways to bring matrices together -> the reference table's."""
DIFFERENT = {
    "morph_moran_i": "MIRP draws 100 of the voxels again and again and averages; ours takes all pairs",
    "morph_geary_c": "MIRP draws 100 of the voxels again and again and averages; ours takes all pairs",
    "morph_vol_dens_ombb": "no consensus of IBSI; both search for a small box in their own way",
    "morph_area_dens_ombb": "no consensus of IBSI; both search for a small box in their own way",
    "morph_vol_dens_mvee": "no consensus of IBSI; the tolerance of the iteration differs",
    "morph_area_dens_mvee": "no consensus of IBSI; the tolerance of the iteration differs",
    "ivh_auc": "no consensus of IBSI",
}
"""Features that need not agree, and why."""
TOLERANCE = 1e-3


def lesion(quick: bool) -> tuple[np.ndarray, np.ndarray]:
    """Paint texture that is smooth over about two voxels, and a ball."""
    from scipy import ndimage

    radius = RADIUS_MM / (2 if quick else 1)
    side = 2 * int(radius) + 22  # spheres of 1 cm3 stay within the image
    values = ndimage.gaussian_filter(np.random.default_rng(0).normal(size=(side,) * 3), 1.0) * 100
    places = np.indices(values.shape) - (side - 1) / 2
    return values, (places**2).sum(0) <= radius**2


def ours(values: np.ndarray, inside: np.ndarray, everything: bool) -> dict[str, float]:
    from isocenter.core import Geometry, Image, Mask, Segment
    from isocenter.tasks.phenotype import Discretisation, FeatureSettings, radiomic_features

    geometry = Geometry.axial(values.shape, spacing_mm=(1.0, 1.0, 1.0))
    fixed = Discretisation("fixed bin number", BINS)
    # Texture of one region is computed in all ways at once; the job of volumes only shows fewer.
    ends = tuple(WAYS.values()) if everything else ("3D_avg", "3D_comb", "3D")
    settings = FeatureSettings(fixed, Discretisation("fixed bin number", 1000), aggregations=ends)
    mask = Mask(inside.astype(np.uint16), geometry, (Segment(1, "lesion"),))
    (found,) = radiomic_features(Image(values[None], geometry), mask, settings)
    return {f.tag: f.value for f in found.features if f.value is not None}


def mirp(values: np.ndarray, inside: np.ndarray, everything: bool) -> dict[str, float]:
    import logging

    from mirp import extract_features

    logging.disable(logging.INFO)
    every = {}
    if everything:
        long = ["2d_average", "2d_slice_merge", "2.5d_direction_merge", "2.5d_volume_merge", "3d_average",
                "3d_volume_merge"]  # fmt: skip
        short = ["2d", "2.5d", "3d"]
        every = {f"{f}_spatial_method": long for f in ("glcm", "glrlm")}
        every |= {f"{f}_spatial_method": short for f in ("glszm", "gldzm", "ngtdm", "ngldm")}
    (found,) = extract_features(
        image=values, mask=inside.astype(np.uint8), by_slice=False, base_discretisation_method="fixed_bin_number",
        base_discretisation_n_bins=BINS, ivh_discretisation_method="fixed_bin_number", ivh_discretisation_n_bins=1000,
        resegmentation_method="none", **every,
    )  # fmt: skip
    return {tag: float(found[name].iloc[0]) for name in found.columns if (tag := _tag(name)) is not None}


def _tag(name: str) -> str | None:
    """Turn MIRP's name of a column into the reference table's."""
    bare = name.removesuffix(f"_fbn_n{BINS}").removesuffix("_fbn_n1000").removesuffix("_ivh")
    family = bare.split("_", 1)[0]
    if family not in ("morph", "loc", "stat", "ih", "ivh", "cm", "rlm", "szm", "dzm", "ngt", "ngl"):
        return None
    for there, here in sorted(WAYS.items(), key=lambda item: -len(item[0])):
        if bare.endswith(f"_{there}"):
            base = bare.removesuffix(f"_{there}")
            for part in ("_d1_a0.0", "_d1", "_a0.0", "_a0"):
                base = base.removesuffix(part)
            return f"{base}_{here}"
    return bare


def work(who: str, quick: bool, everything: bool, repeats: int) -> None:
    warnings.simplefilter("ignore")
    values, inside = lesion(quick)
    run = {"ours": ours, "mirp": mirp}[who]
    tiny, few = lesion(True)
    run(tiny[::2, ::2, ::2].copy(), few[::2, ::2, ::2].copy(), everything)  # imports and tables are no part of it
    seconds, found = [], {}
    for _ in range(repeats):
        started = time.process_time()
        found = run(values, inside, everything)
        seconds.append(time.process_time() - started)
    version = importlib.metadata.version("mirp") if who == "mirp" else ""
    print(json.dumps({"seconds": seconds, "values": found, "version": version, "voxels": int(inside.sum())}))


def ask(python: str, who: str, quick: bool, everything: bool, repeats: int) -> dict:
    command = [python, "-m", "benchmarks.phenotype", "--work", who, "--repeats", str(repeats)]
    command += (["--quick"] if quick else []) + (["--everything"] if everything else [])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONPATH": _path()}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{who} failed:\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _path() -> str:
    return os.pathsep.join(filter(None, (str(ROOT / "src"), str(ROOT), os.environ.get("PYTHONPATH", ""))))


def compared(mine: dict[str, float], theirs: dict[str, float]) -> dict[str, object]:
    """Count values that agree; list those that don't."""
    both = sorted(set(mine) & set(theirs))
    differing = {}
    for tag in both:
        a, b = mine[tag], theirs[tag]
        if abs(a - b) > TOLERANCE * max(abs(a), abs(b), 1e-6):
            differing[tag] = (a, b)
    unexplained = sorted(set(differing) - set(DIFFERENT))
    return {
        "both": len(both), "agree": len(both) - len(differing), "differing": differing, "unexplained": unexplained,
        "only_ours": sorted(set(mine) - set(theirs)),
    }  # fmt: skip


def measure(args: argparse.Namespace) -> list[dict]:
    cases = []
    repeats = 2 if args.quick else REPEATS
    for everything in (True, False):
        # In turn, so that a busy machine slows both.
        first = ask(sys.executable, "ours", args.quick, everything, repeats)
        peer = ask(args.peer, "mirp", args.quick, everything, 1 if args.quick else 3)
        second = ask(sys.executable, "ours", args.quick, everything, repeats)
        seconds = first["seconds"] + second["seconds"]
        agreement = compared(first["values"], peer["values"])
        if agreement["unexplained"]:
            print(f"differ without a reason: {agreement['unexplained']}", file=sys.stderr)
        mine, theirs = statistics.median(seconds), statistics.median(peer["seconds"])
        what = "all features, all aggregations" if everything else "MIRP's default, volumes"
        cases.append(
            {
                "name": "phenotype", "ours": mine, "peer": theirs, "unit": "s", "ratio": theirs / mine,
                "peer_name": "MIRP", "peer_version": peer["version"],
                "input": f"{first['voxels']} voxels of 1 mm3, {BINS} levels, {what}",
                "spread": [min(seconds), max(seconds)], "peer_spread": [min(peer["seconds"]), max(peer["seconds"])],
                "agreement": agreement, "features": len(first["values"]), "peer_features": len(peer["values"]),
            }
        )  # fmt: skip
    return cases


def page(cases: list[dict], baselines: list[dict]) -> str:
    from benchmarks.__main__ import machine
    from benchmarks.phenotype_pyradiomics import section

    lines = [
        "# Phenotype: speed and agreement", "",
        f"`python -m benchmarks.phenotype --write`, {datetime.date.today().isoformat()}, {machine()}, one thread, "
        "processor time.",
        "Ours and the peer in turn on the same lesion in one run; medians, and the least and most of all runs.", "",
        "| input | ours | MIRP | ratio | features of ours | of MIRP | both have | agree to 0.1 % |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]  # fmt: skip
    for c in cases:
        low, high = c["spread"]
        far_low, far_high = c["peer_spread"]
        a = c["agreement"]
        agree = f"{a['both']} | {a['agree']}"
        lines.append(
            f"| {c['input']} | {c['ours']:.2f} s ({low:.2f} to {high:.2f}) | {c['peer']:.2f} s ({far_low:.2f} to "
            f"{far_high:.2f}) | {c['ratio']:.1f} | {c['features']} | {c['peer_features']} | {agree} |"
        )
    lines += ["", f"MIRP {cases[0]['peer_version']}. What differs:", ""]
    for tag, (mine, theirs) in sorted({k: v for c in cases for k, v in c["agreement"]["differing"].items()}.items()):
        lines.append(f"- `{tag}`: {mine:.5g} and {theirs:.5g}. {DIFFERENT.get(tag, 'No reason known.')}")
    lines += [
        "",
        "Tests of every run hold these, and this page does not measure them again: all 482 reference values of the "
        "IBSI-1 digital phantom within their tolerance (`tests/real/test_ibsi_1_real.py`; five rows of the table have "
        "no value, because the initiative found no consensus on them), and all 30 response maps of IBSI-2 "
        "(`tests/real/test_ibsi_2_real.py`).",
    ]
    return "\n".join([*lines, *section(baselines)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peer", default=sys.executable)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--work", choices=("ours", "mirp"))
    parser.add_argument("--everything", action="store_true")
    parser.add_argument("--repeats", type=int, default=1)
    args = parser.parse_args()
    if args.work:
        work(args.work, args.quick, args.everything, args.repeats)
        return
    cases = measure(args)
    if args.write:
        from benchmarks.phenotype_pyradiomics import compare

        PAGE.write_text(page(cases, compare(args.data)), encoding="utf-8")
    short = [{k: v for k, v in c.items() if k not in ("agreement", "spread", "peer_spread")} for c in cases]
    print(json.dumps({**short[0], "cases": short[1:]}))


if __name__ == "__main__":
    main()
