"""Metrics with units, stated behaviour on empty masks, and intervals by patient."""
