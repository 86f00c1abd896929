"""The gate of an automatic task: which prepared images are like those that it learnt from.

It looks at numbers that need no network (`safety.descriptors`), so the weights stay as they are. Changed copies of each
image (turned a little, moved, other contrast and grain) stand in the reference beside it for places and scanners that
the sets lack. The limit comes from images that were left out: by source where there are several, else by patient, and
then it is copies that are judged, because images of one hospital say nothing of another.

    python -m isocenter.learn.automatic_gate configs/gate-lungs-cxr.yaml --data COVID NIH --publish WEIGHTS
"""

from __future__ import annotations

import argparse
import hashlib
import io
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import yaml
from jaxtyping import Float
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core.errors import ConfigError
from isocenter.learn.automatic_augment import Augmentation, augment
from isocenter.learn.automatic_card import gate_sets
from isocenter.learn.automatic_data import Case, folds_by_group, load_hippocampus, load_lungs, load_nih
from isocenter.models.preparation import Letterbox, normalise
from isocenter.models.weights import GATE_SUFFIX, GateCard, TrainingSet, WeightsCard, publish_card, read_card
from isocenter.safety.descriptors import descriptors
from isocenter.safety.gate import Features, Gate
from isocenter.safety.left_out import Known, fit_gate_left_out, readings_left_out

__all__ = ["GateConfig", "Seen", "fit", "load_seen", "main", "own_refused", "read_gate_config", "sources_refused"]

_FOLDS = 5
_LARGE_COVID = "10.6084/m9.figshare.12275009"
_log = logging.getLogger(__name__)


class GateConfig(BaseModel):
    """How a gate is fitted.

    Attributes:
        name: Name of the weights that it stands before.
        data: Which sets are read.
        seed: Decides copies and folds.
        window: Shape of the square of pictures, or of half of the copies of volumes.
        blocks: Which numbers of an image are looked at.
        augmentation: Ranges of the changed copies.
        copies: Of each image, by set.
        left_out: What is left out together, and so what the limit speaks of.
        refused_share: Share of left-out images that the limit refuses.
        looser: By block, how many times wider its scale is than the sources at hand say.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    data: Literal["lungs", "hippocampus"]
    seed: int
    window: tuple[int, ...]
    blocks: tuple[Literal["layout", "values", "texture"], ...] = Field(min_length=1)
    augmentation: Augmentation
    copies: dict[str, int]
    left_out: Literal["source", "patient"]
    refused_share: float = Field(gt=0, lt=1)
    looser: dict[str, float] = Field(default_factory=dict)


def read_gate_config(file: Path) -> GateConfig:
    """Read and check a configuration.

    Raises:
        ConfigError: A setting is missing, unknown or out of range.
    """
    try:
        return GateConfig.model_validate(yaml.safe_load(file.read_text(encoding="utf-8")))
    except (ValidationError, yaml.YAMLError) as error:
        raise ConfigError(f"{file.name}: {error}") from error


@dataclass(frozen=True, eq=False)
class Seen:
    """An image of the sets.

    Args:
        case: The image.
        set_name: Of which set.
        source: Where it comes from: a hospital, or several that are few.
    """

    case: Case
    set_name: str
    source: str


def load_seen(config: GateConfig, folders: Sequence[Path]) -> list[Seen]:
    """Read the images that the gate may know.

    Args:
        config: The configuration.
        folders: Of the labelled set; for lungs also of the NIH X-rays.

    Raises:
        ConfigError: Another number of folders than sets.
        DataError: A folder does not hold its set.
    """
    wanted = 2 if config.data == "lungs" else 1
    if len(folders) != wanted:
        raise ConfigError(f"{config.name} needs {wanted} folders of data, got {len(folders)}")
    if config.data == "hippocampus":
        return [Seen(case, "hippocampus", "Vanderbilt University") for case in load_hippocampus(folders[0])]
    large = "Hannover (COVID-19 Image Repository)"
    return [
        *(Seen(c, "covid", large if c.source == _LARGE_COVID else "other reports") for c in load_lungs(folders[0])),
        *(Seen(c, "nih", "NIH ChestX-ray14") for c in load_nih(folders[1])),
    ]


def prepared_of(case: Case, config: GateConfig) -> Float[np.ndarray, "*space"]:
    """Return what the task would hand to its network."""
    if len(config.window) == 3:
        return normalise(case.image)
    return Letterbox(case.image.shape[0], case.image.shape[1], config.window[0]).forward(normalise(case.image))


def _features(image: Float[np.ndarray, "*space"], config: GateConfig) -> dict[str, np.ndarray]:
    found = descriptors(image[None])
    return {name: found[name] for name in config.blocks}


def known_of(seen: Sequence[Seen], config: GateConfig) -> tuple[list[Known], list[Features]]:
    """Return images and their copies as the gate takes them, and the features of the images alone."""
    folds = folds_by_group([one.case.group for one in seen], _FOLDS, config.seed)
    known: list[Known] = []
    plain: list[Features] = []
    for number, (one, fold) in enumerate(zip(seen, folds, strict=True)):
        image = prepared_of(one.case, config)
        part = one.source if config.left_out == "source" else f"fold {fold}"
        plain.append(_features(image, config))
        known.append(Known(plain[-1], part, one.source, judged=config.left_out == "source"))
        nothing = np.zeros(image.shape, dtype=np.int64)
        for copy in range(config.copies[one.set_name]):
            # Of volumes every second copy is as large as its image: crops come in many sizes.
            window = image.shape if len(config.window) == 3 and copy % 2 else config.window
            rng = np.random.default_rng((config.seed, number, copy))
            changed, _ = augment(image, nothing, window, config.augmentation, rng)
            judged = config.left_out == "patient"
            known.append(Known(_features(changed, config), part, one.source, judged=judged))
    return known, plain


def fit(known: Sequence[Known], config: GateConfig) -> Gate:
    """Fit the gate."""
    return fit_gate_left_out(known, refused_share=config.refused_share, looser=config.looser)


def own_refused(
    known: Sequence[Known], plain: Sequence[Features], seen: Sequence[Seen], gate: Gate, config: GateConfig
) -> list[bool]:
    """Return for each image whether it is refused by a gate that knows no image of its patient (in five folds)."""
    folds = np.array(folds_by_group([one.case.group for one in seen], _FOLDS, config.seed))
    owner = np.repeat(np.arange(len(seen)), [1 + config.copies[one.set_name] for one in seen])
    dealt = [replace(one, part=str(folds[i])) for one, i in zip(known, owner, strict=True)]
    out = np.zeros(len(seen), dtype=bool)
    for fold in range(_FOLDS):
        mine = np.flatnonzero(folds == fold)
        readings = readings_left_out(dealt, gate, str(fold), [plain[int(i)] for i in mine])
        out[mine] = [one.reason is not None for one in readings]
    return [bool(one) for one in out]


def sources_refused(
    known: Sequence[Known], plain: Sequence[Features], seen: Sequence[Seen], gate: Gate
) -> dict[str, float]:
    """Return the share of each source's images that a gate refuses which does not know that source."""
    dealt = [replace(one, part=one.source) for one in known]
    out = {}
    for source in dict.fromkeys(one.source for one in seen):
        mine = [features for one, features in zip(seen, plain, strict=True) if one.source == source]
        out[source] = float(np.mean([r.reason is not None for r in readings_left_out(dealt, gate, source, mine)]))
    return out


def _limit_in_words(gate: Gate, known: Sequence[Known], config: GateConfig) -> str:
    share = f"{config.refused_share:.0%}"
    if config.left_out == "patient":
        judged = sum(one.judged for one in known)
        return (
            f"The limit refuses {share} of {judged} changed copies of images, each judged by a gate that knows nothing "
            "of its patient: all are of one hospital, and the copies stand in for others."
        )
    return (
        f"The limit refuses {share} of the {len(gate.scores)} images of the source that looks strangest to a gate "
        "which does not know that source; the same images chose the limit and are counted by it, so the shares below "
        "are no test on a further hospital."
    )


def gate_card(config: GateConfig, seen: Sequence[Seen], data: bytes) -> GateCard:
    """Return what the card says of a gate, without the figures, which `main` measures."""
    counts = Counter(one.set_name for one in seen)
    patients = {name: len({one.case.group for one in seen if one.set_name == name}) for name in counts}
    return GateCard(
        sha256=hashlib.sha256(data).hexdigest(),
        size_bytes=len(data),
        command=f"python -m isocenter.learn.automatic_gate configs/gate-{config.name}.yaml --data FOLDER ... "
        "--publish FOLDER",
        blocks=config.blocks,
        refused_share=config.refused_share,
        limit="",
        own_refused=0.0,
        known=tuple(TrainingSet.model_validate(one) for one in gate_sets(config.data, counts, patients)),
    )


def publish(folder: Path, gate: Gate, card: WeightsCard) -> None:
    """Write the gate beside weights, and their card with it."""
    data = as_bytes(gate)
    if card.gate is None or card.gate.sha256 != hashlib.sha256(data).hexdigest():
        raise ConfigError(f"the card of {card.name} is not of this gate")
    (folder / f"{card.name}{GATE_SUFFIX}").write_bytes(data)
    publish_card(folder, card)


def as_bytes(gate: Gate) -> bytes:
    """Return the file of a gate; the same gate gives the same bytes."""
    stream = io.BytesIO()
    np.savez_compressed(stream, allow_pickle=False, **gate.arrays())
    return stream.getvalue()


def main(arguments: Sequence[str] | None = None) -> None:
    """Fit a gate, measure what it refuses of its own kind, and write it beside the weights."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders of the sets")
    parser.add_argument("--publish", type=Path, required=True, help="folder of the weights")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    config = read_gate_config(given.config)
    seen = load_seen(config, given.data)
    known, plain = known_of(seen, config)
    gate = fit(known, config)
    data = as_bytes(gate)
    several = config.left_out == "source"
    told = gate_card(config, seen, data).model_copy(
        update={
            "limit": _limit_in_words(gate, known, config),
            "own_refused": float(np.mean(own_refused(known, plain, seen, gate, config))),
            "sources_refused": sources_refused(known, plain, seen, gate) if several else {},
        }
    )
    card = read_card(given.publish / f"{config.name}.safetensors")
    publish(given.publish, gate, card.model_copy(update={"gate": told}))
    _log.info("%s: %s", config.name, told.model_dump_json(include={"size_bytes", "own_refused", "sources_refused"}))


if __name__ == "__main__":
    main()
