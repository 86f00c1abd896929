"""Which processes a node has, and whether they live: from its state file and their pulses."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from isocenter.clinic.dimse.notes import read_pulse
from isocenter.clinic.node import STATE_FILE

__all__ = ["Process", "Processes", "processes_of"]

_NONE_S = -1.0


@dataclass(frozen=True)
class Process:
    """A process of a node.

    Args:
        component: "node", "acceptors", or the name of a part.
        number: Of the process.
        alive: Whether there is such a process.
        pulse_s: Seconds since it said that it turns; -1 where it says nothing.
    """

    component: str
    number: int
    alive: bool
    pulse_s: float = _NONE_S


@dataclass(frozen=True)
class Processes:
    """The processes of a node.

    Args:
        running: Whether the node itself lives.
        processes: All of them.
        ports: Where it listens, by title.
        associations: Open ones, by title.
    """

    running: bool
    processes: tuple[Process, ...] = ()
    ports: Mapping[str, int] | None = None
    associations: Mapping[str, int] | None = None

    def of(self, component: str) -> tuple[Process, ...]:
        """Return those of a component."""
        return tuple(process for process in self.processes if process.component == component)


def processes_of(store: Path) -> Processes:
    """Return the processes of the node of a store, as it says.

    Args:
        store: Its folder.
    """
    try:
        told = json.loads((store / STATE_FILE).read_text("utf-8"))
        pids = {str(name): [int(number) for number in numbers] for name, numbers in told["pids"].items()}
        ports = {str(title): int(port) for title, port in told["ports"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Processes(running=False)
    found, associations = [], Counter[str]()
    for component, numbers in pids.items():
        for number in numbers:
            alive, pulse_s = _lives(number), _NONE_S
            pulse = read_pulse(store, number) if component == "acceptors" else None
            if pulse is not None and alive:
                pulse_s = max(0.0, time.time() - pulse.at)
                associations.update(pulse.associations)
            found.append(Process(component, number, alive, pulse_s))
    running = any(process.alive for process in found if process.component == "node")
    return Processes(running, tuple(found), ports, dict(associations))


def _lives(number: int) -> bool:
    if number <= 0:
        return False
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # there is one, and it is somebody else's
    return True
