"""The commands that ask an archive: `isocenter cohort`, `duplicates`, `describe` and `leaks`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from isocenter.cli_archive import ArchiveOption, JsonOption
from isocenter.terminal import Exit, out, progress, say

if TYPE_CHECKING:
    from isocenter.verbs.cohort import CohortDocument
    from isocenter.verbs.leaks import LeaksDocument

__all__ = ["cohort", "describe", "duplicates", "leaks"]


def cohort(
    archive: ArchiveOption,
    name: Annotated[
        str, typer.Argument(help="Its name; NAME-vN for one version; left out: list all.", show_default=False)
    ] = "",
    expression: Annotated[
        str | None,
        typer.Argument(help="As for find; '' for all series; left out: show and check the cohort.", show_default=False),
    ] = None,
    split: Annotated[
        str,
        typer.Option("--split", help="train=0.7,validation=0.15,test=0.15; or source: as the set's makers had it."),
    ] = "",
    by: Annotated[
        str, typer.Option("--by", help="patient, or a column of series: who shares its value stands on one side.")
    ] = "patient",
    seed: Annotated[int, typer.Option("--seed", help="Key of the hash that decides.")] = 0,
    stratify: Annotated[
        str, typer.Option("--stratify", help="label, labels.NAME or a column: shares are kept for each value.")
    ] = "",
    look: Annotated[
        bool, typer.Option("--duplicates/--no-duplicates", help="Patients who share an image stand on one side.")
    ] = True,
    diff: Annotated[str, typer.Option("--diff", help="Another cohort to compare with.", show_default=False)] = "",
    as_json: JsonOption = False,
) -> None:
    """Name the series that an expression is true of, split by patient without leaks; list, show or compare."""
    from isocenter.core.errors import ConfigError
    from isocenter.verbs.cohort import cohort as verb
    from isocenter.verbs.cohort import cohorts, compare_cohorts, show_cohort

    if expression is None and (split or stratify or by != "patient"):
        raise ConfigError("give an expression with a split ('' for all series)")
    if not name:
        names = cohorts(archive)
        out(json.dumps(names, indent=2) if as_json else "\n".join(names) or "no cohorts")
        return
    if diff:
        if expression is not None:
            raise ConfigError("compare two cohorts that there are: leave out the expression")
        found = compare_cohorts(name, diff, archive)
        out(json.dumps(found, indent=2) if as_json else "\n".join(f"{k}: {v}" for k, v in found.items()))
        return
    if expression is None:
        made = show_cohort(name, archive)
    else:
        with progress() as tell:
            made = verb(name, expression, archive, split=split, by=by, seed=seed, stratify=stratify, duplicates=look,
                        progress=tell)  # fmt: skip
    out(made.model_dump_json(indent=2) if as_json else "\n".join(_cohort_lines(made)))


def _cohort_lines(made: CohortDocument) -> list[str]:
    new = ", new" if made.new else ""
    lines = [f"{made.name}-v{made.version}{new}: {made.series} series of {made.patients} patients"]
    lines += [f"{part}: {count} patients" for part, count in made.parts.items() if part]
    lines += [f"note: {note}" for note in made.notes]
    if not made.current:
        lines.append("note: the catalog has changed since it was made")
    return [*lines, f"sha256: {made.sha256}"]


def duplicates(
    archive: ArchiveOption,
    near: Annotated[bool, typer.Option("--near/--exact", help="Near duplicates, or equal pixels alone.")] = True,
    limit: Annotated[int, typer.Option("--limit", min=1, help="Groups to print.")] = 20,
    as_json: JsonOption = False,
) -> None:
    """List images that an archive holds twice, or nearly: across splits first, then across patients."""
    from isocenter.verbs.duplicates import duplicates as verb

    with progress() as tell:
        found = verb(archive, near=near, progress=tell)
    if as_json:
        out(found.model_dump_json(indent=2))
    else:
        for where in ("across splits", "across patients", "within a patient"):
            out(f"{where}: {sum(g.where == where for g in found.groups)} groups")
        for group in found.groups[:limit]:
            size = f"{len(group.series)} series of {len(group.patients)} patients"
            out(f"\n{group.where}, {size} {'; '.join(group.splits)}")
            for pair in group.pairs[:10]:
                how = "equal pixels" if pair.exact else f"{pair.distance} bits, correlation {pair.correlation:.3f}"
                out(f"  {pair.first}  {pair.second}  {how}")
        out(f"\n{found.looked_at} series compared, {found.flat} flat")
        for reason, count in found.unread.items():
            out(f"not read: {count} x {reason}")
    if not found.groups:
        raise typer.Exit(Exit.NOTHING_ANSWERED)


def describe(
    archive: Annotated[Path, typer.Argument(help="Folder of the archive.", show_default=False, readable=False)],
    page: Annotated[
        Path | None, typer.Option("--out", help="Write the page here.", show_default=False, readable=False)
    ] = None,
    against: Annotated[
        Path | None, typer.Option("--against", help="Another archive that drift is measured from.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what an archive holds and what of it should be looked at, as one page: counts, gaps, outliers, drift."""
    from isocenter.core.errors import ConfigError
    from isocenter.verbs.describe import describe as verb
    from isocenter.verbs.describe import write_page

    if page is not None and page.suffix.lower() not in (".html", ".htm"):
        raise ConfigError("the page is written to a file that ends in .html")
    with progress() as tell:
        found = verb(archive, against=against, progress=tell)
    if page is not None:
        write_page(found, page)
    if as_json:
        out(found.model_dump_json(indent=2))
        return
    out(", ".join(f"{rows} {name}" for name, rows in found.tables.items() if rows))
    for entry in found.modalities:
        out(f"{entry.name} ({entry.detail}): {entry.count} series of {entry.patients or '?'} patients")
    out(f"{found.outlier_count} series stand out")
    for where, count in (found.duplicates or {}).items():
        out(f"duplicates {where}: {count} groups")
    out(f"{sum(t.count for t in found.held)} rows held back")
    for drift in found.drift:
        if drift.beyond_chance:
            out(f"drift of {drift.column}: {drift.measure} {drift.value:.3f}, by chance up to {drift.by_chance:.3f}")
    if page is not None:
        out(f"page: {page}")


def leaks(
    archive: Annotated[Path, typer.Argument(help="Folder of the archive.", show_default=False, readable=False)],
    as_json: JsonOption = False,
) -> None:
    """Say what de-identification removed from an archive, what should be looked at, and what it did not do."""
    from isocenter.verbs.leaks import leaks as verb

    found = verb(archive)
    out(found.model_dump_json(indent=2) if as_json else "\n".join(_leak_lines(found)))
    if not found.safe:
        say(f"exports stop: {'; '.join(found.why_not)}")
        raise typer.Exit(Exit.INPUT)


def _leak_lines(found: LeaksDocument) -> list[str]:
    lines = [
        f"{found.copies} images copied, {found.removed} values removed or changed, {found.boxes} boxes of burnt-in "
        f"text blanked, {found.faces} images without their part of a face"
    ]
    lines.append(f"in texts: {', '.join(f'{c} x {k}' for k, c in found.replaced.items()) or 'nothing'}")
    by_action: dict[str, int] = {}
    for change in found.changed:
        by_action[change.action] = by_action.get(change.action, 0) + change.count
    lines.append(f"in headers: {', '.join(f'{c} x {a}' for a, c in sorted(by_action.items())) or 'nothing'}")
    for entry in found.suspicious:
        state = "gone" if entry.settled else "still there"
        lines.append(
            f"suspicious, {state}: {entry.count} x {entry.reason} ({entry.tag or 'file'}; first: {entry.first})"
        )
    lines += [f"not de-identified: {line}" for line in found.not_done]
    if found.anonymity is not None:
        told = found.anonymity
        lines.append(
            f"k-anonymity over {', '.join(told.columns)}: k = {told.smallest}; {told.unique_share:.0%} of "
            f"{told.patients} patients are alone"
        )
    return lines
