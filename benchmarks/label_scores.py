"""How right are labels of reports? Against findings that people marked, and on the phrase files of two labellers.

    python -m benchmarks.label_scores [--data ../shared/data] [--in-view]

Indiana University reports: 1,463 were checked by hand for 14 findings; words and rules were improved on one half of
them, the other half was scored once, at the end (`--in-view` scores the first half alone and writes nothing). Phrase
files of the CheXpert labeler and of NegBio: sentences made from their phrases and patterns, affirmed, denied, doubted.
Writes docs/results/label.md and label.json; the last line is JSON.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.__main__ import machine
from benchmarks.label_sets import COLUMNS, PlainNegEx, completed, in_view, open_indiana, phrases
from isocenter.evaluate.bootstrap import bootstrap_statistic
from isocenter.evaluate.report_labels import CHEXPERT, chexpert_labels, label_report

ROOT = Path(__file__).resolve().parents[1]
# Irvin et al., AAAI 2019, table 2 (micro-average over 14 observations, 1,000 reports of their own; not public).
PUBLISHED = {"mention": 0.969, "negation": 0.952, "uncertainty": 0.848}
FILES = {
    "atelectasis": "Atelectasis", "cardiomegaly": "Cardiomegaly", "consolidation": "Consolidation", "edema": "Edema",
    "enlarged_cardiomediastinum": "Enlarged Cardiomediastinum", "fracture": "Fracture", "lung_lesion": "Lung Lesion",
    "lung_opacity": "Lung Opacity", "pleural_effusion": "Pleural Effusion", "pleural_other": "Pleural Other",
    "pneumonia": "Pneumonia", "pneumothorax": "Pneumothorax", "support_devices": "Support Devices",
}  # fmt: skip
PARTS = ("cardiomegaly", "enlarged_cardiomediastinum")
FRAMES: dict[str, tuple[str, ...]] = {
    "mention": ("There is {}.", "{}.", "The patient has {}."),
    "negation": ("No {}.", "There is no evidence of {}.", "{} is not seen.", "Without {}."),
    "uncertainty": ("Possible {}.", "Findings may represent {}.", "{} cannot be excluded."),
}
PART_FRAMES: dict[str, tuple[str, ...]] = {
    "mention": ("The {} is enlarged.", "Enlarged {}."),
    "negation": ("The {} is normal.", "The {} is within normal limits.", "The {} is not enlarged."),
    "uncertainty": ("The {} may be enlarged.", "Possibly enlarged {}."),
}
FILLINGS = ("atelectasis", "pneumothorax", "pneumonia", "consolidation", "pleural effusion", "pulmonary edema")
VALUES = {"mention": 1, "negation": 0, "uncertainty": -1}


@dataclass(frozen=True)
class Sentence:
    """A sentence and what an observation is in it; None: the observation must not be spoken of."""

    text: str
    observation: str
    kind: str
    source: str
    value: int | None


def counts(marked: np.ndarray, found: np.ndarray) -> tuple[int, int, int]:
    return int((marked & found).sum()), int((~marked & found).sum()), int((marked & ~found).sum())


def f1(right: int, invented: int, missed: int) -> float:
    return 2 * right / (2 * right + invented + missed) if right + invented + missed else float("nan")


def scored(marked: np.ndarray, found: np.ndarray, names: Sequence[str]) -> dict[str, object]:
    """Return micro-averaged figures with intervals over reports."""
    right, _, missed = counts(marked, found)

    def figure(pick: Callable[[int, int, int], float]) -> list[float]:
        got = bootstrap_statistic(lambda i: pick(*counts(marked[i], found[i])), names, resamples=1000)
        return [round(got.value, 4), round(got.low, 4), round(got.high, 4)]

    return {
        "reports": len(names),
        "marked": right + missed,
        "f1": figure(f1),
        "precision": figure(lambda r, i, _: r / max(1, r + i)),
        "recall": figure(lambda r, _, m: r / max(1, r + m)),
        "by finding": {
            c: [*counts(marked[:, n], found[:, n]), round(f1(*counts(marked[:, n], found[:, n])), 3)]
            for n, c in enumerate(COLUMNS)
        },
    }


def indiana(data: Path, *, only_in_view: bool) -> dict[str, dict[str, object]]:
    """Score both halves, and what a plain NegEx with the same words does on the same reports."""
    texts, marked = open_indiana(data)
    peer = PlainNegEx()
    out: dict[str, dict[str, object]] = {}
    tested = set((data / "reports_labelers" / "negbio" / "openi-testset.txt").read_text("utf-8").split())
    halves = {"half in view": [n for n in marked if in_view(n)]}
    if not only_in_view:
        halves["half scored once"] = [n for n in marked if not in_view(n)]
        halves["reports of NegBio's test list, of the half scored once"] = [
            n for n in halves["half scored once"] if n in tested
        ]
    for half, names in halves.items():
        truth = np.array([[marked[n][c] for c in COLUMNS] for n in names])
        values = [{la.concept.name: la.presence for la in label_report(texts[n]).labels if la.implied_by is None}
                  for n in names]  # fmt: skip
        plain = [peer.label(texts[n]) for n in names]

        def table(rows: Sequence[dict], wanted: tuple[object, ...]) -> np.ndarray:
            return np.array([[any(r.get(f) in wanted for f in fs) for fs in COLUMNS.values()] for r in rows])

        out[half] = {
            "ours": scored(truth, table(values, ("present",)), names),
            "ours, what is doubted counted as there": scored(truth, table(values, ("present", "uncertain")), names),
            "plain NegEx, the same words": scored(truth, table(plain, (1,)), names),
        }
    return out


def made_sentences(data: Path, words: Counter[str]) -> list[Sentence]:
    """Make sentences from phrases that the CheXpert labeler looks for, and from those that it looks over."""
    folder, out = data / "reports_labelers" / "chexpert_labeler" / "phrases", []
    for stem, observation in FILES.items():
        for phrase in phrases(folder / "mention" / f"{stem}.txt"):
            part = stem in PARTS and not re.search("enlarg|megaly", phrase)
            whole = completed(phrase, words).removeprefix("the ")
            for kind, frames in (PART_FRAMES if part else FRAMES).items():
                out += [Sentence(_capital(f.format(whole)), observation, kind, phrase, VALUES[kind]) for f in frames]
        over = folder / "unmention" / f"{stem}.txt"
        for phrase in phrases(over) if over.is_file() else ():
            whole = completed(phrase, words)
            out += [Sentence(_capital(f.format(whole)), observation, "unmention", phrase, None)
                    for f in FRAMES["mention"]]  # fmt: skip
    return out


def pattern_sentences(data: Path) -> list[Sentence]:
    """Make sentences from the examples that stand over NegBio's patterns: "# no evidence of|for XXX"."""
    folder = data / "reports_labelers" / "negbio"
    files = {
        "patterns/neg_patterns.txt": "negation", "patterns/uncertainty_patterns.txt": "uncertainty",
        "chexpert/patterns/negation.txt": "negation", "chexpert/patterns/pre_negation_uncertainty.txt": "uncertainty",
        "chexpert/patterns/post_negation_uncertainty.txt": "uncertainty",
    }  # fmt: skip
    out = []
    for name, kind in files.items():
        for line in (folder / name).read_text("utf-8").splitlines():
            example = line.lstrip("# ").strip()
            if not line.startswith("#") or "XXX" not in example or "{" in example:
                continue
            for frame in _alternatives(example):
                if re.search("normal|unremarkable|enlarged", frame):  # of a part
                    text = frame.replace("XXX", "the heart")
                    out.append(Sentence(_capital(f"{text}."), "Cardiomegaly", kind, example, VALUES[kind]))
                    continue
                for n, filling in enumerate(FILLINGS):
                    other = FILLINGS[(n + 1) % len(FILLINGS)]
                    text = frame.replace("XXX", filling).replace("YYY", other)
                    observation = {"pulmonary edema": "Edema"}.get(filling, filling.title())
                    out.append(Sentence(_capital(f"{text}."), observation, kind, example, VALUES[kind]))
    return out


def _alternatives(example: str) -> list[str]:
    """Write out "of|for" and "may/could"; what stands in brackets may be left out."""
    written = []
    for one in re.sub(r"\s*\([^()]*\)", "", example).split(" | "):
        frames = [""]
        for token in one.split():
            frames = [f"{frame} {choice}".strip() for frame in frames for choice in re.split(r"[|/]", token)]
        written += frames
    return written


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def on_sentences(sentences: Sequence[Sentence]) -> dict[str, object]:
    """Return F1 of mentioning, denying and doubting the right observation, and how often nothing was said of it."""
    tally = {kind: [0, 0, 0] for kind in VALUES}
    said = Counter(dict.fromkeys(("mention", "negation", "uncertainty", "unmention"), 0))
    right = Counter(said)
    failed: dict[str, set[str]] = {kind: set() for kind in said}
    for s in sentences:
        found = {n: v for n, v in chexpert_labels(label_report(s.text)).items() if v is not None and n != "No Finding"}
        said[s.kind] += 1
        fits = found.get(s.observation) == s.value
        right[s.kind] += fits
        if not fits:
            failed[s.kind].add(s.source)
        # An observation is mentioned whatever is said of it; what is denied or doubted is judged where it is mentioned.
        if s.value is not None:
            tally["mention"][0 if s.observation in found else 2] += 1
        else:
            tally["mention"][1] += s.observation in found
        for kind in ("negation", "uncertainty"):
            is_, was = s.kind == kind, found.get(s.observation) == VALUES[kind]
            if s.observation in found and s.value is not None:
                tally[kind][0 if is_ and was else 1 if was else 2] += is_ or was
    return {
        "sentences": len(sentences),
        "f1": {kind: round(f1(*values), 4) for kind, values in tally.items()},
        "right": {kind: [right[kind], said[kind]] for kind in said if said[kind]},
        "phrases that failed": {kind: sorted(sources) for kind, sources in failed.items() if sources},
    }


def on_samples(data: Path) -> list[int]:
    """Return how many cells of the labeler's own sample are equal, and how many there are."""
    folder = data / "reports_labelers" / "chexpert_labeler"
    with (folder / "labeled_reports.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    equal = 0
    for row in rows:
        found = chexpert_labels(label_report(row["Reports"]))
        equal += sum(found[n] == (int(float(row[n])) if row[n] else None) for n in CHEXPERT)
    return [equal, len(rows) * len(CHEXPERT)]


INTRODUCTION = """\
Indiana University chest X-ray reports, findings and impression; 1,463 were checked by hand (the sheet that comes
with NegBio). Halves by a hash of the name: words and rules were improved on the half in view; the other was scored
once, at the end. An earlier version of the words was written with reports of both halves in view, so neither half
is wholly unseen. Intervals: 95 %, bootstrap over reports. A finding is there where a label says present; what is
doubted counts as not there, and the second line of each half shows the other way. The plain NegEx is our own: the
same words for findings, a trigger within five words, no other rule."""
NOTES = """\
The sheet's column Hernia is empty although reports name hernias, so it is left out. Of "atelectasis versus
scarring" the sheet marks the first; ours doubts both, as CheXpert does. "Probable" is often marked in the sheet,
and doubted by ours. COPD, blunted angles and nodular opacities are findings of their own here, as in the sheet."""
SENTENCES = """\
Sentences made from the phrase files of the CheXpert labeler (each phrase affirmed, denied, doubted; stems are
completed to the most frequent word of the reports in view) and from the examples over NegBio's patterns, filled
with six findings, or with the heart where they speak of parts. F1 as in Irvin et al.: an observation mentioned at
all; of those mentioned, denied; doubted. Their figures are of 1,000 reports of their own that are not public:
beside ours for orientation, not as a comparison on one set. They are quoted from the paper, which could not be
opened again when this page was written: check them before citing."""
FAILED = """\
These files were in view when words and cues were last improved: before that (and with part of the sentences made
otherwise), mentioning was {before[mention]:.3f} on phrases and {before_patterns[mention]:.3f} on patterns, negation
{before[negation]:.3f} and {before_patterns[negation]:.3f}, uncertainty {before[uncertainty]:.3f} and
{before_patterns[uncertainty]:.3f}. Phrases that still fail are listed in [label.json](label.json). Most are no
finding by themselves ("support", "line", "contour"), or examples where ours differs on purpose: what is to be
correlated or excluded claims nothing here, "not appreciated" denies, and a finding is never "unremarkable"."""
# The first scoring on the phrase files, before anything was changed in view of them.
BEFORE = {"mention": 0.7539, "negation": 1.0, "uncertainty": 1.0}
BEFORE_PATTERNS = {"mention": 0.9653, "negation": 0.8432, "uncertainty": 0.7709}
SOURCES = """\
Source: Irvin et al., CheXpert, AAAI 2019, table 2 (micro-averages); Peng et al., NegBio, AMIA Summits 2018; Chapman
et al., Journal of Biomedical Informatics 2001."""


def page(found: dict) -> list[str]:
    """Return the lines of docs/results/label.md."""
    lines = [
        "# Labels of reports", "",
        f"`python -m benchmarks.label_scores`, {datetime.date.today().isoformat()}, {machine()}.", "",
        "## Against findings that people marked", "", INTRODUCTION, "",
        "| half | reader | reports | marked | micro-F1 | precision | recall |", "| - | - | - | - | - | - | - |",
    ]  # fmt: skip
    for half, readers in found["indiana"].items():
        for reader, got in readers.items():
            figures = " | ".join("{:.3f} ({:.3f} to {:.3f})".format(*got[k]) for k in ("f1", "precision", "recall"))
            lines.append(f"| {half} | {reader} | {got['reports']} | {got['marked']} | {figures} |")
    halves = list(found["indiana"])[:2]
    lines += [
        "", "Right, invented and missed by column of the sheet (mapped in `benchmarks/label_sets.py`):", "",
        f"| column | findings | {' | '.join(halves)} |", f"| - | - |{' - |' * len(halves)}",
    ]  # fmt: skip
    for column, names in COLUMNS.items():
        cells = []
        for half in halves:
            r, i, m, value = found["indiana"][half]["ours"]["by finding"][column]
            cells.append(f"{r} / {i} / {m}, F1 {value:.2f}" if r + i + m else "none")
        lines.append(f"| {column} | {', '.join(names)} | {' | '.join(cells)} |")
    chex, neg = found["phrases"], found["patterns"]
    lines += [
        "", NOTES, "", "## On phrases and patterns of other labellers", "", SENTENCES, "",
        "| task | ours, CheXpert's phrases | ours, NegBio's examples | CheXpert labeler, its own reports |",
        "| - | - | - | - |",
    ]  # fmt: skip
    for kind, value in PUBLISHED.items():
        lines.append(f"| {kind} | {chex['f1'][kind]:.3f} | {neg['f1'][kind]:.3f} | {value:.3f} |")
    shares = "; ".join(f"{k} {a} of {n}" for k, (a, n) in chex["right"].items())
    shares_neg = "; ".join(f"{k} {a} of {n}" for k, (a, n) in neg["right"].items())
    return [
        *lines, "", f"Sentences with exactly the right value: phrases: {shares}. Patterns: {shares_neg}.", "",
        f"The labeler's own four sample reports: {found['samples'][0]} of {found['samples'][1]} cells equal.", "",
        FAILED.format(before=BEFORE, before_patterns=BEFORE_PATTERNS), "", SOURCES,
    ]  # fmt: skip


def main() -> None:
    """Run all; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--in-view", action="store_true")
    args = parser.parse_args()
    texts, _ = open_indiana(args.data)
    words = Counter(w for n, t in texts.items() if in_view(n) for w in re.findall("[a-z]+", t.lower()))
    found = {
        "indiana": indiana(args.data, only_in_view=args.in_view),
        "phrases": on_sentences(made_sentences(args.data, words)),
        "patterns": on_sentences(pattern_sentences(args.data)),
        "samples": on_samples(args.data),
    }
    if args.in_view:
        print(json.dumps(found, indent=1))
        return
    results = ROOT / "docs" / "results"
    (results / "label.json").write_text(json.dumps(found, indent=1) + "\n", "utf-8")
    (results / "label.md").write_text("\n".join(page(found)) + "\n", "utf-8")
    print("\n".join(page(found)))
    short = {half: readers["ours"]["f1"] for half, readers in found["indiana"].items()}
    print(json.dumps({"name": "label_scores", "micro_f1": short, "phrases": found["phrases"]["f1"]}))


if __name__ == "__main__":
    main()
