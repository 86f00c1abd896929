"""Small sessions of bright discs, confirmed as they are, for the tests of saving and adapting."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from isocenter.core import Geometry, Image, Mask, Segment, Source
from isocenter.models.interactive.network import InteractiveNet, InteractiveSettings
from isocenter.models.weights import save_weights
from isocenter.tasks.interact.engine import Engine
from isocenter.tasks.interact.session import ConfirmedCase, Session

FLAT, DEEP = (1, 56, 64), (4, 40, 44)


def disc(seed: int, shape: tuple[int, int, int] = FLAT, *, modality: str = "MR") -> tuple[Image, np.ndarray]:
    """A bright disc (in a volume, a ball) off the middle, on an oblique grid where there are several planes."""
    rng = np.random.default_rng(seed)
    centre = np.array(shape) * (0.5, 0.35, 0.6) + rng.uniform(-2, 2, 3) * (np.array(shape) > 1)
    axes = np.ogrid[tuple(slice(n) for n in shape)]
    weights = (3.0 if shape[0] > 1 else 0.0, 1.0, 1.0)
    gap = sum((w * (a - c) ** 2 for a, c, w in zip(axes, centre, weights, strict=True)), start=np.zeros(shape))
    inside = np.asarray(gap < 81.0)
    array = np.round(rng.normal(400, 40, shape) + 500 * inside).astype(np.int16)
    geometry = (
        Geometry(shape, pixel_spacing_mm=(0.5, 0.4), patient_orientation=("L", "F"))
        if shape[0] == 1
        else Geometry.axial(shape, spacing_mm=(2.5, 0.8, 0.7), origin_mm=(10, -20, 30), frame_uid="1.2.3")
    )
    source = Source("1.2.826.1", "1.2.826.2", ("1.2.826.3",), sha256="", files=("Zebra^Name.dcm",))
    return Image(array[None], geometry, modality=modality, source=source, meta={"KVP": 80}), inside


def case(seed: int, shape: tuple[int, int, int] = FLAT, *, label: str = "disc", empty: bool = False) -> ConfirmedCase:
    """A confirmed case."""
    image, inside = disc(seed, shape)
    mask = np.where(empty, 0, inside).astype(np.uint16)
    return ConfirmedCase(image, Mask(mask, image.geometry, (Segment(1, label),), image.source), label, seed % 4)


def session(engine: Engine, cases: list[ConfirmedCase], label: str = "disc") -> Session:
    """A session in which these cases were confirmed."""
    made = Session(engine, label)
    for one in cases:
        made.take(one)
    return made


def tiny_weights(folder: Path) -> str:
    """Weights of a network that never learnt anything, as small as can be: for whatever does not depend on them."""
    torch.manual_seed(3)
    shape = InteractiveSettings(widths=(4, 8, 8), prompt_widths=(4, 4, 4), fine=4, blocks=1, memory=4)
    state = InteractiveNet(shape).state_dict()
    fields = {
        "name": "tiny", "version": "1", "title": "Tiny", "licence": "MIT", "network": shape.as_card(),
        "preparation": {"pixels": 32}, "intended_use": "tests", "not_for": "patients", "training_data": [],
        "training": {}, "metrics": [],
    }  # fmt: skip
    save_weights(folder, {k: v.numpy() for k, v in state.items() if v.is_floating_point()}, fields)
    return str(folder / "tiny.safetensors")
