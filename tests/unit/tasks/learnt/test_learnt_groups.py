"""A promise by group: from the table that a task is adapted with to the result of a study that names its group."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

import isocenter
from isocenter import cli
from isocenter.core import Geometry, Image, Study
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images import read_picture, read_study
from isocenter.data.images.sr import Answer
from isocenter.plugins import load_task
from isocenter.tasks.learnt.groups import canonical, fact_of, group_of
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.adapt_data import adapt_data
from isocenter.verbs.learnt_folder import learnt_entry

QUICK = {"widths": (4, 8), "precision": "float32", "learning_rate": 0.01, "seed": 1, "folds": 2, "mirror": "off"}


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Pictures whose class is the row of a bright square; two in three are of women, a few of nobody known."""
    folder, rng = tmp_path_factory.mktemp("squares"), np.random.default_rng(0)
    rows, groups = [], []
    for index in range(72):
        image = rng.normal(60, 6, (24, 20)) + np.linspace(0, 60, 20)
        row = (4 if index % 2 else 13) + rng.integers(-1, 2)
        image[row : row + 6, 6:13] += 120 * rng.uniform(0.7, 1)
        Picture.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
        rows.append((f"{index}.png", "high" if index % 2 else "low"))
        groups.append((f"{index}", ("female", "F", "male")[index % 3] if index < 69 else "Doe", f"site {index}"))
    for name, heading, lines in (("t", ("image", "label"), rows), ("g", ("case", "sex", "site"), groups)):
        with (folder / f"{name}.csv").open("w", newline="") as stream:
            csv.writer(stream).writerows([heading, *lines])
    return folder


@pytest.fixture(scope="module")
def by_sex(squares: Path) -> Path:
    done = adapt_data(
        squares / "t.csv", squares / "task", steps=40, batch=16, sets="aps", groups=squares / "g.csv",
        promise_by="sex", **QUICK,
    )  # fmt: skip
    assert any("promises by sex: F (46 held-out cases), M (23 held-out cases); the other 3" in n for n in done.notes)
    return squares / "task"


def test_the_group_comes_from_the_study(by_sex: Path, squares: Path) -> None:
    document = json.loads((by_sex / "task.json").read_text())
    assert document["promise"]["by"] == "sex" and "DOE" not in json.dumps(document).upper()
    assert json.loads((by_sex / "config.json").read_text())["config"]["sets"] == "aps"
    task, image = load_task(learnt_entry(by_sex)), read_picture(squares / "5.png")
    said = {}
    for sex in ("F", "M", "O", ""):
        meta = {**image.meta, **({"PatientSex": sex} if sex else {})}
        found = task.run(Study("p", images=(replace(image, meta=meta),)))
        assert found.uncertainty is not None, found.abstained
        said[sex] = found.uncertainty.description
    assert "for the group sex = F alone" in said["F"] and "from 46 held-out cases by APS" in said["F"]
    assert "for the group sex = M alone" in said["M"] and "from 23 held-out" in said["M"]
    assert "over all groups: too few cases of its sex" in said["O"] and "sex = " not in said["O"]
    assert "over all groups: the study does not say its sex" in said[""] and "from 72 held-out" in said[""]


def test_the_words_travel_to_result_page_and_report(by_sex: Path, squares: Path, tmp_path: Path) -> None:
    result = isocenter.read(squares / "5.png", tmp_path / "out", tasks=(str(by_sex),))
    words = "the study does not say its sex"
    assert words in result.answered[0].uncertainty.description
    assert words in (tmp_path / "out" / "report.html").read_text("utf-8")
    image = read_picture(squares / "5.png")
    image = replace(image, meta={**image.meta, "PatientSex": "F"})
    found = load_task(learnt_entry(by_sex)).run(Study("p", images=(image,)))
    assert "the promise for the group sex = F alone" in " ".join(Answer.from_prediction(found).notes)


def test_what_cannot_be_kept_is_refused_before_anything_is_learnt(squares: Path, tmp_path: Path) -> None:
    given = {"groups": squares / "g.csv", "steps": 1, "batch": 16, **QUICK}
    with pytest.raises(
        DataError, match=r"'site' needs 20 held-out cases of a group, and the largest has 1;"
    ) as refused:
        adapt_data(squares / "t.csv", tmp_path / "a", promise_by="site", **given)
    assert "site 1" not in str(refused.value).lower()
    with pytest.raises(ConfigError, match="the table of groups has sex, site"):
        adapt_data(squares / "t.csv", tmp_path / "a", promise_by="age", **given)
    with pytest.raises(ConfigError, match="give both --groups TABLE and --promise-by COLUMN"):
        adapt_data(squares / "t.csv", tmp_path / "a", **given)
    with (squares / "few.csv").open("w", newline="") as stream:
        rows = [(f"{i}.png", "high" if i % 6 == 1 else "low") for i in range(60)]
        csv.writer(stream).writerows([("image", "label"), *rows])
    words = ["adapt", "--data", str(squares / "few.csv"), "--out", str(tmp_path / "a"), "--folds", "2"]
    assert cli.run([*words, "--sets", "class"]) == cli.Exit.INPUT
    assert cli.run([*words, "--sets", "best"]) == cli.Exit.USAGE
    assert cli.run(["adapt", "--from-session", str(tmp_path), "--out", str(tmp_path / "a"), "--sets", "aps"]) == 2
    assert not list(tmp_path.iterdir())


def test_a_header_names_its_group_and_nothing_else_of_the_patient(tmp_path: Path) -> None:
    write_ct_series(tmp_path, phantom())
    image = read_study(tmp_path).study.images[0]
    assert group_of(image, "sex") == group_of(image, "PatientSex") == "O"
    assert group_of(image, "modality") == "CT" and group_of(image, "site") is None
    plain = Image(np.zeros((1, 1, 2, 2)), Geometry((1, 2, 2)))
    assert group_of(plain, "sex") is None and group_of(plain, "modality") is None
    assert (
        canonical("sex", "Male ") == "M" and canonical("site", "male") == "MALE" and fact_of("Gender") == "PatientSex"
    )
    assert group_of(replace(plain, meta={"MagneticFieldStrength": 3.0}), "field_strength") == canonical(
        "field_strength", "3"
    )
