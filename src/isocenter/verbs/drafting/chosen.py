"""Which language model was named, if any: one behind a server, or one in a folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from isocenter.core.errors import CapabilityError, ConfigError
from isocenter.verbs.drafting.served import ServedModel

if TYPE_CHECKING:
    from isocenter.verbs.drafting.local import LocalModel

__all__ = ["language_model"]


def language_model(
    url: str | None, model: str, allowed: tuple[str, ...], seconds: float, folder: Path | None
) -> ServedModel | LocalModel | None:
    """Open the model that was named.

    Args:
        url: Base address of an OpenAI-compatible server, or None.
        model: Name of the model there.
        allowed: Hosts beside this machine that may be asked.
        seconds: Longest time for an answer.
        folder: Hugging Face folder of a model on this machine, or None.

    Raises:
        ConfigError: Both were named, or the server is not allowed.
        WeightsError: The folder is not what it must be.
        CapabilityError: What a folder needs is not installed.
    """
    if url is not None and folder is not None:
        raise ConfigError("a server and a folder of a language model were named; name one")
    if url is not None:
        return ServedModel(url, model, allowed, seconds)
    if folder is None:
        return None
    try:
        from isocenter.verbs.drafting.local import LocalModel
    except ModuleNotFoundError as error:
        raise CapabilityError(
            f"a language model from a folder needs {error.name}: pip install 'isocenter[local]'"
        ) from error
    return LocalModel(folder, seconds)
