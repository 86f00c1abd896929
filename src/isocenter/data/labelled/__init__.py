"""Labelled sets to learn from: nnU-Net raw folders, Medical Segmentation Decathlon, MedMNIST, folders, tables.

`open_labelled` finds out what a path holds. Nothing is loaded before it is asked for, so that a broken file costs its
own case and no other.
"""

from isocenter.data.labelled.cases import Event, LabelledCase, LabelledSet, Target
from isocenter.data.labelled.find import open_labelled

__all__ = ["Event", "LabelledCase", "LabelledSet", "Target", "open_labelled"]
