"""The command `isocenter phenotype`: segments in numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from isocenter.terminal import Exit, out, progress, say

if TYPE_CHECKING:
    from isocenter.verbs.phenotyping.document import PhenotypeDocument

__all__ = ["phenotype"]

_SHOWN = 6


TargetOption = Annotated[
    list[str] | None,
    typer.Option("--target", help="LABEL or LABEL=ORGAN of a target lesion (RECIST); default: all; may be repeated."),
]
NodalOption = Annotated[
    list[str] | None, typer.Option("--nodal", help="Label of a segment that is a lymph node; may be repeated.")
]
AcquiredOption = Annotated[
    str | None, typer.Option("--acquired", help="Date of an image whose file says none, as 2024-01-31.")
]
PatientOption = Annotated[
    str | None, typer.Option("--patient", help="The patient's name in features.csv; default: its pseudonym.")
]
ModalityOption = Annotated[
    str | None, typer.Option("--modality", help="Modality of an image whose file says none, e.g. CT.")
]
QuantityOption = Annotated[
    str | None, typer.Option("--quantity", help="Of an image whose file says none: HU, SUVbw, Bq/mL or Gy.")
]
OnIrregularOption = Annotated[
    str | None, typer.Option("--on-irregular", help="Irregular or tilted series: raise, or resample.")
]
AuditOption = Annotated[
    Path | None, typer.Option("--audit", help="Record to append a line to; default: $ISOCENTER_AUDIT, or none.")
]


def phenotype(
    image: Annotated[
        Path,
        typer.Argument(
            help="DICOM file, folder, zip or DICOMDIR; NIfTI, NRRD or picture.", show_default=False, readable=False
        ),
    ],
    mask: Annotated[
        Path,
        typer.Option(
            "--mask", help="NIfTI, NRRD, MetaImage, SEG or RTSTRUCT drawn on it.", show_default=False, readable=False
        ),
    ],
    out_folder: Annotated[
        Path,
        typer.Option("--out", help="Folder to write; must not exist or be empty.", show_default=False, readable=False),
    ],
    config: Annotated[
        Path | None, typer.Option("--config", help="YAML file of settings, e.g. bins, spacing_mm, families.")
    ] = None,
    image_number: Annotated[
        int | None, typer.Option("--image", min=0, help="Number of the image, of several; from 0.")
    ] = None,
    encoder: Annotated[
        str | None, typer.Option("--encoder", help="Weights whose features are pooled over each segment, too.")
    ] = None,
    diffusion_unit: Annotated[
        str | None,
        typer.Option("--diffusion-unit", help="Of a map of diffusion: um2/s, 10-6.mm2/s, 10-3.mm2/s or mm2/s."),
    ] = None,
    prior: Annotated[
        Path | None, typer.Option("--prior", help="Earlier phenotype of the same patient, to compare with.")
    ] = None,
    target: TargetOption = None,
    nodal: NodalOption = None,
    new_lesions: Annotated[
        bool | None, typer.Option("--new-lesions/--no-new-lesions", help="Whether a lesion has appeared since.")
    ] = None,
    days: Annotated[float | None, typer.Option("--days", help="Days since the earlier image.")] = None,
    acquired: AcquiredOption = None,
    patient: PatientOption = None,
    modality: ModalityOption = None,
    quantity: QuantityOption = None,
    on_irregular: OnIrregularOption = None,
    audit: AuditOption = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace an older result.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON document to standard output, nothing else.")
    ] = False,
) -> None:
    """Measure segments: IBSI features, diameters, volume, SUV, diffusion, response, and what an encoder sees."""
    from isocenter.verbs.phenotype import phenotype as verb

    given: dict[str, Any] = {
        "image_number": image_number, "encoder": encoder, "diffusion_unit": diffusion_unit, "prior": prior,
        "targets": tuple(target) if target else None, "acquired": acquired, "patient": patient,
        "nodal": tuple(nodal) if nodal else None, "new_lesions": new_lesions, "days": days, "modality": modality,
        "quantity": quantity,
        "on_irregular": on_irregular, "audit": audit, "overwrite": overwrite or None,
    }  # fmt: skip
    with progress() as tell:
        found = verb(
            image, mask, out_folder, config=config, progress=tell,
            **{k: v for k, v in given.items() if v is not None},
        )  # fmt: skip
    if as_json:
        out(found.model_dump_json(indent=2))
    else:
        out("\n".join([*_lines(found), f"result: {out_folder / 'phenotype.html'}"]))
    if not found.answered:
        say("nothing could be measured; the reasons stand in the result")
        raise typer.Exit(Exit.NOTHING_ANSWERED)


def _lines(found: PhenotypeDocument) -> list[str]:
    from isocenter.verbs.report.words import unit

    lines = ["synthetic: of no person"] if found.synthetic else []
    for region in found.regions:
        lines.append(f"{region.segment.label}: {region.voxels} voxels")
        for m in region.measurements[:_SHOWN]:
            derived = f", {m.derivation.meaning.lower()}" if m.derivation else ""
            lines.append(f"  {m.name.meaning}{derived}: {m.value:.4g} {unit(m.unit.value)}".rstrip())
        there = sum(f.value is not None for f in region.features)
        lines.append(f"  {there} of {len(region.features)} features")
    if found.response is not None:
        r = found.response
        lines.append(f"response: {r.category or 'none'} ({'; '.join(r.reasons)})")
    lines += [f"not measured: {reason}" for reason in found.not_done]
    return lines
