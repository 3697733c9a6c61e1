"""`/metrics` of the real daemon, and what Prometheus, its alert rules and the dashboard make of it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from poller.simulator import AfterQueries, Outcome, Settles, SimulatedPlatform, WebhookReceiver
from tests.acceptance.processes import APP_SECRET, PARK, WEBHOOK_SECRET, Site
from tests.acceptance.prometheus import (
    ALERTS,
    DASHBOARD,
    FLEET_ALERTS,
    dashboard_queries,
    needs_prometheus,
    scraping,
)

pytestmark = pytest.mark.timeout(120)

README = Path(__file__).parents[2] / "README.md"
UNIT = Path(__file__).parents[1] / "unit"
RULE_TESTS = (UNIT / "alerts.test.yml", UNIT / "fleet_alerts.test.yml")
TOKEN = "a-token-of-tests"
BEARER = {"Authorization": f"Bearer {TOKEN}"}
NAMED = re.compile(r"\b(?:poller|process|python)_[a-z_]+")


@asynccontextmanager
async def polled(folder: Path) -> AsyncIterator[Site]:
    """A running daemon that has seen 12 orders to their end: 8 paid, 4 failed, each at its second query."""

    def script(_lot: str, number: str) -> Settles:
        return Settles(AfterQueries(1), Outcome.FAILED if int(number) % 3 == 0 else Outcome.PAID)

    async with (
        SimulatedPlatform({PARK: APP_SECRET}, script=script) as platform,
        WebhookReceiver(WEBHOOK_SECRET) as receiver,
    ):
        site = Site.make(folder / "site", platform.url, receiver.url)
        token = site.folder / "intake.token"
        token.write_text(TOKEN)
        token.chmod(0o600)
        site.config.write_text(
            site.config.read_text().replace("[intake]", '[intake]\ntoken_file = "intake.token"')
        )
        async with site.running() as daemon, site.session() as session:
            batch = [{"pay_partner": f"{number}"} for number in range(12)]
            async with session.post("/v1/orders", json=batch, headers=BEARER) as answer:
                assert answer.status == 200
            await daemon.logged("order.final", 12)
            await daemon.logged("delivery.sent", 12)
            yield site


async def scrape(session: aiohttp.ClientSession) -> tuple[str, str]:
    async with session.get("/metrics", headers=BEARER) as answer:
        assert answer.status == 200
        return answer.headers["Content-Type"], await answer.text()


async def tool(*words: str, given: str = "") -> None:
    """Run promtool; it has to be content, and to say nothing of what could be better."""
    process = await asyncio.create_subprocess_exec(
        "promtool",
        *words,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate(given.encode())
    assert process.returncode == 0, out.decode() + err.decode()
    assert not err, err.decode()


async def test_the_metrics_are_behind_the_token_and_hold_all_that_is_told_of_them(
    tmp_path: Path,
) -> None:
    async with polled(tmp_path) as site, site.session() as session:
        async with session.get("/metrics") as answer:
            assert answer.status == 401
        content_type, text = await scrape(session)
        assert content_type == "text/plain; version=0.0.4; charset=utf-8"
        names = {sample.name for family in text_string_to_metric_families(text) for sample in family.samples}
        for file in (ALERTS, DASHBOARD):
            wanted = set(NAMED.findall(file.read_text()))
            assert len(wanted) > 10
            assert wanted <= names
        assert set(NAMED.findall(FLEET_ALERTS.read_text())) <= names
        assert PARK not in text
        own = {
            name.removesuffix("_bucket") for name in names if re.fullmatch(r"poller_\w+(?<!_sum)(?<!_count)", name)
        }
        for file in (DASHBOARD, README):
            told = {name.removesuffix("_bucket") for name in NAMED.findall(file.read_text())}
            assert own <= told, file
            assert {name for name in told if name.startswith("poller_")} <= own, file


@needs_prometheus
async def test_promtool_finds_nothing_wrong_with_rules_and_names(tmp_path: Path) -> None:
    await tool("check", "rules", str(ALERTS), str(FLEET_ALERTS))
    await tool("test", "rules", *map(str, RULE_TESTS))
    async with polled(tmp_path) as site, site.session() as session:
        _, text = await scrape(session)
    await tool("check", "metrics", given=text)


@needs_prometheus
async def test_a_real_prometheus_scrapes_the_daemon_and_tells_of_the_polled_orders(tmp_path: Path) -> None:
    async with polled(tmp_path) as site, scraping(site, tmp_path, TOKEN) as prometheus:
        await prometheus.until('up{job="poller"}', 1)
        await prometheus.until("sum(poller_orders_accepted_total)", 12)
        assert await prometheus.values('poller_orders_ended_total{state="paid"}') == [8]
        assert await prometheus.values('poller_orders_ended_total{state="failed"}') == [4]
        assert await prometheus.values('poller_queries_total{result="in_progress"}') == [12]
        assert await prometheus.values('poller_deliveries_total{result="delivered"}') == [12]
        assert await prometheus.values("poller_orders_pending") == [0]
        assert await prometheus.values("poller_platform_outage") == [0]
        await prometheus.until("count(count_over_time(poller_build_info[10s]) >= 3)", 1)
        for query in dashboard_queries():
            assert await prometheus.values(query), query
        groups = (await prometheus.ask("rules"))["groups"]
        rules = [rule for group in groups for rule in group["rules"]]
        assert len(rules) == ALERTS.read_text().count("- alert:")
        assert {(rule["health"], rule["state"]) for rule in rules} == {("ok", "inactive")}
