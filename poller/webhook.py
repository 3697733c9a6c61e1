"""Notices to the lot's own webhook, signed as Standard Webhooks 1.0 has it."""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC
from math import floor

import aiohttp
from standardwebhooks import Webhook

from poller.core.delivery import Gone, NotReceived, Received, ReceiverAnswer
from poller.outgoing import (
    FAILURES,
    failure_of,
    http_date,
    open_session,
    read_capped,
    retry_after_seconds,
    total_timeout,
)
from poller.ports import Clock

BODY_CAP = 4096  # bytes read of an answer's body, for the sake of keep-alive only
BODY_PATIENCE_S = 1.0


class WebhookReceiver:
    """The webhook behind the port `Receiver`. `secret` is `whsec_…` or bare base64, `timeout` in seconds.

    Build it anywhere; its first notice opens the connections in the running loop, `close` ends them.
    Raises ValueError for a secret that is not base64 or empty.
    """

    def __init__(self, url: str, secret: str, *, timeout: float, clock: Clock) -> None:
        self._clock = clock
        self._session: aiohttp.ClientSession | None = None
        self.configure(url, secret, timeout=timeout)

    def configure(self, url: str, secret: str, *, timeout: float) -> None:
        """Send to another place from the next notice on; those in the air are left alone."""
        self._signer = _signer(secret)
        self._url = url
        self._timeout = total_timeout(timeout)

    async def send(self, event_id: str, body: str) -> ReceiverAnswer:
        """See `Receiver`. The status decides, however the answer's body ends."""
        if self._session is None:
            self._session = open_session()
        data, headers = body.encode(), self._headers(event_id, body)
        try:
            async with self._session.post(
                self._url,
                data=data,
                headers=headers,
                allow_redirects=False,
                timeout=self._timeout,
            ) as response:
                await _let_body_end(response)
                return self._answer(response)
        except FAILURES as error:
            return NotReceived(failure_of(error)[1])

    async def close(self) -> None:
        """End every connection. Notices in the air fail."""
        if self._session is not None:
            session, self._session = self._session, None
            await session.close()

    def _headers(self, event_id: str, body: str) -> dict[str, str]:
        at = self._clock.wall().astimezone(UTC)
        return {
            "Content-Type": "application/json",
            "webhook-id": event_id,
            "webhook-timestamp": str(floor(at.timestamp())),
            "webhook-signature": self._signer.sign(event_id, at, body),
        }

    def _answer(self, response: aiohttp.ClientResponse) -> ReceiverAnswer:
        if 200 <= response.status < 300:
            return Received(response.status)
        if response.status == 410:
            return Gone()
        now = http_date(response.headers.get("Date")) or self._clock.wall()
        return NotReceived(
            f"HTTP status {response.status}",
            response.status,
            retry_after_seconds(response.headers.get("Retry-After"), now),
        )


def _signer(secret: str) -> Webhook:
    text = secret.removeprefix("whsec_")
    try:
        key = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except ValueError:
        key = b""
    if not key:
        raise ValueError("the webhook secret is empty or not base64 (whsec_…)")
    return Webhook(key)


async def _let_body_end(response: aiohttp.ClientResponse) -> None:
    """Give a short body the chance to end, so that the connection can serve the next notice."""
    try:
        async with asyncio.timeout(BODY_PATIENCE_S):
            await read_capped(response, BODY_CAP)
    except FAILURES:
        response.close()
