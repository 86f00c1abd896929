"""Features of PyRadiomics' test cases brain1 and breast1 against the baselines that it ships.

A part of the phenotype page.

PyRadiomics isn't run: it no longer installs on current Python. Its baselines were made with bins of 25 from a multiple
of 25 at or below the region's lowest intensity; ours are computed with the same bins.

    python -m benchmarks.phenotype_pyradiomics [--data ../shared/data]
"""

from __future__ import annotations

import argparse
import csv
import json
import math
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
WIDTH = 25.0
TOLERANCE = 1e-5

_GLCM = {
    "Autocorrelation": "auto_corr", "JointAverage": "joint_avg", "ClusterProminence": "clust_prom",
    "ClusterShade": "clust_shade", "ClusterTendency": "clust_tend", "Contrast": "contrast", "Correlation": "corr",
    "DifferenceAverage": "diff_avg", "DifferenceEntropy": "diff_entr", "DifferenceVariance": "diff_var",
    "JointEnergy": "energy", "JointEntropy": "joint_entr", "Imc1": "info_corr1", "Imc2": "info_corr2",
    "Idm": "inv_diff_mom", "Idmn": "inv_diff_mom_norm", "Id": "inv_diff", "Idn": "inv_diff_norm",
    "InverseVariance": "inv_var", "MaximumProbability": "joint_max", "SumAverage": "sum_avg",
    "SumEntropy": "sum_entr", "SumSquares": "joint_var",
}  # fmt: skip
_GLRLM = {
    "ShortRunEmphasis": "sre", "LongRunEmphasis": "lre", "GrayLevelNonUniformity": "glnu",
    "GrayLevelNonUniformityNormalized": "glnu_norm", "RunLengthNonUniformity": "rlnu",
    "RunLengthNonUniformityNormalized": "rlnu_norm", "RunPercentage": "r_perc", "GrayLevelVariance": "gl_var",
    "RunVariance": "rl_var", "RunEntropy": "rl_entr", "LowGrayLevelRunEmphasis": "lgre",
    "HighGrayLevelRunEmphasis": "hgre", "ShortRunLowGrayLevelEmphasis": "srlge",
    "ShortRunHighGrayLevelEmphasis": "srhge", "LongRunLowGrayLevelEmphasis": "lrlge",
    "LongRunHighGrayLevelEmphasis": "lrhge",
}  # fmt: skip
_GLSZM = {
    "SmallAreaEmphasis": "sze", "LargeAreaEmphasis": "lze", "GrayLevelNonUniformity": "glnu",
    "GrayLevelNonUniformityNormalized": "glnu_norm", "SizeZoneNonUniformity": "zsnu",
    "SizeZoneNonUniformityNormalized": "zsnu_norm", "ZonePercentage": "z_perc", "GrayLevelVariance": "gl_var",
    "ZoneVariance": "zs_var", "ZoneEntropy": "zs_entr", "LowGrayLevelZoneEmphasis": "lgze",
    "HighGrayLevelZoneEmphasis": "hgze", "SmallAreaLowGrayLevelEmphasis": "szlge",
    "SmallAreaHighGrayLevelEmphasis": "szhge", "LargeAreaLowGrayLevelEmphasis": "lzlge",
    "LargeAreaHighGrayLevelEmphasis": "lzhge",
}  # fmt: skip
_GLDM = {
    "SmallDependenceEmphasis": "lde", "LargeDependenceEmphasis": "hde", "GrayLevelNonUniformity": "glnu",
    "DependenceNonUniformity": "dcnu", "DependenceNonUniformityNormalized": "dcnu_norm",
    "GrayLevelVariance": "gl_var", "DependenceVariance": "dc_var", "DependenceEntropy": "dc_entr",
    "LowGrayLevelEmphasis": "lgce", "HighGrayLevelEmphasis": "hgce", "SmallDependenceLowGrayLevelEmphasis": "ldlge",
    "SmallDependenceHighGrayLevelEmphasis": "ldhge", "LargeDependenceLowGrayLevelEmphasis": "hdlge",
    "LargeDependenceHighGrayLevelEmphasis": "hdhge",
}  # fmt: skip
_NGTDM = {
    "Coarseness": "coarseness", "Contrast": "contrast", "Busyness": "busyness", "Complexity": "complexity",
    "Strength": "strength",
}  # fmt: skip
_FIRST = {
    "Energy": "stat_energy", "Minimum": "stat_min", "10Percentile": "stat_p10", "90Percentile": "stat_p90",
    "Maximum": "stat_max", "Mean": "stat_mean", "Median": "stat_median", "InterquartileRange": "stat_iqr",
    "Range": "stat_range", "MeanAbsoluteDeviation": "stat_mad", "RobustMeanAbsoluteDeviation": "stat_rmad",
    "RootMeanSquared": "stat_rms", "Skewness": "stat_skew", "Kurtosis": "stat_kurt", "Variance": "stat_var",
    "Entropy": "ih_entropy", "Uniformity": "ih_uniformity",
}  # fmt: skip
_SHAPE = {
    "MeshVolume": "morph_volume", "VoxelVolume": "morph_vol_approx", "SurfaceArea": "morph_area_mesh",
    "SurfaceVolumeRatio": "morph_av", "Sphericity": "morph_sphericity", "Maximum3DDiameter": "morph_diam",
    "MajorAxisLength": "morph_pca_maj_axis", "MinorAxisLength": "morph_pca_min_axis",
    "LeastAxisLength": "morph_pca_least_axis", "Elongation": "morph_pca_elongation", "Flatness": "morph_pca_flatness",
}  # fmt: skip
_TABLES = {
    "glcm": ("cm", _GLCM), "glrlm": ("rlm", _GLRLM), "glszm": ("szm", _GLSZM), "gldm": ("ngl", _GLDM),
    "ngtdm": ("ngt", _NGTDM),
}  # fmt: skip
_REASONS = {
    "firstorder_Energy": "the baseline adds 2,000 to every intensity first (voxelArrayShift)",
    "firstorder_RootMeanSquared": "the baseline adds 2,000 to every intensity first (voxelArrayShift)",
    "firstorder_Kurtosis": "PyRadiomics' kurtosis is 3 more than IBSI's, which is of a normal distribution 0",
    "shape_MajorAxisLength": "covariance over n voxels; IBSI's reference values divide by n - 1",
    "shape_MinorAxisLength": "covariance over n voxels; IBSI's reference values divide by n - 1",
    "shape_LeastAxisLength": "covariance over n voxels; IBSI's reference values divide by n - 1",
}
_CELLS = "cells of the mesh whose surface may be drawn in more than one way are drawn otherwise"
_REASONS |= {f"shape_{n}": _CELLS for n in ("MeshVolume", "Sphericity", "SurfaceArea", "SurfaceVolumeRatio")}
_NO_COUNTERPART = {
    "glcm_MCC": "IBSI has no maximal correlation coefficient",
    "firstorder_TotalEnergy": "IBSI has no energy times the volume of a voxel",
    "shape_Maximum2DDiameterSlice": "IBSI has no two-dimensional diameters in a volume",
    "shape_Maximum2DDiameterColumn": "IBSI has no two-dimensional diameters in a volume",
    "shape_Maximum2DDiameterRow": "IBSI has no two-dimensional diameters in a volume",
}
WAYS = {"": "3D_avg", "_2d": "2_5D_avg", "_combined": "3D_comb", "_FBN": "3D_avg", "_resegmentation": "3D_avg"}
"""Columns of the baselines -> how matrices were brought together: its force2D merges slices of one direction."""


def features(data: Path, case: str, column: str = "") -> dict[str, float | None]:
    """Compute our features of a case with the bins of a column."""
    from dataclasses import replace

    from isocenter.core import Mask, Segment
    from isocenter.data.images import read_nrrd, read_nrrd_mask
    from isocenter.tasks.phenotype import Discretisation, FeatureSettings, radiomic_features

    folder = data / "radiomics" / "pyradiomics"
    image = read_nrrd(folder / f"{case}_image.nrrd")
    labels = read_nrrd_mask(folder / f"{case}_label.nrrd")
    mask = Mask((labels.array == 1).astype(np.uint16), image.geometry, (Segment(1, "region"),))
    values = image.array[0][mask.array == 1].astype(np.float64)
    outliers = None
    if column == "_resegmentation":
        outliers = 3.0
        values = values[np.abs(values - values.mean()) <= outliers * values.std()]
    lowest = math.floor(float(values.min()) / WIDTH) * WIDTH
    bins = Discretisation("fixed bin size", width=WIDTH)
    if column == "_FBN":
        bins = Discretisation("fixed bin number", 64)
    settings = FeatureSettings(bins, Discretisation("fixed bin number", 1000), (lowest, None), outliers)
    (found,) = radiomic_features(replace(image, array=image.array.astype(np.float64)), mask, settings)
    return {f.tag: f.value for f in found.features}


def _pairs(name: str, column: str) -> dict[str, str]:
    """Return PyRadiomics' names in a table -> our tags, for one way to bring matrices together."""
    if name in ("firstorder", "shape"):
        return dict(_FIRST if name == "firstorder" else _SHAPE) if column in ("", "_resegmentation") else {}
    family, names = _TABLES[name]
    directional = name in ("glcm", "glrlm")
    if column == "_combined" and not directional:
        return {}
    end = WAYS[column] if directional else "2_5D" if column == "_2d" else "3D"
    return {k: f"{family}_{v}_{end}" for k, v in names.items()}


def compare(data: Path) -> list[dict]:
    """Compare every baseline value of the two cases that has a counterpart."""
    rows = []
    for case in ("brain1", "breast1"):
        computed = {column: features(data, case, column) for column in ("", "_FBN", "_resegmentation")}
        for name in ("firstorder", "shape", *_TABLES):
            table = data / "radiomics" / "pyradiomics" / "baseline" / f"baseline_{name}.csv"
            with table.open(newline="") as file:
                baseline = {r["featureName"].removeprefix("original_"): r for r in csv.DictReader(file)}
            known = {k.removeprefix(f"{name}_") for k in baseline if k.startswith(f"{name}_")}
            for column in WAYS:
                pairs = _pairs(name, column)
                if not pairs or f"{case}{column}" not in next(iter(baseline.values())):
                    continue
                mine = computed.get(column, computed[""])
                for feature in sorted(known):
                    key = f"{name}_{feature}"
                    theirs = float(baseline[key][f"{case}{column}"])
                    value = mine.get(pairs[feature]) if feature in pairs else None
                    rows.append({"case": case, "column": column, "feature": key, "ours": value, "theirs": theirs})
    return rows


def matched(row: dict) -> bool:
    a, b = row["ours"], row["theirs"]
    return a is not None and abs(a - b) <= TOLERANCE * max(abs(a), abs(b), 1e-12)


def reason(row: dict) -> str:
    """Say why a value is not the baseline's."""
    if row["ours"] is None:
        return _NO_COUNTERPART.get(row["feature"], "no counterpart in IBSI's tables")
    return _REASONS.get(row["feature"], "")


def section(rows: list[dict]) -> list[str]:
    """Return the part of the page."""
    found = [r for r in rows if matched(r)]
    lines = [
        "", "## PyRadiomics' baselines", "",
        f"Test cases brain1 and breast1, bins of {WIDTH:g}: {len(found)} of {len(rows)} baseline values matched to one "
        "part in 100,000 (3D averaged; 2.5D averaged for its `force2D`; 3D merged for its `no_weighting`; 64 bins; "
        "outliers beyond 3 deviations left out). The rest:", "",
        "| feature | why not | examples (ours; baseline) |", "| --- | --- | --- |",
    ]  # fmt: skip
    others: dict[tuple[str, str], list[dict]] = {}
    for r in rows:
        if not matched(r):
            others.setdefault((r["feature"], reason(r) or "no reason known"), []).append(r)
    for (feature, why), some in sorted(others.items()):
        shown = "; ".join(
            f"{r['case']}{r['column']}: {'none' if r['ours'] is None else format(r['ours'], '.6g')}; {r['theirs']:.6g}"
            for r in some[:2]
        )
        lines.append(f"| `{feature}` | {why} | {shown} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    args = parser.parse_args()
    rows = compare(args.data)
    print("\n".join(section(rows)))
    print(json.dumps({"matched": sum(map(matched, rows)), "of": len(rows)}))


if __name__ == "__main__":
    main()
