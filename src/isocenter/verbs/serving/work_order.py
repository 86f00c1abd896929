"""The order in which items come: as given, by chance, or by what the model sees in the images and how unsure it is.

What an image looks like is computed once and kept below the work folder. How unsure the model is changes with every
confirmed case, so it is asked anew; with nothing confirmed of a label, the looks alone decide.
"""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from isocenter.core import Image
from isocenter.core.errors import DataError, GeometryError, NotFound
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.verbs.serving.identifiers import identifier
from isocenter.viewer.work import WorkItem

if TYPE_CHECKING:
    from isocenter.models.interactive.confirmed import Confirmed
    from isocenter.tasks.interact.engine import Engine

__all__ = ["EngineEye", "Eye", "Ordered", "active_order", "random_order"]

MOST_ASKED = 400
"""Images of a label that the model is asked about; of more, an evenly spread part, and the rest by looks alone."""
_CASES_SHOWN = 4

Tell = Callable[[str, float], None]


@runtime_checkable
class Eye(Protocol):
    """A model that looks at images."""

    @property
    def name(self) -> str:
        """What names its looks: they are computed anew under another name."""
        ...

    def look(self, image: Image) -> Float[np.ndarray, " width"]:
        """Return what an image looks like."""
        ...

    def learn(self, cases: Sequence[tuple[Image, np.ndarray]]) -> object:
        """Take confirmed cases, image and mask, and return what `doubt` asks from."""
        ...

    def doubt(self, image: Image, learnt: object) -> float:
        """Return how unsure it is of an image, 0 to 1."""
        ...


class EngineEye:
    """The interactive network's eye.

    Args:
        engine: Called when it is first needed.
    """

    def __init__(self, engine: Callable[[], Engine]) -> None:
        self._engine = engine

    @property
    def name(self) -> str:
        """What names its looks: they are computed anew for other weights."""
        return self._engine().plane_card.sha256[:16]

    def look(self, image: Image) -> Float[np.ndarray, " width"]:
        """Return what an image looks like."""
        from isocenter.models.interactive.describe import describe_volume
        from isocenter.tasks.interact.channel import one_channel

        return describe_volume(self._engine().planes, one_channel(image)[0].astype(np.float32))

    def learn(self, cases: Sequence[tuple[Image, np.ndarray]]) -> Confirmed:
        """Take confirmed cases."""
        from isocenter.models.interactive.confirmed import Confirmed
        from isocenter.tasks.interact.channel import one_channel

        confirmed = Confirmed(self._engine().planes)
        for image, mask in cases:
            confirmed.add(one_channel(image)[0].astype(np.float32), mask)
        return confirmed

    def doubt(self, image: Image, learnt: object) -> float:
        """Return how unsure it is of an image."""
        from isocenter.models.interactive.confirmed import Confirmed
        from isocenter.models.interactive.describe import doubt_of_volume
        from isocenter.tasks.interact.channel import one_channel

        if not isinstance(learnt, Confirmed):
            raise TypeError("doubt is asked of what learn returned")
        return doubt_of_volume(self._engine().planes, one_channel(image)[0].astype(np.float32), learnt)


@dataclass(frozen=True)
class Ordered:
    """An order, and how many items could not be looked at."""

    items: tuple[str, ...]
    left_out: int


def random_order(items: Sequence[WorkItem], seed: int) -> tuple[str, ...]:
    """Return items in an order by chance that does not depend on how many there are."""
    return tuple(i.id for i in sorted(items, key=lambda i: zlib.crc32(f"{seed} {i.id}".encode())))


def active_order(
    items: Sequence[WorkItem],
    confirmed: Mapping[str, Sequence[tuple[str, Callable[[], np.ndarray]]]],
    image: Callable[[str], Image],
    eye: Eye,
    folder: Path,
    tell: Tell,
) -> Ordered:
    """Put items into the order that should teach most, label by label in turn.

    Args:
        items: All of the list, in the hands of somebody or not.
        confirmed: Of each label, images that have a mask, and how to read it.
        image: Reads an image.
        eye: The model that looks.
        folder: Where looks are kept.
        tell: Called with what is done.
    """
    looks, lost = _looks(items, image, eye, folder, tell)
    orders = []
    labels = sorted({i.label for i in items})
    for number, label in enumerate(labels):
        mine = [i for i in items if i.label == label and i.image in looks]
        known = [(name, mask) for name, mask in confirmed.get(label, ()) if name in {i.image for i in mine}]
        told = partial(_tell_share, tell, 0.5 + 0.5 * number / len(labels), 0.5 / len(labels))
        orders.append(_of_label(mine, known, looks, (image, eye), told))
    # Labels take turns, so that none waits for another.
    longest = max((len(order) for order in orders), default=0)
    merged = [order[k] for k in range(longest) for order in orders if k < len(order)]
    return Ordered(tuple(merged), lost)


def _tell_share(tell: Tell, begun: float, share: float, done: float) -> None:
    tell("asking the model", begun + share * done)


def _looks(
    items: Sequence[WorkItem], image: Callable[[str], Image], eye: Eye, folder: Path, tell: Tell
) -> tuple[dict[str, Float[np.ndarray, " width"]], int]:
    names = list(dict.fromkeys(i.image for i in items))
    found: dict[str, Float[np.ndarray, " width"]] = {}
    lost = 0
    for number, name in enumerate(names):
        tell("looking at images", 0.5 * number / max(1, len(names)))
        file = folder / f"{identifier('look', eye.name, name)}.npy"
        try:
            found[name] = np.load(file, allow_pickle=False) if file.is_file() else _kept(eye.look(image(name)), file)
        except (DataError, NotFound, ValueError):
            lost += 1
    # Pictures and volumes have looks of different lengths: the kind that is more frequent is put into an order.
    lengths = [len(look) for look in found.values()]
    usual = max(set(lengths), key=lambda n: (lengths.count(n), n), default=0)
    return {name: look for name, look in found.items() if len(look) == usual}, lost


def _kept(look: Float[np.ndarray, " width"], file: Path) -> Float[np.ndarray, " width"]:
    packed = io.BytesIO()
    np.save(packed, look)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(error, file.parent, doing="write") from error
    with atomic_path(file) as temporary:
        temporary.write_bytes(packed.getvalue())
    return look


def _of_label(
    items: Sequence[WorkItem],
    known: Sequence[tuple[str, Callable[[], np.ndarray]]],
    looks: Mapping[str, Float[np.ndarray, " width"]],
    seeing: tuple[Callable[[str], Image], Eye],
    tell: Callable[[float], None],
) -> list[str]:
    from isocenter.learn.selection import Pool, choose

    if not items:
        return []
    labelled = {name for name, _ in known}
    doubt = _doubts([i.image for i in items if i.image not in labelled], known, seeing, tell) if known else {}
    middle = float(np.median(list(doubt.values()))) if doubt else 0.0
    patients = {p: n for n, p in enumerate(dict.fromkeys(i.patient_key for i in items))}
    pool = Pool(
        np.stack([looks[i.image] for i in items]),
        np.array([doubt.get(i.image, middle) for i in items]) if doubt else None,
        tuple(n for n, i in enumerate(items) if i.image in labelled),
        np.array([patients[i.patient_key] for i in items], dtype=np.int64),
    )
    return [items[n].id for n in choose(pool, len(items))]


def _doubts(
    names: Sequence[str],
    known: Sequence[tuple[str, Callable[[], np.ndarray]]],
    seeing: tuple[Callable[[str], Image], Eye],
    tell: Callable[[float], None],
) -> dict[str, float]:
    """Return how unsure the model is of images, asked from a few confirmed cases, spread over those there are."""
    image, eye = seeing
    picked = sorted({round(float(k)) for k in np.linspace(0, len(known) - 1, min(len(known), _CASES_SHOWN))})
    cases = []
    for name, mask in (known[k] for k in picked):
        try:
            cases.append((image(name), mask()))
        except (DataError, NotFound):
            continue
    if not cases:
        return {}
    try:
        learnt = eye.learn(cases)
    except GeometryError:
        return {}
    step = -(-len(names) // MOST_ASKED)
    found: dict[str, float] = {}
    for number, name in enumerate(names[::step] if step else ()):
        tell(number * step / len(names))
        try:
            found[name] = eye.doubt(image(name), learnt)
        except (DataError, NotFound):
            continue
    return found
