"""Key object selections: what is selected comes back, other makers read it, and nothing else is selected."""

from __future__ import annotations

import highdicom as hd
import pydicom
import pytest

from dciodvfy import dciodvfy_errors
from isocenter.core import ModelRef
from isocenter.core.errors import DataError, ProofError
from isocenter.data.images import key_objects
from isocenter.data.images.key_objects import CRITICAL, OF_INTEREST, KeyObjects, read_key_objects, write_key_objects
from isocenter.data.images.marks import Marks
from isocenter.data.images.references import ObjectReference
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series

STATE = "1.2.840.10008.5.1.4.1.1.11.1"


@pytest.fixture
def headers(tmp_path):
    files = write_ct_series(tmp_path / "ct", phantom(5, shape=(3, 6, 7)))
    return [pydicom.dcmread(f, stop_before_pixels=True) for f in files]


def selection(headers, title=OF_INTEREST):
    state = ObjectReference(STATE, "1.2.3.4", "1.2.3", str(headers[0].StudyInstanceUID))
    return KeyObjects(((ObjectReference.of(headers[1]), state),), title, "A lesion")


@pytest.mark.parametrize("title", [OF_INTEREST, CRITICAL])
def test_a_selection_comes_back_and_others_read_it(headers, title, tmp_path):
    wanted = selection(headers, title)
    for name in ("a", "b"):
        write_key_objects(wanted, tmp_path / f"{name}.dcm", headers=headers, marks=Marks((ModelRef("m", "1"),)))
    assert (tmp_path / "a.dcm").read_bytes() == (tmp_path / "b.dcm").read_bytes()
    assert read_key_objects(tmp_path / "a.dcm") == wanted
    assert dciodvfy_errors(tmp_path / "a.dcm") == []
    document = hd.ko.KeyObjectSelectionDocument.from_dataset(pydicom.dcmread(tmp_path / "a.dcm"))
    uid = str(headers[1].SOPInstanceUID)
    assert document.resolve_reference(uid) == (
        str(headers[1].StudyInstanceUID), str(headers[1].SeriesInstanceUID), uid
    )  # fmt: skip
    assert document.PatientID == headers[0].PatientID


def test_a_frame_is_selected_by_its_number(headers, tmp_path):
    wanted = KeyObjects(((ObjectReference.of(headers[0], 7), None),))
    write_key_objects(wanted, tmp_path / "a.dcm", headers=headers)
    assert read_key_objects(tmp_path / "a.dcm").images[0][0].frame == 7


def test_nothing_or_a_stranger_is_not_selected(headers, tmp_path):
    with pytest.raises(DataError, match="at least one"):
        write_key_objects(KeyObjects(()), tmp_path / "a.dcm", headers=headers)
    with pytest.raises(DataError, match="none of the headers"):
        write_key_objects(selection(headers), tmp_path / "a.dcm", headers=headers[:1])


def test_another_selection_read_back_is_not_kept(headers, tmp_path, monkeypatch):
    monkeypatch.setattr(key_objects, "read_key_objects", lambda _: KeyObjects(()))
    with pytest.raises(ProofError, match="read back"):
        write_key_objects(selection(headers), tmp_path / "a.dcm", headers=headers)
    assert not (tmp_path / "a.dcm").exists()
