"""Weights that ship with the package: safetensors, each with a card for machines (.json) and for people (.md)."""
