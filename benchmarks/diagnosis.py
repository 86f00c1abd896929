"""The learnt tasks that ship: learnt again from their sets, measured on held-out cases, and put into the package.

    python -m benchmarks.diagnosis [NAME ...] [--data ../shared/data] [--work .runs/diagnosis] [--ship]

NAME is one of: chest-xray, breast-us, adrenal-shape, and fundus-vessels, chest-xray-twelve and chest-xray-network,
which were tried and don't ship; the first three by default. How each is learnt stands in configs/diagnosis/NAME.yaml.
Which findings of chest films are asked, and that their answer is linear, was chosen by held-out figures, and the page
says so; other settings were not. Each goes on from its checkpoints in --work, and adds its figures to
docs/results/diagnosis.json, of which docs/results/diagnosis.md is written. --ship puts the folders into the package,
without the table of held-out cases, which names images.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import shutil
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image as Picture
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from benchmarks.__main__ import machine
from isocenter.evaluate.calibration import adaptive_calibration_error, expected_calibration_error
from isocenter.evaluate.probabilities import brier, brier_classes
from isocenter.models.weights import publish_card, read_card
from isocenter.verbs.adapt_data import adapt_data, learn_network
from isocenter.verbs.adapted_folder import CONFIG
from isocenter.verbs.learnt_folder import HELD_OUT
from isocenter.verbs.shipped import SHIPPED

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
PLACE = ROOT / "src" / "isocenter" / "weights" / "learnt"
CXR_FINDINGS = ("Atelectasis", "Cardiomegaly", "Consolidation", "Effusion", "Emphysema", "Mass")
"""Those that ship: chosen from `TWELVE` by these same folds, so that their figures are a little too good."""
TWELVE = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Edema", "Effusion", "Emphysema", "Fibrosis", "Infiltration",
    "Mass", "Nodule", "Pleural_Thickening", "Pneumothorax",
)  # fmt: skip
"""Those that 12 patients or more have, but for pneumonia and hernia."""
_PLAIN = {"Effusion": "Pleural effusion", "Edema": "Pulmonary edema", "Pleural_Thickening": "Pleural thickening"}
_TRIED: dict[str, dict[str, Any]] = {
    "chest-xray-twelve": {},
    "chest-xray-network": {
        "method": "full", "region": None, "side": 128, "steps": 600, "batch": 16, "widths": (16, 32, 64, 128),
        "learning_rate": 0.002, "folds": 3, "mirror": "auto",
    },
}  # fmt: skip
"""What they change of configs/diagnosis/chest-xray.yaml."""


def _table(rows: Sequence[Sequence[object]], columns: Sequence[str], file: Path) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(columns)
        writer.writerows(rows)
    return file


def chest(data: Path, work: Path, findings: Sequence[str] = CXR_FINDINGS) -> Path:
    """Write the table of 421 patients of NIH ChestX-ray14, one frontal film each."""
    with (data / "cxr_nih" / "labels.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    images = data / "cxr_nih" / "images_256"
    names = [_PLAIN.get(f, f) for f in findings]
    return _table(
        [
            (
                os.path.relpath(images / row["Image Index"], work), row["Patient ID"],
                *(int(f in row["Finding Labels"].split("|")) for f in findings),
            )
            for row in rows
            if (images / row["Image Index"]).is_file()
        ],
        ("image", "patient", *names), work / f"chest-xray-{len(findings)}.csv",
    )  # fmt: skip


def breast(data: Path, work: Path) -> Path:
    """Write the table of the breast ultrasound images.

    The set names no patients, and some frames are there twice, a few under two labels. Images that look alike count as
    of one patient, so that none is held out while its twin is learnt from; those of two labels are left out.
    """
    folder = data / "us_breast_busi"
    with (folder / "labels.csv").open(newline="") as stream:
        rows = [(row["image"], row["label"]) for row in csv.DictReader(stream)]
    groups = look_alikes([folder / "images" / name for name, _ in rows])
    labels: dict[int, set[str]] = {}
    for group, (_, label) in zip(groups, rows, strict=True):
        labels.setdefault(group, set()).add(label)
    return _table(
        [
            (os.path.relpath(folder / "images" / name, work), f"group-{group}", label)
            for group, (name, label) in zip(groups, rows, strict=True)
            if len(labels[group]) == 1
        ],
        ("image", "patient", "label"), work / "breast-us.csv",
    )  # fmt: skip


def look_alikes(files: Sequence[Path], *, least: float = 0.95, side: int = 48) -> list[int]:
    """Return for each picture the number of its group: pictures that correlate, and those that these correlate with."""
    small = []
    for file in files:
        with Picture.open(file) as picture:
            values = np.asarray(picture.convert("L").resize((side, side)), dtype=np.float64).ravel()
        small.append((values - values.mean()) / max(values.std(), 1e-9))
    alike = np.array(small) @ np.array(small).T / side**2 > least
    return [int(n) for n in connected_components(csr_array(alike), directed=False)[1]]


def adrenal(data: Path, work: Path) -> Path:
    """Return the set of adrenal shapes, with its own train, validation and test parts."""
    del work
    return data / "medmnist" / "adrenalmnist3d_64.npz"


def fundus(data: Path, work: Path) -> Path:
    """Write the folder of 28 fundus photographs of 14 children (CHASE_DB1), with the first observer's vessels."""
    source, folder = data / "fundus_chasedb1", work / "fundus-set"
    if (folder / "patients.csv").is_file():  # written last
        return folder
    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    rows = []
    for file in sorted(source.glob("*_1stHO.png")):
        name = file.name.removesuffix("_1stHO.png")
        shutil.copyfile(source / f"{name}.jpg", folder / "images" / f"{name}.jpg")
        with Picture.open(file) as picture:
            vessels = np.asarray(picture.convert("L")) > 127
        Picture.fromarray(vessels.astype(np.uint8)).save(folder / "labels" / f"{name}.png")
        rows.append((name, name.removeprefix("Image_")[:2]))
    (folder / "classes.txt").write_text("Retinal vessel\n", "utf-8")
    _table(rows, ("case", "patient"), folder / "patients.csv")
    return folder


SETS: dict[str, tuple[Callable[[Path, Path], Path], str]] = {
    "chest-xray": (
        chest,
        "421 patients of NIH ChestX-ray14, one film each; labels were mined from reports, and not all are right. Its "
        "six findings are those of the twelve below of which anything could be told, by the same folds: their figures "
        "are a little too good.",
    ),
    "breast-us": (
        breast,
        "BUSI; the set names no patients, and a fifth of its frames are there twice or nearly so: images that "
        "correlate above 0.95 at 48 pixels count as of one patient, and those of them with two labels are left out.",
    ),
    "adrenal-shape": (adrenal, "AdrenalMNIST3D at 64 voxels: outlines of adrenal glands; its own test part."),
    "fundus-vessels": (
        fundus,
        "Tried, does not ship. CHASE_DB1: both eyes of 14 children, the first observer's vessels; folds by child. Dice "
        "on the photographs' own pixels; a network sees them at 640. `isocenter check` is against it: 28 cases are too "
        "few to promise a quality, and what the ball of its phantom changes is not where the ball is, as vessels are "
        "no balls. A photograph of another camera (scikit-image's retina) is answered, and looks right; so are a "
        "photograph upside down and one of its red channel alone, which a gate on layout and texture does not refuse.",
    ),
    "chest-xray-twelve": (
        partial(chest, findings=TWELVE),
        "Tried, does not ship: the same, asked for all findings of 12 patients or more.",
    ),
    "chest-xray-network": (
        partial(chest, findings=TWELVE),
        "Tried, does not ship: a network from scratch on whole films at 128 pixels, three folds.",
    ),
}  # fmt: skip


def _settings(name: str) -> dict[str, Any]:
    file = "chest-xray" if name in _TRIED else name
    read = yaml.safe_load((ROOT / "configs" / "diagnosis" / f"{file}.yaml").read_text("utf-8"))
    return {**read, **_TRIED.get(name, {})}


def learn(name: str, data: Path, work: Path) -> dict[str, Any]:
    """Learn one task; return what its section says."""
    told = [0.0]

    def tell(stage: str, done: float) -> None:
        if time.monotonic() - told[0] > 60:
            told[0] = time.monotonic()
            print(f"{name}: {done:.0%}: {stage}", flush=True)

    make, _ = SETS[name]
    started = time.process_time()
    result = adapt_data(
        make(data, work.resolve()), work / name, name=name, work=work / f"{name}-checkpoints", overwrite=True,
        replaces=True, progress=tell, **_settings(name),
    )  # fmt: skip
    figures = [
        {"name": f.name, "of": f.structure, "value": f.value, "low": f.low, "high": f.high, "count": f.count}
        for f in result.figures
    ]
    return {
        "date": str(datetime.datetime.now(tz=datetime.UTC).date()), "machine": machine(),
        "learnt_on": learnt_on(work / name),
        "cases": result.cases, "networks": result.networks, "steps": result.steps, "left_out": len(result.left_out),
        "cpu_minutes": (time.process_time() - started) / 60,
        "figures": figures, "calibration": calibration(work / name / HELD_OUT, result.kind, result.classes),
        "notes": list(result.notes),
    }  # fmt: skip


def learnt_on(folder: Path) -> list[str]:
    """Return where the networks of a task learnt, as their cards say."""
    said = [read_card(file).training.get("learnt_on", []) for file in sorted(folder.glob("*.safetensors"))]
    return sorted({str(where) for one in said if isinstance(one, list) for where in one})


def calibration(file: Path, kind: str, classes: Sequence[str]) -> list[dict[str, Any]]:
    """Return Brier scores and calibration errors of held-out answers; nothing for masks."""
    if kind not in ("classify", "multilabel"):
        return []
    with file.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    cases: dict[str, list[dict[str, str]]] = {}
    for row in rows:
        cases.setdefault(row["case"], []).append(row)
    p = np.array([[np.mean([float(r[f"answer {c}"]) for r in some]) for c in classes] for some in cases.values()])
    if kind == "classify":
        truth = np.array([int(some[0]["label"]) for some in cases.values()])
        right = p.argmax(1) == truth
        return [
            {
                "of": "all", "brier": float(brier_classes(truth, p)),
                "ece": float(expected_calibration_error(right, p.max(1))),
                "adaptive_ece": float(adaptive_calibration_error(right, p.max(1))), "cases": len(truth),
            }
        ]  # fmt: skip
    told = []
    for number, name in enumerate(classes):
        labels = [some[0][f"label {name}"] for some in cases.values()]
        known = np.array([label not in ("", "nan", "-1") for label in labels])
        truth = np.array([float(label) > 0 for label, k in zip(labels, known, strict=True) if k])
        q = p[known, number]
        told.append(
            {
                "of": name, "brier": float(brier(truth, q)), "ece": float(expected_calibration_error(truth, q)),
                "adaptive_ece": float(adaptive_calibration_error(truth, q)),
                "cases": len(truth), "share": float(truth.mean()),
            }
        )  # fmt: skip
    return told


def ship(name: str, work: Path) -> None:
    """Put a folder into the package."""
    place = PLACE / name
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(work / name, place, ignore=shutil.ignore_patterns(HELD_OUT))
    made = json.loads((place / CONFIG).read_text("utf-8"))
    made["data"]["cases"] = [{"sha256": case["sha256"]} for case in made["data"]["cases"]]
    made["data"]["left_out"] = sorted(set(made["data"]["left_out"].values()))
    (place / CONFIG).write_text(json.dumps(made, indent=1, ensure_ascii=False) + "\n", "utf-8")
    for file in sorted(place.glob("*.safetensors")):
        card = read_card(file).model_copy(update={"scorecard": f"docs/results/scorecard-{name}.md"})
        publish_card(place, card)


def _elsewhere(entry: dict[str, Any]) -> str:
    away = [where for where in entry.get("learnt_on", []) if not where.startswith("processor")]
    return f"Networks learnt on: {'; '.join(away)}. " if away else ""


def page(kept: dict[str, dict[str, Any]]) -> str:
    """Return the page of results."""
    lines = [
        "# The learnt tasks that ship", "",
        "`python -m benchmarks.diagnosis`. Figures of held-out cases, each answered by networks that never saw its "
        "patient (folds), or of the set's own test part; intervals: 95 %, bootstrap over patients. The task that ships "
        "is the ensemble of these networks; of folds, the ensemble itself was not measured. Calibration is of these "
        "answers, before the temperature that the tasks apply, which was fitted on them. What the tasks do with "
        "images of another kind: [the gate](gate-kinds.md); what maps show: [evidence](evidence-maps.md).", "",
    ]  # fmt: skip
    for name in SETS:
        if name not in kept:
            continue
        e = kept[name]
        lines += [
            f"## {name}", "",
            f"{e['date']}, {e['machine']}. {_elsewhere(e)}{SETS[name][1]} {e['cases']} cases, {e['networks']} "
            f"networks of {e['steps']} steps.", "",
            "| metric | of | value | interval | patients |", "| - | - | - | - | - |",
        ]  # fmt: skip
        for f in e["figures"]:
            interval = "" if f["low"] is None else f"{f['low']:.3f} to {f['high']:.3f}"
            lines.append(f"| {f['name']} | {f['of']} | {f['value']:.3f} | {interval} | {f['count']} |")
        if e["calibration"]:
            lines += [
                "",
                "| calibration of | Brier | ECE | adaptive ECE | share with it | cases |",
                "| - | - | - | - | - | - |",
            ]
            for c in e["calibration"]:
                share = f"{c['share']:.2f}" if "share" in c else ""
                lines.append(
                    f"| {c['of']} | {c['brier']:.3f} | {c['ece']:.3f} | {c['adaptive_ece']:.3f} | {share} | "
                    f"{c['cases']} |"
                )
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Learn the tasks that are named; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SETS)}")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--work", type=Path, default=ROOT / ".runs" / "diagnosis")
    parser.add_argument("--ship", action="store_true")
    parser.add_argument("--network", type=int, help="learn this network alone, from 1; the others elsewhere")
    args = parser.parse_args()
    names = args.names or list(SHIPPED)
    file = RESULTS / "diagnosis.json"
    for name in names:
        if name not in SETS:
            parser.error(f"no task {name!r}")
        args.work.mkdir(parents=True, exist_ok=True)
        if args.network is not None:
            common = {"work": args.work / f"{name}-checkpoints", "overwrite": True, "replaces": True}
            made = SETS[name][0](args.data, args.work.resolve())
            learn_network(made, args.work / name, args.network, name=name, **common, **_settings(name))
            continue
        entry = learn(name, args.data, args.work)
        kept = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        kept[name] = entry
        file.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        (RESULTS / "diagnosis.md").write_text(page(kept), "utf-8")
        if args.ship and name in SHIPPED:
            ship(name, args.work)
    print(json.dumps({"name": "diagnosis", "tasks": names}))


if __name__ == "__main__":
    main()
