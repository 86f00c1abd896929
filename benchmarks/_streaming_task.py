"""A task of the form that `isocenter adapt --data` writes, with networks of no skill: for time and equality alone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from isocenter.core import Image, TaskCard
from isocenter.models.backbones.residual_unet import ResidualSettings
from isocenter.models.layout import layout
from isocenter.models.learnt import LearntSettings, Preparation, build_learnt
from isocenter.models.orientation import Turned
from isocenter.tasks.segment.adapted.channel import finite_channel
from isocenter.verbs.adapted_folder import card_fields
from isocenter.verbs.learnt_folder import write_learnt

__all__ = ["write_unskilled"]

WIDE = (0.0, 1e6)


def write_unskilled(
    folder: Path,
    image: Image,
    *,
    name: str = "unskilled",
    widths: Sequence[int] = (16, 32, 64, 128),
    window: tuple[int, int, int] = (32, 96, 96),
    spacing_mm: tuple[float, float, float] | None = None,
    mirror: tuple[bool, bool, bool] = (False, False, True),
) -> Path:
    """Write the folder of a task that outlines something in CT, seeded and not trained; return it.

    Args:
        folder: Made.
        image: Whose orientation and layout it takes.
        name: Of the task.
        widths: Of the network's levels.
        window: What it looks at.
        spacing_mm: Of the network's grid; None takes the image's.
        mirror: Axes along which it also looks at the mirror image.
    """
    torch.manual_seed(10)
    levels = len(widths)
    settings = ResidualSettings(
        dims=3, channels_in=1, widths=tuple(widths), blocks=(1,) * levels,
        strides=((1, 1, 1), *((2, 2, 2) for _ in range(levels - 1))),
    )  # fmt: skip
    network = LearntSettings(settings.as_card(), 2, mask=True)
    net = build_learnt(network)
    preparation = Preparation(
        3, 1, image.geometry.orientation, spacing_mm or image.geometry.spacing_mm, "set", (-200.0, 300.0), 20.0, 120.0
    )
    card = TaskCard(
        name, "An outline of no meaning", ("CT",), (), needs_volume=True, needs_spacing=True, prompts=(),
        needs_prompt=False, intended_use="Measuring time.", not_for="Anything else.", licence="Apache-2.0",
        weights=name, requires=("torch", "safetensors"),
    )  # fmt: skip
    turned = finite_channel(image, Turned.to(image.geometry, image.geometry.orientation))[0]
    like = tuple(float(v) for v in layout(turned))
    document = {
        "card": card_fields(card), "kind": "segment", "classes": ("thing",),
        "fit": {
            "planes": "several", "orientation": image.geometry.orientation, "patient_orientation": None,
            "named_side": False, "spacing_mm": (WIDE,) * 3, "extent_mm": (WIDE,) * 3, "aspect": (0.1, 10.0),
            "layouts": (like, like), "least_likeness": -1.0,
        },
        "preparation": preparation.as_card(), "network": network.as_card(), "window": window, "mirror": mirror,
        "scales": [(0.0, 1.0)], "shifts": [()], "promise": {}, "ungated": "networks of no skill",
    }  # fmt: skip
    fields = {
        "name": f"{name}-0", "version": "1", "title": "No skill", "licence": "Apache-2.0",
        "network": network.as_card(), "intended_use": "Measuring time.", "not_for": "Anything else.",
        "training_data": [], "training": {"command": "none", "seed": 10}, "metrics": [],
    }  # fmt: skip
    folder.mkdir(parents=True)
    arrays = {k: v.numpy() for k, v in net.state_dict().items() if v.dtype == torch.float32}
    config = {"data": {"cases": [{"sha256": "0" * 64}]}}
    write_learnt(folder, document, members=[(arrays, fields)], held_out=[], config=config)
    return folder
