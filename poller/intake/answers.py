"""Answers as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping

import msgspec
from aiohttp import web

_HEADERS = {"Content-Type": "application/json", "Cache-Control": "no-store"}
_encoder = msgspec.json.Encoder()


def encode(document: object) -> bytes:
    try:
        return _encoder.encode(document)
    except OverflowError:  # metadata may hold a whole number beyond 64 bits, which JSON allows
        return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def answer(document: object, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status, body=encode(document), headers={**_HEADERS, **headers} if headers else _HEADERS
    )
