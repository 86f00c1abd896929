"""A folder of studies that were made for the tests, and a server over it that is asked without a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
from pydicom import Dataset
from starlette.testclient import TestClient

from isocenter.core import Geometry, Image
from isocenter.data.images.nifti import write_nifti
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.serve import ServeConfig, open_server

TOKEN = "a-token-of-the-tests"
BASE = "http://127.0.0.1:8470"
API = "/api/v1"
NAME = "Doe^Jane"
"""Stands in the headers of the phantom, and must stand in no answer."""


def ramp(shape: tuple[int, int, int] = (6, 5, 7), *, shift: int = 0) -> Image:
    """Every voxel different, unequal axes, origin off zero."""
    z, y, x = np.indices(shape)
    geometry = Geometry.axial(shape, spacing_mm=(2.0, 1.0, 0.5), origin_mm=(5.0, -7.0, 11.0), frame_uid="1.2.3")
    return Image((100 * z + 10 * y + x - 1000 + shift).astype(np.int16)[None], geometry)


def write_study(folder: Path, image: Image, *, study: str, date: str = "20240102", patient: str = "P1") -> None:
    """Write a CT of one patient's study."""

    def change(_index: int, dataset: Dataset) -> Dataset:
        dataset.StudyInstanceUID, dataset.SeriesInstanceUID = study, f"{study}.1"
        dataset.StudyDate, dataset.StudyDescription = date, "CT of a ramp"
        dataset.PatientID, dataset.PatientName, dataset.AccessionNumber = patient, NAME, "A77"
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = f"{study}.1.{_index + 1}"
        return dataset

    folder.mkdir(parents=True, exist_ok=True)
    write_ct_series(folder, image, change=change)


def write_folder(root: Path) -> Path:
    """Write two studies of one patient (scattered over one folder), one of another, a NIfTI, a picture and a text."""
    write_study(root / "a", ramp(), study="1.2.3.1", date="20230102")
    write_study(root / "b", ramp(shift=7), study="1.2.3.2", date="20240304")
    write_study(root / "b" / "deep", ramp((3, 4, 5)), study="1.2.3.3", date="20240101", patient="P2")
    write_nifti(replace(phantom(), modality=""), root / "plain.nii.gz")
    picture = np.arange(48 * 64 * 3, dtype=np.uint32).reshape(48, 64, 3).astype(np.uint8)
    PIL.Image.fromarray(picture).save(root / "picture.png")
    (root / "notes.txt").write_text("no image", "utf-8")
    return root


@contextmanager
def served(path: Path, work: Path, **settings: Any) -> Iterator[TestClient]:
    """Serve a path to a client that has the token."""
    token = work.parent / f"{work.name}.token"
    token.write_text(TOKEN, "utf-8")
    serving = open_server(ServeConfig(path=path, work=work, token_file=token, **settings))
    headers = {"Authorization": f"Bearer {TOKEN}"}
    with TestClient(serving.app, base_url=BASE, headers=headers) as client:
        yield client


def studies(client: TestClient, **query: Any) -> list[dict[str, Any]]:
    """Return the items of the study list."""
    answer = client.get(f"{API}/studies", params=query)
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["items"]
    return found


def opened(client: TestClient, study: str) -> dict[str, Any]:
    """Open a study."""
    answer = client.get(f"{API}/studies/{study}")
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


def voxels(client: TestClient, item: dict[str, Any], first: int = 0, count: int | None = None) -> np.ndarray:
    """Return planes of an image as values (c, z, y, x)."""
    query = {"first": first} | ({} if count is None else {"count": count})
    answer = client.get(f"{API}/images/{item['id']}/pixels", params=query)
    assert answer.status_code == 200, answer.text
    form = item["pixel"]
    stored = np.frombuffer(answer.content, dtype=np.dtype(form["dtype"]).newbyteorder("<"))
    _, y, x = item["shape_zyx"]
    values = stored.reshape(-1, y, x, item["channels"]) * form["slope"] + form["intercept"]
    return np.moveaxis(values, -1, 0)
