"""Gate and promise of the automatic tasks: what the commands write, on images made here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from isocenter.core.errors import ConfigError, DataError, WeightsError
from isocenter.learn.automatic_data import Case, load_nih
from isocenter.learn.automatic_gate import (
    Seen,
    as_bytes,
    fit,
    gate_card,
    known_of,
    load_seen,
    own_refused,
    prepared_of,
    publish,
    read_gate_config,
    sources_refused,
)
from isocenter.learn.automatic_promise import kept, widened
from isocenter.models.segmentation import calibrate
from isocenter.models.weights import load_gate_arrays, read_card, save_weights
from isocenter.safety.descriptors import descriptors
from isocenter.safety.gate import Gate

CONFIGS = Path(__file__).resolve().parents[3] / "configs"


@pytest.fixture(scope="module")
def config():
    whole = read_gate_config(CONFIGS / "gate-lungs-cxr.yaml")
    return whole.model_copy(update={"window": (24, 24), "copies": {"covid": 1, "nih": 1}, "refused_share": 0.1})


@pytest.fixture(scope="module")
def seen() -> list[Seen]:
    """Two bright discs on a dark ground that is brighter below, of two hospitals."""
    rng, found = np.random.default_rng(0), []
    y, x = np.mgrid[:26, :30]
    for number in range(60):
        image = 0.05 * y + rng.normal(0, 0.2, y.shape)
        for middle in (8, 21):
            image += ((y - rng.uniform(11, 15)) ** 2 + (x - middle - rng.uniform(-1, 1)) ** 2 < 25) * 1.0
        here = number < 30
        case = Case(f"c{number}", f"p{number // 2}", image.astype(np.float32), np.zeros(y.shape, np.uint8))
        found.append(Seen(case, "covid" if here else "nih", "one" if here else "two"))
    return found


def test_a_gate_is_fitted_and_comes_back_from_beside_its_weights(config, seen, tmp_path) -> None:
    known, plain = known_of(seen, config)
    assert (len(known), len(plain)) == (120, 60)
    assert [one.judged for one in known[:4]] == [True, False, True, False]
    gate = fit(known, config)
    assert as_bytes(gate) == as_bytes(fit(known, config)), "the same images give the same file"
    shares = sources_refused(known, plain, seen, gate)
    assert set(shares) == {"one", "two"} and max(shares.values()) <= 0.1
    assert np.mean(own_refused(known, plain, seen, gate, config)) <= 0.1
    turned = [Case("t", "t", np.ascontiguousarray(one.case.image[::-1]), one.case.label) for one in seen[:20]]
    judged = [gate.judge([descriptors(prepared_of(case, config)[None])]) for case in turned]
    assert np.mean([one.reason is not None for one in judged]) >= 0.9
    fields = {
        "name": "lungs-cxr", "version": "1", "title": "T", "licence": "CC-BY-4.0", "network": {}, "intended_use": "u",
        "not_for": "n", "training_data": (), "training": {}, "metrics": (),
    }  # fmt: skip
    card = save_weights(tmp_path, {"w": np.zeros(2, np.float32)}, fields)
    told = gate_card(config, seen, as_bytes(gate))
    assert [(one.cases, one.patients) for one in told.known] == [(30, 15), (30, 15)]
    publish(tmp_path, gate, card.model_copy(update={"gate": told}))
    place = tmp_path / "lungs-cxr.safetensors"
    assert read_card(place).gate == told and "## Gate" in (tmp_path / "lungs-cxr.md").read_text("utf-8")
    again = Gate.from_arrays(load_gate_arrays(place))
    assert again.judge([plain[0]]).score == pytest.approx(gate.judge([plain[0]]).score, rel=1e-3)
    with pytest.raises(ConfigError, match="is not of this gate"):
        publish(tmp_path, gate, card)
    (tmp_path / "lungs-cxr.gate.npz").write_bytes(b"other")
    with pytest.raises(WeightsError, match="not the gate that the card vouches for"):
        load_gate_arrays(place)


def test_of_one_hospital_copies_set_the_limit(config, seen) -> None:
    one = config.model_copy(update={"left_out": "patient"})
    known, _ = known_of(seen[:30], one)
    assert [k.judged for k in known[:4]] == [False, True, False, True] and {k.part for k in known} == {
        f"fold {n}" for n in range(5)
    }
    assert len(fit(known, one).scores) == 30


@pytest.mark.parametrize("name", ["lungs-cxr", "hippocampus-t1"])
def test_the_shipped_configurations_are_valid(name) -> None:
    config = read_gate_config(CONFIGS / f"gate-{name}.yaml")
    assert config.name == name and read_card(name).gate.blocks == config.blocks
    assert read_card(name).gate.refused_share == config.refused_share


def test_bad_input(tmp_path, config) -> None:
    file = tmp_path / "config.yaml"
    file.write_text((CONFIGS / "gate-lungs-cxr.yaml").read_text() + "surprise: 1\n")
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        read_gate_config(file)
    with pytest.raises(ConfigError, match="needs 2 folders of data, got 1"):
        load_seen(config, [tmp_path])
    with pytest.raises(DataError, match=r"no labels\.csv here"):
        load_nih(tmp_path)
    (tmp_path / "labels.csv").write_text("Image Index,Patient ID,Patient Age\na.png,1,40\nb.png,2,9\n")
    with pytest.raises(DataError, match=r"no images_256/\*\.png here"):
        load_nih(tmp_path)


def test_an_end_moves_outwards_until_its_share_is_kept_and_never_inwards() -> None:
    rng = np.random.default_rng(0)
    agreement = rng.uniform(0.5, 1.0, 800)
    table = calibrate(agreement, np.clip(agreement - 0.1 + rng.normal(0, 0.03, 800), 0, 1))
    sharper = rng.uniform(0.5, 1.0, 300)
    better = np.clip(sharper - 0.03 + rng.normal(0, 0.03, 300), 0, 1)
    assert kept(table, (sharper, better)).mean() < 0.5
    below, above = widened(table, [(sharper, better)])
    assert below == 0.0 and 0.05 < above < 0.2
    assert kept({**table, "widened_below": below, "widened_above": above}, (sharper, better)).mean() >= 0.9
    steady = np.clip(sharper - 0.1 + rng.normal(0, 0.01, 300), 0, 1)
    assert widened(table, [(sharper, steady)]) == (0.0, 0.0)
    assert widened(table, [(sharper, steady), (sharper, better)]) == (0.0, above)
    with pytest.raises(DataError):
        widened(table, [(sharper[:10], better[:10])])
