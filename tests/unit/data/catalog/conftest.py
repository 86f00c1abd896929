"""An archive of pictures: some are there twice, some nearly, one is flat, and each has a label and a part."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import duckdb
import numpy as np
import PIL.Image
import pytest
from scipy.ndimage import gaussian_filter

from isocenter.verbs.ingest import ingest

KEY = "a key for tests alone"


def texture(seed: int) -> PIL.Image.Image:
    """Return a picture of 64 x 80 with structures of several sizes."""
    rng = np.random.default_rng(seed)
    values = sum(gaussian_filter(rng.normal(size=(64, 80)), s) * s for s in (1.5, 3.0, 6.0))
    values = (values - values.min()) / (values.max() - values.min())
    return PIL.Image.fromarray((values * 220 + 10).astype(np.uint8))


def build_pictures(folder: Path) -> Path:
    """Write ten pictures of ten people, and copies of three of them under other names of other people."""
    (folder / "images").mkdir(parents=True)
    rows = []

    def add(name: str, picture: PIL.Image.Image, patient: str, split: str, label: str) -> None:
        picture.save(folder / "images" / f"{name}.png")
        rows.append({"image": f"images/{name}.png", "patient": patient, "label": label, "split": split})

    for number in range(10):
        split = ("train", "test")[number >= 6]
        add(f"a{number}", texture(number), f"P{number}", split, ("benign", "malignant")[number % 2])
    add("same", texture(7), "Q1", "train", "benign")
    add("smaller", texture(8).resize((48, 38)), "Q2", "train", "benign")
    with io.BytesIO() as packed:
        texture(0).save(packed, "JPEG", quality=50)
        add("packed", PIL.Image.open(packed).convert("L").point(lambda v: v * 0.8 + 20), "Q3", "train", "benign")
    for number in range(2):
        add(f"black{number}", PIL.Image.new("L", (64, 48), 0), f"B{number}", ("train", "test")[number], "benign")
    with (folder / "labels.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return folder


@pytest.fixture(autouse=True)
def _key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ISOCENTER_PSEUDONYM_KEY", KEY)


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the archive; tests may add cohorts to it."""
    patch = pytest.MonkeyPatch()
    patch.setenv("ISOCENTER_PSEUDONYM_KEY", KEY)
    place = tmp_path_factory.mktemp("catalog") / "archive"
    ingest([str(build_pictures(tmp_path_factory.mktemp("us_pictures")))], place, workers=1)
    patch.undo()
    return place


def person(archive: Path, stem: str) -> str:
    """Return the key of the patient of a picture, by the list of places that only the archive's owner may read."""
    rows = duckdb.sql(
        f"SELECT patient_key FROM read_parquet('{archive}/catalog/instances-*.parquet') "
        f"JOIN read_parquet('{archive}/private/locations.parquet') l USING (sop_uid) WHERE l.name LIKE '%/{stem}.png'"
    ).fetchall()
    return str(rows[0][0])
