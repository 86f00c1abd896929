"""One file per verb: its config model and its function. The only room where all floors meet.

A verb is a command, a Python function, a config model and a page of the docs, under one name. Modules import what they
need inside their functions where that keeps `isocenter --help` fast.
"""
