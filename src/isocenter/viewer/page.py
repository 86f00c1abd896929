"""The built page: files of a folder by a closed list of their names, never by a path that somebody sends."""

from __future__ import annotations

import hashlib
import mimetypes
from pathlib import Path

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, HTMLResponse, Response

from isocenter.core.errors import NotFound
from isocenter.viewer.settings import PREFIX, Settings

__all__ = ["built_page", "router"]

_MISSING = f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Isocenter</title>
<h1>The page is not built</h1>
<p>This copy of Isocenter holds the server, and not its page. Run <code>make viewer</code> (it needs Node.js 20, or
installs it), and load this address again. The <a href="{PREFIX}/health">server itself works</a>; its routes are
described in docs/reference/viewer-api.md.</p></html>
"""
_TYPES = {".js": "text/javascript", ".mjs": "text/javascript", ".wasm": "application/wasm", ".svg": "image/svg+xml"}


def built_page(settings: Settings) -> Path:
    """Return the folder of the page."""
    return settings.page or Path(__file__).parent / "page"


def router(settings: Settings) -> APIRouter:
    """Return the routes `/` and `/assets/...`."""
    routes = APIRouter(include_in_schema=False)
    folder = built_page(settings)
    index = folder / "index.html"

    @routes.get("/")
    @routes.get("/index.html")
    def page(request: Request) -> Response:
        """Send the page."""
        if not index.is_file():
            return HTMLResponse(_MISSING, status_code=503)
        content = index.read_bytes()
        tag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        headers = {"ETag": tag, "Cache-Control": "no-cache"}
        if request.headers.get("if-none-match") == tag:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type="text/html; charset=utf-8", headers=headers)

    @routes.get("/favicon.ico")
    @routes.get("/favicon.svg")
    def icon() -> Response:
        """Send the icon, where the page has one."""
        file = folder / "favicon.svg"
        return FileResponse(file, media_type="image/svg+xml") if file.is_file() else Response(status_code=204)

    @routes.get("/assets/{name:path}")
    def asset(name: str) -> FileResponse:
        """Send a file of the page; its name holds a hash of what is in it, so it may be kept for ever."""
        below = folder / "assets"
        # Listed anew each time: `make viewer` may have built it again. A name is looked up, never joined to a path.
        there = {f.relative_to(below).as_posix(): f for f in below.rglob("*") if f.is_file()} if below.is_dir() else {}
        file = there.get(name)
        if file is None:
            raise NotFound("the page has no such file")
        kind = _TYPES.get(file.suffix) or mimetypes.guess_type(file.name)[0] or "application/octet-stream"
        keep = {"Cache-Control": "public, max-age=31536000, immutable"}
        return FileResponse(file, media_type=kind, headers=keep)

    return routes
