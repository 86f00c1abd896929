"""The commands that train encoders, and that plan what a training needs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from isocenter.terminal import out as say_out
from isocenter.terminal import progress

__all__ = ["plan", "pretrain"]

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


def plan(
    model: Annotated[
        str | None, typer.Option("--model", help="Backbone: vit-h-3d, vit-base/16, residual-large-3d, ...")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file of a pretraining, instead of --model.")
    ] = None,
    method: Annotated[str, typer.Option("--method", help="masked, distil or vicreg.")] = "masked",
    pixels: Annotated[
        str | None, typer.Option("--pixels", help="Of the input, e.g. 224x224; default: that, or 96x96x96.")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", help="Processes, each with a device of its own.")] = 1,
    memory: Annotated[float, typer.Option("--memory", help="Of each device, in GB.")] = 80.0,
    batch: Annotated[int | None, typer.Option("--batch", help="Samples of a step, all together; default 4096.")] = None,
    samples: Annotated[
        float | None, typer.Option("--samples", help="How many are to be learnt from, e.g. 1e9: tells days.")
    ] = None,
    float32: Annotated[bool, typer.Option("--float32", help="Forward pass in float32 instead of bfloat16.")] = False,
    profile: Annotated[
        str | None, typer.Option("--profile", help="Rates measured on such a machine: a file, or a built-in name.")
    ] = None,
    rate_tflops: Annotated[
        float | None, typer.Option("--rate-tflops", help="Without a profile: the rate that the card's maker states.")
    ] = None,
    network_gbps: Annotated[
        float | None, typer.Option("--network-gbps", help="What each process can send, in gigabits a second.")
    ] = None,
    measure: Annotated[
        Path | None, typer.Option("--measure", help="Measure this machine into a profile instead (a few minutes).")
    ] = None,
    device: Annotated[str, typer.Option("--device", help="What is measured: cpu, cuda.")] = "auto",
    threads: Annotated[int, typer.Option("--threads", help="Of torch, for --measure.")] = 1,
    studies: Annotated[
        float | None, typer.Option("--studies", help="Plan an ingest of so many studies instead, e.g. 1e6.")
    ] = None,
    instances: Annotated[float, typer.Option("--instances", help="Of a study, for --studies.")] = 300.0,
    instance_mb: Annotated[float, typer.Option("--instance-mb", help="Size of an instance, for --studies.")] = 0.5,
    workers: Annotated[int, typer.Option("--workers", help="Processes in all, for --studies.")] = 1,
    headers_only: Annotated[bool, typer.Option("--headers-only", help="No copies of images, for --studies.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Plan a pretraining: does it fit, in which layout, and how many days; or measure this machine for such plans."""
    from isocenter.core.errors import ConfigError

    if studies is not None:
        from isocenter.verbs.plan_archive import plan_archive

        made = plan_archive(
            studies=studies, instances=instances, instance_mb=instance_mb, workers=workers, pixels=not headers_only
        )
        say_out(made.model_dump_json(indent=2) if as_json else "\n".join(made.lines()))
        return
    from isocenter.verbs.plan import MeasureResult, PlanResult
    from isocenter.verbs.plan import measure as measure_verb
    from isocenter.verbs.plan import plan as verb

    done: PlanResult | MeasureResult
    with progress(lines=True) as tell:
        if measure is not None:
            done = measure_verb(measure, device=device, threads=threads, progress=tell)
        else:
            sides = (pixels or "").split("x")
            if pixels is not None and not all(side.isdecimal() for side in sides):
                raise ConfigError(f"--pixels: sides with an x between them, like 96x96x96, not {pixels!r}")
            done = verb(
                model=model,
                config=config,
                method=method,
                pixels=tuple(map(int, sides)) if pixels is not None else None,
                gpus=gpus,
                memory=memory,
                batch=batch,
                samples=samples,
                bfloat16=not float32,
                profile=profile,
                rate_tflops=rate_tflops,
                network_gbps=network_gbps,
            )
    say_out(done.model_dump_json(indent=2) if as_json else "\n".join(done.lines()))
