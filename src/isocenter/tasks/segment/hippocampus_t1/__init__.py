"""Anterior and posterior hippocampus in T1-weighted MR."""
