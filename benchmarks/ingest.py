"""How many DICOM instances a second are taken in, by their headers alone and with de-identified copies?

Ours: `isocenter ingest` as a user runs it, two processes: listing, reading, pseudonyms, the journal, the whole catalog;
with pixels also de-identification of every file and a copy of it that is read back.
Peer: `pydicom.dcmread` of the same files in a pool of two processes, in chunks, which keeps three UIDs of each and
writes nothing (headers: `stop_before_pixels`). Beside it, with pixels: `dcmread` and `save_as`, the least that a copy
takes. Second peer, where the program `Orthanc` is installed (Debian's): its import of the same files, started empty on
this machine for each run, by `POST /instances` over four connections that are kept open and do not wait (faster than
one, two or eight, than zips, and than storescu, which waits for acknowledgements here); it stores whole files and
indexes them, and does not de-identify. Without the storage's own flush of every file, since ours leaves that to the
system as well; starting it is not timed.
The files are synthetic: a CT header of about 150 elements, nested and private ones among them, and 64 x 64 pixels of
16 bits (header run), or 256 x 256 (pixel run). Every instance must be in the catalog once, or the benchmark fails.
Memory: the peak of any one process, at 1,000 and at 100,000 instances.
"""

from __future__ import annotations

import argparse
import datetime
import http.client
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian

from benchmarks.__main__ import machine
from isocenter.data.archive.consolidate import consolidate
from isocenter.data.archive.layout import open_archive

_WORKERS = 2
_PAGE = Path(__file__).resolve().parents[1] / "docs" / "results" / "ingest.md"
_RATES = Path(__file__).resolve().parents[1] / "src" / "isocenter" / "verbs" / "archive_rates.json"
_SOP, _SERIES, _STUDY = "1.2.826.0.1.999.1.1{:012d}", "1.2.826.0.1.999.2.1{:012d}", "1.2.826.0.1.999.3.1{:012d}"
_NAME, _ID = "SYNTHETIC^N{:08d}", "SYN{:08d}"
_EACH_SERIES = 100
_CONNECTIONS = 4
# Workers are no children of the first process, so that their memory is looked at while they work.
_WATCH = """
peaks = []
def watch():
    import os
    while True:
        above = {}
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                lines = (folder / "status").read_text().splitlines()
                told = dict(line.split(":\\t", 1) for line in lines if ":\\t" in line)
            except OSError:
                continue
            above[int(folder.name)] = int(told["PPid"]), int(told.get("VmHWM", "0").split()[0])
        ours = {os.getpid()}
        for _ in range(3):
            ours |= {pid for pid, (parent, _) in above.items() if parent in ours}
        peaks.append(max(above[pid][1] for pid in ours if pid in above))
        time.sleep(0.1)
"""


def template(side: int) -> bytes:
    """Return a CT file of about 150 elements, whose identifiers have a fixed width."""
    ds = Dataset()
    ds.SpecificCharacterSet = "ISO_IR 100"
    ds.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    for date in ("InstanceCreationDate", "StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate"):
        setattr(ds, date, "20240517")
    for moment in ("InstanceCreationTime", "StudyTime", "SeriesTime", "AcquisitionTime", "ContentTime"):
        setattr(ds, moment, "101112.000000")
    ds.SOPClassUID, ds.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.2", _SOP.format(0)
    ds.StudyInstanceUID, ds.SeriesInstanceUID = _STUDY.format(0), _SERIES.format(0)
    ds.FrameOfReferenceUID = "1.2.826.0.1.999.4.1"
    ds.AccessionNumber, ds.Modality, ds.Manufacturer = "ACC00000001", "CT", "SYNTHETIC"
    ds.InstitutionName, ds.ReferringPhysicianName, ds.StationName = "General Hospital", "Doctor^Synthetic", "CT01"
    ds.StudyDescription, ds.SeriesDescription, ds.ProtocolName = "CT CHEST", "AX 1.25 SOFT", "CHEST ROUTINE"
    ds.ManufacturerModelName, ds.DeviceSerialNumber, ds.SoftwareVersions = "Model", "12345", "1.0"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = _NAME.format(0), _ID.format(0), "19600102", "F"
    ds.PatientAge, ds.PatientWeight, ds.PatientSize = "064Y", "70", "1.70"
    ds.BodyPartExamined, ds.ScanOptions, ds.KVP, ds.SliceThickness = "CHEST", "HELICAL", "120", "1.25"
    ds.DataCollectionDiameter, ds.ReconstructionDiameter = "500", "360"
    ds.DistanceSourceToDetector, ds.DistanceSourceToPatient = "949", "541"
    ds.GantryDetectorTilt, ds.TableHeight, ds.RotationDirection = "0", "150", "CW"
    ds.ExposureTime, ds.XRayTubeCurrent, ds.Exposure = "500", "300", "150"
    ds.FilterType, ds.GeneratorPower, ds.FocalSpots, ds.ConvolutionKernel = "BODY", "36000", "1.2", "SOFT"
    ds.PatientPosition, ds.StudyID, ds.SeriesNumber = "FFS", "1", "2"
    ds.AcquisitionNumber, ds.InstanceNumber = "1", "1"
    ds.ImagePositionPatient, ds.ImageOrientationPatient = ["-180.0", "-180.0", "00000.00"], [1, 0, 0, 0, 1, 0]
    ds.PositionReferenceIndicator, ds.SliceLocation = "SN", "00000.00"
    for keyword in ("RequestedProcedureDescription", "PerformedProcedureStepDescription"):
        setattr(ds, keyword, "CT CHEST")
    for keyword in ("ReferencedStudySequence", "ReferencedImageSequence", "RequestAttributesSequence"):
        item = Dataset()
        item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = ds.SOPClassUID, "1.2.826.0.1.999.5.1"
        code = Dataset()
        code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "24627-2", "LN", "Chest CT"
        item.ProcedureCodeSequence = Sequence([code])
        setattr(ds, keyword, Sequence([item]))
    for group in (0x0009, 0x0019, 0x0021, 0x0027, 0x0043):
        block = ds.private_block(group, f"SYNTHETIC_{group:04X}", create=True)
        for number in range(12):
            block.add_new(number, "DS" if number % 2 else "LO", "1.5" if number % 2 else "private")
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.Rows = ds.Columns = side
    ds.PixelSpacing, ds.BitsAllocated, ds.BitsStored, ds.HighBit = [0.7, 0.7], 16, 16, 15
    ds.PixelRepresentation, ds.RescaleIntercept, ds.RescaleSlope = 1, "-1024", "1"
    ds.WindowCenter, ds.WindowWidth = "40", "400"
    noise = np.random.default_rng(1).normal(0, 50, (side, side)).astype(np.int16)
    ds.PixelData = noise.tobytes()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "t.dcm"
        ds.save_as(path, enforce_file_format=True)
        return path.read_bytes()


def write(folder: Path, count: int, side: int, *, one_study: bool = False) -> list[str]:
    """Write instances: a hundred a series, ten series a patient (or all of one); return their SOP Instance UIDs."""
    content = template(side)
    uids = []
    for number in range(count):
        series = number // _EACH_SERIES
        patient = 0 if one_study else series // 10
        out = content
        for pattern, value in ((_SOP, number), (_SERIES, series), (_STUDY, patient), (_NAME, patient), (_ID, patient)):
            out = out.replace(pattern.format(0).encode(), pattern.format(value).encode())
        out = _placed(out, number % _EACH_SERIES)
        target = folder / f"s{series:06d}"
        if number % _EACH_SERIES == 0:
            target.mkdir(parents=True)
        (target / f"{number:08d}.dcm").write_bytes(out)
        uids.append(_SOP.format(number))
    return uids


def _placed(content: bytes, number: int) -> bytes:
    """Write an instance's place as scanners do: in as many letters as it takes, so that what follows moves."""
    for length, tag in ((22, b"\x20\0\x32\0"), (8, b"\x20\0\x41\x10")):
        at = content.index(tag)
        z = f"{-100 + 1.25 * number:g}"
        value = (f"-180.0\\-180.0\\{z}" if length == 22 else z).encode()
        value += b" " * (len(value) % 2)
        content = content[: at + 6] + len(value).to_bytes(2, "little") + value + content[at + 8 + length :]
    at = content.index(b"\x20\0\x13\0")
    value = str(number + 1).encode()
    value += b" " * (len(value) % 2)
    return content[: at + 6] + len(value).to_bytes(2, "little") + value + content[at + 10 :]


def _headers(paths: list[str]) -> list[str]:
    return [str(pydicom.dcmread(p, stop_before_pixels=True).SOPInstanceUID) for p in paths]


def _whole(paths: list[str]) -> list[str]:
    return [str(pydicom.dcmread(p).SOPInstanceUID) for p in paths]


def _copied(paths: list[tuple[str, str]]) -> list[str]:
    out = []
    for source, target in paths:
        dataset = pydicom.dcmread(source)
        dataset.save_as(target)
        out.append(str(dataset.SOPInstanceUID))
    return out


def peer(folder: Path, kind: str, scratch: Path) -> tuple[float, int]:
    """Return seconds and instances of pydicom in a pool."""
    start = time.perf_counter()
    files = sorted(str(p) for p in folder.rglob("*.dcm"))
    if kind == "copied":
        shutil.rmtree(scratch, ignore_errors=True)
        scratch.mkdir()
        pairs = [(f, str(scratch / f"{n:08d}.dcm")) for n, f in enumerate(files)]
        chunks: list[list] = [pairs[n : n + 256] for n in range(0, len(pairs), 256)]
        work = _copied
    else:
        chunks = [files[n : n + 256] for n in range(0, len(files), 256)]
        work = _headers if kind == "headers" else _whole
    with ProcessPoolExecutor(_WORKERS) as pool:
        found = [uid for part in pool.map(work, chunks) for uid in part]
    return time.perf_counter() - start, len(set(found))


def orthanc() -> str | None:
    """Return the program, None where it is not installed."""
    return shutil.which("Orthanc") or shutil.which("orthanc")


def imported(folder: Path, scratch: Path) -> tuple[float, int, str]:
    """Return seconds, instances and the version of an import by Orthanc, which begins empty."""
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    settings = {
        "StorageDirectory": str(scratch / "db"), "IndexDirectory": str(scratch / "db"), "HttpPort": ports[0],
        "DicomPort": ports[1], "RemoteAccessAllowed": False, "AuthenticationEnabled": False, "SyncStorageArea": False,
    }  # fmt: skip
    (scratch / "orthanc.json").write_text(json.dumps(settings), "utf-8")
    command = [str(orthanc()), str(scratch / "orthanc.json")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            version = _when_ready(ports[0], process)
            start = time.perf_counter()
            files = sorted(folder.rglob("*.dcm"))
            with ThreadPoolExecutor(_CONNECTIONS) as pool:
                list(pool.map(lambda n: _post(ports[0], files[n::_CONNECTIONS]), range(_CONNECTIONS)))
            seconds = time.perf_counter() - start
            return seconds, int(_get(ports[0], "/statistics")["CountInstances"]), version
        finally:
            process.terminate()


def _when_ready(port: int, process: subprocess.Popen) -> str:
    for _ in range(600):
        try:
            return str(_get(port, "/system")["Version"])
        except OSError:
            if process.poll() is not None:
                raise SystemExit("Orthanc ended before it answered") from None
            time.sleep(0.05)
    raise SystemExit("Orthanc does not answer")


def _get(port: int, path: str) -> dict:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("GET", path)
        return json.loads(connection.getresponse().read())
    finally:
        connection.close()


def _post(port: int, files: list[Path]) -> None:
    """Send files over one connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=600)
    try:
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for file in files:
            connection.request("POST", "/instances", file.read_bytes())
            answer = connection.getresponse()
            answer.read()
            if answer.status != 200:
                raise SystemExit(f"Orthanc answered {answer.status}")
    finally:
        connection.close()


def ours(folder: Path, archive: Path, *, pixels: bool, watched: bool = False) -> tuple[float, int, float]:
    """Return seconds, instances and the peak memory (MiB) of an ingest, each run in a new process.

    Args:
        folder: The source.
        archive: Made anew.
        pixels: Whether copies are made.
        watched: Whether the memory is the highest of any process, workers among them; else that of the first alone.
    """
    shutil.rmtree(archive, ignore_errors=True)
    program = (
        "import json,resource,threading,time\n"
        "from pathlib import Path\n"
        "from isocenter.verbs.ingest import ingest\n"
        f"{_WATCH if watched else ''}"
        "if __name__ == '__main__':\n"
        f"{' threading.Thread(target=watch, daemon=True).start()' if watched else ' peaks = []'}\n"
        " t=time.perf_counter()\n"
        f" r=ingest([{str(folder)!r}],{str(archive)!r},pixels={pixels},workers={_WORKERS})\n"
        " s=time.perf_counter()-t\n"
        " m=max([resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, *peaks])/1024\n"
        " print(json.dumps([s,r.tables['instances'].rows,m,r.refused]))\n"
    )
    with tempfile.TemporaryDirectory() as home:
        script = Path(home) / "run_ingest.py"
        script.write_text(program, "utf-8")
        environment = {**os.environ, "ISOCENTER_PSEUDONYM_KEY": "a key for the benchmark alone, of no use elsewhere"}
        answer = subprocess.run(
            [sys.executable, str(script)], check=True, capture_output=True, text=True, env=environment
        ).stdout
    seconds, rows, memory, refused = json.loads(answer.splitlines()[-1])
    if refused:
        raise SystemExit(f"{refused} files were refused")
    return seconds, rows, memory


def _measure(name: str, count: int, side: int, repeats: int, scratch: Path) -> dict[str, object]:
    folder = scratch / name
    write(folder, count, side)
    pixels = name != "headers"
    kinds = ("whole", "copied") if pixels else ("headers",)
    rates: dict[str, list[float]] = {kind: [] for kind in ("ours", *kinds)}
    memory, version = 0.0, ""
    for _ in range(repeats):
        for kind in kinds:
            seconds, found = peer(folder, kind, scratch / "copies")
            if found != count:
                raise SystemExit(f"the peer found {found} of {count} instances")
            rates[kind].append(count / seconds)
        if orthanc() is not None:
            seconds, found, version = imported(folder, scratch / "orthanc")
            if found != count:
                raise SystemExit(f"Orthanc holds {found} of {count} instances")
            rates.setdefault("orthanc", []).append(count / seconds)
            shutil.rmtree(scratch / "orthanc")
        seconds, found, memory = ours(folder, scratch / "archive", pixels=pixels)
        if found != count:
            raise SystemExit(f"the catalog holds {found} of {count} instances")
        rates["ours"].append(count / seconds)
    shutil.rmtree(folder)
    medians = {k: statistics.median(v) for k, v in rates.items()}
    return {"rates": medians, "memory_mib": memory, "orthanc_version": version}


def _catalog(archive: Path) -> tuple[float, int]:
    """Return the seconds that writing a catalog takes, and the bytes of catalog and journal."""
    opened = open_archive(archive)
    start = time.perf_counter()
    consolidate(opened, lambda _: False)
    seconds = time.perf_counter() - start
    kept = (p for folder in (opened.catalog, opened.private) for p in folder.rglob("*") if p.is_file())
    return seconds, sum(p.stat().st_size for p in kept)


def write_rates(
    headers: dict, pixels: dict, large: dict, catalog_s_each_million: float, catalog_bytes: float, memory_mib: float
) -> None:
    """Write the rates that `isocenter plan --studies` counts with."""
    catalog_s = catalog_s_each_million / 1e6
    small_s, large_s = (_WORKERS * (1 / found["rates"]["ours"] - catalog_s) for found in (pixels, large))
    small_mb, large_mb = len(template(256)) / 1e6, len(template(512)) / 1e6
    each_mb = max(0.0, (large_s - small_s) / (large_mb - small_mb))
    rates = {
        "machine": machine(),
        "date": str(datetime.datetime.now(datetime.UTC).date()),
        "header_core_s": round(_WORKERS * (1 / headers["rates"]["ours"] - catalog_s), 7),
        "copy_core_s": round(small_s - each_mb * small_mb, 7),
        "copy_core_s_each_mb": round(each_mb, 7),
        "catalog_s_each_million": round(catalog_s_each_million, 2),
        "catalog_bytes": round(catalog_bytes, 1),
        "memory_mb": round(memory_mib * 1.048576, 1),
    }
    _RATES.write_text(json.dumps(rates, indent=2) + "\n", "utf-8")


def write_page(result: dict) -> None:
    """Write docs/results/ingest.md."""
    told, memory, second = result["with_pixels"], result["memory_mib"], result["orthanc"]
    rows, compared = [], "Orthanc is not installed here: its import was left out."
    if second:
        rows = [
            f"| Orthanc {second['version']}, import of the files of the first row | {second['headers']:.0f} |",
            f"| Orthanc {second['version']}, import of the files of the third row | {second['pixels']:.0f} |",
        ]
        compared = (
            f"Headers: {result['ours'] / second['headers']:.2f} times Orthanc's import; with pixels: "
            f"{told['ours'] / second['pixels']:.2f} times. Orthanc stores and indexes whole files that come over HTTP "
            "(four connections, kept open) and de-identifies nothing."
        )
    lines = [
        "# How fast an archive is taken in",
        "",
        f"`python -m benchmarks.ingest`, {datetime.datetime.now(datetime.UTC).date()}, {machine()}, pydicom "
        f"{result['peer_version']}. {result['input']}. Medians of three runs, each in a new process; no intervals.",
        "",
        "| what | instances/s |",
        "| - | - |",
        f"| ours, headers alone, catalog included | {result['ours']:.0f} |",
        f"| `pydicom.dcmread` of headers in a pool, nothing written | {result['peer']:.0f} |",
        f"| ours, de-identified copies of 256 x 256 pixels, each read back, catalog included | {told['ours']:.0f} |",
        f"| `pydicom.dcmread` of whole files in a pool, nothing written | {told['whole']:.0f} |",
        f"| `pydicom.dcmread` and `save_as` in a pool, nothing de-identified | {told['copied']:.0f} |",
        *rows,
        "",
        f"Headers: {result['ratio']:.2f} times the pool; twice was aimed at. With pixels: "
        f"{told['ours'] / told['whole']:.2f} times reading alone, {told['ours'] / told['copied']:.2f} times reading "
        "and saving. What is the same in the files of a series is walked once "
        "([why that is safe](../explanation/archive.md)); what remains is to read, hash and write bytes.",
        "",
        compared,
        "",
        "Peak memory of any process, headers alone: "
        + ", ".join(f"{int(count):,} instances {mib:.0f} MiB" for count, mib in memory.items())
        + ". It grows until the database that writes the catalog has what `--memory` gives it, and then no more.",
    ]
    _PAGE.write_text("\n".join(lines) + "\n", "utf-8")


def main() -> None:
    """Run and print one JSON line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--count", type=int, default=40_000)
    arguments = parser.parse_args()
    count, repeats = (4_000, 1) if arguments.quick else (arguments.count, 3)
    with tempfile.TemporaryDirectory(prefix="isocenter-ingest-") as folder:
        scratch = Path(folder)
        headers = _measure("headers", count, 64, repeats, scratch)
        pixels = _measure("pixels", count // 4, 256, repeats, scratch)
        large = {} if arguments.quick else _measure("large", count // 16, 512, 1, scratch)
        memory = {}
        for size in (1_000,) if arguments.quick else (1_000, 100_000, 300_000):
            many = scratch / "many"
            write(many, size, 16)
            memory[size] = ours(many, scratch / "archive", pixels=False, watched=True)[2]
            catalog_s, catalog_bytes = _catalog(scratch / "archive")
            shutil.rmtree(many)
    for name, found in (("headers", headers), ("with pixels", pixels)):
        print(f"{name}: " + ", ".join(f"{k} {v:.0f}/s" for k, v in found["rates"].items()))  # type: ignore[attr-defined]
    if orthanc() is None:
        print("Orthanc is not installed here: its import is left out")
    print("peak memory of a process: " + ", ".join(f"{size} instances {m:.0f} MiB" for size, m in memory.items()))
    rate = headers["rates"]
    if not arguments.quick:
        write_rates(headers, pixels, large, 1e6 / size * catalog_s, catalog_bytes / size, max(memory.values()))
    result = {
        "name": "ingest",
        "ours": round(rate["ours"], 1),  # type: ignore[index]
        "peer": round(rate["headers"], 1),  # type: ignore[index]
        "unit": "instances/s",
        "ratio": round(rate["ours"] / rate["headers"], 3),  # type: ignore[index]
        "peer_name": "pydicom.dcmread in a pool",
        "peer_version": pydicom.__version__,
        "input": f"{count} synthetic CT headers of about 150 elements, two processes, catalog included",
        "with_pixels": pixels["rates"],
        "memory_mib": {str(k): round(v, 1) for k, v in memory.items()},
        "orthanc": {
            "version": headers["orthanc_version"],
            "headers": round(rate["orthanc"], 1),  # type: ignore[index]
            "pixels": round(pixels["rates"]["orthanc"], 1),  # type: ignore[index]
        }
        if orthanc() is not None
        else None,
    }
    if orthanc() is not None:
        result["cases"] = [
            {
                "name": f"ingest, {what}", "ours": round(found["rates"]["ours"], 1),  # type: ignore[index]
                "peer": round(found["rates"]["orthanc"], 1), "unit": "instances/s",  # type: ignore[index]
                "ratio": round(found["rates"]["ours"] / found["rates"]["orthanc"], 3),  # type: ignore[index]
                "peer_name": "Orthanc, POST /instances", "peer_version": found["orthanc_version"], "input": told,
            }
            for what, found, told in (
                ("headers alone", headers, f"{count} files of 64 x 64 pixels"),
                ("de-identified copies", pixels, f"{count // 4} files of 256 x 256 pixels"),
            )
        ]  # fmt: skip
    if not arguments.quick:
        write_page(result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
