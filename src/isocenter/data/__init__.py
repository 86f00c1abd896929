"""Readers and writers of images, reports and tables."""
