"""What a node remembers of its own answers: observations, what readers said of them, alarms, choices of a model."""

from __future__ import annotations

from isocenter.clinic.vigilance.record import Choice, Episode, Observation, Record, Said, share_of, vigilance_key

__all__ = ["Choice", "Episode", "Observation", "Record", "Said", "share_of", "vigilance_key"]
