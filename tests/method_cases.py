"""Training a tiny case, and how well its embeddings tell the kinds of the toy set apart."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from isocenter.core.errors import ConfigError
from isocenter.data.images import read_picture
from isocenter.learn.method import Stop
from isocenter.learn.pretraining.images import prepare
from isocenter.learn.pretraining.trainer import begun
from isocenter.models.backbones import build_backbone
from isocenter.models.weights import load_weights
from pretraining_cases import METHODS, settings_of

Rows = list[dict[str, float]]


def rows_of(path: Path) -> Rows:
    """Read a table of numbers."""
    with path.open(newline="") as stream:
        return [{k: float(v) for k, v in row.items()} for row in csv.DictReader(stream)]


def trained(name: str, images: Path, out: Path, **changes: Any) -> tuple[Rows, Rows, tuple[Any, Any]]:
    """Train a case; return its tables, and the backbone before and after, the latter from its exported weights."""
    settings = settings_of(name, data=str(images), **changes)
    method = METHODS[settings["method"]]
    config = method.configure(settings)
    method.train(config, out, Stop(), lambda _report: None)
    weights = load_weights(method.export(config, out, command="", machine=""))
    after = build_backbone(weights.card.network)
    after.load_state_dict({k: torch.from_numpy(v) for k, v in weights.arrays.items()})
    before = begun(method.recipe, config).backbone
    return rows_of(out / "steps.csv"), rows_of(out / "validation.csv"), (before.eval(), after.eval())


def linear_probe(backbone: Any, images: Path) -> float:
    """Return the share of pictures whose kind a ridge regression on embeddings of the others tells (leave one out)."""
    args = METHODS["masked"].configure(settings_of("masked"))
    files = sorted(images.glob("*.png"))
    if not files:
        raise ConfigError("no pictures")
    kinds = np.array([int(file.name[5]) for file in files])
    pixels = np.stack([prepare(read_picture(file), args).array[:, 0, 4:36, 4:36] for file in files]).astype(np.float32)
    with torch.no_grad():
        x = backbone.embed(torch.from_numpy(pixels)).double().numpy()
    x = np.c_[(x - x.mean(0)) / (x.std(0) + 1e-9), np.ones(len(x))]
    y = np.eye(3)[kinds]
    right = 0
    for k in range(len(x)):
        others = np.arange(len(x)) != k
        gram = x[others].T @ x[others] + 1.0 * np.eye(x.shape[1])
        right += int(np.argmax(x[k] @ np.linalg.solve(gram, x[others].T @ y[others])) == kinds[k])
    return right / len(x)
