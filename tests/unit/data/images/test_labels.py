"""A label that DICOM can't hold is refused before anything is written, by every writer that writes labels."""

from __future__ import annotations

from pathlib import Path

import pytest

import seg_cases as cases
from isocenter.core import Mask, Segment
from isocenter.core.errors import DataError, ProofError
from isocenter.data.images.rtstruct import write_rtstruct
from isocenter.data.images.seg import write_seg


@pytest.mark.parametrize("writer", [write_seg, write_rtstruct])
@pytest.mark.parametrize("label", ["a\\b", "a\nb", "a\x1bb", " a", "a "])
def test_a_label_that_would_not_come_back(writer, label: str, tmp_path: Path) -> None:
    headers, geometry = cases.ct_headers(tmp_path / "in")
    mask = cases.labels(geometry)
    bad = Mask(mask.array, geometry, (mask.segments[0], Segment(2, label), mask.segments[2]))
    with pytest.raises(DataError, match="the label of segment 2") as caught:
        writer(bad, tmp_path / "x.dcm", headers=headers)
    assert not isinstance(caught.value, ProofError)
    assert [p.name for p in tmp_path.iterdir()] == ["in"]
    good = Mask(mask.array, geometry, (mask.segments[0], Segment(2, "ä 日本"), mask.segments[2]))
    writer(good, tmp_path / "x.dcm", headers=headers)
