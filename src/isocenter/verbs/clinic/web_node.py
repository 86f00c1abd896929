"""What the routes of a node's web server act on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from isocenter.clinic.workflow import Ledger
from isocenter.core.errors import ConfigError
from isocenter.verbs.clinic.config import ClinicConfig
from isocenter.verbs.clinic.config_web import WebConfig

__all__ = ["NodeWeb"]


@dataclass(frozen=True)
class NodeWeb:
    """What the routes of a node act on.

    Args:
        config: The node's settings.
        ledger: What was received, answered and sent.
        store: The node's folder.
    """

    config: ClinicConfig
    ledger: Ledger
    store: Path

    @property
    def web(self) -> WebConfig:
        """The section `web:`.

        Raises:
            ConfigError: There is none.
        """
        if self.config.web is None:
            raise ConfigError("the node has no web server: clinic.yaml has no section web")
        return self.config.web
