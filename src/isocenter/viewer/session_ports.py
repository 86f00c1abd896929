"""The ports of interaction: sessions that outline, the masks that come of them, and files of other programs.

`ports` names them all; see there for the rules that they keep.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import UInt8

from isocenter.core import Mask, Prompt
from isocenter.viewer.study_ports import Json, Served, Tell

__all__ = [
    "Act",
    "Change",
    "Confirmed",
    "ForeignFiles",
    "Interaction",
    "Interactions",
    "MaskItem",
    "OutlineFile",
    "OutlineRequest",
]


@dataclass(frozen=True, eq=False)
class Change:
    """What an act changed: levels (0 out, 1 maybe, 2 probably, 3 in) inside the box that changed.

    Args:
        box_zyx: (z0, z1, y0, y1, x0, x1) on the image's grid; all zero where nothing changed.
        levels: Inside the box.
        expected_dice: Of the whole outline; None without one.
        prompts: How many prompts it answers.
        can_undo: Whether there is something to take back.
        can_redo: Whether there is something to do again.
        alternatives: How many other meanings of the click are offered.
        milliseconds: By stage.
    """

    box_zyx: tuple[int, int, int, int, int, int]
    levels: UInt8[np.ndarray, "z y x"]
    expected_dice: float | None = None
    prompts: int = 0
    can_undo: bool = False
    can_redo: bool = False
    alternatives: int = 0
    milliseconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class MaskItem:
    """A mask that somebody confirmed."""

    id: str
    image: str
    label: str
    reader: str
    version: int
    created: str
    segments: int
    expected_dice: float | None
    clicks: int


@dataclass(frozen=True)
class Confirmed:
    """What `confirm` gave: the mask, and how the cases of the session went."""

    mask: str
    case: int
    clicks: int
    cases: tuple[Json, ...] = ()


@dataclass(frozen=True, eq=False)
class Act:
    """One act on an image, as it was done before.

    Args:
        kind: Which.
        prompt: Of "prompt".
        number: Of "choose".
        axis: Of "propagate": 0 z, 1 y, 2 x.
        first: Of "propagate".
        last: Of "propagate".
    """

    kind: Literal["prompt", "choose", "undo", "redo", "clear", "propagate"]
    prompt: Prompt | None = None
    number: int = 0
    axis: int = 0
    first: int = 0
    last: int = 0


@runtime_checkable
class Interaction(Protocol):
    """Work on one structure in one session; called from one thread at a time."""

    label: str

    @property
    def cases(self) -> tuple[Json, ...]:
        """The confirmed cases: clicks, seconds, first_dice."""
        ...

    @property
    def bytes(self) -> int:
        """Memory that `rest` would free, roughly."""
        ...

    def open(self, image: str, tell: Tell, *, propose: bool = True) -> Change:
        """Open an image; with confirmed cases it holds an outline, unless `propose` is False or it was stopped."""
        ...

    def replay(self, image: str, acts: Sequence[Act], tell: Tell, *, propose: bool = True) -> Change:
        """Open an image and do acts again: what a lost connection or a restart took comes back."""
        ...

    def act(self, act: Act, tell: Tell) -> Change:
        """Do one act.

        Raises:
            Stopped: `tell` said so; nothing changed.
            ConfigError: It can't be followed; nothing changed.
        """
        ...

    def alternatives(self) -> tuple[Change, ...]:
        """Return the alternatives of the last prompt, best first, each as the whole outline in its box."""
        ...

    def whole(self) -> Change:
        """Return the whole outline as it stands, in its box."""
        ...

    def confirm(self, *, version: int, seconds: float) -> Confirmed:
        """Say that the mask is right: it is written, proven, and becomes an example. The image stays open.

        Raises:
            Conflict: Somebody confirmed another version meanwhile.
            OutputError: It could not be written; the image stays open.
        """
        ...

    def rest(self) -> None:
        """Let go of what can be made again; the next act makes it."""
        ...

    def close(self) -> None:
        """Let go of everything."""
        ...


@runtime_checkable
class Interactions(Protocol):
    """Interactive work, and the masks that came of it."""

    def begin(self, session: str, label: str, reader: str) -> Interaction:
        """Start a session's work, or take up the one that stands in the work folder (after a restart)."""
        ...

    def known(self) -> tuple[tuple[str, str, str], ...]:
        """Return the sessions that stand in the work folder: session, label, reader."""
        ...

    def forget(self, session: str) -> None:
        """Remove a session from the work folder; its masks stay."""
        ...

    def version(self, image: str, label: str) -> int:
        """Return how many versions of a structure's mask were confirmed on an image; at once, from memory."""
        ...

    def masks(self, image: str) -> tuple[MaskItem, ...]:
        """List the confirmed masks of an image."""
        ...

    def mask(self, mask: str) -> tuple[MaskItem, Change]:
        """Return a confirmed mask, whole, as levels.

        Raises:
            NotFound: There is none.
        """
        ...

    def mask_file(self, mask: str, form: Literal["nifti", "seg", "rtstruct"]) -> Served:
        """Return a mask as a file, written with its geometry proof when first asked for.

        Raises:
            NotFound: There is none.
            DataError: It can't be written in this form.
        """
        ...

    def add_mask(self, image: str, mask: Mask, *, label: str, reader: str) -> MaskItem:
        """Take a mask that was drawn elsewhere, as a new version.

        Raises:
            NotFound: There is no such image.
            GeometryError: It lies on another grid than the image.
        """
        ...


@dataclass(frozen=True, eq=False)
class OutlineRequest:
    """What another program asks to have outlined.

    Args:
        image: An image's name, or that of one that it sent (`ForeignFiles.take`).
        prompts: In voxel indices of that image.
        label: Name of the structure.
        who: Whose request it is: further clicks of one person go on from those before.
        suffix: Form of the file that is wanted: ".nii.gz", ".nii", ".nrrd" or ".seg.nrrd".
        packed: Whether it may be packed.
    """

    image: str
    prompts: tuple[Prompt, ...]
    label: str
    who: str
    suffix: str = ".nii.gz"
    packed: bool = True


@dataclass(frozen=True)
class OutlineFile:
    """An outline as a file: 1 inside, 0 outside, one byte a voxel."""

    content: bytes
    name: str
    expected_dice: float | None


@runtime_checkable
class ForeignFiles(Protocol):
    """Images and masks as files of other programs."""

    def outline(self, request: OutlineRequest) -> OutlineFile:
        """Outline what is pointed at.

        Raises:
            NotFound: There is no such image.
            ConfigError: The prompts can't be followed, or the form is unknown.
        """
        ...

    def image_of_series(self, series_uid: str) -> str | None:
        """Return the image of a DICOM series, None where there is none."""
        ...

    def image_file(self, image: str) -> Path:
        """Return an image as NIfTI, also one whose place in the patient is not known.

        Raises:
            NotFound: There is none.
            TooLarge: It is too large.
        """
        ...

    def take(self, content: bytes, name: str) -> str:
        """Keep an image that another program sent, for a while, in memory; return its name.

        Raises:
            DataError: It can't be read.
            TooLarge: It is larger than images may be here.
        """
        ...

    def drop(self, image: str) -> None:
        """Let go of an image that was sent."""
        ...

    def add_label(
        self, image: str, content: bytes, name: str, *, labels: Mapping[int, str], reader: str
    ) -> tuple[MaskItem, ...]:
        """Take masks that were drawn elsewhere, one version for each structure that is not empty.

        Args:
            image: Which they were drawn on.
            content: Of the file.
            name: Its name, whose suffix says its form; ".bin" is raw bytes, x fastest.
            labels: Names of values; empty for what the file says.
            reader: Who drew them.

        Raises:
            NotFound: There is no such image.
            DataError: The file can't be read.
            GeometryError: They lie on another grid than the image.
        """
        ...

    def label_file(self, image: str) -> tuple[Path, Mapping[str, int]]:
        """Return the latest version of every structure of an image in one file, and which value is which.

        Raises:
            NotFound: Nothing was confirmed on it.
        """
        ...
