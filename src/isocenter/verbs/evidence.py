"""Why tasks answered as they did: asked after all answers stand, written beside them, and never a part of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from scipy import ndimage

from isocenter.core import Combines, EvidenceMap, Explains, Explanation, Image, Mask, NoSuchEvidence, Quantity, Study
from isocenter.core.errors import IsocenterError
from isocenter.core.place import place_in_words
from isocenter.data.images.nifti import write_nifti
from isocenter.plugins import load_task
from isocenter.verbs.entries import file_entry
from isocenter.verbs.report.heat import heat_png
from isocenter.verbs.result import EvidenceEntry, FileEntry
from isocenter.verbs.running import Answer

__all__ = ["MAP_FORMAT", "Evidence", "explain_answers"]

MAP_FORMAT = "NIfTI map"
"""What a map is called among the files of an answer, whose mask is a "NIfTI"."""
PEAK_SHARE = 0.5
"""The peak region: voxels of half the strongest or more that hang together with it."""


@dataclass
class Evidence:
    """The evidence of the answers of a study.

    Args:
        entries: By position of the answer.
        files: Pictures, by position of the answer.
        pictures: What is in them, by their path in the result.
        maps: Where networks looked, by position of the answer.
    """

    entries: dict[int, tuple[EvidenceEntry, ...]] = field(default_factory=dict)
    files: dict[int, tuple[FileEntry, ...]] = field(default_factory=dict)
    pictures: dict[str, bytes] = field(default_factory=dict)
    maps: dict[int, tuple[EvidenceMap, ...]] = field(default_factory=dict)


def explain_answers(
    study: Study,
    answers: Sequence[Answer],
    folder: Path,
    tell: Callable[[str, float], None],
    row: Mapping[str, str] | None = None,
) -> Evidence:
    """Ask every task that answered why, and write the pictures.

    Args:
        study: The whole study.
        answers: Of its tasks; abstentions have no evidence.
        folder: The result's folder.
        tell: Called with what is done and how much of it.
        row: Of the clinical table, cells by heading; None where none was given.

    Raises:
        DataError: The row is not what a task learnt with.
        OutputError: The operating system refused to write.
    """
    found = Evidence()
    for position, answer in enumerate(answers):
        if answer.prediction.abstained is not None:
            continue
        tell(f"why: {answer.entry.card.name}, image {answer.index}", position / len(answers))
        entries: list[EvidenceEntry] = []
        files: list[FileEntry] = []
        told = _explanation(study, answer)
        found.maps[position] = told.maps
        for number, one in enumerate(told.maps, start=1):
            path = folder / f"{answer.stem}.evidence-{number}.png"
            content = heat_png(answer.image, one)
            path.write_bytes(content)
            files.append(file_entry(path, folder, "PNG", None))
            found.pictures[files[-1].path] = content
            entries += _map_entries(answer.image, one, files[-1].path)
            place = path.with_name(f"{path.stem}.nii.gz")
            files.append(file_entry(place, folder, MAP_FORMAT, write_nifti(_stored(one), place)))
        entries += _other_entries(told)
        if row is not None:
            entries += _clinical_entries(answer, row)
        found.entries[position], found.files[position] = tuple(entries), tuple(files)
    return found


def _stored(found: EvidenceMap) -> Image:
    """Return a map as it is kept: 0 to 255 for 0 to 1, on the image's voxels."""
    return Image(np.rint(255 * found.array).astype(np.uint8)[None], found.geometry, quantity=Quantity.ARBITRARY)


def _explanation(study: Study, answer: Answer) -> Explanation:
    name, task = answer.entry.card.name, load_task(answer.entry)
    if not isinstance(task, Explains):
        outlined = isinstance(answer.prediction.value, Mask)
        why = "the outline itself shows where" if outlined else "this task can't say why"
        return Explanation(missing=(NoSuchEvidence("map", why),))
    try:
        return task.explain(replace(study, images=(answer.image,), masks=()), answer.prediction)
    except IsocenterError as error:  # the answer stands without it
        return Explanation(missing=(NoSuchEvidence("evidence", f"it could not be made: {error}"),))
    except MemoryError:
        return Explanation(missing=(NoSuchEvidence("evidence", "it could not be made: memory ran out"),))
    except Exception as error:  # noqa: BLE001 - the boundary to a plug-in; its message may hold anything: not shown
        why = f"task {name!r} failed to say why: {type(error).__name__}, a defect of the task"
        return Explanation(missing=(NoSuchEvidence("evidence", why),))


def _clinical_entries(answer: Answer, row: Mapping[str, str]) -> Iterator[EvidenceEntry]:
    task = load_task(answer.entry)
    found = task.combine(answer.prediction, row) if isinstance(task, Combines) else ()
    for one in found:
        yield EvidenceEntry(kind="feature", about=one.about.meaning, text=one.text, numbers=dict(one.numbers))
    if not found:
        yield EvidenceEntry(
            kind="missing", about="clinical table", text="The clinical table was not used: this task learnt with none."
        )


def _map_entries(image: Image, found: EvidenceMap, file: str) -> Iterator[EvidenceEntry]:
    about = found.about.meaning
    region = _peak_region(found)
    peak, share = found.peak, float(region.mean())
    inside = float(found.array[region].sum(dtype=np.float64) / found.array.sum(dtype=np.float64))
    yield EvidenceEntry(
        kind="map",
        about=about,
        text=f"Where the networks looked for {about}: {found.method}. It shows what the networks need, which is not "
        "always where the finding is.",
        file=file,
    )
    numbers = {f"peak {axis}": float(v) for axis, v in zip("zyx", peak, strict=True)}
    if image.geometry.affine is not None:
        at = image.geometry.to_world([peak])[0]
        numbers |= {f"peak {axis} mm": round(float(v), 3) for axis, v in zip(("L", "P", "S"), at, strict=True)}
    at_peak = (float(peak[0]), float(peak[1]), float(peak[2]))
    words = place_in_words(image.geometry, at_peak) or _as_stored(image, at_peak)
    yield EvidenceEntry(
        kind="region",
        about=about,
        text=f"Strongest for {about}: {words} (of the image); the region round that point is {_percent(share)} of the "
        f"image and holds {_percent(inside)} of the map.",
        numbers={**numbers, "share of image": share, "share of map": inside},
    )


def _percent(share: float) -> str:
    return "less than 0.1%" if share < 0.001 else f"{share:.1%}" if share < 0.1 else f"{share:.0%}"


def _as_stored(image: Image, centre: tuple[float, ...]) -> str:
    sizes = image.geometry.shape
    said = [
        f"{name} {round(at) + 1} of {size}"
        for name, at, size in zip(("plane", "row", "column"), centre, sizes, strict=True)
        if size > 1
    ]
    return ", ".join(said) + ", side and height not known"


def _peak_region(found: EvidenceMap) -> np.ndarray:
    """Return the voxels of half the strongest or more that hang together with it."""
    parts, _ = ndimage.label(found.array >= PEAK_SHARE)
    return np.asarray(parts == parts[found.peak])


def _other_entries(told: Explanation) -> Iterator[EvidenceEntry]:
    for one in told.features:
        yield EvidenceEntry(kind="feature", about=one.about.meaning, text=one.text, numbers=dict(one.numbers))
    for rank, near in enumerate(told.neighbours, start=1):
        yield EvidenceEntry(
            kind="neighbour",
            about="",
            text=f"{near.case}, confirmed as: {near.label}",
            numbers={"rank": float(rank), "distance": near.distance},
        )
    if told.neighbours and told.retrieval:
        yield EvidenceEntry(kind="feature", about="nearest confirmed cases", text=told.retrieval)
    for absent in told.missing:
        yield EvidenceEntry(kind="missing", about=absent.what, text=f"No {absent.what}: {absent.why}.")
