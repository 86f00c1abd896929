"""The interactive network: one model for every prompt, planes and volumes, with examples as context."""
