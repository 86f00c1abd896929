"""Whether a running node, ours or another, keeps to the standard in what it answers: self-tested, not certified.

    check_dimse(peer) -> verdicts on associations, C-ECHO, C-STORE, storage commitment
    check_web(peer)   -> verdicts on STOW-RS, QIDO-RS, WADO-RS and UPS-RS

Checks that store something store one small test image of a patient named "Conformance^Test", and only when told to.
"""

from __future__ import annotations

from isocenter.clinic.conformance.dimse import DimsePeer, check_dimse
from isocenter.clinic.conformance.verdicts import CHECKS, Verdict
from isocenter.clinic.conformance.web import WebPeer, check_web

__all__ = ["CHECKS", "DimsePeer", "Verdict", "WebPeer", "check_dimse", "check_web"]
