"""The full headers behind a study, read again when a writer asks for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from pydicom import Dataset

from isocenter.core import Image, Source
from isocenter.core.errors import DataError
from isocenter.data.images.dicom.header import read_dataset

__all__ = ["DicomHeaders"]


class DicomHeaders:
    """Headers of the images of a study; see `isocenter.data.images.study_files.Headers`.

    Args:
        files: Path of every instance that was read, by SOP Instance UID.
        images: Sources of the images, in the order of the study.
    """

    def __init__(self, files: Mapping[str, Path], images: Sequence[Source]) -> None:
        self._files = dict(files)
        self._images = tuple(images)

    def series_uids(self) -> tuple[str, ...]:
        """Series Instance UIDs that were read, in the order of the study."""
        return tuple(dict.fromkeys(source.series_uid for source in self._images))

    def series(self, series_uid: str) -> list[Dataset]:
        """Return the headers of a series in the z order of its image (images one after another if it has several).

        Raises:
            DataError: There is no such series, or its files are gone.
        """
        uids = [u for s in self._images if s.series_uid == series_uid for u in s.instance_uids]
        if not uids:
            raise DataError("no image of this series was read", source=f"series {series_uid}")
        return self._read(uids)

    def image(self, image: Image | Source) -> list[Dataset]:
        """Return the headers of one image, one per instance in the order of ``source.instance_uids``.

        A multi-frame image has one header, however many frames it has.

        Raises:
            DataError: The image did not come from here, or its files are gone.
        """
        source = image.source if isinstance(image, Image) else image
        return self._read(source.instance_uids)

    def _read(self, uids: Sequence[str]) -> list[Dataset]:
        out: list[Dataset] = []
        for uid in dict.fromkeys(uids):
            path = self._files.get(uid)
            if path is None:
                raise DataError("this image was not read from these files", source=f"instance {uid}")
            if not path.is_file():
                raise DataError("the file is gone since it was read", source=path.name)
            out.append(read_dataset(path))
        return out
