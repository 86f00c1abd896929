"""The one environment of all pages' templates: everything is escaped, and an unknown name is an error."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

__all__ = ["page_environment"]


def page_environment(room: str) -> Environment:
    """Return an environment for the templates of one folder of `verbs`.

    Args:
        room: Name of the folder.

    Example:
        >>> page_environment("report").from_string("{{ name }}").render(name="<b>")
        '&lt;b&gt;'
    """
    return Environment(
        loader=PackageLoader("isocenter.verbs", room),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
