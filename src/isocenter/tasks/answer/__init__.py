"""Answering questions about an image with a multimodal model that was adapted to them."""
