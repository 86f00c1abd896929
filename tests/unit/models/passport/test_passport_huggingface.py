"""Hugging Face folders through the door: every known network, and every way in which a folder can be wrong."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from isocenter.core.errors import CapabilityError, WeightsError
from isocenter.models.passport import describe, open_weights
from isocenter.models.passport.architectures import ARCHITECTURES
from passport_cases import HUGGING_FACE, PICTURES, SIDE, make_huggingface, springs, trap_archive, trap_pickle

ONE = "model.safetensors"
CONV = "embeddings.patch_embeddings.projection.weight"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_huggingface(tmp_path_factory.mktemp("weights") / "tiny-dinov2")


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(made, tmp_path / "tiny"))


def change_config(folder: Path, **changes: object) -> None:
    config = json.loads((folder / "config.json").read_text("utf-8"))
    (folder / "config.json").write_text(json.dumps({**config, **changes}), "utf-8")


def change_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    arrays = load_file(folder / ONE)
    change(arrays)
    save_file(arrays, folder / ONE, metadata={"format": "pt"})


def test_there_is_a_case_for_every_known_network() -> None:
    assert set(HUGGING_FACE) == set(ARCHITECTURES)


@pytest.mark.parametrize("kind", HUGGING_FACE)
def test_every_known_network_opens_with_its_numbers(kind: str, tmp_path: Path, socket_disabled: None) -> None:
    folder = make_huggingface(tmp_path / kind, kind)
    opened = open_weights(folder)
    passport = opened.passport
    assert passport.architecture.startswith(f"{kind} (")
    assert type(opened.network).__name__ == ARCHITECTURES[kind].model
    assert not opened.network.training
    assert passport.role == ARCHITECTURES[kind].role
    assert (passport.kind, passport.source_format, passport.dtype) == ("huggingface", "safetensors", ("float32",))
    arrays = load_file(folder / ONE)
    assert passport.parameters == sum(a.numel() for a in arrays.values())
    held = dict(opened.network.state_dict())
    same = [key for key in arrays if any(k.endswith(key) or key.endswith(k) for k in held)]
    assert len(same) >= 4
    for key in same:
        name = next(k for k in held if k.endswith(key) or key.endswith(k))
        assert torch.equal(held[name], arrays[key]), key
    if passport.role == "language":
        assert passport.inputs.vocabulary == 64
    else:
        assert (passport.inputs.channels, passport.inputs.size, passport.inputs.axes) == (3, (SIDE, SIDE), "yx")


def test_the_passport_says_what_the_folder_says(made: Path) -> None:
    passport = describe(made)
    assert (passport.name, passport.licence) == ("tiny-dinov2", "apache-2.0")
    assert passport.licence_from == "the front matter of README.md"
    assert passport.intended_use == "Tests of this package."
    assert passport.not_for == "Anything with patients."
    assert [f.name for f in passport.files] == ["config.json", ONE, "preprocessor_config.json"]
    scaling = passport.inputs.scaling
    assert scaling is not None
    assert (scaling.unit, scaling.mean, scaling.std) == ("8-bit", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    assert passport.inputs.intensity == pytest.approx((-0.485 / 0.229, (1 - 0.406) / 0.225))


def test_what_the_folder_does_not_say_is_unknown(folder: Path) -> None:
    (folder / "README.md").unlink()
    (folder / "preprocessor_config.json").unlink()
    passport = describe(folder)
    assert (passport.licence, passport.intended_use, passport.not_for) == ("unknown", "unknown", "unknown")
    assert passport.inputs.scaling is None
    assert passport.inputs.intensity is None


def test_a_head_for_another_task_is_left_out(tmp_path: Path) -> None:
    from transformers import ViTConfig, ViTForImageClassification
    from transformers.utils import logging

    logging.disable_progress_bar()
    ViTForImageClassification(ViTConfig(**HUGGING_FACE["vit"][2])).save_pretrained(tmp_path / "vit")
    logging.enable_progress_bar()
    network = open_weights(tmp_path / "vit").network
    assert network.pooler is None


def test_numbers_may_keep_their_type(folder: Path) -> None:
    change_weights(folder, lambda arrays: arrays.update({k: v.bfloat16() for k, v in arrays.items()}))
    assert describe(folder).dtype == ("bfloat16",)
    assert next(open_weights(folder, precision="stored").network.parameters()).dtype == torch.bfloat16
    assert next(open_weights(folder).network.parameters()).dtype == torch.float32


def test_shards_are_read(folder: Path) -> None:
    whole = open_weights(folder).network.state_dict()
    into_shards(folder)
    opened = open_weights(folder)
    names = [f.name for f in opened.passport.files]
    assert names[1:4] == ["model.safetensors.index.json", "model-1.safetensors", "model-2.safetensors"]
    assert all(torch.equal(value, whole[key]) for key, value in opened.network.state_dict().items())


def into_shards(folder: Path, rename: str = "") -> None:
    arrays = load_file(folder / ONE)
    (folder / ONE).unlink()
    places: dict[str, str] = {}
    for number, keys in enumerate((sorted(arrays)[::2], sorted(arrays)[1::2]), start=1):
        name = f"model-{number}.safetensors"
        save_file({k: arrays[k] for k in keys}, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(keys, rename if rename and number == 1 else name)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": places}), "utf-8")


# Code is never run


def test_a_pickle_alone_is_refused_and_not_executed(folder: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (folder / ONE).unlink()
    trap_archive(folder / "pytorch_model.bin", sprung)
    with pytest.raises(WeightsError, match=r"pickle only \(pytorch_model.bin\).*can run code.*save_pretrained"):
        open_weights(folder)
    assert not sprung.exists()
    springs(folder / "pytorch_model.bin")
    assert sprung.exists(), "the trap works where a pickle is executed"


def test_a_pickle_beside_the_weights_is_told_and_not_opened(folder: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    for name in ("pytorch_model.bin", "adapter_model.bin", "optimizer.pt"):
        trap_archive(folder / name, sprung)
    for name in (".metadata", "training_args.bin"):
        trap_pickle(folder / name, sprung)
    change_config(folder, transformers_weights="adapter_model.bin")
    opened = open_weights(folder)
    assert not sprung.exists()
    assert "pytorch_model.bin lies beside the weights and is not opened" in opened.passport.notes


def test_code_of_a_known_network_is_not_run_and_that_is_told(folder: Path, tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    (folder / "modeling_evil.py").write_text(f"import pathlib\npathlib.Path({str(sprung)!r}).touch()\n", "utf-8")
    change_config(
        folder,
        auto_map={"AutoModel": "modeling_evil.Evil", "AutoConfig": "modeling_evil.Evil"},
        trust_remote_code=True,
        attn_implementation="someone/evil-kernel",
        _attn_implementation="someone/evil-kernel",
    )
    opened = open_weights(folder)
    assert not sprung.exists()
    assert type(opened.network).__module__ == "transformers.models.dinov2.modeling_dinov2"
    assert opened.passport.notes == (
        "its config asks for code of its own (auto_map); it was not run, the known class was taken",
    )


def test_code_of_an_unknown_network_is_refused(folder: Path) -> None:
    change_config(folder, model_type="evil", auto_map={"AutoModel": "modeling_evil.Evil"})
    with pytest.raises(WeightsError, match=r"'evil', which is not known and asks for code.*never run; known are clip"):
        describe(folder)


# Bad folders


def pickle_shard(folder: Path) -> None:
    into_shards(folder, "model-1.bin")


def truncate(folder: Path) -> None:
    (folder / ONE).write_bytes((folder / ONE).read_bytes()[:-10])


def header(words: bytes, length: int | None = None) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        size = len(words) if length is None else length
        (folder / ONE).write_bytes(size.to_bytes(8, "little") + words)

    return spoil


def entry(**changes: object) -> Callable[[Path], None]:
    told = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4], **changes}
    words = json.dumps({"x": told}).encode()
    return header(words + b"\0" * 4, len(words))


def not_a_number(folder: Path) -> None:
    def change(arrays: dict[str, torch.Tensor]) -> None:
        arrays[CONV][0, 0, 0, :3] = torch.tensor([float("nan"), float("inf"), -float("inf")])

    change_weights(folder, change)


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], None]:
    return lambda folder: change_weights(folder, lambda arrays: (change(arrays), None)[1])


SPOILT: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing there": (shutil.rmtree, "no such file or folder on this machine. Nothing is downloaded"),
    "no weights": (lambda f: (f / ONE).unlink(), "holds no model.safetensors"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no weights that are known; known are"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), "can't be read as JSON"),
    "config nested": (lambda f: (f / "config.json").write_text("[" * 100_000), "can't be read as JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), "JSON object"),
    "unknown network": (lambda f: change_config(f, model_type="bert"), "'bert', which is not known; known are clip"),
    "no model_type": (lambda f: change_config(f, model_type=["dinov2"]), "which is not known"),
    "quantised": (lambda f: change_config(f, quantization_config={"quant_method": "gptq"}), "quantised"),
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "adapter"),
    "config of wrong types": (lambda f: change_config(f, hidden_size="much"), "not a config of dinov2|don't fit"),
    "missing shard": (
        lambda f: (into_shards(f), (f / "model-2.safetensors").unlink()),
        "names 'model-2.safetensors', which is missing",
    ),
    "shard elsewhere": (lambda f: into_shards(f, "../x.safetensors"), r"names '\.\./x.safetensors'.*same folder"),
    "shard by Windows path": (lambda f: into_shards(f, "..\\x.safetensors"), "same folder"),
    "shard a pickle": (pickle_shard, "names 'model-1.bin'; its shards must be safetensors"),
    "truncated": (truncate, "cut off or damaged"),
    "empty file": (lambda f: (f / ONE).write_bytes(b""), "not a safetensors file, or cut off"),
    "header too long": (header(b"{}", 1 << 60), "not a safetensors file, or cut off"),
    "header no JSON": (header(b"{" * 10), "header is damaged"),
    "header a list": (header(b"[1, 2]"), "header is damaged"),
    "negative shape": (entry(shape=[-1]), "header is damaged"),
    "shape of another size": (entry(shape=[2]), "header is damaged"),
    "unknown type": (entry(dtype="F2"), "type F2, which is not known"),
    "not finite": (not_a_number, f"3 of its numbers are not finite, the first in '{CONV}'"),
    "missing keys": (
        weights(lambda a: [a.pop(k) for k in [k for k in a if "layer.0.mlp" in k]]),
        "config.json describes: 4 missing: encoder.layer.0.mlp.fc1.bias, .* and 1 more",
    ),
    "keys of another network": (
        weights(lambda a: a.update({"surprise.weight": torch.zeros(2)})),
        "1 not of this network: surprise.weight",
    ),
    "another shape": (
        weights(lambda a: a.update({CONV: torch.zeros(16, 3, 4, 4)})),
        r"1 of another shape: .*is \(16, 3, 4, 4\) in the file and \(16, 3, 8, 8\) by the config",
    ),
    "config of another size": (lambda f: change_config(f, num_hidden_layers=3), r"missing: encoder.layer.2"),
    "pictures prepared with words": (
        lambda f: (f / "preprocessor_config.json").write_text(json.dumps({**PICTURES, "image_mean": ["a"]})),
        "not stated in numbers",
    ),
    "pictures divided by nothing": (
        lambda f: (f / "preprocessor_config.json").write_text(json.dumps({**PICTURES, "image_std": [0.0, 1, 1]})),
        "not stated in numbers",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_a_folder_that_is_not_right_is_refused(name: str, folder: Path, socket_disabled: None) -> None:
    spoil, message = SPOILT[name]
    spoil(folder)
    with pytest.raises(WeightsError, match=message):
        open_weights(folder)


def test_what_does_not_fit_into_memory_is_not_built(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocenter.models.passport.memory.available_bytes", lambda: 20_000)
    count = describe(folder).parameters
    wanted = f"its {count:,} parameters need {count * 4 / 1e6:.3g} MB of memory and 0.02 MB are free"
    with pytest.raises(CapabilityError, match=re.escape(wanted)):
        open_weights(folder)


def test_a_config_that_asks_for_more_than_the_file_holds_is_not_built(folder: Path) -> None:
    change_config(folder, hidden_size=2**20, num_hidden_layers=64)
    with pytest.raises(
        WeightsError, match=r"describes 844.* parameters, which need .* and the file holds 10,048; they are"
    ):
        open_weights(folder)


def test_without_transformers_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CapabilityError, match=re.escape("pip install 'isocenter[huggingface]'")):
        describe(folder)


def test_a_file_that_changes_later_does_not_change_the_network(folder: Path) -> None:
    network = open_weights(folder).network
    before = {key: value.clone() for key, value in network.state_dict().items()}
    with (folder / ONE).open("r+b") as stream:
        stream.seek(-4000, 2)
        stream.write(b"\x7f" * 4000)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_opening_is_silent(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    open_weights(folder)
    assert capfd.readouterr() == ("", "")
