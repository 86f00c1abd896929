"""How good the interactive network is on synthesis that it never trains on: after clicks, and after examples alone."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float

from isocenter.evaluate.interactive_user import centre_of_largest_error
from isocenter.learn.interactive_samples import SampleSettings
from isocenter.models.interactive.inputs import PICTURE_CHANNELS, Canvas, Picture, encode_prompts, normalise_window
from isocenter.models.interactive.network import Examples, Features, InteractiveNet
from isocenter.synth import synthesise, synthesise_set
from isocenter.synth.volume import synthesise_volume, synthesise_volumes

__all__ = ["COLUMNS", "answers_by_clicks", "held_out", "validate"]

COLUMNS = ("step", "dice_1", "dice_3", "dice_5", "best_1", "quality_error", "examples_1", "examples_4")
_SEED_OFFSET = 1
_PIXELS = {2: 96, 3: 48}
_CHUNK = {2: 16, 3: 4}

Shown = tuple[Picture, Bool[np.ndarray, "*space"]]


def _dice(answer: Bool[np.ndarray, "*space"], truth: Bool[np.ndarray, "*space"]) -> float:
    return 2 * float((answer & truth).sum()) / max(1.0, float(answer.sum() + truth.sum()))


def _deep(mask: Bool[np.ndarray, "*space"]) -> Bool[np.ndarray, "z y x"]:
    """Return a plane as a volume of one slice, a volume as it is."""
    return mask[None] if mask.ndim == 2 else mask


def _answer(
    net: InteractiveNet, shown: list[Shown], canvases: list[Canvas], examples: list[list[Shown]] | None
) -> tuple[Float[np.ndarray, "n k *space"], Float[np.ndarray, "n k"]]:
    pictures = [p for p, _ in shown]
    inputs = torch.from_numpy(
        np.concatenate([np.stack([p.channels() for p in pictures]), encode_prompts(pictures, canvases)], axis=1)
    )
    with torch.inference_mode():
        features = net.encode(inputs[:, :PICTURE_CHANNELS])
        memory: Examples | None = None
        if examples is not None:
            flat = [(owner, *pair) for owner, pairs in enumerate(examples) for pair in pairs]
            levels: Features = net.encode(torch.from_numpy(np.stack([p.channels() for _, p, _ in flat])))
            masks = torch.from_numpy(np.stack([m for _, _, m in flat]).astype(np.float32))
            memory = net.remember(levels, masks, torch.tensor([o for o, _, _ in flat]), len(shown))
        answer = net.answer(features, inputs, memory)
        return torch.sigmoid(answer.logits).numpy(), torch.sigmoid(answer.quality).numpy()


def _shown(seed: int, index: int, dims: int) -> Shown:
    if dims == 2:
        sample = synthesise(seed, index, pixels=_PIXELS[2])
        return Picture.of(normalise_window(sample.image[0])), sample.target[0]
    volume = synthesise_volume(seed, index, voxels=_PIXELS[3])
    return Picture.of(normalise_window(volume.image)), volume.target


def _shown_set(seed: int, index: int, dims: int) -> list[Shown]:
    if dims == 2:
        flat = synthesise_set(seed, index, 5, pixels=_PIXELS[2])
        return [(Picture.of(normalise_window(m.image[0])), m.target[0]) for m in flat]
    deep = synthesise_volumes(seed, index, 5, voxels=_PIXELS[3])
    return [(Picture.of(normalise_window(m.image)), m.target) for m in deep]


def answers_by_clicks(
    net: InteractiveNet, shown: list[Shown], clicks: int
) -> Iterator[tuple[Float[np.ndarray, "n k *space"], Float[np.ndarray, "n k"]]]:
    """Click at the centre of the largest error, again and again; yield probabilities and expected IoU after each click.

    Args:
        net: In evaluation mode.
        shown: Pictures with what is to be found in them, all of one size.
        clicks: How many.
    """
    shape = shown[0][1].shape
    canvases, answers = [Canvas.empty(*shape) for _ in shown], [np.zeros(shape, dtype=bool) for _ in shown]
    for _ in range(clicks):
        for i, (answer, (_, truth)) in enumerate(zip(answers, shown, strict=True)):
            click = centre_of_largest_error(_deep(truth), _deep(answer))
            if click is not None:
                where = tuple(float(c) for c in click.index_zyx[0, -truth.ndim :])
                canvases[i] = canvases[i].with_ball(where, positive=click.positive)
        probability, quality = _answer(net, shown, canvases, None)
        yield probability, quality
        answers = [p[0] >= 0.5 for p in probability]
        canvases = [replace(c, previous=p[0]) for c, p in zip(canvases, probability, strict=True)]


def _by_clicks(net: InteractiveNet, shown: list[Shown], found: dict[str, list[float]]) -> None:
    truths = [truth for _, truth in shown]
    for clicks, (probability, quality) in enumerate(answers_by_clicks(net, shown, 5), start=1):
        reached = [_dice(p[0] >= 0.5, t) for p, t in zip(probability, truths, strict=True)]
        if clicks in (1, 3, 5):
            found[f"dice_{clicks}"] += reached
        if clicks == 1:
            found["best_1"] += [
                max(_dice(one >= 0.5, t) for one in p) for p, t in zip(probability, truths, strict=True)
            ]
        found["quality_error"] += [abs(float(q[0]) - d / (2 - d)) for q, d in zip(quality, reached, strict=True)]


def held_out(seed: int, dims: int, first: int, last: int) -> Iterator[list[Shown]]:
    """Yield synthetic pictures of the stream that validation uses, in chunks.

    Args:
        seed: Of the training.
        dims: 2 for planes, 3 for volumes.
        first: First sample.
        last: One past the last.
    """
    for start in range(first, last, _CHUNK[dims]):
        yield [_shown(seed + _SEED_OFFSET, i, dims) for i in range(start, min(start + _CHUNK[dims], last))]


def validate(net: InteractiveNet, seed: int, settings: SampleSettings, samples: int) -> dict[str, float]:
    """Return mean Dice after 1, 3 and 5 clicks, the best of the first answers, and Dice after examples alone.

    Args:
        net: In evaluation mode.
        seed: Of the training; validation uses another stream.
        settings: What the training's samples are made of.
        samples: How many; examples are tried on a quarter of it.
    """
    dims = settings.dims
    found: dict[str, list[float]] = {name: [] for name in COLUMNS[1:]}
    for shown in held_out(seed, dims, 0, samples):
        _by_clicks(net, shown, found)
    if settings.examples > 0:
        for index in range(max(2, samples // 4)):
            query, *others = _shown_set(seed + _SEED_OFFSET, index, dims)
            for count in (1, 4):
                blank = [Canvas.empty(*query[1].shape)]
                probability, _ = _answer(net, [query], blank, [others[:count]])
                found[f"examples_{count}"].append(_dice(probability[0, 0] >= 0.5, query[1]))
    return {name: float(np.mean(values)) if values else float("nan") for name, values in found.items()}
