"""Weights with their passport: safetensors and a card, nothing else.

A file of weights is used only with a card beside it (same name, ``.json``) that states its sha256, licence, training
data, intended use and measured quality. There is no pickle, no remote code and no download: a name means one of the
built-in files, anything else is a path on this machine. Reading cards needs neither torch nor safetensors, so that
listing what is installed stays fast; arrays are returned as numpy.

    weights/NAME.safetensors   the arrays
    weights/NAME.json          the card (`WeightsCard`)
    weights/NAME.md            the same for people
    weights/NAME.gate.npz      which images are like those that were learnt from, where the card says so (`GateCard`)
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from isocenter.core.errors import CapabilityError, WeightsError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "CardMetric",
    "GateCard",
    "TrainingSet",
    "Weights",
    "WeightsCard",
    "built_in_folder",
    "card_schema",
    "list_cards",
    "load_gate_arrays",
    "load_weights",
    "publish_card",
    "read_card",
    "render_card",
    "save_weights",
]

GATE_SUFFIX = ".gate.npz"
"""In place of ``.safetensors``."""
_PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl", ".pickle", ".npy", ".npz", ".h5")


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TrainingSet(_Strict):
    """One set that the weights were trained on.

    Attributes:
        name: Name of the set.
        licence: SPDX identifier or the licence's own words.
        source: Where it is published.
        cases: Images used.
        patients: Patients they are of; None where the set does not say.
        note: What a reader must know: how labels were made, what was left out.
        attribution: Who must be named, as the licence asks.
    """

    name: str
    licence: str
    source: str
    cases: int = Field(ge=0)
    patients: int | None = Field(default=None, ge=1)
    note: str = ""
    attribution: tuple[str, ...] = ()


class CardMetric(_Strict):
    """One measured figure.

    Attributes:
        name: The field's own name, e.g. "Dice", "HD95".
        structure: What it was measured on.
        value: The figure (a mean unless `name` says otherwise).
        unit: UCUM unit; "1" for a ratio.
        low: Lower end of its interval.
        high: Upper end.
        level: Coverage of the interval, e.g. 0.95.
        count: Patients (or images where patients are not known) behind it.
        how: How it was measured, e.g. "5-fold cross-validation by patient".
    """

    name: str
    structure: str
    value: float
    unit: str = "1"
    low: float | None = None
    high: float | None = None
    level: float | None = Field(default=None, gt=0, lt=1)
    count: int = Field(ge=1)
    how: str


class GateCard(_Strict):
    """What a gate beside the weights knows, and how often it refuses.

    Attributes:
        sha256: Hash of ``NAME.gate.npz``, lower-case hex.
        size_bytes: Its size.
        command: How it was made.
        blocks: Which numbers of an image it looks at.
        refused_share: Share of left-out images that its limit was set to refuse.
        limit: On which images the limit was set, in words.
        own_refused: Share of images like those it knows that were refused, patients left out.
        sources_refused: By source, the share of its images that were refused when the gate did not know that source.
        known: The sets that it knows, in numbers of coarse means and spectra; no image is inside.
    """

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=1)
    command: str
    blocks: tuple[str, ...] = Field(min_length=1)
    refused_share: float = Field(gt=0, lt=1)
    limit: str
    own_refused: float = Field(ge=0, le=1)
    sources_refused: dict[str, float] = Field(default_factory=dict)
    known: tuple[TrainingSet, ...]


class WeightsCard(_Strict):
    """The passport of one file of weights.

    Attributes:
        format: Version of this schema.
        name: Name of the weights; the file's stem.
        version: Version of the weights.
        title: Name for people.
        licence: SPDX identifier of the weights' licence.
        sha256: Hash of the safetensors file, lower-case hex.
        size_bytes: Its size.
        parameters: How many numbers it holds.
        network: What is needed to build the network, e.g. `UNetSettings.as_card()`.
        preparation: What is needed to prepare its input.
        intended_use: What it is for.
        not_for: What it must not be used for.
        training_data: The sets it was trained on; empty when it learnt from synthesis alone.
        training: The command, its seed and its numbers.
        metrics: Measured quality.
        calibration: Numbers that turn the network's own agreement into an expected quality.
        limitations: What is known to go wrong.
        scorecard: Where the scorecard of the task stands, in this repository; "" where there is none.
        gate: The gate beside the weights; None where there is none.
    """

    format: Literal["isocenter-weights/1"] = "isocenter-weights/1"
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")
    version: str
    title: str
    licence: str = Field(min_length=1)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    size_bytes: int = Field(ge=1)
    parameters: int = Field(ge=1)
    network: dict[str, object]
    preparation: dict[str, object] = Field(default_factory=dict)
    intended_use: str = Field(min_length=1)
    not_for: str = Field(min_length=1)
    training_data: tuple[TrainingSet, ...]
    training: dict[str, object]
    metrics: tuple[CardMetric, ...]
    calibration: dict[str, object] = Field(default_factory=dict)
    limitations: tuple[str, ...] = ()
    scorecard: str = ""
    gate: GateCard | None = None


@dataclass(frozen=True, eq=False)
class Weights:
    """A card and the arrays that it vouches for.

    Args:
        card: The card; its sha256 was checked.
        arrays: float32 arrays by parameter name.
    """

    card: WeightsCard
    arrays: Mapping[str, np.ndarray]


def built_in_folder() -> Path:
    """Return the folder of the weights that come inside the package."""
    return Path(__file__).resolve().parents[1] / "weights"


def card_schema() -> dict[str, object]:
    """Return the JSON schema of a card."""
    return WeightsCard.model_json_schema()


def list_cards() -> tuple[WeightsCard, ...]:
    """Read the cards of all built-in weights, sorted by name; imports neither torch nor safetensors."""
    return tuple(_parse(file) for file in sorted(built_in_folder().glob("*.json")))


def read_card(name: str | Path) -> WeightsCard:
    """Read one card.

    Args:
        name: Built-in name, or the path of a ``.safetensors`` file with its card beside it.

    Raises:
        WeightsError: There is none, or it breaks the schema.
    """
    return _parse(_locate(name).with_suffix(".json"))


def load_weights(name: str | Path) -> Weights:
    """Load weights after checking that they are what their card says.

    Args:
        name: Built-in name, or the path of a ``.safetensors`` file with its card beside it.

    Raises:
        WeightsError: No such weights, no card, another sha256 than the card's, or not a safetensors file.
        CapabilityError: The package safetensors is not installed.
    """
    file = _locate(name)
    card = _parse(file.with_suffix(".json"))
    if not file.is_file():
        raise WeightsError(f"{file.name}: the card is there but the weights are not; install the package again")
    data = file.read_bytes()
    found = hashlib.sha256(data).hexdigest()
    if found != card.sha256:
        raise WeightsError(
            f"{file.name}: the weights are not the ones their card vouches for (sha256 {found[:12]}..., card "
            f"{card.sha256[:12]}...); get both again from one source"
        )
    try:
        from safetensors import SafetensorError
        from safetensors.numpy import load
    except ImportError as error:
        raise CapabilityError("weights need the package safetensors; install isocenter[torch]") from error
    try:
        arrays = load(data)
    except SafetensorError as error:
        raise WeightsError(f"{file.name}: not a safetensors file ({error})") from error
    if any(array.dtype.kind != "f" for array in arrays.values()):
        raise WeightsError(f"{file.name}: holds arrays that are not floating point")
    return Weights(card, {key: array.astype(np.float32) for key, array in arrays.items()})


def load_gate_arrays(name: str | Path) -> Mapping[str, np.ndarray] | None:
    """Return the arrays of the gate beside weights, or None where their card speaks of none; nothing is unpickled.

    Args:
        name: Built-in name, or the path of a ``.safetensors`` file with its card beside it.

    Raises:
        WeightsError: The gate that the card speaks of is missing, is another one, or holds no plain arrays.
    """
    file = _locate(name)
    card = _parse(file.with_suffix(".json"))
    if card.gate is None:
        return None
    file = file.with_suffix(GATE_SUFFIX)
    if not file.is_file():
        raise WeightsError(f"{file.name}: the card is there but its gate is not; install the package again")
    data = file.read_bytes()
    if hashlib.sha256(data).hexdigest() != card.gate.sha256:
        raise WeightsError(f"{file.name}: not the gate that the card vouches for; get both again from one source")
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            return {key: arrays[key] for key in arrays.files}
    except (ValueError, OSError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{file.name}: not a gate ({error})") from error


def publish_card(folder: Path, card: WeightsCard) -> None:
    """Write a card and its page for people; the weights stay as they are."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{card.name}.json").write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    (folder / f"{card.name}.md").write_text(render_card(card), encoding="utf-8")


def save_weights(folder: Path, arrays: Mapping[str, np.ndarray], card: Mapping[str, object]) -> WeightsCard:
    """Write weights, their card and its page for people.

    Args:
        folder: Where ``NAME.safetensors``, ``NAME.json`` and ``NAME.md`` go.
        arrays: Floating-point arrays by parameter name.
        card: Fields of `WeightsCard` without sha256, size_bytes and parameters, which are measured here.

    Returns:
        The complete card.

    Raises:
        WeightsError: The card's fields break the schema.
    """
    from safetensors.numpy import save

    data = save({key: np.ascontiguousarray(arrays[key]) for key in sorted(arrays)})
    measured = {
        "sha256": hashlib.sha256(data).hexdigest(),
        "size_bytes": len(data),
        "parameters": int(sum(array.size for array in arrays.values())),
    }
    try:
        whole = WeightsCard.model_validate({**card, **measured})
    except ValidationError as error:
        raise WeightsError(f"the card of these weights breaks the schema: {error}") from error
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{whole.name}.safetensors").write_bytes(data)
    publish_card(folder, whole)
    return whole


def render_card(card: WeightsCard) -> str:
    """Return the card as a Markdown page for people."""
    lines = [f"# {card.title} (`{card.name}`, version {card.version})", ""]
    lines += [f"**Intended use.** {card.intended_use}", "", f"**Not for.** {card.not_for}", ""]
    lines += [f"**Licence of the weights.** {card.licence}", ""]
    lines += [f"**File.** {card.size_bytes:,} bytes, {card.parameters:,} parameters, sha256 `{card.sha256}`", ""]
    lines += ["## Measured", "", "| metric | structure | value | interval | n | how |", "| - | - | - | - | - | - |"]
    for metric in card.metrics:
        unit = "" if metric.unit == "1" else f" {metric.unit}"
        interval = (
            "" if metric.low is None or metric.level is None
            else f"{metric.low:.3f} to {metric.high:.3f} ({metric.level:.0%})"
        )  # fmt: skip
        row = (metric.name, metric.structure, f"{metric.value:.3f}{unit}", interval, str(metric.count), metric.how)
        lines.append(f"| {' | '.join(row)} |")
    lines += ["", "## Training data", ""]
    for data in card.training_data:
        patients = f", {data.patients} patients" if data.patients else ""
        lines.append(f"- **{data.name}** ({data.licence}): {data.cases} images{patients}. {data.source}. {data.note}")
        lines += [f"  - {line}" for line in data.attribution]
    if not card.training_data:
        lines.append("None: it learnt from synthesis alone.")
    lines += ["", *_gate_lines(card.gate)] if card.gate is not None else []
    lines += ["", "## Training", "", "```json", json.dumps(card.training, indent=1), "```", "", "## Limitations", ""]
    lines += [f"- {line}" for line in card.limitations] or ["None stated."]
    lines += ["", f"**Scorecard.** {card.scorecard}"] if card.scorecard else []
    return "\n".join(lines) + "\n"


def _gate_lines(gate: GateCard) -> list[str]:
    lines = ["## Gate", ""]
    lines += [
        "Before the network an image is compared with those that were learnt from, by its "
        f"{' and '.join(gate.blocks)}. {gate.limit} Of images like those it knows {gate.own_refused:.1%} "
        "were refused (patients left out)."
    ]
    lines += [
        f"- {source}: {share:.1%} refused by the gate that did not know this source."
        for source, share in gate.sources_refused.items()
    ]
    lines += ["", f"{gate.size_bytes:,} bytes, sha256 `{gate.sha256}`, made by `{gate.command}`. It knows:", ""]
    for data in gate.known:
        patients = f", {data.patients} patients" if data.patients else ""
        lines.append(f"- **{data.name}** ({data.licence}): {data.cases} images{patients}. {data.source}. {data.note}")
        lines += [f"  - {line}" for line in data.attribution]
    return lines


def _locate(name: str | Path) -> Path:
    text = str(name)
    if "://" in text:
        raise WeightsError("weights are read from this machine only; fetch them first and give the path")
    if isinstance(name, str) and "/" not in text and "\\" not in text and not text.endswith(".safetensors"):
        if Path(text).suffix in _PICKLES:
            raise WeightsError(_no_pickle(text))
        file = built_in_folder() / f"{text}.safetensors"
        if not file.with_name(f"{text}.json").is_file():
            known = ", ".join(sorted(f.stem for f in built_in_folder().glob("*.json"))) or "none"
            raise WeightsError(f"no built-in weights named {text!r}; there are: {known}")
        return file
    path = Path(name)
    if path.suffix in _PICKLES:
        raise WeightsError(_no_pickle(path.name))
    if path.suffix != ".safetensors":
        raise WeightsError(f"{path.name}: weights must be a .safetensors file with its .json card beside it")
    if not path.is_file():
        raise WeightsError(f"{path.name}: no such file")
    return path


def _no_pickle(name: str) -> str:
    return f"{name}: only .safetensors is accepted, because loading this kind of file can run code; convert it first"


def _parse(file: Path) -> WeightsCard:
    if not file.is_file():
        raise WeightsError(f"{file.name}: weights without a card are not used; put their card beside them")
    try:
        card = WeightsCard.model_validate_json(file.read_bytes())
    except ValidationError as error:
        where = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:3])
        raise WeightsError(f"{file.name}: the card breaks its schema ({where})") from error
    if card.name != file.stem:
        raise WeightsError(f"{file.name}: the card is of {card.name!r}, another file")
    return card
