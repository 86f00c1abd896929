"""Every error that Isocenter raises, in one tree.

    IsocenterError
    ├── DataError (also ValueError; carries .source)
    │   ├── GeometryError     irregular, mixed, tilted, incomplete or unknown space
    │   │   └── ProofError    a file that was written and, read back, is not what was meant
    │   ├── UnitsError        a quantity or unit that does not fit, or is not known
    │   ├── PixelError        pixels that cannot be decoded, or do not match their header
    │   ├── IdentityLeak      two patients where one is allowed; an identity where none is allowed
    │   ├── TooLarge          larger than what is allowed here
    │   └── OutputError       a file or folder that the operating system refused to write
    ├── ConfigError           a setting, a verb argument or a prompt file that is not valid
    ├── ModelError
    │   ├── WeightsError      weights missing, altered, or of another network
    │   ├── CapabilityError   the model can't do what was asked, or an extra is not installed
    │   └── TrainingError     a training that can't go on: a loss that is no number, embeddings that collapsed
    ├── ClinicError
    │   ├── TransportError
    │   ├── SessionExpired
    │   ├── AtCapacity
    │   ├── NotFound          nothing of this name is here, or not any more
    │   ├── Conflict          it was changed meanwhile, or its state does not allow it; carries .code
    │   └── Stopped           somebody stopped the work
    └── PluginError           a plug-in that clashes, fails to load or breaks its contract

A message says what, where and what to do. It never holds a patient's value: no name, no identifier, no date, no
free text from a header. UIDs and the names of files that the user passed are allowed.
"""

from __future__ import annotations

__all__ = [
    "AtCapacity",
    "CapabilityError",
    "ClinicError",
    "ConfigError",
    "Conflict",
    "DataError",
    "GeometryError",
    "IdentityLeak",
    "IsocenterError",
    "ModelError",
    "NotFound",
    "OutputError",
    "PixelError",
    "PluginError",
    "ProofError",
    "SessionExpired",
    "Stopped",
    "TooLarge",
    "TrainingError",
    "TransportError",
    "UnitsError",
    "WeightsError",
]


class IsocenterError(Exception):
    """Root of the tree; catch this to catch everything that Isocenter raises on purpose."""


class DataError(IsocenterError, ValueError):
    """Something is wrong with the data that came in.

    Attributes:
        source: The file, folder, series or entry that the message speaks of; empty when there is none.
    """

    def __init__(self, message: str, *, source: object = "") -> None:
        self.source = str(source)
        super().__init__(f"{self.source}: {message}" if self.source else message)


class GeometryError(DataError):
    """Space is irregular, mixed, tilted, incomplete, or not known where it is needed."""


class ProofError(GeometryError):
    """A file that was written is not, when read back, what was meant; nothing of it is kept."""


class UnitsError(DataError):
    """A quantity or unit does not fit the operation, or is not known."""


class PixelError(DataError):
    """Pixels cannot be decoded, or do not match what the header says."""


class IdentityLeak(DataError):
    """Two patients where one is allowed, or an identity where none is allowed."""


class TooLarge(DataError):
    """It is larger than what is allowed here; the message says how large, and what is allowed."""


class OutputError(DataError):
    """The operating system refused to write a file or folder: a full disk, no permission, a name that is taken."""


class ConfigError(IsocenterError):
    """A setting, an argument of a verb or a prompt file is not valid."""


class ModelError(IsocenterError):
    """A model cannot be used as asked."""


class WeightsError(ModelError):
    """Weights are missing, altered, or belong to another network."""


class CapabilityError(ModelError):
    """The model cannot do what was asked, or an optional extra is not installed."""


class TrainingError(ModelError):
    """A training cannot go on: its loss is no number, or its embeddings have collapsed."""


class ClinicError(IsocenterError):
    """A conversation with another system failed."""


class TransportError(ClinicError):
    """The other side did not answer, or answered with an error."""


class SessionExpired(ClinicError):
    """The session's lease ran out."""


class AtCapacity(ClinicError):
    """The node has reached a limit and refuses rather than lose data."""


class NotFound(ClinicError):
    """Nothing of this name is here, or not any more."""


class Conflict(ClinicError):
    """It was changed meanwhile, or its state does not allow what was asked.

    Attributes:
        code: Which, for programs ("stale", "signed", "withheld_sentences", "taken", "another_reader").
    """

    def __init__(self, message: str, *, code: str = "stale") -> None:
        self.code = code
        super().__init__(message)


class Stopped(ClinicError):
    """Somebody stopped the work; nothing half-made is left."""


class PluginError(IsocenterError):
    """A plug-in clashes with another, fails to load, or breaks its contract."""
