"""The commands of archives: `isocenter ingest`, `isocenter find` and `isocenter shards`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isocenter.terminal import Exit, out, progress, say

if TYPE_CHECKING:
    import pyarrow as pa

    from isocenter.verbs.ingest import IngestDocument

__all__ = ["find", "ingest", "shards"]

ArchiveOption = Annotated[
    Path, typer.Option("--archive", help="Folder of the archive.", show_default=False, readable=False)
]
DespiteOption = Annotated[
    bool, typer.Option("--despite-leaks", help="You have looked at the leak report, and export all the same.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")]


def ingest(
    sources: Annotated[
        list[str],
        typer.Argument(
            help="Folders, files, zips, addresses (s3://...) or servers: 'dicomweb+https://HOST/PATH?PatientID=...', "
            "'dicom://OWN:THEIRS@HOST:PORT?method=get&StudyDate=...' (method=move&listen=PORT for C-MOVE). "
            "NAME=SOURCE says whose identifiers are in it. Passwords: docs/how-to/archive.md.",
            show_default=False,
        ),
    ],
    to: Annotated[Path, typer.Option("--to", help="Folder of the archive.", show_default=False, readable=False)],
    pixels: Annotated[
        bool, typer.Option("--pixels/--headers-only", help="Copy images, de-identified; or leave them where they are.")
    ] = True,
    dates: Annotated[
        str, typer.Option("--dates", help="'shifted' by patient, 'full' (identifying), or 'none'.")
    ] = "shifted",
    retain_device: Annotated[
        bool, typer.Option("--retain-device", help="Keep serial numbers and station names.")
    ] = False,
    retain_institution: Annotated[
        bool, typer.Option("--retain-institution", help="Keep names of institutions.")
    ] = False,
    retain_safe_private: Annotated[
        bool, typer.Option("--retain-safe-private", help="Keep private elements that the standard lists as safe.")
    ] = False,
    clean_pixels: Annotated[
        bool, typer.Option("--clean-pixels", help="Find burnt-in text and blank it (needs tesseract).")
    ] = False,
    deface: Annotated[
        bool,
        typer.Option("--deface", help="Remove faces from head CT and MR; leave out what may show one and can't be."),
    ] = False,
    identified: Annotated[
        bool, typer.Option("--identified", help="De-identify nothing: the archive holds identified data.")
    ] = False,
    workers: Annotated[int, typer.Option("--workers", min=0, help="Processes; 0: one a core.")] = 0,
    engine: Annotated[str, typer.Option("--engine", help="local, or ray.")] = "local",
    memory: Annotated[int, typer.Option("--memory", min=128, help="MB of the database that writes the catalog.")] = 256,
    as_json: JsonOption = False,
) -> None:
    """Take images, reports and records of every kind into one archive: de-identified, joined, catalogued."""
    from isocenter.verbs.ingest import ingest as verb

    with progress(lines=True) as tell:
        done = verb(
            sources, to, progress=tell, pixels=pixels, dates=dates, retain_device=retain_device,
            retain_institution=retain_institution, retain_safe_private=retain_safe_private, clean_pixels=clean_pixels,
            deface=deface, identified=identified, workers=workers, engine=engine, memory_mb=memory,
        )  # fmt: skip
    if as_json:
        out(done.model_dump_json(indent=2))
    else:
        out("\n".join(_lines(done)))
    if not done.clean:
        say(
            f"{done.refused} refused, {done.conflicts} held back, {done.doubtful} doubtful, {done.lost} lost; "
            f"the list is in {to / 'private' / 'problems.parquet'}"
        )
        raise typer.Exit(Exit.INPUT)


def _lines(done: IngestDocument) -> list[str]:
    lines = [f"{done.listed} files, {done.known} known before, {done.taken} taken in"]
    lines.append(", ".join(f"{t.rows} {name}" for name, t in done.tables.items() if t.rows))
    lines[1:1] = [
        f"{s.server}: {s.studies} studies, {s.fetched} instances fetched, {s.present} there before, {s.missing} missing"
        + (f" (listed in {s.missing_list})" if s.missing_list else "")
        for s in done.servers
    ]
    lines += [f"{t.kind}: {t.count} x {t.reason} (first: {t.first})" for t in done.troubles]
    if done.lost:
        lines.append(f"lost: {done.lost} (first: {done.lost_first}); run again")
    if done.anonymity is not None:
        told = done.anonymity
        lines.append(
            f"k-anonymity over {', '.join(told.columns)}: k = {told.smallest}; {told.small_share:.0%} of "
            f"{told.patients} patients are in classes of fewer than five, {told.unique_share:.0%} are alone"
        )
    leaks = done.leaks
    lines.append(
        f"removed or changed: {leaks.removed} values, {sum(leaks.replaced.values())} places in texts, {leaks.boxes} "
        f"boxes of burnt-in text, {leaks.faces} images with a part of a face"
    )
    lines += [f"not de-identified: {line}" for line in leaks.not_done]
    lines.append(
        f"leak report: {'nothing suspicious is left' if leaks.safe else 'exports stop: ' + '; '.join(leaks.why_not)}: "
        f"{leaks.page}"
    )
    lines += [f"note: {note}" for note in done.notes]
    return [*lines, f"archive: {done.archive}", f"catalog: {done.catalog_hash}"]


def find(
    expression: Annotated[
        str, typer.Argument(help="As after WHERE in SQL; '' for all; with --sql, a SELECT.", show_default=False)
    ],
    archive: ArchiveOption,
    level: Annotated[
        str, typer.Option("--level", help="series, studies, patients, instances, reports or records.")
    ] = "series",
    sql: Annotated[bool, typer.Option("--sql", help="The expression is a SELECT of its own.")] = False,
    columns: Annotated[
        list[str] | None, typer.Option("--column", help="Column to print; may be repeated; default: some.")
    ] = None,
    limit: Annotated[int | None, typer.Option("--limit", min=1, help="At most so many rows.")] = None,
    count: Annotated[bool, typer.Option("--count", help="Print the number of rows alone.")] = False,
    held: Annotated[bool, typer.Option("--held", help="Rows that are held back, too.")] = False,
    cohort: Annotated[
        str, typer.Option("--cohort", help="NAME, NAME-vN or NAME:PART: nothing beyond it.", show_default=False)
    ] = "",
    like: Annotated[
        str,
        typer.Option("--like", help="Series UID, file or text: what is most like it first.", show_default=False),
    ] = "",
    out_file: Annotated[
        Path | None, typer.Option("--out", help="Write all columns to .csv or .parquet.", readable=False)
    ] = None,
    identified: Annotated[
        bool, typer.Option("--identified", help="Also write rows of an archive in which nothing was de-identified.")
    ] = False,
    despite_leaks: DespiteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Find series, studies, patients or reports in an archive."""
    from isocenter.core.errors import ConfigError
    from isocenter.verbs.find import ask_sql, write_rows
    from isocenter.verbs.find import find as verb
    from isocenter.verbs.leaks import require_safe

    if out_file is not None:
        require_safe(archive, identified=identified, despite_leaks=despite_leaks)
    if sql:
        if level != "series" or limit is not None or held or like:
            raise ConfigError("SQL says itself what it returns: leave out the level, the limit, held rows and likeness")
        rows = ask_sql(expression, archive, cohort=cohort)
    else:
        with progress() as tell:
            rows = verb(
                expression, archive, level=level, limit=limit, held=held, cohort=cohort, like=like, progress=tell
            )
    if out_file is not None:
        write_rows(rows, out_file)
        out(f"{rows.num_rows} rows: {out_file}")
    elif count:
        out(str(rows.num_rows))
    elif as_json:
        out(json.dumps(rows.to_pylist(), default=str, indent=2))
    else:
        out(_table(rows, columns))
    if not rows.num_rows:
        raise typer.Exit(Exit.NOTHING_ANSWERED)


_SHOWN = [
    "likeness",
    "patient_key",
    "study_uid",
    "series_uid",
    "modality",
    "body_part",
    "study_date",
    "series_description",
    "slice_thickness_mm",
    "instances",
    "rows",
    "columns",
    "studies",
    "reports",
    "records",
    "title",
    "status",
    "kind",
    "code",
    "number",
    "unit",
    "text",
    "date",
    "time",
]
_WIDTH = 36


def _table(rows: pa.Table, columns: list[str] | None) -> str:
    from isocenter.core.errors import ConfigError

    for name in columns or ():
        if name not in rows.column_names:
            raise ConfigError(f"no column {name!r}; there are {', '.join(rows.column_names)}")
    shown = columns or [n for n in rows.column_names if n in _SHOWN] or rows.column_names
    lines = ["\t".join(shown)]
    for row in rows.select(shown).to_pylist():
        cells = ("" if v is None else " ".join(str(v).split()) for v in row.values())
        # Columns that were asked for by name are for other programs: whole.
        lines.append("\t".join(c if columns or len(c) <= _WIDTH else c[: _WIDTH - 1] + "…" for c in cells))
    return "\n".join(lines)


def shards(
    to: Annotated[Path, typer.Option("--to", help="Folder of the shards.", show_default=False, readable=False)],
    archive: ArchiveOption,
    expression: Annotated[str, typer.Argument(help="As for find; default: all images.")] = "",
    mask: Annotated[
        str, typer.Option("--mask", help="Name of the masks beside the images, where there are several.")
    ] = "",
    patch: Annotated[
        str | None, typer.Option("--patch", help="Size that will mostly be read, e.g. 96x96x96 or 1x256x256.")
    ] = None,
    identified: Annotated[
        bool, typer.Option("--identified", help="Also of an archive in which nothing was de-identified.")
    ] = False,
    form: Annotated[
        str, typer.Option("--form", help="shards, ome-zarr (0.5, Zarr 3) or ome-zarr-0.4 (Zarr 2).")
    ] = "shards",
    despite_leaks: DespiteOption = False,
    as_json: JsonOption = False,
) -> None:
    """Write images of an archive as shards, made for reading random patches while training; or as OME-Zarr."""
    from isocenter.core.errors import ConfigError
    from isocenter.verbs.shards import make_shards

    sides = (patch or "").split("x")
    if patch is not None and (len(sides) != 3 or not all(side.isdecimal() for side in sides)):
        raise ConfigError(f"--patch: three sides with an x between them, like 96x96x96, not {patch!r}")
    with progress(lines=True) as tell:
        done = make_shards(
            archive, to, progress=tell, expression=expression, mask=mask, identified=identified,
            despite_leaks=despite_leaks, form=form, patch=None if patch is None else tuple(map(int, sides)),
        )  # fmt: skip
    if as_json:
        out(done.model_dump_json(indent=2))
    else:
        what = "shards" if form == "shards" else "images"
        out(f"{len(done.written)} {what} written, {len(done.kept)} were there, {len(done.refused)} refused: {to}")
    if done.refused:
        say("; ".join(f"{name}: {reason}" for name, reason in done.refused[:5]))
        raise typer.Exit(Exit.INPUT)
