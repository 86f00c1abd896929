"""Write a labelled set in any form, and read it back before it gets its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Protocol, runtime_checkable

from isocenter.core.errors import ConfigError, DataError, OutputError, ProofError
from isocenter.data.images.atomic import atomic_folder, make_parent
from isocenter.data.images.proof import prove, prove_image
from isocenter.data.labelled.cases import LabelledCase, LabelledSet
from isocenter.data.labelled.export.bids import Bids
from isocenter.data.labelled.export.coco import Coco
from isocenter.data.labelled.export.described import Decathlon, Folders, NnUnet
from isocenter.data.labelled.export.form import (
    FORMS,
    Exported,
    ExportOptions,
    Form,
    Ready,
    as_labelmap,
    check_patients,
    make_ready,
)
from isocenter.data.labelled.export.objects import Segmentations, Shards
from isocenter.data.labelled.find import open_labelled

__all__ = ["write_labelled"]

Tell = Callable[[str, float], None]


@runtime_checkable
class _Writer(Protocol):
    """A form: cases one after the other, then what describes them; returns notes."""

    def add(self, ready: Ready) -> None: ...

    def finish(self, cases: Sequence[LabelledCase]) -> Iterable[str]: ...


_WRITERS: Mapping[str, Callable[[LabelledSet, Path, ExportOptions], _Writer]] = MappingProxyType(
    {
        "folders": Folders,
        "nnunet": NnUnet,
        "decathlon": Decathlon,
        "coco": Coco,
        "bids": Bids,
        "seg": Segmentations,
        "shards": Shards,
    }
)
_READ_BACK = ("folders", "nnunet", "decathlon", "coco")
"""Forms that `open_labelled` reads; the writers of the others read back what they write themselves."""


def write_labelled(
    labelled: LabelledSet,
    folder: Path,
    form: Form,
    options: ExportOptions | None = None,
    *,
    tell: Tell | None = None,
) -> Exported:
    """Write a set of masks; a case that its form can't hold is left out, and said.

    Args:
        labelled: Its cases bear the names that the files get.
        folder: Must not exist or be empty, unless it may be replaced.
        form: See the package.
        options: How.
        tell: Called with what is being done and the share of it.

    Raises:
        ConfigError: No such form, the set's labels are no masks, or an option is missing.
        IdentityLeak: A patient stands in two parts, or identities would go along.
        DataError: No case could be written.
        ProofError: A case was read back otherwise than it was written; nothing is left behind.
        OutputError: The folder can't be written, or is taken.
    """
    options = options or ExportOptions()
    if form not in FORMS:
        raise ConfigError(f"no form is called {form!r}; there are {', '.join(FORMS)}")
    if labelled.kind != "segment":
        raise ConfigError("the labels of this set are no masks; these forms hold masks")
    check_patients(labelled.cases)
    make_parent(folder)
    with atomic_folder(folder, replace=options.replace) as place:
        writer = _WRITERS[form](labelled, place, options)
        written, left_out = [], []
        for number, case in enumerate(labelled.cases):
            if tell is not None:
                tell(f"case {number + 1} of {len(labelled.cases)}", number / len(labelled.cases))
            try:
                writer.add(make_ready(labelled, case))
            except (ProofError, OutputError):
                raise
            except DataError as error:
                left_out.append((case.name, str(error).removeprefix(f"{error.source}: ")))
            else:
                written.append(case)
        if not written:
            raise DataError(f"no case could be written; the first: {left_out[0][1]}", source=labelled.name)
        notes = tuple(writer.finish(written))
        if form in _READ_BACK:
            _read_back(labelled, written, place, form)
    parts = Counter(str(case.split) for case in written)
    return Exported(form, folder, tuple(c.name for c in written), tuple(left_out), MappingProxyType(dict(parts)), notes)


def _read_back(labelled: LabelledSet, written: Sequence[LabelledCase], place: Path, form: Form) -> None:
    """Open the folder as whoever trains does, and compare every case.

    Raises:
        ProofError: Something differs.
    """
    described = form in ("nnunet", "decathlon")
    expected = [c for c in written if not (described and c.split == "test")]
    if not expected:
        raise DataError("every case is of the part 'test'; this form needs some to learn from")
    back = open_labelled(place)
    found = {case.name: case for case in back.cases}
    if sorted(found) != sorted(c.name for c in expected) or back.classes != labelled.classes:
        raise ProofError("the set read back has other cases or classes than the one written; nothing was kept")
    for case in expected:
        ready, other = make_ready(labelled, case), found[case.name]
        if other.patient != case.patient or other.mask is None:
            raise ProofError(f"case {case.name} was read back with another patient, or no mask; nothing was kept")
        image = other.image()
        prove_image(ready.image, image)
        mask = other.mask(image.geometry)
        prove(as_labelmap(ready) if mask.is_labelmap else ready.mask, mask)
