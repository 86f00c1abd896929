"""The command `python -m isocenter.synth.patients`: a cohort of synthetic patients as a folder."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from isocenter.core.errors import IsocenterError
from isocenter.synth.patients.cause import PatientSettings
from isocenter.synth.patients.cohort import synthesise_cohort, write_cohort

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Write a cohort; return 0, or 2 with one line where something is wrong."""
    parser = argparse.ArgumentParser(prog="python -m isocenter.synth.patients", description=__doc__)
    parser.add_argument("out", type=Path, help="folder to write; must not exist or be empty")
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--design", choices=("randomised", "confounded"), default="confounded")
    parser.add_argument(
        "--strength", type=float, default=1.0, help="of confounding by severity, log-odds per deviation"
    )
    parser.add_argument("--hidden", type=float, default=0.0, help="strength of what no table holds")
    parser.add_argument("--overlap", action="store_true", help="plant no group that is never treated")
    parser.add_argument("--horizon-days", type=float, default=1095.0)
    parser.add_argument("--images", action="store_true", help="CT, PET and mask of each")
    parser.add_argument("--overwrite", action="store_true")
    asked = parser.parse_args(arguments)
    try:
        settings = PatientSettings(asked.design, asked.strength, not asked.overlap, asked.hidden, asked.horizon_days)
        cohort = synthesise_cohort(asked.seed, asked.patients, settings)
        write_cohort(asked.out, cohort, images=asked.images, overwrite=asked.overwrite)
    except IsocenterError as error:
        sys.stderr.write(f"isocenter: {error}\n")
        return 2
    sys.stdout.write(f"{asked.patients} synthetic patients, invented: {asked.out}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
