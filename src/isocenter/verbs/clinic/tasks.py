"""Tasks of a node: each study is answered by `isocenter read` in a process of its own, which may die without harm."""

from __future__ import annotations

import multiprocessing
import queue
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from isocenter.clinic.children import follow_parent
from isocenter.clinic.ports import ResultFile, Route, Said, Work, Worked
from isocenter.core.errors import DataError, IsocenterError, ModelError, OutputError, Stopped, TransportError
from isocenter.data.images.instance import open_instance
from isocenter.data.images.sr import Abstention, ResultSet, SrContent, write_sr
from isocenter.data.images.study_files import StudyFiles
from isocenter.verbs.air import AirRun, AirSettings, marks_of, unexamined
from isocenter.verbs.clinic.vigilance.inputs import look_at
from isocenter.verbs.clinic.vigilance.rows import category
from isocenter.verbs.read import ReadConfig, run
from isocenter.verbs.result import ResultDocument, read_result

__all__ = ["Answering", "TaskRunner", "answer", "trial_name"]

_DEATHS = 2
_LOOK_S = 0.2
Answering = Callable[[Work, Mapping[str, Any]], Worked]


class TaskRunner:
    """A `Runner` over processes that are kept, so that a model is loaded once.

    Args:
        settings: Fields of `ReadConfig` by the name of the route, or by `trial_name` for a model on trial.
        processes: How many.
        longest_s: Longest that a study may take.
        prepare: Called first in each process, to set up its log say; must be picklable. None for nothing.
        answering: What a process does, a function of a module or a `functools.partial` of one; None for `answer`.
    """

    def __init__(
        self,
        settings: Mapping[str, Mapping[str, Any]],
        processes: int,
        longest_s: float,
        prepare: Callable[[], None] | None = None,
        answering: Answering | None = None,
    ) -> None:
        self._settings, self._longest_s, self._answering = settings, longest_s, answering or answer
        self._free: queue.SimpleQueue[_Process] = queue.SimpleQueue()
        for _ in range(processes):
            self._free.put(_Process(prepare))

    def run(self, work: Work, cancelled: Callable[[], bool] = lambda: False) -> Worked:
        """Answer a study; see `Runner`.

        Args:
            work: Which.
            cancelled: Tells that the answer is not wanted any more; its process is ended then.

        Raises:
            Stopped: It was not wanted any more.
            DataError: The study can't be answered, or took too long.
            ModelError: A task can't run, or its process died more than once at this study.
            OutputError: The result can't be written.
        """
        trial = self._settings.get(trial_name(work.route)) if work.route.on_trial else None
        settings = trial or self._settings[work.route.name]
        if (work.out / "result.json").is_file():
            return worked(work, read_result(work.out / "result.json"), settings.get("air"))
        asked = (self._answering, work, dict(settings))
        process = self._free.get()
        try:
            for _ in range(_DEATHS):
                try:
                    return process.ask(asked, self._longest_s, cancelled)
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

    def __init__(self, prepare: Callable[[], None] | None) -> None:
        self._prepare = prepare
        self._process: BaseProcess | None = None
        self._line: Connection | None = None

    def ask(
        self, asked: tuple[Answering, Work, dict[str, Any]], longest_s: float, cancelled: Callable[[], bool]
    ) -> Worked:
        """Have a study answered.

        Raises:
            Stopped: The answer is not wanted any more.
            TransportError: The process died.
        """
        if self._process is None or not self._process.is_alive() or self._line is None:
            self.end()
            context = multiprocessing.get_context("spawn")
            self._line, theirs = context.Pipe()
            self._process = context.Process(
                target=_serve, args=(theirs, self._prepare), name="isocenter-tasks", daemon=True
            )
            self._process.start()
            theirs.close()
        try:
            self._line.send(asked)
            until = time.monotonic() + longest_s
            while not self._line.poll(_LOOK_S):
                if cancelled():
                    self.end()
                    raise Stopped("the answer is not wanted any more")
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


def _serve(line: Connection, prepare: Callable[[], None] | None) -> None:
    follow_parent()
    if prepare is not None:
        prepare()
    while True:
        answering, work, settings = line.recv()
        try:
            found: Any = answering(work, settings)
        except OutputError as error:
            found = OutputError(str(error))
        except DataError as error:
            found = DataError(str(error))
        except IsocenterError as error:
            found = ModelError(str(error))
        except Exception as error:  # noqa: BLE001 - the boundary of a server: the next study is answered all the same
            found = f"{type(error).__name__} in a task: a defect, please report it"
        line.send(found)


def trial_name(route: Route) -> str:
    """Return the name of the settings under which a route's tasks are asked, where they have some of their own."""
    return "\n".join((route.name, *route.tasks))


def answer(work: Work, settings: Mapping[str, Any]) -> Worked:
    """Answer a study, in this process.

    Args:
        work: Which.
        settings: Fields of `ReadConfig` beside path, folder and tasks.
    """
    config = ReadConfig(path=work.folder, out=work.out, tasks=work.route.tasks, **settings)

    def look(files: StudyFiles, folder: Path) -> None:
        look_at(files, folder, work.route.tasks)

    return worked(work, run(config, verb="diagnose" if config.evidence else "read", look=look), config.air)


def worked(work: Work, result: ResultDocument, air: AirSettings | None = None) -> Worked:
    """Return what a result says of each task, and its DICOM objects; every abstention stands in one of them.

    An image that some task answered has a report, which holds the abstentions of the others. Those of images that no
    task answered stand in one report more, apart from what a task says of images that are for others (a localizer)
    where it answered another.
    """
    said = []
    for task in dict.fromkeys(p.task for p in result.predictions):
        mine = [p for p in result.predictions if p.task == task]
        given = [p for p in mine if p.abstained is None]
        reason = "" if given else "; ".join(dict.fromkeys(p.abstained or "" for p in mine))
        said.append(Said(task, "answered" if given else "abstained", reason[:1000], sum(p.seconds for p in mine)))
    entries = [*(f for p in result.predictions for f in p.files), *result.files]
    files = [ResultFile(work.out / entry.path) for entry in entries if entry.format.startswith("DICOM")]
    reported = {image.index for image in result.images if (work.out / f"image-{image.index}.sr.dcm").is_file()}
    told = {p.task for p in result.predictions if p.image in reported}
    untold = [
        (p.task, p.abstained)
        for p in result.predictions
        if p.abstained is not None and p.image not in reported and not (category(p) == "misfit" and p.task in told)
    ]
    if not files:  # answers that no DICOM object can hold: whoever waits is told so
        why = "; ".join(dict.fromkeys(item.why for item in result.not_done)) or "no DICOM object can hold it"
        untold += [(one.task, f"it answered, and {why}"[:1000]) for one in said if one.state == "answered"]
    if untold:
        files += _abstentions(work, result, untold, air)
    return Worked(tuple(said), tuple(files))


def _abstentions(
    work: Work, result: ResultDocument, untold: Sequence[tuple[str, str]], air: AirSettings | None
) -> list[ResultFile]:
    """Write which tasks did not answer, and why, for whoever waits for an answer."""
    path = work.out / "abstained.sr.dcm"
    if not path.is_file():
        images = len(result.images)
        abstentions = [
            Abstention(
                task,
                f"{count} of {images} images: {reason}" if images > 1 else reason,
                () if air is None else unexamined(task, reason),
            )
            for (task, reason), count in Counter(untold).items()
        ]
        received = sorted(work.folder.iterdir())
        mark = str(result.provenance.config.get("mark", ""))
        headers = [open_instance(received[0], pixels=False)] if received else []
        if air is None:
            write_sr(SrContent((), tuple(abstentions), mark=mark), path, headers=headers)
        else:
            run_now = AirRun.begin(air, work.out, None)
            content, marks = SrContent((), tuple(abstentions), mark=mark, results=ResultSet()), marks_of(run_now, ())
            write_sr(content, path, headers=headers, created=run_now.inferred, marks=marks)
    return [ResultFile(path)]
