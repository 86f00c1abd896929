"""Jobs: how far they are, as an answer or as a stream, and stopping them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import asdict

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from isocenter.core.errors import CapabilityError
from isocenter.viewer.ports import Job, Jobs, Ports
from isocenter.viewer.settings import PREFIX, Settings

__all__ = ["router"]


def router(ports: Ports, settings: Settings) -> APIRouter:
    """Return the routes."""
    routes = APIRouter(prefix=PREFIX, tags=["jobs"])

    def jobs() -> Jobs:
        if ports.jobs is None:
            raise CapabilityError("this server runs no jobs")
        return ports.jobs

    @routes.get("/jobs/{job}")
    def job(job: str) -> Job:
        """Return how far a job is."""
        return jobs().job(job)

    @routes.post("/jobs/{job}/stop")
    def stop(job: str) -> Job:
        """Ask a job to stop."""
        return jobs().stop(job)

    @routes.get("/jobs/{job}/events", response_class=StreamingResponse)
    async def events(job: str) -> StreamingResponse:
        """Send the job as server-sent events whenever it changes, until it has ended."""
        runner = jobs()
        runner.job(job)  # one that is not there is a 404, not a stream that breaks off

        async def stream() -> AsyncIterator[str]:
            async for state in runner.watch(job):
                yield f"event: job\ndata: {json.dumps(asdict(state))}\n\n"

        return StreamingResponse(stream(), media_type="text/event-stream", headers={"X-Accel-Buffering": "no"})

    return routes
