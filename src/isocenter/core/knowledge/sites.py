"""Parts of the body that findings are seen in and that tasks outline.

Source:
    SNOMED CT, as DICOM PS3.16 uses it (CID 4, 4031, 4211, 6109 and others).
"""

from __future__ import annotations

from isocenter.core.knowledge.concept import Site, local
from isocenter.core.units import Code

__all__ = ["SITES"]


def _site(name: str, value: str, meaning: str, *synonyms: str, paired: bool = False) -> Site:
    return Site(name, Code(value, "SCT", meaning), paired, synonyms)


SITES: tuple[Site, ...] = (
    _site("chest", "816094009", "Chest", "thorax"),
    _site("lung", "39607008", "Lung", "lungs", "pulmonary parenchyma", paired=True),
    _site("pleura", "3120008", "Pleural structure", "pleural space", paired=True),
    _site("hilum of lung", "46750007", "Hilum of lung", "hilum", "hila", paired=True),
    _site("pulmonary artery", "81040000", "Pulmonary artery"),
    _site("heart", "80891009", "Heart", "cardiac silhouette"),
    _site("pericardium", "76848001", "Pericardium"),
    _site("mediastinum", "72410000", "Mediastinum"),
    _site("thoracic aorta", "113262008", "Thoracic aorta", "aorta"),
    _site("thoracic lymph node", "47109002", "lymph node of thorax", "lymph node"),
    _site("diaphragm", "5798000", "Diaphragm", "hemidiaphragm"),
    _site("bone of thorax", "272710004", "Bone structure of thorax", "bony thorax", "rib"),
    _site("thoracic spine", "122495006", "Thoracic spine", "spine"),
    _site("subcutaneous tissue", "71966008", "Subcutaneous tissue"),
    _site("peritoneal cavity", "83670000", "Peritoneal cavity"),
    _site("breast", "76752008", "Breast", paired=True),
    _site("retina", "5665001", "Retina", "fundus", paired=True),
    _site("optic disc", "81016008", "Optic nerve head", "optic nerve head", paired=True),
    Site("optic cup", local("S-1", "Optic cup"), True, ("physiologic cup",)),
    Site("retinal vessel", local("S-2", "Retinal blood vessel"), True, ("retinal blood vessel",)),
    _site("hippocampus", "5366008", "Hippocampus", "hippocampal formation", paired=True),
    _site("adrenal gland", "23451007", "Adrenal gland", "adrenal", "suprarenal gland", paired=True),
    _site("lesion", "52988006", "Lesion"),
)
"""Every part of the body that the table knows. Optic cup and retinal vessels have codes of our own."""
