"""The training: exact resume, the shipped configuration, the simulated person, checkpoints."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy.ndimage import binary_dilation

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.learn.checkpoint import CsvLog, load_checkpoint, save_checkpoint
from isocenter.learn.interactive import InteractiveTraining, Trainer, load_config, loss_of
from isocenter.learn.interactive_card import export
from isocenter.learn.interactive_user import beside_prompt, correct, first_prompt, is_ambiguous
from isocenter.models.interactive.inputs import Canvas
from isocenter.models.interactive.network import Answer
from isocenter.models.weights import load_weights
from isocenter.synth import synthesise
from isocenter.synth.volume import synthesise_volume

CONFIG = Path(__file__).parents[3] / "configs" / "interactive-2d.yaml"
TINY = {
    "seed": 5,
    "network": {"widths": (4, 8, 8), "prompt_widths": (4, 4, 4), "fine": 2, "blocks": 1, "memory": 4},
    "samples": {"dims": 2, "beside": 0.2, "examples": 0.4, "most_examples": 2},
    "stages": ({"pixels": 32, "batch": 3, "until": 4}, {"pixels": 48, "batch": 2, "until": 7}),
    "learning_rate": 0.01, "warmup_steps": 2, "decay_steps": 3, "weight_decay": 0.0, "clip_norm": 1.0, "average": 0.9,
    "stay": 0.7, "most_rounds": 4, "checkpoint_every": 3, "validate_every": 7, "validation_samples": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    threads = torch.get_num_threads()
    folder = tmp_path_factory.mktemp("run")
    Trainer(InteractiveTraining.model_validate(TINY), folder / "whole").run()
    for stop in (2, 5):
        Trainer(InteractiveTraining.model_validate(TINY), folder / "cut").run(until=stop, resume=stop > 2)
    Trainer(InteractiveTraining.model_validate(TINY), folder / "cut").run(resume=True)
    torch.set_num_threads(threads)
    return folder


def test_killed_and_resumed_draws_the_same_curve(trained):
    for name in ("steps.csv", "validation.csv"):
        assert (trained / "cut" / name).read_text() == (trained / "whole" / name).read_text()
    assert len((trained / "whole" / "steps.csv").read_text().splitlines()) == 8
    whole, cut = (load_checkpoint(trained / run / "checkpoint.pt") for run in ("whole", "cut"))
    assert all(torch.equal(whole["average"][k], cut["average"][k]) for k in whole["average"])


def test_rows_after_the_checkpoint_are_dropped_on_resume(tmp_path):
    log = CsvLog(tmp_path / "log.csv", ("step", "loss"))
    for step in range(1, 6):
        log.add({"step": step, "loss": step / 10})
    log.close()
    CsvLog(tmp_path / "log.csv", ("step", "loss"), keep_until=3).close()
    assert (tmp_path / "log.csv").read_text().split() == ["step,loss", "1,0.1", "2,0.2", "3,0.3"]


def test_export_makes_weights_that_load(trained, tmp_path):
    card = export(trained / "whole", tmp_path)
    loaded = load_weights(tmp_path / "interactive-2d.safetensors")
    assert loaded.card.sha256 == card.sha256
    assert card.training_data == ()
    assert card.training["steps"] == 7


def test_checkpoint_is_whole_or_refused(tmp_path):
    save_checkpoint(tmp_path / "c.pt", {"step": 3, "x": torch.arange(4)})
    assert load_checkpoint(tmp_path / "c.pt")["x"].tolist() == [0, 1, 2, 3]
    assert not list(tmp_path.glob("*.part"))
    (tmp_path / "c.pt").write_bytes((tmp_path / "c.pt").read_bytes()[:100])
    with pytest.raises(WeightsError, match="not a checkpoint"):
        load_checkpoint(tmp_path / "c.pt")
    with pytest.raises(WeightsError, match="no checkpoint"):
        load_checkpoint(tmp_path / "none.pt")


def test_shipped_configuration_is_valid_and_plans_its_rate():
    config = load_config(CONFIG)
    rates = [config.rate(step) for step in range(config.steps)]
    assert max(rates) == pytest.approx(config.learning_rate)
    assert rates[0] < 0.02 * config.learning_rate and rates[-1] < 1e-3 * config.learning_rate
    assert config.stage(0).pixels <= config.stage(config.steps - 1).pixels


def test_configuration_refuses_unknown_keys(tmp_path):
    (tmp_path / "c.yaml").write_text(CONFIG.read_text() + "\nlerning_rate: 1\n")
    with pytest.raises(ConfigError, match="lerning_rate"):
        load_config(tmp_path / "c.yaml")
    with pytest.raises(ValidationError):
        InteractiveTraining.model_validate({**TINY, "stay": 2})


def test_a_training_goes_on_from_weights_and_the_card_says_so(trained, tmp_path):
    export(trained / "whole", tmp_path)
    begun = str(tmp_path / "interactive-2d.safetensors")
    config = InteractiveTraining.model_validate({**TINY, "start_from": begun, "freeze_norm": True})
    threads = torch.get_num_threads()
    trainer = Trainer(config, tmp_path / "next")
    known = load_weights(begun).arrays
    assert all(np.array_equal(trainer.net.state_dict()[k].numpy(), v.astype(np.float32)) for k, v in known.items())
    trainer.run(until=2)
    torch.set_num_threads(threads)
    after = trainer.net.state_dict()
    kept = [k for k in known if k.endswith(("running_mean", "running_var"))]
    assert kept and all(np.array_equal(after[k].numpy(), known[k].astype(np.float32)) for k in kept)
    assert any(not np.array_equal(after[k].numpy(), known[k].astype(np.float32)) for k in known)
    card = export(tmp_path / "next", tmp_path / "out")
    assert card.training["began_from"]["sha256"] == load_weights(begun).card.sha256
    (tmp_path / "next" / "began_from.json").unlink()
    with pytest.raises(WeightsError, match="began"):
        export(tmp_path / "next", tmp_path / "out")
    with pytest.raises(ConfigError, match="another shape"):
        Trainer(InteractiveTraining.model_validate({**TINY, "start_from": "interactive-2d"}), tmp_path / "x")


def test_prompts_say_what_is_true():
    for index in range(30):
        rng = np.random.default_rng(index)
        target = synthesise(2, index, pixels=48).target[0]
        canvas = first_prompt(rng, target)
        assert canvas.positive.any() or canvas.region.any()
        if canvas.positive.any():
            assert (canvas.positive & target).any()
        if canvas.negative.any():
            assert (canvas.negative & ~target).any()


def test_correction_points_at_the_error_and_ends_without_one():
    target = np.zeros((32, 32), bool)
    target[8:24, 8:24] = True
    rng = np.random.default_rng(0)
    canvas = first_prompt(rng, target)
    wrong = np.zeros((32, 32), np.float32)
    wrong[8:24, 8:16] = 1
    after = correct(rng, canvas, wrong, target)
    assert after is not None
    assert (after.positive & ~canvas.positive)[8:24, 16:24].any()
    assert after.previous.sum() == wrong.sum()
    assert correct(rng, canvas, target.astype(np.float32), target) is None


def test_neighbour_prompt_carries_a_hint():
    sample = synthesise(2, 1, pixels=48, neighbour=True)
    assert sample.neighbour is not None
    canvas = beside_prompt(np.random.default_rng(0), sample.target[0], sample.neighbour[0])
    assert canvas.hint.any()
    assert not canvas.region.any()


def test_one_click_is_ambiguous_and_more_is_not():
    canvas = Canvas.empty(32, 32).with_ball((8, 8), positive=True)
    assert is_ambiguous(canvas)
    assert not is_ambiguous(canvas.with_ball((20, 20), positive=True))
    assert not is_ambiguous(canvas.with_ball((20, 20), positive=False))
    assert not is_ambiguous(Canvas.empty(32, 32))


def test_the_best_alternative_counts_where_one_click_was_given():
    target = torch.zeros(2, 8, 8)
    target[:, 2:6, 2:6] = 1
    logits = torch.full((2, 4, 8, 8), -8.0)
    logits[:, 3] = torch.where(target > 0, 8.0, -8.0)
    answer = Answer(logits, torch.zeros(2, 4), torch.zeros(2, 1, 4, 4))
    none, some = torch.zeros(2, dtype=torch.bool), torch.ones(2, dtype=torch.bool)
    _, numbers = loss_of(answer, target, some, none)
    assert numbers["alternatives"] == pytest.approx(1.0) and numbers["dice"] == 0.0
    wrong = Answer(torch.full((2, 4, 8, 8), -8.0), answer.quality, answer.recalled)
    assert loss_of(answer, target, some, none)[0] < loss_of(wrong, target, some, none)[0] - 0.5
    assert loss_of(answer, target, none, none)[0] == pytest.approx(float(loss_of(wrong, target, none, none)[0]))


def test_volumes_are_pointed_at_truthfully():
    kinds = set()
    for index in range(24):
        rng = np.random.default_rng(index)
        target = synthesise_volume(2, index, voxels=24).target
        canvas = first_prompt(rng, target)
        assert not (canvas.positive & ~binary_dilation(target, iterations=3)).any()
        known = canvas.hint != 0
        if known.any():
            kinds.add("slice")
            assert (known.sum(axis=(1, 2)) == 24 * 24).any() or known.any(axis=0).sum() < 24 * 24
            inside = canvas.hint > 0
            assert (inside & target).sum() > 0.4 * inside.sum()
        if canvas.region.any():
            kinds.add("box")
            assert (canvas.region & target).sum() > 0.6 * target.sum()
        if canvas.positive.any():
            kinds.add("point")
        after = correct(rng, canvas, np.zeros(target.shape, np.float32), target)
        assert after is not None and not after.previous.any()
    assert kinds == {"slice", "box", "point"}


@pytest.mark.slow
def test_a_training_on_volumes_is_resumed_exactly(tmp_path):
    config = InteractiveTraining.model_validate(
        {
            **TINY,
            "samples": {"dims": 3, "examples": 0.4, "most_examples": 1},
            "stages": ({"pixels": 24, "batch": 2, "until": 3},),
            "checkpoint_every": 2,
            "validate_every": 9,
        }
    )
    threads = torch.get_num_threads()
    Trainer(config, tmp_path / "whole").run(until=3)
    Trainer(config, tmp_path / "cut").run(until=2)
    Trainer(config, tmp_path / "cut").run(resume=True)
    torch.set_num_threads(threads)
    assert (tmp_path / "cut" / "steps.csv").read_text() == (tmp_path / "whole" / "steps.csv").read_text()
