"""The record of access is written whoever hangs up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

from isocenter.clinic.access.audit import Event, Trail


class Slow:
    """A sink that waits until it is told to go on."""

    def __init__(self) -> None:
        self.began, self.go_on = threading.Event(), threading.Event()
        self.kept: list[Event] = []

    def append(self, events: Sequence[Event]) -> None:
        self.began.set()
        assert self.go_on.wait(20)
        self.kept += events


def test_a_caller_who_is_gone_ends_neither_the_writing_nor_the_writer() -> None:
    sink = Slow()
    trail = Trail(sink)
    first, second = Event("access", "R", 0, what="first"), Event("access", "R", 0, what="second")

    async def story() -> None:
        gone = asyncio.ensure_future(asyncio.wrap_future(trail.tell(first)))
        await asyncio.to_thread(sink.began.wait, 20)
        gone.cancel()
        await asyncio.wait([gone])
        sink.go_on.set()
        await asyncio.wait_for(asyncio.wrap_future(trail.tell(second)), 20)

    asyncio.run(story())
    trail.close()
    assert sink.kept == [first, second]
