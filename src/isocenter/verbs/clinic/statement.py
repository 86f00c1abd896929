"""`isocenter clinic statement`: the DICOM conformance statement, made of the code's own tables.

What the node takes and sends is read from the acceptors and routes; which attributes its objects have, from objects
that the writers write. The page under docs/reference is what this prints, and a test compares the two.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pydicom
from pydicom import Dataset
from pydicom.datadict import dictionary_description
from pydicom.uid import UID

from isocenter.clinic.dicomweb import Catalog, DicomWeb, Worklist, router, worklist_router
from isocenter.clinic.dimse import LocalEntity
from isocenter.clinic.dimse.entities import MPPS, STORAGE_COMMITMENT, VERIFICATION
from isocenter.clinic.dimse.holding import Holding, Limits
from isocenter.clinic.workflow.ledger import open_ledger
from isocenter.core import Code, Image, Mask, Measurement, ModelRef, Quantity, Segment
from isocenter.core.errors import ProofError
from isocenter.core.units import UCUM
from isocenter.data.conformance import RULES
from isocenter.data.images.key_objects import KeyObjects, write_key_objects
from isocenter.data.images.marks import PRIVATE_SCHEME, Marks
from isocenter.data.images.parametric_map import write_parametric_map
from isocenter.data.images.presentation import Drawing, write_presentation_state
from isocenter.data.images.references import ObjectReference
from isocenter.data.images.rtstruct import write_rtstruct
from isocenter.data.images.secondary_capture import write_secondary_capture
from isocenter.data.images.seg import SegOptions, write_seg
from isocenter.data.images.sr import Answer, ResultSet, SegReference, SrContent, write_sr
from isocenter.testing import phantom
from isocenter.testing.dicom_phantom import write_ct_series
from isocenter.verbs.clinic.statement_text import AIR, AIW, BEFORE, DIMSE, SECURITY, WEB_USER

__all__ = ["conformance_statement"]

_SHAPE = (3, 8, 9)
_MODEL = ModelRef("algorithm", "1", "0" * 64, "Apache-2.0")


def conformance_statement() -> str:
    """Return the statement, as a page."""
    entity = LocalEntity("ISOCENTER")
    lines = [
        BEFORE.strip(),
        "",
        "## Networking",
        "",
        *_table(("service", "SOP class", "user", "provider"), _services()),
    ]
    lines += ["", DIMSE.format(seconds=f"{entity.silence_s:g}", associations=entity.associations,
                               longest=entity.max_length).strip()]  # fmt: skip
    lines += ["", "### Transfer syntaxes taken, best first", ""]
    lines += _table(("name", "UID"), [(UID(u).name, u) for u in entity.transfer_syntaxes])
    lines += ["", "### DICOMweb served", "", *_table(("method", "path below the root"), _routes())]
    lines += ["", WEB_USER.strip(), "", SECURITY.strip(), "", "## Objects that are created", ""]
    lines += [
        "Device UID (0018,1002) of the General Equipment Module and Content Qualification (0018,9004) of the SOP",
        "Common Module are in every object of a result set; a validator that is older than these calls that a Standard",
        "Extended SOP class. There are no private attributes. Private codes have the scheme "
        f"{PRIVATE_SCHEME}, which objects of a",
        "result set identify (Coding Scheme Identification Sequence). Attributes of patient and study are copied from",
        "the images. Listed is what is written on a plain CT.",
        "",
    ]
    lines += list(_objects())
    lines += ["## IHE integration statement", "", AIR.strip(), "", AIW.strip(), "", "## Rules that are self-tested", ""]
    lines += _table(
        ("rule", "what it asks", "source", "of the profile"),
        [(r.name, r.title, r.source, "yes" if r.profile else "") for r in sorted(RULES.values(), key=lambda r: r.name)],
    )
    return "\n".join(lines) + "\n"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    out = [f"| {' | '.join(head)} |", f"| {' | '.join('---' for _ in head)} |"]
    return [*out, *(f"| {' | '.join(row)} |" for row in rows)]


def _services() -> list[tuple[str, str, str, str]]:
    """Return what is used and provided; the objects that are sent come with their annex."""
    sent = ("created objects, see below", "", "yes", "")
    return [
        ("Verification", VERIFICATION, "yes", "yes"),
        ("Storage", "1.2.840.10008.5.1.4.1.1.*, or those that `storage` names", "", "yes"),
        ("Storage", *sent[:1], *sent[2:]),
        ("Storage Commitment Push Model", STORAGE_COMMITMENT, "", "yes"),
        ("Modality Performed Procedure Step", MPPS, "", "yes"),
        ("Study Root Query/Retrieve, FIND", "1.2.840.10008.5.1.4.1.2.2.1", "yes", ""),
        ("Study Root Query/Retrieve, MOVE", "1.2.840.10008.5.1.4.1.2.2.2", "yes", ""),
        ("Study Root Query/Retrieve, GET", "1.2.840.10008.5.1.4.1.2.2.3", "yes", ""),
    ]


def _routes() -> list[tuple[str, str]]:
    """Return the routes of the node's DICOMweb server, as they are."""
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder)
        ledger = open_ledger(f"sqlite:///{store / 'ledger.db'}")
        try:
            serves = DicomWeb(Catalog(ledger.engine, store), Holding(store, ("1.2.3", "STATEMENT"), Limits()))
            routes = [*router(serves).routes, *worklist_router(Worklist(ledger.engine)).routes]
        finally:
            ledger.engine.dispose()
    return [
        (", ".join(sorted(getattr(route, "methods", None) or ())), f"`{getattr(route, 'path', '')}`")
        for route in routes
    ]


def _objects() -> Iterator[str]:
    """Yield a section on each kind of object, from one that is written now."""
    with tempfile.TemporaryDirectory() as folder:
        for path in _written(Path(folder)):
            dataset = pydicom.dcmread(path, stop_before_pixels=True)
            kind = UID(str(dataset.SOPClassUID))
            yield f"### {kind.name.removesuffix(' Storage')}"
            yield ""
            syntax = UID(str(dataset.file_meta.TransferSyntaxUID)).name
            yield f"SOP class {kind}; Modality {dataset.Modality}; {syntax}."
            yield ""
            yield ", ".join(_attributes(dataset)) + "."
            yield ""


def _attributes(dataset: Dataset) -> Iterator[str]:
    for element in dataset:
        if element.tag.is_private:
            raise ProofError("a created object has a private attribute, and the statement says that none has")
        yield f"{dictionary_description(element.tag)} ({element.tag.group:04X},{element.tag.element:04X})"


def _written(folder: Path) -> list[Path]:
    """Write one object of each kind on a phantom."""
    source = phantom(5, shape=_SHAPE)
    files = write_ct_series(folder / "ct", source)
    headers = [pydicom.dcmread(f, stop_before_pixels=True) for f in files]
    geometry = source.geometry
    array = np.zeros(_SHAPE, np.uint16)
    array[1, 2:5, 3:6] = 1
    tissue = Code("85756007", "SCT", "Tissue")
    mask = Mask(array, geometry, (Segment(1, "Segment", tracking_id="one", tracking_uid="1.2.3"),))
    marks, made = (
        Marks((_MODEL,)),
        {name: folder / f"{name}.dcm" for name in ("sr", "seg", "pr", "ko", "pm", "rt", "sc")},
    )
    write_seg(mask, made["seg"], headers=headers, options=SegOptions(marks=marks))
    state = write_presentation_state(Drawing(geometry, mask), made["pr"], headers=headers, marks=marks).state
    shown = ObjectReference(
        state.sop_class_uid, state.sop_instance_uid, state.series_uid, str(headers[0].StudyInstanceUID)
    )
    image = ObjectReference.of(headers[1])
    selected = write_key_objects(KeyObjects(((image, shown),)), made["ko"], headers=headers, marks=marks)
    values = Image(np.ones((1, *_SHAPE), np.float32), geometry, quantity=Quantity.ARBITRARY)
    write_parametric_map(values, made["pm"], headers=headers, marks=marks)
    write_rtstruct(mask, made["rt"], headers=headers, marks=marks)
    write_secondary_capture(np.zeros((8, 8, 3), np.uint8), made["sc"], headers=headers)
    volume = Measurement(tissue, 1.0, UCUM["mL"], 1)
    answer = Answer("task", _MODEL, (volume,), mask.segments, SegReference.from_file(made["seg"]))
    results = ResultSet(((image, shown),), (selected,))
    write_sr(SrContent((answer,), results=results), made["sr"], headers=headers, marks=marks)
    return list(made.values())
