"""HL7 v2 results (ORU^R01) as rows."""

from __future__ import annotations

from isocenter.data.records.hl7.message import Message, Segment, parse_message, split_stream
from isocenter.data.records.hl7.read import read_hl7, stream_hl7

__all__ = ["Message", "Segment", "parse_message", "read_hl7", "split_stream", "stream_hl7"]
