"""How often does the node's vigilance give a false alarm, and how soon does it see a change?

    python -m benchmarks.drift [--quick] [--page docs/results/drift.md]

Streams of studies are made up: feature rows as the node records them, whose numbers hang together as those of real
studies do (scanner, protocol, size of the patient), looked at after every study by the product's own assessment
(`verbs.clinic.vigilance.assess`), all features at once. Years without any change give the rate of false alarms; a
change after a year's third gives the delay, in studies. Not a measure of speed.
"""

from __future__ import annotations

import argparse
import datetime
import json
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from benchmarks.__main__ import machine
from isocenter.clinic.vigilance import Observation
from isocenter.evaluate.statistics import share_by_patient
from isocenter.verbs.clinic.config_vigilance import VigilanceConfig
from isocenter.verbs.clinic.vigilance.assess import Stream, assess

ROOT = Path(__file__).resolve().parents[1]
REFERENCE, YEAR, CHANGE = 200, 1500, 500
VENDORS = ("Siemens", "GE", "Philips")
THICKNESSES = ((0.5, 0.3, 0.2), (0.3, 0.4, 0.3), (0.1, 0.2, 0.7))
SHA = "ab" * 32


@dataclass(frozen=True)
class World:
    """How studies are."""

    scanners: tuple[float, ...] = (0.5, 0.35, 0.15)
    noise: float = 1.0
    abdomen: float = 0.05
    prevalence: float = 0.12
    strange: float = 0.03
    offset_hu: float = 0.0


def pick(rng: np.random.Generator, shares: tuple[float, ...]) -> int:
    """Draw an index by shares that add up to one."""
    return min(len(shares) - 1, int(np.searchsorted(np.cumsum(shares), rng.random())))


def study(rng: np.random.Generator, n: int, world: World) -> Observation:
    """Draw one study: scanner and patient decide what its numbers are."""
    scanner = pick(rng, world.scanners)
    size, thick = rng.lognormal(0, 0.15), (1.0, 2.0, 5.0)[pick(rng, THICKNESSES[scanner])]
    abdomen = rng.random() < world.abdomen
    noise = float(rng.gamma(30, 1 / 30) * (10 + 3 * scanner) * size**1.5 / np.sqrt(thick) * world.noise)
    middle = float(rng.normal(-620 if not abdomen else 20, 90) + world.offset_hu)
    ill = rng.random() < world.prevalence
    score = float(rng.beta(6, 3) if ill else rng.beta(1, 9))
    strange = rng.random() < (0.7 if abdomen else world.strange)
    numbers = {
        "slices": float(np.round(330 * size / thick)), "rows": 512.0, "columns": 512.0, "spacing z": thick,
        "spacing y": float(rng.normal(0.72, 0.05) * size), "spacing x": float(rng.normal(0.72, 0.05) * size),
        "intensity p5": float(rng.normal(-990, 8)), "intensity p50": middle, "intensity p95": float(rng.normal(95, 25)),
        "noise": noise, "noise share": noise / 1000, "gate score": float(rng.normal(3.0 if strange else 0.0, 1.0)),
    }  # fmt: skip
    words = {"modality": "CT", "body part": "ABDOMEN" if abdomen else "CHEST", "manufacturer": VENDORS[scanner]}
    if not strange:
        numbers |= {
            "volume of lung": float(rng.lognormal(8.4, 0.25) * size), "probability of effusion": score,
            "set size": float(1 + (0.3 < score < 0.6)), "expected quality": float(rng.beta(20, 2)),
        }  # fmt: skip
        words["set of effusion"] = "Present" if score > 0.6 else "Absent" if score < 0.3 else "Absent or Present"
    return Observation(
        f"1.2.{n}", 1, "chest", "live", "lungs", 0, "abstained" if strange else "answered",
        "unlike" if strange else "", True, SHA, "lungs 1", 1.0, numbers, words, at=float(n), number=n,
    )  # fmt: skip


def new_scanner(rng: np.random.Generator, n: int, world: World) -> Observation:
    """Half of the studies come from a scanner that the reference has not: its maker, its noise, its thickness."""
    row = study(rng, n, world)
    if rng.random() < 0.5:
        return row
    numbers = {**row.numbers, "noise": row.numbers["noise"] * 1.3, "spacing z": 3.0}
    return replace(row, numbers=numbers, words={**row.words, "manufacturer": "Canon"})


Draw = Callable[[np.random.Generator, int, World], Observation]
SHIFTS: dict[str, tuple[str, Draw, World]] = {
    "new scanner, half of the studies": ("manufacturer, noise, spacing", new_scanner, World()),
    "noise 15 % higher": ("one number", study, World(noise=1.15)),
    "noise 50 % higher": ("one number", study, World(noise=1.5)),
    "abdomen 5 % -> 30 %": ("a body part that the task is not for", study, World(abdomen=0.3)),
    "prevalence 12 % -> 20 %": ("scores alone", study, World(prevalence=0.20)),
    "prevalence 12 % -> 35 %": ("scores alone", study, World(prevalence=0.35)),
    "calibration of the scanners, +60 HU": ("one number", study, World(offset_hu=60)),
    "a mix of scanners that moved 50/35/15 -> 20/35/45": ("words and what hangs on them", study,
                                                          World(scanners=(0.2, 0.35, 0.45))),
}  # fmt: skip


def one(asked: tuple[str, int]) -> tuple[int | None, str, int]:
    """Run a year: return the study after the change at which the first alarm is (below 0: before it), and of what.

    The assessment looks at every study in its order; so one call at the end sees the first alarm that daily looks see.
    """
    name, seed = asked
    rng = np.random.default_rng([seed, len(name), *name.encode()])
    _, draw, world = SHIFTS.get(name, ("", study, World()))
    rows = [study(rng, n, World()) for n in range(1, REFERENCE + CHANGE + 1)]
    rows += [draw(rng, n, world) for n in range(REFERENCE + CHANGE + 1, REFERENCE + YEAR + 1)]
    found = assess(Stream("chest", "live", "lungs", rows), VigilanceConfig(reference_studies=REFERENCE))
    alarms = [(f.since - REFERENCE - CHANGE, f.name) for f in found.features if f.since is not None]
    alarms += [(r.since - REFERENCE - CHANGE, r.name) for r in found.rates if r.since is not None]
    first = min(alarms, default=None)
    return (None, "", len(found.features)) if first is None else (*first, len(found.features))


def daily_tests(seed: int) -> tuple[bool, bool]:
    """Tell whether a year without change alarms who tests the last 100 studies every 10: by KS at 5 %, and corrected.

    It is what many panels do; each feature is looked at, Benjamini-Hochberg's correction over features in the second.
    """
    from isocenter.evaluate.sequential import window_p
    from isocenter.evaluate.statistics import benjamini_hochberg

    rng = np.random.default_rng([seed, 77])
    rows = [study(rng, n, World()) for n in range(1, REFERENCE + YEAR + 1)]
    plain = corrected = False
    for end in range(REFERENCE + 100, len(rows), 10):
        found = []
        for feature in ("noise", "slices", "intensity p50", "intensity p95", "gate score", "spacing y"):
            sides = [[r.numbers[feature] for r in part] for part in (rows[:REFERENCE], rows[end - 100 : end])]
            found.append(window_p(*sides))
        plain |= min(found) < 0.05
        corrected |= float(min(benjamini_hochberg(found))) < 0.05
    return plain, corrected


def share(yes: list[bool]) -> str:
    """Return a share with its exact interval."""
    found = share_by_patient(yes, [str(n) for n in range(len(yes))])
    return f"{found.value:.1%} ({found.low:.1%} to {found.high:.1%})"


def delay(values: list[int], rng: np.random.Generator) -> str:
    """Return the median delay with the interval of resampled streams, and the 90th percentile."""
    if not values:
        return "none seen"
    draws = np.median(rng.choice(values, (1000, len(values))), axis=1)
    low, high = np.percentile(draws, (2.5, 97.5))
    return f"{np.median(values):.0f} ({low:.0f} to {high:.0f})"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--page", type=Path, default=ROOT / "docs" / "results" / "drift.md")
    args = parser.parse_args()
    years, repeats, naive = (40, 8, 6) if args.quick else (150, 16, 20)
    begun = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        calm = list(pool.map(one, [("calm", seed) for seed in range(years)], chunksize=4))
        shifted = {name: list(pool.map(one, [(name, seed) for seed in range(repeats)], chunksize=4)) for name in SHIFTS}
        daily = list(pool.map(daily_tests, range(naive), chunksize=2))
    features = calm[0][2]
    changed = [found[0] for runs in shifted.values() for found in runs]
    early = [at is not None and at <= 0 for at in changed]
    false = [found[0] is not None for found in calm]
    rng = np.random.default_rng(0)
    lines = [
        "# Drift: false alarms and delay",
        "",
        f"`python -m benchmarks.drift`, {datetime.date.today().isoformat()}, {machine()}.",
        "",
        f"Streams that are made up: {REFERENCE} studies of reference, then a year of {YEAR}, {features} features "
        "(header, image statistics, gate, outputs) that hang together through scanner and patient, and four rates. The "
        "node's own assessment looks at every study; `alpha` is 5 % a year for the rule and task, all features and "
        "rates together. [How](../explanation/vigilance.md).",
        "",
        "## A year without change",
        "",
        "| who looks | years | with a false alarm (95 %) |",
        "| - | - | - |",
        f"| the node: e-processes, at every study | {years} | **{share(false)}** |",
        f"| KS at 5 % on the last 100, every 10 studies, 6 features | {naive} | {share([d[0] for d in daily])} |",
        f"| the same, corrected for 6 features (Benjamini-Hochberg) | {naive} | {share([d[1] for d in daily])} |",
        "",
        "The second and third rows are what looking often does to tests that are made for one look.",
        "",
        f"Of the {len(early)} streams below, {sum(early)} had an alarm in the {CHANGE} studies before their change: "
        "false alarms too.",
        "",
        "## A change",
        "",
        f"After {CHANGE} studies; {repeats} streams each. Delay: studies from the change to the first alarm of any "
        "feature, median with the 95 % interval of resampled streams, over those that were seen within the remaining "
        f"{YEAR - CHANGE} studies. Streams with an alarm before the change are left out.",
        "",
        "| change | shows in | seen | delay in studies | 9 of 10 within | first told by |",
        "| - | - | - | - | - | - |",
    ]
    for name, found in shifted.items():
        clean = [f for f in found if f[0] is None or f[0] > 0]
        seen = [f[0] for f in clean if f[0] is not None]
        who = [f[1] for f in clean if f[0] is not None]
        commonest = sorted(set(who), key=who.count, reverse=True)[:2]
        told = ", ".join(f"{w} ({who.count(w) / len(who):.0%})" for w in commonest)
        ninety = f"{np.percentile([s if s is not None else YEAR for s, *_ in clean], 90):.0f}"
        ninety = "not seen" if ninety == str(YEAR) or int(ninety) > YEAR - CHANGE else ninety
        found_share = share([f[0] is not None for f in clean])
        lines.append(f"| {name} | {SHIFTS[name][0]} | {found_share} | {delay(seen, rng)} | {ninety} | {told} |")
    lines += [
        "",
        "## What this does not show",
        "",
        "Real streams are not exchangeable even where nothing is wrong: weekdays, seasons, wards that send in batches, "
        "patients who come again. Then an alarm is right that studies are not as they were, and may still be no "
        "news to anybody. The rate above is of exchangeable streams. A small change of prevalence stays unseen "
        "for long, and whether answers are right is not seen at all without readers: see override rate and coverage.",
        "",
        f"{time.monotonic() - begun:.0f} s.",
    ]
    if not args.quick:
        args.page.write_text("\n".join(lines) + "\n", "utf-8")
    delays = {k: [f[0] for f in v] for k, v in shifted.items()}
    print(json.dumps({"name": "drift", "false_alarm_years": float(np.mean(false)), "years": years, "delays": delays}))


if __name__ == "__main__":
    main()
