"""`results:` of `clinic.yaml`: answers of which rules become a whole result set, and what it holds."""

from __future__ import annotations

from isocenter.verbs.air import AirSettings, CriticalFinding

__all__ = ["CriticalFinding", "ResultsConfig"]


class ResultsConfig(AirSettings):
    """Result sets after IHE's AI Results profile; see `AirSettings` for what they hold.

    Attributes:
        rules: Names of the rules whose answers become result sets; empty for all.
    """

    rules: tuple[str, ...] = ()

    def of_rule(self, name: str) -> AirSettings | None:
        """Return the settings for a rule; None where its answers stay as they are."""
        if self.rules and name not in self.rules:
            return None
        return AirSettings(**self.model_dump(exclude={"rules"}))
