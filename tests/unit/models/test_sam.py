"""SAM and SAM 2 behind the harness's door, on tiny random weights that are made on the spot."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from isocenter.core.errors import CapabilityError, ConfigError, GeometryError, ModelError, PixelError, WeightsError
from isocenter.evaluate.interactive import Case, Interaction, Segmenter, run_session
from isocenter.evaluate.interactive_user import Act, BoxUser, CentreClicks, Scribbler
from isocenter.models.sam import SamInteraction, SamSegmenter
from isocenter.models.sam.folder import SamNetwork
from isocenter.models.sam.preparation import Preparation, preparation_for, window
from isocenter.models.sam.prompts import MOST_POINTS, spread

ROOT = Path(__file__).resolve().parents[3]
KINDS = ("sam", "sam2", "sam2_video")
SIZE = 64
SHAPE = (40, 56)
DECODER = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
PROMPTS = {"hidden_size": 16, "image_size": SIZE, "mask_input_channels": 8}


def save(model, folder: Path) -> None:
    """Save a network with weights large enough for its answers to differ from voxel to voxel."""
    from transformers.utils import logging

    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.2)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    logging.enable_progress_bar()


def make_sam(folder: Path) -> None:
    from transformers import SamConfig, SamModel

    vision = {"hidden_size": 16, "output_channels": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "mlp_dim": 32}
    vision |= {"image_size": SIZE, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1], "num_pos_feats": 8}
    prompts = {**PROMPTS, "patch_size": 8}
    config = SamConfig(vision_config=vision, prompt_encoder_config=prompts, mask_decoder_config=DECODER)
    save(SamModel(config), folder)


def make_sam2(folder: Path, kind: str) -> None:
    import transformers

    backbone = {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SIZE, SIZE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [4, 4, 4, 2],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [2, 2],
    }
    vision = {
        "model_type": "sam2_vision_model",
        "backbone_config": backbone,
        "backbone_channel_list": [64, 32, 16, 8],
        "backbone_feature_sizes": [[16, 16], [8, 8], [4, 4]],
        "fpn_hidden_size": 16,
    }
    memory = {
        "memory_attention_hidden_size": 16,
        "memory_attention_feed_forward_hidden_size": 16,
        "memory_encoder_hidden_size": 16,
        "memory_encoder_output_channels": 8,
        "mask_downsampler_embed_dim": 16,
        "memory_fuser_embed_dim": 16,
        "memory_fuser_intermediate_dim": 16,
    }
    name = {"sam2": "Sam2", "sam2_video": "Sam2Video"}[kind]
    config = getattr(transformers, f"{name}Config")(
        vision_config=vision,
        prompt_encoder_config={**PROMPTS, "patch_size": 16},
        mask_decoder_config=DECODER,
        **(memory if kind == "sam2_video" else {}),
    )
    save(getattr(transformers, f"{name}Model")(config), folder)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One folder of each kind that Hugging Face writes."""
    found = {}
    for kind in KINDS:
        torch.manual_seed(3)
        found[kind] = tmp_path_factory.mktemp("weights") / f"tiny-{kind}"
        make_sam(found[kind]) if kind == "sam" else make_sam2(found[kind], kind)
    return found


@pytest.fixture
def folder(folders: dict[str, Path], tmp_path: Path) -> Path:
    """A copy of the SAM folder that a test may spoil."""
    return Path(shutil.copytree(folders["sam"], tmp_path / "copy"))


@pytest.fixture(scope="module")
def case() -> Case:
    """A volume of three slices, every voxel different, in a range that no picture has."""
    rng = np.random.default_rng(5)
    target = np.zeros((3, *SHAPE), dtype=bool)
    target[1, 8:20, 30:50] = True
    image = rng.normal(-700.0, 30.0, target.shape) + 400.0 * target
    return Case("ellipse", "tiny", "CT", "nobody", image.astype(np.float32), target)


def click(z: float, y: float, x: float, positive: bool = True) -> Act:
    return Act("point", np.array([[z, y, x]], dtype=np.float64), positive)


# Through the harness


@pytest.mark.parametrize("kind", KINDS)
def test_it_runs_through_the_harness(kind: str, folders: dict[str, Path], case: Case, socket_disabled: None) -> None:
    segmenter = SamSegmenter(folders[kind])
    assert isinstance(segmenter, Segmenter)
    assert isinstance(segmenter.begin(case.image), Interaction)
    assert segmenter.name == f"tiny-{kind}"
    for user in (CentreClicks(), BoxUser(then=CentreClicks()), Scribbler()):
        result = run_session(segmenter, case, user, 4)
        again = run_session(SamSegmenter(folders[kind]), case, user, 4)
        assert result.dice == again.dice
        assert len(result.acts) == 4
    plane = Case("plane", "tiny", "CT", "nobody", case.image[1:2], case.target[1:2])
    assert run_session(segmenter, plane, CentreClicks(), 2).shape == (1, *SHAPE)


@pytest.mark.parametrize("kind", KINDS)
def test_the_answer_is_the_network_s_own(kind: str, folders: dict[str, Path], case: Case) -> None:
    """The first answer against the same network called as its authors do, with the exact place of the click."""
    segmenter = SamSegmenter(folders[kind], name="mine")
    said = segmenter.begin(case.image).act(click(1, 13, 40))
    assert said.dtype == np.float32
    assert said.shape == case.image.shape
    assert not said[[0, 2]].any()
    assert len(np.unique(said[1])) > 100
    pixels = segmenter.preparation.pixels(window(case.image)[1])
    height, width = (46, 64) if kind == "sam" else (64, 64)
    place = [(40.5 * width / 56) - 0.5, (13.5 * height / 40) - 0.5]
    with torch.no_grad():
        out = segmenter.network.model(
            pixel_values=pixels,
            input_points=torch.tensor([[[place]]]),
            input_labels=torch.tensor([[[1]]]),
            multimask_output=True,
        )
    assert out.pred_masks.shape[2] == 3
    best = out.pred_masks[:, :, int(out.iou_scores.argmax())]
    if kind == "sam":
        best = torch.nn.functional.interpolate(best, (64, 64), mode="bilinear")[..., :46, :]
    wanted = torch.sigmoid(torch.nn.functional.interpolate(best, SHAPE, mode="bilinear"))[0, 0]
    np.testing.assert_allclose(said[1], wanted.numpy(), atol=1e-5)


class Told(SamNetwork):
    """Answers with discs round positive points, so that places can be followed; keeps what it was told."""

    def __init__(self, radius: float, resolution: int = 256) -> None:
        self.calls: list[tuple] = []
        self.encoded = 0
        self.radius, self.resolution = radius, resolution

    def encode(self, pixels: torch.Tensor) -> object:
        self.encoded += 1
        self.size = pixels.shape[-1]
        return pixels

    def decode(self, embedding, points, box, mask):
        self.calls.append((points, box, mask))
        cell = self.size / self.resolution
        place = (torch.arange(self.resolution) + 0.5) * cell - 0.5
        logits = torch.full((self.resolution, self.resolution), -1.0)
        for x, y in points[0][points[1] == 1] if points else []:
            logits = torch.maximum(logits, 1 - torch.hypot(place[None] - x, place[:, None] - y) / self.radius)
        return logits[None, None], logits[None, None] + len(self.calls)


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("place", [(20, 32), (11, 9), (30, 57)])
def test_a_click_goes_there_and_back_to_the_same_voxel(square: bool, place: tuple[int, int]) -> None:
    """The centre of a disc that the network draws round the point lies on the voxel that was clicked."""
    image = np.random.default_rng(1).normal(size=(1, 40, 64)).astype(np.float32)
    network = Told(radius=96.0)
    said = SamInteraction(network, Preparation(1024, square), image).act(click(0, *place))
    inside = np.argwhere(said[0] >= 0.5)
    np.testing.assert_allclose(inside.mean(axis=0), place, atol=0.1)
    expected = (1024 / 40 if square else 16, 16)
    half = (np.ptp(inside, axis=0) + 1) / 2 * expected
    np.testing.assert_allclose(half, 96.0, atol=16)


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_the_prompt_encoder_gets_exact_places(kind: str, folders: dict[str, Path]) -> None:
    """Voxel i of n is at (i + 0.5) / n of the picture's side, as the network's own encoding counts from 0 to 1."""
    segmenter = SamSegmenter(folders[kind])
    seen: list[torch.Tensor] = []
    embedding = segmenter.network.model.prompt_encoder.shared_embedding
    hook = embedding.register_forward_pre_hook(lambda module, given: seen.append(given[0] / SIZE))
    image = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype(np.float32)
    interaction = segmenter.begin(image)
    interaction.act(click(0, 7, 50))
    interaction.act(click(0, 39, 0, positive=False))
    interaction.act(Act("box", np.array([[0.0, 31, 3], [0, 10, 20]])))
    hook.remove()
    part = 46 / 64 if kind == "sam" else 1.0  # the share of the picture's height that the slice takes
    first, second = [50.5 / 56, 7.5 / 40 * part], [0.5 / 56, 39.5 / 40 * part]
    np.testing.assert_allclose(seen[0][0, 0, 0], first, rtol=1e-6)
    np.testing.assert_allclose(seen[1][0, 0, :2], [first, second], rtol=1e-6)
    np.testing.assert_allclose(seen[2][0, 0, :2], [first, second], rtol=1e-6)
    edge = 0.5 / SIZE  # a box names the middle of its first and last pixel
    corners = [[3 / 56 + edge, 10 / 40 * part + edge], [21 / 56 - edge, 32 / 40 * part - edge]]
    np.testing.assert_allclose(seen[3][0, 0, :2], corners, rtol=1e-6)


def test_the_box_is_that_of_the_same_mask_in_the_picture() -> None:
    mask = np.zeros((40, 64), dtype=np.float32)
    mask[10:20, 3:5] = 255.0
    preparation = Preparation(1024, False, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    inside = np.argwhere(preparation.pixels(mask)[0, 0].numpy() >= 0.5)
    box = preparation.box(np.array([[10.0, 3.0], [19.0, 4.0]]), (40, 64))
    np.testing.assert_array_equal(box, [*inside.min(axis=0)[::-1], *inside.max(axis=0)[::-1]])


def test_a_box_below_one_pixel_keeps_its_order() -> None:
    box = Preparation(64, True).box(np.array([[300.0, 300.0], [300.0, 300.0]]), (640, 640))
    assert box.tolist() == [29.55, 29.55, 29.55, 29.55]


# The recipe


def test_each_act_is_answered_from_all_before_it() -> None:
    network = Told(radius=20.0)
    image = np.random.default_rng(1).normal(size=(4, 40, 64)).astype(np.float32)
    interaction = SamInteraction(network, Preparation(1024, False), image)
    assert network.encoded == 0
    interaction.act(click(2, 5, 5, positive=False))
    assert not network.calls
    interaction.act(click(2, 20, 30))
    interaction.act(click(2, 25, 31))
    said = interaction.act(Act("box", np.array([[1.0, 3, 4], [2, 30, 60]])))
    assert network.encoded == 2
    signs = [points[1].tolist() if points else None for points, _, _ in network.calls]
    assert signs == [[0, 1], [0, 1, 1], None, [0, 1, 1]]
    assert [box is not None for _, box, _ in network.calls] == [False, False, True, True]
    before = [
        None if mask is None else round(float(mask.max()) - number) for number, (_, _, mask) in enumerate(network.calls)
    ]
    assert before == [None, 1, None, 0], "each slice gets its own last logits"
    assert said[[1, 2]].all()
    assert not said[[0, 3]].any()
    again = interaction.act(click(9, 20, 30))
    np.testing.assert_array_equal(again, said)
    assert again is not said


def test_only_a_first_single_point_has_three_answers(folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    segmenter = SamSegmenter(folders["sam"])
    asked: list[tuple[bool, bool]] = []
    forward = segmenter.network.model.forward

    def listen(**given):
        asked.append((given["multimask_output"], given["input_masks"] is not None))
        return forward(**given)

    monkeypatch.setattr(segmenter.network.model, "forward", listen)
    image = np.random.default_rng(1).normal(size=(1, *SHAPE)).astype(np.float32)
    interaction = segmenter.begin(image)
    interaction.act(click(0, 7, 50))
    interaction.act(click(0, 9, 50))
    segmenter.begin(image).act(Act("box", np.array([[0.0, 3, 4], [0, 30, 40]])))
    segmenter.begin(image).act(Act("scribble", np.array([[0.0, 3, 4], [0, 30, 40]])))
    assert asked == [(True, False), (False, True), (False, False), (False, False)]


def test_encoded_slices_are_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("isocenter.models.sam.segmenter.KEPT_SLICES", 2)
    network = Told(radius=20.0)
    interaction = SamInteraction(network, Preparation(1024, False), np.zeros((3, 4, 5), dtype=np.float32))
    for z in (0, 1, 0, 2, 0, 1):
        interaction.act(click(z, 1, 1))
    assert network.encoded == 4


# Acts


def test_a_scribble_becomes_evenly_spaced_points() -> None:
    path = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 11.0], [1.0, 18.0, 11.0]])
    said = spread(Act("scribble", path, False), (3, 20, 20))
    assert set(said) == {1}
    points = said[1].points_yx
    assert len(points) == MOST_POINTS
    assert not said[1].positive.any()
    np.testing.assert_allclose(np.abs(np.diff(points, axis=0)).sum(axis=1), 3.0, atol=0.26)
    np.testing.assert_allclose(points[0], [2.0, 4.5], atol=0.26)
    short = spread(Act("scribble", np.array([[0.0, 5, 5], [0, 5, 7.5]])), (3, 20, 20))[0].points_yx
    assert len(short) == 3
    assert spread(Act("scribble", np.array([[0.0, 5, 5]])), (3, 20, 20))[0].points_yx.tolist() == [[5.0, 5.0]]


def test_a_scribble_through_slices_speaks_in_each() -> None:
    said = spread(Act("scribble", np.array([[-5.0, 5, 5], [12.0, 5, 5]])), (4, 20, 20))
    assert sorted(said) == [0, 1, 2, 3]


def test_a_lasso_becomes_points_well_inside_it() -> None:
    lasso = np.array([[2.0, 2, 2], [2, 2, 17], [2, 13, 17], [2, 13, 2]])
    said = spread(Act("lasso", lasso), (3, 20, 20))
    assert set(said) == {2}
    points = said[2].points_yx
    assert len(np.unique(points, axis=0)) == MOST_POINTS
    assert points.min(axis=0).tolist() >= [4, 4]
    assert points.max(axis=0).tolist() <= [11, 15]
    thin = spread(Act("lasso", np.array([[0.0, 2.2, 2], [0, 2.4, 9], [0, 2.6, 2]])), (3, 20, 20))[0].points_yx
    assert thin.tolist() == [pytest.approx([2.4, 13 / 3])]


def test_boxes_and_what_lies_outside() -> None:
    corners = np.array([[3.0, 9.0, -4.0], [1.0, 2.0, 99.0]])
    said = spread(Act("box", corners), (3, 20, 20))
    assert sorted(said) == [1, 2]
    assert said[1].box_yx is not None
    assert said[1].box_yx.tolist() == [[2.0, 0.0], [9.0, 19.0]]
    against = spread(Act("box", np.array([[0.0, 2, 4], [0, 9, 8]]), False), (3, 20, 20))[0]
    assert against.box_yx is None
    assert (against.points_yx.tolist(), against.positive.tolist()) == ([[5.5, 6.0]], [False])
    assert spread(click(7, 3, 3), (3, 20, 20)) == {}
    assert spread(click(0, -3, 30), (3, 20, 20))[0].points_yx.tolist() == [[0.0, 19.0]]


def test_an_unknown_act_is_refused() -> None:
    class Whisper:
        kind, index_zyx, positive = "whisper", np.zeros((1, 3)), True

    with pytest.raises(CapabilityError, match="whisper"):
        spread(Whisper(), (1, 2, 3))


# Pictures


def test_pictures_are_those_of_sam_s_own_processor() -> None:
    """Up to the rounding to whole grey levels that the processor does."""
    from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil

    processor = SamImageProcessorPil(size={"longest_edge": 96}, pad_size={"height": 96, "width": 96})
    for shape in ((40, 64), (150, 61), (33, 200)):
        plane = np.random.default_rng(2).integers(0, 256, shape).astype(np.uint8)
        theirs = processor(np.repeat(plane[..., None], 3, axis=2), return_tensors="pt")
        ours = Preparation(96, square=False).pixels(plane.astype(np.float32))
        assert ours.shape == theirs["pixel_values"].shape
        assert float((ours - theirs["pixel_values"]).abs().max()) < 1.01 / 255 / 0.224
        logits = torch.randn(1, 1, 24, 24)
        back = processor.post_process_masks(
            logits[None], theirs["original_sizes"], theirs["reshaped_input_sizes"], binarize=False
        )
        np.testing.assert_allclose(Preparation(96, square=False).back(logits, shape), back[0][0, 0].numpy(), atol=1e-5)


def test_intensities_are_windowed() -> None:
    image = np.linspace(-3000.0, 5000.0, 1001).reshape(1, 1, -1).astype(np.float32)
    said = window(image)
    assert (said.min(), said.max()) == (0.0, 255.0)
    assert (said == 0).sum() == 11
    assert said[0, 0, 500] == pytest.approx(127.5)
    rare = np.zeros((1, 20, 20), dtype=np.float32)
    rare[0, 3, 4] = 7.0
    assert window(rare)[0, 3, 4] == 255.0
    assert not window(np.full((1, 3, 4), 9.0, dtype=np.float32)).any()


def test_the_folder_decides_how_pictures_are_made(folder: Path) -> None:
    assert SamSegmenter(folder).preparation == Preparation(SIZE, square=False)
    said = {"size": {"height": SIZE, "width": SIZE}, "image_mean": [0.5, 0.4, 0.3], "do_rescale": False, "resample": 3}
    (folder / "processor_config.json").write_text(json.dumps({"image_processor": said}), encoding="utf-8")
    mine = SamSegmenter(folder).preparation
    assert mine == Preparation(SIZE, True, (0.5, 0.4, 0.3), factor=1.0, resample="bicubic")
    plain = {"size": {"longest_edge": SIZE}, "pad_size": {"height": SIZE, "width": SIZE}, "do_normalize": False}
    (folder / "preprocessor_config.json").write_text(json.dumps(plain), encoding="utf-8")
    assert SamSegmenter(folder).preparation == Preparation(SIZE, False, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    medsam = SamSegmenter(folder, preparation="medsam").preparation
    pixels = medsam.pixels(window(np.random.default_rng(1).normal(size=(1, *SHAPE)).astype(np.float32))[0])
    assert medsam.square
    assert (float(pixels.min()), float(pixels.max())) == (0.0, 1.0)
    assert SamSegmenter(folder, preparation="sam2").preparation == Preparation(SIZE, square=True)
    with pytest.raises(ConfigError, match="preparation"):
        preparation_for("sam", SIZE, None, "sam3")


@pytest.mark.parametrize(
    "said",
    [
        {"size": {"longest_edge": 1024}},
        {"size": {"longest_edge": SIZE}, "pad_size": {"height": 32, "width": SIZE}},
        {"resample": 0},
        {"image_mean": 0.5},
        {"image_std": [0.1, 0.0, 0.1]},
        {"rescale_factor": "1/255"},
    ],
)
def test_settings_that_do_not_fit_are_refused(said: dict) -> None:
    with pytest.raises(WeightsError, match="the folder"):
        preparation_for("sam", SIZE, said)


# Refusals


def spoil_config(**changes: object) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        path = folder / "config.json"
        config = json.loads(path.read_text("utf-8"))
        path.write_text(json.dumps({**config, **changes}), encoding="utf-8")

    return spoil


def pickle_only(folder: Path) -> None:
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()


def one_left_out(folder: Path) -> None:
    arrays = load_file(folder / "model.safetensors")
    del arrays["mask_decoder.iou_token.weight"]
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})


def another_shape(folder: Path) -> None:
    arrays = load_file(folder / "model.safetensors")
    arrays["mask_decoder.iou_token.weight"] = torch.zeros(1, 17)
    save_file(arrays, folder / "model.safetensors", metadata={"format": "pt"})


def shard(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        index = {"weight_map": {"mask_decoder.iou_token.weight": name}}
        (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")

    return spoil


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


SPOILT = {
    "no folder": (shutil.rmtree, "not a folder on this machine.*Nothing is downloaded"),
    "no config": (lambda f: (f / "config.json").unlink(), "holds no config.json"),
    "config is no JSON": (lambda f: (f / "config.json").write_text("{"), "can't be read as JSON"),
    "config is a list": (lambda f: (f / "config.json").write_text("[]"), "JSON object"),
    "another network": (spoil_config(model_type="llama"), "model_type is 'llama'; what can be run is sam, sam2"),
    "remote code": (spoil_config(auto_map={"AutoModel": "code.Model"}), "code of its own"),
    "adapter": (lambda f: (f / "adapter_config.json").write_text("{}"), "adapter"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "holds no model.safetensors"),
    "pickle only": (pickle_only, r"pickle only \(pytorch_model.bin\)"),
    "shard elsewhere": (shard("../copy/model.safetensors"), "same folder"),
    "shard is a pickle": (shard("model.bin"), "must be safetensors"),
    "shard missing": (shard("model-1.safetensors"), "is missing"),
    "truncated": (truncated, "damaged"),
    "parameter missing": (one_left_out, "don't fill 'mask_decoder.iou_token.weight'"),
    "parameter of another shape": (another_shape, "don't fit together"),
    "config of wrong types": (spoil_config(vision_config={"hidden_size": "much"}), "don't fit together"),
    "sizes that differ": (
        spoil_config(prompt_encoder_config={**PROMPTS, "image_size": 128, "patch_size": 16}),
        "prompts",
    ),
}


@pytest.mark.parametrize("name", SPOILT)
def test_a_folder_that_is_not_right_is_refused(name: str, folder: Path, socket_disabled: None) -> None:
    spoil, message = SPOILT[name]
    spoil(folder)
    with pytest.raises(WeightsError, match=message):
        SamSegmenter(folder)


def test_shards_are_read(folders: dict[str, Path], folder: Path, case: Case) -> None:
    arrays = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    places = {}
    for number, keys in enumerate((sorted(arrays)[::2], sorted(arrays)[1::2]), start=1):
        name = f"model-{number}.safetensors"
        save_file({k: arrays[k] for k in keys}, folder / name, metadata={"format": "pt"})
        places |= dict.fromkeys(keys, name)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}), "utf-8")
    whole, parts = (SamSegmenter(f).begin(case.image).act(click(1, 9, 9)) for f in (folders["sam"], folder))
    np.testing.assert_array_equal(whole, parts)


def test_a_pickle_beside_safetensors_is_not_opened(folder: Path) -> None:
    (folder / "pytorch_model.bin").write_bytes(b"not even a pickle")
    assert SamSegmenter(folder).network.size == SIZE


def test_a_name_on_a_hub_is_not_looked_up(socket_disabled: None) -> None:
    with pytest.raises(WeightsError, match="Nothing is downloaded"):
        SamSegmenter("facebook/sam-vit-base")


def test_without_transformers_it_says_what_to_install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(CapabilityError, match=re.escape("pip install 'isocenter[sam]'")):
        SamSegmenter(folder)


def test_a_device_that_is_not_there_is_refused(folder: Path) -> None:
    with pytest.raises(ModelError, match="device 'meow'"):
        SamSegmenter(folder, device="meow")


def test_loading_is_silent(folders: dict[str, Path], capfd: pytest.CaptureFixture[str]) -> None:
    SamSegmenter(folders["sam2_video"])
    assert capfd.readouterr() == ("", "")


def test_images_that_can_not_be_taken(folders: dict[str, Path]) -> None:
    segmenter = SamSegmenter(folders["sam"])
    with pytest.raises(GeometryError, match="one slice"):
        segmenter.begin(np.zeros((3, 4), dtype=np.float32))
    with pytest.raises(PixelError, match="not finite"):
        segmenter.begin(np.full((1, 3, 4), np.nan, dtype=np.float32))


# The page


def test_the_page_s_example_runs(
    folders: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = (ROOT / "docs" / "how-to" / "compare-with-sam.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    shutil.copytree(folders["sam"], tmp_path / "sam-vit-base")
    monkeypatch.chdir(tmp_path)
    assert blocks
    for block in blocks:
        exec(compile(block, "compare-with-sam.md", "exec"), {})
    assert "sam-vit-base" in capsys.readouterr().out
