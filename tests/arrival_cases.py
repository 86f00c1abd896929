"""Series that arrive: written as files, landed one by one as an acceptor would, in any order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from pydicom import Dataset, dcmread
from pynetdicom.dsutils import encode
from scipy import ndimage

from isocenter.clinic.arrival import Alert, Patience, Series
from isocenter.clinic.dimse.holding import Holding
from isocenter.clinic.dimse.messages import C_STORE, Command
from isocenter.core import Geometry, Image, Quantity
from isocenter.data.images.dicom.header import read_dataset, scan
from isocenter.data.images.dicom.plane import needs_dataset, planes_of
from isocenter.testing.dicom_phantom import write_ct_series

Change = Callable[[int, Dataset], Dataset | None]
SPACING_MM = (2.5, 0.8, 0.7)


def body(shape: tuple[int, int, int] = (14, 64, 56), *, moved_from: int | None = None, mm: float = 0.0) -> Image:
    """Return a CT of an ellipse with two lungs and a spine that change slowly from slice to slice."""
    z, y, x = np.meshgrid(*(np.arange(n, dtype=np.float64) for n in shape), indexing="ij")
    y, x = (y - shape[1] / 2) / shape[1], (x - shape[2] / 2) / shape[2]
    size = 0.32 + 0.004 * z
    values = np.full(shape, -1000.0)
    values[(y / size) ** 2 + (x / (1.2 * size)) ** 2 < 1] = 40
    for side in (-0.15, 0.15):
        values[((y + 0.02) / (0.12 + 0.003 * z)) ** 2 + ((x - side) / 0.09) ** 2 < 1] = -800
    values[((y - 0.2) / 0.05) ** 2 + (x / 0.05) ** 2 < 1] = 400
    if moved_from is not None:
        shift = (mm / SPACING_MM[1], 0.0)
        values[moved_from:] = [ndimage.shift(plane, shift, order=1, cval=-1000.0) for plane in values[moved_from:]]
    values += np.random.default_rng(3).normal(0, 8, shape)
    geometry = Geometry.axial(shape, spacing_mm=SPACING_MM, origin_mm=(-17.0, 21.0, -40.0))
    return Image(np.round(values).astype(np.int16)[None], geometry, Quantity.HU, "CT", body_part="CHEST")


def files_of(folder: Path, image: Image | None = None, change: Change | None = None, **more: str) -> list[Path]:
    """Write a series; return its files in the order of its slices."""

    def numbered(index: int, dataset: Dataset) -> Dataset | None:
        dataset.InstanceNumber = str(index + 1)
        return dataset if change is None else change(index, dataset)

    return write_ct_series(folder, image or body(), change=numbered, **more)


def told(
    files: Sequence[Path], *, every_s: float = 0.1, then_s: float = 0.0, ended: bool = False, pixels: bool = False
) -> list[tuple[float, Alert]]:
    """Let files arrive in an order, one every so often; return every alert and when it was given."""
    series, now, alerts = Series("1.2.3", Patience(5.0), pixels), 0.0, []
    for file in files:
        now += every_s
        header = scan(file, f"image {int(dcmread(file, stop_before_pixels=True).InstanceNumber)}")
        planes = planes_of(header, read_dataset(file) if needs_dataset(header) else None)
        alerts += [(now, alert) for alert in series.add(planes, now)]
        alerts += [(now, alert) for alert in series.look(now)]
    for _ in range(round(then_s / 0.5)):
        now += 0.5
        alerts += [(now, alert) for alert in series.look(now)]
    if ended:
        alerts += [(now, alert) for alert in series.look(now, ended=True)]
    return alerts


def land(store: Path, *files: Path) -> None:
    """Put files into a store as an acceptor does."""
    holding = Holding(store, ("1.2.3.4", "TEST"))
    for file in files:
        one = dcmread(file)
        syntax = one.file_meta.TransferSyntaxUID
        command = Command(C_STORE, 1, str(one.SOPClassUID), str(one.SOPInstanceUID), True)
        arrival = holding.arrival(command, str(syntax), "SCANNER", "NODE")
        arrival.write(memoryview(encode(one, syntax.is_implicit_VR, syntax.is_little_endian) or b""))
        arrival.finish()
