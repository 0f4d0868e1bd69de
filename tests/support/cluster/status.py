"""The API server's way to say no: a Status object."""

from __future__ import annotations

from typing import Any

from aiohttp import web


def status_object(code: int, reason: str, message: str) -> dict[str, Any]:
    """Return a failure as an object; watches carry it in an ERROR event."""
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": message,
        "reason": reason,
        "code": code,
    }


def status(code: int, reason: str, message: str) -> web.Response:
    """Return a failure as an answer."""
    return web.json_response(status_object(code, reason, message), status=code)
