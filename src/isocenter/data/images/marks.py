"""What an object that an algorithm made says of itself: which algorithm, when it ran, and how far it may be trusted.

IHE's AI Results profile wants a reader to see, of every object alone, that a machine made it, which one, and whether it
is a product or research. The attributes stand in modules that every composite object has.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from isocenter.core.errors import DataError
from isocenter.core.prediction import ModelRef

__all__ = ["PRIVATE_SCHEME", "Marks", "Qualification", "model_uid"]

Qualification = Literal["PRODUCT", "RESEARCH", "SERVICE"]
_LONGEST_TEXT = 1024
PRIVATE_SCHEME: Final = "99ISOCENTER"


@dataclass(frozen=True)
class Marks:
    """Marks of an object.

    Args:
        algorithms: That had a part in it, in order.
        qualification: "RESEARCH" unless whoever runs the algorithm has the right to say "PRODUCT".
        device: What names this installation: text that its Device UID is made of.
        inferred: When the algorithms ran, with a time zone; None leaves it out, so that the same input gives the same
            bytes at any time.

    Raises:
        DataError: The time has no zone.

    Source:
        DICOM PS3.3 C.12.1 (Content Qualification, Contributing Equipment and Coding Scheme
        Identification Sequence), C.7.5.1 (Device UID).
    """

    algorithms: tuple[ModelRef, ...] = ()
    qualification: Qualification = "RESEARCH"
    device: str = "isocenter"
    inferred: datetime | None = None

    def __post_init__(self) -> None:
        if self.inferred is not None and self.inferred.tzinfo is None:
            raise DataError("the time of an inference needs its zone")

    def put(self, dataset: Dataset) -> None:
        """State the marks in an object whose equipment stands already."""
        dataset.ContentQualification = self.qualification
        dataset.DeviceUID = generate_uid(entropy_srcs=["isocenter", "device", self.device])
        dataset.CodingSchemeIdentificationSequence = [_private_scheme()]
        if self.algorithms:
            dataset.ContributingEquipmentSequence = [self._equipment(one) for one in self.algorithms]

    def _equipment(self, model: ModelRef) -> Dataset:
        item, purpose = Dataset(), Dataset()
        code = codes.DCM.ProcessingEquipment
        purpose.CodeValue, purpose.CodingSchemeDesignator = code.value, code.scheme_designator
        purpose.CodeMeaning = code.meaning
        item.PurposeOfReferenceCodeSequence = [purpose]
        item.Manufacturer = "Isocenter"
        item.ManufacturerModelName = model.name[:64]
        item.SoftwareVersions = model.version[:64]
        item.DeviceUID = model_uid(model)
        if self.inferred is not None:
            item.ContributionDateTime = self.inferred.strftime("%Y%m%d%H%M%S.%f%z")
        said = ["Inference by an algorithm"]
        said += [f"weights sha256 {model.weights_sha256}"] if model.weights_sha256 else []
        said += [f"licence {model.licence}"] if model.licence else []
        item.ContributionDescription = "; ".join(said)[:_LONGEST_TEXT]
        return item


def _private_scheme() -> Dataset:
    """Return who is responsible for the private codes of answers that have no standard one."""
    item = Dataset()
    item.CodingSchemeDesignator = PRIVATE_SCHEME
    item.CodingSchemeName = "Isocenter: classes of learnt tasks, as their data sets name them"
    item.CodingSchemeResponsibleOrganization = "Isocenter"
    return item


def model_uid(model: ModelRef) -> str:
    """Return the UID of an algorithm: of its name, version and weights."""
    return str(generate_uid(entropy_srcs=["isocenter", "model", model.name, model.version, model.weights_sha256]))
