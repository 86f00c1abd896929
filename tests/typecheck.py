"""The run-time type checker of the tests: beartype, where an int is a float (PEP 484's numeric tower)."""

from __future__ import annotations

from beartype import BeartypeConf, beartype

check = beartype(conf=BeartypeConf(is_pep484_tower=True))
