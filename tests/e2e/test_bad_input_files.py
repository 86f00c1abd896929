"""Bad places to write to, and Ctrl-C halfway: one clear line, and nothing half-written left behind."""

from __future__ import annotations

import resource
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import SimpleITK

from isocenter.core import Image
from isocenter.core.errors import DataError, OutputError
from isocenter.data.images import atomic, nifti, nrrd
from isocenter.testing import phantom_geometry

WRITERS = {
    "nifti": (nifti.write_nifti, "a.nii.gz"),
    "nrrd": (nrrd.write_nrrd, "a.nrrd"),
    "metaimage": (nrrd.write_metaimage, "a.mha"),
}
SHAPE = (40, 100, 100)


def noise() -> Image:
    """800 kB that cannot be compressed."""
    voxels = np.random.default_rng(0).integers(0, 2**16, (1, *SHAPE)).astype(np.uint16)
    return Image(voxels, phantom_geometry(3, shape=SHAPE))


def refusal(kind: str, target: Path) -> str:
    """The one line that a refused write says, without the name it must begin with."""
    with pytest.raises(DataError) as caught:
        WRITERS[kind][0](noise(), target)
    line = str(caught.value)
    assert "\n" not in line
    assert ".partial-" not in line
    assert line.startswith(f"{target}: ")
    return line.removeprefix(f"{target}: ")


@contextmanager
def largest_file(size: int):
    """A limit of the operating system that stops a write in its middle, as a full disk does; needs no privilege."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("kind", WRITERS)
def test_the_system_stops_the_file_halfway(kind, tmp_path):
    target = tmp_path / WRITERS[kind][1]
    target.write_bytes(b"what stood there before")
    with largest_file(100_000):
        line = refusal(kind, target)
    if kind == "metaimage":  # SimpleITK does not say why
        assert line.startswith("cannot write: the file was not written whole; the disk may be full")
    else:
        assert line.startswith("cannot write: the file is larger than this file system allows")
    assert [p.name for p in tmp_path.iterdir()] == [target.name]
    assert target.read_bytes() == b"what stood there before"


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 256 KiB, where this machine lets us mount one."""
    place = tmp_path / "disk"
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        pytest.skip("mounting a small disk is not allowed here; the limit on file size covers the same path")
    yield place
    subprocess.run(["umount", str(place)], check=True)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_full_disk(kind, small_disk):
    line = refusal(kind, small_disk / WRITERS[kind][1])
    assert (
        "the disk may be full: free some space" in line
        if kind == "metaimage"
        else "the disk is full; free some space" in line
    )
    assert list(small_disk.iterdir()) == []


def test_a_metaimage_that_itk_wrote_in_part_without_a_word_is_a_full_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(SimpleITK, "WriteImage", lambda _image, file, **_: Path(file).write_bytes(b""))
    with pytest.raises(OutputError, match="was not written whole; the disk may be full"):
        nrrd.write_metaimage(noise(), tmp_path / "a.mha")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_that_may_not_be_written(kind):
    if not Path("/sys").is_dir():
        pytest.skip("no /sys on this system, where not even root may create a file")
    assert "no permission" in refusal(kind, Path("/sys") / WRITERS[kind][1])


@pytest.mark.parametrize("kind", WRITERS)
def test_a_folder_that_is_not_there(kind, tmp_path):
    assert "the folder does not exist; create it first" in refusal(kind, tmp_path / "none" / WRITERS[kind][1])
    (tmp_path / "file").write_bytes(b"")
    assert "a part of the path is a file" in refusal(kind, tmp_path / "file" / WRITERS[kind][1])


def halt(*_: object, **__: object) -> None:
    """What Ctrl-C does: a real signal, handled by Python's own handler."""
    signal.raise_signal(signal.SIGINT)


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("stage", ["flushing", "proving"])
def test_ctrl_c_halfway(kind, stage, tmp_path, monkeypatch):
    """The signal arrives while the file is flushed to the disk, or while it is read back for the proof."""
    seen = []

    def interrupted(*_: object, **__: object) -> None:
        seen.extend(p.name for p in tmp_path.iterdir())
        halt()

    module, reader = (nifti, "read_nifti") if kind == "nifti" else (nrrd, "read_nrrd")
    place: tuple[object, str] = (module, reader) if stage == "proving" else (atomic, "_flush")
    monkeypatch.setattr(*place, interrupted)
    write: Callable[[Image, Path], object] = WRITERS[kind][0]
    with pytest.raises(KeyboardInterrupt):
        write(noise(), tmp_path / WRITERS[kind][1])
    assert [name.startswith(".partial-") for name in seen] == [True]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_ctrl_c_from_outside(tmp_path):
    """A process that is told to stop while it writes leaves nothing behind and does not end well."""
    script = """if True:
        import sys, time
        from pathlib import Path
        from isocenter.data.images.atomic import atomic_path

        with atomic_path(Path(sys.argv[1])) as temporary:
            temporary.write_bytes(b"half")
            print("halfway", flush=True)
            time.sleep(60)
    """
    command = [sys.executable, "-c", script, str(tmp_path / "a.nii")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "halfway\n"
        assert len(list(tmp_path.iterdir())) == 1
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode != 0
    assert list(tmp_path.iterdir()) == []
