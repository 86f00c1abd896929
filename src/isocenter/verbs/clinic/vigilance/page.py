"""The drift panel and the report of a comparison, as pages that stand alone: no script, no other host."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from isocenter.clinic.vigilance import Choice, Episode, Observation
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.vigilance.assess import Assessment, FeatureState, RateState
from isocenter.verbs.clinic.vigilance.canary import SHADOW, Trial
from isocenter.verbs.clinic.vigilance.compare import Comparison
from isocenter.verbs.clinic.vigilance.plots import agreement_plot, evidence_plot, rate_plot, values_plot, words_plot
from isocenter.verbs.templates import page_environment
from isocenter.version import __version__

__all__ = ["TrialLine", "page_policy", "render_comparison", "render_panel", "trial_line"]

_SHOWN: Final = 8
_NAMES: Final = {
    "failed": "failed studies", "abstained": "abstentions", "overridden": "overridden by a reader",
    "uncovered": "promised sets that miss the truth",
}  # fmt: skip
TrialLine = dict[str, Any]


@cache
def _css() -> str:
    return (Path(__file__).parent / "page.css").read_text("utf-8")


def page_policy() -> str:
    """Return the Content-Security-Policy of these pages: their one style sheet by its hash, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(_css().encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"


def _frame(title: str, at: datetime | None) -> dict[str, Any]:
    made = (at or datetime.now(UTC)).strftime("%Y-%m-%d %H:%M")
    return {"title": title, "css": Markup(_css()), "policy": page_policy(), "version": __version__, "at": made}  # noqa: S704


def trial_line(trial: Trial, state: str, why: str, rows: Sequence[Observation]) -> TrialLine:
    """Return what the panel shows of a canary.

    Args:
        trial: The canary.
        state: "running", "rolled back" or "promoted".
        why: Of the latest decision; "" for none.
        rows: Observations of the rule, both arms.
    """
    counts: list[int] = []
    for wanted in (None, "failed", "abstained"):
        for arm in ("live", "candidate"):
            mine = [r for r in rows if r.arm == arm and r.reason not in ("study", "misfit")]
            counts.append(len({r.study for r in mine if wanted is None or r.state == wanted}))
    css = {"running": "wait", "promoted": "ok", "rolled back": "stop"}[state]
    tasks = ", ".join(Path(t).name for t in trial.canary.tasks)
    return {
        "rule": trial.rule, "tasks": tasks, "state": state, "why": why, "share": trial.canary.share, "counts": counts,
        "css": css,
    }  # fmt: skip


def render_panel(
    config: ClinicConfig,
    found: Sequence[Assessment],
    episodes: Sequence[Episode],
    choices: Sequence[Choice],
    trials: Sequence[TrialLine],
    *,
    at: datetime | None = None,
) -> str:
    """Return the panel.

    Args:
        config: Of the node.
        found: Every rule and task.
        episodes: Alarms, open and past.
        choices: Decisions, the latest first.
        trials: Canaries, as `trial_line` has them.
        at: When it was made; None for now.
    """
    opened = [e for e in episodes if e.closed is None]
    past = [
        f"{_when(e.opened_at)} to {_when(e.closed_at or 0)}: {e.detail}. Action: {e.action}."
        for e in reversed(episodes)
        if e.closed is not None
    ]
    past += [f"{_when(c.at)}: rule {c.rule}: {c.state} by {c.who}. {c.reason}" for c in choices]
    alarmed = {(e.rule, e.arm, e.task) for e in opened}
    names = {(e.rule, e.arm, e.task, e.feature) for e in opened}
    watched = sum(len(a.features) + sum(r.limit is not None for r in a.rates) for a in found)
    waiting = sum(not a.ready for a in found)
    quiet = f"{watched} things are watched in {len(found)} rules and tasks"
    quiet += f"; {waiting} gather their reference." if waiting else "."
    ordered = sorted(found, key=lambda a: ((a.rule, a.arm, a.task) not in alarmed, a.rule, a.arm != "live", a.task))

    def first(a: Assessment) -> tuple[list[FeatureState], list[FeatureState]]:
        strong = sorted(a.features, key=lambda f: ((a.rule, a.arm, a.task, f.name) not in names, -f.peak / f.limit))
        return strong[:_SHOWN], strong[_SHOWN:]

    return page_environment("clinic/vigilance").get_template("panel.html.j2").render(
        **_frame("Vigilance", at), open=opened, past=past[:40], found=ordered, trials=trials, quiet=quiet,
        kept_back=[c for c in choices if c.about == SHADOW and c.state == "shadow"], when=_when,
        alarmed=lambda a: (a.rule, a.arm, a.task) in alarmed, first=first, window=config.vigilance.window,
        alpha=config.vigilance.alpha, days=config.vigilance.period_days, state=_state, values=_values,
        evidence=lambda f: evidence_plot(f.trace, f.limit, f"evidence 10^{f.evidence:.1f}, alarm at 10^{f.limit:.1f}"),
        rate=lambda r: rate_plot(r, _rate_words(r)), rate_state=_rate_state, rate_name=lambda r: _NAMES[r.name],
        rate_evidence=lambda r: evidence_plot(
            r.trace, r.alarm_at, f"evidence 10^{r.evidence:.1f}, alarm at 10^{r.alarm_at:.1f}"
        ),
        nothing=lambda r: "no reader said anything yet" if r.name in ("overridden", "uncovered") else "no study yet",
    )  # fmt: skip


def _values(state: FeatureState) -> Markup:
    words = f"{state.name}: reference {state.before}; now {state.now}"
    return values_plot(state, words) if state.kind == "numbers" else words_plot(state, words)


def _state(state: FeatureState) -> Markup:
    if state.since is not None:
        return Markup('<span class="status stop">✕ changed</span>')
    if state.count == 0:
        return Markup('<span class="status wait">… none yet</span>')
    if state.peak > state.limit / 2:
        return Markup('<span class="status caution">! some evidence</span>')
    return Markup('<span class="status ok">✓ as before</span>')


def _rate_state(state: RateState) -> Markup:
    if state.limit is None:
        return Markup('<span class="status wait">no limit</span>')
    if state.since is not None:
        return Markup('<span class="status stop">✕ beyond its limit</span>')
    if not state.cases:
        return Markup('<span class="status wait">… none yet</span>')
    return Markup('<span class="status ok">✓ not shown to be beyond</span>')


def _rate_words(state: RateState) -> str:
    limit = "no limit" if state.limit is None else f"limit {state.limit:.0%}"
    if not state.cases:
        return f"{_NAMES[state.name]}: nothing yet, {limit}"
    return f"{_NAMES[state.name]}: {state.happened} of {state.cases}, {state.low:.0%} to {state.high:.0%}, {limit}"


def _when(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M")


def render_comparison(comparison: Comparison, *, at: datetime | None = None) -> str:
    """Return the page of a comparison.

    Args:
        comparison: The report.
        at: When it was made; None for now.
    """
    css_of = {
        "within the margins": "ok", "beyond the margins": "stop", "not shown": "caution", "too few studies": "wait",
    }  # fmt: skip
    plots = []
    for limit in comparison.limits:
        means, differences = _points(comparison, limit.what)
        words = (
            f"candidate less live ({limit.unit}): bias {limit.bias:+.3g} ({limit.bias_interval[0]:+.3g} to "
            f"{limit.bias_interval[1]:+.3g}), limits {limit.lower:+.3g} ({limit.lower_interval[0]:+.3g} to "
            f"{limit.lower_interval[1]:+.3g}) and {limit.upper:+.3g} ({limit.upper_interval[0]:+.3g} to "
            f"{limit.upper_interval[1]:+.3g}), {limit.patients} patients"
        )
        plot = agreement_plot(means, differences, (limit.bias, limit.lower, limit.upper), words)
        plots.append((limit.what, plot, words))
    marks = {"within the margins": "✓", "beyond the margins": "✕", "not shown": "?", "too few studies": "…"}
    title = f"{comparison.candidate} beside {comparison.live}"
    return page_environment("clinic/vigilance").get_template("compare.html.j2").render(
        **_frame(title, at), c=comparison, tone="quiet" if comparison.verdict == "within the margins" else "alarmed",
        css_of=css_of.__getitem__, mark=marks[comparison.verdict], plots=plots,
    )  # fmt: skip


def _points(comparison: Comparison, what: str) -> tuple[list[float], list[float]]:
    """Return means and differences of what limits of agreement were made of, one a patient."""
    found: dict[str, list[tuple[float, float]]] = {}
    for pair in comparison.pairs:
        for s in pair.segments:
            if f"volume of {s.label.partition(': ')[2]}" == what and s.live_ml and s.candidate_ml is not None:
                share = (s.candidate_ml - s.live_ml) / s.live_ml
                found.setdefault(pair.patient, []).append(((s.live_ml + s.candidate_ml) / 2, share))
        for name, (a, b) in pair.probabilities.items():
            if name.partition(": ")[2] == what:
                found.setdefault(pair.patient, []).append(((a + b) / 2, b - a))
    means = [sum(m for m, _ in v) / len(v) for v in found.values()]
    return means, [sum(d for _, d in v) / len(v) for v in found.values()]
