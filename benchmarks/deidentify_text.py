"""How many planted identifiers `clean_text` finds, by kind, and how much of the clinical text it leaves.

    python -m benchmarks.deidentify_text [--notes 1000] [--seed 11]

Five sets: three parts of `isocenter.synth.notes` and two collections of letters of `benchmarks.deidentify_letters`;
the page says which were in view when rules were written. An identifier counts as found only if every letter and digit
of it is gone. A finding that touches no planted identifier is a false alarm. With the Indiana reports at hand (their
identifiers are XXXX already), false alarms of real reports are counted too. Writes docs/results/deidentification.md
and .json.
"""

from __future__ import annotations

import argparse
import datetime
import io
import json
import os
import tarfile
import time
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree

from benchmarks.__main__ import machine
from benchmarks.deidentify_letters import letters
from isocenter.data.deidentify import KnownIdentity, clean_text
from isocenter.evaluate.calibration import wilson_interval
from isocenter.synth.notes import Note, notes

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
FIRST_LOOK = {"second": 0.954, "third": 0.785, "letters": 0.873, "last": 0.689}
"""Recall when a set was measured for the first time, before any rule was changed for it."""


def measure(collection: list[tuple[Note, KnownIdentity | None]]) -> dict[str, object]:
    """Return counts by kind, false alarms and the share of other text that stays."""
    planted: Counter[str] = Counter()
    found: Counter[str] = Counter()
    right: Counter[str] = Counter()
    claimed: Counter[str] = Counter()
    kept = other = 0
    begun = time.perf_counter()
    for note, known in collection:
        done = clean_text(note.text, known=known, shift_days=400)
        gone = {i for span in done.spans for i in range(span.start, span.end)}
        true = {i for place in note.planted for i in range(place.start, place.end)}
        for place in note.planted:
            planted[place.kind] += 1
            signs = [i for i in range(place.start, place.end) if note.text[i].isalnum()]
            found[place.kind] += all(i in gone for i in signs)
        for span in done.spans:
            claimed[span.kind] += 1
            right[span.kind] += any(i in true for i in range(span.start, span.end))
        signs = [i for i, sign in enumerate(note.text) if sign.isalnum() and i not in true]
        other += len(signs)
        kept += sum(i not in gone for i in signs)
    seconds = time.perf_counter() - begun
    return {
        "notes": len(collection),
        "planted": dict(sorted(planted.items())),
        "found": dict(sorted(found.items())),
        "claimed": dict(sorted(claimed.items())),
        "right": dict(sorted(right.items())),
        "kept": kept / other,
        "notes_per_second": len(collection) / seconds,
    }


def indiana() -> dict[str, object] | None:
    """Return false alarms of the Indiana reports, None where they are not at hand."""
    folder = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data")) / "reports_iu_xray"
    archives = sorted(folder.glob("*.tgz"))
    if not archives:
        return None
    reports = alarms = 0
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            stream = archive.extractfile(member) if member.name.endswith(".xml") else None
            if stream is None:
                continue
            root = ElementTree.parse(io.BytesIO(stream.read())).getroot()
            parts = (f"{e.get('Label')}: {e.text}" for e in root.iter("AbstractText") if e.text)
            reports += 1
            alarms += len(clean_text("\n".join(parts), shift_days=400).spans)
    return {"reports": reports, "false_alarms": alarms}


def _share(part: int, whole: int) -> str:
    if not whole:
        return "-"
    low, high = wilson_interval(part, whole)
    return f"{part / whole:.3f} ({low:.3f} to {high:.3f})"


def page(results: dict[str, dict[str, object]], real: dict[str, object] | None) -> str:
    """Write the page."""
    lines = [
        "# De-identification of free text",
        "",
        f"`python -m benchmarks.deidentify_text`, {datetime.date.today().isoformat()}, {machine()}. "
        f"Rules alone, no model, and nothing "
        "known of the patient beforehand where the table does not say so (name and numbers of the "
        "patient alone, as ingest passes them). An identifier counts as found only if every letter "
        "and "
        "digit of it is gone; 95 % "
        "intervals (Wilson) treat identifiers as independent, which those of one template are not.",
        "",
        "The rules were written by the same hand as the notes, first with only the first part in view. Each "
        "other set was measured **before** any rule was changed for it: recall "
        f"{FIRST_LOOK['second']} (second part), {FIRST_LOOK['third']} (third part), {FIRST_LOOK['letters']} "
        "(letters). Then its misses were looked at and the rules widened. The last set came at the end: eight "
        f"letters that tell a story, {FIRST_LOOK['last']} at first. Its misses were never looked at; one general "
        "rule came after it (capital words of English prose that are no words of language or medicine).",
        "",
        "**So `last` is what to expect of a style that nobody has looked at, the others are what the rules can do "
        "where somebody has.** The target of 0.98 is met on the planted set of 1,000 notes (each of the three "
        "parts), and missed on the last. By kind, names fail most, then numbers without a label. Pass the "
        "patient's own names as known (ingest does), and plug in an engine with a language model for those of "
        "others.",
        "",
        "| set | notes | planted | recall | precision | other text kept | notes/s |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, r in results.items():
        found, planted = sum(r["found"].values()), sum(r["planted"].values())  # type: ignore[attr-defined]
        right, claimed = sum(r["right"].values()), sum(r["claimed"].values())  # type: ignore[attr-defined]
        lines.append(
            f"| {name} | {r['notes']} | {planted} | {_share(found, planted)} | "
            f"{_share(right, claimed)} | {r['kept']:.4f} | "
            f"{r['notes_per_second']:.0f} |"
        )
    lines += [
        "",
        "## Recall by kind",
        "",
        "| kind | " + " | ".join(results) + " |",
        "| --- |" + " --- |" * len(results),
    ]
    kinds = sorted({kind for r in results.values() for kind in r["planted"]})  # type: ignore[attr-defined]
    for kind in kinds:
        cells = [_share(r["found"].get(kind, 0), r["planted"].get(kind, 0)) for r in results.values()]  # type: ignore[attr-defined]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    lines += [
        "",
        "## Precision by kind",
        "",
        "| kind | " + " | ".join(results) + " |",
        "| --- |" + " --- |" * len(results),
    ]
    for kind in kinds:
        cells = [_share(r["right"].get(kind, 0), r["claimed"].get(kind, 0)) for r in results.values()]  # type: ignore[attr-defined]
        lines.append(f"| {kind} | " + " | ".join(cells) + " |")
    if real is not None:
        lines += [
            "",
            "## Real reports",
            "",
            f"{real['reports']} chest reports of the Indiana collection, whose identifiers are XXXX "
            f"already: {real['false_alarms']} "
            "false alarms. They say nothing of recall.",
        ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notes", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    count = 50 if args.quick else args.notes
    results = {
        part: measure([(note, None) for note in notes(count, seed=args.seed, half=part)])
        for part in ("first", "second", "third")
    }
    for which in ("letters", "last"):
        written = letters(count, seed=args.seed, which=which)
        results[which] = measure([(note, None) for note, _ in written])
        results[f"{which}, patient known"] = measure(written)
    real = indiana()
    print(json.dumps({"sets": results, "indiana": real}))
    if not args.quick:
        (RESULTS / "deidentification.md").write_text(page(results, real), "utf-8")
        (RESULTS / "deidentification.json").write_text(
            json.dumps({"sets": results, "indiana": real}, indent=1) + "\n", "utf-8"
        )


if __name__ == "__main__":
    main()
