"""SAM, MedSAM and SAM 2 folders as peers of the interactive benchmark."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from isocenter.core.errors import ConfigError
from isocenter.evaluate.interactive import Segmenter


def sam_segmenters(folders: Sequence[Path]) -> list[Segmenter]:
    """Load each folder; its name stands in the tables."""
    if not folders:
        return []
    from isocenter.models.sam import SamSegmenter  # transformers takes seconds

    found: list[Segmenter] = [SamSegmenter(folder) for folder in folders]
    if len({s.name for s in found}) < len(found):
        raise ConfigError("two folders have one name, which stands for both in the tables; rename one")
    return found


def peer_versions(folders: Sequence[Path]) -> str:
    """Return the versions of what the peers are made with."""
    return version("scikit-image") + (f", transformers {version('transformers')}" if folders else "")
