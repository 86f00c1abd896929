"""Where learnt networks looked, against places that are known and against the networks themselves.

    python -m benchmarks.evidence_maps [SET ...] [--work FOLDER]

Each set is learnt with `isocenter adapt --data` (a third of the patients held out), and on held-out cases
that hold the finding every method's map plays the pointing game (where the place is known) and is taken apart by
deletion and insertion, beside smoothed random maps and a bump in the middle of the image. Writes
docs/results/evidence-maps.md and .json.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

import isocenter
from benchmarks.__main__ import ROOT, machine
from benchmarks.evidence_sets import SETS, Case, held_out, spread
from isocenter.data.labelled.files import read_image
from isocenter.evaluate.bootstrap import bootstrap_mean
from isocenter.evaluate.evidence_maps import deletion_curve, energy_inside, insertion_curve, pointing_game
from isocenter.models.learnt import LearntSettings, Preparation, build_learnt
from isocenter.models.learnt.evidence import DEFAULT, METHODS, Target, evidence_maps
from isocenter.models.weights import load_weights

RESULTS = ROOT / "docs" / "results"
STEPS = 10
TOLERANCE = 15 / 256
"""Of the longest side: the 15 pixels of the pointing game, on images of about that size."""
BASELINES = ("random", "centre")
CHOSE = "planted-chest"
"""The set of which one half chose the default."""
NOTE = (
    "**No radiologist's box takes part.** The list of boxes of ChestX-ray14 (984 boxes on 880 images) names none of "
    "the 421 chest images that are here, and the ultrasound images came without their lesion masks. So the pointing "
    "game is played where the place was planted, in real images; on the real findings maps can only be asked whether "
    "the network needs what they show. A planted opacity is easier to see than most findings: the figures say that "
    "maps are right where a network has learnt to see, not that it has.\n\n"
    "**The default is gradient times input, smoothed.** On the half of the planted chests that chose it, it points as "
    "well as occlusion and SmoothGrad, holds most of its energy in the place, and costs a thirtieth of occlusion; on "
    "the real findings its deletion and insertion are best or equal best. Two doubts: it estimates to first order just "
    "what replacing by the mean does, so that deletion and insertion, which do that here, favour it; and a planted "
    "opacity that is replaced by grey is still a disc, so that deletion says little there. Occlusion, which asks the "
    "network "
    "itself, is the one to check it with.\n\n"
    "**A map is worth no more than its network.** A first ball in the hippocampus crops, smaller and less bright, was "
    "learnt to an AUROC of 0.70 alone, and no map of that network pointed better than the middle of the image did, "
    "within the intervals; it was made larger and brighter until the network saw it. On the chest findings, which the "
    "network tells poorly, near cases share no more than chance."
)


class Learnt:
    """The networks of a task folder.

    Args:
        folder: That `isocenter adapt` wrote.
    """

    def __init__(self, folder: Path) -> None:
        card = json.loads((folder / "task.json").read_text())
        self.kind, self.classes = card["kind"], card["classes"]
        self.mirror = tuple(card["mirror"])
        self.preparation = Preparation.from_card(card["preparation"])
        self.retrieval = card["retrieval"]
        self.nets = []
        for entry in card["members"]:
            net = build_learnt(LearntSettings.from_card(card["network"]))
            weights = load_weights(folder / f"{entry['name']}.safetensors")
            net.load_state_dict({k: torch.from_numpy(v) for k, v in weights.arrays.items()}, strict=False)
            self.nets.append(net.eval())

    def score(self, output: int) -> Callable[[np.ndarray], np.ndarray]:
        """Return the mean probability of an output, without calibration, of prepared images."""

        def one(images: np.ndarray) -> np.ndarray:
            with torch.inference_mode():
                x = torch.from_numpy(images.astype(np.float32))
                logits = [net(x).float() for net in self.nets]
                each = [v.softmax(1) if self.kind == "classify" else v.sigmoid() for v in logits]
            return torch.stack(each).mean(0)[:, output].numpy()

        return one


def baseline(name: str, shape: Sequence[int], seed: int) -> np.ndarray:
    """Return a map that knows nothing of the image: smoothed noise, or a bump in the middle."""
    if name == "random":
        noise = np.random.default_rng((5, seed)).normal(size=shape)
        found = ndimage.gaussian_filter(noise, [n / 16 for n in shape])
        return found - found.min()
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.exp(-sum(a**2 for a in axes) / (2 * 0.5**2))


def measure(learnt: Learnt, cases: Sequence[Case], tell: Callable[[str], None]) -> list[dict[str, Any]]:
    """Return a row for each case, finding and method."""
    rows: list[dict[str, Any]] = []
    for number, case in enumerate(cases):
        image = read_image((case.file,))
        prepared = learnt.preparation.forward(image)
        array, space = prepared.array, prepared.array.shape[1:]
        targets = [Target(output, learnt.kind == "classify") for output in case.present]
        found, seconds = {}, {}
        for method in METHODS:
            begin = time.process_time()
            every = evidence_maps(learnt.nets, array, targets, method=method, mirror=learnt.mirror)
            found[method] = every.mean(1)
            seconds[method] = time.process_time() - begin
        for name in BASELINES:
            found[name] = np.stack([baseline(name, space, number * 10 + t) for t in range(len(targets))])
        mean = np.zeros_like(array)  # 0 is an image's own mean, after the preparation
        for place, target in enumerate(targets):
            score = learnt.score(target.output)
            for name, maps in found.items():
                one = maps[place]
                down = deletion_curve(score, array, mean, one, steps=STEPS).area
                up = insertion_curve(score, array, mean, one, steps=STEPS).area
                row = {"patient": opaque(case.patient), "half": chosen_half(case.patient), "method": name,
                       "deletion": down, "insertion": up,
                       "seconds": seconds.get(name, 0.0), "finding": learnt.classes[target.output],
                       "probability": float(score(array[None])[0])}  # fmt: skip
                if case.truth is not None:
                    own = np.clip(prepared.back(one[None].astype(np.float32))[0], 0, None)
                    row |= {
                        "hit": pointing_game(own, case.truth),
                        "near": pointing_game(own, case.truth, tolerance_voxels=TOLERANCE * max(own.shape)),
                        "energy": energy_inside(own, case.truth),
                        "area": float(case.truth.mean()),
                    }
                rows.append(row)
        tell(f"case {number + 1} of {len(cases)}")
    return rows


def interval(rows: Sequence[Mapping[str, Any]], key: str) -> str:
    """Return a mean with its 95 % interval over patients."""
    found = bootstrap_mean([float(r[key]) for r in rows], [r["patient"] for r in rows], resamples=2000)
    return f"{found.value:.2f} ({found.low:.2f} to {found.high:.2f})"


def chosen_half(name: str) -> bool:
    """Tell whether a held-out patient belongs to the half that chose the default method."""
    return hash_of(name) % 2 == 0


def opaque(name: str) -> str:
    """Return a name for a table that is kept: none of the set's own."""
    return hashlib.sha256(name.encode()).hexdigest()[:8]


def hash_of(name: str) -> int:
    """Return a number that the name alone decides, and not the choice of who is held out."""
    return sum(ord(c) * (i + 1) for i, c in enumerate(name))


def table(rows: Sequence[Mapping[str, Any]], known: bool) -> list[str]:
    """Return the table of one set."""
    keys = (["hit", "near", "energy"] if known else []) + ["deletion", "insertion"]
    names = {"hit": "pointing", "near": "pointing, 15/256", "energy": "energy inside",
             "deletion": "deletion (low is good)", "insertion": "insertion (high is good)"}  # fmt: skip
    lines = [
        "| map | " + " | ".join(names[k] for k in keys) + " | CPU s |",
        "| - |" + " - |" * (len(keys) + 1),
    ]
    for method in (*METHODS, *BASELINES):
        mine = [r for r in rows if r["method"] == method]
        shown = f"**{method}**" if method == DEFAULT else method
        cost = f"{np.mean([r['seconds'] for r in mine]):.2f}" if method in METHODS else ""
        lines.append(f"| {shown} | " + " | ".join(interval(mine, k) for k in keys) + f" | {cost} |")
    return lines


def page(kept: Mapping[str, Any]) -> str:
    """Return the page of results."""
    lines = [
        "# Where networks looked", "",
        "`python -m benchmarks.evidence_maps`. One or two networks a set, learnt with `isocenter adapt --data`; maps "
        "on held-out cases that hold the finding. Intervals: 95 %, bootstrap over "
        "patients.",
        "", NOTE, "",
        "Pointing: the strongest voxel lies in the place, or within 15/256 of the longest side of it. Energy inside: "
        "share of the map that lies in it. Deletion and insertion: mean probability of the finding (not calibrated) as "
        f"the strongest voxels are replaced by the image's mean, or put into an image of its mean, in {STEPS} equal "
        "steps. Random: noise smoothed by a sixteenth of each side. Centre: a bump in the middle. CPU s: of one "
        "image's maps, all networks and their views.", "",
    ]  # fmt: skip
    for name, how in SETS.items():
        if name not in kept:
            continue
        entry = kept[name]
        rows = entry["rows"]
        known = "hit" in rows[0]
        lines += [f"## {how.title}", "", f"{entry['date']}, {entry['machine']}. {entry['figures']}", ""]
        if name == CHOSE:
            for half, what in ((True, "The half of patients that chose the default"), (False, "The other half")):
                some = [r for r in rows if r["half"] == half]
                count = len({r["patient"] for r in some})
                area = np.mean([r["area"] for r in some])
                lines += [
                    f"{what}: {count} cases; the place covers {area:.1%} of the image.",
                    "",
                    *table(some, known),
                    "",
                ]
        else:
            count = len({r["patient"] for r in rows})
            area = f" The place covers {np.mean([r['area'] for r in rows]):.1%} of the image." if known else ""
            lines += [f"{count} cases.{area}", "", *table(rows, known), ""]
    return "\n".join(lines)


def run_set(name: str, data: Path, work: Path) -> dict[str, Any]:
    """Learn a set, measure it, and return what is kept."""
    how = SETS[name]
    folder = work / name
    folder.mkdir(parents=True, exist_ok=True)
    made = how.make(data, folder)
    task = folder / "task"
    if not (task / "task.json").is_file():
        done = isocenter.adapt_data(
            made.table, task, work=folder / "checkpoints", folds=how.networks, steps=how.steps, batch=16,
            side=made.side, seed=0, widths=how.widths, learning_rate=3e-3, precision="float32", **how.how,
        )  # fmt: skip
        (folder / "figures.json").write_text(json.dumps([f.model_dump() for f in done.figures]))
    figures = json.loads((folder / "figures.json").read_text())
    learnt = Learnt(task)
    cases = list(spread(made.cases, how.most))
    if any(not held_out(case.patient) for case in cases):
        raise SystemExit("a case that was learnt from would be measured on")
    rows = measure(learnt, cases, lambda line: print(f"{name}: {line}", flush=True))
    said = "; ".join(f"{f['name']}, {f['structure']} {f['value']:.2f}" for f in figures)
    near = learnt.retrieval
    if near is not None:
        said += (
            f". Nearest confirmed cases ({near['measure']}): {near['value']:.2f}"
            + (f" ({near['low']:.2f} to {near['high']:.2f})" if near["low"] is not None else "")
            + f", chance {near['chance']:.2f}"
        )
    return {
        "date": str(datetime.datetime.now(tz=datetime.UTC).date()), "machine": machine(), "rows": rows,
        "figures": f"Held-out figures: {said}.",
    }  # fmt: skip


def main() -> None:
    """Run the sets that are named; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", choices=[*SETS, []])
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "isocenter-evidence")
    args = parser.parse_args()
    torch.set_num_threads(1)
    file = RESULTS / "evidence-maps.json"
    kept = json.loads(file.read_text()) if file.is_file() else {}
    for name in args.names or SETS:
        kept[name] = run_set(name, args.data, args.work)
        for row in kept[name]["rows"]:
            row.update({k: round(v, 4) for k, v in row.items() if isinstance(v, float)})
        file.write_text(json.dumps(kept) + "\n", "utf-8")
        (RESULTS / "evidence-maps.md").write_text(page(kept), "utf-8")
    print(json.dumps({"name": "evidence_maps", "sets": list(kept)}))


if __name__ == "__main__":
    main()
