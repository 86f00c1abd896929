"""Outline whatever is pointed at, in any modality, in a picture or a volume."""
