"""What is behind a path, told by content; and nothing that is not a regular file is ever opened."""

from __future__ import annotations

import errno
import os
import stat
import struct
import zipfile
from io import BytesIO
from pathlib import Path

import numpy as np
import PIL.Image
import pydicom
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from isocenter.core.errors import DataError
from isocenter.data.images.discover import ZipLimits, discover, sniff
from isocenter.data.images.nifti import write_nifti
from isocenter.data.images.nrrd import write_metaimage, write_nrrd
from isocenter.testing import phantom

DICOM = b"\0" * 128 + b"DICM" + b"\x02\0\0\0UL\x04\0\0\0\0\0"


def fill(folder: Path) -> None:
    """One file of each kind, in nested folders, under names that say nothing."""
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "b" / "deep" / "IM0002").write_bytes(DICOM)
    (folder / "b" / "IM0001").write_bytes(DICOM)
    write_nifti(phantom(), folder / "n.nii.gz")
    (folder / "n.nii.gz").rename(folder / "nifti")
    write_nrrd(phantom(), folder / "n.nrrd")
    write_metaimage(phantom(), folder / "n.mha")
    PIL.Image.fromarray(np.zeros((3, 4), np.uint8)).save(folder / "p.png")
    (folder / "p.png").rename(folder / "picture.dcm")
    (folder / "notes.txt").write_text("hello")
    (folder / "empty").write_bytes(b"")


def test_a_folder_is_searched_in_depth_and_sorted(tmp_path):
    fill(tmp_path)
    sources = discover(tmp_path)
    assert [sources.name(p) for p in sources.dicom] == ["b/IM0001", "b/deep/IM0002"]
    assert [sources.name(p) for p in sources.nifti] == ["nifti"]
    assert [sources.name(p) for p in sources.nrrd] == ["n.mha", "n.nrrd"]
    assert [sources.name(p) for p in sources.pictures] == ["picture.dcm"]
    assert [(r.where, r.kind) for r in sources.refused] == [("empty", "ignored"), ("notes.txt", "ignored")]
    assert "a text file" in sources.refused[1].reason


def test_one_file(tmp_path):
    (tmp_path / "x").write_bytes(DICOM)
    sources = discover(tmp_path / "x")
    assert sources.dicom == (tmp_path / "x",)
    assert sources.name(tmp_path / "x") == "x"


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: None, "there is no such file or folder; correct the path"),
        (lambda p: p.mkdir(), "the folder is empty"),
        (lambda p: p.write_bytes(b""), "the file is empty"),
        (lambda p: p.write_text("hello"), "this is a text file; what can be read: DICOM, NIfTI"),
        (lambda p: p.write_bytes(b"7z\xbc\xaf\x27\x1c" + b"\0" * 99), "a 7z archive (unpack it first)"),
        (lambda p: p.write_bytes(b"\0" * 257 + b"ustar" + b"\0" * 99), "a tar archive"),
        (lambda p: p.write_bytes(os.urandom(9) + b"\0" * 5000), "unknown kind"),
        (lambda p: p.symlink_to("nowhere"), "this link points to nothing"),
        (lambda p: p.symlink_to(p), "circle of symbolic links"),
        (lambda p: os.mkfifo(p), "neither a file nor a folder"),
        (lambda p: p.symlink_to("/dev/zero"), "neither a file nor a folder"),
    ],
)
def test_what_can_not_be_read_is_said_in_one_line(make, words, tmp_path):
    path = tmp_path / "given"
    make(path)
    with pytest.raises(DataError) as caught:
        discover(path)
    assert words in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_a_folder_of_text_files(tmp_path):
    for name in ("a.txt", "b.dcm", "c.nii"):
        (tmp_path / name).write_text("text")
    with pytest.raises(DataError, match=r"no image among 3 files \(the first, a\.txt, is a text file"):
        discover(tmp_path)


def test_special_files_and_links_in_a_folder(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "real" / "a").write_bytes(DICOM)
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "dangling").symlink_to("nowhere")
    (tmp_path / "real" / "up").symlink_to(tmp_path)  # a circle
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "self").symlink_to("self")
    sources = discover(tmp_path)
    assert [sources.name(p) for p in sources.dicom] == ["real/a"]
    said = {r.where: (r.kind, r.reason) for r in sources.refused}
    assert said["fifo"] == ("ignored", "a device, pipe or socket; never opened")
    assert said["zero"] == ("ignored", "a device, pipe or socket; never opened")
    assert said["dangling"][0] == "refused"
    assert "points to nothing" in said["dangling"][1]
    assert "circle of symbolic links" in said["self"][1]
    assert "read already" in said["real/up"][1]


def test_links_to_files_and_folders_elsewhere_are_followed_once(tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "a").write_bytes(DICOM)
    given = tmp_path / "given"
    given.mkdir()
    (given / "one").symlink_to(store)
    (given / "two").symlink_to(store)
    sources = discover(given)
    assert len(sources.dicom) == 1


def test_no_permission_for_one_file_and_for_all(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(DICOM)
    (tmp_path / "b").write_bytes(DICOM)
    real_open = Path.open

    def closed(self, *args, **kwargs):
        if self.name in names:
            raise PermissionError(errno.EACCES, "denied")
        return real_open(self, *args, **kwargs)

    monkeypatch.setattr(Path, "open", closed)
    names = {"b"}
    sources = discover(tmp_path)
    assert [sources.name(p) for p in sources.dicom] == ["a"]
    assert sources.refused[0].reason.startswith("cannot read: no permission")
    names = {"a", "b"}
    with pytest.raises(DataError, match=r"nothing in it can be read: a: .*no permission.*1 more like it"):
        discover(tmp_path)


def test_a_folder_that_can_not_be_listed(tmp_path, monkeypatch):
    (tmp_path / "ok").write_bytes(DICOM)
    (tmp_path / "closed").mkdir()
    real = Path.iterdir

    def closed(self):
        if self.name == shut:
            raise PermissionError(errno.EACCES, "denied")
        return real(self)

    monkeypatch.setattr(Path, "iterdir", closed)
    shut = "closed"
    sources = discover(tmp_path)
    assert [(r.where, r.kind) for r in sources.refused] == [("closed", "refused")]
    shut = tmp_path.name
    with pytest.raises(DataError, match="no permission; change the permissions"):
        discover(tmp_path)


def bare_dicom(syntax: str) -> bytes:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 100"
    dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"
    dataset.SOPInstanceUID = "1.2.3.4.5"
    dataset.Modality = "CT"
    dataset.Rows = 4
    buffer = BytesIO()
    implicit, little = syntax == ImplicitVRLittleEndian, syntax != ExplicitVRBigEndian
    dataset.save_as(buffer, implicit_vr=implicit, little_endian=little, enforce_file_format=False)
    return buffer.getvalue()


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_dicom_without_a_preamble(syntax, tmp_path):
    content = bare_dicom(syntax)
    (tmp_path / "a").write_bytes(content)
    assert sniff(tmp_path / "a") == "dicom"
    (tmp_path / "a").write_bytes(content[:20])
    assert sniff(tmp_path / "a") == "other"


@pytest.mark.parametrize(
    "content",
    [
        b"\x08\0" * 3000,
        b"\x08\0\x05\0CS\x0a\0ISO_IR 100 and then some text that is no DICOM at all",
        b"\x02\0" + b"hello" * 100,
        bytes(range(256)) * 20,
        struct.pack("<II", 0x00050008, 2**31) * 100,
    ],
)
def test_bytes_that_only_start_like_dicom(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    assert sniff(tmp_path / "a") == "other"


def medium_of(folder: Path, *listed: list[str]) -> Path:
    """A folder with a DICOMDIR that lists files; pydicom's own FileSet leaves a temporary folder to chance."""
    (folder / "IMAGES").mkdir(parents=True)
    for name in ("IM1", "IM2"):
        (folder / "IMAGES" / name).write_bytes(DICOM)
    index = Dataset()
    index.file_meta = FileMetaDataset()
    index.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.1.3.10"
    index.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    index.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    index.DirectoryRecordSequence = [Dataset()]  # a patient: no file of its own
    for parts in listed or (["IMAGES", "IM1"], ["IMAGES", "IM2"]):
        record = Dataset()
        record.DirectoryRecordType = "IMAGE"
        ignore = pydicom.config.IGNORE
        record.add(pydicom.DataElement("ReferencedFileID", "CS", parts, validation_mode=ignore))
        index.DirectoryRecordSequence.append(record)
    index.save_as(folder / "DICOMDIR", enforce_file_format=True)
    return folder / "DICOMDIR"


def test_dicomdir(tmp_path):
    index = medium_of(tmp_path / "medium")
    (tmp_path / "medium" / "stray").write_bytes(DICOM)
    sources = discover(index)
    assert [sources.name(p) for p in sources.dicom] == ["IMAGES/IM1", "IMAGES/IM2"]
    assert sources.refused == ()
    assert len(discover(tmp_path / "medium").dicom) == 3

    lost = sources.dicom[0]
    lost.unlink()
    for given in (index, tmp_path / "medium"):
        missing = [r for r in discover(given).refused if r.kind == "refused"]
        assert [r.where for r in missing] == ["IMAGES/IM1"]
        assert "missing; copy the whole medium" in missing[0].reason

    # as a copy in lower case has it
    lost.with_name("im1").write_bytes(DICOM)
    assert len(discover(index).dicom) == 2


def test_a_real_dicomdir(tmp_path):
    folder = Path(pydicom.__file__).parent / "data" / "test_files" / "dicomdirtests"
    if not (folder / "77654033").is_dir():
        pytest.skip("this pydicom does not bring the files of its DICOMDIR")
    sources = discover(folder / "DICOMDIR")
    assert sources.refused == ()
    assert len(sources.dicom) == 31
    assert sources.name(sources.dicom[0]).startswith("77654033/CR1/")


@pytest.mark.parametrize("parts", [["..", "secret"], ["/etc", "passwd"], ["A\\B"], ["IMAGES", "link"]])
def test_a_dicomdir_may_not_point_out_of_its_folder(parts, tmp_path):
    index = medium_of(tmp_path / "medium", parts)
    (tmp_path / "secret").write_bytes(DICOM)
    (tmp_path / "medium" / "IMAGES" / "link").symlink_to(tmp_path / "secret")
    with pytest.raises(DataError, match=r"outside its folder|missing"):
        discover(index)


@pytest.mark.parametrize("cut", [40, 10, 1])
def test_a_damaged_dicomdir(cut, tmp_path):
    index = medium_of(tmp_path / "medium")
    index.write_bytes(index.read_bytes()[:-cut])
    with pytest.raises(DataError, match="DICOMDIR is truncated; give its folder instead"):
        discover(index)
    assert len(discover(tmp_path / "medium").dicom) == 2


def zipped(path: Path, entries: dict[str, bytes], *, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return path


def test_a_zip_is_unpacked_and_removed_again(tmp_path):
    path = zipped(tmp_path / "a.zip", {"x/IM1": DICOM, "x/y/IM2": DICOM, "readme.txt": b"hi", "z/": b""})
    with discover(path) as sources:
        folder = sources.temporary
        assert folder is not None
        assert [sources.name(p) for p in sources.dicom] == ["x/IM1", "x/y/IM2"]
        assert sources.dicom[0].read_bytes() == DICOM
        assert [r.where for r in sources.refused] == ["readme.txt"]
    assert not folder.exists()


@pytest.fixture
def no_trace(tmp_path, monkeypatch):
    """A temporary folder of its own, which must be empty at the end."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(place))
    yield
    assert list(place.iterdir()) == []


def test_entries_that_leave_the_folder_are_not_unpacked(tmp_path, no_trace):
    evil = ["../evil", "/evil", "x/../../evil", "C:\\evil", "..\\evil"]
    path = zipped(tmp_path / "a.zip", dict.fromkeys(evil, DICOM) | {"good": DICOM, "win\\dows": DICOM})
    with discover(path) as sources:
        assert [sources.name(p) for p in sources.dicom] == ["good", "win/dows"]
        assert sum("points outside the archive" in r.reason for r in sources.refused) == len(evil)
    assert not (tmp_path / "evil").exists()
    assert not (tmp_path.parent / "evil").exists()


def test_links_and_nested_archives_are_not_followed(tmp_path, no_trace):
    inner = zipped(tmp_path / "inner.zip", {"IM": DICOM}).read_bytes()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        link = zipfile.ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
        archive.writestr("inner.zip", inner)
        archive.writestr("IM", DICOM)
    with discover(tmp_path / "a.zip") as sources:
        assert [sources.name(p) for p in sources.dicom] == ["IM"]
        said = {r.where: r.reason for r in sources.refused}
        assert "symbolic link" in said["link"]
        assert "an archive inside; not opened" in said["inner.zip"]


def test_bombs(tmp_path, no_trace):
    bomb = zipped(tmp_path / "bomb.zip", {"a": b"\0" * 110_000_000})
    with pytest.raises(DataError, match=r"would unpack to 110 MB: not opened, it may be a bomb; if you trust it"):
        discover(bomb)
    many = zipped(tmp_path / "many.zip", {str(i): DICOM for i in range(30)})
    with pytest.raises(DataError, match="holds 30 files, more than 20"):
        discover(many, limits=ZipLimits(max_files=20))
    with pytest.raises(DataError, match="may be a bomb"):
        discover(many, limits=ZipLimits(max_bytes=1000))


def test_entries_that_share_their_bytes_are_a_bomb(tmp_path, no_trace):
    """Overlapping entries: the central directory names the same data many times over."""
    path = zipped(tmp_path / "a.zip", {"IM": DICOM + os.urandom(4000)})
    content = path.read_bytes()
    start = content.index(b"PK\x01\x02")
    end = content.index(b"PK\x05\x06")
    directory, count = content[start:end], 50
    tail = bytearray(content[end:])
    tail[8:16] = struct.pack("<HHI", count, count, len(directory) * count)
    path.write_bytes(content[:start] + directory * count + bytes(tail))
    with pytest.raises(DataError, match="may be a bomb"):
        discover(path)


def test_an_entry_that_says_it_is_smaller_than_it_is(tmp_path, no_trace):
    path = zipped(tmp_path / "a.zip", {"IM": DICOM + b"\0" * 5000, "ok": DICOM})
    content = bytearray(path.read_bytes())
    at = content.index(b"PK\x01\x02")
    content[at + 24 : at + 28] = struct.pack("<I", 10)
    path.write_bytes(bytes(content))
    with discover(path) as sources:
        assert [sources.name(p) for p in sources.dicom] == ["ok"]
        assert "damaged" in sources.refused[0].reason


def test_encrypted_truncated_and_empty_archives(tmp_path, no_trace):
    path = zipped(tmp_path / "a.zip", {"IM": DICOM, "b": DICOM})
    content = bytearray(path.read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = -1
        while (at := content.find(magic, at + 1)) >= 0:
            content[at + offset] |= 1
    (tmp_path / "encrypted.zip").write_bytes(bytes(content))
    with pytest.raises(DataError, match="is encrypted; unpack it with its password"):
        discover(tmp_path / "encrypted.zip")
    (tmp_path / "cut.zip").write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="truncated or damaged"):
        discover(tmp_path / "cut.zip")
    with pytest.raises(DataError, match="the archive is empty"):
        discover(zipped(tmp_path / "empty.zip", {}))
    with pytest.raises(DataError, match=r"no image among 1 file"):
        discover(zipped(tmp_path / "text.zip", {"a.txt": b"hello"}))


def test_one_damaged_entry_does_not_hide_the_others(tmp_path, no_trace):
    path = zipped(tmp_path / "a.zip", {"bad": DICOM + b"x" * 100, "good": DICOM}, method=zipfile.ZIP_STORED)
    content = path.read_bytes().replace(b"x" * 100, b"y" * 100)
    path.write_bytes(content)
    with discover(path) as sources:
        assert [sources.name(p) for p in sources.dicom] == ["good"]
        assert [(r.where, r.reason) for r in sources.refused] == [
            ("bad", "the entry is damaged; fetch the archive again")
        ]


def test_same_name_twice_and_names_that_can_not_be(tmp_path, no_trace):
    path = tmp_path / "a.zip"
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "w") as archive:
        archive.writestr("IM", DICOM)
        archive.writestr("IM", b"other")
        archive.writestr("x" * 300, DICOM)
        archive.writestr("IM/inside", DICOM)
    with discover(path) as sources:
        assert [p.read_bytes() for p in sources.dicom] == [DICOM]
        assert len(sources.refused) == 3


def test_no_room_to_unpack(tmp_path, no_trace, monkeypatch):
    path = zipped(tmp_path / "a.zip", {"IM": DICOM})
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(DataError, match=r"needs 0\.\d+ MB .* has 1e-05 MB; .* set TMPDIR to another disk"):
        discover(path)
