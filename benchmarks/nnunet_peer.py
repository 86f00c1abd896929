"""nnU-Net v2 on one fold of the hippocampus, for as many processor minutes as our own training of that fold took.

nnU-Net wants other versions of some packages than Isocenter, so it has an environment of its own:

    python -m venv ENV && ENV/bin/pip install torch==2.13.0 nnunetv2==2.8.1
    python -m benchmarks.adapt_sets hippocampus          # ours first: its fold and its minutes are read from --work
    ENV/bin/python benchmarks/nnunet_peer.py [--data ../shared/data] [--work .runs/adapt] [--fold 0] [--minutes M]

It plans, preprocesses and validates as it always does (3d_fullres, its own mirroring at the end). What is changed: one
thread, the processor, and as many iterations as fit into the minutes, its polynomial schedule drawn over those. Then
`python -m benchmarks.adapt_sets nnunet` puts both side by side on docs/results/adapt.md. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PER_EPOCH = 10


def raw_folder(data: Path, work: Path) -> Path:
    """Lay the set out as nnU-Net wants it."""
    raw = work / "raw" / "Dataset004_Hippocampus"
    if not (raw / "dataset.json").is_file():
        for kind, ending in (("images", "_0000"), ("labels", "")):
            folder = raw / f"{kind}Tr"
            folder.mkdir(parents=True, exist_ok=True)
            for file in sorted((data / "mr_hippocampus_msd" / kind).glob("*.nii.gz")):
                shutil.copy(file, folder / file.name.replace(".nii.gz", f"{ending}.nii.gz"))
        count = len(list((raw / "labelsTr").glob("*.nii.gz")))
        document = {
            "channel_names": {"0": "MRI"}, "labels": {"background": 0, "anterior": 1, "posterior": 2},
            "numTraining": count, "file_ending": ".nii.gz",
        }  # fmt: skip
        (raw / "dataset.json").write_text(json.dumps(document), "utf-8")
    return raw


def main() -> None:
    """Train the peer on one fold and tell its Dice case by case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--work", type=Path, default=ROOT / ".runs" / "adapt")
    parser.add_argument("--fold", type=int, default=0)
    parser.add_argument("--minutes", type=float, default=None, help="Processor minutes; by default what ours took.")
    args = parser.parse_args()
    ours = json.loads((args.work / "hippocampus" / "folds.json").read_text("utf-8"))[args.fold]
    minutes = args.minutes or ours["minutes"]
    work = args.work / "nnunet"
    places = {"nnUNet_raw": "raw", "nnUNet_preprocessed": "preprocessed", "nnUNet_results": "results"}
    os.environ |= {key: str((work / name).resolve()) for key, name in places.items()}
    os.environ |= {"nnUNet_n_proc_DA": "1", "nnUNet_def_n_proc": "1", "OMP_NUM_THREADS": "1", "nnUNet_compile": "f"}
    raw_folder(args.data, work)

    import numpy as np
    import torch
    from nnunetv2.experiment_planning.plan_and_preprocess_api import extract_fingerprints, plan_experiments, preprocess
    from nnunetv2.training.nnUNetTrainer.nnUNetTrainer import nnUNetTrainer

    torch.set_num_threads(1)
    preprocessed = work / "preprocessed" / "Dataset004_Hippocampus"
    if not (preprocessed / "done").is_file():
        extract_fingerprints([4], num_processes=1, check_dataset_integrity=False)
        plan_experiments([4])
        preprocess([4], configurations=("3d_fullres",), num_processes=(1,))
        (preprocessed / "done").write_text("")
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # the planner does not take 0; training then augments in its own process
    splits = [{"train": ours["learnt"], "val": ours["held_out"]}]
    (preprocessed / "splits_final.json").write_text(json.dumps(splits), "utf-8")
    plans = json.loads((preprocessed / "nnUNetPlans.json").read_text("utf-8"))
    dataset = json.loads((work / "raw" / "Dataset004_Hippocampus" / "dataset.json").read_text("utf-8"))

    class Short(nnUNetTrainer):  # type: ignore[misc]
        """nnU-Net's trainer with a short schedule."""

    def trainer(epochs: int) -> nnUNetTrainer:
        made = Short(
            plans={**plans, "continue_training": False},
            configuration="3d_fullres",
            fold=0,
            dataset_json=dataset,
            device=torch.device("cpu"),
        )
        made.num_iterations_per_epoch, made.num_val_iterations_per_epoch, made.num_epochs = PER_EPOCH, 1, epochs
        made.save_every = 10_000
        return made

    trial = trainer(1)
    trial.run_training()
    before = time.process_time()
    trial = trainer(1)
    trial.run_training()
    each = (time.process_time() - before) / PER_EPOCH
    epochs = max(1, round(minutes * 60 / each / PER_EPOCH))
    final = trainer(epochs)
    before = time.process_time()
    final.run_training()
    spent = (time.process_time() - before) / 60
    final.perform_actual_validation(save_probabilities=False)
    summary = json.loads((Path(final.output_folder) / "validation" / "summary.json").read_text("utf-8"))
    cases = {
        Path(case["prediction_file"]).name.removesuffix(".nii.gz"): [case["metrics"][k]["Dice"] for k in ("1", "2")]
        for case in summary["metric_per_case"]
    }
    mean = float(np.mean([v for row in cases.values() for v in row]))
    found = {
        "fold": args.fold, "iterations": epochs * PER_EPOCH, "minutes": spent, "seconds_an_iteration": each,
        "batch": plans["configurations"]["3d_fullres"]["batch_size"], "cases": cases, "mean": mean,
    }  # fmt: skip
    (work / "peer.json").write_text(json.dumps(found, indent=1), "utf-8")
    print(json.dumps({"name": "nnunet_peer", "ours": ours["mean"], "peer": mean, "unit": "Dice", "minutes": spent}))


if __name__ == "__main__":
    sys.exit(main())
