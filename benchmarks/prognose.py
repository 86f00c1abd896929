"""Prognosis on six public sets, beside scikit-survival in the very same folds; calibration; IDH status of gliomas.

    python -m benchmarks.prognose [SET ...] [--data ../shared/data] [--work .runs/prognose] [--no-peers]

SET is one of gbsg2, veteran, whas500, flchain, actg320, lung, lgg; all by default. Each adds its figures to the file
docs/results/prognose.json, of which docs/results/prognose.md is written. Peers need scikit-survival (GPL, no part of
the package) in the same environment. The peers are learners like ours: they get the same imputed and scaled matrices,
the same outer and inner folds and the same score to choose their settings by; only the fit is theirs. Held-out
predictions are kept in --work, so that a run goes on where it was stopped. Of the largest set no networks are
learnt, and the peer's forest has one size of leaves (15): its choice would take too long.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from benchmarks.__main__ import machine
from isocenter.core.errors import TrainingError
from isocenter.data.tables import Codes, NumberColumn, read_clinical
from isocenter.data.tables.reading import ClinicalTable
from isocenter.evaluate.bootstrap import bootstrap_draws, bootstrap_statistic
from isocenter.evaluate.ranking import auroc, concordance
from isocenter.evaluate.survival import integrated_brier
from isocenter.evaluate.tables import or_nan
from isocenter.models.covariates import fit_preparation
from isocenter.tasks.prognose.deep import NetworkLearner
from isocenter.tasks.prognose.learners import CoxLearner, Curves, ForestLearner, Learner, Score, Setting, Times
from isocenter.tasks.prognose.nested import HeldOut, nested, patient_folds
from isocenter.verbs.prognosis.figures import calibration_at, fold_uno, integral_days
from isocenter.verbs.prognosis.inputs import Asked, cohort_of, covariates_of

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "docs" / "results"
FOLDS, INNER, SEED = 5, 3, 0
_HARRELL, _UNO = "Harrell's C", "Uno's C"


@dataclass(frozen=True)
class Set:
    """A set: its file, what it is asked, and the day that calibration is told at."""

    file: str
    asked: Asked
    horizon: float
    kinds: dict[str, str]
    resamples: int = 400


SETS = {
    "gbsg2": Set("GBSG2.arff", Asked("time", "cens", Codes()), 1095, {}),
    "veteran": Set("veteran.arff", Asked("Survival_in_days", "Status", Codes("dead", "censored")), 180, {}),
    "whas500": Set("whas500.arff", Asked("lenfol", "fstat", Codes()), 730, {}),
    "flchain": Set(
        "flchain.arff", Asked("futime", "death", Codes("dead", "alive")), 3650, {"sample.yr": "number"}, 100
    ),
    "actg320": Set("actg320.arff", Asked("time", "censor", Codes(), leave_out=("time_d", "censor_d")), 270, {}),
    "lung": Set(
        "ncctg_lung.csv", Asked("time", "status", Codes(), leave_out=("inst",)), 365,
        {"sex": "category", "ph.ecog": "number"},
    ),
}  # fmt: skip


@dataclass(frozen=True)
class PeerCurves:
    """A model of scikit-survival."""

    model: Any

    def risk(self, x: np.ndarray) -> np.ndarray:
        """Return its own risk."""
        return np.asarray(self.model.predict(x), dtype=np.float64)

    def survival(self, x: np.ndarray, at_days: np.ndarray) -> np.ndarray:
        """Return its own curves."""
        times = np.asarray(self.model.unique_times_, dtype=np.float64)
        curves = np.asarray(self.model.predict_survival_function(x, return_array=True), dtype=np.float64)
        place = np.searchsorted(times, at_days, side="right")
        return np.clip(np.concatenate([np.ones((len(x), 1)), curves], axis=1)[:, place], 0, 1)


@dataclass(frozen=True)
class PeerLearner:
    """A learner of scikit-survival: the fit is its own, everything else is as for ours."""

    name: str
    make: Callable[[Setting, int], Any]
    grid: Callable[[np.ndarray, Times], Sequence[Setting]]

    def settings(self, x: np.ndarray, times: Times) -> Sequence[Setting]:
        """Return what is chosen from."""
        return self.grid(x, times)

    def fit(self, x: np.ndarray, times: Times, setting: Setting, seed: int) -> Curves:
        """Fit it."""
        from sksurv.util import Surv

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                return PeerCurves(self.make(setting, seed).fit(x, Surv.from_arrays(times.happened, times.days)))
            except ArithmeticError as error:  # its own word for a setting that does not come to rest
                raise TrainingError(str(error)) from error

    def judge(self, model: Curves, x: np.ndarray, times: Times, score: Score) -> float:
        """Return the score of people held out."""
        return score(times.days, times.happened, model.risk(x))


def peers(large: bool) -> list[PeerLearner]:
    """Return scikit-survival's own, with settings chosen from grids like ours."""
    from sksurv.ensemble import RandomSurvivalForest
    from sksurv.linear_model import CoxnetSurvivalAnalysis, CoxPHSurvivalAnalysis

    ours = CoxLearner(l1_ratios=(0.1, 0.5, 1.0))
    trees = 100 if large else 200
    leaves = (15,) if large else (40, 15, 5)

    def forest(s: Setting, seed: int) -> Any:
        return RandomSurvivalForest(
            n_estimators=trees, min_samples_leaf=int(s["least_leaf"]), max_features="sqrt", random_state=seed
        )

    return [
        PeerLearner("scikit-survival CoxPH", lambda s, _: CoxPHSurvivalAnalysis(alpha=s["alpha"], ties="efron"),
                    lambda x, t: [{"alpha": a} for a in (100.0, 10.0, 1.0, 0.1, 1e-4)]),
        PeerLearner("scikit-survival Coxnet", lambda s, _: CoxnetSurvivalAnalysis(
            l1_ratio=s["l1_ratio"], alphas=[s["strength"]], fit_baseline_model=True, max_iter=10**6), ours.settings),
        PeerLearner("scikit-survival forest", forest,
                    lambda x, t: [{"least_leaf": min(k, len(t.days) // 10)} for k in leaves]),
    ]  # fmt: skip


PEER_OF = {"cox": ("scikit-survival CoxPH", "scikit-survival Coxnet"), "forest": ("scikit-survival forest",)}


def statistics(held: HeldOut, times: Times, grid: list[float]) -> dict[str, Callable[[np.ndarray], float]]:
    """Return the figures of held-out predictions as functions of the rows that are drawn."""
    brier = or_nan(integrated_brier)
    return {
        "Harrell's C": lambda i: concordance(times.days[i], times.happened[i], held.risk[i], held.folds[i]),
        "Uno's C": lambda i: fold_uno(times.rows(i), held.risk[i], held.folds[i], until_days=None),
        "integrated Brier": lambda i: brier(times.days[i], times.happened[i], held.survival[i, 1:], at_days=grid),
    }


def kept_or(file: Path, make: Callable[[], HeldOut]) -> tuple[HeldOut, float]:
    """Return held-out predictions, read from a file where they were made before, and the CPU seconds they took."""
    if file.is_file():
        with np.load(file) as stored:
            return HeldOut(
                str(stored["learner"]), stored["risk"], stored["survival"], stored["folds"],
                tuple(json.loads(str(stored["settings"]))), json.loads(str(stored["dropped"])),
            ), float(stored["seconds"])  # fmt: skip
    began = time.process_time()
    held = make()
    seconds = time.process_time() - began
    file.parent.mkdir(parents=True, exist_ok=True)
    np.savez(
        file, learner=held.learner, risk=held.risk, survival=held.survival, folds=held.folds, seconds=seconds,
        settings=json.dumps([dict(s) for s in held.settings]), dropped=json.dumps(held.dropped),
    )  # fmt: skip
    return held, seconds


def run_set(name: str, data: Path, work: Path, *, with_peers: bool) -> dict[str, Any]:
    """Learn and measure one set."""
    one = SETS[name]
    table = read_clinical(data / "clinical" / one.file, kinds=one.kinds)
    cohort = cohort_of(table, one.asked)
    days = integral_days(cohort.times, one.horizon)
    folds = patient_folds(cohort.patients, cohort.times.happened, FOLDS, seed=SEED)
    large = len(folds) > 3000
    leaves = (40, 15) if large else (40, 15, 5)
    shares = (0.0,) if large else (0.0, 0.5)
    trees = 100 if large else 200
    learners: list[Learner] = [CoxLearner(), ForestLearner(trees=trees, leaves=leaves, shares=shares)]
    learners += [] if large else [NetworkLearner("deepsurv"), NetworkLearner("discrete")]
    learners += peers(large) if with_peers else []
    held: dict[str, HeldOut] = {}
    rows = []
    for learner in learners:
        held[learner.name], seconds = kept_or(
            work / f"{name}-{learner.name.replace(' ', '-')}.npz",
            lambda one_of=learner: nested(
                one_of, cohort.people, cohort.times, patients=cohort.patients, folds=folds,
                at_days=np.concatenate([[one.horizon], days]), choice=(INNER, concordance, SEED),
            ),
        )  # fmt: skip
        figures = statistics(held[learner.name], cohort.times, days.tolist())
        row: dict[str, Any] = {"learner": learner.name, "cpu_seconds": seconds}
        for figure, statistic in figures.items():
            found = bootstrap_statistic(statistic, cohort.patients, resamples=one.resamples)
            row[figure] = [found.value, found.low, found.high]
        calibrated = calibration_at(held[learner.name].survival[:, 0], cohort.times, horizon_days=one.horizon)
        row["calibration"] = [c.model_dump() for c in calibrated]
        rows.append(row)
        print(name, learner.name, {f: round(row[f][0], 4) for f in figures}, f"{row['cpu_seconds']:.0f} s", flush=True)
    differences = []
    for ours, theirs in PEER_OF.items():
        for their in theirs if with_peers else ():
            mine, other = (statistics(held[n], cohort.times, days.tolist()) for n in (ours, their))
            for figure in mine:
                draws = bootstrap_draws(
                    lambda i, a=mine[figure], b=other[figure]: a(i) - b(i), cohort.patients, resamples=one.resamples
                )
                differences.append(
                    {"ours": ours, "peer": their, "figure": figure,
                     "difference": [draws.value, draws.interval.low, draws.interval.high]}
                )  # fmt: skip
    return {
        "date": str(datetime.datetime.now(tz=datetime.UTC).date()), "machine": machine(),
        "peer_version": version("scikit-survival") if with_peers else None,
        "rows": len(folds), "events": int(cohort.times.happened.sum()), "covariates": len(cohort.people.columns),
        "horizon": one.horizon, "left_out": list(cohort.left_out), "learners": rows, "differences": differences,
    }  # fmt: skip


def glioma_table(data: Path, kind: str | None) -> tuple[ClinicalTable, np.ndarray]:
    """Join VASARI and shape by patient; IDH status is of the outcomes' table (1: no mutation of IDH1)."""
    folder = data / "clinical"
    file = folder / "tcga_lgg_vasari_INFO.csv"
    with file.open(encoding="utf-8") as stream:
        codes = stream.readline().strip().split(",")[1:]
    # VASARI's numbers are codes of answers; as what their cells look like (numbers, but for one) they are tried too.
    vasari = read_clinical(file, patient="row", kinds=dict.fromkeys(codes, kind) if kind else None)
    shape = read_clinical(
        folder / "tcga_lgg_shape_outcomes.csv", patient="patient",
        leave_out=("IDHcodel", "progression", "lowGrade", "progression_free_days"),
    )  # fmt: skip
    place = {p: n for n, p in enumerate(shape.patients)}
    both = [n for n, p in enumerate(vasari.patients) if p in place]
    left = vasari.rows(np.array(both, dtype=np.int64))
    right = shape.rows(np.array([place[vasari.patients[n]] for n in both], dtype=np.int64))
    columns = {**left.columns, **right.columns}
    joined = left.with_columns(columns)
    outcome = joined.number("nonIDH1").values
    known = ~np.isnan(outcome)
    kept = {n: c for n, c in columns.items() if n != "nonIDH1"}
    skewed = {
        n: NumberColumn(n, c.unit, np.log(c.values)) for n, c in kept.items()
        if isinstance(c, NumberColumn) and n in ("mr_size_mm", "mr_volume_mm3")
    }  # fmt: skip
    return joined.with_columns({**kept, **skewed}).rows(known), outcome[known] == 1


def ridge(x: np.ndarray, y: np.ndarray, strength: float) -> np.ndarray:
    """Return intercept and weights of a logistic regression with a ridge."""
    design = np.concatenate([np.ones((len(x), 1)), x], axis=1)
    free = np.append(0.0, np.full(x.shape[1], strength))

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        z = design @ w
        gradient = design.T @ (expit(z) - y) / len(y) + free * w
        return float((np.logaddexp(0, z) - y * z).mean() + 0.5 * free @ w**2), gradient

    return np.asarray(minimize(loss, np.zeros(design.shape[1]), jac=True, method="L-BFGS-B").x)


def run_glioma(data: Path) -> dict[str, Any]:
    """IDH status from VASARI and shape: nested cross-validation of a ridge, and of each half of the table."""
    table, truth = glioma_table(data, "category")
    numbers = glioma_table(data, None)[0]
    vasari = tuple(n for n in table.columns if n.startswith("f"))
    shape = [n for n in table.columns if n not in vasari]
    parts = {
        "VASARI and shape": table,
        "VASARI": table.with_columns({n: table.columns[n] for n in vasari}),
        "shape": table.with_columns({n: table.columns[n] for n in shape}),
        "VASARI's codes taken as numbers, and shape": numbers,
    }
    strengths = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
    rows = []
    for what, part in parts.items():
        people = covariates_of(part)
        folds = patient_folds(table.patients, truth, 10, seed=SEED)
        said = np.full(len(truth), np.nan)
        for number in range(10):
            out = folds == number
            inside = patient_folds([p for p, o in zip(table.patients, out, strict=True) if not o], truth[~out], 5)
            losses = np.zeros(len(strengths))
            learnt, y = people.rows(~out), truth[~out]
            for k in range(5):
                prepared = fit_preparation(learnt.rows(inside != k))
                x, held = prepared.matrix(learnt.rows(inside != k)), prepared.matrix(learnt.rows(inside == k))
                for place, strength in enumerate(strengths):
                    w = ridge(x, y[inside != k], strength)
                    z = w[0] + held @ w[1:]
                    losses[place] += float((np.logaddexp(0, z) - y[inside == k] * z).sum())
            prepared = fit_preparation(learnt)
            w = ridge(prepared.matrix(learnt), y, strengths[int(losses.argmin())])
            said[out] = expit(w[0] + prepared.matrix(people.rows(out)) @ w[1:])
        found = bootstrap_statistic(lambda i, s=said: auroc(truth[i], s[i]), table.patients, resamples=2000)
        rows.append({"what": what, "auc": [found.value, found.low, found.high], "columns": len(people.columns)})
        print("lgg", what, rows[-1]["auc"], flush=True)
    return {
        "date": str(datetime.datetime.now(tz=datetime.UTC).date()), "machine": machine(), "rows": len(truth),
        "without_mutation": int(truth.sum()), "tables": rows,
    }  # fmt: skip


def _interval(three: Sequence[float]) -> str:
    return f"{three[0]:.3f} ({three[1]:.3f} to {three[2]:.3f})"


def page(kept: dict[str, Any]) -> str:
    """Return the page of results."""
    lines = [
        "# Prognosis", "",
        "`python -m benchmarks.prognose`. Nested cross-validation by patient, 5 outer and 3 inner folds: settings, "
        "imputation and scaling are chosen and fitted inside. scikit-survival (GPL; no part of the package) was "
        "installed beside for this page: its models get the same matrices, folds and score, and choose from grids like "
        "ours. Concordance counts pairs within a fold. Integrated Brier: from the day of the first twentieth of events "
        "to the horizon; lower is better. Intervals: 95 %, bootstrap over patients of the held-out predictions; the "
        "models are not learnt again, so what another set of patients would have taught is not in them. Of flchain no "
        "networks are learnt, and the peer's forest has leaves of 15 people, not chosen.", "",
    ]  # fmt: skip
    worse = []
    for name in SETS:
        if name not in kept:
            continue
        e = kept[name]
        peer = f", scikit-survival {e['peer_version']}" if e["peer_version"] else ", without the peer"
        lines += [
            f"## {name}", "",
            f"{e['date']}, {e['machine']}{peer}. {e['rows']} people, {e['events']} events, {e['covariates']} "
            f"covariates; horizon day {e['horizon']:g}. {sum(r['cpu_seconds'] for r in e['learners']) / 60:.1f} CPU "
            "minutes of learning."
            + (f" Left out: {'; '.join(e['left_out'])}." if e["left_out"] else ""), "",
            "| learner | Harrell's C | Uno's C | integrated Brier |", "| - | - | - | - |",
        ]  # fmt: skip
        lines += [
            f"| {r['learner']} | {_interval(r[_HARRELL])} | {_interval(r[_UNO])} | {_interval(r['integrated Brier'])} |"
            for r in e["learners"]
        ]
        if e["differences"]:
            lines += ["", "| ours minus peer | figure | difference |", "| - | - | - |"]
            for d in e["differences"]:
                lines.append(f"| {d['ours']} minus {d['peer']} | {d['figure']} | {_signed(d['difference'])} |")
                _, low, high = d["difference"]
                if (low > 0) if d["figure"] == "integrated Brier" else (high < 0):
                    worse.append(f"{name}: {d['ours']} against {d['peer']}, {d['figure']}")
        lines += [
            "",
            f"Calibration by day {e['horizon']:g}, groups of like predicted risk (predicted: observed, 95 %):",
            "",
        ]
        for r in e["learners"]:
            if r["learner"].startswith("scikit"):
                continue
            groups = ", ".join(
                f"{c['predicted']:.2f}: {c['observed']:.2f} ({c['low']:.2f} to {c['high']:.2f})"
                for c in r["calibration"]
            )
            lines.append(f"- {r['learner']}: {groups}")
        lines.append("")
    compared = [n for n in SETS if n in kept and kept[n]["differences"]]
    if compared:
        lines[2:2] = [
            f"**Worse than the peer outside the interval, over {len(compared)} sets: "
            + (f"{len(worse)} of {sum(len(kept[n]['differences']) for n in compared)}: {'; '.join(worse)}.**" if worse
               else f"none of {sum(len(kept[n]['differences']) for n in compared)} comparisons.**"), "",
        ]  # fmt: skip
    if "lgg" in kept:
        e = kept["lgg"]
        lines += [
            "## TCGA-LGG: IDH status", "",
            f"{e['date']}, {e['machine']}. {e['rows']} patients, {e['without_mutation']} without a mutation of IDH1. "
            "Logistic regression with a ridge, nested cross-validation by patient (10 outer, 5 inner folds). "
            "Intervals: 95 %, bootstrap over patients.", "",
            "| table | columns | AUC |", "| - | - | - |",
        ]  # fmt: skip
        lines += [f"| {r['what']} | {r['columns']} | {_interval(r['auc'])} |" for r in e["tables"]] + [""]
    return "\n".join(lines)


def _signed(three: Sequence[float]) -> str:
    return f"{three[0]:+.3f} ({three[1]:+.3f} to {three[2]:+.3f})"


def main() -> None:
    """Run the sets that are named; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    default = Path(os.environ.get("ISOCENTER_SHARED_DATA", ROOT.parent / "shared" / "data"))
    parser.add_argument("names", nargs="*", help=f"of {', '.join(SETS)}, lgg")
    parser.add_argument("--data", type=Path, default=default)
    parser.add_argument("--work", type=Path, default=ROOT / ".runs" / "prognose")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True)
    args = parser.parse_args()
    file = RESULTS / "prognose.json"
    names = args.names or [*SETS, "lgg"]
    for name in names:
        if name not in (*SETS, "lgg"):
            parser.error(f"no set {name!r}")
        entry = run_glioma(args.data) if name == "lgg" else run_set(name, args.data, args.work, with_peers=args.peers)
        kept = json.loads(file.read_text("utf-8")) if file.is_file() else {}
        kept[name] = entry
        file.write_text(json.dumps(kept, indent=1) + "\n", "utf-8")
        (RESULTS / "prognose.md").write_text(page(kept), "utf-8")
    print(json.dumps({"name": "prognose", "sets": names}))


if __name__ == "__main__":
    main()
