"""Jobs: progress, results, failures, stopping, and a queue that is not endless."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from isocenter.core.errors import AtCapacity, GeometryError, NotFound
from isocenter.verbs.serving.jobs import JobRunner
from isocenter.viewer.ports import Job, Tell
from isocenter.viewer.problems import problem_of


@pytest.fixture
def runner() -> Iterator[JobRunner]:
    made = JobRunner(waiting=2, kept=3, problem_of=problem_of)
    yield made
    made.close()


def ended(runner: JobRunner, job: str) -> Job:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        found = runner.job(job)
        if found.state not in ("queued", "running"):
            return found
        time.sleep(0.005)
    raise AssertionError("the job did not end")


def test_a_job_tells_and_ends(runner: JobRunner) -> None:
    told, go = threading.Event(), threading.Event()

    def work(tell: Tell) -> dict[str, object]:
        tell("half-way", 0.5)
        told.set()
        assert go.wait(10)
        return {"made": 7}

    job = runner.start("test", work, about="study")
    assert told.wait(10)
    assert (runner.job(job).state, runner.job(job).stage, runner.job(job).done) == ("running", "half-way", 0.5)
    go.set()
    found = ended(runner, job)
    assert (found.state, found.done, found.result, found.problem) == ("done", 1.0, {"made": 7}, None)
    assert runner.jobs("study") == (found,) and runner.jobs("other") == ()


def test_errors_are_told_and_defects_hide_their_text(runner: JobRunner) -> None:
    def ours(_: Tell) -> dict[str, object]:
        raise GeometryError("mixed orientation", source="a/1.dcm")

    def defect(_: Tell) -> dict[str, object]:
        raise RuntimeError("a header said Jane")

    found = ended(runner, runner.start("test", ours))
    assert found.state == "failed" and found.problem is not None
    assert (found.problem.code, found.problem.detail) == ("geometry", "a/1.dcm: mixed orientation")
    found = ended(runner, runner.start("test", defect))
    assert found.state == "failed" and found.problem is not None
    assert found.problem.code == "defect" and "Jane" not in found.problem.detail


def test_stopping_a_running_and_a_waiting_job(runner: JobRunner) -> None:
    begun = threading.Event()

    def endless(tell: Tell) -> dict[str, object]:
        while True:
            tell("working", 0.1)
            begun.set()
            time.sleep(0.005)

    running = runner.start("test", endless)
    waiting = runner.start("test", lambda _: pytest.fail("a stopped job was run"))
    assert begun.wait(10)
    assert runner.stop(waiting).state == "stopped"
    runner.stop(running)
    assert ended(runner, running).state == "stopped"
    assert ended(runner, waiting).state == "stopped"
    assert runner.stop(running).state == "stopped"
    with pytest.raises(NotFound):
        runner.stop("0123456789abcdef")


def test_the_queue_is_bounded_and_old_jobs_are_forgotten(runner: JobRunner) -> None:
    go, begun = threading.Event(), threading.Event()

    def wait(_: Tell) -> dict[str, object]:
        begun.set()
        go.wait(10)
        return {}

    first = runner.start("test", wait)
    assert begun.wait(10)
    others = [runner.start("test", wait) for _ in range(2)]
    with pytest.raises(AtCapacity, match="2 jobs are waiting"):
        runner.start("test", wait)
    go.set()
    for job in (first, *others):
        assert ended(runner, job).state == "done"
    for _ in range(4):
        ended(runner, runner.start("test", wait))
    with pytest.raises(NotFound):
        runner.job(first)


def test_watching_ends_with_the_job(runner: JobRunner) -> None:
    async def watch() -> list[Job]:
        job = runner.start("test", lambda _: {"made": 1})
        return [state async for state in runner.watch(job)]

    states = asyncio.run(watch())
    assert states[-1].state == "done" and len(states) == len(set(map(repr, states)))


def test_closing_stops_what_runs() -> None:
    runner = JobRunner(problem_of=problem_of)
    begun = threading.Event()

    def endless(tell: Tell) -> dict[str, object]:
        while True:
            tell("working", 0.1)
            begun.set()
            time.sleep(0.005)

    job = runner.start("test", endless)
    assert begun.wait(10)
    runner.close()
    assert runner.job(job).state == "stopped"
    with pytest.raises(AtCapacity):
        runner.start("test", endless)
