from __future__ import annotations

import hashlib
import json
import subprocess
import sys

import numpy as np
import pytest

from isocenter.core.errors import WeightsError
from isocenter.models.segmentation import build_unet
from isocenter.models.weights import (
    built_in_folder,
    card_schema,
    list_cards,
    load_gate_arrays,
    load_weights,
    read_card,
    render_card,
    save_weights,
)

FIELDS = {
    "name": "tiny",
    "version": "1",
    "title": "Tiny",
    "licence": "CC-BY-4.0",
    "network": {"kind": "none"},
    "intended_use": "Tests.",
    "not_for": "Anything else.",
    "training_data": [{"name": "none", "licence": "CC0-1.0", "source": "here", "cases": 3, "patients": 2}],
    "training": {"seed": 1},
    "metrics": [
        {
            "name": "Dice",
            "structure": "it",
            "value": 0.5,
            "low": 0.4,
            "high": 0.6,
            "level": 0.95,
            "count": 12,
            "how": "cv",
        }
    ],
}


@pytest.fixture
def saved(tmp_path):
    save_weights(tmp_path, {"b": np.arange(3, dtype=np.float32), "a": np.ones((2, 2), np.float16)}, FIELDS)
    return tmp_path / "tiny.safetensors"


def test_round_trip_checks_and_widens(saved):
    weights = load_weights(saved)
    assert weights.arrays["b"].tolist() == [0.0, 1.0, 2.0]
    assert weights.arrays["a"].dtype == np.float32
    assert weights.card.parameters == 7
    assert weights.card.size_bytes == saved.stat().st_size
    assert read_card(saved) == weights.card


def test_one_changed_byte_is_found(saved):
    data = bytearray(saved.read_bytes())
    data[-1] ^= 1
    saved.write_bytes(bytes(data))
    with pytest.raises(WeightsError, match="not the ones their card vouches for"):
        load_weights(saved)


def test_weights_without_a_card_are_not_used(saved):
    saved.with_suffix(".json").unlink()
    with pytest.raises(WeightsError, match="without a card"):
        load_weights(saved)


@pytest.mark.parametrize("name", ["x.pt", "sub/x.ckpt", "x.bin", "model.pkl"])
def test_pickles_are_refused_unread(name):
    with pytest.raises(WeightsError, match="can run code"):
        load_weights(name)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("https://example.org/w.safetensors", "this machine only"),
        ("no-such-weights", "no built-in weights"),
        ("folder/none.safetensors", "no such file"),
        ("folder/none.onnx", "must be a .safetensors"),
    ],
)
def test_what_is_not_there_is_said(name, words):
    with pytest.raises(WeightsError, match=words):
        load_weights(name)


def test_a_file_that_is_not_safetensors_is_refused_even_with_a_fitting_card(saved):
    import hashlib

    saved.write_bytes(b"\x80\x04not safetensors")
    card = json.loads(saved.with_suffix(".json").read_text())
    card["sha256"] = hashlib.sha256(saved.read_bytes()).hexdigest()
    saved.with_suffix(".json").write_text(json.dumps(card))
    with pytest.raises(WeightsError, match="not a safetensors file"):
        load_weights(saved)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"licence": ""}, "licence"),
        ({"surprise": 1}, "surprise"),
        ({"sha256": "zz"}, "sha256"),
        ({"name": "other"}, "other"),
    ],
)
def test_a_broken_card_says_where(saved, change, words):
    file = saved.with_suffix(".json")
    file.write_text(json.dumps({**json.loads(file.read_text()), **change}))
    with pytest.raises(WeightsError, match=words):
        read_card(saved)


def test_a_network_of_another_shape_is_refused(saved):
    with pytest.raises(WeightsError, match="another network"):
        build_unet(load_weights(saved))


def test_the_page_for_people_states_interval_and_licence(saved):
    page = render_card(read_card(saved))
    assert "0.400 to 0.600 (95%)" in page
    assert "CC-BY-4.0" in page
    assert "3 images, 2 patients" in page


def test_the_schema_is_strict():
    schema = card_schema()
    assert schema["additionalProperties"] is False
    assert {"licence", "sha256", "intended_use", "training_data", "metrics"} <= set(schema["required"])


@pytest.mark.parametrize("name", ["lungs-cxr", "hippocampus-t1"])
def test_built_in_weights_are_what_their_cards_say(name):
    weights = load_weights(name)
    net = build_unet(weights)
    assert sum(p.numel() for p in net.parameters()) == weights.card.parameters
    assert weights.card.size_bytes <= 8 * 2**20
    assert weights.card.training_data
    assert all(m.low is not None and m.low <= m.value <= m.high for m in weights.card.metrics)
    page = (built_in_folder() / f"{name}.md").read_text(encoding="utf-8")
    assert page == render_card(weights.card)


@pytest.mark.parametrize("name", ["lungs-cxr", "hippocampus-t1"])
def test_built_in_gates_are_what_their_cards_say(name):
    card = read_card(name)
    data = (built_in_folder() / f"{name}.gate.npz").read_bytes()
    assert (hashlib.sha256(data).hexdigest(), len(data)) == (card.gate.sha256, card.gate.size_bytes)
    assert card.gate.own_refused <= 0.05
    assert all(share <= 0.1 for share in card.gate.sources_refused.values())
    assert all("SA" not in one.licence for one in card.gate.known) or "SA" in card.licence
    blocks = {key.split("/")[1] for key in load_gate_arrays(name) if "/" in key}
    assert blocks == set(card.gate.blocks)


def test_weights_without_a_gate_have_none(saved):
    assert read_card(saved).gate is None and load_gate_arrays(saved) is None


def test_cards_are_listed_without_torch_or_safetensors():
    code = (
        "import sys; from isocenter.models.weights import list_cards; "
        "print(*[c.name for c in list_cards()]); "
        "sys.exit(any(m in sys.modules for m in ('torch', 'safetensors')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [card.name for card in list_cards()]
    assert {"lungs-cxr", "hippocampus-t1"} <= set(done.stdout.split())
