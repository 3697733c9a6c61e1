"""The simulated webhook receiver, over a real socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import aiohttp
import pytest
from standardwebhooks.webhooks import Webhook

from poller.simulator import Answers, Hangs, HangsUp, WebhookReceiver

SECRET = "whsec_cGxhbnRlZC13ZWJob29rLXNlY3JldA=="


@pytest.fixture
async def receiver() -> AsyncIterator[WebhookReceiver]:
    async with WebhookReceiver(SECRET) as running:
        yield running


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=10)) as session:
        yield session


async def send(
    http: aiohttp.ClientSession, receiver: WebhookReceiver, event_id: str, body: str = "{}", secret: str = SECRET
) -> tuple[int, str | None]:
    at = datetime.now(UTC)
    headers = {
        "webhook-id": event_id,
        "webhook-timestamp": str(int(at.timestamp())),
        "webhook-signature": Webhook(secret).sign(event_id, at, body),
    }
    async with http.post(receiver.url, data=body, headers=headers) as response:
        return response.status, response.headers.get("Retry-After")


async def test_a_notice_is_kept_by_its_id_with_every_try(
    http: aiohttp.ClientSession, receiver: WebhookReceiver
) -> None:
    receiver.behave(Answers(500, retry_after="2"), times=1)
    assert await send(http, receiver, "evt_1", '{"type":"payment.paid"}') == (500, "2")
    assert receiver.received_count == 0
    assert await send(http, receiver, "evt_1", '{"type":"payment.paid"}') == (204, None)
    assert await send(http, receiver, "evt_1", '{"type":"payment.paid"}') == (204, None)
    (notice,) = await receiver.received(1)
    assert notice.body == b'{"type":"payment.paid"}'
    assert [attempt.status for attempt in notice.tries] == [500, 204, 204]
    assert notice.arrivals == sorted(notice.arrivals)
    assert (receiver.attempts, receiver.received_count, notice.changed) == (3, 1, False)


async def test_waiting_for_notices_counts_distinct_ones(
    http: aiohttp.ClientSession, receiver: WebhookReceiver
) -> None:
    waiting = asyncio.create_task(receiver.received(2))
    for event_id in ("evt_1", "evt_1", "evt_2"):
        assert not waiting.done()
        await send(http, receiver, event_id)
    assert [notice.id for notice in await waiting] == ["evt_1", "evt_2"]


async def test_another_body_under_the_same_id_is_noticed(
    http: aiohttp.ClientSession, receiver: WebhookReceiver
) -> None:
    await send(http, receiver, "evt_1", '{"a":1}')
    await send(http, receiver, "evt_1", '{"a":2}')
    assert receiver.notices["evt_1"].changed


async def test_a_notice_with_a_wrong_or_no_signature_is_refused_and_counted(
    http: aiohttp.ClientSession, receiver: WebhookReceiver
) -> None:
    assert (await send(http, receiver, "evt_1", secret="whsec_b3RoZXI="))[0] == 401
    async with http.post(receiver.url, data="{}", headers={"webhook-signature": "v1"}) as response:
        assert response.status == 401
    assert (receiver.forged, receiver.notices) == (2, {})


async def test_it_hangs_for_as_many_attempts_as_told(
    http: aiohttp.ClientSession, receiver: WebhookReceiver
) -> None:
    receiver.behave(Hangs(), times=1)
    sending = asyncio.create_task(send(http, receiver, "evt_1"))
    await receiver.attempted(1)
    sending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sending
    assert (await send(http, receiver, "evt_1"))[0] == 204
    assert [attempt.status for attempt in receiver.notices["evt_1"].tries] == [None, 204]


async def test_it_hangs_up_and_is_slow_until_told_otherwise(
    http: aiohttp.ClientSession, receiver: WebhookReceiver
) -> None:
    receiver.behave(HangsUp())
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        for _ in range(2):
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await send(session, receiver, "evt_1")
    receiver.behave(Answers(delay_s=0.05))
    assert (await send(http, receiver, "evt_1"))[0] == 204
    notice = receiver.notices["evt_1"]
    assert notice.received_at is not None
    assert notice.received_at - notice.arrivals[-1] >= 0.05
    receiver.recover()
    assert (await send(http, receiver, "evt_2"))[0] == 204


async def test_it_refuses_connections_and_takes_them_again_on_the_same_port(
    http: aiohttp.ClientSession, receiver: WebhookReceiver
) -> None:
    await receiver.refuse()
    with pytest.raises(aiohttp.ClientConnectorError):
        await send(http, receiver, "evt_1")
    await receiver.accept()
    assert (await send(http, receiver, "evt_1"))[0] == 204
