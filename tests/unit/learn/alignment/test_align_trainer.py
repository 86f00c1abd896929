"""The training: killed at any step it draws the same curve; locked towers stay; both losses learn; errors say what."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from isocenter.core.errors import CapabilityError, ConfigError, WeightsError
from isocenter.learn.alignment.config import check_config, load_config
from isocenter.learn.alignment.export import export
from isocenter.learn.alignment.pairs import open_pairs
from isocenter.learn.alignment.trainer import Trainer
from isocenter.learn.checkpoint import load_checkpoint
from isocenter.models.aligned import load_aligned, vocabulary_path
from isocenter.models.backbones import build_backbone
from isocenter.models.weights import save_weights

BACKBONE = {
    "kind": "residual-unet", "dims": 2, "channels_in": 1, "widths": [4, 8], "blocks": [1, 1],
    "strides": [[2, 2], [2, 2]],
}  # fmt: skip
TINY = {
    "seed": 5, "steps": 6, "batch": 4, "learning_rate": 0.002, "warmup_steps": 2, "average": 0.9, "width": 8,
    "data": {"kind": "synthetic", "seed": 3, "patients": 20, "validation": 12, "test": 12},
    "image": {"side": 32, "backbone": BACKBONE},
    "text": {"vocabulary": 300, "length": 24, "width": 16, "depth": 1, "heads": 2},
    "checkpoint_every": 4, "validate_every": 3,
}  # fmt: skip


@pytest.fixture(autouse=True)
def _no_time(monkeypatch):
    """Intervals of 200 resamples: the tests ask whether they are there, not how wide they are."""
    import isocenter.learn.alignment.measure as measure

    mean = measure.bootstrap_mean
    monkeypatch.setattr(measure, "bootstrap_mean", lambda v, p: mean(v, p, resamples=200))


def trainer(out, **changes):
    config = check_config({**TINY, **changes})
    return Trainer(config, open_pairs(config.data, config.image.side, None, config.seed), out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    one = trainer(folder)
    one.run()
    return one


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_stopped_at_any_step_and_resumed_it_draws_the_same_curve(whole, tmp_path, stop):
    trainer(tmp_path).run(until=stop)
    torch.manual_seed(123)  # whatever else happens in the process
    trainer(tmp_path).run(resume=True)
    for name in ("steps.csv", "validation.csv"):
        assert (tmp_path / name).read_text() == (whole.out / name).read_text()
    a, b = (load_checkpoint(folder / "checkpoint.pt") for folder in (whole.out, tmp_path))
    assert all(torch.equal(a[part][k], b[part][k]) for part in ("net", "average") for k in a[part])


def test_killed_between_checkpoints_it_goes_on_from_the_last(whole, tmp_path):
    cut = trainer(tmp_path)

    class KilledError(Exception):
        pass

    def kill(row, _last):
        if row["step"] == 5:
            raise KilledError

    with pytest.raises(KilledError):
        cut.run(tell_step=kill)
    assert load_checkpoint(tmp_path / "checkpoint.pt")["step"] == 4
    trainer(tmp_path).run(resume=True)
    assert (tmp_path / "steps.csv").read_text() == (whole.out / "steps.csv").read_text()


def test_another_seed_is_another_curve(whole, tmp_path):
    trainer(tmp_path, seed=6).run()
    assert (tmp_path / "steps.csv").read_text() != (whole.out / "steps.csv").read_text()


@pytest.mark.parametrize(("tower", "other"), [("image", "text"), ("text", "image")])
def test_a_locked_tower_gets_no_gradient_and_stays(tmp_path, tower, other):
    locked = trainer(tmp_path, **{tower: {**TINY[tower], "locked": True}})
    before = {k: v.clone() for k, v in locked.net.state_dict().items()}
    locked.train_step()
    after = locked.net.state_dict()
    assert all(p.grad is None for p in getattr(locked.net, tower).parameters())
    assert all(torch.equal(before[k], after[k]) for k in before if k.startswith(f"{tower}."))
    assert any(not torch.equal(before[k], after[k]) for k in before if k.startswith(f"{other}."))
    assert any(not torch.equal(before[k], after[k]) for k in before if k.startswith(f"{tower}_out."))
    assert not getattr(locked.net, tower).training and getattr(locked.net, other).training


LOSSES = [
    {"loss": "sigmoid"},
    pytest.param({"loss": "softmax"}, marks=pytest.mark.slow),
    pytest.param({"bfloat16": True}, marks=pytest.mark.slow),
]


@pytest.mark.parametrize("changes", LOSSES)
def test_it_learns(tmp_path, changes):
    calm = {"texts": {"whole": 1.0, "hard_negatives": 1}, "jitter": {"shift": 0, "contrast": 0, "noise": 0}}
    one = trainer(tmp_path, **changes, **calm, steps=80, learning_rate=0.005)
    rows = [one.train_step() for _ in range(80)]
    assert np.mean([r["loss"] for r in rows[-10:]]) < 0.95 * np.mean([r["loss"] for r in rows[:10]])
    assert all(np.isfinite(r["loss"]) for r in rows)
    assert (float(one.net.bias.detach()) == 0) == (one.config.loss == "softmax")


def test_batches_hold_other_pairs_and_an_epoch_holds_all(whole):
    epoch = [at for step in range(5) for at in whole.batch(step)]
    assert sorted(epoch) == whole.train_places
    assert whole.batch(5) != whole.batch(0) and len(set(whole.batch(7))) == 4
    patients = [{whole.pairs.pairs[at].patient for at in whole.pairs.of(s)} for s in ("train", "validation", "test")]
    assert not patients[0] & patients[1] and not patients[0] & patients[2] and not patients[1] & patients[2]


def test_weights_load_and_answer_as_they_were_trained(whole, tmp_path):
    weights, figures = export(whole, tmp_path, command="isocenter align x", machine="here")
    loaded = load_aligned(tmp_path)
    assert loaded.card is not None and loaded.card.training["steps"] == 6 and loaded.card.training_data == ()
    plane, words = whole.pairs.plane(0), ["No effusion.", "Left effusion."]
    np.testing.assert_allclose(loaded.embed_images([plane]), whole.model().embed_images([plane]), atol=1e-6)
    np.testing.assert_allclose(loaded.embed_texts(words), whole.model().embed_texts(words), atol=1e-6)
    names = [f.name for f in figures]
    assert "recall@1, image to text" in names and "probe: negation" in names and "probe: laterality" in names
    assert json.loads((tmp_path / "held_out.json").read_text())["figures"][0]["chance"] == pytest.approx(
        1 / 12, abs=0.05
    )
    with pytest.raises(ConfigError, match="text number 1 is empty"):
        loaded.embed_texts(["a", " "])
    assert loaded.embed_texts([]).shape == (0, 8)
    # The vocabulary of another run is refused, and so is none.
    sidecar = vocabulary_path(weights)
    other = trainer(tmp_path / "o", data={**TINY["data"], "seed": 4})
    other.save()
    good = sidecar.read_bytes()
    sidecar.write_bytes((tmp_path / "o" / "vocabulary.json").read_bytes())
    with pytest.raises(WeightsError, match="vocabulary is of another run"):
        load_aligned(weights)
    sidecar.unlink()
    with pytest.raises(WeightsError, match="not beside the weights"):
        load_aligned(weights)
    sidecar.write_bytes(good)
    card = json.loads(weights.with_suffix(".json").read_text())
    card["network"]["width"] = 9
    weights.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="does not describe an aligned model"):
        load_aligned(weights)


def test_resuming_with_the_vocabulary_of_another_run_is_refused(tmp_path):
    trainer(tmp_path).run(until=1)
    trainer(tmp_path / "other", data={**TINY["data"], "seed": 4}).save()
    (tmp_path / "vocabulary.json").write_bytes((tmp_path / "other" / "vocabulary.json").read_bytes())
    with pytest.raises(WeightsError, match="of another run"):
        trainer(tmp_path).run(resume=True)
    (tmp_path / "vocabulary.json").unlink()
    with pytest.raises(WeightsError, match=r"a checkpoint and no vocabulary\.json"):
        trainer(tmp_path).run(resume=True)


def test_it_begins_with_a_backbone_that_was_pretrained(tmp_path):
    torch.manual_seed(9)
    known = build_backbone(BACKBONE)
    card = {
        "name": "bone", "version": "1", "title": "t", "licence": "MIT", "network": dict(BACKBONE), "intended_use": "x",
        "not_for": "x", "training_data": [], "training": {}, "metrics": [],
    }  # fmt: skip
    save_weights(tmp_path, {f"backbone.{k}": v.numpy() for k, v in known.state_dict().items()}, card)
    begun = {**TINY["image"], "start_from": str(tmp_path / "bone.safetensors"), "locked": True}
    net = trainer(tmp_path / "run", image=begun).net
    assert all(torch.equal(v, known.state_dict()[k]) for k, v in net.image.state_dict().items())
    other = {**begun, "backbone": {**BACKBONE, "widths": [4, 6]}}
    with pytest.raises(WeightsError, match="not of the backbone"):
        trainer(tmp_path / "run", image=other)


@pytest.mark.slow
def test_a_text_tower_from_a_folder_with_dropout_is_resumed_exactly(tmp_path):
    pytest.importorskip("transformers")
    from unit.models.text.test_text_folder import make_folder

    text = {"folder": str(make_folder(tmp_path / "bert", "bert")), "length": 10}
    few = {"steps": 3, "validate_every": 9, "text": text}
    trainer(tmp_path / "whole", **few).run()
    trainer(tmp_path / "cut", **few).run(until=2)
    trainer(tmp_path / "cut", **few).run(resume=True)
    assert (tmp_path / "cut" / "steps.csv").read_text() == (tmp_path / "whole" / "steps.csv").read_text()
    one = trainer(tmp_path / "whole", **few)
    one.resume()
    export(one, tmp_path / "whole", command="x", machine="y")
    (tmp_path / "bert").rename(tmp_path / "gone")
    loaded = load_aligned(tmp_path / "whole")
    np.testing.assert_allclose(loaded.embed_texts(["no effusion"]), one.model().embed_texts(["no effusion"]), atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch": 1}, "setting batch"),
        ({"steps": 0}, "setting steps"),
        ({"lerning_rate": 1}, "setting lerning_rate"),
        ({"loss": "triplet"}, "setting loss"),
        ({"data": {"kind": "dreams"}}, "setting data"),
        ({"image": {"side": 33, "backbone": BACKBONE}}, r"setting image: a side of 33 pixels is not a multiple"),
        ({"image": {"side": 64, "backbone": "vit-giant"}}, "setting image: no backbone 'vit-giant'"),
        ({"image": {"backbone": {**BACKBONE, "channels_in": 3}}}, "planes of one channel"),
        ({"texts": {"contradictions": ["mood"]}}, "no contradiction of kind 'mood'"),
    ],
)
def test_bad_settings_are_one_line(changes, message):
    with pytest.raises(ConfigError, match=message) as caught:
        check_config({**TINY, **changes})
    assert "\n" not in str(caught.value)


def test_a_named_transformer_knows_where_its_patches_are():
    config = check_config({**TINY, "image": {"side": 32, "backbone": "vit-tiny/8"}})
    assert config.image.card["positions"] == "decomposed" and config.image.card["grid"] == [4, 4]


def test_too_few_pairs_and_no_such_device(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="2 pairs to train on, and a batch takes 4"):
        trainer(tmp_path, data={**TINY["data"], "patients": 2})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CapabilityError, match="no CUDA device"):
        trainer(tmp_path, device="cuda")


def test_unreadable_configurations(tmp_path):
    for text, message in (("- a\n", "holds no settings"), ("a: [\n", "not a YAML file that can be read, line 2")):
        (tmp_path / "c.yaml").write_text(text)
        with pytest.raises(ConfigError, match=message):
            load_config(tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="can't be read"):
        load_config(tmp_path / "none.yaml")


def test_one_pair_of_a_patient_in_two_splits_is_a_defect_that_is_told(whole):
    from isocenter.learn.alignment.pairs import Pairs

    pair = whole.pairs.pairs[0]
    with pytest.raises(ValueError, match="a patient is in two splits"):
        Pairs((pair, replace(pair, split="test")), whole.pairs.plane, whole.pairs.image_input, {})
