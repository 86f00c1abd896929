"""The command line: verbs become commands, errors become one line and an exit code.

Exit codes are documented in ``docs/reference/exit-codes.md``. Everything heavy is imported inside a command, so that
``isocenter --help`` stays quick. With ``--json``, standard output carries one JSON document and nothing else; progress
and messages go to standard error.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from isocenter.cli_adapt import adapt as adapt_command
from isocenter.cli_archive import find as find_command
from isocenter.cli_archive import ingest as ingest_command
from isocenter.cli_archive import shards as shards_command
from isocenter.cli_ask import ask as ask_command
from isocenter.cli_ask import mcp as mcp_command
from isocenter.cli_audit import app as audit_app
from isocenter.cli_catalog import cohort as cohort_command
from isocenter.cli_catalog import describe as describe_command
from isocenter.cli_catalog import duplicates as duplicates_command
from isocenter.cli_catalog import leaks as leaks_command
from isocenter.cli_clinic import app as clinic_app
from isocenter.cli_diagnose import diagnose as diagnose_command
from isocenter.cli_evaluate import check, evaluate
from isocenter.cli_label import label as label_command
from isocenter.cli_labels import app as labels_app
from isocenter.cli_models import app as models_app
from isocenter.cli_phenotype import phenotype as phenotype_command
from isocenter.cli_pretrain import plan as plan_command
from isocenter.cli_pretrain import pretrain as pretrain_command
from isocenter.cli_prognose import prognose as prognose_command
from isocenter.cli_report import report as report_command
from isocenter.cli_serve import serve as serve_command
from isocenter.cli_treat import treat as treat_command
from isocenter.terminal import Exit
from isocenter.terminal import out as _out
from isocenter.terminal import progress as _progress
from isocenter.terminal import say as _say
from isocenter.version import __version__

if TYPE_CHECKING:
    from isocenter.core.errors import IsocenterError
    from isocenter.verbs.result import PredictionEntry, ResultDocument

__all__ = ["Exit", "app", "main"]


_STOPPED = "stopped; nothing half-written is left"
"""True whenever the signal arrived: a result that had its name by then is whole."""

app = typer.Typer(
    name="isocenter",
    help="Read a medical imaging study: measured, proven, explained. For research; not a medical device.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyPath = Annotated[
    Path, typer.Argument(help="File, folder, zip or DICOMDIR of one study.", show_default=False, readable=False)
]
PromptOption = Annotated[
    Path | None,
    typer.Option("--prompt", help="Prompt file (JSON): where to look, and for what.", readable=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]
IrregularOption = Annotated[
    str,
    typer.Option("--on-irregular", help="Irregular, tilted or incomplete series: 'raise', or 'resample' them."),
]
ModalityOption = Annotated[
    str | None, typer.Option("--modality", help="Modality of images whose file says none, e.g. MR.")
]
BodyPartOption = Annotated[
    str | None, typer.Option("--body-part", help="Body part of images whose file says none, e.g. BRAIN.")
]
SeedOption = Annotated[int, typer.Option("--seed", help="Seed of everything random.")]
ReaderOption = Annotated[str, typer.Option("--reader", help="Plug-in that reads the path.")]
AuditOption = Annotated[
    Path | None, typer.Option("--audit", envvar="ISOCENTER_AUDIT", help="Append a line to this record of what was run.")
]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an older result.")]


@app.command()
def read(
    path: StudyPath,
    out: Annotated[
        Path,
        typer.Option("--out", help="Folder to write; must not exist or be empty.", show_default=False, readable=False),
    ],
    task: Annotated[
        list[str] | None,
        typer.Option(
            "--task", help="Run only this task (or adapted folder); may be repeated. Default: every one that fits."
        ),
    ] = None,
    prompt: PromptOption = None,
    rtstruct: Annotated[bool, typer.Option("--rtstruct", help="Write DICOM RTSTRUCT too.")] = False,
    air: Annotated[bool, typer.Option("--air", help="Write a whole DICOM result set (IHE AI Results).")] = False,
    evidence: Annotated[bool, typer.Option("--evidence", help="Say why, as isocenter diagnose does.")] = False,
    on_irregular: IrregularOption = "raise",
    modality: ModalityOption = None,
    body_part: BodyPartOption = None,
    reader: ReaderOption = "images",
    audit: AuditOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Read one study: inspect it, run every task that fits, measure, write the result and its page."""
    from isocenter.verbs.read import read as verb

    with _progress() as tell:
        result = verb(
            path,
            out,
            progress=tell,
            tasks=tuple(task) if task else "auto",
            prompts=prompt,
            rtstruct=rtstruct,
            air={} if air else None,
            evidence=evidence,
            on_irregular=on_irregular,
            modality=modality,
            body_part=body_part,
            reader=reader,
            audit=audit,
            seed=seed,
            overwrite=overwrite,
        )
    if as_json:
        _out(result.to_json())
    else:
        _show_result(result, out)
    if not result.answered:
        _say(f"nothing was answered: every task abstained; the reasons are in {out / 'report.html'}")
        raise typer.Exit(Exit.NOTHING_ANSWERED)


@app.command()
def segment(
    path: StudyPath,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            help="File: .nii.gz, .nii, .nrrd, .mha, .dcm (SEG) or .rtstruct.dcm",
            show_default=False,
            readable=False,
        ),
    ],
    task: Annotated[
        str | None, typer.Option("--task", help="Task, or adapted folder; by default the interactive one.")
    ] = None,
    prompt: PromptOption = None,
    image: Annotated[int | None, typer.Option("--image", help="Which image of the study, from 0.")] = None,
    on_irregular: IrregularOption = "raise",
    modality: ModalityOption = None,
    body_part: BodyPartOption = None,
    reader: ReaderOption = "images",
    audit: AuditOption = None,
    seed: SeedOption = 0,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Segment one image with one task into one file."""
    from isocenter.verbs.segment import segment as verb

    with _progress() as tell:
        answer = verb(
            path,
            out,
            progress=tell,
            task=task,
            prompts=prompt,
            image=image,
            on_irregular=on_irregular,
            modality=modality,
            body_part=body_part,
            reader=reader,
            audit=audit,
            seed=seed,
            overwrite=overwrite,
        )
    if as_json:
        _out(answer.model_dump_json(indent=2))
    elif answer.abstained is None:
        _out("\n".join([*_answer_lines(answer), f"wrote {out}"]))
    if answer.abstained is not None:
        _say(f"task {answer.task!r} abstained: {answer.abstained}")
        raise typer.Exit(Exit.NOTHING_ANSWERED)


app.command()(pretrain_command)
app.command()(plan_command)


class _TrainsByDefault(typer.core.TyperGroup):
    """A group whose first word may be a configuration: `align CONFIG` is `align train CONFIG`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["train", *args]
        return super().parse_args(ctx, args)


align = typer.Typer(cls=_TrainsByDefault, no_args_is_help=True, rich_markup_mode=None)
app.add_typer(
    align, name="align", help="Join image and language: `align CONFIG` trains; classify and retrieve by words."
)
AlignedWeights = Annotated[
    Path, typer.Argument(help="Folder of a run of align, or its .safetensors file.", show_default=False)
]


@align.command("train")
def align_train(
    config: Annotated[Path, typer.Argument(help="YAML file with every setting; see configs/.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", help="Folder of the run; must not exist or be empty.", show_default=False)
    ],
    data: Annotated[Path | None, typer.Option("--data", help="Folder of the table and the pictures.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the run's checkpoint, exactly.")] = False,
    until: Annotated[int | None, typer.Option("--until", help="Stop at this step; --resume goes on.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Learn from pairs of images and reports; `isocenter align CONFIG` is the same."""
    from isocenter.verbs.align import align as verb

    with _progress(lines=True) as tell:
        done = verb(config, out, progress=tell, data=data, resume=resume, until=until)
    _out(done.model_dump_json(indent=2) if as_json else "\n".join(done.lines()))


@align.command("classify")
def align_classify(
    weights: AlignedWeights,
    images: Annotated[list[Path], typer.Argument(help="Pictures, the patient's left at the right edge.")],
    finding: Annotated[list[str], typer.Option("--finding", help="A finding in words; may be repeated.")],
    audit: AuditOption = None,
    as_json: JsonOption = False,
) -> None:
    """Rank pictures by findings that are told in words; nothing is trained."""
    from isocenter.verbs.align import classify as verb

    found = verb(weights, images, finding, audit=audit)
    _out(found.model_dump_json(indent=2) if as_json else "\n".join(found.lines()))


@align.command("retrieve")
def align_retrieve(
    weights: AlignedWeights,
    table: Annotated[Path, typer.Argument(help="CSV with the columns image and report.", show_default=False)],
    text: Annotated[str | None, typer.Option("--text", help="Words: find the pictures that fit best.")] = None,
    image: Annotated[Path | None, typer.Option("--image", help="Picture: find the reports that fit best.")] = None,
    top: Annotated[int, typer.Option("--top", help="How many.")] = 5,
    patient: Annotated[str | None, typer.Option("--patient", help="Column of the patient, for intervals.")] = None,
    audit: AuditOption = None,
    as_json: JsonOption = False,
) -> None:
    """Find pictures by words or reports by a picture; without a query, measure how well that works."""
    from isocenter.verbs.align import retrieve as verb

    found = verb(weights, table, text=text, image=image, top=top, patient_column=patient, audit=audit)
    _out(found.model_dump_json(indent=2) if as_json else "\n".join(found.lines()))


app.command()(adapt_command)


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="Folder to write.", readable=False)] = Path("isocenter-demo"),
    open_page: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in a browser at the end.")] = True,
    as_json: JsonOption = False,
) -> None:
    """Read the real images that come inside the dependencies, with prepared prompts, and show the page."""
    from isocenter.verbs.demo import demo as verb

    with _progress() as tell:
        done = verb(out, open_page=open_page, progress=tell)
    if as_json:
        _out(done.model_dump_json(indent=2))
        return
    lines = [f"{case.name}: {case.title}: {case.outcome}" for case in done.cases]
    _out("\n".join([*lines, f"page: {done.page}"]))


@app.command()
def plugins(as_json: JsonOption = False) -> None:
    """List what is installed: tasks, readers, metrics; origin, licence, and what is missing."""
    from isocenter.verbs.plugins import plugins as verb

    found = verb()
    if as_json:
        _out(found.model_dump_json(indent=2))
        return
    lines = []
    for group, purpose in found.groups.items():
        lines.append(f"{group} ({purpose})")
        for p in found.plugins:
            if p.group != group:
                continue
            lines.append(f"  {p.name}: {p.origin}; licence {p.licence or 'not stated'}")
            lines += [f"      takes {p.fits}"] if p.fits else []
            lines += [f"      missing: {', '.join(p.missing)}"] if p.missing else []
            lines += [f"      BROKEN: {p.problem}"] if p.problem else []
    _out("\n".join(lines))


app.command()(evaluate)
app.command()(check)
app.command()(label_command)
app.command("ingest")(ingest_command)
app.command("find")(find_command)
app.command("cohort")(cohort_command)
app.command("duplicates")(duplicates_command)
app.command("describe")(describe_command)
app.command("leaks")(leaks_command)
app.command("shards")(shards_command)
app.command("diagnose")(diagnose_command)
app.command("phenotype")(phenotype_command)
app.command("treat")(treat_command)
app.command("serve")(serve_command)
app.command("prognose")(prognose_command)
app.command()(report_command)
app.command()(ask_command)
app.command()(mcp_command)
app.add_typer(labels_app, name="labels")
app.add_typer(models_app, name="models")
app.add_typer(audit_app, name="audit")
app.add_typer(clinic_app, name="clinic")


@app.command()
def version(as_json: JsonOption = False) -> None:
    """Print the version, and those of the packages that touch pixels or geometry."""
    from isocenter.verbs.provenance import package_versions, python_version

    packages = package_versions()
    if as_json:
        import json

        _out(json.dumps({"isocenter": __version__, "python": python_version(), "packages": packages}, indent=2))
        return
    _out("\n".join([f"isocenter {__version__}", python_version(), *(f"{n} {v}" for n, v in packages.items())]))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave the process with a documented exit code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run a command; return its exit code. Errors of ours become one line on standard error."""
    signal.signal(signal.SIGTERM, _terminated)
    # Libraries put header values into their warnings and logs ("invalid value for VR DA: ..."): none is shown.
    logging.getLogger().addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings():
            if os.environ.get("ISOCENTER_DEBUG") != "1":
                warnings.simplefilter("ignore")
            _add_plugin_commands(arguments)
            code = app(args=arguments, prog_name="isocenter", standalone_mode=False)
    except KeyboardInterrupt:
        _say(_STOPPED)
        return Exit.INTERRUPTED
    except MemoryError:
        _say("out of memory; nothing half-written is left. Read fewer series, or use a machine with more memory")
        return Exit.INPUT
    except Exception as error:  # noqa: BLE001  # the last boundary: whatever happens becomes one line and a code
        return _failed(error)
    if code == Exit.INTERRUPTED:  # Typer turns Ctrl-C into this code, without a word
        _say(_STOPPED)
    return int(code) if isinstance(code, int) else Exit.OK


def exit_code(error: IsocenterError) -> Exit:
    """Return the exit code of an error.

    Example:
        >>> from isocenter.core.errors import ConfigError, DataError
        >>> exit_code(ConfigError("x")), exit_code(DataError("x"))
        (<Exit.USAGE: 2>, <Exit.INPUT: 3>)
    """
    from isocenter.core.errors import ConfigError, DataError, ModelError, OutputError, PluginError

    if isinstance(error, ConfigError):
        return Exit.USAGE
    if isinstance(error, DataError):
        return Exit.OUTPUT if isinstance(error, OutputError) else Exit.INPUT
    if isinstance(error, ModelError | PluginError):
        return Exit.MODEL
    return Exit.DEFECT


def _failed(error: Exception) -> int:
    """Turn an error into one line and an exit code: ours, the command line's own, and defects."""
    from isocenter.core.defects import arose_at  # not at the top: core imports numpy, and --help shall be quick
    from isocenter.core.errors import IsocenterError

    if hasattr(error, "exit_code") and callable(getattr(error, "show", None)):
        return _misused(error)
    if os.environ.get("ISOCENTER_DEBUG") == "1":
        raise error
    if isinstance(error, IsocenterError):
        _say(str(error))
        return exit_code(error)
    if type(error).__name__ == "Abort":
        _say(_STOPPED)
        return Exit.INTERRUPTED
    # Its text may hold anything, a header's value too, so only its type and place are shown.
    place = f" ({found})" if (found := arose_at(error)) else ""
    _say(
        f"{type(error).__name__}{place}: a defect of Isocenter, please report it; ISOCENTER_DEBUG=1 shows more. "
        "Nothing half-written is left"
    )
    return Exit.DEFECT


def _misused(error: Any) -> int:
    """Turn an error of the command line's own parser into one line; without any arguments it shows the help."""
    if type(error).__name__ == "NoArgsIsHelpError":
        error.show()
    else:
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "isocenter"
        _say(f"{error.format_message().rstrip('.')}; see {command} --help")
    return int(error.exit_code)


def _terminated(_signal: int, _frame: object) -> None:
    _say(_STOPPED)
    raise SystemExit(Exit.TERMINATED)


def _add_plugin_commands(arguments: list[str]) -> None:
    """Add the commands of other packages; ours are never replaced."""
    from importlib.metadata import entry_points

    if not entry_points(group="isocenter.commands"):
        return
    from isocenter.core.errors import PluginError
    from isocenter.plugins import find, load

    for name in find("isocenter.commands"):
        ours = {command.name or getattr(command.callback, "__name__", "") for command in app.registered_commands}
        if name in ours | {group.name for group in app.registered_groups}:
            raise PluginError(f"the plug-in command {name!r} clashes with a command of Isocenter; uninstall it")
        try:
            command = load("isocenter.commands", name)
        except PluginError as error:
            if name in arguments[:1]:
                raise
            _say(str(error))
            continue
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        elif callable(command):
            app.command(name)(command)


def _show_result(result: ResultDocument, out: Path) -> None:
    from isocenter.verbs.provenance import left_out_here

    lines = []
    for image in result.images:
        z, y, x = image.geometry.shape_zyx
        spacing = image.geometry.spacing_mm
        place = "spacing unknown" if spacing is None else " x ".join(f"{s:g}" for s in spacing) + " mm"
        poor = [q.check for q in image.quality if q.status in ("warning", "fail")]
        hint = f"; look at: {', '.join(poor)}" if poor else ""
        what = f"{image.modality or 'modality unknown'} {image.body_part}".strip()
        lines.append(f"image {image.index}: {what}, {z} x {y} x {x}, {place}{hint}")
    for answer in result.predictions:
        if answer.abstained is None:
            lines += _answer_lines(answer)
    abstained = sum(p.abstained is not None for p in result.predictions)
    lines.append(f"{len(result.answered)} answers, {abstained} abstentions with their reasons: {out / 'report.html'}")
    lines += [f"{item.kind}: {item.where}: {item.reason}" for item in left_out_here(out) if item.kind == "refused"]
    _out("\n".join(lines))


def _answer_lines(answer: PredictionEntry) -> list[str]:
    lines = [f"{answer.task}, image {answer.image}:"]
    for segment_ in answer.segments:
        sizes = [
            f"{m.name.meaning} {m.value:.4g} {m.unit.value}"
            for m in answer.measurements
            if m.segment == segment_.number and m.derivation is None
        ]
        lines.append(f"  {segment_.label}: {', '.join(sizes) or 'no measurement'}")
    if not answer.segments:
        lines += [f"  {m.name.meaning}: {m.value:.4g} {m.unit.value.removeprefix('1')}" for m in answer.measurements]
    return lines


if __name__ == "__main__":
    main()
