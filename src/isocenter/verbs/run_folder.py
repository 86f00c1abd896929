"""The folder of a training's run: begun once, resumed only with its own configuration and data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from isocenter.core.errors import ConfigError, WeightsError
from isocenter.data.images.atomic import atomic_path
from isocenter.verbs.provenance import code_version, created_now, machine, package_versions, python_version

__all__ = ["RUN_FILE", "begin_run"]

RUN_FILE = "run.json"


def begin_run(
    out: Path,
    verb: str,
    config: Mapping[str, Any],
    data: Mapping[str, Any],
    *,
    resume: bool,
    until: int | None = None,
) -> None:
    """Write the run's file, or hold a run that is resumed to be of this configuration and of this data.

    Args:
        out: The folder.
        verb: What runs.
        config: The resolved configuration, JSON-ready.
        data: What is learnt from, JSON-ready.
        resume: Whether to go on.
        until: Step at which this call stops.

    Raises:
        ConfigError: The folder holds something else, or a run of another configuration or of other data.
        WeightsError: The run's file is damaged.
    """
    file = out / RUN_FILE
    now = {"at": created_now(), "until": until, **code_version()}
    if resume and file.is_file():
        before = _known(file, verb)
        differing = sorted(k for k in {**config, **before["config"]} if config.get(k) != before["config"].get(k))
        if differing:
            raise ConfigError(
                f"{out} was begun with another configuration ({', '.join(differing)}); resume with its own, or start "
                "anew"
            )
        changed = sorted(k for k in {**data, **before["data"]} if data.get(k) != before["data"].get(k))
        if changed:
            raise ConfigError(
                f"what {out} learns from has changed since it was begun ({', '.join(changed)}): it would not go on as "
                "it began; resume with what began it, or start anew"
            )
        document = {**before, "calls": [*before["calls"], now]}
    else:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            hint = "give --resume" if file.is_file() else f"it holds no run of isocenter {verb}"
            raise ConfigError(f"{out} is not empty; {hint}, or choose another folder")
        document = {
            "verb": verb,
            "config": dict(config),
            "seed": config.get("seed"),
            "data": dict(data),
            "python": python_version(),
            "packages": package_versions(),
            "machine": machine(),
            "calls": [now],
        }
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", "utf-8")


def _known(file: Path, verb: str) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text("utf-8"))
        if document["verb"] == verb and isinstance(document["calls"], list):
            return {**document, "config": dict(document["config"]), "data": dict(document["data"])}
    except (ValueError, KeyError, TypeError):
        pass
    raise WeightsError(f"{file.name} in {file.parent} is damaged, or of another verb; start anew in another folder")
