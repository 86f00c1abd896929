"""The passport itself: what is known of weights before they are used, and where each statement comes from."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["UNKNOWN", "Expectation", "Kind", "Passport", "Role", "Scaling", "WeightFile", "render_passport"]

UNKNOWN = "unknown"
"""Said wherever the source states nothing. A licence or a use is never guessed."""

Kind = Literal["isocenter", "huggingface", "monai", "nnunet"]
Role = Literal["segmenter", "encoder", "classifier", "promptable", "language", "image-text", "multimodal"]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class WeightFile(_Strict):
    """One file that the network is made from.

    Attributes:
        name: Path within the folder, with forward slashes.
        size_bytes: Its size.
        sha256: Its hash, lower-case hex.
    """

    name: str
    size_bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Scaling(_Strict):
    """How the source says that intensities are prepared: clipped, multiplied, the mean taken off, divided.

    Attributes:
        unit: What goes in: "8-bit" pictures (0 to 255), "HU", or "arbitrary".
        clip: Lowest and highest value that is kept, for each channel.
        factor: Multiplied with what was clipped.
        mean: Taken off, for each channel; empty for 0.
        std: Divided by, for each channel; empty for 1.
        by_image: Whether mean and deviation are each image's own.
    """

    unit: Literal["8-bit", "HU", "arbitrary"]
    clip: tuple[tuple[float, float], ...] = ()
    factor: float = 1.0
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    by_image: bool = False


class Expectation(_Strict):
    """What the network takes, as far as its source states it; None or empty where it doesn't.

    Attributes:
        channels: Channels of the input.
        size: Sides in pixels, in the order of `axes`.
        axes: Order of the network's spatial axes, e.g. "zyx", or "xyz" as MONAI reads volumes.
        intensity: Range of the values that reach the network.
        scaling: How they get there.
        spacing_mm: In the order of `axes`.
        modality: As the source writes it.
        vocabulary: How many tokens a language model knows.
    """

    channels: int | None = Field(default=None, ge=1)
    size: tuple[int, ...] = ()
    axes: str = Field(default="", pattern=r"^[xyz]*$")
    intensity: tuple[float, float] | None = None
    scaling: Scaling | None = None
    spacing_mm: tuple[float, ...] = ()
    modality: str = ""
    vocabulary: int | None = Field(default=None, ge=1)


class Passport(_Strict):
    """What is known of weights.

    Attributes:
        format: Version of this form.
        name: Name in the store, or of the folder.
        kind: Whose form the weights have.
        architecture: The network, as its source names it, and the class that it is built with.
        role: What it does, which decides how it is checked.
        files: All that the network is made from, with hashes.
        source_format: "safetensors", or "torch archive" for a `.pt` or `.pth` that is read by the restricted reader.
        parameters: Numbers in the weights.
        dtype: Types of these numbers, most frequent first.
        licence: As stated, else "unknown".
        licence_from: Where it is stated.
        intended_use: As stated, else "unknown".
        not_for: As stated, else "unknown".
        inputs: What the network takes.
        outputs: Names of the channels of its answer, where stated.
        notes: What a reader must know: parts that are not used, code that was not run.
    """

    format: Literal["isocenter-passport/1"] = "isocenter-passport/1"
    name: str = Field(min_length=1)
    kind: Kind
    architecture: str = Field(min_length=1)
    role: Role
    files: tuple[WeightFile, ...] = Field(min_length=1)
    source_format: Literal["safetensors", "torch archive"]
    parameters: int = Field(ge=1)
    dtype: tuple[str, ...]
    licence: str = Field(default=UNKNOWN, min_length=1)
    licence_from: str = ""
    intended_use: str = Field(default=UNKNOWN, min_length=1)
    not_for: str = Field(default=UNKNOWN, min_length=1)
    inputs: Expectation = Expectation()
    outputs: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """Bytes of all files."""
        return sum(file.size_bytes for file in self.files)


def render_passport(passport: Passport) -> str:
    """Return the passport as a Markdown page for people."""
    p, takes = passport, passport.inputs
    lines = [f"# {p.name}", "", f"**Network.** {p.architecture}: {p.role}, {p.parameters:,} parameters", ""]
    lines += [f"**Intended use.** {p.intended_use}", "", f"**Not for.** {p.not_for}", ""]
    source = f" (from {p.licence_from})" if p.licence_from else ""
    lines += [f"**Licence.** {p.licence}{source}", ""]
    lines += ["## Takes", ""]
    stated = {
        "channels": takes.channels,
        "size": " x ".join(map(str, takes.size)),
        "axes": takes.axes,
        "intensity": "" if takes.intensity is None else f"{takes.intensity[0]:g} to {takes.intensity[1]:g}",
        "spacing": " x ".join(f"{s:g}" for s in takes.spacing_mm) + " mm" if takes.spacing_mm else "",
        "modality": takes.modality,
        "tokens": takes.vocabulary,
    }
    lines += [f"- {key}: {value}" for key, value in stated.items() if value not in (None, "")] or ["Nothing stated."]
    if p.outputs:
        lines += ["", "## Answers", "", ", ".join(p.outputs)]
    lines += ["", f"## Files ({p.source_format}; {', '.join(p.dtype)})", ""]
    lines += [f"- `{file.name}`: {file.size_bytes:,} bytes, sha256 `{file.sha256}`" for file in p.files]
    if p.notes:
        lines += ["", "## Notes", "", *(f"- {note}" for note in p.notes)]
    return "\n".join(lines) + "\n"
