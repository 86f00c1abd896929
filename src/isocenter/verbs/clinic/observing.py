"""What looks after a node, made from its configuration: its needs, its logs, a process that tells how it ended."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

from isocenter.clinic.observe import LogSettings, Needs, rotate, setup_logs
from isocenter.clinic.observe.traces import Traces
from isocenter.clinic.workflow import Ledger
from isocenter.verbs.clinic.config import ClinicConfig

__all__ = ["Rotation", "logs_of", "needs_of", "observed", "traces_of"]

_LOG = logging.getLogger(__name__)
_ROTATE_S = 5.0


def logs_of(config: ClinicConfig) -> LogSettings:
    """Return where a node's logs go."""
    return config.observe.logs(config.store)


def needs_of(config: ClinicConfig) -> Needs:
    """Return what a node needs to be ready."""
    told, limits = config.observe, config.limits
    quota = None if limits.quota_gb is None else int(limits.quota_gb * 1e9)
    return Needs(
        config.acceptors, limits.reserve_mb << 20, quota, told.acceptor_s, told.workflow_s, ledger_s=told.ledger_s
    )


def observed(logs: LogSettings, run: Callable[[Callable[[], bool]], None], stopped: Callable[[], bool]) -> None:
    """Run a part of a node, in this process, with its log set up.

    Raises:
        SystemExit: It ended by an error, which the log tells of; the node starts it again.
    """
    setup_logs(logs)
    try:
        run(stopped)
    except Exception as error:  # the boundary of a process: multiprocessing would print the error's words
        _LOG.critical("a part of the node ends by an error", exc_info=True)
        raise SystemExit(1) from error


def traces_of(config: ClinicConfig, ledger: Ledger) -> Traces | None:
    """Return what sends traces; None where none are wanted.

    Raises:
        ConfigError: The token is not there.
    """
    told = config.observe
    if told.traces_url is None:
        return None
    return Traces(ledger, told.traces_url, "" if told.traces_token is None else told.traces_token.read())


class Rotation:
    """Tells when to stop, and rotates the log now and then.

    Args:
        logs: Of the node.
        stopped: Tells when to stop.
    """

    def __init__(self, logs: LogSettings, stopped: Callable[[], bool]) -> None:
        self._logs, self._stopped, self._looked = logs, stopped, 0.0

    def __call__(self) -> bool:
        """Return whether to stop."""
        if time.monotonic() - self._looked > _ROTATE_S:
            self._looked = time.monotonic()
            rotate(self._logs)
        return self._stopped()
