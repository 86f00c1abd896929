"""Text towers from folders that are made here, tiny and random; and folders that are refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from isocenter.core.errors import CapabilityError, ConfigError, WeightsError
from isocenter.models.text import TextSettings, TextTower, build_text_tower, read_tokenizer, tokenizer_document
from isocenter.models.text.folder import FolderTower, load_folder

pytest.importorskip("transformers")

SHAPE = {
    "vocab_size": 12, "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "max_position_embeddings": 10, "pad_token_id": 0,
}  # fmt: skip
WORDS = {"[PAD]": 0, "[UNK]": 1, "[CLS]": 2, "[SEP]": 3, "no": 4, "effusion": 5, "left": 6, "right": 7, "##s": 8}
EYES = {
    "hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16,
    "image_size": 16, "patch_size": 8,
}  # fmt: skip
KINDS = ("bert", "roberta", "clip_text_model", "clip", "siglip_text_model", "siglip")


def tokenizer_json() -> str:
    from tokenizers import Tokenizer, pre_tokenizers, processors
    from tokenizers.models import WordPiece

    own = Tokenizer(WordPiece(WORDS, unk_token="[UNK]"))
    own.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    own.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return own.to_str()


def make_folder(folder: Path, kind: str) -> Path:
    import transformers

    ends = {"bos_token_id": 2, "eos_token_id": 3}
    make = {
        "bert": lambda t: t.BertForMaskedLM(t.BertConfig(**SHAPE)),
        "roberta": lambda t: t.RobertaModel(t.RobertaConfig(**SHAPE)),
        "clip_text_model": lambda t: t.CLIPTextModel(t.CLIPTextConfig(**SHAPE, **ends)),
        "clip": lambda t: t.CLIPModel(t.CLIPConfig(text_config={**SHAPE, **ends}, vision_config=EYES)),
        "siglip_text_model": lambda t: t.SiglipTextModel(t.SiglipTextConfig(**SHAPE)),
        "siglip": lambda t: t.SiglipModel(t.SiglipConfig(text_config=SHAPE, vision_config=EYES)),
    }[kind]
    torch.manual_seed(1)
    from transformers.utils import logging

    logging.disable_progress_bar()
    make(transformers).save_pretrained(folder)
    (folder / "tokenizer.json").write_text(tokenizer_json(), "utf-8")
    return folder


def embedded(tower, tokenizer, texts):
    tokens = tokenizer.encode(texts, tower.length)
    with torch.inference_mode():
        return tower.eval()(torch.from_numpy(tokens.ids), torch.from_numpy(tokens.known))


@pytest.mark.parametrize("kind", KINDS)
def test_a_folder_is_loaded_and_comes_back_from_its_card(tmp_path, kind):
    tower, tokenizer = load_folder(make_folder(tmp_path / "f", kind), length=64)
    assert tower.length == (8 if kind == "roberta" else 10) and tower.width == 16 and tokenizer.size == len(WORDS)
    both = embedded(tower, tokenizer, ["no effusion", "left effusion effusion effusion"])
    assert both.shape == (2, 16)
    torch.testing.assert_close(embedded(tower, tokenizer, ["no effusion"])[0], both[0], atol=1e-5, rtol=1e-4)
    assert (both[0] - both[1]).abs().max() > 1e-4
    card = json.loads(json.dumps(tower.as_card()))
    again = build_text_tower(card)
    again.load_state_dict(tower.state_dict())
    same = read_tokenizer(tokenizer_document(tokenizer))
    torch.testing.assert_close(embedded(again, same, ["no effusion", "left effusion effusion effusion"]), both)
    long = tokenizer.encode(["no " * 50], tower.length)
    assert long.ids.shape == (1, tower.length) and long.ids[0, -1] == 3


def test_a_vocabulary_file_is_enough(tmp_path):
    folder = make_folder(tmp_path / "f", "bert")
    (folder / "tokenizer.json").unlink()
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n")
    _, tokenizer = load_folder(folder, 16)
    assert tokenizer.encode(["no effusions"], 10).ids.tolist() == [[2, 4, 5, 8, 3]]


def test_what_is_refused(tmp_path, monkeypatch):
    folder = make_folder(tmp_path / "f", "bert")
    config = json.loads((folder / "config.json").read_text())
    for change, message in (
        ({"model_type": "llama"}, "model_type is 'llama'; what can be run is bert, roberta"),
        ({"auto_map": {"AutoModel": "x.Y"}}, "code of its own"),
        ({"vocab_size": 7}, "don't fit together|the weights don't fill"),
    ):
        (folder / "config.json").write_text(json.dumps({**config, **change}))
        with pytest.raises(WeightsError, match=message):
            load_folder(folder, 16)
    (folder / "config.json").write_text(json.dumps(config))
    good = (folder / "tokenizer.json").read_text()
    (folder / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="vocabulary is damaged"):
        load_folder(folder, 16)
    bigger = json.loads(good)
    bigger["model"]["vocab"] |= {f"w{i}": 9 + i for i in range(9)}
    (folder / "tokenizer.json").write_text(json.dumps(bigger))
    with pytest.raises(WeightsError, match="the tokenizer has 18 tokens, the tower 12"):
        load_folder(folder, 16)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pickle only"):
        load_folder(folder, 16)
    with pytest.raises(WeightsError, match="not a folder on this machine"):
        load_folder(tmp_path / "bert-base-uncased", 16)
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CapabilityError, match=r"needs transformers: pip install 'isocenter\[text\]'"):
        FolderTower.from_card({"kind": "folder", "model_type": "bert", "config": {}, "length": 8})


def test_cards_of_no_text_tower():
    with pytest.raises(ConfigError, match="no text tower of kind 'rnn'"):
        build_text_tower({"kind": "rnn"})
    with pytest.raises(WeightsError, match="names no text tower"):
        build_text_tower({"kind": "folder", "model_type": "gpt2"})
    with pytest.raises(ConfigError, match="not the settings of a text tower"):
        TextSettings.from_card({"kind": "transformer", "width": 3})
    with pytest.raises(ConfigError, match="heads divide"):
        TextSettings(vocabulary=300, width=10, heads=4)


def test_padding_changes_nothing_in_the_embedded_tower():
    torch.manual_seed(0)
    tower = TextTower(TextSettings(vocabulary=300, length=12, width=16, depth=2, heads=2)).eval()
    ids = torch.tensor([[1, 9, 8, 2]])
    padded = torch.cat([ids, torch.zeros(1, 5, dtype=torch.long)], dim=1)
    torch.testing.assert_close(tower(ids, ids != 0), tower(padded, padded != 0), atol=1e-6, rtol=1e-5)
    assert build_text_tower(tower.as_card()).settings == tower.settings
