"""Tiny weights of every form that the weight passport knows, made on the spot: random numbers in published forms."""

from __future__ import annotations

import importlib
import json
import pickle
import sys
import types
from pathlib import Path

import pytest
import torch
from torch import nn

SIDE = 32
_VIT = {
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "image_size": SIDE,
    "patch_size": 8,
}
_WORDS = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "intermediate_size": 32,
    "vocab_size": 64,
    "head_dim": 8,
    "max_position_embeddings": 64,
    "tie_word_embeddings": False,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_TEXT = {
    "hidden_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "vocab_size": 64,
    "max_position_embeddings": 16,
    "projection_size": 16,
    "eos_token_id": 2,
    "bos_token_id": 1,
    "pad_token_id": 0,
}
_DECODER = {"hidden_size": 16, "mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
_PROMPTS = {"hidden_size": 16, "image_size": SIDE, "mask_input_channels": 8}
_SAM2_VISION = {
    "model_type": "sam2_vision_model",
    "backbone_config": {
        "model_type": "sam2_hiera_det_model",
        "hidden_size": 8,
        "image_size": [SIDE, SIDE],
        "blocks_per_stage": [1, 1, 2, 1],
        "embed_dim_per_stage": [8, 16, 32, 64],
        "num_attention_heads_per_stage": [1, 2, 4, 8],
        "window_size_per_stage": [4, 4, 2, 1],
        "global_attention_blocks": [3],
        "window_positional_embedding_background_size": [2, 2],
    },
    "backbone_channel_list": [64, 32, 16, 8],
    "backbone_feature_sizes": [[8, 8], [4, 4], [2, 2]],
    "fpn_hidden_size": 16,
}
_SAM2 = {
    "vision_config": _SAM2_VISION,
    "prompt_encoder_config": {**_PROMPTS, "patch_size": 16},
    "mask_decoder_config": _DECODER,
}
_MEMORY = {
    "memory_attention_hidden_size": 16,
    "memory_attention_feed_forward_hidden_size": 16,
    "memory_encoder_hidden_size": 16,
    "memory_encoder_output_channels": 8,
    "mask_downsampler_embed_dim": 16,
    "memory_fuser_embed_dim": 16,
    "memory_fuser_intermediate_dim": 16,
}
_SAM_VISION = {
    "hidden_size": 16,
    "output_channels": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "mlp_dim": 32,
    "image_size": SIDE,
    "patch_size": 8,
    "window_size": 4,
    "global_attn_indexes": [1],
    "num_pos_feats": 8,
}

_EYES = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 32}

HUGGING_FACE = {
    "clip": ("CLIP", "Model", {"text_config": _TEXT, "vision_config": _VIT, "projection_dim": 16}),
    "clip_vision_model": ("CLIPVision", "Model", {**_VIT, "projection_dim": 16}),
    "dinov2": ("Dinov2", "Model", _VIT),
    "dinov2_with_registers": ("Dinov2WithRegisters", "Model", _VIT),
    "dinov3_vit": ("DINOv3ViT", "Model", _VIT),
    "gemma": ("Gemma", "ForCausalLM", _WORDS),
    "gemma2": ("Gemma2", "ForCausalLM", _WORDS),
    "gemma3_text": ("Gemma3", "ForCausalLM", _WORDS),
    "gemma3": (
        "Gemma3",
        "ForConditionalGeneration",
        {
            "text_config": {**_WORDS, "model_type": "gemma3_text"},
            "vision_config": {**_EYES, "image_size": SIDE, "patch_size": 8, "model_type": "siglip_vision_model"},
            "mm_tokens_per_image": 4,
            "image_token_index": 5,
        },
    ),
    "llama": ("Llama", "ForCausalLM", _WORDS),
    "llava": (
        "Llava",
        "ForConditionalGeneration",
        {
            "text_config": {**_WORDS, "model_type": "llama"},
            "vision_config": {**_VIT, "projection_dim": 16, "model_type": "clip_vision_model"},
            "image_token_id": 5,
        },
    ),
    "mistral": ("Mistral", "ForCausalLM", _WORDS),
    "qwen2": ("Qwen2", "ForCausalLM", _WORDS),
    "qwen3": ("Qwen3", "ForCausalLM", _WORDS),
    "sam": (
        "Sam",
        "Model",
        {
            "vision_config": _SAM_VISION,
            "prompt_encoder_config": {**_PROMPTS, "patch_size": 8},
            "mask_decoder_config": _DECODER,
        },
    ),
    "sam2": ("Sam2", "Model", _SAM2),
    "sam2_video": ("Sam2Video", "Model", {**_SAM2, **_MEMORY}),
    "siglip": ("Siglip", "Model", {"text_config": _TEXT, "vision_config": _VIT}),
    "siglip_vision_model": ("SiglipVision", "Model", _VIT),
    "vit": ("ViT", "Model", _VIT),
    "vit_mae": (
        "ViTMAE",
        "ForPreTraining",
        {**_VIT, "decoder_hidden_size": 16, "decoder_num_hidden_layers": 1, "decoder_num_attention_heads": 2,
         "decoder_intermediate_size": 32},
    ),
}  # fmt: skip
"""`model_type` -> start and end of the class that saves it, and its config."""

README = """---
license: apache-2.0
tags: [medical]
---
# Tiny

## Intended uses & limitations

Tests of this package.

### Out-of-Scope Use

Anything with patients.
"""
PICTURES = {
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.485, 0.456, 0.406],
    "image_std": [0.229, 0.224, 0.225],
}


def make_huggingface(folder: Path, kind: str = "dinov2", *, seed: int = 3, **changes: object) -> Path:
    """Save a tiny random network as transformers saves it, with a model card and how pictures are prepared."""
    import transformers
    from transformers.utils import logging

    torch.manual_seed(seed)
    start, end, settings = HUGGING_FACE[kind]
    config = getattr(transformers, f"{start}{'Text' if kind == 'gemma3_text' else ''}Config")
    model = getattr(transformers, start + end)(config(**{**settings, **changes}))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape) * 0.1)
    logging.disable_progress_bar()
    model.save_pretrained(folder)
    logging.enable_progress_bar()
    (folder / "README.md").write_text(README, "utf-8")
    if "Causal" not in end:
        (folder / "preprocessor_config.json").write_text(json.dumps(PICTURES), "utf-8")
    return folder


class StandInUNet(nn.Module):
    """Takes the arguments of MONAI's UNet, so that bundles can be opened where MONAI is not installed."""

    def __init__(
        self, spatial_dims: int, in_channels: int, out_channels: int, channels: tuple[int, ...], strides: object,
        norm: object = "batch", num_res_units: int = 0,
    ) -> None:  # fmt: skip
        super().__init__()
        conv = nn.Conv3d if spatial_dims == 3 else nn.Conv2d
        self.first = conv(in_channels, channels[0], 3, padding=1)
        self.last = conv(channels[0], out_channels, 3, padding=1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.first(x).relu())


class StandInPlainConvUNet(nn.Module):
    """Takes the arguments of nnU-Net's PlainConvUNet; its decoder holds the encoder once more, as the real one does."""

    made_with: dict[str, object] = {}  # noqa: RUF012

    def __init__(self, **arguments: object) -> None:
        super().__init__()
        type(self).made_with = arguments
        conv, width = arguments["conv_op"], arguments["features_per_stage"][0]
        self.encoder = conv(arguments["input_channels"], width, 3, padding=1, bias=arguments["conv_bias"])
        self.decoder = nn.Module()
        self.decoder.encoder = self.encoder
        self.decoder.seg_layers = nn.ModuleList([conv(width, arguments["num_classes"], 1)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.decoder.seg_layers[0](self.encoder(x).relu())


def stand_in(patch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    """Put a module of this name where `import` finds it, and its parents with it."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        patch.setitem(sys.modules, ".".join(parts[:end]), types.ModuleType(".".join(parts[:end])))
    module = importlib.import_module(name)
    for key, value in members.items():
        setattr(module, key, value)


def with_monai(patch: pytest.MonkeyPatch) -> None:
    stand_in(patch, "monai.networks.nets", UNet=StandInUNet)


def with_nnunet(patch: pytest.MonkeyPatch) -> None:
    stand_in(patch, "dynamic_network_architectures.architectures.unet", PlainConvUNet=StandInPlainConvUNet)


BUNDLE = {
    "imports": ["$import glob", "$import os"],
    "bundle_root": ".",
    "dataset_dir": "$os.environ['HOME']",
    "classes": 2,
    "roi": [24, 32, 16],
    "network_def": {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": 1,
        "out_channels": "@classes",
        "channels": [4, 8],
        "strides": "$(2,)",
        "norm": ["INSTANCE", {"affine": True}],
    },
    "network": "$@network_def.to(@device)",
    "preprocessing": {
        "_target_": "Compose",
        "transforms": [
            {"_target_": "Orientationd", "keys": "image", "axcodes": "RAS"},
            {"_target_": "Spacingd", "keys": "image", "pixdim": [1.5, 1.5, 2.0]},
            {"_target_": "ScaleIntensityRanged", "keys": "image", "a_min": -57, "a_max": 500, "b_min": 0.0,
             "b_max": 1.0, "clip": True},
        ],
    },
    "inferer": {"_target_": "SlidingWindowInferer", "roi_size": "@roi"},
}  # fmt: skip
METADATA = {
    "version": "0.1.0",
    "task": "Spleen",
    "intended_use": "Tests only.",
    "network_data_format": {
        "inputs": {
            "image": {
                "type": "image",
                "format": "hounsfield",
                "modality": "CT",
                "num_channels": 1,
                "spatial_shape": ["16*n", "16*n", "16*n"],
                "value_range": [0, 1],
            }
        },
        "outputs": {"pred": {"num_channels": 2, "channel_def": {"0": "background", "1": "spleen"}}},
    },
}


def make_bundle(folder: Path, config: dict | None = None, *, weights: str = "model.pt") -> Path:
    """Write a MONAI bundle whose network is the stand-in."""
    (folder / "configs").mkdir(parents=True)
    (folder / "models").mkdir()
    (folder / "docs").mkdir()
    (folder / "configs" / "metadata.json").write_text(json.dumps(METADATA), "utf-8")
    (folder / "configs" / "inference.json").write_text(json.dumps(config or BUNDLE), "utf-8")
    (folder / "docs" / "license.txt").write_text("\nApache License\nVersion 2.0\n", "utf-8")
    torch.manual_seed(4)
    state = StandInUNet(3, 1, 2, (4, 8), (2,)).state_dict()
    if weights.endswith(".safetensors"):
        from safetensors.torch import save_file

        save_file(state, folder / "models" / weights)
    else:
        torch.save(state, folder / "models" / weights)
    return folder


ARCHITECTURE = {
    "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
    "arch_kwargs": {
        "n_stages": 2,
        "features_per_stage": [4, 8],
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3], [3, 3, 3]],
        "strides": [[1, 1, 1], [2, 2, 2]],
        "n_conv_per_stage": [2, 2],
        "n_conv_per_stage_decoder": [2],
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-05, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    },
    "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
}
OLD_ARCHITECTURE = {
    "UNet_class_name": "PlainConvUNet",
    "UNet_base_num_features": 4,
    "unet_max_num_features": 6,
    "n_conv_per_stage_encoder": [2, 2],
    "n_conv_per_stage_decoder": [2],
    "num_pool_per_axis": [1, 1, 1],
    "pool_op_kernel_sizes": [[1, 1, 1], [2, 2, 2]],
    "conv_kernel_sizes": [[3, 3, 3], [3, 3, 3]],
}
PLANS = {
    "dataset_name": "Dataset009_Spleen",
    "plans_name": "nnUNetPlans",
    "transpose_forward": [0, 1, 2],
    "configurations": {
        "3d_fullres": {
            "patch_size": [16, 24, 32],
            "spacing": [1.5, 0.8, 0.8],
            "normalization_schemes": ["CTNormalization"],
            "use_mask_for_norm": [False],
            "architecture": ARCHITECTURE,
        },
        "3d_bs4": {"batch_size": 4, "inherits_from": "3d_fullres"},
    },
    "foreground_intensity_properties_per_channel": {
        "0": {"max": 1000, "mean": 100.0, "median": 101, "min": -300, "percentile_00_5": -40.0,
              "percentile_99_5": 600.0, "std": 120.0}
    },
}  # fmt: skip
DATASET = {
    "channel_names": {"0": "CT"},
    "labels": {"background": 0, "spleen": 1},
    "file_ending": ".nii.gz",
    "numTraining": 2,
}


def make_nnunet(
    folder: Path, *, configuration: str = "3d_fullres", plans: dict | None = None, dataset: dict | None = None,
    folds: tuple[str, ...] = ("fold_0",),
) -> Path:  # fmt: skip
    """Write a trained nnU-Net v2 folder whose network is the stand-in; its log holds numpy numbers, as theirs do."""
    import numpy as np

    folder.mkdir(parents=True)
    (folder / "plans.json").write_text(json.dumps(plans or PLANS), "utf-8")
    (folder / "dataset.json").write_text(json.dumps(dataset or DATASET), "utf-8")
    for number, fold in enumerate(folds):
        torch.manual_seed(5 + number)
        network = StandInPlainConvUNet(
            conv_op=nn.Conv3d, features_per_stage=[4, 8], input_channels=1, num_classes=2, conv_bias=True
        )
        (folder / fold).mkdir()
        checkpoint = {
            "network_weights": network.state_dict(),
            "optimizer_state": torch.optim.SGD(network.parameters(), 0.1).state_dict(),
            "grad_scaler_state": None,
            "logging": {"mean_fg_dice": [np.float32(0.5), np.float64(0.6)], "lrs": [0.1], "array": np.arange(3)},
            "_best_ema": np.float64(0.55),
            "current_epoch": 1000,
            "init_args": {"plans": plans or PLANS, "configuration": configuration, "fold": 0, "dataset_json": DATASET},
            "trainer_name": "nnUNetTrainer",
            "inference_allowed_mirroring_axes": (0, 1, 2),
        }
        torch.save(checkpoint, folder / fold / "checkpoint_final.pth")
    return folder


class Trap:
    """A pickle that writes a file when it is opened by anything that runs what it says."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, ...]:
        return (Path.touch, (self.target,))


def trap_archive(path: Path, target: Path, inside: dict | None = None) -> None:
    """Write an archive as torch writes it, with a trap among its values."""
    torch.save({**(inside or {}), "trap": Trap(target)}, path)


def springs(path: Path) -> None:
    """Open an archive as one must not: proof that its trap works."""
    torch.load(path, weights_only=False)


def trap_pickle(path: Path, target: Path) -> None:
    """Write a bare pickle with a trap."""
    path.write_bytes(pickle.dumps(Trap(target)))
