"""`observe:` of `clinic.yaml`: logs, readiness, how long events are kept, traces."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from isocenter.clinic.observe import LogSettings
from isocenter.verbs.clinic.config_base import Secret, Strict, refuse_token_in_the_clear

__all__ = ["ObserveConfig"]


class ObserveConfig(Strict):
    """Logs, readiness, events and traces of a node.

    Attributes:
        log_form: "json", one object a line, or "text" for people.
        log_file: File that logs go to, rotated by the node; null for standard error, which systemd and containers keep.
        log_level: The least that is written: "debug", "info", "warning" or "error".
        log_file_mb: Longest log file.
        log_files: Older log files that are kept.
        acceptor_s: An acceptor that gave no sign for so long makes `/ready` say no.
        workflow_s: So does a workflow that did not turn for so long.
        ledger_s: So does a database that does not answer in that time.
        events_days: How long events are kept; null for ever.
        traces_url: Where OpenTelemetry traces go (OTLP, "http://localhost:4318/v1/traces" say); null for nowhere.
        traces_token: Bearer token for it.
    """

    log_form: Literal["json", "text"] = "json"
    log_file: Path | None = None
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    log_file_mb: Annotated[int, Field(ge=1)] = 50
    log_files: Annotated[int, Field(ge=0, le=1000)] = 10
    acceptor_s: Annotated[float, Field(gt=0)] = 15.0
    workflow_s: Annotated[float, Field(gt=0)] = 30.0
    ledger_s: Annotated[float, Field(gt=0)] = 5.0
    events_days: Annotated[int, Field(ge=1)] | None = 365
    traces_url: Annotated[str, Field(pattern=r"^https?://")] | None = None
    traces_token: Secret | None = None

    @model_validator(mode="after")
    def _not_in_the_clear(self) -> ObserveConfig:
        refuse_token_in_the_clear(self.traces_url, self.traces_token)
        return self

    def logs(self, store: Path) -> LogSettings:
        """Return where logs go; a file that is named without a folder stands in the store."""
        file = None if self.log_file is None else store / self.log_file
        return LogSettings(self.log_form, file, self.log_level, self.log_file_mb << 20, self.log_files)
