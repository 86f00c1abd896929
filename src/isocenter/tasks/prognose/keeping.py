"""Models as arrays that `numpy.savez` takes, and back without pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np
from jaxtyping import Float

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.models.covariates import Preparation
from isocenter.models.fusion.intervals import Intervals
from isocenter.tasks.prognose.competing import CauseSpecific
from isocenter.tasks.prognose.cox import CoxModel
from isocenter.tasks.prognose.fine_gray import FineGray
from isocenter.tasks.prognose.forest import Forest
from isocenter.tasks.prognose.fusing import FusedNetworks
from isocenter.tasks.prognose.learners import Curves, Trained
from isocenter.tasks.prognose.networks import HazardNetwork, Layer, RiskNetwork
from isocenter.tasks.prognose.preparing import BlockPreparation, PeoplePreparation

__all__ = ["arrays_of", "trained_from"]

_FORMAT = "isocenter-prognosis/1"
_COX = ("coefficients", "means", "days", "hazard")
_FOREST = ("column", "cut", "left", "roots", "days", "survival_of_leaves", "mortality")


def arrays_of(trained: Trained, at_days: Float[np.ndarray, " q"]) -> dict[str, np.ndarray]:
    """Return a model as arrays; a forest's curves are kept on these days alone.

    Args:
        trained: The model.
        at_days: Days on which curves are asked, growing.
    """
    kind, arrays = _model_arrays(trained.model, at_days)
    table, blocks = trained.preparation.table, []
    for number, block in enumerate(trained.preparation.blocks):
        own, about = block.as_arrays()
        arrays |= {f"block.{number}.{name}": value for name, value in own.items()}
        blocks.append(about)
    card = {
        "format": _FORMAT, "kind": kind, "learner": trained.learner, "setting": dict(trained.setting),
        "preparation": None if table is None else table.as_card(), "blocks": blocks,
    }  # fmt: skip
    return {**arrays, "card": np.frombuffer(json.dumps(card).encode(), dtype=np.uint8).copy()}


def _model_arrays(model: Curves, at_days: Float[np.ndarray, " q"]) -> tuple[str, dict[str, np.ndarray]]:
    if isinstance(model, CoxModel):
        return "cox", {name: getattr(model, name) for name in _COX}
    if isinstance(model, Forest):
        place = np.searchsorted(model.days, at_days, side="right")
        first = np.ones((len(model.mortality), 1), dtype=np.float32)
        kept = np.concatenate([first, model.survival_of_leaves], axis=1)[:, place]
        found = {name: getattr(model, name) for name in _FOREST}
        return "forest", {**found, "days": at_days, "survival_of_leaves": kept}
    if isinstance(model, FineGray):
        return "fine-gray", {name: getattr(model.cox, name) for name in _COX}
    if isinstance(model, CauseSpecific):
        arrays = {"days": model.days}
        for number, one in enumerate(model.models):
            arrays |= {f"{number}.{name}": getattr(one, name) for name in _COX}
        return "competing", arrays
    if isinstance(model, RiskNetwork | HazardNetwork):
        arrays = {}
        for number, layer in enumerate(model.layers):
            arrays |= {f"{number}.weight": layer.weight, f"{number}.bias": layer.bias}
        if isinstance(model, RiskNetwork):
            return "deepsurv", arrays | {name: getattr(model.baseline, name) for name in _COX}
        return "discrete", arrays | {"ends": model.intervals.ends}
    if isinstance(model, FusedNetworks):
        arrays = {"usual": model.usual, "heads": np.array([model.heads])}
        arrays["names"] = np.array([name for name, _ in model.layout])
        arrays["widths"] = np.array([width for _, width in model.layout])
        for number, (centre, scale) in enumerate(model.scales):
            arrays |= {f"centre.{number}": centre, f"scale.{number}": scale}
        for number, net in enumerate(model.nets):
            # As they were learnt: single precision.
            arrays |= {f"net.{number}.{name}": value.astype(np.float32) for name, value in net.items()}
        if model.baseline is not None:
            return "fusion-deepsurv", arrays | {name: getattr(model.baseline, name) for name in _COX}
        return "fusion", arrays | ({} if model.intervals is None else {"ends": model.intervals.ends})
    raise ConfigError(f"a model of the kind {type(model).__name__} can't be kept")


def trained_from(arrays: Mapping[str, np.ndarray]) -> Trained:
    """Return what `arrays_of` wrote.

    Raises:
        WeightsError: The arrays are not of a model.
    """
    try:
        card = json.loads(arrays["card"].astype(np.uint8).tobytes())
        if card["format"] != _FORMAT:
            raise WeightsError(f"this model has another form than {_FORMAT}; learn again")
        table = None if card["preparation"] is None else Preparation.from_card(card["preparation"])
        blocks = [
            BlockPreparation.from_arrays(_below(f"block.{number}.", arrays), about)
            for number, about in enumerate(card.get("blocks", []))
        ]
        preparation = PeoplePreparation(table, tuple(blocks))
        return Trained(card["learner"], preparation, _model_from(card["kind"], arrays), card["setting"])
    except (KeyError, ValueError, TypeError, ConfigError) as error:
        raise WeightsError("this is no model of a prognosis, or it is damaged; learn again") from error


def _model_from(kind: str, arrays: Mapping[str, np.ndarray]) -> Curves:
    if kind == "cox":
        return CoxModel(**{name: arrays[name] for name in _COX})
    if kind == "fine-gray":
        return FineGray(CoxModel(**{name: arrays[name] for name in _COX}))
    if kind == "forest":
        return Forest(**{name: arrays[name] for name in _FOREST})
    numbers = sorted({int(n.split(".")[0]) for n in arrays if n[0].isdigit()})
    if kind == "competing":
        models = tuple(CoxModel(**{name: arrays[f"{n}.{name}"] for name in _COX}) for n in numbers)
        return CauseSpecific(models, arrays["days"])
    layers = tuple(Layer(arrays[f"{n}.weight"], arrays[f"{n}.bias"]) for n in numbers)
    if kind == "deepsurv":
        return RiskNetwork(layers, CoxModel(**{name: arrays[name] for name in _COX}))
    if kind == "discrete":
        return HazardNetwork(layers, Intervals(arrays["ends"]))
    if kind in ("fusion", "fusion-deepsurv"):
        return _fusion_from(kind, arrays)
    raise WeightsError(f"a model of the unknown kind {kind!r}")


def _below(prefix: str, arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {k.removeprefix(prefix): v for k, v in arrays.items() if k.startswith(prefix)}


def _fusion_from(kind: str, arrays: Mapping[str, np.ndarray]) -> FusedNetworks:
    layout = tuple(zip(arrays["names"].tolist(), arrays["widths"].tolist(), strict=True))
    scales = tuple((arrays[f"centre.{n}"], arrays[f"scale.{n}"]) for n in range(len(layout)))
    numbers = sorted({int(name.split(".")[1]) for name in arrays if name.startswith("net.")})
    nets = tuple({k: v.astype(np.float64) for k, v in _below(f"net.{n}.", arrays).items()} for n in numbers)
    hazards = kind == "fusion"
    return FusedNetworks(
        layout, scales, nets, int(arrays["heads"][0]), Intervals(arrays["ends"]) if hazards else None,
        None if hazards else CoxModel(**{name: arrays[name] for name in _COX}), arrays["usual"],
    )  # fmt: skip
