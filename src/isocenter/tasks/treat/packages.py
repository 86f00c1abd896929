"""Packages that effects need and the base does not: asked for by name, refused with the line that installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from isocenter.core.errors import CapabilityError

__all__ = ["needed"]


def needed(module: str) -> Any:
    """Import a module of the extra `precision`.

    Args:
        module: Such as "econml.dr" or "sklearn.linear_model".

    Raises:
        CapabilityError: It is not installed.

    Example:
        >>> needed("no_such_package")
        Traceback (most recent call last):
        ...
        isocenter.core.errors.CapabilityError: needs the package no_such_package: pip install "isocenter[precision]"
    """
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        package = (error.name or module).split(".")[0]
        raise CapabilityError(f'needs the package {package}: pip install "isocenter[precision]"') from error
