"""How many reports are labelled in a second on one core, against negspaCy and against a plain NegEx?

The Indiana University reports where they are, else made-up ones of the same length. negspaCy (a blank English pipeline,
our words for findings, its own terms of negation) where it is installed; it loads once, outside the time. The plain
NegEx is our own in regular expressions (`benchmarks.label_sets.PlainNegEx`): the same words, a trigger within five
words. Neither knows sections, sides, grades, changes, parts that are judged ("the heart is enlarged") or what a
finding implies: they do less, and must share at least 80 % of the findings that ours or they name by words. All read
the same texts in turn in this process.

    python -m benchmarks.label_reports [--quick] [--data ../shared/data]
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.label_sets import NegSpacy, PlainNegEx, open_indiana
from isocenter.evaluate.report_labels import label_report

ROOT = Path(__file__).resolve().parents[1]
LEAST_SHARED = 0.8
MADE = (
    "FINDINGS: The heart size is normal. There is a small left pleural effusion with adjacent atelectasis. No "
    "pneumothorax. The lungs are otherwise clear. IMPRESSION: Small left effusion, unchanged since the prior study."
)


def timed(label: Callable[[str], object], texts: Sequence[str]) -> float:
    """Return reports a second, in processor time."""
    start = time.process_time()
    for text in texts:
        label(text)
    return len(texts) / (time.process_time() - start)


def agreement(texts: Sequence[str], peer: PlainNegEx | NegSpacy) -> float:
    """Return the share of findings named by either that both name, whatever is said of them."""
    same = either = 0
    for text in texts:
        ours = {la.concept.name for la in label_report(text).labels if la.implied_by is None and la.named}
        theirs = set(peer.label(text))
        same, either = same + len(ours & theirs), either + len(ours | theirs)
    return same / either


def main() -> None:
    """Run all in turn; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    real = (args.data / "reports_iu_xray").is_dir()
    texts = [t for t in open_indiana(args.data)[0].values() if t.strip()] if real else [MADE] * 1500
    texts, rounds = (texts[:300], 2) if args.quick else (texts, 5)
    peers: dict[str, tuple[PlainNegEx | NegSpacy, str]] = {}
    if importlib.util.find_spec("negspacy") is not None:
        peers["negspaCy, blank pipeline"] = (NegSpacy(), importlib.metadata.version("negspacy"))
    peers["plain NegEx of our own (regular expressions)"] = (PlainNegEx(), "1")
    shared = {name: agreement(texts[:200], peer) for name, (peer, _) in peers.items()}
    if min(shared.values()) < LEAST_SHARED:
        raise SystemExit(f"ours and a peer share too few of the findings that they name: {shared}")
    speeds: dict[str, list[float]] = {}
    for _ in range(rounds):
        speeds.setdefault("ours", []).append(timed(label_report, texts))
        for name, (peer, _) in peers.items():
            speeds.setdefault(name, []).append(timed(peer.label, texts))
    mine = statistics.median(speeds["ours"])
    length = sum(map(len, texts)) / len(texts)
    rows = []
    for name, (_, version) in peers.items():
        other = statistics.median(speeds[name])
        rows.append(
            {
                "name": "label_reports", "ours": round(mine, 1), "peer": round(other, 1),
                "unit": "reports/s of one core", "ratio": round(mine / other, 2),
                "peer_name": name, "peer_version": version,
                "input": f"{len(texts)} {'Indiana' if real else 'made-up'} reports of {length:.0f} characters",
            }
        )  # fmt: skip
        print(f"ours {mine:,.0f} reports/s, {name} {other:,.0f}, {shared[name]:.0%} of findings shared")
    note = "label_reports: of the findings that ours or the peer names by words, both name " + ", ".join(
        f"{share:.0%} ({name})" for name, share in shared.items()
    )
    note += ". The plain NegEx is faster because that is all it does; its labels are scored in results/label.md."
    print(json.dumps({**rows[0], "cases": rows[1:], "note": note}))


if __name__ == "__main__":
    main()
