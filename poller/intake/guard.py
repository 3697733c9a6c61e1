"""Who may come in: the token, and the checks that keep a browser's other pages away from the daemon."""

from __future__ import annotations

import hmac
import ipaddress
import re
import socket
from functools import lru_cache

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from poller.intake.connection import connection_of
from poller.intake.problems import Problem, shown

OPEN_PATHS = frozenset({"/healthz", "/readyz", "/openapi.json", "/"})  # served without the token
CROSS_SITE_TYPES = frozenset(  # what a browser sends to other sites without asking them first (Fetch, CORS)
    {"text/plain", "application/x-www-form-urlencoded", "multipart/form-data"}
)
READING = frozenset({"GET", "HEAD", "OPTIONS"})

_HOST = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[^:\[\]@/\s]+))(?::[0-9]{1,5})?")


class HostCheck:
    """Whether a Host header names this machine: a name that an attacker's DNS points here does not."""

    def __init__(self, listen_host: str | None) -> None:
        names = {"localhost", socket.gethostname().lower()}
        if listen_host:
            names.add(listen_host.lower())
        self._names = frozenset(names)
        self.ours = lru_cache(maxsize=64)(self._ours)

    def _ours(self, host: str) -> bool:
        match = _HOST.fullmatch(host)
        if match is None:
            return False
        name = match["v6"] or match["name"].lower()
        return name in self._names or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


class TokenCheck:
    """The intake's token; None asks for none. No repr shows it."""

    def __init__(self, token: str | None) -> None:
        self.change(token)

    def change(self, token: str | None) -> None:
        self._secret = token.encode() if token is not None else None

    def check(self, request: web.Request) -> None:
        """Raises Problem 401."""
        if self._secret is None or request.path in OPEN_PATHS:
            return
        scheme, _, given = request.headers.get("Authorization", "").partition(" ")
        sent = given.strip().encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(sent, self._secret) or scheme.lower() != "bearer":
            raise Problem(
                401,
                "send the intake's token: Authorization: Bearer …",
                headers={"WWW-Authenticate": "Bearer"},
            )


def guard(token_check: TokenCheck, host_check: HostCheck | None) -> Middleware:
    """The middleware of all checks that look at headers alone. `host_check` is None on a socket file."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        connection = connection_of(request)
        connection.begin()
        try:
            _check_site(request, host_check)
            token_check.check(request)
            if request.method not in READING:
                _check_content_type(request)
            return await handler(request)
        finally:
            connection.finish()

    return middleware


def _check_site(request: web.Request, host_check: HostCheck | None) -> None:
    headers = request.headers
    host = headers.get("Host", "")
    if host_check is not None and not host_check.ours(host):
        raise Problem(
            403, f"the Host header {shown(host)!r} does not name this machine; use its address or localhost"
        )
    origin = headers.get("Origin")
    if origin is not None and origin.lower() != f"http://{host.lower()}":
        raise Problem(403, "requests from another site's page are refused; send no Origin header")
    if headers.get("Sec-Fetch-Site", "none") not in {"none", "same-origin"} and not _follows_a_link(request):
        raise Problem(403, "requests from another site's page are refused (Sec-Fetch-Site)")


def _follows_a_link(request: web.Request) -> bool:
    """To the page itself, which holds no data and cannot be framed, another site may lead a person."""
    return (
        request.path == "/" and request.method in READING and request.headers.get("Sec-Fetch-Mode") == "navigate"
    )


def _check_content_type(request: web.Request) -> None:
    media_type = request.headers.get("Content-Type", "").partition(";")[0].strip().lower()
    if not request.body_exists and media_type not in CROSS_SITE_TYPES:
        return
    if media_type != "application/json":
        raise Problem(415, "send JSON, with Content-Type: application/json")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem(415, "send the body as it is, without Content-Encoding")
