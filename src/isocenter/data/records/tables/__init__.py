"""Tables of records, reports and files: CSV and its kin, ARFF, Parquet."""

from __future__ import annotations

from isocenter.data.records.tables.parquet import stream_parquet
from isocenter.data.records.tables.read import read_table, stream_table
from isocenter.data.records.tables.roles import ROLES, is_age

__all__ = ["ROLES", "is_age", "read_table", "stream_parquet", "stream_table"]
