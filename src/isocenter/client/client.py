"""The client: one server, its studies and what may be asked of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import httpx
import numpy as np
from jaxtyping import Shaped

from isocenter.client.grid import geometry_of
from isocenter.client.session import Session
from isocenter.client.transport import Transport, error_of, from_json, model_from_json
from isocenter.core import Image, Mask, Quantity, Segment, Source
from isocenter.core.errors import Stopped, TransportError
from isocenter.viewer.ports import (
    ImageItem,
    Job,
    MaskItem,
    StudyDetail,
    StudyItem,
    StudyPage,
)
from isocenter.viewer.report_models import AskAnswer, Draft, EditedSentence, Outlook
from isocenter.viewer.wire import decode_levels, unpack

__all__ = ["Client"]

_CHUNK_BYTES = 32 << 20


class Client:
    """A server of `isocenter serve`; closes its connections at the end of a `with`.

    Args:
        address: As the server prints it, with its token behind the #; or without.
        token: Where the address does not hold it.
        reader: Who works: initials.
        timeout_seconds: How long an answer may take.
        transport: Another way for requests to go, for tests.

    Raises:
        ConfigError: The address is none.
    """

    def __init__(
        self,
        address: str,
        token: str = "",
        *,
        reader: str = "",
        timeout_seconds: float = 120.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self.transport = Transport(address, token, reader, timeout_seconds, transport)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self.transport.close()

    def info(self) -> Mapping[str, Any]:
        """Return what the server is: version, tasks, limits, what it offers."""
        return dict(self.transport.get("info"))

    # --- studies and images

    def studies(
        self,
        q: str = "",
        *,
        modality: str = "",
        patient: str = "",
        date_from: str = "",
        date_to: str = "",
        status: str = "",
        offset: int = 0,
        limit: int = 50,
    ) -> StudyPage:
        """List studies, newest first.

        Args:
            q: Words that the description, modalities or pseudonym must hold.
            modality: DICOM modality that a series has.
            patient: Pseudonym of the patient.
            date_from: First study date, YYYY-MM-DD.
            date_to: Last study date.
            status: "new", "open", "read" or "signed".
            offset: How many are passed over.
            limit: At most so many.
        """
        query: dict[str, str | int | float | None] = {
            "q": q,
            "modality": modality,
            "patient": patient,
            "from": date_from,
            "to": date_to,
            "status": status,
            "offset": offset,
            "limit": limit,
        }
        page = self.transport.get("studies", **query)
        return from_json(StudyPage, page)

    def every_study(self, q: str = "", *, modality: str = "", patient: str = "") -> Iterator[StudyItem]:
        """Yield all studies that fit, page after page."""
        offset = 0
        while True:
            page = self.studies(q, modality=modality, patient=patient, offset=offset, limit=200)
            yield from page.items
            offset += len(page.items)
            if not page.items or offset >= page.total:
                return

    def study(self, study: str | StudyItem) -> StudyDetail:
        """Open a study: its images, earlier studies of the patient, reports.

        Raises:
            NotFound: There is none.
        """
        return from_json(StudyDetail, self.transport.get("studies", _id(study)))

    def image_item(self, image: str) -> ImageItem:
        """Describe an image.

        Raises:
            NotFound: There is none.
        """
        return from_json(ImageItem, self.transport.get("images", image))

    def image(self, image: str | ImageItem, *, first: int = 0, count: int | None = None) -> Image:
        """Fetch an image, or some of its planes, with its place in the patient.

        Args:
            image: Which.
            first: First plane along z.
            count: How many planes; None for all that follow.

        Raises:
            NotFound: There is none.
            TransportError: What came is not what was announced.
        """
        item = image if isinstance(image, ImageItem) else self.image_item(image)
        depth = item.shape_zyx[0]
        count = depth - first if count is None else count
        many = max(1, _CHUNK_BYTES // max(1, item.bytes // depth))
        parts = [self._planes(item, at, min(many, first + count - at)) for at in range(first, first + count, many)]
        stored = np.moveaxis(np.concatenate(parts), -1, 0)
        geometry = geometry_of(item)
        if (first, count) != (0, depth):
            geometry = geometry.cropped((first, 0, 0), (count, *item.shape_zyx[1:]))
        return Image(
            _values(stored, item),
            geometry,
            quantity=Quantity(item.quantity) if item.quantity in {q.value for q in Quantity} else Quantity.ARBITRARY,
            modality=item.modality,
            source=Source(),
            description=item.description,
            window=tuple((w.centre, w.width) for w in item.windows),
            notes=item.notes,
        )

    def _planes(self, item: ImageItem, first: int, count: int) -> Shaped[np.ndarray, "z y x c"]:
        body = self.transport.ask("GET", "images", item.id, "pixels", query={"first": first, "count": count}).content
        shape = (count, *item.shape_zyx[1:], item.channels)
        dtype = np.dtype(item.pixel.dtype).newbyteorder("<")
        if len(body) != int(np.prod(shape)) * dtype.itemsize:
            raise TransportError(f"{len(body)} bytes came for planes of shape {shape}; ask again")
        return np.frombuffer(body, dtype).reshape(shape)

    def save_nifti(self, image: str | ImageItem, path: Path | str) -> Path:
        """Save an image as NIfTI, as the server writes it.

        Raises:
            NotFound: There is none.
            GeometryError: Its place in the patient is not known.
        """
        path = Path(path)
        path.write_bytes(self.transport.ask("GET", "images", _id(image), "nifti").content)
        return path

    # --- outlining

    def session(self, label: str = "object", *, session: str = "") -> Session:
        """Begin to outline a structure; use it in a `with`.

        Args:
            label: Name of the structure.
            session: Name of a session to go on with; "" for a new one.

        Raises:
            AtCapacity: All places are taken.
        """
        if session:
            begun = self.transport.get("sessions", session)
        else:
            begun = self.transport.send("POST", "sessions", json={"label": label, "reader": self.transport.reader})
        return Session(self.transport, str(begun["id"]), str(begun["label"]), self.image_item)

    def masks(self, image: str | ImageItem) -> tuple[MaskItem, ...]:
        """List the confirmed masks of an image, oldest first."""
        return tuple(from_json(MaskItem, item) for item in self.transport.get("images", _id(image), "masks"))

    def mask(self, mask: str | MaskItem) -> Mask:
        """Fetch a confirmed mask on its image's grid.

        Raises:
            NotFound: There is none.
        """
        message = unpack(self.transport.ask("GET", "masks", _id(mask)).content)
        item = self.image_item(str(message.head["image"]))
        geometry = geometry_of(item)
        z0, z1, y0, y1, x0, x1 = message.head["box_zyx"]  # type: ignore[misc]
        whole = np.zeros(geometry.shape, dtype=np.uint16)
        whole[z0:z1, y0:y1, x0:x1] = decode_levels(message.payload, (z1 - z0, y1 - y0, x1 - x0)) >= 2  # type: ignore[has-type]
        label = str(message.head.get("label") or "object")
        return Mask(
            whole, geometry, (Segment(1, label[:64], algorithm_type="SEMIAUTOMATIC", algorithm_name="Isocenter"),)
        )

    def save_mask(
        self, mask: str | MaskItem, path: Path | str, *, form: Literal["nifti", "seg", "rtstruct"] = "nifti"
    ) -> Path:
        """Save a confirmed mask as a file, as the server writes and proves it.

        Raises:
            NotFound: There is none.
            DataError: It can't be written in this form.
        """
        path = Path(path)
        path.write_bytes(self.transport.ask("GET", "masks", _id(mask), "file", query={"form": form}).content)
        return path

    # --- readings, drafts, questions

    def read(
        self,
        study: str | StudyItem,
        *,
        tasks: Sequence[str] | None = None,
        evidence: bool = False,
        prior: str | StudyItem | None = None,
    ) -> Job:
        """Start a reading; `wait` for its job, then ask for `reading`.

        Raises:
            NotFound: There is no such study.
            ConfigError: There is no such task.
        """
        body = {
            "tasks": "auto" if tasks is None else list(tasks),
            "evidence": evidence,
            "prior": None if prior is None else _id(prior),
        }
        started = self.transport.send("POST", "studies", _id(study), "readings", json=body)
        return self.job(str(started["job"]))

    def job(self, job: str | Job) -> Job:
        """Return how far a job is.

        Raises:
            NotFound: There is none.
        """
        return from_json(Job, self.transport.get("jobs", _id(job)))

    def stop(self, job: str | Job) -> Job:
        """Ask a job to stop."""
        return from_json(Job, self.transport.send("POST", "jobs", _id(job), "stop"))

    def wait(
        self,
        job: str | Job,
        *,
        told: Callable[[Job], object] | None = None,
        timeout_seconds: float = 3600.0,
        every_seconds: float = 0.5,
    ) -> Job:
        """Wait for a job.

        Args:
            job: Which.
            told: Called with it whenever it is asked.
            timeout_seconds: How long to wait.
            every_seconds: How often to ask.

        Raises:
            Stopped: Somebody stopped it.
            TransportError: It did not end in time.
            IsocenterError: It failed, and why.
        """
        end = time.monotonic() + timeout_seconds
        while True:
            now = self.job(job)
            if told is not None:
                told(now)
            if now.state == "done":
                return now
            if now.state == "stopped":
                raise Stopped("the job was stopped")
            if now.state == "failed":
                why = now.problem
                raise error_of("", "the job failed") if why is None else error_of(why.code, why.detail)
            if time.monotonic() > end:
                raise TransportError(f"the job did not end within {timeout_seconds:g} s; it goes on, wait again")
            time.sleep(every_seconds)

    def reading(self, study: str | StudyItem) -> Mapping[str, Any]:
        """Return the latest result document of a study (docs/reference/result.schema.json), with links to its files.

        Raises:
            NotFound: There is no reading of it.
        """
        return dict(self.transport.get("studies", _id(study), "readings", "latest"))

    def draft(self, study: str | StudyItem, *, language: str = "en", indication: str = "") -> Draft:
        """Make a draft report from the latest reading, or return the one that there is.

        Raises:
            NotFound: There is no such study.
            Conflict: Nothing was read of it yet ("not_read").
        """
        body = {"language": language, "indication": indication}
        return model_from_json(Draft, self.transport.send("POST", "studies", _id(study), "draft", json=body))

    def drafts(self, study: str | StudyItem) -> tuple[Draft, ...]:
        """Return the last version of every draft of a study, the newest draft first."""
        return tuple(model_from_json(Draft, one) for one in self.transport.get("studies", _id(study), "drafts"))

    def edit_draft(self, draft: Draft, sentences: Sequence[EditedSentence]) -> Draft:
        """Replace the sentences of a draft; each is judged.

        Args:
            draft: The version that was edited.
            sentences: All that shall stand.

        Raises:
            Conflict: Somebody edited it meanwhile ("stale"), or it was signed.
        """
        body = {"version": draft.version, "sentences": [sentence.model_dump() for sentence in sentences]}
        return model_from_json(Draft, self.transport.send("PUT", "drafts", draft.id, json=body))

    def sign_draft(self, draft: Draft, *, by: str) -> Draft:
        """Sign a draft: the server writes SR, FHIR and PDF, which `signed` lists.

        Raises:
            Conflict: A sentence is withheld, or the draft is not the latest.
        """
        body = {"version": draft.version, "by": by}
        return model_from_json(Draft, self.transport.send("POST", "drafts", draft.id, "sign", json=body))

    def amend_draft(self, draft: Draft) -> Draft:
        """Begin a new version of a signed report, which says that it amends it.

        Raises:
            Conflict: It is not signed, or not the latest.
        """
        body = {"version": draft.version}
        return model_from_json(Draft, self.transport.send("POST", "drafts", draft.id, "amend", json=body))

    def ask(self, study: str | StudyItem, question: str, *, conversation: str | None = None) -> AskAnswer:
        """Ask a question about a study: sentences with evidence, or why it is refused.

        Raises:
            NotFound: There is no such study.
            Conflict: Nothing was read of it yet ("not_read").
        """
        body = {"question": question, "conversation": conversation}
        return model_from_json(AskAnswer, self.transport.send("POST", "studies", _id(study), "ask", json=body))

    def prognosis(self, study: str | StudyItem) -> Outlook:
        """Return what the configured model says may happen, or why it abstains.

        Raises:
            NotFound: None is configured, or there is no such study.
        """
        return model_from_json(Outlook, self.transport.get("studies", _id(study), "prognosis"))

    def treatment(self, study: str | StudyItem) -> Outlook:
        """Return what the configured model says a treatment changes, or why it abstains.

        Raises:
            NotFound: None is configured, or there is no such study.
        """
        return model_from_json(Outlook, self.transport.get("studies", _id(study), "treatment"))


def _values(stored: Shaped[np.ndarray, "c z y x"], item: ImageItem) -> Shaped[np.ndarray, "c z y x"]:
    """Return values from what is stored; whole numbers stay whole where they can."""
    slope, intercept = item.pixel.slope, item.pixel.intercept
    if slope == 1 and intercept == 0:
        return np.ascontiguousarray(stored)
    if slope == 1 and intercept == int(intercept) and stored.dtype.kind in "iu":
        return stored.astype(np.int32) + np.int32(intercept)
    return np.asarray(stored * np.float32(slope) + np.float32(intercept), dtype=np.float32)


def _id(thing: Any) -> str:
    """Return the name of a thing, or of its item."""
    return thing if isinstance(thing, str) else str(thing.id)
