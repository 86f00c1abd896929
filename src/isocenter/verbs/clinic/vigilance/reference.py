"""The reference as a file: what a task saw and said on studies that it is known to do well on."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from isocenter.clinic.ports import Route, Work
from isocenter.clinic.vigilance import Observation, Record
from isocenter.core.errors import ConfigError, DataError
from isocenter.data.images.atomic import atomic_path
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.tasks import answer
from isocenter.verbs.clinic.vigilance.rows import rows_of
from isocenter.verbs.clinic.vigilance.streams import studies_of

__all__ = ["read_reference", "reference_of_archive", "reference_of_record", "write_reference"]

_FORMAT: Final = "isocenter vigilance reference 1"
_LEAST: Final = 30


def reference_of_record(record: Record, studies: int) -> list[Observation]:
    """Return the first studies of every rule and task on record.

    Args:
        record: Of the node.
        studies: How many of each.

    Raises:
        DataError: No rule and task has 30.
    """
    rows = []
    for rule, arm, task in record.streams():
        if arm != "live":
            continue
        usable = [
            s.row
            for s in studies_of(record.observations(rule, arm, task), {})
            if s.row.state != "failed" and s.row.reason not in ("misfit", "prompt", "missing")
        ]
        rows += usable[:studies] if len(usable) >= _LEAST else []
    if not rows:
        raise DataError(f"no rule and task has {_LEAST} answered studies on record; that many make a reference")
    return rows


def reference_of_archive(config: ClinicConfig, rule: str, folder: Path) -> list[Observation]:
    """Answer every study of an archive as a rule does, and return what was observed. Nothing is kept or sent.

    Args:
        config: Of the node.
        rule: Name of the rule.
        folder: One folder for each study.

    Raises:
        ConfigError: There is no such rule.
        DataError: Fewer than 30 studies could be answered.
    """
    asked = next((r for r in config.rules if r.name == rule), None)
    if asked is None:
        raise ConfigError(f"no rule is named {rule!r}; rules: {', '.join(r.name for r in config.rules)}")
    fields = ("evidence", "on_irregular", "modality", "body_part")
    settings: dict[str, Any] = {**asked.model_dump(include=set(fields)), "seed": config.tasks.seed}
    settings |= {"evidence": False, "gate": config.vigilance.gate}
    rows: list[Observation] = []
    with tempfile.TemporaryDirectory(prefix="isocenter-reference-") as space:
        for number, study in enumerate(sorted(p for p in folder.iterdir() if p.is_dir())):
            work = Work(f"reference {number}", 1, Route(rule, asked.tasks), study, "", Path(space) / str(number))
            try:
                answer(work, settings)
            except DataError:
                continue  # a study that can't be read is no study that the task does well on
            rows += rows_of(work, "live")
    studies = len({row.study for row in rows if row.state == "answered"})
    if studies < _LEAST:
        raise DataError(f"{studies} studies of the archive were answered; {_LEAST} make a reference")
    return rows


def write_reference(rows: Sequence[Observation], file: Path) -> None:
    """Write a reference file. Studies are numbered in it: their UIDs stay in the node.

    Raises:
        OutputError: It can't be written.
    """
    numbers: dict[str, str] = {}
    lines: list[dict[str, Any]] = []
    for row in rows:
        name = numbers.setdefault(row.study, f"reference {len(numbers) + 1}")
        lines.append({**asdict(row), "study": name, "at": 1.0, "number": len(lines) + 1})
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps({"format": _FORMAT, "rows": lines}, indent=1), "utf-8")


def read_reference(file: Path) -> Mapping[tuple[str, str], Sequence[Observation]]:
    """Read a reference file: rows by rule and task.

    Raises:
        ConfigError: It is none, or can't be read.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["format"] != _FORMAT:
            raise ConfigError(f"{file} is no reference of vigilance; make one: isocenter clinic reference")
        found: dict[tuple[str, str], list[Observation]] = {}
        for line in content["rows"]:
            row = Observation(**line)
            found.setdefault((row.rule, row.task), []).append(row)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ConfigError(f"{file} is no reference of vigilance that can be read") from error
    return found
