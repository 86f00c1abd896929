"""The authorisation table: who may do what on the node and in the viewer.

What is not here is denied to everybody, and an app that has a route which is not here does not start.

A block names the scope that a token must have, the roles, and then method and path of routes.
"""

from __future__ import annotations

from typing import Final

from isocenter.clinic.access.rules import Table, rules

__all__ = ["ACCESS_RULES", "NODE", "VIEWER"]

_ALL, _PEOPLE = "admin radiologist reader service", "admin radiologist reader"

ACCESS_RULES: Final = (
    *rules("panel", "public", """
        GET  /login
        POST /login               E
        GET  /login/style.css
        GET  /login/provider
        GET  /login/callback
        """, told=False),
    *rules("panel", _PEOPLE, """
        POST /logout              E
        POST /access/v1/password  U
        """, told=False),
    *rules("panel", _ALL, "GET /access/v1/me", told=False),
)  # fmt: skip
"""The layer's own routes; logins, failed or not, and changed passwords are told of by what they are."""

_DICOMWEB_READ = """
    GET /dicomweb/studies
    GET /dicomweb/series
    GET /dicomweb/instances
    GET /dicomweb/studies/{study}
    GET /dicomweb/studies/{study}/metadata
    GET /dicomweb/studies/{study}/rendered
    GET /dicomweb/studies/{study}/series
    GET /dicomweb/studies/{study}/instances
    GET /dicomweb/studies/{study}/series/{series}
    GET /dicomweb/studies/{study}/series/{series}/metadata
    GET /dicomweb/studies/{study}/series/{series}/rendered
    GET /dicomweb/studies/{study}/series/{series}/instances
    GET /dicomweb/studies/{study}/series/{series}/instances/{sop}
    GET /dicomweb/studies/{study}/series/{series}/instances/{sop}/metadata
    GET /dicomweb/studies/{study}/series/{series}/instances/{sop}/rendered
    GET /dicomweb/studies/{study}/series/{series}/instances/{sop}/frames/{frames}
    GET /dicomweb/studies/{study}/series/{series}/instances/{sop}/frames/{frames}/rendered
    GET /dicomweb/studies/{study}/series/{series}/instances/{sop}/bulkdata/{tag}
    """
_UPS_READ = """
    GET /dicomweb/workitems
    GET /dicomweb/workitems/{uid}
    """
_UPS_WORK = """
    POST   /dicomweb/workitems
    POST   /dicomweb/workitems/{uid}                                U
    PUT    /dicomweb/workitems/{uid}/state
    POST   /dicomweb/workitems/{uid}/cancelrequest                  U
    POST   /dicomweb/workitems/{uid}/subscribers/{subscriber}
    DELETE /dicomweb/workitems/{uid}/subscribers/{subscriber}
    GET    /dicomweb/subscribers/{subscriber}/events
    """

NODE: Final = Table((
    *ACCESS_RULES,
    *rules("panel", "public", "GET /health", told=False),
    *rules("node", _ALL, "GET /node/v1/openapi.json", told=False),
    *rules("dicomweb", _ALL, _DICOMWEB_READ),
    *rules("dicomweb", "admin service", """
        POST /dicomweb/studies
        POST /dicomweb/studies/{study}
        """),
    *rules("dicomweb", _ALL, _UPS_READ),
    *rules("dicomweb", "admin radiologist service", _UPS_WORK),
    # Orders, state, panel, figures and vigilance of the node.
    *rules("node", _ALL, "GET /node/v1/orders"),
    *rules("panel", "public", "GET /ready", told=False),
    *rules("metrics", "admin service", "GET /metrics", told=False),
    *rules("panel", _PEOPLE, """
        GET /panel
        GET /panel/panel.css
        GET /panel/panel.js
        GET /vigilance
        """, told=False),
    *rules("node", _ALL, """
        GET /node/v1/status
        GET /node/v1/events
        GET /node/v1/studies
        GET /node/v1/deliveries
        GET /node/v1/vigilance
        """),
    *rules("node", "admin", "POST /node/v1/replay  E"),
    *rules("node", "radiologist service", "POST /node/v1/feedback"),
))  # fmt: skip
"""The node's web app."""

_MONAI_SHOWN = """
    GET    /info/
    GET    /train/
    GET    /logs/
    GET    /datastore/
    GET    /datastore/image
    GET    /datastore/image/info
    GET    /datastore/label
    GET    /datastore/label/info
    GET    /session/{session}
    """
_MONAI_WORK = """
    POST   /activelearning/{strategy}  R
    POST   /infer/{model}              E
    POST   /train/
    POST   /train/{model}
    DELETE /train/
    PUT    /datastore/
    PUT    /datastore/image
    DELETE /datastore/
    DELETE /datastore/image
    DELETE /datastore/label
    PUT    /datastore/label
    PUT    /session/
    DELETE /session/{session}
    """
_MONAI_LOGIN = """
    GET    /auth/
    POST   /auth/token                 E
    GET    /auth/token/valid
    """


def _monai(lines: str) -> str:
    """Return routes of MONAI Label's protocol twice: as they are, and below the token, for clients without headers."""
    return lines + lines.replace(" /", " /monai/{token}/")


VIEWER: Final = Table((
    *ACCESS_RULES,
    # The page without what it shows; icons; whether the server lives.
    *rules("viewer", "public", """
        GET /favicon.ico
        GET /favicon.svg
        GET /assets/{name:path}
        GET /api/v1/health
        """ + _monai(_MONAI_LOGIN), told=False),
    *rules("viewer", _PEOPLE, """
        GET /
        GET /index.html
        GET /api/v1/info
        GET /api/v1/openapi.json
        """, told=False),
    *rules("viewer", _PEOPLE, """
        GET /api/v1/studies
        GET /api/v1/studies/{study}
        GET /api/v1/images/{image}
        GET /api/v1/images/{image}/pixels
        GET /api/v1/images/{image}/picture.png
        GET /api/v1/images/{image}/nifti
        GET /api/v1/images/{image}/masks
        GET /api/v1/masks/{mask}
        GET /api/v1/masks/{mask}/file
        GET /api/v1/studies/{study}/readings/latest
        GET /api/v1/readings/{reading}/masks/{prediction}
        GET /api/v1/readings/{reading}/maps/{name}
        GET /api/v1/readings/{reading}/files/{name:path}
        GET /api/v1/jobs/{job}
        GET /api/v1/jobs/{job}/events
        GET /api/v1/studies/{study}/drafts
        GET /api/v1/drafts/{draft}
        GET /api/v1/drafts/{draft}/files/{version}/{name}
        GET /api/v1/studies/{study}/prognosis
        GET /api/v1/studies/{study}/treatment
        GET /api/v1/work
        GET /api/v1/work/items/{item}
        GET /api/v1/work/agreement
        GET /api/v1/sessions
        GET /api/v1/sessions/{session}
        """ + _monai(_MONAI_SHOWN)),
    # Work with patients' images: outlining, readings, drafts, and the signature, which is a radiologist's alone.
    *rules("viewer", "radiologist", """
        POST   /api/v1/studies/{study}/readings              E
        POST   /api/v1/jobs/{job}/stop                       E
        POST   /api/v1/sessions
        DELETE /api/v1/sessions/{session}
        WEBSOCKET /api/v1/sessions/{session}/socket
        POST   /api/v1/studies/{study}/draft
        PUT    /api/v1/drafts/{draft}
        POST   /api/v1/drafts/{draft}/sign                   U
        POST   /api/v1/drafts/{draft}/amend
        POST   /api/v1/studies/{study}/ask                   E
        POST   /api/v1/work/next                             U
        PUT    /api/v1/work/items/{item}
        """ + _monai(_MONAI_WORK)),
    # Plans of who works on what, and sets that leave the server.
    *rules("viewer", "admin radiologist", """
        PUT    /api/v1/work/plan
        PUT    /api/v1/work/items/{item}/readers
        POST   /api/v1/work/order                            U
        POST   /api/v1/work/exports
        GET    /api/v1/work/exports/{export}.zip
        """),
))  # fmt: skip
"""The viewer's app."""
