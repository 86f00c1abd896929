"""A candidate in shadow beside the live rule: paired, with intervals, honest about few cases; the pages of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from isocenter.clinic.ports import Route, Work
from isocenter.clinic.vigilance import Record
from isocenter.clinic.workflow import Ledger, open_ledger
from isocenter.clinic.workflow.engine import result_folder
from isocenter.core.errors import ConfigError, DataError
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.config_vigilance import MarginsConfig
from isocenter.verbs.clinic.tasks import answer
from isocenter.verbs.clinic.vigilance.compare import SegmentPair, StudyPair, compare, compared
from isocenter.verbs.clinic.vigilance.operate import clinic_compare, clinic_vigilance
from isocenter.verbs.clinic.vigilance.page import page_policy, render_comparison
from isocenter.verbs.clinic.vigilance.routes import router
from isocenter.verbs.clinic.vigilance.rows import failed_rows, rows_of
from isocenter.verbs.clinic.vigilance.watch import Watch
from isocenter.viewer.problems import add_handlers
from toy_plugin import install_toy
from vigilance_cases import louder, stream

MARGINS = MarginsConfig()


def pair(n: int, overlap: float = 0.97, share: float = 0.01, **more) -> StudyPair:
    segment = SegmentPair(
        label="image 0: lung", dice=overlap, live_ml=100.0 + n, candidate_ml=(100.0 + n) * (1 + share)
    )
    given = {
        "study": f"1.2.{n}", "patient": f"p{n}", "live": "answered", "candidate": "answered", "segments": (segment,),
        "live_seconds": 2.0, "candidate_seconds": 1.0,
    }  # fmt: skip
    return StudyPair(**(given | more))


def pairs(count: int, overlap: float = 0.97, spread: float = 0.01) -> list[StudyPair]:
    rng = np.random.default_rng(0)
    return [pair(n, overlap + float(rng.normal(0, 0.003)), float(rng.normal(0, spread))) for n in range(count)]


def test_margins_that_are_kept_and_that_are_not() -> None:
    kept = compared(("live", "new"), pairs(120), (3, 0), MARGINS)
    assert kept.verdict == "within the margins" and kept.only_live == 3
    assert {c.what for c in kept.criteria} == {
        "studies that only the candidate leaves unanswered",
        "Dice of lung",
        "volume of lung",
    }
    assert all(c.low is not None and c.high is not None and c.verdict == "within the margins" for c in kept.criteria)
    (limit,) = kept.limits
    assert limit.lower_interval[0] < limit.lower < limit.bias < limit.upper < limit.upper_interval[1]
    assert (kept.live_seconds, kept.candidate_seconds) == (2.0, 1.0)
    assert "no reference standard" in kept.text.replace("\n", " ")

    assert compared(("live", "new"), pairs(120, overlap=0.8), (0, 0), MARGINS).verdict == "beyond the margins"
    wide = compared(("live", "new"), pairs(120, spread=0.3), (0, 0), MARGINS)
    assert {c.what: c.verdict for c in wide.criteria}["volume of lung"] == "beyond the margins"
    few = compared(("live", "new"), pairs(9), (0, 0), MARGINS)
    assert few.verdict == "too few studies" and all(c.low is None for c in few.criteria) and not few.limits
    some = compared(("live", "new"), pairs(30), (0, 0), MARGINS)
    assert some.verdict == "not shown", "30 studies without an abstention don't show that it is below 5 %"
    with pytest.raises(DataError, match="no study together"):
        compared(("live", "new"), [], (0, 0), MARGINS)


def test_studies_of_one_patient_are_no_studies_of_many() -> None:
    one = [p.model_copy(update={"patient": f"p{n % 5}"}) for n, p in enumerate(pairs(120))]
    assert compared(("live", "new"), one, (0, 0), MARGINS).verdict == "too few studies"


def test_a_candidate_that_abstains_more() -> None:
    abstains = [pair(n, candidate="abstained (unlike)", segments=(), why=("x",)) for n in range(200, 240)]
    found = compared(("live", "new"), [*pairs(120), *abstains], (0, 0), MARGINS)
    assert found.verdict == "beyond the margins" and found.candidate_abstained == 40
    assert len(found.discordant) == 40


def test_a_candidate_that_fails_is_counted_and_not_passed_over() -> None:
    fails = [pair(n, candidate="failed", segments=(), why=("x",)) for n in range(200, 240)]
    found = compared(("live", "new"), [*pairs(120), *fails], (0, 0), MARGINS, (2, 1))
    assert found.verdict == "beyond the margins", "40 of 160 studies without an answer"
    assert (found.studies, found.candidate_failed, found.live_failed, found.candidate_abstained) == (160, 40, 0, 0)
    assert "The candidate failed at 40 of them, the live rule at 0. Both failed at 2 more." in found.text
    assert "failed: live <b>0</b>, candidate <b>40</b>, both <b>2</b>" in render_comparison(found)
    with pytest.raises(DataError, match="both failed at 3"):
        compared(("live", "new"), [], (0, 0), MARGINS, (3, 0))


def config_of(folder: Path, **more: object) -> ClinicConfig:
    return ClinicConfig.model_validate(
        {
            "store": folder / "store", "entities": [{"title": "A", "callers": [{"title": "B"}]}],
            "rules": [
                {"name": "live", "tasks": ["toy-bright"]},
                {"name": "new", "tasks": ["toy-bright"], "shadow": True},
                {"name": "other", "tasks": ["toy-point"], "shadow": True},
            ],
            **more,
        }
    )  # fmt: skip


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    (tmp_path / "store").mkdir()
    made = open_ledger(config_of(tmp_path).database_url("ledger.db"))
    yield made
    made.engine.dispose()


def test_results_of_two_rules(tmp_path: Path, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    toys = install_toy(tmp_path / "toys", {"toy-bright": "BRIGHT", "toy-point": "POINT"})
    monkeypatch.syspath_prepend(str(toys))
    config, record = config_of(tmp_path), Record(ledger.engine)
    study = tmp_path / "study"
    write_ct_series(study, phantom(3, shape=(4, 8, 9)))
    for rule in config.rules:
        out = result_folder(config.store, "1.2", 1, rule.name)
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Work("1.2", 1, Route(rule.name, rule.tasks), study, "0", out)
        answer(work, {})
        record.observe(rows_of(work, "live"))
    same = compare(config, record, "live", "new")
    (found,) = same.pairs
    (segment,) = found.segments
    assert (segment.label, segment.dice) == ("image 0: bright", 1.0)
    assert segment.live_ml == segment.candidate_ml and segment.live_ml and segment.live_ml > 0
    assert found.why == () and same.verdict == "too few studies"
    other = clinic_compare(config, "live", "other", tmp_path / "report")
    assert other.discordant[0].why == ("live answered, candidate abstained (prompt)",)
    page = (tmp_path / "report" / "comparison.html").read_text()
    assert "1.2" in page and "Too few studies" in page
    assert (tmp_path / "report" / "comparison.json").read_text() == other.model_dump_json(indent=2) + "\n"
    for uid, rules in {"1.3": ("live",), "1.4": ("new",), "1.5": (), "1.6": ("live", "new", "gone")}.items():
        for name in ("live", "new"):
            work = Work(uid, 1, Route(name, ("toy-bright",)), study, "0", result_folder(config.store, uid, 1, name))
            if name not in rules:
                record.observe(failed_rows(work, "live", work.route.tasks, "model"))
                continue
            work.out.parent.mkdir(parents=True, exist_ok=True)
            answer(work, {})
            record.observe(rows_of(work, "live"))
            if "gone" in rules:
                (work.out / "result.json").unlink()
    failing = compare(config, record, "live", "new")
    assert {p.study: (p.live, p.candidate) for p in failing.pairs if p.why} == {
        "1.3": ("answered", "failed"), "1.4": ("failed", "answered"),
    }  # fmt: skip
    assert (failing.studies, failing.candidate_failed, failing.live_failed) == (3, 1, 1)
    assert (failing.both_failed, failing.lost) == (1, 1)
    with pytest.raises(ConfigError, match="no rule is named 'x'"):
        compare(config, record, "live", "x")
    with pytest.raises(ConfigError, match="another"):
        compare(config, record, "live", "live")


def is_safe(page: str) -> None:
    """A page has no script, no style but the one that its policy names, and nothing of another host."""
    assert "<script" not in page and " style=" not in page and "javascript:" not in page
    assert page.count("<style>") == 1 and page_policy() in page.replace("&#39;", "'")
    assert not re.search(r"(src|href)=\"https?:", page)
    assert re.search(r"<html lang=\"en\">", page) and page.count("<h1>") == 1
    assert all("aria-label" in svg for svg in re.findall(r"<svg role=\"img\"[^>]*>", page))


def test_the_page_of_a_comparison() -> None:
    given = [*pairs(120), pair(900, why=("<b>x</b>",), overlap=0.2)]
    page = render_comparison(compared(("live", "new"), given, (0, 0), MARGINS))
    is_safe(page)
    assert "<b>x</b>" not in page and "&lt;b&gt;x" in page and "limits" in page


@dataclass
class Web:
    config: ClinicConfig
    ledger: Ledger


def test_the_panel_and_its_routes(tmp_path: Path, ledger: Ledger) -> None:
    record = Record(ledger.engine)
    rules = [{"name": "chest", "tasks": ["lungs"], "canary": {"tasks": ["<new>"]}}]
    config = config_of(tmp_path, rules=rules, vigilance={"reference_studies": 100, "window": 40})
    app = FastAPI()
    add_handlers(app)
    app.include_router(router(Web(config, ledger)))
    client = TestClient(app, raise_server_exceptions=False)
    empty = client.get("/vigilance")
    assert empty.status_code == 200 and "No study was answered yet" in empty.text
    is_safe(empty.text)

    record.observe(stream(300, 5, louder(200)))
    record.observe([replace(r, arm="candidate") for r in stream(20, 9)])
    Watch(ledger, record, config.vigilance, {}, {}).turn()
    found = client.get("/vigilance")
    is_safe(found.text)
    assert found.headers["content-security-policy"] == page_policy()
    assert "1 open alarm" in found.text and "noise" in found.text and "✕ changed" in found.text
    assert "gathering the reference: <b>19</b>" in found.text or "gathering the reference" in found.text
    assert "&lt;new&gt;" in found.text

    state = client.get("/node/v1/vigilance").json()
    assert [a["feature"] for a in state["alarms"]] == ["noise"]
    assert state == clinic_vigilance(config, html=tmp_path / "panel.html")
    is_safe((tmp_path / "panel.html").read_text())

    study = next(o.study for o in record.observations() if o.state == "answered")
    said = {"study": study, "task": "lungs", "kind": "override", "about": "mask", "covered": False, "source": "ris"}
    assert client.post("/node/v1/feedback", json=said).status_code == 204
    assert [s.kind for s in record.sayings()] == ["override"]
    assert client.post("/node/v1/feedback", json=said | {"study": "9.9"}).status_code in (400, 422)
    for wrong in ({"kind": "maybe"}, {"source": "Dr. A"}, {"name": "x"}, {"study": "1' or 1"}):
        assert client.post("/node/v1/feedback", json=said | wrong).status_code == 422
