"""The pictures that evidence is shown in, read from beside a result and held to the hashes that it states."""

from __future__ import annotations

import hashlib
from pathlib import Path

from isocenter.core.errors import DataError
from isocenter.data.images.atomic import explain_os_error
from isocenter.verbs.result import ResultDocument

__all__ = ["evidence_pictures"]


def evidence_pictures(result: ResultDocument, folder: Path) -> dict[str, bytes]:
    """Return the pictures of a result's evidence that lie beside it, by their path.

    Args:
        result: The result.
        folder: Where its files lie.

    Raises:
        DataError: A picture is named that is not among the answer's files, lies outside of the folder, or is not the
            one that was written.
    """
    found: dict[str, bytes] = {}
    for prediction in result.predictions:
        hashes = {file.path: file.sha256 for file in prediction.files if file.format == "PNG"}
        for entry in prediction.evidence:
            if not entry.file:
                continue
            place = folder / entry.file
            if entry.file not in hashes or not place.resolve().is_relative_to(folder.resolve()):
                raise DataError(
                    f"evidence of {prediction.task} names a picture that is not one of its files", source=folder
                )
            if not place.is_file():
                continue
            try:
                content = place.read_bytes()
            except OSError as error:
                raise explain_os_error(error, place, doing="read") from error
            if hashlib.sha256(content).hexdigest() != hashes[entry.file]:
                raise DataError("the picture is not the one that was written with the result", source=place)
            found[entry.file] = content
    return found
