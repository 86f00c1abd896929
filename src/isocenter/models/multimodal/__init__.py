"""A model that reads images beside words: vision tower, projector, causal language model.

language          the embedded language model, in the manner of Llama (`SmallLanguageModel`)
folder_language   Llama, Mistral, Qwen and Gemma from a folder on this machine (`FolderLanguage`)
vision            any backbone of ours, or a vision tower of a folder
projector         from features to tokens: a perceptron over neighbours, or looks (`Projector`)
network           all three as one (`MultimodalNet`); the face of every such network (`MultimodalNetwork`)
whole, folder     LLaVA and Gemma 3 folders behind the same face (`WholeNet`, `open_base`)
words, dialogue   questions, images and answers as tokens
answers           how likely each of a closed set of answers is; greedy writing
adapter           what learns: all, or low-rank changes (`Learning`)
model             what is saved, loaded and asked (`Multimodal`, `open_multimodal`)
"""

from isocenter.models.multimodal.adapter import Learning, learnt_arrays, set_learning, take_in, whole_arrays
from isocenter.models.multimodal.answers import answer_loss, log_likelihoods, write_answer
from isocenter.models.multimodal.dialogue import Laid, lay_out
from isocenter.models.multimodal.folder import Base, open_base, open_language
from isocenter.models.multimodal.inputs import ImageInput
from isocenter.models.multimodal.language import LanguageSettings, SmallLanguageModel
from isocenter.models.multimodal.model import (
    Multimodal,
    load_multimodal,
    open_multimodal,
    save_multimodal,
    words_path,
)
from isocenter.models.multimodal.network import (
    MultimodalNet,
    MultimodalNetwork,
    MultimodalSettings,
    build_multimodal,
    joined,
)
from isocenter.models.multimodal.projector import Projector, ProjectorSettings
from isocenter.models.multimodal.words import EmbeddedWords, FolderWords, Words, read_words, words_document

__all__ = [
    "Base",
    "EmbeddedWords",
    "FolderWords",
    "ImageInput",
    "Laid",
    "LanguageSettings",
    "Learning",
    "Multimodal",
    "MultimodalNet",
    "MultimodalNetwork",
    "MultimodalSettings",
    "Projector",
    "ProjectorSettings",
    "SmallLanguageModel",
    "Words",
    "answer_loss",
    "build_multimodal",
    "joined",
    "lay_out",
    "learnt_arrays",
    "load_multimodal",
    "log_likelihoods",
    "open_base",
    "open_language",
    "open_multimodal",
    "read_words",
    "save_multimodal",
    "set_learning",
    "take_in",
    "whole_arrays",
    "words_document",
    "words_path",
    "write_answer",
]
