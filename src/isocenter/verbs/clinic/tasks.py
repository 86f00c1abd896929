"""Tasks of a node: each study is answered by `isocenter read` in a process of its own, which may die without harm."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections.abc import Mapping
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

from isocenter.clinic.children import follow_parent
from isocenter.clinic.ports import ResultFile, Said, Work, Worked
from isocenter.core.errors import DataError, IsocenterError, ModelError, OutputError, TransportError
from isocenter.data.images.instance import open_instance
from isocenter.data.images.sr import Abstention, ResultSet, SrContent, write_sr
from isocenter.verbs.air import AirRun, AirSettings, marks_of, unexamined
from isocenter.verbs.read import ReadConfig, run
from isocenter.verbs.result import ResultDocument, read_result

__all__ = ["TaskRunner", "answer"]

_DEATHS = 2


class TaskRunner:
    """A `Runner` over processes that are kept, so that a model is loaded once.

    Args:
        settings: Fields of `ReadConfig` by the name of the route.
        processes: How many.
        longest_s: Longest that a study may take.
    """

    def __init__(self, settings: Mapping[str, Mapping[str, Any]], processes: int, longest_s: float) -> None:
        self._settings, self._longest_s = settings, longest_s
        self._free: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for _ in range(processes):
            self._free.put(_Process())

    def run(self, work: Work) -> Worked:
        """Answer a study; see `Runner`.

        Raises:
            DataError: The study can't be answered, or took too long.
            ModelError: A task can't run, or its process died more than once at this study.
            OutputError: The result can't be written.
        """
        if (work.out / "result.json").is_file():
            air = self._settings[work.route.name].get("air")
            return worked(work, read_result(work.out / "result.json"), air)
        asked = (work, dict(self._settings[work.route.name]))
        process = self._free.get()
        try:
            for _ in range(_DEATHS):
                try:
                    return process.ask(asked, self._longest_s)
                except TransportError:
                    continue
        finally:
            self._free.put(process)
        raise ModelError("the process of the tasks died at this study each time; see the system's log for why")

    def close(self) -> None:
        """End the processes."""
        while not self._free.empty():
            self._free.get().end()


class _Process:
    """A process that answers one study after the other."""

    def __init__(self) -> None:
        self._process: BaseProcess | None = None
        self._line: Connection | None = None

    def ask(self, asked: tuple[Work, dict[str, Any]], longest_s: float) -> Worked:
        """Have a study answered.

        Raises:
            TransportError: The process died.
        """
        if self._process is None or not self._process.is_alive() or self._line is None:
            self.end()
            context = multiprocessing.get_context("spawn")
            self._line, theirs = context.Pipe()
            self._process = context.Process(target=_serve, args=(theirs,), name="isocenter-tasks", daemon=True)
            self._process.start()
            theirs.close()
        try:
            self._line.send(asked)
            until = time.monotonic() + longest_s
            while not self._line.poll(0.5):
                if time.monotonic() > until:
                    self.end()
                    raise DataError(f"the tasks took longer than {longest_s / 60:g} minutes; their process was ended")
            found = self._line.recv()
        except (EOFError, OSError) as error:
            self.end()
            raise TransportError("the process of the tasks died") from error
        if isinstance(found, IsocenterError):
            raise found
        if not isinstance(found, Worked):
            raise ModelError(str(found))
        return found

    def end(self) -> None:
        """End the process, at once."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
        if self._line is not None:
            self._line.close()
        self._process, self._line = None, None


def _serve(line: Connection) -> None:
    follow_parent()
    while True:
        work, settings = line.recv()
        try:
            found: Any = answer(work, settings)
        except OutputError as error:
            found = OutputError(str(error))
        except DataError as error:
            found = DataError(str(error))
        except IsocenterError as error:
            found = ModelError(str(error))
        except Exception as error:  # noqa: BLE001 - the boundary of a server: the next study is answered all the same
            found = f"{type(error).__name__} in a task: a defect, please report it"
        line.send(found)


def answer(work: Work, settings: Mapping[str, Any]) -> Worked:
    """Answer a study, in this process.

    Args:
        work: Which.
        settings: Fields of `ReadConfig` beside path, folder and tasks.
    """
    config = ReadConfig(path=work.folder, out=work.out, tasks=work.route.tasks, **settings)
    return worked(work, run(config, verb="diagnose" if config.evidence else "read"), config.air)


def worked(work: Work, result: ResultDocument, air: AirSettings | None = None) -> Worked:
    """Return what a result says of each task, and its DICOM objects; where every task abstained, a report of that."""
    said = []
    for task in dict.fromkeys(p.task for p in result.predictions):
        mine = [p for p in result.predictions if p.task == task]
        given = [p for p in mine if p.abstained is None]
        reason = "" if given else "; ".join(dict.fromkeys(p.abstained or "" for p in mine))
        said.append(Said(task, "answered" if given else "abstained", reason[:1000], sum(p.seconds for p in mine)))
    entries = [*(f for p in result.predictions for f in p.files), *result.files]
    files = [ResultFile(work.out / entry.path) for entry in entries if entry.format.startswith("DICOM")]
    if not files and said:
        files = _abstentions(work, said, air)
    return Worked(tuple(said), tuple(files))


def _abstentions(work: Work, said: list[Said], air: AirSettings | None) -> list[ResultFile]:
    """Write that nothing was answered, and why, for whoever waits for an answer."""
    path = work.out / "abstained.sr.dcm"
    if not path.is_file():
        received = sorted(work.folder.iterdir())
        headers = [open_instance(received[0], pixels=False)] if received else []
        if air is None:
            write_sr(SrContent((), tuple(Abstention(one.task, one.reason) for one in said)), path, headers=headers)
        else:
            run_now = AirRun.begin(air, work.out, None)
            none = tuple(Abstention(one.task, one.reason, unexamined(one.task, one.reason)) for one in said)
            content, marks = SrContent((), none, results=ResultSet()), marks_of(run_now, ())
            write_sr(content, path, headers=headers, created=run_now.inferred, marks=marks)
    return [ResultFile(path)]
