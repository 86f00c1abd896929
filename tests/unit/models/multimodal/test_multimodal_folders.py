"""Folders made here, tiny and random: language models behind our projector, LLaVA, Gemma 3; equal to transformers."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.multimodal import (
    ImageInput,
    Learning,
    Multimodal,
    MultimodalNet,
    MultimodalSettings,
    ProjectorSettings,
    answer_loss,
    joined,
    lay_out,
    learnt_arrays,
    load_multimodal,
    open_base,
    open_language,
    open_multimodal,
    save_multimodal,
    set_learning,
    whole_arrays,
)
from isocenter.models.multimodal.vision import open_vision
from multimodal_cases import LANGUAGES, SIDE, WORDS, make_gemma3, make_language, make_llava

transformers = pytest.importorskip("transformers")

BACKBONE = {
    "kind": "residual-unet", "dims": 2, "channels_in": 1, "widths": [4, 8], "blocks": [1, 1],
    "strides": [[2, 2], [2, 2]], "norm": "batch",
}  # fmt: skip
QUESTION, CLOSED = "which side is the mass ?", ["left", "right", "both"]
CARD = {
    "name": "tiny", "version": "1", "title": "Tiny", "licence": "Apache-2.0", "intended_use": "Tests.",
    "not_for": "Anything else.", "training_data": [], "training": {}, "metrics": [],
}  # fmt: skip


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(20, 24)).astype(np.float32)


def behind(base) -> Multimodal:
    """Put a folder's language model behind a projector and a backbone of ours."""
    settings = MultimodalSettings(
        BACKBONE, ImageInput((SIDE, SIDE)).as_card(), ProjectorSettings(pool=2).as_card(), base.part.as_card()
    )
    torch.manual_seed(7)
    return Multimodal(MultimodalNet(settings, language=base.part).eval(), base.words, ImageInput((SIDE, SIDE)))


@pytest.mark.parametrize("kind", LANGUAGES)
def test_a_language_model_reads_words_as_transformers_does_and_images_too(tmp_path, kind):
    folder = make_language(tmp_path / "lm", kind)
    base = open_language(folder, 96)
    peer = getattr(transformers, LANGUAGES[kind][0]).from_pretrained(folder, local_files_only=True).eval()
    ids = torch.tensor([[1, 16, 17, 18, 19, 20, 21], [1, 22, 23, 24, 0, 0, 0]])
    known = ids != 0
    with torch.inference_mode():
        ours, _ = base.part.read(base.part.embed(ids), known)
        theirs = peer(input_ids=ids, attention_mask=known.long()).logits
    torch.testing.assert_close(ours[known], theirs[known], atol=1e-5, rtol=1e-4)
    model = behind(base)
    one, two = (model.score([picture(n)], QUESTION, CLOSED) for n in (1, 2))
    assert np.abs(one - two).max() > 1e-5
    seen = model.see(model.prepare([picture(1)]))
    np.testing.assert_allclose(model.score_many(seen, [QUESTION], CLOSED)[0], one, atol=1e-4)
    assert isinstance(model.write([picture(1)], QUESTION, most=3), str)


def _theirs(folder, kind, model, image):
    """Return what transformers' own class says to the same tokens and pixels."""
    name = {"llava": "LlavaForConditionalGeneration", "gemma3": "Gemma3ForConditionalGeneration"}[kind]
    peer = getattr(transformers, name).from_pretrained(folder, local_files_only=True).eval()
    laid = lay_out(model.words, [(QUESTION, 1)], ["left"], tokens=model.net.tokens, length=96)
    ids, known = torch.from_numpy(laid.ids), torch.from_numpy(laid.known)
    more = {"token_type_ids": (ids == model.words.image).long()} if kind == "gemma3" else {}
    pixels = torch.from_numpy(np.stack(image))
    with torch.inference_mode():
        said = peer(input_ids=ids, attention_mask=known.long(), pixel_values=pixels, **more).logits
    return ids, known, said


@pytest.mark.parametrize(("kind", "make"), [("llava", make_llava), ("gemma3", make_gemma3)])
def test_a_whole_checkpoint_says_what_transformers_says(tmp_path, kind, make):
    folder = make(tmp_path / kind)
    model = open_multimodal(folder, length=96)
    image = model.prepare([picture(1)])
    assert model.image_input.channels == 3 and model.net.tokens == (16 if kind == "llava" else 4)
    ids, known, theirs = _theirs(folder, kind, model, image)
    with torch.inference_mode():
        vectors, pictures = joined(model.net, ids, model.words.image, model.net.see(torch.from_numpy(np.stack(image))))
        ours, _ = model.net.read(vectors, known, pictures=pictures)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)
    # The answer that is scored with the cache is the one that is scored as a whole.
    seen = model.see(image)
    whole = model.score_many(seen, [QUESTION], CLOSED)[0]
    np.testing.assert_allclose(model.score([picture(1)], QUESTION, CLOSED), whole, atol=1e-3)
    assert np.abs(whole - model.score([picture(2)], QUESTION, CLOSED)).max() > 1e-5
    # Two images, and a question that tries to bring in one of its own.
    assert np.isfinite(model.score([picture(1), picture(2)], QUESTION, CLOSED)).all()
    sly = model.words.question(f"<image> {QUESTION} <start_of_image>", 1)
    assert sly.count(WORDS.index("<image>")) == 1 and sly.count(7) == (1 if kind == "gemma3" else 0)


def _lower(model: Multimodal, learning: Learning) -> tuple[float, float]:
    image = model.prepare([picture(1), picture(2)])
    laid = lay_out(model.words, [(QUESTION, 1)] * 2, ["left", "right"], tokens=model.net.tokens, length=96)
    optimiser = torch.optim.AdamW(set_learning(model.net, learning), lr=0.02)
    losses = []
    for _ in range(12):
        model.net.train()
        loss = answer_loss(model.net, model.words, laid, model.net.see(torch.from_numpy(np.stack(image))))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    model.net.eval()
    return losses[0], losses[-1]


@pytest.mark.parametrize(
    ("make", "tower"),
    [(make_llava, "locked"), (make_gemma3, "lora"), (make_language, "full"), (make_language, "locked")],
)
def test_low_rank_changes_lower_the_loss_and_an_adapter_comes_back_on_its_base(tmp_path, make, tower):
    folder = make(tmp_path / "base")
    base = open_base(folder, 96)
    model = behind(base) if base.image is None else Multimodal(base.net, base.words, base.image_input)
    learning = Learning(rank=2, tower=tower)
    first, last = _lower(model, learning)
    assert last < 0.7 * first
    said = model.score([picture(1)], QUESTION, CLOSED)
    save = save_multimodal(tmp_path / "a", learnt_arrays(model.net), model, CARD, base=base, learning=learning)
    again = open_multimodal(save, base=folder)
    np.testing.assert_allclose(again.score([picture(1)], QUESTION, CLOSED), said, atol=1e-3)
    with pytest.raises(WeightsError, match="give their folder as the base"):
        load_multimodal(save)
    with pytest.raises(WeightsError, match="another folder than the one that was adapted"):
        load_multimodal(save, base=make(tmp_path / "other", seed=99))
    whole = save_multimodal(tmp_path / "w", whole_arrays(model.net), model, CARD)
    np.testing.assert_allclose(load_multimodal(whole).score([picture(1)], QUESTION, CLOSED), said, atol=1e-3)


@pytest.mark.parametrize("make", [make_llava, make_gemma3])
def test_of_a_whole_checkpoint_exactly_the_changes_and_the_projector_learn(tmp_path, make):
    net = open_base(make(tmp_path / "base"), 96).net
    learnt = {id(p) for p in set_learning(net, Learning(rank=2, tower="locked"))}
    names = {name for name, p in net.named_parameters() if id(p) in learnt}
    linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    low = {
        name for name in names if name.endswith((".parametrizations.weight.0.down", ".parametrizations.weight.0.up"))
    }
    assert len(low) == 2 * 2 * len(linear) and all(any(f".{part}." in name for part in linear) for name in low)
    of = lambda part: {name for name, _ in net.named_parameters() if part in name}  # noqa: E731
    one_axis = {name for name in of(".language_model.layers.") if "norm" in name}
    assert names == low | one_axis | of(".multi_modal_projector.")  # no head, no embedding, no tower
    assert not any(p.requires_grad for name, p in net.named_parameters() if name not in names)


def test_marks_that_the_tokenizer_does_not_call_special_are_taken_out_too(tmp_path):
    from tokenizers import AddedToken, Tokenizer

    folder = make_language(tmp_path / "lm")
    own = Tokenizer.from_file(str(folder / "tokenizer.json"))
    own.add_tokens([AddedToken("<turn>", special=False), AddedToken("\n\n", special=False)])
    (folder / "tokenizer.json").write_text(own.to_str(), "utf-8")
    words = open_language(folder, 96).words
    mark = own.token_to_id("<turn>")
    for sly in ("<turn>", "<tu<image>rn>", "<tur<turn>n>"):
        assert mark not in words.question(f"which {sly} side", 1) and mark not in words.answer(f"left {sly}")
        assert words.question(sly, 1).count(words.image or 0) <= 1
    assert own.token_to_id("\n\n") in words.answer("left\n\nright")  # a blank line is text


def test_a_tower_of_a_folder_sees(tmp_path):
    from passport_cases import make_huggingface

    for kind in ("clip_vision_model", "dinov2", "siglip_vision_model", "vit"):
        tower, image_input = open_vision(make_huggingface(tmp_path / kind, kind))
        maps = tower.maps(torch.from_numpy(image_input.prepare(picture(1)))[None])
        assert maps[-1].shape == (1, 16, 4, 4)
    with pytest.raises(WeightsError, match="not a vision tower"):
        open_vision(make_language(tmp_path / "lm"))


def test_what_is_refused(tmp_path):
    language = make_language(tmp_path / "lm")
    with pytest.raises(ConfigError, match="sees nothing"):
        open_multimodal(language)
    with pytest.raises(WeightsError, match="a whole multimodal model"):
        open_language(make_llava(tmp_path / "whole"), 96)
    config = json.loads((language / "config.json").read_text())
    (language / "config.json").write_text(json.dumps({**config, "model_type": "bert"}))
    with pytest.raises(WeightsError, match="what can read images is gemma3, llava"):
        open_multimodal(language)
    (language / "config.json").write_text(json.dumps({**config, "eos_token_id": None}))
    with pytest.raises(WeightsError, match="eos_token_id"):
        open_base(language, 96)
    (language / "config.json").write_text(json.dumps(config))
    (language / "tokenizer.json").write_text("{}")
    with pytest.raises(WeightsError, match="vocabulary is damaged"):
        open_base(language, 96)
    (language / "model.safetensors").rename(language / "pytorch_model.bin")
    with pytest.raises(WeightsError, match="pickle only"):
        open_base(language, 96)
