"""How many random patches of 96^3 voxels a second, from shards and from what others train from?

Ours: `isocenter.data.shards` (Blosc2, whole numbers kept as such, blocks of 16^3 voxels).
Peers: nnU-Net's Blosc2 layout (chunks and blocks by its rule for a patch size, LZ4HC, a filter chosen by trial, mapped
into memory, one thread; written here anew from the description of its rule, nnU-Net 2.8), and MONAI's PersistentDataset
with random crops. One patch of a volume at a time, and four, which is what those do who load whole volumes.

The same volumes for all, of 256^3 voxels: the MNI152 T1 template with a scanner's noise, and invented bodies in
Hounsfield units. Two outputs: int16 as stored by all three, and float32 scaled to zero mean, as nnU-Net stores it and
as ours makes it of int16 after reading. Warm: files are in the page cache and open. Cold: the file of each patch is
dropped from the page cache (checked) and opened anew; what lies below the operating system may still cache. Every patch
is equal to the source's voxels to the last bit. One process, one thread; each has a few draws, then the next.

    python -m benchmarks.patches [--quick]

The full run writes docs/results/patches.md and the figures beside it.
"""

from __future__ import annotations

import argparse
import datetime
import json
import math
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import metadata, util
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.__main__ import ROOT, machine

PATCH = 96
SIDE = 256
PAGE = ROOT / "docs" / "results" / "patches.md"
FORMS = ("int16", "float32, scaled")
Zyx = tuple[int, int, int]


# --- volumes --------------------------------------------------------------------------------------------------------


def t1_volume(seed: int) -> np.ndarray:
    """The MNI152 T1 template at 256^3 voxels with Rician noise, as a scanner's int16."""
    from nilearn import datasets
    from scipy import ndimage

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        template = np.asarray(datasets.load_mni152_template(resolution=1).dataobj, np.float32)
    scaled = ndimage.zoom(template, [SIDE / n for n in template.shape], order=1)
    scaled *= 1000 / scaled.max()
    rng = np.random.default_rng(seed)
    real, imaginary = rng.normal(0, 20, (2, *scaled.shape)).astype(np.float32)
    return np.rint(np.hypot(scaled + real, imaginary)).astype(np.int16)


def ct_volume(seed: int) -> np.ndarray:
    """An invented body in Hounsfield units at 256^3 voxels: labels of the data engine, blur and noise of a kernel."""
    from scipy import ndimage

    from isocenter.synth.volume import synthesise_volume

    labels = synthesise_volume(seed, 0, voxels=128).labels
    rng = np.random.default_rng(seed)
    tissues = rng.uniform(-150, 300, int(labels.max()) + 1)
    tissues[0] = -1000
    body = ndimage.zoom(tissues[labels].astype(np.float32), 2, order=1)
    noise = ndimage.gaussian_filter(rng.normal(0, 40, body.shape).astype(np.float32), 0.6)
    return np.clip(body + noise, -1024, 3071).astype(np.int16)


def scaled_volume(volume: np.ndarray) -> tuple[np.ndarray, np.float32, np.float32]:
    """Zero mean and unit deviation in float32, and the two numbers."""
    mean, deviation = np.float32(volume.mean(dtype=np.float64)), np.float32(volume.std(dtype=np.float64))
    return scale(volume, mean, deviation), mean, deviation


def scale(values: np.ndarray, mean: np.float32, deviation: np.float32) -> np.ndarray:
    out = values.astype(np.float32)
    out -= mean
    out /= deviation
    return out


# --- nnU-Net's layout -----------------------------------------------------------------------------------------------


def nnunet_layout(image: Sequence[int], patch: Sequence[int], itemsize: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return (chunks, blocks) of (channel, z, y, x) by nnU-Net's rule.

    Blocks begin at the power of two that covers the patch, and the axis that covers most of what is aimed at (1.5
    patches) is halved until a block has at most 128 KiB. Chunks grow from one block by whole blocks along the axis that
    covers least, up to what is aimed at and 6 MiB.
    """
    patch = (1, *patch) if len(patch) == 2 else tuple(patch)
    space = tuple(image[1:])
    aim = [max(1, min(n, math.floor(1.5 * p))) for n, p in zip(space, patch, strict=True)]
    block = [min(1 << max(0, p - 1).bit_length(), n) for p, n in zip(patch, space, strict=True)]
    while math.prod(block) * itemsize > 128 * 1024:
        axis = max((a for a in range(3) if block[a] > 1), key=lambda a: (block[a] / aim[a], a))
        block[axis] = 1 << ((block[axis] - 1).bit_length() - 1)
    chunk = list(block)
    while True:
        grown = []
        for axis in range(3):
            if patch[axis] == 1 or chunk[axis] >= aim[axis]:
                continue
            larger = list(chunk)
            larger[axis] = min(larger[axis] + block[axis], aim[axis])
            if math.prod(larger) * itemsize <= 6 * 1024**2:
                grown.append(((chunk[axis] / aim[axis], -space[axis], axis), larger))
        if not grown:
            return (1, *chunk), (1, *block)
        chunk = min(grown)[1]


# --- the three, with one face: get(case, starts) while open, fresh(case, starts) from a closed file ------------------

Read = Callable[[int, list[Zyx]], list[np.ndarray]]


@dataclass
class Contender:
    """One way to store and read; it returns one patch for each start."""

    name: str
    version: str
    files: list[Path]
    get: Read
    fresh: Read
    places: Callable[[], list[Zyx]] | None = None  # where the last patches lay, for one that draws by itself


def ours(folder: Path, volumes: Sequence[np.ndarray], form: str) -> Contender:
    from isocenter.core import Geometry, Image
    from isocenter.data.shards import Shard, open_shard, write_shard
    from isocenter.version import __version__

    grid = Geometry.axial((SIDE,) * 3, spacing_mm=(1.0, 1.0, 1.0))
    files = [folder / f"{n}.b2nd" for n in range(len(volumes))]
    for file, volume in zip(files, volumes, strict=True):
        write_shard(Image(volume[None], grid), file).close()
    shards = [open_shard(f) for f in files]
    numbers = [scaled_volume(v)[1:] for v in volumes]

    def cut(shard: Shard, case: int, starts: list[Zyx]) -> list[np.ndarray]:
        if len(starts) > 1:  # as ShardPatchStream does: the disk reads the next while this one is unpacked
            for start in starts:
                shard.ahead(start, (PATCH,) * 3)
        patches = [shard.patch(start, (PATCH,) * 3) for start in starts]
        return patches if form == FORMS[0] else [scale(p, *numbers[case]) for p in patches]

    def get(case: int, starts: list[Zyx]) -> list[np.ndarray]:
        return cut(shards[case], case, starts)

    def fresh(case: int, starts: list[Zyx]) -> list[np.ndarray]:
        return cut(open_shard(files[case]), case, starts)

    return Contender("isocenter", __version__, files, get, fresh)


def nnunet(folder: Path, volumes: Sequence[np.ndarray], form: str) -> Contender:
    import blosc2

    files = [folder / f"{n}.b2nd" for n in range(len(volumes))]
    for file, volume in zip(files, volumes, strict=True):
        stored = volume if form == FORMS[0] else scaled_volume(volume)[0]
        chunks, blocks = nnunet_layout((1, *stored.shape), (PATCH,) * 3, stored.itemsize)
        packed = []
        for kind in (blosc2.Filter.NOFILTER, blosc2.Filter.SHUFFLE):
            settings = {"codec": blosc2.Codec.LZ4HC, "clevel": 5, "filters": [kind], "nthreads": 1}
            array = blosc2.asarray(stored[None], chunks=chunks, blocks=blocks, cparams=settings)
            packed.append(array.to_cframe())
        file.write_bytes(min(packed, key=len))

    def load(case: int) -> Any:
        return blosc2.open(str(files[case]), mode="r", mmap_mode="r", dparams={"nthreads": 1})

    opened = [load(n) for n in range(len(files))]

    def cut(array: Any, starts: list[Zyx]) -> list[np.ndarray]:
        return [array[0:1, z : z + PATCH, y : y + PATCH, x : x + PATCH] for z, y, x in starts]

    return Contender(
        "nnU-Net's Blosc2 layout",
        f"2.8 (rule), Blosc2 {blosc2.__version__}",
        files,
        lambda case, starts: cut(opened[case], starts),
        lambda case, starts: cut(load(case), starts),
    )


def monai(folder: Path, volumes: Sequence[np.ndarray], form: str) -> Contender:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from monai.data import PersistentDataset
        from monai.transforms import Compose, EnsureChannelFirst, LoadImage, RandSpatialCrop

        sources = [folder / f"{n}.npy" for n in range(len(volumes))]
        for file, volume in zip(sources, volumes, strict=True):
            np.save(file, volume if form == FORMS[0] else scaled_volume(volume)[0])
        dtype = np.int16 if form == FORMS[0] else np.float32
        load = LoadImage(reader="NumpyReader", image_only=True, dtype=dtype)
        ahead = Compose([load, EnsureChannelFirst(channel_dim="no_channel")])
        whole = PersistentDataset([str(s) for s in sources], ahead, cache_dir=folder / "cache")
        crop = RandSpatialCrop((PATCH,) * 3, random_size=False)
        crop.set_random_state(0)
    lay: list[Zyx] = []

    def get(case: int, starts: list[Zyx]) -> list[np.ndarray]:
        volume, patches = whole[case], []
        lay.clear()
        for _ in starts:
            patches.append(crop(volume))
            z, y, x = (int(s.start) for s in crop._slices[-3:])
            lay.append((z, y, x))
        return patches

    for n in range(len(sources)):
        get(n, [(0, 0, 0)])
    files = [Path(whole.cache_dir) / f"{_hash_of(whole, n)}.pt" for n in range(len(sources))]
    return Contender(
        "MONAI PersistentDataset, RandSpatialCrop", metadata.version("monai"), files, get, get, lambda: list(lay)
    )


def _hash_of(dataset: Any, case: int) -> str:
    """Return the name under which MONAI keeps a case."""
    return dataset.hash_func(dataset.data[case]).decode("utf-8") + dataset.transform_hash


# --- measuring ------------------------------------------------------------------------------------------------------


def drop(file: Path) -> None:
    """Take a file out of the page cache, and check that it is."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        for _ in range(20):
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
            if not _cached(descriptor, file.stat().st_size):
                return
            time.sleep(0.02)
    finally:
        os.close(descriptor)
    raise SystemExit(f"{file.name} stays in the page cache: a cold figure would not be cold")


def _cached(descriptor: int, size: int) -> bool:
    """Tell whether any of some pages can be read without waiting; not known, and False, where the system can't say."""
    if not hasattr(os, "RWF_NOWAIT"):
        return False
    for position in range(0, size, 1024**2):
        try:
            os.preadv(descriptor, [bytearray(1)], position, os.RWF_NOWAIT)
        except BlockingIOError:
            continue
        return True
    return False


Seconds = dict[tuple[str, int], list[float]]
"""Seconds of each draw, by (warm or cold, patches of one volume)."""
WAYS = [(how, together) for how in ("warm", "cold") for together in (1, 4)]
BLOCK = {"warm": 8, "cold": 4}
"""Draws in a row of one contender; then the next one's, so that whatever else the machine does meets all alike."""


def check(contender: Contender, got: list[np.ndarray], truth: np.ndarray, starts: list[Zyx]) -> None:
    for patch, (z, y, x) in zip(got, contender.places() if contender.places else starts, strict=True):
        want = truth[z : z + PATCH, y : y + PATCH, x : x + PATCH]
        values = np.asarray(patch).reshape(want.shape)
        if values.dtype != want.dtype or not np.array_equal(values, want):
            raise SystemExit(f"{contender.name}: a patch is not the source's voxels")


def timed(contender: Contender, truth: Sequence[np.ndarray], draw: tuple[int, list[Zyx]], how: str) -> float:
    """Return the seconds of one draw, whose patches are checked."""
    case, starts = draw
    if how == "cold":
        drop(contender.files[case])
    read = contender.fresh if how == "cold" else contender.get
    before = time.perf_counter()
    got = read(case, starts)
    seconds = time.perf_counter() - before
    check(contender, got, truth[case], starts)
    return seconds


def contenders(folder: Path, volumes: Sequence[np.ndarray], form: str) -> list[Contender]:
    makers = {"ours": ours, "nnunet": nnunet, **({"monai": monai} if util.find_spec("monai") else {})}
    found = []
    for name, make in makers.items():
        (folder / name).mkdir(parents=True)
        found.append(make(folder / name, volumes, form))
    return found


def measure(volumes: Sequence[np.ndarray], form: str, *, rounds: int) -> list[tuple[Contender, Seconds, int]]:
    """Each in turn, block by block, at the same places but for MONAI, which draws its own."""
    truth = [v if form == FORMS[0] else scaled_volume(v)[0] for v in volumes]
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory(dir=os.environ.get("ISOCENTER_BENCH_DIR")) as temporary:
        found = contenders(Path(temporary), volumes, form)
        times: list[Seconds] = [{way: [] for way in WAYS} for _ in found]
        for how, together in WAYS:
            if how == "cold":
                for contender in found:  # what is mapped stays in the page cache
                    contender.get = contender.fresh
            for turn in range(rounds + 1):
                draws: list[tuple[int, list[Zyx]]] = []
                for _ in range(BLOCK[how]):
                    starts = rng.integers(0, SIDE - PATCH + 1, (together, 3)).tolist()
                    draws.append((int(rng.integers(len(volumes))), [(z, y, x) for z, y, x in starts]))
                for contender, seconds in zip(found, times, strict=True):
                    few = draws[:2] if contender.places else draws
                    block = [timed(contender, truth, draw, how) for draw in few]
                    if turn:  # the first warms up
                        seconds[how, together] += block
        sizes = [sum(f.stat().st_size for f in c.files) for c in found]
    return list(zip(found, times, sizes, strict=True))


def rate(seconds: Seconds, way: tuple[str, int]) -> float:
    """Patches a second at the median draw."""
    return way[1] / statistics.median(seconds[way])


def through_data_set(volumes: Sequence[np.ndarray], draws: int) -> float:
    """Patches a second of `ShardPatches`, scaled to float32 tensors, warm, one process."""
    from isocenter.core import Geometry, Image
    from isocenter.data.shards import write_shard
    from isocenter.learn.shard_patches import PatchArgs, ShardPatches

    grid = Geometry.axial((SIDE,) * 3, spacing_mm=(1.0, 1.0, 1.0))
    with tempfile.TemporaryDirectory(dir=os.environ.get("ISOCENTER_BENCH_DIR")) as temporary:
        names = [str(Path(temporary) / f"{n}.b2nd") for n in range(len(volumes))]
        for name, volume in zip(names, volumes, strict=True):
            write_shard(Image(volume[None], grid), Path(name)).close()
        data = ShardPatches(names, PatchArgs(per_epoch=draws, scale="zscore"))
        seconds = []
        for number in range(draws):
            before = time.perf_counter()
            data[number]
            seconds.append(time.perf_counter() - before)
        data.close()
    return 1 / statistics.median(seconds)


def _times(shape: Sequence[int]) -> str:
    return " x ".join(map(str, shape))


def layouts(volume: np.ndarray) -> list[tuple[str, float, float]]:
    """(layout, patches a second, times smaller) of one int16 volume: why ours is as it is."""
    import blosc2

    codecs, filters = blosc2.Codec, blosc2.Filter
    chosen = ((32, 32, 64), (16, 16, 16), codecs.LZ4HC, 5, filters.SHUFFLE)
    tried: list[tuple[str, tuple[Any, ...]]] = [("ours: blocks 16^3, chunks 32 x 32 x 64, LZ4HC, shuffle", chosen)]
    for block in (8, 12, 24, 32):
        chunks = (block * 2, block * 2, block * 4)
        tried.append((f"blocks {block}^3, chunks {_times(chunks)}", (chunks, (block,) * 3, *chosen[2:])))
    shapes = ((32, 32, 32), (32, 64, 64), (64, 64, 64), (96, 96, 96), (256, 256, 256))
    tried += [(f"chunks {_times(chunk)}", (chunk, *chosen[1:])) for chunk in shapes]
    tried += [
        ("LZ4", (*chosen[:2], codecs.LZ4, 5, filters.SHUFFLE)),
        ("BloscLZ", (*chosen[:2], codecs.BLOSCLZ, 5, filters.SHUFFLE)),
        ("Zstandard, level 1", (*chosen[:2], codecs.ZSTD, 1, filters.SHUFFLE)),
        ("bits shuffled", (*chosen[:3], 5, filters.BITSHUFFLE)),
        ("no filter", (*chosen[:3], 5, filters.NOFILTER)),
        ("not packed", (*chosen[:2], codecs.LZ4, 0, filters.NOFILTER)),
    ]
    starts = np.random.default_rng(0).integers(0, SIDE - PATCH + 1, (20, 3)).tolist()
    with tempfile.TemporaryDirectory(dir=os.environ.get("ISOCENTER_BENCH_DIR")) as temporary:
        files = [Path(temporary) / f"{n}.b2nd" for n in range(len(tried))]
        for file, (_, (chunks, blocks, codec, level, kind)) in zip(files, tried, strict=True):
            settings = {"codec": codec, "clevel": level, "filters": [kind], "nthreads": 1}
            blosc2.asarray(volume, urlpath=str(file), chunks=chunks, blocks=blocks, cparams=settings)
        arrays = [blosc2.open(str(f), mode="r", mmap_mode="r", dparams={"nthreads": 1}) for f in files]
        seconds: list[list[float]] = [[] for _ in tried]
        for _ in range(6):
            for array, its in zip(arrays, seconds, strict=True):
                for z, y, x in starts:
                    before = time.process_time()
                    array[z : z + PATCH, y : y + PATCH, x : x + PATCH]
                    its.append(time.process_time() - before)
        smaller = [volume.nbytes / f.stat().st_size for f in files]
    return [(name, 1 / statistics.median(its), n) for (name, _), its, n in zip(tried, seconds, smaller, strict=True)]


# --- the page -------------------------------------------------------------------------------------------------------


def page(figures: dict[str, Any]) -> str:
    """Write the page from the figures."""
    heads = [f"{how}, {together} of a volume" for how, together in WAYS]
    lines = [
        "# Random patches from shards",
        "",
        f"`python -m benchmarks.patches`, {figures['date']}, {figures['machine']}.",
        f"Other work ran on it meanwhile: load average {figures['load']:.1f}; the same for all ways.",
        "",
        "Patches of 96^3 voxels a second at random places of volumes of 256^3 voxels, one process, one thread, each",
        "way in turn; at the median draw. Every patch was equal to the source's voxels to the last bit. Warm: files in",
        "the page cache and open. Cold: the file dropped from the page cache, checked, and opened anew before each",
        "patch or four; what lies below the operating system may still cache. Ours checks a chunk's checksum when it",
        "is first touched: in each cold patch, not in warm ones.",
        "",
        "nnU-Net stores float32 that is scaled already; ours keeps int16, scales after reading, and gives the same",
        "float32. Both are also compared at int16. Chunks and blocks of the former follow the rule of nnU-Net 2.8,",
        "written anew, for patches of 96^3. MONAI loads the whole volume for each draw, of one patch or of four. Of",
        "four, ours names all to the system first, which reads the later ones while the first is unpacked.",
        "",
        f"| volumes | values | way | {' | '.join(heads)} | MB a volume |",
        f"| --- | --- | --- |{' ---: |' * len(WAYS)} ---: |",
    ]
    for r in figures["rows"]:
        rates = " | ".join(f"{median:.0f}" for median in r["rates"])
        lines.append(f"| {r['volumes']} | {r['form']} | {r['way']} | {rates} | {r['mb']:.1f} |")
    lines += ["", "Ours over the best of the others:", "", f"| volumes | values | {' | '.join(heads)} |"]
    lines.append(f"| --- | --- |{' ---: |' * len(WAYS)}")
    lines += [
        f"| {r['volumes']} | {r['form']} | {' | '.join(f'{ratio:.2f}' for ratio in r['ratios'])} |"
        for r in figures["ratios"]
    ]
    lines += [
        "",
        f"Through `ShardPatches`, as scaled float32 tensors, warm: {figures['data_set']:.0f} a second.",
        "",
        "## Why this layout",
        "",
        "One int16 volume (T1), warm; each row changes what it names of the first. By processor time, median of draws.",
        "",
        "| layout | patches a second of processor time | times smaller |",
        "| --- | ---: | ---: |",
    ]
    lines += [f"| {name} | {median:.0f} | {times:.2f} |" for name, median, times in figures["layouts"]]
    missing = figures["missing"]
    return "\n".join([*lines, *(["", missing] if missing else [])]) + "\n"


def main() -> None:
    """Measure, print, and write the page after a full run; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="one volume of each kind, fewer rounds")
    quick = parser.parse_args().quick
    cases, rounds = (1, 4) if quick else (3, 24)
    rows: list[dict[str, Any]] = []
    ratios: list[dict[str, Any]] = []
    comparisons: list[dict[str, Any]] = []
    for kind, make in {"T1": t1_volume, "CT-like": ct_volume}.items():
        volumes = [make(seed) for seed in range(cases)]
        for form in FORMS:
            got = measure(volumes, form, rounds=rounds)
            for contender, seconds, size in got:
                medians = [rate(seconds, way) for way in WAYS]
                mb = size / len(volumes) / 1e6
                rows.append({"volumes": kind, "form": form, "way": contender.name, "rates": medians, "mb": mb})
                shown = " ".join(f"{median:7.1f}" for median in medians)
                print(f"{kind:8s} {form:16s} {contender.name:42s} {shown} {mb:6.1f} MB", flush=True)
            ratio = []
            for how, together in WAYS:
                best, its, _ = max(got[1:], key=lambda g: rate(g[1], (how, together)))
                o, p = rate(got[0][1], (how, together)), rate(its, (how, together))
                ratio.append(o / p)
                numbers = {"ours": round(o, 1), "peer": round(p, 1), "ratio": round(o / p, 3), "unit": "patches/s"}
                on = {"input": f"{kind}, {form}, {how}, {together} of a volume"}
                comparisons.append(
                    {"name": "patches", **numbers, "peer_name": best.name, "peer_version": best.version, **on}
                )
            ratios.append({"volumes": kind, "form": form, "ratios": ratio})
    missing = "" if util.find_spec("monai") else "MONAI is not installed here: no comparison with PersistentDataset."
    if missing:
        print(missing)
    if not quick:
        figures = {
            "date": datetime.date.today().isoformat(),
            "machine": machine(),
            "load": os.getloadavg()[1],
            "rows": rows,
            "ratios": ratios,
            "data_set": through_data_set([t1_volume(0), t1_volume(1)], 200),
            "layouts": [list(row) for row in layouts(t1_volume(0))],
            "missing": missing,
        }
        PAGE.with_suffix(".json").write_text(json.dumps(figures, indent=1) + "\n", "utf-8")
        PAGE.write_text(page(figures), "utf-8")
    worst = min(comparisons, key=lambda row: row["ratio"])
    worst = {**worst, "input": f"96^3 of 256^3 voxels, the least favourable of {len(comparisons)}: {worst['input']}"}
    print(json.dumps({**worst, "cases": comparisons, "note": missing}))


if __name__ == "__main__":
    main()
