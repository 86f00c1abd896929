"""List what is installed: name, group, origin, licence, what it fits, and what is missing."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from isocenter.plugins import GROUPS, describe

__all__ = ["PluginEntry", "PluginList", "plugins"]


class PluginEntry(BaseModel):
    """One plug-in.

    Attributes:
        name: Its name within its group.
        group: Its entry-point group.
        origin: Distribution that registered it, with its version.
        object: "module:attribute".
        licence: SPDX identifier, of the weights where it is a task.
        fits: What a task takes.
        missing: Packages that must be installed before it can run.
        problem: Why it can't be used; null when nothing is wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    group: str
    origin: str
    object: str
    licence: str
    fits: str
    missing: tuple[str, ...]
    problem: str | None


class PluginList(BaseModel):
    """Every plug-in, group by group."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    groups: dict[str, str]
    plugins: tuple[PluginEntry, ...]


def plugins() -> PluginList:
    """List every plug-in without importing torch.

    Raises:
        PluginError: A name is registered twice in a group.
    """
    return PluginList(
        groups=dict(GROUPS),
        plugins=tuple(
            PluginEntry(
                name=p.name,
                group=p.group,
                origin=f"{p.origin} {p.version}".strip(),
                object=p.object,
                licence=p.licence,
                fits=p.fits,
                missing=p.missing,
                problem=p.problem,
            )
            for p in describe()
        ),
    )
