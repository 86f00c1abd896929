"""Real DICOM files, in order and shuffled, come out by their neighbours as they do alone."""

from __future__ import annotations

import random
from collections import defaultdict
from dataclasses import astuple, replace
from pathlib import Path

import pytest

from isocenter.core.errors import DataError
from isocenter.data.archive.dicom_rows import ARCHIVE_WANTED
from isocenter.data.deidentify import Policy, Pseudonyms, deidentify_bytes
from isocenter.data.deidentify.dicom.neighbours import Neighbours
from isocenter.data.images.dicom.header import scan_bytes
from isocenter.data.images.dicom.neighbours import HeaderNeighbours
from isocenter.data.images.discover import sniff
from isocenter.data.images.quiet import quiet

NAMES = Pseudonyms(b"a key for tests")
LARGEST = 600_000


@pytest.fixture(scope="module")
def files(shared_data: Path) -> list[Path]:
    """Every DICOM file of the real data that is not large."""
    found = (p for p in shared_data.rglob("*") if p.is_file() and 0 < p.stat().st_size < LARGEST)
    return sorted(p for p in found if sniff(p) == "dicom")


@pytest.mark.parametrize("order", [pytest.param("by folder", marks=pytest.mark.slow), "shuffled"])
def test_real_files_come_out_as_they_do_alone(files: list[Path], order: str) -> None:
    files = list(files)
    if order == "shuffled":
        random.Random(8).shuffle(files)
    near = defaultdict(lambda: (Neighbours(), HeaderNeighbours(ARCHIVE_WANTED), HeaderNeighbours(ARCHIVE_WANTED)))
    followed = 0
    with quiet():
        for file in files:
            data = file.read_bytes()
            cleaning, reading, copies = near[str(file.parent)]
            assert _header(data, reading) == _header(data, None), file.name
            followed += reading.kin is not None
            alone = _cleaned(data, None)
            assert _cleaned(data, cleaning) == alone, file.name
            if isinstance(alone[0], bytes):
                assert _header(alone[0], copies) == _header(alone[0], None), file.name
    assert len(files) > 300
    assert followed > len(files) // 4


def _cleaned(data: bytes, near: Neighbours | None) -> tuple[object, ...]:
    try:
        done = deidentify_bytes(data, NAMES, Policy(), source="a.dcm", neighbours=near)
    except DataError as error:
        return (str(error),)
    return done.data, list(done.removed.items()), done.suspicious, done.patient_key, done.shift_days


def _header(data: bytes, near: HeaderNeighbours | None) -> object:
    try:
        found = near.scan_bytes(data, "a.dcm") if near else scan_bytes(data, "a.dcm", wanted=ARCHIVE_WANTED)
    except DataError as error:
        return str(error)
    return astuple(replace(found, path=Path()))
