"""Lungs in a frontal chest X-ray."""
