"""Automatic segmentation. Each folder shows the same face: `cards` (read at once), `task` (loads the network)."""
