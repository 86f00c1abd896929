"""What `isocenter adapt` learns from a labelled set: how images are prepared, the networks, and how they answer.

Learning and the tasks share this code, so that a network sees in use what it saw while it learnt.
"""

from isocenter.models.learnt.features import network_features
from isocenter.models.learnt.network import LearntSettings, backbone_settings, build_learnt
from isocenter.models.learnt.preparation import Preparation, Prepared
from isocenter.models.learnt.sliding import device_of, slide, views_of

__all__ = [
    "LearntSettings",
    "Preparation",
    "Prepared",
    "backbone_settings",
    "build_learnt",
    "device_of",
    "network_features",
    "slide",
    "views_of",
]
