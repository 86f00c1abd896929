"""The commands of `isocenter labels`: confirmed masks and labelled sets for trainings, and how far readers agree."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isocenter.terminal import out, progress, say

if TYPE_CHECKING:
    from isocenter.verbs.labels import LabelsDocument

__all__ = ["app"]

app = typer.Typer(
    help="Labels of people: export confirmed masks, convert labelled sets, say how far readers agree.",
    no_args_is_help=True,
    rich_markup_mode=None,
)
SourceArgument = Annotated[
    Path, typer.Argument(help="Archive, or folder of studies, as it is served.", show_default=False, readable=False)
]
ToOption = Annotated[
    Path, typer.Option("--to", help="Folder to write; must not exist or be empty.", show_default=False, readable=False)
]
FormOption = Annotated[
    str,
    typer.Option("--form", help="folders, nnunet, decathlon, coco, bids, seg or shards.", show_default=False),
]
WorkOption = Annotated[
    Path | None,
    typer.Option("--work", help="Folder of what people made; default: where isocenter serve puts it.", readable=False),
]
SuffixOption = Annotated[str, typer.Option("--suffix", help="Contrast in BIDS names: T1w, T2w, FLAIR, ...")]
LicenceOption = Annotated[str, typer.Option("--licence", help="Licence of the set.")]
OverwriteOption = Annotated[bool, typer.Option("--overwrite", help="Replace an older export.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]


@app.command()
def export(
    source: SourceArgument,
    form: FormOption,
    to: ToOption,
    work: WorkOption = None,
    label: Annotated[
        list[str] | None, typer.Option("--label", help="Only this label; may be repeated. Default: all.")
    ] = None,
    choose: Annotated[
        str, typer.Option("--choose", help="Of several readers' masks: latest, majority, or reader:NAME.")
    ] = "latest",
    parts: Annotated[
        str, typer.Option("--parts", help="Parts by patient, e.g. train=0.8,validation=0.1,test=0.1.")
    ] = "",
    suffix: SuffixOption = "",
    licence: LicenceOption = "",
    identified: Annotated[
        bool, typer.Option("--identified", help="Write DICOM Segmentations although headers may name the patient.")
    ] = False,
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write the masks that people confirmed, with their images, in the form of a training; every case is read back."""
    from isocenter.verbs.labels import export_labels

    with progress() as tell:
        found = export_labels(
            source, to, form=form, work=work, labels=tuple(label or ()), choose=choose, parts=parts, suffix=suffix,
            licence=licence, identified=identified, overwrite=overwrite, progress=tell,
        )  # fmt: skip
    _show(found, as_json=as_json)


@app.command()
def convert(
    labelled: Annotated[
        Path,
        typer.Argument(
            help="nnU-Net raw, Decathlon, COCO, or images/ and labels/.", show_default=False, readable=False
        ),
    ],
    form: FormOption,
    to: ToOption,
    suffix: SuffixOption = "",
    licence: LicenceOption = "",
    overwrite: OverwriteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write a labelled set in another form; names of cases and patients stay."""
    from isocenter.verbs.labels import convert_labels

    with progress() as tell:
        found = convert_labels(
            labelled, to, form=form, suffix=suffix, licence=licence, overwrite=overwrite, progress=tell
        )
    _show(found, as_json=as_json)


@app.command()
def agreement(
    source: SourceArgument,
    label: Annotated[str, typer.Option("--label", help="Which label.", show_default=False)],
    tolerance_mm: Annotated[
        float, typer.Option("--tolerance-mm", help="Surfaces this near count as the same (NSD).")
    ] = 2.0,
    work: WorkOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how far readers agree on a label: Dice and NSD of masks, kappa of classes, with 95 % intervals."""
    from isocenter.verbs.labels import label_agreement

    found = label_agreement(source, label, tolerance_mm=tolerance_mm, work=work)
    out(json.dumps(found, indent=2) if as_json else _agreement(found))


def _show(found: LabelsDocument, *, as_json: bool) -> None:
    if as_json:
        out(found.model_dump_json(indent=2))
        return
    parts = ", ".join(f"{count} {name}" for name, count in found.parts.items() if name)
    out(f"{len(found.cases)} cases as {found.form}{f' ({parts})' if parts else ''}: {found.folder}")
    for name, why in found.left_out[:10]:
        say(f"left out: {name}: {why}")
    if len(found.left_out) > 10:
        say(f"left out: {len(found.left_out) - 10} more; --json names all")
    for note in found.notes:
        say(note)


def _agreement(found: dict[str, Any]) -> str:
    lines = []
    for pair in found["pairs"]:
        what = f"{' and '.join(pair['readers'])}, {pair['images']} images of {pair['patients']} patients: "
        figures = [("Dice", pair.get("dice")), ("NSD", pair.get("nsd")), ("kappa", pair.get("kappa"))]
        if found["kind"] == "mask":
            figures[2] = ("kappa of presence", pair["presence"]["kappa"])
        lines.append(what + ", ".join(f"{name} {_figure(value)}" for name, value in figures if value is not None))
    for row in found["disagreements"][:5]:
        said = f"Dice {row['dice']:.3f}" if "dice" in row else " against ".join(row["answers"])
        lines.append(f"look at item {row['item']}: {said} ({' and '.join(row['readers'])})")
    return "\n".join(lines) or "no image has been labelled by two readers yet"


def _figure(value: dict[str, Any]) -> str:
    return f"{value['value']:.3f}" + ("" if value["low"] is None else f" ({value['low']:.3f} to {value['high']:.3f})")
