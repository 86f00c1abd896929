"""The page of blind gaps is written from what was measured; tables fill in no patient that a set does not know."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture
def blind_gap(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import blind_gap as module

    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)


def test_the_page_is_written_from_the_figures_and_names_what_was_not_run(blind_gap):
    known = json.loads((RESULTS / "blind-gap.json").read_text("utf-8"))
    written = (RESULTS / "blind-gap.md").read_text("utf-8")
    skip = 3  # the line of the machine
    assert blind_gap.page(known).splitlines()[skip:] == written.splitlines()[skip:]
    for name, arm in blind_gap.ARMS.items():
        section = written.split(f"## {arm.title}\n")[1].split("\n## ")[0]
        assert ("was not run to its end" in section) == (name not in known)
    for name, got in known.items():
        section = written.split(f"## {blind_gap.ARMS[name].title}\n")[1].split("\n## ")[0]
        assert ("not known |" in section) == (not got["patients_known"]) == (name in ("breast", "pneumonia"))
        for kind, held in got["held_to"].items():
            if held["shown"]:
                assert (
                    f"| {kind} | {held['coverage']:.3f} | {held['shown']} | {held['shown_coverage']:.3f} (" in section
                )


def test_tables_of_sets_without_patients_have_no_column_of_them(blind_gap, tmp_path):
    images = {f"{part}_images": np.zeros((2, 28, 28), np.uint8) for part in ("train", "val", "test")}
    labels = {f"{part}_labels": np.array([[0], [1]]) for part in ("train", "val", "test")}
    (tmp_path / "medmnist").mkdir()
    np.savez(tmp_path / "medmnist" / "pneumoniamnist_28.npz", **images, **labels)
    (tmp_path / "us_breast_busi" / "images").mkdir(parents=True)
    (tmp_path / "us_breast_busi" / "labels.csv").write_text("image,label\na.png,benign\nb.png,normal\n")
    for make, further in ((blind_gap.breast, []), (blind_gap.pneumonia, ["split"])):
        out = tmp_path / make.__name__
        make(tmp_path, out)
        table = list(csv.DictReader((out / "pairs.csv").read_text().splitlines()))
        assert list(table[0]) == ["image", "kind", "question", "answer", *further]
        assert blind_gap.ARMS[make.__name__].changes["data"]["patient"] is None
