"""Which images do the two segmentation tasks that ship refuse, with their gate and without?

    python -m benchmarks.gate_shipped [--data ../shared/data]

`lungs-cxr` and `hippocampus-t1` are shown images of other kinds, under a header that says what the task wants: so no
header gives them away. "Before" is what the tasks did without a gate: their checks of shape, volume and agreement, on
the first few of each kind; where the image has a mask, the Dice of what was answered is told, because an answer that is
right is no failure. Scores of images that the gate knows come from gates that do not know their patient, or their
source. Writes docs/results/gate-shipped.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.__main__ import machine
from benchmarks.gate_kinds import brain, grey
from isocenter.core import Geometry, Image, Prompt, Study
from isocenter.core.errors import PixelError
from isocenter.data.images.nifti import read_nifti
from isocenter.evaluate.overlap import dice
from isocenter.evaluate.ranking import auroc
from isocenter.learn.automatic_data import Case, folds_by_group
from isocenter.learn.automatic_gate import GateConfig, Seen, known_of, load_seen, prepared_of, read_gate_config
from isocenter.models.preparation import normalise
from isocenter.models.segmentation import predict
from isocenter.safety.descriptors import descriptors
from isocenter.safety.gate import Gate, Reading
from isocenter.safety.left_out import Known, readings_left_out
from isocenter.tasks.segment.hippocampus_t1.task import HippocampusT1, _crop_of
from isocenter.tasks.segment.lungs_cxr.task import LungsCxr

ROOT = Path(__file__).resolve().parents[1]
FOLDS, CHANGED, PLACES = 5, 90, 4
ASKED = {"lungs-cxr": 30, "hippocampus-t1": 12}
"""Images of each kind that the whole task is asked about, network and all."""
CLICKS_MM = ((27.0, 22.0, -14.0), (25.0, 17.0, -11.0), (30.0, 26.0, -16.0), (-27.0, 22.0, -14.0), (-30.0, 18.0, -12.0))
"""Points in the hippocampi of the MNI152 template (LPS)."""

Task = LungsCxr | HippocampusT1
Change = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Shown:
    """An image that is shown: its values, and its mask where there is one."""

    array: np.ndarray
    mask: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Row:
    """What happened to one kind."""

    name: str
    group: str
    readings: list[Reading]
    before: list[bool]
    overlaps: list[float]


def numbers(prepared: np.ndarray, gate: Gate) -> dict[str, np.ndarray]:
    """Return the blocks that a gate looks at."""
    found = descriptors(prepared[None])
    return {name: found[name] for name in gate.references[0].blocks}


def image_of(array: np.ndarray, task: Task) -> Image:
    """Return values as an image under the header that the task wants."""
    if isinstance(task, LungsCxr):
        return Image(array[None, None], Geometry((1, *array.shape)), modality="DX", body_part="CHEST")
    shape = (array.shape[0], array.shape[1], array.shape[2])
    geometry = Geometry.axial(shape, spacing_mm=(1.0, 1.0, 1.0), origin_mm=(0.0, 0.0, 0.0))
    return Image(np.ascontiguousarray(array)[None], geometry, modality="MR", body_part="BRAIN")


def asked(task: Task, shown: Sequence[Shown]) -> tuple[list[bool], list[float]]:
    """Return for each image whether the task without its gate abstains, and the Dice of what it answers."""
    gate, task._gate = task._gate, None
    before, overlaps = [], []
    for one in shown[: ASKED[task.card.name]]:
        prediction = task.run(Study("p", images=(image_of(one.array, task),)))
        before.append(prediction.abstained is not None)
        if prediction.value is not None and one.mask is not None:
            found = prediction.value.array.reshape(one.mask.shape)
            overlaps.append(float(np.mean([dice(one.mask == n, found == n) for n in np.unique(one.mask) if n])))
    task._gate = gate
    return before, overlaps


def judged(task: Task, config: GateConfig, shown: Sequence[Shown]) -> list[Reading]:
    """Return what the gate says of images that it does not know."""
    gate = task._gate
    assert_gate(gate)
    out = []
    for one in shown:
        prepared = prepared_of(Case("x", "x", one.array.astype(np.float32), np.zeros(1, np.uint8)), config)
        out.append(gate.judge([numbers(prepared, gate)]))  # type: ignore[union-attr]
    return out


def assert_gate(gate: Gate | None) -> None:
    """Stop where the task has no gate."""
    if gate is None:
        raise SystemExit("the task has no gate; run isocenter.learn.automatic_gate first")


def by_patient(known: Sequence[Known], seen: Sequence[Seen], config: GateConfig, gate: Gate) -> list[Reading]:
    """Return readings of the gate's own images, by gates that know nothing of their patients."""
    folds = folds_by_group([one.case.group for one in seen], FOLDS, config.seed)
    owner = np.repeat(np.arange(len(seen)), [1 + config.copies[one.set_name] for one in seen])
    dealt = [replace(one, part=str(folds[i])) for one, i in zip(known, owner, strict=True)]
    plain = plain_of(known, seen, config)
    out: list[Reading | None] = [None] * len(seen)
    for fold in range(FOLDS):
        mine = [i for i, f in enumerate(folds) if f == fold]
        for i, reading in zip(mine, readings_left_out(dealt, gate, str(fold), [plain[i] for i in mine]), strict=True):
            out[i] = reading
    return [r for r in out if r is not None]


def plain_of(known: Sequence[Known], seen: Sequence[Seen], config: GateConfig) -> list[dict[str, np.ndarray]]:
    """Return the numbers of the images themselves, without their copies."""
    starts = np.cumsum([0, *(1 + config.copies[one.set_name] for one in seen)])[:-1]
    return [dict(known[i].features) for i in starts]


def lungs_kinds(data: Path, seen: Sequence[Seen]) -> dict[str, tuple[str, list[Shown]]]:
    """Return pictures of other kinds."""
    rng = np.random.default_rng(1)
    files = sorted((data / "us_breast_busi" / "images").iterdir())
    some = [files[i] for i in sorted(rng.permutation(len(files))[:200])]
    with np.load(data / "medmnist" / "pneumoniamnist_28.npz") as arrays:
        children = arrays["test_images"][:100]
    cases = [one.case for one in seen if one.set_name == "covid"][:CHANGED]
    nih = [one.case for one in seen if one.set_name == "nih"][::5]

    def each(change: Change) -> list[Shown]:
        return [Shown(np.ascontiguousarray(change(c.image)), change(c.label)) for c in cases]

    def others(change: Change) -> list[Shown]:
        return [Shown(np.ascontiguousarray(change(c.image))) for c in nih]

    changes: dict[str, Change] = {
        "turned by 90 degrees": np.rot90, "turned by 180 degrees": lambda a: np.rot90(a, 2), "upside down": np.flipud,
    }  # fmt: skip
    inverted = [Shown(255 - c.image, c.label) for c in cases]
    return {
        "breast ultrasound": ("far", [Shown(grey(f)) for f in some]),
        "fundus photographs, grey": ("far", [Shown(grey(f)) for f in sorted((data / "fundus_chasedb1").glob("*.jpg"))]),
        "brain MR, slices": ("far", [Shown(a) for a in brain()]),
        "noise": ("far", [Shown(rng.normal(120, 45, (256, 256)).clip(0, 255)) for _ in range(100)]),
        "inverted, learnt from": ("near", inverted),
        "inverted, NIH": ("near", [Shown(255 - c.image) for c in nih]),
        **{f"{name}, learnt from": ("near", each(change)) for name, change in changes.items()},
        **{f"{name}, NIH": ("near", others(change)) for name, change in changes.items()},
        "mirrored left to right, learnt from": ("own kind", each(np.fliplr)),
        "children, 28 pixels enlarged": ("not for", [Shown(np.kron(a, np.ones((9, 9)))) for a in children]),
    }


def crops(volume: Image, points_lps_mm: np.ndarray) -> list[Shown]:
    """Return crops as large as those that the task looks at, at places of a volume."""
    found = []
    for point in points_lps_mm:
        try:
            found.append(Shown(_crop_of(volume, point).prepared))
        except PixelError:  # a place with too little around it is refused before any gate
            continue
    return found


def somewhere(volume: Image, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return places in the brighter part of a volume, which is rarely air."""
    index = np.argwhere(volume.array[0] > np.percentile(volume.array[0], 60))
    return volume.geometry.to_world(index[rng.permutation(len(index))[:count]].astype(np.float64))


def template() -> Image:
    """Return the MNI152 T1 template: one brain, the mean of 152."""
    import nilearn

    file = Path(nilearn.__file__).parent / "datasets" / "data" / "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"
    return replace(read_nifti(file, modality="MR"), body_part="BRAIN")


def hippocampus_kinds(data: Path, seen: Sequence[Seen]) -> dict[str, tuple[str, list[Shown]]]:
    """Return crops of other kinds."""
    rng = np.random.default_rng(3)
    cases = [one.case for one in seen][:CHANGED]
    mni, sarcoma = template(), data / "ct_mr_pet_sts" / "nifti"
    places = somewhere(mni, 80, rng)
    elsewhere = places[np.linalg.norm(np.abs(places) - np.array([28, 22, 14]), axis=1) > 25]
    found: dict[str, tuple[str, list[Shown]]] = {}
    for kind in ("CT", "MR", "PET"):
        files = [f for f in sorted(sarcoma.rglob("*.nii*")) if "mask" not in f.name.lower()]
        volumes = [read_nifti(f) for f in files if kind in f.name.upper() or kind in f.parent.name.upper()]
        made = [one for v in volumes for one in crops(v, somewhere(v, PLACES, rng))]
        found[f"{kind} of limbs and trunk, crops"] = ("far", made)

    def each(change: Change) -> list[Shown]:
        return [Shown(np.ascontiguousarray(change(normalise(c.image))), change(c.label)) for c in cases]

    return {
        **found,
        "noise": ("far", [Shown(rng.normal(size=(36, 50, 36))) for _ in range(60)]),
        "T1 brain template, other places": ("near", crops(mni, elsewhere)),
        "inverted": ("near", [Shown(-normalise(c.image), c.label) for c in cases]),
        "turned by 90 degrees, axial": ("near", each(lambda a: np.rot90(a, 1, (1, 2)))),
        "turned by 90 degrees, sagittal": ("near", each(lambda a: np.rot90(a, 1, (0, 1)))),
        "turned by 180 degrees, axial": ("near", each(lambda a: a[:, ::-1, ::-1])),
        "upside down": ("near", each(lambda a: a[::-1])),
        "front to back": ("near", each(lambda a: a[:, ::-1])),
        "mirrored left to right (the other hippocampus)": ("own kind", each(lambda a: a[:, :, ::-1])),
    }


def measured(task: Task, config: GateConfig, kinds: dict[str, tuple[str, list[Shown]]]) -> list[Row]:
    """Show everything."""
    rows = []
    for name, (group, shown) in kinds.items():
        before, overlaps = asked(task, shown)
        rows.append(Row(name, group, judged(task, config, shown), before, overlaps))
        print(f"{task.card.name}: {name}: {refused(rows[-1].readings):.0%} by the gate", flush=True)
    return rows


def refused(readings: Sequence[Reading]) -> float:
    """Return the share that is refused."""
    return float(np.mean([one.reason is not None for one in readings]))


def area(own: Sequence[Reading], others: Sequence[Reading]) -> float:
    """Return the AUROC of the gate's score, other kinds against its own."""
    scores = np.array([r.score for r in (*own, *others)])
    return auroc(np.arange(len(scores)) >= len(own), scores)


def table(rows: Sequence[Row], own: Sequence[Reading], unseen: dict[str, list[Reading]]) -> list[str]:
    """Return the rows as a table."""
    head = ["shown", "kind", "images", "AUROC against its own", *(f"AUROC against {name}, unknown" for name in unseen)]
    head += ["refused by the gate", "refused before", "refused now", "Dice of what was answered before", "strangest"]
    lines = [f"| {' | '.join(head)} |", "|" + " - |" * len(head)]
    for row in rows:
        strangest = Counter(r.block for r in row.readings).most_common(1)[0][0]
        now = [b or r.reason is not None for b, r in zip(row.before, row.readings, strict=False)]
        areas = [area(own, row.readings), *(area(some, row.readings) for some in unseen.values())]
        overlap = f"{np.mean(row.overlaps):.2f} ({len(row.overlaps)})" if row.overlaps else ""
        cells = [
            row.name, row.group, str(len(row.readings)), *(f"{v:.3f}" for v in areas), f"{refused(row.readings):.0%}",
            f"{np.mean(row.before):.0%} of {len(row.before)}", f"{np.mean(now):.0%}", overlap, strangest,
        ]  # fmt: skip
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def milliseconds(run: Callable[[], object], times: int = 7) -> float:
    """Return the median processor time."""
    found = []
    for _ in range(times):
        started = time.process_time()
        run()
        found.append(1000 * (time.process_time() - started))
    return float(np.median(found))


def cost(task: Task, prepared: np.ndarray) -> str:
    """Say what the gate costs beside the network."""
    gate = task._gate
    assert_gate(gate)
    mine = milliseconds(lambda: gate.judge([numbers(prepared, gate)]))  # type: ignore[union-attr]
    net = milliseconds(lambda: predict(task._net, prepared))
    return f"The gate takes {mine:.0f} ms, the network {net:.0f} ms (processor time, one thread)."


def lungs(data: Path) -> tuple[list[str], dict[str, float]]:
    """Measure lungs-cxr."""
    task, config = LungsCxr(), read_gate_config(ROOT / "configs" / "gate-lungs-cxr.yaml")
    assert_gate(task._gate)
    gate: Gate = task._gate  # type: ignore[assignment]
    seen = load_seen(config, [data / "cxr_covid_lungmask", data / "cxr_nih"])
    known, plain = known_of(seen, config)
    own = by_patient(known, seen, config, gate)
    sources = {s: [i for i, one in enumerate(seen) if one.source == s] for s in dict.fromkeys(o.source for o in seen)}
    unseen = {s: readings_left_out(known, gate, s, [plain[i] for i in rows]) for s, rows in sources.items()}
    rows = measured(task, config, lungs_kinds(data, seen))
    names = {one.case.name for one in seen}
    rest = [f for f in sorted((data / "cxr_covid_lungmask" / "images").iterdir()) if f.stem not in names]
    more = judged(task, config, [Shown(grey(f)) for f in rest])
    chests = [Shown(seen[i].case.image) for i in sources["NIH ChestX-ray14"][::4]]
    before, _ = asked(task, chests)
    shares = {s: refused(r) for s, r in unseen.items()}
    large = {s: r for s, r in unseen.items() if len(r) >= 20}
    weak = min((row for row in rows if row.group == "near"), key=lambda row: refused(row.readings))
    lines = [
        "## lungs-cxr", "",
        f"**Its own kind.** By a gate that knows other patients of the same sources {refused(own):.1%} of {len(own)} "
        "X-rays are refused. By a gate that does not know their source: "
        + "; ".join(f"{s}, {shares[s]:.0%} of {len(r)}" for s, r in unseen.items()) + ". "
        f"Of {len(rest)} further X-rays of the same collection that no gate knows (8 of Hannover, 3 of other reports; "
        f"seen while blocks were chosen), {refused(more):.0%} are refused. Before, {np.mean(before):.0%} of "
        f"{len(before)} "
        "NIH X-rays were refused by the checks of shape and agreement.", "",
        *table(rows, own, large), "", cost(task, prepared_of(seen[0].case, config)), "",
        "The network was taught inverted pictures: what it answered on them was right (see its Dice), so refusing "
        "them is no gain in outlines; it is refused because a header that does not say so is wrong about more than an "
        "outline. MONOCHROME1 is undone before the gate looks.", "",
        f"The weak place is {weak.name}: {1 - refused(weak.readings):.0%} pass the gate, because its limit lets other "
        f"hospitals pass; the Dice of what was answered on them before is {np.mean(weak.overlaps or [np.nan]):.2f}. "
        "Children, whom the task is not for, come from the only third source at hand; whether age, crop or lack of "
        "pixels makes them strange is not known.", "",
        "Ranges of the copies, blocks and limit were chosen on the two large sources above, each in turn left out; "
        "their shares are what the limit was set by, so a third hospital may be refused more often. The scale of "
        "texture was made wider than they say, after X-rays that were blurred had been refused which the network "
        "outlines well (docs/results/scorecards.md).",
    ]  # fmt: skip
    return lines, {"lungs_own": refused(own), **least("lungs", rows, own)}


def hippocampus(data: Path) -> tuple[list[str], dict[str, float]]:
    """Measure hippocampus-t1."""
    task, config = HippocampusT1(), read_gate_config(ROOT / "configs" / "gate-hippocampus-t1.yaml")
    assert_gate(task._gate)
    gate: Gate = task._gate  # type: ignore[assignment]
    seen = load_seen(config, [data / "mr_hippocampus_msd"])
    known, _ = known_of(seen, config)
    own = by_patient(known, seen, config, gate)
    rows = measured(task, config, hippocampus_kinds(data, seen))
    study = Study("p", images=(template(),))
    clicked = [task.run(study, [Prompt("point", np.array([point]))]) for point in CLICKS_MM]
    answered = sum(one.abstained is None for one in clicked)
    scores = [one.likeness.score for one in clicked if one.likeness is not None]
    limit = float(np.quantile(gate.scores, 1 - gate.refused_share))
    lines = [
        "## hippocampus-t1", "",
        f"**Its own kind.** By a gate that knows other patients {refused(own):.1%} of {len(own)} crops are refused. "
        "All are of one hospital, so a limit set on them would refuse every other one; it was set on copies (turned, "
        "moved, scaled, of other contrast and grain) of patients left out, of which it refuses "
        f"{gate.refused_share:.0%}. The only hippocampi of another source at hand are the two of the MNI152 template: "
        f"{answered} of {len(clicked)} clicks on them are answered (scores up to {max(scores):.2f}, limit about "
        f"{limit:.2f}). That is one brain, the mean of 152: of other scanners nothing is known, and the "
        f"template was looked at when blocks "
        "were chosen (with the block of values it was refused).", "",
        *table(rows, own, {}), "", cost(task, prepared_of(seen[0].case, config)), "",
        "Without its gate the task refuses by volume and agreement what the network can't make sense of. A crop that "
        "is mirrored left to right is the other hippocampus, and answered.",
    ]  # fmt: skip
    return lines, {"hippocampus_own": refused(own), **least("hippocampus", rows, own)}


def least(name: str, rows: Sequence[Row], own: Sequence[Reading]) -> dict[str, float]:
    """Return the smallest AUROC of far and of near kinds."""
    return {f"{name}_{g}": min(area(own, r.readings) for r in rows if r.group == g) for g in ("far", "near")}


def main() -> None:
    """Run all; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    given = parser.parse_args()
    torch.set_num_threads(1)
    first, one = lungs(given.data)
    second, two = hippocampus(given.data)
    head = [
        "# Which images the shipped tasks refuse", "",
        f"`python -m benchmarks.gate_shipped`, {datetime.date.today().isoformat()}, {machine()}.", "",
        "Targets: AUROC of the gate's score 0.95 or more for far kinds and 0.85 for near ones, at most 5 % of its own "
        "kind refused, and at most 10 % of a hospital that the gate does not know. Every image came under the header "
        "that the task wants. `Before` and `now` are the whole task without and with its gate, on the first images of "
        "each kind. Against an unknown source: its own images by a gate that does not know it, the others by the whole "
        "gate. Dice: mean of structures of those that were answered before, where a mask is known (how many).", "",
    ]  # fmt: skip
    text = "\n".join([*head, *first, "", *second]) + "\n"
    (ROOT / "docs" / "results" / "gate-shipped.md").write_text(text, encoding="utf-8")
    print(json.dumps({"name": "gate_shipped", **{k: round(v, 4) for k, v in (one | two).items()}}))


if __name__ == "__main__":
    main()
