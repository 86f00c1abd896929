"""From images to the page: phenotypes measured by one command are covariates of the next."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from isocenter import cli
from isocenter.core import Geometry, Image, Mask, Quantity, Segment
from isocenter.data.images import write_nifti
from isocenter.verbs.audit import audit_show

SHAPE = (4, 8, 9)
PEOPLE, MEASURED = 120, 5


def _images(folder: Path, seed: int) -> tuple[Path, Path]:
    folder.mkdir(parents=True)
    geometry = Geometry.axial(SHAPE, spacing_mm=(2.5, 0.8, 0.7), origin_mm=(3.0, -2.0, 5.0))
    values = np.random.default_rng(seed).normal(40 + seed, 10, SHAPE).round()
    inside = np.zeros(SHAPE, np.uint16)
    inside[1:3, 2:6, 2:7] = 1
    write_nifti(Image(values[None].astype(np.float32), geometry, Quantity.HU, "CT"), folder / "image.nii.gz")
    write_nifti(Mask(inside, geometry, (Segment(1, "lesion"),)), folder / "mask.nii.gz")
    return folder / "image.nii.gz", folder / "mask.nii.gz"


@pytest.mark.slow
def test_phenotypes_are_covariates_of_a_treatment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    (tmp_path / "how.yaml").write_text("families: [stat]\naggregations: [3D]\n", "utf-8")
    for n in range(MEASURED):
        image, mask = _images(tmp_path / "in" / f"p{n}", n)
        out = tmp_path / "ct" / f"p{n}"
        arguments = ["phenotype", image, "--mask", mask, "--out", out, "--patient", f"p{n}", "--config"]
        assert cli.run([*map(str, arguments), str(tmp_path / "how.yaml")]) == 0
    rng = np.random.default_rng(0)
    rows = [f"p{n},{n % 2},{rng.normal(60, 9):.1f},{rng.normal():.3f}" for n in range(PEOPLE)]
    (tmp_path / "t.csv").write_text("patient,drug,age [a],score\n" + "\n".join(rows) + "\n", "utf-8")
    (tmp_path / "people.csv").write_text("patient,age [a]\np3,61\np80,58\n", "utf-8")
    record = tmp_path / "audit.jsonl"
    capsys.readouterr()
    assert cli.run([
        "treat", str(tmp_path / "t.csv"), "--out", str(tmp_path / "out"), "--treatment", "drug", "--design",
        "randomised", "--outcome", "score", "--better", "higher", "--block", f"ct={tmp_path / 'ct'}", "--people",
        str(tmp_path / "people.csv"), "--method", "t-learner", "--width-limit", "100", "--audit", str(record), "--json",
    ]) == 0  # fmt: skip
    found = json.loads(capsys.readouterr().out)
    (block,) = found["blocks"]
    assert block["people"] == MEASURED and block["features"] > 8 and not found["synthetic"]
    assert sum(b["feature"].startswith("ct, component") for b in found["balance"]) <= 8
    measured, lacking = found["people"]
    assert measured["imputed"] == [] and lacking["imputed"] in ([], ["ct (all of it)"])
    assert lacking["refused"] or lacking["imputed"] == ["ct (all of it)"]
    page = (tmp_path / "out" / "treat.html").read_text("utf-8")
    assert "hnsf" not in page and f"block ct: {MEASURED} of {PEOPLE} people have it" in page
    assert [line.said["verb"] for line in audit_show(record).lines] == ["treat"]
