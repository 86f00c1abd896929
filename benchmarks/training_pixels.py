"""List the images that the automatic weights learnt from, by hashes of their values: src/isocenter/weights/*.txt.

    python -m benchmarks.training_pixels [--data ../shared/data]

`isocenter check` looks them up: promises kept, and gaps between groups, on images that were learnt from say little of
new ones. Nothing of an image can be told from its hash.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path

from isocenter.core.fingerprint import values_fingerprint
from isocenter.learn.automatic_data import Case, load_hippocampus, load_lungs
from isocenter.models.training_pixels import DIGITS
from isocenter.models.weights import built_in_folder, read_card

ROOT = Path(__file__).resolve().parents[1]
SETS: dict[str, tuple[str, Callable[[Path], Sequence[Case]]]] = {
    "lungs-cxr": ("cxr_covid_lungmask", load_lungs),
    "hippocampus-t1": ("mr_hippocampus_msd", load_hippocampus),
}


def main() -> None:
    """Write the list of each; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    given, written = parser.parse_args(), {}
    for name, (folder, load) in SETS.items():
        found = sorted(values_fingerprint(case.image[None])[:DIGITS] for case in load(given.data / folder))
        stated = read_card(name).training_data[0].cases
        if len(found) != stated:
            raise SystemExit(f"{name} learnt from {stated} images, and {len(found)} are in {folder}")
        head = [
            f"# The {len(found)} images that {name} learnt from: the first {DIGITS} hexadecimal digits of SHA-256",
            "# over the values of each in the order of their size (core/fingerprint.py). Written by",
            "# benchmarks/training_pixels.py.",
        ]
        (built_in_folder() / f"{name}.learnt-from.txt").write_text("\n".join([*head, *found]) + "\n", "ascii")
        written[name] = len(set(found))
    print(json.dumps({"name": "training_pixels", **written}))


if __name__ == "__main__":
    main()
