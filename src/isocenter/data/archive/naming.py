"""What the names of files and folders say: image or mask, of which case, of which modality.

Files that are not DICOM say nothing of a patient. What is known of them is where they lie: the conventions of BIDS,
nnU-Net, the Decathlon and of folders as people make them. What was concluded from a name is marked as such in the
catalog, and a table beside the images (a manifest) comes before it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import Literal

from isocenter.data.images.body_parts import BODY_PARTS

__all__ = ["Named", "mask_name", "mask_word", "modality_of", "named", "one_person", "spot", "stem"]

Role = Literal["image", "mask"]

_ENDINGS = (".nii.gz", ".seg.nrrd", ".tar.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".npz")
_MASK_FOLDERS = re.compile(
    r"(?i)^(labels?(tr|ts)?|masks?|segs?|segmentations?|annotations?|ground_?truth|gt|"
    r"(.*[-_])?(masks?|labels?|segs?|segmentations?)([-_].*)?)$"
)
_IMAGE_FOLDERS = re.compile(r"(?i)^(images?(tr|ts)?|imgs?|scans?|volumes?|anat|func|dwi|pet|.*_images?)$")
_SORTED = re.compile(
    r"(?i)(?:(?P<before>.+)[-_])?(?:masks?|labels?|segs?|segmentations?)(?:[-_](?P<after>.+))?|(?P<image>.+)_images?"
)
"""Folders of masks or images, and what else their names say."""
_MASK_WORD = re.compile(
    r"(?i)(?:[-_. ]|^)(masks?|segs?|segmentations?|labels?|gt|gtv\d*|ptv\d*|roi|\d(?:st|nd|rd|th)ho|manual\d*|dseg"
    r"|probseg)"
    r"(?=[-_. ]|$)"
)
_GENERIC = re.compile(
    r"(?i)^(ct|mri?|pet|pt|us|t1w?|t2w?|t1c|t1ce|t1gd|flair|dwi|adc|swi|pd|image|img|scan|volume|vol|mask|seg|label|labels|"
    r"segmentation|gtv|roi|pre|post|\d{0,2})$"
)
_CHANNEL = re.compile(r"_(\d{4})$")
_BIDS = re.compile(r"(?:^|[/_])sub-([A-Za-z0-9]+)")
_SESSION = re.compile(r"(?:^|[/_])ses-([A-Za-z0-9]+)")
_EYE = re.compile(r"(?<=\d)[-_ ]?[LR]$")
_WORDS = {
    "CT": "ct cbct ldct",
    "MR": "mr mri t1 t1w t1c t1ce t2 t2w flair dwi adc swi fmri bold",
    "PT": "pt pet suv fdg",
    "DX": "cxr xray x-ray xr dx chestxray radiograph radiographs",
    "MG": "mg mammo mammography mammogram",
    "US": "us ultrasound echo sonography busi",
    "OP": "fundus op retina retinal",
    "NM": "nm scintigraphy spect",
    "SM": "wsi histology pathology",
}
_MODALITY = {word: modality for modality, words in _WORDS.items() for word in words.split()}
_SPLIT = re.compile(r"[^A-Za-z0-9]+")
_FORM_WORDS = "nifti nii nrrd dicom png jpg jpeg tif tiff npz txt text texts json xml report reports notes"
_FORMS = frozenset(_FORM_WORDS.split())
_OF_PERSON = re.compile(r"(?:^|_)(?:sub|ses)-[^_]*")
_LETTERS = re.compile(r"[^\W\d_]{2,}|\d{5,}")
_MASK_WORDS = """
desc acq run space label res den hemi dir task echo flip inv mt part rec ce trc chunk atlas native orig mni nlin asym
casym flair dwi bold adc swi pdw dseg probseg gtv ptv ctv roi truth ground left right upper lower whole organ organs
artery arteries vein veins vessels tumor tumour tumors tumours lesion lesions nodule nodules core edema oedema
necrosis cyst cysts enhancing wmh stroke haemorrhage hemorrhage infection lobe lobes bones muscle muscles fat body
brain tissue
"""
_OF_MASKS = frozenset(_MASK_WORDS.split())
"""What names of files and folders of masks are made of, beside parts of the body."""


@dataclass(frozen=True)
class Named:
    """What a name says.

    Args:
        role: Image or mask.
        case: What image and mask of one case share.
        session: Of BIDS, "" without.
        part: What tells the files of a case apart.
        modality: As DICOM abbreviates it, "" where the name says none.
    """

    role: Role
    case: str
    session: str
    part: str
    modality: str


def stem(name: str) -> str:
    """Return a file's name without folders and without what says its form.

    Example:
        >>> stem("a/b/case.1.nii.gz"), stem("x.png")
        ('case.1', 'x')
    """
    last = name.rsplit("/", 1)[-1]
    lower = last.lower()
    for ending in _ENDINGS:
        if lower.endswith(ending):
            return last[: -len(ending)]
    return PurePosixPath(last).stem or last


@lru_cache(maxsize=4096)
def spot(folder: str) -> tuple[str, ...]:
    """Return the folders of a path without what says only which sort of file lies in them.

    An image and its mask lie at one spot; two patients' folders are two.

    Example:
        >>> spot("set/images/A"), spot("set/masks/A"), spot("imagesTr"), spot("./B")
        (('set', 'A'), ('set', 'A'), (), ('B',))
        >>> spot("P1_images"), spot("P1_masks"), spot("seg_002"), spot("lung_masks"), spot("masks_256")
        (('P1',), ('P1',), ('002',), (), ())
    """
    return tuple(
        said
        for part in folder.split("/")
        if part not in ("", ".")
        and (said := _beside(part))
        and said.lower() not in _FORMS
        and said.lower() not in _MODALITY
    )


@lru_cache(maxsize=4096)
def _beside(part: str) -> str:
    """Return what a folder's name says beside the sort of its files: "" for nothing, or nothing that tells cases apart.

    Parts of the body, sizes and numbers of readers behind the word tell none apart; a number before it, and one that
    begins with a zero, may.
    """
    if not (_MASK_FOLDERS.match(part) or _IMAGE_FOLDERS.match(part)):
        return part
    found = _SORTED.fullmatch(part)
    before, after = (found["before"] or found["image"] or "", found["after"] or "") if found else ("", "")
    kept = [before] if re.search(r"\d", before) or not _says_nobody(before) else []
    kept += [after] if re.match(r"0\d", after) or not _says_nobody(after) else []
    return "_".join(kept)


@lru_cache(maxsize=4096)
def _words_modality(text: str) -> str:
    found = {_MODALITY[word] for word in _SPLIT.split(text.lower()) if word in _MODALITY}
    return found.pop() if len(found) == 1 else ""


def modality_of(name: str) -> str:
    """Return the modality that a path names, the last folder or file first; "" where none or several are named.

    Example:
        >>> modality_of("cxr_nih/images_256/a.png"), modality_of("ct_mr_pet/1/PET_image.nii.gz"), modality_of("a/b.png")
        ('DX', 'PT', '')
    """
    for part in reversed(name.split("/")):
        found = _words_modality(part)
        if found:
            return found
    return ""


def named(name: str, root_name: str = "") -> Named:
    """Read the name of a file that is not DICOM.

    Args:
        name: Relative to the folder of its set, with forward slashes.
        root_name: Of that folder: it may say the modality of all.

    Returns:
        What it says.

    Example:
        >>> named("nifti/STS_002/CT_mask.nii.gz")
        Named(role='mask', case='STS_002', session='', part='CT', modality='CT')
        >>> named("imagesTr/liver_001_0000.nii.gz").case, named("labelsTr/liver_001.nii.gz").role
        ('liver_001', 'mask')
        >>> named("sub-03/ses-1/anat/sub-03_ses-1_T1w.nii.gz").case
        'sub-03'
    """
    folders = name.split("/")[:-1]
    base = stem(name)
    by_word = _MASK_WORD.search(base) is not None
    role: Role = "mask" if by_word or (folders and _MASK_FOLDERS.match(folders[-1])) else "image"
    plain = _MASK_WORD.sub("", base).strip("-_. ")
    modality = modality_of("/".join((root_name, name)) if root_name else name)
    bids = _BIDS.search(name)
    if bids is not None:
        session = _SESSION.search(name)
        return Named(role, f"sub-{bids[1]}", session[1] if session else "", plain, modality)
    channel = _CHANNEL.search(plain)
    if channel is not None and folders and _IMAGE_FOLDERS.match(folders[-1]):
        return Named(role, plain[: channel.start()], "", channel[1], modality)
    tokens = [t for t in re.split(r"[-_. ]+", base) if t]
    if folders and tokens and all(_GENERIC.match(t) for t in tokens):
        inner = [said for f in folders if (said := _beside(f))]
        if inner:
            return Named(
                role, inner[-1], "", re.sub(r"(?i)[-_. ]*(image|img|scan|volume)$", "", plain) or base, modality
            )
    return Named(role, plain or base, "", "", modality)


def mask_word(name: str) -> str:
    """Return the word by which a file's name says that it is a mask, "" where it does not.

    Example:
        >>> mask_word("Image_01L_1stHO.png"), mask_word("a/case0_mask.png"), mask_word("labels/case0.png")
        ('1stHO', 'mask', '')
    """
    found = _MASK_WORD.search(stem(name))
    return found[1] if found else ""


def _says_nobody(text: str) -> bool:
    for word in _LETTERS.findall(text.lower()):
        body = {word.upper(), word.upper().removesuffix("S")} & BODY_PARTS
        if not (body or word in _OF_MASKS or _GENERIC.match(word) or _MASK_FOLDERS.fullmatch(word)):
            return False
    return True


@lru_cache(maxsize=4096)
def mask_name(name: str) -> str:
    """Return what a mask is of, as its place says it: nothing that may name somebody, else "mask".

    Folders and files bear names of patients, so that a word is kept only where it is a part of the body, or of those
    that names of masks are made of.

    Example:
        >>> mask_name("sub-Miller01/anat/sub-Miller01_dseg.nii.gz"), mask_name("sub-1/sub-1_desc-liver_mask.nii.gz")
        ('dseg', 'desc-liver')
        >>> mask_name("liver_masks/7.png"), mask_name("Miller_Hans_masks/a.png"), mask_name("Miller/liver.png")
        ('liver_masks', 'mask', 'mask')
    """
    folder = name.split("/")[-2] if "/" in name else ""
    part = _OF_PERSON.sub("", named(name).part).strip("-_. ")
    if part and _says_nobody(part):
        return part
    if word := mask_word(name):
        return word
    return folder if _MASK_FOLDERS.match(folder) and _says_nobody(folder) else "mask"


def one_person(case: str, modality: str) -> str:
    """Return the person of a case: the two eyes of photographs that differ in a last L or R are of one.

    Example:
        >>> one_person("Image_03L", "OP"), one_person("hippocampus_003", "MR")
        ('Image_03', 'hippocampus_003')
    """
    return _EYE.sub("", case) or case if modality == "OP" else case
