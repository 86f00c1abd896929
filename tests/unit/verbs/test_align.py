"""`isocenter align`: from a table to weights that classify and retrieve; killed and resumed; bad input is one line."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image as Picture

import isocenter
from isocenter import cli
from isocenter.core.errors import CapabilityError, ConfigError, DataError, IdentityLeak, WeightsError
from isocenter.learn.alignment.config import check_config, load_config
from isocenter.safety.audit import read_lines
from isocenter.synth.paired import synthesise_pair
from isocenter.verbs.align import align, classify, retrieve
from isocenter.verbs.entries import file_sha256

ROOT = Path(__file__).parents[3]
TINY = {
    "verb": "align", "name": "aligned-tiny", "seed": 5, "steps": 12, "batch": 4, "learning_rate": 0.002, "width": 8,
    "data": {"kind": "synthetic", "seed": 3, "patients": 20, "validation": 12, "test": 12},
    "image": {"side": 32, "backbone": {
        "kind": "residual-unet", "dims": 2, "channels_in": 1, "widths": [4, 8], "blocks": [1, 1],
        "strides": [[2, 2], [2, 2]],
    }},
    "text": {"vocabulary": 300, "length": 24, "width": 16, "depth": 1, "heads": 2},
    "checkpoint_every": 1, "validate_every": 5,
}  # fmt: skip
FROM_TABLE = {"kind": "table", "table": "pairs.csv", "patient": "who", "validation": 0.15, "test": 0.4}


def written(path: Path, **changes: object) -> Path:
    path.write_text(yaml.safe_dump({**TINY, **changes}))
    return path


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 30 pictures of 30 patients, their reports, and labels."""
    folder = tmp_path_factory.mktemp("pictures")
    with (folder / "pairs.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(["image", "report", "who", "labels"])
        for index in range(30):
            sample = synthesise_pair(9, index, pixels=48)
            name = f"{index:03d}.png"
            Picture.fromarray((sample.image[0] * 255).astype(np.uint8)).save(folder / name)
            kinds = "|".join(sorted({f.kind for f in sample.findings})) or "none"
            table.writerow([name, sample.report.sections["findings"], f"p{index}", kinds])
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on synthesis that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    said: list[tuple[str, float]] = []
    done = isocenter.align(written(folder / "tiny.yaml"), folder / "run", progress=lambda *s: said.append(s))
    assert done.finished and done.step == done.steps == 12
    assert "held-out: recall@5" in said[-2][0] and "pairs/s" in said[-2][0] and "left" in said[-2][0]
    return folder / "run"


@pytest.fixture(scope="module")
def learnt(pictures: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on the folder of pictures."""
    folder = tmp_path_factory.mktemp("table")
    align(written(folder / "t.yaml", data=FROM_TABLE, steps=4), folder / "run", data=pictures)
    return folder / "run"


def test_every_configuration_of_align_is_valid() -> None:
    found = sorted((ROOT / "configs").glob("align-*.yaml"))
    assert len(found) == 2
    for path in found:
        config = load_config(path)
        assert config.image.card["kind"] == "residual-unet" and config.rate(config.steps - 1) < 1e-5


def test_the_folder_tells_how_it_was_made(whole: Path) -> None:
    document = json.loads((whole / "run.json").read_text())
    assert document["verb"] == "align" and document["config"]["seed"] == document["seed"] == 5
    assert len(document["data"]["engine_sha256"]) == len(document["data"]["vocabulary_sha256"]) == 64
    assert (whole / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert {f["name"] for f in json.loads((whole / "held_out.json").read_text())["figures"]} >= {"probe: negation"}
    card = json.loads((whole / "weights" / "aligned-tiny.json").read_text())
    assert card["training"]["command"] == "isocenter align tiny.yaml --out RUN"
    assert card["network"]["vocabulary_sha256"] == document["data"]["vocabulary_sha256"]
    assert str(whole.parent) not in (whole / "run.json").read_text()


def test_the_how_to_is_true(whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = (ROOT / "docs" / "how-to" / "align.md").read_text("utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    (tmp_path / ".runs").mkdir()
    (tmp_path / ".runs" / "align-2d").symlink_to(whole)
    monkeypatch.chdir(tmp_path)
    known: dict[str, np.ndarray] = {}
    exec(snippet, known)
    assert known["likeness"].shape == (1, 1)
    (settings,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    assert check_config({**TINY, **yaml.safe_load(settings)}).data.kind == "table"


@pytest.mark.slow
def test_killed_and_resumed_it_draws_the_same_curve(whole: Path, tmp_path: Path) -> None:
    """SIGKILL in the middle, wherever that is."""
    config = written(tmp_path / "tiny.yaml")
    command = [sys.executable, "-m", "isocenter.cli", "align", str(config), "--out", str(tmp_path / "run")]
    steps = tmp_path / "run" / "steps.csv"
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env={**os.environ, "OMP_NUM_THREADS": "1"})
    try:
        limit = time.monotonic() + 120
        while time.monotonic() < limit and process.poll() is None:
            if steps.is_file() and len(steps.read_text().splitlines()) > 4:
                break
            time.sleep(0.005)
    finally:
        process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it was through before it could be killed"
    assert cli.run(["align", str(config), "--out", str(tmp_path / "run"), "--resume"]) == 0
    for name in ("steps.csv", "validation.csv", "weights/aligned-tiny.safetensors", "held_out.json"):
        assert (tmp_path / "run" / name).read_bytes() == (whole / name).read_bytes()
    assert len(json.loads((tmp_path / "run" / "run.json").read_text())["calls"]) == 2


def test_a_run_is_resumed_with_its_own_configuration_and_data_only(pictures: Path, tmp_path: Path) -> None:
    own = tmp_path / "data"
    own.mkdir()
    for file in pictures.iterdir():
        (own / file.name).write_bytes(file.read_bytes())
    config = written(tmp_path / "a.yaml", data=FROM_TABLE)
    align(config, tmp_path / "run", data=own, until=1)
    with pytest.raises(ConfigError, match=r"another configuration \(learning_rate\)"):
        other = written(tmp_path / "b.yaml", data=FROM_TABLE, learning_rate=0.1)
        align(other, tmp_path / "run", data=own, resume=True)
    with pytest.raises(ConfigError, match="not empty; give --resume"):
        align(config, tmp_path / "run", data=own)
    rows = (own / "pairs.csv").read_text().splitlines()
    (own / "pairs.csv").write_text("\n".join(rows[:-1]) + "\n")
    with pytest.raises(ConfigError, match=r"has changed since it was begun \(.*table_sha256"):
        align(config, tmp_path / "run", data=own, resume=True)
    (tmp_path / "run" / "run.json").write_text("{")
    with pytest.raises(WeightsError, match="is damaged"):
        align(config, tmp_path / "run", data=own, resume=True)


def test_a_table_is_learnt_from(learnt: Path) -> None:
    document = json.loads((learnt / "run.json").read_text())
    assert document["data"]["patients_by_split"] == {"train": 14, "validation": 4, "test": 12}
    card = json.loads((learnt / "weights" / "aligned-tiny.json").read_text())
    assert card["training_data"][0]["patients"] == 14 and card["training_data"][0]["note"] == "reports"
    assert not any("which images are of one patient" in line for line in card["limitations"])
    assert "p3" not in (learnt / "run.json").read_text()


def test_labels_are_learnt_from_and_findings_told_in_words(pictures: Path, tmp_path: Path) -> None:
    labels = {
        "kind": "labels", "table": "pairs.csv", "labels": "labels", "test": 0.4,
        "findings": {"effusion": "pleural effusion", "device": "pacemaker"},
    }  # fmt: skip
    done = align(written(tmp_path / "l.yaml", data=labels, steps=2), tmp_path / "run", data=pictures)
    names = [f.name for f in done.figures]
    assert any(re.match(r"zero-shot AUC: pleural effusion \(\d+ of 12 have it\)", name) for name in names)
    card = json.loads(done.weights.with_suffix(".json").read_text())
    assert any("which images are of one patient" in line for line in card["limitations"])


def test_classifying(learnt: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = [pictures / "000.png", pictures / "001.png"]
    found = classify(learnt, files, ["pleural effusion", "pacemaker"])
    assert [row["image"] for row in found.images] == ["000.png", "001.png"] and len(found.weights_sha256) == 64
    assert all(0 < score < 1 for row in found.images for score in row["scores"].values())
    words = ["align", "classify", str(learnt), *map(str, files), "--finding", "pleural effusion", "--json"]
    assert cli.run(words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["images"][0]["scores"]["pleural effusion"] == found.images[0]["scores"]["pleural effusion"]
    assert cli.run(words[:-1]) == 0 and "000.png: pleural effusion 0." in capsys.readouterr().out
    with pytest.raises(ConfigError, match="needs a picture and"):
        classify(learnt, files, [" "])
    with pytest.raises(DataError, match="cannot read"):
        classify(learnt, [pictures / "none.png"], ["mass"])


def test_retrieving(learnt: Path, pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = pictures / "pairs.csv"
    by_words = retrieve(learnt, table, text="There is a pacemaker.", top=3)
    assert by_words.query == "text" and len(by_words.results) == 3
    assert all((pictures / row["image"]).is_file() for row in by_words.results)
    likeness = [row["similarity"] for row in by_words.results]
    assert likeness == sorted(likeness, reverse=True)
    by_image = retrieve(learnt, table, image=pictures / "004.png", top=40)
    assert by_image.query == "image" and len(by_image.results) == 30 and by_image.results[0]["report"]
    assert cli.run(["align", "retrieve", str(learnt), str(table), "--patient", "who", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [f["name"] for f in told["figures"]][:1] == ["recall@1, image to text"] and told["figures"][0][
        "low"
    ] is not None
    assert cli.run(["align", "retrieve", str(learnt), str(table), "--text", "mass"]) == 0
    assert "row" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="give words"):
        retrieve(learnt, table, text="x", image="y.png")


def test_bad_input_is_one_line(pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigError, match="say with --data in which folder"):
        align(written(tmp_path / "a.yaml", data=FROM_TABLE), tmp_path / "run")
    with pytest.raises(ConfigError, match="learns from synthesis; leave one of them out"):
        align(written(tmp_path / "a.yaml"), tmp_path / "run", data=pictures)
    with pytest.raises(ConfigError, match=r"a\.yaml: setting batch"):
        align(written(tmp_path / "a.yaml", batch=1), tmp_path / "run")
    with pytest.raises(ConfigError, match="setting until"):
        align(tmp_path / "a.yaml", tmp_path / "run", until=0)
    with pytest.raises(DataError, match="no column 'text'"):
        align(written(tmp_path / "a.yaml", data={**FROM_TABLE, "report": "text"}), tmp_path / "run", data=pictures)
    leaky = tmp_path / "leaky"
    leaky.mkdir()
    for name in ("000.png", "001.png"):
        (leaky / name).write_bytes((pictures / name).read_bytes())
    (leaky / "pairs.csv").write_text("image,report,who,part\n000.png,Mass.,x,train\n001.png,Mass.,x,test\n")
    with pytest.raises(IdentityLeak, match="of one patient and in two splits"):
        align(written(tmp_path / "a.yaml", data={**FROM_TABLE, "split": "part"}), tmp_path / "run", data=leaky)
    (leaky / "pairs.csv").write_text("image,report,who,part\n000.png,Mass.,x,train\n001.png,Mass.,y,test\n")
    with pytest.raises(DataError, match="no row is in the split 'validation'"):
        align(written(tmp_path / "a.yaml", data={**FROM_TABLE, "split": "part"}), tmp_path / "run", data=leaky)
    (leaky / "pairs.csv").write_text("image,report\n000.png,...\n001.png,12.\n")
    with pytest.raises(ConfigError, match="can't be split"):
        align(written(tmp_path / "a.yaml", data={"kind": "table"}), tmp_path / "run", data=leaky)
    assert not (tmp_path / "run").exists()
    with pytest.raises(WeightsError, match="holds no weights of isocenter align"):
        classify(tmp_path, [pictures / "000.png"], ["mass"])
    monkeypatch.setattr("isocenter.verbs.pretrain._NEEDS", ("no_such_package",))
    with pytest.raises(CapabilityError, match=r"aligning needs no_such_package: pip install 'isocenter\[learn\]'"):
        align(tmp_path / "a.yaml", tmp_path / "run")
    with pytest.raises(CapabilityError, match=r"isocenter\[torch\]"):
        classify(tmp_path, [pictures / "000.png"], ["mass"])


@pytest.mark.slow
def test_the_first_word_may_be_a_configuration(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = written(tmp_path / "tiny.yaml")
    assert cli.run(["align", "--until", "1", "--out", str(tmp_path / "run"), str(config)]) == 0
    assert "step 1 of 12; go on with --resume" in capsys.readouterr().out
    assert (
        cli.run(["align", "train", str(config), "--out", str(tmp_path / "run"), "--resume", "--until", "2", "--json"])
        == 0
    )
    assert json.loads(capsys.readouterr().out)["step"] == 2
    assert cli.run(["align", "--help"]) == 0 and "classify" in capsys.readouterr().out
    assert cli.run(["align", str(config)]) == 2


def test_what_was_asked_of_which_picture_is_recorded_without_the_words(
    learnt: Path, pictures: Path, tmp_path: Path
) -> None:
    record, files, table = tmp_path / "r.jsonl", [pictures / "000.png", pictures / "001.png"], pictures / "pairs.csv"
    words = ["align", "classify", str(learnt), *map(str, files), "--finding", "zebra fracture", "--audit", str(record)]
    assert cli.run(words) == 0
    found = retrieve(learnt, table, text="Zebra.", top=3, audit=record)
    retrieve(learnt, table, image=files[0], audit=record)
    retrieve(learnt, table, audit=record)
    with pytest.raises(ConfigError):
        classify(learnt, files, [" "], audit=record)
    events = [event for _, _, _, event in read_lines(record)]
    assert [(e.verb, e.outcome, len(e.answers)) for e in events] == [
        ("align-classify", "answered", 2), ("align-retrieve", "answered", 3), ("align-retrieve", "answered", 1),
        ("align-retrieve", "answered", 0), ("align-classify", "failed", 0),
    ]  # fmt: skip
    assert {a.weights for e in events for a in e.answers} == {found.weights_sha256}
    assert events[0].answers[0].image == events[2].answers[0].image == file_sha256(files[0])
    assert file_sha256(table) in events[1].inputs and "ebra" not in record.read_text()
