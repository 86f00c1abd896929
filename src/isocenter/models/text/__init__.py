"""Text: from words to one vector. A tokenizer, our own small tower, and towers from local Hugging Face folders.

tokenizer   byte-pair tokens learnt from the reports at hand; loses no character (`BytePairs`)
tower       the embedded transformer, trained from scratch (`TextTower`)
folder      BERT, RoBERTa, CLIP and SigLIP text towers from a folder on this machine (`FolderTower`)
build       one face for all of them, and vocabularies in files (`build_text_tower`, `Tokenizer`)
"""

from isocenter.models.text.build import TextEncoder, Tokenizer, build_text_tower, read_tokenizer, tokenizer_document
from isocenter.models.text.tokenizer import BytePairs, Tokens, normalise_text, train_byte_pairs
from isocenter.models.text.tower import TextSettings, TextTower

__all__ = [
    "BytePairs",
    "TextEncoder",
    "TextSettings",
    "TextTower",
    "Tokenizer",
    "Tokens",
    "build_text_tower",
    "normalise_text",
    "read_tokenizer",
    "tokenizer_document",
    "train_byte_pairs",
]
