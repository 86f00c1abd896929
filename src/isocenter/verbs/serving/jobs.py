"""Jobs: work that goes on while nobody waits, told about, stopped when asked, and never more than a few at once."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from isocenter.core.errors import AtCapacity, IsocenterError, NotFound, Stopped
from isocenter.verbs.serving.identifiers import random_identifier
from isocenter.viewer.ports import Job, Problem, Tell

__all__ = ["JobRunner", "Work"]

Work = Callable[[Tell], Mapping[str, Any]]
"""What a job does: it calls what it is given with its stage and share done, which raises `Stopped` where somebody
stopped it, and returns names of what it made."""

_ENDED = ("done", "failed", "stopped")
_LOOK_EVERY_SECONDS = 0.1
_log = logging.getLogger("isocenter.viewer")


class JobRunner:
    """The port `Jobs`, and `start` for those who have work.

    Args:
        workers: Jobs that run at once.
        waiting: Jobs that may wait; beyond, more are refused.
        kept: Jobs that are remembered once they have ended.
        problem_of: Turns an error of ours into what is told of it.
    """

    def __init__(
        self, *, workers: int = 1, waiting: int = 16, kept: int = 256, problem_of: Callable[[IsocenterError], Problem]
    ) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="isocenter-job")
        self._waiting, self._kept, self._problem_of = waiting, kept, problem_of
        self._lock = threading.Lock()
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._stops: dict[str, threading.Event] = {}
        self._closed = False

    def start(self, kind: str, work: Work, *, about: str = "") -> str:
        """Start a job, or let it wait for its turn.

        Raises:
            AtCapacity: Too many wait already.
        """
        with self._lock:
            if self._closed:
                raise AtCapacity("the server is stopping; ask again when it is back")
            if sum(job.state == "queued" for job in self._jobs.values()) >= self._waiting:
                raise AtCapacity(f"{self._waiting} jobs are waiting already; ask again when some are done")
            name = random_identifier()
            self._jobs[name] = Job(name, kind, "queued", about=about)
            self._stops[name] = threading.Event()
            self._forget()
        self._pool.submit(self._run, name, work)
        return name

    def job(self, job: str) -> Job:
        """Return how far a job is."""
        found = self._jobs.get(job)
        if found is None:
            raise NotFound("there is no such job, or it ended long ago")
        return found

    def jobs(self, about: str) -> tuple[Job, ...]:
        """Return the jobs about something, oldest first."""
        with self._lock:
            return tuple(job for job in self._jobs.values() if job.about == about)

    def stop(self, job: str) -> Job:
        """Ask a job to stop."""
        found = self.job(job)
        self._stops[job].set()
        with self._lock:
            if self._jobs[job].state == "queued":
                self._jobs[job] = replace(self._jobs[job], state="stopped", stage="")
        return self._jobs.get(job, found)

    async def watch(self, job: str) -> AsyncIterator[Job]:
        """Yield the job whenever it changes, and end when it has ended."""
        last: Job | None = None
        while True:
            now = self.job(job)
            if now != last:
                yield now
                last = now
            if now.state in _ENDED:
                return
            await asyncio.sleep(_LOOK_EVERY_SECONDS)

    def close(self) -> None:
        """Stop all jobs and wait until they have ended."""
        with self._lock:
            self._closed = True
            for stop in self._stops.values():
                stop.set()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _run(self, name: str, work: Work) -> None:
        stop = self._stops[name]

        def tell(stage: str, done: float) -> None:
            if stop.is_set():
                raise Stopped("the job was stopped")
            self._set(name, stage=stage, done=round(min(max(done, 0.0), 1.0), 3))

        if stop.is_set():
            self._set(name, state="stopped")
            return
        self._set(name, state="running")
        try:
            result = dict(work(tell))
        except Stopped:
            self._set(name, state="stopped", stage="")
        except IsocenterError as error:
            self._set(name, state="failed", stage="", problem=self._problem_of(error))
        except Exception as error:  # noqa: BLE001  # the boundary of a job: its text may hold anything, so it is not told
            _log.error("a defect in a job: %s", type(error).__name__)
            told = Problem("defect", f"{type(error).__name__}: a defect of Isocenter; please report it")
            self._set(name, state="failed", stage="", problem=told)
        else:
            self._set(name, state="done", stage="", done=1.0, result=result)

    def _set(self, name: str, **changes: Any) -> None:
        with self._lock:
            if name in self._jobs:
                self._jobs[name] = replace(self._jobs[name], **changes)

    def _forget(self) -> None:
        ended = [name for name, job in self._jobs.items() if job.state in _ENDED]
        for name in ended[: max(0, len(ended) - self._kept)]:
            del self._jobs[name], self._stops[name]
