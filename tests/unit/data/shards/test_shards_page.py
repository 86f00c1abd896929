"""The how-to of shards runs as it stands, and the page of results is written from its figures."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest

from isocenter.core import Image, Mask, Segment
from isocenter.data.images import write_nifti
from isocenter.testing import phantom_geometry

pytest.importorskip("blosc2", reason="Blosc2 is not installed: no shards")
pytest.importorskip("torch", reason="PyTorch is not installed")
pytest.importorskip("fsspec", reason="fsspec is not installed: no object storage")

ROOT = Path(__file__).parents[4]
RESULTS = ROOT / "docs" / "results"


@pytest.fixture
def patches(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks import patches as module

    yield module
    for name in [name for name in sys.modules if name.split(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)


def test_the_snippets_of_the_how_to_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for n in (1, 2):
        geometry = phantom_geometry(n, shape=(20, 24, 18))
        image = Image(rng.integers(0, 900, (1, 20, 24, 18)).astype(np.int16), geometry)
        write_nifti(image, tmp_path / f"case-{n}.nii.gz")
        segments = (Segment(1, "anterior"), Segment(2, "posterior"))
        labels = rng.integers(0, 3, (20, 24, 18)).astype(np.uint16)
        write_nifti(Mask(labels, geometry, segments), tmp_path / f"case-{n}-labels.nii.gz")
    page = (ROOT / "docs" / "how-to" / "shards.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 5
    names: dict = {"__name__": "how_to"}
    for block in blocks:
        if "export_ome_zarr" in block and importlib.util.find_spec("zarr") is None:
            continue
        exec(compile(block, "shards.md", "exec"), names)
    assert "('case-1', 'case-2') () ()" in capsys.readouterr().out
    assert names["images"].shape == (2, 1, 16, 16, 16)
    assert names["image"].array.shape == names["shard"].shape


def test_the_page_is_written_from_the_figures(patches):
    figures = json.loads((RESULTS / "patches.json").read_text("utf-8"))
    assert patches.page(figures) == (RESULTS / "patches.md").read_text("utf-8")
    best = max(r["rates"][0] for r in figures["rows"] if r["way"] != "isocenter" and r["form"] == "int16")
    assert f"| {best:.0f} |" in patches.page(figures)


@pytest.mark.parametrize(
    ("image", "patch", "itemsize", "chunks", "blocks"),
    [
        ((1, 256, 256, 256), (96, 96, 96), 4, (1, 128, 128, 96), (1, 32, 32, 32)),
        ((1, 256, 256, 256), (96, 96, 96), 2, (1, 144, 144, 144), (1, 64, 32, 32)),
        ((2, 123, 423, 645), (128, 128, 128), 4, (1, 96, 128, 128), (1, 32, 32, 32)),
        ((1, 40, 512, 512), (28, 256, 256), 4, (1, 24, 256, 256), (1, 8, 64, 64)),
        ((1, 1, 512, 512), (256, 256), 4, (1, 1, 384, 384), (1, 1, 256, 128)),
        ((1, 300, 512, 512), (64, 160, 160), 2, (1, 80, 192, 192), (1, 16, 64, 64)),
    ],
)
def test_the_peers_layout_is_nnunets(patches, image, patch, itemsize, chunks, blocks):
    """Literal values of nnU-Net 2.8.1's own function."""
    assert patches.nnunet_layout(image, patch, itemsize) == (chunks, blocks)
