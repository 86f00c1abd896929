"""Words of the conformance statement that are no table of the code."""

from __future__ import annotations

from typing import Final

__all__ = ["AIR", "AIW", "BEFORE", "DIMSE", "SECURITY", "WEB_USER"]

BEFORE: Final = """
# DICOM conformance statement

Made by `isocenter clinic statement` from the code's own tables; its parts follow DICOM PS3.2. Self-tested (`isocenter
clinic conform`), not certified by IHE or anybody else.

## Overview

The node receives studies (DIMSE, STOW-RS), answers them by rule with algorithms, and sends the results back as DICOM
objects of the same study (C-STORE, STOW-RS). Where its web server is on, it serves what it holds by QIDO-RS and
WADO-RS, and a worklist by UPS-RS. It creates no images of patients: reports, segmentations, presentation states, key
object selections, maps.

Media interchange: none. A folder, zip or DICOMDIR can be read by `isocenter read`; none is written.
"""

DIMSE: Final = """
### Associations

- Acceptors take associations for each application entity of `clinic.yaml`; several processes share one port. An
  association that calls another title, or comes from a title or address that is not listed, is rejected (permanent; 7
  and 3 of PS3.8 table 9-21). With too many it is rejected for the moment (2, 3, 2).
- At most {associations} associations in a process; protocol data units of at most {longest} bytes are taken; a silent
  caller is borne for {seconds} s. No asynchronous operations, no extended negotiation. The implementation class UID
  is the same for all versions; the version name is `ISOCENTER` and the version.
- The node opens associations to send results (one association for many objects; each proposed in the transfer syntax
  that it is stored in) and to report storage commitments (as provider, by role selection).

### C-STORE as provider

An instance is on the disk, and its disk flushed, before it is answered.

| status | when |
| --- | --- |
| 0000 | held, or held before with the same content |
| A700 | no room, longer than what is taken, or an error of the disk: send again later |
| A900 | UID or class of command, context and data set differ |
| C000 | the data set can't be read, or lacks a UID |
| C111 | another object of this SOP Instance UID is held |

### C-STORE as user

0000, 0111 and the warnings B000, B006 and B007 are success. A7xx and other signs of a busy system are tried again
with growing waits, then kept as a dead letter; what is refused for good is one at once, until `isocenter clinic
replay`.

### Storage commitment and performed procedure steps

A request is written down before it is answered, and reported on an association of our own to the host and port that
`callers` of the entity that was asked states, by DICOM TLS where it says so: event 1, or 2 with reason 0112 (not
held, not on the disk, or another object of its UID is held, not the one that who asks sent) or 0119 (of another
class). N-CREATE and N-SET of performed procedure steps are taken to know when a study is whole: when each series that
completed steps name has as many instances as they say. They are kept, and not passed on.
"""

WEB_USER: Final = """
### DICOMweb as user

STOW-RS sends results (`destinations` of the kind `dicomweb`), 408, 425, 429 and 5xx are tried again. QIDO-RS and
WADO-RS fetch studies for `isocenter read` and `isocenter ingest`.

### Character sets

Read: those of PS3.3 C.12.1.1.2. Written: ISO_IR 192 (UTF-8).
"""

SECURITY: Final = """
## Security

DICOM TLS 1.2 or newer by certificate and key of an entity, of a destination, or of a caller (for reports to it);
callers' certificates are asked for where `authorities` is set. HTTP by bearer token as client. De-identification by
the profile of PS3.15 annex E where a rule says `identity: remove`. Logs, events and verdicts hold no patient's value.
"""

AIR: Final = """
### AI Results (AIR)

Of the profile's primitives: measurements, qualitative findings (present, absent, uncertain, not examined), regions
(segmentations), locations (presentation states), parametric maps, image references (key object selections), tracking
identifiers; a report of TID 1500 is the root of each set.

| actor | transaction | supported |
| --- | --- | --- |
| Evidence Creator | Evidence Document Stored [RAD-43] | yes: reports (TID 1500) by C-STORE |
| Evidence Creator | Creator Images Stored [RAD-18] | yes: segmentations, parametric maps by C-STORE |
| Evidence Creator | Creator Presentation State Stored [RAD-19] | yes: grayscale and colour |
| Evidence Creator | Key Image Note Stored [RAD-29] | yes: key object selections, titles of CID 7010 |
| Evidence Creator | Store Instances Over the Web [RAD-108] | yes |
| Evidence Creator | Storage Commitment [RAD-10] | no: no archive is asked for commitment of results |
| Image Display | Query Images [RAD-14], Retrieve Images [RAD-16] | no: `isocenter serve` is no tested display |

### Critical results

Findings that `results.critical` names, where they are present, stand in the report's section (73568-8, LN,
"Communication of Critical Results") with an ACR category (CID 7035), and their images in a key object selection of
that title, which extends CID 7010. The node tells nobody by itself: a display or a dispatcher acts on the code.
"""

AIW: Final = """
### AI Workflow for Imaging (AIW-I)

| actor | role of the node | supported |
| --- | --- | --- |
| Task Manager | serves workitems to others | partly: all but pushed notifications, see below |
| Task Performer | claims workitems of a manager and does them | no: what is done is chosen by rule from what arrives |
| Task Requester | asks a manager for work | no |
| Watcher | follows workitems | no |

Of UPS-RS are served: create, query, retrieve, update, change of state, request of cancelation, subscription.
Subscribers poll for events; there is no WebSocket.
"""
