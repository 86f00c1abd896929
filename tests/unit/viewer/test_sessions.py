"""The desk of sessions alone: what is done when whoever asked is gone."""

from __future__ import annotations

import asyncio
import threading
from unittest.mock import MagicMock

import pytest

from isocenter.core.errors import SessionExpired
from isocenter.viewer.ports import Interaction, Interactions
from isocenter.viewer.sessions import SessionDesk
from isocenter.viewer.settings import Limits


def test_nothing_begins_before_the_act_of_a_broken_connection_has_ended():
    log: list[str] = []
    begun, go_on = threading.Event(), threading.Event()
    work, interactions = MagicMock(spec=Interaction), MagicMock(spec=Interactions)
    work.close.side_effect = lambda: log.append("closed")
    interactions.begin.return_value = work

    def confirm(_tell):
        begun.set()
        go_on.wait(20)
        log.append("confirmed")

    async def story():
        desk = SessionDesk(interactions, Limits(), workers=2)
        live = await desk.create("disc", "AB")
        first = asyncio.create_task(desk.run(live, confirm, long=True))
        await asyncio.to_thread(begun.wait, 20)
        first.cancel()  # the connection is gone
        second = asyncio.create_task(desk.run(live, lambda _tell: log.append("opened again")))
        await asyncio.sleep(0.2)
        early = list(log)
        go_on.set()
        with pytest.raises(asyncio.CancelledError):
            await first
        await second
        await desk.end(live.id)
        return early

    assert asyncio.run(story()) == []
    assert log == ["confirmed", "opened again", "closed"]


def test_a_session_that_is_being_ended_does_not_come_back():
    closing, go_on = threading.Event(), threading.Event()
    work, interactions = MagicMock(spec=Interaction), MagicMock(spec=Interactions)
    interactions.begin.return_value = work

    def close():
        closing.set()
        go_on.wait(20)

    work.close.side_effect = close

    async def story():
        desk = SessionDesk(interactions, Limits(), workers=2)
        live = await desk.create("disc", "AB")
        interactions.known.return_value = ((live.id, "disc", "AB"),)  # in the work folder until it is closed
        ending = asyncio.create_task(desk.end(live.id))
        await asyncio.to_thread(closing.wait, 20)
        # The page had asked for it before it asked to end it.
        with pytest.raises(SessionExpired):
            await desk.get(live.id)
        go_on.set()
        await ending
        interactions.forget.assert_called_once_with(live.id)
        return desk.live

    assert asyncio.run(story()) == ()
