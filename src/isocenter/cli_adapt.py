"""The command `isocenter adapt`: a task from a labelled set, from a session, or from images with words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isocenter.cli_diagnose import CasesOption, ClinicalOption
from isocenter.terminal import out as say_out
from isocenter.terminal import progress

if TYPE_CHECKING:
    from isocenter.verbs.adapt import AdaptResult
    from isocenter.verbs.adapt_data import AdaptDataResult

__all__ = ["adapt"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an older result.")]
SetsOption = Annotated[
    str,
    typer.Option("--sets", help="Of a set with classes: sets by lac, class, aps or raps; auto: by class if it can."),
]

GroupsOption = Annotated[
    Path | None, typer.Option("--groups", help="Of a set: CSV of case or patient, and columns to make groups of.")
]

PromiseByOption = Annotated[
    str | None, typer.Option("--promise-by", help="Column of --groups: what is promised holds in each such group.")
]


PairsOption = Annotated[
    Path | None, typer.Option("--pairs", help="CSV of image, question and answer, or of image and report.")
]
ConfigOption = Annotated[
    Path | None, typer.Option("--config", help="Of pairs: YAML with every setting; see configs/multimodal-*.yaml.")
]
BlindOption = Annotated[
    bool, typer.Option("--blind/--no-blind", help="Of pairs: train the twin that sees no image, and the gap to it.")
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Of pairs: go on from the run's checkpoints.")]
UntilOption = Annotated[int | None, typer.Option("--until", help="Of pairs: stop at this step; --resume goes on.")]
LabelledOption = Annotated[
    int | None, typer.Option("--labelled", help="Of a set: most cases that a network learns from.")
]
WorkOption = Annotated[
    Path | None, typer.Option("--work", help="Of a set: folder for checkpoints; the same command goes on from it.")
]
FlipOption = Annotated[
    str, typer.Option("--flip", help="Learn mirrored left to right too: on, off; auto: unless a name says a side.")
]
DeviceOption = Annotated[
    str, typer.Option("--device", help="Of a set: where networks learn: cpu, cuda; auto: a GPU where there is one.")
]
NetworkOption = Annotated[
    int | None,
    typer.Option("--network", help="Of a set: learn this network alone, from 1; without it, --work gathers all."),
]
RateOption = Annotated[float | None, typer.Option("--learning-rate", help="Of a set: peak; default: searched for.")]
MinutesOption = Annotated[
    float | None, typer.Option("--minutes", help="What all may take. Default: 5 from a session, 30 from a set.")
]
StepsOption = Annotated[int | None, typer.Option("--steps", help="Steps of each network, whatever time they take.")]
WeightsOption = Annotated[
    str | None, typer.Option("--weights", help="Weights to begin with: a built-in name, or a path.")
]
CardOption = Annotated[
    Path | None, typer.Option("--card", help="Of a set: YAML of what the task's card says (see the how-to).")
]
LicenceOption = Annotated[
    str | None, typer.Option("--licence", help="Licence of the task, for its card; default: as the images.")
]
NameOption = Annotated[
    str | None, typer.Option("--name", help="Name of the task; default: the structure's, or the set's.")
]


def adapt(
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the task; must not exist or be empty.", show_default=False)
    ],
    data: Annotated[
        Path | None, typer.Option("--data", help="Labelled set: nnU-Net, Decathlon, MedMNIST, CSV, or folders.")
    ] = None,
    from_session: Annotated[
        Path | None, typer.Option("--from-session", help="Folder that a session was saved into.")
    ] = None,
    pairs: PairsOption = None,
    config: ConfigOption = None,
    blind: BlindOption = True,
    resume: ResumeOption = False,
    until: UntilOption = None,
    name: NameOption = None,
    minutes: MinutesOption = None,
    steps: StepsOption = None,
    weights: WeightsOption = None,
    method: Annotated[str, typer.Option("--method", help="Of a set: full, probe, lora, dora or linear.")] = "full",
    folds: Annotated[int, typer.Option("--folds", help="Of a set: networks, each held to cases it never saw.")] = 5,
    labelled: LabelledOption = None,
    learning_rate: RateOption = None,
    batch: Annotated[int | None, typer.Option("--batch", help="Of a set: images or windows of a step.")] = None,
    work: WorkOption = None,
    threads: Annotated[int, typer.Option("--threads", help="Of a set: threads of each network.")] = 1,
    device: DeviceOption = "auto",
    network: NetworkOption = None,
    flip: FlipOption = "auto",
    sets: SetsOption = "auto",
    groups: GroupsOption = None,
    promise_by: PromiseByOption = None,
    clinical: ClinicalOption = None,
    cases: CasesOption = True,
    accept_other_weights: Annotated[
        bool, typer.Option("--accept-other-weights", help="Learn from a session made with other weights.")
    ] = False,
    licence: LicenceOption = None,
    card: CardOption = None,
    seed: Annotated[
        int | None, typer.Option("--seed", help="Seed of everything random; default 0, of pairs the configuration's.")
    ] = None,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Learn a task: from a labelled set, confirmed cases of a session, or images with words; with held-out figures."""
    from isocenter.core.errors import ConfigError

    if sum(given is not None for given in (data, from_session, pairs or config)) != 1:
        raise ConfigError("give --data SET, --from-session SESSION, or --pairs TABLE and --config FILE; one of them")
    if data is None and (network is not None or device != "auto"):
        raise ConfigError("--network and --device are of a labelled set: give --data SET")
    if pairs is not None or config is not None:
        set_there = (minutes, weights, labelled, learning_rate, batch, work, groups, promise_by, card, clinical)
        if overwrite or any(value is not None for value in set_there):
            raise ConfigError("of pairs, how to learn is said in the --config; a run is gone on with by --resume")
        of_pairs = {"name": name, "steps": steps, "licence": licence, "seed": seed, "until": until, "config": config}
        _adapt_pairs(out, pairs, {**of_pairs, "blind": blind, "resume": resume}, as_json=as_json)
        return
    if resume or until is not None:
        raise ConfigError("--resume and --until are of pairs; a set goes on from its --work folder by itself")
    if data is None and (sets != "auto" or any(x is not None for x in (groups, promise_by, card))):
        raise ConfigError("--sets, --groups, --promise-by and --card are of a labelled set: give --data SET")
    if network is not None and (work is None or steps is None):
        raise ConfigError("--network needs --work FOLDER and --steps N")
    common = {"name": name, "minutes": minutes, "steps": steps, "licence": licence, "seed": seed or 0}
    given: dict[str, Any] = {key: value for key, value in common.items() if value is not None}
    given["overwrite"] = overwrite
    if data is not None:
        given |= {"weights": weights, "method": method, "folds": folds, "labelled": labelled, "work": work}
        given |= {"learning_rate": learning_rate, "batch": batch, "cases": cases, "clinical": clinical}
        given |= {"sets": sets, "groups": groups, "promise_by": promise_by}
        given |= {"mirror": flip, "threads": threads, "device": device}
        _adapt_set(data, out, given, card, network, as_json=as_json)
        return
    if from_session is not None:
        given |= {"flip": flip, "accept_other_weights": accept_other_weights}
        given |= {} if weights is None else {"plane_weights": weights}
        _adapt_session(from_session, out, given, as_json=as_json)


def _adapt_session(session: Path, out: Path, given: dict[str, Any], *, as_json: bool) -> None:
    from isocenter.verbs.adapt import adapt as verb

    with progress(lines=True) as tell:
        done = verb(session, out, progress=tell, **given)
    say_out(done.model_dump_json(indent=2) if as_json else "\n".join(_adapted_lines(done)))


def _adapt_set(
    data: Path, out: Path, given: dict[str, Any], card: Path | None, network: int | None, *, as_json: bool
) -> None:
    from isocenter.verbs.adapt_data import adapt_data, learn_network, read_card_file

    given = {**({} if card is None else read_card_file(card)), **given}
    with progress(lines=True) as tell:
        if network is None:
            done = adapt_data(data, out, progress=tell, **given)
            say_out(done.model_dump_json(indent=2) if as_json else "\n".join(_adapted_lines(done)))
            return
        taken = learn_network(data, out, network, progress=tell, **given)
    said = f"network {network}: learnt, {taken} steps; the same command without --network gathers all of them"
    say_out(json.dumps({"network": network, "steps": taken}) if as_json else said)


def _adapt_pairs(out: Path, pairs: Path | None, settings: dict[str, Any], *, as_json: bool) -> None:
    from isocenter.verbs.adapt_pairs import adapt_pairs

    with progress(lines=True) as tell:
        done = adapt_pairs(out, pairs, progress=tell, **settings)
    say_out(done.model_dump_json(indent=2) if as_json else "\n".join(done.lines()))


def _adapted_lines(done: AdaptResult | AdaptDataResult) -> list[str]:
    from isocenter.verbs.adapt import AdaptResult

    use = f"use it: isocenter read STUDY --out RESULT --task {done.folder}"
    if isinstance(done, AdaptResult):
        figures = f"{done.dice:.3f} ({done.low:.3f} to {done.high:.3f}, {done.level:.0%})"
        before = f"{done.dice_before:.3f} before adapting"
        return [f"{done.task}: held-out Dice {figures}, {done.cases} cases; {before}", use]
    lines = [f"{done.task}: {done.cases} cases, {done.networks} networks of {done.steps} steps; held out:"]
    for figure in done.figures:
        known = figure.low is not None and figure.high is not None
        interval = f" ({figure.low:.3f} to {figure.high:.3f}, 95%)" if known else ""
        lines.append(f"  {figure.name} of {figure.structure}: {figure.value:.3f}{interval}, {figure.count} patients")
    lines += [*done.notes, *(f"  left out: {case}: {reason}" for case, reason in done.left_out.items())]
    return [*lines, use]
