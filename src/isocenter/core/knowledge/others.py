"""Findings of the other shipped tasks: breast ultrasound, fundus photographs, hippocampus, adrenal gland.

Source:
    SNOMED CT, as DICOM PS3.16 uses it (CID 6030, 6054, 6063); our own codes where DICOM has none.
"""

from __future__ import annotations

from isocenter.core.knowledge.concept import FindingConcept, local
from isocenter.core.units import Code

__all__ = ["OTHER_FINDINGS"]

OTHER_FINDINGS: tuple[FindingConcept, ...] = (
    FindingConcept(
        "normal breast",
        Code("290084006", "SCT", "Breast normal"),
        "breast",
        "breast ultrasound",
        ("normal breast tissue", "no breast lesion", "breast normal"),
        normal=True,
    ),
    FindingConcept(
        "breast mass",
        local("F-201", "Mass of breast on ultrasound"),
        "breast",
        "breast ultrasound",
        ("breast lesion", "mass of breast", "breast lump", "breast nodule"),
    ),
    FindingConcept(
        "benign breast lesion",
        local("F-202", "Benign breast lesion"),
        "breast",
        "breast ultrasound",
        ("benign breast mass", "benign breast finding", "benign lesion of breast", "fibroadenoma"),
        implies=("breast mass",),
        excludes=("malignant breast lesion",),
    ),
    FindingConcept(
        "malignant breast lesion",
        Code("254837009", "SCT", "Malignant neoplasm of breast"),
        "breast",
        "breast ultrasound",
        ("breast cancer", "breast carcinoma", "malignant breast mass", "malignant lesion of breast"),
        implies=("breast mass",),
    ),
    FindingConcept(
        "breast cyst",
        Code("399294002", "SCT", "Cyst of breast"),
        "breast",
        "breast ultrasound",
        ("cyst of breast", "simple breast cyst"),
        implies=("benign breast lesion",),
    ),
    FindingConcept(
        "normal fundus",
        local("F-301", "Normal fundus"),
        "retina",
        "fundus photograph",
        ("normal retina", "unremarkable fundus"),
        normal=True,
    ),
    FindingConcept(
        "diabetic retinopathy",
        Code("4855003", "SCT", "Diabetic retinopathy"),
        "retina",
        "fundus photograph",
        ("retinopathy due to diabetes", "proliferative diabetic retinopathy"),
        course="chronic",
    ),
    FindingConcept(
        "retinal hemorrhage",
        Code("28998008", "SCT", "Retinal hemorrhage"),
        "retina",
        "fundus photograph",
        ("retinal haemorrhage", "fundus hemorrhage", "intraretinal hemorrhage"),
    ),
    FindingConcept(
        "drusen",
        local("F-304", "Drusen"),
        "retina",
        "fundus photograph",
        ("macular drusen",),
        course="chronic",
    ),
    FindingConcept(
        "enlarged optic cup",
        local("F-305", "Enlarged optic cup"),
        "optic cup",
        "fundus photograph",
        ("optic disc cupping", "increased cup to disc ratio", "glaucomatous cupping", "large cup to disc ratio"),
        course="chronic",
    ),
    FindingConcept(
        "swollen optic disc",
        local("F-306", "Swollen optic disc"),
        "optic disc",
        "fundus photograph",
        ("optic disc edema", "papilledema", "optic disc swelling", "disc edema"),
    ),
    FindingConcept(
        "narrowed retinal vessels",
        local("F-307", "Narrowed retinal vessels"),
        "retinal vessel",
        "fundus photograph",
        ("arteriolar narrowing", "retinal arteriolar narrowing", "attenuated retinal vessel"),
        course="chronic",
    ),
    FindingConcept(
        "normal hippocampus",
        local("F-401", "Normal hippocampus"),
        "hippocampus",
        "brain MR",
        ("hippocampus normal",),
        normal=True,
    ),
    FindingConcept(
        "hippocampal atrophy",
        local("F-402", "Hippocampal atrophy"),
        "hippocampus",
        "brain MR",
        ("hippocampal volume loss", "small hippocampus", "mesial temporal atrophy", "medial temporal atrophy"),
        course="chronic",
    ),
    FindingConcept(
        "normal adrenal gland",
        local("F-501", "Normal adrenal gland"),
        "adrenal gland",
        "abdomen CT",
        ("adrenal gland normal", "normal adrenal"),
        normal=True,
    ),
    FindingConcept(
        "adrenal mass",
        local("F-502", "Adrenal mass"),
        "adrenal gland",
        "abdomen CT",
        ("adrenal nodule", "adrenal lesion", "adrenal tumor", "adrenal tumour", "adrenal adenoma"),
    ),
    FindingConcept(
        "adrenal hyperplasia",
        local("F-503", "Adrenal hyperplasia"),
        "adrenal gland",
        "abdomen CT",
        ("adrenal thickening", "thickened adrenal gland"),
        course="chronic",
    ),
)
"""In order of examination."""
