"""The trial's own kind of analysis of ACTG 175, by packages that share no code with ours, beside what we say.

Cox regression by lifelines and by statsmodels (Efron's ties), Kaplan-Meier by both with Greenwood's standard error
(statsmodels), CD4 at 20 weeks by least squares with the baseline count as covariate (statsmodels, HC3). Nothing here
is written down from a paper.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

__all__ = ["comparison_lines", "of_trial"]

_Z = 1.959963984540054


def of_trial(rows: list[dict[str, str]], arm: int, horizon: float) -> dict[str, Any]:
    """Return the trial's own analysis of an arm against zidovudine alone.

    Args:
        rows: Of the public table.
        arm: Number of the arm.
        horizon: Day of the risk difference.
    """
    own = [r for r in rows if r["arms"] in ("0", str(arm))]
    given = np.array([r["arms"] == str(arm) for r in own])
    days, event = np.array([float(r["days"]) for r in own]), np.array([r["cens"] == "1" for r in own])
    strata = np.array([r["strat"] for r in own])
    before, after = (np.array([float(r[c]) for r in own]) for c in ("cd40", "cd420"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # pandas' own of changes to come: of no import for the numbers
        return {
            "people": len(own), "cox": _lifelines_cox(days, event, given, None),
            "cox_strata": _lifelines_cox(days, event, given, strata), "phreg": _phreg(days, event, given),
            "risk_difference": _risk_difference(days, event, given, horizon),
            "km_lifelines": _lifelines_difference(days, event, given, horizon),
            "cd4": _least_squares(after, given, before),
        }  # fmt: skip


def _lifelines_cox(days: np.ndarray, event: np.ndarray, given: np.ndarray, strata: np.ndarray | None) -> list[float]:
    import pandas as pd
    from lifelines import CoxPHFitter

    table = pd.DataFrame({"days": days, "event": event, "given": given.astype(float)})
    if strata is not None:
        table["strat"] = strata
    fitted = CoxPHFitter().fit(table, "days", "event", strata=None if strata is None else ["strat"])
    line = fitted.summary.loc["given"]
    return [float(line[c]) for c in ("exp(coef)", "exp(coef) lower 95%", "exp(coef) upper 95%")]


def _phreg(days: np.ndarray, event: np.ndarray, given: np.ndarray) -> list[float]:
    from statsmodels.duration.hazard_regression import PHReg

    fitted = PHReg(days, given.astype(float)[:, None], status=event.astype(int), ties="efron").fit()
    value, error = float(fitted.params[0]), float(fitted.bse[0])
    return [float(np.exp(v)) for v in (value, value - _Z * error, value + _Z * error)]


def _risk_difference(days: np.ndarray, event: np.ndarray, given: np.ndarray, horizon: float) -> list[float]:
    from statsmodels.duration.survfunc import SurvfuncRight

    levels, variance = [], 0.0
    for group in (~given, given):
        curve = SurvfuncRight(days[group], event[group].astype(int))
        place = int(np.searchsorted(curve.surv_times, horizon, side="right")) - 1
        levels.append(float(curve.surv_prob[place]))
        variance += float(curve.surv_prob_se[place]) ** 2
    value, half = levels[1] - levels[0], _Z * float(np.sqrt(variance))
    return [value, value - half, value + half]


def _lifelines_difference(days: np.ndarray, event: np.ndarray, given: np.ndarray, horizon: float) -> float:
    from lifelines import KaplanMeierFitter

    levels = [float(KaplanMeierFitter().fit(days[g], event[g]).predict(horizon)) for g in (~given, given)]
    return levels[1] - levels[0]


def _least_squares(after: np.ndarray, given: np.ndarray, before: np.ndarray) -> list[float]:
    import statsmodels.api as sm

    design = sm.add_constant(np.stack([given.astype(float), before], axis=1))
    fitted = sm.OLS(after, design).fit(cov_type="HC3")
    low, high = fitted.conf_int()[1]
    return [float(fitted.params[1]), float(low), float(high)]


def _plain(three: list[float], digits: int = 1) -> str:
    return f"{three[0]:.{digits}f} ({three[1]:.{digits}f} to {three[2]:.{digits}f})"


def _in_100(three: list[float]) -> str:
    return _plain([100 * v for v in three])


def implied_ratio(survival: dict[str, Any]) -> float:
    """Return the hazard ratio that two mean chances of being without the event imply where hazards are proportional."""
    return float(np.log(survival["treated"][0]) / np.log(survival["untreated"][0]))


def _mutual(one: list[float], other: list[float]) -> bool:
    """Return whether each of two estimates lies in the other's interval."""
    return one[1] <= other[0] <= one[2] and other[1] <= one[0] <= other[2]


def comparison_lines(found: dict[str, Any], horizon: float) -> list[str]:
    """Return the part of the page that sets ours beside the trial's own kind of analysis."""
    lines = [
        "## ACTG 175", "",
        f"Three arms against zidovudine alone; end point: CD4 fallen by half, AIDS or death; day {horizon:.0f} (about "
        "the trial's median). Intervals 95 %. Ours are doubly robust averages, adjusted for what was known at the "
        "start. Beside them stands the trial's own kind of analysis, computed from the same public table (2,139 "
        "people) in the same run by packages that share no code with ours: Cox regression (lifelines, "
        "statsmodels), Kaplan-Meier with Greenwood's error (statsmodels), least squares with the count at the start "
        "(statsmodels). "
        "Our hazard ratio is what our two means imply where hazards are proportional.", "",
        "| arm | people | hazard ratio, Cox (lifelines) | by strata of earlier treatment | Cox (statsmodels) | hazard "
        "ratio, ours | less in 100, Kaplan-Meier (statsmodels) | less in 100, ours | CD4 at 20 weeks, least squares | "
        "CD4 at 20 weeks, ours |", "| - | - | - | - | - | - | - | - | - | - |",
    ]  # fmt: skip
    alike = same = 0
    for name, f in found.items():
        t, ratio = f["trial"], implied_ratio(f["survival"])
        lines.append(
            f"| {name} | {t['people']} | {_plain(t['cox'], 2)} | {_plain(t['cox_strata'], 2)} | "
            f"{_plain(t['phreg'], 2)} | {ratio:.2f} | {_in_100(t['risk_difference'])} | "
            f"{_in_100(f['survival']['average'])} | {_plain(t['cd4'])} | {_plain(f['cd4']['average'])} |"
        )
        alike += (
            t["cox"][1] <= ratio <= t["cox"][2]
            and _mutual(t["risk_difference"], f["survival"]["average"])
            and _mutual(t["cd4"], f["cd4"]["average"])
        )
        same += bool(
            np.allclose(t["cox"], t["phreg"], atol=5e-3) and abs(t["km_lifelines"] - t["risk_difference"][0]) < 1e-9
        )
    return [
        *lines, "",
        f"In {alike} of {len(found)} arms our hazard ratio lies in Cox regression's interval, and of risk difference "
        f"and CD4 each estimate lies in the other's interval. In {same} of {len(found)} arms both packages agree with "
        "each other (hazard ratios to 0.005, Kaplan-Meier to 1e-9).", "",
    ]  # fmt: skip
