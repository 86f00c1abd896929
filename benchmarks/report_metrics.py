"""Does the clinical text metric fall with the number of errors, and how many pairs does it compare in a second?

    python -m benchmarks.report_metrics [--quick] [--data ../shared/data]

Reports of the Indiana University set with at least six sentences that claim something are given one to six errors,
each in a sentence of its own: a denial taken away or added, a side swapped, a grade swapped, a sentence left out, a
finding invented. Each is compared with the report as it was. Two sets: errors alone, and errors in a text that is
reworded and reordered besides, as another reader would write it. Rank correlation of the number of errors with what a
metric loses: Kendall's tau-b and Spearman's rho, intervals over reports; BLEU and ROUGE-L beside it. Writes
docs/results/report-metrics.md; no text of a report is written. The last line is JSON.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import re
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from benchmarks.__main__ import machine
from benchmarks.label_sets import open_indiana
from isocenter.core.knowledge import FINDINGS
from isocenter.evaluate.bootstrap import bootstrap_statistic
from isocenter.evaluate.report_findings import report_agreement
from isocenter.evaluate.report_mentions import Mention, read_mentions
from isocenter.evaluate.text_overlap import rouge_l, sentence_bleu

ROOT = Path(__file__).resolve().parents[1]
MOST_ERRORS, RADGRAPH_MS = 6, 158
METRICS: dict[str, Callable[[str, str], float]] = {
    "claim F1 (`report_agreement`)": lambda a, b: report_agreement(a, b).f1,
    "finding F1 (`report_agreement`, without side and grade)": lambda a, b: report_agreement(a, b).finding_f1,
    "sentence BLEU": lambda a, b: sentence_bleu(a, b) / 100,
    "ROUGE-L": lambda a, b: rouge_l(a, b).f1,
}
SWAPS = (
    ("left", "right"), ("mild", "severe"), ("mildly", "severely"), ("small", "large"), ("minimal", "extensive"),
    ("moderate", "minimal"), ("bilateral", "left"),
)  # fmt: skip
DENIALS = ("No {}.", "There is no evidence of {}.", "No {} is seen.")
CLAIMS = ("There is {}.", "{} is present.", "There is evidence of {}.")
# Other words for the same, whatever is claimed; each way round.
SAME = (
    ("there is no evidence of", "no"), ("unremarkable", "normal"), ("within normal limits", "normal"),
    ("pleural effusion", "pleural fluid"), ("cardiomegaly", "an enlarged heart"), ("is seen", "is noted"),
    ("are clear", "are free of disease"), ("heart size", "cardiac silhouette"), ("opacity", "opacification"),
    ("no acute", "no evidence of acute"), ("degenerative changes", "spondylosis"), ("silhouette", "contour"),
)  # fmt: skip


@dataclass(frozen=True)
class Pair:
    """A report as it was, and with errors."""

    report: str
    errors: int
    kinds: tuple[str, ...]
    reference: str
    answer: str


def sentences_of(text: str) -> list[str]:
    return [s.strip() for s in re.split(r"(?<=[.?!])\s+|\n\n", text) if s.strip()]


def swapped(sentence: str, sides: bool) -> str | None:
    """Swap the first word of a side, or of a grade, for another; None where there is none."""
    for first, second in SWAPS[:1] + SWAPS[6:] if sides else SWAPS[1:6]:
        for old, new in ((first, second), (second, first)):
            if re.search(rf"\b{old}\b", sentence, re.IGNORECASE):
                return re.sub(rf"\b{old}\b", new, sentence, count=1, flags=re.IGNORECASE)
    return None


def turned(mention: Mention, rng: np.random.Generator) -> str:
    """Deny what a sentence claimed, or claim what it denied."""
    frames = CLAIMS if mention.status == "absent" else DENIALS
    return frames[rng.integers(len(frames))].format(mention.finding).capitalize()


def invented(spoken: set[str], rng: np.random.Generator) -> str:
    """Claim a finding that the report does not speak of."""
    free = [f for f in FINDINGS.of("chest radiograph") if not f.normal and f.name not in spoken]
    finding = free[rng.integers(len(free))]
    grade, side = rng.choice(["small", "moderate", "large"]), rng.choice(["left", "right"])
    return f"There is {grade} {side + ' ' if finding.sided else ''}{finding.name}."


def with_errors(text: str, count: int, rng: np.random.Generator) -> tuple[list[str], tuple[str, ...]] | None:
    """Return sentences with so many errors, each in one of its own, and their kinds; None where there is no room."""
    lines = sentences_of(text)
    said = [read_mentions(line) for line in lines]
    spoken = {m.finding for ms in said for m in ms}
    # A finding of which another sentence says the same again would make an error half an error.
    alone = [n for n, ms in enumerate(said) if ms and all(
        m.finding not in {o.finding for k, os_ in enumerate(said) if k != n for o in os_} for m in ms)]  # fmt: skip
    kinds: list[str] = []
    more: list[str] = []
    # Most sentences deny; those that hold a side or grade go first half the time, so that these errors are made too.
    order = sorted(rng.permutation(alone).tolist(), key=lambda n: not (_graded(said[n]) and rng.random() < 0.5))
    for n in order:
        if len(kinds) == count:
            break
        there = [m for m in said[n] if m.status != "absent"]
        ways = ["negation", "omitted"]
        # Few sentences name a side or grade: where one does, it is swapped three times out of five.
        ways += ["side"] * 3 if there and there[0].side and swapped(lines[n], True) else []
        ways += ["severity"] * 3 if there and there[0].grade and swapped(lines[n], False) else []
        ways += ["invented"] if not more else []
        way = str(rng.choice(ways))
        kinds.append(way)
        if way == "negation":
            rest = [m for m in said[n] if m.finding != said[n][0].finding]
            kept = " ".join(_plain(m) for m in rest)
            lines[n] = f"{turned(said[n][0], rng)} {kept}".strip()
        elif way == "omitted":
            lines[n] = ""
        elif way == "invented":
            more.append(invented(spoken, rng))
        else:
            lines[n] = swapped(lines[n], way == "side") or lines[n]
    if len(kinds) < count:
        return None
    return [line for line in (*lines, *more) if line], tuple(kinds)


def _graded(mentions: tuple[Mention, ...]) -> bool:
    return any(m.status != "absent" and (m.side or m.grade) for m in mentions)


def _plain(mention: Mention) -> str:
    """Say again what a mention said, so that a sentence of several findings changes in one of them alone."""
    words = " ".join(filter(None, (mention.grade, mention.side, mention.finding))).replace("both", "bilateral")
    frame = {"absent": "No {}.", "uncertain": "Possible {}.", "present": "There is {}."}[mention.status]
    return frame.format(words)


def reworded(lines: list[str], rng: np.random.Generator) -> list[str]:
    """Say the same in other words and in another order."""
    out = []
    for line in lines:
        for first, second in SAME:
            old, new = (first, second) if rng.random() < 0.5 else (second, first)
            if rng.random() < 0.5:
                line = re.sub(rf"\b{old}\b", new, line, count=1, flags=re.IGNORECASE)
        out.append(line)
    return [out[i] for i in rng.permutation(len(out))]


def pairs_of(texts: dict[str, str], most: int, *, rewording: bool) -> list[Pair]:
    """Return each report with none to six errors."""
    out: list[Pair] = []
    names = [n for n, t in sorted(texts.items()) if sum(bool(read_mentions(s)) for s in sentences_of(t)) >= MOST_ERRORS]
    used = 0
    for number, name in enumerate(names):
        if used == most:
            break
        rng = np.random.default_rng((11, number))
        made = [with_errors(texts[name], count, rng) for count in range(MOST_ERRORS + 1)]
        if any(m is None for m in made):
            continue
        used += 1
        for count, one in enumerate(made):
            if one is None:
                continue
            lines, kinds = one
            lines = reworded(lines, rng) if rewording else lines
            out.append(Pair(name, count, kinds, " ".join(sentences_of(texts[name])), " ".join(lines)))
    return out


def correlated(errors: np.ndarray, losses: np.ndarray, reports: list[str], resamples: int) -> dict[str, list[float]]:
    """Return both rank correlations, each with its interval over reports."""
    out = {}
    for name, rank in (("tau_b", stats.kendalltau), ("rho", stats.spearmanr)):

        def figure(i: np.ndarray, rank: Callable = rank) -> float:
            return float(rank(errors[i], losses[i]).statistic)

        got = bootstrap_statistic(figure, reports, resamples=resamples)
        out[name] = [round(got.value, 3), round(got.low, 3), round(got.high, 3)]
    return out


def by_kind(pairs: list[Pair], metric: Callable[[str, str], float]) -> dict[str, float]:
    """Return what one error of each kind costs on the average."""
    single = [p for p in pairs if p.errors == 1]
    kinds = ("negation", "side", "severity", "omitted", "invented")
    found = {k: [1 - metric(p.reference, p.answer) for p in single if p.kinds == (k,)] for k in kinds}
    return {f"{k} ({len(v)})": round(statistics.mean(v), 3) for k, v in found.items() if v}


def speed(pairs: list[Pair], metric: Callable[[str, str], float], rounds: int) -> float:
    """Return pairs a second of processor time, the median of rounds."""
    found = []
    for _ in range(rounds):
        start = time.process_time()
        for pair in pairs:
            metric(pair.reference, pair.answer)
        found.append(len(pairs) / (time.process_time() - start))
    return statistics.median(found)


INTRODUCTION = """\
Indiana University reports with at least six sentences that claim something and are not said twice, each with none
to six errors, one a sentence: a denial added or taken away, a side swapped, a grade swapped, a sentence left out, a
finding invented. Each is compared with the report as it was. "Reworded": every answer, those without an error too,
is said in other words and in another order. Figures are rank correlations of the number of errors with what the
metric loses (1 is best), with 95 % intervals over reports."""
LIMITS = """\
The errors are made by the same table of findings that the metric reads with, and the other words are ones that it
mostly knows: it reads what it was made to read. So this shows that it counts such errors where words mislead, not
how it fares with errors of another kind; sentences without a claim can't be judged by it at all. For RadGraph about
{radgraph} ms a pair are reported ({per_second:.0f} pairs/s); it was not run here. How far any of them agrees with
people's judgement is not measured."""


def page(found: dict) -> list[str]:
    """Return the lines of docs/results/report-metrics.md."""
    lines = [
        "# Metrics of reports", "",
        f"`python -m benchmarks.report_metrics`, {datetime.date.today().isoformat()}, {machine()}.", "",
        INTRODUCTION, "",
        "| set | reports | metric | Kendall tau-b | Spearman rho |", "| - | - | - | - | - |",
    ]  # fmt: skip
    for name, got in found["sets"].items():
        for metric, figures in got["metrics"].items():
            cells = " | ".join("{:.3f} ({:.3f} to {:.3f})".format(*figures[k]) for k in ("tau_b", "rho"))
            lines.append(f"| {name} | {got['reports']} | {metric} | {cells} |")
    kinds = next(iter(found["lost"].values()))
    lines += ["", "What one error costs on the average, errors alone (number of such answers):", "",
              f"| metric | {' | '.join(kinds)} |", f"| - |{' - |' * len(kinds)}"]  # fmt: skip
    lines += [f"| {m} | {' | '.join(f'{v:.3f}' for v in row.values())} |" for m, row in found["lost"].items()]
    lines += ["", "Pairs a second on one core:", "", "| metric | pairs/s |", "| - | - |"]
    lines += [f"| {metric} | {value:,.0f} |" for metric, value in found["speed"].items()]
    return [*lines, "", LIMITS.format(radgraph=RADGRAPH_MS, per_second=1000 / RADGRAPH_MS)]


def main() -> None:
    """Run all; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    most, resamples, rounds = (25, 100, 1) if args.quick else (200, 500, 5)
    texts, _ = open_indiana(args.data)
    found: dict = {"sets": {}, "speed": {}, "lost": {}}
    for name, rewording in (("errors alone", False), ("reworded", True)):
        pairs = pairs_of(texts, most, rewording=rewording)
        errors, reports = np.array([p.errors for p in pairs]), [p.report for p in pairs]
        got = {}
        for metric, value in METRICS.items():
            losses = np.array([1 - value(p.reference, p.answer) for p in pairs])
            got[metric] = correlated(errors, losses, reports, resamples)
            if not rewording:
                found["lost"][metric] = by_kind(pairs, value)
                found["speed"][metric] = round(speed(pairs, value, rounds), 1)
        found["sets"][name] = {"reports": len(set(reports)), "metrics": got}
    print("\n".join(page(found)))
    if not args.quick:
        (ROOT / "docs" / "results" / "report-metrics.md").write_text("\n".join(page(found)) + "\n", "utf-8")
    first = next(iter(METRICS))
    tau = {name: got["metrics"][first]["tau_b"] for name, got in found["sets"].items()}
    print(json.dumps({"name": "report_metrics", "pairs_per_s": found["speed"][first], "tau_b": tau}))


if __name__ == "__main__":
    main()
