"""SAM, MedSAM and SAM 2 from local Hugging Face folders, behind the door of the interactive harness."""

from isocenter.models.sam.folder import MODEL_TYPES
from isocenter.models.sam.preparation import Preparation
from isocenter.models.sam.segmenter import SamInteraction, SamSegmenter

__all__ = ["MODEL_TYPES", "Preparation", "SamInteraction", "SamSegmenter"]
