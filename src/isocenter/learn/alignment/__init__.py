"""Aligning image and language: pairs, texts and their contradictions, losses, the trainer, and what it is held to."""
