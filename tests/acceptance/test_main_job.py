"""The main job with real processes: orders in, polled until final, results out."""

from __future__ import annotations

import asyncio
import json
import signal
from pathlib import Path
from typing import Any

import pytest

from poller.simulator import AfterQueries, AfterSeconds, Outcome, Settles, SimulatedPlatform, WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, Process, Site, free_port

pytestmark = pytest.mark.timeout(120)


def platform_of(scenario: Settles) -> SimulatedPlatform:
    return SimulatedPlatform({PARK: APP_SECRET}, script=lambda _, __: scenario)


async def test_an_order_goes_all_the_way_between_real_processes(tmp_path: Path) -> None:
    """`poller simulate`, `poller run` and a receiver: `submit --wait` prints the result, which is told once."""
    port = free_port()
    secret = tmp_path / "simulate.secret"
    secret.write_text(APP_SECRET)
    secret.chmod(0o600)
    simulate = await Process.start(
        "simulate", "--listen", f"127.0.0.1:{port}", "--secret-file", str(secret), "--settle", "1"
    )
    try:
        await simulate.until(lambda: any("/gate/1.0/parking/internal/payment" in line for line in simulate.lines))
        async with WebhookReceiver(WEBHOOK_SECRET) as receiver:
            url = f"http://127.0.0.1:{port}/gate/1.0/parking/internal/payment"
            site = Site.make(tmp_path / "site", url, receiver.url)
            async with site.running() as daemon:
                code, out, err = await site.command("submit", "settle-1s-111112", "--wait", "--json")
                assert code == 0, err
                assert json.loads(out)["state"] == "paid"
                [notice] = await receiver.received(1)
                [final] = await daemon.logged("order.final")
                assert final["event_id"] == notice.id
                assert final["pay_partner"] == "settle-1s-111112"
                assert "last_reply" not in final
                body = json.loads(notice.body)
                assert body["type"] == "payment.paid"
                assert body["data"]["late"] is False
                daemon.signal(signal.SIGTERM)
                assert await daemon.end() == 0
                assert len(notice.tries) == 1
                assert receiver.forged == 0
    finally:
        simulate.signal(signal.SIGINT)
        assert await simulate.end() == 0


async def test_kill_9_halfway_through_200_orders_loses_nothing(tmp_path: Path) -> None:
    """Every order ends as the world says, every notice arrives, repeats under the same id and body."""
    numbers = [f"order-{count}" for count in range(200)]
    async with (
        SimulatedPlatform({PARK: APP_SECRET}, mean_settle_s=2.0) as platform,
        WebhookReceiver(WEBHOOK_SECRET) as receiver,
    ):
        site = Site.make(tmp_path / "site", platform.url, receiver.url, rate_per_second=300)
        async with site.running(), site.session() as session:
            async with session.post("/v1/orders", json=[{"pay_partner": number} for number in numbers]) as answer:
                assert {item["status"] for item in await answer.json()} == {201}
            await receiver.received(70)
        async with site.running(), site.session() as session:
            async with asyncio.timeout(60):
                notices = await receiver.received(200)
            states = await _states(session)
        assert {number: str(platform.record.expected()[PARK, number]) for number in numbers} == states
        told = [json.loads(notice.body)["data"]["pay_partner"] for notice in notices]
        assert sorted(told) == sorted(numbers)
        assert not any(notice.changed for notice in notices)
        assert len(receiver.notices) == 200
        assert platform.record.max_concurrent_for_one_order() == 1
        assert platform.record.max_queries_in_window() <= 300


async def test_no_second_ever_sees_more_queries_than_the_rate(tmp_path: Path) -> None:
    async with platform_of(Settles(AfterQueries(1))) as platform:
        site = Site.make(tmp_path / "site", platform.url, None, rate_per_second=400)
        async with site.running() as daemon, site.session() as session:
            for start in range(0, 2000, 1000):
                batch = [{"pay_partner": f"{count}"} for count in range(start, start + 1000)]
                async with session.post("/v1/orders", json=batch) as answer:
                    assert answer.status == 200
            await daemon.logged("order.final", 2000)
        assert len(platform.record) == 4000
        assert platform.record.max_queries_in_window() <= 400
        assert platform.record.max_concurrent_for_one_order() == 1


async def test_a_cancelled_order_whose_query_in_the_air_says_paid_is_paid(tmp_path: Path) -> None:
    async with SimulatedPlatform({PARK: APP_SECRET}) as platform, WebhookReceiver(WEBHOOK_SECRET) as receiver:
        site = Site.make(tmp_path / "site", platform.url, receiver.url, initial_delay_seconds=1.1)
        async with site.running() as daemon, site.session() as session:
            number = "slow-1s-x1-a"
            platform.begin(PARK, number)  # it has settled by the first query, whose reply takes a second
            await session.post("/v1/orders", json={"pay_partner": number})
            await platform.record.queried(1)
            async with session.post(f"/v1/orders/{PARK}/{number}/cancel") as answer:
                assert answer.status == 409
                assert "paid" in (await answer.json())["detail"]
            await daemon.logged("order.final")
            [notice] = await receiver.received(1)
            assert json.loads(notice.body)["type"] == "payment.paid"


async def test_a_drain_lets_the_query_in_the_air_end_and_tells_of_it(tmp_path: Path) -> None:
    async with SimulatedPlatform({PARK: APP_SECRET}) as platform, WebhookReceiver(WEBHOOK_SECRET) as receiver:
        site = Site.make(tmp_path / "site", platform.url, receiver.url, initial_delay_seconds=1.1)
        async with site.running() as daemon, site.session() as session:
            platform.begin(PARK, "slow-1s-x1-a")
            await session.post("/v1/orders", json={"pay_partner": "slow-1s-x1-a"})
            await platform.record.queried(1)
            daemon.signal(signal.SIGTERM)
            assert await daemon.end() == 0
            [final] = daemon.records("order.final")
            assert final["state"] == "paid"
        async with site.running():
            [notice] = await receiver.received(1)
            assert notice.id == final["event_id"]


async def test_two_daemons_on_one_store_the_second_names_the_first(tmp_path: Path) -> None:
    async with platform_of(Settles(AfterSeconds(1))) as platform:
        site = Site.make(tmp_path / "site", platform.url, None)
        async with site.running() as daemon:
            second = await Process.start("run", "--config", str(site.config))
            assert await second.end() == 1
            assert str(daemon.process.pid) in "".join(second.stderr)
            assert "Traceback" not in "".join(second.stderr)


async def test_a_daemon_that_waits_for_the_store_stops_when_it_is_told_to(tmp_path: Path) -> None:
    async with platform_of(Settles(AfterSeconds(1))) as platform:
        site = Site.make(tmp_path / "site", platform.url, None)
        async with site.running():
            second = await Process.start("run", "--config", str(site.config))
            await second.logged("store.waiting")
            second.signal(signal.SIGTERM)
            assert await second.end() == 0


async def test_a_taken_port_is_told_in_one_line(tmp_path: Path) -> None:
    async with platform_of(Settles(AfterSeconds(1))) as platform:
        site = Site.make(tmp_path / "one", platform.url, None)
        other = Site.make(tmp_path / "two", platform.url, None)
        other.config.write_text(other.config.read_text().replace(str(other.port), str(site.port)))
        async with site.running():
            second = await Process.start("run", "--config", str(other.config))
            assert await second.end() == 1
            assert str(site.port) in "".join(second.stderr)
            assert len(second.stderr) == 1


async def test_a_configuration_with_four_faults_names_all_four_and_ends_with_78(tmp_path: Path) -> None:
    site = Site.make(tmp_path / "site", "http://127.0.0.1:1/x", None)
    text = site.config.read_text()
    text = text.replace("rate_per_second = 100", "rate_per_second = 0")
    text = text.replace("min_interval_seconds", "min_intervall_seconds")
    text = text.replace('app_secret_file = "park.secret"', 'app_secret_file = "gone.secret"')
    text = text.replace('level = "debug"', "level = 7")
    site.config.write_text(text)
    daemon = await Process.start("run", "--config", str(site.config))
    assert await daemon.end() == 78
    told = "".join(daemon.stderr)
    for key in ("rate_per_second", "min_intervall_seconds", "app_secret_file", "level"):
        assert key in told


async def test_sighup_takes_a_new_configuration_over_and_keeps_the_old_where_it_is_wrong(tmp_path: Path) -> None:
    async with platform_of(Settles(AfterSeconds(1), Outcome.FAILED)) as platform:
        site = Site.make(tmp_path / "site", platform.url, None)
        async with site.running() as daemon, site.session() as session:
            sound = site.config.read_text()
            site.config.write_text(sound.replace("rate_per_second = 100", "rate_per_second = -1"))
            daemon.signal(signal.SIGHUP)
            [rejected] = await daemon.logged("config.rejected")
            assert "rate_per_second" in str(rejected["faults"])
            other = "11111111-2222-3333-4444-555555555555"
            site.config.write_text(sound + f'[[parks]]\npark_uuid = "{other}"\napp_secret_file = "park.secret"\n')
            daemon.signal(signal.SIGHUP)
            await daemon.logged("config.reloaded")
            async with session.post("/v1/orders", json={"pay_partner": "1", "park_uuid": other}) as answer:
                assert answer.status == 201


async def _states(session: Any) -> dict[str, str]:
    async with session.get("/v1/orders", params={"limit": 1000}) as answer:
        return {order["pay_partner"]: order["state"] for order in (await answer.json())["orders"]}
