"""How much of what a multimodal model answers rightly comes from looking: the gap to its blind twin.

    python -m benchmarks.blind_gap [ARM ...] [--data ../shared/data] [--work .runs/blind-gap]

ARM is one of: synthetic, breast, breast-adapted, chest, pneumonia. Each trains `configs/multimodal-*.yaml` and its
blind twin (the same training, each image replaced by the mean of the training images), goes on from its checkpoints in
--work, and adds its figures to docs/results/blind-gap.json; docs/results/blind-gap.md is written from all of them. Test
patients are looked at once, at the end. The last line is JSON. `--quick` takes a few steps of the synthetic arm and
writes nothing.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image as Picture

from benchmarks.__main__ import machine
from isocenter.verbs.adapt_pairs import BLIND_GAP, AdaptPairsResult, adapt_pairs

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
FINDINGS = (
    "Atelectasis", "Cardiomegaly", "Consolidation", "Effusion", "Infiltration", "Mass", "Nodule", "Pneumothorax",
)  # fmt: skip
ROW = ("image", "kind", "question", "answer")
PNEUMONIA_TRAIN = 1500
"""Of 4,708 training pictures, drawn at random: this is about looking, not about the last percent."""

LEVEL = 0.9
"""Of the sets, as the configurations leave it."""
BUSI = {"licence": "CC BY 4.0", "source": "BUSI, doi 10.1016/j.dib.2019.104863", "patient": None}
"""Settings of its table; it knows no patients."""


def breast(data: Path, out: Path) -> None:
    """Write questions about breast ultrasound pictures; the shared copy has no outlines, so none on place or size."""
    source = data / "us_breast_busi"
    rows = list(csv.DictReader((source / "labels.csv").read_text("utf-8").splitlines()))
    found = []
    for row in rows:
        name, label = row["image"], row["label"]
        asked = [
            ("diagnosis", "Is the breast normal, or is there a benign or a malignant lesion?", label),
            ("lesion", "Is there a lesion?", "no" if label == "normal" else "yes"),
        ]
        if label != "normal":
            asked.append(("malignant", "Is the lesion benign or malignant?", label))
        found += [(name, *one) for one in asked]
    _write(out, ROW, found, source / "images")


def chest(data: Path, out: Path) -> None:
    """Write questions about chest films: projection, sex, and each finding of as many films with it as without."""
    source = data / "cxr_nih"
    rows = list(csv.DictReader((source / "labels.csv").read_text("utf-8").splitlines()))
    rng, found = np.random.default_rng(5), []
    for row in rows:
        name, patient = row["Image Index"], row["Patient ID"]
        sex = {"F": "female", "M": "male"}[row["Patient Gender"]]
        found.append((name, "view", "Is this an AP or a PA film?", row["View Position"], patient))
        found.append((name, "sex", "Is the patient female or male?", sex, patient))
    for finding in FINDINGS:
        with_it = [r for r in rows if finding in r["Finding Labels"].split("|")]
        without = [r for r in rows if finding not in r["Finding Labels"].split("|")]
        chosen = [without[i] for i in rng.permutation(len(without))[: len(with_it)]]
        for answer, some in (("yes", with_it), ("no", chosen)):
            question = f"Does the film show {'an' if finding[0] in 'AEI' else 'a'} {finding.lower()}?"
            found += [(r["Image Index"], "finding", question, answer, r["Patient ID"]) for r in some]
    _write(out, (*ROW, "patient"), found, source / "images_256")


def pneumonia(data: Path, out: Path) -> None:
    """Write one question about children's chest films of 28 pixels, with the set's own split."""
    arrays = np.load(data / "medmnist" / "pneumoniamnist_28.npz")
    folder = out / "images"
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for ours, theirs in (("train", "train"), ("validation", "val"), ("test", "test")):
        images, labels = arrays[f"{theirs}_images"], arrays[f"{theirs}_labels"].ravel()
        order = np.arange(len(images))
        if ours == "train":
            order = np.sort(np.random.default_rng(7).permutation(len(images))[:PNEUMONIA_TRAIN])
        for at in order:
            name = f"{ours}-{at:05d}.png"
            Picture.fromarray(images[at]).save(folder / name)
            answer = "yes" if labels[at] else "no"
            found.append((name, "pneumonia", "Does the child have pneumonia?", answer, ours))
    _write(out, (*ROW, "split"), found, None)


def _write(out: Path, heading: tuple[str, ...], rows: list[tuple[str, ...]], images: Path | None) -> None:
    """Write the table; images of a shared folder are linked, not copied."""
    out.mkdir(parents=True, exist_ok=True)
    if images is not None and not (out / "images").exists():
        (out / "images").symlink_to(images.resolve(), target_is_directory=True)
    with (out / "pairs.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(heading)
        writer.writerows(rows)


@dataclass(frozen=True)
class Arm:
    """One training with its blind twin.

    Args:
        title: For people.
        config: Which configuration.
        make: Writes the table; None for synthesis.
        changes: To the configuration.
        note: What a reader must know.
    """

    title: str
    config: str
    make: Callable[[Path, Path], None] | None
    changes: Mapping[str, Any]
    note: str


ARMS = {
    "synthetic": Arm(
        "Synthetic patients", "multimodal-synthetic.yaml", None, {},
        "Chest films, breast ultrasound and brain slices, all invented (`synth.questioned`); 64 pixels.",
    ),
    "breast": Arm(
        "Breast ultrasound", "multimodal-questions.yaml", breast,
        {"licence": "CC-BY-4.0", "data": BUSI},
        "BUSI, 623 pictures at 64 pixels. The set does not say which pictures are of one patient: pictures are split, "
        "not patients, so some of one patient may be in training and test and the figures too good. The shared copy "
        "has no outlines, so nothing is asked of place or size.",
    ),
    "breast-adapted": Arm(
        "Breast ultrasound, adapted from the synthetic model", "multimodal-questions.yaml", breast,
        {"licence": "CC-BY-4.0", "start_from": "synthetic", "learns": {"rank": 8}, "data": BUSI},
        "The same questions and the same split, begun with the weights of the synthetic arm: low-rank changes (rank 8) "
        "of its language model, tower and projector as a whole.",
    ),
    "chest": Arm(
        "Chest X-rays", "multimodal-questions.yaml", chest,
        {"data": {"licence": "no restriction; attribution to the NIH Clinical Center", "source": "ChestX-ray14, NIH"}},
        "NIH ChestX-ray14, 421 films of 421 patients at 64 pixels; findings are mined from reports. Each finding is "
        "asked of as many films with it as without.",
    ),
    "pneumonia": Arm(
        "Children's chest X-rays", "multimodal-questions.yaml", pneumonia,
        {"licence": "CC-BY-4.0",
         "data": {"licence": "CC BY 4.0", "source": "PneumoniaMNIST (Kermany), MedMNIST v2", "split": "split",
                  "patient": None}},
        f"PneumoniaMNIST at its 28 pixels, {PNEUMONIA_TRAIN} of its training pictures, its own validation and test "
        "parts. The set does not say which pictures are of one patient, nor that its parts share none.",
    ),
}  # fmt: skip


def train(name: str, data: Path, work: Path) -> AdaptPairsResult:
    """Train an arm and its blind twin, or take up where they were stopped."""
    arm, place = ARMS[name], work / f"{name}-data"
    settings = yaml.safe_load((ROOT / "configs" / arm.config).read_text("utf-8"))
    for key, value in arm.changes.items():
        settings[key] = {**settings.get(key, {}), **value} if isinstance(value, dict) else value
    if "start_from" in settings:
        settings["start_from"] = str(work / settings["start_from"])
    pairs = None
    if arm.make is not None:
        settings |= {"name": f"multimodal-{name}"}
        settings["data"] |= {"images": "images"}
        if not (place / "pairs.csv").is_file():
            arm.make(data, place)
        pairs = place / "pairs.csv"
    work.mkdir(parents=True, exist_ok=True)
    own = work / f"{name}.yaml"
    own.write_text(yaml.safe_dump(settings), "utf-8")
    out = work / name
    return adapt_pairs(out, pairs, config=own, resume=out.exists(), progress=_line(name))


def _line(name: str) -> Callable[[str, float], None]:
    last = [0.0]

    def tell(stage: str, done: float) -> None:
        if time.monotonic() - last[0] > 30:
            last[0] = time.monotonic()
            print(f"{name}: {done:.0%} {stage}", flush=True)

    return tell


def entry(name: str, work: Path) -> dict[str, Any]:
    """Return what an arm came to, from its folder."""
    out = work / name
    found: dict[str, Any] = json.loads((out / BLIND_GAP).read_text("utf-8"))
    card = json.loads((out / f"multimodal-{name}.json").read_text("utf-8"))
    curves = {}
    for what in ("sighted", "blind"):
        rows = [float(r["loss"]) for r in csv.DictReader((out / what / "steps.csv").read_text().splitlines())]
        width = max(1, len(rows) // 20)
        curves[what] = {"first": float(np.mean(rows[:width])), "last": float(np.mean(rows[-width:]))}
    training = card["training"]
    kept = {
        k: found[k]
        for k in (
            "figures", "held_to", "looking", "keeps_its_level", "validation_figures", "cpu_minutes",
            "cpu_minutes_blind", "unlike_share",
        )
    }  # fmt: skip
    return {
        **kept, "patients_known": bool(training["data"].get("patients_known", True)), "loss": curves,
        "steps": training["steps"], "questions": training["questions"],
        "parameters": card["parameters"], "weights_sha256": card["sha256"], "date": datetime.date.today().isoformat(),
    }  # fmt: skip


def page(known: Mapping[str, Any]) -> str:
    """Return the page of results."""
    lines = [
        "# The blind gap of the multimodal model",
        "",
        f"`python -m benchmarks.blind_gap`, {machine()}.",
        "A model that answers questions about images may be right without looking: from the words of the question, and",
        "from how frequent answers are. Its **blind twin** has the same training but sees the mean image in place of",
        "each. The gap between them is what looking is worth; its 95 % interval is by paired resampling of patients",
        "(of pictures where a set does not say who is who).",
        "*Other image*: the sighted model, shown another patient's image. *Prior*: the commonest answer in training.",
        "All figures are of the test part, which no training and no choice has seen.",
        "",
    ]
    for name, arm in ARMS.items():
        if name not in known:
            lines += [f"## {arm.title}", "", f"{arm.note} It was not run to its end: there are no figures.", ""]
            continue
        got = known[name]
        loss = got["loss"]
        lines += [
            f"## {arm.title}", "", arm.note, "",
            "| question | n | patients | prior | sighted | blind | other image | gap (95 %) |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]  # fmt: skip
        lines += [_table_row(f, got["patients_known"]) for f in got["figures"]]
        lines += [
            "",
            f"{got['steps']} steps on {got['questions']:,} questions, {got['parameters']:,} numbers; loss (mean of the "
            f"first and of the last twentieth of steps, nats a token) {loss['sighted']['first']:.3f} to "
            f"{loss['sighted']['last']:.3f}, blind {loss['blind']['first']:.3f} to {loss['blind']['last']:.3f}; "
            f"{got['cpu_minutes']:.1f} CPU minutes, and {got['cpu_minutes_blind']:.1f} of the twin. "
            f"{got['unlike_share']:.1%} of test images would be refused as unlike those that were learnt from. "
            f"{_refused(got)}{_again(got)}",
            "",
            "| question | sets of 90 % hold the truth | of the answered: n | hold the truth (95 %) | answers in a set "
            "| not decided | ECE | level promised |",
            "| --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        lines += [_held_row(kind, held, got) for kind, held in got["held_to"].items()]
        lines.append("")
    lines += [
        "Temperature and sets are fitted on the validation part. *Not decided*: the set holds all answers; the task",
        "then abstains. It abstains too from every kind of question whose gap on the validation part is not clearly",
        "above zero, or not known. A set of all answers always holds the truth: sets of the questions that are",
        "*answered* hold it less often than sets of all questions do. *Level promised*: whether an answer carries the",
        "90 %. It does where the exact 95 % interval of the answered ones on the validation part (by ten folds of its",
        "patients or pictures) does not lie below it; the level is then one over all images asked, and the answer says",
        "what was seen of the answered ones. *Not kept here*: on the test part the interval of the answered ones does",
        "lie below it, which the validation part did not foretell.",
    ]
    return "\n".join(lines) + "\n"


def _refused(got: Mapping[str, Any]) -> str:
    """Say which kinds of question the task never answers: those where looking is not known to help."""
    kinds = [kind for kind, looking in got["looking"].items() if looking in ("does not help", "too few patients")]
    return f"The task abstains from: {', '.join(kinds)}." if kinds else "The task abstains from no kind of question."


def _again(got: Mapping[str, Any]) -> str:
    """Say where saved weights were measured by later code than trained them; the JSON file names the day."""
    day = got.get("measured_again")
    return "" if day is None else f" Measured again from the saved checkpoints on {day}, not trained again."


def _held_row(kind: str, held: Mapping[str, Any], got: Mapping[str, Any]) -> str:
    def told(name: str) -> str:
        return "-" if held[name] is None else f"{held[name]:.3f}"

    ends = "" if held["shown_low"] is None else f" ({held['shown_low']:.3f} to {held['shown_high']:.3f})"
    abstains = got["looking"][kind] in ("does not help", "too few patients")
    below = held["shown_high"] is not None and held["shown_high"] < LEVEL
    level = "no" if not got["keeps_its_level"][kind] else "yes, and not kept here" if below else "yes"
    level = "abstains" if abstains else level
    shown = "-" if held["shown"] is None else held["shown"]
    return (
        f"| {kind} | {told('coverage')} | {shown} | {told('shown_coverage')}{ends} | {told('set_size')} | "
        f"{told('undecided')} | {told('ece')} | {level} |"
    )


def _table_row(f: Mapping[str, Any], patients_known: bool) -> str:
    def sure(value: float, low: float | None, high: float | None, sign: str = "") -> str:
        ends = "" if low is None or high is None else f" ({low:{sign}.3f} to {high:{sign}.3f})"
        return f"{value:{sign}.3f}{ends}"

    return (
        f"| {f['kind']} | {f['questions']} | {f['patients'] if patients_known else 'not known'} | {f['prior']:.3f} | "
        f"{sure(f['sighted'], f['low'], f['high'])} | {f['blind']:.3f} | {f['shuffled']:.3f} | "
        f"{sure(f['gap'], f['gap_low'], f['gap_high'], '+')} |"
    )


def quick() -> dict[str, Any]:
    """Take a few steps of a small synthetic arm."""
    settings = yaml.safe_load((ROOT / "configs" / "multimodal-synthetic.yaml").read_text("utf-8"))
    settings |= {
        "steps": 6, "batch": 8, "validate_every": 6,
        "data": {"kind": "synthetic", "patients": 40, "validation": 40, "test": 40},
    }  # fmt: skip
    with tempfile.TemporaryDirectory() as folder:
        own = Path(folder) / "quick.yaml"
        own.write_text(yaml.safe_dump(settings), "utf-8")
        done = adapt_pairs(Path(folder) / "run", config=own)
    return {"name": "blind_gap", "quick": True, "figures": [row.model_dump() for row in done.figures]}


def main() -> None:
    """Run the arms that are named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("arms", nargs="*", choices=[*ARMS, []])
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("ISOCENTER_SHARED", "../shared/data")))
    parser.add_argument("--work", type=Path, default=ROOT / ".runs" / "blind-gap")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    if args.quick:
        print(json.dumps(quick()))
        return
    file = RESULTS / "blind-gap.json"
    for name in args.arms or ARMS:
        print("\n".join(train(name, args.data, args.work).lines()), flush=True)
        known = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        known[name] = entry(name, args.work)
        file.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
        (RESULTS / "blind-gap.md").write_text(page(known), "utf-8")
    known = json.loads(file.read_text("utf-8"))
    every = {name: next(f for f in got["figures"][::-1])["gap"] for name, got in known.items()}
    print(json.dumps({"name": "blind_gap", "gap": every}))


if __name__ == "__main__":
    main()
