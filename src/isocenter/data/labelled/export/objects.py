"""DICOM Segmentations and shards: one object for each case."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from isocenter.core.errors import ConfigError, IdentityLeak
from isocenter.data.images.seg import write_seg
from isocenter.data.labelled.cases import LabelledCase, LabelledSet
from isocenter.data.labelled.export.form import ExportOptions, Ready, as_labelmap, write_patients
from isocenter.data.shards.write import write_shard

__all__ = ["Segmentations", "Shards"]


class Segmentations:
    """A DICOM Segmentation for each case, and the table of patients; the series stay where they are."""

    def __init__(self, labelled: LabelledSet, folder: Path, options: ExportOptions) -> None:
        self._labelled, self._folder, self._headers = labelled, folder, options.headers
        if options.headers is None:
            raise ConfigError(
                "DICOM Segmentations need the headers of the series they were drawn on, and there are none"
            )
        if not options.identified:
            raise IdentityLeak(
                "a DICOM Segmentation carries the patient of its series, and nobody said that these headers hold no "
                "identity; say that you want that"
            )

    def add(self, ready: Ready) -> None:
        """Write a case, proven against its series."""
        if self._headers is None:
            raise ConfigError("there are no headers")
        headers = self._headers(ready.case.name)
        image = ready.case.image()
        mask = ready.case.mask(image.geometry) if ready.case.mask is not None else ready.mask
        write_seg(mask, self._folder / f"{ready.case.name}.seg.dcm", headers=headers)

    def finish(self, cases: Sequence[LabelledCase]) -> Iterable[str]:
        """Write the table of patients."""
        write_patients(cases, self._folder)
        return ["each file names the series that it was drawn on by its UIDs, and carries that series' patient"]


class Shards:
    """A shard for each case, its mask beside it."""

    def __init__(self, labelled: LabelledSet, folder: Path, _options: ExportOptions) -> None:
        self._labelled, self._folder = labelled, folder

    def add(self, ready: Ready) -> None:
        """Write a case."""
        write_shard(ready.image, self._folder / f"{ready.case.name}.b2nd", mask=as_labelmap(ready)).close()

    def finish(self, cases: Sequence[LabelledCase]) -> Iterable[str]:
        """Write what describes the set."""
        (self._folder / "classes.txt").write_text("".join(f"{name}\n" for name in self._labelled.classes), "utf-8")
        write_patients(cases, self._folder)
        return ()
