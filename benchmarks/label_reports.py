"""How many reports are labelled in a second on one core, against a plain NegEx?

The Indiana University reports where they are, else made-up ones of the same length. The peer is a plain NegEx of our
own in regular expressions (`benchmarks.label_sets.PlainNegEx`): the same words for findings, a trigger within five
words, nothing else: no section, side, grade, change or place. Labellers on language pipelines (negspaCy, medspaCy, the
CheXpert labeler) take seconds to load and milliseconds to tens of them a sentence, so they are no peers for speed. Both
read the same texts in turn; they must agree on at least 80 % of the findings that either names.

    python -m benchmarks.label_reports [--quick] [--data ../shared/data]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.label_sets import PlainNegEx, open_indiana
from isocenter.evaluate.report_labels import label_report

ROOT = Path(__file__).resolve().parents[1]
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


def agreement(texts: Sequence[str], peer: PlainNegEx) -> float:
    """Return the share of findings named by either that both name, whatever is said of them."""
    same = either = 0
    for text in texts:
        ours = {la.concept.name for la in label_report(text).labels if la.implied_by is None and la.named}
        theirs = set(peer.label(text))
        same, either = same + len(ours & theirs), either + len(ours | theirs)
    return same / either


def main() -> None:
    """Run both in turn; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    real = (args.data / "reports_iu_xray").is_dir()
    texts = [t for t in open_indiana(args.data)[0].values() if t.strip()] if real else [MADE] * 1500
    texts, rounds = (texts[:300], 2) if args.quick else (texts, 5)
    peer = PlainNegEx()
    shared = agreement(texts[:200], peer)
    if shared < 0.8:
        raise SystemExit(f"ours and the peer share only {shared:.0%} of the findings that they name")
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(timed(label_report, texts))
        theirs.append(timed(peer.label, texts))
    mine, other = statistics.median(ours), statistics.median(theirs)
    print(f"ours {mine:,.0f} reports/s, plain NegEx {other:,.0f} reports/s, {shared:.0%} of findings shared")
    length = sum(map(len, texts)) / len(texts)
    print(
        json.dumps(
            {
                "name": "label_reports", "ours": round(mine, 1), "peer": round(other, 1), "unit": "reports/s of one core",
                "ratio": round(mine / other, 2), "peer_name": "plain NegEx of our own (regular expressions)",
                "peer_version": "1",
                "input": f"{len(texts)} {'Indiana' if real else 'made-up'} reports of {length:.0f} characters",
                "note": f"label_reports: ours gives sections, sides, grades, changes and places besides; both name "
                f"{shared:.0%} of the same findings.",
            }
        )
    )  # fmt: skip


if __name__ == "__main__":
    main()
