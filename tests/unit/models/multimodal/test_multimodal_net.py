"""The network of ours: what it reads, the cache, several images, volumes, saving, adapters, refusals."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from isocenter.core import Geometry, Image
from isocenter.core.errors import ConfigError, PixelError, WeightsError
from isocenter.models.multimodal import (
    ImageInput,
    LanguageSettings,
    Learning,
    ProjectorSettings,
    SmallLanguageModel,
    answer_loss,
    build_multimodal,
    joined,
    lay_out,
    load_multimodal,
    log_likelihoods,
    open_multimodal,
    read_words,
    save_multimodal,
    set_learning,
    take_in,
    whole_arrays,
    words_document,
    words_path,
)
from isocenter.models.multimodal.inputs import array_of
from multimodal_cases import SIDE, make_own

QUESTION, CLOSED = "which side is the mass?", ["left", "right", "both"]
CARD = {
    "name": "tiny", "version": "1", "title": "Tiny", "licence": "Apache-2.0", "intended_use": "Tests.",
    "not_for": "Anything else.", "training_data": [], "training": {}, "metrics": [],
}  # fmt: skip


def picture(seed: int, shape: tuple[int, ...] = (20, 24)) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_the_cache_reads_what_the_whole_reads():
    torch.manual_seed(0)
    model = SmallLanguageModel(LanguageSettings(30, length=40, width=24, depth=2, heads=4, groups=2, hidden=32)).eval()
    ids = torch.randint(0, 30, (2, 11))
    known = torch.ones(2, 11, dtype=torch.bool)
    with torch.inference_mode():
        whole, _ = model.read(model.embed(ids), known)
        first, cache = model.read(model.embed(ids[:, :6]), known[:, :6])
        rest = [first]
        for at in range(6, 11):
            said, cache = model.read(model.embed(ids[:, at : at + 1]), known[:, :1], cache)
            rest.append(said)
        padded, _ = model.read(
            model.embed(torch.cat([ids, ids[:, :3]], 1)), torch.cat([known, torch.zeros(2, 3, dtype=torch.bool)], 1)
        )
    torch.testing.assert_close(torch.cat(rest, 1), whole, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(padded[:, :11], whole, atol=1e-5, rtol=1e-4)


def test_it_equals_llama_of_transformers():
    """The embedded model is a Llama: with its weights under their names, transformers says the same."""
    t = pytest.importorskip("transformers")
    torch.manual_seed(0)
    model = SmallLanguageModel(LanguageSettings(30, length=40, width=24, depth=2, heads=4, groups=2, hidden=32)).eval()
    config = t.LlamaConfig(
        vocab_size=30, hidden_size=24, intermediate_size=32, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=40, tie_word_embeddings=False, rms_norm_eps=1e-6,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
    )  # fmt: skip
    names = {
        "tokens.": "model.embed_tokens.", "head.": "lm_head.", "norm.": "model.norm.", "blocks.": "model.layers.",
        ".query.": ".self_attn.q_proj.", ".key.": ".self_attn.k_proj.", ".value.": ".self_attn.v_proj.",
        ".out.": ".self_attn.o_proj.", ".gate.": ".mlp.gate_proj.", ".up.": ".mlp.up_proj.",
        ".down.": ".mlp.down_proj.", ".norm1.": ".input_layernorm.", ".norm2.": ".post_attention_layernorm.",
    }  # fmt: skip
    state = {}
    for name, value in model.state_dict().items():
        for ours, theirs in names.items():
            if name.startswith(ours) or (ours.startswith(".") and ours in name):
                name = name.replace(ours, theirs, 1)
        state[name] = value
    peer = t.LlamaForCausalLM(config).eval()
    peer.load_state_dict(state)
    ids = torch.randint(0, 30, (2, 9))
    with torch.inference_mode():
        ours, _ = model.read(model.embed(ids), torch.ones(2, 9, dtype=torch.bool))
        torch.testing.assert_close(ours, peer(input_ids=ids).logits, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("projector", [{}, {"pool": 2}, {"queries": 3}])
def test_a_closed_set_is_scored_alike_with_and_without_the_cache(projector):
    model = make_own(**projector)
    image = model.prepare([picture(1)])
    with torch.inference_mode():
        seen = model.net.see(torch.from_numpy(np.stack(image)))
        laid = lay_out(
            model.words, [(QUESTION, 1)] * 3, CLOSED, tokens=model.net.tokens, length=model.net.length
        )  # fmt: skip
        said, lengths = log_likelihoods(model.net, model.words, laid, seen.repeat(3, 1, 1))
    np.testing.assert_allclose(model.score([picture(1)], QUESTION, CLOSED), said.numpy(), atol=1e-4)
    np.testing.assert_allclose(model.score_many(seen, [QUESTION], CLOSED)[0], said.numpy(), atol=1e-4)
    assert lengths.tolist() == [len(model.words.answer(answer)) for answer in CLOSED]
    chosen = model.choose([picture(1)], QUESTION, CLOSED)
    assert chosen.sum() == pytest.approx(1) and chosen.argmax() == said.argmax()


def test_writing_is_the_likeliest_token_again_and_again():
    model = make_own()
    written = model.write([picture(1)], QUESTION, most=5)
    ids, image = model.words.question(QUESTION, 1), model.prepare([picture(1)])
    row = [i for one in ids for i in ([one] * model.net.tokens if one == model.words.image else [one])]
    tokens = []
    with torch.inference_mode():
        for _ in range(5):
            now = torch.tensor([row + tokens])
            vectors, _ = joined(model.net, now, model.words.image, model.net.see(torch.from_numpy(np.stack(image))))
            token = int(model.net.read(vectors, now >= 0)[0][0, -1].argmax())
            if token in model.words.ends:
                break
            tokens.append(token)
    assert written == model.words.decode(tokens)


def test_the_image_decides_and_so_do_its_place_and_its_order():
    model = make_own()
    score = lambda images: model.score(images, QUESTION, CLOSED)  # noqa: E731
    assert np.abs(score([picture(1)]) - score([picture(2)])).max() > 1e-4
    assert np.abs(score([picture(1)]) - score([np.ascontiguousarray(picture(1)[:, ::-1])])).max() > 1e-4
    assert np.abs(score([picture(1), picture(2)]) - score([picture(2), picture(1)])).max() > 1e-4
    assert np.isfinite(score([])).all()  # without an image it answers from words alone


def test_volumes_become_tokens_of_their_grid():
    model = make_own(dims=3)
    assert model.net.tokens == 2 * 4 * 4
    assert model.score([picture(1, (5, 20, 22))], QUESTION, CLOSED).shape == (3,)
    with pytest.raises(PixelError, match="sees 3 axes, the image has 2"):
        model.score([picture(1)], QUESTION, CLOSED)


def test_saved_and_loaded_it_says_the_same(tmp_path):
    model = make_own(pool=2)
    file = save_multimodal(tmp_path, whole_arrays(model.net), model, CARD)
    for place in (file, tmp_path):
        again = open_multimodal(place)
        np.testing.assert_allclose(
            again.score([picture(1)], QUESTION, CLOSED), model.score([picture(1)], QUESTION, CLOSED), atol=1e-5
        )
    assert again.card is not None and again.card.network["kind"] == "multimodal"
    assert words_document(read_words(words_document(model.words))) == words_document(model.words)
    words_path(file).write_bytes(words_document(make_own().words).replace(b"[", b"[ ", 1))
    with pytest.raises(WeightsError, match="vocabulary is of another run"):
        load_multimodal(file)
    words_path(file).unlink()
    with pytest.raises(WeightsError, match="not beside the weights"):
        load_multimodal(file)
    with pytest.raises(WeightsError, match="holds no multimodal weights"):
        load_multimodal(tmp_path)


@pytest.mark.parametrize("tower", ["full", "lora", pytest.param("locked", marks=pytest.mark.slow)])
def test_low_rank_changes_learn_and_are_taken_in(tower):
    model = make_own()
    image = model.prepare([picture(1), picture(2)])
    before = model.score([picture(1)], QUESTION, CLOSED)
    trained = set_learning(model.net, Learning(rank=2, tower=tower))
    assert not model.net.language.tokens.weight.requires_grad and not model.net.language.head.weight.requires_grad
    assert any(p.requires_grad for p in model.net.vision.parameters()) == (tower != "locked")
    np.testing.assert_allclose(model.score([picture(1)], QUESTION, CLOSED), before, atol=1e-5)
    optimiser = torch.optim.AdamW(trained, lr=0.02)
    laid = lay_out(model.words, [(QUESTION, 1)] * 2, ["left", "right"], tokens=model.net.tokens, length=96)
    losses = []
    for _ in range(25):
        loss = answer_loss(model.net, model.words, laid, model.net.see(torch.from_numpy(np.stack(image))))
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    learnt = model.score([picture(1)], QUESTION, CLOSED)
    arrays = whole_arrays(model.net)
    take_in(model.net)
    np.testing.assert_allclose(model.score([picture(1)], QUESTION, CLOSED), learnt, atol=1e-4)
    again = build_multimodal(model.net.as_card())
    again.load_state_dict({k: torch.from_numpy(v) for k, v in arrays.items()})


def test_pictures_of_a_folder_are_0_to_1_then_scaled():
    given = ImageInput((8, 8), 3, (0.5, 0.4, 0.3), (0.5, 0.25, 0.2))
    out = given.prepare(np.indices((8, 8))[1].astype(np.float32))
    np.testing.assert_allclose(out[:, :, 0].max(1), [-1, -1.6, -1.5], atol=1e-6)
    np.testing.assert_allclose(out[:, :, -1].min(1), [1, 2.4, 3.5], atol=1e-5)
    wide = given.prepare(np.indices((4, 8))[1].astype(np.float32) + 5)
    np.testing.assert_allclose(wide[0, 0], -1, atol=1e-6)  # beyond the picture it is dark
    assert ImageInput.from_card(json.loads(json.dumps(given.as_card()))) == given


def test_what_is_refused():
    model = make_own(length=40)
    for images, question, answers, error, message in (
        ([picture(1)], " ", CLOSED, ConfigError, "question is empty"),
        ([picture(1)], QUESTION, ["left"], ConfigError, "two different answers"),
        ([picture(1)], QUESTION, ["left", "left"], ConfigError, "two different answers"),
        ([picture(1)], QUESTION, ["left", " "], ConfigError, "none of them empty"),
        ([picture(1)] * 3, QUESTION, CLOSED, ConfigError, "the model reads 40"),
        ([picture(1) * 0], QUESTION, CLOSED, PixelError, "flat"),
        ([picture(1) * np.nan], QUESTION, CLOSED, PixelError, "not finite"),
    ):
        with pytest.raises(error, match=message):
            model.score(images, question, answers)
    with pytest.raises(ConfigError, match="places for them"):
        joined(model.net, torch.tensor([[1, 2]]), model.words.image, torch.zeros(1, 16, 24))
    for make in (
        lambda: LanguageSettings(30, width=25),
        lambda: LanguageSettings(0),
        lambda: LanguageSettings.from_card({"kind": "rnn"}),
        lambda: ProjectorSettings(pool=2, queries=2),
        lambda: ProjectorSettings.from_card({"x": 1}),
        lambda: ProjectorSettings(pool=3).tokens((4, 4)),
        lambda: ImageInput((4, 8)),
        lambda: ImageInput((8, 8), 3, (0.5,), (0.5,)),
        lambda: Learning(tower="lora"),
        lambda: build_multimodal({"kind": "aligned"}),
    ):
        with pytest.raises(ConfigError):
            make()
    with pytest.raises(WeightsError, match="damaged"):
        read_words(b"{}")


def test_side_is_what_the_cases_say():
    assert make_own().image_input.size == (SIDE, SIDE)


def test_images_go_in_with_columns_to_the_patients_left_and_volumes_axial():
    array = np.arange(2 * 3 * 4, dtype=np.float32).reshape(1, 2, 3, 4)
    axial = Geometry.axial((2, 3, 4), spacing_mm=(2.5, 0.8, 0.7), origin_mm=(1, 2, 3))
    straight = Image(array, axial)
    np.testing.assert_array_equal(array_of(straight, 3), array[0])
    turned = Geometry(
        (2, 3, 4), axial.affine @ np.array([[1.0, 0, 0, 0], [0, 1, 0, 0], [0, 0, -1, 3], [0, 0, 0, 1]])
    )  # the same voxels, columns stored from left to right
    mirrored = Image(np.ascontiguousarray(array[..., ::-1]), turned)
    assert mirrored.geometry.orientation[2] == "R"
    np.testing.assert_array_equal(array_of(mirrored, 3), array[0])
    film = Geometry((1, 3, 4), None, patient_orientation=("R", "F"))
    np.testing.assert_array_equal(array_of(Image(array[:, :1], film), 2), array[0, 0, :, ::-1])
    unknown = Image(array[:, :1], replace(film, patient_orientation=("", "")))
    np.testing.assert_array_equal(array_of(unknown, 2), array[0, 0])
    negative = replace(unknown, meta={"PhotometricInterpretation": "MONOCHROME1"})
    np.testing.assert_array_equal(array_of(negative, 2), -array[0, 0])
    with pytest.raises(PixelError, match="sees planes, this image has 2"):
        array_of(straight, 2)
    with pytest.raises(PixelError, match="a single plane"):
        array_of(Image(array[:, :1], film), 3)


_AXES = {"L": (1, 0, 0), "P": (0, 1, 0), "S": (0, 0, 1), "R": (-1, 0, 0), "A": (0, -1, 0), "I": (0, 0, -1)}


def lying(rows: str, columns: str, across: str) -> Image:
    """Return one plane whose axes run towards these letters; its values say where in the patient a voxel is."""
    geometry = Geometry.from_directions(
        (1, 3, 4),
        np.transpose([_AXES[across], _AXES[rows], _AXES[columns]]),
        spacing_mm=(2.5, 0.8, 0.8),
        origin_mm=(0, 0, 0),
    )
    at, array = np.indices((3, 4), dtype=np.float32), np.zeros((3, 4), np.float32)
    for told, steps, weight in ((rows, at[0], 10), (columns, at[1], 1)):
        array += weight * (steps if told in "LPS" else steps.max() - steps)
    image = Image(array[None, None], geometry)
    assert image.geometry.orientation == across + rows + columns
    return image


@pytest.mark.parametrize(
    ("rows", "columns", "across"), [("P", "L", "S"), ("I", "L", "A"), ("I", "P", "L")], ids=["axial", "front", "side"]
)
def test_a_plane_goes_in_alike_however_it_is_stored_and_turned_ones_are_refused(rows, columns, across):
    other = {"L": "R", "P": "A", "S": "I", "R": "L", "A": "P", "I": "S"}
    hung = lying(rows, columns, across)
    expected = hung.array[0, 0]
    for flipped_rows in (rows, other[rows]):
        for flipped_columns in (columns, other[columns]):
            for flipped_across in (across, other[across]):
                stored = lying(flipped_rows, flipped_columns, flipped_across)
                np.testing.assert_array_equal(array_of(stored, 2), expected)
    with pytest.raises(PixelError, match=r"lies turned: .* transpose it"):
        array_of(lying(columns, rows, across), 2)


def test_films_are_turned_by_what_they_say():
    array = np.arange(12, dtype=np.float32).reshape(1, 1, 3, 4)
    plane = array[0, 0]
    for told, expected in (
        (("L", "F"), plane),
        (("R", "H"), plane[::-1, ::-1]),
        (("L", "H"), plane[::-1]),
        (("A", "F"), plane),  # a lateral film or a breast hangs either way
        (("P", "R"), plane),
        (("A", "H"), plane[::-1]),
        (("L", ""), plane),
        (("R", ""), plane[:, ::-1]),
    ):
        film = Image(array, Geometry((1, 3, 4), None, patient_orientation=told))
        np.testing.assert_array_equal(array_of(film, 2), expected)
    with pytest.raises(PixelError, match="lies turned"):
        array_of(Image(array, Geometry((1, 3, 4), None, patient_orientation=("F", "L"))), 2)
