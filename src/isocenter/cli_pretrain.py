"""The commands that train encoders, and that plan what a training needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from isocenter.terminal import out as say_out
from isocenter.terminal import progress

__all__ = ["pretrain"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]


def pretrain(
    config: Annotated[Path, typer.Argument(help="YAML file with every setting; see configs/.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the run; must not exist or be empty.", show_default=False)
    ],
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Images to learn from: a folder, a list of paths (.txt), or an .npz."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint, exactly.")] = False,
    until: Annotated[int | None, typer.Option("--until", help="Stop at this step; --resume goes on.")] = None,
    checkpoint_minutes: Annotated[
        float, typer.Option("--checkpoint-minutes", help="Longest time between two checkpoints.")
    ] = 3.0,
    parallel: Annotated[
        str | None,
        typer.Option("--parallel", help="How several processes hold the weights: ddp or fsdp; before the file's."),
    ] = None,
    ray: Annotated[
        int | None, typer.Option("--ray", help="Train in this many processes of Ray Train (isocenter[ray]).")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Train a model from a configuration; at the end its weights, their card and the curves lie in the folder."""
    from isocenter.verbs.pretrain import pretrain as verb

    with progress(lines=True) as tell:
        done = verb(
            config,
            out,
            progress=tell,
            data=data,
            resume=resume,
            until=until,
            checkpoint_minutes=checkpoint_minutes,
            parallel=parallel,
            ray=ray,
        )
    if os.environ.get("RANK", "0") != "0":  # one of several that torchrun started: the first speaks
        return
    if as_json:
        say_out(done.model_dump_json(indent=2))
        return
    figures = ", ".join(f"{name} {value:.3f}" for name, value in done.validation.items() if name != "step")
    say_out(
        "\n".join(
            [
                f"{done.method}: step {done.step} of {done.steps}{'' if done.finished else '; go on with --resume'}",
                *([f"held-out: {figures}"] if figures else []),
                *(f"note: {note}" for note in done.notes),
                f"weights: {done.weights}",
                f"curves: {done.curves}",
            ]
        )
    )
