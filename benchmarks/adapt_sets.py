"""What `isocenter adapt --data` reaches on real labelled sets, from one documented configuration each.

    python -m benchmarks.adapt_sets NAME [NAME ...] [--data ../shared/data] [--work .runs/adapt]

NAME is one of: hippocampus, nnunet, few-labels-5, few-labels-20, few-labels-1, pneumonia, adrenal, breast, chest. Each
goes on from its checkpoints in --work and adds its figures to docs/results/adapt.json; docs/results/adapt.md is written
from all of them. Settings were chosen on validation cases; test parts and held-out folds are looked at once, at the
end.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from benchmarks.__main__ import machine
from isocenter.data.labelled import LabelledSet, open_labelled
from isocenter.evaluate.bootstrap import bootstrap_mean
from isocenter.evaluate.ranking import auroc_macro
from isocenter.learn.adaptation.held_out import MaskRow
from isocenter.learn.adaptation.promise import joined, vector_figures
from isocenter.learn.adaptation.run import AdaptedSet, adapt_to_set
from isocenter.learn.adaptation.settings import DataSettings
from isocenter.learn.adaptation.split import Part, split
from isocenter.models.weights import load_weights
from isocenter.verbs.pretrain import pretrain

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
CXR_FINDINGS = (
    "Atelectasis",
    "Cardiomegaly",
    "Consolidation",
    "Effusion",
    "Infiltration",
    "Mass",
    "Nodule",
    "Pneumothorax",
)
FEW_FOLDS = 3
"""Of the five; each has its own pretraining, without its test cases."""
MASKED_STEPS = 300


@dataclass(frozen=True)
class Line:
    """One line of a table."""

    what: str
    figures: dict[str, str]
    minutes: float


def _learn(
    name: str, labelled: LabelledSet, settings: DataSettings, work: Path, start: str | None = None
) -> tuple[AdaptedSet, float]:
    """Learn, or take up what was learnt; return it and the minutes that each network's training took."""
    weights = None if start is None else load_weights(start)
    found = adapt_to_set(labelled, settings, work / name, start=weights, tell=_Told(name))
    return found, sum(m.learnt.cpu_seconds for m in found.members) / 60 / len(found.members)


class _Told:
    """Prints a line a minute."""

    def __init__(self, name: str) -> None:
        self._name, self._last = name, 0.0

    def __call__(self, what: str, done: float) -> None:
        if time.monotonic() - self._last > 60:
            self._last = time.monotonic()
            print(f"{self._name}: {done:.0%}: {what}", flush=True)


def _dice(rows: Sequence[MaskRow]) -> dict[str, str]:
    out = {}
    for number, name in ((0, "label 1"), (1, "label 2"), (-1, "mean")):
        values = [row.dice[number] if number >= 0 else row.mean for row in rows]
        interval = bootstrap_mean(values, [row.patient for row in rows])
        out[name] = f"{interval.value:.4f} ({interval.low:.4f} to {interval.high:.4f})"
    return out


def hippocampus(data: Path, work: Path) -> list[Line]:
    """Five folds, at most 60 CPU minutes of training each."""
    labelled = open_labelled(data / "mr_hippocampus_msd")
    settings = DataSettings(seed=0, steps=2000, batch=2, learning_rate=3e-3)
    found, minutes = _learn("hippocampus", labelled, settings, work)
    folds = []
    for member in found.members:
        part, rows = member.part, [row for row in found.masks if row.network == member.part.number]
        folds.append({
            "learnt": [labelled.cases[i].name for i in (*part.learnt, *part.validation)],
            "held_out": [labelled.cases[i].name for i in part.held_out],
            "minutes": member.learnt.cpu_seconds / 60, "mean": float(np.mean([row.mean for row in rows])),
            "dice": {row.name: list(row.dice) for row in rows},
        })  # fmt: skip
    (work / "hippocampus" / "folds.json").write_text(json.dumps(folds), "utf-8")
    return [Line("5-fold cross-validation, from scratch", _dice(found.masks), minutes)]


def nnunet(data: Path, work: Path) -> list[Line]:
    """One fold of the hippocampus: ours, and nnU-Net for as many minutes (`benchmarks/nnunet_peer.py` has run)."""
    del data
    peer = json.loads((work / "nnunet" / "peer.json").read_text("utf-8"))
    ours = json.loads((work / "hippocampus" / "folds.json").read_text("utf-8"))[peer["fold"]]
    lines = []
    both = {"isocenter adapt": (ours["dice"], ours["minutes"]), "nnU-Net": (peer["cases"], peer["minutes"])}
    for what, (cases, minutes) in both.items():
        mean = bootstrap_mean([float(np.mean(d)) for d in cases.values()], list(cases))
        lines.append(Line(what, {"mean Dice": f"{mean.value:.4f} ({mean.low:.4f} to {mean.high:.4f})"}, minutes))
    gaps = [float(np.mean(ours["dice"][name]) - np.mean(peer["cases"][name])) for name in peer["cases"]]
    gap = bootstrap_mean(gaps, list(peer["cases"]))
    lines[0].figures["above nnU-Net, case by case"] = f"{gap.value:+.4f} ({gap.low:+.4f} to {gap.high:+.4f})"
    lines[1].figures["iterations"] = f"{peer['iterations']} of batch {peer['batch']}"
    return lines


def _masked_on(images: Sequence[Path], work: Path) -> str:
    """Pretrain the encoder that `isocenter adapt` plans on images alone, or take up what was; return its weights."""
    settings = {
        "method": "masked", "seed": 20261126, "pixels": [40, 56, 40], "ratio": 0.6, "block": [8, 8, 8],
        "backbone": {
            "kind": "residual-unet", "dims": 3, "channels_in": 1, "widths": [24, 48, 96, 192],
            "blocks": [1, 1, 1, 1], "strides": [[1, 1, 1], [2, 2, 2], [2, 2, 2], [2, 2, 2]],
        },
        "crop": {"zoom": [0.8, 1.25]}, "steps": MASKED_STEPS, "batch": 4, "learning_rate": 0.001, "warmup_steps": 50,
        "weight_decay": 0.01, "average": 0.99, "checkpoint_every": 100, "validate_every": 200,
    }  # fmt: skip
    work.mkdir(parents=True, exist_ok=True)
    (work / "images.txt").write_text("".join(f"{image.resolve()}\n" for image in images), "utf-8")
    (work / "masked.yaml").write_text(yaml.safe_dump(settings), "utf-8")
    found = pretrain(
        work / "masked.yaml", work / "run", data=work / "images.txt", resume=True, progress=_Told(work.name)
    )
    return str(found.weights.with_name(f"{found.weights.stem}-whole.safetensors"))


def alone(labelled: LabelledSet, part: Part) -> LabelledSet:
    """Return a part as a set of its own: what is learnt from, and what is held out."""
    kept = [replace(labelled.cases[i], split="train") for i in (*part.learnt, *part.validation)]
    held = [replace(labelled.cases[i], split="test") for i in part.held_out]
    return replace(labelled, cases=(*kept, *held))


def few_labels(data: Path, work: Path, *, count: int, steps: int) -> list[Line]:
    """The same test folds and a few labelled cases; from scratch, and from weights that exist."""
    folder = data / "mr_hippocampus_msd"
    labelled = open_labelled(folder)
    whole = split(labelled.cases, folds=5, seed=0)[:FEW_FOLDS]
    rest = [
        [folder / "images" / f"{labelled.cases[i].name}.nii.gz" for i in (*part.learnt, *part.validation)]
        for part in whole
    ]
    masked = [_masked_on(images, work / f"few-masked-{number}") for number, images in enumerate(rest)]
    starts: dict[str, list[str | None]] = {
        "from scratch": [None] * len(whole),
        "from interactive-3d": ["interactive-3d"] * len(whole),
        "from masked pretraining on the unlabelled rest": list(masked),
    }
    parts, lines = split(labelled.cases, folds=5, seed=0, labelled=count)[:FEW_FOLDS], []
    dice: dict[str, dict[str, float]] = {}
    for what, weights in starts.items():
        settings = DataSettings(seed=0, steps=steps, folds=1, batch=2, learning_rate=3e-3)
        name, minutes, rows = f"few-{count}-{what.replace(' ', '-')}", 0.0, []
        for number, (part, start) in enumerate(zip(parts, weights, strict=True)):
            found, took = _learn(f"{name}-{number}", alone(labelled, part), settings, work, start)
            minutes += took / len(parts)
            rows += found.masks
        dice[what] = {row.name: row.mean for row in rows}
        shown = _dice(rows)
        if weights[0] is not None:
            gain = [dice[what][key] - dice["from scratch"][key] for key in dice[what]]
            against = bootstrap_mean(gain, list(dice[what]))
            shown["above scratch, case by case"] = f"{against.value:+.4f} ({against.low:+.4f} to {against.high:+.4f})"
        lines.append(Line(f"{count} labelled, {what}", shown, minutes))
    return lines


def _repeats(found: AdaptedSet, labelled: LabelledSet) -> dict[str, str]:
    """Return AUROC and accuracy on the test part: mean of the networks, each by itself, and of their ensemble."""
    areas, rights = [], []
    for member in found.members:
        rows = [row for row in found.vectors if row.network == member.part.number]
        truth = np.array([row.target for row in rows], dtype=np.int64)
        answers = np.array([row.answer for row in rows])
        areas.append(auroc_macro(truth, answers))
        rights.append(float((answers.argmax(1) == truth).mean()))
    figures = {f["name"]: f for f in vector_figures("classify", joined(found.vectors), labelled.classes, "")}
    shown = {}
    for name, values in (("AUROC", areas), ("accuracy", rights)):
        figure = figures[name]
        shown[f"{name}, mean of seeds"] = f"{np.mean(values):.4f} ({', '.join(f'{v:.4f}' for v in values)})"
        shown[f"{name} of the ensemble"] = f"{figure['value']:.4f} ({figure['low']:.4f} to {figure['high']:.4f})"
    return shown


def pneumonia(data: Path, work: Path) -> list[Line]:
    """PneumoniaMNIST at 28 pixels, three seeds."""
    labelled = open_labelled(data / "medmnist" / "pneumoniamnist_28.npz")
    found, minutes = _learn("pneumonia", labelled, DataSettings(seed=0, folds=3, steps=1500, learning_rate=3e-3), work)
    return [Line("residual encoder, from scratch", _repeats(found, labelled), minutes)]


def adrenal(data: Path, work: Path) -> list[Line]:
    """AdrenalMNIST3D at 64 voxels, three seeds."""
    labelled = open_labelled(data / "medmnist" / "adrenalmnist3d_64.npz")
    settings = DataSettings(seed=0, folds=3, steps=400, batch=16, widths=(12, 24, 48, 96), learning_rate=2e-3)
    found, minutes = _learn("adrenal", labelled, settings, work)
    return [Line("residual encoder, from scratch", _repeats(found, labelled), minutes)]


def _frozen_and_learnt(name: str, labelled: LabelledSet, work: Path, steps: int) -> list[Line]:
    lines, common = [], DataSettings(seed=0, folds=3, steps=steps, batch=16, side=64, learning_rate=2e-3)
    for what, start, method in (
        ("frozen random backbone", None, "probe"),
        ("from scratch", None, "full"),
        ("frozen interactive-2d", "interactive-2d", "probe"),
        ("from interactive-2d", "interactive-2d", "full"),
    ):
        settings = common.model_copy(update={"method": method})
        found, minutes = _learn(f"{name}-{what.replace(' ', '-')}", labelled, settings, work, start)
        figures = vector_figures(labelled.kind, joined(found.vectors), labelled.classes, "")
        shown = {
            f"{f['name']}, {f['structure']}": f"{f['value']:.3f} ({f['low']:.3f} to {f['high']:.3f})"
            for f in figures
            if "low" in f
        }
        lines.append(Line(what, shown, minutes))
    return lines


def breast(data: Path, work: Path) -> list[Line]:
    """Breast ultrasound: benign, malignant, normal; three folds by image."""
    with (data / "us_breast_busi" / "labels.csv").open(newline="") as stream:
        rows = [(row["image"], row["label"]) for row in csv.DictReader(stream)]
    return _frozen_and_learnt(
        "breast", _table(rows, ("label",), data / "us_breast_busi" / "images", work / "breast.csv"), work, 300
    )


def chest(data: Path, work: Path) -> list[Line]:
    """NIH chest X-rays, findings mined from reports; three folds by patient."""
    with (data / "cxr_nih" / "labels.csv").open(newline="") as stream:
        rows = [
            (row["Image Index"], *(str(int(f in row["Finding Labels"].split("|"))) for f in CXR_FINDINGS))
            for row in csv.DictReader(stream)
        ]
    return _frozen_and_learnt(
        "chest", _table(rows, CXR_FINDINGS, data / "cxr_nih" / "images_256", work / "chest.csv"), work, 300
    )


def _table(rows: Sequence[tuple[str, ...]], columns: Sequence[str], images: Path, file: Path) -> LabelledSet:
    """Write a table of images that are there, and open it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["image", *columns])
        writer.writerows(
            [os.path.relpath(images / row[0], file.parent), *row[1:]] for row in rows if (images / row[0]).is_file()
        )
    return open_labelled(file)


SETS: dict[str, tuple[str, Callable[[Path, Path], list[Line]], str]] = {
    "hippocampus": (
        "Hippocampus (195 T1 crops, two classes)", hippocampus,
        "Target: mean foreground Dice 0.89 or more within 60 CPU minutes of training a fold. Dice on the images' own "
        "voxels; every case counts as a patient.",
    ),
    "nnunet": (
        "Hippocampus, one fold, beside nnU-Net v2 for the same processor minutes", nnunet,
        "nnU-Net 2.8.1 in an environment of its own, 3d_fullres as it plans it, one thread, float32 as it runs on a "
        "processor; its schedule drawn over the iterations that fit. Its published figure, about 0.90, takes GPU days.",
    ),
    **{
        f"few-labels-{count}": (
            f"Few labels: hippocampus, {count} labelled, the same test folds",
            partial(few_labels, count=count, steps=steps),
            f"The first {FEW_FOLDS} of the five test folds, {steps} steps. Masked pretraining: {MASKED_STEPS} steps on "
            "the images of a fold's training part, without labels and without its test cases. Target at 5 cases: "
            "0.82, and pretrained above scratch outside the intervals.",
        )
        for count, steps in ((1, 150), (5, 250), (20, 300))
    },
    "pneumonia": (
        "PneumoniaMNIST, 28 pixels", pneumonia,
        "Published: ResNet-18 (28) AUC 0.944, ACC 0.854; best 0.991 / 0.946. Target: AUC 0.97 and ACC 0.90. The "
        "train part was put together from two copies and is not byte for byte the official one; 8 of its images are "
        "also in the validation part.",
    ),
    "adrenal": (
        "AdrenalMNIST3D, 64 voxels", adrenal,
        "Published (28): ResNet-18 + 3D 0.827 / 0.721, best 0.839 / 0.754. Target: above both at 64.",
    ),
    "breast": (
        "Breast ultrasound (BUSI), three classes", breast,
        "Three folds by image (the set names no patients), 64 pixels, 300 steps of 16 images. A fifth of its frames "
        "are there twice or nearly so, so all lines are too good; those held together: [diagnosis.md](diagnosis.md).",
    ),
    "chest": (
        "NIH chest X-rays, findings", chest,
        "421 patients, one image each, three folds, 64 pixels, 300 steps of 16 images; labels were mined from reports.",
    ),
}  # fmt: skip


def page(kept: dict[str, dict[str, Any]]) -> str:
    """Return the page of results; a `remark` of an entry was written by hand, and goes when the set is run again."""
    lines = [
        "# Adapting to labelled sets", "",
        "`python -m benchmarks.adapt_sets NAME`, figures of each set as of the day it was run. Intervals: 95 %, "
        "bootstrap over patients. Minutes: processor time of training, for each network.", "",
    ]  # fmt: skip
    for name, (title, _, note) in SETS.items():
        if name not in kept:
            continue
        entry = kept[name]
        rows = entry["lines"]
        columns = list(dict.fromkeys(k for row in rows for k in row["figures"]))
        lines += [f"## {title}", "", f"{entry['date']}, {entry['machine']}. {note}{entry.get('remark', '')}", ""]
        lines += ["| what | " + " | ".join(columns) + " | minutes |", "| - |" + " - |" * (len(columns) + 1)]
        for row in rows:
            cells = " | ".join(row["figures"].get(c, "") for c in columns)
            lines.append(f"| {row['what']} | {cells} | {row['minutes']:.1f} |")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run the sets that are named; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("names", nargs="+", choices=sorted(SETS))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--work", type=Path, default=ROOT / ".runs" / "adapt")
    args = parser.parse_args()
    file = RESULTS / "adapt.json"
    for name in args.names:
        lines = SETS[name][1](args.data, args.work)
        kept = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        kept[name] = {
            "date": str(datetime.datetime.now(tz=datetime.UTC).date()), "machine": machine(),
            "lines": [vars(line) for line in lines],
        }  # fmt: skip
        file.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        (RESULTS / "adapt.md").write_text(page(kept), "utf-8")
    print(json.dumps({"name": "adapt_sets", "sets": args.names}))


if __name__ == "__main__":
    main()
