"""What the end-to-end tests share: a study on disk with a marked patient, a toy task, and how to run the command."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import Dataset

from isocenter.core import Geometry, Image, Quantity
from isocenter.testing.dicom_phantom import write_ct_series
from toy_plugin import install_toy

MARKERS = ("Zebraname", "ZEBRA-ID-7", "19340506", "Zebrahospital", "ZEBRA-ACC")
"""Values of an invented patient: none of them may ever be seen outside the DICOM files that are written."""


def marked(_index: int, dataset: Dataset) -> Dataset:
    """Give a slice an identity that no message and no document may repeat."""
    dataset.PatientName = "Zebraname^Given"
    dataset.PatientID = "ZEBRA-ID-7"
    dataset.PatientBirthDate = "19340506"
    dataset.InstitutionName = "Zebrahospital"
    dataset.AccessionNumber = "ZEBRA-ACC"
    dataset.StudyDescription = "Zebraname came back"
    dataset.ImageComments = "Zebraname"
    return dataset


def ct_image() -> Image:
    """A small oblique CT with a bright ball off its middle."""
    shape = (6, 20, 24)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"), axis=-1)
    ball = (((grid - (3, 7, 16)) / (2.0, 4.0, 4.0)) ** 2).sum(-1) <= 1
    noise = np.random.default_rng(3).integers(-20, 20, shape)
    geometry = Geometry.axial(shape, spacing_mm=(2.5, 0.8, 0.7), origin_mm=(-31.5, 47.25, 112.75))
    return Image((40 + 200 * ball + noise).astype(np.int16)[None], geometry, quantity=Quantity.HU, modality="CT")


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one CT series of the marked patient."""
    folder = tmp_path_factory.mktemp("input") / "study"
    write_ct_series(folder, ct_image(), change=marked)
    return folder


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that makes the toy tasks installed where it is on the path."""
    tasks = {"toy-bright": "BRIGHT", "toy-point": "POINT", "toy-slow": "SLOW", "toy-broken": "BROKEN"}
    return install_toy(tmp_path_factory.mktemp("toy"), tasks, readers={"toy-reader": "read"})


@pytest.fixture
def toy(toy_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Install the toy tasks in this process."""
    monkeypatch.syspath_prepend(str(toy_folder))


Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(toy: None, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command in this process; returns exit code, standard output, standard error."""
    from isocenter import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        code = cli.run([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return int(code), out, err

    return run


@pytest.fixture
def process(toy_folder: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a command in a process of its own."""

    def start(*arguments: object, **options: Any) -> subprocess.Popen[str]:
        environment = {**os.environ, "PYTHONPATH": str(toy_folder), "OMP_NUM_THREADS": "1"}
        environment.pop("ISOCENTER_DEBUG", None)
        return subprocess.Popen(
            [sys.executable, "-m", "isocenter.cli", *[str(a) for a in arguments]],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, **options,
        )  # fmt: skip

    return start
