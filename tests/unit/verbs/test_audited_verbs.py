"""Every verb that runs a task or a model writes its line: one record over all, and a line that was altered is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

import isocenter
from adapted_cases import disc, tiny_weights
from isocenter import cli
from isocenter.core import Mask, Prediction, Prompt, Segment, Study, TaskCard
from isocenter.core.errors import ConfigError, DataError, OutputError
from isocenter.core.prediction import ModelRef, Uncertainty
from isocenter.data.images import write_nifti
from isocenter.plugins import TaskEntry
from isocenter.safety.audit import AuditedAnswer, read_lines, verify
from isocenter.tasks.interact.engine import Engine
from isocenter.tasks.interact.session import Session
from isocenter.verbs import audit as audit_verbs
from isocenter.verbs import running
from isocenter.verbs.session_folder import load_session, save_session

CARD = TaskCard(
    name="bright", title="Bright", modalities=(), body_parts=(), needs_volume=None, needs_spacing=False, prompts=(),
    needs_prompt=False, intended_use="tests", not_for="patients", licence="MIT",
)  # fmt: skip
WEIGHTS = "ef" * 32


class Bright:
    """Outlines what is bright; abstains where nothing is."""

    card = CARD

    def run(self, study: Study, prompts: tuple[Prompt, ...] = ()) -> Prediction:
        image = study.images[0]
        array = (image.array[0] > 600).astype(np.uint16)
        if not array.any():
            return Prediction.abstain("bright", "nothing is bright", inputs=(image.sha256,))
        mask = Mask(array, image.geometry, (Segment(1, "disc"),), image.source)
        model = ModelRef("bright", "1", WEIGHTS)
        return Prediction(mask, "bright", Uncertainty("quality", "unknown"), model=model, inputs=(image.sha256,))


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = TaskEntry(CARD, "tests:Bright", Bright)
    monkeypatch.setattr(running, "task_entries", lambda: ({"bright": entry}, ()))


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield Engine(tiny_weights(tmp_path_factory.mktemp("weights")), volume=None)
    torch.set_num_threads(threads)


def labelled(folder: Path, count: int = 11) -> Path:
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True)
    for seed in range(count):
        image, inside = disc(seed, (4, 40, 44))
        write_nifti(image, folder / "images" / f"Zebra{seed}.nii.gz")
        mask = Mask(inside.astype(np.uint16), image.geometry, (Segment(1, "disc"),))
        write_nifti(mask, folder / "labels" / f"Zebra{seed}.nii.gz")
    (folder / "classes.txt").write_text("disc\n")
    return folder


def test_one_record_over_several_verbs(
    bright: None, engine: Engine, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record, data = tmp_path / "record.jsonl", labelled(tmp_path / "set")
    study = data / "images" / "Zebra0.nii.gz"
    isocenter.read(study, tmp_path / "read", tasks=("bright",), audit=record)
    arguments = ["segment", str(study), "--task", "bright", "--audit", str(record), "--out"]
    assert cli.run([*arguments, str(tmp_path / "mask.nii.gz")]) == 0
    isocenter.evaluate_predictions(
        tmp_path / "eval", task="bright", data=data, resamples=100, pictures=False, audit=record
    )
    isocenter.check("bright", tmp_path / "check", data=data, corrupt=(), resamples=100, pictures=False, audit=record)
    image, inside = disc(3)
    session = Session(engine, "disc")
    session.begin(image)
    for y, x in ((20, 38), (5, 5)):
        session.prompt(Prompt("point", np.array([[0.0, y, x]]), bool(inside[0, y, x]), "index_zyx"))
    session.confirm()
    save_session(session, tmp_path / "session", audit=record)
    with pytest.raises(ConfigError):
        isocenter.segment(study, tmp_path / "x.nii.gz", task="nothing", audit=record)

    assert verify(record).lines == 7
    lines = [event for _, _, _, event in read_lines(record)]
    verbs = ["read", "segment", "evaluate", "check", "interact", "save-session", "segment"]
    assert [event.verb for event in lines] == verbs and lines[-1].outcome == "failed"
    read, segment, evaluated, checked, interacted, saved = lines[:6]
    assert read.answers[0].image == segment.answers[0].image and segment.answers[0].weights == WEIGHTS
    assert set(read.inputs) == set(segment.inputs) and len(segment.inputs) == 1
    assert segment.outputs == segment.answers[0].outputs == (_sha256(tmp_path / "mask.nii.gz"),)
    assert len(evaluated.answers) == len(checked.answers) == 11
    assert evaluated.answers[0].image == read.answers[0].image
    assert _sha256(tmp_path / "eval" / "evaluation.json") in evaluated.outputs
    assert _sha256(tmp_path / "check" / "scorecard.json") in checked.outputs
    assert interacted.answers[0].image == image.sha256 and interacted.answers[0].weights == engine.plane_card.sha256
    assert saved.outputs == (_sha256(tmp_path / "session" / "session.json"),)
    text = record.read_text()
    assert "Zebra" not in text and "disc" not in text and str(tmp_path) not in text and "1.2.826" not in text

    capsys.readouterr()
    assert cli.run(["audit", "show", str(record)]) == 0
    shown = capsys.readouterr().out
    assert all(f"{verb}: " in shown for verb in verbs) and f"weights {WEIGHTS[:12]}" in shown
    whole = record.read_bytes().splitlines(keepends=True)
    for number in (2, 5):
        altered = list(whole)
        altered[number - 1] = whole[number - 1].replace(b'"answered"', b'"abstained"', 1)
        record.write_bytes(b"".join(altered))
        assert cli.run(["audit", "verify", str(record)]) == cli.Exit.INPUT
        assert f"line {number} is not what was written" in capsys.readouterr().err


def _sha256(file: Path) -> str:
    return audit_verbs.file_sha256(file)


def test_what_a_person_changed_before_confirming(engine: Engine, tmp_path: Path) -> None:
    record, session = tmp_path / "record.jsonl", Session(engine, "disc")
    masks = []
    for seed in range(2):
        image, inside = disc(seed)
        session.begin(image)
        point = np.argwhere(inside)[0].astype(float)
        session.prompt(Prompt("point", point[None], True, "index_zyx"))
        first = session.mask
        session.undo()
        session.prompt(Prompt("box", np.array([[0.0, 10, 20], [0, 40, 60]]), True, "index_zyx"))
        masks.append((first, session.confirm().array > 0))
    # The second image begins with an outline of the first's: that is what was offered.
    offered = [case.offered for case in session.cases]
    assert np.array_equal(offered[0].array > 0, masks[0][0])
    save_session(session, tmp_path / "s", audit=record)
    events = [event for _, _, _, event in read_lines(record)]
    assert [e.verb for e in events] == ["interact", "interact", "save-session"]
    for event, case in zip(events[:2], session.cases, strict=True):
        before, after = case.offered.array > 0, case.mask.array > 0
        assert event.outcome == ("changed" if (before != after).any() else "accepted")
        counts = [(c.segment, c.added, c.removed) for c in event.changes]
        assert counts == [(1, int((after & ~before).sum()), int((before & ~after).sum()))] * bool(counts)
    assert any(e.changes for e in events[:2]), "the test shows nothing where nothing was changed"
    # Taken up again, earlier cases have no offer of this session: they are in the whole's line alone.
    again = load_session(engine, tmp_path / "s")
    again.begin(disc(7)[0])
    again.confirm()
    save_session(again, tmp_path / "t", audit=record)
    later = [event for _, _, _, event in read_lines(record)][3:]
    assert [e.verb for e in later] == ["interact", "save-session"] and later[0].outcome == "accepted"
    assert len(later[1].answers) == 3 and verify(record).lines == 5


def test_nothing_stands_without_its_line(
    bright: None, engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, record = labelled(tmp_path / "set", 1), tmp_path / "record.jsonl"

    def full(*_given: object) -> None:
        raise OutputError("cannot write the audit record", source=record)

    monkeypatch.setattr(audit_verbs, "append_event", full)
    with pytest.raises(OutputError):
        isocenter.segment(data / "images" / "Zebra0.nii.gz", tmp_path / "m.nii.gz", task="bright", audit=record)
    session = Session(engine, "disc")
    session.begin(disc(1)[0])
    session.confirm()
    with pytest.raises(OutputError):
        save_session(session, tmp_path / "s", audit=record)
    assert not (tmp_path / "m.nii.gz").exists() and not (tmp_path / "s").exists()


def test_the_environment_names_a_record_too_and_an_abstention_is_a_line(
    bright: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ISOCENTER_AUDIT", str(tmp_path / "record.jsonl"))
    Picture.fromarray(np.full((20, 30), 7, np.uint8)).save(tmp_path / "dark.png")
    arguments = ["segment", str(tmp_path / "dark.png"), "--task", "bright", "--out", str(tmp_path / "m.nii.gz")]
    assert cli.run(arguments) == cli.Exit.NOTHING_ANSWERED
    (event,) = (event for _, _, _, event in read_lines(tmp_path / "record.jsonl"))
    assert event.outcome == event.answers[0].outcome == "abstained" and not event.outputs
    table = tmp_path / "scores.csv"
    rows = [f"{i},{i % 2},{0.3 + 0.4 * (i % 2)}" for i in range(20)]
    table.write_text("case,truth,score\n" + "\n".join(rows))
    isocenter.evaluate_predictions(tmp_path / "e", predictions=table, resamples=100)
    assert verify(tmp_path / "record.jsonl").lines == 1, "another program's answers: nothing was run"
    with pytest.raises(ConfigError, match="a record is of tasks that are run"):
        isocenter.evaluate_predictions(tmp_path / "f", predictions=table, audit=tmp_path / "record.jsonl")


def test_very_many_answers_take_several_lines(tmp_path: Path) -> None:
    record = tmp_path / "record.jsonl"
    answers = [AuditedAnswer("t", f"{i:064x}", "answered" if i > 1500 else "abstained") for i in range(2100)]
    audit_verbs.record_run(record, "evaluate", answers, outputs=["ab" * 32])
    audit_verbs.record_run(None, "evaluate", answers)
    events = [event for _, _, _, event in read_lines(record)]
    assert [len(e.answers) for e in events] == [1000, 1000, 100] and verify(record).lines == 3
    assert [e.outcome for e in events] == ["abstained", "answered", "answered"]
    with pytest.raises(DataError, match="takes a name"):
        audit_verbs.record_run(record, "Read Doe", answers[:1])
