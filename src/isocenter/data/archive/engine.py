"""Taking in sources: list, find out what is new, work through it in batches, and write the catalog anew.

The work is a function from a batch to a part of the journal (`work.process`). Here it runs in this process, in a pool
of processes, or in tasks of Ray; which of them, and how often a run was killed and begun again, makes no difference to
the catalog. Batches wait until workers have room, so that memory does not grow with the sources.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import dataclass, field
from hashlib import blake2b
from multiprocessing import forkserver
from multiprocessing.context import ForkServerContext
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import UInt64

from isocenter.core.errors import CapabilityError, DataError, OutputError
from isocenter.data.archive.consolidate import CURRENT, connect, consolidate, live_items
from isocenter.data.archive.content import as_file, read_content, read_head
from isocenter.data.archive.datasets import TABLES, Sets
from isocenter.data.archive.encodings import same_pixels
from isocenter.data.archive.layout import Archive
from isocenter.data.archive.rows import Rows
from isocenter.data.archive.walk import Listed, Place, Trouble, walk
from isocenter.data.archive.work import Batch, Entry, Part, Setup, end_with_parent, process, write_listing, write_part
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
        pool = None
        if engine == "local" and workers > 1:
            # What workers need is imported while the sources are listed.
            _context()
            forkserver.ensure_running()
        try:
            listing.mkdir()
            known = _known(archive, memory_mb)
            sets, notes = [], []
            for number, place in enumerate(places):
                one, troubles = _list(place, listing / f"{number:04d}", intake, tell)
                sets.append(one)
                notes.append(_note_of(archive, place, troubles, known, f"{run:06d}-listing-{number:04d}"))
            most = _BATCH if archive.pixels else _BATCH_OF_HEADERS
            if engine == "local" and workers > 1:
                pool = _pool(workers)
            for note in filter(None, notes):
                # Workers have at hand what writing a part needs.
                pool.submit(write_listing, *note).result() if pool is not None else write_listing(*note)
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
    """Write what a source holds in chunks, so that it need not be held in memory; return its sets and what is wrong."""
    folder.mkdir()
    path = Path(place.where)
    is_file = not place.remote and path.is_file() and path.suffix.lower() != ".zip"
    sets = Sets("" if is_file else path.resolve().name.removesuffix(".zip"), place.domain)
    chunk: list[tuple[str, str, int, int]] = []
    troubles: list[Trouble] = []
    number = 0

    def flush() -> None:
        nonlocal number
        (folder / f"{number:06d}").write_text(json.dumps(chunk), "ascii")
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
    unplaced = _tell_tables(sets, folder)
    intake.troubles += len(unplaced)
    return sets, troubles + unplaced


def _is_dicom(listed: Listed) -> bool:
    try:
        return sniff_bytes(read_head(listed.locator, listed.name), listed.size) == "dicom"
    except DataError:
        return False


def _note_of(
    archive: Archive, place: Place, troubles: list[Trouble], known: UInt64[np.ndarray, " n"], part: str
) -> tuple[Path, str, str, str, list[Trouble]] | None:
    """Return what `write_listing` keeps in the place of what an earlier run said of a source; None if the same."""
    item = blake2b(f"listing {place.where}".encode("utf-8", "surrogatepass"), digest_size=8).hexdigest()
    hint = blake2b("\0".join(f"{t.name} {t.reason}" for t in troubles).encode("utf-8", "surrogatepass"), digest_size=8)
    if _within(np.array([_mark(item, hint.hexdigest())], dtype=np.uint64), known).all():
        return None
    return archive.journal / part, item, hint.hexdigest(), place.where, troubles


def _listed(folder: Path) -> Iterator[list[Listed]]:
    for file in sorted(folder.iterdir()):
        yield [Listed(*row) for row in json.loads(file.read_text("ascii"))]


def _batches(
    listing: Path, sets: list[Sets], known: UInt64[np.ndarray, " n"], run: int, intake: Intake, most: int
) -> Iterator[Batch]:
    """Yield what has not been taken in, a batch at a time, in the order of the listing."""
    several = len(sets) > 1
    seen: set[str] = set()
    number = 0
    for place, one in enumerate(sets):
        folder = listing / f"{place:04d}"
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


def _tell_tables(sets: Sets, folder: Path) -> list[Trouble]:
    """Read tables before the files that they may speak of; return what they say of files that can't be told apart."""
    for chunk in _listed(folder):
        for listed in chunk:
            if listed.name.lower().endswith(TABLES):
                _tell_table(sets, listed)
    if sets.tells:
        for chunk in _listed(folder):
            for listed in chunk:
                sets.counted(listed.name)
    return list(sets.unplaced())


def _tell_table(sets: Sets, listed: Listed) -> None:
    """Tell what a table says of files; one that can't be read is refused when its turn comes."""
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


def _known(archive: Archive, memory_mb: int) -> UInt64[np.ndarray, " n"]:
    """Return marks of what has been taken in, sorted: eight bytes a file."""
    with closing(connect(archive, memory_mb=memory_mb)) as database:
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


def _context() -> ForkServerContext:
    """Return how workers come to be: forks of a process that has imported what they need, and nothing else.

    Forking this process, which has threads (DuckDB's, Arrow's), may stop the fork for ever; a fresh interpreter for
    each would import the same modules again.
    """
    context = multiprocessing.get_context("forkserver")
    # Arrow imports pandas, where it is installed, as soon as it is given a list.
    context.set_forkserver_preload([process.__module__, "pandas"])
    return context


def _pool(workers: int) -> ProcessPoolExecutor:
    return ProcessPoolExecutor(workers, mp_context=_context(), initializer=end_with_parent)


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
