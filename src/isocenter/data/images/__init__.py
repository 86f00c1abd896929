"""Images and masks, from files and to files: DICOM, NIfTI, NRRD, MetaImage, pictures.

`read_study` is the way in: a path becomes a `Study`, with what was refused and why. Every writer proves where its file
lies in the patient before the file gets its name (`proof`), and leaves nothing behind when it fails (`atomic`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from isocenter.data.images.atomic import atomic_folder, atomic_path
    from isocenter.data.images.discover import Sources, discover
    from isocenter.data.images.nifti import read_nifti, read_nifti_mask, write_nifti
    from isocenter.data.images.nrrd import read_nrrd, read_nrrd_mask, write_metaimage, write_nrrd
    from isocenter.data.images.picture import read_picture
    from isocenter.data.images.proof import Proof, SegmentProof, prove, prove_image
    from isocenter.data.images.read import read_files, read_study
    from isocenter.data.images.resample import resample_to
    from isocenter.data.images.study_files import Headers, Refusal, StudyFiles

__all__ = [
    "Headers",
    "Proof",
    "Refusal",
    "SegmentProof",
    "Sources",
    "StudyFiles",
    "atomic_folder",
    "atomic_path",
    "discover",
    "prove",
    "prove_image",
    "read_files",
    "read_nifti",
    "read_nifti_mask",
    "read_nrrd",
    "read_nrrd_mask",
    "read_picture",
    "read_study",
    "resample_to",
    "write_metaimage",
    "write_nifti",
    "write_nrrd",
]

# Loaded when first used: a writer of SEG needs neither SimpleITK nor nibabel, 130 MB of them.
_WHERE = {
    "Headers": "isocenter.data.images.study_files",
    "Proof": "isocenter.data.images.proof",
    "Refusal": "isocenter.data.images.study_files",
    "SegmentProof": "isocenter.data.images.proof",
    "Sources": "isocenter.data.images.discover",
    "StudyFiles": "isocenter.data.images.study_files",
    "atomic_folder": "isocenter.data.images.atomic",
    "atomic_path": "isocenter.data.images.atomic",
    "discover": "isocenter.data.images.discover",
    "prove": "isocenter.data.images.proof",
    "prove_image": "isocenter.data.images.proof",
    "read_files": "isocenter.data.images.read",
    "read_nifti": "isocenter.data.images.nifti",
    "read_nifti_mask": "isocenter.data.images.nifti",
    "read_nrrd": "isocenter.data.images.nrrd",
    "read_nrrd_mask": "isocenter.data.images.nrrd",
    "read_picture": "isocenter.data.images.picture",
    "read_study": "isocenter.data.images.read",
    "resample_to": "isocenter.data.images.resample",
    "write_metaimage": "isocenter.data.images.nrrd",
    "write_nifti": "isocenter.data.images.nifti",
    "write_nrrd": "isocenter.data.images.nrrd",
}


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(_WHERE[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
