"""What `isocenter treat` says of ACTG 175 and of synthetic patients whose true effects are known.

    python -m benchmarks.treat [--data ../shared/data] [--cohorts 5] [--patients 2000] [--quick]

ACTG 175 (2,139 people, four arms, randomised): average effects beside the trial's own kind of analysis by other
packages, policies, and of whom nothing is said. Whether phenotypes of images as covariates make it better.
Synthetic cohorts (confounded, with a planted group that is never treated): error of individual
effects, coverage of 90 % intervals, regret, and who is refused. Of these the seeds are apart from those that the
constants of the method were looked at with. Writes docs/results/treat.json and treat.md; --quick writes nothing.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import hashlib
import json
import os
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import _treat_images as phenotypes
from benchmarks.__main__ import machine
from benchmarks._treat_trial import comparison_lines, of_trial
from isocenter.data.tables import read_clinical
from isocenter.evaluate.treatment import (
    average_effect,
    doubly_robust_scores,
    interval_coverage,
    pehe,
    policy_regret,
    pseudo_values,
)
from isocenter.synth.patients import Cohort, PatientSettings, synthesise_cohort, write_cohort
from isocenter.tasks.treat import (
    METHODS,
    Cases,
    Lived,
    cross_fit,
    fit_effects,
    fit_preparation,
    fit_support,
    learn,
    subset,
    supported,
)
from isocenter.verbs.entries import file_sha256
from isocenter.verbs.provenance import code_version
from isocenter.verbs.treat import treat
from isocenter.verbs.treatment.document import AmountEntry, TreatDocument
from isocenter.verbs.treatment.features import Wanted, feature_plan

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
ARMS = {1: "zidovudine and didanosine", 2: "zidovudine and zalcitabine", 3: "didanosine"}
BEFORE = (
    "age", "wtkg", "hemo", "homo", "drugs", "karnof", "oprior", "z30", "preanti", "race", "gender", "str2", "strat",
    "symptom", "cd40", "cd80",
)  # fmt: skip
HORIZON = 1000.0
RULES = ("value", "treat_all", "treat_none", "over_all", "over_none")
TAKEN = ("treatment", "days", "event", "toxicity", "made")
FIRST_SEED = 1000
IMAGES_SEEDS, IMAGES = (2000,), (800, 300)


def _entry(entry: AmountEntry) -> list[float]:
    return [entry.value, entry.low, entry.high]


def actg(data: Path, work: Path, arm: int) -> dict[str, Any]:
    """Analyse an arm against zidovudine alone."""
    source = data / "clinical" / "ACTG175.txt"
    with source.open() as text:
        rows = list(csv.DictReader(text, delimiter=" "))
    table = work / "actg175.csv"
    names = {"0": "zidovudine", **{str(k): v for k, v in ARMS.items()}}
    with table.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["id", "option", "days", "event", "cd4 at 20 weeks [/mm3]", *BEFORE])
        for row in rows:
            own = [row["pidnum"], names[row["arms"]], row["days"], row["cens"], row["cd420"], *(row[n] for n in BEFORE)]
            writer.writerow(own)
    people = work / f"arm{arm}.csv"
    with people.open("w", newline="", encoding="utf-8") as out:
        writer = csv.writer(out)
        writer.writerow(["id", *BEFORE])
        writer.writerows([r["pidnum"], *(r[n] for n in BEFORE)] for r in rows if r["arms"] in ("0", str(arm)))
    common: dict[str, Any] = {"option": ARMS[arm], "against": "zidovudine", "features": BEFORE, "level": 0.95}
    lived = treat(
        table, work / f"lived{arm}", "option", "randomised", time="days", event="event", horizon_days=HORIZON,
        event_name="end point", people=people, **common,
    )  # fmt: skip
    counted = treat(
        table, work / f"cd4{arm}", "option", "randomised", outcome="cd4 at 20 weeks [/mm3]", better="higher", **common
    )
    return {"trial": of_trial(rows, arm, HORIZON), "survival": _of_document(lived), "cd4": _of_document(counted)}


def _of_document(d: TreatDocument) -> dict[str, Any]:
    block = d.outcome
    policy, calibration = block.policy, block.calibration
    if policy is None or calibration is None:
        raise SystemExit("the main outcome has a policy and a calibration")
    verdicts = Counter(
        p.refused or ("none surely" if "no sure" in p.verdict else p.verdict.rsplit(" (", 1)[0]) for p in d.people
    )
    return {
        "average": _entry(block.average), "untreated": _entry(block.untreated), "treated": _entry(block.treated),
        "refuted_by": [r.name for r in block.refutations if not r.passed],
        "e_value": block.e_value_interval, "slope": None if calibration.slope is None else _entry(calibration.slope),
        "p_no_heterogeneity": calibration.p_no_heterogeneity, "share_treated": policy.share_treated,
        "policy": {n: _entry(getattr(policy, n)) for n in RULES},
        "supported": d.support.supported, "people": d.support.people, "verdicts": dict(verdicts),
        "discrimination": d.overlap.discrimination,
        "balance": [max(abs(b.before) for b in d.balance), max(abs(b.after) for b in d.balance)],
    }  # fmt: skip


def _cases(cohort: Cohort, work: Path, scale: str) -> tuple[np.ndarray, tuple[str, ...], Cases]:
    folder = write_cohort(work / f"cohort-{cohort.seed}", cohort, overwrite=True)
    table = read_clinical(folder / "patients.csv", patient="patient")
    plan = feature_plan(table, Wanted(frozenset(TAKEN), index_time="index_time"))
    raw, _ = plan.values(table)
    treated = np.array([p.fate.treated for p in cohort.patients])
    days, happened = (
        np.array([p.fate.days for p in cohort.patients]), np.array([p.fate.died for p in cohort.patients])
    )  # fmt: skip
    horizon = cohort.settings.horizon_days
    values = np.empty(len(days))
    for group in (treated, ~treated):
        values[group] = pseudo_values(days[group], happened[group], horizon_days=horizon, scale=scale)  # type: ignore[arg-type]
    return raw, plan.names, Cases(raw, treated, values, False, Lived(days, happened, horizon, scale))


_TRUE = {"days": "effect in mean days", "survival": "effect in survival"}
_LEVELS = {"days": ("mean days untreated", "mean days treated"), "survival": ("survival untreated", "survival treated")}


def synthetic(seed: int, count: int, scale: str, work: Path, settings: PatientSettings) -> dict[str, Any]:
    """Learn on one cohort; measure on as many further patients of it."""
    randomised = settings.design == "randomised"
    cohort = synthesise_cohort(seed, count, settings)
    others = synthesise_cohort(seed, count, settings, first=count)
    raw, names, cases = _cases(cohort, work, scale)
    prepare = fit_preparation(raw, names)
    cases = Cases(prepare(raw), cases.treated, cases.outcome, False, cases.lived)
    first = cross_fit(cases, randomised=randomised)
    support = fit_support(cases, first, raw=raw, names=names, options=("usual", "new"), randomised=randomised)
    keep = supported(support.refusals(cases.features, first.propensity))
    own = subset(cases, keep)
    nuisance = cross_fit(own, randomised=randomised)
    scores = doubly_robust_scores(own.outcome, own.treated, nuisance.propensity, nuisance.expected)
    average, truth = average_effect(scores), np.array([float(r[_TRUE[scale]]) for r in cohort.truth()])
    learnt = learn(own, "together", level=0.9)
    new_raw, _, _ = _cases(others, work, scale)
    features = prepare(new_raw)
    asked = supported(support.refusals(features))
    planted = np.array([bool(r["without overlap"]) for r in others.truth()])
    true = np.array([float(r[_TRUE[scale]]) for r in others.truth()])[asked]
    effects, levels = learnt.tell(features[asked])
    value, low, high = (np.array([getattr(a, n) for a in effects]) for n in ("value", "low", "high"))
    options = []
    for option in (0, 1):
        own_true = np.array([float(r[_LEVELS[scale][option]]) for r in others.truth()])[asked]
        ends = [np.array([getattr(pair[option], n) for pair in levels]) for n in ("low", "high")]
        options.append(interval_coverage(ends[0], ends[1], own_true))
    each = {}
    for method in METHODS:
        if method != "together":
            made = fit_effects(own, method).effects(features[asked])
            ends = made.interval(1.645)
            each[method] = [pehe(made.effect, true), interval_coverage(ends[0], ends[1], true)]
    return {
        "seed": seed, "scale": scale, "pehe": pehe(value, true), "spread": float(true.std()),
        "coverage": interval_coverage(low, high, true), "coverage_options": options,
        "regret": policy_regret(value, true), "regret_all": policy_regret(np.ones_like(true), true),
        "regret_none": policy_regret(-np.ones_like(true), true), "methods": each,
        "caught": float((~asked)[planted].mean()) if planted.any() else None,
        "refused_others": float((~asked)[~planted].mean()), "rules": list(support.rules),
        "average": [average.value, average.low, average.high], "average_true": float(truth[keep].mean()),
        "sure": float(((low > 0) | (high < 0)).mean()),
        "sure_and_wrong": float((((low > 0) & (true < 0)) | ((high < 0) & (true > 0))).mean()),
    }  # fmt: skip


def hidden(count: int, work: Path, *, quick: bool) -> dict[str, Any]:
    """Analyse a cohort in which something that no table holds decides treatment and outcome alike."""
    cohort = synthesise_cohort(FIRST_SEED + 500, count, PatientSettings(hidden=1.0, no_overlap=False))
    folder = write_cohort(work / "hidden", cohort)
    document = treat(
        folder / "patients.csv", work / "hidden-out", "treatment", "observational", option="new", against="usual",
        time="days", event="event", horizon_days=1095.0, index_time="index_time",
        leave_out=("toxicity",), tries=4 if quick else 8, level=0.95,
    )  # fmt: skip
    true = float(np.mean([float(r["effect in survival"]) for r in cohort.truth()]))
    return {**_of_document(document), "true": true}


def _in_100(three: list[float]) -> str:
    return f"{100 * three[0]:.1f} ({100 * three[1]:.1f} to {100 * three[2]:.1f})"


def _plain(three: list[float], digits: int = 1) -> str:
    return f"{three[0]:.{digits}f} ({three[1]:.{digits}f} to {three[2]:.{digits}f})"


def _trial_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        *comparison_lines(found, HORIZON),
        "| arm, outcome | refuted by | E-value of the interval | slope of differences between people (1: as "
        "predicted) | p of no differences | treated by the rule | rule over treating all | rule over treating none |",
        "| - | - | - | - | - | - | - | - |",
    ]  # fmt: skip
    for name, f in found.items():
        for key, write in (("survival", _in_100), ("cd4", _plain)):
            o = f[key]
            slope = "" if o["slope"] is None else _plain(o["slope"], 2)
            p = "" if o["p_no_heterogeneity"] is None else f"{o['p_no_heterogeneity']:.2f}"
            lines.append(
                f"| {name}, {'in 100' if key == 'survival' else 'CD4'} | {', '.join(o['refuted_by']) or 'nothing'} | "
                f"{o['e_value']:.2f} | {slope} | {p} | {100 * o['share_treated']:.0f} % | "
                f"{write(o['policy']['over_all'])} | {write(o['policy']['over_none'])} |"
            )
    lines += [
        "", "What is told of the people of the trial themselves, by intervals of 95 %:", "",
        "| arm | favours it | no sure difference | favours zidovudine alone | refused: unlike others | refused: "
        "interval too wide |", "| - | - | - | - | - | - |",
    ]  # fmt: skip
    for name, f in found.items():
        v, total = f["survival"]["verdicts"], sum(f["survival"]["verdicts"].values())
        shares = [
            v.get(k, 0) / total for k in (f"favours {name}", "none surely", "favours zidovudine", "unlike", "interval")
        ]
        lines.append(f"| {name} | " + " | ".join(f"{100 * s:.1f} %" for s in shares) + " |")
    return lines


def _mean_range(values: list[float], times: float = 1, digits: int = 1) -> str:
    v = [times * x for x in values]
    return f"{np.mean(v):.{digits}f} ({min(v):.{digits}f} to {max(v):.{digits}f})"


def _synthetic_lines(runs: list[dict[str, Any]], title: str, patients: int) -> list[str]:
    lines = [
        "", f"## Synthetic patients, {title}", "",
        f"{len({r['seed'] for r in runs})} cohorts of {patients:,}; learnt on one, measured on {patients:,} further "
        "patients of the same population of whom something is said. Mean over the cohorts, least and largest in "
        "brackets. Learner: all four together.", "",
        "| figure | survival at day 1095, in 100 | mean days up to day 1095 |", "| - | - | - |",
    ]  # fmt: skip
    by = {s: [r for r in runs if r["scale"] == s] for s in ("survival", "days")}

    def row(name: str, pick: Any, times: tuple[float, float] = (100, 1), digits: int = 1) -> None:
        cells = [_mean_range([pick(r) for r in by[s]], t, digits) for s, t in zip(by, times, strict=True)]
        lines.append(f"| {name} | {cells[0]} | {cells[1]} |")

    row("spread of true effects", lambda r: r["spread"])
    row("error of individual effects (PEHE)", lambda r: r["pehe"])
    row("coverage of 90 % intervals of the effect, %", lambda r: r["coverage"], (100, 100))
    row("coverage of 90 % intervals of the untreated outcome, %", lambda r: r["coverage_options"][0], (100, 100))
    row("coverage of 90 % intervals of the treated outcome, %", lambda r: r["coverage_options"][1], (100, 100))
    row("regret of treating where a benefit is predicted", lambda r: r["regret"], digits=2)
    row("regret of treating all", lambda r: r["regret_all"], digits=2)
    row("regret of treating none", lambda r: r["regret_none"], digits=2)
    row("people whose interval excludes 0, %", lambda r: r["sure"], (100, 100))
    row("of all: excluded on the wrong side, %", lambda r: r["sure_and_wrong"], (100, 100))
    row("error of the average effect", lambda r: r["average"][0] - r["average_true"])
    if by["survival"][0]["caught"] is not None:
        row("planted group without overlap that is refused, %", lambda r: r["caught"], (100, 100))
    row("others refused, %", lambda r: r["refused_others"], (100, 100))
    inside = sum(r["average"][1] <= r["average_true"] <= r["average"][2] for r in runs)
    rules = runs[0]["rules"]
    lines += ["", f"True average within the 95 % interval: {inside} of {len(runs)} analyses."]
    if rules:
        lines.append(f"The group as the first cohort's analysis names it: {rules[0]}.")
    lines += ["", "| learner | PEHE, in 100 | coverage, % | PEHE, days | coverage, % |", "| - | - | - | - | - |"]
    for method in runs[0]["methods"]:
        cells = [
            _mean_range([r["methods"][method][n] for r in by[s]], t)
            for s, times in (("survival", (100, 100)), ("days", (1, 100)))
            for n, t in enumerate(times)
        ]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    return lines


def page(made: dict[str, Any]) -> str:
    """Return the page of results."""
    lines = [
        "# Effects of treatments", "",
        f"`python -m benchmarks.treat`, {made['date']}, {made['machine']}, {made['minutes']:.0f} minutes of "
        f"processor time. Code {made['code']}, commit {(made['commit'] or 'unknown')[:12]}.", "",
        *_trial_lines(made["actg175"]),
        *_synthetic_lines(made["confounded"], "confounded, one group never treated", made["patients"]),
        *_synthetic_lines(made["randomised"], "randomised", made["patients"]),
        *(phenotypes.lines(made["images"]) if made["images"] else []),
    ]  # fmt: skip
    h = made["hidden"]
    lines += [
        "", "## What no attempt can see", "",
        "One cohort in which something that stands in no table decides both who is treated and who dies. Of placebo, "
        f"random cause and subsets these refuted the average: {', '.join(h['refuted_by']) or 'none'}. It says "
        f"{_in_100(h['average'])} in 100, and the truth is {100 * h['true']:.1f}. What could tell is the bound alone: "
        f"E-value of the interval {h['e_value']:.2f}. This is why observational results are called associations.", "",
        "## What to know", "",
        "The hazards of the synthetic patients are proportional and log-linear in the transformed features, which "
        "suits the T-learner; real ones need not be. Within one cohort the errors of all people go together: coverage "
        "varies between cohorts more than the number of people would let expect. That errors of the learners correlate "
        "by 0.7 was set on other cohorts (seeds 0 to 6).",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def code_hash() -> str:
    """Return a hash of everything that could change a part: the package's own code, and these benchmarks'."""
    files = sorted((ROOT / "src" / "isocenter").rglob("*.py")) + sorted((ROOT / "benchmarks").glob("*treat*.py"))
    parts = [file.relative_to(ROOT).as_posix().encode() + file.read_bytes() for file in files]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]


def _kept(file: Path | None, key: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return a part that was made before, or make and keep it: a run that was stopped goes on.

    The file is of one state of the code (`code_hash`), and a key names its data: nothing stale is ever taken.
    """
    parts: dict[str, Any] = json.loads(file.read_text("utf-8")) if file is not None and file.is_file() else {}
    if key not in parts:
        started = time.process_time()
        parts[key] = {**make(), "cpu_seconds": time.process_time() - started}
        if file is not None:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(parts), "utf-8")
        print(key, f"{parts[key]['cpu_seconds']:.0f} s of processor time", flush=True)
    made: dict[str, Any] = parts[key]
    return made


def main() -> None:
    """Run all; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--cohorts", type=int, default=4)
    parser.add_argument("--patients", type=int, default=2000)
    parser.add_argument("--work", type=Path, default=ROOT / ".runs" / "treat", help="parts of a run that was stopped")
    parser.add_argument("--quick", action="store_true", help="one small cohort, and nothing is written")
    args = parser.parse_args()
    code = code_hash()
    parts = None if args.quick else args.work / f"parts-{code}.json"
    cohorts, patients = (1, 600) if args.quick else (args.cohorts, args.patients)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        made: dict[str, Any] = {"date": str(datetime.datetime.now(tz=datetime.UTC).date()), "machine": machine()}
        made["commit"], made["code"] = code_version()["commit"], code
        made["patients"] = patients
        for key, settings in (("confounded", PatientSettings()), ("randomised", PatientSettings("randomised"))):
            made[key] = [
                _kept(
                    parts,
                    f"{key} {n} {scale} {patients}",
                    partial(synthetic, FIRST_SEED + n, patients, scale, work, settings),
                )
                for n in range(cohorts if key == "confounded" else max(1, cohorts - 2))
                for scale in ("survival", "days")
            ]
        made["hidden"] = _kept(parts, f"hidden {patients}", partial(hidden, patients, work, quick=args.quick))
        made["images"] = []
        if not args.quick:
            learnt, asked = IMAGES
            for seed in IMAGES_SEEDS:
                folder = args.work / f"phenotypes-{phenotypes.measuring_hash()}-{seed}"
                one = partial(phenotypes.images, seed, learnt, asked, work, folder)
                made["images"].append(_kept(parts, f"images {seed} {learnt} {asked}", one))
        made["actg175"] = {}
        for arm in {} if args.quick else ARMS:
            table = file_sha256(args.data / "clinical" / "ACTG175.txt")[:16]
            made["actg175"][ARMS[arm]] = _kept(parts, f"arm {arm} {table}", partial(actg, args.data, work, arm))
    runs = [*made["confounded"], *made["randomised"], made["hidden"], *made["images"], *made["actg175"].values()]
    made["minutes"] = sum(r["cpu_seconds"] for r in runs) / 60
    if not args.quick:
        (RESULTS / "treat.json").write_text(json.dumps(made, indent=1) + "\n", "utf-8")
        (RESULTS / "treat.md").write_text(page(made), "utf-8")
    covered = float(np.mean([r["coverage"] for r in made["confounded"]]))
    print(json.dumps({"name": "treat", "coverage": covered, "pehe": made["confounded"][0]["pehe"]}))


if __name__ == "__main__":
    main()
