"""What the sections of `clinic.yaml` share: strictness, names, secrets, files of TLS."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from isocenter.clinic.secrecy import in_the_clear
from isocenter.core.errors import ConfigError

__all__ = ["Name", "Port", "Secret", "Strict", "Title", "TlsConfig", "refuse_token_in_the_clear"]

Title = Annotated[str, Field(min_length=1, max_length=16, pattern=r"^[ -\[\]-~]+$")]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[a-z0-9][a-z0-9_.-]*$")]
Port = Annotated[int, Field(ge=0, le=65535)]


class Strict(BaseModel):
    """A section of `clinic.yaml`: what it does not know is refused, and nothing changes it later."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Secret(Strict):
    """A secret, never written into the configuration itself.

    Attributes:
        file: File that holds it; a newline at its end is no part of it. Must be readable by its owner alone.
        env: Environment variable that holds it.
    """

    file: Path | None = None
    env: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Secret:
        if (self.file is None) == (self.env is None):
            raise ValueError("a secret is {file: PATH} or {env: NAME}")
        return self

    def read(self) -> str:
        """Return the secret.

        Raises:
            ConfigError: It is not there, or others may read its file.
        """
        if self.env is not None:
            value = os.environ.get(self.env, "")
            if not value:
                raise ConfigError(f"the environment variable {self.env} is to hold a secret, and is empty")
            return value
        file = Path(self.file or "")
        try:
            mode = file.stat().st_mode
            value = file.read_text("utf-8").rstrip("\r\n")
        except OSError as error:
            raise ConfigError(f"the secret in {file} can't be read: {error.strerror}") from error
        if mode & 0o077:
            raise ConfigError(f"others may read the secret in {file}; give it to its owner alone: chmod 600")
        return value


class TlsConfig(Strict):
    """Files of DICOM TLS (PEM).

    Attributes:
        certificate: Ours, with its chain.
        key: Its key.
        authorities: Who signs the other side's certificates. Of callers none is asked for without it; of destinations
            the system's authorities are taken without it.
    """

    certificate: Path | None = None
    key: Path | None = None
    authorities: Path | None = None


def refuse_token_in_the_clear(url: str | None, token: Secret | None) -> None:
    """Refuse a token for an address where it could be read on the way.

    Raises:
        ValueError: It could.
    """
    if url is not None and token is not None and in_the_clear(url):
        raise ValueError("a token over http:// could be read by anybody on the way; use https://")
