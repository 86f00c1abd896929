"""Training: a stage is configuration and data in, checkpoint and model card out."""
