"""Taking in sources: list, find out what is new, work through it in batches, and write the catalog anew.

The work is a function from a batch to a part of the journal (`work.process`). Here it runs in this process, in a pool
of processes, or in tasks of Ray; which of them, and how often a run was killed and begun again, makes no difference to
the catalog. Batches wait until workers have room, so that memory does not grow with the sources.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import UInt64

from isocenter.core.errors import CapabilityError, DataError, OutputError
from isocenter.data.archive.consolidate import CURRENT, connect, consolidate, live_items
from isocenter.data.archive.content import as_file, read_content, read_head
from isocenter.data.archive.datasets import TABLES, Sets
from isocenter.data.archive.encodings import same_pixels
from isocenter.data.archive.layout import Archive
from isocenter.data.archive.rows import Rows
from isocenter.data.archive.walk import Listed, Place, Trouble, walk
from isocenter.data.archive.work import Batch, Entry, Part, Setup, process, write_part
from isocenter.data.images.atomic import atomic_path, explain_os_error
from isocenter.data.images.discover import sniff_bytes
from isocenter.data.records import read_records

__all__ = ["EngineName", "Intake", "take_in"]

EngineName = Literal["local", "ray"]
Progress = Callable[[str, float], None]
_CHUNK = 5_000
_STATE = "consolidated"
"""Names the state of the journal that the catalog is of."""
_BATCH, _BATCH_OF_HEADERS = 256, 1024
_BATCH_BYTES = 256 * 2**20
_WAITING_EACH = 2
"""Batches that wait for each worker; more would only fill memory."""


@dataclass
class Intake:
    """What a run did.

    Args:
        listed: Files found in the sources.
        known: Of them, those that an earlier run had taken in, or that stand in two sources.
        taken: Files taken in now, refused and left out ones among them.
        troubles: Files or parts of them that could not be read, in this run.
        lost: Files that were gone when they were to be read, and folders that could not be listed: (name, reason).
        bytes_read: Of the files taken in.
        crashed: Files on which a worker died twice.
    """

    listed: int = 0
    known: int = 0
    taken: int = 0
    troubles: int = 0
    bytes_read: int = 0
    lost: list[tuple[str, str]] = field(default_factory=list)
    crashed: list[str] = field(default_factory=list)
    current: dict[str, Any] = field(default_factory=dict)


def take_in(
    archive: Archive,
    places: Iterable[Place],
    key: bytes,
    *,
    workers: int = 1,
    engine: EngineName = "local",
    progress: Progress | None = None,
    memory_mb: int = 256,
    finish: Callable[[], object] | None = None,
) -> Intake:
    """Take sources into an archive.

    Args:
        archive: Where to.
        places: The sources.
        key: Of pseudonyms.
        workers: Processes; 1 works in this one.
        engine: "local", or "ray".
        progress: Called with what is being done and the fraction of files done.
        memory_mb: Of the database that writes the catalog.
        finish: Called when the catalog is written, before others may write to the archive.

    Returns:
        What was done. The catalog is written also where files were lost; a later run takes those in.

    Raises:
        DataError: A source is not there.
        OutputError: The archive can't be written, or another run is writing to it.
        CapabilityError: Ray is asked for and not installed.
    """
    tell = progress or (lambda _stage, _done: None)
    setup = Setup(str(archive.root), key, archive.policy, archive.pixels)
    intake = Intake()
    with archive.locked():
        for left in (*archive.journal.glob(".partial-*"), *archive.private.glob("listing-*")):
            shutil.rmtree(left, ignore_errors=True)
        run = 1 + max((int(p.name.split("-")[0]) for p in archive.journal.glob("[0-9]*")), default=0)
        listing = archive.private / f"listing-{run:06d}"
        # Workers start up while the sources are listed.
        pool = _pool(workers) if engine == "local" and workers > 1 else None
        try:
            listing.mkdir()
            known = _known(archive)
            sets = []
            for number, place in enumerate(places):
                one, troubles = _list(place, listing / f"{number:04d}", intake, tell)
                sets.append(one)
                _note_troubles(archive, place, troubles, known, f"{run:06d}-listing-{number:04d}")
            most = _BATCH if archive.pixels else _BATCH_OF_HEADERS
            batches = _batches(listing, sets, known, run, intake, most)
            _work(batches, setup, intake, engine=engine, workers=workers, pool=pool, tell=tell)
        except OSError as error:
            raise explain_os_error(error, archive.root, doing="write") from error
        finally:
            if pool is not None:
                pool.shutdown(wait=True, cancel_futures=True)
            shutil.rmtree(listing, ignore_errors=True)
        tell("writing the catalog", 1.0)
        # A run that was killed after its last part has left a journal that the catalog does not know.
        state = _state(archive)
        if not (archive.catalog / CURRENT).is_file() or _last_state(archive) != state:
            intake.current = consolidate(
                archive, lambda paths: same_pixels(archive.root, paths), memory_mb=memory_mb, workers=workers
            )
            with atomic_path(archive.private / _STATE) as temporary:
                temporary.write_text(state + "\n", "utf-8")
        else:
            intake.current = json.loads((archive.catalog / CURRENT).read_text("utf-8"))
        if finish is not None:
            finish()
    return intake


def _state(archive: Archive) -> str:
    """Return what changes when a part of the journal is added."""
    names = sorted(p.name for p in archive.journal.glob("[0-9]*"))
    return blake2b("\n".join(names).encode(), digest_size=16).hexdigest()


def _last_state(archive: Archive) -> str:
    try:
        return (archive.private / _STATE).read_text("utf-8").strip()
    except FileNotFoundError:
        return ""


def _list(place: Place, folder: Path, intake: Intake, tell: Progress) -> tuple[Sets, list[Trouble]]:
    """Write what a source holds in chunks, so that it need not be held in memory; return what can't be listed."""
    folder.mkdir()
    path = Path(place.where)
    is_file = not place.remote and path.is_file() and path.suffix.lower() != ".zip"
    sets = Sets("" if is_file else path.resolve().name.removesuffix(".zip"), place.domain)
    chunk: list[tuple[str, str, int, int]] = []
    troubles: list[Trouble] = []
    number = 0

    def flush() -> None:
        nonlocal number
        columns: list[Sequence[Any]] = list(zip(*chunk, strict=True)) if chunk else [[], [], [], []]
        kinds = (pa.string(), pa.string(), pa.int64(), pa.int64())
        table = pa.table(
            [pa.array(c, type=t) for c, t in zip(columns, kinds, strict=True)],
            names=["locator", "name", "size", "stamp"],
        )
        pq.write_table(table, folder / f"{number:06d}.parquet")
        number += 1
        chunk.clear()

    for found in walk(place):
        if isinstance(found, Trouble):
            if found.kind == "lost":
                intake.lost.append((found.name, found.reason))
            else:
                troubles.append(found)
                intake.troubles += found.kind == "refused"
            continue
        intake.listed += 1
        sets.seen(found.name)
        if sets.doubtful(found.name) and "!/" not in found.locator and _is_dicom(found):
            sets.is_dicom(found.name)
        chunk.append((found.locator, found.name, found.size, found.stamp & 0x7FFFFFFFFFFFFFFF))
        if len(chunk) >= _CHUNK:
            tell(f"listing {intake.listed} files", 0.0)
            flush()
    flush()
    return sets, troubles


def _is_dicom(listed: Listed) -> bool:
    try:
        return sniff_bytes(read_head(listed.locator, listed.name), listed.size) == "dicom"
    except DataError:
        return False


def _note_troubles(
    archive: Archive, place: Place, troubles: list[Trouble], known: UInt64[np.ndarray, " n"], part: str
) -> None:
    """Keep what could not be listed in a source, in the place of what an earlier run said of it."""
    item = blake2b(f"listing {place.where}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    hint = blake2b("\0".join(f"{t.name} {t.reason}" for t in troubles).encode("utf-8", "surrogatepass"), digest_size=8)
    if _within(np.array([_mark(item, hint.hexdigest())], dtype=np.uint64), known).all():
        return
    rows = Rows()
    rows.of_item(item, hint.hexdigest())
    rows.add("items", {"locator": f"listing {place.where}", "name": "", "size": 0, "stamp": 0, "outcome": "listing"})
    for trouble in troubles:
        rows.trouble(trouble.name, trouble.reason, trouble.kind)
    write_part(archive.journal / part, rows)


def _listed(folder: Path) -> Iterator[list[Listed]]:
    for file in sorted(folder.glob("*.parquet")):
        table = pq.read_table(file)
        yield [Listed(*row) for row in zip(*(table.column(n).to_pylist() for n in table.column_names), strict=True)]


def _batches(
    listing: Path, sets: list[Sets], known: UInt64[np.ndarray, " n"], run: int, intake: Intake, most: int
) -> Iterator[Batch]:
    """Yield what has not been taken in, a batch at a time, in the order of the listing."""
    several = len(sets) > 1
    seen: set[str] = set()
    number = 0
    for place, one in enumerate(sets):
        folder = listing / f"{place:04d}"
        for chunk in _listed(folder):
            for listed in chunk:
                if listed.name.lower().endswith(TABLES):
                    _tell_tables(one, listed)
        waiting: list[Entry] = []
        size = 0
        for chunk in _listed(folder):
            entries = [_entry(listed, one) for listed in chunk]
            marks = np.array([_mark(e.item, e.hint) for e in entries], dtype=np.uint64)
            new = ~_within(marks, known)
            intake.known += int((~new).sum())
            for entry, wanted in zip(entries, new, strict=True):
                if several:
                    if entry.item in seen:
                        intake.known += int(wanted)
                        continue
                    seen.add(entry.item)
                if not wanted:
                    continue
                waiting.append(entry)
                size += entry.listed.size
                if len(waiting) >= most or size >= _BATCH_BYTES:
                    yield Batch(f"{run:06d}-{number:08d}", tuple(waiting))
                    waiting, size, number = [], 0, number + 1
        if waiting:
            yield Batch(f"{run:06d}-{number:08d}", tuple(waiting))
            number += 1


def _tell_tables(sets: Sets, listed: Listed) -> None:
    """Read a table before the files that it may speak of; one that can't be read is refused when its turn comes."""
    try:
        content = read_content(listed.locator, listed.name)
        with as_file(listed.locator, listed.name, content) as path:
            sets.told(listed.name, read_records(path).manifests)
    except DataError:
        return


def _entry(listed: Listed, sets: Sets) -> Entry:
    where = sets.place(listed.name)
    item = blake2b(f"{listed.locator}\0{listed.size}\0{listed.stamp}".encode("utf-8", "surrogatepass"), digest_size=8)
    return Entry(listed, where, item.hexdigest(), where.mark)


def _mark(item: str, hint: str) -> int:
    # Both are hashes; turning one keeps the pair from being symmetric.
    other = int(hint, 16)
    return int(item, 16) ^ ((other << 1 | other >> 63) & 0xFFFFFFFFFFFFFFFF)


def _known(archive: Archive) -> UInt64[np.ndarray, " n"]:
    """Return marks of what has been taken in, sorted: eight bytes a file."""
    with closing(connect(archive, memory_mb=512)) as database:
        live_items(database, archive)
        reader = database.execute("SELECT item, hint FROM live").to_arrow_reader(100_000)
        parts = [
            np.array(
                [_mark(i, h) for i, h in zip(b.column(0).to_pylist(), b.column(1).to_pylist(), strict=True)], np.uint64
            )
            for b in reader
        ]
    return np.sort(np.concatenate(parts)) if parts else np.array([], dtype=np.uint64)


def _within(marks: UInt64[np.ndarray, " k"], known: UInt64[np.ndarray, " n"]) -> Any:
    if not len(known):
        return np.zeros(len(marks), dtype=bool)
    places = np.minimum(np.searchsorted(known, marks), len(known) - 1)
    return known[places] == marks


def _work(
    batches: Iterator[Batch],
    setup: Setup,
    intake: Intake,
    *,
    engine: EngineName,
    workers: int,
    pool: ProcessPoolExecutor | None,
    tell: Progress,
) -> None:
    if engine == "ray":
        parts = _with_ray(batches, setup, workers)
    elif pool is None:
        parts = ((batch, process(batch, setup)) for batch in batches)
    else:
        parts = _with_pool(batches, setup, workers, pool, intake)
    for _, part in parts:
        intake.taken += part.items
        intake.troubles += part.troubles
        intake.bytes_read += part.bytes_read
        intake.lost.extend(part.lost)
        done = intake.known + intake.taken + len(intake.lost)
        tell(f"{done} of {intake.listed} files", done / max(1, intake.listed))


def _with_pool(
    batches: Iterator[Batch], setup: Setup, workers: int, first: ProcessPoolExecutor, intake: Intake
) -> Iterator[tuple[Batch, Part]]:
    """Work in processes; where one dies, the files of its batch are tried one by one, to find out which kills it."""
    waiting: dict[Future[Part], Batch] = {}
    pool = first
    suspects: list[Batch] = []
    try:
        more = True
        while more or waiting or suspects:
            while more and len(waiting) < workers * (1 + _WAITING_EACH):
                batch = next(batches, None)
                if batch is None:
                    more = False
                else:
                    waiting[pool.submit(process, batch, setup)] = batch
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                batch = waiting.pop(future)
                try:
                    yield batch, future.result()
                except BrokenProcessPool:
                    suspects.append(batch)
            if suspects:
                suspects.extend(waiting.values())
                waiting.clear()
                pool.shutdown(wait=True, cancel_futures=True)
                for batch in suspects:
                    yield from _one_by_one(batch, setup, intake)
                suspects = []
                pool = _pool(workers)
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_by_one(batch: Batch, setup: Setup, intake: Intake) -> Iterator[tuple[Batch, Part]]:
    for number, entry in enumerate(batch.entries):
        single = Batch(f"{batch.name}-{number:04d}", (entry,))
        with _pool(1) as pool:
            try:
                yield single, pool.submit(process, single, setup).result()
            except BrokenProcessPool:
                intake.crashed.append(entry.listed.name)
                rows = Rows()
                rows.of_item(entry.item, entry.hint)
                rows.trouble(entry.listed.name, "the process that read it died, twice; report this file's kind")
                listed = entry.listed
                rows.add("items", {"locator": listed.locator, "name": listed.name, "size": listed.size,
                                   "stamp": listed.stamp, "outcome": "refused"})  # fmt: skip
                write_part(Path(setup.root) / "private" / "journal" / single.name, rows)
                yield single, Part(1, 0, 1, (), listed.size)


def _pool(workers: int) -> ProcessPoolExecutor:
    # A fresh interpreter: forking a process that has threads (DuckDB's, Arrow's) may stop it for ever.
    spawn = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(workers, mp_context=spawn, initializer=_end_with_parent)
    for _ in range(workers):
        pool.submit(_ready)
    return pool


def _end_with_parent() -> None:
    """Let this worker end when the process that it works for is killed.

    Workers would wait for more for ever, and what they still write could fall into the next run.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _ready() -> None:
    """Do nothing: a worker that has done it has imported this module."""


def _with_ray(batches: Iterator[Batch], setup: Setup, workers: int) -> Iterator[tuple[Batch, Part]]:
    """Work in Ray's tasks, on as many machines as it has; each is tried three times more where its worker dies."""
    try:
        import ray
    except ImportError as error:
        raise CapabilityError("--engine ray needs Ray: pip install 'isocenter[ray]'") from error
    if not ray.is_initialized():
        ray.init(num_cpus=workers, include_dashboard=False, log_to_driver=False, configure_logging=False)
    remote = ray.remote(max_retries=3)(process)
    waiting: dict[Any, Batch] = {}
    limit = max(2, int(ray.cluster_resources().get("CPU", workers))) * (1 + _WAITING_EACH)
    more = True
    while more or waiting:
        while more and len(waiting) < limit:
            batch = next(batches, None)
            if batch is None:
                more = False
            else:
                waiting[remote.remote(batch, setup)] = batch
        if not waiting:
            return
        done, _ = ray.wait(list(waiting), num_returns=1)
        for reference in done:
            batch = waiting.pop(reference)
            try:
                yield batch, ray.get(reference)
            except ray.exceptions.RayTaskError as error:
                cause = error.cause
                if isinstance(cause, (DataError, OutputError)):
                    raise cause from error
                raise
