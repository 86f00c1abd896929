"""Cohorts: a version for each state, checked when read, split so that nothing leaks."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import PIL.Image
import pytest

from isocenter.core.errors import ConfigError, DataError
from isocenter.data.catalog.catalog import open_catalog
from isocenter.data.catalog.cohorts import read_cohort
from isocenter.data.catalog.splitting import parse_parts
from isocenter.verbs.cohort import cohort, cohorts, compare_cohorts, show_cohort
from isocenter.verbs.find import ask_sql, find
from isocenter.verbs.ingest import ingest

from .conftest import build_pictures, person


@pytest.fixture
def own(archive: Path, tmp_path: Path) -> Path:
    """Return an archive of this test's own."""
    return Path(shutil.copytree(archive, tmp_path / "archive", ignore=shutil.ignore_patterns("cohorts")))


def test_the_same_is_no_new_version_and_another_is(own: Path) -> None:
    first = cohort("us", "modality = 'US'", own, split="train=0.5,test=0.5")
    again = cohort("us", "modality = 'US'", own, split="train=0.5,test=0.5")
    other = cohort("us", "modality = 'US' and columns > 70", own, split="train=0.5,test=0.5")
    assert (first.version, first.new, again.version, again.new, other.version) == (1, True, 1, False, 2)
    assert first.sha256 == again.sha256 and first.series == 15
    assert cohorts(own) == ["us-v1", "us-v2"]
    told = compare_cohorts("us-v1", "us-v2", own)
    assert (told["same_split"], told["same_expression"], told["series_added"], told["patients_moved"]) == (
        True, False, 0, 0,
    )  # fmt: skip
    assert told["series_removed"] == first.series - other.series > 0


def test_patients_of_one_image_stand_on_one_side(own: Path) -> None:
    for seed in range(6):
        cohort(f"s{seed}", "", own, split="train=0.5,test=0.5", seed=seed)
        rows = read_cohort(own, f"s{seed}").rows.to_pylist()
        part = {row["patient_key"]: row["part"] for row in rows}
        for one, other in (("a7", "same"), ("a8", "smaller"), ("a0", "packed")):
            assert part[person(own, one)] == part[person(own, other)]
    assert len({show_cohort(f"s{s}", own).sha256 for s in range(6)}) == 6


def test_the_makers_split_is_kept_and_leaking_copies_leave_its_training(own: Path) -> None:
    made = cohort("made", "", own, split="source")
    assert made.parts == {"test": 5, "train": 8}
    kept = set(read_cohort(own, "made").rows.column("patient_key").to_pylist())
    assert not {person(own, "same"), person(own, "smaller")} & kept
    assert any(note.startswith("2 patients left out") for note in made.notes)


def test_shares_are_kept_for_each_label(own: Path) -> None:
    cohort("even", "", own, split="train=0.5,test=0.5", stratify="label", duplicates=False)
    rows = find("", own, cohort="even:test").to_pylist()
    labels = [dict(row["labels"])["label"] for row in rows]
    assert labels.count("malignant") in (2, 3) and labels.count("benign") == 5


def test_an_altered_cohort_is_refused(own: Path) -> None:
    cohort("us", "", own, split="train=0.5,test=0.5")
    file = own / "cohorts" / "us-v1.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "expression": "true"}))
    with pytest.raises(DataError, match="altered"):
        show_cohort("us", own)
    file.write_text(json.dumps(content))
    assert show_cohort("us", own).version == 1
    cohort("other", "columns > 70", own)
    shutil.copy(own / "cohorts" / "other-v1.parquet", own / "cohorts" / "us-v1.parquet")
    with pytest.raises(DataError, match="altered"):
        find("", own, cohort="us")


def test_finding_within_a_cohort(own: Path) -> None:
    made = cohort("us", "", own, split="train=0.5,test=0.5")
    for part, count in made.parts.items():
        assert find("", own, level="patients", cohort=f"us-v1:{part}").num_rows == count
    assert find("", own, cohort="us").num_rows == 15
    assert ask_sql("select count(*) as n from cohort", own, cohort="us").to_pylist() == [{"n": 15}]
    with pytest.raises(ConfigError, match="no part"):
        find("", own, cohort="us:nowhere")
    with pytest.raises(ConfigError, match="no such cohort"):
        find("", own, cohort="them")


def test_a_larger_archive_makes_a_version_and_moves_nobody(own: Path, tmp_path: Path) -> None:
    before = cohort("us", "", own, split="train=0.5,test=0.5")
    more = build_pictures(tmp_path / "us_more")
    for file in (more / "images").glob("*.png"):
        if file.stem not in ("a1", "a2"):
            file.unlink()
    (more / "images" / "a1.png").rename(more / "images" / "turned.png")
    (more / "labels.csv").unlink()
    for name in ("turned", "a2"):
        picture = PIL.Image.open(more / "images" / f"{name}.png").transpose(PIL.Image.Transpose.ROTATE_90)
        picture.save(more / "images" / f"{name}.png")
    # The first source may lie elsewhere by now: what was taken in stays.
    ingest([str(more)], own, workers=1)
    after = cohort("us", "", own, split="train=0.5,test=0.5")
    assert (after.version, after.series) == (2, before.series + 2)
    assert compare_cohorts("us-v1", "us-v2", own)["patients_moved"] == 0
    assert not show_cohort("us-v1", own).current


@pytest.mark.parametrize("text", ["train", "train=0.5", "train=0.5,train=0.5", "a=-1,b=2", "a b=1"])
def test_shares_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_parts(text)


@pytest.mark.parametrize("name", ["", "Up", "../x", "a" * 65])
def test_names_that_are_none(own: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="name"):
        cohort(name, "", own)


def test_held_rows_never_enter(own: Path) -> None:
    catalog = open_catalog(own)
    assert catalog.find("", held=True).num_rows == 15
    with pytest.raises(ConfigError, match="no series"):
        cohort("none", "held is not null", own)
